"""Non-maximum suppression: of many boxes on one object, keep the one with the highest score."""

import math

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from course_utils.core import check_boxes, check_fraction, check_same_device, check_shape
from course_utils.fast.boxes import _overlaps, _ratio, box_iou_loops


def nms_loops(
    boxes: Float[Tensor, "n 4"], scores: Float[Tensor, " n"], iou_threshold: float
) -> Int64[Tensor, " k"]:
    """`nms` written out: best box first, keep it, cross out what overlaps it, repeat."""
    iou = box_iou_loops(boxes, boxes)
    # Best first; equal scores stay in order.
    waiting = sorted(range(len(boxes)), key=lambda i: -scores[i].item())
    keep = []
    while waiting:
        best = waiting.pop(0)
        keep.append(best)
        waiting = [other for other in waiting if iou[best, other].item() <= iou_threshold]
    return torch.tensor(keep, dtype=torch.int64)


def _side_by_side(boxes: Tensor, idxs: Tensor) -> Tensor:
    """The boxes of each class moved along the x axis to a place of their own, where they meet no others."""
    if not len(boxes):
        return boxes
    moved = boxes.to(torch.float64, copy=True)  # room for the large numbers
    place = idxs.unique(return_inverse=True)[1]
    moved[:, ::2] += (place * (moved[:, 2].max() - moved[:, 0].min() + 1))[:, None]
    return moved


def _near_pairs(boxes: Tensor, iou_threshold: float) -> tuple[Tensor, Tensor]:
    """The pairs of boxes that may overlap by more than the threshold, found by sweeping along the x axis.

    In the order of x1, a box is near those after it that start within its first 1 - threshold: with the
    others it shares less than the threshold of its own width. Of boxes all over a picture, a few
    pairs in a hundred are left.
    """
    order = boxes[:, 0].argsort()
    x1, y1, x2, y2 = boxes[order].T.contiguous()
    place = torch.arange(1, len(boxes) + 1, device=boxes.device)
    # A hair further, against rounding.
    reach = x2 - (0.9999 * iou_threshold) * (x2 - x1)
    end = torch.searchsorted(x1, reach)
    count = (end - place).clamp(min=0)
    step = place - (count.cumsum(0) - count)
    second = torch.arange(int(count.sum()), device=boxes.device) + step.repeat_interleave(count)
    top = torch.maximum(y1.repeat_interleave(count), y1.index_select(0, second))
    bottom = torch.minimum(y2.repeat_interleave(count), y2.index_select(0, second))
    meet = (top < bottom).nonzero()[:, 0]
    return order.repeat_interleave(count)[meet], order[second[meet]]


def _survivors(better: Tensor, worse: Tensor, count: int) -> Tensor:
    """The greedy answer in parallel: a box falls if a better one, that stands, suppresses it.

    Start with all standing and apply that sentence until nothing changes. After round r the first r
    boxes of every chain of suppressions are settled, so the rounds needed are the longest chain, rarely
    more than ten.
    """
    stands = torch.ones(count, dtype=torch.bool, device=better.device)
    for _ in range(count):
        update = torch.ones_like(stands)
        update[worse[stands[better]]] = False
        if torch.equal(update, stands):
            break
        stands = update
    return stands


def _float32_threshold(iou_threshold: float) -> float:
    """The largest float32 not above the threshold: float32(0.3) itself is a little above 0.3."""
    rounded = np.float32(iou_threshold)
    if float(rounded) > iou_threshold:
        rounded = np.nextafter(rounded, np.float32(-math.inf))
    return float(rounded)


def nms(
    boxes: Float[Tensor, "n 4"], scores: Float[Tensor, " n"], iou_threshold: float
) -> Int64[Tensor, " k"]:
    """Keep the best box, drop all that overlap it by more than `iou_threshold`, go on with the next.

    Args:
        boxes: `x1, y1, x2, y2` in pixels.
        scores: one a box; higher is better, and of equal scores the first box goes first.
        iou_threshold: a box goes when its IoU with a kept box is above this.

    Returns:
        The indices of the kept boxes, by falling score.

    Raises:
        TypeError: not a tensor, or not of numbers that fit.
        ValueError: a wrong shape, a nan, swapped corners, a threshold outside 0..1, or different devices.

    Source: same as `torchvision.ops.nms`. D2L's `nms` is the loop.

    >>> boxes = torch.tensor(
    ...     [[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [20.0, 0.0, 30.0, 10.0]]
    ... )
    >>> nms(boxes, torch.tensor([0.6, 0.9, 0.3]), 0.5)
    tensor([1, 2])
    """
    check_shape("boxes", boxes, "n", 4)
    one_class = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    return batched_nms(boxes, scores, one_class, iou_threshold)


def batched_nms_loops(
    boxes: Float[Tensor, "n 4"],
    scores: Float[Tensor, " n"],
    idxs: Int64[Tensor, " n"],
    iou_threshold: float,
) -> Int64[Tensor, " k"]:
    """`batched_nms` written out: `nms_loops` for each class, then all survivors by falling score."""
    keep = []
    for label in idxs.unique():
        members = torch.nonzero(idxs == label)[:, 0]
        keep += members[nms_loops(boxes[members], scores[members], iou_threshold)].tolist()
    return torch.tensor(sorted(keep, key=lambda i: (-scores[i].item(), i)), dtype=torch.int64)


def batched_nms(
    boxes: Float[Tensor, "n 4"],
    scores: Float[Tensor, " n"],
    idxs: Int64[Tensor, " n"],
    iou_threshold: float,
) -> Int64[Tensor, " k"]:
    """`nms` for each class apart, in one go: a dog never suppresses a cat.

    Args:
        boxes: `x1, y1, x2, y2` in pixels.
        scores: one a box; higher is better, and of equal scores the first box goes first.
        idxs: the class (or image, or pyramid level) of each box; only boxes of the same one compete.
        iou_threshold: a box goes when its IoU with a kept box of its class is above this.

    Returns:
        The indices of the kept boxes, by falling score.

    Raises:
        TypeError: not a tensor, or not of numbers that fit.
        ValueError: a wrong shape, a nan, swapped corners, a threshold outside 0..1, or different devices.

    Source: same as `torchvision.ops.batched_nms`.

    >>> boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0]])
    >>> batched_nms(boxes, torch.tensor([0.6, 0.9]), torch.tensor([1, 2]), 0.5)
    tensor([1, 0])
    """
    check_boxes("boxes", boxes)
    check_shape("scores", scores, len(boxes))
    check_shape("idxs", idxs, len(boxes))
    check_fraction("iou_threshold", iou_threshold)
    check_same_device(boxes=boxes, scores=scores)
    check_same_device(boxes=boxes, idxs=idxs)
    if scores.isnan().any():
        raise ValueError("scores: expected numbers, got nan")
    order = scores.sort(descending=True, stable=True).indices
    rank = order.argsort()
    if boxes.dtype != torch.float64:
        boxes, iou_threshold = boxes.float(), _float32_threshold(iou_threshold)
    first, second = _near_pairs(_side_by_side(boxes, idxs), iou_threshold)
    too_near = _ratio(*_overlaps(boxes[first].T, boxes[second].T)) > iou_threshold
    pairs = rank[torch.stack([first, second])[:, too_near]]
    better, worse = pairs.sort(dim=0).values
    return order[_survivors(better, worse, len(order))]
