"""A network that trains in a second, with what is hard to reproduce: batch norm, dropout, optimiser state.

Under torchrun, `small.py FOLDER` trains it and saves the losses and weights of every process in the folder.
"""

import atexit
import os
import sys
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import nn

from course_utils.training import train

NORMS = {"batch_norm": nn.BatchNorm2d, "group_norm": partial(nn.GroupNorm, 2)}


def build(
    channels: int = 8, dropout: float = 0.2, norm: Callable[[int], nn.Module] = nn.BatchNorm2d
) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1, bias=False),
        norm(channels),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        norm(channels),
        nn.ReLU(),
        nn.Conv2d(channels, 4, 1),
    )


def batches(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.rand(8, 3, 12, 12, generator=torch.Generator().manual_seed(step))
    return images, (images[:, 0] * 4).long()


def loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    images, labels = batch
    return nn.functional.cross_entropy(model(images), labels)


def accuracy(model: nn.Module) -> dict[str, float]:
    images, labels = batches(10**6)
    with torch.no_grad():
        right = model(images.to(next(model.parameters()).device)).argmax(dim=1).cpu() == labels
    return {"accuracy": right.float().mean().item()}


def train_and_save(folder: Path, process: str) -> None:
    """Train with batch norm and with group norm, without dropout, which differs between processes."""
    settings = {"steps": 30, "learning_rate": 1e-2, "device": "cpu"}
    settings |= {"evaluate": accuracy, "evaluate_every": 10}
    for name, norm in NORMS.items():
        model = build(dropout=0.0, norm=norm)
        history = train(model, batches, loss, **settings)
        numbers = {
            "losses": torch.tensor(history.losses, dtype=torch.float64),
            "accuracies": torch.tensor([found["accuracy"] for found in history.metrics.values()]),
        }
        save_file({**model.state_dict(), **numbers}, folder / f"{name}_{process}.safetensors")


def save_whether_alive(folder: Path, process: str, groups: list[weakref.ref]) -> None:
    """Save whether the process group, with its threads, outlives `destroy_process_group`."""
    alive = torch.tensor([group() is not None for group in groups])
    save_file({"alive": alive}, folder / f"group_{process}.safetensors")


if __name__ == "__main__":
    folder, process, groups = Path(sys.argv[1]), os.environ["RANK"], []
    atexit.register(
        save_whether_alive, folder, process, groups
    )  # runs after what is registered later
    train_and_save(folder, process)
    groups.append(weakref.ref(dist.group.WORLD))
