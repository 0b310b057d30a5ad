"""One seed for everything that draws random numbers."""

import random

import numpy as np
import torch


def seed_everything(seed: int) -> torch.Generator:
    """Seed Python, NumPy and torch, and return a fresh torch generator with the same seed.

    Two runs that start with the same seed draw the same numbers on the same device. Prefer passing the
    returned generator to functions that take one: it is not disturbed by what other code draws.

    Args:
        seed: a whole number, 0 or above and below 2**32 (NumPy's limit).

    Returns:
        A CPU generator seeded with `seed`.

    Raises:
        TypeError: `seed` is not a whole number.
        ValueError: `seed` is out of range.

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
