"""The exercises of 11_mask_rcnn."""

from collections.abc import Callable

import torch
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from course_utils.exercises.checking import Case, Verdict, attempt, check
from course_utils.exercises.predictions import Answer, compare
from course_utils.metrics.average_precision import (
    average_precision,
    mask_iou,
    precision_and_recall,
)
from course_utils.ops.masks import crop_masks, paste_masks

LARGEST, LEAST_FILL, HIGHEST_IOU = 400, 1 / 3, 0.5  # of the mask in the open task


def _rectangle(height: int, width: int, x1: int, y1: int, x2: int, y2: int) -> Tensor:
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[y1:y2, x1:x2] = True
    return mask


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


def _precision(scores: list[float], correct: list[bool]) -> float:
    return float(_area(torch.tensor(scores), torch.tensor(correct), 2))


def check_precisions(student: Callable) -> Verdict:
    """Check `student() -> three AP` of section 9's three detections after a change."""
    scores = [0.9, 0.8, 0.7]
    answers = [
        Answer(
            "AP after the first two exchange their scores",
            _precision(scores, [True, False, True]),
            "Both lie on dog B with an IoU above 1/2. Whichever comes first is correct, and the other is a "
            "duplicate.",
        ),
        Answer(
            "AP if the third scores 0.95",
            _precision([0.9, 0.8, 0.95], [True, False, True]),
            "Sort again: the correct detection of dog A now comes first, and the duplicate comes last.",
        ),
        Answer(
            "AP at an IoU threshold of 0.8",
            _precision(scores, [True, False, False]),
            "The IoU of the three with their dogs are 0.86, 0.70 and 0.78. Which recalls are not reached?",
        ),
    ]
    return compare(student, answers, tolerance=0.006)


def _iou_left(mask: Tensor) -> float:
    """The IoU of a mask [h, w] with itself, after 28 x 28 bins of its tight box."""
    rows, columns = mask.any(dim=1).nonzero()[:, 0], mask.any(dim=0).nonzero()[:, 0]
    box = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])[None].float()
    target = crop_masks(mask[None], box, aligned=True)
    return mask_iou(paste_masks(target, box, tuple(mask.shape)), mask[None]).item()


def check_lost_mask(student: Callable) -> Verdict:
    """Check `student() -> mask [h, w]`: one whole object that does not survive 28 x 28 bins."""
    hint = "Return a boolean tensor [h, w]."
    mask = attempt(lambda: torch.as_tensor(student()), "your mask", hint)
    if isinstance(mask, Verdict):
        return mask
    problem, hint = _problem(mask)
    if problem:
        return Verdict(False, f"Not yet: {problem}. Hint: {hint}")
    return Verdict(True, f"Passed: of this mask an IoU of {_iou_left(mask):.2f} is left.")


def _problem(mask: Tensor) -> tuple[str, str]:
    """What is wrong with a mask of the open task, and a hint; two empty texts if nothing is."""
    if mask.dtype != torch.bool or mask.dim() != 2 or max(mask.shape) > LARGEST:
        return (
            f"the mask should be boolean, [h, w], with at most {LARGEST} rows and columns",
            "Begin with `torch.zeros(200, 200, dtype=torch.bool)`.",
        )
    regions = ndimage.label(mask.numpy())[1]
    if regions != 1:
        return (
            f"the object should be one connected region, got {regions}",
            "Diagonal neighbours are not connected; a row of pixels can join what is separate.",
        )
    height, width = (int(mask.any(dim=axis).sum()) for axis in (1, 0))
    fill = int(mask.sum()) / (height * width)
    if fill < LEAST_FILL:
        return (
            f"the object should fill at least a third of its box, got {fill:.2f}",
            "One thin line is too little; what about many?",
        )
    if (iou := _iou_left(mask)) >= HIGHEST_IOU:
        return (
            f"the IoU should be below {HIGHEST_IOU} after the round trip, got {iou:.2f}",
            "In which cells of the target is less than one half of the area object?",
        )
    return "", ""
