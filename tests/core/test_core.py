"""course_utils.core: conventions, seeds, devices and shipped files."""

import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from course_utils import core


def test_void_is_what_the_data_sets_use():
    assert core.VOID == 255


def test_everything_public_is_there():
    for name in core.__all__:
        assert hasattr(core, name)


def test_importing_the_course_is_cheap():
    code = "import course_utils, sys; print({'torch', 'numpy', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- seeds


def draws():
    return random.random(), np.random.rand(), torch.rand(()).item()


def test_one_seed_seeds_all_three():
    core.seed_everything(3)
    first = draws()
    assert draws() != first
    core.seed_everything(3)
    assert draws() == first
    core.seed_everything(4)
    assert not set(draws()) & set(first)


def test_the_generator_is_not_disturbed_by_other_draws():
    expected = torch.rand(4, generator=core.seed_everything(3))
    generator = core.seed_everything(3)
    torch.rand(100)
    assert torch.equal(torch.rand(4, generator=generator), expected)


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_seeds_at_the_limits(seed):
    assert core.seed_everything(seed).initial_seed() == seed


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize(
    ("seed", "error"),
    [(-1, ValueError), (2**32, ValueError), (1.0, TypeError), ("1", TypeError), (True, TypeError)],
)
def test_bad_seeds(seed, error):
    with pytest.raises(error, match=r"^seed: expected"):
        core.seed_everything(seed)


# --- devices


def test_device_by_name():
    assert core.get_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(("available", "expected"), [(True, "cuda"), (False, "cpu")])
def test_device_of_choice(monkeypatch, available, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert core.get_device() == torch.device(expected)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:99", "cpu:x"])
def test_no_such_device(name):
    with pytest.raises(ValueError, match=r"^name: this machine has no device"):
        core.get_device(name)


# --- shipped files


def test_shipped_files_are_found():
    assert core.data_path().is_dir()
    assert core.data_path("annotations").is_dir()


def test_missing_file_is_named():
    with pytest.raises(
        FileNotFoundError,
        match=r"^no shipped file annotations/no-such-thing\.json in .*; reinstall",
    ):
        core.data_path("annotations", "no-such-thing.json")


def test_an_installed_course_finds_its_files_inside_the_package(monkeypatch, tmp_path):
    package = tmp_path / "course_utils"
    (package / "core").mkdir(parents=True)
    (package / "_data").mkdir()
    (package / "_data" / "card.txt").write_text("hello")
    monkeypatch.setattr("course_utils.core.paths.__file__", str(package / "core" / "paths.py"))
    assert core.data_path("card.txt").read_text() == "hello"
