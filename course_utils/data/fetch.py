"""Fetching the real data sets: gigabytes, over lines that break, from servers that err.

A download grows in a file that ends in `.part` and gets its name only when every byte is known to be right.
What is there is never wrong; what broke off goes on where it stopped.

The makers of the data sets publish no sha256. Those in `SETS` are the ones that TensorFlow Datasets recorded
(its `url_checksums`), with the sizes; where there is none, None, and the first download's is noted.
"""

import errno
import hashlib
import http.client
import io
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

PIECE = 2**16  # bytes read at a time
TRIES = 4  # attempts in a row that bring no new byte
PATIENCE = 0.5  # seconds before the second attempt; doubled before each further one
SILENCE = 30  # seconds without a byte after which a server is taken for dead

BROKEN = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError)

Progress = Callable[[int, int | None], None]


class Archive(NamedTuple):
    """One file of a data set.

    Attributes:
        urls: where it lies: the official address, then mirrors.
        size: bytes.
        sha256: as published; None where nobody has published it.
        gives: a path that is there once the archive is extracted.
        inner: archives inside it, to be extracted where they lie.
    """

    urls: tuple[str, ...]
    size: int
    sha256: str | None
    gives: str
    inner: tuple[str, ...] = ()


class DataSet(NamedTuple):
    """A real data set.

    Attributes:
        title: its name.
        terms: under which it may be used.
        archives: what to fetch; none where a log-in is needed.
        folder: what to give to `reader`, below the folder it was fetched into.
        reader: the function of `course_utils.data` that opens it.
        log_in: what to do where a log-in is needed.
    """

    title: str
    terms: str
    archives: tuple[Archive, ...]
    folder: str
    reader: str
    log_in: str = ""


_COCO = "http://images.cocodataset.org"
_COCO_TERMS = "annotations CC BY 4.0; the photos under the terms of Flickr and their makers"
_COCO_ANNOTATIONS = (
    Archive(
        (f"{_COCO}/annotations/annotations_trainval2017.zip",),
        252_907_541,
        "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
        "annotations/person_keypoints_val2017.json",
    ),
    Archive(
        (f"{_COCO}/annotations/panoptic_annotations_trainval2017.zip",),
        860_725_834,
        "c05f76d2129b6b561eb70efe16e7006df62f73fb92889132d373b9d90e31a370",
        "annotations/panoptic_val2017",
        ("annotations/panoptic_train2017.zip", "annotations/panoptic_val2017.zip"),
    ),
)
_COCO_VAL = Archive(
    (f"{_COCO}/zips/val2017.zip",),
    815_585_330,
    "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
    "val2017",
)
_COCO_TRAIN = Archive(
    (f"{_COCO}/zips/train2017.zip",),
    19_336_861_798,
    "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
    "train2017",
)

SETS = {
    "voc2012": DataSet(
        "PASCAL VOC 2012",
        "photos from Flickr, for research",
        (
            Archive(
                (
                    "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                    "http://pjreddie.com/media/files/VOCtrainval_11-May-2012.tar",
                ),
                1_999_639_040,
                "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
                "VOCdevkit/VOC2012",
            ),
        ),
        "VOCdevkit/VOC2012",
        "voc.read",
    ),
    "ade20k": DataSet(
        "ADE20K, scene parsing benchmark",
        "annotations BSD-3-Clause; photos for research and teaching",
        (
            Archive(
                ("http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",),
                967_382_037,
                "7ff1be44964418441f542a7cc1e1a650e7dc0fc275f5d23252bc9bbdbc977b29",
                "ADEChallengeData2016",
            ),
        ),
        "ADEChallengeData2016",
        "ade20k.read",
    ),
    "coco2017_val": DataSet(
        "COCO 2017, the 5000 photos to validate on",
        _COCO_TERMS,
        (_COCO_VAL, *_COCO_ANNOTATIONS),
        ".",
        "coco.read, coco.read_panoptic",
    ),
    "coco2017": DataSet(
        "COCO 2017",
        _COCO_TERMS,
        (_COCO_TRAIN, _COCO_VAL, *_COCO_ANNOTATIONS),
        ".",
        "coco.read, coco.read_panoptic",
    ),
    "cityscapes": DataSet(
        "Cityscapes",
        "for research and teaching only, not to be passed on",
        (),
        ".",
        "cityscapes.read",
        "Cityscapes is given only to those who register: make an account at "
        "https://www.cityscapes-dataset.com with the address of your university, download "
        "leftImg8bit_trainvaltest.zip (11 GB) and gtFine_trainvaltest.zip (241 MB), and `extract` both into "
        "one folder.",
    ),
}


def fetch_set(name: str, folder: Path | str, progress: Progress | None = None) -> Path:
    """Fetch a real data set and extract it; nothing is done twice.

    Archives are removed once they are extracted.

    Args:
        name: a key of `SETS`.
        folder: where the data set shall lie.
        progress: called with the bytes of the current archive that are here and those it has in all.

    Returns:
        The folder to give to the data set's reader.

    Raises:
        ValueError: there is no such set, or it needs a log-in; the message says what to do.
        OSError: see `fetch` and `extract`.

    >>> fetch_set("mnist", "data")
    Traceback (most recent call last):
    ...
    ValueError: name: expected one of voc2012, ade20k, coco2017_val, coco2017, cityscapes, got 'mnist'
    """
    if name not in SETS:
        raise ValueError(f"name: expected one of {', '.join(SETS)}, got {name!r}")
    chosen, folder = SETS[name], Path(folder)
    if chosen.log_in:
        raise ValueError(f"name: {chosen.log_in}")
    for archive in chosen.archives:
        path = folder / Path(urllib.parse.urlsplit(archive.urls[0]).path).name
        if (folder / archive.gives).exists() and not path.exists():
            continue
        url, *mirrors = archive.urls
        fetch(url, path, archive.sha256, size=archive.size, mirrors=mirrors, progress=progress)
        extract(path, folder)
        for inner in archive.inner:
            extract(folder / inner, (folder / inner).parent)
        for done in (*(folder / inner for inner in archive.inner), path):
            done.unlink()
    return folder / chosen.folder


def fetch(
    url: str,
    path: Path | str,
    sha256: str | None,
    *,
    size: int | None = None,
    mirrors: Sequence[str] = (),
    progress: Progress | None = None,
) -> Path:
    """Download a file that is either whole and right or not there.

    A download that breaks off goes on where it stopped, also in a later call or from a mirror: the bytes so
    far lie in `path` + ".part". Addresses are tried in turn. A server that errs (5xx) or cuts the connection
    is asked again, a little later each time; one that goes on bringing bytes is never given up.

    Without a sha256 only the size can be checked. The sha256 of the first download is then noted beside the
    file, in `path` + ".sha256", and later calls hold the file to it.

    Args:
        url: an http or https address.
        path: where the file shall lie; a file that is there and right is not fetched again.
        sha256: 64 hexadecimal digits; None where nobody has published them.
        size: bytes; None if unknown.
        mirrors: other addresses of the same bytes.
        progress: called with the bytes that are here and those expected, None if unknown.

    Returns:
        `path`.

    Raises:
        ValueError: an address or sha256 that is none, or a file at `path` with other bytes.
        OSError: the disk has not enough room (checked before the first byte), or no address gave the right
            bytes; the message says what each did, and wrong bytes are removed.
    """
    path, addresses = Path(path), (url, *mirrors)
    for address in addresses:
        if urllib.parse.urlsplit(address).scheme not in ("http", "https"):
            raise ValueError(f"url: expected an http or https address, got {address!r}")
    note = path.with_name(path.name + ".sha256")
    if sha256 is not None and (len(sha256) != 64 or set(sha256.lower()) - set("0123456789abcdef")):
        raise ValueError(f"sha256: expected 64 hexadecimal digits or None, got {sha256!r}")
    wanted = sha256.lower() if sha256 else note.read_text().strip() if note.is_file() else None
    if path.exists():
        if wrong := _what_is_wrong(path, wanted, size):
            raise ValueError(f"path: {path} has {wrong}; remove it to fetch it again")
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    stories = []
    for address in addresses:
        for fresh in (not part.exists(), True):
            try:
                _download(address, part, size, progress)
            except _Refusal as error:
                stories.append(f"{address} {error}")
                break
            wrong = _what_is_wrong(part, wanted, size)
            if not wrong:
                if sha256 is None:
                    note.write_text(_sha256_of(part) + "\n")
                os.replace(part, path)
                return path
            part.unlink()
            stories.append(f"{address} gave {wrong}, removed")
            if fresh:  # what an earlier call left may have been at fault
                break
    raise OSError(f"url: {path.name} could not be fetched: {'; '.join(stories)}")


def extract(archive: Path | str, folder: Path | str) -> Path:
    """Unpack a zip or tar archive into a folder that it cannot leave.

    Everything is unpacked aside first and moved to its place at the end, so that no half-unpacked file is
    ever seen there; files that are in the folder already are replaced.

    Args:
        archive: the file; any compression that Python knows.
        folder: where the content shall lie; made if it is not there.

    Returns:
        `folder`.

    Raises:
        FileNotFoundError: there is no such archive.
        ValueError: the archive is broken, neither zip nor tar, or holds a link, a device, or a path that is
            absolute or leads out of the folder; nothing is extracted then.
        OSError: the disk has not enough room (checked first).
    """
    archive, target = Path(archive), Path(folder).resolve()
    if not archive.is_file():
        raise FileNotFoundError(f"archive: no file {archive}")
    target.parent.mkdir(parents=True, exist_ok=True)
    # on the same disk, so that moving is renaming
    near = target if target.is_dir() else target.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=near) as aside:
            unpacked = Path(aside, "content")
            unpacked.mkdir()
            # a tar that ends with a zip would also pass for a zip
            if tarfile.is_tarfile(archive):
                _unpack_tar(archive, unpacked)
            else:
                _unpack_zip(archive, unpacked)
            _move_into(unpacked, target)
    except (*BROKEN, RuntimeError) as error:
        raise ValueError(
            f"archive: {archive} is no whole zip or tar archive ({error}); fetch it again"
        ) from error
    return Path(folder)


class _Refusal(Exception):
    """What an address did instead of giving the file."""


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _what_is_wrong(path: Path, sha256: str | None, size: int | None) -> str:
    """What tells a file from the one wanted; nothing if it is the one."""
    found = path.stat().st_size
    if size is not None and found != size:
        return f"{found} bytes instead of {size}"
    if sha256 is not None and (digest := _sha256_of(path)) != sha256:
        return f"sha256 {digest[:12]}... instead of {sha256[:12]}..."
    return ""


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"expected {needed} bytes free on the disk, got {free}; make room",
            str(folder),
        )


def _download(address: str, part: Path, size: int | None, progress: Progress | None) -> None:
    """Ask one address until the part is whole."""
    furthest = part.stat().st_size if part.exists() else 0
    tried = 0
    while True:
        try:
            if _ask(address, part, size, progress):
                return
            story = "cut the connection"
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500 and error.code not in (408, 429):
                raise _Refusal(f"answered {error.code} {error.reason}") from error
            story = f"answered {error.code} {error.reason}"
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            ConnectionError,
            TimeoutError,
        ) as error:
            story = f"broke off ({getattr(error, 'reason', None) or error or type(error).__name__})"
        reached = part.stat().st_size if part.exists() else 0
        tried = 0 if reached > furthest else tried + 1
        furthest = max(furthest, reached)
        if tried == TRIES:
            raise _Refusal(f"{story}, {TRIES} times in a row")
        time.sleep(PATIENCE * 2 ** max(tried - 1, 0))


def _ask(address: str, part: Path, size: int | None, progress: Progress | None) -> bool:
    """Ask once for what is missing and append it; whether the part is whole now."""
    here = part.stat().st_size if part.exists() else 0
    if size is not None and here >= size:
        return True
    headers = {"User-Agent": "course_utils", **({"Range": f"bytes={here}-"} if here else {})}
    try:
        answer = urllib.request.urlopen(
            urllib.request.Request(address, headers=headers), timeout=SILENCE
        )
    except urllib.error.HTTPError as error:
        if error.code != 416:  # "range not satisfiable": the part is whole, or longer than the file
            raise
        error.close()
        if error.headers.get("Content-Range", "") == f"bytes */{here}":
            return True
        part.unlink(missing_ok=True)
        return False
    with answer:
        goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(
            f"bytes {here}-"
        )
        here = here if goes_on else 0
        total = size
        if size is None and answer.length is not None:  # what the server says it will send
            total = here + answer.length
        _check_room(part.parent, (total or 0) - here)
        with part.open("ab" if goes_on else "wb") as file:
            while piece := _read_piece(answer):
                file.write(piece)
                here += len(piece)
                if progress is not None:
                    progress(here, total)
                if size is not None and here > size:
                    break
    return total is None or here >= total


def _read_piece(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(PIECE)
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionError(str(error) or type(error).__name__) from error


def _check_name(archive: Path, name: str) -> None:
    parts = name.replace("\\", "/").rstrip("/").split("/")
    if parts[0] == "" or parts[0][1:2] == ":" or ".." in parts or "\0" in name:
        raise ValueError(f"archive: {archive} holds {name!r}, which leads out of its folder")


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
        for member in members:
            _check_name(archive, member.filename)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise ValueError(f"archive: {archive} holds {member.filename!r}, which is a link")
        _check_room(folder, sum(member.file_size for member in members))
        for member in members:
            if member.is_dir():
                (folder / member.filename).mkdir(parents=True, exist_ok=True)
            else:
                with opened.open(member) as content:
                    _write(content, folder / member.filename)


def _unpack_tar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as opened:
        members = opened.getmembers()
        for member in members:
            _check_name(archive, member.name)
            if not member.isdir() and not member.isreg():
                raise ValueError(
                    f"archive: {archive} holds {member.name!r}, which is a link or a device"
                )
        _check_room(folder, sum(member.size for member in members))
        for member in members:
            if member.isdir():
                (folder / member.name).mkdir(parents=True, exist_ok=True)
            else:
                with opened.extractfile(member) as content:
                    _write(content, folder / member.name)


def _write(content: io.BufferedIOBase, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        shutil.copyfileobj(content, file, PIECE)


def _move_into(source: Path, target: Path) -> None:
    """Move a file or folder to its place; where there is such a folder already, what is in it."""
    if source.is_dir() and target.is_dir() and not target.is_symlink():
        for entry in sorted(source.iterdir()):
            _move_into(entry, target / entry.name)
    else:
        os.replace(source, target)
