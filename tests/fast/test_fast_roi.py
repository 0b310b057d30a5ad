"""course_utils.fast.roi = plain = torchvision, forward and backward, to the same bits in every run."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.testing import assert_close
from torchvision import ops as tv

from course_utils.fast import roi_triton
from course_utils.fast.roi import roi_align, roi_pool
from course_utils.ops import roi as plain
from tests.ops.regions import (
    ALIGN,
    BAD_ARGUMENTS,
    LAYOUTS,
    ROIS,
    feature_map,
    good,
    maps,
    rois_of,
    same,
    with_gradient,
)

law = settings(max_examples=60, deadline=None, derandomize=True, database=None)
both = pytest.mark.parametrize("operator", [roi_pool, roi_align])


def same_as_plain_and_torchvision(operator, input, *arguments):
    ours = with_gradient(operator, input, *arguments)
    for module in (plain, tv):
        same(ours, with_gradient(getattr(module, operator.__name__), input, *arguments))


@pytest.mark.parametrize("output_size", [(7, 7), (2, 3), 1], ids=str)
@pytest.mark.parametrize("name", ROIS)
def test_pool_equals_plain_and_torchvision(name, output_size, device):
    arguments = rois_of(name, device=device), output_size, 0.5
    same_as_plain_and_torchvision(roi_pool, feature_map(2, 5, 9, 12, device=device), *arguments)


@pytest.mark.parametrize(("sampling_ratio", "aligned"), ALIGN)
@pytest.mark.parametrize("output_size", [(7, 7), (2, 3), 1], ids=str)
@pytest.mark.parametrize("name", ROIS)
def test_align_equals_plain_and_torchvision(name, output_size, sampling_ratio, aligned, device):
    arguments = rois_of(name, device=device), output_size, 0.5, sampling_ratio, aligned
    same_as_plain_and_torchvision(roi_align, feature_map(2, 5, 9, 12, device=device), *arguments)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 1)], ids=str)
def test_maps_of_one_pixel(size):
    input, rois = feature_map(2, 3, *size), rois_of("all")
    same_as_plain_and_torchvision(roi_pool, input, rois, 2, 0.25)
    for sampling_ratio, aligned in ALIGN:
        same_as_plain_and_torchvision(roi_align, input, rois, 2, 0.25, sampling_ratio, aligned)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pool_breaks_ties_as_torchvision_does(dtype):
    input = feature_map(2, 5, 9, 12, dtype=dtype).round().clamp(min=0)  # as after a ReLU
    same_as_plain_and_torchvision(roi_pool, input, rois_of("all", dtype), 3, 0.5)
    input = torch.where(input > 0, 0.0, -0.0).to(
        dtype
    )  # -0 and 0 are equal, so the first is the maximum
    same_as_plain_and_torchvision(roi_pool, input, rois_of("all", dtype), 3, 0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_pool_orders_numbers_of_any_size(dtype):
    """torchvision's search begins at the smallest float32, so it misses what is smaller; plain does not."""
    limits = torch.finfo(dtype)
    numbers = [
        limits.max,
        limits.min,
        -limits.tiny,
        limits.tiny,
        -1,
        -2,
        -0.5,
        torch.inf,
        -torch.inf,
    ]
    place = torch.randint(9, (2, 5, 9, 12), generator=torch.Generator().manual_seed(2))
    arguments = torch.tensor(numbers, dtype=dtype)[place], rois_of("all"), 9, 0.5
    assert len(roi_pool(*arguments).unique()) == 10  # all of them, and the 0 of empty bins
    assert torch.equal(roi_pool(*arguments), plain.roi_pool(*arguments))


@pytest.mark.parametrize("seed", range(5))
def test_pool_of_many_rois_that_share_bins(seed):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(-4, 40, (200, 2, 2), generator=generator).sort(dim=1).values.flatten(1)
    rois = torch.cat([torch.arange(200)[:, None] % 3, corners], dim=1).float()
    input = feature_map(3, 8, 20, 16).mul(2).round()
    ours = with_gradient(roi_pool, input, rois, (4, 3), 0.5)
    same(ours, with_gradient(tv.roi_pool, input, rois, (4, 3), 0.5), rtol=1e-5, atol=1e-4)


def test_pool_of_channels_that_do_not_fit_a_block():
    input = feature_map(1, 2**15 + 3, 2, 3)
    rois = torch.tensor([[0.0, 0, 0, 2, 1], [0, 0.6, 0, 1.7, 1]])
    same_as_plain_and_torchvision(roi_pool, input, rois, (2, 1))


@pytest.mark.parametrize("sampling_ratio", [-1, 2])
def test_align_of_more_crops_than_it_turns_at_a_time(sampling_ratio):
    input = feature_map(2, 64, 9, 12, dtype=torch.float64)
    arguments = rois_of("all", torch.float64).repeat(3, 1), (14, 13), 0.5, sampling_ratio, True
    ours = with_gradient(roi_align, input, *arguments)
    same(ours, with_gradient(tv.roi_align, input, *arguments))
    channels_last = input.contiguous(memory_format=torch.channels_last)
    assert_close(ours[0], roi_align(channels_last, *arguments))


@pytest.mark.parametrize(("sampling_ratio", "aligned"), ALIGN)
@pytest.mark.parametrize("output_size", [(1, 9), (9, 1)], ids=str)
def test_align_with_unlike_axes(output_size, sampling_ratio, aligned):
    """The axes share their number of bins and taps inside: neither may reach into the other's."""
    boxes = torch.tensor([[0, 1.2, 0.3, 55.7, 2.9], [1, 3.1, 0.2, 4.0, 5.9], [1, -9, -9, 70, 9]])
    for size in ((6, 60), (60, 6)):
        arguments = boxes, output_size, 1.0, sampling_ratio, aligned
        ours, theirs = (
            with_gradient(operator, feature_map(2, 3, *size), *arguments)
            for operator in (roi_align, tv.roi_align)
        )
        same(ours, theirs)


@pytest.mark.parametrize("operator", [roi_pool, roi_align])
def test_backward_gives_the_same_bits_again(operator, device):
    torch.use_deterministic_algorithms(True)
    try:
        input, rois = feature_map(2, 16, 20, 30, device=device), rois_of("all", device=device)
        rois = rois.repeat(20, 1)
        first = with_gradient(operator, input, rois, 7)[1]
        for _ in range(3):
            assert torch.equal(with_gradient(operator, input, rois, 7)[1], first)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("scale", [0.2, 1.0], ids=["samples close together", "samples far apart"])
@pytest.mark.parametrize("sampling_ratio", [1, 2, 3])
def test_align_with_samples_of_any_distance(sampling_ratio, scale):
    input, boxes = feature_map(1, 3, 30, 40), torch.tensor([[0, 2.3, 1.9, 38.4, 27.2]])
    same_as_plain_and_torchvision(roi_align, input, boxes, (2, 3), scale, sampling_ratio, True)


quarters = st.integers(-20, 60).map(lambda number: number / 4)


@law
@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    rois=st.lists(st.tuples(quarters, quarters, quarters, quarters), max_size=3),
    output_size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    sampling_ratio=st.integers(-1, 3),
    aligned=st.booleans(),
)
def test_any_roi_equals_torchvision(size, rois, output_size, sampling_ratio, aligned):
    input = feature_map(1, 2, *size, dtype=torch.float64)
    boxes = torch.tensor(rois, dtype=torch.float64).reshape(-1, 2, 2)
    boxes = [torch.cat([boxes.amin(dim=1), boxes.amax(dim=1)], dim=1)]
    arguments = boxes, output_size, 0.5
    same(with_gradient(roi_pool, input, *arguments), with_gradient(tv.roi_pool, input, *arguments))
    arguments = *arguments, sampling_ratio, aligned
    same(
        with_gradient(roi_align, input, *arguments), with_gradient(tv.roi_align, input, *arguments)
    )


# --- layouts, types, gradients


@pytest.mark.parametrize("count", [2, 300], ids=["few rois", "many rois"])
@pytest.mark.parametrize("layout", LAYOUTS)
@both
def test_the_layout_in_memory_is_kept(operator, layout, count):
    input = LAYOUTS[layout](feature_map(2, 6, 30, 40))
    boxes = torch.rand(count, 4, generator=torch.Generator().manual_seed(1)).cumsum(1)
    boxes = torch.cat([torch.arange(count)[:, None] % 2, boxes * 10], dim=1)
    ours = with_gradient(operator, input, boxes, (5, 4))
    same(ours, with_gradient(getattr(tv, operator.__name__), input, boxes, (5, 4)))
    channels_last = ours[0].is_contiguous(memory_format=torch.channels_last)
    assert channels_last == (layout == "channels-last") != ours[0].is_contiguous()


@both
def test_boxes_in_a_list_are_the_same_boxes(operator):
    input = feature_map(3, 2, 9, 12)
    boxes = [torch.tensor(ROIS[name]).reshape(-1, 4).float() for name in ("tiny", "none", "inside")]
    rows = torch.cat([torch.tensor([0.0, 0, 2, 2])[:, None], torch.cat(boxes)], dim=1)
    assert torch.equal(operator(input, boxes, 3), operator(input, rows, 3))
    assert operator(input[:0], [], 3).shape == (0, 2, 3, 3)


@both
def test_no_rois_give_a_gradient_of_zeros(operator):
    for boxes in (torch.zeros(0, 5), [torch.zeros(0, 4), torch.zeros(0, 4, dtype=torch.int64)]):
        output, gradient = with_gradient(operator, feature_map(2, 3, 4, 5), boxes, (2, 3))
        assert output.shape == (0, 3, 2, 3)
        assert torch.equal(gradient, torch.zeros(2, 3, 4, 5))


@both
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types(operator, dtype, device):
    input = feature_map(2, 3, 9, 12, dtype=dtype, device=device)
    rois = rois_of("all", device=device)
    output, gradient = with_gradient(operator, input, rois, 3, 0.5)
    assert output.dtype == gradient.dtype == dtype
    expected = with_gradient(getattr(plain, operator.__name__), input.float(), rois, 3, 0.5)
    assert_close(output.float(), expected[0], rtol=1e-2, atol=1e-2)
    assert_close(gradient.float(), expected[1], rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize("sampling_ratio", [-1, 2])
@pytest.mark.parametrize("channels_last", [False, True])
def test_align_gradcheck(sampling_ratio, channels_last):
    form = torch.channels_last if channels_last else torch.contiguous_format
    input = feature_map(2, 2, 4, 5, dtype=torch.float64).contiguous(memory_format=form)
    rois = rois_of("all", torch.float64)
    call = lambda x: roi_align(x, rois, (2, 3), 0.25, sampling_ratio, True)  # noqa: E731
    assert gradcheck(call, input.requires_grad_())


@pytest.mark.parametrize("channels_last", [False, True])
def test_pool_gradcheck(channels_last):
    form = torch.channels_last if channels_last else torch.contiguous_format
    input = torch.randperm(80, generator=torch.Generator().manual_seed(0)).double()
    input = input.reshape(2, 2, 4, 5).contiguous(memory_format=form).requires_grad_()
    assert gradcheck(lambda x: roi_pool(x, rois_of("all", torch.float64), (2, 3), 0.25), input)


@both
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(operator, mode):
    input = feature_map(2, 3, 9, 12)
    with mode():
        output = operator(input.clone(), rois_of("all"), 3, 0.5)
    assert_close(output, operator(input, rois_of("all"), 3, 0.5))


@both
def test_the_input_stays_as_it_is(operator):
    input, rois = feature_map(2, 3, 9, 12), rois_of("all")
    copies = input.clone(), rois.clone()
    with_gradient(operator, input, rois, 3, 0.5)
    assert torch.equal(input, copies[0]) and torch.equal(rois, copies[1])


# --- which code runs


@pytest.mark.parametrize(
    "boxes", [rois_of("all"), [rois_of("tiny")[:, 1:], rois_of("halves")[:, 1:]]]
)
def test_align_runs_the_kernel_where_it_can(monkeypatch, boxes):
    """A stub in place of the kernel: it gets the checked arguments, and its result is returned."""
    calls = []

    def crop(*arguments):
        calls.append(arguments)
        return torch.zeros(len(arguments[1]), 3, 2, 4)

    monkeypatch.setattr(roi_triton, "can_run", lambda input: True)
    monkeypatch.setattr(roi_triton, "crop_rois", crop)
    input = feature_map(2, 3, 9, 12)
    assert not roi_align(input, boxes, (2, 4), 0.5, 2, True).any()
    ((got_input, image, corners, *rest),) = calls
    expected_image, expected_corners, _ = plain.check_rois(input, boxes, (2, 4), 0.5)
    assert got_input is input and rest == [(2, 4), 2, True]
    assert torch.equal(image, expected_image) and torch.equal(corners, expected_corners)

    monkeypatch.setattr(roi_triton, "can_run", lambda input: False)
    same([roi_align(input, boxes, 3)], [tv.roi_align(input, boxes, 3)])
    assert len(calls) == 1


def test_the_kernel_can_run_on_cuda_with_triton_in_the_types_that_it_knows(monkeypatch):
    monkeypatch.setattr(roi_triton, "_INTERPRETED", False)
    monkeypatch.setattr(roi_triton, "triton", object())
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        assert roi_triton.can_run.__wrapped__(SimpleNamespace(is_cuda=True, dtype=dtype))
        assert not roi_triton.can_run.__wrapped__(SimpleNamespace(is_cuda=False, dtype=dtype))
    exotic = SimpleNamespace(is_cuda=True, dtype=torch.float8_e4m3fn)
    assert not roi_triton.can_run.__wrapped__(exotic)
    monkeypatch.setattr(roi_triton, "triton", None)
    single = SimpleNamespace(is_cuda=True, dtype=torch.float32)
    assert not roi_triton.can_run.__wrapped__(single)


# --- messages


@pytest.mark.usefixtures("as_student")
@both
@pytest.mark.parametrize(("arguments", "error", "message"), BAD_ARGUMENTS)
def test_messages(operator, arguments, error, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        operator(*arguments)
    assert caught.type is error
    assert str(caught.value).startswith(message)


def test_message_of_the_sampling_ratio(as_student):
    with pytest.raises(TypeError, match=r"^sampling_ratio: expected a whole number of at least -1"):
        roi_align(maps, good, 2, 1.0, 1.5)
