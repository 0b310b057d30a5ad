"""Transposed convolution for training: torch's own, on tensors whose channels are last in memory.

torch adds the copies of the filter straight into the output, where the plain form stores them all first: 2 to
2.5 times as fast as the plain form. Channels-last memory makes torch itself 1.1 to 1.4 times as fast on the
CPU, where the copies only touch (2 x 2 at stride 2).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from course_utils.ops.conv import Pair
from course_utils.ops.conv_transpose import _check_transposed


def transposed_convolve(
    input: Float[Tensor, "b c h w"],
    weight: Float[Tensor, "c o_group kh kw"],
    bias: Float[Tensor, " o"] | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    output_padding: int | Pair = 0,
    groups: int = 1,
    dilation: int | Pair = 1,
) -> Float[Tensor, "b o oh ow"]:
    """`course_utils.ops.conv_transpose.transposed_convolve` by torch, in channels-last memory."""
    stride, padding, output_padding, dilation, _ = _check_transposed(
        input, weight, bias, stride, padding, output_padding, groups, dilation
    )
    input, weight = (x.contiguous(memory_format=torch.channels_last) for x in (input, weight))
    return F.conv_transpose2d(
        input, weight, bias, stride, padding, output_padding, groups, dilation
    )
