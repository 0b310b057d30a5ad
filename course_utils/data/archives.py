"""Extracting zip and tar archives without trusting the paths in them, nor that they are whole."""

import errno
import io
import lzma
import os
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from course_utils.data.connection import CHUNK_SIZE
from course_utils.data.download import check_disk_space, hold_lock

LONGEST_HEADER = 2**20  # bytes of the long names and the comments of one member of a tar archive
LONGEST_NAME = 1000  # characters
END_OF_TAR = 2 * tarfile.BLOCKSIZE  # zero bytes

READ_ERRORS = (
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    ValueError,
    LookupError,
    OverflowError,
    RuntimeError,
    MemoryError,
)


class _BadArchive(ValueError):
    """The archive is refused."""


def extract(archive: Path | str, folder: Path | str) -> Path:
    """Extract a zip or tar archive into a folder, and nothing outside of it.

    The files are extracted to a temporary folder inside the target and then moved, so that the target never
    holds an incomplete file; existing files are replaced, and links that you have put there are followed.
    What a killed call has left is deleted by the next one; of two calls at a time the second waits.

    Args:
        archive: the file; any compression that Python supports.
        folder: the target; it is created if it does not exist.

    Returns:
        `folder`.

    Raises:
        ValueError: the archive is damaged or incomplete, is neither zip nor tar, or contains a link, a
            device, or a path that is absolute or leads out of the folder; nothing is extracted then. Only an
            uncompressed tar has no checksum of its files' contents, so ask `download` for its sha256.
        OSError: the disk is too small (checked first) or fills up.
    """
    archive, target = Path(archive), Path(folder).resolve()
    if not archive.is_file():
        raise FileNotFoundError(f"archive: no file {archive}")
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"folder: expected a folder, got the file {folder}")
    is_new = not target.exists()
    target.mkdir(parents=True, exist_ok=True)
    try:
        with hold_lock(target / ".unpacking.lock"), _temporary_folder(target) as content:
            with _explain_errors(archive):
                _extract_to(archive, content)
            _check_conflicts(archive, content, target)
            _move_into(content, target)
    except BaseException:
        if is_new:
            with suppress(OSError):  # something is in it
                target.rmdir()
        raise
    return Path(folder)


@contextmanager
def _temporary_folder(target: Path) -> Iterator[Path]:
    """An empty folder on the same disk; those of killed processes are deleted. Needs the lock of `target`."""
    for left in target.glob(".unpacking-*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=target) as temporary:
        yield Path(temporary)


@contextmanager
def _explain_errors(archive: Path) -> Iterator[None]:
    """Give all that Python's modules raise for a damaged archive the same sentence."""
    try:
        yield
    except _BadArchive:
        raise
    except OSError as error:
        # bz2 and gzip give no number; a place that no file can have is an invalid argument
        if error.errno not in (None, errno.EINVAL):
            raise OSError(error.errno, f"{error.strerror}; {archive} is not extracted") from error
        raise _damaged(archive, error) from error
    except READ_ERRORS as error:
        raise _damaged(archive, error) from error


def _damaged(archive: Path, reason: object) -> _BadArchive:
    return _BadArchive(
        f"archive: {archive} is not a complete zip or tar archive ({reason}); download it again"
    )


def _extract_to(archive: Path, folder: Path) -> None:
    # try tar first: a tar file that ends with a zip file also passes as a zip file
    try:
        opened = tarfile.open(archive, tarinfo=_TarMember)  # noqa: SIM115
    except tarfile.ReadError:
        _extract_zip(archive, folder)
        return
    with opened:
        _extract_tar(archive, opened, folder)


def _check_name(archive: Path, name: str) -> None:
    parts = name.replace("\\", "/").rstrip("/").split("/")
    if parts[0] == "" or parts[0][1:2] == ":" or ".." in parts or "\0" in name:
        raise _BadArchive(
            f"archive: {archive} contains {name[:200]!r}, which leads out of its folder"
        )
    if len(name) > LONGEST_NAME or any(len(os.fsencode(part)) > 255 for part in parts):
        raise _BadArchive(
            f"archive: {archive} contains {name[:50]!r}..., a name of {len(name)} characters"
        )


def _extract_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
        # a zip that was cut inside passes as the last whole zip among its files
        if min((member.header_offset for member in members), default=-1) != 0:
            raise _damaged(archive, "it does not begin with its first file")
        for member in members:
            _check_name(archive, member.filename)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise _BadArchive(
                    f"archive: {archive} contains {member.filename!r}, which is a link"
                )
        check_disk_space(folder, sum(member.file_size for member in members))
        for member in members:
            with opened.open(member) as content:  # compares the two headers, also those of folders
                if member.is_dir():
                    _make_folder(archive, folder, member.filename)
                else:
                    _write(archive, content, folder, member.filename)


class _TarMember(tarfile.TarInfo):
    """A header that is checked before the bytes are read that it announces."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> "_TarMember":
        member = super().frombuf(buf, encoding, errors)
        is_extension = member.type not in tarfile.REGULAR_TYPES and not member.isdir()
        if member.size < 0 or (is_extension and member.size > LONGEST_HEADER):
            raise tarfile.HeaderError(f"a header of {member.size} bytes")
        return member


def _extract_tar(archive: Path, opened: tarfile.TarFile, folder: Path) -> None:
    members = _read_members(archive, opened)
    check_disk_space(folder, sum(member.size for member in members))
    for member in members:
        if member.isdir():
            _make_folder(archive, folder, member.name)
        else:
            with opened.extractfile(member) as content:
                _write(archive, content, folder, member.name)


def _read_members(archive: Path, opened: tarfile.TarFile) -> list[tarfile.TarInfo]:
    """Read a tar archive to its last byte, so that its compression's checksums are compared too.

    At a damaged header `tarfile` stops as if the archive ended there. What ends an archive are two blocks of
    zero bytes, and nothing but zero bytes may follow.
    """
    end = 0
    for member in opened:
        _check_name(archive, member.name)
        if not member.isdir() and not member.isreg():
            raise _BadArchive(
                f"archive: {archive} contains {member.name!r}, which is a link or a device"
            )
        if opened.offset <= end or member.size < 0:  # would be read again and again
            raise _damaged(archive, "a size is negative")
        end = opened.offset
    if not opened.getmembers():
        raise _damaged(archive, "it is empty")
    opened.fileobj.seek(end)
    zeros = 0
    while chunk := opened.fileobj.read(CHUNK_SIZE):
        if chunk.count(0) != len(chunk):
            raise _damaged(archive, f"the header after byte {end} is damaged")
        zeros += len(chunk)
    if zeros < END_OF_TAR:
        raise _damaged(archive, "its end is missing")
    return opened.getmembers()


def _make_folder(archive: Path, folder: Path, name: str) -> None:
    try:
        (folder / name).mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise _both(archive, name) from error


def _write(archive: Path, content: io.BufferedIOBase, folder: Path, name: str) -> None:
    path = folder / name
    _make_folder(archive, folder, os.path.dirname(name))
    if path.is_dir():
        raise _both(archive, name)
    with path.open("wb") as file:
        shutil.copyfileobj(content, file, CHUNK_SIZE)


def _both(archive: Path, name: str) -> _BadArchive:
    return _BadArchive(f"archive: {archive} contains {name!r} both as a file and as a folder")


def _check_conflicts(archive: Path, source: Path, target: Path) -> None:
    """Raise if a file would have to replace a folder or the other way round, before anything is moved."""
    for entry in source.iterdir():
        existing = target / entry.name
        if os.path.lexists(existing) and entry.is_dir() != existing.is_dir():
            kind = "a folder" if existing.is_dir() else "not a folder"
            raise ValueError(
                f"folder: {existing} is {kind}, unlike {entry.name} in {archive}; rename or delete it"
            )
        if entry.is_dir() and existing.is_dir():
            _check_conflicts(archive, entry, existing)


def _move_into(source: Path, target: Path) -> None:
    """Move a file or folder to `target`; if both are folders, move the entries of the one into the other."""
    if source.is_dir() and target.is_dir():
        for entry in sorted(source.iterdir()):
            _move_into(entry, target / entry.name)
        return
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # behind a link of the user is another disk: copy, then rename there
        near = target.with_name(f".unpacking-{target.name}")
        if source.is_dir():
            target.mkdir()
            _move_into(source, target)
        else:
            try:
                shutil.copyfile(source, near)
                os.replace(near, target)
            finally:
                near.unlink(missing_ok=True)
