"""The set-up cell: what it installs, and the sentence it says where it cannot."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.tools.lessons import ADDRESS, lesson
from tools.address import Address, setup_source
from tools.notebooks import ROOT, execute

INSTALLED = "Installed. No GPU: training takes a minute.\n"
STOPPED = "Set-up stopped. Run this cell again when this is fixed: "
LOST = "a download failed; check the network, or wait a minute."


def run_setup_cell(
    folder: Path, pip: str, before: str = "", gpu: bool = False, address: Address = ADDRESS
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
    code = f"{before}\ncell = {setup_source(address)!r}\n{show}"
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
    assert second.endswith(f" {ADDRESS.repository}/archive/v1.0.zip torch==2.6.0+cu124")


def test_setup_cell_installs_nothing_from_an_address_that_is_nobodys(tmp_path: Path) -> None:
    placeholder = "https://github.com/your-organisation/detection-segmentation"
    result = run_setup_cell(tmp_path, INSTALL, address=ADDRESS._replace(repository=placeholder))
    sentence = "this copy has no address to install from; ask your teacher for a link."
    assert (result.stdout, result.stderr) == (f"{STOPPED}{sentence}\n", "")
    assert not (tmp_path / "calls").exists()


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
            f"there is no public course at {ADDRESS.repository}/archive/v1.0.zip; ask for its address.",
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
