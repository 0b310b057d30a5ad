"""Checkpoints: a training that is killed at any moment and resumed ends with exactly the same weights."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from course_utils.training import History, train
from tests.training import small

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
STEPS = 40


def run(model: nn.Module, checkpoint: Path | None = None, **changes) -> History:
    settings = {"steps": STEPS, "learning_rate": 1e-2, "device": "cpu", "resume": True}
    settings |= {"checkpoint_seconds": 0.0, "evaluate": small.accuracy, "evaluate_every": 7}
    return train(model, small.batches, small.loss, checkpoint=checkpoint, **(settings | changes))


def assert_same(a: nn.Module, b: nn.Module) -> None:
    for (name, one), two in zip(a.state_dict().items(), b.state_dict().values()):
        assert torch.equal(one, two), name


class Killed(Exception):
    pass


@pytest.mark.parametrize("device", DEVICES)
def test_interrupted_after_every_step(tmp_path, device):
    whole = small.build()
    expected = run(whole, device=device)

    def stop(record):
        if record.step > stop.after:
            raise Killed

    for stop.after in range(STEPS):
        with pytest.raises(Killed):
            run(small.build(), tmp_path / "state.safetensors", device=device, watch=stop)
    pieces = small.build()
    history = run(pieces, tmp_path / "state.safetensors", device=device)
    assert history == expected
    assert_same(pieces, whole)


def train_in_child(folder: Path, done) -> None:
    torch.set_num_threads(1)
    model = small.build()

    def tell(record):
        done.value += 1

    run(model, folder / "state.safetensors", watch=tell)
    save_file(model.state_dict(), folder / "weights.safetensors")


def train_and_die_while_writing(folder: Path, where: str) -> None:
    torch.set_num_threads(1)
    calls = []

    def die_at_the_third(*arguments):
        calls.append(where)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        original(*arguments)

    original = getattr(os, where)
    setattr(os, where, die_at_the_third)
    run(small.build(), folder / "state.safetensors")


def context():
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    found = multiprocessing.get_context(method)
    if method == "forkserver":
        found.set_forkserver_preload(["course_utils.training", "torch._dynamo"])
    return found


@pytest.fixture(scope="module")
def expected(one_thread):
    """The weights of a training without interruption."""
    model = small.build()
    run(model)
    return model.state_dict()


def test_killed_again_and_again_at_random_moments(tmp_path, expected):
    draw = random.Random(0)
    state, weights = tmp_path / "state.safetensors", tmp_path / "weights.safetensors"
    kills, left_at = 0, set()
    while not weights.exists():
        done = context().Value("i", 0)
        child = context().Process(target=train_in_child, args=(tmp_path, done))
        child.start()
        steps = draw.randint(1, 9)
        while child.is_alive() and done.value < steps:
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.005))
        child.kill()
        child.join()
        kills += child.exitcode == -signal.SIGKILL
        left_at.add(len(load_file(state)["losses"]) if state.exists() else 0)
    found = load_file(weights)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert kills >= 3 and len(left_at) >= 3


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_killed_in_the_middle_of_writing(tmp_path, expected, where):
    child = context().Process(target=train_and_die_while_writing, args=(tmp_path, where))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    left = tmp_path / "state.safetensors.part"
    assert left.exists() and len(load_file(tmp_path / "state.safetensors")["losses"]) == 2
    left.write_bytes(left.read_bytes()[:100])
    model = small.build()
    run(model, tmp_path / "state.safetensors")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    assert not left.exists()


@pytest.fixture
def state(tmp_path) -> Path:
    path = tmp_path / "state.safetensors"
    run(small.build(), path, steps=3, run={"recipe": "fcn"})
    return path


def test_a_checkpoint_of_a_training_with_other_settings(state):
    expected = f"^checkpoint: {state} belongs to a training with "
    with pytest.raises(ValueError, match=expected + "steps 3, this one has 4$"):
        run(small.build(), state, steps=4, run={"recipe": "fcn"})
    with pytest.raises(ValueError, match=expected + "recipe 'fcn', this one has 'unet'$"):
        run(small.build(), state, steps=3, run={"recipe": "unet"})
    with pytest.raises(ValueError, match=expected + "learning_rate 0.01, this one has 0.1$"):
        run(small.build(), state, steps=3, learning_rate=0.1, run={"recipe": "fcn"})


def test_a_checkpoint_of_another_model(state):
    with pytest.raises(ValueError, match=r"another model: 0\.weight is \[8, 3, 3, 3\] in the file"):
        run(small.build(channels=6), state, steps=3, run={"recipe": "fcn"})
    with pytest.raises(ValueError, match=r"0\.bias is missing in the file, \[4\] in the model$"):
        run(nn.Sequential(nn.Conv2d(3, 4, 1)), state, steps=3, run={"recipe": "fcn"})


def test_a_finished_training_resumes_to_the_same_end(state):
    model = small.build()
    history = run(model, state, steps=3, run={"recipe": "fcn"}, watch=lambda record: 1 / 0)
    assert len(history.losses) == 3 and list(history.metrics) == [3]
    whole = small.build()
    run(whole, steps=3)
    assert_same(model, whole)


def test_a_checkpoint_is_saved_after_some_seconds_and_at_the_end(tmp_path):
    path = tmp_path / "state.safetensors"

    def watch(record):
        assert not path.exists()

    run(small.build(), path, steps=5, checkpoint_seconds=1e9, watch=watch)
    assert len(load_file(path)["losses"]) == 5


def test_without_resume_the_training_starts_again(state):
    assert len(run(small.build(), state, steps=2, resume=False).losses) == 2


def test_damaged_checkpoints(state):
    content = state.read_bytes()
    changed = bytearray(content)
    changed[-5] ^= 1
    for damage in (b"", content[:7], content[: len(content) // 2], content[:-1], bytes(changed)):
        state.write_bytes(damage)
        with pytest.raises(ValueError, match=f"^checkpoint: {state} is damaged"):
            run(small.build(), state, steps=3, run={"recipe": "fcn"})
    save_file({"x": torch.zeros(2)}, state)
    with pytest.raises(ValueError, match=f"^checkpoint: {state} is damaged"):
        run(small.build(), state, steps=3, run={"recipe": "fcn"})
