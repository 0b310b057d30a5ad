"""course_utils.ops.assignment: loops = vectorised = torchvision's Matcher and sampler = D2L."""

import pytest
import torch
from d2l import torch as d2l
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher

from course_utils.ops.assignment import (
    NEGATIVE,
    NEUTRAL,
    balanced_sample,
    balanced_sample_loops,
    class_targets,
    class_targets_loops,
    match_boxes,
    match_boxes_loops,
    match_boxes_one_to_one,
    match_boxes_one_to_one_loops,
)
from course_utils.ops.boxes import box_iou

THRESHOLDS = [(0.7, 0.3), (0.5, 0.5), (0.5, 0.1), (1.0, 0.0), (0.0, 0.0), (1.0, 1.0), (0.6, 0.4)]
SHAPES = [(1, 1), (1, 30), (7, 1), (5, 40), (40, 5), (8, 8)]


def random_iou(shape, seed, device="cpu", dtype=torch.float32, steps=None):
    """Random overlaps; with `steps`, only that many different ones, so that most of them tie."""
    iou = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if steps:
        iou = (iou * steps).round() / steps
    return iou.to(device, dtype)


@pytest.fixture(params=[(shape, steps) for shape in SHAPES for steps in (None, 10, 2)], ids=str)
def iou(request, device):
    shape, steps = request.param
    return random_iou(shape, 0, device, steps=steps)


# --- thresholds


@pytest.mark.parametrize("best_anchor", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_match_equals_loops(iou, dtype, best_anchor):
    for high, low in THRESHOLDS:
        matches = match_boxes(iou.to(dtype), high, low, best_anchor)
        assert (
            matches.tolist()
            == match_boxes_loops(iou.to(dtype).cpu(), high, low, best_anchor).tolist()
        )


@pytest.mark.parametrize("best_anchor", [False, True])
def test_match_equals_torchvision(iou, best_anchor):
    overlapping = iou[(iou > 0).any(dim=1)] if best_anchor else iou
    for high, low in THRESHOLDS:
        matches = match_boxes(overlapping, high, low, best_anchor)
        assert torch.equal(matches, Matcher(high, low, best_anchor)(overlapping))


def test_match_at_the_thresholds(device):
    iou = torch.tensor([[0.7, 0.6999, 0.3, 0.2999, 0.0, 1.0]], device=device)
    expected = [0, NEUTRAL, NEUTRAL, NEGATIVE, NEGATIVE, 0]
    assert match_boxes(iou, 0.7, 0.3).tolist() == expected
    assert match_boxes_loops(iou, 0.7, 0.3).tolist() == expected
    assert Matcher(0.7, 0.3)(iou).tolist() == expected


def test_the_numbers_for_negative_and_neutral_are_torchvisions():
    assert (
        (NEGATIVE, NEUTRAL) == (Matcher.BELOW_LOW_THRESHOLD, Matcher.BETWEEN_THRESHOLDS) == (-1, -2)
    )


def test_match_of_equals_is_the_first_ground_truth(device):
    assert match_boxes(
        torch.tensor([[0.5, 0.8], [0.8, 0.8], [0.8, 0.8]], device=device), 0.5, 0.5
    ).tolist() == [1, 0]


def test_best_anchor_rule_by_hand(device):
    # truth 0 is reached by box 0; truth 1 only just by boxes 1 and 2, which tie
    iou = torch.tensor([[0.9, 0.0, 0.1, 0.2], [0.0, 0.4, 0.4, 0.1]], device=device)
    assert match_boxes(iou, 0.7, 0.3).tolist() == [0, NEUTRAL, NEUTRAL, NEGATIVE]
    assert match_boxes(iou, 0.7, 0.3, allow_low_quality_matches=True).tolist() == [
        0,
        1,
        1,
        NEGATIVE,
    ]


def test_best_anchor_rule_gives_a_box_to_the_truth_that_it_overlaps_most(device):
    # box 0 is the best of truth 1, but itself overlaps truth 0 more
    iou = torch.tensor([[0.4, 0.6], [0.2, 0.1]], device=device)
    assert match_boxes(iou, 0.7, 0.3, allow_low_quality_matches=True).tolist() == [0, 0]


def test_truth_that_overlaps_no_box_claims_none_here_and_all_in_torchvision(device):
    iou = torch.tensor([[0.8, 0.2, 0.0], [0.0, 0.0, 0.0]], device=device)
    assert match_boxes(iou, 0.7, 0.3, allow_low_quality_matches=True).tolist() == [
        0,
        NEGATIVE,
        NEGATIVE,
    ]
    assert match_boxes_loops(iou, 0.7, 0.3, allow_low_quality_matches=True).tolist() == [
        0,
        NEGATIVE,
        NEGATIVE,
    ]
    # torchvision takes 0 for the best overlap of truth 1 and makes every box that ties at 0 positive
    assert Matcher(0.7, 0.3, True)(iou).tolist() == [0, 0, 0]


@pytest.mark.parametrize("best_anchor", [False, True])
def test_without_ground_truth_all_is_negative_here_and_an_error_in_torchvision(device, best_anchor):
    nothing = torch.zeros(0, 3, device=device)
    for match in (match_boxes, match_boxes_loops):
        assert match(nothing, 0.7, 0.3, best_anchor).tolist() == [NEGATIVE] * 3
        assert match(nothing, 0.0, 0.0, best_anchor).tolist() == [NEGATIVE] * 3
    with pytest.raises(ValueError, match="No ground-truth boxes"):
        Matcher(0.7, 0.3, best_anchor)(nothing)


@pytest.mark.parametrize("shape", [(0, 0), (3, 0)])
def test_without_boxes_there_is_nothing_to_match(device, shape):
    nothing = torch.zeros(shape, device=device)
    for match in (match_boxes, match_boxes_loops):
        assert match(nothing, 0.7, 0.3, True).shape == (0,)
    assert (
        match_boxes_one_to_one(nothing).shape == match_boxes_one_to_one_loops(nothing).shape == (0,)
    )


def test_matching_changes_no_argument(iou):
    before = iou.clone()
    match_boxes(iou, 0.7, 0.3, True)
    match_boxes_one_to_one(iou)
    assert torch.equal(iou, before)


def test_layout_in_memory_does_not_matter():
    iou = random_iou((6, 9), 1)
    turned = iou.T.contiguous().T
    assert torch.equal(match_boxes(turned, 0.7, 0.3, True), match_boxes(iou, 0.7, 0.3, True))
    assert torch.equal(match_boxes_one_to_one(turned), match_boxes_one_to_one(iou))


# --- one to one


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7, 1.0])
def test_one_to_one_equals_loops(iou, threshold):
    matches = match_boxes_one_to_one(iou, threshold)
    assert matches.tolist() == match_boxes_one_to_one_loops(iou.cpu(), threshold).tolist()


def crowded_boxes(count, seed):
    corners = torch.randint(
        0, 8, (count, 2, 2), generator=torch.Generator().manual_seed(seed)
    ).float()
    return torch.cat([corners.amin(dim=1), corners.amax(dim=1) + 1], dim=1)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_one_to_one_equals_d2l(seed, threshold):
    truth, anchors = crowded_boxes(5, seed), crowded_boxes(30, seed + 100)
    theirs = d2l.assign_anchor_to_bbox(truth, anchors, "cpu", threshold)
    assert torch.equal(match_boxes_one_to_one(box_iou(truth, anchors), threshold), theirs)


def test_one_to_one_threshold_is_one_half_when_not_told_otherwise(iou):
    assert torch.equal(match_boxes_one_to_one(iou), match_boxes_one_to_one(iou, 0.5))
    assert torch.equal(match_boxes_one_to_one_loops(iou), match_boxes_one_to_one_loops(iou, 0.5))


def test_one_to_one_by_hand(device):
    # the book's steps: 0.9 takes truth 1 and box 2; then 0.6 is crossed out, so 0.5; box 3 by threshold
    iou = torch.tensor([[0.5, 0.1, 0.6, 0.2], [0.2, 0.1, 0.9, 0.7]], device=device)
    assert match_boxes_one_to_one(iou, 0.65).tolist() == [0, NEGATIVE, 1, 1]


def test_two_truths_never_lose_to_each_other_over_one_box(device):
    iou = torch.tensor([[0.4, 0.3], [0.35, 0.0]], device=device)
    assert match_boxes_one_to_one(iou).tolist() == [
        0,
        1,
    ]  # truth 1 gets a box it does not even touch
    assert match_boxes(iou, 0.5, 0.5, allow_low_quality_matches=True).tolist() == [0, NEGATIVE]


def test_fewer_boxes_than_truths_ends_here_and_goes_on_in_d2l():
    truth, anchor = (
        torch.tensor([[0.0, 0.0, 2.0, 1.0], [0.0, 0.0, 2.0, 2.0]]),
        torch.tensor([[0.0, 0.0, 2.0, 2.0]]),
    )
    assert match_boxes_one_to_one(box_iou(truth, anchor)).tolist() == [1]  # an exact fit
    assert d2l.assign_anchor_to_bbox(truth, anchor, "cpu").tolist() == [
        0
    ]  # then overwritten by what was left


def test_one_to_one_without_ground_truth_is_all_negative_here_and_an_error_in_d2l():
    nothing, anchors = torch.zeros(0, 4), crowded_boxes(3, 0)
    for match in (match_boxes_one_to_one, match_boxes_one_to_one_loops):
        assert match(box_iou(nothing, anchors)).tolist() == [NEGATIVE] * 3
    with pytest.raises(IndexError):
        d2l.assign_anchor_to_bbox(nothing, anchors, "cpu")


# --- class targets


def test_class_targets_by_hand(device):
    matches = torch.tensor([2, NEGATIVE, NEUTRAL, 0, 2, 1], device=device)
    labels = torch.tensor([7, 1, 90], device=device)
    for targets in (class_targets, class_targets_loops):
        assert targets(matches, labels).tolist() == [90, 0, -1, 7, 90, 1]
        assert targets(matches, labels).dtype == torch.int64


@pytest.mark.parametrize("seed", range(5))
def test_class_targets_equal_loops(device, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(1, 21, (6,), generator=generator).to(device)
    matches = torch.randint(-2, 6, (50,), generator=generator).to(device)
    assert torch.equal(class_targets(matches, labels), class_targets_loops(matches, labels))


def test_class_targets_without_ground_truth_or_boxes(device):
    none = torch.zeros(0, dtype=torch.int64, device=device)
    matches = torch.tensor([NEGATIVE, NEUTRAL], device=device)
    for targets in (class_targets, class_targets_loops):
        assert targets(matches, none).tolist() == [0, -1]
        assert targets(none, none).shape == targets(none, torch.ones_like(matches)).shape == (0,)


# --- sampling

LABELS = {
    "mixed": [1, 0, 0, -1, 3, 0, 0, 0, 2, -1, 0, 0, 5],
    "no positives": [0, 0, -1, 0, 0],
    "no negatives": [1, -1, 2, 9],
    "all neutral": [-1, -1, -1],
    "nothing": [],
    "many": [0] * 300 + [4] * 200 + [-1] * 100,
}
BATCHES = [
    (8, 0.5),
    (7, 0.5),
    (0, 0.5),
    (4, 0.0),
    (4, 1.0),
    (1000, 0.25),
    (256, 0.5),
    (3, 0.34),
    (9, 0.3),
]


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("batch", BATCHES, ids=str)
def test_sample_equals_torchvision_draw_for_draw(device, name, batch):
    labels = torch.tensor(LABELS[name], dtype=torch.int64, device=device)
    torch.manual_seed(0)
    ours = balanced_sample(labels, *batch)
    torch.manual_seed(0)
    theirs = BalancedPositiveNegativeSampler(*batch)([labels])
    for mask, (their_mask,) in zip(ours, theirs, strict=True):
        assert mask.dtype == torch.bool
        assert torch.equal(mask, their_mask.bool())


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("batch", BATCHES, ids=str)
def test_sample_equals_loops_draw_for_draw(name, batch):
    labels = torch.tensor(LABELS[name], dtype=torch.int64)
    ours = balanced_sample(labels, *batch, generator=torch.Generator().manual_seed(5))
    loops = balanced_sample_loops(labels, *batch, generator=torch.Generator().manual_seed(5))
    for mask, other in zip(ours, loops, strict=True):
        assert torch.equal(mask, other)


def test_sample_by_hand(device):
    labels = torch.tensor([1] * 10 + [0] * 10 + [-1] * 10, device=device)
    # 0.5 of 7 is 3.5: three positives, and negatives fill the batch up
    positive, negative = balanced_sample(labels, 7, 0.5)
    assert (int(positive[:10].sum()), int(positive.sum())) == (3, 3)
    assert (int(negative[10:20].sum()), int(negative.sum())) == (4, 4)


def test_sample_is_drawn_from_all(device):
    labels = torch.tensor([1] * 5 + [0] * 5, device=device)
    drawn = torch.zeros(10, dtype=torch.int64, device=device)
    for _ in range(60):
        positive, negative = balanced_sample(labels, 4, 0.5)
        drawn += positive.long() + negative.long()
    assert (drawn > 0).all()  # each is left out of 60 draws with a chance of 5e-14


def test_sample_repeats_with_its_generator_and_leaves_the_global_one_alone():
    labels = torch.tensor(LABELS["many"])
    state = torch.get_rng_state()
    first = balanced_sample(labels, 64, 0.5, generator=torch.Generator().manual_seed(1))
    again = balanced_sample(labels, 64, 0.5, generator=torch.Generator().manual_seed(1))
    other = balanced_sample(labels, 64, 0.5, generator=torch.Generator().manual_seed(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
