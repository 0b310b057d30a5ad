"""`make run`: the pages, the index, the table, and what happens to them when something fails."""

import base64
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from tests.tools.lessons import command, lesson
from tools import run, slides
from tools.notebooks import Execution, execute_with_progress, store


@pytest.fixture(scope="module")
def site(course: Path) -> tuple[Path, subprocess.CompletedProcess]:
    """The pages of the course and what the run printed."""
    before = {path: path.read_bytes() for path in (course / "notebooks").iterdir()}
    result = command(course, "run.py")
    assert {path: path.read_bytes() for path in (course / "notebooks").iterdir()} == before
    return course / "build" / "site", result


def test_the_table(site: tuple[Path, subprocess.CompletedProcess]) -> None:
    printed = site[1].stdout
    assert re.search(r"^00_good +3/3 cells +\d+ s$", printed, re.MULTILINE), (
        printed + site[1].stderr
    )
    assert re.search(r"^01_failing +1/3 cells", printed, re.MULTILINE)
    assert re.search(r"^00_good +[\d.]+ +\d+ +3 +1 +60 s, 2048 MB +ok$", printed, re.MULTILINE)
    assert re.search(r"^02_dying .* failed$", printed, re.MULTILINE)
    assert "01_failing, In [2]: ValueError: expected\n" in printed
    assert "02_dying, In [1]: DeadKernelError" in printed
    assert "\r" not in printed
    assert site[1].returncode == 1


BROKEN = {
    "empty": "",
    "half": '{"cells": [',
    "conflict": "<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> theirs\n",
    "a list": "[1, 2]",
    "no cells": '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_no_notebook_fails_alone(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "00_broken.ipynb").write_text(BROKEN[name])
    nbformat.write(lesson(), tmp_path / "01_good.ipynb")
    paths = sorted(tmp_path.glob("*.ipynb"))
    done = (
        Execution(lesson(), 1, 1.0, 1, None) if "good" in path.name else execute_with_progress(path)
        for path in paths
    )
    broken, good = run.write_site(tmp_path / "site", [path.stem for path in paths], done)
    assert (broken.verdict, good.verdict) == ("failed", "ok")
    assert broken.problem.startswith("00_broken.ipynb is not a notebook that can be read: ")
    assert "\n" not in broken.problem
    assert "is not a notebook that can be read" in (tmp_path / "site/00_broken.html").read_text()
    assert capsys.readouterr().out.startswith("00_broken ")
    assert store(paths[0]) == broken.problem and paths[0].read_text() == BROKEN[name]


def test_a_page_that_cannot_be_drawn_fails_alone(tmp_path: Path) -> None:
    broken, good = lesson(), lesson()
    broken.cells.append(
        new_code_cell(outputs=[new_output("display_data", {"image/png": "bm8gcGljdHVyZQ=="})])
    )
    done = [Execution(notebook, 1, 1.0, 1, None) for notebook in (broken, good)]
    rows = run.write_site(tmp_path / "site", ["00_broken", "01_good"], done)
    assert [row.verdict for row in rows] == ["failed", "ok"]
    assert rows[0].problem.startswith("cannot be shown: UnidentifiedImageError: ")


def site_of(folder: Path, monkeypatch: pytest.MonkeyPatch, executed) -> Path:
    """A site from an earlier run, where `make run` will make the next; `executed` stands for running."""
    (folder / "build" / "site").mkdir(parents=True)
    (folder / "build" / "site" / "index.html").write_text("the old one")
    monkeypatch.setattr(run, "ROOT", folder)
    monkeypatch.setattr(run, "SITE", folder / "build" / "site")
    monkeypatch.setattr(run, "find", lambda: [folder / "00_x.ipynb"])
    monkeypatch.setattr(run, "execute_with_progress", executed)
    return folder / "build" / "site" / "index.html"


def test_the_old_pages_stay_until_the_new_ones_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def interrupted(path: Path) -> Execution:
        raise KeyboardInterrupt

    page = site_of(tmp_path, monkeypatch, interrupted)
    assert run.main() == 130
    assert capsys.readouterr().err.strip() == (
        "Interrupted; the pages of the last whole run are still there."
    )
    assert page.read_text() == "the old one"
    monkeypatch.setattr(
        run, "execute_with_progress", lambda _: Execution(lesson(), 1, 1.0, 1, None)
    )
    assert run.main() == 0
    assert "A title" in page.read_text()
    assert [path.name for path in page.parents[1].iterdir()] == ["site"]


def test_a_build_folder_that_cannot_be_written_is_told_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    site_of(tmp_path, monkeypatch, lambda path: pytest.fail("ran"))
    shutil.rmtree(tmp_path / "build")
    (tmp_path / "build").touch()
    assert run.main() == 1
    said = capsys.readouterr().err
    assert said.startswith("The pages could not be written: ") and said.count("\n") == 1


def test_the_pages_need_no_network(site: tuple[Path, subprocess.CompletedProcess]) -> None:
    pages = sorted(site[0].glob("*.html"))
    assert [page.stem for page in pages] == [
        "00_good",
        "01_failing",
        "02_dying",
        "glossary",
        "index",
    ]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<script[^>]* src|<link(?![^>]* href=.data:)|@import", text)
        assert not re.search(r"""(?:src=["']|url\(["']?)(?!data:|#)""", text)
        assert not re.search(r"""href=["'](?:file:|/)""", text)
        assert text.count("<script") == (2 if page.stem == "index" else 0)  # the search


def test_a_page(site: tuple[Path, subprocess.CompletedProcess]) -> None:
    text = (site[0] / "00_good.html").read_text(encoding="utf-8")
    assert (
        "an &quot;empty&quot; &lt;plot&gt;" in text or """alt='an "empty" &lt;plot&gt;'""" in text
    )
    body = text[text.index("<main>") :]
    assert body.count("<math") == 2 and "<mfrac>" in body and "$" not in body
    assert re.search(r'<details class="solution">.*hidden.*</details>', text, re.DOTALL)
    assert "something to move" in text and "interactive(children" not in text
    assert text.count('href="01_failing.html" rel="next"') == text.count('href="index.html"') == 2
    assert 'rel="prev"' not in text
    assert "ValueError" in (site[0] / "01_failing.html").read_text(encoding="utf-8")
    assert "Kernel died" in (site[0] / "02_dying.html").read_text(encoding="utf-8")


def test_the_index(site: tuple[Path, subprocess.CompletedProcess]) -> None:
    text = (site[0] / "index.html").read_text(encoding="utf-8")
    for expected in (
        "A title with code",
        "What is here?",
        "7 minutes",
        "runs in",
        "✗ failed",
        "image/png",
    ):
        assert expected in text
    cards = text[: text.index("<script")]
    assert "example.org" not in text and "More" not in cards


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_picture_of_either_kind_is_on_the_page_with_its_description(kind: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (2, 1)).save(file, kind.upper())
    content = base64.b64encode(file.getvalue()).decode()
    mime = f"image/{kind}"
    output = new_output("display_data", {mime: content}, metadata={mime: {"alt": "a < b"}})
    notebook = new_notebook(cells=[new_markdown_cell("# A"), new_code_cell(outputs=[output])])
    row = run.row("00_x", Execution(notebook, 1, 1.0, 1, None))
    assert (row.figures, row.thumbnail_alt) == (1, "a < b") and row.thumbnail
    source = f'src="data:{mime};base64,{content}"'
    for text in (run.page(notebook, "00_x", "", ""), slides.talk(notebook, "00_x", {})):
        [image] = re.findall(r"<img [^>]*>", text)
        assert source in image and re.search('alt="a (<|&lt;) b"', image), image
    assert ' width="2"' in image and ' height="1"' in image  # in the talk


def test_a_cell_that_prepares_is_folded_and_what_it_prints_is_not() -> None:
    cell = new_code_cell(
        "first = 1", metadata={"cellView": "form"}, outputs=[new_output("stream", text="printed\n")]
    )
    notebook = new_notebook(cells=[new_markdown_cell("# A"), cell, new_code_cell("second = 2")])
    text = run.page(notebook, "00_x", "", "")
    [folded] = re.findall(r"<details.*?</details>", text, re.DOTALL)
    assert "Preparation" in folded and "first" in folded
    assert "printed" not in folded and "second" not in folded and "printed" in text


def test_the_glossary_is_a_page_that_leads_to_the_others(
    site: tuple[Path, subprocess.CompletedProcess],
) -> None:
    text = (site[0] / "glossary.html").read_text(encoding="utf-8")
    assert '<a href="02_roi_align.html">02</a>' in text and "../notebooks" not in text
    assert 'href="glossary.html"' in (site[0] / "index.html").read_text(encoding="utf-8")


def test_anchors_and_sections() -> None:
    notebook = new_notebook(
        cells=[
            new_markdown_cell("# A `b` & **c**\n\nFirst $x < 1$.\n\n## By hand"),
            new_code_cell(
                "f('</script>')  # code", outputs=[new_output("stream", text="printed\n")]
            ),
            new_markdown_cell("prose\n\n## By hand\n\n    ## not a heading"),
        ]
    )
    text = run.page(notebook, "00_x", "before", "after")
    assert re.findall(r'<h(.) id="(.*?)">', text) == [
        ("1", "a-b-c"),
        ("2", "by-hand"),
        ("2", "by-hand-2"),
    ]
    assert '<a class="anchor" href="#by-hand-2"' in text
    found = run.sections(text)
    assert found == [
        ("a-b-c", "A b & c", "First x<1."),
        ("by-hand", "By hand", "prose f('</script>') # code printed"),
        ("by-hand-2", "By hand", "## not a heading"),
    ]
    row = run.row("00_x", Execution(notebook, 1, 1.0, 1, None))
    index = run.index([row], {"00_x": found})
    assert index.count("</script>") == 2
    contents = re.search(r'id="contents">(.*?)</script>', index)[1]
    assert json.loads(contents) == {"00_x": [list(section) for section in found]}


@pytest.mark.parametrize(
    ("trains", "seconds", "megabytes", "verdict"),
    [
        (False, 59, 2000, "ok"),
        (False, 61, 100, "over budget"),
        (True, 89, 100, "ok"),
        (True, 91, 100, "over budget"),
        (False, 1, 2049, "over budget"),
    ],
)
def test_verdicts(trains: bool, seconds: float, megabytes: float, verdict: str) -> None:
    notebook = lesson("1")
    notebook.metadata["course"] = {"trains": trains}
    row = run.row("00_x", Execution(notebook, 2, seconds, int(megabytes * 2**20), None))
    assert row.verdict == verdict
    assert row.thumbnail is None
    assert "A title" in run.index([row], {})


def test_course_budget() -> None:
    row = run.row("00_x", Execution(lesson("1"), 2, 59.0, 1, None))
    assert run.table([row] * 12).splitlines()[-1].endswith("720 s")
    assert run.table([row] * 13).splitlines()[-1].endswith("over budget")
