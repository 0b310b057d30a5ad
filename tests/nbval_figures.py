"""Strict `pytest --nbval`: every stored output of every cell against a fresh run, figures included.

nbval by itself skips images, widgets and output metadata, obeys tags that switch a check off, and
takes outputs that a cell clears or a widget captures for real ones. Here the cells run as `make
notebooks` runs them, the outputs must be the same in number, order, kind and text, and figures are
compared by pixels.
There are two ways out: a comment line `# NBVAL_IGNORE_OUTPUT` in the cell, for a timing, and the tag
`nbval-ignore-output`, for a training that is shown live. The code cell after a tagged one must show the
recorded run (it calls `read_record` or `record_tensors`), and is compared.

A figure passes when its size is the same and no more differs than rounding does on another machine:
less than STRONG_SHARE of its pixels by more than STRONG grey levels in a channel, nowhere more than
BLOCK_PIXELS of those within BLOCK x BLOCK pixels (one digit of a score changes more), and less than
FAINT_SHARE of its pixels by more than FAINT levels.
"""

import ast
import base64
import copy
import io
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbval.plugin import IPyNbCell, IPyNbFile
from PIL import Image
from scipy.ndimage import uniform_filter

from tools.notebooks import running, without_widgets

STRONG, STRONG_SHARE = 24, 0.0005
BLOCK, BLOCK_PIXELS = 16, 15
FAINT, FAINT_SHARE = 4, 0.005
IGNORE = "# NBVAL_IGNORE_OUTPUT"
LIVE = "nbval-ignore-output"


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> Iterator[None]:
    """Take the place of nbval's notebook collector."""
    collectors = yield
    return [
        StrictNotebook.from_parent(parent, path=file_path)
        if isinstance(collector, IPyNbFile)
        else collector
        for collector in collectors
    ]


class StrictNotebook(IPyNbFile):
    """A notebook whose cells run in one fresh kernel, in order."""

    def collect(self) -> Iterator["StrictCell"]:
        """One test for each code cell."""
        for cell in super().collect():
            yield StrictCell.from_parent(
                self, name=cell.name, cell_num=cell.cell_num, cell=cell.cell, options=cell.options
            )

    def setup(self) -> None:
        """Start the kernel."""
        self.kernel_life = ExitStack()
        self.client = self.kernel_life.enter_context(
            running(copy.deepcopy(self.nb), self.path.parent)
        )

    def teardown(self) -> None:
        """End the kernel."""
        self.kernel_life.close()


class StrictCell(IPyNbCell):
    """A code cell that must give what is stored in it."""

    def runtest(self) -> None:
        """Run the cell and compare."""
        fresh, client = copy.deepcopy(self.cell), self.parent.client
        fresh.outputs = []
        try:
            client.execute_cell(fresh, self.parent.nb.cells.index(self.cell))
        except CellExecutionError as error:
            self.raise_cell_error("the cell fails", error.traceback)
        except RuntimeError as error:
            self.raise_cell_error(f"the kernel stopped: {error}")
        if ignores_output(self.cell):
            if problem := live_problem(self.parent.nb.cells, self.cell):
                self.raise_cell_error(problem)
            return
        folder = self.config.rootpath / "build" / "nbval"
        problem = outputs_difference(
            self.cell.outputs, fresh.outputs, folder, f"{self.path.stem}_cell{self.cell_num}"
        )
        if problem:
            self.raise_cell_error(f"{self.path.name}, In [{self.cell.execution_count}]: {problem}")


def ignores_output(cell: NotebookNode) -> bool:
    """Whether a comment line or the tag of a live training takes the outputs out of the comparison."""
    commented = any(line.strip() == IGNORE for line in cell.source.splitlines())
    return commented or LIVE in cell.metadata.get("tags", [])


def live_problem(cells: list[NotebookNode], cell: NotebookNode) -> str | None:
    """What is wrong with a cell that is tagged as a live training, or None.

    Args:
        cells: those of the notebook.
        cell: one of them.
    """
    if LIVE not in cell.metadata.get("tags", []):
        return None
    later = [c for c in cells[cells.index(cell) + 1 :] if c.cell_type == "code"]
    names = {"read_record", "record_tensors"}
    if later and later[0].outputs and not ignores_output(later[0]):
        used = {
            node.id for node in ast.walk(ast.parse(later[0].source)) if isinstance(node, ast.Name)
        }
        if used & names:
            return None
    return f"tagged {LIVE}, but the next code cell does not show the recorded run"


def outputs_difference(
    stored: list[NotebookNode], fresh: list[NotebookNode], folder: Path, name: str
) -> str | None:
    """What differs between the stored outputs of a cell and new ones, or None.

    Args:
        stored: outputs from the file.
        fresh: outputs of this run.
        folder: where pictures of differing figures go.
        name: how their file names begin.
    """
    stored, fresh = (without_widgets(copy.deepcopy(outputs)) for outputs in (stored, fresh))
    before, now = (kinds(outputs) or "no output" for outputs in (stored, fresh))
    if before != now:
        return f"stored {before}, got {now}{_text_of(fresh)}"
    for number, (expected, got) in enumerate(zip(stored, fresh, strict=True)):
        problem = _output_difference(expected, got, folder, f"{name}_{number}")
        if problem:
            return problem
    return None


def kinds(outputs: list[NotebookNode]) -> list[str]:
    """What each output is: its stream's name, or its type with the formats it comes in."""
    return [
        output.name
        if output.output_type == "stream"
        else " + ".join([output.output_type, *sorted(output.get("data", {}))])
        for output in outputs
    ]


def _text_of(outputs: list[NotebookNode]) -> str:
    text = "".join(output.get("text", "") for output in outputs).strip()
    return f"; it printed: {text[-500:]}" if text else ""


def _output_difference(
    expected: NotebookNode, got: NotebookNode, folder: Path, name: str
) -> str | None:
    if expected.output_type == "stream":
        return _text_difference(expected.name, expected.text, got.text)
    for kind, value in expected.get("data", {}).items():
        if kind in ("image/png", "image/jpeg"):
            problem = _image_difference(value, got.data[kind], folder, name)
        else:
            problem = _text_difference(kind, value, got.data[kind])
        if problem:
            return problem
    return _text_difference("metadata", expected.get("metadata", {}), got.get("metadata", {}))


def _text_difference(kind: str, expected: object, got: object) -> str | None:
    if expected == got:
        return None
    expected, got = (
        value if isinstance(value, str) else json.dumps(value, indent=1, sort_keys=True)
        for value in (expected, got)
    )
    return f"{kind} differs\n--- stored\n{expected}\n--- now\n{got}"


def _image_difference(expected: str, got: str, folder: Path, name: str) -> str | None:
    before, after = (_decoded(encoded) for encoded in (expected, got))
    problem = figure_difference(before, after)
    if problem is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"expected": before, "got": after}
    if before.shape == after.shape:
        pictures["diff"] = 255 - _change(before, after)
    for word, pixels in pictures.items():
        Image.fromarray(pixels).save(folder / f"{name}_{word}.png")
    return f"the figure differs: {problem}; see build/nbval/{name}_{'|'.join(pictures)}.png"


def _decoded(encoded: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGBA"))


def _change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.abs(before.astype(np.int16) - after).max(axis=-1).astype(np.uint8)  # [h, w]


def figure_difference(before: np.ndarray, after: np.ndarray) -> str | None:
    """How far two pictures differ beyond the tolerance, or None.

    Args:
        before: the stored picture, uint8 [h, w, channels].
        after: the new one.

    >>> white = np.full((40, 60, 4), 255, dtype=np.uint8)
    >>> figure_difference(white, white - np.uint8(3)) is None
    True
    >>> figure_difference(white, white[:, :50])
    'size was 60 x 40, is 50 x 40'
    """
    if before.shape != after.shape:
        return "size was {1} x {0}, is {3} x {2}".format(*before.shape[:2], *after.shape[:2])
    change = _change(before, after)
    strong = change > STRONG
    densest = round(uniform_filter(strong.astype(float), BLOCK, mode="constant").max() * BLOCK**2)
    problems = []
    if strong.mean() > STRONG_SHARE:
        problems.append(
            f"{strong.mean():.3%} of it by more than {STRONG} levels (at most {STRONG_SHARE:.3%})"
        )
    if densest > BLOCK_PIXELS:
        problems.append(
            f"{densest} such pixels in a {BLOCK} x {BLOCK} block (at most {BLOCK_PIXELS})"
        )
    if (faint := (change > FAINT).mean()) > FAINT_SHARE:
        problems.append(
            f"{faint:.3%} of it by more than {FAINT} levels (at most {FAINT_SHARE:.3%})"
        )
    return "; ".join(problems) or None
