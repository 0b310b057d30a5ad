"""Two kinds of file, both safetensors, never pickle: the state of a training under way, and shipped weights.

A file is written beside its place, flushed to the disk and then renamed: whoever reads finds the old one or
the new one, never a half.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn


class History(NamedTuple):
    """What a training has to show so far.

    Attributes:
        losses: the loss of every step, in order.
        metrics: what `evaluate` returned, by the number of steps done.
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
    """Write down everything that the next step of a training depends on.

    That is little, because the rest is a function of the step's number: the learning rate, the batch, and the
    seed of whatever the model draws. The number itself is how many losses there are.

    Args:
        path: the file; the old one stays whole until the new one is.
        model: its parameters and buffers.
        optimizer: its moments.
        scaler: the loss scale of float16 training; it has none on the CPU.
        history: losses and metrics so far.
        run: settings that a training which goes on from here must share, as JSON can hold them.
    """
    tensors = _state_tensors(model, optimizer)
    tensors["losses"] = torch.tensor(history.losses, dtype=torch.float64)
    notes = {"run": run, "scaler": scaler.state_dict(), "metrics": history.metrics}
    text = json.dumps(notes)
    _write(path, save(tensors, {"notes": text, "digest": _digest(tensors, text)}))


def load_state(
    path: Path | str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    run: Mapping[str, Any],
) -> History:
    """Put a training back to where `save_state` left it.

    Args:
        path: a file that `save_state` wrote.
        model: takes the parameters and buffers.
        optimizer: takes the moments; one that has not made a step yet.
        scaler: takes the loss scale.
        run: the settings of this training.

    Returns:
        Losses and metrics up to there.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or belongs to a training with other settings or another model.
    """
    tensors, metadata = _read("checkpoint", path)
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
    model_state = _pick(tensors, "model.")
    _check_same_tensors("checkpoint", path, model_state, model)
    model.load_state_dict(model_state)
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _pick(tensors, "optimizer.").items():
        number, key = name.split(".")
        moments.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
    if notes["scaler"] and scaler.is_enabled():
        scaler.load_state_dict(notes["scaler"])
    return History(losses, {int(step): found for step, found in notes["metrics"].items()})


def save_weights(path: Path | str, model: nn.Module, card: Mapping[str, Any]) -> None:
    """Write a trained model as float16 and, beside it, its card as JSON.

    Half the bytes, and metrics keep their first three digits. Numbers that go into the card must come from
    the rounded weights: `round_weights` first, then measure, then save.

    Args:
        path: the file; the card gets the same name with `.json`.
        model: the model.
        card: recipe, seed, metrics, ...; the file's `sha256` and size in `bytes` are added.

    Raises:
        ValueError: a weight is too large for float16.
    """
    path = Path(path)
    content = save({name: tensor.cpu() for name, tensor in _halved(model).items()})
    facts = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    _write(path, content)
    _write(path.with_suffix(".json"), (json.dumps({**card, **facts}, indent=2) + "\n").encode())


def load_weights(path: Path | str, model: nn.Module) -> dict[str, Any]:
    """Read weights that `save_weights` wrote, as float32, after the check that not a bit has changed.

    Args:
        path: the file; its card lies beside it.
        model: takes the weights.

    Returns:
        The card.

    Raises:
        FileNotFoundError: the file or its card is missing.
        ValueError: the file is not the one that the card describes, or does not fit the model.
    """
    path = Path(path)
    for file in (path, path.with_suffix(".json")):
        if not file.is_file():
            raise FileNotFoundError(f"path: there is no file {file}")
    card = json.loads(path.with_suffix(".json").read_text())
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != card.get("sha256"):
        raise ValueError(
            f"path: {path} is not the file its card describes (sha256 {found[:12]}..., "
            f"expected {str(card.get('sha256'))[:12]}...); get it again"
        )
    tensors, _ = _read("path", path)
    _check_same_tensors("path", path, tensors, model)
    model.load_state_dict(tensors)  # copies, so that float16 becomes the model's own type
    return card


def round_weights(model: nn.Module) -> None:
    """Round every weight to what float16 can hold, in place: the model is then what its file will be.

    Args:
        model: the model.

    Raises:
        ValueError: a weight is too large for float16.

    >>> layer = nn.Linear(1, 1)
    >>> _ = nn.init.constant_(layer.weight, 0.1)
    >>> round_weights(layer)
    >>> round(layer.weight.item(), 9)
    0.099975586
    """
    model.load_state_dict(_halved(model))


def _halved(model: nn.Module) -> dict[str, Tensor]:
    """The model's tensors, floating-point numbers as float16."""
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    for name, tensor in state.items():
        if tensor.is_floating_point():
            state[name] = tensor.half().contiguous()
            if not torch.isfinite(state[name]).all():
                raise ValueError(
                    f"model: {name} does not fit float16 (largest {tensor.abs().max()})"
                )
    return state


def _state_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """All tensors of model and optimiser by name, as copies on the CPU."""
    named = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for number, moments in optimizer.state_dict()["state"].items():
        named |= {f"optimizer.{number}.{key}": tensor for key, tensor in moments.items()}
    return {
        name: tensor.detach().to("cpu", memory_format=torch.contiguous_format, copy=True)
        for name, tensor in named.items()
    }


def _pick(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """A sha256 over the notes and over every tensor's name and bytes."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _check_same_tensors(
    argument: str, path: Path | str, tensors: Mapping[str, Tensor], model: nn.Module
) -> None:
    """Raise unless the file has the model's tensors in the model's shapes."""
    wanted = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    given = {name: list(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(wanted.keys() | given.keys()):
        if wanted.get(name) != given.get(name):
            raise ValueError(
                f"{argument}: {path} belongs to another model: {name} is "
                f"{given.get(name, 'missing')} in the file, {wanted.get(name, 'missing')} in the model"
            )


def _read(argument: str, path: Path | str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A safetensors file's tensors and metadata."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        return load_file(path), metadata
    except SafetensorError as error:
        raise ValueError(
            f"{argument}: {path} is damaged or no safetensors file ({error}); delete it and start again"
        ) from error


def _write(path: Path | str, content: bytes) -> None:
    """Put a file in its place in one move: on the disk first, then under its name.

    What a kill leaves behind is a `.part` file that nobody reads and the next write replaces.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
