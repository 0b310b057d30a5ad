"""Data-parallel training: `torchrun` starts several processes, and each trains on its shard of every batch.

The gradients are averaged over the processes, so that they make the same step as one process with the whole
batch. There are two exceptions: random numbers that the model draws (dropout, sampling), and batch norm on
the CPU, see `wrap`.
"""

import atexit
import importlib
import os
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from course_utils.core import get_device
from course_utils.data import collate

Batch = TypeVar("Batch")


def join_processes(device: str | None) -> tuple[int, int, torch.device]:
    """Connect to the other processes that torchrun has started, if there are any.

    Args:
        device: "cpu", "cuda", ..., or None to choose; every process gets a GPU of its own.

    Returns:
        The rank of this process, the number of processes (the world size), and the device to train on.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return 0, 1, get_device(device)
    if get_device(device).type == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    chosen = get_device(device)
    if not dist.is_initialized():
        # The default arguments of this module keep the process group that exists when it is imported, which
        # `DistributedDataParallel` does. Imported before, it keeps none: the threads of the group end when it
        # is destroyed. A thread that outlives the interpreter can abort the process.
        importlib.import_module("torch.distributed.nn.functional")
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)
    return dist.get_rank(), dist.get_world_size(), chosen


def wrap(model: nn.Module, world_size: int, device: torch.device) -> nn.Module:
    """Wrap a model in `DistributedDataParallel`, which averages the gradients over all processes.

    On GPUs, batch norm becomes `torch.nn.SyncBatchNorm`, with mean and variance of the whole batch. PyTorch
    has no CPU version of it. On the CPU every process therefore normalises its own shard, and a model with
    batch norm does not train exactly as in one process; its running statistics are those of the first
    process.

    Args:
        model: the model, on its device.
        world_size: the number of processes; with one, the model is returned as it is.
        device: the model's device.

    Returns:
        The module to call in the forward pass; its parameters and buffers are those of `model`. Batch-norm
        layers are replaced inside `model`; a model that is itself such a layer stays what it is.
    """
    if world_size == 1:
        return model
    if device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return nn.parallel.DistributedDataParallel(model)


def broadcast_buffers(model: nn.Module, world_size: int) -> None:
    """Give all processes the buffers (batch norm's running statistics) of the first one.

    `DistributedDataParallel` does this at the start of every forward pass, but not after the last one.

    Args:
        model: the model; its buffers are overwritten.
        world_size: the number of processes.
    """
    if world_size > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def average(value: Tensor, world_size: int) -> float:
    """The mean of a number over all processes.

    Args:
        value: the number in this process.
        world_size: the number of processes.

    Returns:
        The mean, the same in every process.
    """
    if world_size > 1:
        dist.all_reduce(value)
    return value.item() / world_size


def shard(batch: Batch, rank: int, world_size: int, device: torch.device | str) -> Batch:
    """The images of a batch that one process trains on, moved to its device.

    Args:
        batch: a tensor or list with one entry per image, or a tuple or dict of such.
        rank: the number of the process, from 0.
        world_size: the number of processes.
        device: where the tensors are moved.

    Returns:
        The same structure with one of `world_size` equal parts of the images; rank 0 takes the first.

    >>> shard((torch.arange(6), ["a", "b", "c", "d", "e", "f"]), 1, 3, "cpu")
    (tensor([2, 3]), ['c', 'd'])
    """
    if isinstance(batch, collate.Batch):
        return batch.part(_share(len(batch.images), rank, world_size)).to(device)
    if isinstance(batch, dict):
        return {key: shard(field, rank, world_size, device) for key, field in batch.items()}
    if isinstance(batch, tuple):
        fields = [shard(field, rank, world_size, device) for field in batch]
        return type(batch)(*fields) if hasattr(batch, "_fields") else tuple(fields)
    if isinstance(batch, Tensor | list) and world_size > 1:
        batch = batch[_share(len(batch), rank, world_size)]
    if isinstance(batch, list):
        return [shard(entry, 0, 1, device) for entry in batch]
    return batch.to(device) if isinstance(batch, Tensor) else batch


def _share(count: int, rank: int, world_size: int) -> slice:
    """Which of the images of a batch belong to a process."""
    size, remainder = divmod(count, world_size)
    if remainder:
        raise ValueError(
            f"batches: expected a batch size that is divisible by the number of processes, "
            f"{world_size}, got {count}"
        )
    return slice(rank * size, (rank + 1) * size)
