"""course_utils.ops.roi: loops = plain = torchvision, forward and backward, on awkward rois."""

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
    check_rois,
    linear_weights,
    roi_align,
    roi_align_loops,
    roi_pool,
    roi_pool_loops,
    sampling_matrix,
)
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


@pytest.mark.parametrize("scale", [0.2, 1.0], ids=["samples close together", "samples far apart"])
@pytest.mark.parametrize("sampling_ratio", [1, 2, 3])
def test_align_with_samples_of_any_distance(sampling_ratio, scale):
    input, boxes = feature_map(1, 3, 30, 40), torch.tensor([[0, 2.3, 1.9, 38.4, 27.2]])
    arguments = boxes, (2, 3), scale, sampling_ratio, True
    ours = with_gradient(roi_align, input, *arguments)
    same(ours, with_gradient(tv.roi_align, input, *arguments))


@pytest.mark.parametrize("count", [2, 300], ids=["few rois", "many rois"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "operators", [(roi_pool, tv.roi_pool), (roi_align, tv.roi_align)], ids=["roi_pool", "roi_align"]
)
def test_layouts_in_memory(operators, layout, count):
    input = LAYOUTS[layout](feature_map(2, 6, 30, 40))
    boxes = torch.rand(count, 4, generator=torch.Generator().manual_seed(1)).cumsum(1)
    boxes = torch.cat([torch.arange(count)[:, None] % 2, boxes * 10], dim=1)
    same(*(with_gradient(operator, input, boxes, (5, 4)) for operator in operators))


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
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(operator, mode):
    input = feature_map(2, 3, 9, 12)
    with mode():
        output = operator(input.clone(), rois_of("all"), 3, 0.5)
    assert_close(output, operator(input, rois_of("all"), 3, 0.5))


# --- the matrix of RoIAlign


def test_the_weights_of_a_sample_sum_to_one_inside_and_fade_out_outside():
    weights = linear_weights(torch.tensor([[-1.0, -0.25], [0.0, 2.75], [3.0, 3.5]]), 4)
    assert weights.shape == (3, 2, 4)
    assert weights.sum(dim=2).tolist() == [[0.0, 0.75], [1.0, 1.0], [1.0, 0.5]]


@pytest.mark.parametrize(("sampling_ratio", "aligned"), ALIGN)
def test_the_sampling_matrix_is_roi_align_along_one_axis(sampling_ratio, aligned):
    row = feature_map(2, 1, 1, 12, dtype=torch.float64)
    image, corners, _ = check_rois(row, rois_of("all", torch.float64), 3, 0.5)
    matrix = sampling_matrix(corners[:, 0], corners[:, 2], 3, 12, sampling_ratio, aligned)
    corners[:, 1], corners[:, 3] = -0.5, 0.5  # all samples have the one row as their nearest
    rois = torch.cat([image[:, None].double(), corners], dim=1)
    bins = tv.roi_align(row, rois, (1, 3), 1.0, sampling_ratio, aligned)[:, 0, 0]
    assert_close((matrix @ row[image, 0, 0, :, None])[..., 0], bins, rtol=0, atol=1e-10)


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


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize("operator", [roi_pool, roi_align, roi_pool_loops, roi_align_loops])
@pytest.mark.parametrize(("arguments", "error", "message"), BAD_ARGUMENTS)
def test_messages(operator, arguments, error, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        operator(*arguments)
    assert caught.type is error
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("operator", [roi_align, roi_align_loops])
@pytest.mark.parametrize(
    ("ratio", "error", "message"),
    [
        (1.5, TypeError, "sampling_ratio: expected a whole number of at least -1, got 1.5"),
        (-2, ValueError, "sampling_ratio: expected a whole number of at least -1, got -2"),
    ],
)
def test_messages_of_the_sampling_ratio(as_student, operator, ratio, error, message):
    with pytest.raises(error) as caught:
        operator(maps, good, 2, 1.0, ratio)
    assert str(caught.value) == message


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
