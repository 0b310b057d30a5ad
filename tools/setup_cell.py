# Set-up: uses the installed course, or installs it (Colab) beside what is there, which stays.
import subprocess
import sys
from importlib import import_module, invalidate_caches, util
from importlib.metadata import version


class NotReady(Exception):
    def _render_traceback_(self):  # what Jupyter shows: one sentence, no traceback
        return [f"Set-up stopped. Run this cell again when this is fixed: {self}".strip()]


if util.find_spec("course_utils") is None:
    if sys.version_info.minor < 11:
        raise NotReady(f"this is Python {sys.version.split()[0]}; choose 3.11 or newer.")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    kept = [f"{n}=={version(n)}" for n in ("torch", "torchvision", "numpy") if util.find_spec(n)]
    course = "{archive}"
    if "/your-organisation/" in course:
        raise NotReady("this copy has no address to install from; ask your teacher for a link.")
    beside = ["{no_deps}"]
    advice = {  # where pip says this: tell that
        "No module named pip": f"no pip here; run `!{sys.executable} -m ensurepip` in a cell.",
        "No space left": "the disk is full; make room (Colab: Disconnect and delete runtime).",
        "error 404": f"there is no public course at {course}; ask for its address.",
        "onnection": "a download failed; check the network, or wait a minute.",
    }
    for packages in (["--no-deps", *beside], [course, *kept]):
        if (done := subprocess.run([*pip, *packages], capture_output=True, text=True)).returncode:
            raise NotReady(next((advice[w] for w in advice if w in done.stderr), done.stderr))
    invalidate_caches()
    gpu = import_module("torch").cuda.is_available()
    print("Installed.", "Training uses the GPU." if gpu else "No GPU: training takes a minute.")
import_module("course_utils.core").ready()
