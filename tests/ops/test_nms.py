"""course_utils.ops.nms: loops = vectorised = torchvision = D2L."""

import math

import pytest
import torch
from d2l import torch as d2l
from torchvision import ops as tv

from course_utils.ops.nms import batched_nms, batched_nms_loops, nms, nms_loops
from tests.ops.scored_boxes import (
    THRESHOLDS,
    crowd,
    distinct_scores,
    tied_scores,
    torchvision_per_class,
)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make_scores", [tied_scores, distinct_scores])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nms_equals_torchvision_and_loops(device, seed, make_scores, dtype):
    boxes, scores = crowd(40, seed).to(device, dtype), make_scores(40, seed).to(device, dtype)
    for threshold in THRESHOLDS:
        keep = nms(boxes, scores, threshold)
        assert keep.tolist() == tv.nms(boxes.cpu(), scores.cpu(), threshold).tolist(), threshold
        assert keep.tolist() == nms_loops(boxes, scores, threshold).tolist(), threshold


@pytest.mark.parametrize("seed", range(3))
def test_nms_equals_d2l(seed):
    boxes, scores = crowd(40, seed), distinct_scores(40, seed)  # D2L's sort is not stable
    boxes = boxes[
        (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    ]  # and its IoU of boxes without area is nan
    scores = scores[: len(boxes)]
    for threshold in (0.1, 0.4, 0.55, 0.8):
        assert torch.equal(
            nms(boxes.double(), scores, threshold), d2l.nms(boxes.double(), scores, threshold)
        )


def test_far_from_the_origin_where_float32_has_steps_of_a_sixteenth():
    boxes = 1e6 + torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.6875, 0.0, 1.0, 1.0]])  # IoU 0.3125
    scores = torch.tensor([0.9, 0.8])
    for threshold in (0.3, 0.31, 0.32):
        assert nms(boxes, scores, threshold).tolist() == tv.nms(boxes, scores, threshold).tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tenths", range(11))
def test_iou_exactly_at_the_threshold(device, dtype, tenths):
    # IoU is tenths / 10; rounded to float32 some of these, such as 0.3 and 0.6, lie above the threshold
    boxes = torch.tensor(
        [[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, tenths]], dtype=dtype, device=device
    )
    scores = torch.tensor([0.9, 0.8], dtype=dtype, device=device)
    keep = nms(boxes, scores, tenths / 10).tolist()
    assert keep == tv.nms(boxes.cpu(), scores.cpu(), tenths / 10).tolist()
    assert keep == nms_loops(boxes, scores, tenths / 10).tolist()
    above = torch.tensor(tenths / 10, dtype=dtype).item() > tenths / 10
    assert keep == ([0] if above else [0, 1])


@pytest.mark.parametrize("threshold", [0.3, 0.6])
def test_d2l_rounds_the_threshold_to_float32_too_and_keeps_such_a_box(threshold):
    boxes, scores = (
        torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 10 * threshold]]),
        torch.tensor([0.9, 0.8]),
    )
    assert d2l.nms(boxes, scores, threshold).tolist() == [0, 1]
    assert nms(boxes, scores, threshold).tolist() == [0]


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_no_boxes_and_one_box(device, threshold):
    none = torch.zeros(0, 4, device=device), torch.zeros(0, device=device)
    one = torch.tensor([[1.0, 1.0, 3.0, 3.0]], device=device), torch.tensor([0.5], device=device)
    for suppress in (nms, nms_loops):
        assert suppress(*none, threshold).shape == (0,)
        assert suppress(*none, threshold).dtype == torch.int64
        assert suppress(*one, threshold).tolist() == [0]
    for suppress in (batched_nms, batched_nms_loops):
        assert suppress(
            *none, torch.zeros(0, dtype=torch.int64, device=device), threshold
        ).shape == (0,)
        assert suppress(*one, torch.tensor([7], device=device), threshold).tolist() == [0]


def test_equal_boxes_with_equal_scores_leave_the_first(device):
    boxes, scores = (
        torch.tensor([[1.0, 1.0, 3.0, 3.0]], device=device).expand(50, 4),
        torch.ones(50, device=device),
    )
    for suppress in (nms, nms_loops):
        assert suppress(boxes, scores, 0.5).tolist() == [0]
        assert suppress(boxes, scores, 1.0).tolist() == list(range(50))  # 1 is not above 1
    assert tv.nms(boxes.cpu().contiguous(), scores.cpu(), 0.5).tolist() == [0]


@pytest.mark.parametrize("length", [2, 3, 50, 301])
def test_a_chain_leaves_every_other_box(device, length):
    # each box overlaps its neighbours only: the second falls, which saves the third, which fells the fourth
    left = torch.arange(length, device=device) * 6.0
    boxes = torch.stack([left, left * 0, left + 10, left * 0 + 10], dim=1)
    scores = torch.linspace(1, 0.5, length, device=device)
    assert nms(boxes, scores, 0.2).tolist() == list(range(0, length, 2))


def test_only_a_box_that_stands_can_suppress(device):
    boxes = torch.tensor(
        [[0.0, 0.0, 10.0, 10.0], [4.0, 0.0, 14.0, 10.0], [8.0, 0.0, 18.0, 10.0]], device=device
    )
    scores = torch.tensor([0.9, 0.8, 0.7], device=device)
    assert nms(boxes, scores, 0.3).tolist() == [0, 2]


def test_boxes_without_area_never_suppress(device):
    boxes = torch.tensor(
        [[3.0, 3.0, 3.0, 3.0], [3.0, 3.0, 3.0, 3.0], [0.0, 3.0, 6.0, 3.0]], device=device
    )
    scores = torch.tensor([0.9, 0.8, 0.7], device=device)
    assert (
        nms(boxes, scores, 0.0).tolist()
        == tv.nms(boxes.cpu(), scores.cpu(), 0.0).tolist()
        == [0, 1, 2]
    )


@pytest.mark.parametrize("scale", [1e6, 1e15])
def test_huge_and_negative_coordinates(device, scale):
    boxes, scores = (crowd(40, 7, low=-6) * scale).to(device), distinct_scores(40, 7).to(device)
    for threshold in (0.2, 0.45):
        keep = nms(boxes, scores, threshold).tolist()
        assert keep == tv.nms(boxes.cpu(), scores.cpu(), threshold).tolist()
        assert keep == nms_loops(boxes, scores, threshold).tolist()


def test_infinite_scores_have_an_order_too(device):
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0]], device=device).expand(3, 4)
    assert nms(boxes, torch.tensor([-math.inf, 3.0, math.inf], device=device), 0.5).tolist() == [2]
    assert nms(boxes, torch.tensor([-math.inf, 3.0, 2.0], device=device), 0.5).tolist() == [1]


def test_half_precision(device):
    boxes, scores = crowd(40, 8).to(device), tied_scores(40, 8).to(device)
    for threshold in (0.3, 0.6):
        keep = nms(boxes.half(), scores.half(), threshold)
        assert torch.equal(keep, nms(boxes, scores.half().float(), threshold))
        assert keep.tolist() == nms_loops(boxes.half(), scores.half(), threshold).tolist()


def test_layout_in_memory_does_not_matter():
    boxes, scores = crowd(30, 9), distinct_scores(30, 9)
    doubled = torch.stack([scores, scores], dim=1)[:, 0]
    assert not doubled.is_contiguous()
    assert torch.equal(nms(boxes.T.contiguous().T, doubled, 0.4), nms(boxes, scores, 0.4))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make_scores", [tied_scores, distinct_scores])
@pytest.mark.parametrize("low", [0, -6])
def test_batched_nms_equals_torchvision_class_by_class_and_loops(device, seed, make_scores, low):
    boxes, scores = crowd(50, seed, low=low).to(device), make_scores(50, seed).to(device)
    idxs = torch.randint(-1, 3, (50,), generator=torch.Generator().manual_seed(seed)).to(device)
    for threshold in THRESHOLDS:
        keep = batched_nms(boxes, scores, idxs, threshold)
        per_class = torchvision_per_class(boxes.cpu(), scores.cpu(), idxs.cpu(), threshold)
        assert keep.tolist() == per_class.tolist(), threshold
        assert keep.tolist() == batched_nms_loops(boxes, scores, idxs, threshold).tolist(), (
            threshold
        )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "count", [100, 1200]
)  # torchvision has two ways: few boxes are shifted, many looped over
def test_batched_nms_equals_torchvision(seed, count):
    boxes, scores = crowd(count, seed, size=40), distinct_scores(count, seed)
    idxs = torch.randint(0, 4, (count,), generator=torch.Generator().manual_seed(seed))
    for threshold in (0.2, 0.45, 0.7):
        assert torch.equal(
            batched_nms(boxes, scores, idxs, threshold),
            tv.batched_nms(boxes, scores, idxs, threshold),
        )


def test_classes_do_not_compete(device):
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0]], device=device).expand(4, 4)
    scores = torch.tensor([0.1, 0.4, 0.3, 0.2], device=device)
    idxs = torch.tensor([5, 9, 5, 9], device=device)
    for suppress in (batched_nms, batched_nms_loops):
        assert suppress(boxes, scores, idxs, 0.5).tolist() == [1, 2]


def test_the_boxes_stay_as_they_are():
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [1.0, 0.0, 9.0, 9.0]], dtype=torch.float64)
    before = boxes.clone()
    batched_nms(boxes, torch.tensor([0.5, 0.6]), torch.tensor([0, 7]), 0.5)
    assert torch.equal(boxes, before)


def test_classes_with_far_numbers_keep_their_precision():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 10.01], [0.0, 0.0, 10.0, 10.0]])
    idxs = torch.tensor([2**60, 2**60, -(2**60)])
    kept = batched_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), idxs, 0.5)
    assert kept.tolist() == [0, 2]
