"""The notebook tools: executing, storing, the pages, the table, the address, the set-up cell."""

import json
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import nbformat
import pytest
from nbclient.output_widget import OutputWidget
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import run
from tools.address import Address, badges, read_address, renew, renew_readme, setup_source
from tools.notebooks import ROOT, Execution, execute, store, tidy

DRAW = """import matplotlib.pyplot as plt
from IPython.display import display

figure, axes = plt.subplots(figsize=(2, 1))
plt.close(figure)
display(figure, metadata={"image/png": {"alt": 'an "empty" <plot>'}})"""
MOVE = "import ipywidgets\n\n_ = ipywidgets.interact(lambda x: print(x), x=3)"
FAIL = "raise ValueError('boxes:\\nexpected')"
FORMULA = r"For $a < b$: $$\mathcal{L} = \sum_i \frac{|A \cap B|}{|A \cup B|}$$"


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


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tools with three notebooks: one good, one that fails, one whose kernel dies."""
    folder = tmp_path_factory.mktemp("course")
    shutil.copytree(ROOT / "tools", folder / "tools")
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "README.md").write_text("# A course\n\n[Open in Colab](https://example.org)\n")
    (folder / "notebooks").mkdir()
    nbformat.write(lesson(DRAW, MOVE), folder / "notebooks" / "00_good.ipynb")
    nbformat.write(lesson("1", FAIL), folder / "notebooks" / "01_failing.ipynb")
    nbformat.write(lesson("import os\n\nos._exit(1)", "1"), folder / "notebooks" / "02_dying.ipynb")
    return folder


@pytest.fixture(scope="module")
def site(course: Path) -> tuple[Path, subprocess.CompletedProcess]:
    """The pages of the course and what the run printed."""
    before = {path: path.read_bytes() for path in (course / "notebooks").iterdir()}
    result = command(course, "run.py")
    assert {path: path.read_bytes() for path in (course / "notebooks").iterdir()} == before
    return course / "build" / "site", result


def test_the_table(site: tuple[Path, subprocess.CompletedProcess]) -> None:
    printed = site[1].stdout
    assert re.search(r"^00_good +3/3 cells +\d+ s$", printed, re.MULTILINE), (
        printed + site[1].stderr
    )
    assert re.search(r"^01_failing +1/3 cells", printed, re.MULTILINE)
    assert re.search(r"^00_good +[\d.]+ +\d+ +3 +1 +60 s, 2048 MB +ok$", printed, re.MULTILINE)
    assert re.search(r"^02_dying .* failed$", printed, re.MULTILINE)
    assert "01_failing, In [2]: ValueError: expected\n" in printed
    assert "02_dying, In [1]: DeadKernelError" in printed
    assert "\r" not in printed
    assert site[1].returncode == 1


def test_the_pages_need_no_network(site: tuple[Path, subprocess.CompletedProcess]) -> None:
    pages = sorted(site[0].glob("*.html"))
    assert [page.stem for page in pages] == ["00_good", "01_failing", "02_dying", "index"]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<script[^>]* src|<link(?![^>]* href=.data:)|@import", text)
        assert not re.search(r"""(?:src=["']|url\(["']?)(?!data:|#)""", text)
        assert not re.search(r"""href=["'](?:file:|/)""", text)
        assert text.count("<script") == (2 if page.stem == "index" else 0)  # the search


def test_a_page(site: tuple[Path, subprocess.CompletedProcess]) -> None:
    text = (site[0] / "00_good.html").read_text(encoding="utf-8")
    assert (
        "an &quot;empty&quot; &lt;plot&gt;" in text or """alt='an "empty" &lt;plot&gt;'""" in text
    )
    body = text[text.index("<main>") :]
    assert body.count("<math") == 2 and "<mfrac>" in body and "$" not in body
    assert re.search(r'<details class="solution">.*hidden.*</details>', text, re.DOTALL)
    assert "something to move" in text and "interactive(children" not in text
    assert text.count('href="01_failing.html" rel="next"') == text.count('href="index.html"') == 2
    assert 'rel="prev"' not in text
    assert "ValueError" in (site[0] / "01_failing.html").read_text(encoding="utf-8")
    assert "Kernel died" in (site[0] / "02_dying.html").read_text(encoding="utf-8")


def test_the_index(site: tuple[Path, subprocess.CompletedProcess]) -> None:
    text = (site[0] / "index.html").read_text(encoding="utf-8")
    for expected in (
        "A title with code",
        "What is here?",
        "7 minutes",
        "runs in",
        "✗ failed",
        "image/png",
    ):
        assert expected in text
    cards = text[: text.index("<script")]
    assert "example.org" not in text and "More" not in cards


def test_anchors_and_sections() -> None:
    notebook = new_notebook(
        cells=[
            new_markdown_cell("# A `b` & **c**\n\nFirst $x < 1$.\n\n## By hand"),
            new_code_cell(
                "f('</script>')  # code", outputs=[new_output("stream", text="printed\n")]
            ),
            new_markdown_cell("prose\n\n## By hand\n\n    ## not a heading"),
        ]
    )
    text = run.page(notebook, "00_x", "before", "after")
    assert re.findall(r'<h(.) id="(.*?)">', text) == [
        ("1", "a-b-c"),
        ("2", "by-hand"),
        ("2", "by-hand-2"),
    ]
    assert '<a class="anchor" href="#by-hand-2"' in text
    found = run.sections(text)
    assert found == [
        ("a-b-c", "A b & c", "First x<1."),
        ("by-hand", "By hand", "prose f('</script>') # code printed"),
        ("by-hand-2", "By hand", "## not a heading"),
    ]
    row = run.row("00_x", Execution(notebook, 1, 1.0, 1, None))
    index = run.index([row], {"00_x": found})
    assert index.count("</script>") == 2
    contents = re.search(r'id="contents">(.*?)</script>', index)[1]
    assert json.loads(contents) == {"00_x": [list(section) for section in found]}


def test_storing(course: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(course, tmp_path / "course")
    failing = copied / "notebooks" / "01_failing.ipynb"
    before = failing.read_bytes()
    result = command(copied, "notebooks.py", "store", "00", "01")
    assert result.returncode == 1
    assert "not stored: 01_failing.ipynb, In [2]: ValueError: expected" in result.stdout
    assert failing.read_bytes() == before
    stored = (copied / "notebooks" / "00_good.ipynb").read_bytes()
    assert command(copied, "notebooks.py", "store", "00").returncode == 0
    assert (copied / "notebooks" / "00_good.ipynb").read_bytes() == stored
    assert sorted(path.suffix for path in (copied / "notebooks").iterdir()) == [".ipynb"] * 3
    assert command(copied, "notebooks.py", "store", "07").returncode == 2


def test_stored_outputs_are_tidy(tmp_path: Path) -> None:
    path = tmp_path / "00_good.ipynb"
    notebook = lesson(DRAW, MOVE, "print(1)\nprint(2)\n3")
    notebook.metadata = NotebookNode(
        widgets={}, language_info={"version": "3.9"}, course={"trains": True}
    )
    ids = [cell.id for cell in notebook.cells]
    nbformat.write(notebook, path)
    assert store(path) is None
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "course": {"trains": True},
    }
    assert [cell.id for cell in notebook.cells] == ids
    drawn, moved, printed = (cell.outputs for cell in notebook.cells[2:5])
    assert drawn[0].metadata["image/png"]["alt"] == 'an "empty" <plot>'
    assert moved[0].metadata == {"widget": True} and list(moved[0].data) == ["text/plain"]
    assert [output.get("text", output.get("data")) for output in printed] == [
        "1\n2\n",
        {"text/plain": "3"},
    ]
    assert [cell.execution_count for cell in notebook.cells[2:]] == [1, 2, 3, 4]
    assert nbformat.writes(tidy(nbformat.read(path, as_version=4))) + "\n" == path.read_text(
        encoding="utf-8"
    )


def test_memory_is_seen(tmp_path: Path) -> None:
    source = "import time\n\nx = bytearray(b'1') * 300_000_000\ntime.sleep(0.5)"
    small, large = (execute(lesson(text), tmp_path).peak_bytes for text in ("1", source))
    assert 250_000_000 < large - small < 400_000_000


def test_a_reply_that_comes_before_a_widget_answers_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel is done before the client sends back what was printed, as on a busy computer."""

    def send(widget: OutputWidget, *message: object) -> None:
        time.sleep(0.5)
        at_once(widget, *message)

    at_once = OutputWidget.send
    monkeypatch.setattr(OutputWidget, "send", send)
    monkeypatch.setattr("tools.notebooks.CELL_SECONDS", 20)
    execution = execute(new_notebook(cells=[new_code_cell(MOVE)]), tmp_path)
    assert execution.problem is None and execution.seconds < 15


@pytest.mark.parametrize(
    ("trains", "seconds", "megabytes", "verdict"),
    [
        (False, 59, 2000, "ok"),
        (False, 61, 100, "over budget"),
        (True, 89, 100, "ok"),
        (True, 91, 100, "over budget"),
        (False, 1, 2049, "over budget"),
    ],
)
def test_verdicts(trains: bool, seconds: float, megabytes: float, verdict: str) -> None:
    notebook = lesson("1")
    notebook.metadata["course"] = {"trains": trains}
    row = run.row("00_x", Execution(notebook, 2, seconds, int(megabytes * 2**20), None))
    assert row.verdict == verdict
    assert row.thumbnail is None
    assert "A title" in run.index([row], {})


def test_course_budget() -> None:
    row = run.row("00_x", Execution(lesson("1"), 2, 59.0, 1, None))
    assert run.table([row] * 12).splitlines()[-1].endswith("720 s")
    assert run.table([row] * 13).splitlines()[-1].endswith("over budget")


ADDRESS = Address("https://github.com/someone/something", ("d2l==1.0.3", "imgviz==1.7.6"))


def test_renewing_the_address() -> None:
    notebook = lesson("1")
    assert renew(notebook, "00_x.ipynb", ADDRESS)
    assert notebook.cells[0].source.splitlines()[2] == badges(ADDRESS, "00_x.ipynb")
    assert notebook.cells[2].source == setup_source(ADDRESS) and notebook.cells[3].source == "1"
    assert not renew(notebook, "00_x.ipynb", ADDRESS)
    moved = ADDRESS._replace(repository="https://github.com/someone/else", no_deps=("d2l==1.0.3",))
    assert renew(notebook, "00_x.ipynb", moved)
    text = nbformat.writes(notebook)
    assert "something/" not in text and "imgviz" not in text and text.count("Open in Colab") == 1
    path = "someone/else/blob/main/notebooks/00_x.ipynb"
    for link in (
        f"https://colab.research.google.com/github/{path}",
        "https://mybinder.org/v2/gh/someone/else/main?labpath=notebooks%2F00_x.ipynb",
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


@pytest.mark.parametrize(
    "text",
    [
        "[project]\n",
        '[project.urls]\nRepository = "https://gitlab.com/a/b"\n[tool.course]\nno-deps = []\n',
    ],
)
def test_bad_addresses(tmp_path: Path, text: str) -> None:
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text(text)
    with pytest.raises(ValueError, match=r"pyproject.toml: expected"):
        read_address(pyproject)


INSTALLED = "Installed. No GPU: training takes a minute.\n"
STOPPED = "Set-up stopped. Run this cell again when this is mended: "
LOST = "a download failed; check the network, or wait a minute."


def run_setup_cell(
    folder: Path, pip: str, before: str = "", gpu: bool = False
) -> subprocess.CompletedProcess:
    """The set-up cell in a Python without packages, but a torch of one line and a `pip` of one text."""
    (folder / "pip").mkdir()
    (folder / "pip" / "__init__.py").touch()
    (folder / "pip" / "__main__.py").write_text(pip)
    (folder / "torch.py").write_text(f"class cuda:\n    is_available = lambda: {gpu}\n")
    (folder / "torch-2.6.0+cu124.dist-info").mkdir()
    (folder / "torch-2.6.0+cu124.dist-info" / "METADATA").write_text(
        "Name: torch\nVersion: 2.6.0+cu124\n"
    )
    show = (
        "try:\n    exec(cell)\nexcept Exception as error:\n    print(*error._render_traceback_())"
    )
    code = f"{before}\ncell = {setup_source(ADDRESS)!r}\n{show}"
    return subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
    )


INSTALL = """import sys
from pathlib import Path
with open("calls", "a") as file:
    print(*sys.argv[1:], file=file)
if "--no-deps" not in sys.argv:
    package = Path("course_utils")
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "core.py").write_text("def ready(): print('Ready.')")
"""


def test_setup_cell_installs_beside_what_is_there(tmp_path: Path) -> None:
    result = run_setup_cell(tmp_path, INSTALL)
    assert (result.stdout, result.stderr) == (INSTALLED + "Ready.\n", "")
    first, second = (tmp_path / "calls").read_text().splitlines()
    assert first.endswith(" --no-deps d2l==1.0.3 imgviz==1.7.6")
    assert second.endswith(f" {ADDRESS.repository}/archive/refs/heads/main.zip torch==2.6.0+cu124")


def test_setup_cell_says_what_a_gpu_means(tmp_path: Path) -> None:
    result = run_setup_cell(tmp_path, INSTALL, gpu=True)
    assert result.stdout == "Installed. Training uses the GPU.\nReady.\n"


def test_setup_cell_uses_the_installed_course(tmp_path: Path) -> None:
    (tmp_path / "course_utils").mkdir()
    (tmp_path / "course_utils" / "core.py").write_text("def ready(): print('Ready.')")
    result = run_setup_cell(tmp_path, INSTALL)
    assert (result.stdout, (tmp_path / "calls").exists()) == ("Ready.\n", False)


@pytest.mark.parametrize(
    ("pip_says", "advice"),
    [
        ("No module named pip", f"no pip here; run `!{sys.executable} -m ensurepip` in a cell."),
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError': /d2l/\n"
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "the disk is full; make room (Colab: Disconnect and delete runtime).",
        ),
        (
            "  ERROR: HTTP error 404 while getting https://github.com/someone/something/archive",
            "there is no public course at https://github.com/someone/something; ask for its address.",
        ),
        ("ERROR: OSError: HTTPConnectionPool: Max retries exceeded", LOST),
        ("WARNING: connection broken by\nERROR: No matching distribution found for d2l", LOST),
        ("error: connection-failed\n\n× Failed to connect to example.org\n\nhint: firewall?", LOST),
        ("ERROR: something nobody thought of", "ERROR: something nobody thought of"),
    ],
)
def test_setup_cell_says_in_one_line_what_to_do(tmp_path: Path, pip_says: str, advice: str) -> None:
    result = run_setup_cell(tmp_path, f"import sys\nsys.exit({pip_says!r})")
    assert (result.stdout, result.stderr) == (f"{STOPPED}{advice}\n", "")


def test_setup_cell_names_the_python_it_needs(tmp_path: Path) -> None:
    old = """import sys, types
sys.version_info, sys.version = types.SimpleNamespace(minor=10), "3.10.12 (main)"
"""
    result = run_setup_cell(tmp_path, INSTALL, before=old)
    assert result.stdout == f"{STOPPED}this is Python 3.10.12; choose 3.11 or newer.\n"
    assert not (tmp_path / "calls").exists()
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert pyproject["project"]["requires-python"] == ">=3.11"


def test_an_interrupted_setup_goes_on(tmp_path: Path) -> None:
    half = "if '--no-deps' in sys.argv: sys.exit('Connection lost')"
    first = run_setup_cell(tmp_path, f"import sys\n{half}\n{INSTALL}")
    shutil.rmtree(tmp_path / "pip")
    shutil.rmtree(tmp_path / "torch-2.6.0+cu124.dist-info")
    again = run_setup_cell(tmp_path, INSTALL)
    assert (first.stdout, again.stdout) == (f"{STOPPED}{LOST}\n", INSTALLED + "Ready.\n")


def test_jupyter_shows_that_line_only(tmp_path: Path) -> None:
    text = setup_source(ADDRESS)
    text = text.replace('"course_utils")', '"no_such_package")').replace(
        '"pip", "install"', '"no_such_pip"'
    )
    execution = execute(lesson(text), tmp_path)
    assert execution.problem.startswith("In [1]: NotReady:")
    traceback = execution.notebook.cells[2].outputs[0].traceback
    assert len(traceback) == 1 and traceback[0].startswith(STOPPED)
