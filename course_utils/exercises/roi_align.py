"""The exercises of 02_roi_align."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_utils.exercises.checking import Case, Verdict, attempt, check
from course_utils.exercises.predictions import Answer, compare
from course_utils.ops.boxes import box_iou
from course_utils.ops.roi import roi_align

GOAL = 0.84  # mean IoU; RoIPool as it is reaches 0.70, the best boxes for each stride 0.846
BINS = torch.tensor([[1.0, 1.0, 3.0, 3.0], [0.8, 1.3, 3.6, 2.9], [1.2, 0.6, 4.4, 3.3]])
FEATURES = torch.tensor(
    [
        [0.0, 3.0, 1.0, 4.0, 1.0],
        [5.0, 9.0, 2.0, 6.0, 5.0],
        [3.0, 5.0, 8.0, 9.0, 7.0],
        [9.0, 3.0, 2.0, 3.0, 8.0],
    ]
)


def _weights(x: int | float, y: int | float) -> Tensor:
    right, down = x % 1, y % 1
    left, up = 1 - right, 1 - down
    return torch.tensor([left * up, right * up, left * down, right * down])


def check_bilinear_weights(student: Callable) -> Verdict:
    """Check `student(x, y) -> weights [4]`: upper left, upper right, lower left, lower right."""
    cases = [
        Case(
            "x = 3.0, y = 2.0",
            (3.0, 2.0),
            "The point coincides with its upper left neighbour, which gets weight 1; the others get 0.",
        ),
        Case(
            "x = 2.5, y = 4.5",
            (2.5, 4.5),
            "The point is equally far from all four neighbours: each weight is 1/4.",
        ),
        Case(
            "x = 6.5, y = 5.8",
            (6.5, 5.8),
            "This is the lecture's point: the upper weights are 0.5 * 0.2, the lower ones 0.5 * 0.8.",
        ),
        Case(
            "x = 1.1, y = 8.3",
            (1.1, 8.3),
            "The nearer neighbour gets the larger weight; x runs from left to right, y downwards.",
        ),
    ]
    return check(student, _weights, cases)


def _offset(box: Tensor, stride: int | float) -> Tensor:
    cells = (box / stride + 0.5).floor() + torch.tensor([0, 0, 1, 1])
    return cells * stride - box


def check_snapping_offset(student: Callable) -> Verdict:
    """Check `student(box [4], stride) -> pixels [4]`: how far RoIPool moves each edge."""
    cases = [
        Case(
            "a box whose edges lie on edges of cells",
            (torch.tensor([32.0, 64.0, 96.0, 128.0]), 32),
            "The left and top edges stay. The right and bottom edges move by one cell, because RoIPool "
            "includes the last cell; a move to the right or downwards is positive.",
        ),
        Case(
            "a box whose edges lie inside cells",
            (torch.tensor([171.2, 81.6, 312.0, 273.6]), 32),
            "Round to cells, add 1 to the right and bottom edges, multiply by the stride, subtract the box.",
        ),
        Case(
            "the same box with stride 16",
            (torch.tensor([171.2, 81.6, 312.0, 273.6]), 16),
            "Use the argument `stride`, not the number 32.",
        ),
        Case(
            "edges halfway between two cells",
            (torch.tensor([16.0, 48.0, 80.0, 112.0]), 32),
            "Halves are rounded up. Python's and torch's `round` go to the even number instead.",
        ),
    ]
    return check(student, _offset, cases)


def _one_bin(features: Tensor, part: Tensor) -> Tensor:
    inputs = features[None, None], [part[None]]
    return roi_align(*inputs, output_size=1, sampling_ratio=2, aligned=True)[0, 0, 0, 0]


def _name(part: Tensor) -> str:
    return f"the bin [{', '.join(f'{edge:g}' for edge in part.tolist())}]"


def check_align_one_bin(student: Callable) -> Verdict:
    """Check `student(features [h, w], part [4]) -> value`: RoIAlign of one bin, 2 x 2 sampling points."""
    part, slope = torch.tensor([2.0, 1.0, 4.0, 3.5]), torch.arange(8.0).expand(6, 8)
    hints = (
        "The sampling points are (1.5, 1.5), (2.5, 1.5), (1.5, 2.5) and (2.5, 2.5), which are centres of "
        "cells. Subtract 0.5 from x and y to get the indices of these cells.",
        "The sampling points lie at 1/4 and 3/4 of the bin; each interpolates between four cells.",
        "x1, y1 and x2, y2 are opposite corners; this bin is wider than it is high.",
    )
    cases = [
        Case(
            "a constant feature map",
            (torch.full((6, 8), 5.0), part),
            "The mean of equal values is that value: do the four weights of each point sum to 1?",
        ),
        Case(
            "a feature map whose column k holds the value k",
            (slope, part),
            "The value k belongs to the centre of column k, at x = k + 0.5, so at x = 3.0 the interpolated "
            "value is 2.5. Subtract 0.5, and remember that features[i, j] is row i (y), column j (x).",
        ),
        *(Case(_name(p), (FEATURES, p), hint) for p, hint in zip(BINS, hints, strict=True)),
    ]
    return check(student, _one_bin, cases)


MISTAKES = (
    Answer(
        "the mistake behind crop A",
        2,
        "Compare both values with what they should be, 206.4 and 276.8: how do the two differences compare?",
    ),
    Answer(
        "the mistake behind crop B",
        4,
        "The two values lie further apart than 70.4, as if the box were wider. Which sides does it have?",
    ),
    Answer(
        "the mistake behind crop C",
        1,
        "The two values are about right, but one is too low and one too high: in which cells does such a box "
        "begin and end?",
    ),
    Answer(
        "the mistake behind crop D",
        5,
        "The left value is twice 206.4, and the right one comes from outside the map.",
    ),
)


def crops_to_diagnose() -> dict[str, list[float]]:
    """The left and the right bin of the face's box on the slope, by four calls with one mistake each."""
    slope = (32 * (torch.arange(15, dtype=torch.float64) + 0.5)).repeat(1, 1, 20, 1)
    box = torch.tensor([[171.2, 81.6, 312.0, 273.6]], dtype=torch.float64)
    calls = {
        "A": (box, 1 / 32, False),
        "B": (box[:, [1, 0, 3, 2]], 1 / 32, True),
        "C": ((box / 32).round() * 32, 1 / 32, True),
        "D": (box, 1 / 16, True),
    }
    return {
        name: roi_align(slope, [boxes], 2, scale, 2, aligned)[0, 0, 0].tolist()
        for name, (boxes, scale, aligned) in calls.items()
    }


def check_diagnosis(student: Callable) -> Verdict:
    """Check `student() -> four numbers`: the mistake behind each crop of `crops_to_diagnose`."""
    return compare(student, MISTAKES, tolerance=0.0)


def overlap_of_cropped(boxes: Tensor, given: Tensor, stride: int) -> float:
    """The mean IoU of `boxes` with the whole cells that RoIPool crops when it is given other boxes."""
    corners = (given.to(boxes) / stride + 0.5).floor()
    cropped = torch.cat([corners[:, :2], corners[:, 2:].maximum(corners[:, :2]) + 1], dim=1)
    return box_iou(boxes, cropped * stride).diagonal().mean().item()


def check_boxes_for_roi_pool(student: Callable) -> Verdict:
    """Check `student(boxes [n, 4], stride) -> [n, 4]`: boxes for which RoIPool crops what it should."""
    generator = torch.Generator().manual_seed(0)
    corner, size = torch.rand(2, 1000, 2, generator=generator, dtype=torch.float64)
    boxes = torch.cat([400 * corner, 400 * corner + 32 + 200 * size], dim=1)
    scores = []
    for stride in (8, 16, 32):
        given = attempt(
            lambda: torch.as_tensor(student(boxes.clone(), stride)),  # noqa: B023
            f"stride {stride}",
            "boxes [n, 4] and the stride come in, boxes [n, 4] in pixels go out.",
        )
        if isinstance(given, Verdict):
            return given
        if given.shape != boxes.shape:
            shapes = f"expected shape {list(boxes.shape)}, got {list(given.shape)}"
            hint = "Return one box for each box, in pixels."
            return Verdict(False, f"Not yet: for stride {stride}, {shapes}. Hint: {hint}")
        scores.append(overlap_of_cropped(boxes, given, stride))
    score = sum(scores) / len(scores)
    found = " ".join(f"{value:.3f}" for value in scores)
    if not score >= GOAL:
        hint = "By how much does RoIPool move the right and the bottom edge on average? Section 2 says it."
        return Verdict(
            False,
            f"Not yet: the mean IoU should be at least {GOAL}, got {score:.3f} "
            f"({found} at strides 8, 16 and 32). Hint: {hint}",
        )
    return Verdict(True, f"Passed: mean IoU {score:.3f} ({found} at strides 8, 16 and 32).")
