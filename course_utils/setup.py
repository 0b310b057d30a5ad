"""Set-up, the first line of every notebook: installs what the course needs where that is missing.

Before set-up only Python itself need be there, so the top imports nothing else.
"""

import importlib
import re
import subprocess
import sys
from importlib import metadata

COURSE = "detection-segmentation-course"
STAYS = ("torch", "torchvision", "numpy")  # in the version that is there
REQUIREMENT = re.compile(r"([\w.-]+)[>=]=([\d.]+)(?: *; *extra == ['\"]([\w-]+)['\"])?")
ADVICE = {  # where pip says this: tell that
    "No module named pip": f"no pip here; run `!{sys.executable} -m ensurepip` in a cell.",
    "No space left": "the disk is full; make room (Colab: Disconnect and delete runtime).",
    "conflicting dependencies": "this torch, torchvision or numpy is too old, and set-up leaves them alone; "
    f"run `!{sys.executable} -m pip install -U torch torchvision numpy` in a cell, then restart.",
    "onnection": "a download failed; check the network, or wait a minute.",
}


class NotReady(Exception):
    """Set-up cannot go on. Jupyter shows one sentence and no traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"Set-up stopped. Run this cell again when this is fixed: {self}".strip()]


def ready() -> None:
    """Install what is missing, then print one line: the course works, or what does not and what to do.

    The line contains no version and no device, so that it is the same on every machine.

    Raises:
        NotReady: pip could not install what is missing.

    >>> ready()
    Ready: Python, torch, torchvision and course_utils work together here.
    """
    installed = _install_missing()
    for name in ("torchvision", "matplotlib", "ipywidgets"):
        try:
            importlib.import_module(name)
        except Exception as error:  # torchvision raises RuntimeError when it does not fit torch
            print(
                f"Not ready: importing {name} failed ({error}). Run `pip install {name}`, then restart."
            )
            return
    if installed:
        gpu = importlib.import_module("torch").cuda.is_available()
        print("Installed.", "Training uses the GPU." if gpu else "No GPU: training takes a minute.")
    print("Ready: Python, torch, torchvision and course_utils work together here.")


def _install_missing() -> bool:
    """Install what the course requires and is missing; return whether anything was."""
    alone, others = _missing("no-deps"), _missing()
    if alone:
        _pip_install("--no-deps", *alone)
    if others:
        _pip_install(*others, *(f"{name}=={_version(name)}" for name in STAYS if _version(name)))
    importlib.invalidate_caches()
    return bool(alone or others)


def _missing(extra: str | None = None) -> list[str]:
    """The course's requirements, without an extra or of this one, that are not here or too old."""
    try:
        lines = metadata.requires(COURSE)
    except metadata.PackageNotFoundError as error:
        raise NotReady(
            "only a part of the course is here; in another cell, run "
            f"`!{sys.executable} -m pip install --no-deps` with the url of this one."
        ) from error
    found = ((line, *REQUIREMENT.fullmatch(line).groups()) for line in lines)
    return [
        line.partition(";")[0]
        for line, name, oldest, of in found
        if of == extra and _release(_version(name)) < _release(oldest)
    ]


def _version(package: str) -> str:
    """The version that is installed; empty where there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _release(version: str) -> list[int]:
    """The first four numbers of a version, to compare.

    >>> _release("2.6.0+cu124") == _release("2.6") < _release("2.10")
    True
    """
    numbers = re.findall(r"\d+", re.match(r"[\d.]*", version)[0])
    return [*map(int, numbers), 0, 0, 0, 0][:4]


def _pip_install(*packages: str) -> None:
    """Run pip; what it says on failure becomes advice where it is known."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    done = subprocess.run([*pip, *packages], capture_output=True, text=True)
    if done.returncode:
        raise NotReady(next((ADVICE[w] for w in ADVICE if w in done.stderr), done.stderr))
