"""A session cut off in the middle of a training goes on where it was, to the same result, bit for bit."""

import contextlib
import json
import threading
from pathlib import Path

import nbformat
import psutil
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from safetensors import SafetensorError, safe_open

from tools.notebooks import FOLDER, code_cells, running

NOTEBOOK = FOLDER / "07_fcn.ipynb"  # the shortest training
TRAINING = "train(learner,"  # what the cell to be cut off says
STEPS = 400

# Runs before the training: notes each step, and has the state written twice a second, so that the training
# of a fast computer too is cut off in the middle.
SPY = """
import functools

executed = []

def noted(step, steps, peak, schedule=loop.cosine_schedule):
    executed.append(step)
    return schedule(step, steps, peak)

loop.cosine_schedule = noted
train = functools.partial(train, checkpoint_seconds=0.5)
"""
# Runs after it: all that the training left, as JSON.
RESULT = """
import hashlib
weights = hashlib.sha256()
for name, tensor in sorted(learner.state_dict().items()):
    weights.update(name.encode() + tensor.cpu().numpy().tobytes())
losses = [loss.hex() for loss in history.losses]
print(json.dumps({"weights": weights.hexdigest(), "losses": losses, "executed": executed}))
"""


def section_with_the_training() -> nbformat.NotebookNode:
    """Set-up, names and the training's section as in the notebook, with the spy and the result."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    section: list[nbformat.NotebookNode] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            if training_place(section) is not None:
                break
            section = []
        elif cell.cell_type == "code":
            section.append(cell)
    section.insert(training_place(section), new_code_cell(SPY))
    cells = [*code_cells(notebook)[:2], *section, new_code_cell(RESULT)]
    return new_notebook(cells=cells, metadata=notebook.metadata)


def training_place(cells: list[nbformat.NotebookNode]) -> int | None:
    """Where the cell is that trains."""
    return next((i for i, cell in enumerate(cells) if TRAINING in cell.source), None)


def run(client: NotebookClient) -> tuple[dict, str]:
    """Execute all cells; what `RESULT` printed, and what the training and the cells after it said."""
    for index, cell in enumerate(client.nb.cells):
        client.execute_cell(cell, index)
    later = client.nb.cells[training_place(client.nb.cells) : -1]
    said = [output.get("text", "") for cell in later for output in cell.outputs]
    return json.loads(client.nb.cells[-1].outputs[0].text), "".join(said)


def steps_done(state: Path) -> int:
    """How many steps the file holds; 0 while there is none."""
    with contextlib.suppress(OSError, SafetensorError), safe_open(state, framework="pt") as file:
        return file.get_slice("losses").get_shape()[0]
    return 0


def kill_in_the_middle(client: NotebookClient, state: Path, over: threading.Event) -> None:
    """Kill the kernel, without a warning, once a third of the training is on the disk."""
    while not over.wait(0.02):
        if steps_done(state) > STEPS / 3:
            psutil.Process(client.km.provisioner.pid).kill()
            return


@pytest.mark.long
def test_a_killed_notebook_goes_on_to_the_same_numbers(tmp_path, monkeypatch):
    state = tmp_path / "detection-segmentation" / "07_fcn.safetensors"
    for variable in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(variable, str(tmp_path))

    with running(section_with_the_training(), FOLDER) as client:
        undisturbed, words = run(client)
    assert undisturbed["executed"] == list(range(STEPS))
    assert "held-out mean IoU above 0.70: True" in words
    assert not state.exists(), "a training that is done leaves no state behind"

    over = threading.Event()
    with (
        pytest.raises(RuntimeError, match="Kernel died"),
        running(section_with_the_training(), FOLDER) as client,
    ):
        killer = threading.Thread(target=kill_in_the_middle, args=(client, state, over))
        killer.start()
        try:
            run(client)
        finally:
            over.set()
            killer.join()
    before = steps_done(state)
    assert STEPS / 3 < before < STEPS

    with running(section_with_the_training(), FOLDER) as client:
        resumed, words_again = run(client)
    assert resumed["executed"] == list(range(before, STEPS))
    assert resumed["losses"] == undisturbed["losses"]
    assert resumed["weights"] == undisturbed["weights"]
    assert words_again == words
