"""The training loop: it learns, it repeats, it tells, and it says what is wrong with its arguments."""

import copy
import subprocess
import sys
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from course_utils.training import cosine_schedule, train
from course_utils.training.distributed import take_share
from tests.training import small

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def run(model: nn.Module, steps: int = 12, **changes):
    settings = {"learning_rate": 1e-2, "device": "cpu"} | changes
    return train(model, small.batches, small.loss, steps=steps, **settings)


@pytest.mark.parametrize("device", DEVICES)
def test_it_learns(device):
    model = small.build()
    history = run(model, 150, device=device, evaluate=small.accuracy)
    assert history.losses[0] > 1.2 and sum(history.losses[-10:]) < 8
    assert history.metrics[150]["accuracy"] > 0.8
    assert not model.training


@pytest.mark.parametrize("device", DEVICES)
def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before(device):
    first, second, third = (small.build() for _ in range(3))
    losses = run(first, device=device).losses
    torch.rand(7)
    assert run(second, device=device, watch=lambda record: torch.rand(3)).losses == losses
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))
    assert run(third, device=device, seed=1).losses[1:] != losses[1:]


def test_the_steps_are_adamw_with_clipped_gradients():
    ours, theirs = small.build(dropout=0.0), small.build(dropout=0.0)
    run(ours, 3, clip=0.2, weight_decay=0.3)
    optimizer = torch.optim.AdamW(theirs.parameters(), weight_decay=0.3)
    norms = []
    for step in range(3):
        optimizer.param_groups[0]["lr"] = cosine_schedule(step, 3, 1e-2)
        optimizer.zero_grad()
        small.loss(theirs, small.batches(step)).backward()
        norms.append(torch.stack([p.grad.norm() for p in theirs.parameters()]).norm())
        for parameter in theirs.parameters():
            parameter.grad *= min(1.0, 0.2 / float(norms[-1]))
        optimizer.step()
    assert min(norms) > 0.2
    for a, b in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11, 500])
def test_the_schedule_rises_for_a_tenth_then_falls_almost_to_zero(steps):
    rates = torch.tensor([cosine_schedule(step, steps, 3.0) for step in range(steps)])
    top = int(rates.argmax())
    assert rates.max() == 3 and rates.min() > 0
    assert top == -(-steps // 10) - 1
    assert (rates[: top + 1].diff() > 0).all() and (rates[top + 1 :].diff() < 0).all()
    assert steps < 500 or rates[-1] < 1e-4


def test_watch_hears_of_every_step_and_evaluate_comes_when_asked():
    records, modes = [], []

    def evaluate(model):
        modes.append((model.training, torch.is_grad_enabled()))
        return {"number": float(len(modes))}

    history = run(
        small.build(), 7, evaluate=evaluate, evaluate_every=3, watch=lambda r: records.append(r)
    )
    assert [record.step for record in records] == [1, 2, 3, 4, 5, 6, 7]
    assert [record.loss for record in records] == history.losses == records[-1].history.losses
    assert records[4].learning_rate == cosine_schedule(4, 7, 1e-2)
    assert history.metrics == {3: {"number": 1}, 6: {"number": 2}, 7: {"number": 3}}
    assert [bool(record.metrics) for record in records] == [
        False,
        False,
        True,
        False,
        False,
        True,
        True,
    ]
    assert modes == [(False, False)] * 3


def test_a_memory_too_small_for_the_batch_takes_it_in_parts():
    """As on a small GPU, where the loss of more than two images does not fit."""
    tried = []

    def cramped(model, batch):
        tried.append(len(batch[0]))
        if tried[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return small.loss(model, batch)

    whole = nn.Conv2d(3, 4, 3, padding=1)  # no batch norm, which sees the parts
    parts = copy.deepcopy(whole)
    settings = {"steps": 3, "learning_rate": 1e-2, "device": "cpu"}
    expected = train(whole, small.batches, small.loss, **settings)
    with pytest.warns(UserWarning, match=r"^The memory is too small .* in \d parts\.$") as told:
        history = train(parts, small.batches, cramped, **settings)
    images = len(small.batches(0)[0])
    halvings = (images // 2).bit_length() - 1
    assert tried[:halvings] == [images >> k for k in range(halvings)]
    assert tried[halvings:] == [2] * (3 * images // 2) and len(told) == halvings
    torch.testing.assert_close(history.losses, expected.losses, rtol=1e-5, atol=0)
    for a, b in zip(parts.parameters(), whole.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_memory_too_small_for_one_image():
    def hopeless(model, batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with (
        pytest.warns(UserWarning, match="The memory is too small"),
        pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"),
    ):
        train(small.build(), small.batches, hopeless, steps=1, learning_rate=1e-2, device="cpu")


def test_frozen_weights_stay():
    model = small.build()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    run(model, 2)
    assert torch.equal(model[0].weight, before)


class Pair(NamedTuple):
    images: Tensor
    names: list[str]


def test_a_share_of_every_kind_of_batch():
    batch = {
        "pair": Pair(torch.arange(4), ["a", "b", "c", "d"]),
        "boxes": [{"n": torch.ones(2)}] * 4,
    }
    share = take_share(batch, 1, 2, "cpu")
    assert isinstance(share["pair"], Pair) and share["pair"].names == ["c", "d"]
    assert share["pair"].images.tolist() == [2, 3] and len(share["boxes"]) == 2
    assert take_share(batch, 0, 1, "meta")["boxes"][3]["n"].is_meta
    with pytest.raises(ValueError, match=r"^batches: .* 3 processes can share equally, got 4$"):
        take_share(batch, 0, 3, "cpu")


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 0), ("learning_rate", -1.0), ("clip", 0.0), ("evaluate_every", -2)],
)
def test_numbers_out_of_range(name, value):
    settings = {"steps": 1, "learning_rate": 1.0, name: value}
    with pytest.raises(ValueError, match=f"^{name}: expected a number above 0, got {value}$"):
        train(small.build(), small.batches, small.loss, **settings)


def test_a_loss_that_explodes():
    with pytest.raises(FloatingPointError, match=r"^loss: nan at step 0; try a lower"):
        train(
            small.build(),
            small.batches,
            lambda model, batch: small.loss(model, batch) * torch.nan,
            steps=3,
            learning_rate=1e-2,
        )


def test_two_processes_under_torchrun_train_as_one_does(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*torchrun, small.__file__, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    small.train_and_save(tmp_path / "alone.safetensors")
    alone, first, second = (load_file(tmp_path / f"{n}.safetensors") for n in ("alone", "0", "1"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert len(first["losses"]) == 30 and alone["losses"][-1] < alone["losses"][0] - 0.2
    assert (first["losses"] - alone["losses"]).abs().max() < 1e-5
    for name in alone:  # batch norm's running mean and variance too
        torch.testing.assert_close(first[name], alone[name], rtol=2e-4, atol=1e-5)
