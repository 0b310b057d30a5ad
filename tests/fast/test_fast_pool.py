"""course_utils.fast.pool: equal to the plain forms and to torch, forward and backward, in every layout."""

import inspect

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.testing import assert_close

from course_utils.fast.pool import max_pool_with_indices, max_unpool
from course_utils.ops import pool as plain
from tests.ops.feature_maps import (
    ALL_WINDOWS,
    WINDOWS,
    assert_same,
    coarse,
    images,
    law,
    layouts,
    output_and_gradient,
    random,
)

all_windows = pytest.mark.parametrize("window", ALL_WINDOWS.values(), ids=ALL_WINDOWS)
windows = pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)


@pytest.mark.parametrize("function", [max_pool_with_indices, max_unpool])
def test_takes_what_the_plain_form_takes(function):
    ours, theirs = map(inspect.signature, (function, getattr(plain, function.__name__)))
    assert str(ours) == str(theirs)


@pytest.mark.parametrize("numbers", [random, coarse])
@all_windows
def test_pooling_equals_the_plain_form_and_torch(numbers, window, device):
    for input in layouts(numbers(2, 3, 6, 9, device=device)).values():
        results = [
            pool(input, *window) for pool in (max_pool_with_indices, plain.max_pool_with_indices)
        ]
        results.append(F.max_pool2d(input, *window, return_indices=True))
        for mine, *others in zip(*results):
            assert all(torch.equal(mine, other) for other in others)
        for other in (plain.max_pool_with_indices, F.max_pool2d_with_indices):
            ours, theirs = (lambda x, f=f: f(x, *window)[0] for f in (max_pool_with_indices, other))
            assert_same(ours, theirs, input, 1e-12)


@pytest.mark.parametrize("special", [float("nan"), float("inf"), -float("inf")])
@all_windows
def test_pooling_of_special_numbers_equals_the_plain_form(special, window):
    input = coarse(1, 2, 6, 9)
    input[:, :, :4, :5] = special
    input[:, 1, 1, 1] = 7
    for laid_out in layouts(input).values():
        results = (
            max_pool_with_indices(laid_out, *window),
            plain.max_pool_with_indices(input, *window),
        )
        for mine, theirs in zip(*results):
            assert_close(mine, theirs, rtol=0, atol=0, equal_nan=True)


@law
@given(images, st.integers(1, 4), st.integers(1, 4), st.integers(0, 2), st.booleans())
def test_law_pooling_is_the_plain_form(image, kernel_size, stride, padding, ties):
    if padding > kernel_size // 2 or kernel_size > min(image.shape[2:]) + 2 * padding:
        return
    image = image.round() if ties else image
    results = [
        pool(image, kernel_size, stride, padding)
        for pool in (max_pool_with_indices, plain.max_pool_with_indices)
    ]
    assert all(map(torch.equal, *results))


@windows
def test_unpooling_equals_the_plain_form_and_torch(window, device):
    indices = max_pool_with_indices(random(2, 3, 6, 9, device=device), *window)[1]
    values = random(*indices.shape, seed=2, device=device)
    for input in layouts(values).values():
        for other in (plain.max_unpool, F.max_unpool2d):
            ours, theirs = (
                lambda x, f=f: f(x, indices, *window, output_size=(6, 9))
                for f in (max_unpool, other)
            )
            assert_same(ours, theirs, input, 0)
    assert torch.equal(max_unpool(values, indices % 4, 2), plain.max_unpool(values, indices % 4, 2))


@pytest.mark.parametrize("channels", [1, 3])
def test_results_are_laid_out_as_in_torch(channels):
    for input in layouts(random(2, channels, 6, 8)).values():
        ours = max_pool_with_indices(input, 2)
        theirs = F.max_pool2d(input, 2, return_indices=True)
        back = max_unpool(*ours, 2), F.max_unpool2d(*theirs, 2)
        for mine, other in [*zip(ours, theirs), back]:
            for layout in (torch.channels_last, torch.contiguous_format):
                expected = other.is_contiguous(memory_format=layout)
                assert mine.is_contiguous(memory_format=layout) == expected


def scattered(input):
    """An index for each value among 127, a prime, so that no two are equal."""
    return (torch.arange(input.numel(), device=input.device) * 5 % 127).reshape(input.shape)


OPERATORS = {
    "pool": lambda x: max_pool_with_indices(x, 2)[0],
    "pool, overlapping": lambda x: max_pool_with_indices(x, 3, 1, 1)[0],
    "unpool": lambda x: max_unpool(x, scattered(x), 3),
}
operators = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)


@operators
def test_gradient(operator):
    for input in layouts(random(1, 2, 4, 5)).values():
        input = input.requires_grad_()
        assert torch.autograd.gradcheck(operator, input)
        assert torch.autograd.gradgradcheck(operator, input)


@operators
def test_input_stays_as_it_was_and_shares_no_memory(operator):
    for input in layouts(random(2, 2, 4, 5)).values():
        before = input.clone()
        operator(input).zero_()
        assert torch.equal(input, before)


@operators
def test_no_images(operator):
    empty = torch.zeros(0, 1, 4, 5).requires_grad_()
    output = operator(empty)
    assert output.shape == (0, *operator(torch.zeros(1, 1, 4, 5)).shape[1:])
    output.sum().backward()
    assert empty.grad.shape == empty.shape


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@operators
def test_repeatable_on_cuda(operator):
    torch.use_deterministic_algorithms(True)  # torch's unpooling raises here
    try:
        for input in layouts(random(2, 3, 4, 5, dtype=torch.float32, device="cuda")).values():
            first, second = (output_and_gradient(operator, input) for _ in range(2))
            assert all(torch.equal(one, other) for one, other in zip(first, second))
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("as_student")
def test_bad_input():
    good, indices = torch.zeros(1, 2, 4, 5), torch.zeros(1, 2, 4, 5, dtype=torch.int64)
    with pytest.raises(TypeError, match=r"^input: expected floating-point"):
        max_pool_with_indices(good.long(), 2)
    with pytest.raises(ValueError, match=r"^kernel_size: expected a window inside the 4 x 5 input"):
        max_pool_with_indices(good, 5)
    with pytest.raises(
        ValueError, match=r"^indices: expected 0..79 for 8 x 10 pixels, but row \[0, "
    ):
        max_unpool(good, indices + 80, 2)
    with pytest.raises(ValueError, match=r"^output_size: expected 8 x 10 or less than a stride"):
        max_unpool(good, indices, 2, output_size=(10, 10))


@pytest.mark.usefixtures("as_student")
def test_values_on_a_gpu_are_not_looked_at():
    class Elsewhere(torch.Tensor):
        """A tensor that says it is on a GPU, and fails when one of its values is asked for."""

        device = torch.device("cuda", 0)

        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            read = {"item", "__bool__", "__int__", "__float__", "tolist", "any", "all", "aminmax"}
            assert function.__name__ not in read, f"{function.__name__} waits for the GPU"
            return super().__torch_function__(function, types, args, kwargs or {})

    indices = torch.zeros(1, 1, 2, 2, dtype=torch.int64).as_subclass(Elsewhere)
    input = torch.ones(1, 1, 2, 2).as_subclass(Elsewhere)
    assert max_unpool(input, indices, 2).shape == (1, 1, 4, 4)
