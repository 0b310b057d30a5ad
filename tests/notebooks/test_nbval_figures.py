"""The strict nbval plugin: what repeats passes, whatever changes fails."""

import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from tests.nbval_figures import figure_difference, ignores_output
from tools.notebooks import execute, tidy, write

ROOT = Path(__file__).resolve().parents[2]


def draw(
    colour="tab:blue",
    title="IoU at 0.5",
    score="cat 0.91",
    box=20.0,
    rise=1.0,
    light=0.0,
    dpi=100,
    flipped=0,
) -> np.ndarray:
    """A figure like those of the course: a picture with a mask and a box, and a curve beside it."""
    figure = Figure(figsize=(6.4, 3.2), dpi=dpi)
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    picture = np.random.default_rng(0).uniform(0.3, 0.7, (64, 64, 3)) + light
    mask = np.zeros((64, 64))
    mask[20:40, 20:40] = 1
    mask[19, 25 : 25 + flipped] = 1
    left.imshow(picture)
    left.imshow(mask, alpha=0.5)
    left.add_patch(Rectangle((box, 20), 20, 20, fill=False, edgecolor="red"))
    left.text(20, 19, score, fontsize=9)
    left.set_title(title)
    right.plot(np.exp(-np.linspace(0, 3, 40)) * rise, color=colour, linewidth=1)
    file = io.BytesIO()
    figure.savefig(file, bbox_inches="tight")
    return np.asarray(Image.open(file).convert("RGBA"))


@pytest.mark.parametrize("dpi", [100, 144])
@pytest.mark.parametrize(
    "noise", [{}, {"rise": 1 + 1e-4}, {"box": 20 + 2e-4}, {"light": 1e-3}], ids=str
)
def test_rounding_passes(noise: dict, dpi: int) -> None:
    assert figure_difference(draw(dpi=dpi), draw(dpi=dpi, **noise)) is None


@pytest.mark.parametrize("dpi", [100, 144])
@pytest.mark.parametrize(
    "change",
    [
        {"colour": "tab:orange"},
        {"colour": "#1f77f4"},
        {"title": "IoU at 0.6"},
        {"title": "IoU at 0.55"},
        {"score": "cat 0.92"},
        {"box": 20.5},
        {"box": 21.0},
        {"rise": 1.02},
        {"light": 0.05},
        {"flipped": 3},
    ],
    ids=str,
)
def test_a_change_fails(change: dict, dpi: int) -> None:
    assert figure_difference(draw(dpi=dpi), draw(dpi=dpi, **change)) is not None


def test_one_label_in_a_map_may_tip() -> None:
    assert figure_difference(draw(), draw(flipped=1)) is None


def test_another_size_fails() -> None:
    assert figure_difference(draw(), draw(dpi=101)).startswith("size was")


def test_only_a_comment_line_or_the_tag_ignores() -> None:
    assert ignores_output(new_code_cell("x = 1\n    # NBVAL_IGNORE_OUTPUT\nx"))
    assert ignores_output(new_code_cell("x", metadata={"tags": ["nbval-ignore-output"]}))
    assert not ignores_output(new_code_cell('print("# NBVAL_IGNORE_OUTPUT")'))
    assert not ignores_output(new_code_cell("x  # NBVAL_IGNORE_OUTPUT"))


PREPARE = """import sys
import ipywidgets
import matplotlib.pyplot as plt
from IPython.display import HTML, clear_output, display

def plot(colour="tab:blue", title="loss", box=1.0, scale=1.0, alt="a curve and a box"):
    figure, axes = plt.subplots(figsize=(4, 3))
    axes.plot([0, scale, 2], [0, 1, 4], color=colour, linewidth=1)
    axes.add_patch(plt.Rectangle((box, 1), 0.5, 1, fill=False))
    axes.set_title(title)
    plt.close(figure)
    display(figure, metadata={"image/png": {"alt": alt}})

def bar(done):
    print("step", done)
    clear_output(wait=True)

def read_record(name):
    print(name)

def slider(value):
    ipywidgets.interact(lambda x: print(x), x=ipywidgets.FloatSlider(value=value))"""

# What was stored, what the cell says now, whether that passes.
CELLS = {
    "the same figure": ("plot()", "plot()", True),
    "a figure with rounding": ("plot()", "plot(scale=1 + 1e-6)", True),
    "another colour": ("plot()", 'plot("tab:green")', False),
    "another title": ("plot()", 'plot(title="lost")', False),
    "a moved box": ("plot()", "plot(box=1.03)", False),
    "a missing figure": ("plot()", "pass", False),
    "an unexpected figure": ("pass", "plot()", False),
    "one figure more": ("plot()", "plot(); plot()", False),
    "another alt text": ("plot()", 'plot(alt="a curve")', False),
    "the same text": ('print("a"); 1 + 1', 'print("a"); 2', True),
    "another text": ('print("0.51")', 'print("0.52")', False),
    "another result": ("1 + 1", "1 + 2", False),
    "printed instead of returned": ('"a"', "print(\"'a'\")", False),
    "nothing where text was": ('print("a")', "pass", False),
    "text where nothing was": ("pass", 'print("a")', False),
    "another number in HTML": ('HTML("<b>0.51</b>")', 'HTML("<b>0.52</b>")', False),
    "a warning that was not stored": ("pass", 'print("careful", file=sys.stderr)', False),
    "the same widget": ("slider(5)", "slider(5)", True),
    "another widget": ("slider(5)", "slider(6)", False),
    "a bar that disappears": (
        'bar(1); bar(2); print("done")',
        'bar(3); bar(4); print("done")',
        True,
    ),
    "ignored by a comment": ("# NBVAL_IGNORE_OUTPUT\n1", "# NBVAL_IGNORE_OUTPUT\n2", True),
    "live, above its record": ("1", "2", True),
    "the record": ("read_record('a')", "read_record('a')", True),
    "live, above a record that changed": ("1", "2", True),
    "a record that changed": ("read_record('a')", "read_record('b')", False),
    "live, above no record": ("1", "2", False),
    "not skipped by a comment": ("# NBVAL_SKIP\n1", "# NBVAL_SKIP\n2", False),
    "an error": ("pass", "1 / 0", False),
}


@pytest.fixture(scope="module")
def strict_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bool], str, Path]:
    """Which cells of a changed notebook pass, what pytest printed, and the folder it ran in."""
    folder = tmp_path_factory.mktemp("strict")
    path = folder / "changed.ipynb"
    sources = [PREPARE, *(before for before, _, _ in CELLS.values())]
    notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
    assert execute(notebook, folder).problem is None
    tidy(notebook)
    for cell, (name, (_, after, _)) in zip(notebook.cells[1:], CELLS.items(), strict=True):
        cell.source = after
        if name.startswith("live"):
            cell.metadata["tags"] = ["nbval-ignore-output"]
        if name == "an error":
            cell.metadata["tags"] = ["raises-exception"]
    write(path, notebook)
    (folder / "pytest.ini").write_text("[pytest]\n")
    options = [
        "-p",
        "tests.nbval_figures",
        "--nbval",
        "-rA",
        "--color=no",
        "-c",
        folder / "pytest.ini",
    ]
    command = [sys.executable, "-m", "pytest", *options, path]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    verdicts = re.findall(r"^(PASSED|FAILED) .*?::Cell (\d+)", run.stdout, re.MULTILINE)
    passed = {int(number): word == "PASSED" for word, number in verdicts}
    assert sorted(passed) == list(range(len(sources))), run.stdout + run.stderr
    return {name: passed[n] for n, name in enumerate(["prepare", *CELLS])}, run.stdout, folder


@pytest.mark.parametrize("name", CELLS)
def test_a_cell(name: str, strict_run: tuple[dict[str, bool], str, Path]) -> None:
    assert strict_run[0]["prepare"]
    assert strict_run[0][name] == CELLS[name][2]


def test_a_failure_names_the_cell_and_shows_the_figures(
    strict_run: tuple[dict[str, bool], str, Path],
) -> None:
    _, printed, folder = strict_run
    number = 1 + list(CELLS).index("another colour")
    assert f"changed.ipynb, In [{number + 1}]: the figure differs" in printed
    for word in ("expected", "got", "diff"):
        assert (folder / f"build/nbval/changed_cell{number}_0_{word}.png").is_file()
