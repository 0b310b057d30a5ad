"""The exercises of 11_mask_rcnn."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from course_utils.exercises.checking import Case, Verdict, check
from course_utils.metrics.average_precision import (
    average_precision,
    mask_iou,
    precision_and_recall,
)
from course_utils.ops.masks import crop_masks


def _rectangle(height: int, width: int, x1: int, y1: int, x2: int, y2: int) -> Tensor:
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[y1:y2, x1:x2] = True
    return mask


def _iou(one: Tensor, other: Tensor) -> float:
    return mask_iou(one[None], other[None]).item()


def check_iou_of_masks(student: Callable) -> Verdict:
    """Check `student(one [h, w], other [h, w]) -> IoU` of two boolean masks."""
    square, nothing = _rectangle(6, 8, 1, 1, 5, 5), torch.zeros(6, 8, dtype=torch.bool)
    ring = square & ~_rectangle(6, 8, 2, 2, 4, 4)
    cases = [
        Case("two equal masks", (square, square), "Intersection and union are the same: 1."),
        Case(
            "two masks that share 6 of 22 pixels",
            (square, _rectangle(6, 8, 3, 2, 7, 5)),
            "Divide the number of pixels in both masks by the number of pixels in at least one of them.",
        ),
        Case(
            "a ring and the square inside it",
            (ring, _rectangle(6, 8, 2, 2, 4, 4)),
            "They share no pixel, although their boxes overlap: count pixels, not boxes.",
        ),
        Case(
            "a ring and the square from which it is cut",
            (ring, square),
            "The union counts each pixel once.",
        ),
        Case(
            "two empty masks",
            (nothing, nothing),
            "The IoU of two empty masks is defined as 0 here: avoid the division by zero.",
        ),
    ]
    return check(student, _iou, cases)


def _target(mask: Tensor, box: Tensor, bins: int) -> Tensor:
    return crop_masks(mask[None], box[None], (bins, bins), aligned=True)[0]


def check_target_of_mask(student: Callable) -> Verdict:
    """Check `student(mask [h, w], box [4], bins) -> target [bins, bins]`: the covered share of each bin."""
    blob = _rectangle(12, 14, 3, 2, 6, 11) | _rectangle(12, 14, 5, 5, 12, 8)
    cases = [
        Case(
            "a box of 4 x 4 pixels and 4 x 4 bins",
            (blob, torch.tensor([2.0, 1.0, 6.0, 5.0]), 4),
            "Each bin is one pixel: crop the mask and convert it to float. Rows are y, columns are x.",
        ),
        Case(
            "a box of 4 x 4 pixels and 2 x 2 bins",
            (blob, torch.tensor([2.0, 1.0, 6.0, 5.0]), 2),
            "Each bin covers 2 x 2 pixels: take their mean.",
        ),
        Case(
            "a box of 9 x 6 pixels and 3 x 3 bins",
            (blob, torch.tensor([3.0, 4.0, 12.0, 10.0]), 3),
            "Each bin is 3 pixels wide and 2 pixels high; the target is square, although the box is not.",
        ),
        Case(
            "a box beside the object",
            (blob, torch.tensor([8.0, 8.0, 14.0, 12.0]), 2),
            "Only pixels inside the box count, so this target is 0 everywhere.",
        ),
    ]
    return check(student, _target, cases)


def _own_loss(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    own = logits[torch.arange(len(labels)), labels - 1]
    loss = binary_cross_entropy_with_logits(own, targets, reduction="sum")
    return loss / max(targets.numel(), 1)


def check_loss_of_masks(student: Callable) -> Verdict:
    """Check `student(logits [p, c, m, m], labels [p], targets [p, m, m]) -> loss`."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(3, 4, 5, 5, generator=generator)
    targets = torch.rand(3, 5, 5, generator=generator)
    cases = [
        Case(
            "logits of zero",
            (torch.zeros(2, 3, 2, 2), torch.tensor([1, 3]), torch.ones(2, 2, 2)),
            "Every probability is 1/2, so the loss is log 2, about 0.6931.",
        ),
        Case(
            "one region of class 2",
            (logits[:1], torch.tensor([2]), targets[:1].round()),
            "The background has no mask, so class 2 has index 1. Use a sigmoid, not a softmax.",
        ),
        Case(
            "three regions, targets between 0 and 1",
            (logits, torch.tensor([4, 1, 2]), targets),
            "Only the mask of each region's own class counts; take the mean over all pixels of these masks.",
        ),
        Case(
            "logits of several hundred",
            (100 * logits, torch.tensor([4, 1, 2]), targets),
            "A sigmoid may be rounded to 0, and log 0 is infinite: use the function that takes logits.",
        ),
        Case(
            "no regions",
            (logits[:0], torch.zeros(0, dtype=torch.int64), targets[:0]),
            "The mean of no regions is defined as 0 here: avoid the division by zero.",
        ),
    ]
    return check(student, _own_loss, cases)


def _area(scores: Tensor, correct: Tensor, ground_truths: int) -> Tensor:
    return average_precision(*precision_and_recall(scores, correct, ground_truths))


def check_area_under_curve(student: Callable) -> Verdict:
    """Check `student(scores [n], correct [n], ground_truths) -> average precision`, as in COCO."""
    generator = torch.Generator().manual_seed(1)
    scores, correct = torch.rand(40, generator=generator), torch.rand(40, generator=generator) < 0.6
    cases = [
        Case(
            "three detections, of which the second is wrong",
            (torch.tensor([0.9, 0.8, 0.7]), torch.tensor([True, False, True]), 2),
            "At the 51 recalls from 0 to 0.50 the precision is 1, at the other 50 it is 2/3.",
        ),
        Case(
            "the same in another order",
            (torch.tensor([0.7, 0.9, 0.8]), torch.tensor([True, True, False]), 2),
            "Sort the detections by score, the highest score first.",
        ),
        Case(
            "an object that was not detected",
            (torch.tensor([0.9, 0.8]), torch.tensor([True, True]), 3),
            "Recalls above 2/3 are not reached: the precision there is 0.",
        ),
        Case(
            "a precision that rises again",
            (torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([False, True, True, True]), 3),
            "At each recall take the highest precision at this recall or at a higher one.",
        ),
        Case(
            "forty detections of 37 objects",
            (scores, correct, 37),
            "Take the mean over 101 recalls; recall divides by the number of objects, not of detections.",
        ),
        Case(
            "no detections",
            (scores[:0], correct[:0], 3),
            "Without detections the precision is 0 at every recall.",
        ),
    ]
    return check(student, _area, cases)
