"""Max pooling that returns the indices of its maxima, and the max unpooling that it is paired with."""

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from course_utils.core import (
    check_floating,
    check_rows,
    check_same_device,
    check_shape,
    check_size,
    check_whole,
    on_cpu,
)
from course_utils.ops.conv import _windows
from course_utils.ops.upsample import _as_laid_out, _check_pixels


def _pooled_size(
    size: int, kernel_size: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> int:
    """How many windows there are along one axis: (size + 2P - K) / S + 1, rounded down or up."""
    room = size + 2 * padding - dilation * (kernel_size - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    windows = -(-room // stride) + 1
    return windows - ((windows - 1) * stride >= size + padding)  # none starts beyond the last pixel


def _check_pool(
    input: Tensor,
    kernel_size: int,
    stride: int | None,
    padding: int,
    dilation: int,
    ceil_mode: bool,
) -> tuple[int, tuple[int, int, int, int]]:
    """Check the arguments of max pooling; return its stride and the border that its windows need, in the
    order of `F.pad`: left, right, top, bottom.
    """
    stride = kernel_size if stride is None else stride
    _check_pixels(input)
    check_floating("input", input)
    check_whole("kernel_size", kernel_size, 1)
    check_whole("stride", stride, 1)
    check_whole("padding", padding, 0)
    check_whole("dilation", dilation, 1)
    window, (h, w) = dilation * (kernel_size - 1) + 1, input.shape[2:]
    if padding > kernel_size // 2:
        raise ValueError(
            f"padding: expected at most half of kernel_size = {kernel_size}, got {padding}"
        )
    if window > min(h, w) + 2 * padding:
        raise ValueError(
            f"kernel_size: expected a window inside the {h} x {w} input, padded by {padding}, "
            f"got {window} x {window}"
        )
    if padding and dilation > min(h, w):
        raise ValueError(
            f"dilation: expected a pixel of the {h} x {w} input in each window, got {dilation}"
        )
    bottom, right = (
        (_pooled_size(n, kernel_size, stride, padding, dilation, ceil_mode) - 1) * stride
        + (window - padding - n)
        for n in (h, w)
    )
    return stride, (padding, right, padding, bottom)


def max_pool_with_indices_loops(
    input: Float[Tensor, "b c h w"],
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
) -> tuple[Float[Tensor, "b c oh ow"], Int64[Tensor, "b c oh ow"]]:
    """`max_pool_with_indices` written out: look at every pixel of every window, keep the largest."""
    b, c, h, w = input.shape
    stride = kernel_size if stride is None else stride
    sizes = (_pooled_size(n, kernel_size, stride, padding, dilation, ceil_mode) for n in (h, w))
    output = input.new_zeros(b, c, *sizes)
    indices = torch.zeros_like(output, dtype=torch.int64)
    for n, channel, i, j in itertools.product(*map(range, output.shape)):
        top, left = i * stride - padding, j * stride - padding
        window = range(0, dilation * kernel_size, dilation)
        rows = [top + step for step in window if 0 <= top + step < h]
        columns = [left + step for step in window if 0 <= left + step < w]
        best = rows[0], columns[0]
        for pixel in itertools.product(rows, columns):
            value = input[n, channel, *pixel]
            if value > input[n, channel, *best] or value.isnan():
                best = pixel
        output[n, channel, i, j] = input[n, channel, *best]
        indices[n, channel, i, j] = best[0] * w + best[1]
    return output, indices


def max_pool_with_indices(
    input: Float[Tensor, "b c h w"],
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
) -> tuple[Float[Tensor, "b c oh ow"], Int64[Tensor, "b c oh ow"]]:
    """The largest value of each window, and its position.

    Pooling discards where in the window the maximum was; with the indices, `max_unpool` can put values back
    there. Of equal values the first counts, row by row; a pixel in the padding is never the maximum. The
    gradient of each maximum goes to the one pixel that it was taken from.

    Args:
        input: the images or feature maps.
        kernel_size: side of the square window in pixels.
        stride: pixels from one window to the next; by default the kernel size: windows do not overlap.
        padding: pixels added at every side, at most half the kernel size.
        dilation: spacing between the pixels of a window.
        ceil_mode: whether a last window that only partly fits counts, too.

    Returns:
        The maxima, and their indices in the input, counted row by row: row * w + column.

    Source: lecture, max unpooling; same as `torch.nn.functional.max_pool2d` with `return_indices=True`,
    which also takes rectangular windows.

    >>> image = torch.tensor([[1, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8]]).float()
    >>> values, indices = max_pool_with_indices(image[None, None], 2)
    >>> values
    tensor([[[[5., 6.],
              [7., 8.]]]])
    >>> indices
    tensor([[[[ 5,  2],
              [12, 15]]]])
    """
    stride, border = _check_pool(input, kernel_size, stride, padding, dilation, ceil_mode)
    settings = (kernel_size, kernel_size), (stride, stride), (dilation, dilation)
    h, w = input.shape[2:]
    windows = _windows(F.pad(input, border), *settings)  # [b, c, oh, ow, k, k]
    pixels = torch.arange(h * w, device=input.device).reshape(h, w)  # the index of each pixel
    pixels = _windows(F.pad(pixels, border, value=-1), *settings)  # [oh, ow, k, k]
    values = windows[..., 0, 0]
    indices = torch.full_like(values, -1, dtype=torch.int64)
    for i, j in itertools.product(range(kernel_size), range(kernel_size)):
        value, pixel = windows[..., i, j], pixels[..., i, j]  # one pixel of each window
        larger = (value > values) | value.isnan() | (indices < 0)
        larger = larger & (pixel >= 0)  # not in the padding
        values, indices = torch.where(larger, value, values), torch.where(larger, pixel, indices)
    return values, indices


def _check_unpool(
    input: Tensor,
    indices: Tensor,
    kernel_size: int,
    stride: int | None,
    padding: int,
    output_size: tuple[int, int] | None,
) -> tuple[int, int]:
    """Check the arguments of max unpooling; return its output size."""
    stride = kernel_size if stride is None else stride
    check_shape("input", input, "b", "c", "h", "w")
    check_floating("input", input)
    check_shape("indices", indices, *input.shape)
    if indices.dtype != torch.int64:
        raise TypeError(f"indices: expected torch.int64, got {indices.dtype}")
    check_same_device(input=input, indices=indices)
    check_whole("kernel_size", kernel_size, 1)
    check_whole("stride", stride, 1)
    check_whole("padding", padding, 0)
    usual = tuple((n - 1) * stride - 2 * padding + kernel_size for n in input.shape[2:])
    size = usual if output_size is None else output_size
    check_size("output_size", size)
    height, width = size
    if any(abs(n - m) >= stride for n, m in zip((height, width), usual)):
        raise ValueError(
            f"output_size: expected {usual[0]} x {usual[1]} or less than a stride of {stride} away, "
            f"got {height} x {width}"
        )
    pixels = height * width
    low, high = indices.aminmax() if on_cpu(indices) and indices.numel() else (0, 0)
    if not 0 <= low <= high < pixels:
        good = (indices >= 0) & (indices < pixels)
        check_rows("indices", indices, good, f"0..{pixels - 1} for {height} x {width} pixels")
    return height, width


def max_unpool_loops(
    input: Float[Tensor, "b c h w"],
    indices: Int64[Tensor, "b c h w"],
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    output_size: tuple[int, int] | None = None,
) -> Float[Tensor, "b c oh ow"]:
    """`max_unpool` written out: put one value at a time at its index."""
    b, c, h, w = input.shape
    stride = kernel_size if stride is None else stride
    if output_size is None:
        output_size = tuple((n - 1) * stride - 2 * padding + kernel_size for n in (h, w))
    output = input.new_zeros(b, c, *output_size)
    for n, channel, i, j in itertools.product(range(b), range(c), range(h), range(w)):
        row, column = divmod(int(indices[n, channel, i, j]), output_size[1])
        output[n, channel, row, column] = input[n, channel, i, j]
    return output


def max_unpool(
    input: Float[Tensor, "b c h w"],
    indices: Int64[Tensor, "b c h w"],
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    output_size: tuple[int, int] | None = None,
) -> Float[Tensor, "b c oh ow"]:
    """Put each value back where the maximum of its window was, with zeros elsewhere.

    A bed of nails whose nails are where the paired pooling layer found its maxima: the decoder learns where
    in its window each feature was. The gradient of a value is the gradient of the output at its index.

    Args:
        input: feature maps of the pooled size.
        indices: from `max_pool_with_indices`, one per value.
        kernel_size: the kernel size of the pooling layer.
        stride: its stride; by default the kernel size.
        padding: its padding.
        output_size: (height, width) before pooling. Several sizes are pooled to the same one, 4 and 5 to 2;
            by default it is the smallest whose windows all fit: (size - 1) * stride - 2 * padding +
            kernel_size.

    Returns:
        The unpooled feature maps. Where windows overlapped and two values have the same index, the later one
        is kept, yet both receive the gradient there (in torch, too).

    Source: Noh et al., "Learning Deconvolution Network for Semantic Segmentation", ICCV 2015; lecture, max
    unpooling; same as `torch.nn.functional.max_unpool2d`.

    >>> indices = torch.tensor([[[[5, 2], [12, 15]]]])
    >>> max_unpool(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), indices, 2)
    tensor([[[[0., 0., 2., 0.],
              [0., 1., 0., 0.],
              [0., 0., 0., 0.],
              [3., 0., 0., 4.]]]])
    """
    size = _check_unpool(input, indices, kernel_size, stride, padding, output_size)
    zeros = input.new_zeros(*input.shape[:2], size[0] * size[1])
    output = zeros.scatter(2, indices.flatten(2), input.flatten(2)).unflatten(2, size)
    return _as_laid_out(output, input)
