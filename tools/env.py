"""Make the course's environment in `.venv`, or repair it; do nothing when it is ready.

Only the standard library, and only syntax that Python 2.7 can read: somebody with an old Python gets a
sentence, not a traceback. Run by `make env`; without make: `python tools/env.py`.
"""

import sys

NEEDED = (3, 11)
if sys.version_info < NEEDED:
    sys.exit(
        "Python {}.{} or newer is needed, this is {}.{} ({}). Install one (https://www.python.org/downloads, "
        "or your system's packages) and name it: make env PYTHON=python3.12".format(
            *(NEEDED + tuple(sys.version_info[:2]) + (sys.executable,))
        )
    )

import contextlib
import errno
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import time
import tomllib

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
VENV = os.path.join(ROOT, ".venv")
LOG = os.path.join(VENV, "install.log")
STAMP = os.path.join(VENV, "stamp")
VERSION = "{}.{}".format(*sys.version_info[:2])
# Not sys.executable: this may run inside the very .venv that it remakes.
BASE = getattr(sys, "_base_executable", sys.executable)
if os.name == "nt":
    PYTHON = os.path.join(VENV, "Scripts", "python.exe")
    SITE = os.path.join(VENV, "Lib", "site-packages")
else:
    PYTHON = os.path.join(VENV, "bin", "python")
    SITE = os.path.join(VENV, "lib", "python" + VERSION, "site-packages")

NOT_UTF8 = (
    "The path of this folder, {}, has letters that are not UTF-8: no virtual environment can be made there. "
    "Rename the folder, then run this again.".format(ascii(ROOT))
)
NO_VENV = (
    "This Python ({}) has no venv module. Install it (Debian, Ubuntu: sudo apt install python3-venv), "
    "then run this again.".format(sys.executable)
)
DISK_FULL = (
    "The disk is full: the environment needs about 5 GB in {} (and pip some in the temporary folder). "
    "Make room, then run this again: it resumes.".format(ROOT)
)
NO_NETWORK = (
    "The package index cannot be reached. Check the network (or the proxy), then run this again: it resumes. "
    "Details: {}".format(LOG)
)
NO_BUILD = "pip found no build of PACKAGE for this computer ({} {}, Python {}). Details: {}".format(
    platform.system(), platform.machine(), VERSION, LOG
)
INTERRUPTED = "Interrupted. Run this again: it resumes."
REASONS = (
    (r"No space left on device|Disk quota exceeded|\[Errno 28\]|WinError 112", DISK_FULL),
    (r"ensurepip is not available|No module named '?(venv|ensurepip)", NO_VENV),
    (
        r"NewConnectionError|ConnectTimeoutError|ReadTimeoutError|ProxyError|NameResolutionError|SSLError"
        r"|ProtocolError|Connection(Reset|Refused|Aborted)?Error|getaddrinfo failed|Network is unreachable",
        NO_NETWORK,
    ),
    (r"No matching distribution found for (?P<package>[^\s;]+)", NO_BUILD),
)


def fingerprint():
    """A hash of all that decides what `.venv` holds."""
    digest = hashlib.sha256((VERSION + ROOT).encode())
    for name in ("pyproject.toml", "constraints.txt", os.path.join("tools", "env.py")):
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def read(path):
    """The text of a file, empty where there is none."""
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def say(text):
    sys.stdout.write(text)
    sys.stdout.flush()


def is_ready():
    return os.path.exists(PYTHON) and read(STAMP) == fingerprint()


def is_sound():
    """Whether `.venv` was made here by this version of Python, and still starts and has pip."""
    if VENV not in read(os.path.join(VENV, "pyvenv.cfg")):
        return False  # a folder that was moved keeps its old paths
    question = "import pip, sys; print('{}.{}'.format(*sys.version_info[:2]))"
    try:
        answer = subprocess.run([PYTHON, "-I", "-c", question], capture_output=True, text=True)
    except OSError:
        return False
    return answer.returncode == 0 and answer.stdout.strip() == VERSION


@contextlib.contextmanager
def alone():
    """Wait for another run in this folder; its pip inherits the lock and keeps it if its parent is killed."""
    if fcntl is None:
        yield
        return
    handle = os.open(ROOT, os.O_RDONLY)
    os.set_inheritable(handle, True)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("Another run is making this environment: waiting for it.\n")
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        pass  # a file system without locks
    try:
        yield
    finally:
        os.close(handle)


def sweep():
    """Remove what a killed pip left half-installed and would otherwise take for installed."""
    for name in os.listdir(SITE):
        path = os.path.join(SITE, name)
        recorded = os.path.exists(os.path.join(path, "RECORD"))
        if (name.endswith(".dist-info") and not recorded) or name.startswith("~"):
            shutil.rmtree(path)


def explain(output, otherwise):
    """One sentence for a person from what a failed command said."""
    for pattern, sentence in REASONS:
        found = re.search(pattern, output)
        if found:
            return sentence.replace("PACKAGE", found.groupdict().get("package", ""))
    return otherwise


def step(title, command, otherwise):
    """Run a command with its output in the log, and say what goes on and for how long; exit if it fails."""
    terminal = sys.stdout.isatty()
    with open(LOG, "a+", encoding="utf-8", errors="replace") as log:
        log.write("\n$ {}\n".format(" ".join(command)))
        log.flush()
        start, began = log.tell(), time.monotonic()
        say("  {} ...".format(title))
        process = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=ROOT, close_fds=False
        )
        try:
            while process.poll() is None:
                try:
                    process.wait(1)
                except subprocess.TimeoutExpired:
                    if terminal:
                        say("\r  {} ... {:.0f} s".format(title, time.monotonic() - began))
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        seconds = " {:.0f} s\n".format(time.monotonic() - began)
        say("\r  {} ...{}".format(title, seconds) if terminal else seconds)
        if process.returncode:
            log.seek(start)
            sys.exit(explain(log.read(), otherwise))


def make_venv():
    if os.path.isdir(VENV):
        say("  removing a .venv that does not fit or does not work\n")
        shutil.rmtree(VENV)
    os.mkdir(VENV)
    step(
        "a virtual environment, Python " + VERSION,
        [BASE, "-I", "-m", "venv", VENV],
        "The virtual environment could not be made. Details: " + LOG,
    )


def installed_apart():
    """The packages that pyproject.toml wants without their dependencies."""
    try:
        with open(os.path.join(ROOT, "pyproject.toml"), "rb") as file:
            tables = tomllib.load(file)
        course = tables["tool"]["course"]
        no_deps = tables["project"]["optional-dependencies"]["no-deps"]
        return no_deps + course["lab-no-deps"] + course["test-no-deps"]
    except (KeyError, TypeError, ValueError) as error:
        sys.exit(
            "pyproject.toml cannot be read ({}: {}). Restore it (git checkout pyproject.toml), then run this "
            "again.".format(type(error).__name__, error)
        )


def install(apart):
    failed = "pip could not install the packages. Details: " + LOG
    pip = [PYTHON, "-I", "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    step("the packages", pip + ["-e", ".[lab,test,browser]", "-c", "constraints.txt"], failed)
    step(" ".join(apart), pip + ["--no-deps"] + apart, failed)
    step(
        "a first import",
        [PYTHON, "-I", "-c", "import torch, torchvision, course_utils"],
        "The packages were installed, but do not import. Remove .venv and run this again. Details: "
        + LOG,
    )


def make():
    """Make or repair the environment: the stamp goes first and comes back last."""
    apart = installed_apart()
    say("Making the environment in .venv (about 5 GB on Linux; minutes the first time):\n")
    if os.path.exists(STAMP):
        os.remove(STAMP)
    if not is_sound():
        make_venv()
    sweep()
    install(apart)
    with open(STAMP, "w") as file:
        file.write(fingerprint())
    say("Ready.\n")


def main():
    try:
        ROOT.encode("utf-8")
        if is_ready():
            return
        with alone():
            if not is_ready():
                make()
    except KeyboardInterrupt:
        sys.exit("\n" + INTERRUPTED)
    except UnicodeEncodeError:
        sys.exit(NOT_UTF8)
    except OSError as error:
        if errno.errorcode.get(error.errno) in ("ENOSPC", "EDQUOT"):
            sys.exit(DISK_FULL)
        sys.exit("The environment could not be made: {}".format(error))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main()
