"""The exercises of 11_mask_rcnn."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from course_utils.exercises.checking import Case, Verdict, check
from course_utils.metrics.detection import average_precision, mask_iou, precision_and_recall
from course_utils.ops.masks import crop_masks


def _rectangle(height: int, width: int, x1: int, y1: int, x2: int, y2: int) -> Tensor:
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[y1:y2, x1:x2] = True
    return mask


def _iou(one: Tensor, other: Tensor) -> float:
    return mask_iou(one[None], other[None]).item()


def check_iou_of_masks(student: Callable) -> Verdict:
    """Check `student(one [h, w], other [h, w]) -> iou` of boolean masks."""
    square, nothing = _rectangle(6, 8, 1, 1, 5, 5), torch.zeros(6, 8, dtype=torch.bool)
    ring = square & ~_rectangle(6, 8, 2, 2, 4, 4)
    cases = [
        Case("two equal masks", (square, square), "All that is in one is in both: 1."),
        Case(
            "two masks that share 6 of 22 pixels",
            (square, _rectangle(6, 8, 3, 2, 7, 5)),
            "Divide the pixels in both by the pixels in at least one.",
        ),
        Case(
            "a ring and the square in it",
            (ring, _rectangle(6, 8, 2, 2, 4, 4)),
            "They share no pixel, though their boxes overlap. Count pixels, not boxes.",
        ),
        Case(
            "a ring and the square that it is cut from",
            (ring, square),
            "The union counts each pixel once.",
        ),
        Case("two masks without a pixel", (nothing, nothing), "0 / 0 is to be 0 here."),
    ]
    return check(student, _iou, cases)


def _target(mask: Tensor, box: Tensor, bins: int) -> Tensor:
    return crop_masks(mask[None], box[None], (bins, bins), aligned=True)[0]


def check_target_of_mask(student: Callable) -> Verdict:
    """Check `student(mask [h, w], box [4], bins) -> target [bins, bins]`: the share in each cell."""
    blob = _rectangle(12, 14, 3, 2, 6, 11) | _rectangle(12, 14, 5, 5, 12, 8)
    cases = [
        Case(
            "a box of 4 x 4 pixels and 4 x 4 cells",
            (blob, torch.tensor([2.0, 1.0, 6.0, 5.0]), 4),
            "A cell is a pixel: cut, and turn True into 1. Rows are y, columns are x.",
        ),
        Case(
            "a box of 4 x 4 pixels and 2 x 2 cells",
            (blob, torch.tensor([2.0, 1.0, 6.0, 5.0]), 2),
            "A cell holds 2 x 2 pixels, and gets the mean of them.",
        ),
        Case(
            "a box of 9 x 6 pixels and 3 x 3 cells",
            (blob, torch.tensor([3.0, 4.0, 12.0, 10.0]), 3),
            "A cell is 3 pixels wide and 2 high: what is 9 wide and 6 high becomes a square.",
        ),
        Case(
            "a box beside the object",
            (blob, torch.tensor([8.0, 8.0, 14.0, 12.0]), 2),
            "What lies outside of the box does not count, so this target is 0 everywhere.",
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
            "a network that knows nothing",
            (torch.zeros(2, 3, 2, 2), torch.tensor([1, 3]), torch.ones(2, 2, 2)),
            "Everywhere 1/2, so the loss is log 2, about 0.6931.",
        ),
        Case(
            "one region of class 2",
            (logits[:1], torch.tensor([2]), targets[:1].round()),
            "Class 2 has the second map: index 1, for background has none. A sigmoid, not a softmax.",
        ),
        Case(
            "three regions, targets between 0 and 1",
            (logits, torch.tensor([4, 1, 2]), targets),
            "Only the map of each region's own class counts; then the mean over all their cells.",
        ),
        Case(
            "scores of 300",
            (100 * logits, torch.tensor([4, 1, 2]), targets),
            "The logarithm of a sigmoid that is 0 is infinite: use the function that takes logits.",
        ),
        Case(
            "no region",
            (logits[:0], torch.zeros(0, dtype=torch.int64), targets[:0]),
            "The mean of nothing is to be 0 here.",
        ),
    ]
    return check(student, _own_loss, cases)


def _area(scores: Tensor, correct: Tensor, ground_truths: int) -> Tensor:
    return average_precision(*precision_and_recall(scores, correct, ground_truths))


def check_area_under_curve(student: Callable) -> Verdict:
    """Check `student(scores [n], correct [n], ground_truths) -> average precision`, COCO's."""
    generator = torch.Generator().manual_seed(1)
    scores, correct = torch.rand(40, generator=generator), torch.rand(40, generator=generator) < 0.6
    cases = [
        Case(
            "three detections, of which the second is wrong",
            (torch.tensor([0.9, 0.8, 0.7]), torch.tensor([True, False, True]), 2),
            "51 recalls, 0 to 0.50, with precision 1; 50 with 2/3.",
        ),
        Case(
            "the same in another order",
            (torch.tensor([0.7, 0.9, 0.8]), torch.tensor([True, True, False]), 2),
            "The surest detection comes first: sort by score.",
        ),
        Case(
            "an object that nobody found",
            (torch.tensor([0.9, 0.8]), torch.tensor([True, True]), 3),
            "Recalls above 2/3 are not reached: their precision is 0.",
        ),
        Case(
            "a precision that rises again",
            (torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([False, True, True, True]), 3),
            "At each recall take the best precision there or further right.",
        ),
        Case(
            "forty detections of 37 objects",
            (scores, correct, 37),
            "The mean of 101 heights; recall divides by the objects, not by the detections.",
        ),
        Case(
            "no detection",
            (scores[:0], correct[:0], 3),
            "Without a detection no recall above 0 is reached.",
        ),
    ]
    return check(student, _area, cases)


def _heights(scores: Tensor, correct: Tensor, truths: int, recalls: int, best: bool) -> Tensor:
    """AP with another number of recalls, or without interpolation."""
    precision, recall = precision_and_recall(scores, correct, truths)
    steps = torch.linspace(0, 1, recalls, dtype=torch.float64)[:, None]
    enough = recall >= steps
    if best:
        return (precision * enough).amax(dim=1).mean() if len(scores) else torch.tensor(0.0)
    first = torch.nn.functional.pad(precision, (0, 1))
    place = torch.nn.functional.pad(enough, (0, 1), value=True).int().argmax(dim=1)
    return first[place].mean()


WRONG_SOLUTIONS = {
    check_iou_of_masks: {
        "the sum instead of the union": lambda one, other: (
            (one & other).sum() / (one.sum() + other.sum()).clamp(min=1)
        ),
        "Dice": lambda one, other: 2 * (one & other).sum() / (one.sum() + other.sum()).clamp(min=1),
        "intersection over the first": lambda one, other: (
            (one & other).sum() / one.sum().clamp(min=1)
        ),
        "of the boxes": lambda one, other: _iou(
            one.any(1)[:, None] & one.any(0), other.any(1)[:, None] & other.any(0)
        ),
        "pixels that agree": lambda one, other: (one == other).float().mean(),
        "0 / 0": lambda one, other: (one & other).sum() / (one | other).sum(),
        "always zero": lambda one, other: 0.0,
    },
    check_target_of_mask: {
        "x and y swapped": lambda mask, box, bins: _target(mask.T, box, bins),
        "transposed": lambda mask, box, bins: _target(mask, box, bins).T,
        "one pixel further": lambda mask, box, bins: _target(mask, box + 1, bins),
        "one pixel wider": lambda mask, box, bins: _target(
            mask, box + torch.tensor([0, 0, 1, 1]), bins
        ),
        "half a pixel off": lambda mask, box, bins: crop_masks(
            mask[None], box[None], (bins, bins), aligned=False
        )[0],
        "rounded to 0 and 1": lambda mask, box, bins: _target(mask, box, bins).round(),
        "a pixel of each cell": lambda mask, box, bins: mask[
            int(box[1]) : int(box[3]) : int(box[3] - box[1]) // bins,
            int(box[0]) : int(box[2]) : int(box[2] - box[0]) // bins,
        ].float(),
        "a sum": lambda mask, box, bins: (
            _target(mask, box, bins) * (box[2:] - box[:2]).prod() / bins**2
        ),
        "the whole mask, not cut": lambda mask, box, bins: _target(
            mask, torch.tensor([0.0, 0.0, mask.shape[1], mask.shape[0]]), bins
        ),
        "always zero": lambda mask, box, bins: torch.zeros(bins, bins),
    },
    check_loss_of_masks: {
        "the map after the true one": lambda logits, labels, targets: _own_loss(
            logits, labels % logits.shape[1] + 1, targets
        ),
        "all maps, the mean": lambda logits, labels, targets: (
            binary_cross_entropy_with_logits(logits, targets[:, None].expand_as(logits))
            if len(labels)
            else 0.0
        ),
        "other maps are to be empty": lambda logits, labels, targets: (
            binary_cross_entropy_with_logits(
                logits,
                targets[:, None]
                * torch.nn.functional.one_hot(labels - 1, logits.shape[1])[:, :, None, None],
            )
            if len(labels)
            else 0.0
        ),
        "a softmax over the classes": lambda logits, labels, targets: (
            (
                targets
                * cross_entropy(
                    logits, (labels - 1)[:, None, None].expand_as(targets), reduction="none"
                )
            ).mean()
            if len(labels)
            else 0.0
        ),
        "a sum": lambda logits, labels, targets: (
            _own_loss(logits, labels, targets) * targets.numel()
        ),
        "targets rounded": lambda logits, labels, targets: _own_loss(
            logits, labels, targets.round()
        ),
        "object and not swapped": lambda logits, labels, targets: _own_loss(
            logits, labels, 1 - targets
        ),
        "not a number without a region": lambda logits, labels, targets: (
            _own_loss(logits, labels, targets) * (1 if len(labels) else torch.nan)
        ),
        "always zero": lambda logits, labels, targets: 0.0,
    },
    check_area_under_curve: {
        "not sorted": lambda scores, correct, truths: _area(
            -torch.arange(len(scores)).float(), correct, truths
        ),
        "the least sure first": lambda scores, correct, truths: _area(-scores, correct, truths),
        "recall of the detections": lambda scores, correct, truths: _area(
            scores, correct, max(len(scores), 1)
        ),
        "recall of those found": lambda scores, correct, truths: _area(
            scores, correct, max(int(correct.sum()), 1)
        ),
        "11 recalls": lambda scores, correct, truths: _heights(scores, correct, truths, 11, True),
        "not interpolated": lambda scores, correct, truths: _heights(
            scores, correct, truths, 101, False
        ),
        "the precision of all": lambda scores, correct, truths: (
            correct.float().sum() / max(len(correct), 1)
        ),
        "always one": lambda scores, correct, truths: 1.0,
    },
}
