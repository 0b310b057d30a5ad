"""Write the notebooks as a class gets them: the exercises to do, the solutions taken out.

python tools/student.py                to hand out: build/student
python tools/student.py --solutions    for who grades: build/solutions, with the solutions in the stubs'
                                       places, nbgrader's hidden tests, and tests for otter-grader
"""

import argparse
import ast
import copy
import re
import sys
from pathlib import Path

from nbformat import NotebookNode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.address import BADGES
from tools.notebooks import ROOT, code_cells, find, read, write

POINTS = 1  # for each check that passes
STUB = "    raise NotImplementedError"
CHECK = re.compile(r"\bcheck_\w+(?=\()")
IMPORT = re.compile(r"^from course_utils\.exercises import \w+ as exercises$", re.MULTILINE)
TEST = "verdict = {check}\nassert verdict.passed, verdict.message"
HIDDEN = "### BEGIN HIDDEN TESTS\n{lines}\n### END HIDDEN TESTS"
QUIET = (
    "import warnings\n\nwarnings.simplefilter('ignore')  # nbgrader takes a warning for an error"
)
OTTER = """{imported}
from otter.test_files import test_case

OK_FORMAT = False
name = "{function}"
points = {points}


@test_case()
def passes({function}):
    {test}
"""


def role(cell: NotebookNode) -> str | None:
    """What a cell is in an exercise: "stub", "check", "solution" (prose about one too) or None."""
    if "solution" in cell.metadata.get("tags", []):
        return "solution"
    if cell.cell_type != "code":
        return None
    if "NotImplementedError" in cell.source:
        return "stub"
    return "check" if CHECK.search(cell.source) else None


def student_version(notebook: NotebookNode) -> NotebookNode:
    """A copy to hand out: without solutions, outputs and badges, which lead to the solutions.

    Stubs and checks carry nbgrader's metadata (its schema 3), so that it knows them when they come
    back; a check cannot be edited by accident. All else stays: ids, slide types, the set-up cell.
    """
    notebook = copy.deepcopy(notebook)
    notebook.cells = [cell for cell in notebook.cells if role(cell) != "solution"]
    first = notebook.cells[0]
    first.source = re.sub(r"\n{3,}", "\n\n", BADGES.sub("", first.source))
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
        if role(cell) == "stub":
            cell.metadata |= _graded(function_name(cell.source), check=False)
        if role(cell) == "check":
            cell.metadata |= _graded(CHECK.search(cell.source)[0], check=True)
    return notebook


def _graded(grade_id: str, check: bool) -> dict:
    """What nbgrader, and JupyterLab, want to know of a stub or a check."""
    nbgrader = {
        "schema_version": 3,
        "grade_id": grade_id,
        "grade": check,
        "locked": check,
        "solution": not check,
        "task": False,
    }
    if check:
        return {"nbgrader": nbgrader | {"points": POINTS}, "deletable": False, "editable": False}
    return {"nbgrader": nbgrader, "deletable": False}


def solved_version(notebook: NotebookNode) -> NotebookNode:
    """The student version with solutions in the stubs' places and checks that raise an error.

    What it has more than the student version stands between nbgrader's marks, so that
    `nbgrader generate_assignment` makes the one from the other.

    Raises:
        ValueError: an exercise is not a stub, a check and a solution of the usual form.
    """
    solved = student_version(notebook)
    solutions = [cell.source for cell in code_cells(notebook) if role(cell) == "solution"]
    stubs = [cell for cell in code_cells(solved) if role(cell) == "stub"]
    if len(solutions) != len(stubs):
        raise ValueError(f"expected a solution to each of {len(stubs)} stubs, got {len(solutions)}")
    for stub, solution in zip(stubs, solutions):
        stub.source = filled(stub.source, solution)
    for cell in code_cells(solved):
        if role(cell) == "check":
            test = f"{exercises_import(notebook)}\n{TEST.format(check=cell.source)}"
            hidden = (HIDDEN.format(lines=lines) for lines in (QUIET, test))
            cell.source = f"\n{cell.source}\n".join(hidden)
    return solved


def filled(stub: str, solution: str) -> str:
    """The stub with the lines of the solution, in nbgrader's marks, where it raised an error.

    >>> print(
    ...     filled(
    ...         "def one():\\n    raise NotImplementedError",
    ...         "def one_solution():\\n    return 1\\n\\n\\nexercises.check_one(one_solution)",
    ...     )
    ... )
    def one():
        ### BEGIN SOLUTION
        return 1
        ### END SOLUTION
    """
    name = function_name(stub)
    twin, *rest = ast.parse(solution).body
    only_checks = all(CHECK.match(ast.unparse(node).partition(".")[2]) for node in rest)
    if not isinstance(twin, ast.FunctionDef) or twin.name != f"{name}_solution" or not only_checks:
        raise ValueError(f"{name}: expected a solution of {name}_solution and its check alone")
    lines = solution.splitlines()[twin.body[0].lineno - 1 : twin.end_lineno]
    body = "\n".join(lines).replace(f"{name}_solution", name)
    return stub.replace(STUB, f"    ### BEGIN SOLUTION\n{body}\n    ### END SOLUTION")


def function_name(stub: str) -> str:
    """The name of the one function of a stub."""
    match ast.parse(stub).body:
        case [ast.FunctionDef(name=name)] if stub.endswith(STUB):
            return name
    raise ValueError(f"expected a stub of one function that ends with `{STUB.strip()}`, got {stub}")


def exercises_import(notebook: NotebookNode) -> str:
    """The line that imports the notebook's checks."""
    for cell in code_cells(notebook):
        if found := IMPORT.search(cell.source):
            return found[0]
    raise ValueError("expected a line `from course_utils.exercises import ... as exercises`")


def otter_tests(notebook: NotebookNode) -> dict[str, str]:
    """Otter-grader's test files, which say the same as the checks: the function's name, the text."""
    tests = {}
    for cell in code_cells(notebook):
        if role(cell) == "stub":
            function = function_name(cell.source)
        if role(cell) == "check":
            test = TEST.format(check=cell.source).replace("\n", "\n    ")
            tests[function] = OTTER.format(
                imported=exercises_import(notebook), function=function, points=POINTS, test=test
            )
    return tests


def release(path: Path, out: Path, solutions: bool) -> None:
    """Write the student's or the grader's version of the notebook at `path` into the folder `out`."""
    notebook = read(path)
    try:
        version = solved_version(notebook) if solutions else student_version(notebook)
        tests = otter_tests(notebook) if solutions else {}
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
    out.mkdir(parents=True, exist_ok=True)
    write(out / path.name, version)
    for function, text in tests.items():
        file = out / "otter" / path.stem / f"{function}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder to write to")
    parser.add_argument("--solutions", action="store_true", help="write the grader's versions")
    options = parser.parse_args(arguments)
    kind = "solutions" if options.solutions else "student"
    out, paths = options.out or ROOT / "build" / kind, find()
    try:
        for path in paths:
            release(path, out, options.solutions)
    except ValueError as error:
        parser.error(str(error))
    words = "with the solutions and their tests" if options.solutions else "without solutions"
    print(f"{len(paths)} notebooks {words}: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
