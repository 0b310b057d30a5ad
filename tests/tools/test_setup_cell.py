"""The set-up cell: what it installs, and the sentence it says where it cannot."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.lessons import ADDRESS, lesson
from tests.tools.project_file import PROJECT
from tools.address import Address, setup_source
from tools.notebooks import ROOT, execute

URL = f"{ADDRESS.repository}/archive/v1.0.zip"
READY = "Ready: Python, torch, torchvision and course_utils work together here.\n"
INSTALLED = "Installed. No GPU: training takes a minute.\n" + READY
NEEDS = "It needs Python 3.11+, a network and {}. Run this cell again when this is fixed.\n"
STOPPED = "Set-up stopped. Run this cell again when this is fixed: "
LOST = "a download failed; check the network, or wait a minute."
RECORD = "detection_segmentation_course-0.1.0.dist-info"
COURSE = """Name: detection-segmentation-course
Version: 0.1.0
Requires-Dist: ipywidgets>=7.7
Requires-Dist: matplotlib>=3.8
Requires-Dist: torch>=2.6
Requires-Dist: torchvision>=0.21
Provides-Extra: no-deps
Requires-Dist: deep-sort-realtime==1.3.2; extra == 'no-deps'
Provides-Extra: test
Requires-Dist: pytest>=8.2; extra == 'test'
"""
PIP = """import re, shutil, sys
from pathlib import Path

with open("calls", "a") as file:
    print(*sys.argv[1:], file=file)
for package in sys.argv[2:]:
    if package.endswith(".zip"):
        shutil.copytree("course", ".", dirs_exist_ok=True)
    elif found := re.fullmatch("([a-z-]+)[=>]=([0-9.]+)", package):
        name = found[1].replace("-", "_")
        folder = Path(f"{name}-{found[2]}.dist-info")
        folder.mkdir()
        (folder / "METADATA").write_text(f"Name: {found[1]}\\nVersion: {found[2]}\\n")
        Path(f"{name}.py").touch()
"""


class Computer:
    """A Python without packages, but a torch of one line and a `pip` of one text."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.add("torch", "2.6.0+cu124", "class cuda:\n    is_available = lambda: False\n")
        self.add("torchvision", "0.21.0+cu124")
        package = folder / "course" / "course_utils"
        package.mkdir(parents=True)
        for name in ("__init__.py", "setup.py"):
            shutil.copy(ROOT / "course_utils" / name, package)
        (folder / "course" / RECORD).mkdir()
        (folder / "course" / RECORD / "METADATA").write_text(COURSE)

    def add(self, name: str, version: str, code: str = "") -> None:
        """Put a package there."""
        (self.folder / f"{name}.py").write_text(code)
        record = self.folder / f"{name}-{version}.dist-info"
        record.mkdir()
        (record / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")

    def add_course(self) -> None:
        """Put the course there, and nothing that it needs."""
        shutil.copytree(self.folder / "course", self.folder, dirs_exist_ok=True)

    def run(self, pip: str = PIP, address: Address = ADDRESS) -> tuple[str, str]:
        """The set-up cell's output and errors, an exception as Jupyter shows it."""
        shutil.rmtree(self.folder / "pip", ignore_errors=True)
        (self.folder / "pip").mkdir()
        (self.folder / "pip" / "__init__.py").touch()
        (self.folder / "pip" / "__main__.py").write_text(pip)
        show = "except Exception as error:\n    print(*error._render_traceback_())"
        code = f"try:\n    exec({setup_source(address)!r})\n{show}"
        done = subprocess.run(
            [sys.executable, "-S", "-B", "-c", code],
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        return done.stdout, done.stderr

    def calls(self) -> list[str]:
        """What pip was asked since the last time."""
        path = self.folder / "calls"
        calls = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return calls


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    return Computer(tmp_path)


def test_setup_cell_is_short() -> None:
    lines = [line for line in setup_source(ADDRESS).splitlines() if line and line[0] != "#"]
    assert len(lines) <= 8 and max(map(len, lines)) <= 100


def test_setup_cell_names_the_python_it_needs() -> None:
    needed = PROJECT["requires-python"].removeprefix(">=")
    assert f"Python {needed}+" in setup_source(ADDRESS)


def test_setup_cell_installs_beside_what_is_there(computer: Computer) -> None:
    assert computer.run() == (INSTALLED, "")
    course, alone, others = computer.calls()
    assert course == f"install -qq --no-deps {URL}"
    assert alone.endswith(" --no-deps deep-sort-realtime==1.3.2")
    assert others.endswith(
        " ipywidgets>=7.7 matplotlib>=3.8 torch==2.6.0+cu124 torchvision==0.21.0+cu124"
    )
    assert (computer.run(), computer.calls()) == ((READY, ""), [])


def test_setup_cell_installs_nothing_from_an_address_that_is_nobodys(computer: Computer) -> None:
    placeholder = ADDRESS._replace(repository="https://github.com/your-organisation/detection")
    sentence = NEEDS.format("https://github.com/your-organisation/detection/archive/v1.0.zip")
    assert computer.run(address=placeholder) == ("", sentence)
    assert computer.calls() == []
    computer.add_course()
    assert computer.run(address=placeholder) == (INSTALLED, "")


def test_setup_cell_says_what_a_gpu_means(computer: Computer) -> None:
    torch = computer.folder / "torch.py"
    torch.write_text(torch.read_text().replace("False", "True"))
    assert computer.run() == ("Installed. Training uses the GPU.\n" + READY, "")


def test_setup_cell_replaces_only_what_is_too_old(computer: Computer) -> None:
    computer.add_course()
    computer.add("ipywidgets", "7.7.1")
    computer.add("matplotlib", "3.7.9")
    computer.add("deep_sort_realtime", "1.3.2")
    assert computer.run()[0] == INSTALLED
    (call,) = computer.calls()
    assert call.endswith(" matplotlib>=3.8 torch==2.6.0+cu124 torchvision==0.21.0+cu124")


@pytest.mark.parametrize("said", ["No module named pip", "ERROR: HTTP error 404\nERROR: no"])
def test_setup_cell_passes_on_why_the_course_did_not_come(computer: Computer, said: str) -> None:
    failing = f"import sys\nsys.exit({said!r})"
    assert computer.run(failing) == ("", f"{said}\n{NEEDS.format(URL)}")
    assert computer.run() == (INSTALLED, "")


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
            "ERROR: Cannot install torch==2.5.0 and torch>=2.6 because these package versions have "
            "conflicting dependencies.\nERROR: ResolutionImpossible: for help visit a page",
            "this torch, torchvision or numpy is too old, and set-up leaves them alone; run "
            f"`!{sys.executable} -m pip install -U torch torchvision numpy` in a cell, then restart.",
        ),
        ("ERROR: OSError: HTTPConnectionPool: Max retries exceeded", LOST),
        ("WARNING: connection broken by\nERROR: No matching distribution found for d2l", LOST),
        ("error: connection-failed\n\n× Failed to connect to example.org\n\nhint: firewall?", LOST),
        ("ERROR: something nobody thought of", "ERROR: something nobody thought of"),
    ],
)
def test_setup_says_in_one_line_what_to_do(computer: Computer, pip_says: str, advice: str) -> None:
    computer.add_course()
    assert computer.run(f"import sys\nsys.exit({pip_says!r})") == (f"{STOPPED}{advice}\n", "")


@pytest.mark.parametrize("lost", [".zip", "deep-sort", "matplotlib"])
def test_an_interrupted_setup_goes_on(computer: Computer, lost: str) -> None:
    half = f"import sys\nif {lost!r} in ' '.join(sys.argv): sys.exit('Connection lost')\n"
    output, errors = computer.run(half + PIP)
    assert READY not in output and "when this is fixed" in output + errors
    before = len(computer.calls())
    assert computer.run() == (INSTALLED, "")
    assert before + len(computer.calls()) == 3, "what is there already is not installed again"


def test_half_of_the_course_is_told_in_a_sentence(computer: Computer) -> None:
    computer.add_course()
    shutil.rmtree(computer.folder / RECORD)
    output, errors = computer.run()
    assert (output.startswith(f"{STOPPED}only a part"), output.count("\n"), errors) == (True, 1, "")


NO_PIP = (
    setup_source(ADDRESS).replace('"pip"', '"no_pip"').replace('("course_utils")', '("no_course")')
)
NOT_READY = "from course_utils.setup import NotReady\n\nraise NotReady('a reason.')"


@pytest.mark.parametrize(
    ("source", "name", "sentence"),
    [
        (NO_PIP, "SystemExit", NEEDS.format(URL).strip()),
        (NOT_READY, "NotReady", f"{STOPPED}a reason."),
    ],
)
def test_jupyter_shows_a_sentence_and_no_traceback(
    tmp_path: Path, source: str, name: str, sentence: str
) -> None:
    execution = execute(lesson(source), tmp_path)
    assert execution.problem.startswith(f"In [1]: {name}:")
    (error,) = (one for one in execution.notebook.cells[2].outputs if one.output_type == "error")
    *before, last = error.traceback
    assert last.strip().endswith(sentence) and "\n" not in last.strip()
    assert "".join(before) in (
        "",
        "An exception has occurred, use %tb to see the full traceback.\n",
    )
