"""Ask for every link of the notebooks, the README, the documents and the docstrings, and print the dead ones.

python tools/links.py            exit status 1 where a link is dead
"""

import ast
import html
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TEXTS = ("*.md", "docs/*.md", "data/*.md", "notebooks/*.ipynb")
CODE = ("course_utils/**/*.py", "tools/**/*.py")
LINK = re.compile(r"""https?://(?:[^\s<>"'`\\[\](){}|]|\([^\s()]*\))+""")
HEADERS = {"User-Agent": "Mozilla/5.0 (compatible; link check of a course, weekly)"}
SECONDS, PAUSE = 20, 0.5
REFUSALS = {401, 403, 405, 429}  # somebody is there, who does not answer programs
PAGE_BYTES = 4_000_000


class Place(NamedTuple):
    """Where a link stands."""

    file: str
    line: int


def collect(root: Path) -> dict[str, list[Place]]:
    """Every http(s) link below `root` with the places where it stands."""
    found = defaultdict(list)
    for patterns, lines_of in ((TEXTS, enumerated), (CODE, docstring_lines)):
        for pattern in patterns:
            for path in sorted(root.glob(pattern)):
                name = path.relative_to(root).as_posix()
                for number, line in lines_of(path.read_text(encoding="utf-8")):
                    for link in links(line):
                        found[link].append(Place(name, number))
    return dict(found)


def links(line: str) -> list[str]:
    """The links in a line of text, Markdown, JSON or code."""
    return [link.rstrip(".,;:!?*_") for link in LINK.findall(line)]


def enumerated(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a text with their numbers."""
    return enumerate(text.splitlines(), 1)


def docstring_lines(source: str) -> Iterator[tuple[int, str]]:
    """The lines of all docstrings in a Python file with their numbers."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if ast.get_docstring(node) is not None:
                lines = source.splitlines()[first.lineno - 1 : first.end_lineno]
                yield from enumerate(lines, first.lineno)


def problem(link: str, seconds: float = SECONDS) -> str | None:
    """Why a link is dead, or None. Asked twice before it counts as dead.

    Args:
        link: an address; what follows its `#` must be named on the page.
        seconds: how long to wait for an answer.
    """
    first = ask(link, seconds)
    return first and (time.sleep(PAUSE) or ask(link, seconds))


def ask(link: str, seconds: float) -> str | None:
    """What is wrong with a link this time, or None: first without the page, then with it."""
    address, anchor = urllib.parse.urldefrag(link)
    trouble = None
    for method in ["GET"] if anchor else ["HEAD", "GET"]:
        request = urllib.request.Request(address, headers=HEADERS, method=method)
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                if not anchor or names(answer.read(PAGE_BYTES).decode(errors="replace"), anchor):
                    return None
                trouble = f"the page has no #{anchor}"
        except urllib.error.HTTPError as error:
            if error.code in REFUSALS and method == "GET":
                return None
            trouble = f"{error.code} {error.reason}"
        except (OSError, HTTPException, ValueError) as error:
            trouble = f"{type(error).__name__}: {getattr(error, 'reason', error)}"
    return trouble


def names(page: str, anchor: str) -> bool:
    """Whether a page names a place so, or links to it within itself (pages that a script fills do)."""
    wanted = re.escape(urllib.parse.unquote(anchor))
    pattern = rf"""\b(?:id|name)=["']?(?:user-content-)?{wanted}["'\s>]|["']\#{wanted}["']"""
    return re.search(pattern, html.unescape(page)) is not None


def main(root: Path = ROOT) -> int:
    """Check all links, one after the other; returns the exit status."""
    found, dead = collect(root), 0
    for link, places in found.items():
        if trouble := problem(link):
            dead += 1
            for place in places:
                print(f"{place.file}:{place.line}: {link}: {trouble}", flush=True)
        time.sleep(PAUSE)
    print(f"{len(found)} links, {dead} dead")
    return 1 if dead else 0


if __name__ == "__main__":
    sys.exit(main())
