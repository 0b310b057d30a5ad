"""The address of the course in badges and set-up cells."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tests.tools.lessons import ADDRESS, command, lesson
from tools.address import badges, read_address, renew, renew_readme, setup_source
from tools.notebooks import ROOT


def test_renewing_the_address() -> None:
    notebook = lesson("1")
    assert renew(notebook, "00_x.ipynb", ADDRESS)
    assert notebook.cells[0].source.splitlines()[2] == badges(ADDRESS, "00_x.ipynb")
    assert notebook.cells[2].source == setup_source(ADDRESS) and notebook.cells[3].source == "1"
    assert not renew(notebook, "00_x.ipynb", ADDRESS)
    moved = ADDRESS._replace(repository="https://github.com/someone/else")
    assert renew(notebook, "00_x.ipynb", moved)
    text = nbformat.writes(notebook)
    assert "something/" not in text and text.count("Open in Colab") == 1
    path = "someone/else/blob/v1.0/notebooks/00_x.ipynb"
    for link in (
        f"https://colab.research.google.com/github/{path}",
        "https://mybinder.org/v2/gh/someone/else/v1.0?labpath=notebooks%2F00_x.ipynb",
        f"https://nbviewer.org/github/{path}",
        f"https://github.com/{path}",
    ):
        assert text.count(f"({link})") == 1


def test_renewing_the_readme() -> None:
    text = "# A\n\n[Open in Colab](https://example.org) · [b](c)\n\nMore\n"
    renewed = renew_readme(text, ADDRESS)
    assert renewed == f"# A\n\n{badges(ADDRESS, '00_overview.ipynb')}\n\nMore\n"
    assert renew_readme(renewed, ADDRESS) == renewed


def test_the_readme_opens_the_course_at_the_address_of_pyproject() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count(f"\n{badges(read_address(), '00_overview.ipynb')}\n") == 1
    assert text.count("Open in Colab") == 1


def test_a_new_notebook_gets_badges_below_its_title() -> None:
    notebook = new_notebook(cells=[new_markdown_cell("# Title\nText")])
    assert renew(notebook, "00_x.ipynb", ADDRESS)
    assert notebook.cells[0].source == f"# Title\n\n{badges(ADDRESS, '00_x.ipynb')}\n\nText"
    assert notebook.cells[1].source == setup_source(ADDRESS)
    with pytest.raises(ValueError, match="expected a Markdown cell"):
        renew(new_notebook(cells=[new_code_cell("1")]), "00_x.ipynb", ADDRESS)


def test_address_command(course: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(course, tmp_path / "course")
    assert command(copied, "address.py", "--check").returncode == 1
    renewed = command(copied, "address.py")
    assert (renewed.returncode, renewed.stdout.splitlines()[-1]) == (0, "renewed: README.md")
    assert command(copied, "address.py", "--check").returncode == 0


def pyproject_with(folder: Path, address: str = "https://github.com/a/b", **course: str) -> Path:
    """A pyproject.toml of version 0.3 with this address and these lines in `[tool.course]`."""
    lines = ["[project]", 'version = "0.3"', "[project.urls]", f'Repository = "{address}"']
    lines += ["[tool.course]", *(f'{key} = "{course[key]}"' for key in course)]
    path = folder / "pyproject.toml"
    path.write_text("\n".join(lines))
    return path


def test_cells_and_badges_name_a_release_and_no_branch(tmp_path: Path) -> None:
    commit = "0123456789abcdef" * 2 + "01234567"
    for course, release in (({}, "v0.3"), ({"release": commit}, commit)):
        address = read_address(pyproject_with(tmp_path, **course))
        assert f'"https://github.com/a/b/archive/{release}.zip"' in setup_source(address)
        line = badges(address, "00_x.ipynb")
        assert line.count(f"/blob/{release}/") == 3 and f"/gh/a/b/{release}?" in line
        assert "main" not in line
    with pytest.raises(ValueError, match=r"release: expected a tag .* or a whole commit, got main"):
        read_address(pyproject_with(tmp_path, release="main"))


def test_bad_addresses(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"pyproject.toml: expected https://github.com/"):
        read_address(pyproject_with(tmp_path, "https://gitlab.com/a/b"))
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text("[project]\n")
    with pytest.raises(ValueError, match=r"pyproject.toml: expected \[project\] version"):
        read_address(pyproject)
    for broken in (b"<<<<<<< HEAD\n", b"\xff\xfe"):
        pyproject.write_bytes(broken)
        with pytest.raises(ValueError, match=r"pyproject.toml cannot be read"):
            read_address(pyproject)
