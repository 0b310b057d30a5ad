# Set-up: uses the installed course, or installs it (Colab) beside what is there, which stays as it is.
import importlib.util
import subprocess
import sys
from importlib.metadata import distributions


class SetupProblem(Exception):
    def _render_traceback_(self):  # what Jupyter shows: one sentence, no traceback
        return [f"Set-up stopped: {self}"]


if importlib.util.find_spec("course_utils") is None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    kept = [f"{d.name}=={d.version}" for d in distributions() if d.name in ("torch", "torchvision", "numpy")]
    for packages in (["{repository}/archive/refs/heads/main.zip", *kept], ["--no-deps", "{no_deps}"]):
        if (done := subprocess.run([*pip, *packages], capture_output=True, text=True)).returncode:
            reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
            needs = "make sure of a network and of Python 3.11 or newer, then run this cell again"
            raise SetupProblem(f"{needs}. pip says: {reason}")
    importlib.invalidate_caches()
importlib.import_module("course_utils.core").ready()
