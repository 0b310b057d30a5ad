"""Write the repository's address, which stands in pyproject.toml only, into every notebook.

python tools/address.py            renew each notebook's badge line and set-up cell, and README's badges
python tools/address.py --check    change nothing; exit status 1 where something is out of date

The links and the set-up cell name a release, so that students get what was tested and not what was
pushed last: the tag `v` + the version, or the tag or commit in `[tool.course] release`. A tag is the better
choice: it can be written down before it is set, so the notebooks of a release name that same release.
"""

import argparse
import re
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.notebooks import ROOT, code_cells, find, read, write

README = ROOT / "README.md"
TEMPLATE = ROOT / "tools" / "setup_cell.py"
MARK = "# Set-up:"  # how the set-up cell begins
BADGES = re.compile(r"^\[Open in Colab\]\(.*$", re.MULTILINE)
GITHUB = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+?")
RELEASE = re.compile(r"v\d[\w.-]*|[0-9a-f]{40}")


class Address(NamedTuple):
    """Where the course lives."""

    repository: str  # https://github.com/owner/name
    release: str  # a tag, v0.1.0, or a whole commit


def read_address(pyproject: Path = ROOT / "pyproject.toml") -> Address:
    """The address in `[project.urls] Repository`, and the release.

    Raises:
        ValueError: one of them is missing, the address is not that of a GitHub repository, or the
            release is a branch, which moves.
    """
    try:
        tables = tomllib.loads(pyproject.read_text(encoding="utf-8"))
        repository = tables["project"]["urls"]["Repository"].removesuffix("/").removesuffix(".git")
        release = tables["tool"]["course"].get("release") or f"v{tables['project']['version']}"
    except KeyError as error:
        raise ValueError(
            f"{pyproject.name}: expected [project] version, [project.urls] Repository and [tool.course]"
        ) from error
    except ValueError as error:
        raise ValueError(f"{pyproject.name} cannot be read: {error}") from error
    if not GITHUB.fullmatch(repository):
        raise ValueError(
            f"{pyproject.name}: expected https://github.com/owner/name, got {repository}"
        )
    if not RELEASE.fullmatch(release):
        raise ValueError(
            f"{pyproject.name}: release: expected a tag such as v1.0 or a whole commit, got {release}"
        )
    return Address(repository, release)


def setup_source(address: Address) -> str:
    """The text of the set-up cell, the same in every notebook."""
    archive = f"{address.repository}/archive/{address.release}.zip"
    return TEMPLATE.read_text(encoding="utf-8").strip().replace("{archive}", archive)


def badges(address: Address, file_name: str) -> str:
    """The badge line of a notebook: plain links, which look right without a network."""
    name = address.repository.removeprefix("https://github.com/")
    path = f"blob/{address.release}/notebooks/{file_name}"
    binder = f"https://mybinder.org/v2/gh/{name}/{address.release}"
    links = {
        "Open in Colab": f"https://colab.research.google.com/github/{name}/{path}",
        "Open in Binder": f"{binder}?labpath=notebooks%2F{file_name}",
        "See it on nbviewer": f"https://nbviewer.org/github/{name}/{path}",
        "See it on GitHub": f"{address.repository}/{path}",
    }
    return " · ".join(f"[{words}]({link})" for words, link in links.items())


def renew_readme(text: str, address: Address) -> str:
    """The README with its badge line, which opens the first notebook, up to date."""
    return BADGES.sub(lambda _: badges(address, find()[0].name), text)


def renew(notebook: NotebookNode, file_name: str, address: Address) -> bool:
    """Bring the badge line and the set-up cell up to date, in place.

    The badge line goes below the title where there is none yet; the set-up cell, known by how it
    begins, goes before the first code cell.

    Returns:
        Whether anything changed.

    Raises:
        ValueError: the notebook does not begin with a Markdown cell.
    """
    before, line = nbformat.writes(notebook), badges(address, file_name)
    if not notebook.cells or notebook.cells[0].cell_type != "markdown":
        raise ValueError(f"{file_name}: expected a Markdown cell with the title at the beginning")
    first = notebook.cells[0]
    if BADGES.search(first.source):
        first.source = BADGES.sub(lambda _: line, first.source)
    else:
        title, _, rest = first.source.partition("\n")
        first.source = f"{title}\n\n{line}\n\n{rest.lstrip()}".rstrip()
    source = setup_source(address)
    cells = (cell for cell in code_cells(notebook) if cell.source.startswith(MARK))
    known = next(cells, None)
    if known is None:
        place = next(
            (i for i, c in enumerate(notebook.cells) if c.cell_type == "code"), len(notebook.cells)
        )
        slide = {"slideshow": {"slide_type": "skip"}}
        known = nbformat.v4.new_code_cell(source, id="set-up", metadata=slide)
        notebook.cells.insert(place, known)
    known.source = source
    return nbformat.writes(notebook) != before


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only report")
    check = parser.parse_args(arguments).check
    changed = []
    try:
        address = read_address()
        for path in find():
            notebook = read(path)
            if renew(notebook, path.name, address):
                changed.append(path.name)
                if not check:
                    write(path, notebook)
    except ValueError as error:
        parser.error(str(error))
    text = README.read_text(encoding="utf-8")
    if (renewed := renew_readme(text, address)) != text:
        changed.append(README.name)
        if not check:
            README.write_text(renewed, encoding="utf-8")
    for name in changed:
        print(f"{'out of date' if check else 'renewed'}: {name}")
    return 1 if check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
