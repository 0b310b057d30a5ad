"""The training loop: it learns, is reproducible, reports its progress and refuses bad arguments."""

import subprocess
import sys
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from course_utils.training import cosine_schedule, train
from course_utils.training.__main__ import main
from course_utils.training.distributed import shard, wrap
from course_utils.training.recipes import FCN, RECIPES
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


def test_watch_is_called_after_every_step_and_evaluate_when_asked():
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


@pytest.mark.parametrize("as_batch", [tuple, lambda pair: dict(zip(("images", "labels"), pair))])
def test_out_of_memory_names_the_batch_size_and_the_way_out(as_batch):
    calls = []

    def too_large(model, batch):
        calls.append(len(batch))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    sentence = (
        r"^batches: a batch of 8 images does not fit into the memory of cpu; "
        r"make it smaller with --batch-size on the command line, or batch_size=\.\.\. in Python$"
    )
    with pytest.raises(torch.OutOfMemoryError, match=sentence):
        train(
            small.build(),
            lambda step: as_batch(small.batches(step)),
            too_large,
            steps=2,
            learning_rate=1e-2,
            device="cpu",
        )
    assert calls == [2]  # once, with images and labels


def test_out_of_memory_is_one_sentence_on_the_command_line(monkeypatch, capsys, tmp_path):
    def too_large(model, batch):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setitem(RECIPES, "fcn", replace(FCN, loss=too_large))
    command = ["fcn", "--steps", "1", "--batch-size", "3", "--size", "32", "--device", "cpu"]
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--out", str(tmp_path)])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and "Traceback" not in error
    assert "a batch of 3 images does not fit" in error and "--batch-size" in error


def test_frozen_weights_stay():
    model = small.build()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    run(model, 2)
    assert torch.equal(model[0].weight, before)


class Pair(NamedTuple):
    images: Tensor
    names: list[str]


def test_a_shard_of_every_kind_of_batch():
    batch = {
        "pair": Pair(torch.arange(4), ["a", "b", "c", "d"]),
        "boxes": [{"n": torch.ones(2)}] * 4,
    }
    second = shard(batch, 1, 2, "cpu")
    assert isinstance(second["pair"], Pair) and second["pair"].names == ["c", "d"]
    assert second["pair"].images.tolist() == [2, 3] and len(second["boxes"]) == 2
    assert shard(batch, 0, 1, "meta")["boxes"][3]["n"].is_meta
    with pytest.raises(ValueError, match=r"^batches: .* by the number of processes, 3, got 4$"):
        shard(batch, 0, 3, "cpu")


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


@pytest.fixture(scope="module")
def trained(tmp_path_factory, one_thread):
    """What `small.train_and_save` saved: alone, and in each of two processes under torchrun."""
    folder = tmp_path_factory.mktemp("processes")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*torchrun, small.__file__, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    small.train_and_save(folder, "alone")
    return {path.stem: load_file(path) for path in folder.iterdir()}


@pytest.mark.parametrize("norm", small.NORMS)
def test_two_processes_hold_the_same_weights_and_running_statistics(trained, norm):
    """Also at every evaluation: all processes measure the same accuracy."""
    first, second = trained[f"{norm}_0"], trained[f"{norm}_1"]
    assert ("1.running_var" in first) == (norm == "batch_norm")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert len(first["losses"]) == 30 and len(first["accuracies"]) == 3
    assert first["losses"][-1] < first["losses"][0] - 0.2


def test_at_its_end_a_process_leaves_no_thread_of_its_group(trained):
    """Such a thread can abort the process while the interpreter shuts down."""
    assert all(trained[f"group_{rank}"]["alive"].tolist() == [False] for rank in (0, 1))


def test_two_processes_without_batch_norm_train_as_one_does(trained):
    first, alone = trained["group_norm_0"], trained["group_norm_alone"]
    assert (first["losses"] - alone["losses"]).abs().max() < 1e-5
    for name in alone:
        torch.testing.assert_close(first[name], alone[name], rtol=2e-4, atol=1e-5)


def test_on_the_cpu_every_process_normalises_its_own_shard(trained):
    model = small.build(dropout=0.0)
    shards = [shard(small.batches(0), rank, 2, "cpu") for rank in (0, 1)]
    losses = [small.loss(model, images_and_labels).item() for images_and_labels in shards]
    assert trained["batch_norm_0"]["losses"][0].item() == pytest.approx(sum(losses) / 2, abs=1e-6)
    assert trained["batch_norm_alone"]["losses"][0].item() != pytest.approx(
        sum(losses) / 2, abs=1e-4
    )


def test_on_gpus_batch_norm_is_synchronised_and_the_parameters_stay_the_models(monkeypatch):
    monkeypatch.setattr(nn.parallel, "DistributedDataParallel", lambda model: model)
    for model in (small.build(), nn.BatchNorm2d(4)):  # the second is itself a batch-norm layer
        tensors = [*model.parameters(), *model.buffers()]
        assert wrap(model, 2, torch.device("cpu")) is wrap(model, 1, torch.device("cuda")) is model
        assert not any(isinstance(layer, nn.SyncBatchNorm) for layer in model.modules())
        wrapped = wrap(model, 2, torch.device("cuda"))
        kinds = [type(layer) for layer in wrapped.modules()]
        assert nn.SyncBatchNorm in kinds and nn.BatchNorm2d not in kinds
        for owner in (wrapped, model):
            found = [*owner.parameters(), *owner.buffers()]
            assert all(a is b for a, b in zip(found, tensors, strict=True))
