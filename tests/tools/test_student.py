"""The versions for a class: nothing given away, nothing else lost, and a wrong answer never passes."""

import copy
import re
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools.address import BADGES, read_address
from tools.notebooks import code_cells, find
from tools.student import (
    CHECK,
    exercises_import,
    filled,
    function_name,
    main,
    otter_tests,
    role,
    solved_version,
    student_version,
)

EVERY = pytest.mark.parametrize("path", find(), ids=lambda path: path.stem)
WHERE_THE_SOLUTIONS_ARE = re.compile(
    rf"{re.escape(read_address().repository)}|colab\.research|mybinder|nbviewer"
)
NBGRADER = {"schema_version", "grade_id", "grade", "locked", "solution", "task"}  # points as well


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


@EVERY
def test_the_student_version_gives_nothing_away(path):
    student = student_version(read(path))
    assert not [cell.id for cell in student.cells if "solution" in cell.metadata.get("tags", [])]
    assert not [
        cell.id for cell in student.cells if re.search(r"(?i)\bsolution|_solution\b", cell.source)
    ]
    prose = [cell for cell in student.cells if cell.cell_type == "markdown"]
    assert not [cell.id for cell in prose if WHERE_THE_SOLUTIONS_ARE.search(cell.source)]
    assert not [cell.id for cell in code_cells(student) if cell.outputs or cell.execution_count]


@EVERY
def test_the_student_version_keeps_all_else(path):
    full, student = read(path), student_version(read(path))
    nbformat.validate(student)
    kept = [cell for cell in full.cells if "solution" not in cell.metadata.get("tags", [])]
    assert [cell.id for cell in student.cells] == [cell.id for cell in kept]
    assert [cell.source for cell in student.cells[1:]] == [cell.source for cell in kept[1:]]
    assert [c.metadata.slideshow for c in student.cells] == [c.metadata.slideshow for c in kept]
    assert student.metadata == full.metadata
    assert BADGES.sub("", full.cells[0].source).split() == student.cells[0].source.split()


@EVERY
def test_nbgrader_knows_stubs_and_checks(path):
    student = student_version(read(path))
    marked = [cell for cell in student.cells if "nbgrader" in cell.metadata]
    assert marked == [cell for cell in student.cells if role(cell)]
    ids = [cell.metadata["nbgrader"]["grade_id"] for cell in marked]
    assert len(set(ids)) == len(ids) >= 4 and all(re.fullmatch(r"[\w-]+", name) for name in ids)
    for cell in marked:
        marks, check = dict(cell.metadata["nbgrader"]), role(cell) == "check"
        assert marks.pop("points", None) == (1 if check else None)
        assert marks.keys() == NBGRADER and marks["schema_version"] == 3 and not marks["task"]
        assert (marks["grade"], marks["locked"], marks["solution"]) == (check, check, not check)
        assert cell.metadata.get("editable", True) is not check and not cell.metadata.deletable


@EVERY
def test_without_what_stands_between_the_marks_the_solved_version_is_the_student_version(path):
    notebook = read(path)
    solved, student = solved_version(notebook), student_version(notebook)
    for cell in code_cells(solved):
        cell.source = re.sub(
            r" *### BEGIN SOLUTION\n.*### END SOLUTION",
            "    raise NotImplementedError",
            cell.source,
            flags=re.DOTALL,
        )
        hidden = r"\n?### BEGIN HIDDEN TESTS\n.*?### END HIDDEN TESTS\n?"
        cell.source = re.sub(hidden, "", cell.source, flags=re.DOTALL)
    assert solved == student


@EVERY
def test_the_original_stays_as_it_is(path):
    notebook = read(path)
    before = copy.deepcopy(notebook)
    solved_version(notebook)
    assert notebook == before


@EVERY
def test_otter_has_a_test_of_every_stub(path):
    notebook = read(path)
    stubs = [function_name(cell.source) for cell in code_cells(notebook) if role(cell) == "stub"]
    assert list(otter_tests(notebook)) == stubs


IMPORT = "from course_utils.exercises import overview as exercises"
STUB = "def merge_instances(masks, labels):\n    raise NotImplementedError"
RIGHT = "def merge_instances(masks, labels):\n    return (masks * labels[:, None, None]).sum(dim=0)"
ZERO = "def merge_instances(masks, labels):\n    return 0 * labels.sum() * masks.any(dim=0).long()"
WARNS = RIGHT.replace("    return", "    import warnings\n    warnings.warn('old')\n    return")
PASSES = "exercises.check_merge_instances(merge_instances)"


def example() -> NotebookNode:
    """A notebook with one exercise."""
    solution = RIGHT.replace("merge_instances", "merge_instances_solution")
    hidden = {"tags": ["solution"], "jupyter": {"source_hidden": True}}
    return new_notebook(
        cells=[
            new_markdown_cell("# An example"),
            new_code_cell(IMPORT),
            new_code_cell(STUB),
            new_code_cell(PASSES, outputs=[new_output("stream", text="Not attempted yet")]),
            new_code_cell(
                f"{solution}\n\n\n{PASSES.replace('instances)', 'instances_solution)')}",
                metadata=hidden,
            ),
            new_markdown_cell("So merges the solution.", metadata={"tags": ["solution"]}),
        ]
    )


def run(*sources: str) -> dict:
    """The names that the sources define, one after the other."""
    names = {}
    for source in sources:
        exec(source, names)
    return names


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (RIGHT, None),
        (WARNS, None),
        (ZERO, "Not yet: for one object of class 3"),
        (STUB, "Not attempted yet"),
        ("merge_instances = None", "Not yet"),
    ],
    ids=["right", "right, with a warning", "wrong", "stub", "no function"],
)
@pytest.mark.filterwarnings("ignore:old")
def test_a_grader_sees_an_error_where_a_student_reads_a_sentence(
    answer, complaint, monkeypatch, as_student
):
    solved, tests = solved_version(example()), otter_tests(example())
    hidden = code_cells(solved)[2].source
    decorators = ModuleType("otter.test_files")
    decorators.test_case = lambda: lambda function: function
    monkeypatch.setitem(sys.modules, "otter", ModuleType("otter"))
    monkeypatch.setitem(sys.modules, "otter.test_files", decorators)
    names, otter = run(IMPORT, answer), run(tests["merge_instances"])
    assert otter["name"] == "merge_instances" and otter["points"] == 1 and not otter["OK_FORMAT"]
    if complaint is None:
        exec(hidden, names)
        otter["passes"](names["merge_instances"])
    else:
        with pytest.raises(AssertionError, match=complaint):
            exec(hidden, names)
        with pytest.raises(AssertionError, match=complaint):
            otter["passes"](names["merge_instances"])


def test_no_warning_reaches_nbgrader(recwarn):
    """It reads standard error, where warnings go, as a failure."""
    exec(code_cells(solved_version(example()))[2].source, run(IMPORT, WARNS))
    assert not recwarn.list


def test_prose_about_a_solution_goes_with_it():
    assert [cell.cell_type for cell in student_version(example()).cells] == [
        "markdown",
        *3 * ["code"],
    ]


def test_a_solution_that_calls_itself_does_so_under_the_name_of_the_stub():
    solution = "def fall_solution(n):\n    # down\n    return fall_solution(n - 1) if n else n"
    stub = filled("def fall(n):\n    raise NotImplementedError", solution)
    assert run(stub)["fall"](3) == 0 and "_solution" not in stub


@pytest.mark.parametrize(
    ("place", "source", "complaint"),
    [
        (2, "def merge_instances(masks):\n    return NotImplementedError", "ends with `raise"),
        (2, f"limit = 3\n\n\n{STUB}", "stub of one function"),
        (4, PASSES, "merge_instances: expected a solution of merge_instances_solution"),
        (4, f"{RIGHT}\n\n\n{PASSES}", "merge_instances: expected a solution"),
        (1, "import torch", "course_utils.exercises import"),
    ],
)
def test_an_exercise_of_another_form_is_refused(place, source, complaint):
    notebook = example()
    notebook.cells[place].source = source
    with pytest.raises(ValueError, match=complaint):
        solved_version(notebook)


def test_a_stub_without_solution_is_refused():
    notebook = example()
    del notebook.cells[4:]
    with pytest.raises(ValueError, match="a solution to each of 1 stubs, got 0"):
        solved_version(notebook)


def test_the_command_writes_notebooks_and_tests(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "student")]) == 0
    assert main(["--out", str(tmp_path / "graders"), "--solutions"]) == 0
    names = [path.name for path in find()]
    assert sorted(path.name for path in (tmp_path / "student").iterdir()) == names
    assert sorted(path.name for path in (tmp_path / "graders").glob("*.ipynb")) == names
    checks = sum(
        len(CHECK.findall(c.source)) for p in find() for c in code_cells(student_version(read(p)))
    )
    assert len(list((tmp_path / "graders" / "otter").glob("*/*.py"))) == checks
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"{len(names)} notebooks without solutions: {tmp_path / 'student'}"
    assert read(tmp_path / "student" / names[0]) == student_version(read(find()[0]))


def test_the_command_names_the_notebook_that_it_refuses(tmp_path, monkeypatch, capsys):
    notebook = example()
    notebook.cells[4].source = PASSES
    path = tmp_path / "00_example.ipynb"
    nbformat.write(notebook, path)
    monkeypatch.setattr("tools.student.find", lambda: [path])
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path / "out"), "--solutions"])
    assert "00_example.ipynb: merge_instances: expected a solution" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_import_of_the_checks_is_found_in_every_notebook():
    for path in find():
        run(exercises_import(read(path)))
