"""What a program can check of the notebook standard: small rules, each also seen to fail."""

import ast
import base64
import copy
import io
import re
import subprocess
import symtable
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlparse

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.nbval_figures import IGNORE, LIVE, live_problem
from tools.address import badges, read_address, renew, setup_source
from tools.notebooks import ROOT, WIDGET, code_cells, find, tidy
from tools.student import role

ADDRESS = read_address()
NAMES_THE_COURSE = (  # what only the badges and the set-up cell may say
    ADDRESS.repository.removeprefix("https://github.com/"),
    "colab.research.google.com",
    "mybinder.org",
    "nbviewer.org",
)
SLIDE_TYPES = {"slide", "subslide", "fragment", "notes", "skip", "-"}
MOST_CELLS, MOST_WORDS = 120, 2500
LARGEST_FILE = 2_500_000
LONGEST_CELL, USUAL_CELL = 25, 10
MOST_HELPERS = 32  # lines of the second code cell besides imports, comments and docstrings
FOLDERS = "home|root|tmp|usr|var|opt|mnt|srv|private|Users|content|Applications"
UNSTABLE = {
    "an absolute path": re.compile(
        rf"(?<![\w/:.-])/(?:{FOLDERS})/|\b[A-Z]:\\\\?\w|{re.escape(str(ROOT))}\b"
    ),
    "a memory address": re.compile(r"\b0x[0-9a-f]{6,}"),
    "a device": re.compile(r"\b(?:cuda|mps|xpu):\d|device\(type=|device='|NVIDIA|GeForce|Tesla"),
}

Rule = Callable[[NotebookNode, str], list[str]]


def begins_with_title_and_time(notebook: NotebookNode, name: str) -> list[str]:
    """The first cell has the title; the first Markdown cells say how many minutes it takes."""
    opening = [cell for cell in notebook.cells[:3] if cell.cell_type == "markdown"]
    problems = []
    if notebook.cells[0].cell_type != "markdown" or not notebook.cells[0].source.startswith("# "):
        problems.append("the first cell does not begin with `# title`")
    if not re.search(r"\d+ min", "\n".join(cell.source for cell in opening)):
        problems.append("the opening does not say how many minutes it takes")
    return problems


def has_slide_types(notebook: NotebookNode, name: str) -> list[str]:
    """Every cell says what it is in a talk."""
    return [
        f"cell {number}: no slide type"
        for number, cell in enumerate(notebook.cells)
        if cell.metadata.get("slideshow", {}).get("slide_type") not in SLIDE_TYPES
    ]


def begins_with_setup_cell(notebook: NotebookNode, name: str) -> list[str]:
    """The first code cell is the set-up cell, letter by letter."""
    same = code_cells(notebook)[0].source == setup_source(ADDRESS)
    return [] if same else ["the first code cell is not tools/setup_cell.py; run `make address`"]


def has_address_from_pyproject(notebook: NotebookNode, name: str) -> list[str]:
    """Badges and set-up cell are up to date, and the address stands nowhere else."""
    problems = []
    if renew(copy.deepcopy(notebook), name, ADDRESS):
        problems.append("badges or set-up cell out of date; run `make address`")
    ours = setup_source(ADDRESS), badges(ADDRESS, name)
    for number, cell in enumerate(notebook.cells):
        rest = cell.source.replace(ours[0], "").replace(ours[1], "")
        if any(words in rest for words in NAMES_THE_COURSE):
            problems.append(
                f"cell {number}: the repository's address stands outside badges and set-up cell"
            )
    return problems


def is_executed_in_order(notebook: NotebookNode, name: str) -> list[str]:
    """Execution counts are 1, 2, 3, ..."""
    counts = [cell.execution_count for cell in code_cells(notebook)]
    wanted = list(range(1, len(counts) + 1))
    return [] if counts == wanted else [f"execution counts are {counts}; run `make notebooks`"]


def is_small(notebook: NotebookNode, name: str) -> list[str]:
    """The file is quick to load and to show on GitHub."""
    size = len(nbformat.writes(notebook).encode())
    return [f"the file has {size} bytes, more than {LARGEST_FILE}"] if size > LARGEST_FILE else []


def ignores_little(notebook: NotebookNode, name: str) -> list[str]:
    """What is not compared: one timing that asserts something, and live trainings above their records."""
    timings = [cell for cell in code_cells(notebook) if IGNORE in cell.source]
    problems = ["more than one NBVAL_IGNORE_OUTPUT"] if len(timings) > 1 else []
    for cell in timings:
        if not any(isinstance(node, ast.Assert) for node in ast.walk(parsed(cell.source))):
            problems.append(f"In [{cell.execution_count}] ignores its output and asserts nothing")
    for cell in code_cells(notebook):
        if problem := live_problem(notebook.cells, cell):
            problems.append(f"In [{cell.execution_count}]: {problem}")
        tags = " ".join(set(cell.metadata.get("tags", [])) - {LIVE})
        others = re.findall(r"NBVAL_(?!IGNORE_OUTPUT)\w+", cell.source) + re.findall(
            r"nbval-\S+|raises-\S+", tags
        )
        problems += [f"In [{cell.execution_count}]: {other} is not allowed" for other in others]
    return problems


def has_plain_metadata(notebook: NotebookNode, name: str) -> list[str]:
    """Kernel python3, no version of Python, no widget state, no timings, no picture metadata."""
    problems = (
        []
        if notebook.metadata.get("kernelspec", {}).get("name") == "python3"
        else ["kernel is not python3"]
    )
    if notebook.metadata.get("language_info") != {"name": "python"}:
        problems.append("language_info says more than python")
    if "widgets" in notebook.metadata:
        problems.append("widget state is stored")
    for cell in code_cells(notebook):
        if cell.metadata.keys() & {"execution", "ExecuteTime"}:
            problems.append(f"In [{cell.execution_count}]: timings are stored")
        for output in cell.outputs:
            if WIDGET in output.get("data", {}):
                problems.append(f"In [{cell.execution_count}]: a widget's model id is stored")
            if "image/png" in output.get("data", {}) and png_notes(output.data["image/png"]):
                problems.append(
                    f"In [{cell.execution_count}]: the picture names the software that made it"
                )
    return [f"{problem}; run `make notebooks`" for problem in problems]


def png_notes(encoded: str) -> dict:
    """What a base64 PNG says beside its pixels."""
    return Image.open(io.BytesIO(base64.b64decode(encoded))).info


def has_unique_ids(notebook: NotebookNode, name: str) -> list[str]:
    """Every cell has its own id."""
    ids = [cell.get("id") for cell in notebook.cells]
    return [] if len(set(ids)) == len(ids) and all(ids) else ["cell ids are missing or repeated"]


def describes_figures(notebook: NotebookNode, name: str) -> list[str]:
    """Every image has an alt text."""
    return [
        f"In [{cell.execution_count}]: {kind} has no alt text"
        for cell in code_cells(notebook)
        for output in cell.outputs
        for kind in output.get("data", {})
        if kind.startswith("image/") and not output.metadata.get(kind, {}).get("alt", "").strip()
    ]


def redefines_nothing(notebook: NotebookNode, name: str) -> list[str]:
    """No function or class of the notebook has the name of a public one of course_utils."""
    taken = public_names()
    return [
        f"In [{cell.execution_count}]: {node.name} is a name of course_utils"
        for cell in code_cells(notebook)
        for node in ast.walk(parsed(cell.source))
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in taken
    ]


def public_names() -> set[str]:
    """Functions and classes that the modules of course_utils define for others."""
    trees = [
        ast.parse(path.read_text(encoding="utf-8"))
        for path in (ROOT / "course_utils").rglob("*.py")
    ]
    definitions = (node for tree in trees for node in tree.body)
    names = {node.name for node in definitions if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return {name for name in names if not name.startswith("_")}


def parsed(source: str) -> ast.Module:
    """The syntax tree of a cell, `%magic` and `!shell` lines included."""
    return ast.parse(TransformerManager().transform_cell(source))


def has_short_cells(notebook: NotebookNode, name: str) -> list[str]:
    """No code cell that a talk shows needs scrolling on a projector, and most are shorter still."""
    lengths = {
        cell.execution_count: len(cell.source.splitlines())
        for cell in code_cells(notebook)
        if cell.metadata.get("slideshow", {}).get("slide_type") != "skip"
    }
    problems = [
        f"In [{n}] has {length} lines" for n, length in lengths.items() if length > LONGEST_CELL
    ]
    if sum(length < USUAL_CELL for length in lengths.values()) * 2 <= len(lengths):
        problems.append(f"most code cells have {USUAL_CELL} lines or more")
    return problems


def shows_only_what_repeats(notebook: NotebookNode, name: str) -> list[str]:
    """No error, no warning, and no output that names a place, a device or an address in memory."""
    problems = []
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if output.output_type == "error" or output.get("name") == "stderr":
                problems.append(f"In [{cell.execution_count}]: an error or a warning is stored")
            texts = [
                output.get("text", ""),
                *(str(v) for k, v in output.get("data", {}).items() if "text/" in k),
            ]
            problems += [
                f"In [{cell.execution_count}]: the output has {what}, {found[0]!r}"
                for what, pattern in UNSTABLE.items()
                for text in texts
                if (found := pattern.search(text))
            ]
    return problems


def has_valid_links(notebook: NotebookNode, name: str) -> list[str]:
    """Links lead to https addresses, to headings, or to files that are there."""
    problems = []
    for number, cell in enumerate(notebook.cells):
        prose = (
            re.sub(r"`[^`]*`|\$[^$]*\$", "", cell.source) if cell.cell_type == "markdown" else ""
        )
        for target in re.findall(r"\]\(([^)]*)\)", prose):
            parts = urlparse(target)
            web = (
                parts.scheme == "https"
                and re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc)
                and " " not in target
            )
            here = not parts.scheme and (
                not parts.path or (ROOT / "notebooks" / parts.path).exists()
            )
            attached = parts.scheme == "attachment" and parts.path in cell.get("attachments", {})
            if not (target and (web or here or attached)):
                problems.append(f"cell {number}: {target!r} leads nowhere")
    return problems


def has_exercises(notebook: NotebookNode, name: str) -> list[str]:
    """At least two exercises, each a stub, a check and a hidden solution, in this order."""
    told = " ".join(filter(None, map(role, code_cells(notebook))))
    problems = []
    if not re.fullmatch(r"(?:stub(?: check)+ solution(?: check)*(?: |$))*", told):
        problems.append(f"exercises are not stub, check, solution: {told}")
    if told.count("solution") < 2:
        problems.append("fewer than two exercises")
    for cell in code_cells(notebook):
        if role(cell) == "solution" and not cell.metadata.get("jupyter", {}).get("source_hidden"):
            problems.append(
                f"In [{cell.execution_count}]: the solution is not hidden (jupyter.source_hidden)"
            )
    return problems


def is_short(notebook: NotebookNode, name: str) -> list[str]:
    """A student gets through it: the number of cells, and of words of prose."""
    cells = len(notebook.cells)
    words = sum(len(c.source.split()) for c in notebook.cells if c.cell_type == "markdown")
    problems = [f"{cells} cells, more than {MOST_CELLS}"] if cells > MOST_CELLS else []
    return problems + ([f"{words} words, more than {MOST_WORDS}"] if words > MOST_WORDS else [])


def folds_what_prepares(notebook: NotebookNode, name: str) -> list[str]:
    """The code of the first two cells, set-up and names, is folded in JupyterLab, Colab and on the site."""
    return [
        f"In [{cell.execution_count}]: expected jupyter.source_hidden and cellView form"
        for cell in code_cells(notebook)[:2]
        if cell.metadata.get("cellView") != "form"
        or not cell.metadata.get("jupyter", {}).get("source_hidden")
    ]


def hides_little(notebook: NotebookNode, name: str) -> list[str]:
    """The folded cell with the names that all sections share holds few helpers."""
    tree = parsed(code_cells(notebook)[1].source)
    lines = 0
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            continue
        lines += node.end_lineno - node.lineno + 1
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
            lines -= node.body[0].end_lineno - node.body[0].lineno + 1
    return [f"In [2] has {lines} lines of helpers"] if lines > MOST_HELPERS else []


def shows_what_widgets_show(notebook: NotebookNode, name: str) -> list[str]:
    """A figure stands near each widget, below it, for readers who cannot move it."""
    cells, problems = code_cells(notebook), []
    for number, cell in enumerate(cells):
        calls = {n.id for n in ast.walk(parsed(cell.source)) if isinstance(n, ast.Name)}
        if "explore" in calls and not any(
            output.get("data", {}).keys() & {"image/png", "image/jpeg"}
            for later in cells[number + 1 : number + 4]
            for output in later.outputs
        ):
            problems.append(f"In [{cell.execution_count}]: no figure below the widget")
    return problems


def starts_at_any_section(notebook: NotebookNode, name: str) -> list[str]:
    """Each `## ` section uses only names of its own and of the second code cell, where all names are."""
    names, sections = code_cells(notebook)[1].source, {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            sections[title := cell.source.splitlines()[0]] = []
        elif cell.cell_type == "code" and sections:
            sections[title].append(cell.source)
    problems = []
    for title, sources in sections.items():
        code = "\n".join([names, *sources])
        ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821", "-q", "-"]
        done = subprocess.run(ruff, input=code, capture_output=True, text=True)
        assert done.returncode in (0, 1), done.stderr
        missing = sorted(set(re.findall(r"Undefined name `(\w+)`", done.stdout)))
        problems += [f"section {title!r} needs {word} from another section" for word in missing]
    return problems


def keeps_what_widgets_read(notebook: NotebookNode, name: str) -> list[str]:
    """Whoever moves a widget after the last cell sees what it showed at first: nothing it reads is new."""
    read_by: dict[str, set[str]] = {}  # functions, and the names that they look up outside
    watched: dict[str, str] = {}  # names that the picture of a widget depends on, and its cell
    problems = []
    for cell in code_cells(notebook):
        tree = parsed(cell.source)
        table = symtable.symtable(ast.unparse(tree), cell.id, "exec")
        assigned = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned()}
        problems += [
            f"{cell.id} gives {word!r} a new value, but the widget of {watched[word]} reads it"
            for word in sorted(assigned & watched.keys())
        ]
        read_by |= {part.get_name(): read_outside(part) for part in table.get_children()}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "explore":
                new = {part.id for part in ast.walk(node.args[0]) if isinstance(part, ast.Name)}
                while new := new - watched.keys():
                    watched |= dict.fromkeys(new, cell.id)
                    new = set().union(*(read_by.get(word, ()) for word in new))
    return problems


def read_outside(part: symtable.SymbolTable) -> set[str]:
    """The global names in a function and in the functions inside it."""
    names = {symbol.get_name() for symbol in part.get_symbols() if symbol.is_global()}
    return names.union(*map(read_outside, part.get_children()))


RULES: list[Rule] = [
    begins_with_title_and_time,
    has_slide_types,
    begins_with_setup_cell,
    has_address_from_pyproject,
    is_executed_in_order,
    is_small,
    ignores_little,
    has_plain_metadata,
    has_unique_ids,
    describes_figures,
    redefines_nothing,
    has_short_cells,
    shows_only_what_repeats,
    has_valid_links,
    has_exercises,
    folds_what_prepares,
    shows_what_widgets_show,
    hides_little,
    is_short,
    starts_at_any_section,
    keeps_what_widgets_read,
]


def test_the_course_has_notebooks() -> None:
    numbers = [path.name[:2] for path in find()]
    assert numbers[:2] == ["00", "01"] and len(set(numbers)) == len(numbers) and numbers[-1] <= "17"


@pytest.mark.parametrize("path", find(), ids=lambda path: path.stem)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_notebook(rule: Rule, path: Path) -> None:
    assert rule(nbformat.read(path, as_version=4), path.name) == []


NAME = "03_example.ipynb"


def example() -> NotebookNode:
    """A notebook that keeps every rule."""
    file = io.BytesIO()
    Image.new("RGB", (2, 2)).save(file, "PNG")
    figure = new_output(
        "display_data",
        {"image/png": base64.b64encode(file.getvalue()).decode(), "text/plain": "<Figure>"},
        metadata={"image/png": {"alt": "two pixels"}},
    )
    exercise = [
        new_code_cell("def my_area(boxes):\n    raise NotImplementedError"),
        new_code_cell(
            "exercises.check_area(my_area)",
            outputs=[new_output("stream", text="not attempted yet\n")],
        ),
        new_code_cell(
            "def my_area(boxes):\n    return 1",
            metadata={"tags": ["solution"], "jupyter": {"source_hidden": True}},
        ),
    ]
    cells = [
        new_markdown_cell(
            f"# An example\n\n{badges(ADDRESS, NAME)}\n\nTwo pixels, in 5 minutes. See [D2L](https://d2l.ai)."
        ),
        new_code_cell(setup_source(ADDRESS)),
        new_code_cell("# NBVAL_IGNORE_OUTPUT\nseconds = 1\nassert seconds < 9\nseconds"),
        new_code_cell("show()", outputs=[figure]),
        *copy.deepcopy(exercise),
        *copy.deepcopy(exercise),
    ]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
        cell.metadata["slideshow"] = {"slide_type": "skip" if number == 1 else "slide"}
    for cell in cells[1:3]:
        cell.metadata |= {"cellView": "form", "jupyter": {"source_hidden": True}}
    notebook = tidy(new_notebook(cells=cells))
    for number, cell in enumerate(code_cells(notebook), start=1):
        cell.execution_count = number
    return notebook


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_example_keeps(rule: Rule) -> None:
    assert rule(example(), NAME) == []


def noted_png() -> str:
    """A base64 PNG that names a program."""
    file = io.BytesIO()
    notes = PngInfo()
    notes.add_text("Software", "a program")
    Image.new("RGB", (2, 2)).save(file, "PNG", pnginfo=notes)
    return base64.b64encode(file.getvalue()).decode()


def printing(text: str) -> Callable[[NotebookNode], object]:
    """A change that makes the fourth cell print `text`."""
    return lambda notebook: notebook.cells[3].outputs.append(new_output("stream", text=text))


# Cells of the example: 0 title, 1 set-up, 2 ignored, 3 figure, 4 to 6 and 7 to 9 an exercise each.
BROKEN: list[tuple[Rule, str, Callable[[NotebookNode], object]]] = [
    (begins_with_title_and_time, "no title", lambda n: n.cells[0].update(source="In 5 minutes")),
    (begins_with_title_and_time, "no minutes", lambda n: n.cells[0].update(source="# A title")),
    (has_slide_types, "none", lambda n: n.cells[3].metadata.pop("slideshow")),
    (
        has_slide_types,
        "unknown",
        lambda n: n.cells[3].metadata.slideshow.update(slide_type="Slide"),
    ),
    (
        begins_with_setup_cell,
        "changed",
        lambda n: n.cells[1].update(source=n.cells[1].source + " "),
    ),
    (begins_with_setup_cell, "not first", lambda n: n.cells.insert(0, new_code_cell("1"))),
    (has_address_from_pyproject, "no badges", lambda n: n.cells[0].update(source="# An example")),
    (
        has_address_from_pyproject,
        "other file",
        lambda n: n.cells[0].update(source=n.cells[0].source.replace("03", "04")),
    ),
    (
        has_address_from_pyproject,
        "elsewhere",
        lambda n: n.cells[3].update(source=f"# {ADDRESS.repository}"),
    ),
    (
        has_address_from_pyproject,
        "another badge",
        lambda n: n.cells[3].update(source="# https://nbviewer.org/x.ipynb"),
    ),
    (is_executed_in_order, "gap", lambda n: n.cells[9].update(execution_count=12)),
    (is_executed_in_order, "not run", lambda n: n.cells[3].update(execution_count=None)),
    (is_small, "large", printing("x" * LARGEST_FILE)),
    (
        ignores_little,
        "no assert",
        lambda n: n.cells[2].update(source="# NBVAL_IGNORE_OUTPUT\n1  # assert"),
    ),
    (ignores_little, "two", lambda n: n.cells[3].update(source=n.cells[2].source)),
    (ignores_little, "skip", lambda n: n.cells[3].update(source="# NBVAL_SKIP\n1")),
    (ignores_little, "no record", lambda n: n.cells[3].metadata.update(tags=[LIVE])),
    (ignores_little, "tag", lambda n: n.cells[3].metadata.update(tags=["nbval-skip"])),
    (ignores_little, "raises", lambda n: n.cells[3].metadata.update(tags=["raises-exception"])),
    (has_plain_metadata, "kernel", lambda n: n.metadata.kernelspec.update(name="venv")),
    (has_plain_metadata, "version", lambda n: n.metadata.language_info.update(version="3.11.7")),
    (has_plain_metadata, "widgets", lambda n: n.metadata.update(widgets={})),
    (has_plain_metadata, "timings", lambda n: n.cells[3].metadata.update(execution={})),
    (
        has_plain_metadata,
        "model id",
        lambda n: n.cells[3].outputs[0].data.update({WIDGET: {"model_id": "1"}}),
    ),
    (
        has_plain_metadata,
        "software",
        lambda n: n.cells[3].outputs[0].data.update({"image/png": noted_png()}),
    ),
    (folds_what_prepares, "open", lambda n: n.cells[1].metadata.pop("cellView")),
    (
        hides_little,
        "long",
        lambda n: code_cells(n)[1].update(source="x = 1\n" * (MOST_HELPERS + 1)),
    ),
    (
        shows_what_widgets_show,
        "no figure",
        lambda n: n.cells[4].update(source="explore(plot, '', x=(0, 1, 1, 0))"),
    ),
    (folds_what_prepares, "open in Lab", lambda n: n.cells[2].metadata.pop("jupyter")),
    (is_short, "wordy", lambda n: n.cells[0].update(source="word " * (MOST_WORDS + 1))),
    (is_short, "long", lambda n: n.cells.extend(copy.deepcopy(n.cells) * 15)),
    (has_unique_ids, "twice", lambda n: n.cells[3].update(id="cell-2")),
    (has_unique_ids, "none", lambda n: n.cells[3].pop("id")),
    (describes_figures, "none", lambda n: n.cells[3].outputs[0].update(metadata={})),
    (
        describes_figures,
        "empty",
        lambda n: n.cells[3].outputs[0].metadata["image/png"].update(alt=" "),
    ),
    (
        redefines_nothing,
        "function",
        lambda n: n.cells[3].update(source="%matplotlib inline\ndef seed_everything():\n    1"),
    ),
    (redefines_nothing, "class", lambda n: n.cells[3].update(source="class get_device:\n    1")),
    (has_short_cells, "one long", lambda n: n.cells[3].update(source="1\n" * 26)),
    (has_short_cells, "most long", lambda n: [c.update(source="1\n" * 12) for c in n.cells[3:]]),
    (shows_only_what_repeats, "home", printing("read /home/someone/cat.png")),
    (shows_only_what_repeats, "this folder", printing(f"File {ROOT}/course_utils")),
    (shows_only_what_repeats, "windows", printing("C:\\Users\\someone")),
    (shows_only_what_repeats, "address", printing("<function f at 0x7f0012abcd90>")),
    (shows_only_what_repeats, "device", printing("tensor([1.], device='cuda:0')")),
    (
        shows_only_what_repeats,
        "warning",
        lambda n: n.cells[3].outputs.append(new_output("stream", name="stderr", text="!")),
    ),
    (
        shows_only_what_repeats,
        "error",
        lambda n: n.cells[3].outputs.append(new_output("error", ename="E", evalue="")),
    ),
    (has_valid_links, "http", lambda n: n.cells[0].update(source="[a](http://d2l.ai)")),
    (has_valid_links, "no host", lambda n: n.cells[0].update(source="[a](https://d2l)")),
    (has_valid_links, "no file", lambda n: n.cells[0].update(source="[a](99_nothing.ipynb)")),
    (has_valid_links, "empty", lambda n: n.cells[0].update(source="[a]()")),
    (has_exercises, "one", lambda n: n.cells.__delitem__(slice(7, 10))),
    (has_exercises, "no stub", lambda n: n.cells.pop(4)),
    (has_exercises, "no check", lambda n: n.cells.pop(5)),
    (has_exercises, "no solution", lambda n: n.cells.pop(6)),
    (
        keeps_what_widgets_read,
        "another box",
        lambda n: n.cells.extend(
            [
                new_code_cell("box = 1\ndef area():\n    return box\ndef plot(x):\n    area()"),
                new_code_cell("explore(plot, 'A box.', x=[1])"),
                new_code_cell("for box in range(3):\n    print(box)"),
            ]
        ),
    ),
    (
        starts_at_any_section,
        "name from elsewhere",
        lambda n: n.cells.extend(
            [
                new_markdown_cell("## 1"),
                new_code_cell("late = 1"),
                new_markdown_cell("## 2"),
                new_code_cell("late + 1"),
            ]
        ),
    ),
    (has_exercises, "in sight", lambda n: n.cells[6].metadata.pop("jupyter")),
]


@pytest.mark.parametrize(
    ("rule", "change"),
    [(r, c) for r, _, c in BROKEN],
    ids=[f"{r.__name__}-{w}" for r, w, _ in BROKEN],
)
def test_a_broken_notebook_fails(rule: Rule, change: Callable[[NotebookNode], object]) -> None:
    notebook = example()
    change(notebook)
    assert rule(notebook, NAME) != []


def test_every_rule_was_seen_to_fail() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(RULES)
