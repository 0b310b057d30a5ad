"""Downloads that meet another download, a changed file, a stall, an endless answer, a lie or a full disk."""

import shutil
import subprocess
import sys
import threading
import time

import pytest

from course_utils.data import connection
from course_utils.data import download as module
from course_utils.data.download import download, hold_lock
from tests.data.file_server import (
    CONTENT,
    SHA,
    SIZE,
    answer,
    drip,
    fail,
    get,
    only,
    part_of,
    redirect,
)

NEWER = bytes(reversed(CONTENT))


# Two at a time.


def slow(handler):
    """The file in eight pieces, each with a pause."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(SIZE))
    handler.end_headers()
    for start in range(0, SIZE, SIZE // 8):
        handler.wfile.write(CONTENT[start : start + SIZE // 8])
        time.sleep(0.02)


def test_of_two_threads_the_second_waits_and_uses_the_file_of_the_first(server, path):
    server.acts = [slow]
    ended = []

    def one():
        ended.append(download(f"{server.url}/photos.zip", path, None).read_bytes() == CONTENT)

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended == [True] * 6 and len(server.paths) == 1
    assert sorted(entry.name for entry in path.parent.iterdir()) == [
        "photos.zip",
        "photos.zip.sha256",
    ]


SCRIPT = """
import sys
from course_utils.data.download import download, hold_lock
from pathlib import Path
if sys.argv[1] == "lock":
    with hold_lock(Path(sys.argv[2])):
        print("held", flush=True)
        input()
else:
    download(sys.argv[1], sys.argv[2], None)
"""


def run_script(*arguments):
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_of_two_processes_the_second_waits_and_says_so(server, path):
    server.acts = [slow]
    running = [run_script(f"{server.url}/photos.zip", path) for _ in range(3)]
    said = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert path.read_bytes() == CONTENT and len(server.paths) == 1
    assert all(not text or "waiting for another process" in text for text in said)


def test_a_killed_process_leaves_nothing_locked(server, path):
    path.parent.mkdir()
    lock = path.with_name("photos.zip.lock")
    holder = run_script("lock", lock)
    assert holder.stdout.readline() == "held\n"
    waiting = threading.Thread(target=get, args=(server, path))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive() and lock.exists() and not server.paths
    holder.kill()
    holder.communicate()
    waiting.join()
    assert only(path)
    with hold_lock(lock):
        assert lock.exists()


# The file on the server changes.


@pytest.mark.parametrize("sha256", [SHA, None])
@pytest.mark.parametrize("if_range", [True, False])
@pytest.mark.parametrize("size", [SIZE, None])
def test_a_file_that_changed_on_the_server_starts_again(server, path, sha256, if_range, size):
    server.acts = [
        answer(body=NEWER, cut=100_000, etag='"old"'),
        answer(etag='"new"', if_range=if_range),
    ]
    download(f"{server.url}/photos.zip", path, sha256, size=size)
    assert path.read_bytes() == CONTENT
    assert server.if_ranges[:2] == [None, '"old"']


def test_the_version_is_remembered_by_a_later_call(server, path):
    date = [("Last-Modified", "Fri, 01 Mar 2024 10:00:00 GMT"), ("ETag", 'W/"weak"')]
    server.acts = [
        answer(cut=100_000, headers=date),
        fail(404),
        answer(headers=date, if_range=False),
    ]
    for _ in range(2):
        url = f"{server.url}/photos.zip"
        if server.paths:
            download(url, path, None)
        else:
            with pytest.raises(OSError, match=r"404.*; 100000 bytes are kept in .*photos.zip.part"):
                download(url, path, None)
    assert path.read_bytes() == CONTENT and server.ranges[-1] == "bytes=100000-"
    assert server.if_ranges[-1] == date[0][1]


def test_without_a_sha256_or_a_version_a_part_is_not_continued(server, path):
    server.acts = [answer(body=NEWER, cut=100_000), answer()]
    download(f"{server.url}/photos.zip", path, None, size=SIZE)
    assert path.read_bytes() == CONTENT and server.ranges == [None, None]
    path.unlink()
    path.with_name("photos.zip.sha256").unlink()
    server.acts = [answer(body=NEWER, cut=100_000), fail(404)]
    with pytest.raises(OSError, match=r"answered 404 Not Found$"):
        download(f"{server.url}/photos.zip", path, None, size=SIZE)
    assert not list(path.parent.iterdir())


def test_without_a_sha256_a_mirror_starts_again(server, path):
    server.acts = [answer(body=NEWER, cut=100_000, etag='"1"'), fail(404), answer(etag='"1"')]
    url = f"{server.url}/photos.zip"
    download(url, path, None, mirrors=[f"{server.url}/mirror"])
    assert path.read_bytes() == CONTENT and server.ranges[-1] is None


def test_a_damaged_note_about_the_part_means_an_unknown_version(server, path):
    path.parent.mkdir()
    part_of(path).write_bytes(NEWER[:1000])
    for damaged in (b"", b"[]", b"\xff", b'{"url": 1}'):
        path.with_name("photos.zip.part.json").write_bytes(damaged)
        download(f"{server.url}/photos.zip", path, None)
        assert path.read_bytes() == CONTENT and server.ranges[-1] is None
        path.rename(part_of(path))
        path.with_name("photos.zip.sha256").unlink()


# Stalls, endless answers and lies.


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(connection, "TIMEOUT", 0.15)


def test_what_arrived_before_a_stall_is_kept(server, path, impatient):
    server.acts = [answer(cut=40_000, stall=0.4)]  # less than a chunk
    get(server, path)
    assert only(path) and server.ranges[:3] == [None, "bytes=40000-", "bytes=80000-"]
    assert len(server.paths) > module.MAX_ATTEMPTS


@pytest.mark.parametrize(
    "start", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX: "]
)
def test_headers_have_a_deadline(server, path, impatient, start):
    server.acts = [drip(start, b"H"), answer()]
    begun = time.monotonic()
    get(server, path)
    assert only(path) and time.monotonic() - begun < 2
    server.acts = [drip(start, b"H")]
    path.unlink()
    with pytest.raises(OSError, match=r"lost the connection \(.*\), 4 times in a row"):
        get(server, path)


def test_the_page_of_a_redirect_is_not_read(server, path):
    endless = drip(b"HTTP/1.1 302 Found\r\nLocation: /there\r\n\r\n", b"so long " * 100)
    server.acts = [{"/photos.zip": endless, "/there": answer()}]
    begun = time.monotonic()
    get(server, path)
    assert only(path) and time.monotonic() - begun < 2


@pytest.mark.parametrize(
    "target",
    [
        "ftp://127.0.0.1/a",
        "file:///etc/passwd",
        "http://[::1",
        "http://a:b/",
        "http://a:0/",
    ],
)
def test_redirects_to_other_addresses_are_refused_at_once(server, path, target):
    server.acts = [redirect(target)]
    with pytest.raises(
        OSError, match=r"photos.zip (redirects to|is no valid URL|answered 302 .*allowed)"
    ):
        get(server, path)
    assert len(server.paths) == 1 and not list(path.parent.iterdir())


@pytest.mark.parametrize(
    "span",
    ["bytes 0-99/300000", "bytes 5-299999/300000", "bytes 0-999/100", "bytes 0-99/*", "pages 1-2"],
)
def test_a_range_that_was_not_asked_for_is_not_used(server, path, span):
    liar = answer(span=span, cut=100, claim=100)
    server.acts = [answer(cut=100_000, etag='"1"'), liar, answer(etag='"1"')]
    download(f"{server.url}/photos.zip", path, None)
    assert path.read_bytes() == CONTENT and server.ranges[1:] == ["bytes=100000-", None]


def test_a_range_that_ends_early_is_continued(server, path):
    def piece(handler):
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 100000-100099/{SIZE}")
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(CONTENT[100_000:100_100])

    server.acts = [answer(cut=100_000, etag='"1"'), piece, answer(etag='"1"')]
    download(f"{server.url}/photos.zip", path, None)
    assert path.read_bytes() == CONTENT and server.ranges[2] == "bytes=100100-"


def test_other_answers_than_a_file_are_refused(server, path):
    server.acts = [answer(204, body=b"")]
    with pytest.raises(OSError, match=r"photos.zip answered 204 No Content$"):
        get(server, path)
    server.acts = [answer(length=False)]
    with pytest.raises(
        OSError, match=r"announced no length, so that a lost connection would not be"
    ):
        download(f"{server.url}/photos.zip", path, None)
    assert not list(path.parent.iterdir())


def test_an_empty_file_and_no_file(server, path):
    server.acts = [answer(body=b"")]
    assert download(f"{server.url}/photos.zip", path, None, size=0).read_bytes() == b""
    path.unlink()
    server.acts = [answer(416, body=b"", headers=[("Content-Range", "bytes */0")])]
    with pytest.raises(OSError, match=r"photos.zip answered 416 .*, 4 times in a row$"):
        get(server, path)


def test_what_a_server_says_stays_on_one_line(server, path):
    server.acts = [drip(b"\x1b[31mred\x07" * 40 + b"\n", b"", seconds=0)]
    with pytest.raises(OSError, match=r"lost the connection \(\[31mred") as failed:
        get(server, path)
    assert str(failed.value).isprintable() and len(str(failed.value)) < 500


# A full disk.


@pytest.mark.skipif(sys.platform == "win32", reason="no limit for the size of a file")
def test_a_disk_that_fills_up_is_named_and_the_part_continued(server, path):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for sha256, kept in (
        (SHA, "100000 bytes are kept, and the next call continues"),
        (None, "nothing is"),
    ):
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(OSError, match=rf"{kept}.*: '.*photos.zip.part'$"):
                download(f"{server.url}/photos.zip", path, sha256)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert part_of(path).exists() == bool(sha256)
        download(f"{server.url}/photos.zip", path, sha256)
        assert path.read_bytes() == CONTENT
        shutil.rmtree(path.parent)
    assert server.ranges == [None, "bytes=100000-", None, None]
