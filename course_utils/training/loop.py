"""The training loop: one for every model, on CPU or GPU, in one process or several."""

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from course_utils.training.checkpoints import History, load_state, save_state
from course_utils.training.distributed import (
    average,
    count_images,
    join_processes,
    take_share,
    wrap,
)

Batch = TypeVar("Batch")

SMALL_MEMORY = (
    "The memory is too small for a whole batch: from now on it is learnt from in {} parts."
)


class Record(NamedTuple):
    """What `watch` is told after every step.

    Attributes:
        step: how many steps are done, from 1.
        steps: how many there will be.
        loss: this step's loss.
        learning_rate: this step's learning rate.
        metrics: what `evaluate` returned after this step; empty where it was not called.
        history: all losses and metrics so far, those from before a `resume` too.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    metrics: dict[str, float]
    history: History


def cosine_schedule(step: int, steps: int, peak: float) -> float:
    """The learning rate of a step: up in a straight line for a tenth of the steps, then down half a cosine.

    Small first steps, because the optimiser knows nothing yet about the gradients' sizes; small last ones, so
    that the weights settle. A function of the step alone: a training that resumes has nothing to remember.

    Args:
        step: the step's number, from 0.
        steps: how many there are.
        peak: the highest learning rate.

    Returns:
        A learning rate above 0 and at most `peak`.

    >>> [round(cosine_schedule(step, 20, 1.0), 3) for step in (0, 1, 2, 11, 19)]
    [0.5, 1.0, 1.0, 0.5, 0.008]
    """
    warm = math.ceil(steps / 10)
    if step < warm:
        return peak * (step + 1) / warm
    return peak * (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2


@torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
def train(
    model: nn.Module,
    batches: Callable[[int], Batch],
    loss: Callable[[nn.Module, Batch], Tensor],
    *,
    steps: int,
    learning_rate: float,
    weight_decay: float = 1e-4,
    clip: float = 5.0,
    seed: int = 0,
    device: str | None = None,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    evaluate_every: int | None = None,
    watch: Callable[[Record], None] | None = None,
    checkpoint: Path | str | None = None,
    checkpoint_seconds: float = 5.0,
    resume: bool = False,
    run: Mapping[str, Any] | None = None,
) -> History:
    """Train a model: AdamW, warm-up and cosine, clipped gradients; float16 where there is a GPU.

    Whatever a step needs besides the weights is a function of its number (the batch, the learning rate, the
    seed of dropout), so that a training that was killed and resumed ends with the same weights, bit for bit,
    as one that was not. Under `torchrun --nproc-per-node N` every process runs this same function: each takes
    one of N equal shares of every batch, gradients are averaged, and the losses are those of the whole batch.
    Where a GPU's memory is too small for a batch, one process alone takes it in 2, 4, ... parts and says so.

    Args:
        model: what to train, in place; in evaluation mode afterwards.
        batches: the batch of a step; the same step must always give the same batch.
        loss: the mean loss over the batch's images; it calls the model itself, not its parts.
        steps: how many batches to learn from, 1 or more.
        learning_rate: the highest one, see `cosine_schedule`.
        weight_decay: AdamW's pull of all weights towards zero.
        clip: a gradient longer than this is shortened to it.
        seed: for what the model draws while it learns. Seed before building the model too.
        device: "cpu", "cuda", ..., or None to choose.
        evaluate: metrics of the model, which comes in evaluation mode and float32.
        evaluate_every: evaluate after every so many steps and after the last; None for the last only.
        watch: called after every step, in the first process only.
        checkpoint: a file for the training's state; None writes none.
        checkpoint_seconds: the time between two writings; the last step is always written.
        resume: go on from `checkpoint` if the file is there, else start.
        run: more settings (recipe, batch size, ...) that a resumed training must share.

    Returns:
        The loss of every step and the metrics.

    Raises:
        ValueError: a number is out of range, or the checkpoint is damaged or belongs to another training.
        FloatingPointError: the loss is no number any more.
    """
    _check_numbers(
        steps=steps, learning_rate=learning_rate, clip=clip, evaluate_every=evaluate_every
    )
    run = {**(run or {}), "steps": steps, "learning_rate": learning_rate, "seed": seed}
    run |= {"weight_decay": weight_decay, "clip": clip}
    rank, ranks, place = join_processes(device)
    model.to(place)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=weight_decay, fused=True)
    scaler = torch.amp.GradScaler(place.type, enabled=place.type == "cuda")
    history = History([], {})
    if resume and checkpoint and Path(checkpoint).exists():
        history = load_state(checkpoint, model, optimizer, scaler, run)
    shared = wrap(model, ranks)
    saved, parts = time.monotonic(), 1

    for step in range(len(history.losses), steps):
        torch.manual_seed((seed * steps + step) * ranks + rank)
        batch = take_share(batches(step), rank, ranks, place)
        rate = cosine_schedule(step, steps, learning_rate)
        value = None
        while value is None:
            shares = [take_share(batch, part, parts, place) for part in range(parts)]
            try:
                value = _learn(shared, shares, loss, optimizer, scaler, rate, clip)
            except torch.OutOfMemoryError:
                parts *= 2
                if ranks > 1 or count_images(batch) % parts:
                    raise
                warnings.warn(SMALL_MEMORY.format(parts), stacklevel=2)
        value = average(value, ranks)
        if not math.isfinite(value):
            raise FloatingPointError(
                f"loss: {value} at step {step}; try a lower learning_rate than {learning_rate}"
            )
        history.losses.append(value)
        done, last = step + 1, step + 1 == steps
        if evaluate and (last or (evaluate_every and done % evaluate_every == 0)):
            model.eval()
            with torch.no_grad():
                history.metrics[done] = evaluate(model)
        if watch and rank == 0:
            watch(Record(done, steps, value, rate, history.metrics.get(done, {}), history))
        if checkpoint and rank == 0 and (last or time.monotonic() - saved > checkpoint_seconds):
            save_state(checkpoint, model, optimizer, scaler, history, run)
            saved = time.monotonic()
    model.eval()
    return history


def _learn(
    model: nn.Module,
    shares: Sequence[Batch],
    loss: Callable[[nn.Module, Batch], Tensor],
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    learning_rate: float,
    clip: float,
) -> Tensor:
    """One step: forward, backward, clip, update. The loss is scaled so that float16 holds small gradients.

    Usually the batch is one share; of several, the gradients are added up before the update.
    """
    model.train()
    optimizer.zero_grad()
    total = 0
    for share in shares:
        with torch.autocast("cuda", torch.float16, enabled=scaler.is_enabled()):
            value = loss(model, share) / len(shares)
        scaler.scale(value).backward()
        total = total + value.detach()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), clip)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    scaler.step(optimizer)
    scaler.update()
    return total


def _check_numbers(**numbers: int | float | None) -> None:
    for name, value in numbers.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name}: expected a number above 0, got {value}")
