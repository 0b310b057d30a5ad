"""course_utils.setup: the line a notebook begins with, and how requirements are read and compared."""

import importlib
import subprocess
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from course_utils import setup
from tests.tools.project_file import NO_DEPS, PROJECT

READY = "Ready: Python, torch, torchvision and course_utils work together here.\n"


def test_ready_where_nothing_is_missing_runs_no_pip(capsys, monkeypatch):
    monkeypatch.setattr(subprocess, "run", None)
    setup.ready()
    assert capsys.readouterr().out == READY


@pytest.mark.parametrize("missing", ["torchvision", "ipywidgets"])
@pytest.mark.parametrize("error", [ImportError, RuntimeError])
def test_ready_says_what_does_not_work(capsys, monkeypatch, missing, error):
    def import_module(name):
        if name == missing:
            raise error("it does not fit")

    monkeypatch.setattr(importlib, "import_module", import_module)
    setup.ready()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(
        f"Not ready: importing {missing} failed (it does not fit). Run `pip install {missing}`"
    )


def test_importing_it_needs_nothing_but_python():
    code = (
        "import sys, course_utils.setup; print(*{name.partition('.')[0] for name in sys.modules})"
    )
    run = [sys.executable, "-S", "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    own = {"course_utils", "__main__", "__mp_main__"}
    assert set(done.stdout.split()) - own <= sys.stdlib_module_names


def test_every_requirement_of_the_course_can_be_read():
    texts = [*PROJECT["dependencies"], *(f"{one}; extra == 'no-deps'" for one in NO_DEPS)]
    for requirement in map(Requirement, texts):
        for text in (str(requirement), str(requirement).replace('"', "'")):
            name, oldest, extra = setup.REQUIREMENT.fullmatch(text).groups()
            assert (name, extra) == (requirement.name, "no-deps" if requirement.marker else None)
            assert requirement.specifier.contains(oldest)
    assert all(map(setup.REQUIREMENT.fullmatch, metadata.requires(setup.COURSE)))


@pytest.mark.parametrize(
    ("version", "oldest", "too_old"),
    [
        ("2.6.0+cu124", "2.6", False),
        ("2.5.1+cu124", "2.6", True),
        ("2.12.0.dev20260101", "2.6", False),
        ("0.25.0", "0.3", False),
        ("10", "10.0", False),
        ("2.0.8.post1", "2.0.8", False),
        ("", "1.0", True),
    ],
)
def test_versions_are_compared_as_numbers(version, oldest, too_old):
    assert (setup._release(version) < setup._release(oldest)) == too_old


def test_the_present_version_is_found_by_either_name():
    assert setup._version("deep-sort-realtime") == setup._version("deep_sort_realtime") != ""
    assert setup._version("no-such-package") == ""
