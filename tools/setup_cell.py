# Set-up: uses the installed course, or installs it (Colab) beside what is there, which stays.
import importlib.util
import subprocess
import sys
from importlib.metadata import distributions


class SetupProblem(Exception):
    def _render_traceback_(self):  # what Jupyter shows: one sentence, no traceback
        return [f"Set-up stopped: {self}"]


if importlib.util.find_spec("course_utils") is None:
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    there = {found.name: found.version for found in distributions()}
    kept = [f"{n}=={v}" for n, v in there.items() if n in ("torch", "torchvision", "numpy")]
    course = "{repository}"
    beside = ["{no_deps}"]
    for packages in ([f"{course}/archive/refs/heads/main.zip", *kept], ["--no-deps", *beside]):
        if (done := subprocess.run([*pip, *packages], capture_output=True, text=True)).returncode:
            reason = done.stderr.strip().rpartition("\n")[2]
            needs = "make sure of a network and of Python 3.11 or newer, then run this cell again"
            raise SetupProblem(f"{needs}. pip says: {reason}")
    importlib.invalidate_caches()
importlib.import_module("course_utils.core").ready()
