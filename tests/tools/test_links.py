"""The link check, against a server of its own."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tools import links

PAGE = b"<h2 id='here'>A</h2><a name=there>B</a><a href=\"#script\">C</a><h2 id='user-content-hub'>D</h2>"


class Handler(BaseHTTPRequestHandler):
    """Answers by the path: /200, /301, /404, /slow, /once (fails the first time), /get (no HEAD), ..."""

    def do_HEAD(self) -> None:
        self.answer(None)

    def do_GET(self) -> None:
        self.answer(PAGE)

    def answer(self, body: bytes | None) -> None:
        asked, name = self.server.asked, self.path.strip("/")
        asked[self.command, name] += 1
        if name == "slow":
            self.server.closing.wait(5)
        status = {
            "slow": 200,
            "get": 200 if body else 405,
            "lost": 404 if body else 405,
            "page": 200,
        }.get(name)
        if name == "once":
            status = 200 if sum(asked[method, name] for method in ("HEAD", "GET")) > 2 else 503
        self.send_response(status or int(name))
        if name == "301":
            self.send_header("Location", "/200")
        self.end_headers()
        if body and status == 200:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    """A server on this machine; nobody waits between questions."""
    monkeypatch.setattr(links, "PAUSE", 0)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.closing = Counter(), threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("200", None),
        ("301", None),
        ("get", None),
        ("once", None),
        ("403", None),
        ("429", None),
        ("404", "404 Not Found"),
        ("410", "410 Gone"),
        ("500", "500 Internal Server Error"),
        ("page#here", None),
        ("page#there", None),
        ("page#script", None),
        ("page#hub", None),
        ("page#h", "the page has no #h"),
        ("lost", "404 Not Found"),
        ("404#here", "404 Not Found"),
    ],
)
def test_answers(server: ThreadingHTTPServer, path: str, expected: str | None) -> None:
    assert links.problem(f"{server.url}/{path}") == expected


def test_a_page_is_asked_for_only_where_its_head_does_not_do(server: ThreadingHTTPServer) -> None:
    links.problem(f"{server.url}/200")
    assert server.asked == {("HEAD", "200"): 1}
    links.problem(f"{server.url}/404")
    assert (server.asked["HEAD", "404"], server.asked["GET", "404"]) == (2, 2)


def test_a_silent_server(server: ThreadingHTTPServer) -> None:
    began = time.monotonic()
    assert "timed out" in links.problem(f"{server.url}/slow", seconds=0.1)
    assert time.monotonic() - began < 3
    assert server.asked["GET", "slow"] == 2


@pytest.mark.parametrize("link", ["http://127.0.0.1:9/nobody", "http://a..b/", "http://a:b/"])
def test_nobody_there(server: ThreadingHTTPServer, link: str) -> None:
    assert links.problem(link)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "[a](https://d2l.ai), or [b](https://d2l.ai/x/).",
            ["https://d2l.ai", "https://d2l.ai/x/"],
        ),
        ("See `http://x.org/#y`: **https://x.org/a_b**!", ["http://x.org/#y", "https://x.org/a_b"]),
        ("(https://x.org/Iris_(anatomy)).", ["https://x.org/Iris_(anatomy)"]),
        ('"https://x.org/?a=b&c=%2Fd\\n"', ["https://x.org/?a=b&c=%2Fd"]),
        ("ftp://x.org, x.org", []),
    ],
)
def test_links_in_a_line(line: str, expected: list[str]) -> None:
    assert links.links(line) == expected


def lay_out(root: Path, url: str) -> None:
    """A small course: a README, a notebook, code, and what is not looked at."""
    for folder in ("docs", "data", "notebooks", "course_utils/ops", "tools", "build"):
        (root / folder).mkdir(parents=True)
    (root / "README.md").write_text(f"One\n[a]({url}/200) and [b]({url}/404),\nor <{url}/301>.\n")
    (root / "docs" / "more.md").write_text(f"See {url}/404.")
    cell = {
        "cell_type": "markdown",
        "source": ["# T\n", f"[x]({url}/410)\\n\n", f"**{url}/page#no**"],
    }
    (root / "notebooks" / "00_x.ipynb").write_text(json.dumps({"cells": [cell]}, indent=1))
    code = f'"""One."""\nX = "{url}/500"\n\n\ndef f():\n    """Two.\n\n    Source: {url}/404.\n    """\n'
    (root / "course_utils" / "ops" / "x.py").write_text(code)
    (root / "build" / "x.md").write_text(f"{url}/500")


def test_places(tmp_path: Path) -> None:
    lay_out(tmp_path, "https://a.org")
    assert links.collect(tmp_path) == {
        "https://a.org/200": [("README.md", 2)],
        "https://a.org/404": [("README.md", 2), ("docs/more.md", 1), ("course_utils/ops/x.py", 8)],
        "https://a.org/301": [("README.md", 3)],
        "https://a.org/410": [("notebooks/00_x.ipynb", 7)],
        "https://a.org/page#no": [("notebooks/00_x.ipynb", 8)],
    }


def test_the_command(
    server: ThreadingHTTPServer, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    lay_out(tmp_path, server.url)
    assert links.main(tmp_path) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"README.md:2: {server.url}/404: 404 Not Found",
        f"docs/more.md:1: {server.url}/404: 404 Not Found",
        f"course_utils/ops/x.py:8: {server.url}/404: 404 Not Found",
        f"notebooks/00_x.ipynb:7: {server.url}/410: 410 Gone",
        f"notebooks/00_x.ipynb:8: {server.url}/page#no: the page has no #no",
        "5 links, 3 dead",
    ]
    (tmp_path / "docs" / "more.md").unlink()
    (tmp_path / "notebooks" / "00_x.ipynb").unlink()
    (tmp_path / "README.md").write_text(f"{server.url}/200")
    (tmp_path / "course_utils" / "ops" / "x.py").unlink()
    assert links.main(tmp_path) == 0
    assert capsys.readouterr().out == "1 links, 0 dead\n"


def test_the_course_has_links() -> None:
    places = links.collect(links.ROOT)
    assert "https://d2l.ai" in places
    assert any(link.startswith("https://colab.research.google.com") for link in places)
    assert all(link.isascii() for link in places)
