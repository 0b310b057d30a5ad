"""Convolution and its transpose: sliding a filter, scattering copies of it, and both as one matrix."""

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from course_utils.core import check_floating, check_same_device, check_shape, check_size

Pair = tuple[int, int]


def _pair(name: str, value: int | Pair, least: int) -> Pair:
    """(for rows, for columns); one number stands for both, as in torch."""
    pair = (value, value) if isinstance(value, int) else value
    whole = isinstance(pair, tuple | list) and all(isinstance(number, int) for number in pair)
    if not whole or len(pair) != 2 or min(pair) < least:
        raise ValueError(f"{name}: expected a whole number from {least} up, or two, got {value!r}")
    return tuple(pair)


def _check_whole(name: str, value: int, least: int) -> None:
    """Raise unless this is one whole number, large enough."""
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name}: expected a whole number from {least} up, got {value!r}")


def _reach(kernel: Pair, dilation: Pair) -> Pair:
    """From the first pixel that the kernel touches to its last, both counted."""
    down, across = (step * (taps - 1) + 1 for taps, step in zip(kernel, dilation))
    return down, across


def _places(
    name: str, size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Pair:
    """How often a kernel fits into the image: the lecture's (size + 2P - K) / S + 1, down and across."""
    reach = _reach(kernel, dilation)
    room = [pixels + 2 * border for pixels, border in zip(size, padding)]
    if min(size) < 1 or room[0] < reach[0] or room[1] < reach[1]:
        raise ValueError(
            f"{name}: expected room for a kernel that reaches over {reach[0]} x {reach[1]}, "
            f"got {size[0]} x {size[1]} with padding {padding}"
        )
    down, across = ((have - need) // step + 1 for have, need, step in zip(room, reach, stride))
    return down, across


def _check_weight(name: str, weight: Tensor, *channels: int | str) -> None:
    """Raise unless this is a stack of filters with these channels and at least one number each."""
    check_shape(name, weight, *channels, "kh", "kw")
    check_floating(name, weight)
    if 0 in weight.shape[2:]:
        raise ValueError(f"{name}: expected a kernel of 1 x 1 or more, got {list(weight.shape)}")


def _check_groups(groups: int, name: str, channels: int) -> None:
    """Raise unless these channels can be dealt out to this many groups."""
    if not isinstance(groups, int) or groups < 1 or channels % groups:
        raise ValueError(
            f"groups: expected a divisor of {channels} {name} channels, got {groups!r}"
        )


def _check_together(input: Tensor, weight: Tensor, bias: Tensor | None, channels: int) -> None:
    """Raise unless there is one bias a channel (or none), and one device and one type for all."""
    tensors = {"input": input, "weight": weight}
    if bias is not None:
        check_shape("bias", bias, channels)
        tensors["bias"] = bias
    check_same_device(**tensors)
    for name, tensor in tensors.items():
        if tensor.dtype != input.dtype:
            raise TypeError(f"{name}: expected {input.dtype} like the input, got {tensor.dtype}")


# --- as a matrix


def convolution_matrix_1d(
    kernel: Float[Tensor, " k"], length: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> Float[Tensor, "out padded"]:
    """The matrix X for which X @ padded vector is the convolution of the vector.

    Each row holds the kernel once, `stride` columns further on than the row above. So a convolution is a
    linear map. X transposed leads back from the output's length to the padded input's: that is the
    transposed convolution, and it is also how a gradient goes back through the convolution.

    Args:
        kernel: the filter, not flipped, as convolution layers use it.
        length: how many numbers the vector has before it is padded.
        stride: how far the kernel moves from one output to the next.
        padding: zeros at either end of the vector; X has columns for them too.
        dilation: how far each number of the kernel is from the next.

    Returns:
        X: one row an output, `length + 2 * padding` columns.

    Raises:
        TypeError: the kernel is not a tensor of floating-point numbers.
        ValueError: the kernel is not 1-d, is empty, or does not fit into the padded vector; a stride or
            dilation below 1, a padding below 0.

    Source: lecture, convolution as matrix multiplication.

    >>> x, y, z = 1.0, 2.0, 3.0
    >>> convolution_matrix_1d(torch.tensor([x, y, z]), length=4, padding=1)
    tensor([[1., 2., 3., 0., 0., 0.],
            [0., 1., 2., 3., 0., 0.],
            [0., 0., 1., 2., 3., 0.],
            [0., 0., 0., 1., 2., 3.]])
    """
    check_shape("kernel", kernel, "k")
    check_floating("kernel", kernel)
    if len(kernel) == 0:
        raise ValueError("kernel: expected at least one number, got none")
    _check_whole("length", length, 1)
    _check_whole("stride", stride, 1)
    _check_whole("padding", padding, 0)
    _check_whole("dilation", dilation, 1)
    outputs, _ = _places(
        "length", (length, 1), (len(kernel), 1), (stride, 1), (padding, 0), (dilation, 1)
    )
    rows = torch.arange(outputs, device=kernel.device)[:, None]  # [out, 1]
    columns = rows * stride + torch.arange(len(kernel), device=kernel.device) * dilation  # [out, k]
    return kernel.new_zeros(outputs, length + 2 * padding).index_put((rows, columns), kernel)


def convolution_matrix_2d(
    weight: Float[Tensor, "o c kh kw"],
    size: Pair,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    sparse: bool = False,
) -> Float[Tensor, "rows columns"]:
    """The matrix X for which X @ padded image is the convolution of the image, both as one long vector.

    A row has a number wherever its output looks, and zeros elsewhere: most of X is zero. Look at it dense;
    compute with it sparse.

    Args:
        weight: the filters, as in `convolve`. For one [kh, kw] kernel: `kernel[None, None]`.
        size: (height, width) of the image before it is padded.
        stride: how far the kernel moves, down and across.
        padding: zeros around the image; X has columns for them too.
        dilation: how far each number of the kernel is from the next.
        sparse: whether X comes as a sparse tensor, which stores the numbers of the kernels only.

    Returns:
        X: `o * out_height * out_width` rows, `c * (h + 2 * padding) * (w + 2 * padding)` columns, both in
        the order of `flatten`.

    Raises:
        TypeError: the weight is not a tensor of floating-point numbers.
        ValueError: the weight is not 4-d, is empty, or does not fit into the padded image; a stride or
            dilation below 1, a padding below 0, a size that is not above zero.

    Source: lecture, convolution as matrix multiplication; D2L 14.10 `kernel2matrix` is the 2 x 2 kernel on
    3 x 3.

    >>> convolution_matrix_2d(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), (3, 3))
    tensor([[1., 2., 0., 3., 4., 0., 0., 0., 0.],
            [0., 1., 2., 0., 3., 4., 0., 0., 0.],
            [0., 0., 0., 1., 2., 0., 3., 4., 0.],
            [0., 0., 0., 0., 1., 2., 0., 3., 4.]])
    """
    _check_weight("weight", weight, "o", "c")
    check_size("size", size)
    stride, padding = _pair("stride", stride, 1), _pair("padding", padding, 0)
    dilation = _pair("dilation", dilation, 1)
    kernel = weight.shape[2:]
    places = _places("size", size, kernel, stride, padding, dilation)
    height, width = (pixels + 2 * border for pixels, border in zip(size, padding))

    # The axes of every number in X: its output (o, y, x), then its tap (c, i, j).
    axes = (weight.shape[0], *places, *weight.shape[1:])
    o, y, x, c, i, j = torch.meshgrid(
        [torch.arange(count, device=weight.device) for count in axes], indexing="ij"
    )
    row = (o * places[0] + y) * places[1] + x
    line, place = y * stride[0] + i * dilation[0], x * stride[1] + j * dilation[1]
    column = (c * height + line) * width + place
    with torch.sparse.check_sparse_tensor_invariants():
        matrix = torch.sparse_coo_tensor(
            torch.stack([row.flatten(), column.flatten()]),
            weight[:, None, None].expand(axes).flatten(),
            (len(weight) * places[0] * places[1], weight.shape[1] * height * width),
            is_coalesced=True,  # the numbers stand in order, row by row
        )
    return matrix if sparse else matrix.to_dense()


# --- by sliding the filter


def convolve_loops(
    input: Float[Tensor, "b c h w"],
    weight: Float[Tensor, "o c_group kh kw"],
    bias: Float[Tensor, " o"] | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Float[Tensor, "b o oh ow"]:
    """`convolve` written out: at every place, add up what the filter's numbers meet."""
    down, across = _pair("stride", stride, 1)
    top, left = _pair("padding", padding, 0)
    step_down, step_across = _pair("dilation", dilation, 1)
    batch, _, height, width = input.shape
    channels, inputs, kernel_height, kernel_width = weight.shape
    out_height = (height + 2 * top - step_down * (kernel_height - 1) - 1) // down + 1
    out_width = (width + 2 * left - step_across * (kernel_width - 1) - 1) // across + 1
    output = input.new_zeros(batch, channels, out_height, out_width)
    for b, o, y, x in itertools.product(*map(range, output.shape)):
        first = o // (channels // groups) * inputs  # the first input channel of this one's group
        total = 0 if bias is None else bias[o]
        for c, i, j in itertools.product(*map(range, weight.shape[1:])):
            row, column = y * down + i * step_down - top, x * across + j * step_across - left
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
    """Slide filters over images: each output number is one filter times the pixels below it, summed.

    Written as one matrix product: for each place, the pixels below the filter are laid out as a row
    (neighbouring rows share pixels, so they are copied), and the filters are the matrix.

    Args:
        input: the images.
        weight: `o` filters over `c / groups` channels each.
        bias: added to each output channel; nothing if left out.
        stride: how far the filter moves, down and across.
        padding: zeros around the image, above and below, left and right.
        dilation: how far each of the filter's numbers is from the next.
        groups: into how many parts the channels are dealt; a filter sees the channels of its part.

    Returns:
        The filtered images, out_size = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1.
        They lie in memory as channels-last.

    Raises:
        TypeError: not a tensor, not of floating-point numbers, or not of one type.
        ValueError: a wrong shape, a filter larger than the padded image, groups that do not divide the
            channels, a stride or dilation below 1, a padding below 0, tensors on different devices.

    Source: lecture, recap of convolution; same as `torch.nn.functional.conv2d` for a batch of images and
    padding in numbers.

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
    check_shape("input", input, "b", "c", "h", "w")
    check_floating("input", input)
    _check_groups(groups, "input", input.shape[1])
    _check_weight("weight", weight, "o", input.shape[1] // groups)
    _check_groups(groups, "output", len(weight))
    _check_together(input, weight, bias, len(weight))
    stride, padding = _pair("stride", stride, 1), _pair("padding", padding, 0)
    dilation = _pair("dilation", dilation, 1)
    kernel = weight.shape[2:]
    places = _places("input", input.shape[2:], kernel, stride, padding, dilation)

    pixels = input.permute(0, 2, 3, 1)  # [b, h, w, c]: a pixel's channels lie together
    pixels = F.pad(pixels, (0, 0, padding[1], padding[1], padding[0], padding[0]))
    below = []  # for each of the filter's numbers: the pixel it meets, at every place
    for i, j in itertools.product(*map(range, kernel)):
        rows, columns = (
            slice(tap * step, tap * step + (count - 1) * stride + 1, stride)
            for tap, step, count, stride in zip((i, j), dilation, places, stride)
        )
        below.append(pixels[:, rows, columns])
    patches = torch.stack(below, dim=3)
    patches = patches.unflatten(4, (groups, -1))  # [b, oh, ow, kh * kw, groups, c]
    filters = weight.flatten(2).unflatten(0, (groups, -1))  # [groups, o, c, kh * kw]
    output = torch.einsum("byxtgc,goct->byxgo", patches, filters).flatten(3)
    return (output if bias is None else output + bias).permute(0, 3, 1, 2)


# --- by scattering copies of the filter


def _transposed_size(
    input: Tensor,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    output_padding: Pair,
    dilation: Pair,
) -> Pair:
    """(size - 1) * stride + reach - 2 * padding + output_padding, down and across; raise if that is none."""
    if min(input.shape[2:]) < 1:
        raise ValueError(f"input: expected at least one pixel, got {list(input.shape)}")
    for extra, *steps in zip(output_padding, stride, dilation):
        if extra >= max(steps):
            raise ValueError(
                f"output_padding: expected less than stride {stride} or dilation {dilation}, "
                f"got {output_padding}"
            )
    height, width = (
        (pixels - 1) * step + reach - 2 * border + extra
        for pixels, step, reach, border, extra in zip(
            input.shape[2:], stride, _reach(kernel, dilation), padding, output_padding
        )
    )
    if min(height, width) < 1:
        raise ValueError(
            f"padding: expected to leave a pixel of the output, got {padding}, leaving {height} x {width}"
        )
    return height, width


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
    """Check a transposed convolution's arguments: its stride, padding, output_padding, dilation as pairs, and
    the output's size."""
    check_shape("input", input, "b", "c", "h", "w")
    check_floating("input", input)
    _check_groups(groups, "input", input.shape[1])
    _check_weight("weight", weight, input.shape[1], "o")
    _check_together(input, weight, bias, weight.shape[1] * groups)
    stride, padding = _pair("stride", stride, 1), _pair("padding", padding, 0)
    extra, dilation = _pair("output_padding", output_padding, 0), _pair("dilation", dilation, 1)
    size = _transposed_size(input, weight.shape[2:], stride, padding, extra, dilation)
    return stride, padding, extra, dilation, size


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
    """`transposed_convolve` written out: every pixel adds a copy of the filter, weighted by itself."""
    down, across = _pair("stride", stride, 1)
    top, left = _pair("padding", padding, 0)
    extra_down, extra_across = _pair("output_padding", output_padding, 0)
    step_down, step_across = _pair("dilation", dilation, 1)
    batch, inputs, height, width = input.shape
    _, channels, kernel_height, kernel_width = weight.shape
    canvas = input.new_zeros(
        batch,
        channels * groups,
        (height - 1) * down + step_down * (kernel_height - 1) + 1 + extra_down,
        (width - 1) * across + step_across * (kernel_width - 1) + 1 + extra_across,
    )
    for b, c, y, x in itertools.product(*map(range, input.shape)):
        first = c // (inputs // groups) * channels  # the first output channel of this one's group
        for o, i, j in itertools.product(*map(range, weight.shape[1:])):
            row, column = y * down + i * step_down, x * across + j * step_across
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
    """Upsample with a learnable filter: every pixel puts down a copy of it, and copies add where they meet.

    `transposed_convolve_loops` is that sentence as code; `_by_matrix`, `_by_zero_insertion` and
    `_by_interleaving` are three more views of the same sum. This one is torch's, for training: it only lays
    the channels last in memory, where torch is fastest.

    Args:
        input: the images or feature maps.
        weight: one filter a pair of input and output channel, input channels first.
        bias: added to each output channel; nothing if left out.
        stride: how far apart neighbouring pixels put their copies, down and across.
        padding: how many pixels are trimmed off the result at each side: what the convolution that this
            one transposes padded.
        output_padding: how many more pixels to keep at the bottom and the right. With stride 2, sizes 3 and 4
            are both convolved to 2, and this says which one to go back to.
        groups: into how many parts the channels are dealt.
        dilation: how far each of the filter's numbers is from the next.

    Returns:
        The larger images, out_size = (size - 1) * stride - 2 * padding + dilation * (kernel - 1) +
        output_padding + 1. They lie in memory as channels-last.

    Raises:
        TypeError: not a tensor, not of floating-point numbers, or not of one type.
        ValueError: a wrong shape, groups that do not divide the channels, an output_padding that is not
            below the stride or the dilation, a padding that leaves nothing, a stride or dilation below 1,
            tensors on different devices.

    Source: lecture, learnable upsampling; D2L 14.10. Same as `torch.nn.functional.conv_transpose2d` for a
    batch of images.

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
    stride, padding, extra, dilation, _ = _check_transposed(
        input, weight, bias, stride, padding, output_padding, groups, dilation
    )
    input, weight = (x.contiguous(memory_format=torch.channels_last) for x in (input, weight))
    return F.conv_transpose2d(input, weight, bias, stride, padding, extra, groups, dilation)


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
    """`transposed_convolve` as its name says it: X transposed, X being the matrix of a convolution.

    The convolution is the one that leads from the output's size to the input's; its filters are the same
    numbers in the same order. X is sparse.

    Args:
        input: as in `transposed_convolve`.
        weight: as there.
        bias: as there.
        stride: as there.
        padding: as there: X transposed gives the padded image, and this trims it.
        output_padding: as there.
        groups: as there.
        dilation: as there.

    Returns:
        The same numbers.

    Raises:
        TypeError: as there.
        ValueError: as there.

    Source: lecture, transposed convolution as matrix multiplication.

    >>> image, weight = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[1.0, 10.0, 100.0]]]])
    >>> transposed_convolve_by_matrix(image, weight, stride=2)
    tensor([[[[  1.,  10., 102.,  20., 200.]]]])
    """
    stride, padding, extra, dilation, _ = _check_transposed(
        input, weight, bias, stride, padding, output_padding, groups, dilation
    )
    height, width = (
        (pixels - 1) * step + reach
        for pixels, step, reach in zip(input.shape[2:], stride, _reach(weight.shape[2:], dilation))
    )
    parts = []
    for part, filters in zip(input.chunk(groups, dim=1), weight.chunk(groups)):
        matrix = convolution_matrix_2d(filters, (height, width), stride, 0, dilation, sparse=True)
        vectors = (matrix.T @ part.flatten(1).T).T  # [b, o * height * width]
        parts.append(vectors.unflatten(1, (-1, height, width)))
    (top, left), (below, right) = padding, extra
    output = F.pad(torch.cat(parts, dim=1), (-left, right - left, -top, below - top))
    return output if bias is None else output + bias[:, None, None]


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

    Between neighbouring pixels go stride - 1 zeros, and around them reach - 1 - padding; then a filter moves
    over it at stride 1. A step is 1 / stride of an input pixel: hence "fractionally strided". At stride 1
    there are no zeros to insert, and a transposed convolution is a convolution with other padding.

    Args:
        input: as in `transposed_convolve`.
        weight: as there.
        bias: as there.
        stride: as there: stride - 1 zeros between pixels.
        padding: as there.
        output_padding: as there: so many more zeros at the bottom and the right.
        groups: as there.
        dilation: as there.

    Returns:
        The same numbers.

    Raises:
        TypeError: as there.
        ValueError: as there.

    Source: lecture, learnable upsampling; Dumoulin and Visin, "A guide to convolution arithmetic for deep
    learning", 2016, section 4.

    >>> image, weight = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[1.0, 10.0, 100.0]]]])
    >>> transposed_convolve_by_zero_insertion(image, weight, stride=2)
    tensor([[[[  1.,  10., 102.,  20., 200.]]]])
    """
    stride, padding, extra, dilation, _ = _check_transposed(
        input, weight, bias, stride, padding, output_padding, groups, dilation
    )
    batch, channels, height, width = input.shape
    nails = input.new_zeros(
        batch, channels, (height - 1) * stride[0] + 1, (width - 1) * stride[1] + 1
    )
    nails[:, :, :: stride[0], :: stride[1]] = input
    top, left = (
        reach - 1 - border for reach, border in zip(_reach(weight.shape[2:], dilation), padding)
    )
    nails = F.pad(nails, (left, left + extra[1], top, top + extra[0]))
    filters = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1).flip(2, 3)
    return convolve(nails, filters, bias, dilation=dilation, groups=groups)


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
    """`transposed_convolve` as stride * stride small convolutions, whose outputs are shuffled together.

    Output pixel `y * stride + i` gets pixel y times tap i. So the output pixels of one remainder modulo the
    stride see only every stride-th tap: they are an ordinary convolution with a small filter. All stride *
    stride of these are computed at once, by `convolve` at stride 1, and then interleaved. This reads no
    zeros that bed of nails would insert, and needs no sums in memory.

    Args:
        input: as in `transposed_convolve`.
        weight: as there.
        bias: as there.
        stride: as there.
        padding: as there.
        output_padding: as there.
        groups: as there.
        dilation: as there.

    Returns:
        The same numbers.

    Raises:
        TypeError: as there.
        ValueError: as there.

    Source: Shi et al., "Is the deconvolution layer the same as a convolutional layer?", 2016.

    >>> image, weight = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[1.0, 10.0, 100.0]]]])
    >>> transposed_convolve_by_interleaving(image, weight, stride=2)
    tensor([[[[  1.,  10., 102.,  20., 200.]]]])
    """
    stride, padding, extra, dilation, size = _check_transposed(
        input, weight, bias, stride, padding, output_padding, groups, dilation
    )
    # The filter with zeros between its taps (dilation) and behind them (to a whole number of strides).
    reach = _reach(weight.shape[2:], dilation)
    taps = [-(-(length + more) // step) for length, more, step in zip(reach, extra, stride)]
    filters = weight.new_zeros(*weight.shape[:2], taps[0] * stride[0], taps[1] * stride[1])
    filters[:, :, : reach[0] : dilation[0], : reach[1] : dilation[1]] = weight
    # Dealt out by remainder: ordinary filters (flipped), a set of output channels for each remainder.
    filters = filters.unflatten(3, (-1, stride[1])).unflatten(2, (-1, stride[0]))
    # [groups, c, o, taps, remainders, taps, remainders]
    filters = filters.unflatten(0, (groups, -1))
    filters = filters.permute(0, 4, 6, 2, 1, 3, 5).flatten(0, 3).flip(2, 3)
    pieces = convolve(input, filters, padding=(taps[0] - 1, taps[1] - 1), groups=groups)
    # Interleave: pixel p of remainder r is pixel p * stride + r of the output.
    pieces = pieces.unflatten(1, (groups, *stride, -1)).permute(0, 5, 2, 6, 3, 1, 4)
    output = pieces.flatten(5).flatten(3, 4).flatten(1, 2)  # [b, rows, columns, o]
    top, left = padding
    output = output[:, top : top + size[0], left : left + size[1]]
    return (output if bias is None else output + bias).permute(0, 3, 1, 2)


# --- bilinear upsampling as a transposed convolution


def _triangle(kernel_size: int) -> Float[Tensor, " k"]:
    """The 1-d filter of linear interpolation: highest in the middle, falling evenly to 0 just outside."""
    half = (kernel_size + 1) // 2
    middle = (kernel_size - 1) / 2
    return 1 - (torch.arange(kernel_size, dtype=torch.float64) - middle).abs() / half


def bilinear_kernel(channels: int, kernel_size: int) -> Float[Tensor, "c c k k"]:
    """Weights with which a transposed convolution starts out as bilinear upsampling, channel by channel.

    To upsample by an even s, take kernel_size 2s, stride s, padding s / 2. Training may change the weights.

    Args:
        channels: of the input and of the output.
        kernel_size: height and width of the filter.

    Returns:
        `weight` for `transposed_convolve`: the filter where input and output channel are the same, else 0.

    Raises:
        ValueError: a number below 1.

    Source: Long et al., "Fully Convolutional Networks", CVPR 2015; D2L 14.11 `bilinear_kernel`.

    >>> bilinear_kernel(1, 4) * 16
    tensor([[[[1., 3., 3., 1.],
              [3., 9., 9., 3.],
              [3., 9., 9., 3.],
              [1., 3., 3., 1.]]]])
    """
    _check_whole("channels", channels, 1)
    _check_whole("kernel_size", kernel_size, 1)
    kernel = torch.outer(_triangle(kernel_size), _triangle(kernel_size))
    same = torch.eye(channels, dtype=torch.float64)
    return (same[:, :, None, None] * kernel).float()


def bilinear_transposed_convolve(
    input: Float[Tensor, "b c h w"], kernel_size: int, stride: int = 1, padding: int = 0
) -> Float[Tensor, "b c oh ow"]:
    """The transposed convolution with `bilinear_kernel`, as two small matrices: rows @ image @ columns.

    The filter is a triangle down times a triangle across, so each direction is a 1-d transposed convolution
    of its own: `convolution_matrix_1d` transposed. In FCN-32s (kernel 64, stride 32) this saves most of the
    work: no pixel meets 64 x 64 numbers, for each pair of channels, of which all but one pair are zero.

    Args:
        input: the images or score maps.
        kernel_size: height and width of the bilinear filter; 2 * stride upsamples evenly.
        stride: the factor of upsampling.
        padding: how many pixels are trimmed off at each side.

    Returns:
        The larger images, out_size = (size - 1) * stride - 2 * padding + kernel_size.

    Raises:
        TypeError: not a tensor of floating-point numbers.
        ValueError: a wrong shape, a number that is too small, a padding that leaves nothing.

    Source: Long et al., "Fully Convolutional Networks", CVPR 2015: the fixed last layer of FCN-32s.

    >>> bilinear_transposed_convolve(torch.tensor([[[[0.0, 4.0]]]]), 4, stride=2, padding=1)
    tensor([[[[0.0000, 0.7500, 2.2500, 2.2500],
              [0.0000, 0.7500, 2.2500, 2.2500]]]])
    """
    check_shape("input", input, "b", "c", "h", "w")
    check_floating("input", input)
    _check_whole("kernel_size", kernel_size, 1)
    _check_whole("stride", stride, 1)
    _check_whole("padding", padding, 0)
    kernel, steps, borders = (kernel_size,) * 2, (stride,) * 2, (padding,) * 2
    size = _transposed_size(input, kernel, steps, borders, (0, 0), (1, 1))
    triangle = _triangle(kernel_size).to(input)
    down, across = (
        convolution_matrix_1d(triangle, length + 2 * padding, stride)[:, padding : padding + length]
        for length in size
    )
    return down.T @ (input @ across)
