"""Students on Colab: one notebook alone, beside the packages that Colab brings, installs the course and runs.

The environments are made once, in build/colab/ (8 GB and 5 minutes each); each notebook gets a fresh copy.
"""

import functools
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from tests.nbval_figures import ignores_output, outputs_difference
from tools.address import read_address, setup_source
from tools.notebooks import ROOT, code_cells, execute, find, picture

pytestmark = pytest.mark.long

FOLDER = ROOT / "build" / "colab"
ADDRESS = read_address()
BROUGHT = [
    "matplotlib==3.10.0",
    "scipy==1.16.3",
    "pillow==11.3.0",
    "scikit-image==0.25.2",
    "ipykernel==6.17.1",
    "ipython==7.34.0",
    "ipywidgets==7.7.1",
    "notebook==6.5.7",
    "requests==2.32.4",
    "tqdm==4.67.1",
    "setuptools==75.2.0",
]
COLAB = {  # the environment before, and today's
    "3.12": [*BROUGHT, "torch==2.10.0", "torchvision==0.25.0", "numpy==2.0.2", "pandas==2.2.2"],
    "3.13": [*BROUGHT, "torch==2.11.0", "torchvision==0.26.0", "numpy==2.1.3", "pandas==2.2.3"],
}
INSTALLED = "Installed. No GPU: training takes a minute."
NEEDS = "It needs Python 3.11+, a network and {}. Run this cell again when this is fixed."
STOPPED = "Set-up stopped. Run this cell again when this is fixed: "
LOST = "a download failed; check the network, or wait a minute."
FULL = "the disk is full; make room (Colab: Disconnect and delete runtime)."
CHEAP = ("00_", "05_")
CASES = [("3.13", path.name) for path in find()] + [("3.12", path.name) for path in find(CHEAP)]


def python_of(version: str) -> str:
    """A Python of this version: on the PATH or under pyenv; the test is skipped where there is none."""
    under_pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for candidate in (shutil.which(f"python{version}"), *under_pyenv):
        if candidate and subprocess.run([candidate, "-c", ""], capture_output=True).returncode == 0:
            return str(candidate)
    pytest.skip(f"no Python {version} here; install it, for example with `pyenv install {version}`")


def python_in(venv: Path) -> str:
    """The interpreter of a virtual environment."""
    return str(venv / "bin" / "python")


def installed(venv: Path) -> set[str]:
    """All packages there, as name==version."""
    command = [python_in(venv), "-m", "pip", "list", "--format=freeze"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


@functools.cache
def like_colab(version: str) -> Path:
    """A virtual environment with what Colab brings and nothing of ours; it stays as it is."""
    python, packages = python_of(version), COLAB[version]
    digest = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:8]
    venv = FOLDER / f"python{version}-{digest}"
    if not (venv / "complete").exists():
        shutil.rmtree(venv, ignore_errors=True)
        subprocess.run([python, "-m", "venv", venv], check=True)
        command = [python_in(venv), "-m", "pip", "install", "-q", *packages]
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode:
            reason = made.stderr.strip().rpartition("\n")[2]
            pytest.fail(f"{venv} needs a package index and 8 GB of disk; pip says: {reason}", False)
        (venv / "complete").touch()
    return venv


@pytest.fixture
def colab(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A fresh copy of such an environment, in a moment: its files are links."""
    original = like_colab(request.param)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        venv = Path(folder) / "venv"
        shutil.copytree(original, venv, symlinks=True, copy_function=os.link)
        yield venv


class Archive(http.server.SimpleHTTPRequestHandler):
    """Serves files and keeps silent."""

    def log_message(self, *_: object) -> None:
        """No line for each request."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that gives the tracked files of this folder as GitHub does."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    folder = tmp_path_factory.mktemp("server")
    archive = folder / "course" / "archive" / f"{ADDRESS.release}.zip"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                file.write(ROOT / name, f"detection-segmentation/{name}")
    handler = functools.partial(Archive, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/course"
        server.shutdown()


@pytest.fixture(scope="module")
def pip_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What one notebook's pip has downloaded, the next one's need not."""
    return str(tmp_path_factory.mktemp("pip"))


@pytest.fixture
def use_kernel(tmp_path: Path, pip_cache: str, monkeypatch: pytest.MonkeyPatch):
    """A function: from now on `execute` starts the kernel of this environment."""

    def use(venv: Path) -> None:
        kernel = {
            "argv": [python_in(venv), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": "Colab",
            "language": "python",
            "env": alone(venv) | {"PIP_CACHE_DIR": pip_cache},
        }
        folder = tmp_path / "jupyter" / "kernels" / "python3"
        folder.mkdir(parents=True)
        (folder / "kernel.json").write_text(json.dumps(kernel))
        monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))

    return use


def alone(venv: Path) -> dict[str, str]:
    """Variables with which an environment's Python finds no program but its own: no git, no compiler."""
    assert shutil.which("git", path=venv / "bin") is None
    return {"PATH": str(venv / "bin"), "PYTHONPATH": ""}


def without_pictures(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The outputs, changed in place: of a figure, its alt text stays."""
    for output in outputs:
        output.get("data", {}).pop(picture(output), None)
    return outputs


@pytest.mark.parametrize(("colab", "name"), CASES, indirect=["colab"])
def test_a_notebook_alone_installs_the_course_and_runs(
    colab: Path, name: str, repository: str, use_kernel, tmp_path: Path
) -> None:
    stored = nbformat.read(ROOT / "notebooks" / name, as_version=4)
    text = nbformat.writes(stored).replace(ADDRESS.repository, repository)
    content = tmp_path / "content"
    content.mkdir()
    (content / name).write_text(text, encoding="utf-8")
    use_kernel(colab)
    before = installed(colab)

    execution = execute(nbformat.read(content / name, as_version=4), content)

    assert execution.problem is None
    (first, *cells), (stored_first, *stored_cells) = map(code_cells, (execution.notebook, stored))
    line, ready = first.outputs[0].text.splitlines(keepends=True)
    assert (line.startswith(INSTALLED), ready) == (True, stored_first.outputs[0].text)
    assert before - installed(colab) == set(), "packages that were there were changed"
    problems = [
        f"In [{cell.execution_count}]: {problem}"
        for cell, again in zip(stored_cells, cells, strict=True)
        if not ignores_output(cell)
        and (
            problem := outputs_difference(
                without_pictures(cell.outputs), without_pictures(again.outputs), content, name
            )
        )
    ]
    assert problems == []


def archive(address: str) -> str:
    """What the set-up cell installs where this stands for the repository's address."""
    return f"{address}/archive/{ADDRESS.release}.zip"


def run_setup_cell(
    venv: Path, address: str, *before: str, **variables: str
) -> subprocess.CompletedProcess:
    """The set-up cell, run by an environment's Python; an exception as Jupyter shows it.

    Args:
        venv: the environment.
        address: stands for the repository's.
        before: a command that starts Python.
        variables: of the process, besides those that all need.
    """
    cell = setup_source(ADDRESS._replace(repository=address))
    show = "except Exception as error:\n    print(*error._render_traceback_())"
    return subprocess.run(
        [*before, python_in(venv), "-c", f"try:\n    exec({cell!r})\n{show}"],
        capture_output=True,
        text=True,
        cwd=venv,
        env=os.environ | alone(venv) | {"PIP_RETRIES": "1"} | variables,
    )


def not_installed(venv: Path, address: str, *before: str, **variables: str) -> str:
    """What pip says where the course cannot be installed; the cell's own sentence comes after it."""
    done = run_setup_cell(venv, address, *before, **variables)
    pip_says, _, sentence = done.stderr.rstrip().rpartition("\n")
    assert (done.stdout, sentence) == ("", NEEDS.format(archive(address)))
    assert "Traceback" not in pip_says
    return pip_says


def not_ready(venv: Path, address: str, *before: str, **variables: str) -> str:
    """Why the installed course cannot install what it needs, in one sentence."""
    done = run_setup_cell(venv, address, *before, **variables)
    assert done.stderr == ""
    assert done.stdout.startswith(STOPPED) and done.stdout.count("\n") == 1
    return done.stdout.removeprefix(STOPPED).rstrip()


@pytest.fixture(scope="module", params=COLAB)
def bare(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with nothing but the pip that came with its Python."""
    venv = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([python_of(request.param), "-m", "venv", venv], check=True)
    return venv


@pytest.fixture
def half(tmp_path: Path, repository: str) -> Path:
    """An environment with the course and nothing that it needs, as an interrupted set-up leaves it."""
    venv = tmp_path / "venv"
    subprocess.run([python_of("3.13"), "-m", "venv", venv], check=True)
    install = [python_in(venv), "-m", "pip", "install", "-qq", "--no-deps", archive(repository)]
    subprocess.run(install, check=True)
    return venv


NO_INDEX = {"PIP_INDEX_URL": "http://127.0.0.1:1", "PIP_CONFIG_FILE": os.devnull}


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/course", "http://no-such-host.invalid"])
def test_no_way_to_the_address(bare: Path, address: str) -> None:
    assert "onnection" in not_installed(bare, address)


def test_no_way_to_the_package_index(bare: Path, repository: str) -> None:
    assert "hatchling" in not_installed(bare, repository, **NO_INDEX)


def test_no_way_to_the_package_index_for_what_the_course_needs(half: Path, repository: str) -> None:
    assert not_ready(half, repository, **NO_INDEX) == LOST


def test_a_repository_that_moved_or_is_private(bare: Path, repository: str) -> None:
    assert "404" in not_installed(bare, f"{repository}/moved")


def test_an_old_python(tmp_path: Path, repository: str) -> None:
    python = python_of("3.10")
    subprocess.run([python, "-m", "venv", tmp_path / "venv"], check=True)
    assert "requires a different Python: 3.10." in not_installed(tmp_path / "venv", repository)


def test_no_pip_and_its_advice(half: Path, repository: str) -> None:
    subprocess.run([python_in(half), "-m", "pip", "uninstall", "-qq", "-y", "pip"], check=True)
    advice = f"no pip here; run `!{python_in(half)} -m ensurepip` in a cell."
    assert not_ready(half, repository) == advice
    package = next(half.glob("lib/python*/site-packages/course_utils"))
    shutil.move(package, half / "elsewhere")
    assert "No module named pip" in not_installed(half, repository)
    subprocess.run([python_in(half), "-m", "ensurepip"], check=True, capture_output=True)
    assert any(package.startswith("pip==") for package in installed(half))


MOUNT = 'mount -t tmpfs -o size=4m none "$TMPDIR" && exec "$@"'


def test_a_full_disk(bare: Path, half: Path, tmp_path: Path, repository: str) -> None:
    (tmp_path / "small").mkdir()
    small_disk = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", MOUNT, "sh"]
    variables = {"TMPDIR": str(tmp_path / "small"), "PATH": os.environ["PATH"]}
    if not shutil.which("unshare") or subprocess.run(
        [*small_disk, "true"], env=os.environ | variables, capture_output=True
    ).returncode:  # fmt: skip
        pytest.skip("no disk of 4 MB can be made here; it needs Linux and user namespaces")
    assert "No space left" in not_installed(bare, repository, *small_disk, **variables)
    assert not_ready(half, repository, *small_disk, **variables) == FULL


@pytest.mark.parametrize("colab", ["3.13"], indirect=True)
def test_jupyter_shows_the_sentence_and_no_traceback(
    colab: Path, repository: str, use_kernel, tmp_path: Path
) -> None:
    use_kernel(colab)
    moved = ADDRESS._replace(repository=f"{repository}/moved")
    cell = setup_source(moved)
    execution = execute(new_notebook(cells=[new_code_cell(cell)]), tmp_path)
    (error,) = (one for one in execution.notebook.cells[0].outputs if one.output_type == "error")
    *before, last = error.traceback
    assert last.strip().endswith(NEEDS.format(archive(moved.repository)))
    assert before == ["An exception has occurred, use %tb to see the full traceback.\n"]
