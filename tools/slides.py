"""Make a talk of every notebook from its stored outputs: build/slides/index.html. Nothing is executed.

python tools/slides.py                 the whole course
python tools/slides.py 01 05           the notebooks whose file names begin so
python tools/slides.py --pdf           ... and a handout of each, printed by Chromium
"""

import argparse
import base64
import io
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jinja2
from nbconvert import SlidesExporter
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools import run
from tools.notebooks import ROOT, code_cells, find, picture, read, tidy

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SLIDES = ROOT / "build" / "slides"
LONGEST_WITH_FIGURE = 4  # lines of code that stand above the figure they draw
SHEET = ROOT / "docs" / "instructor.md"
SHEET_ROW = re.compile(
    r"^\| \[[^]]+\]\([^)]+#cell-id=([-\d]+)\) \| (\d+) \| (.+) \| (.+) \| (.+) \|$", re.MULTILINE
)
WIDTH, HEIGHT = 1280, 720  # what a projector shows; larger screens show the same, larger
REVEAL = "reveal"  # the folder beside the talks with reveal.js in it
PACKAGE, FOLDER_IN_PACKAGE = "sphinx-revealjs", "sphinx_revealjs/_static/revealjs"
PARTS = (
    "LICENSE",
    "dist/reveal.css",
    "dist/reveal.js",
    "dist/theme/white.css",
    *(
        f"dist/theme/fonts/source-sans-pro/{name}"
        for name in (
            "LICENSE",
            "source-sans-pro.css",
            "source-sans-pro-regular.woff",
            "source-sans-pro-italic.woff",
            "source-sans-pro-semibold.woff",
            "source-sans-pro-semibolditalic.woff",
        )
    ),
    "plugin/notes/notes.js",
)
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Talk(NamedTuple):
    """A line of the list of talks."""

    name: str
    title: str
    sentence: str
    printed: bool  # there is a handout beside it


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="beginnings of file names (default: all)")
    parser.add_argument("--pdf", action="store_true", help="also print a handout of each talk")
    options = parser.parse_args(arguments)
    try:
        if not options.names:
            shutil.rmtree(SLIDES, ignore_errors=True)
        talks = build(find(options.names), SLIDES)
        if options.pdf:
            with chromium() as browser:
                print_handouts(talks, browser)
    except (ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        if SLIDES.exists():
            write_list(SLIDES)
    print(f"talks: {(SLIDES / 'index.html').relative_to(ROOT)}")
    return 0


def build(paths: list[Path], folder: Path) -> list[Path]:
    """Write the talks of the notebooks at `paths`, and reveal.js beside them, into `folder`.

    Returns:
        The talks, as HTML files.
    """
    copy_reveal(folder / REVEAL)
    talks = [folder / f"{path.stem}.html" for path in paths]
    notes = speaker_notes(SHEET.read_text(encoding="utf-8"))
    for path, file in zip(paths, talks):
        page = talk(read(path), path.stem, notes)
        file.write_text(page, encoding="utf-8")
    return talks


def speaker_notes(sheet: str) -> dict[str, str]:
    """What the instructor's sheet says about each section, by the id of the section's first cell."""
    return {
        cell: f"**{minutes} minutes. Ask:** {ask}\n\n**Misconception:** {answer}\n\n**Move or skip:** {move}"
        for cell, minutes, ask, answer, move in SHEET_ROW.findall(sheet)
    }


def copy_reveal(folder: Path) -> None:
    """Copy reveal.js into `folder` out of the package that carries it, which is not imported."""
    try:
        source = Path(distribution(PACKAGE).locate_file(FOLDER_IN_PACKAGE))
    except PackageNotFoundError:
        raise RuntimeError(
            f"reveal.js is missing: run `make env`, or `pip install --no-deps {PACKAGE}`."
        ) from None
    for part in PARTS:
        file = folder / part
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / part, file)


def talk(notebook: NotebookNode, name: str, notes: Mapping[str, str]) -> str:
    """A notebook as one HTML file, which needs the folder of `copy_reveal` beside it.

    A cell's slide type says where it goes: `slide` begins a section, `subslide` a slide of it,
    `fragment` appears at a key press, `-` goes on, `notes` is for the teacher, `skip` is left out.
    `notes` has more for the teacher, as Markdown, by the id of the cell that it goes with.
    The notebook is changed in place.
    """
    exporter = Exporter(
        template_name="slides",
        extra_template_basedirs=[str(run.TEMPLATES)],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        reveal_url_prefix=REVEAL,
        reveal_theme="white",
        reveal_width=str(WIDTH),
        reveal_height=str(HEIGHT),
    )
    resources = {"metadata": {"name": run.introduction(notebook, name)[0]}}
    for cell in code_cells(tidy(notebook)):
        cell.source = cell.source.replace("\n\n\n", "\n\n")  # blank lines, scarce on a slide
        if cell.source.count("\n") >= LONGEST_WITH_FIGURE and any(map(picture, cell.outputs)):
            cell.source = ""  # the figure has the slide for itself
    hidden = {"slideshow": {"slide_type": "notes"}}
    for place, cell in reversed(list(enumerate(notebook.cells))):
        if cell.id in notes:
            notebook.cells.insert(place + 1, new_markdown_cell(notes[cell.id], metadata=hidden))
    return exporter.from_notebook_node(notebook, resources)[0]


class Exporter(run.Exporter, SlidesExporter):
    """nbconvert's exporter of slides with our renderer of formulas."""

    def default_filters(self) -> Iterator[tuple[str, Callable]]:
        """nbconvert's filters, and the size of a figure."""
        yield from super().default_filters()
        yield "size", size


def size(image: str) -> tuple[int, int]:
    """Width and height of a figure (base64) in pixels."""
    return Image.open(io.BytesIO(base64.b64decode(image))).size


def write_list(folder: Path) -> None:
    """Write the page that lists the talks in `folder`."""
    talks = []
    for path in find():
        if (folder / f"{path.stem}.html").exists():
            title, sentence, _ = run.introduction(read(path), path.stem)
            talks.append(Talk(path.stem, title, sentence, (folder / f"{path.stem}.pdf").exists()))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(run.TEMPLATES / "slides"), autoescape=True
    )
    page = environment.get_template("list.html.j2").render(talks=talks)
    (folder / "index.html").write_text(page, encoding="utf-8")


@contextmanager
def chromium() -> Iterator["Browser"]:
    """The Chromium or Chrome of this computer, without a window, driven by playwright."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ModuleNotFoundError:
        raise RuntimeError(
            "playwright is missing: run `make env`, or `pip install playwright`."
        ) from None
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(
                executable_path=found,
                channel=None if found else "chrome",
                args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
            )
        except Error:
            raise RuntimeError(
                "Chromium is missing: install it (on Debian or Ubuntu, `apt install chromium`) or Chrome."
            ) from None
        try:
            yield browser
        finally:
            browser.close()


def print_handouts(talks: list[Path], browser: "Browser") -> None:
    """Print each talk to a PDF beside it, a slide on a page."""
    for path in talks:
        page = browser.new_page()
        page.goto(f"{path.as_uri()}?print-pdf")
        page.wait_for_selector(".pdf-page")
        page.evaluate("document.fonts.ready")
        page.pdf(path=path.with_suffix(".pdf"), prefer_css_page_size=True, print_background=True)
        page.close()


if __name__ == "__main__":
    sys.exit(main())
