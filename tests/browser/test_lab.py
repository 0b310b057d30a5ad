"""Every notebook in JupyterLab: it runs, its widgets obey mouse and keyboard, and it is readable."""

import shutil
from itertools import product

import nbformat
import pytest

from tests.browser.lab import (
    AT_REST,
    RIGHT_END,
    SCALES,
    VISIBLE_TEXTS,
    WIDER_THAN_THE_PANEL,
    contrast,
    controls,
    describe,
    follows,
    is_whole,
    jupyter_lab,
    move_by_mouse,
    open_notebook,
    picture,
    press,
    run_command,
    until,
)
from tools.notebooks import FOLDER, code_cells, find
from tools.notebooks import picture as kind_of_picture
from tools.slides import chromium

WIDE, NARROW = {"width": 1280, "height": 720}, {"width": 1024, "height": 768}
# Run All Cells takes 20 s to 3 minutes on a quiet computer, and several times that where others work too.
NOTEBOOK_SECONDS = 1200
LEAST_CONTRAST = 4.5  # WCAG AA
LEAST_SCALE = 0.6  # of a figure's own size: its smallest letters are then still 9 pixels
MOVED = "A widget to move: "  # what `explore` leaves as text, followed by the controls' names


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The notebooks without outputs: whatever is seen later comes from the run."""
    copy = tmp_path_factory.mktemp("lab") / "notebooks"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("*.ipynb", ".*"))
    for path in find():
        notebook = nbformat.read(path, as_version=4)
        for cell in code_cells(notebook):
            cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, copy / path.name)
    return copy


@pytest.fixture(scope="module")
def lab(folder):
    with jupyter_lab(folder, folder.parent / "home") as server:
        yield server


@pytest.fixture(scope="module")
def browser():
    with chromium() as driven:
        yield driven


@pytest.fixture(scope="module", params=find(), ids=lambda path: path.stem)
def notebook(request, lab, browser, folder):
    """A page with one notebook after Run All Cells, and the notebook as JupyterLab then saves it."""
    name = request.param.name
    page = browser.new_page(viewport=WIDE)
    open_notebook(page, lab, name)
    run_command(page, "notebook:run-all-cells", NOTEBOOK_SECONDS)
    run_command(page, "docmanager:save", 60)
    saved = nbformat.read(folder / name, as_version=4)
    yield page, saved
    page.close()
    for session in lab.ask("api/sessions"):
        lab.ask(f"api/sessions/{session['id']}", "DELETE")


@pytest.mark.long
def test_all_cells_run_without_an_error(notebook):
    page, saved = notebook
    problems = [
        f"{cell.id}: {output.ename}: {output.evalue}"
        for cell in code_cells(saved)
        for output in cell.outputs
        if output.output_type == "error"
    ]
    assert problems == []
    counts = [cell.execution_count for cell in code_cells(saved)]
    assert counts == list(range(1, len(counts) + 1))
    assert page.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0


@pytest.mark.long
def test_every_picture_is_there_and_described(notebook):
    """JupyterLab keeps a figure's description in the file, as text and as metadata, but puts none on its
    `img`; the pictures of widgets are our own HTML and have theirs."""
    page, saved = notebook
    figures = [
        output for cell in code_cells(saved) for output in cell.outputs if kind_of_picture(output)
    ]
    shown = page.locator(".jp-RenderedImage img")
    assert until(page, lambda: shown.count() == len(figures), 30), f"{shown.count()} are shown"
    for figure in figures:
        alt = figure.metadata[kind_of_picture(figure)]["alt"]
        assert alt.strip() and figure.data["text/plain"] == alt
    in_widgets = page.locator(".widget-html img").all()
    assert all(image.get_attribute("alt").strip() for image in in_widgets)
    assert until(page, lambda: is_whole(page.locator(".jp-Notebook")), 30)


@pytest.mark.long
def test_every_widget_follows_mouse_and_keyboard(notebook):
    page, saved = notebook
    cells, problems = page.locator(".jp-Notebook .jp-Cell"), []
    assert cells.count() == len(saved.cells)
    for number, stored in enumerate(saved.cells):
        texts = [o.get("data", {}).get("text/plain", "") for o in stored.get("outputs", [])]
        names = [name for text in texts if text.startswith(MOVED) for name in words(text)]
        if not names:
            continue
        cell = cells.nth(number)
        if not until(page, lambda cell=cell, names=names: labels(cell) == names, 30):
            problems.append(f"{stored.id}: expected {names}, got {labels(cell)}")
        shown = {picture(cell)[1]}
        for control, move in product(controls(cell), (move_by_mouse, press)):
            if wrong := follows(cell, control, move):
                problems.append(f"{stored.id}, {describe(control)}, {move.__name__}: {wrong}")
            shown.add(picture(cell)[1])
            if not picture(cell)[0]:
                break  # a widget without a picture has nothing more to tell
        if len(shown) == 1:  # that one control changes nothing may be the point of a widget
            problems.append(f"{stored.id}: the picture stays the same, whatever is moved")
    assert not problems, "\n".join(problems)


def labels(cell):
    """The names of the sliders and dropdowns below a cell."""
    return [name for name in map(describe, controls(cell)) if name != "Play"]


def words(text: str) -> list[str]:
    """The controls' names, out of the text that `explore` leaves."""
    return text.removeprefix(MOVED).split(", ")


@pytest.mark.long
@pytest.mark.parametrize("theme", ["JupyterLab Dark", "JupyterLab Light"])
def test_outputs_and_widgets_are_readable_in_both_themes(notebook, theme):
    """Text on the page stands out from it. Figures bring their own white, so that no theme touches them, and
    the colours of code are JupyterLab's."""
    page, _ = notebook
    run_command(page, "apputils:change-theme", 30, theme=theme)
    assert until(page, lambda: page.locator(f"body[data-jp-theme-name='{theme}']").count() == 1, 30)
    assert until(page, lambda: page.evaluate(AT_REST), 30), "colours fade and fade"
    texts = {
        (text, color, round(contrast(color, layers), 1))
        for area in page.locator(".jp-OutputArea-output, .jp-RenderedMarkdown").all()
        for text, color, layers in area.evaluate(VISIBLE_TEXTS)
    }
    assert len(texts) > 20, "the page's texts were not found"
    assert [text for text in texts if text[2] < LEAST_CONTRAST] == []


@pytest.mark.long
def test_nothing_is_too_wide_for_a_small_laptop(notebook):
    """Nothing is cut off with the file browser open, and figures keep legible letters without it."""
    page, _ = notebook
    panel = page.locator(".jp-WindowedPanel-outer").first
    images = page.locator(".jp-OutputArea-output img")

    def too_small():
        scales = images.evaluate_all(SCALES)
        return [f"{width} px to {scale:.0%}" for scale, width in scales if scale < LEAST_SCALE]

    page.set_viewport_size(NARROW)
    assert until(page, lambda: panel.evaluate(RIGHT_END) <= NARROW["width"], 30)
    until(page, lambda: panel.evaluate(WIDER_THAN_THE_PANEL) == [], 10)
    too_wide = panel.evaluate(WIDER_THAN_THE_PANEL)
    assert not too_wide, "\n".join(too_wide)
    run_command(page, "filebrowser:hide-main", 30)
    until(page, lambda: too_small() == [], 10)
    assert too_small() == []
    run_command(page, "filebrowser:activate", 30)
    page.set_viewport_size(WIDE)


@pytest.mark.parametrize(
    ("color", "layers", "ratio"),
    [
        ("rgb(0, 0, 0)", ["rgb(255, 255, 255)"], 21),
        ("rgb(118, 118, 118)", ["rgba(0, 0, 0, 0)", "rgb(255, 255, 255)"], 4.54),
        ("rgba(0, 0, 0, 0.87)", ["rgba(0, 0, 0, 0)"], 16.1),
        ("rgb(255, 255, 255)", ["rgba(0, 0, 0, 0.5)", "rgb(0, 0, 0)", "rgb(255, 255, 255)"], 21),
        ("rgb(0, 0, 0)", ["rgb(17, 17, 17)"], 1.11),
    ],
)
def test_contrast(color, layers, ratio):
    assert contrast(color, layers) == pytest.approx(ratio, rel=0.01)
