"""The talks: how slide types become slides, what stays out, and what is said when something is missing."""

import importlib.metadata
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import slides
from tools.notebooks import WIDGET, find

DOT = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAIAAAB7QOjdAAAAC0lEQVR4nGNggAIAAAkAAftSuKkAAAAASUVORK5CYII="
TYPES = ("slide", "-", "notes", "fragment", "subslide", "skip", "slide")


class Outline(HTMLParser):
    """Each word of the slides with the classes and sections around it."""

    def __init__(self) -> None:
        super().__init__()
        self.around: list[str] = []
        self.words: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag in ("section", "div", "aside"):
            kind = dict(attributes).get("class") or ""
            self.around.append("section" if tag == "section" else kind)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("section", "div", "aside"):
            self.around.pop()

    def handle_data(self, data: str) -> None:
        for word in data.split():
            kept = ("section", "fragment", "notes")
            self.words[word] = [kind for kind in self.around if kind in kept]


def lesson() -> NotebookNode:
    """A notebook with a cell of each slide type, a formula, a figure, a widget and source code."""
    cells = [
        new_markdown_cell(f"word{number}", metadata={"slideshow": {"slide_type": kind}})
        for number, kind in enumerate(TYPES)
    ]
    cells[0].source = "# A talk\n\nword0 and $a < b$"
    figure = new_output(
        "display_data",
        {"image/png": DOT, "text/plain": "<Figure>"},
        metadata={"image/png": {"alt": 'an "empty" <plot>'}},
    )
    moving = new_output("display_data", {WIDGET: {"model_id": "1"}, "text/plain": "sliders"})
    source = new_output("display_data", {"text/markdown": "```python\ndef shown(): ...\n```"})
    sources = {"show_source(shown)": source, "draw()\n\n\nmove()": figure, "explore()": moving}
    for code, output in sources.items():
        slide = {"slideshow": {"slide_type": "subslide"}}
        cells.append(new_code_cell(code, outputs=[output], execution_count=1, metadata=slide))
    return new_notebook(cells=cells)


@pytest.fixture(scope="module")
def talk() -> str:
    """The lesson as a talk."""
    return slides.talk(lesson(), "00_lesson", {})


def test_slide_types(talk: str) -> None:
    outline = Outline()
    outline.feed(talk[talk.index("<body>") :])
    words = outline.words
    assert words["word0"] == words["word1"] == words["word4"] == words["word6"] == ["section"] * 2
    assert words["word2"] == ["section", "section", "notes"]
    assert words["word3"] == ["section", "section", "fragment"]
    assert "word5" not in words
    assert not outline.around, "every section and fragment is closed"
    assert talk.count("<section") == 2 + 6  # two sections; six slides in them


def test_the_sheet_speaks_on_the_first_slide_of_its_section() -> None:
    sheet = (
        "| section | min | ask | misconception | move |\n|---|---:|---|---|---|\n"
        "| [1 · One](../notebooks/00_lesson.ipynb#cell-id=00-001) | 7 | Why? | It *moves*. | Skip it. |\n"
    )
    notes = slides.speaker_notes(sheet)
    notebook = lesson()
    notebook.cells[-2].id = next(iter(notes))
    page = slides.talk(notebook, "00_lesson", notes)
    slide = page[page.index("<img") :].partition("</section>")[0]
    noted = slide.partition('class="notes"')[2]
    assert (
        "7 minutes" in noted and "Why?" in noted and "<em>moves</em>" in noted and "Skip" in noted
    )
    assert page.count("7 minutes") == 1 and notes.keys() == {"00-001"}


def test_the_sheet_has_notes_for_every_section() -> None:
    sections = [
        cell.id
        for path in find()
        for cell in nbformat.read(path, as_version=4).cells
        if re.match(r"## \d+ · ", cell.source)
    ]
    assert list(slides.speaker_notes(slides.SHEET.read_text(encoding="utf-8"))) == sections


def test_what_a_slide_shows(talk: str) -> None:
    assert "<title>A talk</title>" in talk
    assert talk.count("<math") == 1 and "$a" not in talk
    figure = re.search(r"<img [^>]*>", talk)[0]
    assert "alt='an \"empty\" &lt;plot&gt;'" in figure
    assert 'width="2"' in figure and 'height="1"' in figure
    assert "something to move" in talk and "sliders" not in talk
    assert "shown" in talk and "show_source" not in talk
    assert "In&nbsp;[" not in talk


def test_nothing_comes_from_the_web(talk: str, tmp_path: Path) -> None:
    slides.copy_reveal(tmp_path / slides.REVEAL)
    files = re.findall(r"""<(?:script|link)[^>]*(?:src|href)="([^"]*)\"""", talk)
    assert len(files) == 4
    for file in files:
        assert (tmp_path / file).is_file()
    assert not re.search(r"""url\(["']?(?!data:|#)|@import|src="(?!data:|reveal/)""", talk)
    assert (tmp_path / slides.REVEAL / "LICENSE").is_file()
    theme = tmp_path / slides.REVEAL / "dist" / "theme"
    fonts = re.search(r"@import url\(([^)]*)\)", (theme / "white.css").read_text())
    sheet = theme / fonts[1]
    for font in re.findall(r"url\('([^']*\.woff)'\)", sheet.read_text()):
        assert (sheet.parent / font).is_file()


def test_the_folder_and_its_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "00_lesson.ipynb"
    nbformat.write(lesson(), path)
    before = path.read_bytes()
    monkeypatch.setattr(slides, "find", lambda names=(): [path, tmp_path / "01_later.ipynb"])
    assert slides.build([path], tmp_path / "slides") == [tmp_path / "slides" / "00_lesson.html"]
    slides.write_list(tmp_path / "slides")
    page = (tmp_path / "slides" / "index.html").read_text(encoding="utf-8")
    assert 'href="00_lesson.html"' in page and "A talk" in page and "word0" in page
    assert ".pdf" not in page and "01_later" not in page
    (tmp_path / "slides" / "00_lesson.pdf").touch()
    slides.write_list(tmp_path / "slides")
    assert 'href="00_lesson.pdf"' in (tmp_path / "slides" / "index.html").read_text()
    assert path.read_bytes() == before


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A course of one notebook, away from the real one."""
    path = tmp_path / "00_lesson.ipynb"
    nbformat.write(lesson(), path)
    monkeypatch.setattr(slides, "ROOT", tmp_path)
    monkeypatch.setattr(slides, "SLIDES", tmp_path / "build" / "slides")
    monkeypatch.setattr(slides, "find", lambda names=(): [path])
    yield tmp_path


def test_the_command(elsewhere: Path, capsys: pytest.CaptureFixture) -> None:
    left = elsewhere / "build" / "slides" / "99_old.html"
    left.parent.mkdir(parents=True)
    left.touch()
    assert slides.main(["00"]) == 0 and left.exists()
    assert slides.main([]) == 0 and not left.exists()
    assert capsys.readouterr().out.splitlines()[-1] == "talks: build/slides/index.html"


def test_reveal_is_missing(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(slides, "distribution", missing)
    assert slides.main([]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "make env" in said and "sphinx-revealjs" in said


@pytest.mark.parametrize("lacks", ["playwright", "Chromium"])
def test_no_printing(
    lacks: str, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    if lacks == "playwright":
        monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    else:
        pytest.importorskip("playwright", reason="make env installs playwright")
        monkeypatch.setattr(slides.shutil, "which", lambda name: "/nowhere/chromium")
    assert slides.main(["--pdf"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{lacks} is missing" in said
    assert (elsewhere / "build" / "slides" / "00_lesson.html").is_file(), "the talk is there"
