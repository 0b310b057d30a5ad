"""A small course that the tests of several tools share."""

import shutil
from pathlib import Path

import nbformat
import pytest

from tests.tools.lessons import DRAW, FAIL, MOVE, lesson
from tools.notebooks import ROOT


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tools with three notebooks: one good, one that fails, one whose kernel dies."""
    folder = tmp_path_factory.mktemp("course")
    shutil.copytree(ROOT / "tools", folder / "tools")
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "README.md").write_text("# A course\n\n[Open in Colab](https://example.org)\n")
    (folder / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "glossary.md", folder / "docs")
    (folder / "notebooks").mkdir()
    nbformat.write(lesson(DRAW, MOVE), folder / "notebooks" / "00_good.ipynb")
    nbformat.write(lesson("1", FAIL), folder / "notebooks" / "01_failing.ipynb")
    nbformat.write(lesson("import os\n\nos._exit(1)", "1"), folder / "notebooks" / "02_dying.ipynb")
    return folder
