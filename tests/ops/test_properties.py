"""What must hold for any boxes: laws of course_utils.ops, tried on inputs that hypothesis looks for."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from course_utils.ops.assignment import (
    NEGATIVE,
    NEUTRAL,
    balanced_sample,
    class_targets,
    match_boxes,
    match_boxes_one_to_one,
)
from course_utils.ops.box_coding import decode_boxes, encode_boxes
from course_utils.ops.boxes import (
    box_area,
    box_convert,
    box_iou,
    clip_boxes_to_image,
    generalized_box_iou,
)
from course_utils.ops.nms import batched_nms, nms

law = settings(max_examples=60, deadline=None, derandomize=True, database=None)

# Two kinds of numbers: a coarse grid, where boxes touch and tie, and quarters up to a million, far apart.
# Both are exact in float64 together with their sums and areas.
coordinate = st.integers(-6, 6).map(float) | st.integers(-4_000_000, 4_000_000).map(
    lambda number: number / 4
)
fraction = st.integers(0, 10).map(lambda tenths: tenths / 10)


@st.composite
def boxes_of(draw, min_size=0, max_size=8, sized=False):
    rows = draw(st.lists(st.tuples(*[coordinate] * 4), min_size=min_size, max_size=max_size))
    gap = 1.0 if sized else 0.0
    ordered = [
        [min(x1, x2), min(y1, y2), max(x1, x2) + gap, max(y1, y2) + gap] for x1, y1, x2, y2 in rows
    ]
    return torch.tensor(ordered, dtype=torch.float64).reshape(-1, 4)


@st.composite
def scored_boxes(draw):
    """Boxes on a grid so coarse that they overlap, with scores that all differ."""
    count = draw(st.integers(0, 12))
    numbers = draw(st.lists(st.tuples(*[st.integers(0, 6)] * 4), min_size=count, max_size=count))
    ordered = [
        [min(x1, x2), min(y1, y2), max(x1, x2) + 1, max(y1, y2) + 1] for x1, y1, x2, y2 in numbers
    ]
    scores = draw(st.permutations(range(count)))
    return torch.tensor(ordered, dtype=torch.float64).reshape(-1, 4), torch.tensor(
        scores, dtype=torch.float64
    )


@st.composite
def overlaps(draw):
    truths, boxes = draw(st.integers(0, 5)), draw(st.integers(0, 8))
    rows = draw(st.lists(fraction, min_size=truths * boxes, max_size=truths * boxes))
    return torch.tensor(rows).reshape(truths, boxes)


# --- area, IoU, GIoU


@law
@given(boxes_of())
def test_area_is_never_negative(boxes):
    assert (box_area(boxes) >= 0).all()


@law
@given(boxes_of(), boxes_of())
def test_iou_and_giou_stay_in_range_and_giou_is_the_smaller(boxes1, boxes2):
    iou, giou = box_iou(boxes1, boxes2), generalized_box_iou(boxes1, boxes2)
    assert ((iou >= 0) & (iou <= 1)).all()
    assert ((giou >= -1) & (giou <= iou + 1e-12)).all()


@law
@given(boxes_of(), boxes_of())
def test_iou_and_giou_are_symmetric(boxes1, boxes2):
    assert torch.equal(box_iou(boxes1, boxes2), box_iou(boxes2, boxes1).T)
    assert torch.equal(generalized_box_iou(boxes1, boxes2), generalized_box_iou(boxes2, boxes1).T)


@law
@given(boxes_of(sized=True))
def test_a_box_overlaps_itself_wholly(boxes):
    assert (box_iou(boxes, boxes).diagonal() == 1).all()
    assert (generalized_box_iou(boxes, boxes).diagonal() == 1).all()


@law
@given(boxes_of(), boxes_of(), st.sampled_from([0.25, 2.0, 1024.0]), coordinate, coordinate)
def test_iou_and_giou_do_not_change_when_the_picture_is_enlarged_or_moved(
    boxes1, boxes2, scale, dx, dy
):
    move = torch.tensor([dx, dy, dx, dy], dtype=torch.float64)
    for overlap in (box_iou, generalized_box_iou):
        assert_close(overlap(boxes1 * scale + move, boxes2 * scale + move), overlap(boxes1, boxes2))


@law
@given(boxes_of(), boxes_of())
def test_iou_is_above_zero_only_where_boxes_share_an_area(boxes1, boxes2):
    apart_x = (boxes1[:, None, 2] <= boxes2[:, 0]) | (boxes2[:, 2] <= boxes1[:, None, 0])
    apart_y = (boxes1[:, None, 3] <= boxes2[:, 1]) | (boxes2[:, 3] <= boxes1[:, None, 1])
    area = (box_area(boxes1)[:, None] > 0) & (box_area(boxes2) > 0)
    assert torch.equal(box_iou(boxes1, boxes2) > 0, ~apart_x & ~apart_y & area)


# --- clip, convert, encode, decode


@law
@given(boxes_of(), st.integers(1, 1000), st.integers(1, 1000))
def test_clipped_boxes_lie_in_the_image_and_clipping_again_changes_nothing(boxes, height, width):
    clipped = clip_boxes_to_image(boxes, (height, width))
    assert (clipped >= 0).all()
    assert (clipped[:, ::2] <= width).all()
    assert (clipped[:, 1::2] <= height).all()
    assert torch.equal(clip_boxes_to_image(clipped, (height, width)), clipped)


@law
@given(
    boxes_of(),
    st.sampled_from(["xyxy", "xywh", "cxcywh"]),
    st.sampled_from(["xyxy", "xywh", "cxcywh"]),
)
def test_converting_there_and_back_changes_nothing(boxes, first, second):
    there = box_convert(boxes, "xyxy", first)
    assert torch.equal(box_convert(box_convert(there, first, second), second, first), there)
    assert torch.equal(box_convert(there, first, "xyxy"), boxes)


weights_of = st.tuples(*[st.sampled_from([0.5, 1.0, 5.0, 10.0])] * 4)


@law
@given(st.data(), st.integers(0, 8), weights_of)
def test_decode_undoes_encode(data, count, weights):
    truth = data.draw(boxes_of(count, count, sized=True))
    proposals = data.draw(boxes_of(count, count, sized=True))
    decoded = decode_boxes(
        encode_boxes(truth, proposals, weights), proposals, weights, bbox_xform_clip=math.inf
    )
    assert_close(decoded, truth, rtol=1e-9, atol=1e-5)


@law
@given(st.data(), st.integers(0, 8), weights_of)
def test_encode_undoes_decode(data, count, weights):
    number = st.floats(-3, 3)
    codes = data.draw(st.lists(st.tuples(*[number] * 4), min_size=count, max_size=count))
    codes = torch.tensor(codes, dtype=torch.float64).reshape(-1, 4)
    proposals = data.draw(boxes_of(count, count, sized=True))
    truth = decode_boxes(codes, proposals, weights, bbox_xform_clip=math.inf)
    assert_close(encode_boxes(truth, proposals, weights), codes, rtol=1e-5, atol=1e-5)


# --- matching, sampling


@law
@given(overlaps(), fraction, fraction)
def test_a_box_is_positive_neutral_or_negative_by_its_best_overlap(iou, one, other):
    low, high = sorted((one, other))
    matches = match_boxes(iou, high, low)
    best = iou.amax(dim=0) if len(iou) else torch.full((iou.shape[1],), -1.0)
    assert torch.equal(matches >= 0, best >= high)
    assert torch.equal(matches == NEUTRAL, (best >= low) & (best < high))
    assert torch.equal(matches == NEGATIVE, best < low)
    paired = torch.nonzero(matches >= 0)[:, 0]
    assert torch.equal(iou[matches[paired], paired], best[paired])


@law
@given(overlaps(), fraction, fraction)
def test_the_best_anchor_rule_only_adds_positives_and_reaches_every_truth_that_overlaps(
    iou, one, other
):
    low, high = sorted((one, other))
    plain, saved = (
        match_boxes(iou, high, low),
        match_boxes(iou, high, low, allow_low_quality_matches=True),
    )
    assert torch.equal(saved[plain >= 0], plain[plain >= 0])
    assert set(saved[plain < 0].tolist()) <= {*range(len(iou)), NEGATIVE, NEUTRAL}
    if iou.shape[1]:
        for overlap in iou:
            best_boxes = saved[(overlap == overlap.max()) & (overlap > 0)]
            assert (best_boxes >= 0).all()
    assert (saved[iou.sum(dim=0) == 0] == plain[iou.sum(dim=0) == 0]).all()


@law
@given(overlaps(), fraction)
def test_one_to_one_gives_every_truth_a_box_while_there_are_boxes(iou, threshold):
    matches = match_boxes_one_to_one(iou, threshold)
    assert len(set(matches[matches >= 0].tolist())) >= min(iou.shape)
    assert (matches >= NEGATIVE).all() and (matches < max(len(iou), 1)).all()
    if len(iou):
        assert (matches[iou.amax(dim=0) >= threshold] >= 0).all()
        assert int((matches[iou.amax(dim=0) < threshold] >= 0).sum()) <= len(iou)


@law
@given(overlaps())
def test_class_targets_follow_the_matches(iou):
    matches, labels = match_boxes(iou, 0.7, 0.3), torch.arange(len(iou)) + 11
    targets = class_targets(matches, labels)
    assert torch.equal(targets == 0, matches == NEGATIVE)
    assert torch.equal(targets == -1, matches == NEUTRAL)
    assert torch.equal(targets[matches >= 0], matches[matches >= 0] + 11)


@law
@given(st.lists(st.integers(-1, 3), max_size=40), st.integers(0, 50), fraction)
def test_a_sample_has_the_right_counts_and_no_neutral_box(labels, batch_size, positive_fraction):
    labels = torch.tensor(labels, dtype=torch.int64)
    positive, negative = balanced_sample(labels, batch_size, positive_fraction)
    assert (labels[positive] >= 1).all()
    assert (labels[negative] == 0).all()
    positives, negatives = int((labels >= 1).sum()), int((labels == 0).sum())
    assert int(positive.sum()) == min(positives, int(batch_size * positive_fraction))
    assert int(negative.sum()) == min(negatives, batch_size - int(positive.sum()))
    assert not (positive & negative).any()


# --- non-maximum suppression


@law
@given(scored_boxes(), fraction)
def test_kept_boxes_are_apart_and_every_dropped_one_overlaps_a_better_kept_one(scored, threshold):
    boxes, scores = scored
    keep = nms(boxes, scores, threshold)
    assert torch.equal(scores[keep], scores[keep].sort(descending=True).values)
    iou = box_iou(boxes, boxes)
    assert (iou[keep][:, keep].fill_diagonal_(0) <= threshold).all()
    for dropped in set(range(len(boxes))) - set(keep.tolist()):
        better = keep[scores[keep] > scores[dropped]]
        assert (iou[better, dropped] > threshold).any()


@law
@given(scored_boxes(), fraction, st.randoms(use_true_random=False))
def test_the_order_in_which_boxes_come_does_not_matter(scored, threshold, random):
    boxes, scores = scored
    shuffled = list(range(len(boxes)))
    random.shuffle(shuffled)
    shuffled = torch.tensor(shuffled, dtype=torch.int64)
    assert torch.equal(
        shuffled[nms(boxes[shuffled], scores[shuffled], threshold)], nms(boxes, scores, threshold)
    )


@law
@given(scored_boxes(), fraction, st.data())
def test_batched_nms_is_nms_of_each_class(scored, threshold, data):
    boxes, scores = scored
    idxs = data.draw(st.lists(st.integers(0, 2), min_size=len(boxes), max_size=len(boxes)))
    idxs = torch.tensor(idxs, dtype=torch.int64)
    keep = batched_nms(boxes, scores, idxs, threshold)
    for label in idxs.unique():
        members = torch.nonzero(idxs == label)[:, 0]
        alone = members[nms(boxes[members], scores[members], threshold)]
        assert torch.equal(keep[idxs[keep] == label], alone)
