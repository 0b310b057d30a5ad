"""Execute notebooks in a fresh kernel and store their outputs in a form that repeats.

python tools/notebooks.py store            every notebook of the course
python tools/notebooks.py store 00 01      those whose file names begin so
"""

import argparse
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import psutil
import zmq
from jupyter_core.utils import ensure_event_loop
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"
CELL_SECONDS = 600  # a cell that takes longer hangs
KEPT_OF_NOTEBOOK = {"course"}
KEPT_OF_CELL = {"cellView", "course", "jupyter", "slideshow", "tags"}
INLINE = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
# Threads that wait for each other sleep: on a busy machine those that spin take the cores from those at work.
PATIENT = {"OMP_WAIT_POLICY": "passive"}
COLOUR_CODE = re.compile(r"\x1b\[[0-9;]*m")


class Execution(NamedTuple):
    """What one run of a notebook gave, and what it cost."""

    notebook: NotebookNode
    done: int  # code cells that ran without an error
    seconds: float
    peak_bytes: int  # resident memory of the kernel and its children together, at its highest
    problem: str | None  # None, or the cell and the last line of its traceback


def find(names: Sequence[str] = ()) -> list[Path]:
    """The notebooks in lecture order: all, or those whose file names begin with one of `names`."""
    everything = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))
    for name in names:
        if not any(path.name.startswith(name) for path in everything):
            raise ValueError(f"names: no notebook in {FOLDER.name}/ begins with {name!r}")
    return [path for path in everything if not names or path.name.startswith(tuple(names))]


def read(path: Path) -> NotebookNode:
    """The notebook at `path`.

    Raises:
        ValueError: there is no notebook in the file, but a merge conflict, half of one or nothing.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
        assert all({"cell_type", "source"} <= cell.keys() for cell in notebook.cells)
    except OSError:
        raise
    except Exception as error:  # nbformat raises whatever it stumbles over
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ValueError(f"{path.name} is not a notebook that can be read: {reason}") from error
    return notebook


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that a kernel executes, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


class Client(NotebookClient):
    """nbclient's, mended where it can wait for a cell that is done.

    What is printed into an Output widget (`interact` has one) nbclient sends back to the kernel. When the
    cell's reply comes in just before, sending takes away the mark that says so, and nobody looks for
    the reply: https://github.com/jupyter/nbclient/issues/312. To look once more afterwards is enough.
    """

    def process_message(self, *message: Any) -> NotebookNode | None:
        """Take what the kernel publishes, then see whether a reply is there."""
        output = super().process_message(*message)
        self.kc.shell_channel.socket.get(zmq.EVENTS)
        return output


@contextmanager
def running(notebook: NotebookNode, folder: Path) -> Iterator[NotebookClient]:
    """A client with a fresh kernel that works in `folder`; the kernel ends with the block.

    `store`, `make run` and the tests all execute cells through it, so that what one of them stores
    is what the others see: outputs that a cell clears and those that a widget captures, included.
    """
    client = Client(
        notebook,
        timeout=CELL_SECONDS,
        interrupt_on_timeout=True,
        error_on_timeout={
            "ename": "TimeoutError",
            "evalue": f"this cell takes longer than {CELL_SECONDS} s",
            "traceback": [f"TimeoutError: this cell takes longer than {CELL_SECONDS} s"],
        },
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],
        coalesce_streams=True,
        force_raise_errors=True,
    )
    client.reset_execution_trackers()
    with client.setup_kernel(env=PATIENT | os.environ | INLINE):
        try:
            yield client
        except (
            KeyboardInterrupt
        ):  # the kernel ends at once, and nothing but the caller speaks of it
            client.shutdown_kernel = "immediate"
            ensure_event_loop().set_exception_handler(lambda loop, context: None)
            raise


def execute(
    notebook: NotebookNode,
    folder: Path,
    report: Callable[[int, float], None] = lambda done, seconds: None,
) -> Execution:
    """Run every code cell of `notebook` (changed in place) until the end or the first error.

    Args:
        notebook: what to run; its old outputs go.
        folder: the kernel's working folder.
        report: called ten times a second with the number of code cells done and the seconds passed.

    Returns:
        The notebook with its new outputs, the seconds and memory it took, and the problem if any.
    """
    started, done, peak, finished = time.monotonic(), 0, 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not finished.wait(0.1):
            peak = max(peak, _memory_of_children())
            report(done, time.monotonic() - started)

    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    watcher, problem = threading.Thread(target=watch, daemon=True), None
    watcher.start()
    try:
        with running(notebook, folder) as client:
            for index, cell in enumerate(notebook.cells):
                if cell.cell_type == "code":
                    client.execute_cell(cell, index, execution_count=done + 1)
                    done += 1
    except CellExecutionError as error:
        problem = _problem(done + 1, error.ename, error.evalue)
    except RuntimeError as error:  # the kernel died: the page shall show it
        problem = _problem(done + 1, type(error).__name__, str(error))
        cells = code_cells(notebook)
        cells[min(done, len(cells) - 1)].outputs.append(
            nbformat.v4.new_output("error", ename="Stopped", evalue=problem, traceback=[problem])
        )
    finally:
        finished.set()
        watcher.join()
    return Execution(notebook, done, time.monotonic() - started, peak, problem)


def failure(name: str, problem: str) -> Execution:
    """What stands for the run of a notebook that cannot be read or shown: its name and the problem."""
    cells = [
        nbformat.v4.new_markdown_cell(f"# {name}"),
        nbformat.v4.new_code_cell(
            outputs=[
                nbformat.v4.new_output(
                    "error", ename="Stopped", evalue=problem, traceback=[problem]
                )
            ]
        ),
    ]
    return Execution(nbformat.v4.new_notebook(cells=cells), 0, 0.0, 0, problem)


def _problem(number: int, name: str, message: str) -> str:
    last_line = COLOUR_CODE.sub("", message).strip().splitlines()[-1:]
    return f"In [{number}]: {': '.join([name, *last_line])}"


def _memory_of_children() -> int:
    total = 0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


def tidy(notebook: NotebookNode) -> NotebookNode:
    """Take out, in place, what differs from run to run or machine to machine and says nothing.

    Kept: sources, ids, tags, slide types, outputs with their alt texts. Gone: widget state and
    model ids (a widget's output keeps its text), timings, versions of Python and matplotlib.
    """
    notebook.metadata = NotebookNode(
        {key: value for key, value in notebook.metadata.items() if key in KEPT_OF_NOTEBOOK},
        kernelspec=NotebookNode(display_name="Python 3", language="python", name="python3"),
        language_info=NotebookNode(name="python"),
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for cell in notebook.cells:
        cell.metadata = NotebookNode({k: v for k, v in cell.metadata.items() if k in KEPT_OF_CELL})
    for cell in code_cells(notebook):
        cell.outputs = without_widgets(cell.outputs)
    return notebook


def picture(output: NotebookNode) -> str | None:
    """The MIME type of the picture in an output; None if there is none."""
    return next((kind for kind in output.get("data", {}) if kind.startswith("image/")), None)


def without_widgets(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The outputs, changed in place: a widget, whose id is new each time, leaves its text."""
    for output in outputs:
        if output.get("data", {}).pop(WIDGET, None):
            output.metadata["widget"] = True
    return outputs


def write(path: Path, notebook: NotebookNode) -> None:
    """Replace the file at once: a reader sees the old notebook or the new one, never a half."""
    nbformat.validate(notebook)
    part = path.with_suffix(".part")
    part.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    part.replace(path)


def execute_with_progress(path: Path) -> Execution:
    """Execute the notebook at `path`, which stays as it is, and show how far it is on one line.

    In a terminal the line is redrawn as cells finish; elsewhere it is printed once, at the end.
    """
    try:
        notebook = read(path)
    except (OSError, ValueError) as error:
        print(f"{path.stem:<36} cannot be read", flush=True)
        return failure(path.stem, str(error))
    cells, terminal = len(code_cells(notebook)), sys.stdout.isatty()

    def line(done: int, seconds: float) -> str:
        return f"{path.stem:<36} {done:>3}/{cells} cells {seconds:>5.0f} s"

    def redraw(done: int, seconds: float) -> None:
        print("\r" + line(done, seconds), end="", flush=True)

    execution = execute(notebook, path.parent, *([redraw] if terminal else []))
    print(("\r" if terminal else "") + line(execution.done, execution.seconds), flush=True)
    return execution


def store(path: Path) -> str | None:
    """Execute the notebook at `path` and, only if every cell ran, put the new outputs into it.

    Returns:
        None, or the problem; the file is then as it was.
    """
    execution = execute_with_progress(path)
    if execution.problem is None:
        write(path, tidy(execution.notebook))
    return execution.problem


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["store"])
    parser.add_argument("names", nargs="*", help="beginnings of file names (default: all)")
    options = parser.parse_args(arguments)
    try:
        paths = find(options.names)
    except ValueError as error:
        parser.error(str(error))
    problems = {path.name: problem for path in paths if (problem := store(path))}
    for name, problem in problems.items():
        print(f"not stored: {name}, {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
