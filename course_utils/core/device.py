"""The device to compute on."""

import torch


def get_device(name: str | None = None) -> torch.device:
    """The device to compute on: the one named, or by default CUDA if available and otherwise the CPU.

    Args:
        name: "cpu", "cuda", "cuda:1", "mps", or None for the default.

    >>> get_device("cpu")
    device(type='cpu')
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"name: this machine has no device {name!r}; leave it out to choose one"
        ) from error
    return torch.device(name)
