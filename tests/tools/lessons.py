"""Small notebooks, an address, and how the tests call a tool."""

import subprocess
import sys
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools.address import Address

DRAW = """import matplotlib.pyplot as plt
from IPython.display import display

figure, axes = plt.subplots(figsize=(2, 1))
plt.close(figure)
display(figure, metadata={"image/png": {"alt": 'an "empty" <plot>'}})"""
MOVE = "import ipywidgets\n\n_ = ipywidgets.interact(lambda x: print(x), x=3)"
FAIL = "raise ValueError('boxes:\\nexpected')"
FORMULA = r"For $a < b$: $$\mathcal{L} = \sum_i \frac{|A \cap B|}{|A \cup B|}$$"
ADDRESS = Address("https://github.com/someone/something", "v1.0")


def lesson(*sources: str, title: str = "A title with `code`") -> NotebookNode:
    """A notebook with an opening, the given code cells and a solution."""
    opening = (
        f"# {title}\n\n[Open in Colab](https://example.org)\n\nWhat is *here*? More, in 7 minutes."
    )
    cells = [
        new_markdown_cell(opening),
        new_markdown_cell(FORMULA),
        *map(new_code_cell, sources),
        new_code_cell("hidden = 1", metadata={"tags": ["solution"]}),
    ]
    return new_notebook(cells=cells)


def command(course: Path, *arguments: str) -> subprocess.CompletedProcess:
    """A tool of the copied course, run from elsewhere."""
    return subprocess.run(
        [sys.executable, course / "tools" / arguments[0], *arguments[1:]],
        cwd=course.parent,
        capture_output=True,
        text=True,
    )
