"""Non-maximum suppression: of many boxes on one object, keep the one with the highest score."""

import math

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from course_utils.core import check_boxes, check_fraction, check_same_device, check_shape
from course_utils.ops.boxes import box_iou, box_iou_loops


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


def _survivors(suppresses: Tensor) -> Tensor:
    """The greedy answer in parallel: a box falls if one before it, that stands, suppresses it.

    Start with all standing and apply that sentence until nothing changes. After round r the first r
    boxes of every chain of suppressions are settled, so the rounds needed are the longest chain, rarely
    more than ten.
    """
    stands = suppresses.new_ones(len(suppresses))
    for _ in range(len(suppresses)):
        update = ~(suppresses & stands[:, None]).any(dim=0)
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
    iou = box_iou(boxes[order], boxes[order])
    limit = iou_threshold if iou.dtype == torch.float64 else _float32_threshold(iou_threshold)
    rivals = idxs[order][:, None] == idxs[order][None, :]
    # [i, j]: i is better than j and too near
    suppresses = ((iou > limit) & rivals).triu(diagonal=1)
    return order[_survivors(suppresses)]
