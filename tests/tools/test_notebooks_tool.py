"""Executing notebooks in a fresh kernel, and storing what repeats."""

import gc
import os
import shutil
import signal
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from jupyter_core.utils import ensure_event_loop
from nbclient.output_widget import OutputWidget
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from tests.tools.lessons import DRAW, MOVE, command, lesson
from tools.notebooks import execute, store, tidy


def test_storing(course: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(course, tmp_path / "course")
    failing = copied / "notebooks" / "01_failing.ipynb"
    before = failing.read_bytes()
    result = command(copied, "notebooks.py", "store", "00", "01")
    assert result.returncode == 1
    assert "not stored: 01_failing.ipynb, In [2]: ValueError: expected" in result.stdout
    assert failing.read_bytes() == before
    stored = (copied / "notebooks" / "00_good.ipynb").read_bytes()
    assert command(copied, "notebooks.py", "store", "00").returncode == 0
    assert (copied / "notebooks" / "00_good.ipynb").read_bytes() == stored
    assert sorted(path.suffix for path in (copied / "notebooks").iterdir()) == [".ipynb"] * 3
    assert command(copied, "notebooks.py", "store", "07").returncode == 2


def test_stored_outputs_are_tidy(tmp_path: Path) -> None:
    path = tmp_path / "00_good.ipynb"
    notebook = lesson(DRAW, MOVE, "print(1)\nprint(2)\n3")
    notebook.metadata = NotebookNode(
        widgets={}, language_info={"version": "3.9"}, course={"trains": True}
    )
    ids = [cell.id for cell in notebook.cells]
    nbformat.write(notebook, path)
    assert store(path) is None
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "course": {"trains": True},
    }
    assert [cell.id for cell in notebook.cells] == ids
    drawn, moved, printed = (cell.outputs for cell in notebook.cells[2:5])
    assert drawn[0].metadata["image/png"]["alt"] == 'an "empty" <plot>'
    assert moved[0].metadata == {"widget": True} and list(moved[0].data) == ["text/plain"]
    assert [output.get("text", output.get("data")) for output in printed] == [
        "1\n2\n",
        {"text/plain": "3"},
    ]
    assert [cell.execution_count for cell in notebook.cells[2:]] == [1, 2, 3, 4]
    assert nbformat.writes(tidy(nbformat.read(path, as_version=4))) + "\n" == path.read_text(
        encoding="utf-8"
    )


def test_memory_is_seen(tmp_path: Path) -> None:
    source = "import time\n\nx = bytearray(b'1') * 300_000_000\ntime.sleep(0.5)"
    small, large = (execute(lesson(text), tmp_path).peak_bytes for text in ("1", source))
    assert 250_000_000 < large - small < 400_000_000


def test_a_reply_that_comes_before_a_widget_answers_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel is done before the client sends back what was printed, as on a busy computer."""

    def send(widget: OutputWidget, *message: object) -> None:
        time.sleep(0.5)
        at_once(widget, *message)

    at_once = OutputWidget.send
    monkeypatch.setattr(OutputWidget, "send", send)
    monkeypatch.setattr("tools.notebooks.CELL_SECONDS", 20)
    execution = execute(new_notebook(cells=[new_code_cell(MOVE)]), tmp_path)
    assert execution.problem is None and execution.seconds < 15


def test_an_interrupted_run_ends_its_kernel_and_says_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    interrupt = iter([lambda: os.kill(os.getpid(), signal.SIGINT)])

    def report(done: int, seconds: float) -> None:
        if done == 1:
            next(interrupt, lambda: None)()

    before = psutil.Process().children()  # of other tests
    with pytest.raises(KeyboardInterrupt):
        execute(lesson("1", "import time\n\ntime.sleep(100)"), tmp_path, report)
    gc.collect()  # asyncio complains of a lost task when the task goes
    ensure_event_loop().set_exception_handler(None)
    assert [child for child in psutil.Process().children() if child not in before] == []
    assert capfd.readouterr() == ("", "")


def test_threads_of_a_kernel_wait_without_using_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = new_notebook(cells=[new_code_cell("import os\n\nprint(os.getenv('OMP_WAIT_POLICY'))")])
    for chosen, expected in ((None, "passive"), ("active", "active")):
        if chosen:
            monkeypatch.setenv("OMP_WAIT_POLICY", chosen)
        else:
            monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
        (output,) = execute(ask, tmp_path).notebook.cells[0].outputs
        assert output.text == f"{expected}\n"
