"""An instructor starts anywhere: each section runs after the first two code cells, without the others."""

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools.notebooks import FOLDER, code_cells, execute, find


def sections(notebook: NotebookNode) -> dict[str, list[NotebookNode]]:
    """The code cells of each `## ` section that has some, by its title.

    What comes before the first section, set-up and names, has the title "".
    """
    found: dict[str, list[NotebookNode]] = {"": []}
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            found[cell.source.splitlines()[0].removeprefix("## ")] = []
        elif cell.cell_type == "code":
            found[next(reversed(found))].append(cell)
    return {title: cells for title, cells in found.items() if cells}


def alone(notebook: NotebookNode, title: str) -> NotebookNode:
    """A notebook of the cells before the first section and those of one section."""
    parts = sections(notebook)
    return new_notebook(cells=[*parts[""], *parts[title]], metadata=notebook.metadata)


EVERY_SECTION = [
    pytest.param(path, title, id=f"{path.stem}-{title.partition(' · ')[0]}")
    for path in find()
    for title in sections(nbformat.read(path, as_version=4))
    if title
]


@pytest.mark.long
@pytest.mark.parametrize(("path", "title"), EVERY_SECTION)
def test_section_alone(path, title):
    part = alone(nbformat.read(path, as_version=4), title)
    execution = execute(part, FOLDER)
    cell = code_cells(part)[min(execution.done, len(part.cells) - 1)]
    assert execution.problem is None, f"{path.stem}, {title!r}, cell {cell.id}: {execution.problem}"


def test_every_notebook_has_its_names_before_its_sections():
    for path in find():
        parts = sections(nbformat.read(path, as_version=4))
        assert len(parts[""]) == 2, f"{path.stem}: set-up and names, then the sections"
        assert len(parts) > 3


def example() -> NotebookNode:
    texts = ["# title", "setup = 1", "names = 2", "## 1 · a", "a = names", "### more", "a += 1"]
    texts += ["## 2 · b", "print(a)", "## 3 · words only"]
    return new_notebook(
        cells=[
            new_markdown_cell(text) if text.startswith("#") else new_code_cell(text)
            for text in texts
        ]
    )


def test_a_section_goes_to_the_next_heading_of_its_kind():
    assert [cell.source for cell in alone(example(), "1 · a").cells] == [
        "setup = 1",
        "names = 2",
        "a = names",
        "a += 1",
    ]
    assert list(sections(example())) == ["", "1 · a", "2 · b"]


@pytest.mark.long
def test_a_section_that_needs_another_fails():
    execution = execute(alone(example(), "2 · b"), FOLDER)
    assert execution.problem == "In [3]: NameError: name 'a' is not defined"
