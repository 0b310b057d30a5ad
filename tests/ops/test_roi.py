"""course_utils.ops.roi: loops = vectorised = torchvision, forward and backward, on awkward rois."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.testing import assert_close
from torchvision import ops as tv

from course_utils.ops.roi import (
    bilinear_sample,
    bilinear_sample_loops,
    roi_align,
    roi_align_loops,
    roi_pool,
    roi_pool_loops,
)

law = settings(max_examples=60, deadline=None, derandomize=True, database=None)

# on a map of 9 x 12 at stride 2: pixels of the image, 18 x 24
ROIS = {
    "inside": [[2.3, 3.1, 17.9, 12.2], [5.0, 1.0, 9.0, 15.5]],
    "whole image": [[0, 0, 24, 18]],
    "partly outside": [[-7.5, -3.2, 8.1, 6.6], [15.3, 10.1, 40.7, 30.9], [-9.0, 4.0, 33.0, 8.0]],
    "wholly outside": [[-30, -30, -20, -22], [60, 2, 70, 9], [4, 50, 9, 55]],
    "at the border": [[-2, -2, 0, 0], [24, 18, 26, 20], [22, 16, 24, 18]],
    "zero size": [[5, 5, 5, 5], [3, 4, 9, 4], [3, 4, 3, 9], [0, 0, 0, 0], [24, 18, 24, 18]],
    "halves": [[1, 3, 5, 7], [-1, -3, 9, 11], [3, 1, 13, 17]],
    "tiny": [[4.2, 4.4, 4.9, 4.6], [7.99, 7.99, 8.01, 8.01]],
    "none": [],
}
ROIS["all"] = [roi for rois in ROIS.values() for roi in rois]
ALIGN = [(ratio, aligned) for ratio in (-1, 1, 2) for aligned in (False, True)]


def feature_map(*shape, dtype=torch.float32, device="cpu"):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(device, dtype)


def rois_of(name, dtype=torch.float32, device="cpu"):
    """The named rois, dealt out to two images, as [k, 5]."""
    boxes = torch.tensor(ROIS[name], dtype=dtype, device=device).reshape(-1, 4)
    return torch.cat([(torch.arange(len(boxes), device=device) % 2)[:, None].to(boxes), boxes], 1)


def with_gradient(operator, input, *arguments):
    """The output, and the gradient of a fixed, uneven sum of it."""
    input = input.detach().requires_grad_()
    output = operator(input, *arguments)
    weights = feature_map(*output.shape, dtype=output.dtype, device=output.device)
    return output, torch.autograd.grad((output * weights).sum(), input)[0]


def same(ours, theirs, **tolerance):
    tolerance = tolerance or {"rtol": 1e-5, "atol": 1e-5}
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b, **tolerance)


# --- bilinear sampling


def test_the_lectures_point():
    features = feature_map(3, 8, 9, dtype=torch.float64)
    f = lambda x, y: features[:, y, x]  # noqa: E731  the lecture writes f(column, row)
    by_hand = 0.5 * 0.2 * f(6, 5) + 0.5 * 0.2 * f(7, 5) + 0.5 * 0.8 * f(6, 6) + 0.5 * 0.8 * f(7, 6)
    x, y = torch.tensor([6.5], dtype=torch.float64), torch.tensor([5.8], dtype=torch.float64)
    for sample in (bilinear_sample, bilinear_sample_loops):
        assert_close(sample(features, x, y)[:, 0], by_hand, rtol=0, atol=1e-12)


def test_the_lectures_weights():
    features = torch.zeros(1, 8, 9, dtype=torch.float64, requires_grad=True)
    bilinear_sample(
        features, torch.tensor([6.5], dtype=torch.float64), torch.tensor([5.8], dtype=torch.float64)
    ).backward()
    expected = torch.zeros(8, 9, dtype=torch.float64)
    expected[5:7, 6:8] = torch.tensor([[0.1, 0.1], [0.4, 0.4]], dtype=torch.float64)
    assert_close(features.grad[0], expected, rtol=0, atol=1e-12)


@law
@given(
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    points=st.lists(st.tuples(*[st.floats(-3, 7).map(lambda x: round(x, 2))] * 2), max_size=5),
)
def test_sampling_equals_its_loops(size, points):
    features = feature_map(2, *size, dtype=torch.float64)
    x, y = torch.tensor(points, dtype=torch.float64).reshape(-1, 2).unbind(1)
    sample = bilinear_sample(features, x, y)
    assert_close(sample, bilinear_sample_loops(features, x, y), rtol=0, atol=1e-10)


def test_sampling_equals_grid_sample():
    features = feature_map(2, 5, 7, dtype=torch.float64)
    x, y = torch.rand(2, 40, generator=torch.Generator().manual_seed(1)).double() * 10 - 2
    grid = torch.stack([x * 2 / 6 - 1, y * 2 / 4 - 1], dim=1)
    expected = torch.nn.functional.grid_sample(
        features[None], grid[None, None], align_corners=True, padding_mode="zeros"
    )
    assert_close(bilinear_sample(features, x, y), expected[0, :, 0])


def test_sampling_has_gradients_in_features_and_position():
    features = feature_map(2, 4, 5, dtype=torch.float64).requires_grad_()
    x = torch.tensor([0.3, 2.7, -0.4, 4.6, 9.0]).double().requires_grad_()
    y = torch.tensor([1.2, 0.1, 2.5, 3.3, 1.5]).double().requires_grad_()
    assert gradcheck(bilinear_sample, (features, x, y))


# --- RoIPool and RoIAlign against torchvision


@pytest.mark.parametrize("output_size", [(7, 7), (2, 3), 1], ids=str)
@pytest.mark.parametrize("name", ROIS)
def test_pool_equals_torchvision(name, output_size, device):
    input = feature_map(2, 5, 9, 12, device=device)
    arguments = rois_of(name, device=device), output_size, 0.5
    same(with_gradient(roi_pool, input, *arguments), with_gradient(tv.roi_pool, input, *arguments))


def test_pool_breaks_ties_as_torchvision_does():
    input = feature_map(2, 5, 9, 12).round().clamp(min=0)  # as after a ReLU
    arguments = rois_of("all"), 3, 0.5
    same(with_gradient(roi_pool, input, *arguments), with_gradient(tv.roi_pool, input, *arguments))


@pytest.mark.parametrize(("sampling_ratio", "aligned"), ALIGN)
@pytest.mark.parametrize("output_size", [(7, 7), (2, 3), 1], ids=str)
@pytest.mark.parametrize("name", ROIS)
def test_align_equals_torchvision(name, output_size, sampling_ratio, aligned, device):
    input = feature_map(2, 5, 9, 12, device=device)
    arguments = rois_of(name, device=device), output_size, 0.5, sampling_ratio, aligned
    ours = with_gradient(roi_align, input, *arguments)
    same(ours, with_gradient(tv.roi_align, input, *arguments))


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 1)], ids=str)
@pytest.mark.parametrize(("sampling_ratio", "aligned"), ALIGN)
def test_align_on_maps_of_one_pixel(size, sampling_ratio, aligned):
    input = feature_map(2, 3, *size)
    arguments = rois_of("all"), 2, 0.25, sampling_ratio, aligned
    ours = with_gradient(roi_align, input, *arguments)
    same(ours, with_gradient(tv.roi_align, input, *arguments))


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 1)], ids=str)
def test_pool_on_maps_of_one_pixel(size):
    arguments = rois_of("all"), 2, 0.25
    input = feature_map(2, 3, *size)
    same(with_gradient(roi_pool, input, *arguments), with_gradient(tv.roi_pool, input, *arguments))


@pytest.mark.parametrize("sampling_ratio", [-1, 2])
def test_align_of_more_crops_than_it_turns_at_a_time(sampling_ratio):
    input = feature_map(2, 64, 9, 12, dtype=torch.float64)
    arguments = rois_of("all", torch.float64).repeat(3, 1), (14, 13), 0.5, sampling_ratio, True
    ours = with_gradient(roi_align, input, *arguments)
    same(ours, with_gradient(tv.roi_align, input, *arguments))
    channels_last = input.contiguous(memory_format=torch.channels_last)
    assert_close(ours[0], roi_align(channels_last, *arguments))


@pytest.mark.parametrize("scale", [0.2, 1.0], ids=["samples close together", "samples far apart"])
@pytest.mark.parametrize("sampling_ratio", [1, 2, 3])
def test_align_with_samples_of_any_distance(sampling_ratio, scale):
    input, boxes = feature_map(1, 3, 30, 40), torch.tensor([[0, 2.3, 1.9, 38.4, 27.2]])
    arguments = boxes, (2, 3), scale, sampling_ratio, True
    ours = with_gradient(roi_align, input, *arguments)
    same(ours, with_gradient(tv.roi_align, input, *arguments))


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


LAYOUTS = {
    "channels-last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.mT.contiguous().mT,
    "every second channel": lambda x: x.repeat_interleave(2, 1)[:, ::2],
    "images swapped": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "one image for all": lambda x: x[:1].expand(2, -1, -1, -1),
    "one pixel for all": lambda x: x[:, :, :1, :1].expand_as(x),
}


@pytest.mark.parametrize("count", [2, 300], ids=["few rois", "many rois"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("operators", [(roi_pool, tv.roi_pool), (roi_align, tv.roi_align)], ids=str)
def test_layouts_in_memory(operators, layout, count):
    input = LAYOUTS[layout](feature_map(2, 6, 30, 40))
    boxes = torch.rand(count, 4, generator=torch.Generator().manual_seed(1)).cumsum(1)
    boxes = torch.cat([torch.arange(count)[:, None] % 2, boxes * 10], dim=1)
    ours, theirs = (with_gradient(operator, input, boxes, (5, 4)) for operator in operators)
    same(ours, theirs)
    channels_last = ours[0].is_contiguous(memory_format=torch.channels_last)
    assert channels_last == (layout == "channels-last") != ours[0].is_contiguous()


@pytest.mark.parametrize("operator", [roi_pool, roi_align])
def test_boxes_in_a_list_are_the_same_boxes(operator):
    input = feature_map(3, 2, 9, 12)
    boxes = [torch.tensor(ROIS[name]).reshape(-1, 4).float() for name in ("tiny", "none", "inside")]
    rows = torch.cat([torch.tensor([0.0, 0, 2, 2])[:, None], torch.cat(boxes)], dim=1)
    assert torch.equal(operator(input, boxes, 3), operator(input, rows, 3))
    assert operator(input[:0], [], 3).shape == (0, 2, 3, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("operator", [roi_pool, roi_align])
def test_types(operator, dtype, device):
    input, rois = (
        feature_map(2, 3, 9, 12, dtype=dtype, device=device),
        rois_of("all", device=device),
    )
    output, gradient = with_gradient(operator, input, rois, 3, 0.5)
    assert output.dtype == gradient.dtype == dtype
    expected = operator(input.float(), rois, 3, 0.5)
    assert_close(output.float(), expected, rtol=1e-2, atol=1e-2)


# --- against the loops, in float64


@pytest.mark.parametrize("name", ROIS)
@pytest.mark.parametrize(("sampling_ratio", "aligned"), ALIGN)
def test_align_equals_its_loops(name, sampling_ratio, aligned):
    input = feature_map(2, 1, 9, 12, dtype=torch.float64)
    boxes = rois_of("inside" if name == "all" else name, torch.float64)
    arguments = boxes, (2, 1), 0.25, sampling_ratio, aligned
    if name == "wholly outside":
        arguments = boxes / 2, *arguments[1:]
        arguments[0][:, 0] *= 2
    expected = roi_align_loops(input, *arguments)
    assert_close(roi_align(input, *arguments), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ROIS)
def test_pool_equals_its_loops(name):
    input = feature_map(2, 2, 9, 12, dtype=torch.float64)
    arguments = rois_of(name, torch.float64), (3, 2), 0.5
    expected = roi_pool_loops(input, *arguments)
    assert_close(roi_pool(input, *arguments), expected, rtol=0, atol=1e-10)


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
    for arguments in ((boxes, output_size, 0.5), (boxes, output_size)):
        same([roi_pool(input, *arguments)], [tv.roi_pool(input, *arguments)])
    arguments = boxes, output_size, 0.5, sampling_ratio, aligned
    same([roi_align(input, *arguments)], [tv.roi_align(input, *arguments)])


# --- gradients


@pytest.mark.parametrize("sampling_ratio", [-1, 2])
@pytest.mark.parametrize("channels_last", [False, True])
def test_align_gradcheck(sampling_ratio, channels_last):
    form = torch.channels_last if channels_last else torch.contiguous_format
    input = feature_map(2, 2, 4, 5, dtype=torch.float64).contiguous(memory_format=form)
    rois = rois_of("all", torch.float64)
    call = lambda x: roi_align(x, rois, (2, 3), 0.25, sampling_ratio, True)  # noqa: E731
    assert gradcheck(call, input.requires_grad_())


def test_pool_gradcheck():
    input = torch.randperm(80, generator=torch.Generator().manual_seed(0)).double()
    input = input.reshape(2, 2, 4, 5).requires_grad_()
    assert gradcheck(lambda x: roi_pool(x, rois_of("all", torch.float64), (2, 3), 0.25), input)


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


@pytest.mark.parametrize("operator", [roi_pool, roi_align])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(operator, mode):
    input = feature_map(2, 3, 9, 12)
    with mode():
        output = operator(input.clone(), rois_of("all"), 3, 0.5)
    assert_close(output, operator(input, rois_of("all"), 3, 0.5))


# --- what the lecture says about them


def test_align_is_exact_on_a_ramp_and_pool_is_not():
    x = torch.arange(16.0) + 0.5  # the centres of the pixels
    ramp = (2 * x + 3 * x[:, None])[None, None]
    box = torch.tensor([[0, 3.3, 4.1, 9.3, 10.1]])
    centres = torch.arange(3) * 2 + 1
    expected = 2 * (3.3 + centres) + 3 * (4.1 + centres)[:, None]
    assert_close(roi_align(ramp, box, 3, aligned=True)[0, 0], expected)
    assert (roi_pool(ramp, box, 3)[0, 0] - expected).abs().min() > 0.5


def test_pool_jumps_where_align_glides():
    input = feature_map(1, 1, 12, 12)
    shifts = torch.linspace(0, 1, 101)[:, None] * torch.tensor([1.0, 0, 1.0, 0])
    boxes = torch.nn.functional.pad(torch.tensor([2.0, 2, 8, 8]) + shifts, (1, 0))
    pooled, aligned = roi_pool(input, boxes, 3), roi_align(input, boxes, 3, 1.0, 2, True)
    assert len(pooled.unique(dim=0)) == 2
    steepest = (input[..., 1:] - input[..., :-1]).abs().max()
    assert ((aligned[1:] - aligned[:-1]).abs() <= 0.011 * steepest).all()


# --- messages

good = torch.tensor([[0.0, 1.0, 1.0, 4.0, 5.0]])
maps = torch.zeros(1, 2, 8, 8)


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize("operator", [roi_pool, roi_align, roi_pool_loops, roi_align_loops])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((maps[0], good, 2), ValueError, "input: expected shape [b, c, h, w], got [2, 8, 8]"),
        (
            (maps.int(), good, 2),
            TypeError,
            "input: expected floating-point numbers, got torch.int32",
        ),
        (
            (maps[:, :, :0], good, 2),
            ValueError,
            "input: expected (height, width) above zero, got (0, 8)",
        ),
        ((maps, good[:, 1:], 2), ValueError, "boxes: expected shape [k, 5], got [1, 4]"),
        ((maps, [good], 2), ValueError, "boxes: expected shape [n, 4], got [1, 5]"),
        ((maps, [], 2), ValueError, "boxes: expected one tensor an image, 1, got 0"),
        ((maps, "boxes", 2), TypeError, "boxes: expected a torch.Tensor, got str"),
        (
            (maps, good + 1, 2),
            ValueError,
            "boxes: expected an image from 0 to 0 first, got [1.0, 2.0,",
        ),
        (
            (maps, good - 0.5, 2),
            ValueError,
            "boxes: expected an image from 0 to 0 first, got [-0.5, 0.5,",
        ),
        (
            (maps, good * math.inf, 2),
            ValueError,
            "boxes: expected an image from 0 to 0 first, got [nan",
        ),
        (
            (maps, good[:, [0, 3, 2, 1, 4]], 2),
            ValueError,
            "boxes: expected x1 <= x2 and y1 <= y2, but",
        ),
        (
            (maps, good, 0),
            ValueError,
            "output_size: expected (height, width) above zero, got (0, 0)",
        ),
        (
            (maps, good, (2,)),
            ValueError,
            "output_size: expected (height, width) above zero, got (2,)",
        ),
        ((maps, good, 2, 0), ValueError, "spatial_scale: expected a number above zero, got 0"),
        (
            (maps, good, 2, math.nan),
            ValueError,
            "spatial_scale: expected a number above zero, got nan",
        ),
    ],
)
def test_messages(operator, arguments, error, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        operator(*arguments)
    assert caught.type is error
    assert str(caught.value).startswith(message)


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            (maps, good[0], good[0]),
            ValueError,
            "features: expected shape [c, h, w], got [1, 2, 8, 8]",
        ),
        ((maps[0], good, good[0]), ValueError, "x: expected shape [n], got [1, 5]"),
        ((maps[0], good[0], good[0, :2]), ValueError, "y: expected shape [5], got [2]"),
        (
            (maps[0], good[0].int(), good[0]),
            TypeError,
            "x: expected floating-point numbers, got torch.int32",
        ),
        ((maps[0].int(), good[0], good[0]), TypeError, "features: expected floating-point numbers"),
    ],
)
def test_messages_of_sampling(arguments, error, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        bilinear_sample(*arguments)
    assert caught.type is error
    assert str(caught.value).startswith(message)
