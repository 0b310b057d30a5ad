"""One seed for all random number generators."""

import random

import numpy as np
import torch


def seed_everything(seed: int) -> torch.Generator:
    """Seed Python, NumPy and torch, and return a fresh torch generator with the same seed.

    Two runs with the same seed draw the same numbers on the same device. Pass the returned generator to
    functions that take one: other code that draws random numbers does not change its state.

    Args:
        seed: 0 to 2**32 - 1 (NumPy's limit).

    Returns:
        A generator on the CPU.

    >>> seed_everything(0).initial_seed()
    0
    """
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed: expected a whole number, got {seed!r}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed: expected 0 <= seed < 2**32, got {seed}")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)
