"""`make env` on computers in every state, with a fake Python that plays pip."""

import ast
import errno
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.tools.project_file import LOCAL_NO_DEPS, NO_DEPS, PROJECT, ROOT

# Stands for the system's Python and for the one in .venv: writes down each call, and behaves as `mood` says.
FAKE_PYTHON = """#!/bin/sh
home=$(dirname "$0")
mood=$(cat MOOD)
case "$*" in
*"import pip, sys"*) [ "$mood" = no-pip ] && exit 1; echo VERSION; exit 0 ;;
*" venv "*)
    echo venv >> CALLS
    [ "$mood" = no-ensurepip ] && echo "ensurepip is not available." && exit 1
    mkdir -p "$4/bin" "$4/lib/pythonVERSION/site-packages"
    echo "command = python -m venv $4" > "$4/pyvenv.cfg"
    cp "$0" "$4/bin/python" ;;
*" install "*)
    echo "pip ${*#* install }" >> CALLS
    case "$mood" in
    offline) echo "WARNING: Retrying broken by 'NewConnectionError(: Errno 101)': /hatchling/"
             echo "ERROR: No matching distribution found for hatchling>=1.26"; exit 1 ;;
    no-build) echo "ERROR: No matching distribution found for torch==2.11.0"; exit 1 ;;
    disk-full) echo "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
               exit 1 ;;
    odd) echo "ERROR: something nobody thought of"; exit 1 ;;
    slow) exec sleep 20 ;;
    esac ;;
*"import torch"*) echo import >> CALLS; [ "$mood" = broken ] && exit 1 ;;
esac
exit 0
"""
WHOLE = [
    "venv",
    "pip -e .[lab,test,browser] -c constraints.txt",
    f"pip --no-deps {' '.join(NO_DEPS + LOCAL_NO_DEPS)}",
    "import",
]

posix = pytest.mark.skipif(os.name == "nt", reason="the fake Python is a shell script")


class Computer:
    """A copy of the project's environment files in an empty folder, on a computer with moods."""

    def __init__(self, folder: Path):
        self.root = folder / "the course"  # a space, as in many students' paths
        (self.root / "tools").mkdir(parents=True)
        for name in ("pyproject.toml", "constraints.txt", "tools/env.py"):
            shutil.copy(ROOT / name, self.root / name)
        self.venv = self.root / ".venv"
        self.site = self.venv / "lib" / "python{}.{}".format(*sys.version_info) / "site-packages"
        self.calls_file, self.mood_file, self.python = (
            folder / "calls",
            folder / "mood",
            folder / "python",
        )
        text = FAKE_PYTHON.replace("VERSION", "{}.{}".format(*sys.version_info))
        self.python.write_text(
            text.replace("CALLS", str(self.calls_file)).replace("MOOD", str(self.mood_file))
        )
        self.python.chmod(0o755)

    def tool(self):
        spec = importlib.util.spec_from_file_location(
            "env_of_a_computer", self.root / "tools" / "env.py"
        )
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.BASE = str(self.python)
        return module

    def make(self, mood: str = "well") -> list[str]:
        """Run the tool; return the commands it ran."""
        self.mood_file.write_text(mood)
        self.calls_file.write_text("")
        self.tool().main()
        return self.calls_file.read_text().splitlines()

    def refuse(self, mood: str) -> str:
        """Run the tool where it must give up, with exit status 1; return its sentence."""
        with pytest.raises(SystemExit) as stop:
            self.make(mood)
        assert isinstance(stop.value.code, str), "a sentence is what makes the exit status 1"
        return stop.value.code


@pytest.fixture
def computer(tmp_path):
    return Computer(tmp_path)


@posix
def test_an_empty_folder_gets_everything_and_a_second_run_does_nothing(computer, capsys):
    assert computer.make() == WHOLE
    assert "Ready." in capsys.readouterr().out
    assert computer.make() == []
    assert capsys.readouterr().out == ""


@posix
@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt", "tools/env.py"])
def test_a_changed_file_brings_the_environment_up_to_date(computer, name):
    computer.make()
    with open(computer.root / name, "a") as file:
        file.write("\n# changed\n")
    assert computer.make() == WHOLE[1:]
    assert computer.make() == []


@posix
@pytest.mark.parametrize(
    ("mood", "words"),
    [
        ("offline", "The package index cannot be reached. Check the network"),
        ("disk-full", "The disk is full: the environment needs about 5 GB"),
        ("no-build", "pip found no build of torch==2.11.0 for this computer"),
        ("odd", "pip could not install the packages. Details:"),
        ("broken", "The packages were installed, but do not import."),
        (
            "no-ensurepip",
            "has no venv module. Install it (Debian, Ubuntu: sudo apt install python3-venv)",
        ),
    ],
)
def test_each_failure_is_one_sentence_and_the_next_run_repairs_it(computer, mood, words):
    sentence = computer.refuse(mood)
    assert words in sentence
    assert "\n" not in sentence
    assert "{" not in sentence
    repaired = computer.make()
    assert repaired in (WHOLE, WHOLE[1:])
    assert computer.make() == []


@posix
def test_the_log_that_a_sentence_names_has_what_pip_said(computer):
    sentence = computer.refuse("odd")
    log = sentence.partition("Details: ")[2]
    assert "something nobody thought of" in Path(log).read_text()


@posix
def test_an_old_failure_in_the_log_does_not_explain_a_new_one(computer):
    computer.refuse("offline")
    assert "something" not in computer.refuse("odd")
    assert "network" not in computer.refuse("odd")


@posix
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "The disk is full"),
        (PermissionError(errno.EACCES, "Permission denied"), "could not be made"),
    ],
)
def test_a_folder_that_cannot_be_written_is_told_in_a_sentence(computer, monkeypatch, error, words):
    tool = computer.tool()

    def refuse():
        raise error

    monkeypatch.setattr(tool, "make_venv", refuse)
    with pytest.raises(SystemExit, match=words):
        tool.main()


@posix
@pytest.mark.parametrize("broken", [b"<<<<<<< HEAD\n", b"\xff\xfe", b"[tool]\n", b"tool = 1\n"])
def test_a_broken_pyproject_is_told_before_anything_is_made(computer, broken):
    (computer.root / "pyproject.toml").write_bytes(broken)
    sentence = computer.refuse("well")
    assert sentence.startswith("pyproject.toml cannot be read (") and "\n" not in sentence
    assert computer.calls_file.read_text() == "" and not computer.venv.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such paths")
def test_a_path_that_is_not_utf8_is_told_in_a_sentence(computer):
    folder = os.fsencode(computer.root.parent) + b"/caf\xe9"
    os.rename(computer.root, folder)
    run = subprocess.run(
        [sys.executable, folder + b"/tools/env.py"], capture_output=True, text=True
    )
    assert run.returncode == 1
    assert run.stderr.startswith("The path of this folder, ") and run.stderr.count("\n") == 1
    assert "Rename the folder" in run.stderr and os.listdir(folder) != []


@posix
def test_what_a_killed_pip_left_half_installed_is_removed(computer):
    computer.make()
    (computer.venv / "stamp").unlink()
    for name in ("torch-2.11.0.dist-info", "numpy-2.4.6.dist-info", "~umpy", "scipy"):
        (computer.site / name).mkdir()
    (computer.site / "numpy-2.4.6.dist-info" / "RECORD").touch()
    assert computer.make() == WHOLE[1:]
    assert {path.name for path in computer.site.iterdir()} == {"numpy-2.4.6.dist-info", "scipy"}


def damaged(computer, how):
    python, config = computer.venv / "bin" / "python", computer.venv / "pyvenv.cfg"
    if how == "its python is gone":
        python.unlink()
        python.symlink_to("/nowhere/python")
    elif how == "its python does not start":
        python.write_text("#!/bin/sh\nexit 127\n")
    elif how == "its python is of another version":
        python.write_text("#!/bin/sh\necho 3.10\n")
    elif how == "it was made elsewhere":
        config.write_text("command = python -m venv /elsewhere/.venv")
    elif how == "only a folder was made":
        shutil.rmtree(computer.venv)
        computer.venv.mkdir()


@posix
@pytest.mark.parametrize(
    "how",
    [
        "its python is gone",
        "its python does not start",
        "its python is of another version",
        "it was made elsewhere",
        "only a folder was made",
    ],
)
def test_a_broken_environment_is_made_anew(computer, how):
    computer.make()
    (computer.venv / "stamp").unlink()
    (computer.venv / "leftover").touch()
    damaged(computer, how)
    assert computer.make() == WHOLE
    assert not (computer.venv / "leftover").exists()


@posix
def test_a_python_that_is_gone_is_seen_in_spite_of_the_stamp(computer):
    computer.make()
    damaged(computer, "its python is gone")
    assert computer.make() == WHOLE


@posix
def test_an_environment_without_pip_is_made_anew(computer):
    computer.make()
    (computer.venv / "stamp").unlink()
    assert computer.make("no-pip") == WHOLE


@posix
def test_a_moved_folder_gets_a_new_environment(computer):
    computer.make()
    computer.root = computer.root.rename(computer.root.with_name("moved"))
    assert computer.make() == WHOLE


@posix
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on_and_leaves_no_pip_behind(computer, by):
    computer.make()
    (computer.venv / "stamp").unlink()
    computer.mood_file.write_text("slow")
    computer.calls_file.write_text("")
    command = [sys.executable, str(computer.root / "tools" / "env.py")]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # background jobs ignore it
    ) as run:
        while "pip" not in computer.calls_file.read_text():
            assert run.poll() is None
            time.sleep(0.01)
        run.send_signal(by)
        _, errors = run.communicate(timeout=10)  # pip has the pipe's other end no more
    assert run.returncode == 1
    assert errors.strip() == "Interrupted. Run this again: it resumes."
    assert computer.make() == WHOLE[1:]


OLD = """
import runpy, sys
sys.version_info = (3, 8, 18, "final", 0)
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def test_a_python_too_old_is_told_so():
    run = subprocess.run(
        [sys.executable, "-c", OLD, str(ROOT / "tools" / "env.py")], capture_output=True, text=True
    )
    assert run.returncode == 1
    assert run.stderr.startswith("Python 3.11 or newer is needed, this is 3.8 (")
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "name", ["python2.7", "python3.6", "python3.7", "python3.8", "python3.9", "python3.10"]
)
def test_real_old_pythons_read_the_tool(name):
    found = shutil.which(name)
    if not found or subprocess.run([found, "-c", ""], capture_output=True).returncode:
        pytest.skip(f"no {name} here")
    run = subprocess.run([found, str(ROOT / "tools" / "env.py")], capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.startswith(
        "Python 3.11 or newer is needed, this is " + name.removeprefix("python")
    )


def test_the_tool_is_written_for_old_pythons():
    tree = ast.parse((ROOT / "tools" / "env.py").read_text(), feature_version=(3, 7))
    modern = (ast.JoinedStr, ast.NamedExpr, ast.AnnAssign, ast.Starred)
    names = [type(node).__name__ for node in ast.walk(tree) if isinstance(node, modern)]
    assert set(names) <= {"Starred"}, "f-strings, annotations and := came after Python 2.7"
    assert PROJECT["requires-python"] == ">={}.{}".format(*module_constant(tree, "NEEDED"))


def module_constant(tree: ast.Module, name: str):
    return next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == name
    )
