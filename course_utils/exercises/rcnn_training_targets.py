"""The exercises of 01_rcnn_training_targets."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_utils.exercises.checking import Case, Verdict, check
from course_utils.ops.assignment import class_targets, match_boxes
from course_utils.ops.box_coding import encode_boxes
from course_utils.ops.boxes import box_iou

LEFT, RIGHT = torch.tensor([0.0, 0.0, 4.0, 4.0]), torch.tensor([2.0, 1.0, 6.0, 5.0])


def _iou(box1: Tensor, box2: Tensor) -> Tensor:
    return box_iou(box1[None], box2[None])[0, 0]


def _iou_with_sides(box1: Tensor, box2: Tensor, at_least: Tensor) -> Tensor:
    """IoU with the sides of the shared part stopped at `at_least`, for wrong solutions."""
    sides = torch.minimum(box1[2:], box2[2:]) - torch.maximum(box1[:2], box2[:2])
    shared = torch.maximum(sides, at_least).prod()
    return shared / ((box1[2:] - box1[:2]).prod() + (box2[2:] - box2[:2]).prod() - shared)


def check_iou(student: Callable) -> Verdict:
    """Check `student(box1 [4], box2 [4]) -> number`: intersection over union of two boxes."""
    apart = torch.tensor([7.0, 6.0, 9.0, 9.0])
    cases = [
        Case("two equal boxes", (LEFT, LEFT), "Everything is shared: the answer is 1."),
        Case("two overlapping boxes", (LEFT, RIGHT), "The union counts the shared part once."),
        Case(
            "a box inside another",
            (LEFT, torch.tensor([1.0, 1.0, 2.0, 3.0])),
            "The shared part is the small box.",
        ),
        Case(
            "two boxes apart in x",
            (LEFT, torch.tensor([7.0, 1.0, 9.0, 3.0])),
            "Stop each side at 0.",
        ),
        Case(
            "two boxes apart in y",
            (LEFT, torch.tensor([1.0, 7.0, 3.0, 9.0])),
            "Stop each side at 0.",
        ),
        Case(
            "two boxes apart in x and in y",
            (LEFT, apart),
            "Minus times minus is plus: stop each side at 0.",
        ),
        Case(
            "two boxes that touch",
            (LEFT, torch.tensor([4.0, 0.0, 6.0, 4.0])),
            "They share no area.",
        ),
    ]
    return check(student, _iou, cases)


def _three_way(iou: Tensor, high: float, low: float) -> Tensor:
    return class_targets(match_boxes(iou, high, low), torch.ones(len(iou), dtype=torch.int64))


def check_three_way(student: Callable) -> Verdict:
    """Check `student(iou [m, n], high, low) -> labels [n]`: 1 positive, 0 negative, -1 neutral."""
    table = torch.tensor([[0.9, 0.4, 0.1, 0.5, 0.3], [0.2, 0.1, 0.2, 0.6, 0.0]])
    cases = [
        Case(
            "three proposals and one object",
            (table[:1, :3], 0.5, 0.3),
            "0.9 is positive, 0.4 neutral, 0.1 negative.",
        ),
        Case(
            "IoUs of exactly the thresholds",
            (table[:1, 3:], 0.5, 0.3),
            "From `high` on: positive. Below `low`: negative.",
        ),
        Case(
            "five proposals and two objects",
            (table, 0.5, 0.3),
            "A proposal's best object decides: a maximum over rows.",
        ),
        Case("other thresholds", (table, 0.7, 0.2), "Use the arguments, not 0.5 and 0.3."),
    ]
    return check(student, _three_way, cases)


def check_box_target(student: Callable) -> Verdict:
    """Check `student(proposal [4], truth [4]) -> target [4]`: tx, ty, tw, th."""
    cases = [
        Case("a proposal that is right already", (LEFT, LEFT), "Nothing to move, and log 1 = 0."),
        Case(
            "a shift by half the width",
            (LEFT, LEFT + torch.tensor([2.0, 0.0, 2.0, 0.0])),
            "Shifts count in proposal widths.",
        ),
        Case(
            "a truth twice as wide",
            (LEFT, torch.tensor([-2.0, 0.0, 6.0, 4.0])),
            "Only tw = log 2 = 0.6931 is not 0.",
        ),
        Case(
            "a wide proposal for a tall truth",
            (torch.tensor([10.0, 10.0, 30.0, 14.0]), torch.tensor([12.0, 4.0, 20.0, 24.0])),
            "x goes with the proposal's width, y with its height; measure between centres, not corners.",
        ),
    ]
    return check(
        student, lambda proposal, truth: encode_boxes(truth[None], proposal[None])[0], cases
    )


def _training_targets(
    proposals: Tensor, boxes: Tensor, labels: Tensor, high: float = 0.5, low: float = 0.3
) -> tuple[Tensor, Tensor]:
    matches = match_boxes(box_iou(boxes, proposals), high, low)
    positive = matches >= 0
    targets = torch.zeros(len(proposals), 4)
    targets[positive] = encode_boxes(boxes[matches[positive]], proposals[positive])
    return class_targets(matches, labels), targets


def check_training_targets(student: Callable) -> Verdict:
    """Check `student(proposals [n, 4], boxes [m, 4], labels [m]) -> (classes [n], box targets [n, 4])`.

    Thresholds 0.5 and 0.3; neutral proposals get class -1; without a box target the four numbers are 0.
    """
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 40.0, 10.0]])
    labels = torch.tensor([3, 1])
    edges = torch.tensor(
        [[20.0, 0.0, 30.0, 10.0], [20.0, 0.0, 26.0, 10.0], [20.0, 0.0, 24.0, 10.0]]
    )
    good = torch.tensor([[1.0, 0.0, 11.0, 10.0], [22.0, 1.0, 40.0, 11.0]])
    mixed = torch.tensor(
        [[50.0, 50.0, 60.0, 60.0], [20.0, 0.0, 28.0, 10.0], [0.0, 0.0, 10.0, 12.0]]
    )
    cases = [
        Case(
            "two good proposals",
            (good, boxes, labels),
            "Each takes class and box of the object it overlaps most.",
        ),
        Case(
            "the same with the objects swapped",
            (good, boxes.flip(0), labels.flip(0)),
            "Look up labels by the match.",
        ),
        Case(
            "a negative, a neutral and a positive",
            (mixed, boxes, labels),
            "Only the positive has a box target.",
        ),
        Case(
            "IoUs of 0.5, 0.3 and 0.2",
            (edges, boxes, labels),
            "From 0.5 on positive, below 0.3 negative.",
        ),
        Case(
            "a picture without objects",
            (good, boxes[:0], labels[:0]),
            "All background: class 0 and no box target.",
        ),
    ]
    return check(student, _training_targets, cases)


def _wrong_targets(
    proposals: Tensor, boxes: Tensor, labels: Tensor, what: str
) -> tuple[Tensor, Tensor]:
    classes, targets = _training_targets(proposals, boxes, labels)
    if what == "first object" and len(boxes):
        classes = torch.where(classes > 0, labels[0], classes)
    if what == "neutral is background":
        classes = classes.clamp(min=0)
    if what == "targets for all" and len(boxes):
        targets = encode_boxes(boxes[box_iou(boxes, proposals).argmax(dim=0)], proposals)
    return classes, -targets if what == "the wrong way" else targets


WRONG_SOLUTIONS = {
    check_iou: {
        "the union counts the shared part twice": lambda a, b: (
            (i := _iou(a, b)) / (1 + i)  # intersection / (area + area)
        ),
        "sides not stopped at 0": lambda a, b: (
            (w := (torch.min(a, b) - torch.max(a, b).roll(2))[2:].prod())
            / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - w)
        ),
        "only the width stopped at 0": lambda a, b: _iou_with_sides(
            a, b, torch.tensor([0.0, -torch.inf])
        ),
        "only the height stopped at 0": lambda a, b: _iou_with_sides(
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
        "always zero": lambda a, b: 0.0,
    },
    check_three_way: {
        "above instead of from": lambda iou, high, low: _three_way(iou, high + 1e-4, low),
        "neutral is negative": lambda iou, high, low: _three_way(iou, high, high),
        "neutral is positive": lambda iou, high, low: _three_way(iou, low, low),
        "neutral at the low threshold is negative": lambda iou, high, low: _three_way(
            iou, high, low + 1e-4
        ),
        "the last object decides": lambda iou, high, low: _three_way(iou[-1:], high, low),
        "the mean decides": lambda iou, high, low: _three_way(
            iou.mean(dim=0, keepdim=True), high, low
        ),
        "thresholds of its own": lambda iou, high, low: _three_way(iou, 0.5, 0.3),
        "axes swapped": lambda iou, high, low: _three_way(iou.T, high, low),
        "always zero": lambda iou, high, low: torch.zeros(iou.shape[1], dtype=torch.int64),
    },
    check_box_target: {
        "the wrong way": lambda proposal, truth: encode_boxes(proposal[None], truth[None])[0],
        "in pixels": lambda proposal, truth: (
            encode_boxes(truth[None], proposal[None])[0]
            * torch.cat([proposal[2:] - proposal[:2], torch.ones(2)])
        ),
        "no logarithm": lambda proposal, truth: torch.cat(
            [(e := encode_boxes(truth[None], proposal[None])[0])[:2], e[2:].exp()]
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
            encode_boxes(truth[None], proposal[None])[0] / torch.tensor([1, 1, 0.6931, 0.6931])
        ),
        "D2L's factors": lambda proposal, truth: encode_boxes(
            truth[None], proposal[None], (10.0, 10.0, 5.0, 5.0)
        )[0],
        "always zero": lambda proposal, truth: torch.zeros(4),
    },
    check_training_targets: {
        what: lambda proposals, boxes, labels, what=what: _wrong_targets(
            proposals, boxes, labels, what
        )
        for what in ("first object", "neutral is background", "targets for all", "the wrong way")
    }
    | {
        f"thresholds {high} and {low}": lambda proposals, boxes, labels, high=high, low=low: (
            _training_targets(proposals, boxes, labels, high, low)
        )
        for high, low in ((0.5001, 0.3), (0.5, 0.3001), (0.7, 0.3), (0.5, 0.1), (0.5, 0.5))
    }
    | {
        "always zero": lambda proposals, boxes, labels: (
            torch.zeros(len(proposals)),
            torch.zeros(len(proposals), 4),
        )
    },
}
