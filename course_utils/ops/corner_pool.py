"""Corner pooling: what a corner of a box cannot see, brought there from the object (CornerNet)."""

import itertools
import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from course_utils.core import check_floating
from course_utils.ops.upsample import _as_laid_out, _check_pixels

# From a pixel to the next one that it looks at: rows down, columns to the right.
STEPS = {"top": (1, 0), "left": (0, 1), "bottom": (-1, 0), "right": (0, -1)}
Direction = Literal["top", "left", "bottom", "right"]


def corner_pool_loops(
    input: Float[Tensor, "b c h w"], direction: Direction
) -> Float[Tensor, "b c h w"]:
    """`corner_pool` written out: from each pixel walk to the border, and keep the largest value."""
    b, c, h, w = input.shape
    down, right = STEPS[direction]
    output = torch.zeros_like(input)
    for n, channel, i, j in itertools.product(range(b), range(c), range(h), range(w)):
        row, column = i, j
        largest = input[n, channel, i, j]
        while 0 <= row < h and 0 <= column < w:
            value = input[n, channel, row, column]
            if value > largest or (value.isnan() and not largest.isnan()):
                largest = value
            row, column = row + down, column + right
        output[n, channel, i, j] = largest
    return output


def corner_pool(input: Float[Tensor, "b c h w"], direction: Direction) -> Float[Tensor, "b c h w"]:
    """The maximum of each pixel and all pixels on one side of it, up to the border.

    The top left corner of a box is above the object's topmost pixel and to the left of its leftmost one. To
    tell that it is a corner, look right along the object's top edge ("left" pooling) and down along its left
    edge ("top" pooling), and add the two. For the bottom right corner, look up ("bottom") and left ("right").

    The maximum over 1, 2, 4, ... pixels: each step joins two stretches of the last one, so a row of 128 takes
    7 steps. The gradient of each maximum goes to the one pixel that it was taken from, of equal ones to the
    nearest.

    Args:
        input: the feature maps.
        direction: the side of the box whose corners are sought: "top" takes the maximum of everything
            below, "left" of everything to the right, "bottom" of everything above, "right" of everything to
            the left.

    Returns:
        The maxima.

    Source: Law & Deng, "CornerNet", ECCV 2018, section 3.4; the values and the gradient of `torch.cummax`
    (for "top" and "left" of the flipped input), and deterministic on CUDA.

    >>> corner_pool(torch.tensor([[[[2.0, 1.0, 3.0, 0.0, 2.0]]]]), "left")
    tensor([[[[3., 3., 3., 2., 2.]]]])
    """
    _check_pixels(input)
    check_floating("input", input)
    if direction not in tuple(STEPS):
        raise ValueError(
            f'direction: expected "top", "left", "bottom" or "right", got {direction!r}'
        )
    down, right = STEPS[direction]
    output, reach = input.clone(), 1  # the maximum over how many pixels
    while reach < (input.shape[2] if down else input.shape[3]):
        move = (-reach * right, reach * right, -reach * down, reach * down)
        further = F.pad(
            output, move, value=-math.inf
        )  # of the pixel `reach` away, none beyond the border
        output = torch.where((output >= further) | output.isnan(), output, further)
        reach *= 2
    return _as_laid_out(output, input)
