"""Upsampling: bed of nails, nearest neighbour, bilinear and bicubic interpolation."""

import itertools
import math
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from course_utils.core import check_floating, check_shape, check_size, check_whole


def _check_pixels(input: Tensor) -> None:
    """Raise unless `input` is a batch of images or feature maps with at least one pixel each."""
    check_shape("input", input, "b", "c", "h", "w")
    if 0 in input.shape[2:]:
        raise ValueError(f"input: expected at least one pixel, got shape {list(input.shape)}")


def _is_channels_last(input: Tensor) -> bool:
    """Whether the channels of a pixel are side by side in memory, and the pixels of a channel are not."""
    return input.is_contiguous(memory_format=torch.channels_last) and not input.is_contiguous()


def _as_laid_out(output: Tensor, input: Tensor) -> Tensor:
    """`output`, channels-last in memory if `input` is, as torch's own functions return it."""
    layout = torch.channels_last if _is_channels_last(input) else torch.contiguous_format
    return output.contiguous(memory_format=layout)


# --- Copying pixels: bed of nails and nearest neighbour


def bed_of_nails_loops(input: Shaped[Tensor, "b c h w"], scale: int) -> Shaped[Tensor, "b c oh ow"]:
    """`bed_of_nails` written out: copy one pixel at a time into an image of zeros."""
    b, c, h, w = input.shape
    output = input.new_zeros(b, c, scale * h, scale * w)
    for i, j in itertools.product(range(h), range(w)):
        output[:, :, scale * i, scale * j] = input[:, :, i, j]
    return output


def bed_of_nails(input: Shaped[Tensor, "b c h w"], scale: int) -> Shaped[Tensor, "b c oh ow"]:
    """Enlarge by a whole factor: each pixel in the upper left corner of its block, zeros elsewhere.

    No value is invented and none is lost. A convolution of the result fills the gaps: a transposed
    convolution does both in one step.

    Args:
        input: numbers of any type.
        scale: side of a block in pixels, at least 1.

    Returns:
        The enlarged images, scale * h by scale * w.

    Source: lecture, in-network upsampling.

    >>> bed_of_nails(torch.tensor([[[[1, 2], [3, 4]]]]), 2)
    tensor([[[[1, 0, 2, 0],
              [0, 0, 0, 0],
              [3, 0, 4, 0],
              [0, 0, 0, 0]]]])
    """
    _check_pixels(input)
    check_whole("scale", scale, 1)
    b, c, h, w = input.shape
    output = input.new_zeros(b, c, scale * h, scale * w)
    output[:, :, ::scale, ::scale] = input
    return output


def _nearest_pixels(in_size: int, out_size: int) -> Tensor:
    """The index of the input pixel that each output pixel copies, along one axis."""
    # In float32, as in torch: i * in_size // out_size differs first at 26 -> 22 pixels, where
    # 11 * (26 / 22) = 13 is rounded to a little below 13.
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

    Of the methods in this file, only this one never makes a new value, so it is the one for label maps:
    between class 3 and class 5 there is no class 4. Output pixel i copies input pixel floor(i h / oh).

    Args:
        input: numbers of any type.
        size: (height, width) of the output in pixels.

    Returns:
        The resized images.

    Source: lecture, in-network upsampling; same as `torch.nn.functional.interpolate` with
    `mode="nearest"`, also where that rounds i h / oh down past a whole number.

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
    return _as_laid_out(input.index_select(3, columns).index_select(2, rows), input)


# --- Averaging pixels: bilinear and bicubic, one matrix for the rows and one for the columns


def linear_kernel(distance: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The weight of a pixel at a given distance in linear interpolation: a triangle, max(0, 1 - |d|).

    Args:
        distance: distance from the pixel's centre, in pixels.

    Returns:
        1 at the pixel, 0 from its neighbours on.

    Source: lecture, bilinear interpolation.

    >>> linear_kernel(torch.tensor([0.0, 0.25, 1.0, 2.0]))
    tensor([1.0000, 0.7500, 0.0000, 0.0000])
    """
    return (1 - distance.abs()).clamp(min=0)


def cubic_kernel(distance: Float[Tensor, "*shape"], a: float = -0.75) -> Float[Tensor, "*shape"]:
    """The weight of a pixel at a given distance in cubic interpolation: two cubics that join smoothly.

    (a + 2)|d|^3 - (a + 3)|d|^2 + 1 up to the neighbour, a(|d|^3 - 5|d|^2 + 8|d| - 4) from there to the next,
    where `a` is the slope at the neighbour. The negative weights make edges sharper, and can produce values
    outside the range of the inputs: 4.32 from 1, 2, 3, 4.

    No `a` is best for everything. With -0.5 the result is exact wherever the image is a parabola: the choice
    of Keys and of Pillow (and of torch with `antialias=True`). With -0.75 the second derivative is continuous
    where the two cubics join, and edges are sharper: the choice of OpenCV, and of torch.

    Args:
        distance: distance from the pixel's centre, in pixels.
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
    """The position of output pixel i in the input, in pixels from the centre of the first input pixel."""
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
    """Interpolation along one axis as a matrix: row i has the weights of the input pixels for output pixel i.

    Resizing is linear in the image, so it is a matrix, as a convolution is; its backward pass is the
    transpose. The weight of a pixel in two dimensions is the weight of its row times that of its column, so
    two small matrices suffice: `rows @ image @ columns.T`.

    The centre of output pixel i is (i + 0.5) in / out - 0.5 from the centre of the first input pixel. With
    `align_corners` the centres of the first and last pixels stay in place instead, and it is at
    i (in - 1) / (out - 1). Beyond the border, the outermost pixels are repeated.

    Args:
        in_size: number of pixels before.
        out_size: number of pixels after.
        kernel: weight as a function of distance, 0 from 2 pixels on: `linear_kernel` or `cubic_kernel`.
        align_corners: whether the centres of the corner pixels, not their outer edges, stay in place.

    Returns:
        The weights in float64; `.to(image)` converts them to the type of an image. Each row sums to 1.

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
    check_whole("in_size", in_size, 1)
    check_whole("out_size", out_size, 1)
    i = torch.arange(out_size, dtype=torch.float64)
    position = _source_position(i, in_size, out_size, align_corners)
    pixels = torch.arange(-2, in_size + 2)  # two more at either end than there are
    weights = kernel(position[:, None] - pixels)  # [out_size, in_size + 4]
    outermost = pixels.clamp(0, in_size - 1)  # the pixel that stands for each of them
    return weights.new_zeros(out_size, in_size).index_add(1, outermost, weights)


def _resize(input: Tensor, size: tuple[int, int], kernel: Callable, align_corners: bool) -> Tensor:
    """Interpolate along both axes: rows @ image @ columns.T."""
    _check_pixels(input)
    check_floating("input", input)
    check_size("size", size)
    rows = interpolation_matrix(input.shape[2], size[0], kernel, align_corners).to(input)
    columns = interpolation_matrix(input.shape[3], size[1], kernel, align_corners).to(input)
    return _as_laid_out(rows @ (input @ columns.T), input)


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
    """Resize by averaging the four pixels around each position, the nearer ones with more weight.

    The weight of pixel (row, column) at position (y, x) is max(0, 1 - |y - row|) max(0, 1 - |x - column|).
    A factor for the row times a factor for the column: two matrices, `rows @ image @ columns.T`.

    When shrinking, too, only four pixels are used and those between are skipped, so that fine stripes turn
    into coarse ones that are not in the image (aliasing). Pillow, and torch with `antialias=True`, widen the
    kernel by the factor of shrinking, so that each output pixel averages all the input it covers.

    Args:
        input: the images or feature maps.
        size: (height, width) of the output in pixels.
        align_corners: as in `interpolation_matrix`.

    Returns:
        The resized images.

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
    """Resize by averaging the sixteen pixels around each position with cubic weights.

    The result is smoother than that of `bilinear` and has sharper edges, but its values may lie outside the
    range of the input (clamp images afterwards). It also is two matrices, and skips pixels when shrinking.

    Args:
        input: the images or feature maps.
        size: (height, width) of the output in pixels.
        align_corners: as in `interpolation_matrix`.
        a: -0.75 as in torch, -0.5 as in Pillow; see `cubic_kernel`.

    Returns:
        The resized images.

    Source: lecture, bicubic interpolation; same as `torch.nn.functional.interpolate` with
    `mode="bicubic"`, except that a nan or an infinity spreads over its whole channel here.

    >>> bicubic(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), (4, 4))
    tensor([[[[0.6836, 1.0156, 1.5625, 1.8945],
              [1.3477, 1.6797, 2.2266, 2.5586],
              [2.4414, 2.7734, 3.3203, 3.6523],
              [3.1055, 3.4375, 3.9844, 4.3164]]]])
    """
    return _resize(input, size, partial(cubic_kernel, a=a), align_corners)
