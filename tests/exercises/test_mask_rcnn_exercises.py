"""Right and wrong solutions of the exercises in `course_utils.exercises.mask_rcnn`."""

import itertools
import math

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot, pad

from course_utils.exercises import mask_rcnn
from course_utils.exercises.mask_rcnn import _area, _iou, _own_loss, _target
from course_utils.metrics.average_precision import precision_and_recall
from course_utils.ops.masks import crop_masks
from tests.exercises.common import ExerciseTests


def iou_of_pixel_sets(one, other):
    first, second = ({tuple(pixel) for pixel in mask.nonzero().tolist()} for mask in (one, other))
    return len(first & second) / max(len(first | second), 1)


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


RIGHT_SOLUTIONS = {
    mask_rcnn.check_iou_of_masks: iou_of_pixel_sets,
    mask_rcnn.check_target_of_mask: target_bin_by_bin,
    mask_rcnn.check_loss_of_masks: mask_loss_pixel_by_pixel,
    mask_rcnn.check_area_under_curve: area_by_lists,
}

WRONG_SOLUTIONS = {
    mask_rcnn.check_iou_of_masks: {
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
}


class TestMaskRCNNExercises(ExerciseTests):
    exercises, right, wrong = mask_rcnn, RIGHT_SOLUTIONS, WRONG_SOLUTIONS
