"""Files that must agree about what is installed, and commands that must be the same everywhere."""

import ast
import doctest
import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.tools.project_file import LOCAL_NO_DEPS, NO_DEPS, PROJECT, ROOT

posix = pytest.mark.skipif(os.name == "nt", reason="this needs make")


def requirements(*extras: str) -> dict[str, Requirement]:
    groups = [
        PROJECT["dependencies"],
        *(PROJECT["optional-dependencies"][extra] for extra in extras),
    ]
    return {canonicalize_name(one.name): one for one in map(Requirement, chain(*groups))}


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


def test_the_tested_set_lies_in_the_ranges_and_names_every_requirement():
    pins = constraints()
    for name, requirement in requirements("lab", "test", "browser").items():
        assert requirement.specifier.contains(pins[name]), f"{requirement} and {name}=={pins[name]}"


def test_every_import_comes_with_the_tested_set():
    known = constraints().keys() | {
        canonicalize_name(Requirement(one).name) for one in NO_DEPS + LOCAL_NO_DEPS
    }
    known |= {"triton"}  # torch brings and pins it on Linux; elsewhere the kernels are not used
    own = {"course_utils", "tests", "tools"}
    providers = packages_distributions()
    for folder in own:
        for path in (ROOT / folder).rglob("*.py"):
            for package in imports(path) - sys.stdlib_module_names - own:
                names = {canonicalize_name(name) for name in providers.get(package, [package])}
                assert names & known, (
                    f"{path.relative_to(ROOT)} imports {package}: not in constraints.txt"
                )


def imports(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules.add(node.module)
    return {module.partition(".")[0] for module in modules}


def test_the_tested_set_has_no_package_of_one_platform_and_no_address():
    text = (ROOT / "constraints.txt").read_text()
    assert not re.search(r"(?m)^(nvidia-|cuda-|triton)|://|--| @ ", text)
    names = [line.split("==")[0] for line in text.splitlines() if not line.startswith("#")]
    assert sorted(names, key=canonicalize_name) == names
    assert len(names) == len(constraints())


def test_conda_gets_what_pip_gets():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    *packages, pip_part = conda["dependencies"]
    other_names = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
    found = {one.name: one.specifier for one in map(Requirement, packages)}
    found = {other_names.get(name, name): ranges for name, ranges in found.items()}
    assert found.pop("pip") == ""
    assert found.pop("python").contains(PROJECT["requires-python"].removeprefix(">="))
    assert found == {name: one.specifier for name, one in requirements("lab", "test").items()}
    assert pip_part == {"pip": ["-e ."]}
    assert conda["channels"] == ["conda-forge"]


def test_conda_users_are_told_the_packages_that_come_without_dependencies():
    line = "pip install --no-deps " + " ".join(NO_DEPS)
    assert f"#     {line}\n" in (ROOT / "environment.yml").read_text()


def test_a_student_on_colab_keeps_what_is_there():
    for one in requirements().values():
        assert {part.operator for part in one.specifier} == {">="}, (
            f"{one}: a floor, no pin and no ceiling"
        )


def test_continuous_integration_runs_the_command_of_the_readme():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert lines[-1] == "exec make test"
    assert not re.search(r"\b(pip|apt|conda|curl)\b", script.read_text())


@posix
def test_make_lists_its_targets_and_names_a_python_that_is_missing():
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^  make (\w+)", listed, re.M)[:4] == ["help", "env", "run", "test"]
    run = subprocess.run(
        ["make", "env", "PYTHON=no-such-python"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 2
    assert run.stderr.startswith("No Python was found. Python 3.11 or newer is needed")


def test_the_example_in_the_readme():
    failed, tried = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert tried > 0 and failed == 0


@pytest.mark.skipif(os.name == "nt", reason="Binder runs Linux; this needs its shell")
def test_binder_installs_the_same_packages():
    script = ROOT / "postBuild"
    assert os.access(script, os.X_OK)
    line = next(line for line in script.read_text().splitlines() if line.startswith("python -c"))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", line.rstrip(" |")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": path},
    )
    assert done.stdout.split() == NO_DEPS, done.stderr
