"""Archives: extracted completely or not at all, and never outside of their folder."""

import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import threading
import zipfile
from types import SimpleNamespace

import pytest

from course_utils.data import archives
from course_utils.data.archives import extract
from tests.data.file_server import CONTENT, MAKERS, SIZE, contents, make_tar, make_zip

FILES = {"set/a.txt": b"one", "set/deep/b.bin": CONTENT, "read me.txt": b""}


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


# Damage that Python's modules do not report.


@pytest.mark.parametrize("kind", ["a.tar.gz", "a.tar.bz2", "a.tar.xz"])
def test_the_checksum_at_the_end_of_a_compressed_tar_is_compared(tmp_path, kind):
    archive = MAKERS[kind](tmp_path / kind, FILES)
    whole = archive.read_bytes()
    for place in (len(whole) - 6, len(whole) // 2):  # inside the checksum, inside the content
        archive.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=rf"^archive: .*{kind} is not a complete zip or tar"):
            extract(archive, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path):
    archive = make_tar(tmp_path / "a.tar", FILES)
    broken = bytearray(archive.read_bytes())
    broken[1024] ^= 1  # the first letter of the second name
    archive.write_bytes(broken)
    with pytest.raises(
        ValueError, match=r"a.tar is not a complete .*the header after byte 1024 is damaged"
    ):
        extract(archive, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_a_tar_without_its_end_or_without_files_is_refused(tmp_path):
    archive = make_tar(tmp_path / "a.tar", {"a": b"one"})
    whole = archive.read_bytes()
    for end in (1024, 1536):
        archive.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"\(its end is missing\)"):
            extract(archive, tmp_path / "folder")
    archive.write_bytes(bytes(10_240))
    with pytest.raises(ValueError, match=r"\(it is empty\)"):
        extract(archive, tmp_path / "folder")


def test_a_zip_that_was_cut_after_a_zip_inside_it_is_refused(tmp_path):
    inner = make_zip(tmp_path / "inner.zip", {"inner.txt": b"inner"}).read_bytes()
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("first.txt", b"first")
        made.writestr("inner.zip", inner)
        made.writestr("last.txt", b"last")
    whole = archive.read_bytes()
    archive.write_bytes(whole[: whole.index(inner) + len(inner)])
    with pytest.raises(
        ValueError, match=r"a.zip is not a complete .*does not begin with its first file"
    ):
        extract(archive, tmp_path / "folder")


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("length", [2000, 3_000_000])
def test_names_without_end_are_refused(tmp_path, form, length):
    with tarfile.open(tmp_path / "a.tar", "w", format=form) as made:
        made.addfile(tarfile.TarInfo("a/" * (length // 2) + "b"))
    with pytest.raises(
        ValueError, match=r"^archive: .*a.tar (contains 'a/a/|is not a complete)"
    ) as failed:
        extract(tmp_path / "a.tar", tmp_path / "folder")
    assert len(str(failed.value)) < 500 and not (tmp_path / "folder").exists()


@pytest.mark.parametrize("size", [2**40, 2**62, -512])
@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.REGTYPE])
def test_a_header_that_announces_too_much_reads_nothing(tmp_path, kind, size):
    entry = tarfile.TarInfo("a")
    entry.type, entry.size = kind, size
    header = entry.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "a.tar").write_bytes(header + bytes(10_240))
    honest = kind == tarfile.REGTYPE and size > 0  # as far as the header can tell
    reason = (
        "unexpected end of data|Invalid argument.*download it again"
        if honest
        else f"a header of {size} bytes"
    )
    with pytest.raises((ValueError, OSError), match=rf"a.tar.*({reason})"):
        extract(tmp_path / "a.tar", tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("size", ["-1024", "-512", "9" * 30, "x"])
def test_a_size_in_a_pax_header_that_leads_back_is_refused(tmp_path, size):
    with tarfile.open(tmp_path / "a.tar", "w") as made:
        for name in ("first", "second"):
            entry = tarfile.TarInfo(name)
            entry.pax_headers = {"size": size} if name == "second" else {}
            entry.size = 3
            made.addfile(entry, io.BytesIO(b"abc"))
    with pytest.raises((ValueError, OSError), match=r"a.tar"):
        extract(tmp_path / "a.tar", tmp_path / "folder")


def test_a_name_for_a_file_and_a_folder_is_refused(make, tmp_path):
    for files in ({"a": b"1", "a/b": b"2"}, {"a/b": b"1", "a": b"2"}):
        with pytest.raises(
            ValueError, match=r"^archive: .* contains '.*' both as a file and as a folder"
        ):
            extract(make(files), tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


# The target.


def test_the_links_of_the_user_are_followed(make, tmp_path):
    big, folder = tmp_path / "big disk", tmp_path / "folder"
    for name in ("target", "inner"):
        (big / name).mkdir(parents=True)
    folder.symlink_to(big / "target")
    (folder / "set").symlink_to(big / "inner")
    extract(make(FILES), folder)
    assert folder.is_symlink() and (folder / "set").is_symlink()
    assert (big / "inner" / "deep" / "b.bin").read_bytes() == CONTENT
    assert (big / "target" / "read me.txt").exists()


def test_a_link_to_another_disk_is_followed(make, tmp_path, monkeypatch):
    big, folder = tmp_path / "big disk", tmp_path / "folder"
    for made in (big, folder):
        made.mkdir()
    (folder / "set").symlink_to(big)
    rename = os.replace

    def replace(source, target):
        if big in target.resolve().parents and big not in source.resolve().parents:
            raise OSError(archives.errno.EXDEV, "Invalid cross-device link")
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    extract(make(FILES), folder)
    assert contents(big) == {"a.txt": b"one", "deep/b.bin": CONTENT}


def test_a_file_in_the_place_of_a_folder_is_named_before_anything_is_moved(make, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "set").write_bytes(b"mine")
    with pytest.raises(
        ValueError, match=r"^folder: .*set is not a folder, unlike set in .*; rename or"
    ):
        extract(make(FILES), folder)
    assert contents(folder) == {"set": b"mine"}
    with pytest.raises(NotADirectoryError, match=r"^folder: expected a folder, got the file"):
        extract(make(FILES), folder / "set")


@pytest.mark.skipif(sys.platform == "win32", reason="no limit for the size of a file")
def test_a_disk_that_fills_up_leaves_nothing(make, tmp_path):
    import resource

    archive = make(FILES)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match=rf"{archive.name} is not extracted"):
            extract(archive, tmp_path / "folder")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "folder").exists()


KILLED = """
import os, sys
from course_utils.data import archives
archives._move_into = lambda *_: os._exit(9)
archives.extract(*sys.argv[1:])
"""


def test_what_a_killed_call_left_is_deleted_by_the_next(tmp_path):
    archive, folder = make_zip(tmp_path / "a.zip", FILES), tmp_path / "folder"
    subprocess.run([sys.executable, "-c", KILLED, archive, folder], check=False)
    assert [entry.name for entry in folder.glob(".unpacking-*")]
    extract(archive, folder)
    assert contents(folder) == FILES and not list(folder.glob(".unpacking*"))


def test_several_threads_extract_into_one_folder(make, tmp_path):
    archive, folder, ended = make(FILES), tmp_path / "folder", []
    folder.mkdir()
    threads = [
        threading.Thread(target=lambda: ended.append(extract(archive, folder))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended == [folder] * 4 and contents(folder) == FILES
