"""course_utils.ops.pool: loops = plain = torch, forward and backward, and the lecture's tables."""

import inspect

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.testing import assert_close

from course_utils.ops.pool import (
    max_pool_with_indices,
    max_pool_with_indices_loops,
    max_unpool,
    max_unpool_loops,
)
from tests.ops.feature_maps import (
    ALL_WINDOWS,
    SMALL,
    WINDOWS,
    assert_same,
    coarse,
    images,
    law,
    layouts,
    output_and_gradient,
    random,
)

UNPOOLS = (max_unpool, max_unpool_loops)
windows = pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
all_windows = pytest.mark.parametrize("window", ALL_WINDOWS.values(), ids=ALL_WINDOWS)


@pytest.mark.parametrize(
    ("pool", "unpool"),
    [(max_pool_with_indices, max_unpool), (max_pool_with_indices_loops, max_unpool_loops)],
)
def test_max_unpooling_of_the_lecture(pool, unpool, device):
    image = [[1.0, 2.0, 6.0, 3.0], [3.0, 5.0, 2.0, 1.0], [1.0, 2.0, 2.0, 1.0], [7.0, 3.0, 4.0, 8.0]]
    values, indices = pool(torch.tensor([[image]], device=device), 2)
    assert values.tolist() == [[[[5, 6], [7, 8]]]]
    assert indices.tolist() == [[[[5, 2], [12, 15]]]]
    output = unpool(torch.tensor(SMALL, device=device), indices, 2)
    assert output.tolist() == [[[[0, 0, 2, 0], [0, 1, 0, 0], [0, 0, 0, 0], [3, 0, 0, 4]]]]


@pytest.mark.parametrize("make", [max_pool_with_indices, max_pool_with_indices_loops])
@pytest.mark.parametrize("numbers", [random, coarse])
@all_windows
def test_pooling_equals_torch(make, numbers, window, device):
    input = numbers(2, 2, 6, 9, device=device)
    assert_same(lambda x: make(x, *window)[0], lambda x: F.max_pool2d(x, *window), input, 1e-12)
    for mine, theirs in zip(
        make(input, *window), F.max_pool2d(input, *window, return_indices=True)
    ):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("make", [max_pool_with_indices, max_pool_with_indices_loops])
@pytest.mark.parametrize("special", [float("nan"), float("inf"), -float("inf")])
@all_windows
def test_pooling_of_special_numbers_equals_torch(make, special, window):
    input = coarse(1, 2, 6, 9)
    input[:, :, :4, :5] = special
    input[:, 1, 1, 1] = 7
    results = make(input, *window), F.max_pool2d(input, *window, return_indices=True)
    for mine, theirs in zip(*results):
        assert_close(mine, theirs, rtol=0, atol=0, equal_nan=True)


@windows
def test_unpooling_equals_torch_and_loops(window):
    values, indices = max_pool_with_indices(random(2, 2, 6, 9), *window)
    values = random(*values.shape, seed=2)
    ours, loops, theirs = (
        lambda x, f=f: f(x, indices, *window, output_size=(6, 9))
        for f in (*UNPOOLS, F.max_unpool2d)
    )
    assert_same(ours, theirs, values, 0)
    assert torch.equal(loops(values), theirs(values))


@pytest.mark.parametrize(("kernel_size", "stride"), [(2, None), (3, 2), (2, 3)])
def test_unpooling_without_a_size_equals_torch(kernel_size, stride):
    window = (kernel_size, stride)
    values, indices = max_pool_with_indices(random(2, 2, 8, 11), *window)
    expected = F.max_unpool2d(values, indices % 7, *window)
    for unpool in UNPOOLS:
        assert torch.equal(unpool(values, indices % 7, *window), expected)


def test_arguments_are_those_of_torch():
    for ours, theirs in (
        (max_unpool, F.max_unpool2d),
        (max_pool_with_indices, F.max_pool2d_with_indices),
    ):
        names = [name for name in inspect.signature(theirs).parameters if name != "return_indices"]
        assert list(inspect.signature(ours).parameters) == names


@pytest.mark.parametrize("size", [(8, 10), (9, 11), (9, 10), (7, 9)], ids=str)
def test_output_sizes_are_refused_where_torch_refuses_them(size):
    values, indices = random(1, 2, 4, 5), torch.zeros(1, 2, 4, 5, dtype=torch.int64)
    ours = max_unpool(values, indices, 2, output_size=size)
    assert torch.equal(ours, F.max_unpool2d(values, indices, 2, output_size=size))
    for wrong in ((10, size[1]), (6, size[1]), (size[0], 8), (size[0], 12)):
        for unpool in (max_unpool, F.max_unpool2d):
            with pytest.raises(ValueError, match="output_size"):
                unpool(values, indices, 2, output_size=wrong)


def test_unpooling_loops_have_the_same_gradient_where_no_two_values_meet():
    _, indices = max_pool_with_indices(random(2, 2, 6, 9), 2)
    ours, loops = (lambda x, make=make: make(x, indices, 2, output_size=(6, 9)) for make in UNPOOLS)
    assert_same(ours, loops, random(*indices.shape, seed=2), 0)


def test_pooling_and_unpooling_are_a_pair(device):
    image = random(2, 3, 6, 8, device=device)
    values, indices = max_pool_with_indices(image, 2)
    output = max_unpool(values, indices, 2)
    assert torch.equal(output, torch.where(output != 0, image, 0))
    assert (output != 0).sum() == values.numel()
    assert torch.equal(max_pool_with_indices(output.abs(), 2)[0], values.abs())


# --- gradients, layouts, nothing at all


def scattered(input):
    """A place for each value among 127, a prime, so that no two share one."""
    return (torch.arange(input.numel(), device=input.device) * 5 % 127).reshape(input.shape)


OPERATORS = {
    "pool": lambda x: max_pool_with_indices(x, 2)[0],
    "pool, overlapping": lambda x: max_pool_with_indices(x, 3, 1, 1)[0],
    "unpool": lambda x: max_unpool(x, scattered(x), 3),
}
operators = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)


@operators
def test_gradient(operator):
    input = random(2, 1, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(operator, input)
    assert torch.autograd.gradgradcheck(operator, input)


@operators
def test_layout_in_memory_does_not_matter(operator):
    input = random(2, 3, 4, 5)
    expected = output_and_gradient(operator, input)
    for name, laid_out in layouts(input).items():
        assert torch.equal(laid_out, input)
        for mine, kept in zip(output_and_gradient(operator, laid_out), expected):
            assert_close(mine, kept, msg=lambda words, name=name: f"{name}: {words}")


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last_stays_channels_last(channels):
    last = random(2, channels, 6, 8).contiguous(memory_format=torch.channels_last)
    for result in max_pool_with_indices(last, 2):
        assert result.is_contiguous(memory_format=torch.channels_last)
    assert all(result.is_contiguous() for result in max_pool_with_indices(last.contiguous(), 2))
    indices = max_pool_with_indices(last, 2)[1]
    output = max_unpool(
        last[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last), indices, 2
    )
    assert output.is_contiguous(memory_format=torch.channels_last)


@operators
def test_input_stays_as_it_was_and_shares_no_memory(operator):
    input = random(2, 1, 4, 5)
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


@operators
def test_no_gradient_unless_asked_for(operator):
    assert not operator(random(1, 1, 4, 5)).requires_grad


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@operators
def test_repeatable_on_cuda(operator, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch asks for it
    torch.use_deterministic_algorithms(True)  # torch's bilinear, bicubic and unpooling raise here
    try:
        input = random(2, 3, 4, 5, dtype=torch.float32, device="cuda")
        first, second = (output_and_gradient(operator, input) for _ in range(2))
        assert all(torch.equal(one, other) for one, other in zip(first, second))
    finally:
        torch.use_deterministic_algorithms(False)


# --- laws


@law
@given(
    images,
    st.tuples(*[st.integers(1, 4)] * 2, st.integers(0, 2), st.integers(1, 3), st.booleans()),
    st.booleans(),
)
def test_law_pooling_is_torchs(image, window, ties):
    kernel_size, _, padding, dilation, _ = window
    length, smallest = dilation * (kernel_size - 1) + 1, min(image.shape[2:])
    if padding > kernel_size // 2 or length > smallest + 2 * padding or dilation > smallest:
        return
    image = image.round() if ties else image
    theirs = F.max_pool2d(image, *window, return_indices=True)
    for mine, other in zip(max_pool_with_indices(image, *window), theirs):
        assert torch.equal(mine, other)


# --- bad input: a message that names the argument

good = torch.zeros(1, 2, 4, 5)
places = torch.zeros(1, 2, 4, 5, dtype=torch.int64)
nan = float("nan")


@pytest.mark.usefixtures("as_student")
def test_bad_input():
    def call(images):
        return max_pool_with_indices(images, 2)

    with pytest.raises(TypeError, match=r"^input: expected a torch.Tensor, got list$"):
        call([[[[0.0]]]])
    with pytest.raises(
        ValueError, match=r"^input: expected shape \[b, c, h, w\], got \[2, 4, 5\]$"
    ):
        call(good[0])
    with pytest.raises(ValueError, match=r"^input: expected at least one pixel, got .*0, 5\]$"):
        call(good[:, :, :0])


MISTAKES = {
    "labels, pool": (lambda: max_pool_with_indices(places, 2), TypeError, "input: expected float"),
    "labels, unpool": (
        lambda: max_unpool(places, places, 2),
        TypeError,
        "input: expected floating-point numbers, got torch.int64",
    ),
    "window 0": (
        lambda: max_pool_with_indices(good, 0),
        ValueError,
        "kernel_size: expected a whole number of at least 1, got 0",
    ),
    "window (2, 2)": (
        lambda: max_pool_with_indices(good, (2, 2)),
        TypeError,
        "kernel_size: expected a whole number of at least 1, got (2, 2)",
    ),
    "stride 0": (
        lambda: max_pool_with_indices(good, 2, 0),
        ValueError,
        "stride: expected a whole number of at least 1, got 0",
    ),
    "padding -1": (
        lambda: max_pool_with_indices(good, 2, 2, -1),
        ValueError,
        "padding: expected a whole number of at least 0, got -1",
    ),
    "dilation 0": (
        lambda: max_pool_with_indices(good, 2, 2, 0, 0),
        ValueError,
        "dilation: expected a whole number of at least 1, got 0",
    ),
    "much padding": (
        lambda: max_pool_with_indices(good, 3, 2, 2),
        ValueError,
        "padding: expected at most half of kernel_size = 3, got 2",
    ),
    "window too large": (
        lambda: max_pool_with_indices(good, 5),
        ValueError,
        "kernel_size: expected a window inside the 4 x 5 input, padded by 0, got 5",
    ),
    "window too large by dilation": (
        lambda: max_pool_with_indices(good, 3, dilation=2),
        ValueError,
        "kernel_size: expected a window inside the 4 x 5 input, padded by 0, got 5",
    ),
    "windows of padding only": (
        lambda: max_pool_with_indices(good[:, :, :1], 2, 1, 1, dilation=2),
        ValueError,
        "dilation: expected a pixel of the 1 x 5 input in each window, got 2",
    ),
    "too few indices": (
        lambda: max_unpool(good, places[:, :1], 2),
        ValueError,
        "indices: expected shape [1, 2, 4, 5], got [1, 1, 4, 5]",
    ),
    "indices in float": (
        lambda: max_unpool(good, places.float(), 2),
        TypeError,
        "indices: expected torch.int64, got torch.float32",
    ),
    "indices outside": (
        lambda: max_unpool(good, places + 80, 2),
        ValueError,
        "indices: expected 0..79 for 8 x 10 pixels, but row [0, 0, 0, 0] is 80",
    ),
    "one index outside": (
        lambda: max_unpool(good[:, :, :1, :2], torch.tensor([[[[7, 0]], [[0, 8]]]]), 2),
        ValueError,
        "indices: expected 0..7 for 2 x 4 pixels, but row [0, 1, 0, 1] is 8",
    ),
    "indices below 0": (
        lambda: max_unpool(good, places - 1, 2),
        ValueError,
        "indices: expected 0..79 for 8 x 10 pixels, but row [0, 0, 0, 0] is -1",
    ),
    "no indices": (lambda: max_unpool(good, [0], 2), TypeError, "indices: expected a torch."),
    "a size in place of the kernel's": (
        lambda: max_unpool(good, places, (8, 10)),
        TypeError,
        "kernel_size: expected a whole number of at least 1, got (8, 10)",
    ),
    "a size that is not pooled to this one": (
        lambda: max_unpool(good, places, 2, output_size=(8, 12)),
        ValueError,
        "output_size: expected 8 x 10 or less than a stride of 2 away, got 8 x 12",
    ),
    "values of one image": (
        lambda: max_unpool(good[0], places[0], 2),
        ValueError,
        "input: expected shape [b, c, h, w], got [2, 4, 5]",
    ),
}


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize(("call", "error", "words"), MISTAKES.values(), ids=MISTAKES)
def test_message(call, error, words):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value).startswith(words)


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize("bad", [(0, 8), (8,), 8, (8.5, 8), (nan, 8)], ids=str)
def test_bad_size(bad):
    with pytest.raises(
        ValueError, match=r"^output_size: expected \(height, width\) above zero, got"
    ):
        max_unpool(good, places, 2, output_size=bad)


@pytest.mark.usefixtures("as_student")
def test_mixed_devices():
    class Elsewhere(torch.Tensor):
        device = torch.device("cuda", 0)

    with pytest.raises(ValueError, match=r"^input, indices: expected one device, got input on cpu"):
        max_unpool(good, places.as_subclass(Elsewhere), 2)
