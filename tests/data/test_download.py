"""Downloads: whatever the server does, the file is complete and right, or it is not there."""

import shutil
from types import SimpleNamespace

import pytest

from course_utils.data import download as module
from course_utils.data.download import download
from tests.data.file_server import CONTENT, SHA, SIZE, answer, fail, get, hang_up, only, part_of


def test_a_file_comes_whole_with_progress(server, path):
    seen = []
    assert get(server, path, size=SIZE, progress=lambda *bytes_: seen.append(bytes_)) == path
    assert only(path) and server.ranges == [None]
    assert seen[-1] == (SIZE, SIZE) and len(seen) > 2 and seen == sorted(seen)


def test_a_file_that_is_there_is_not_downloaded_again(server, path):
    get(server, path)
    get(server, path, size=SIZE)
    assert len(server.paths) == 1


def test_a_file_with_other_bytes_is_left_alone(server, path):
    path.parent.mkdir()
    path.write_bytes(b"my own work")
    with pytest.raises(
        ValueError, match=r"^path: .*photos.zip has sha256 .* instead of .*; delete it"
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
    assert only(path) and len(server.paths) == 15 > 3 * module.MAX_ATTEMPTS


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
    with pytest.raises(OSError, match=r"closed the connection, 4 times in a row"):
        get(server, path)
    assert not path.exists() and part_of(path).exists()


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_errors_that_pass(server, path, status):
    server.acts = [fail(status)] * (module.MAX_ATTEMPTS - 1) + [answer()]
    get(server, path)
    assert only(path)


def test_the_second_attempt_waits_and_the_third_waits_longer(server, path, monkeypatch):
    waits = []
    monkeypatch.setattr(module, "RETRY_DELAY", 0.5)
    monkeypatch.setattr(module.time, "sleep", waits.append)
    server.acts = [fail(500)] * 3 + [answer()]
    get(server, path)
    assert waits == [0.5, 1.0, 2.0]


def test_errors_that_stay(server, path):
    server.acts = [fail(503)]
    with pytest.raises(
        OSError,
        match=r"^url: photos.zip could not be downloaded: .* answered 503 .*, 4 times in a row$",
    ):
        get(server, path)
    assert len(server.paths) == module.MAX_ATTEMPTS and not list(path.parent.iterdir())


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
        OSError, match=rf"/photos.zip gave sha256 \w{{12}}... instead of {SHA[:12]}..., deleted$"
    ):
        get(server, path)
    with pytest.raises(OSError, match=rf"gave 26 bytes instead of {SIZE}|closed the connection"):
        get(server, path, size=SIZE)
    assert not path.exists()


@pytest.mark.parametrize("size", [None, SIZE])
def test_mirrors_are_tried_in_turn(server, path, size):
    wrong = bytes(reversed(CONTENT))
    acts = {"/photos.zip": fail(404), "/b": answer(body=wrong), "/c": fail(500), "/d": answer()}
    server.acts = [acts]
    get(server, path, size=size, mirrors=[f"{server.url}/{name}" for name in "bcd"])
    assert only(path)
    assert server.paths == ["/photos.zip", "/b", *["/c"] * module.MAX_ATTEMPTS, "/d"]


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
    for failure in (
        "photos.zip answered 404",
        "/b gave sha256",
        "/c answered 500",
        "9/d lost the connection",
    ):
        assert failure in str(failed.value)


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
    with pytest.raises(OSError, match=r"gave sha256 .*, deleted"):
        get(server, path)
    assert not part_of(path).exists()


def test_no_length_at_all(server, path):
    seen = []
    server.acts = [answer(length=False)]
    get(server, path, progress=lambda *bytes_: seen.append(bytes_))
    assert only(path) and seen[-1] == (SIZE, None)


def test_a_flood_is_stopped(server, path):
    server.acts = [answer(body=CONTENT * 40, length=False, ranges=False)]
    with pytest.raises(OSError, match=rf"bytes instead of {SIZE}, deleted"):
        get(server, path, size=SIZE)
    assert not list(path.parent.iterdir())


def test_a_full_disk_is_seen_before_the_first_byte(server, path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    for size in (None, SIZE):
        with pytest.raises(
            OSError, match=rf"expected {SIZE} bytes free on the disk, got 1000; free some space"
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
    download(url, path, None, size=SIZE)
    note = path.with_name("photos.zip.sha256")
    assert path.read_bytes() == CONTENT and note.read_text().strip() == SHA
    download(url, path, None)
    path.unlink()
    server.acts = [answer(body=bytes(SIZE))]
    with pytest.raises(OSError, match=r"gave sha256 .* instead of"):
        download(url, path, None, size=SIZE)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"^path: .* has sha256"):
        download(url, path, None)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "file:///etc/passwd",
            "ftp://a/b",
            "photos.zip",
            "",
            "http://",
            "http:///a",
            "http://[::1/a",
        ),
        *("http://a:b/", "http://a:99999/", "http://a/b c", "http://a/b\r\nHost: c", "http://a/ü"),
    ],
)
def test_other_addresses_are_refused(path, url):
    for addresses in ((url, []), ("http://127.0.0.1:9/a", [url])):
        with pytest.raises(ValueError, match=r"^url: expected an http or https URL, got"):
            download(addresses[0], path, SHA, mirrors=addresses[1])


@pytest.mark.parametrize("sha256", ["", "abc", "g" * 64, SHA + "0"])
def test_a_sha256_that_is_none(path, sha256):
    with pytest.raises(ValueError, match=r"^sha256: expected 64 hexadecimal digits or None, got"):
        download("http://127.0.0.1:9/a", path, sha256)


def test_a_folder_of_that_name_and_a_damaged_note_are_named(server, path):
    path.mkdir(parents=True)
    with pytest.raises(
        IsADirectoryError, match=r"^path: expected the name of a file, got the folder"
    ):
        get(server, path)
    path.rmdir()
    path.with_name("photos.zip.sha256").write_bytes(b"\xff not a sum")
    with pytest.raises(ValueError, match=r"^path: .*photos.zip.sha256 holds no sha256; delete it"):
        download(f"{server.url}/photos.zip", path, None)
