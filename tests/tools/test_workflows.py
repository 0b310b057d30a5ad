"""The workflows for GitHub Actions run what the Makefile and the README offer, and nothing else."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = re.findall(r"(?m)^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def load(path: Path) -> dict:
    """A workflow; PyYAML reads its `on` as YAML 1.1 does, as true."""
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {("on" if key is True else key): value for key, value in workflow.items()}


def steps(workflow: dict) -> Iterator[dict]:
    """The steps of all its jobs."""
    for job in workflow["jobs"].values():
        yield from job["steps"]


def is_offered(command: str, readme: str = README, targets: list[str] = TARGETS) -> bool:
    """Whether a person finds the command in the list of `make`, or letter by letter in the README."""
    if command.startswith("make "):
        return command.removeprefix("make ") in targets
    return f"\n    {command}\n" in readme


def python_versions(job: dict) -> list[str]:
    """The Python versions that a job sets up."""
    matrix = job.get("strategy", {}).get("matrix", {})
    asked = [s["with"] for s in job["steps"] if "actions/setup-python@" in s.get("uses", "")]
    version = asked[0]["python-version"] if asked else ""
    return matrix["python-version"] if "matrix." in version else version.split()


def test_the_workflows() -> None:
    assert [path.stem for path in WORKFLOWS] == ["pages", "test", "weekly"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow(path: Path) -> None:
    workflow = load(path)
    assert workflow["name"] == path.stem
    assert workflow["on"] and workflow["permissions"]["contents"] == "read"
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 240
        assert set(python_versions(job)) <= set(classified())
    for step in steps(workflow):
        assert ("run" in step) != ("uses" in step)
        assert "uses" in step or is_offered(step["run"]), (
            f"neither in the Makefile nor in the README: {step['run']}"
        )


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_named_by_commit_because_a_tag_can_be_moved(path: Path) -> None:
    used = re.findall(r"uses: (.*)", path.read_text(encoding="utf-8"))
    assert used
    for action in used:
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_no_job_that_runs_our_code_may_write(path: Path) -> None:
    workflow = load(path)
    for job in workflow["jobs"].values():
        rights = job.get("permissions", workflow["permissions"])
        if any("run" in step for step in job["steps"]):
            assert rights == {"contents": "read"}


def test_a_command_that_nobody_offers() -> None:
    assert is_offered("make test", targets=["test"]) and not is_offered(
        "make tea", targets=["test"]
    )
    readme = "Plain:\n\n    py tools\\env.py\n"
    assert is_offered("py tools\\env.py", readme) and not is_offered("py tools\\env", readme)


def classified() -> list[str]:
    """The Python versions that pyproject.toml promises."""
    found = (
        re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", c)
        for c in PROJECT["classifiers"]
    )
    return [match[1] for match in found if match]


def test_every_promised_python_and_system_is_tried() -> None:
    jobs = load(ROOT / ".github" / "workflows" / "test.yml")["jobs"]
    assert python_versions(jobs["linux"]) == classified()
    assert [job["runs-on"] for job in jobs.values()] == [
        "ubuntu-latest",
        "macos-latest",
        "windows-latest",
    ]
    windows = jobs["windows"]
    assert python_versions(windows) == [windows["env"]["PY_PYTHON"]]


def test_windows_runs_all_of_the_plain_commands() -> None:
    windows = load(ROOT / ".github" / "workflows" / "test.yml")["jobs"]["windows"]
    ours = [step["run"] for step in windows["steps"] if "run" in step]
    assert "".join(f"    {command}\n" for command in ours) in README


def test_pages_are_those_of_make_run() -> None:
    workflow = load(ROOT / ".github" / "workflows" / "pages.yml")
    commands = [step.get("run", step.get("uses", "").partition("@")[0]) for step in steps(workflow)]
    order = ["make run", "actions/upload-pages-artifact", "actions/deploy-pages"]
    assert [command for command in commands if command in order] == order
    upload = next(step for step in steps(workflow) if "upload" in step.get("uses", ""))
    assert upload["with"]["path"] == "build/site"
    deploy = workflow["jobs"]["deploy"]
    assert deploy["permissions"] == {"pages": "write", "id-token": "write"}
    assert deploy["needs"] == "run"
