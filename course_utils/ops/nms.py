"""Non-maximum suppression: of many boxes on one object, keep the one with the highest score."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from course_utils.core import (
    check_boxes,
    check_fraction,
    check_rows,
    check_same_device,
    check_shape,
)
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


def _check_detections(boxes: Tensor, scores: Tensor, iou_threshold: float) -> None:
    check_boxes("boxes", boxes)
    check_shape("scores", scores, len(boxes))
    check_fraction("iou_threshold", iou_threshold)
    check_same_device(boxes=boxes, scores=scores)
    check_rows("scores", scores, ~scores.isnan(), "numbers")


def _check_classes(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> None:
    _check_detections(boxes, scores, iou_threshold)
    check_shape("idxs", idxs, len(boxes))
    check_same_device(boxes=boxes, idxs=idxs)


def nms(
    boxes: Float[Tensor, "n 4"], scores: Float[Tensor, " n"], iou_threshold: float
) -> Int64[Tensor, " k"]:
    """Keep the best box, drop all that overlap it by more than `iou_threshold`, go on with the next.

    Args:
        boxes: `x1, y1, x2, y2` in pixels.
        scores: one per box; higher is better, and of equal scores the first box goes first.
        iou_threshold: a box is suppressed when its IoU with a kept box is above this.

    Returns:
        The indices of the kept boxes, by decreasing score.

    Source: `torchvision.ops.nms`. D2L's `nms` is the loop.

    >>> boxes = torch.tensor(
    ...     [[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [20.0, 0.0, 30.0, 10.0]]
    ... )
    >>> nms(boxes, torch.tensor([0.6, 0.9, 0.3]), 0.5)
    tensor([1, 2])
    """
    _check_detections(boxes, scores, iou_threshold)
    order = scores.argsort(descending=True, stable=True)
    # In float64, as torchvision compares: rounded to float32, 0.3 and 0.6 are a little larger.
    overlaps = (
        box_iou(boxes[order], boxes[order]).double() > iou_threshold
    )  # [n, n], best box first
    suppressed = torch.zeros_like(order, dtype=torch.bool)
    keep = []
    for i in range(len(order)):
        if not suppressed[i]:
            keep.append(i)
            suppressed = suppressed | overlaps[i]
    return order[keep]


def batched_nms_loops(
    boxes: Float[Tensor, "n 4"],
    scores: Float[Tensor, " n"],
    idxs: Int64[Tensor, " n"],
    iou_threshold: float,
) -> Int64[Tensor, " k"]:
    """`batched_nms` written out: `nms_loops` for each class, then all survivors by decreasing score."""
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
    """`nms` for each class separately: a dog never suppresses a cat.

    Args:
        boxes: `x1, y1, x2, y2` in pixels.
        scores: one per box; higher is better, and of equal scores the first box goes first.
        idxs: the class (or image, or pyramid level) of each box; only boxes of the same class compete.
        iou_threshold: a box is suppressed when its IoU with a kept box of its class is above this.

    Returns:
        The indices of the kept boxes of all classes, by decreasing score.

    Source: `torchvision.ops.batched_nms`.

    >>> boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0]])
    >>> batched_nms(boxes, torch.tensor([0.6, 0.9]), torch.tensor([1, 2]), 0.5)
    tensor([1, 0])
    """
    _check_classes(boxes, scores, idxs, iou_threshold)
    keep = torch.zeros_like(scores, dtype=torch.bool)
    for label in idxs.unique():
        members = torch.nonzero(idxs == label)[:, 0]
        keep[members[nms(boxes[members], scores[members], iou_threshold)]] = True
    order = scores.argsort(descending=True, stable=True)
    return order[keep[order]]
