"""Right and wrong solutions of the exercises in `course_utils.exercises.mask_rcnn`."""

import itertools
import math

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot, pad

from course_utils.exercises import mask_rcnn
from course_utils.exercises.mask_rcnn import _area, _own_loss, _target
from course_utils.metrics.average_precision import precision_and_recall
from course_utils.ops.masks import crop_masks
from tests.exercises.common import ExerciseTests


def target_bin_by_bin(mask, box, bins):
    x1, y1, x2, y2 = (int(edge) for edge in box)
    height, width = (y2 - y1) // bins, (x2 - x1) // bins
    target = torch.zeros(bins, bins)
    for i, j in itertools.product(range(bins), repeat=2):
        top, left = y1 + i * height, x1 + j * width
        target[i, j] = mask[top : top + height, left : left + width].float().mean()
    return target


def mask_loss_pixel_by_pixel(logits, labels, targets):
    total = 0.0
    for maps, label, target in zip(logits.double(), labels.tolist(), targets.double()):
        for logit, share in zip(maps[label - 1].flatten().tolist(), target.flatten().tolist()):
            total += max(logit, 0) - logit * share + math.log1p(math.exp(-abs(logit)))
    return total / max(targets.numel(), 1)


def area_by_lists(scores, correct, ground_truths):
    pairs = sorted(zip(scores.tolist(), correct.tolist()), reverse=True)
    hits = list(itertools.accumulate(int(right) for _, right in pairs))
    points = [(hit * 100, hit / rank) for rank, hit in enumerate(hits, start=1)]
    heights = [
        max(
            (precision for found, precision in points if found >= percent * ground_truths),
            default=0,
        )
        for percent in range(101)
    ]
    return sum(heights) / 101


def area_with(scores, correct, ground_truths, recalls, interpolated):
    """Average precision with another number of recalls, or without interpolation of the precision."""
    precision, recall = precision_and_recall(scores, correct, ground_truths)
    levels = torch.linspace(0, 1, recalls, dtype=torch.float64)[:, None]
    reached = recall >= levels
    if interpolated:
        return (precision * reached).amax(dim=1).mean() if len(scores) else torch.tensor(0.0)
    first = pad(reached, (0, 1), value=True).int().argmax(dim=1)
    return pad(precision, (0, 1))[first].mean()


def comb(pitch=3, width=1, size=200, spine=True):
    """Teeth of some pixels, joined by a row of pixels at the top."""
    mask = torch.zeros(size, size + 20, dtype=torch.bool)
    for tooth in range(width):
        mask[:, tooth : size - pitch : pitch] = True
    mask[0, : size - pitch] |= spine
    return mask


def disc(inner=0):
    """A disc of 60 pixels, or a ring."""
    distance = (torch.arange(150)[:, None] - 70) ** 2 + (torch.arange(150) - 80) ** 2
    return (distance < 60**2) & (distance >= inner**2)


RIGHT_SOLUTIONS = {
    mask_rcnn.check_target_of_mask: target_bin_by_bin,
    mask_rcnn.check_loss_of_masks: mask_loss_pixel_by_pixel,
    mask_rcnn.check_area_under_curve: area_by_lists,
    mask_rcnn.check_precisions: lambda: [(51 + 50 * 2 / 3) / 101, 1.0, 51 / 101],
    mask_rcnn.check_lost_mask: comb,
}

WRONG_SOLUTIONS = {
    mask_rcnn.check_target_of_mask: {
        "x and y swapped": lambda mask, box, bins: _target(mask.T, box, bins),
        "transposed": lambda mask, box, bins: _target(mask, box, bins).T,
        "shifted by one pixel": lambda mask, box, bins: _target(mask, box + 1, bins),
        "one pixel wider": lambda mask, box, bins: _target(
            mask, box + torch.tensor([0, 0, 1, 1]), bins
        ),
        "shifted by half a pixel": lambda mask, box, bins: crop_masks(
            mask[None], box[None], (bins, bins), aligned=False
        )[0],
        "rounded to 0 and 1": lambda mask, box, bins: _target(mask, box, bins).round(),
        "one pixel of each bin": lambda mask, box, bins: mask[
            int(box[1]) : int(box[3]) : int(box[3] - box[1]) // bins,
            int(box[0]) : int(box[2]) : int(box[2] - box[0]) // bins,
        ].float(),
        "a sum": lambda mask, box, bins: (
            _target(mask, box, bins) * (box[2:] - box[:2]).prod() / bins**2
        ),
        "the whole mask, not cropped": lambda mask, box, bins: _target(
            mask, torch.tensor([0.0, 0.0, mask.shape[1], mask.shape[0]]), bins
        ),
        "always zero": lambda mask, box, bins: torch.zeros(bins, bins),
    },
    mask_rcnn.check_loss_of_masks: {
        "the mask of the next class": lambda logits, labels, targets: _own_loss(
            logits, labels % logits.shape[1] + 1, targets
        ),
        "the mean over all classes": lambda logits, labels, targets: (
            binary_cross_entropy_with_logits(logits, targets[:, None].expand_as(logits))
            if len(labels)
            else 0.0
        ),
        "masks of the other classes must be empty": lambda logits, labels, targets: (
            binary_cross_entropy_with_logits(
                logits,
                targets[:, None] * one_hot(labels - 1, logits.shape[1])[:, :, None, None],
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
        "foreground and background swapped": lambda logits, labels, targets: _own_loss(
            logits, labels, 1 - targets
        ),
        "nan without regions": lambda logits, labels, targets: (
            _own_loss(logits, labels, targets) * (1 if len(labels) else torch.nan)
        ),
        "always zero": lambda logits, labels, targets: 0.0,
    },
    mask_rcnn.check_area_under_curve: {
        "not sorted": lambda scores, correct, truths: _area(
            -torch.arange(len(scores)).float(), correct, truths
        ),
        "the lowest score first": lambda scores, correct, truths: _area(-scores, correct, truths),
        "recall relative to the detections": lambda scores, correct, truths: _area(
            scores, correct, max(len(scores), 1)
        ),
        "recall relative to the true positives": lambda scores, correct, truths: _area(
            scores, correct, max(int(correct.sum()), 1)
        ),
        "11 recalls": lambda scores, correct, truths: area_with(
            scores, correct, truths, recalls=11, interpolated=True
        ),
        "not interpolated": lambda scores, correct, truths: area_with(
            scores, correct, truths, recalls=101, interpolated=False
        ),
        "the precision of all detections": lambda scores, correct, truths: (
            correct.float().sum() / max(len(correct), 1)
        ),
        "always one": lambda scores, correct, truths: 1.0,
    },
    mask_rcnn.check_precisions: {
        "a higher score is always better": lambda: (0.9, 1.0, 0.505),
        "the exchanged ones are both correct": lambda: (1.0, 1.0, 0.505),
        "the order does not matter": lambda: (0.835, 0.835, 0.505),
        "the threshold does not matter": lambda: (0.835, 1.0, 0.835),
        "0.70 is enough at 0.8": lambda: (0.835, 1.0, 1.0),
        "recall is half, so AP is a quarter": lambda: (0.835, 1.0, 0.25),
        "precision of all three": lambda: (0.667, 0.667, 0.333),
        "in percent": lambda: (83.5, 100, 50.5),
        "two numbers": lambda: (0.835, 1.0),
        "one number": lambda: 0.835,
        "words": lambda: ("same", "rises", "falls"),
        "nan": lambda: (float("nan"),) * 3,
    },
    mask_rcnn.check_lost_mask: {
        "nothing": lambda: torch.zeros(200, 200, dtype=torch.bool),
        "everything": lambda: torch.ones(200, 200, dtype=torch.bool),
        "a disc": disc,
        "a ring": lambda: disc(inner=40),
        "one thin line": lambda: torch.eye(200).bool() | torch.eye(200).roll(1, 0).bool(),
        "teeth that nothing joins": lambda: comb(spine=False),
        "noise": lambda: torch.rand(200, 200, generator=torch.Generator().manual_seed(0)) < 0.4,
        "wide teeth": lambda: comb(pitch=30, width=12),
        "teeth that cover more than one half": lambda: comb(pitch=5, width=3),
        "a comb so small that every pixel has its cell": lambda: comb(size=28),
        "a comb of 5000 pixels": lambda: comb(size=5000),
        "floats": lambda: comb().float(),
    },
}


class TestMaskRCNNExercises(ExerciseTests):
    exercises, right, wrong = mask_rcnn, RIGHT_SOLUTIONS, WRONG_SOLUTIONS

    def test_a_right_solution_passes(self, check):
        if check is not mask_rcnn.check_lost_mask:
            return super().test_a_right_solution_passes(check)
        assert check(comb) == (True, "Passed: of this mask an IoU of 0.00 is left.")
