"""Several processes, one training: `torchrun` starts them, each takes its share of every batch."""

import atexit
import os
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from course_utils.core import get_device

Batch = TypeVar("Batch")


def join_processes(device: str | None) -> tuple[int, int, torch.device]:
    """Find the others that torchrun started, if there are any.

    Args:
        device: "cpu", "cuda", ..., or None to choose; each process gets a GPU of its own.

    Returns:
        This process's rank, how many there are, and the device to work on.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return 0, 1, get_device(device)
    if get_device(device).type == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    chosen = get_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)
    return dist.get_rank(), dist.get_world_size(), chosen


def wrap(model: nn.Module, ranks: int) -> nn.Module:
    """The model with its gradients averaged over all processes after every backward pass.

    Batch norm is changed too, in place: it takes mean and variance over the whole batch, not a share of it.

    Args:
        model: the model, on its device.
        ranks: how many processes there are; 1 returns the model as it is.

    Returns:
        What to call in the forward pass; the parameters are the model's own.
    """
    if ranks == 1:
        return model
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm2d
    return nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)


def average(value: Tensor, ranks: int) -> float:
    """The mean of a number over all processes.

    Args:
        value: this process's number.
        ranks: how many processes there are.

    Returns:
        The same number in every process.
    """
    if ranks > 1:
        dist.all_reduce(value)
    return value.item() / ranks


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the shares of all processes: `torch.nn.SyncBatchNorm`, which has no CPU version."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        values = input.float()
        n = values.new_tensor(values.numel() // values.shape[1])
        dist.all_reduce(n)  # a detector's processes crop different numbers of regions
        mean = all_reduce(values.sum((0, 2, 3))) / n
        apart = values - mean[:, None, None]
        variance = all_reduce(apart.square().sum((0, 2, 3))) / n
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * n / (n - 1), self.momentum)
        scale = (variance + self.eps).rsqrt() * self.weight
        return (apart * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)


def take_share(batch: Batch, rank: int, ranks: int, device: torch.device | str) -> Batch:
    """This process's part of a batch, on its device.

    Args:
        batch: a tensor or list with one entry an image, or a tuple or dict of such.
        rank: this process's number, from 0.
        ranks: how many processes there are.
        device: where the tensors go.

    Returns:
        The same structure with one of `ranks` equal parts of the images: the first for rank 0, and so on.

    Raises:
        ValueError: the images cannot be shared equally.

    >>> take_share((torch.arange(6), ["a", "b", "c", "d", "e", "f"]), 1, 3, "cpu")
    (tensor([2, 3]), ['c', 'd'])
    """
    if isinstance(batch, dict):
        return {key: take_share(part, rank, ranks, device) for key, part in batch.items()}
    if isinstance(batch, tuple):
        parts = [take_share(part, rank, ranks, device) for part in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else tuple(parts)
    if isinstance(batch, Tensor | list) and ranks > 1:
        each, left_over = divmod(len(batch), ranks)
        if left_over:
            raise ValueError(
                f"batches: expected a number of images that {ranks} processes can share equally, "
                f"got {len(batch)}"
            )
        batch = batch[rank * each : (rank + 1) * each]
    if isinstance(batch, list):
        return [take_share(entry, 0, 1, device) for entry in batch]
    return batch.to(device) if isinstance(batch, Tensor) else batch


def count_images(batch: Batch) -> int:
    """How many images a batch has.

    Args:
        batch: as in `take_share`.

    Returns:
        The number of entries.

    >>> count_images({"images": torch.zeros(6, 3, 8, 8)})
    6
    """
    while not isinstance(batch, Tensor | list):
        batch = next(iter(batch.values() if isinstance(batch, dict) else batch))
    return len(batch)
