"""course_utils.fast.conv_transpose: equal to the plain form and to torch, forward and backward."""

import inspect

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from course_utils.fast.conv_transpose import transposed_convolve
from course_utils.ops import conv_transpose as plain
from tests.ops.convolutions import (
    BAD,
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


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS, ids=str)
@pytest.mark.parametrize("name", TRANSPOSED_CONVOLUTIONS)
def test_equals_the_plain_form_and_torch_with_gradients(name, dtype, tolerance, device):
    case = TRANSPOSED_CONVOLUTIONS[name]
    tensors, options = arguments(case, transposed=True, dtype=dtype, device=device)
    ours = with_gradients(transposed_convolve, tensors, options)
    check_same(ours, with_gradients(plain.transposed_convolve, tensors, options), tolerance)
    check_same(ours, with_gradients(F.conv_transpose2d, tensors, options), tolerance)


def test_takes_what_the_plain_form_takes():
    ours, theirs = map(inspect.signature, (transposed_convolve, plain.transposed_convolve))
    assert str(ours) == str(theirs)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_equals_the_plain_form_with_any_arguments(data):
    def pair(low, high):
        return data.draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    groups, (inputs, outputs) = data.draw(st.integers(1, 3)), pair(1, 2)
    stride, padding, dilation = pair(1, 4), pair(0, 1), pair(1, 3)
    extra = tuple(data.draw(st.integers(0, max(steps) - 1)) for steps in zip(stride, dilation))
    image = numbers(data.draw(st.integers(0, 2)), groups * inputs, *pair(2, 5))
    weight = numbers(groups * inputs, outputs, *pair(2, 4), seed=1)
    bias = numbers(groups * outputs, seed=2)
    options = (stride, padding, extra, groups, dilation)
    ours, theirs = (
        function(image, weight, bias, *options)
        for function in (transposed_convolve, plain.transposed_convolve)
    )
    assert_close(ours, theirs)


def test_the_result_is_channels_last_whatever_the_layout():
    image, weight = numbers(2, 4, 6, 5), numbers(4, 4, 3, 3, seed=1)
    expected = plain.transposed_convolve(image, weight, stride=2)
    turned = image.transpose(2, 3).contiguous().transpose(2, 3)
    for layout in (image, image.contiguous(memory_format=torch.channels_last), turned):
        output = transposed_convolve(layout, weight, stride=2)
        assert output.is_contiguous(memory_format=torch.channels_last)
        assert_close(output, expected)
    everywhere = numbers(1, 4, 1, 1).expand(2, 4, 6, 5)
    ours, theirs = (
        function(everywhere, weight, stride=2)
        for function in (transposed_convolve, plain.transposed_convolve)
    )
    assert_close(ours, theirs)


def test_gradients_of_gradients():
    weight, bias = numbers(1, 1, 3, 2, seed=1), numbers(1, seed=2)
    tensors = [tensor.requires_grad_() for tensor in (numbers(1, 1, 3, 2), weight, bias)]
    assert torch.autograd.gradcheck(lambda *x: transposed_convolve(*x, stride=2), tensors)
    assert torch.autograd.gradgradcheck(lambda *x: transposed_convolve(*x, stride=2), tensors)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype, device):
    image, weight = numbers(2, 8, 6, 5, device=device), numbers(8, 8, 3, 3, seed=1, device=device)
    half = transposed_convolve(image.to(dtype), weight.to(dtype), stride=2)
    assert half.dtype == dtype
    whole = plain.transposed_convolve(image.to(dtype).double(), weight.to(dtype).double(), stride=2)
    check_same([half.double()], [whole], 2 * torch.finfo(dtype).eps)


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    given, options, error, begins = BAD[name]
    check(lambda: transposed_convolve(*given, **options), error, begins)


@pytest.mark.usefixtures("as_student")
def test_limits():
    begins = "output_padding: expected less than stride (2, 2) or dilation (1, 1), got (2, 2)"
    call = transposed_convolve
    check(lambda: call(good, filters, stride=2, output_padding=2), ValueError, begins)
    begins = "padding: expected to leave a pixel of the output, got (4, 4), leaving -1 x -1"
    check(lambda: call(good, filters, padding=4), ValueError, begins)
