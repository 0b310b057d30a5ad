"""The versions for a class, run: untouched stubs disturb nothing, and with the solutions all checks pass."""

from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_notebook

from course_utils.exercises.checking import NOT_ATTEMPTED
from tools.notebooks import code_cells, execute, find
from tools.student import main, role, solved_version

pytestmark = pytest.mark.long
EVERY = pytest.mark.parametrize("path", find(), ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where a class finds its notebooks, with nothing of the course beside them."""
    out = tmp_path_factory.mktemp("student")
    assert main(["--out", str(out)]) == 0
    return out


def verdicts(notebook: NotebookNode) -> list[str]:
    """What the checks told, in order; what comes from a stream is told too."""
    return [
        output.get("text") or output.data["text/plain"]
        for cell in code_cells(notebook)
        if role(cell) == "check"
        for output in cell.outputs
    ]


@EVERY
def test_a_notebook_that_nobody_touched_runs_to_its_end(path, folder):
    notebook = nbformat.read(folder / path.name, as_version=4)
    execution = execute(notebook, folder)
    assert execution.problem is None
    checks = [cell for cell in code_cells(notebook) if role(cell) == "check"]
    assert verdicts(notebook) == [NOT_ATTEMPTED] * len(checks)


@EVERY
def test_with_the_solutions_in_the_stubs_places_every_check_passes(path, folder):
    """For the student, who reads it, and for nbgrader, for whom a check that fails raises an error."""
    student = nbformat.read(folder / path.name, as_version=4)
    solved = solved_version(nbformat.read(path, as_version=4))
    cells = code_cells(student)[:2]  # set-up, and the names that all sections share
    for cell, answer in zip(student.cells, solved.cells, strict=True):
        cells += {"stub": [answer], "check": [cell, answer]}.get(role(cell), [])
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    notebook = new_notebook(cells=cells, metadata=student.metadata)
    assert execute(notebook, folder).problem is None
    checks = [cell for cell in student.cells if role(cell) == "check"]
    said = verdicts(notebook)  # an open task's says what it measured, too
    assert len(said) == len(checks) and all(line.startswith("Passed: ") for line in said)
