"""Transposed convolution: every pixel adds a weighted copy of the filter; and other views of the same sum."""

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from course_utils.core import check_floating, check_shape, check_whole
from course_utils.ops.conv import (
    Pair,
    _check_layer,
    _effective_size,
    _pair,
    convolution_matrix_1d,
    convolution_matrix_2d,
    convolve,
)


def _full_size(
    input: Tensor, kernel: Pair, stride: Pair, padding: Pair, output_padding: Pair, dilation: Pair
) -> Pair:
    """(size - 1) * stride + dilation * (kernel - 1) + 1, the size before trimming; raise if none is left."""
    if min(input.shape[2:]) < 1:
        raise ValueError(f"input: expected at least one pixel, got {list(input.shape)}")
    if any(extra >= max(steps) for extra, *steps in zip(output_padding, stride, dilation)):
        raise ValueError(
            f"output_padding: expected less than stride {stride} or dilation {dilation}, "
            f"got {output_padding}"
        )
    sizes = zip(input.shape[2:], stride, _effective_size(kernel, dilation))
    full = tuple((pixels - 1) * step + length for pixels, step, length in sizes)
    left = [size - 2 * p + extra for size, p, extra in zip(full, padding, output_padding)]
    if min(left) < 1:
        raise ValueError(
            f"padding: expected to leave a pixel of the output, got {padding}, leaving {left[0]} x {left[1]}"
        )
    return full


def _check_transposed(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int | Pair,
    padding: int | Pair,
    output_padding: int | Pair,
    groups: int,
    dilation: int | Pair,
) -> tuple[Pair, Pair, Pair, Pair, Pair]:
    """Check the arguments of a transposed convolution; return its stride, padding, output_padding and
    dilation as pairs, and the size of the result before trimming.
    """
    _check_layer(input, weight, bias, groups, transposed=True)
    stride, padding = _pair("stride", stride, 1), _pair("padding", padding, 0)
    extra, dilation = _pair("output_padding", output_padding, 0), _pair("dilation", dilation, 1)
    full = _full_size(input, weight.shape[2:], stride, padding, extra, dilation)
    return stride, padding, extra, dilation, full


def _trim(full: Tensor, padding: Pair, output_padding: Pair, bias: Tensor | None) -> Tensor:
    """Remove `padding` pixels at each side, append `output_padding` at the bottom and right, add the bias."""
    (top, left), (bottom, right) = padding, output_padding
    output = F.pad(full, (-left, right - left, -top, bottom - top))
    return output if bias is None else output + bias[:, None, None]


def transposed_convolve_loops(
    input: Float[Tensor, "b c h w"],
    weight: Float[Tensor, "c o_group kh kw"],
    bias: Float[Tensor, " o"] | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    output_padding: int | Pair = 0,
    groups: int = 1,
    dilation: int | Pair = 1,
) -> Float[Tensor, "b o oh ow"]:
    """`transposed_convolve` written out: every pixel adds a copy of the filter, weighted by its value."""
    stride_y, stride_x = _pair("stride", stride, 1)
    top, left = _pair("padding", padding, 0)
    bottom, right = _pair("output_padding", output_padding, 0)
    dilation_y, dilation_x = _pair("dilation", dilation, 1)
    batch, inputs, height, width = input.shape
    _, channels, kernel_height, kernel_width = weight.shape
    canvas = input.new_zeros(
        batch,
        channels * groups,
        (height - 1) * stride_y + dilation_y * (kernel_height - 1) + 1 + bottom,
        (width - 1) * stride_x + dilation_x * (kernel_width - 1) + 1 + right,
    )
    for b, c, y, x in itertools.product(*map(range, input.shape)):
        first = c // (inputs // groups) * channels  # the first output channel of this group
        for o, i, j in itertools.product(*map(range, weight.shape[1:])):
            row, column = y * stride_y + i * dilation_y, x * stride_x + j * dilation_x
            canvas[b, first + o, row, column] += input[b, c, y, x] * weight[c, o, i, j]
    output = canvas[:, :, top : canvas.shape[2] - top, left : canvas.shape[3] - left]
    return output if bias is None else output + bias[:, None, None]


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
    """Upsample with a learnable filter: every pixel adds a copy of it, and copies sum where they overlap.

    The copies are made by one matrix product; `F.fold` lays them out, `stride` pixels apart, and sums them.
    `_by_matrix`, `_by_zero_insertion` and `_by_interleaving` compute the same sum in three other ways.

    Args:
        input: the images or feature maps.
        weight: one filter per pair of input and output channel, input channels first.
        bias: added to each output channel; none by default.
        stride: distance between the copies of neighbouring pixels, vertically and horizontally.
        padding: how many pixels are trimmed at each side of the result: the padding of the convolution that
            this one transposes.
        output_padding: how many more pixels to keep at the bottom and the right. With stride 2, sizes 3 and 4
            are both convolved to 2, and this argument says which one to return to.
        groups: into how many groups the channels are divided.
        dilation: spacing between the numbers of the filter.

    Returns:
        The larger images, out_size = (size - 1) * stride - 2 * padding + dilation * (kernel - 1) +
        output_padding + 1.

    Source: lecture, learnable upsampling; D2L 14.10. Same as `torch.nn.functional.conv_transpose2d`, which
    also takes a single image.

    A 3 x 3 filter at stride 2: four copies, which overlap by one row and one column.

    >>> image, weight = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), torch.ones(1, 1, 3, 3)
    >>> transposed_convolve(image, weight, stride=2)
    tensor([[[[ 1.,  1.,  3.,  2.,  2.],
              [ 1.,  1.,  3.,  2.,  2.],
              [ 4.,  4., 10.,  6.,  6.],
              [ 3.,  3.,  7.,  4.,  4.],
              [ 3.,  3.,  7.,  4.,  4.]]]])
    >>> transposed_convolve(image, weight, stride=2, padding=1, output_padding=1)
    tensor([[[[ 1.,  3.,  2.,  2.],
              [ 4., 10.,  6.,  6.],
              [ 3.,  7.,  4.,  4.],
              [ 3.,  7.,  4.,  4.]]]])
    """
    stride, padding, output_padding, dilation, full = _check_transposed(
        input, weight, bias, stride, padding, output_padding, groups, dilation
    )
    pixels, filters = input.unflatten(1, (groups, -1)), weight.unflatten(0, (groups, -1))
    copies = torch.einsum("bgcyx,gcoij->bgoijyx", pixels, filters)
    copies = copies.flatten(5).flatten(1, 4)  # [b, o * kh * kw, h * w]: as `F.fold` takes them
    output = F.fold(copies, full, weight.shape[2:], dilation, stride=stride)
    return _trim(output, padding, output_padding, bias)


def transposed_convolve_by_matrix(
    input: Float[Tensor, "b c h w"],
    weight: Float[Tensor, "c o_group kh kw"],
    bias: Float[Tensor, " o"] | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    output_padding: int | Pair = 0,
    groups: int = 1,
    dilation: int | Pair = 1,
) -> Float[Tensor, "b o oh ow"]:
    """`transposed_convolve` as its name says: multiplication by the transpose of a convolution's matrix X.

    It is the convolution that leads from the output's size to the input's, with the same numbers in its
    filters in the same order. X is sparse.

    Arguments as in `transposed_convolve`.

    Returns:
        The same images as `transposed_convolve`.

    Source: lecture, transposed convolution as matrix multiplication.

    >>> image, weight = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[1.0, 10.0, 100.0]]]])
    >>> transposed_convolve_by_matrix(image, weight, stride=2)
    tensor([[[[  1.,  10., 102.,  20., 200.]]]])
    """
    stride, padding, output_padding, dilation, full = _check_transposed(
        input, weight, bias, stride, padding, output_padding, groups, dilation
    )
    outputs = []
    for pixels, filters in zip(input.chunk(groups, dim=1), weight.chunk(groups)):
        matrix = convolution_matrix_2d(filters, full, stride, 0, dilation, sparse=True)
        vectors = (matrix.T @ pixels.flatten(1).T).T  # [b, o * height * width]
        outputs.append(vectors.unflatten(1, (-1, *full)))
    return _trim(torch.cat(outputs, dim=1), padding, output_padding, bias)


def transposed_convolve_by_zero_insertion(
    input: Float[Tensor, "b c h w"],
    weight: Float[Tensor, "c o_group kh kw"],
    bias: Float[Tensor, " o"] | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    output_padding: int | Pair = 0,
    groups: int = 1,
    dilation: int | Pair = 1,
) -> Float[Tensor, "b o oh ow"]:
    """`transposed_convolve` as bed of nails followed by an ordinary convolution with the filter flipped.

    stride - 1 zeros are inserted between neighbouring pixels, and a border of zeros is added, as wide as the
    filter less one. Then the filter slides over it at stride 1, which is 1 / stride of an input pixel: hence
    "fractionally strided convolution". At stride 1 there are no zeros to insert, and a transposed convolution
    is a convolution with different padding.

    Arguments as in `transposed_convolve`.

    Returns:
        The same images as `transposed_convolve`.

    Source: lecture, learnable upsampling; Dumoulin and Visin, "A guide to convolution arithmetic for deep
    learning", 2016, section 4.

    >>> image, weight = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[1.0, 10.0, 100.0]]]])
    >>> transposed_convolve_by_zero_insertion(image, weight, stride=2)
    tensor([[[[  1.,  10., 102.,  20., 200.]]]])
    """
    stride, padding, output_padding, dilation, full = _check_transposed(
        input, weight, bias, stride, padding, output_padding, groups, dilation
    )
    height, width = _effective_size(weight.shape[2:], dilation)
    nails = input.new_zeros(*input.shape[:2], full[0] + height - 1, full[1] + width - 1)
    rows = slice(height - 1, full[0], stride[0])
    columns = slice(width - 1, full[1], stride[1])
    nails[:, :, rows, columns] = input
    filters = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1).flip(2, 3)
    output = convolve(nails, filters, dilation=dilation, groups=groups)
    return _trim(output, padding, output_padding, bias)


def transposed_convolve_by_interleaving(
    input: Float[Tensor, "b c h w"],
    weight: Float[Tensor, "c o_group kh kw"],
    bias: Float[Tensor, " o"] | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    output_padding: int | Pair = 0,
    groups: int = 1,
    dilation: int | Pair = 1,
) -> Float[Tensor, "b o oh ow"]:
    """`transposed_convolve` as stride * stride small convolutions whose outputs are interleaved.

    Pixel y adds its copy to the outputs y * stride + i. The outputs with one remainder modulo the stride
    therefore meet only every stride-th number of the filter: they are an ordinary convolution with a smaller
    filter. All stride * stride of these convolutions are computed at once, and no zeros are inserted.

    Arguments as in `transposed_convolve`.

    Returns:
        The same images as `transposed_convolve`.

    Source: Shi et al., "Is the deconvolution layer the same as a convolutional layer?", 2016.

    >>> image, weight = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[1.0, 10.0, 100.0]]]])
    >>> transposed_convolve_by_interleaving(image, weight, stride=2)
    tensor([[[[  1.,  10., 102.,  20., 200.]]]])
    """
    stride, padding, output_padding, dilation, full = _check_transposed(
        input, weight, bias, stride, padding, output_padding, groups, dilation
    )
    # The filter with zeros inserted (dilation) and appended, so that its size is a multiple of the stride.
    height, width = _effective_size(weight.shape[2:], dilation)
    rows, columns = -(-height // stride[0]), -(-width // stride[1])
    filters = weight.new_zeros(*weight.shape[:2], rows * stride[0], columns * stride[1])
    filters[:, :, : height : dilation[0], : width : dilation[1]] = weight
    # Its every stride-th number is the filter of one small convolution (flipped), for one remainder.
    filters = filters.unflatten(3, (columns, stride[1])).unflatten(2, (rows, stride[0]))
    filters = filters.unflatten(0, (groups, -1))  # [groups, c, o, rows, stride, columns, stride]
    filters = filters.permute(0, 4, 6, 2, 1, 3, 5).flatten(0, 3).flip(2, 3)
    outputs = convolve(input, filters, padding=(rows - 1, columns - 1), groups=groups)
    # Interleave: pixel p of remainder r is pixel p * stride + r of the output.
    outputs = outputs.unflatten(1, (groups, *stride, -1)).permute(0, 5, 2, 6, 3, 1, 4)
    output = outputs.flatten(5).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
    output = output[:, :, : full[0], : full[1]]
    return _trim(output, padding, output_padding, bias)


# --- Bilinear upsampling as a transposed convolution


def _triangle(kernel_size: int) -> Float[Tensor, " k"]:
    """The 1-d filter of linear interpolation: largest in the middle, falling linearly to 0 just outside."""
    half = (kernel_size + 1) // 2
    middle = (kernel_size - 1) / 2
    return 1 - (torch.arange(kernel_size, dtype=torch.float64) - middle).abs() / half


def bilinear_kernel(channels: int, kernel_size: int) -> Float[Tensor, "c c k k"]:
    """Weights with which a transposed convolution starts out as bilinear upsampling of each channel.

    To upsample by an even s, take kernel_size 2s, stride s, padding s / 2. Training may change the weights.

    Args:
        channels: number of channels of the input and of the output.
        kernel_size: height and width of the filter.

    Returns:
        `weight` for `transposed_convolve`: the filter where input and output channel are the same, else 0.

    Source: Long et al., "Fully Convolutional Networks", CVPR 2015; D2L 14.11 `bilinear_kernel`.

    >>> bilinear_kernel(1, 4) * 16
    tensor([[[[1., 3., 3., 1.],
              [3., 9., 9., 3.],
              [3., 9., 9., 3.],
              [1., 3., 3., 1.]]]])
    """
    check_whole("channels", channels, 1)
    check_whole("kernel_size", kernel_size, 1)
    kernel = torch.outer(_triangle(kernel_size), _triangle(kernel_size))
    same = torch.eye(channels, dtype=torch.float64)
    return (same[:, :, None, None] * kernel).float()


def _check_bilinear(input: Tensor, kernel_size: int, stride: int, padding: int) -> None:
    """Check the arguments of `bilinear_transposed_convolve`."""
    check_shape("input", input, "b", "c", "h", "w")
    check_floating("input", input)
    check_whole("kernel_size", kernel_size, 1)
    check_whole("stride", stride, 1)
    check_whole("padding", padding, 0)
    _full_size(input, (kernel_size,) * 2, (stride,) * 2, (padding,) * 2, (0, 0), (1, 1))


def bilinear_transposed_convolve(
    input: Float[Tensor, "b c h w"], kernel_size: int, stride: int = 1, padding: int = 0
) -> Float[Tensor, "b c oh ow"]:
    """The transposed convolution with `bilinear_kernel`, as two small matrices: rows @ image @ columns.

    The filter is the product of a vertical and a horizontal triangle, so each direction is a 1-d transposed
    convolution of its own: the transpose of `convolution_matrix_1d`. In FCN-32s (kernel 64, stride 32) this
    saves most of the work, for a transposed convolution multiplies each pixel by 64 x 64 numbers per pair of
    channels, and for all pairs but those of equal channels these are zeros.

    Args:
        input: the images or score maps.
        kernel_size: height and width of the bilinear filter; 2 * stride interpolates evenly.
        stride: the factor of upsampling.
        padding: how many pixels are trimmed at each side.

    Returns:
        The larger images, out_size = (size - 1) * stride - 2 * padding + kernel_size.

    Source: Long et al., "Fully Convolutional Networks", CVPR 2015: the fixed last layer of FCN-32s.

    >>> bilinear_transposed_convolve(torch.tensor([[[[0.0, 4.0]]]]), 4, stride=2, padding=1)
    tensor([[[[0.0000, 0.7500, 2.2500, 2.2500],
              [0.0000, 0.7500, 2.2500, 2.2500]]]])
    """
    _check_bilinear(input, kernel_size, stride, padding)
    triangle = _triangle(kernel_size).to(input)
    sizes = [(pixels - 1) * stride - 2 * padding + kernel_size for pixels in input.shape[2:]]
    rows, columns = (
        convolution_matrix_1d(triangle, size, stride, padding)[:, padding : padding + size]
        for size in sizes
    )
    return rows.T @ (input @ columns)
