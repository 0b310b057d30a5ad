"""course_utils.ops.corners: radii by brute force, loops = plain, and boxes there and back."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from course_utils.ops.boxes import box_iou
from course_utils.ops.corners import (
    ScoredCorners,
    corner_heatmaps,
    corner_heatmaps_loops,
    corner_radius,
    corner_radius_loops,
    pair_corners,
    pair_corners_loops,
)
from tests.ops.feature_maps import law

both_radii = pytest.mark.parametrize("radius_of", [corner_radius, corner_radius_loops])
both_targets = pytest.mark.parametrize("targets_of", [corner_heatmaps, corner_heatmaps_loops])
both_pairs = pytest.mark.parametrize("pair", [pair_corners, pair_corners_loops])
length = st.integers(1, 400).map(lambda tenths: tenths / 10)


def double(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


# --- the radius


def cornernet(height, width, min_overlap):
    """The three radii in the form of CornerNet's code: roots of quadratics."""
    b1, c1 = height + width, width * height * (1 - min_overlap) / (1 + min_overlap)
    b2, c2 = 2 * (height + width), (1 - min_overlap) * width * height
    a3, b3 = 4 * min_overlap, -2 * min_overlap * (height + width)
    c3 = (min_overlap - 1) * width * height
    return (
        (b1 - (b1**2 - 4 * c1) ** 0.5) / 2,
        (b2 - (b2**2 - 16 * c2) ** 0.5) / 8,
        (b3 + (b3**2 - 4 * a3 * c3) ** 0.5) / (2 * a3),
    )


@both_radii
def test_radius_of_a_square_of_ten(radius_of, device):
    ten = torch.tensor([10.0], device=device)
    assert [round(r, 2) for r in cornernet(10, 10, 0.3)] == [3.21, 2.26, 4.13]
    assert radius_of(ten, ten).item() == pytest.approx(2.2614, abs=1e-4)


@law
@given(length, length, st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]))
def test_law_radius_is_the_smallest_of_cornernets_three_and_that_of_the_loops(h, w, overlap):
    expected = min(cornernet(h, w, overlap))
    assert cornernet(h, w, overlap)[1] <= expected + 1e-9, "shrinking always counts"
    for radius_of in (corner_radius, corner_radius_loops):
        assert radius_of(double(h), double(w), overlap).item() == pytest.approx(expected, abs=1e-9)


@law
@given(length, length, st.sampled_from([0.1, 0.3, 0.5, 0.7]))
def test_law_no_corner_moved_by_at_most_the_radius_costs_too_much(h, w, overlap):
    """Every way to move the four edges by -r, -r / 2, 0, r / 2 or r; and by a little more, one fails."""
    box = double(0, 0, w, h)[None]
    moves = torch.cartesian_prod(*[double(-1, -0.5, 0, 0.5, 1)] * 4)  # [625, 4]
    r = corner_radius(double(h), double(w), overlap)
    assert box_iou(box, box + r * moves).min() >= overlap - 1e-9
    assert box_iou(box, box + 1.01 * r * double(1, 1, -1, -1)).item() < overlap
    assert (box_iou(box, box + 1.01 * r * moves) < overlap).any()


@both_radii
def test_radius_keeps_shape_and_handles_boxes_without_area(radius_of):
    height, width = double(0, 4, 0, 1e3).reshape(2, 2), double(0, 0, 7, 1).reshape(2, 2)
    radius = radius_of(height, width)
    assert radius.shape == (2, 2) and radius.dtype == torch.float64
    assert radius.flatten()[:3].tolist() == [0, 0, 0] and 0.34 < radius[1, 1] < 0.35
    assert radius_of(torch.zeros(0), torch.zeros(0)).shape == (0,)
    assert radius_of(double(3, 9), double(4, 5), 1.0).tolist() == pytest.approx([0, 0], abs=1e-12)


def test_radius_of_a_long_box_is_exact_in_single_precision():
    height, width = torch.tensor([1.0]), torch.tensor([5000.0])
    exact = corner_radius(height.double(), width.double())
    assert_close(corner_radius(height, width).double(), exact, rtol=1e-6, atol=0)


@both_radii
def test_radius_in_half_precision_becomes_single(radius_of):
    side = torch.tensor([600.0], dtype=torch.float16)  # its area overflows
    assert_close(radius_of(side, side), torch.tensor([60 * 2.2614]), rtol=1e-4, atol=0)


# --- heat maps


def boxes_and_labels(n, size, stride, classes, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    limit = torch.tensor([size[1], size[0]]) * stride
    points = torch.rand(n, 2, 2, generator=generator, dtype=torch.float64) * limit
    points = points.sort(dim=1).values.flatten(1).to(dtype)
    return points, torch.randint(1, classes + 1, (n,), generator=generator)


def assert_same_targets(mine, theirs):
    for name, one, other in zip(mine._fields, mine, theirs):
        assert one.dtype == other.dtype, name
        assert_close(
            one, other, rtol=1e-6, atol=1e-9, msg=lambda words, name=name: f"{name}: {words}"
        )


@both_targets
def test_one_box_by_hand(targets_of, device):
    box, label = torch.tensor([[5.0, 2.0, 31.0, 30.0]], device=device), torch.tensor([2]).to(device)
    targets = targets_of(box, label, 3, stride=4, size=(8, 8))
    assert targets.cells.tolist() == [[[1, 0]], [[7, 7]]]  # column, row
    assert targets.offsets.tolist() == [[[0.25, 0.5]], [[0.75, 0.5]]]
    assert targets.heatmaps.shape == (2, 3, 8, 8)
    assert (targets.heatmaps[:, [0, 2]] == 0).all()
    # 6.5 x 7 cells, rounded up 7 x 7: radius 1.58, so 1; sigma is 3 / 6
    beside, diagonal = math.exp(-2), math.exp(-4)
    expected = torch.zeros(8, 8, device=device)
    expected[0, :3] = torch.tensor([beside, 1, beside])
    expected[1, :3] = torch.tensor([diagonal, beside, diagonal])
    assert_close(targets.heatmaps[0, 1], expected)
    assert targets.heatmaps[1, 1].nonzero().tolist() == [[6, 6], [6, 7], [7, 6], [7, 7]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("n", [0, 1, 2, 12])
@pytest.mark.parametrize(("size", "stride"), [((24, 24), 4), ((9, 17), 1), ((3, 2), 32)], ids=str)
def test_targets_equal_loops(n, size, stride, dtype, device):
    boxes, labels = boxes_and_labels(n, size, stride, 3, dtype=dtype)
    ours = corner_heatmaps(boxes.to(device), labels.to(device), 3, stride, size, 0.5)
    assert_same_targets(
        (type(ours)(*(field.cpu() for field in ours))),
        corner_heatmaps_loops(boxes, labels, 3, stride, size, 0.5),
    )


@law
@given(st.integers(0, 9999), st.integers(1, 6), st.sampled_from([0.1, 0.3, 0.7]))
def test_law_targets_equal_loops_and_say_where_the_corners_are(seed, n, overlap):
    size, stride = (12, 15), 8
    boxes, labels = boxes_and_labels(n, size, stride, 2, seed)
    boxes = boxes.round() if seed % 2 else boxes  # corners on the borders of cells
    targets = corner_heatmaps(boxes, labels, 2, stride, size, overlap)
    assert_same_targets(targets, corner_heatmaps_loops(boxes, labels, 2, stride, size, overlap))
    corners = (targets.cells + targets.offsets) * stride
    assert_close(torch.cat([corners[0], corners[1]], dim=1), boxes)
    ones = {tuple(place) for place in (targets.heatmaps == 1).nonzero().tolist()}
    assert ones == {
        (corner, labels[k].item() - 1, *targets.cells[corner, k].flip(0).tolist())
        for corner, k in itertools.product(range(2), range(n))
    }
    assert targets.heatmaps.min() >= 0 and targets.heatmaps.max() <= 1
    assert targets.offsets.min() >= 0 and targets.offsets.max() <= 1


@both_targets
def test_where_bumps_overlap_the_larger_counts(targets_of):
    boxes = torch.tensor([[8.0, 8.0, 60.0, 60.0], [16.0, 8.0, 60.0, 60.0]])
    together = targets_of(boxes, torch.tensor([1, 1]), 1, 4, (16, 16)).heatmaps
    alone = [
        targets_of(boxes[k : k + 1], torch.tensor([1]), 1, 4, (16, 16)).heatmaps for k in (0, 1)
    ]
    assert torch.equal(together, torch.maximum(*alone))
    assert ((alone[0] > 0) & (alone[1] > 0)).any()
    other_class = targets_of(boxes, torch.tensor([1, 2]), 2, 4, (16, 16)).heatmaps
    assert torch.equal(other_class, torch.cat(alone, dim=1))


@both_targets
def test_corners_on_the_border_of_the_image(targets_of):
    targets = targets_of(torch.tensor([[0.0, 0.0, 32.0, 16.0]]), torch.tensor([1]), 1, 4, (4, 8))
    assert targets.cells.tolist() == [[[0, 0]], [[7, 3]]]
    assert targets.offsets.tolist() == [[[0, 0]], [[1, 1]]]


@both_targets
def test_a_box_without_area_has_one_cell(targets_of):
    targets = targets_of(torch.tensor([[5.0, 5.0, 5.0, 9.0]]), torch.tensor([1]), 1, 4, (4, 4))
    assert targets.heatmaps.nonzero().tolist() == [[0, 0, 1, 1], [1, 0, 2, 1]]


@both_targets
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.float16])
def test_boxes_of_other_types(targets_of, dtype):
    numbers, label = [[4, 8, 250, 200], [3, 3, 9, 250]], torch.tensor([1, 2])
    boxes = torch.tensor(numbers, dtype=dtype)
    expected = corner_heatmaps(boxes.float(), label, 2, 4, (64, 64))
    assert_same_targets(targets_of(boxes, label, 2, 4, (64, 64)), expected)


def test_boxes_that_are_not_contiguous_and_stay_as_they_were():
    boxes, labels = boxes_and_labels(5, (8, 8), 4, 2)
    wide = torch.stack([boxes, boxes + 1], dim=-1)
    before = wide.clone()
    targets = corner_heatmaps(wide[..., 0], labels, 2, 4, (8, 8))
    assert_same_targets(targets, corner_heatmaps(boxes, labels, 2, 4, (8, 8)))
    for field in targets:
        field.zero_()
    assert torch.equal(wide, before)


# --- pairs


def corners_of(n, seed, classes=2, dtype=torch.float64, device="cpu"):
    """Corners on a grid so coarse that many are in one row or column, with scores that tie."""
    generator = torch.Generator().manual_seed(seed)

    def draw(high, *shape):
        return torch.randint(0, high, shape, generator=generator).to(device)

    numbers = draw(6, n, 2) * 4, draw(5, n) / 4, draw(4, n) / 4
    points, embeddings, scores = (number.to(dtype) for number in numbers)
    return ScoredCorners(points, draw(classes, n) + 1, embeddings, scores)


def assert_same_pairs(mine, theirs):
    for one, other in zip(mine, theirs, strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)


@both_pairs
def test_who_fits_whom(pair):
    top_left = ScoredCorners(
        torch.tensor([[4.0, 4.0], [4.0, 4.0], [4.0, 4.0]]),
        torch.tensor([1, 2, 1]),
        torch.tensor([0.0, 0.0, 5.0]),
        torch.tensor([0.5, 0.5, 0.5]),
    )
    bottom_right = ScoredCorners(
        torch.tensor([[9.0, 8.0], [9.0, 8.0], [9.0, 4.0], [4.0, 8.0], [9.0, 7.0]]),
        torch.tensor([1, 1, 1, 1, 1]),
        torch.tensor([0.5, 0.75, 0.0, 0.0, 0.0]),
        torch.tensor([0.5, 0.9, 0.9, 0.9, 1.0]),
    )
    found = pair(top_left, bottom_right)
    # the second is too different, the third and the fourth are not below or not to the right
    assert found.boxes.tolist() == [[4, 4, 9, 7], [4, 4, 9, 8]]
    assert found.labels.tolist() == [1, 1] and found.scores.tolist() == [0.75, 0.5]
    assert len(pair(top_left, bottom_right, math.inf).boxes) == 6  # also with embedding 5


@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.5, math.inf])
@pytest.mark.parametrize("most", [0, 1, 5, 100])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_pairs_equal_loops(threshold, most, dtype, device):
    for seed in range(5):
        sides = (
            corners_of(12, seed, dtype=dtype, device=device),
            corners_of(9, seed + 100, dtype=dtype, device=device),
        )
        ours = pair_corners(*sides, threshold, most)
        assert len(ours.boxes) <= most
        assert_same_pairs(ours, pair_corners_loops(*sides, threshold, most))


@law
@given(st.integers(0, 9999), st.integers(0, 8), st.integers(0, 8))
def test_law_pairs_are_boxes_by_decreasing_score_each_of_two_corners(seed, n, m):
    top_left, bottom_right = corners_of(n, seed), corners_of(m, seed + 1)
    found = pair_corners(top_left, bottom_right)
    assert_same_pairs(found, pair_corners_loops(top_left, bottom_right))
    assert (found.boxes[:, :2] < found.boxes[:, 2:]).all()
    assert (found.scores.diff() <= 0).all()
    fewer = pair_corners(top_left, bottom_right, 0.25)
    assert len(fewer.boxes) <= len(found.boxes) <= n * m
    first = pair_corners(top_left, bottom_right, max_detections=3)
    assert torch.equal(first.boxes, found.boxes[:3])


def test_boxes_there_and_back():
    """From boxes to targets to perfect corners to boxes: the embeddings tell the objects apart."""
    boxes, labels = boxes_and_labels(6, (24, 24), 4, 2, seed=3)
    targets = corner_heatmaps(boxes, labels, 2, 4, (24, 24))
    names = torch.arange(6.0, dtype=torch.float64)
    corners = [
        ScoredCorners(points, labels, names, torch.ones_like(names))
        for points in (targets.cells + targets.offsets) * 4
    ]
    found = pair_corners(*corners)
    assert_close(found.boxes, boxes)
    assert torch.equal(found.labels, labels)
    assert len(pair_corners(*corners, math.inf).boxes) > 6


@both_pairs
@pytest.mark.parametrize(("n", "m"), [(0, 0), (3, 0), (0, 3)])
def test_no_corners(pair, n, m):
    found = pair(corners_of(n, 0), corners_of(m, 1))
    assert found.boxes.shape == (0, 4) and found.boxes.dtype == torch.float64
    assert found.labels.shape == found.scores.shape == (0,) and found.labels.dtype == torch.int64


def test_scores_keep_their_gradient():
    top_left, bottom_right = corners_of(6, 0), corners_of(6, 1)
    scores = top_left.scores.clone().requires_grad_()
    pair_corners(top_left._replace(scores=scores), bottom_right).scores.sum().backward()
    assert scores.grad.sum() == len(pair_corners(top_left, bottom_right).boxes) / 2 > 0


# --- messages

box, one = torch.tensor([[0.0, 0.0, 8.0, 8.0]]), torch.tensor([1])
side = torch.tensor([4.0])
good = corners_of(2, 0)


def targets(**changes):
    usual = {"boxes": box, "labels": one, "classes": 2, "stride": 4, "size": (4, 4)}
    return corner_heatmaps(**usual | changes)


MISTAKES = {
    "height": (lambda: corner_radius([4.0], side), TypeError, "height: expected a torch.Tensor"),
    "whole height": (lambda: corner_radius(one, side), TypeError, "height: expected floating"),
    "widths": (
        lambda: corner_radius(side, side.repeat(2)),
        ValueError,
        "width: expected shape [1], got [2]",
    ),
    "negative width": (
        lambda: corner_radius(side, -side),
        ValueError,
        "width: expected finite numbers, 0 or above, but row 0 is -4.0",
    ),
    "overlap 0": (
        lambda: corner_radius(side, side, 0.0),
        ValueError,
        "min_overlap: expected an IoU above 0, got 0",
    ),
    "overlap 2": (
        lambda: targets(min_overlap=2.0),
        ValueError,
        "min_overlap: expected a number from 0 to 1, got 2",
    ),
    "labels in float": (lambda: targets(labels=side), TypeError, "labels: expected torch.int64"),
    "two labels": (
        lambda: targets(labels=one.repeat(2)),
        ValueError,
        "labels: expected shape [1], got [2]",
    ),
    "background": (
        lambda: targets(labels=one * 0),
        ValueError,
        "labels: expected classes from 1 to 2, but row 0 is 0",
    ),
    "class 3 of 2": (
        lambda: targets(labels=one * 3),
        ValueError,
        "labels: expected classes from 1 to 2, but row 0 is 3",
    ),
    "classes": (
        lambda: targets(classes=0),
        ValueError,
        "classes: expected a whole number of at least 1, got 0",
    ),
    "stride": (
        lambda: targets(stride=0.5),
        TypeError,
        "stride: expected a whole number of at least 1, got 0.5",
    ),
    "outside": (
        lambda: targets(boxes=box + 9),
        ValueError,
        "boxes: expected corners inside the 16 x 16 image, but row 0 is [9.0, 9.0, 17.0, 17.0]",
    ),
    "no corners": (
        lambda: pair_corners([0.0], good),
        TypeError,
        "top_left: expected ScoredCorners, got list",
    ),
    "points": (
        lambda: pair_corners(good, good._replace(points=torch.zeros(2, 3))),
        ValueError,
        "bottom_right.points: expected shape [n, 2], got [2, 3]",
    ),
    "labels": (
        lambda: pair_corners(good._replace(labels=one), good),
        ValueError,
        "top_left.labels: expected shape [2], got [1]",
    ),
    "embeddings": (
        lambda: pair_corners(good, good._replace(embeddings=one.repeat(2))),
        TypeError,
        "bottom_right.embeddings: expected floating-point numbers, got torch.int64",
    ),
    "scores": (
        lambda: pair_corners(good._replace(scores=double(0, math.nan)), good),
        ValueError,
        "top_left.scores: expected numbers, but row 1 is nan",
    ),
    "threshold": (
        lambda: pair_corners(good, good, -0.5),
        ValueError,
        "embedding_threshold: expected a number of at least 0, got -0.5",
    ),
    "no threshold": (
        lambda: pair_corners(good, good, None),
        TypeError,
        "embedding_threshold: expected a number of at least 0, got None",
    ),
    "most": (
        lambda: pair_corners(good, good, 0.5, -1),
        ValueError,
        "max_detections: expected a whole number of at least 0, got -1",
    ),
}


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize(("call", "error", "words"), MISTAKES.values(), ids=MISTAKES)
def test_message(call, error, words):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value).startswith(words)
