"""Convolution: a filter that slides over an image, and the same as multiplication by one matrix."""

import itertools
import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from course_utils.core import (
    check_floating,
    check_same_device,
    check_shape,
    check_size,
    check_whole,
)

Pair = tuple[int, int]


def _pair(name: str, value: int | Pair, least: int) -> Pair:
    """(vertical, horizontal): as in torch, one number stands for both."""
    pair = (value, value) if isinstance(value, int) else value
    whole = isinstance(pair, tuple | list) and all(isinstance(number, int) for number in pair)
    if not whole or len(pair) != 2 or min(pair) < least:
        raise ValueError(
            f"{name}: expected a whole number of at least {least}, or two of them, got {value!r}"
        )
    return tuple(pair)


def _effective_size(kernel: Pair, dilation: Pair) -> Pair:
    """Height and width that a dilated kernel covers: dilation * (k - 1) + 1."""
    height, width = (step * (length - 1) + 1 for length, step in zip(kernel, dilation))
    return height, width


def _check_fits(name: str, size: Pair, kernel: Pair, padding: Pair, dilation: Pair) -> None:
    """Raise unless the kernel has at least one position in the padded image."""
    kernel = _effective_size(kernel, dilation)
    if min(size) < 1 or any(n + 2 * p < k for n, p, k in zip(size, padding, kernel)):
        raise ValueError(
            f"{name}: expected room for a kernel that covers {kernel[0]} x {kernel[1]}, "
            f"got {size[0]} x {size[1]} with padding {padding}"
        )


def _check_weight(name: str, weight: Tensor, *channels: int | str) -> None:
    """Raise unless `weight` is a stack of filters with these channels and at least one number each."""
    check_shape(name, weight, *channels, "kh", "kw")
    check_floating(name, weight)
    if 0 in weight.shape[2:]:
        raise ValueError(f"{name}: expected a kernel of 1 x 1 or more, got {list(weight.shape)}")


def _check_groups(groups: int, name: str, channels: int) -> None:
    """Raise unless the channels can be divided into this many groups."""
    if not isinstance(groups, int) or groups < 1 or channels % groups:
        raise ValueError(
            f"groups: expected a divisor of {channels} {name} channels, got {groups!r}"
        )


def _check_layer(
    input: Tensor, weight: Tensor, bias: Tensor | None, groups: int, transposed: bool = False
) -> None:
    """Raise unless these are the tensors of a (transposed) convolution, of one type and on one device."""
    check_shape("input", input, "b", "c", "h", "w")
    check_floating("input", input)
    _check_groups(groups, "input", input.shape[1])
    if transposed:
        _check_weight("weight", weight, input.shape[1], "o")
    else:
        _check_weight("weight", weight, "o", input.shape[1] // groups)
        _check_groups(groups, "output", len(weight))
    tensors = {"input": input, "weight": weight}
    if bias is not None:
        check_shape("bias", bias, weight.shape[1] * groups if transposed else len(weight))
        tensors["bias"] = bias
    check_same_device(**tensors)
    for name, tensor in tensors.items():
        if tensor.dtype != input.dtype:
            raise TypeError(f"{name}: expected {input.dtype} like the input, got {tensor.dtype}")


def _check_convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int | Pair,
    padding: int | Pair,
    dilation: int | Pair,
    groups: int,
) -> tuple[Pair, Pair, Pair]:
    """Check the arguments of a convolution; return its stride, padding and dilation as pairs."""
    _check_layer(input, weight, bias, groups)
    stride, padding = _pair("stride", stride, 1), _pair("padding", padding, 0)
    dilation = _pair("dilation", dilation, 1)
    _check_fits("input", input.shape[2:], weight.shape[2:], padding, dilation)
    return stride, padding, dilation


def _windows(
    input: Shaped[Tensor, "*leading h w"], kernel: Pair, stride: Pair, dilation: Pair
) -> Shaped[Tensor, "*leading oh ow kh kw"]:
    """The pixels under the kernel at each of its positions: a view of the input, nothing is copied."""
    height, width = _effective_size(kernel, dilation)
    windows = input.unfold(-2, height, stride[0]).unfold(-2, width, stride[1])
    return windows[..., :: dilation[0], :: dilation[1]]


# --- As a matrix


def _check_matrix_1d(kernel: Tensor, length: int, stride: int, padding: int, dilation: int) -> None:
    """Check the arguments of `convolution_matrix_1d`."""
    check_shape("kernel", kernel, "k")
    check_floating("kernel", kernel)
    if len(kernel) == 0:
        raise ValueError("kernel: expected at least one number, got none")
    check_whole("length", length, 1)
    check_whole("stride", stride, 1)
    check_whole("padding", padding, 0)
    check_whole("dilation", dilation, 1)
    _check_fits("length", (length, 1), (len(kernel), 1), (padding, 0), (dilation, 1))


def convolution_matrix_1d(
    kernel: Float[Tensor, " k"], length: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> Float[Tensor, "out padded"]:
    """The matrix X for which X @ padded vector is the convolution of the vector.

    Each row contains the kernel once, `stride` columns further right than in the row above: a convolution is
    a linear map. The transpose of X leads from the output's length back to that of the padded input: this is
    the transposed convolution, and it is also how a gradient flows back through the convolution.

    Args:
        kernel: the filter, not flipped, as convolutional layers use it.
        length: length of the vector before padding.
        stride: how far the kernel moves from one output to the next.
        padding: zeros at either end of the vector; X has columns for them, too.
        dilation: spacing between the numbers of the kernel.

    Returns:
        X, with one row per output and `length + 2 * padding` columns.

    Source: lecture, convolution as matrix multiplication.

    >>> x, y, z = 1.0, 2.0, 3.0
    >>> convolution_matrix_1d(torch.tensor([x, y, z]), length=4, padding=1)
    tensor([[1., 2., 3., 0., 0., 0.],
            [0., 1., 2., 3., 0., 0.],
            [0., 0., 1., 2., 3., 0.],
            [0., 0., 0., 1., 2., 3.]])
    """
    _check_matrix_1d(kernel, length, stride, padding, dilation)
    padded = torch.arange(length + 2 * padding, device=kernel.device)
    extent = dilation * (len(kernel) - 1) + 1
    columns = padded.unfold(0, extent, stride)[
        :, ::dilation
    ]  # [out, k]: where each row has the kernel
    rows = torch.arange(len(columns), device=kernel.device)[:, None]  # [out, 1]
    return kernel.new_zeros(len(columns), len(padded)).index_put((rows, columns), kernel)


def _check_matrix_2d(
    weight: Tensor, size: Pair, stride: int | Pair, padding: int | Pair, dilation: int | Pair
) -> tuple[Pair, Pair, Pair]:
    """Check the arguments of `convolution_matrix_2d`; return stride, padding and dilation as pairs."""
    _check_weight("weight", weight, "o", "c")
    check_size("size", size)
    stride, padding = _pair("stride", stride, 1), _pair("padding", padding, 0)
    dilation = _pair("dilation", dilation, 1)
    _check_fits("size", size, weight.shape[2:], padding, dilation)
    return stride, padding, dilation


def convolution_matrix_2d(
    weight: Float[Tensor, "o c kh kw"],
    size: Pair,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    sparse: bool = False,
) -> Float[Tensor, "rows columns"]:
    """The matrix X for which X @ padded image is the convolution of the image, both flattened to vectors.

    A row has nonzero entries only where its output looks, so most of X is zero: print it dense, compute with
    it sparse.

    Args:
        weight: the filters, as in `convolve`. For one `[kh, kw]` kernel: `kernel[None, None]`.
        size: (height, width) of the image before padding.
        stride: how far the kernel moves, vertically and horizontally.
        padding: zeros around the image; X has columns for them, too.
        dilation: spacing between the numbers of the kernel.
        sparse: whether to return a sparse tensor, which stores only the numbers of the kernels.

    Returns:
        X: `o * out_height * out_width` rows, `c * (h + 2 * padding) * (w + 2 * padding)` columns, both in
        the order of `flatten`.

    Source: lecture, convolution as matrix multiplication; D2L 14.10 `kernel2matrix` is the 2 x 2 kernel on
    3 x 3.

    >>> convolution_matrix_2d(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), (3, 3))
    tensor([[1., 2., 0., 3., 4., 0., 0., 0., 0.],
            [0., 1., 2., 0., 3., 4., 0., 0., 0.],
            [0., 0., 0., 1., 2., 0., 3., 4., 0.],
            [0., 0., 0., 0., 1., 2., 0., 3., 4.]])
    """
    stride, padding, dilation = _check_matrix_2d(weight, size, stride, padding, dilation)
    padded = (weight.shape[1], size[0] + 2 * padding[0], size[1] + 2 * padding[1])
    pixels = torch.arange(math.prod(padded), device=weight.device).reshape(padded)
    columns = _windows(pixels, weight.shape[2:], stride, dilation)  # [c, oh, ow, kh, kw]
    columns = columns.permute(1, 2, 0, 3, 4).flatten(2).flatten(0, 1)  # [oh * ow, c * kh * kw]
    entries = weight.flatten(1).repeat_interleave(len(columns), dim=0)  # [o * oh * ow, c * kh * kw]
    columns = columns.repeat(len(weight), 1)
    rows = torch.arange(len(columns), device=weight.device)[:, None].expand_as(columns)
    indices = torch.stack([rows.flatten(), columns.flatten()])  # in order, row by row: coalesced
    shape = (len(columns), pixels.numel())
    with torch.sparse.check_sparse_tensor_invariants():
        matrix = torch.sparse_coo_tensor(indices, entries.flatten(), shape, is_coalesced=True)
    return matrix if sparse else matrix.to_dense()


# --- By sliding the filter


def convolve_loops(
    input: Float[Tensor, "b c h w"],
    weight: Float[Tensor, "o c_group kh kw"],
    bias: Float[Tensor, " o"] | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Float[Tensor, "b o oh ow"]:
    """`convolve` written out: at each position, sum the filter's numbers times the pixels under them."""
    stride_y, stride_x = _pair("stride", stride, 1)
    top, left = _pair("padding", padding, 0)
    dilation_y, dilation_x = _pair("dilation", dilation, 1)
    batch, _, height, width = input.shape
    channels, inputs, kernel_height, kernel_width = weight.shape
    out_height = (height + 2 * top - dilation_y * (kernel_height - 1) - 1) // stride_y + 1
    out_width = (width + 2 * left - dilation_x * (kernel_width - 1) - 1) // stride_x + 1
    output = input.new_zeros(batch, channels, out_height, out_width)
    for b, o, y, x in itertools.product(*map(range, output.shape)):
        first = o // (channels // groups) * inputs  # the first input channel of this group
        total = 0 if bias is None else bias[o]
        for c, i, j in itertools.product(*map(range, weight.shape[1:])):
            row = y * stride_y + i * dilation_y - top
            column = x * stride_x + j * dilation_x - left
            if 0 <= row < height and 0 <= column < width:
                total = total + input[b, first + c, row, column] * weight[o, c, i, j]
        output[b, o, y, x] = total
    return output


def convolve(
    input: Float[Tensor, "b c h w"],
    weight: Float[Tensor, "o c_group kh kw"],
    bias: Float[Tensor, " o"] | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Float[Tensor, "b o oh ow"]:
    """Slide filters over images: each output is the sum of a filter times the pixels under it.

    This is one matrix product: the pixels under the filter, at each position, are the rows of one matrix, and
    the filters are the columns of the other.

    Args:
        input: the images.
        weight: `o` filters over `c / groups` channels each.
        bias: added to each output channel; none by default.
        stride: how far the filter moves, vertically and horizontally.
        padding: zeros around the image, above and below, left and right.
        dilation: spacing between the numbers of the filter.
        groups: into how many groups the channels are divided; a filter sees the channels of its group only.

    Returns:
        The filtered images, out_size = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1.

    Source: lecture, recap of convolution. Same as `torch.nn.functional.conv2d`, which also takes a single
    image and padding="same".

    A 3 x 3 filter with padding 1 on 4 x 4: stride 1 keeps the size, stride 2 halves it.

    >>> image, weight = torch.arange(16.0).reshape(1, 1, 4, 4), torch.ones(1, 1, 3, 3)
    >>> convolve(image, weight, padding=1)
    tensor([[[[10., 18., 24., 18.],
              [27., 45., 54., 39.],
              [51., 81., 90., 63.],
              [42., 66., 72., 50.]]]])
    >>> convolve(image, weight, stride=2, padding=1)
    tensor([[[[10., 24.],
              [51., 90.]]]])
    """
    stride, padding, dilation = _check_convolution(
        input, weight, bias, stride, padding, dilation, groups
    )
    padded = F.pad(input, (padding[1], padding[1], padding[0], padding[0]))
    windows = _windows(padded, weight.shape[2:], stride, dilation)  # [b, c, oh, ow, kh, kw]
    windows, filters = windows.unflatten(1, (groups, -1)), weight.unflatten(0, (groups, -1))
    output = torch.einsum("bgkyxij,gokij->byxgo", windows, filters).flatten(3)  # [b, oh, ow, o]
    return (output if bias is None else output + bias).permute(0, 3, 1, 2)
