"""Trained weights in float16, each with a card that says what they are. No pickle: safetensors.

A file is written under a temporary name, flushed to the disk and then renamed. If the process is killed while
it writes, the old file is still complete.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from course_utils.data.download import hold_lock


def save_weights(path: Path | str, model: nn.Module, card: Mapping[str, Any]) -> None:
    """Save the weights of a trained model in float16 and, beside them, its model card in JSON.

    float16 takes half the bytes, and the metrics stay the same to three digits. The metrics on the card
    should be those of the saved weights: call `round_weights` before you measure them.

    Args:
        path: the file; the card has the same name with `.json`.
        model: the model.
        card: recipe, seed, metrics, ...; the file's `sha256` and its size in `bytes` are added.

    Raises:
        ValueError: a weight is too large for float16.
    """
    path = Path(path)
    content = save({name: tensor.cpu() for name, tensor in _to_float16(model).items()})
    card = {**card, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    write_file(path, content)
    write_file(path.with_suffix(".json"), (json.dumps(card, indent=2) + "\n").encode())


def load_weights(path: Path | str, model: nn.Module) -> dict[str, Any]:
    """Load weights that `save_weights` saved into a model, after their sha256 has been checked.

    Args:
        path: the file; the card lies beside it.
        model: its weights are overwritten; they keep their dtype.

    Returns:
        The card.

    Raises:
        ValueError: the sha256 is not that of the card, or the weights belong to another model.
    """
    tensors = load_tensors(path)
    check_same_tensors("path", path, tensors, model)
    model.load_state_dict(tensors)  # copies the values, which become float32 again
    return read_card(path)


def read_card(path: Path | str) -> dict[str, Any]:
    """The card of a file with weights: recipe, class names, metrics, sha256, ...

    Args:
        path: the file with the weights; the card lies beside it.

    Raises:
        ValueError: the card is damaged.
    """
    card_path = Path(path).with_suffix(".json")
    if not card_path.is_file():
        raise FileNotFoundError(f"path: there is no file {card_path}")
    try:
        card = json.loads(card_path.read_bytes())
        complete = isinstance(card["sha256"], str) and isinstance(card["bytes"], int)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(
            f"path: {card_path} is not a complete card ({type(error).__name__}: {error}); "
            "download it again"
        ) from error
    if not complete:
        raise ValueError(f"path: expected sha256 and bytes in {card_path}; download it again")
    return card


def load_tensors(path: Path | str) -> dict[str, Tensor]:
    """The weights in a file by name, after their sha256 has been checked against the card.

    Args:
        path: the file; the card lies beside it.

    Raises:
        ValueError: the file is not the one its card describes, or a weight is not a finite number.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path: there is no file {path}")
    sha256, expected = hashlib.sha256(path.read_bytes()).hexdigest(), read_card(path)["sha256"]
    if sha256 != expected:
        raise ValueError(
            f"path: {path} is not the file its card describes (sha256 {sha256[:12]}..., "
            f"expected {expected[:12]}...); download it again"
        )
    tensors, _ = read_tensors("path", path)
    for name, tensor in tensors.items():
        counter = name.endswith("num_batches_tracked")
        if tensor.is_floating_point() == counter or not torch.isfinite(tensor).all():
            raise ValueError(
                f"path: expected finite floating-point weights in {path}, but {name} is "
                f"{tensor.dtype} or holds a number that is not finite"
            )
    return tensors


def round_weights(model: nn.Module) -> None:
    """Round every weight to the nearest float16 number, in place, as `save_weights` does in the file.

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
    model.load_state_dict(_to_float16(model))


def _to_float16(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the model's parameters and buffers, the floating-point ones in float16."""
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    for name, tensor in state.items():
        if tensor.is_floating_point():
            state[name] = tensor.half().contiguous()
            if not torch.isfinite(state[name]).all():
                raise ValueError(
                    f"model: {name} does not fit float16 (largest {tensor.abs().max()})"
                )
    return state


def check_same_tensors(
    argument: str, path: Path | str, tensors: Mapping[str, Tensor], model: nn.Module
) -> None:
    """Raise unless names and shapes in the file are those of the model's parameters and buffers."""
    expected = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: list(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"{argument}: {path} belongs to another model: {name} is "
                f"{found.get(name, 'missing')} in the file, {expected.get(name, 'missing')} in the model"
            )


def read_tensors(argument: str, path: Path | str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        return load_file(path), metadata
    except SafetensorError as error:
        raise ValueError(
            f"{argument}: {path} is damaged or not a safetensors file ({error}); delete it and start again"
        ) from error


def write_file(path: Path | str, content: bytes) -> None:
    """Write a file atomically: under a temporary name first, flushed to the disk, then renamed.

    If the process is killed, a `.part` file may remain; it is never read, and the next write replaces it. A
    second process that writes the same file waits until the first one is done.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with hold_lock(path.with_name(path.name + ".lock")):
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
