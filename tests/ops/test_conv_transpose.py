"""Four views of transposed convolution against torch, loops, each other and the lecture."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from course_utils.ops.conv import convolve
from course_utils.ops.conv_transpose import (
    bilinear_kernel,
    bilinear_transposed_convolve,
    transposed_convolve,
    transposed_convolve_by_interleaving,
    transposed_convolve_by_matrix,
    transposed_convolve_by_zero_insertion,
    transposed_convolve_loops,
)
from tests.ops.convolutions import (
    BAD,
    LETTERS,
    PRECISIONS,
    TRANSPOSED_CONVOLUTIONS,
    arguments,
    check,
    check_same,
    filters,
    good,
    numbers,
    with_gradients,
)

TRANSPOSED = [
    transposed_convolve,
    transposed_convolve_by_interleaving,
    transposed_convolve_by_matrix,
    transposed_convolve_by_zero_insertion,
]

# --- equal to torch, to the loops, to each other


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


def test_loops_leave_their_arguments_as_they_were():
    case = (2, 3, 4, 4), (3, 3, 3), {}
    tensors, _ = arguments(case, transposed=True)
    before = [tensor.clone() for tensor in tensors]
    transposed_convolve_loops(*tensors)
    assert all(map(torch.equal, tensors, before))


def test_arguments_stand_in_the_order_of_torch():
    image, weight, bias = numbers(1, 4, 3, 3), numbers(4, 3, 3, 3, seed=1), numbers(6, seed=2)
    for function in (*TRANSPOSED, transposed_convolve_loops):
        ours = function(image, weight, bias, 3, 1, 2, 2, 4)
        assert_close(ours, F.conv_transpose2d(image, weight, bias, 3, 1, 2, 2, 4))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_transposed_convolution_equals_torch(data):
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
    extra = tuple(data.draw(st.integers(0, max(steps) - 1)) for steps in zip(stride, dilation))
    full = [(pixels - 1) * step + need for pixels, step, need in zip(size, stride, reach)]
    if all(have - 2 * edge + more > 0 for have, edge, more in zip(full, padding, extra)):
        weight = numbers(inputs, outputs // groups, *kernel, seed=1)
        expected = F.conv_transpose2d(image, weight, output_padding=extra, **options)
        for function in TRANSPOSED:
            assert_close(function(image, weight, output_padding=extra, **options), expected)


@pytest.mark.parametrize("function", TRANSPOSED)
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
    half = transposed_convolve(image.to(dtype), weight.to(dtype), stride=2)
    assert half.dtype == dtype
    whole = transposed_convolve(image.to(dtype).double(), weight.to(dtype).double(), stride=2)
    check_same([half.double()], [whole], 2 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("function", TRANSPOSED)
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
    small, weight = numbers(1, 1, 2, 2), numbers(1, 1, 3, 3, seed=1)
    for function in (*TRANSPOSED, transposed_convolve_loops):
        whole = function(small, weight, stride=2)
        trimmed = function(small, weight, stride=2, padding=1, output_padding=1)
        assert whole.shape == (1, 1, 5, 5) and trimmed.shape == (1, 1, 4, 4)
        assert_close(trimmed, whole[:, :, 1:, 1:])


@pytest.mark.parametrize("function", [*TRANSPOSED, transposed_convolve_loops])
def test_transposed_convolution_by_letters(function):
    A, B, _, _, X, Y, Z = LETTERS
    vector = torch.tensor([[[[A, B]]]], dtype=torch.float64)
    kernel = torch.tensor([[[[X, Y, Z]]]], dtype=torch.float64)
    expected = [A * X, A * Y, A * Z + B * X, B * Y, B * Z]
    assert function(vector, kernel, stride=2).flatten().tolist() == expected


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


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize("function", TRANSPOSED)
@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, function):
    given, options, error, begins = BAD[name]
    check(lambda: function(*given, **options), error, begins)


@pytest.mark.usefixtures("as_student")
def test_no_pixel():
    for function in TRANSPOSED:
        begins = "input: expected at least one pixel"
        check(lambda f=function: f(torch.zeros(1, 4, 0, 5), filters), ValueError, begins)


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize("function", TRANSPOSED)
def test_limits_of_a_transposed_convolution(function):
    begins = "output_padding: expected less than stride (2, 2) or dilation (1, 1), got (2, 2)"
    check(lambda: function(good, filters, stride=2, output_padding=2), ValueError, begins)
    begins = "output_padding: expected less than stride (2, 1) or dilation (1, 1), got (1, 1)"
    check(lambda: function(good, filters, stride=(2, 1), output_padding=1), ValueError, begins)
    begins = "output_padding: expected a whole number of at least 0, or two of them, got -1"
    check(lambda: function(good, filters, output_padding=-1), ValueError, begins)
    begins = "padding: expected to leave a pixel of the output, got (4, 4), leaving -1 x -1"
    check(lambda: function(good, filters, padding=4), ValueError, begins)
    assert function(good, filters, padding=3).shape == (1, 4, 1, 1)
    assert function(good, filters, dilation=2, output_padding=1).shape == (1, 4, 10, 10)


@pytest.mark.usefixtures("as_student")
def test_bad_input_to_bilinear():
    for call, error, begins in [
        (lambda: bilinear_kernel(0, 3), ValueError, "channels: expected a whole number of at"),
        (lambda: bilinear_kernel(1, 0), ValueError, "kernel_size: expected a whole number of at"),
        (lambda: bilinear_transposed_convolve(good, 4, 0), ValueError, "stride: expected a whole"),
        (lambda: bilinear_transposed_convolve(good[0], 4), ValueError, "input: expected shape [b"),
        (lambda: bilinear_transposed_convolve(good.int(), 4), TypeError, "input: expected float"),
        (lambda: bilinear_transposed_convolve(good, 2.5), TypeError, "kernel_size: expected a"),
        (lambda: bilinear_transposed_convolve(good, 2, 1, 3), ValueError, "padding: expected to"),
    ]:
        check(call, error, begins)


def test_one_device_for_all():
    class Elsewhere(torch.Tensor):
        device = torch.device("cuda", 0)

    moved = filters.as_subclass(Elsewhere)
    for function in TRANSPOSED:
        begins = "input, weight: expected one device, got input on cpu, weight on cuda:0"
        check(lambda function=function: function(good, moved), ValueError, begins)
