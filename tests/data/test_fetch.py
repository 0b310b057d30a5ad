"""Fetching: whatever the server does, the file is right or not there, and archives stay in their folder."""

import hashlib
import io
import shutil
import stat
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from course_utils.data import ade20k, cityscapes, coco, voc
from course_utils.data import fetch as module
from course_utils.data.fetch import SETS, Archive, DataSet, extract, fetch, fetch_set

CONTENT = bytes(number * number % 251 for number in range(300_000))
SHA = hashlib.sha256(CONTENT).hexdigest()
SIZE = len(CONTENT)
READERS = {"ade20k": ade20k, "cityscapes": cityscapes, "coco": coco, "voc": voc}


# ---- a server that does as it is told: its acts in turn, one a request, the last for ever ----


def answer(status=200, *, body=CONTENT, claim=None, cut=None, ranges=True, headers=(), length=True):
    """An answer: `claim` lies about its length, `cut` closes the line after so many bytes."""

    def act(handler):
        asked = handler.headers.get("Range") if ranges and status == 200 else None
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if asked and start >= len(body):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(body)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206 if asked else status)
        if asked:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if length:
            handler.send_header("Content-Length", str((claim or len(body)) - start))
        for name, value in headers:
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body[start:][:cut])

    return act


def fail(status):
    return answer(status, body=b"sorry", ranges=False)


def hang_up(handler):
    handler.close_connection = True


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module, "PATIENCE", 0)
    told = SimpleNamespace(acts=[answer()], ranges=[], paths=[])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            told.paths.append(self.path)
            told.ranges.append(self.headers.get("Range"))
            act = told.acts[0] if len(told.acts) == 1 else told.acts.pop(0)
            act[self.path](self) if isinstance(act, dict) else act(self)

        def log_message(self, *_):
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.handle_error = lambda *_: None  # a client that hangs up is part of the tests
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    told.url = f"http://127.0.0.1:{listener.server_port}"
    yield told
    listener.shutdown()
    listener.server_close()
    thread.join()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sets" / "photos.zip"


def part_of(path):
    return path.with_name(path.name + ".part")


def only(path):
    """The file lies there and nothing else does."""
    return path.read_bytes() == CONTENT and [entry.name for entry in path.parent.iterdir()] == [
        path.name
    ]


def get(server, path, **more):
    return fetch(f"{server.url}/photos.zip", path, SHA, **more)


# ---- downloads ----


def test_a_file_comes_whole_with_progress(server, path):
    seen = []
    assert get(server, path, size=SIZE, progress=lambda *bytes_: seen.append(bytes_)) == path
    assert only(path) and server.ranges == [None]
    assert seen[-1] == (SIZE, SIZE) and len(seen) > 2 and seen == sorted(seen)


def test_a_file_that_is_there_is_not_fetched_again(server, path):
    get(server, path)
    get(server, path, size=SIZE)
    assert len(server.paths) == 1


def test_a_file_with_other_bytes_is_left_alone(server, path):
    path.parent.mkdir()
    path.write_bytes(b"my own work")
    with pytest.raises(
        ValueError, match=r"^path: .*photos.zip has sha256 .* instead of .*; remove it"
    ):
        get(server, path)
    with pytest.raises(ValueError, match=rf"has 11 bytes instead of {SIZE}"):
        get(server, path, size=SIZE)
    assert path.read_bytes() == b"my own work" and not server.paths


def test_a_cut_connection_goes_on_where_it_stopped(server, path):
    server.acts = [answer(cut=70_000)] * 2 + [hang_up, answer(cut=1), answer()]
    get(server, path)
    assert only(path)
    assert server.ranges == [None, "bytes=70000-", *["bytes=140000-"] * 2, "bytes=140001-"]


def test_a_server_that_always_cuts_but_goes_on_is_never_given_up(server, path):
    server.acts = [answer(cut=20_000)]
    get(server, path)
    assert only(path) and len(server.paths) == 15 > 3 * module.TRIES


def test_what_an_earlier_call_left_is_used(server, path):
    server.acts = [answer(cut=100_000), fail(404), answer()]
    with pytest.raises(OSError, match=r"404"):
        get(server, path)
    assert part_of(path).read_bytes() == CONTENT[:100_000] and not path.exists()
    get(server, path)
    assert only(path) and server.ranges[-1] == "bytes=100000-"


def test_a_part_that_is_whole_already(server, path):
    path.parent.mkdir()
    part_of(path).write_bytes(CONTENT)
    get(server, path)
    assert only(path) and server.ranges == [f"bytes={SIZE}-"]  # answered 416
    path.rename(part_of(path))
    get(server, path, size=SIZE)
    assert only(path) and len(server.ranges) == 1


@pytest.mark.parametrize("left", [b"x" * 1000, CONTENT + b"more", b"x" * SIZE])
def test_a_part_with_wrong_bytes_is_thrown_away(server, path, left):
    for size in (None, SIZE):
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir()
        part_of(path).write_bytes(left)
        get(server, path, size=size)
        assert only(path)


def test_a_server_that_ignores_ranges(server, path):
    for size in (None, SIZE):
        shutil.rmtree(path.parent, ignore_errors=True)
        server.ranges.clear()
        server.acts = [answer(cut=100_000), answer(ranges=False)]
        seen = []
        get(server, path, size=size, progress=lambda *bytes_, seen=seen: seen.append(bytes_))
        assert only(path) and server.ranges == [None, "bytes=100000-"]
        assert seen[-1] == (SIZE, SIZE)


def test_a_server_that_ignores_ranges_and_always_cuts_is_given_up(server, path):
    server.acts = [answer(cut=100_000, ranges=False)]
    with pytest.raises(OSError, match=r"cut the connection, 4 times in a row"):
        get(server, path)
    assert not path.exists() and part_of(path).exists()


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_errors_that_pass(server, path, status):
    server.acts = [fail(status)] * (module.TRIES - 1) + [answer()]
    get(server, path)
    assert only(path)


def test_the_second_attempt_waits_and_the_third_waits_longer(server, path, monkeypatch):
    waits = []
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    monkeypatch.setattr(module.time, "sleep", waits.append)
    server.acts = [fail(500)] * 3 + [answer()]
    get(server, path)
    assert waits == [0.5, 1.0, 2.0]


def test_errors_that_stay(server, path):
    server.acts = [fail(503)]
    with pytest.raises(
        OSError,
        match=r"^url: photos.zip could not be fetched: .* answered 503 .*, 4 times in a row$",
    ):
        get(server, path)
    assert len(server.paths) == module.TRIES and not list(path.parent.iterdir())


def test_a_file_that_is_not_there_is_asked_for_once(server, path):
    server.acts = [fail(404)]
    with pytest.raises(OSError, match=r"answered 404"):
        get(server, path)
    assert len(server.paths) == 1


def test_redirects_are_followed_with_the_range(server, path):
    server.acts = [
        {
            "/photos.zip": answer(302, body=b"", headers=[("Location", "/moved/here")]),
            "/moved/here": answer(cut=90_000),
        }
    ]
    get(server, path)
    assert only(path)
    assert server.ranges[:4] == [None, None, "bytes=90000-", "bytes=90000-"]


def test_a_redirect_in_a_circle_is_refused(server, path):
    server.acts = [answer(302, body=b"", headers=[("Location", "/photos.zip")])]
    with pytest.raises(OSError, match=r"answered 302"):
        get(server, path)


def test_wrong_bytes_are_removed_and_said(server, path):
    server.acts = [answer(body=b"<html>Please log in</html>")]
    with pytest.raises(
        OSError, match=rf"/photos.zip gave sha256 \w{{12}}... instead of {SHA[:12]}..., removed$"
    ):
        get(server, path)
    with pytest.raises(OSError, match=rf"gave 26 bytes instead of {SIZE}|cut the connection"):
        get(server, path, size=SIZE)
    assert not path.exists()


@pytest.mark.parametrize("size", [None, SIZE])
def test_mirrors_are_tried_in_turn(server, path, size):
    wrong = bytes(reversed(CONTENT))
    acts = {"/photos.zip": fail(404), "/b": answer(body=wrong), "/c": fail(500), "/d": answer()}
    server.acts = [acts]
    get(server, path, size=size, mirrors=[f"{server.url}/{name}" for name in "bcd"])
    assert only(path)
    assert server.paths == ["/photos.zip", "/b", *["/c"] * module.TRIES, "/d"]


def test_a_mirror_goes_on_where_the_first_stopped(server, path):
    cut = answer(cut=100_000)
    server.acts = [cut, fail(404), answer()]
    get(server, path, mirrors=[f"{server.url}/mirror"])
    assert only(path) and server.ranges[-1] == "bytes=100000-" and server.paths[-1] == "/mirror"


def test_all_addresses_are_named_when_none_works(server, path):
    server.acts = [{"/photos.zip": fail(404), "/b": answer(body=b"no"), "/c": fail(500)}]
    mirrors = [f"{server.url}/b", f"{server.url}/c", "http://127.0.0.1:9/d"]
    with pytest.raises(OSError) as failed:
        get(server, path, mirrors=mirrors)
    for story in ("photos.zip answered 404", "/b gave sha256", "/c answered 500", "9/d broke off"):
        assert story in str(failed.value)


@pytest.mark.parametrize("claim", [SIZE + 5000, SIZE - 5000])
def test_a_server_that_lies_about_the_length_is_seen_through(server, path, claim):
    server.acts = [answer(claim=claim), answer()]
    get(server, path, size=SIZE)
    assert only(path)


def test_a_length_that_is_too_great_without_a_size(server, path):
    server.acts = [answer(claim=SIZE + 5000)]
    get(server, path)  # the second question, "what comes after the last byte", gives it away
    assert only(path)


def test_a_length_that_is_too_small_without_a_size(server, path):
    server.acts = [answer(claim=SIZE - 5000)]
    with pytest.raises(OSError, match=r"gave sha256 .*, removed"):
        get(server, path)
    assert not part_of(path).exists()


def test_no_length_at_all(server, path):
    seen = []
    server.acts = [answer(length=False)]
    get(server, path, progress=lambda *bytes_: seen.append(bytes_))
    assert only(path) and seen[-1] == (SIZE, None)


def test_a_flood_is_stopped(server, path):
    server.acts = [answer(body=CONTENT * 40, length=False, ranges=False)]
    with pytest.raises(OSError, match=rf"bytes instead of {SIZE}, removed"):
        get(server, path, size=SIZE)
    assert not list(path.parent.iterdir())


def test_a_full_disk_is_seen_before_the_first_byte(server, path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    for size in (None, SIZE):
        with pytest.raises(
            OSError, match=rf"expected {SIZE} bytes free on the disk, got 1000; make room"
        ):
            get(server, path, size=size)
    assert not list(path.parent.iterdir())


def test_only_the_missing_bytes_need_room(server, path, monkeypatch):
    path.parent.mkdir()
    part_of(path).write_bytes(CONTENT[:-1000])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    get(server, path)
    assert only(path)


def test_without_a_sha256_the_first_one_is_noted_and_kept_to(server, path):
    url = f"{server.url}/photos.zip"
    fetch(url, path, None, size=SIZE)
    note = path.with_name("photos.zip.sha256")
    assert path.read_bytes() == CONTENT and note.read_text().strip() == SHA
    fetch(url, path, None)
    path.unlink()
    server.acts = [answer(body=bytes(SIZE))]
    with pytest.raises(OSError, match=r"gave sha256 .* instead of"):
        fetch(url, path, None, size=SIZE)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"^path: .* has sha256"):
        fetch(url, path, None)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a/b", "photos.zip", ""])
def test_other_addresses_are_refused(path, url):
    for addresses in ((url, []), ("http://127.0.0.1:9/a", [url])):
        with pytest.raises(ValueError, match=r"^url: expected an http or https address, got"):
            fetch(addresses[0], path, SHA, mirrors=addresses[1])


@pytest.mark.parametrize("sha256", ["", "abc", "g" * 64, SHA + "0"])
def test_a_sha256_that_is_none(path, sha256):
    with pytest.raises(ValueError, match=r"^sha256: expected 64 hexadecimal digits or None, got"):
        fetch("http://127.0.0.1:9/a", path, sha256)


# ---- archives ----


def make_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return path


def make_tar(path, files, compression=""):
    with tarfile.open(path, f"w:{compression}") as made:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            made.addfile(entry, io.BytesIO(content))
    return path


FILES = {"set/a.txt": b"one", "set/deep/b.bin": CONTENT, "read me.txt": b""}
MAKERS = {
    "a.zip": make_zip,
    "a.tar": make_tar,
    "a.tar.gz": lambda path, files: make_tar(path, files, "gz"),
    "a.tar.bz2": lambda path, files: make_tar(path, files, "bz2"),
    "a.tar.xz": lambda path, files: make_tar(path, files, "xz"),
}


def contents(folder):
    return {
        entry.relative_to(folder).as_posix(): entry.read_bytes()
        for entry in folder.rglob("*")
        if entry.is_file()
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
    with pytest.raises(ValueError, match=r"^archive: .* holds .*, which leads out of its folder"):
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
    with pytest.raises(ValueError, match=r"holds 'door', which is a link or a device"):
        extract(tmp_path / "a.tar", tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_zip_links_are_refused(tmp_path):
    entry = zipfile.ZipInfo("door")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.writestr(entry, "/etc")
    with pytest.raises(ValueError, match=r"holds 'door', which is a link"):
        extract(tmp_path / "a.zip", tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_truncated_archives_leave_nothing(make, tmp_path):
    archive = make(FILES)
    whole = archive.read_bytes()
    for share in (0.5, 0.9):
        archive.write_bytes(
            whole[: int(len(CONTENT) * share if archive.suffix == ".tar" else len(whole) * share)]
        )
        with pytest.raises(ValueError, match=r"^archive: .* is no whole zip or tar archive"):
            extract(archive, tmp_path / "inner" / "folder")
        assert not list((tmp_path / "inner").iterdir())


def test_a_flipped_bit_in_a_zip_is_found(tmp_path):
    archive = make_zip(tmp_path / "a.zip", FILES)
    broken = bytearray(archive.read_bytes())
    broken[len(broken) // 2] ^= 1
    archive.write_bytes(broken)
    with pytest.raises(ValueError, match=r"is no whole zip or tar archive"):
        extract(archive, tmp_path / "folder")


def test_what_is_no_archive(tmp_path):
    (tmp_path / "a.zip").write_text("<html>Please log in</html>")
    with pytest.raises(ValueError, match=r"^archive: .*a.zip is no whole zip or tar archive"):
        extract(tmp_path / "a.zip", tmp_path / "folder")
    with pytest.raises(FileNotFoundError, match=r"^archive: no file .*b.zip"):
        extract(tmp_path / "b.zip", tmp_path / "folder")


def test_an_archive_needs_room(make, tmp_path, monkeypatch):
    archive = make(FILES)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=rf"expected {SIZE + 3} bytes free on the disk, got 1000"):
        extract(archive, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


# ---- data sets ----


def serve(server, monkeypatch, tmp_path):
    """A small data set of two archives, the second with another inside."""
    first = make_zip(tmp_path / "1.zip", {"val/1.jpg": b"photo"}).read_bytes()
    inner = make_zip(tmp_path / "2.zip", {"maps/1.png": b"map"}).read_bytes()
    second = make_tar(tmp_path / "3.tar", {"annotations/maps.zip": inner}).read_bytes()
    server.acts = [{"/val.zip": answer(body=first), "/notes.tar?x=1": answer(body=second)}]

    def archive(name, body, gives, *inner):
        digest = hashlib.sha256(body).hexdigest()
        return Archive((f"{server.url}/{name}",), len(body), digest, gives, inner)

    archives = (
        archive("val.zip", first, "val"),
        archive("notes.tar?x=1", second, "annotations/maps", "annotations/maps.zip"),
    )
    monkeypatch.setitem(
        SETS, "small", DataSet("A small set", "free", archives, "annotations", "x.read")
    )


def test_a_set_is_fetched_extracted_and_not_fetched_again(server, monkeypatch, tmp_path):
    serve(server, monkeypatch, tmp_path)
    folder = tmp_path / "set"
    assert fetch_set("small", folder) == folder / "annotations"
    assert contents(folder) == {"val/1.jpg": b"photo", "annotations/maps/1.png": b"map"}
    fetch_set("small", folder)
    assert len(server.paths) == 2


def test_a_set_that_was_interrupted_is_completed(server, monkeypatch, tmp_path):
    serve(server, monkeypatch, tmp_path)
    folder = tmp_path / "set"
    with monkeypatch.context() as patch:
        patch.setattr(module, "_move_into", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fetch_set("small", folder)
    assert set(contents(folder)) == {"val.zip"}
    fetch_set("small", folder)
    assert set(contents(folder)) == {"val/1.jpg", "annotations/maps/1.png"}
    assert server.paths == ["/val.zip", "/notes.tar?x=1"]


def test_sets_that_need_a_log_in_say_what_to_do(tmp_path):
    with pytest.raises(
        ValueError, match=r"^name: Cityscapes .*register.*cityscapes-dataset.com.*gtFine"
    ):
        fetch_set("cityscapes", tmp_path)
    with pytest.raises(
        ValueError, match=r"^name: expected one of voc2012, .*cityscapes, got 'imagenet'"
    ):
        fetch_set("imagenet", tmp_path)


@pytest.mark.parametrize("name", SETS)
def test_the_table_is_sound(name):
    chosen = SETS[name]
    assert chosen.title and chosen.terms and bool(chosen.archives) != bool(chosen.log_in)
    for archive in chosen.archives:
        assert archive.size > 10**8 and all(url.startswith("http") for url in archive.urls)
        assert archive.sha256 is None or len(bytes.fromhex(archive.sha256)) == 32
    for reader in chosen.reader.split(", "):
        owner, function = reader.split(".")
        assert callable(getattr(READERS[owner], function))
