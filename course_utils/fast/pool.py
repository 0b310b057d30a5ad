"""Max pooling and max unpooling for training.

The search for the maxima is torch's, with the channels last in memory: on the CPU about twice as fast as in
torch's usual layout, and 4 times as fast as the plain form. The maxima are then gathered from the input at
their indices, so that the backward pass is deterministic on CUDA, too. Unpooling writes into its zeros, not
into a copy of them, which is 1.5 to 4 times as fast as the plain form.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from course_utils.ops.pool import _check_pool, _check_unpool
from course_utils.ops.upsample import _as_laid_out, _is_channels_last


def max_pool_with_indices(
    input: Float[Tensor, "b c h w"],
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
) -> tuple[Float[Tensor, "b c oh ow"], Int64[Tensor, "b c oh ow"]]:
    """`course_utils.ops.pool.max_pool_with_indices`, with torch's search in channels-last memory."""
    stride, _ = _check_pool(input, kernel_size, stride, padding, dilation, ceil_mode)
    channels_last = input.detach().contiguous(memory_format=torch.channels_last)
    _, indices = F.max_pool2d(
        channels_last, kernel_size, stride, padding, dilation, ceil_mode, return_indices=True
    )
    if _is_channels_last(input):
        pixels, index = (tensor.permute(0, 2, 3, 1) for tensor in (input, indices))  # [b, h, w, c]
        values = pixels.flatten(1, 2).gather(1, index.flatten(1, 2)).reshape(index.shape)
        return values.permute(0, 3, 1, 2), indices
    indices = indices.contiguous()
    return input.flatten(2).gather(2, indices.flatten(2)).reshape(indices.shape), indices


def max_unpool(
    input: Float[Tensor, "b c h w"],
    indices: Int64[Tensor, "b c h w"],
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    output_size: tuple[int, int] | None = None,
) -> Float[Tensor, "b c oh ow"]:
    """`course_utils.ops.pool.max_unpool`, written in place into zeros."""
    size = _check_unpool(input, indices, kernel_size, stride, padding, output_size)
    output = input.new_zeros(*input.shape[:2], size[0] * size[1])
    output.scatter_(2, indices.flatten(2), input.flatten(2))
    return _as_laid_out(output.unflatten(2, size), input)
