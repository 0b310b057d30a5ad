"""Archives: extracted completely or not at all, and never outside of their folder."""

import shutil
import stat
import tarfile
import zipfile
from types import SimpleNamespace

import pytest

from course_utils.data.archives import extract
from tests.data.file_server import CONTENT, SIZE, contents, make_tar, make_zip

FILES = {"set/a.txt": b"one", "set/deep/b.bin": CONTENT, "read me.txt": b""}
MAKERS = {
    "a.zip": make_zip,
    "a.tar": make_tar,
    "a.tar.gz": lambda path, files: make_tar(path, files, "gz"),
    "a.tar.bz2": lambda path, files: make_tar(path, files, "bz2"),
    "a.tar.xz": lambda path, files: make_tar(path, files, "xz"),
}


@pytest.fixture(params=MAKERS)
def make(request, tmp_path):
    return lambda files: MAKERS[request.param](tmp_path / request.param, files)


def test_archives_are_unpacked(make, tmp_path):
    folder = tmp_path / "new" / "folder"
    assert extract(make(FILES), folder) == folder
    assert contents(folder) == FILES and list(folder.parent.iterdir()) == [folder]


def test_what_lies_in_the_folder_stays(make, tmp_path):
    folder = tmp_path / "folder"
    (folder / "set").mkdir(parents=True)
    (folder / "set" / "mine.txt").write_bytes(b"mine")
    (folder / "set" / "a.txt").write_bytes(b"old")
    extract(make(FILES), folder)
    extract(make(FILES), folder)
    assert contents(folder) == FILES | {"set/mine.txt": b"mine"}


@pytest.mark.parametrize(
    "name", ["../evil", "set/../../evil", "/evil", "set/../..", "C:/evil", "..\\evil", "\\evil"]
)
def test_no_path_leaves_the_folder(make, tmp_path, name):
    archive = make({"good": b"good", name: b"evil"})
    with pytest.raises(
        ValueError, match=r"^archive: .* contains .*, which leads out of its folder"
    ):
        extract(archive, tmp_path / "inner" / "folder")
    assert not list((tmp_path / "inner").iterdir()) and not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_tar_links_and_devices_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as made:
        entry = tarfile.TarInfo("door")
        entry.type, entry.linkname = kind, "/etc"
        made.addfile(entry)
    with pytest.raises(ValueError, match=r"contains 'door', which is a link or a device"):
        extract(tmp_path / "a.tar", tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_zip_links_are_refused(tmp_path):
    entry = zipfile.ZipInfo("door")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.writestr(entry, "/etc")
    with pytest.raises(ValueError, match=r"contains 'door', which is a link"):
        extract(tmp_path / "a.zip", tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_truncated_archives_leave_nothing(make, tmp_path):
    archive = make(FILES)
    whole = archive.read_bytes()
    for share in (0.5, 0.9):
        archive.write_bytes(
            whole[: int(len(CONTENT) * share if archive.suffix == ".tar" else len(whole) * share)]
        )
        with pytest.raises(ValueError, match=r"^archive: .* is not a complete zip or tar archive"):
            extract(archive, tmp_path / "inner" / "folder")
        assert not list((tmp_path / "inner").iterdir())


def test_a_flipped_bit_in_a_zip_is_found(tmp_path):
    archive = make_zip(tmp_path / "a.zip", FILES)
    broken = bytearray(archive.read_bytes())
    broken[len(broken) // 2] ^= 1
    archive.write_bytes(broken)
    with pytest.raises(ValueError, match=r"is not a complete zip or tar archive"):
        extract(archive, tmp_path / "folder")


def test_what_is_no_archive(tmp_path):
    (tmp_path / "a.zip").write_text("<html>Please log in</html>")
    with pytest.raises(ValueError, match=r"^archive: .*a.zip is not a complete zip or tar archive"):
        extract(tmp_path / "a.zip", tmp_path / "folder")
    with pytest.raises(FileNotFoundError, match=r"^archive: no file .*b.zip"):
        extract(tmp_path / "b.zip", tmp_path / "folder")


def test_an_archive_needs_room(make, tmp_path, monkeypatch):
    archive = make(FILES)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=rf"expected {SIZE + 3} bytes free on the disk, got 1000"):
        extract(archive, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
