"""Extracting zip and tar archives without trusting the paths in them."""

import io
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

from course_utils.data.download import CHUNK_SIZE, check_disk_space

READ_ERRORS = (
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    RuntimeError,
)


def extract(archive: Path | str, folder: Path | str) -> Path:
    """Extract a zip or tar archive into a folder, and nothing outside of it.

    The files are extracted to a temporary folder and then moved, so that the folder never holds an incomplete
    file; existing files are replaced.

    Args:
        archive: the file; any compression that Python supports.
        folder: the target; it is created if it does not exist.

    Returns:
        `folder`.

    Raises:
        ValueError: the archive is broken, is neither zip nor tar, or contains a link, a device, or a path
            that is absolute or leads out of the folder; nothing is extracted then.
        OSError: the disk is too small (checked first).
    """
    archive, target = Path(archive), Path(folder).resolve()
    if not archive.is_file():
        raise FileNotFoundError(f"archive: no file {archive}")
    target.parent.mkdir(parents=True, exist_ok=True)
    # on the same disk, so that the files can be moved by renaming
    nearby = target if target.is_dir() else target.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=nearby) as temporary:
            content = Path(temporary, "content")
            content.mkdir()
            # test for tar first: a tar file that ends with a zip file also passes as a zip file
            if tarfile.is_tarfile(archive):
                _extract_tar(archive, content)
            else:
                _extract_zip(archive, content)
            _move_into(content, target)
    except READ_ERRORS as error:
        raise ValueError(
            f"archive: {archive} is not a complete zip or tar archive ({error}); download it again"
        ) from error
    return Path(folder)


def _check_name(archive: Path, name: str) -> None:
    parts = name.replace("\\", "/").rstrip("/").split("/")
    if parts[0] == "" or parts[0][1:2] == ":" or ".." in parts or "\0" in name:
        raise ValueError(f"archive: {archive} contains {name!r}, which leads out of its folder")


def _extract_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
        for member in members:
            _check_name(archive, member.filename)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise ValueError(
                    f"archive: {archive} contains {member.filename!r}, which is a link"
                )
        check_disk_space(folder, sum(member.file_size for member in members))
        for member in members:
            if member.is_dir():
                (folder / member.filename).mkdir(parents=True, exist_ok=True)
            else:
                with opened.open(member) as content:
                    _write(content, folder / member.filename)


def _extract_tar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as opened:
        members = opened.getmembers()
        for member in members:
            _check_name(archive, member.name)
            if not member.isdir() and not member.isreg():
                raise ValueError(
                    f"archive: {archive} contains {member.name!r}, which is a link or a device"
                )
        check_disk_space(folder, sum(member.size for member in members))
        for member in members:
            if member.isdir():
                (folder / member.name).mkdir(parents=True, exist_ok=True)
            else:
                with opened.extractfile(member) as content:
                    _write(content, folder / member.name)


def _write(content: io.BufferedIOBase, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        shutil.copyfileobj(content, file, CHUNK_SIZE)


def _move_into(source: Path, target: Path) -> None:
    """Move a file or folder to `target`; if both are folders, move the entries of the one into the other."""
    if source.is_dir() and target.is_dir() and not target.is_symlink():
        for entry in sorted(source.iterdir()):
            _move_into(entry, target / entry.name)
    else:
        os.replace(source, target)
