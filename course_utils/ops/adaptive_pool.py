"""Average pooling into a given number of bins, whatever the size of the image, and PSPNet's pyramid of it."""

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from course_utils.core import check_floating, check_size, check_whole
from course_utils.ops.upsample import _as_laid_out, _check_pixels


def adaptive_windows(size: int, bins: int) -> list[tuple[int, int]]:
    """The pixels of each bin when an axis is divided into bins that may share a pixel at their borders.

    Bin i covers i size / bins to (i + 1) size / bins; its window is grown outwards to whole pixels, from
    floor(i size / bins) to ceil((i + 1) size / bins). So no pixel is left out, no window is empty, and where
    the size is a multiple of the bins, the windows are equal and do not overlap. With more bins than pixels,
    a pixel stands in several windows.

    Args:
        size: pixels along the axis.
        bins: number of windows.

    Returns:
        The first pixel of each window, and its last one plus one.

    Source: He et al., "Spatial Pyramid Pooling", ECCV 2014; the windows of
    `torch.nn.functional.adaptive_avg_pool2d`.

    >>> adaptive_windows(7, 3)
    [(0, 3), (2, 5), (4, 7)]
    """
    check_whole("size", size, 1)
    check_whole("bins", bins, 1)
    return [(i * size // bins, -(-(i + 1) * size // bins)) for i in range(bins)]


def _window_matrix(size: int, bins: int) -> Tensor:
    """Row i sums the pixels of window i: 1 for each of them, 0 elsewhere; [bins, size]."""
    matrix = torch.zeros(bins, size)
    for i, (start, stop) in enumerate(adaptive_windows(size, bins)):
        matrix[i, start:stop] = 1
    return matrix


def _both_sides(output_size: int | tuple[int, int]) -> tuple[int, int]:
    return (output_size, output_size) if isinstance(output_size, int) else output_size


def adaptive_average_pool_loops(
    input: Float[Tensor, "b c h w"], output_size: int | tuple[int, int]
) -> Float[Tensor, "b c oh ow"]:
    """`adaptive_average_pool` written out: cut one window out, take its mean, next window."""
    b, c, h, w = input.shape
    height, width = _both_sides(output_size)
    output = input.new_zeros(b, c, height, width)
    rows, columns = adaptive_windows(h, height), adaptive_windows(w, width)
    for i, j in itertools.product(range(height), range(width)):
        (top, bottom), (left, right) = rows[i], columns[j]
        output[:, :, i, j] = input[:, :, top:bottom, left:right].mean(dim=(2, 3))
    return output


def adaptive_average_pool(
    input: Float[Tensor, "b c h w"], output_size: int | tuple[int, int]
) -> Float[Tensor, "b c oh ow"]:
    """Divide the image into a given number of bins, and average the pixels of each.

    A bin is a window of rows times a window of columns, from `adaptive_windows`, so two small matrices
    suffice: `rows @ image @ columns.T`, where each row of a matrix sums one window, divided by its length.
    One bin is the mean of the whole image; as many bins as pixels leave it as it is.

    Args:
        input: the images or feature maps.
        output_size: number of bins, (height, width), or one number for both.

    Returns:
        The mean of each bin.

    Source: Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017, section 3.2; same as
    `torch.nn.functional.adaptive_avg_pool2d`, except that it takes no None for a side that stays as it is,
    and that a nan or an infinity spreads over its whole channel here. Its backward pass is deterministic on
    CUDA, where torch's is not.

    >>> adaptive_average_pool(torch.arange(36.0).reshape(1, 1, 6, 6), 2)
    tensor([[[[ 7., 10.],
              [25., 28.]]]])
    """
    _check_pixels(input)
    check_floating("input", input)
    size = _both_sides(output_size)
    check_size("output_size", size)
    rows = _window_matrix(input.shape[2], size[0]).to(input)
    columns = _window_matrix(input.shape[3], size[1]).to(input)
    means = (input @ columns.T) / columns.sum(dim=1)  # along each row, [b, c, h, ow]
    means = (rows @ means) / rows.sum(dim=1, keepdim=True)
    return _as_laid_out(means, input)


def pyramid_pool(
    input: Float[Tensor, "b c h w"], bins: Sequence[int] = (1, 2, 3, 6)
) -> list[Float[Tensor, "b c _ _"]]:
    """The image averaged as a whole, in quarters, in ninths, ...: its context at several scales.

    A pixel's own features say what it looks like; the mean of the image, or of a large part, says where it
    is: a boat on a river, a car in a street. PSPNet resizes each of these maps back to the size of the input
    (bilinear, `align_corners=True`) and puts them beside it as further channels.

    Args:
        input: the feature maps.
        bins: the number of bins along each side, level by level.

    Returns:
        One map per level, bins x bins: with 1, 2, 3, 6, that is 1 + 4 + 9 + 36 = 50 numbers per channel.

    Source: Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017, section 3.2.

    >>> whole, quarters = pyramid_pool(torch.arange(36.0).reshape(1, 1, 6, 6), bins=(1, 2))
    >>> whole.item(), quarters.flatten().tolist()
    (17.5, [7.0, 10.0, 25.0, 28.0])
    """
    if not isinstance(bins, Sequence) or not bins:
        raise ValueError(f"bins: expected at least one number of bins, got {bins!r}")
    for number in bins:
        check_whole("bins", number, 1)
    return [adaptive_average_pool(input, number) for number in bins]
