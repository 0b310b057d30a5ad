"""course_utils.ops.adaptive_pool: loops = plain = torch, forward and backward, and PSPNet's pyramid."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.testing import assert_close

from course_utils.ops.adaptive_pool import (
    adaptive_average_pool,
    adaptive_average_pool_loops,
    adaptive_windows,
    pyramid_pool,
)
from tests.ops.feature_maps import assert_same, images, law, layouts, output_and_gradient, random

pools = pytest.mark.parametrize("pool", [adaptive_average_pool, adaptive_average_pool_loops])
SIZES = {
    "whole": 1,
    "halves": 2,
    "thirds": 3,
    "wide": (2, 5),
    "every pixel": (7, 10),
    "more bins than pixels": (9, 13),
    "one row": (1, 10),
}
sizes = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
ramp = torch.arange(36.0).reshape(1, 1, 6, 6)


def test_windows_of_the_lecture():
    assert adaptive_windows(7, 3) == [(0, 3), (2, 5), (4, 7)]
    assert adaptive_windows(6, 3) == [(0, 2), (2, 4), (4, 6)]
    assert adaptive_windows(10, 1) == [(0, 10)]
    assert adaptive_windows(2, 3) == [(0, 1), (0, 2), (1, 2)]


@law
@given(st.integers(1, 200), st.integers(1, 200))
def test_law_windows_are_those_of_torch(size, bins):
    """An image that is 1 in one pixel: torch's mean is above 0 in the bins whose window has that pixel."""
    windows = adaptive_windows(size, bins)
    pixels = torch.eye(size, dtype=torch.float64)[None]  # [1, one image per pixel, size]
    seen = F.adaptive_avg_pool1d(pixels, bins)[0]  # [size, bins]
    for i, (start, stop) in enumerate(windows):
        assert seen[:, i].nonzero().flatten().tolist() == list(range(start, stop))
    assert windows[0][0] == 0 and windows[-1][1] == size


@pools
def test_a_ramp(pool, device):
    for bins, expected in {
        1: [17.5],
        2: [7, 10, 25, 28],
        3: [3.5, 5.5, 7.5, 15.5, 17.5, 19.5, 27.5, 29.5, 31.5],
        6: list(range(36)),
    }.items():
        assert pool(ramp.to(device), bins).flatten().tolist() == expected


@pools
@sizes
def test_equals_torch_forward_and_backward(pool, size, device):
    input = random(2, 3, 7, 10, device=device)
    assert_same(
        lambda x: pool(x, size), lambda x: F.adaptive_avg_pool2d(x, size), input, tolerance=1e-12
    )


@law
@given(images, st.integers(1, 12), st.integers(1, 12))
def test_law_pooling_is_torchs(image, height, width):
    expected = F.adaptive_avg_pool2d(image, (height, width))
    assert_close(adaptive_average_pool(image, (height, width)), expected, rtol=1e-12, atol=1e-12)


@law
@given(images, st.integers(1, 4))
def test_law_equal_windows_keep_the_mean_of_the_image(image, bins):
    image = image.repeat_interleave(bins, dim=2).repeat_interleave(bins, dim=3)
    means = adaptive_average_pool(image, bins).mean(dim=(2, 3))
    assert_close(means, image.mean(dim=(2, 3)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision(dtype, device):
    image = (20 + random(1, 2, 300, 310, device=device)).to(dtype)  # the sum overflows float16
    for size in (1, 7):
        output = adaptive_average_pool(image, size)
        assert output.dtype == dtype
        expected = F.adaptive_avg_pool2d(image.double(), size)
        tolerance = {torch.float16: 3e-3, torch.bfloat16: 3e-2, torch.float32: 1e-6}[dtype]
        assert_close(output.double(), expected, rtol=tolerance, atol=tolerance)


@sizes
def test_gradient(size):
    input = random(2, 1, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: adaptive_average_pool(x, size), input)
    assert torch.autograd.gradgradcheck(lambda x: adaptive_average_pool(x, size), input)


def test_layout_in_memory_does_not_matter():
    input = random(2, 3, 4, 5)
    expected = output_and_gradient(lambda x: adaptive_average_pool(x, 3), input)
    for laid_out in layouts(input).values():
        results = output_and_gradient(lambda x: adaptive_average_pool(x, 3), laid_out)
        assert_close(results, expected, rtol=1e-12, atol=1e-12)
    last = input.contiguous(memory_format=torch.channels_last)
    output = adaptive_average_pool(last, 2)
    assert output.is_contiguous(memory_format=torch.channels_last) and not output.is_contiguous()


@pools
def test_input_stays_as_it_was_and_shares_no_memory(pool):
    input = random(2, 1, 4, 5)
    before = input.clone()
    pool(input, (4, 5)).zero_()
    assert torch.equal(input, before)


@pools
def test_no_images(pool):
    empty = torch.zeros(0, 2, 4, 5).requires_grad_()
    output = pool(empty, 2)
    assert output.shape == (0, 2, 2, 2)
    output.sum().backward()
    assert empty.grad.shape == empty.shape


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_repeatable_on_cuda(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch asks for it
    torch.use_deterministic_algorithms(True)  # torch's adaptive_avg_pool2d raises here
    try:
        input = random(2, 3, 40, 50, dtype=torch.float32, device="cuda")
        first, second = (
            output_and_gradient(lambda x: adaptive_average_pool(x, 3), input) for _ in range(2)
        )
        assert all(map(torch.equal, first, second))
    finally:
        torch.use_deterministic_algorithms(False)


# --- the pyramid


def test_pyramid_of_a_ramp():
    levels = pyramid_pool(ramp)
    assert [level.shape[2:] for level in levels] == [(1, 1), (2, 2), (3, 3), (6, 6)]
    assert sum(level.numel() for level in levels) == 50
    assert levels[0].item() == 17.5 and torch.equal(levels[3], ramp)


def test_pyramid_equals_torch_level_by_level():
    input = random(2, 3, 8, 11)
    for bins, level in zip((4, 1, 5), pyramid_pool(input, [4, 1, 5]), strict=True):
        assert_close(level, F.adaptive_avg_pool2d(input, bins), rtol=1e-12, atol=1e-12)


# --- bad input

good = torch.zeros(1, 2, 4, 5)
words = "output_size: expected (height, width) above zero, got"
MISTAKES = {
    "a list": (lambda: adaptive_average_pool([0.0], 1), TypeError, "input: expected a torch."),
    "one image": (
        lambda: adaptive_average_pool(good[0], 1),
        ValueError,
        "input: expected shape [b, c, h, w], got [2, 4, 5]",
    ),
    "no pixels": (
        lambda: adaptive_average_pool(good[:, :, :0], 1),
        ValueError,
        "input: expected at least one pixel",
    ),
    "labels": (lambda: adaptive_average_pool(good.long(), 1), TypeError, "input: expected floa"),
    "0 bins": (lambda: adaptive_average_pool(good, 0), ValueError, words),
    "half a bin": (lambda: adaptive_average_pool(good, 2.5), ValueError, words),
    "three sides": (lambda: adaptive_average_pool(good, (1, 2, 3)), ValueError, words),
    "None for a side": (lambda: adaptive_average_pool(good, (None, 2)), ValueError, words),
    "no levels": (
        lambda: pyramid_pool(good, []),
        ValueError,
        "bins: expected at least one number of bins, got []",
    ),
    "one number": (lambda: pyramid_pool(good, 3), ValueError, "bins: expected at least one"),
    "a level of 0": (
        lambda: pyramid_pool(good, [1, 0]),
        ValueError,
        "bins: expected a whole number of at least 1, got 0",
    ),
    "windows of nothing": (
        lambda: adaptive_windows(0, 1),
        ValueError,
        "size: expected a whole number of at least 1, got 0",
    ),
    "0 windows": (
        lambda: adaptive_windows(1, 0),
        ValueError,
        "bins: expected a whole number of at least 1, got 0",
    ),
}


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize(("call", "error", "words"), MISTAKES.values(), ids=MISTAKES)
def test_message(call, error, words):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value).startswith(words)
