"""Right and wrong solutions of the exercises in `course_utils.exercises.rcnn_training_targets`."""

from math import log, log2

import torch

from course_utils.exercises import rcnn_training_targets
from course_utils.exercises.rcnn_training_targets import _box_target, _iou, _training_targets
from course_utils.ops.assignment import class_targets, match_boxes
from course_utils.ops.box_coding import encode_boxes, encode_boxes_loops
from course_utils.ops.boxes import box_iou, box_iou_loops
from tests.exercises.common import ExerciseTests


def targets_one_by_one(proposals, boxes, labels):
    classes, targets = (
        torch.zeros(len(proposals), dtype=torch.int64),
        torch.zeros(len(proposals), 4),
    )
    for j, proposal in enumerate(proposals):
        overlaps = [box_iou_loops(box[None], proposal[None]).item() for box in boxes]
        best = max(overlaps, default=0)
        if best >= 0.5:
            classes[j] = labels[overlaps.index(best)]
            targets[j] = encode_boxes_loops(boxes[overlaps.index(best)][None], proposal[None])[0]
        elif best >= 0.3:
            classes[j] = -1
    return classes, targets


def iou_with_sides(box1, box2, at_least):
    """IoU with the width and height of the intersection clamped at `at_least`."""
    sides = torch.minimum(box1[2:], box2[2:]) - torch.maximum(box1[:2], box2[:2])
    shared = torch.maximum(sides, at_least).prod()
    return shared / ((box1[2:] - box1[:2]).prod() + (box2[2:] - box2[:2]).prod() - shared)


def intersection(box1, box2):
    sides = torch.minimum(box1[2:], box2[2:]) - torch.maximum(box1[:2], box2[:2])
    return sides.clamp(min=0).prod()


def targets_matched_by(choose):
    """Training targets whose best IoU and object come from `choose(iou)` instead of the maximum."""

    def targets(proposals, boxes, labels):
        classes = torch.zeros(len(proposals), dtype=torch.int64)
        moves = torch.zeros(len(proposals), 4)
        if len(boxes):
            best, truth = choose(box_iou(boxes, proposals))
            classes = torch.where(best >= 0.5, labels[truth], torch.where(best >= 0.3, -1, 0))
            positive = best >= 0.5
            moves[positive] = encode_boxes(boxes[truth[positive]], proposals[positive])
        return classes, moves

    return targets


def first_touched(iou):
    touched = (iou > 0).int().argmax(dim=0)
    return iou.gather(0, touched[None])[0], touched


def first_good(iou):
    truth = torch.where(
        (iou >= 0.5).any(dim=0), (iou >= 0.5).int().argmax(dim=0), iou.argmax(dim=0)
    )
    return iou.gather(0, truth[None])[0], truth


def wrong_targets(proposals, boxes, labels, mistake):
    classes, targets = _training_targets(proposals, boxes, labels)
    if mistake == "first object" and len(boxes):
        classes = torch.where(classes > 0, labels[0], classes)
    if mistake == "neutral is background":
        classes = classes.clamp(min=0)
    if mistake == "box targets for all" and len(boxes):
        targets = encode_boxes(boxes[box_iou(boxes, proposals).argmax(dim=0)], proposals)
    return classes, -targets if mistake == "the opposite sign" else targets


def targets_with_thresholds(proposals, boxes, labels, high, low):
    matches = match_boxes(box_iou(boxes, proposals), high, low)
    targets = torch.zeros(len(proposals), 4)
    positive = matches >= 0
    targets[positive] = encode_boxes(boxes[matches[positive]], proposals[positive])
    return class_targets(matches, labels), targets


def shapes_of(boxes):
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    return list(zip((width * height).sqrt().tolist(), (height / width).tolist(), strict=True))


def spread(boxes):
    """The shapes of the objects, without those that a chosen one nearly covers."""
    chosen, left = [], shapes_of(boxes)
    while left and len(chosen) < 9:
        near = [
            [b for b in left if abs(log(a[0] / b[0])) < 0.25 and abs(log(a[1] / b[1])) < 0.35]
            for a in left
        ]
        best = max(range(len(left)), key=lambda i: len(near[i]))
        chosen.append(left[best])
        left = [b for b in left if b not in near[best]]
    return chosen


def nine(sizes, ratios=(0.5, 1.0, 2.0)):
    return [(size, ratio) for size in sizes for ratio in ratios]


RIGHT_SOLUTIONS = {
    rcnn_training_targets.check_iou: lambda a, b: box_iou_loops(a[None], b[None]).item(),
    rcnn_training_targets.check_box_target: lambda proposal, truth: encode_boxes_loops(
        truth[None], proposal[None]
    )[0],
    rcnn_training_targets.check_training_targets: targets_one_by_one,
    rcnn_training_targets.check_first_losses: lambda classes: tuple(
        torch.nn.functional.cross_entropy(torch.zeros(1, n), torch.tensor([1])).item()
        for n in (2, classes + 1)
    ),
    rcnn_training_targets.check_anchor_shapes: spread,
}

WRONG_SOLUTIONS = {
    rcnn_training_targets.check_iou: {
        "the sum of the areas instead of the union": lambda a, b: (
            (i := _iou(a, b)) / (1 + i)  # intersection / (area + area)
        ),
        "width and height not clamped": lambda a, b: (
            (w := (torch.min(a, b) - torch.max(a, b).roll(2))[2:].prod())
            / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - w)
        ),
        "only the width clamped": lambda a, b: iou_with_sides(
            a, b, torch.tensor([0.0, -torch.inf])
        ),
        "only the height clamped": lambda a, b: iou_with_sides(
            a, b, torch.tensor([-torch.inf, 0.0])
        ),
        "width plus one": lambda a, b: _iou(
            a + torch.tensor([0, 0, 1, 1]), b + torch.tensor([0, 0, 1, 1])
        ),
        "over the smaller box": lambda a, b: (
            _iou(a, b)
            / (1 + _iou(a, b))
            * ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod())
            / torch.min((a[2:] - a[:2]).prod(), (b[2:] - b[:2]).prod())
        ),
        "areas from the far corners": lambda a, b: (
            (i := intersection(a, b)) / (a[2] * a[3] + b[2] * b[3] - i)
        ),
        "the area of the first box from its far corner": lambda a, b: (
            (i := intersection(a, b)) / (a[2] * a[3] + (b[2:] - b[:2]).prod() - i)
        ),
        "the intersection begins at the second box": lambda a, b: (
            (i := (torch.minimum(a[2:], b[2:]) - b[:2]).clamp(min=0).prod())
            / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - i)
        ),
        "always zero": lambda a, b: 0.0,
    },
    rcnn_training_targets.check_box_target: {
        "proposal and truth exchanged": lambda proposal, truth: encode_boxes(
            proposal[None], truth[None]
        )[0],
        "in pixels": lambda proposal, truth: (
            _box_target(proposal, truth) * torch.cat([proposal[2:] - proposal[:2], torch.ones(2)])
        ),
        "no logarithm": lambda proposal, truth: torch.cat(
            [(e := _box_target(proposal, truth))[:2], e[2:].exp()]
        ),
        "corners instead of centres": lambda proposal, truth: torch.cat(
            [
                (truth - proposal)[:2] / (proposal[2:] - proposal[:2]),
                encode_boxes(truth[None], proposal[None])[0, 2:],
            ]
        ),
        "axes swapped": lambda proposal, truth: encode_boxes(truth[None], proposal[None])[
            0, [1, 0, 3, 2]
        ],
        "logarithm to base 2": lambda proposal, truth: (
            _box_target(proposal, truth) / torch.tensor([1, 1, 0.6931, 0.6931])
        ),
        "D2L's factors": lambda proposal, truth: encode_boxes(
            truth[None], proposal[None], (10.0, 10.0, 5.0, 5.0)
        )[0],
        "always zero": lambda proposal, truth: torch.zeros(4),
    },
    rcnn_training_targets.check_training_targets: {
        mistake: lambda *arguments, mistake=mistake: wrong_targets(*arguments, mistake)
        for mistake in (
            "first object",
            "neutral is background",
            "box targets for all",
            "the opposite sign",
        )
    }
    | {
        f"thresholds {high} and {low}": lambda *arguments, high=high, low=low: (
            targets_with_thresholds(*arguments, high, low)
        )
        for high, low in ((0.5001, 0.3), (0.5, 0.3001), (0.7, 0.3), (0.5, 0.1), (0.5, 0.5))
    }
    | {
        "the sum of the IoUs": targets_matched_by(lambda iou: (iou.sum(dim=0), iou.argmax(dim=0))),
        "the mean of the IoUs": targets_matched_by(
            lambda iou: (iou.mean(dim=0), iou.argmax(dim=0))
        ),
        "the first object that it touches": targets_matched_by(first_touched),
        "the first object with an IoU of 0.5": targets_matched_by(first_good),
        "the last object": targets_matched_by(
            lambda iou: (iou[-1], torch.full_like(iou[-1], len(iou) - 1).long())
        ),
    }
    | {
        "always zero": lambda proposals, boxes, labels: (
            torch.zeros(len(proposals)),
            torch.zeros(len(proposals), 4),
        )
    },
    rcnn_training_targets.check_first_losses: {
        "no background": lambda classes: (log(2), log(classes)),
        "background twice": lambda classes: (log(2), log(classes + 2)),
        "logarithms to base 2": lambda classes: (1.0, log2(classes + 1)),
        "the numbers of the notebook": lambda classes: (log(2), log(5)),
        "probabilities": lambda classes: (1 / 2, 1 / (classes + 1)),
        "all losses are zero": lambda classes: (0.0, 0.0),
        "exchanged": lambda classes: (log(classes + 1), log(2)),
        "the RPN knows all classes": lambda classes: (log(classes + 1), log(classes + 1)),
    },
    rcnn_training_targets.check_anchor_shapes: {
        "the paper's anchors": lambda boxes: nine((128, 256, 512)),
        "the notebook's anchors": lambda boxes: nine((64, 128, 256)),
        "small anchors": lambda boxes: nine((16, 32, 64)),
        "one anchor": lambda boxes: [(128, 1.0)],
        "none": lambda boxes: [],
        "an anchor for each object": shapes_of,
        "only the largest objects": lambda boxes: sorted(shapes_of(boxes))[-9:],
        "width over height": lambda boxes: [(size, 1 / ratio) for size, ratio in spread(boxes)],
        "areas for sizes": lambda boxes: [(size**2, ratio) for size, ratio in spread(boxes)],
        "widths and heights": lambda boxes: (boxes[:9, 2:] - boxes[:9, :2]).tolist(),
        "ratio first": lambda boxes: [(ratio, size) for size, ratio in spread(boxes)],
        "a size of zero": lambda boxes: [*spread(boxes)[:8], (0.0, 1.0)],
        "nothing": lambda boxes: None,
    },
}


class TestRCNNTrainingTargetsExercises(ExerciseTests):
    exercises, right, wrong = rcnn_training_targets, RIGHT_SOLUTIONS, WRONG_SOLUTIONS
