"""Counter-based random numbers: each depends on its key only, so a scene is the same alone or in a batch."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

WORD = 0xFFFFFFFF


def fold(key: Int64[Tensor, "..."], number: Int64[Tensor, "..."] | int) -> Int64[Tensor, "..."]:
    """Hash a 32-bit key and a number (0 to 2**31 - 1) to a new 32-bit key; the two are broadcast.

    Integer arithmetic only, so the result is the same on every device and in every batch.

    >>> fold(torch.tensor([0, 1]), 0).tolist()
    [3108667723, 3214059150]
    """
    word = (key + 0x9E3779B9 * (number + 1)) & WORD
    word = ((word >> 16) ^ word) * 0x45D9F3B & WORD
    word = ((word >> 16) ^ word) * 0x45D9F3B & WORD
    return (word >> 16) ^ word


class Dice:
    """A random number generator per key: each call draws the next number of every key.

    Args:
        keys: one key per scene or figure.
        throws: the number of draws that are needed at most.
    """

    def __init__(self, keys: Int64[Tensor, " n"], throws: int = 64):
        numbers = torch.arange(throws, device=keys.device)
        self.table = fold(keys[:, None], numbers) >> 8  # 24 bits, exact in float32
        self.next = 0

    def _throw(self, count: int) -> Int64[Tensor, "n count"]:
        first, self.next = self.next, self.next + count
        return self.table[:, first : self.next]

    def uniform(self, low: float, high: float) -> Float[Tensor, " n"]:
        """A number from low to high per key."""
        return self.uniforms(low, high, 1)[:, 0]

    def uniforms(self, low: float, high: float, count: int) -> Float[Tensor, "n count"]:
        """`count` numbers from low to high per key."""
        return self._throw(count).float() * ((high - low) / 2**24) + low

    def chance(self, probability: float) -> Tensor:
        """True with this probability, per key."""
        return self.uniform(0.0, 1.0) < probability

    def pick(self, count: int) -> Int64[Tensor, " n"]:
        """A whole number from 0 to count - 1 per key."""
        return self.picks(count, 1)[:, 0]

    def picks(self, count: int, times: int) -> Int64[Tensor, "n times"]:
        """`times` whole numbers from 0 to count - 1 per key."""
        return (self._throw(times) * count) >> 24
