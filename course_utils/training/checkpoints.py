"""Checkpoints to resume a training from: everything that the next step depends on. No pickle, safetensors."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor, nn

from course_utils.data.weights import check_same_tensors, read_tensors, write_file


class History(NamedTuple):
    """The losses and metrics of a training.

    Attributes:
        losses: the loss of every step, in order.
        metrics: what `evaluate` returned, keyed by the number of steps done.
    """

    losses: list[float]
    metrics: dict[int, dict[str, float]]


def save_state(
    path: Path | str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    history: History,
    run: Mapping[str, Any],
) -> None:
    """Save the state of a training: everything that the next step depends on.

    The learning rate, the batch and the random seed are functions of the number of the step, which is the
    number of losses so far. None of them has to be saved.

    Args:
        path: the file; an older one is replaced.
        model: its parameters and buffers are saved.
        optimizer: its state is saved (for AdamW, the running means of the gradients and of their squares).
        scaler: its loss scale is saved; on the CPU it has none.
        history: the losses and metrics so far.
        run: the settings of the training, which must be the same when it is resumed; JSON values.
    """
    tensors = _state_tensors(model, optimizer)
    tensors["losses"] = torch.tensor(history.losses, dtype=torch.float64)
    notes = {"run": run, "scaler": scaler.state_dict(), "metrics": history.metrics}
    text = json.dumps(notes)
    write_file(path, save(tensors, {"notes": text, "digest": _digest(tensors, text)}))


def load_state(
    path: Path | str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    run: Mapping[str, Any],
) -> History:
    """Load the state that `save_state` saved.

    Args:
        path: the file.
        model: its parameters and buffers are overwritten.
        optimizer: its state is overwritten; it must not have made a step yet.
        scaler: its loss scale is overwritten.
        run: the settings of this training.

    Returns:
        The losses and metrics so far.

    Raises:
        ValueError: the file is damaged, or belongs to a training with other settings or to another model.
    """
    tensors, metadata = read_tensors("checkpoint", path)
    text = metadata.get("notes", "")
    if metadata.get("digest") != _digest(tensors, text):
        raise ValueError(f"checkpoint: {path} is damaged; delete it and start again")
    notes = json.loads(text)
    for name, value in json.loads(json.dumps(run)).items():
        if notes["run"].get(name) != value:
            raise ValueError(
                f"checkpoint: {path} belongs to a training with {name} {notes['run'].get(name)!r}, "
                f"this one has {value!r}"
            )
    losses = tensors.pop("losses").tolist()
    model_state = _with_prefix(tensors, "model.")
    check_same_tensors("checkpoint", path, model_state, model)
    model.load_state_dict(model_state)
    optimizer_state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _with_prefix(tensors, "optimizer.").items():
        parameter, key = name.split(".")
        optimizer_state.setdefault(int(parameter), {})[key] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": optimizer_state})
    if notes["scaler"] and scaler.is_enabled():
        scaler.load_state_dict(notes["scaler"])
    return History(losses, {int(step): metrics for step, metrics in notes["metrics"].items()})


def _state_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The tensors of the model and of the optimiser's state by name, copied to the CPU."""
    named = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for parameter, state in optimizer.state_dict()["state"].items():
        named |= {f"optimizer.{parameter}.{key}": tensor for key, tensor in state.items()}
    return {
        name: tensor.detach().to("cpu", memory_format=torch.contiguous_format, copy=True)
        for name, tensor in named.items()
    }


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with a prefix, which is removed."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """The sha256 of the metadata text and of the name and bytes of every tensor."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
