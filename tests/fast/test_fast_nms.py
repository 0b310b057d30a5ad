"""course_utils.fast.nms: plain = fast = torchvision, in little memory."""

import math

import pytest
import torch
from torchvision import ops as tv

from course_utils.fast import nms as module
from course_utils.fast.nms import batched_nms, nms
from course_utils.ops import nms as plain
from tests.ops.scored_boxes import (
    THRESHOLDS,
    cluster,
    crowd,
    distinct_scores,
    spread_boxes,
    tied_scores,
    torchvision_per_class,
)
from tools.bench_memory import peak_bytes

MB = 10**6


@pytest.fixture(params=[(2**18, 1024), (40, 7)], ids=["as it is", "small blocks"])
def pairs(request, monkeypatch):
    """So few boxes and pairs at a time that the small cases, too, are done in many blocks."""
    monkeypatch.setattr(module, "PAIRS", request.param[0])
    monkeypatch.setattr(module, "BLOCK", request.param[1])


@pytest.mark.usefixtures("pairs")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make_scores", [tied_scores, distinct_scores])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_nms_equals_plain_and_torchvision(device, seed, make_scores, dtype):
    boxes, scores = crowd(60, seed).to(device, dtype), make_scores(60, seed).to(device, dtype)
    wide = torch.promote_types(dtype, torch.float32)
    for threshold in THRESHOLDS:
        keep = nms(boxes, scores, threshold)
        assert keep.dtype == torch.int64
        assert keep.tolist() == plain.nms(boxes, scores, threshold).tolist(), threshold
        theirs = tv.nms(boxes.cpu().to(wide), scores.cpu().to(wide), threshold)
        assert keep.tolist() == theirs.tolist(), threshold


@pytest.mark.usefixtures("pairs")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make_scores", [tied_scores, distinct_scores])
@pytest.mark.parametrize("low", [0, -6])
def test_batched_nms_equals_plain_and_torchvision(device, seed, make_scores, low):
    boxes, scores = crowd(60, seed, low=low).to(device), make_scores(60, seed).to(device)
    idxs = torch.randint(-1, 3, (60,), generator=torch.Generator().manual_seed(seed)).to(device)
    for threshold in THRESHOLDS:
        keep = batched_nms(boxes, scores, idxs, threshold)
        assert keep.tolist() == plain.batched_nms(boxes, scores, idxs, threshold).tolist()
        theirs = torchvision_per_class(boxes.cpu(), scores.cpu(), idxs.cpu(), threshold)
        assert keep.tolist() == theirs.tolist()


def chain(length):
    """Each box overlaps its neighbours only: the second falls, which saves the third, and so on."""
    left = torch.arange(length) * 6.0
    return torch.stack([left, left * 0, left + 10, left * 0 + 10], dim=1)


far = 1e6 + torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.6875, 0.0, 1.0, 1.0]])  # IoU 0.3125
one = torch.tensor([[1.0, 1.0, 3.0, 3.0]])
EDGES = {
    "no boxes": (torch.zeros(0, 4), torch.zeros(0)),
    "one box": (one, torch.tensor([0.5])),
    "equal boxes, equal scores": (one.repeat(50, 1), torch.ones(50)),
    "equal boxes": (one.repeat(50, 1), distinct_scores(50, 0)),
    "a chain": (chain(301), torch.linspace(1, 0.5, 301)),
    "a chain, last box first": (chain(301), torch.linspace(0.5, 1, 301)),
    "points and lines": (
        torch.tensor([[3.0, 3.0, 3.0, 3.0], [3.0, 3.0, 3.0, 3.0], [0.0, 3.0, 6.0, 3.0]]),
        torch.tensor([0.9, 0.8, 0.7]),
    ),
    "far from the origin": (far, torch.tensor([0.9, 0.8])),
    "far, the right box first": (far, torch.tensor([0.8, 0.9])),
    "a million": (crowd(40, 7, low=-6) * 1e6, distinct_scores(40, 7)),
    "a million billion": (crowd(40, 7, low=-6) * 1e15, distinct_scores(40, 7)),
    "infinite scores": (one.repeat(3, 1), torch.tensor([-math.inf, 3.0, math.inf])),
}


@pytest.mark.usefixtures("pairs")
@pytest.mark.parametrize("name", EDGES)
def test_edges_equal_plain_and_torchvision(device, name):
    boxes, scores = (tensor.to(device) for tensor in EDGES[name])
    idxs = torch.arange(len(boxes), device=device) % 2 * 2**60 - 5
    for threshold in (0.0, 0.2, 0.31, 0.32, 0.6, 1.0):
        keep = nms(boxes, scores, threshold)
        assert keep.tolist() == plain.nms(boxes, scores, threshold).tolist(), threshold
        assert keep.tolist() == tv.nms(boxes.cpu(), scores.cpu(), threshold).tolist(), threshold
        keep = batched_nms(boxes, scores, idxs, threshold)
        assert keep.tolist() == plain.batched_nms(boxes, scores, idxs, threshold).tolist()


@pytest.mark.parametrize("tenths", range(11))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_iou_exactly_at_the_threshold(device, dtype, tenths):
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, tenths]], dtype=dtype, device=device)
    scores = torch.tensor([0.9, 0.8], dtype=dtype, device=device)
    expected = tv.nms(boxes.cpu(), scores.cpu(), tenths / 10).tolist()
    assert nms(boxes, scores, tenths / 10).tolist() == expected


def test_layout_in_memory_does_not_matter():
    boxes, scores = crowd(30, 9), distinct_scores(30, 9)
    apart = torch.stack([scores, scores], dim=1)[:, 0]
    assert torch.equal(nms(boxes.T.contiguous().T, apart, 0.4), nms(boxes, scores, 0.4))


def test_boxes_stay_as_they_are_and_may_require_a_gradient():
    boxes = crowd(30, 9).double().requires_grad_()
    before, scores = boxes.detach().clone(), distinct_scores(30, 9)
    idxs = torch.arange(30) % 3
    keep, per_class = nms(boxes, scores, 0.4), batched_nms(boxes, scores, idxs, 0.4)
    assert torch.equal(boxes, before)
    assert torch.equal(keep, plain.nms(before, scores, 0.4))
    assert torch.equal(per_class, plain.batched_nms(before, scores, idxs, 0.4))


# --- many boxes


def random_scores(count):
    return torch.rand(count, generator=torch.Generator().manual_seed(1))


def test_memory_of_spread_boxes():
    boxes, scores, kept = spread_boxes(20_000), random_scores(20_000), []
    assert peak_bytes(lambda: kept.append(nms(boxes, scores, 0.5)), "cpu") < 100 * MB
    assert torch.equal(kept[0], tv.nms(boxes, scores, 0.5))


@pytest.mark.parametrize("threshold", [0.3, 0.7, 0.95, 1.0])
def test_memory_of_one_cluster(threshold):
    # few or nearly all are kept; no two of them are apart
    boxes, scores, kept = cluster(10_000), random_scores(10_000), []
    assert peak_bytes(lambda: kept.append(nms(boxes, scores, threshold)), "cpu") < 200 * MB
    assert torch.equal(kept[0], tv.nms(boxes, scores, threshold))


def test_memory_of_equal_boxes():
    boxes, scores, kept = one.repeat(10_000, 1), random_scores(10_000), []
    assert peak_bytes(lambda: kept.append(nms(boxes, scores, 0.5)), "cpu") < 200 * MB
    assert kept[0].tolist() == [int(scores.argmax())]


def test_memory_of_many_classes():
    boxes, scores, kept = spread_boxes(20_000), random_scores(20_000), []
    idxs = torch.randint(80, (20_000,), generator=torch.Generator().manual_seed(2))
    call = lambda: kept.append(batched_nms(boxes, scores, idxs, 0.5))  # noqa: E731
    assert peak_bytes(call, "cpu") < 100 * MB
    assert torch.equal(kept[0], torchvision_per_class(boxes, scores, idxs, 0.5))


def test_30_000_boxes():
    boxes, scores = spread_boxes(30_000), random_scores(30_000)
    keep = nms(boxes, scores, 0.3)
    assert torch.equal(keep, tv.nms(boxes, scores, 0.3))


@pytest.mark.long
def test_100_000_boxes():
    boxes, scores, kept = spread_boxes(100_000), random_scores(100_000), []
    assert peak_bytes(lambda: kept.append(nms(boxes, scores, 0.5)), "cpu") < 100 * MB
    assert torch.equal(kept[0], tv.nms(boxes, scores, 0.5))
