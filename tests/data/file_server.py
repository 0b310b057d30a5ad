"""A local server that answers as a test says, and small archives for it to serve."""

import hashlib
import io
import tarfile
import threading
import time
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

from course_utils.data.download import download

CONTENT = bytes(number * number % 251 for number in range(300_000))
SHA = hashlib.sha256(CONTENT).hexdigest()
SIZE = len(CONTENT)


def answer(
    status=200,
    *,
    body=CONTENT,
    claim=None,
    cut=None,
    ranges=True,
    headers=(),
    length=True,
    etag=None,
    if_range=True,
    stall=0,
    span=None,
):
    """An answer.

    `claim` lies about its length, `cut` closes the connection after so many bytes (with `stall`, after so
    many seconds of silence), `span` is the Content-Range of a liar.
    """

    def act(handler):
        asked = handler.headers.get("Range") if ranges and status == 200 else None
        wanted = handler.headers.get("If-Range")
        if if_range and wanted is not None and wanted != etag:
            asked = None
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if asked and start >= len(body):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(body)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206 if asked or span else status)
        if asked or span:
            honest = f"bytes {start}-{len(body) - 1}/{len(body)}"
            handler.send_header("Content-Range", span or honest)
        if length:
            handler.send_header("Content-Length", str((claim or len(body)) - start))
        for name, value in (*headers, *([("ETag", etag)] if etag else [])):
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body[start:][:cut])
        if stall:
            handler.wfile.flush()
            time.sleep(stall)

    return act


def drip(start, piece, pause=0.02, seconds=5):
    """An answer that never ends: `start`, then `piece` again and again until the client hangs up."""

    def act(handler):
        handler.wfile.write(start)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            handler.wfile.write(piece)
            handler.wfile.flush()
            time.sleep(pause)

    return act


def redirect(target):
    return answer(302, body=b"", headers=[("Location", target)])


def fail(status):
    return answer(status, body=b"sorry", ranges=False)


def hang_up(handler):
    handler.close_connection = True


@contextmanager
def run_server():
    """Its `acts` are the answers to the requests in turn, the last one for ever; it records the requests."""
    told = SimpleNamespace(acts=[answer()], ranges=[], if_ranges=[], paths=[])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            told.paths.append(self.path)
            told.ranges.append(self.headers.get("Range"))
            told.if_ranges.append(self.headers.get("If-Range"))
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


def contents(folder):
    return {
        entry.relative_to(folder).as_posix(): entry.read_bytes()
        for entry in folder.rglob("*")
        if entry.is_file()
    }


def part_of(path):
    return path.with_name(path.name + ".part")


def only(path):
    """The file lies there and nothing else does."""
    return path.read_bytes() == CONTENT and [entry.name for entry in path.parent.iterdir()] == [
        path.name
    ]


def get(server, path, **more):
    return download(f"{server.url}/photos.zip", path, SHA, **more)


MAKERS = {
    "a.zip": make_zip,
    "a.tar": make_tar,
    "a.tar.gz": lambda path, files: make_tar(path, files, "gz"),
    "a.tar.bz2": lambda path, files: make_tar(path, files, "bz2"),
    "a.tar.xz": lambda path, files: make_tar(path, files, "xz"),
}
