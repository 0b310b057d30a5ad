"""Upsampling: bed of nails, nearest, bilinear, bicubic, and max unpooling with the pooling it undoes."""

import itertools
import math
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from course_utils.core import check_floating, check_same_device, check_shape, check_size


def _check_pixels(input: Tensor) -> None:
    check_shape("input", input, "b", "c", "h", "w")
    if 0 in input.shape[2:]:
        raise ValueError(f"input: expected at least one pixel, got shape {list(input.shape)}")


def _check_whole(name: str, value: int, least: int) -> None:
    if not isinstance(value, int):
        raise TypeError(f"{name}: expected a whole number, got {value!r}")
    if value < least:
        raise ValueError(f"{name}: expected {least} or above, got {value}")


# --- Copying pixels: bed of nails and nearest neighbour


def bed_of_nails_loops(input: Shaped[Tensor, "b c h w"], scale: int) -> Shaped[Tensor, "b c oh ow"]:
    """`bed_of_nails` written out: put one pixel at a time into an empty picture."""
    b, c, h, w = input.shape
    output = input.new_zeros(b, c, scale * h, scale * w)
    for i, j in itertools.product(range(h), range(w)):
        output[:, :, scale * i, scale * j] = input[:, :, i, j]
    return output


def bed_of_nails(input: Shaped[Tensor, "b c h w"], scale: int) -> Shaped[Tensor, "b c oh ow"]:
    """Enlarge by a whole factor: each pixel in the upper left corner of its block, zeros elsewhere.

    Nothing is invented and nothing is lost. A convolution of the result fills the gaps: that is what a
    transposed convolution does, in one step.

    Args:
        input: `[b, c, h, w]`, numbers of any type.
        scale: the side of a block in pixels, 1 or above.

    Returns:
        `[b, c, scale h, scale w]`.

    Raises:
        TypeError: not a tensor, or a scale that is not whole.
        ValueError: a wrong shape, or a scale below 1.

    Source: lecture, in-network upsampling.

    >>> bed_of_nails(torch.tensor([[[[1, 2], [3, 4]]]]), 2)
    tensor([[[[1, 0, 2, 0],
              [0, 0, 0, 0],
              [3, 0, 4, 0],
              [0, 0, 0, 0]]]])
    """
    _check_pixels(input)
    _check_whole("scale", scale, 1)
    b, c, h, w = input.shape
    output = input.new_zeros(b, c, scale * h, scale * w)
    output[:, :, ::scale, ::scale] = input
    return output


def _nearest_pixels(in_size: int, out_size: int) -> Tensor:
    """The pixel to copy for each output pixel along one axis."""
    # In float32, as torch does: i * in_size // out_size differs first at 26 -> 22 pixels, where
    # 11 * (26 / 22) = 13 comes out a little below 13.
    return (torch.arange(out_size, dtype=torch.float32) * (in_size / out_size)).long()


def nearest_loops(
    input: Shaped[Tensor, "b c h w"], size: tuple[int, int]
) -> Shaped[Tensor, "b c oh ow"]:
    """`nearest` written out: for each output pixel, copy one input pixel."""
    b, c, h, w = input.shape
    output = input.new_zeros(b, c, *size)
    for i, row in enumerate(_nearest_pixels(h, size[0]).tolist()):
        for j, column in enumerate(_nearest_pixels(w, size[1]).tolist()):
            output[:, :, i, j] = input[:, :, row, column]
    return output


def nearest(input: Shaped[Tensor, "b c h w"], size: tuple[int, int]) -> Shaped[Tensor, "b c oh ow"]:
    """Resize by copying: each output pixel takes the value of one input pixel.

    The only method here that never makes a new value, and so the one for label maps: between class 3 and
    class 5 there is no class 4. Output pixel i copies input pixel floor(i h / oh).

    Args:
        input: `[b, c, h, w]`, numbers of any type.
        size: the output's (height, width) in pixels.

    Returns:
        `[b, c, *size]`.

    Raises:
        TypeError: not a tensor.
        ValueError: a wrong shape, or a size that is not above zero.

    Source: lecture, in-network upsampling; same as `torch.nn.functional.interpolate` with
    `mode="nearest"`, also where that rounds i h / oh down across a whole number.

    >>> nearest(torch.tensor([[[[1, 2], [3, 4]]]]), (4, 4))
    tensor([[[[1, 1, 2, 2],
              [1, 1, 2, 2],
              [3, 3, 4, 4],
              [3, 3, 4, 4]]]])
    """
    _check_pixels(input)
    check_size("size", size)
    rows = _nearest_pixels(input.shape[2], size[0]).to(input.device)
    columns = _nearest_pixels(input.shape[3], size[1]).to(input.device)
    return input.index_select(3, columns).index_select(2, rows)


# --- Mixing pixels: bilinear and bicubic, one matrix for the rows and one for the columns


def linear_kernel(distance: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The weight of a pixel at some distance in linear interpolation: a hat, max(0, 1 - |d|).

    Args:
        distance: from the pixel's centre, in pixels.

    Returns:
        1 at the pixel, 0 from its neighbours on.

    Source: lecture, bilinear interpolation.

    >>> linear_kernel(torch.tensor([0.0, 0.25, 1.0, 2.0]))
    tensor([1.0000, 0.7500, 0.0000, 0.0000])
    """
    return (1 - distance.abs()).clamp(min=0)


def cubic_kernel(distance: Float[Tensor, "*shape"], a: float = -0.75) -> Float[Tensor, "*shape"]:
    """The weight of a pixel at some distance in cubic interpolation: two cubics that meet smoothly.

    (a + 2)|d|^3 - (a + 3)|d|^2 + 1 up to the neighbour, a(|d|^3 - 5|d|^2 + 8|d| - 4) up to the one after it,
    where `a` is the slope at the neighbour. Weights below zero make edges crisper, and make values that are
    below or above every input: 4.32 from 1, 2, 3, 4.

    No `a` is right for all. With -0.5 the result is exact wherever the image is a parabola: Keys' choice,
    and that of libraries which measure quality so (Pillow; torch too, with `antialias=True`). With -0.75
    the two cubics also have the same second derivative where they meet, and edges are sharper: OpenCV's
    choice, and torch's after it.

    Args:
        distance: from the pixel's centre, in pixels.
        a: the slope at distance 1.

    Returns:
        1 at the pixel, 0 at every other pixel and from distance 2 on.

    Source: Keys, "Cubic Convolution Interpolation for Digital Image Processing", 1981.

    >>> cubic_kernel(torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0]))
    tensor([ 1.0000,  0.5938,  0.0000, -0.0938,  0.0000])
    """
    d = distance.abs()
    near = ((a + 2) * d - (a + 3)) * d**2 + 1
    far = a * (((d - 5) * d + 8) * d - 4)
    return torch.where(d <= 1, near, torch.where(d < 2, far, 0))


def _source_position(i: int | Tensor, in_size: int, out_size: int, align_corners: bool):
    """Where output pixel i lies in the input, in pixels from the centre of the first one."""
    if align_corners:
        return i * ((in_size - 1) / max(out_size - 1, 1))
    return (i + 0.5) * (in_size / out_size) - 0.5


def interpolation_matrix_loops(
    in_size: int,
    out_size: int,
    kernel: Callable[[Float[Tensor, " n"]], Float[Tensor, " n"]],
    align_corners: bool = False,
) -> Float[Tensor, "out_size in_size"]:
    """`interpolation_matrix` written out: four pixels around each position, those outside moved in."""
    matrix = torch.zeros(out_size, in_size, dtype=torch.float64)
    for i in range(out_size):
        position = _source_position(i, in_size, out_size, align_corners)
        pixels = torch.arange(math.floor(position) - 1, math.floor(position) + 3)
        for j, weight in zip(pixels.tolist(), kernel(position - pixels.double())):
            matrix[i, min(max(j, 0), in_size - 1)] += weight
    return matrix


def interpolation_matrix(
    in_size: int,
    out_size: int,
    kernel: Callable[[Float[Tensor, "n m"]], Float[Tensor, "n m"]],
    align_corners: bool = False,
) -> Float[Tensor, "out_size in_size"]:
    """Interpolation along one axis as a matrix: row i says how output pixel i mixes the input pixels.

    Resizing is linear in the image, so it is a matrix, as a convolution is; its backward pass is the
    transpose. An image has two axes, and the weight of a pixel is its row's times its column's: so two
    small matrices do, `rows @ image @ columns.T`.

    Output pixel i has its centre at (i + 0.5) in / out, so it lies at that minus 0.5 from the first input
    pixel's centre. With `align_corners` the first and last centres fall on each other instead, at
    i (in - 1) / (out - 1). Beyond the border the image goes on with its outermost pixels.

    Args:
        in_size: pixels before.
        out_size: pixels after.
        kernel: weight for distance, 0 from 2 pixels on: `linear_kernel` or `cubic_kernel`.
        align_corners: whether the corner pixels' centres, not their outer edges, stay in place.

    Returns:
        The weights, in float64; `.to(image)` makes them fit an image. Each row adds up to 1.

    Raises:
        TypeError: a size that is not whole.
        ValueError: a size below 1.

    Source: lecture, bilinear and bicubic interpolation, and convolution as a matrix.

    >>> rows = interpolation_matrix(2, 4, linear_kernel)
    >>> rows
    tensor([[1.0000, 0.0000],
            [0.7500, 0.2500],
            [0.2500, 0.7500],
            [0.0000, 1.0000]], dtype=torch.float64)
    >>> rows @ torch.tensor([1.0, 2.0]).double()
    tensor([1.0000, 1.2500, 1.7500, 2.0000], dtype=torch.float64)
    """
    _check_whole("in_size", in_size, 1)
    _check_whole("out_size", out_size, 1)
    i = torch.arange(out_size, dtype=torch.float64)
    position = _source_position(i, in_size, out_size, align_corners)
    pixels = torch.arange(-2, in_size + 2)  # two more on either side than there are
    weights = kernel(position[:, None] - pixels)
    matrix = weights[:, 2:-2].clone()
    matrix[:, 0] += weights[:, :2].sum(dim=1)
    matrix[:, -1] += weights[:, -2:].sum(dim=1)
    return matrix


def _resize(input: Tensor, size: tuple[int, int], kernel: Callable, align_corners: bool) -> Tensor:
    _check_pixels(input)
    check_floating("input", input)
    check_size("size", size)
    rows = interpolation_matrix(input.shape[2], size[0], kernel, align_corners).to(input)
    columns = interpolation_matrix(input.shape[3], size[1], kernel, align_corners).to(input)
    return rows @ (input @ columns.T)


def bilinear_loops(
    input: Float[Tensor, "b c h w"], size: tuple[int, int], align_corners: bool = False
) -> Float[Tensor, "b c oh ow"]:
    """`bilinear` written out: for each output pixel, the four input pixels around its position."""
    b, c, h, w = input.shape
    output = input.new_zeros(b, c, *size)
    for i, j in itertools.product(range(size[0]), range(size[1])):
        y = min(max(_source_position(i, h, size[0], align_corners), 0), h - 1)
        x = min(max(_source_position(j, w, size[1], align_corners), 0), w - 1)
        top, left = math.floor(y), math.floor(x)
        for row, column in itertools.product((top, top + 1), (left, left + 1)):
            if row < h and column < w:
                weight = (1 - abs(y - row)) * (1 - abs(x - column))
                output[:, :, i, j] += weight * input[:, :, row, column]
    return output


def bilinear(
    input: Float[Tensor, "b c h w"], size: tuple[int, int], align_corners: bool = False
) -> Float[Tensor, "b c oh ow"]:
    """Resize by mixing the four pixels around each position, the nearer ones more.

    The weight of pixel (row, column) at position (y, x) is max(0, 1 - |y - row|) max(0, 1 - |x - column|).
    A factor for the row times a factor for the column: two matrices, `rows @ image @ columns.T`.

    When shrinking, too, only four pixels are read and those between are skipped, so fine stripes turn into
    coarse ones that were never there (aliasing). Pillow, and torch with `antialias=True`, widen the hat by
    the factor of shrinking, so that each output pixel averages all the input it covers.

    Args:
        input: `[b, c, h, w]`.
        size: the output's (height, width) in pixels.
        align_corners: see `interpolation_matrix`.

    Returns:
        `[b, c, *size]`.

    Raises:
        TypeError: not a tensor, or not of floating-point numbers.
        ValueError: a wrong shape, or a size that is not above zero.

    Source: lecture, bilinear interpolation; same as `torch.nn.functional.interpolate` with
    `mode="bilinear"`, except that a nan or an infinity spreads over its whole channel here.

    >>> bilinear(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), (4, 4))
    tensor([[[[1.0000, 1.2500, 1.7500, 2.0000],
              [1.5000, 1.7500, 2.2500, 2.5000],
              [2.5000, 2.7500, 3.2500, 3.5000],
              [3.0000, 3.2500, 3.7500, 4.0000]]]])
    """
    return _resize(input, size, linear_kernel, align_corners)


def bicubic_loops(
    input: Float[Tensor, "b c h w"],
    size: tuple[int, int],
    align_corners: bool = False,
    a: float = -0.75,
) -> Float[Tensor, "b c oh ow"]:
    """`bicubic` written out: for each output pixel, the four by four input pixels around its position."""
    b, c, h, w = input.shape
    output = input.new_zeros(b, c, *size)
    for i, j in itertools.product(range(size[0]), range(size[1])):
        y = _source_position(i, h, size[0], align_corners)
        x = _source_position(j, w, size[1], align_corners)
        rows = torch.arange(math.floor(y) - 1, math.floor(y) + 3)
        columns = torch.arange(math.floor(x) - 1, math.floor(x) + 3)
        down = cubic_kernel(y - rows.double(), a).tolist()
        along = cubic_kernel(x - columns.double(), a).tolist()
        for m, n in itertools.product(range(4), range(4)):
            row, column = rows[m].clamp(0, h - 1), columns[n].clamp(0, w - 1)
            output[:, :, i, j] += down[m] * along[n] * input[:, :, row, column]
    return output


def bicubic(
    input: Float[Tensor, "b c h w"],
    size: tuple[int, int],
    align_corners: bool = False,
    a: float = -0.75,
) -> Float[Tensor, "b c oh ow"]:
    """Resize by mixing the sixteen pixels around each position with cubic weights.

    Smoother than bilinear inside and sharper at edges, at the price of values beyond the input's range
    (clamp images afterwards). Like `bilinear` it is two matrices, and skips pixels when shrinking.

    Args:
        input: `[b, c, h, w]`.
        size: the output's (height, width) in pixels.
        align_corners: see `interpolation_matrix`.
        a: -0.75 as in torch, -0.5 as in Pillow; see `cubic_kernel`.

    Returns:
        `[b, c, *size]`.

    Raises:
        TypeError: not a tensor, or not of floating-point numbers.
        ValueError: a wrong shape, or a size that is not above zero.

    Source: lecture, bicubic interpolation; same as `torch.nn.functional.interpolate` with
    `mode="bicubic"`, except that a nan or an infinity spreads over its whole channel here.

    >>> bicubic(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), (4, 4))
    tensor([[[[0.6836, 1.0156, 1.5625, 1.8945],
              [1.3477, 1.6797, 2.2266, 2.5586],
              [2.4414, 2.7734, 3.3203, 3.6523],
              [3.1055, 3.4375, 3.9844, 4.3164]]]])
    """
    return _resize(input, size, partial(cubic_kernel, a=a), align_corners)


# --- Max pooling that remembers where, and the unpooling that it is paired with


def max_pool_with_indices_loops(
    input: Float[Tensor, "b c h w"], kernel_size: int, stride: int | None = None, padding: int = 0
) -> tuple[Float[Tensor, "b c oh ow"], Int64[Tensor, "b c oh ow"]]:
    """`max_pool_with_indices` written out: look at every pixel of every window, keep the largest."""
    b, c, h, w = input.shape
    stride = kernel_size if stride is None else stride
    oh = (h + 2 * padding - kernel_size) // stride + 1
    ow = (w + 2 * padding - kernel_size) // stride + 1
    output = input.new_zeros(b, c, oh, ow)
    indices = torch.zeros(b, c, oh, ow, dtype=torch.int64, device=input.device)
    for n, channel, i, j in itertools.product(range(b), range(c), range(oh), range(ow)):
        top, left = i * stride - padding, j * stride - padding
        rows = range(max(top, 0), min(top + kernel_size, h))
        columns = range(max(left, 0), min(left + kernel_size, w))
        best = rows[0], columns[0]
        for pixel in itertools.product(rows, columns):
            value = input[n, channel, *pixel]
            if value > input[n, channel, *best] or value.isnan():
                best = pixel
        output[n, channel, i, j] = input[n, channel, *best]
        indices[n, channel, i, j] = best[0] * w + best[1]
    return output, indices


def max_pool_with_indices(
    input: Float[Tensor, "b c h w"], kernel_size: int, stride: int | None = None, padding: int = 0
) -> tuple[Float[Tensor, "b c oh ow"], Int64[Tensor, "b c oh ow"]]:
    """The largest value of each window, and where it was.

    Pooling forgets where the maximum lay; the indices remember, so that `max_unpool` can put values back
    there. Of equal values the first counts, row by row. Pixels in the padding never win.

    The pooled values are read at the indices, so the gradient of each goes to that one pixel.

    Args:
        input: `[b, c, h, w]`.
        kernel_size: the side of the square window in pixels.
        stride: pixels from one window to the next; the kernel size when left out, so windows do not overlap.
        padding: pixels added on every side, at most half the kernel size.

    Returns:
        The maxima, and their places in the input, counted row by row: row * w + column.

    Raises:
        TypeError: not a tensor, not of floating-point numbers, or a setting that is not whole.
        ValueError: a wrong shape, a setting out of range, or a window larger than the padded input.

    Source: lecture, max unpooling; same as `torch.nn.functional.max_pool2d` with `return_indices=True`.

    >>> image = torch.tensor([[1, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8]]).float()
    >>> values, indices = max_pool_with_indices(image[None, None], 2)
    >>> values
    tensor([[[[5., 6.],
              [7., 8.]]]])
    >>> indices
    tensor([[[[ 5,  2],
              [12, 15]]]])
    """
    stride = kernel_size if stride is None else stride
    _check_pixels(input)
    check_floating("input", input)
    _check_whole("kernel_size", kernel_size, 1)
    _check_whole("stride", stride, 1)
    _check_whole("padding", padding, 0)
    if padding > kernel_size // 2:
        raise ValueError(
            f"padding: expected at most half of kernel_size = {kernel_size}, got {padding}"
        )
    h, w = input.shape[2:]
    if kernel_size > min(h, w) + 2 * padding:
        raise ValueError(
            f"kernel_size: expected a window inside the {h} x {w} input, padded by {padding}, "
            f"got {kernel_size}"
        )
    # Only the search is left to torch, which is several times faster with the channels last in memory.
    channels_last = input.detach().contiguous(memory_format=torch.channels_last)
    _, indices = torch.nn.functional.max_pool2d(
        channels_last, kernel_size, stride, padding, return_indices=True
    )
    indices = indices.contiguous()
    return input.flatten(2).gather(2, indices.flatten(2)).reshape(indices.shape), indices


def max_unpool_loops(
    input: Float[Tensor, "b c h w"], indices: Int64[Tensor, "b c h w"], output_size: tuple[int, int]
) -> Float[Tensor, "b c oh ow"]:
    """`max_unpool` written out: carry one value at a time to its place."""
    b, c, h, w = input.shape
    output = input.new_zeros(b, c, *output_size)
    for n, channel, i, j in itertools.product(range(b), range(c), range(h), range(w)):
        row, column = divmod(int(indices[n, channel, i, j]), output_size[1])
        output[n, channel, row, column] = input[n, channel, i, j]
    return output


def max_unpool(
    input: Float[Tensor, "b c h w"], indices: Int64[Tensor, "b c h w"], output_size: tuple[int, int]
) -> Float[Tensor, "b c oh ow"]:
    """Put each value back where the maximum of its window was, zeros elsewhere.

    A bed of nails whose nails stand where the paired pooling layer found something: the encoder's detail
    of *where* comes back to the decoder. Its gradient is read at the same places.

    Args:
        input: `[b, c, h, w]`, of the pooled size.
        indices: from `max_pool_with_indices`, one for each value.
        output_size: (height, width) before pooling, in pixels.

    Returns:
        `[b, c, *output_size]`. Where windows overlapped and two values share a place, the later one stays,
        yet both read the gradient there (so in torch, too).

    Raises:
        TypeError: not a tensor, not of floating-point numbers, or indices that are not int64.
        ValueError: shapes that differ, a size that is not above zero, indices outside the output, or
            tensors on different devices.

    Source: Noh et al., "Learning Deconvolution Network for Semantic Segmentation", ICCV 2015; lecture, max
    unpooling; same as `torch.nn.functional.max_unpool2d` with `output_size`, which there follows the
    kernel size.

    >>> places = torch.tensor([[[[5, 2], [12, 15]]]])
    >>> max_unpool(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), places, (4, 4))
    tensor([[[[0., 0., 2., 0.],
              [0., 1., 0., 0.],
              [0., 0., 0., 0.],
              [3., 0., 0., 4.]]]])
    """
    check_shape("input", input, "b", "c", "h", "w")
    check_floating("input", input)
    check_shape("indices", indices, *input.shape)
    if indices.dtype != torch.int64:
        raise TypeError(f"indices: expected torch.int64, got {indices.dtype}")
    check_size("output_size", output_size)
    check_same_device(input=input, indices=indices)
    pixels = output_size[0] * output_size[1]
    if indices.numel() and not 0 <= indices.min() <= indices.max() < pixels:
        raise ValueError(
            f"indices: expected 0..{pixels - 1} for {output_size[0]} x {output_size[1]} pixels, "
            f"got {indices.min()}..{indices.max()}"
        )
    output = input.new_zeros(*input.shape[:2], pixels)
    return output.scatter_(2, indices.flatten(2), input.flatten(2)).unflatten(2, output_size)
