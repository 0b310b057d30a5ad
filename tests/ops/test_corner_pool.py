"""course_utils.ops.corner_pool: loops = plain = torch.cummax, forward and backward, in all directions."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from course_utils.ops.corner_pool import STEPS, corner_pool, corner_pool_loops
from tests.ops.feature_maps import (
    assert_same,
    coarse,
    images,
    law,
    layouts,
    output_and_gradient,
    random,
)

POOLS = (corner_pool, corner_pool_loops)
pools = pytest.mark.parametrize("pool", POOLS)
directions = pytest.mark.parametrize("direction", STEPS)


def cummax(input, direction):
    """The oracle: torch's cumulative maximum, of the image flipped for two of the four."""
    axis = 2 if direction in ("top", "bottom") else 3
    if direction in ("bottom", "right"):
        return input.cummax(axis).values
    return input.flip(axis).cummax(axis).values.flip(axis)


@pools
def test_one_row_and_one_column(pool, device):
    row = torch.tensor([2.0, 1.0, 3.0, 0.0, 2.0], device=device)
    image, column = row.reshape(1, 1, 1, 5), row.reshape(1, 1, 5, 1)
    for right, down, expected in (
        ("left", "top", [3, 3, 3, 2, 2]),
        ("right", "bottom", [2, 2, 3, 3, 3]),
    ):
        assert pool(image, right).flatten().tolist() == expected
        assert pool(column, down).flatten().tolist() == expected
        assert torch.equal(pool(image, down), image) and torch.equal(pool(column, right), column)


def test_at_a_top_left_corner_both_edges_of_the_object_meet(device):
    image = torch.zeros(1, 1, 6, 7, device=device)
    image[0, 0, 1, 4], image[0, 0, 3, 2] = 5, 7  # the topmost and the leftmost pixel
    image[0, 0, 4, 3], image[0, 0, 2, 5] = 11, 13  # the lowest and the rightmost one
    first = corner_pool(image, "left") + corner_pool(image, "top")
    second = corner_pool(image, "right") + corner_pool(image, "bottom")
    assert first[0, 0, 1, 2] == 5 + 7 and second[0, 0, 4, 5] == 11 + 13
    assert image[0, 0, 1, 2] == 0 == image[0, 0, 4, 5]


@pools
@directions
@pytest.mark.parametrize("numbers", [random, coarse])
@pytest.mark.parametrize("size", [(1, 1), (1, 8), (9, 1), (5, 7), (4, 16)], ids=str)
def test_equals_cummax_forward_and_backward(pool, direction, numbers, size, device):
    input = numbers(2, 2, *size, device=device)
    oracle = lambda x: cummax(x, direction)  # noqa: E731
    assert torch.equal(pool(input, direction), oracle(input))
    assert_same(lambda x: pool(x, direction), oracle, input, 1e-12)


@directions
def test_of_equal_values_the_nearest_gets_the_gradient(direction):
    """All equal: each pixel is its own maximum, and its gradient is its own."""
    ones = torch.ones(1, 1, 3, 5, dtype=torch.float64)
    weights = random(1, 1, 3, 5, seed=1)
    for pool in (*POOLS, cummax):
        assert torch.equal(output_and_gradient(lambda x, p=pool: p(x, direction), ones)[1], weights)


@pools
@directions
@pytest.mark.parametrize("special", [float("nan"), float("inf"), -float("inf")])
def test_special_numbers(pool, direction, special):
    input = random(1, 3, 6, 7)
    input[0, 0, 2, 3] = input[0, 1, :4] = input[0, 2] = special
    input[0, 2, 1, 1] = 7
    expected = cummax(input, direction)
    assert_close(pool(input, direction), expected, rtol=0, atol=0, equal_nan=True)


@directions
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_types_are_kept_and_nothing_is_rounded(direction, dtype, device):
    input = random(1, 2, 5, 6, dtype=dtype, device=device)
    output = corner_pool(input, direction)
    assert output.dtype == dtype
    assert torch.equal(output, corner_pool(input.double(), direction).to(dtype))


@directions
def test_gradient(direction):
    input = random(2, 1, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: corner_pool(x, direction), input)
    assert torch.autograd.gradgradcheck(lambda x: corner_pool(x, direction), input)


@directions
def test_layout_in_memory_does_not_matter(direction):
    input = random(2, 3, 4, 5)
    expected = output_and_gradient(lambda x: corner_pool(x, direction), input)
    for name, laid_out in layouts(input).items():
        results = output_and_gradient(lambda x: corner_pool(x, direction), laid_out)
        assert all(map(torch.equal, results, expected)), name
    last = input.contiguous(memory_format=torch.channels_last)
    output = corner_pool(last, direction)
    assert output.is_contiguous(memory_format=torch.channels_last) and not output.is_contiguous()


@pools
@directions
@pytest.mark.parametrize("size", [(1, 1), (4, 5)])
def test_input_stays_as_it_was_and_shares_no_memory(pool, direction, size):
    input = random(2, 1, *size)
    before = input.clone()
    pool(input, direction).zero_()
    assert torch.equal(input, before)


@directions
def test_no_images(direction):
    for shape in ((0, 2, 4, 5), (2, 0, 4, 5)):
        empty = torch.zeros(shape).requires_grad_()
        assert corner_pool_loops(empty, direction).shape == shape
        output = corner_pool(empty, direction)
        assert output.shape == shape
        output.sum().backward()
        assert empty.grad.shape == shape


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@directions
def test_repeatable_on_cuda(direction):
    torch.use_deterministic_algorithms(True)
    try:
        input = random(2, 3, 40, 50, dtype=torch.float32, device="cuda")
        call = lambda x: corner_pool(x, direction)  # noqa: E731
        first, second = (output_and_gradient(call, input) for _ in range(2))
        assert all(map(torch.equal, first, second))
    finally:
        torch.use_deterministic_algorithms(False)


@law
@given(images, st.sampled_from(sorted(STEPS)))
def test_law_pooled_twice_is_pooled_once_and_never_less(image, direction):
    pooled = corner_pool(image, direction)
    assert (pooled >= image).all()
    assert torch.equal(corner_pool(pooled, direction), pooled)


@law
@given(images)
def test_law_the_order_of_two_directions_does_not_matter(image):
    for one, other in itertools.combinations(STEPS, 2):
        both = corner_pool(corner_pool(image, one), other)
        assert torch.equal(both, corner_pool(corner_pool(image, other), one))


good = torch.zeros(1, 2, 4, 5)
MISTAKES = {
    "a list": (lambda: corner_pool([[0.0]], "top"), TypeError, "input: expected a torch.Tensor"),
    "one image": (
        lambda: corner_pool(good[0], "top"),
        ValueError,
        "input: expected shape [b, c, h, w], got [2, 4, 5]",
    ),
    "no pixels": (
        lambda: corner_pool(good[:, :, :0], "top"),
        ValueError,
        "input: expected at least one pixel",
    ),
    "labels": (lambda: corner_pool(good.long(), "top"), TypeError, "input: expected floating"),
    "up": (
        lambda: corner_pool(good, "up"),
        ValueError,
        'direction: expected "top", "left", "bottom" or "right", got \'up\'',
    ),
    "a list of two": (lambda: corner_pool(good, ["top"]), ValueError, "direction: expected"),
}


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize(("call", "error", "words"), MISTAKES.values(), ids=MISTAKES)
def test_message(call, error, words):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value).startswith(words)
