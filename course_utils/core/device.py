"""Where the tensors live."""

import torch


def get_device(name: str | None = None) -> torch.device:
    """The device to work on: the one named, else CUDA where there is one, else the CPU.

    Args:
        name: "cpu", "cuda", "cuda:1", "mps", or None to choose.

    Returns:
        A device that exists on this machine.

    Raises:
        ValueError: `name` is no device, or this machine does not have it.

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
