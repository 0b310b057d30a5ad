"""The training loop: one for every model, on the CPU or a GPU, in one process or several."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from course_utils.training.checkpoints import History, load_state, save_state
from course_utils.training.distributed import (
    average,
    broadcast_buffers,
    join_processes,
    shard,
    wrap,
)

Batch = TypeVar("Batch")

OUT_OF_MEMORY = (
    "batches: a batch of {} images does not fit into the memory of {}; make it smaller with --batch-size "
    "on the command line, or batch_size=... in Python"
)


class Record(NamedTuple):
    """What `train` passes to `watch` after every step.

    Attributes:
        step: the number of steps done, from 1.
        steps: the number of steps of the whole training.
        loss: the loss of this step.
        learning_rate: the learning rate of this step.
        metrics: what `evaluate` returned after this step; empty if it was not called.
        history: all losses and metrics so far, including those from before a `resume`.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    metrics: dict[str, float]
    history: History


def cosine_schedule(step: int, steps: int, peak: float) -> float:
    """The learning rate of a step: linear warm-up over the first tenth of the steps, then cosine decay.

    The first steps are small because AdamW has not yet estimated the size of the gradients; the last ones are
    small so that the weights converge. The rate depends on nothing but the step, so there is no scheduler
    state to save.

    Args:
        step: the number of the step, from 0.
        steps: the number of steps of the whole training.
        peak: the highest learning rate.

    Returns:
        A learning rate above 0 and at most `peak`.

    Source: Loshchilov and Hutter, "SGDR", ICLR 2017, section 3, without restarts; the warm-up: Goyal et al.,
    "Accurate, Large Minibatch SGD", 2017, section 2.2.

    >>> [round(cosine_schedule(step, 20, 1.0), 3) for step in (0, 1, 2, 11, 19)]
    [0.5, 1.0, 1.0, 0.5, 0.008]
    """
    warmup = math.ceil(steps / 10)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def train_step(
    model: nn.Module,
    batch: Batch,
    loss: Callable[[nn.Module, Batch], Tensor],
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    clip: float,
) -> Tensor:
    """One step of training: forward pass, backward pass, gradient clipping, update of the weights.

    On a GPU the forward pass runs in float16; the scaler multiplies the loss so that small gradients do not
    become zero, and divides the gradients by the same factor before they are clipped.
    """
    model.train()
    optimizer.zero_grad()
    with torch.autocast("cuda", torch.float16, enabled=scaler.is_enabled()):
        value = loss(model, batch)
    scaler.scale(value).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), clip)
    scaler.step(optimizer)
    scaler.update()
    return value.detach()


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
    """Train a model with AdamW, linear warm-up, cosine decay and gradient clipping.

    The batch, the learning rate and the random seed of a step depend only on the number of the step.
    Therefore a training that is interrupted and resumed ends with exactly the weights of an uninterrupted
    one.

    Under `torchrun --nproc-per-node N`, each of the N processes trains on its shard of every batch, see
    `course_utils.training.distributed`; the losses are those of the whole batch.

    Args:
        model: the model to train, in place; it is in evaluation mode afterwards.
        batches: returns the batch of a step; the same step must always give the same batch.
        loss: the mean loss over the images of a batch; it must call the model, not only its submodules.
        steps: the number of steps, 1 or more.
        learning_rate: the highest learning rate, see `cosine_schedule`.
        weight_decay: of AdamW.
        clip: gradients with a larger norm are scaled down to this norm.
        seed: for random numbers during training (dropout, sampling); the initial weights are the caller's.
        device: "cpu", "cuda", ..., or None to choose.
        evaluate: returns the metrics of the model, which is in evaluation mode.
        evaluate_every: the number of steps between evaluations; None evaluates after the last step only.
        watch: called after every step, in the first process only.
        checkpoint: the file for the state of the training; None saves none.
        checkpoint_seconds: the least time between two checkpoints; the last step is always saved.
        resume: continue from `checkpoint` if the file exists.
        run: further settings (recipe, batch size, ...) that must not change when a training is resumed.

    Returns:
        The loss of every step, and the metrics.

    Raises:
        FloatingPointError: the loss is infinite or nan.
        torch.OutOfMemoryError: a batch does not fit into the memory of the GPU.
    """
    _check_positive(
        steps=steps, learning_rate=learning_rate, clip=clip, evaluate_every=evaluate_every
    )
    run = {**(run or {}), "steps": steps, "learning_rate": learning_rate, "seed": seed}
    run |= {"weight_decay": weight_decay, "clip": clip}
    rank, world_size, device = join_processes(device)
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=weight_decay, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
    history = History([], {})
    if resume and checkpoint and Path(checkpoint).exists():
        history = load_state(checkpoint, model, optimizer, scaler, run)
    parallel = wrap(model, world_size, device)
    saved = time.monotonic()

    for step in range(len(history.losses), steps):
        torch.manual_seed((seed * steps + step) * world_size + rank)
        batch = shard(batches(step), rank, world_size, device)
        rate = cosine_schedule(step, steps, learning_rate)
        for group in optimizer.param_groups:
            group["lr"] = rate
        try:
            value = train_step(parallel, batch, loss, optimizer, scaler, clip)
        except torch.OutOfMemoryError as error:
            size = _batch_size(batch) * world_size
            raise torch.OutOfMemoryError(OUT_OF_MEMORY.format(size, device)) from error
        value = average(value, world_size)
        if not math.isfinite(value):
            raise FloatingPointError(
                f"loss: {value} at step {step}; try a lower learning_rate than {learning_rate}"
            )
        history.losses.append(value)

        done, last = step + 1, step + 1 == steps
        if evaluate and (last or (evaluate_every and done % evaluate_every == 0)):
            broadcast_buffers(model, world_size)
            model.eval()
            with torch.no_grad():
                history.metrics[done] = evaluate(model)
        if watch and rank == 0:
            watch(Record(done, steps, value, rate, history.metrics.get(done, {}), history))
        if checkpoint and rank == 0 and (last or time.monotonic() - saved > checkpoint_seconds):
            save_state(checkpoint, model, optimizer, scaler, history, run)
            saved = time.monotonic()
    broadcast_buffers(model, world_size)
    model.eval()
    return history


def _batch_size(batch: Batch) -> int:
    """The number of images in a batch: the length of its first tensor or list."""
    while not isinstance(batch, Tensor | list):
        batch = next(iter(batch.values() if isinstance(batch, dict) else batch))
    return len(batch)


def _check_positive(**numbers: int | float | None) -> None:
    for name, value in numbers.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name}: expected a number above 0, got {value}")
