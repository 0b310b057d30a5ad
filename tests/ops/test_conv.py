"""Convolution and its matrices against torch, against loops, against d2l, and against the lecture."""

import pytest
import torch
import torch.nn.functional as F
from d2l import torch as d2l
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from course_utils.ops.conv import (
    convolution_matrix_1d,
    convolution_matrix_2d,
    convolve,
    convolve_loops,
)
from tests.ops.convolutions import (
    BAD,
    CONVOLUTIONS,
    LETTERS,
    PRECISIONS,
    arguments,
    check,
    check_same,
    filters,
    good,
    numbers,
    with_gradients,
)

# --- equal to torch and to the loops


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


def test_loops_leave_their_arguments_as_they_were():
    case = (2, 3, 4, 4), (3, 3, 3), {}
    tensors, _ = arguments(case)
    before = [tensor.clone() for tensor in tensors]
    convolve_loops(*tensors)
    assert all(map(torch.equal, tensors, before))


def test_arguments_stand_in_the_order_of_torch():
    image, weight, bias = numbers(1, 4, 9, 9), numbers(6, 2, 3, 3, seed=1), numbers(6, seed=2)
    for function in (convolve, convolve_loops):
        ours = function(image, weight, bias, 2, 3, 4, 2)
        assert_close(ours, F.conv2d(image, weight, bias, 2, 3, 4, 2))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_convolution_equals_torch(data):
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


def test_gradients_of_gradients():
    weight, bias = numbers(1, 1, 3, 2, seed=1), numbers(1, seed=2)
    tensors = [tensor.requires_grad_() for tensor in (numbers(1, 1, 3, 2), weight, bias)]
    options = dict(stride=2, padding=1)
    assert torch.autograd.gradcheck(lambda *given: convolve(*given, **options), tensors)
    assert torch.autograd.gradgradcheck(lambda *given: convolve(*given, **options), tensors)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype, device):
    image, weight = numbers(2, 8, 6, 5, device=device), numbers(8, 8, 3, 3, seed=1, device=device)
    tolerance = 2 * torch.finfo(dtype).eps
    half = convolve(image.to(dtype), weight.to(dtype), stride=2)
    assert half.dtype == dtype
    whole = convolve(image.to(dtype).double(), weight.to(dtype).double(), stride=2)
    check_same([half.double()], [whole], tolerance)


def test_layout_in_memory_does_not_matter():
    image, weight = numbers(2, 4, 6, 5), numbers(4, 4, 3, 3, seed=1)
    expected = convolve(image, weight, stride=2)
    turned = image.transpose(2, 3).contiguous().transpose(2, 3)
    for layout in (image.contiguous(memory_format=torch.channels_last), turned):
        assert not layout.is_contiguous()
        assert_close(convolve(layout, weight, stride=2), expected)
    last = weight.contiguous(memory_format=torch.channels_last)
    assert_close(convolve(image, last, stride=2), expected)
    everywhere = numbers(1, 4, 1, 1).expand(2, 4, 6, 5)
    assert_close(
        convolve(everywhere, weight, stride=2), convolve(everywhere.clone(), weight, stride=2)
    )


# --- the lecture


def test_sizes_of_the_lecture():
    image, weight = numbers(1, 1, 4, 4), numbers(1, 1, 3, 3, seed=1)
    assert convolve(image, weight, padding=1).shape == (1, 1, 4, 4)
    assert convolve(image, weight, stride=2, padding=1).shape == (1, 1, 2, 2)


def test_convolution_matrix_by_letters():
    A, B, C, D, X, Y, Z = LETTERS
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


# --- messages


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    given, options, error, begins = BAD[name]
    check(lambda: convolve(*given, **options), error, begins)


@pytest.mark.usefixtures("as_student")
def test_filter_that_does_not_fit():
    begins = "input: expected room for a kernel that covers 7 x 3, got 4 x 5 with padding (1, 0)"
    options = dict(dilation=(3, 1), padding=(1, 0))
    check(lambda: convolve(good[:, :, :4], filters, **options), ValueError, begins)
    none = torch.zeros(1, 4, 0, 5)
    check(lambda: convolve(none, filters, padding=2), ValueError, "input: expected room for a")


@pytest.mark.usefixtures("as_student")
def test_output_channels_that_cannot_be_divided_into_groups():
    begins = "groups: expected a divisor of 3 output channels, got 2"
    check(lambda: convolve(good, filters[:3, :2], groups=2), ValueError, begins)


@pytest.mark.usefixtures("as_student")
def test_bad_input_to_matrices():
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
        (lambda: convolution_matrix_1d(kernel, 3, (2, 1)), TypeError, "stride: expected a whole"),
        (lambda: convolution_matrix_1d(kernel, 0), ValueError, "length: expected a whole number"),
        (
            lambda: convolution_matrix_2d(kernel, (3, 3)),
            ValueError,
            "weight: expected shape [o, c,",
        ),
        (lambda: convolution_matrix_2d(filters, (3, 0)), ValueError, "size: expected (height,"),
        (lambda: convolution_matrix_2d(filters, (3, 2)), ValueError, "size: expected room for"),
    ]:
        check(call, error, begins)


def test_one_device_for_all():
    class Elsewhere(torch.Tensor):
        device = torch.device("cuda", 0)

    moved = filters.as_subclass(Elsewhere)
    begins = "input, weight: expected one device, got input on cpu, weight on cuda:0"
    check(lambda: convolve(good, moved), ValueError, begins)
