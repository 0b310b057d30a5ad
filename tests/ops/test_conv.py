"""Convolution and its transpose against torch, against loops, against each other, and against the lecture."""

import pytest
import torch
import torch.nn.functional as F
from d2l import torch as d2l
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from course_utils.ops.conv import (
    bilinear_kernel,
    bilinear_transposed_convolve,
    convolution_matrix_1d,
    convolution_matrix_2d,
    convolve,
    convolve_loops,
    transposed_convolve,
    transposed_convolve_by_interleaving,
    transposed_convolve_by_matrix,
    transposed_convolve_by_zero_insertion,
    transposed_convolve_loops,
)

TRANSPOSED = [
    transposed_convolve,
    transposed_convolve_by_interleaving,
    transposed_convolve_by_matrix,
    transposed_convolve_by_zero_insertion,
]

# batch, channels, height, width; output channels, kernel height, kernel width; the rest as keywords
CONVOLUTIONS = {
    "3x3": ((2, 3, 5, 6), (4, 3, 3), dict(padding=1)),
    "strided": ((2, 3, 8, 7), (4, 3, 3), dict(stride=2, padding=1)),
    "pairs": ((1, 2, 9, 8), (3, 2, 5), dict(stride=(3, 1), padding=(0, 2), dilation=(2, 1))),
    "groups": ((2, 6, 5, 4), (4, 3, 2), dict(groups=2, padding=1)),
    "depthwise": ((1, 4, 6, 6), (8, 3, 3), dict(groups=4, stride=2)),
    "dilated": ((1, 2, 9, 9), (2, 3, 3), dict(dilation=3, padding=2)),
    "1x1": ((2, 3, 4, 5), (5, 1, 1), dict(stride=2)),
    "one pixel": ((1, 2, 1, 1), (3, 3, 3), dict(padding=1)),
    "the whole image": ((2, 2, 4, 3), (3, 4, 3), {}),
    "mostly padding": ((1, 1, 2, 3), (2, 2, 2), dict(padding=4, stride=3)),
    "no image": ((0, 3, 5, 6), (4, 3, 3), dict(stride=2)),
}
TRANSPOSED_CONVOLUTIONS = {
    "k2": ((2, 3, 4, 5), (4, 2, 2), dict(stride=2)),
    "k3": ((2, 3, 4, 5), (4, 3, 3), dict(stride=2, padding=1, output_padding=1)),
    "k4": ((2, 3, 5, 4), (4, 4, 4), dict(stride=2, padding=1)),
    "stride 1": ((1, 2, 5, 4), (3, 3, 3), dict(padding=1)),
    "pairs": (
        (1, 2, 3, 4),
        (3, 2, 5),
        dict(stride=(3, 1), padding=(0, 2), output_padding=(2, 0), dilation=(2, 1)),
    ),
    "groups": ((2, 6, 3, 4), (4, 3, 2), dict(groups=2, stride=2)),
    "depthwise": ((1, 4, 3, 3), (8, 4, 4), dict(groups=4, stride=2, padding=1)),
    "dilated": ((1, 2, 4, 4), (2, 3, 3), dict(dilation=3, stride=2, output_padding=2)),
    "stride above kernel": ((1, 2, 3, 3), (3, 2, 1), dict(stride=4, output_padding=3)),
    "one pixel": ((1, 2, 1, 1), (3, 3, 3), dict(stride=2, padding=1)),
    "trimmed far": ((1, 1, 4, 4), (1, 2, 2), dict(stride=2, padding=3)),
    "no image": ((0, 3, 4, 5), (4, 3, 3), dict(stride=2)),
}


def numbers(*shape, seed=0, dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device, dtype)


def arguments(case, transposed=False, **kind):
    shape, (outputs, *kernel), options = case
    groups = options.get("groups", 1)
    channels = (shape[1], outputs // groups) if transposed else (outputs, shape[1] // groups)
    weight = numbers(*channels, *kernel, seed=1, **kind)
    return [numbers(*shape, **kind), weight, numbers(outputs, seed=2, **kind)], options


def with_gradients(function, tensors, options):
    """The result, and the gradients of input, weight and bias for a fixed gradient of the result."""
    tensors = [tensor.detach().requires_grad_() for tensor in tensors]
    result = function(*tensors, **options)
    incoming = numbers(*result.shape, seed=3).to(result)
    return [result.detach(), *torch.autograd.grad(result, tensors, incoming)]


def check_same(ours, theirs, tolerance):
    for mine, other in zip(ours, theirs, strict=True):
        scale = other.abs().max().item() if other.numel() else 1
        assert_close(mine, other, rtol=0, atol=tolerance * max(scale, 1))


PRECISIONS = [(torch.float64, 1e-12), (torch.float32, 1e-5)]


# --- equal to torch, to the loops, to each other


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS, ids=str)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolve_and_its_gradients_equal_torch(name, dtype, tolerance, device):
    tensors, options = arguments(CONVOLUTIONS[name], dtype=dtype, device=device)
    theirs = with_gradients(F.conv2d, tensors, options)
    check_same(with_gradients(convolve, tensors, options), theirs, tolerance)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolve_equals_loops(name):
    tensors, options = arguments(CONVOLUTIONS[name])
    assert_close(convolve(*tensors, **options), convolve_loops(*tensors, **options))
    assert_close(convolve(*tensors[:2], **options), convolve_loops(*tensors[:2], **options))


@pytest.mark.parametrize("function", TRANSPOSED)
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS, ids=str)
@pytest.mark.parametrize("name", TRANSPOSED_CONVOLUTIONS)
def test_transposed_convolve_and_its_gradients_equal_torch(
    name, dtype, tolerance, function, device
):
    case = TRANSPOSED_CONVOLUTIONS[name]
    tensors, options = arguments(case, transposed=True, dtype=dtype, device=device)
    theirs = with_gradients(F.conv_transpose2d, tensors, options)
    check_same(with_gradients(function, tensors, options), theirs, tolerance)


@pytest.mark.parametrize("function", TRANSPOSED)
@pytest.mark.parametrize("name", TRANSPOSED_CONVOLUTIONS)
def test_transposed_convolve_equals_loops(name, function):
    tensors, options = arguments(TRANSPOSED_CONVOLUTIONS[name], transposed=True)
    assert_close(function(*tensors, **options), transposed_convolve_loops(*tensors, **options))
    bare = transposed_convolve_loops(*tensors[:2], **options)
    assert_close(function(*tensors[:2], **options), bare)


@pytest.mark.parametrize("function", [convolve_loops, transposed_convolve_loops])
def test_loops_leave_their_arguments_as_they_were(function):
    case = (2, 3, 4, 4), (3, 3, 3), {}
    tensors, _ = arguments(case)
    before = [tensor.clone() for tensor in tensors]
    function(*tensors)
    assert all(map(torch.equal, tensors, before))


def test_arguments_stand_in_the_order_of_torch():
    image, weight, bias = numbers(1, 4, 9, 9), numbers(6, 2, 3, 3, seed=1), numbers(6, seed=2)
    for function in (convolve, convolve_loops):
        ours = function(image, weight, bias, 2, 3, 4, 2)
        assert_close(ours, F.conv2d(image, weight, bias, 2, 3, 4, 2))
    image, weight = numbers(1, 4, 3, 3), numbers(4, 3, 3, 3, seed=1)
    for function in (*TRANSPOSED, transposed_convolve_loops):
        ours = function(image, weight, bias, 3, 1, 2, 2, 4)
        assert_close(ours, F.conv_transpose2d(image, weight, bias, 3, 1, 2, 2, 4))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_convolution_and_its_transpose_equal_torch(data):
    def pair(low, high):
        return data.draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    groups = data.draw(st.integers(1, 3))
    inputs, outputs = (groups * count for count in pair(1, 2))
    size, kernel, stride, padding, dilation = (
        pair(1, 7),
        pair(1, 4),
        pair(1, 4),
        pair(0, 3),
        pair(1, 3),
    )
    batch = data.draw(st.integers(0, 2))
    options = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
    image = numbers(batch, inputs, *size)

    reach = [step * (taps - 1) + 1 for taps, step in zip(kernel, dilation)]
    if all(pixels + 2 * edge >= need for pixels, edge, need in zip(size, padding, reach)):
        weight = numbers(outputs, inputs // groups, *kernel, seed=1)
        assert_close(convolve(image, weight, **options), F.conv2d(image, weight, **options))

    extra = tuple(data.draw(st.integers(0, max(steps) - 1)) for steps in zip(stride, dilation))
    full = [(pixels - 1) * step + need for pixels, step, need in zip(size, stride, reach)]
    if all(have - 2 * edge + more > 0 for have, edge, more in zip(full, padding, extra)):
        weight = numbers(inputs, outputs // groups, *kernel, seed=1)
        expected = F.conv_transpose2d(image, weight, output_padding=extra, **options)
        for function in TRANSPOSED:
            assert_close(function(image, weight, output_padding=extra, **options), expected)


@pytest.mark.parametrize("function", [convolve, *TRANSPOSED])
def test_gradients_of_gradients(function):
    weight, bias = numbers(1, 1, 3, 2, seed=1), numbers(1, seed=2)
    tensors = [tensor.requires_grad_() for tensor in (numbers(1, 1, 3, 2), weight, bias)]
    options = dict(stride=2, padding=1)
    assert torch.autograd.gradcheck(lambda *given: function(*given, **options), tensors)
    if function is not transposed_convolve_by_matrix:  # torch has none for sparse matrices
        assert torch.autograd.gradgradcheck(lambda *given: function(*given, **options), tensors)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype, device):
    image, weight = numbers(2, 8, 6, 5, device=device), numbers(8, 8, 3, 3, seed=1, device=device)
    tolerance = 2 * torch.finfo(dtype).eps
    for function in (convolve, transposed_convolve):
        half = function(image.to(dtype), weight.to(dtype), stride=2)
        assert half.dtype == dtype
        whole = function(image.to(dtype).double(), weight.to(dtype).double(), stride=2)
        check_same([half.double()], [whole], tolerance)


@pytest.mark.parametrize("function", [convolve, *TRANSPOSED])
def test_layout_in_memory_does_not_matter(function):
    image, weight = numbers(2, 4, 6, 5), numbers(4, 4, 3, 3, seed=1)
    expected = function(image, weight, stride=2)
    turned = image.transpose(2, 3).contiguous().transpose(2, 3)
    for layout in (image.contiguous(memory_format=torch.channels_last), turned):
        assert not layout.is_contiguous()
        assert_close(function(layout, weight, stride=2), expected)
    last = weight.contiguous(memory_format=torch.channels_last)
    assert_close(function(image, last, stride=2), expected)
    everywhere = numbers(1, 4, 1, 1).expand(2, 4, 6, 5)
    assert_close(
        function(everywhere, weight, stride=2), function(everywhere.clone(), weight, stride=2)
    )


# --- the lecture


def test_sizes_of_the_lecture():
    image, weight = numbers(1, 1, 4, 4), numbers(1, 1, 3, 3, seed=1)
    assert convolve(image, weight, padding=1).shape == (1, 1, 4, 4)
    assert convolve(image, weight, stride=2, padding=1).shape == (1, 1, 2, 2)
    small = numbers(1, 1, 2, 2)
    for function in (*TRANSPOSED, transposed_convolve_loops):
        whole = function(small, weight, stride=2)
        trimmed = function(small, weight, stride=2, padding=1, output_padding=1)
        assert whole.shape == (1, 1, 5, 5) and trimmed.shape == (1, 1, 4, 4)
        assert_close(trimmed, whole[:, :, 1:, 1:])


# The letters of the slides: each is a power of ten, so that a sum of products can be read off its digits.
A, B, C, D = 1.0, 1e3, 1e6, 1e9
X, Y, Z = 1.0, 10.0, 100.0


@pytest.mark.parametrize("function", [*TRANSPOSED, transposed_convolve_loops])
def test_transposed_convolution_by_letters(function):
    vector = torch.tensor([[[[A, B]]]], dtype=torch.float64)
    kernel = torch.tensor([[[[X, Y, Z]]]], dtype=torch.float64)
    expected = [A * X, A * Y, A * Z + B * X, B * Y, B * Z]
    assert function(vector, kernel, stride=2).flatten().tolist() == expected


def test_convolution_matrix_by_letters():
    kernel = torch.tensor([X, Y, Z], dtype=torch.float64)
    vector = torch.tensor([A, B, C, D], dtype=torch.float64)
    padded = F.pad(vector, (1, 1))

    matrix = convolution_matrix_1d(kernel, 4, padding=1)
    forward = [A * Y + B * Z, A * X + B * Y + C * Z, B * X + C * Y + D * Z, C * X + D * Y]
    assert (matrix @ padded).tolist() == forward
    backward = [
        A * X,
        A * Y + B * X,
        A * Z + B * Y + C * X,
        B * Z + C * Y + D * X,
        C * Z + D * Y,
        D * Z,
    ]
    assert (matrix.T @ vector).tolist() == backward

    strided = convolution_matrix_1d(kernel, 4, stride=2, padding=1)
    assert torch.equal(strided, matrix[::2])
    assert (strided @ padded).tolist() == [A * Y + B * Z, B * X + C * Y + D * Z]
    expected = [A * X, A * Y, A * Z + B * X, B * Y, B * Z, 0]
    assert (strided.T @ vector[:2]).tolist() == expected


def test_at_stride_1_a_transposed_convolution_is_a_convolution():
    image, weight = numbers(2, 3, 6, 5), numbers(3, 4, 3, 3, seed=1)
    flipped = weight.flip(2, 3).transpose(0, 1)
    for padding in range(3):
        assert_close(
            transposed_convolve(image, weight, padding=padding),
            convolve(image, flipped, padding=3 - 1 - padding),
        )


def test_at_stride_2_no_convolution_of_the_same_input_gives_it():
    """Moving the input by one pixel moves the result by two: a convolution would move it by one at most."""
    image, weight = numbers(1, 1, 6, 6), numbers(1, 1, 3, 3, seed=1)
    moved = image.roll(1, dims=3)
    before, after = (transposed_convolve(pixels, weight, stride=2) for pixels in (image, moved))
    assert_close(after[..., 4:-2], before[..., 2:-4])
    assert not torch.allclose(after[..., 4:-2], before[..., 3:-3])


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_the_gradient_of_a_convolution_is_the_transposed_convolution(stride):
    image, weight = numbers(2, 4, 8, 7).requires_grad_(), numbers(6, 2, 3, 3, seed=1)
    output = convolve(image, weight, stride=stride, padding=1, groups=2)
    incoming = numbers(*output.shape, seed=2)
    (gradient,) = torch.autograd.grad(output, image, incoming)
    lost = [
        pixels - ((places - 1) * stride - 2 + 3)
        for pixels, places in zip(image.shape[2:], output.shape[2:])
    ]
    back = transposed_convolve(
        incoming, weight, stride=stride, padding=1, output_padding=tuple(lost), groups=2
    )
    assert_close(gradient, back)


# --- matrices


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_matrix_1d_equals_torch(stride, padding, dilation):
    kernel, vector = numbers(3), numbers(7, seed=1)
    matrix = convolution_matrix_1d(kernel, 7, stride, padding, dilation)
    theirs = F.conv1d(vector[None], kernel[None, None], None, stride, padding, dilation)
    assert_close(matrix @ F.pad(vector, (padding, padding)), theirs[0])
    back = F.conv_transpose1d(theirs, kernel[None, None], None, stride, dilation=dilation)[0]
    reached = (matrix.T @ theirs[0])[: len(back)]
    assert_close(reached, back)
    assert (matrix.T @ theirs[0])[len(back) :].abs().sum() == 0


@pytest.mark.parametrize("name", sorted(set(CONVOLUTIONS) - {"groups", "depthwise"}))
def test_matrix_2d_equals_torch(name):
    (image, weight, _), options = arguments(CONVOLUTIONS[name])
    dense = convolution_matrix_2d(weight, tuple(image.shape[2:]), **options)
    sparse = convolution_matrix_2d(weight, tuple(image.shape[2:]), **options, sparse=True)
    assert sparse.is_sparse and sparse.is_coalesced() and torch.equal(sparse.to_dense(), dense)
    down, across = torch.nn.modules.utils._pair(options.get("padding", 0))
    vectors = F.pad(image, (across, across, down, down)).flatten(1)
    expected = F.conv2d(image, weight, **options).flatten(1)
    assert_close(vectors @ dense.T, expected)
    assert_close((sparse @ vectors.T).T, expected)


def test_sparse_matrix_stores_the_kernels_only_and_in_order():
    matrix = convolution_matrix_2d(numbers(2, 3, 3, 2), (6, 5), stride=2, sparse=True)
    assert matrix.indices().shape[1] == 2 * (2 * 2) * (3 * 3 * 2)
    copy = torch.sparse_coo_tensor(
        matrix.indices(), matrix.values(), matrix.shape, check_invariants=True
    )
    assert torch.equal(copy.coalesce().indices(), matrix.indices())


def test_matrix_gradients():
    kernel = numbers(3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: convolution_matrix_1d(x, 5, 2, 1), kernel)
    weight = numbers(2, 1, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: convolution_matrix_2d(x, (3, 4), 2, 1), weight)


def test_d2l_computes_the_same():
    kernel, image = numbers(2, 2), numbers(3, 3, seed=1)
    assert_close(
        convolve(image[None, None], kernel[None, None])[0, 0], d2l.corr2d(image, kernel).double()
    )


# --- bilinear


def d2l_bilinear(channels, kernel_size):
    """The filter as D2L 14.11 and FCN's code define it, with torch's own functions."""
    factor = (kernel_size + 1) // 2
    centre = factor - 1 if kernel_size % 2 else factor - 0.5
    line = torch.tensor([1 - abs(tap - centre) / factor for tap in range(kernel_size)])
    weight = torch.zeros(channels, channels, kernel_size, kernel_size)
    weight[range(channels), range(channels)] = line[:, None] * line
    return weight


@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4, 7, 64])
def test_bilinear_kernel(kernel_size):
    kernel = bilinear_kernel(3, kernel_size)
    assert kernel.dtype == torch.float32
    assert_close(kernel, d2l_bilinear(3, kernel_size), rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("kernel_size", "stride", "padding"),
    [(4, 2, 1), (64, 32, 16), (64, 32, 0), (3, 2, 1), (5, 1, 2), (1, 3, 0), (8, 5, 3)],
)
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS, ids=str)
def test_bilinear_transposed_convolve_equals_torch(kernel_size, stride, padding, dtype, tolerance):
    image = numbers(2, 3, 4, 5, dtype=dtype)
    weight = bilinear_kernel(3, kernel_size).to(dtype)
    results = [
        with_gradients(function, [image], {})
        for function in (
            lambda pixels: bilinear_transposed_convolve(pixels, kernel_size, stride, padding),
            lambda pixels: F.conv_transpose2d(pixels, weight, None, stride, padding),
        )
    ]
    check_same(*results, max(tolerance, 1e-6))


def test_bilinear_transposed_convolve_interpolates():
    image = numbers(1, 2, 5, 6)
    ours = bilinear_transposed_convolve(image, 8, stride=4, padding=2)
    theirs = F.interpolate(image, scale_factor=4, mode="bilinear", align_corners=False)
    assert ours.shape == theirs.shape
    assert_close(ours[..., 2:-2, 2:-2], theirs[..., 2:-2, 2:-2])  # the border fades to zero instead


def test_bilinear_transposed_convolve_of_nothing_and_its_gradient():
    assert bilinear_transposed_convolve(torch.zeros(0, 3, 2, 2), 4, 2, 1).shape == (0, 3, 4, 4)
    image = numbers(1, 2, 1, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: bilinear_transposed_convolve(x, 4, 2, 1), image)


# --- messages

good, filters = torch.zeros(1, 4, 5, 5), torch.zeros(4, 4, 3, 3)
PAIRED = "expected a whole number from {} up, or two, got "
BAD = {
    "a list": ([good.tolist(), filters], {}, TypeError, "input: expected a torch.Tensor, got list"),
    "no batch": ([good[0], filters], {}, ValueError, "input: expected shape [b, c, h, w], got [4,"),
    "whole numbers": ([good.long(), filters], {}, TypeError, "input: expected floating-point"),
    "flat weight": ([good, filters[0, 0]], {}, ValueError, "weight: expected shape ["),
    "channels": ([good, filters[:3, :3]], {}, ValueError, "weight: expected shape ["),
    "whole weight": ([good, filters.long()], {}, TypeError, "weight: expected floating-point"),
    "no taps": ([good, filters[..., :0]], {}, ValueError, "weight: expected a kernel of 1 x 1"),
    "mixed": ([good, filters.double()], {}, TypeError, "weight: expected torch.float32 like"),
    "bias": ([good, filters, filters[:3, 0, 0, 0]], {}, ValueError, "bias: expected shape [4]"),
    "mixed bias": (
        [good, filters, filters[:, 0, 0, 0].double()],
        {},
        TypeError,
        "bias: expected torch.float32 like the input, got torch.float64",
    ),
    "stride": ([good, filters], dict(stride=0), ValueError, f"stride: {PAIRED.format(1)}0"),
    "strides": ([good, filters], dict(stride=(1, 2, 3)), ValueError, "stride: expected a whole"),
    "half": ([good, filters], dict(stride=1.5), ValueError, "stride: expected a whole number"),
    "padding": ([good, filters], dict(padding=-1), ValueError, f"padding: {PAIRED.format(0)}-1"),
    "same": (
        [good, filters],
        dict(padding="same"),
        ValueError,
        f"padding: {PAIRED.format(0)}'same'",
    ),
    "dilation": ([good, filters], dict(dilation=(1, 0)), ValueError, "dilation: expected a whole"),
    "groups": (
        [good, filters],
        dict(groups=3),
        ValueError,
        "groups: expected a divisor of 4 input channels, got 3",
    ),
    "no groups": ([good, filters], dict(groups=0), ValueError, "groups: expected a divisor"),
}


def check(call, error, begins):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert caught.type is error
    assert str(caught.value).startswith(begins), str(caught.value)


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize("function", [convolve, *TRANSPOSED])
@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, function):
    given, options, error, begins = BAD[name]
    check(lambda: function(*given, **options), error, begins)


@pytest.mark.usefixtures("as_student")
def test_filter_that_does_not_fit():
    begins = (
        "input: expected room for a kernel that reaches over 7 x 3, got 4 x 5 with padding (1, 0)"
    )
    options = dict(dilation=(3, 1), padding=(1, 0))
    check(lambda: convolve(good[:, :, :4], filters, **options), ValueError, begins)
    none = torch.zeros(1, 4, 0, 5)
    check(lambda: convolve(none, filters, padding=2), ValueError, "input: expected room for a")
    for function in TRANSPOSED:
        begins = "input: expected at least one pixel"
        check(lambda function=function: function(none, filters), ValueError, begins)


@pytest.mark.usefixtures("as_student")
def test_output_channels_that_cannot_be_dealt_out():
    begins = "groups: expected a divisor of 3 output channels, got 2"
    check(lambda: convolve(good, filters[:3, :2], groups=2), ValueError, begins)


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize("function", TRANSPOSED)
def test_limits_of_a_transposed_convolution(function):
    begins = "output_padding: expected less than stride (2, 2) or dilation (1, 1), got (2, 2)"
    check(lambda: function(good, filters, stride=2, output_padding=2), ValueError, begins)
    begins = "output_padding: expected less than stride (2, 1) or dilation (1, 1), got (1, 1)"
    check(lambda: function(good, filters, stride=(2, 1), output_padding=1), ValueError, begins)
    begins = "output_padding: expected a whole number from 0 up, or two, got -1"
    check(lambda: function(good, filters, output_padding=-1), ValueError, begins)
    begins = "padding: expected to leave a pixel of the output, got (4, 4), leaving -1 x -1"
    check(lambda: function(good, filters, padding=4), ValueError, begins)
    assert function(good, filters, padding=3).shape == (1, 4, 1, 1)
    assert function(good, filters, dilation=2, output_padding=1).shape == (1, 4, 10, 10)


@pytest.mark.usefixtures("as_student")
def test_bad_input_to_matrices_and_bilinear():
    kernel = torch.ones(3)
    for call, error, begins in [
        (lambda: convolution_matrix_1d([1.0], 3), TypeError, "kernel: expected a torch.Tensor"),
        (lambda: convolution_matrix_1d(kernel[None], 3), ValueError, "kernel: expected shape [k]"),
        (lambda: convolution_matrix_1d(kernel.int(), 3), TypeError, "kernel: expected floating"),
        (lambda: convolution_matrix_1d(kernel[:0], 3), ValueError, "kernel: expected at least one"),
        (
            lambda: convolution_matrix_1d(kernel, 2),
            ValueError,
            "length: expected room for a kernel",
        ),
        (lambda: convolution_matrix_1d(kernel, 3, 0), ValueError, "stride: expected a whole"),
        (lambda: convolution_matrix_1d(kernel, 3, (2, 1)), ValueError, "stride: expected a whole"),
        (lambda: convolution_matrix_1d(kernel, 0), ValueError, "length: expected a whole number"),
        (lambda: bilinear_transposed_convolve(good, 4, 0), ValueError, "stride: expected a whole"),
        (
            lambda: convolution_matrix_2d(kernel, (3, 3)),
            ValueError,
            "weight: expected shape [o, c,",
        ),
        (lambda: convolution_matrix_2d(filters, (3, 0)), ValueError, "size: expected (height,"),
        (lambda: convolution_matrix_2d(filters, (3, 2)), ValueError, "size: expected room for"),
        (lambda: bilinear_kernel(0, 3), ValueError, "channels: expected a whole number from 1"),
        (lambda: bilinear_kernel(1, 0), ValueError, "kernel_size: expected a whole number from 1"),
        (lambda: bilinear_transposed_convolve(good[0], 4), ValueError, "input: expected shape [b"),
        (lambda: bilinear_transposed_convolve(good.int(), 4), TypeError, "input: expected float"),
        (lambda: bilinear_transposed_convolve(good, 2.5), ValueError, "kernel_size: expected a"),
        (lambda: bilinear_transposed_convolve(good, 2, 1, 3), ValueError, "padding: expected to"),
    ]:
        check(call, error, begins)


def test_one_device_for_all():
    class Elsewhere(torch.Tensor):
        device = torch.device("cuda", 0)

    moved = filters.as_subclass(Elsewhere)
    for function in (convolve, *TRANSPOSED):
        begins = "input, weight: expected one device, got input on cpu, weight on cuda:0"
        check(lambda function=function: function(good, moved), ValueError, begins)
