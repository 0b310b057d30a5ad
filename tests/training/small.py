"""A network small enough to train in a blink, with what is hard to repeat: batch norm, dropout, moments.

Under torchrun, `small.py FOLDER` trains it and writes each process's losses and weights into the folder.
"""

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from course_utils.training import train


def build(channels: int = 8, dropout: float = 0.2) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
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


def train_and_save(path: Path) -> None:
    model = build(dropout=0.0)  # each process has dropout of its own
    history = train(model, batches, loss, steps=30, learning_rate=1e-2, device="cpu")
    save_file(
        {**model.state_dict(), "losses": torch.tensor(history.losses, dtype=torch.float64)}, path
    )


if __name__ == "__main__":
    train_and_save(Path(sys.argv[1]) / f"{os.environ['RANK']}.safetensors")
