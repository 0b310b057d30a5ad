"""The exercises of 02_roi_align."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_utils.exercises.checking import Case, Verdict, check
from course_utils.ops.roi import roi_align


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
            "On a cell, that cell alone counts. It is the upper left one of the four.",
        ),
        Case("x = 2.5, y = 4.5", (2.5, 4.5), "In the middle of four, a quarter each."),
        Case(
            "x = 6.5, y = 5.8",
            (6.5, 5.8),
            "The lecture's point: 0.5 * 0.2 above, 0.5 * 0.8 below.",
        ),
        Case(
            "x = 1.1, y = 8.3",
            (1.1, 8.3),
            "The nearer neighbour counts more. x goes from left to right, y down.",
        ),
    ]
    return check(student, _weights, cases)


def _offset(box: Tensor, stride: int | float, last: int | float = 1) -> Tensor:
    cells = (box / stride + 0.5).floor() + torch.tensor([0, 0, last, last])
    return cells * stride - box


def check_snapping_offset(student: Callable) -> Verdict:
    """Check `student(box [4], stride) -> pixels [4]`: how far RoIPool moves each edge."""
    cases = [
        Case(
            "a box of whole cells",
            (torch.tensor([32.0, 64.0, 96.0, 128.0]), 32),
            "Left and top stay; right and bottom take in one more cell, and that counts as plus.",
        ),
        Case(
            "a box between the cells",
            (torch.tensor([171.2, 81.6, 312.0, 273.6]), 32),
            "Round to cells, add one to the right and to the bottom, multiply by the stride.",
        ),
        Case(
            "the same box at stride 16",
            (torch.tensor([171.2, 81.6, 312.0, 273.6]), 16),
            "Use the stride that is given.",
        ),
        Case(
            "edges halfway between two cells",
            (torch.tensor([16.0, 48.0, 80.0, 112.0]), 32),
            "Halves round up. Python's and torch's `round` take the even number instead.",
        ),
    ]
    return check(student, _offset, cases)


def _one_bin(features: Tensor, part: Tensor, samples: int = 2, aligned: bool = True) -> Tensor:
    return roi_align(features[None, None], [part[None]], 1, 1.0, samples, aligned)[0, 0, 0, 0]


PARTS = torch.tensor([[1.0, 1.0, 3.0, 3.0], [0.8, 1.3, 3.6, 2.9], [1.2, 0.6, 4.4, 3.3]])
BUMPS = torch.tensor(
    [
        [0.0, 3.0, 1.0, 4.0, 1.0],
        [5.0, 9.0, 2.0, 6.0, 5.0],
        [3.0, 5.0, 8.0, 9.0, 7.0],
        [9.0, 3.0, 2.0, 3.0, 8.0],
    ]
)


def _name(part: Tensor) -> str:
    return "the part " + ", ".join(f"{edge:g}" for edge in part.tolist())


def check_align_one_bin(student: Callable) -> Verdict:
    """Check `student(features [h, w], part [4]) -> number`: RoIAlign of one part, 2 x 2 points."""
    part, slope = torch.tensor([2.0, 1.0, 4.0, 3.5]), torch.arange(8.0).expand(6, 8)
    hints = (
        "The points are (1.5, 1.5), (2.5, 1.5), (1.5, 2.5), (2.5, 2.5), all centres of cells. "
        "A half less, in x and in y, and they are the numbers of cells.",
        "The points are at a quarter and at three quarters of the part; each mixes four cells.",
        "x1, y1 and x2, y2 are corners; this part is wider than it is tall.",
    )
    cases = [
        Case(
            "cells all alike",
            (torch.full((6, 8), 5.0), part),
            "A mean of equal numbers is that number: do the weights sum to 1?",
        ),
        Case(
            "a slope along x, where column k holds the number k",
            (slope, part),
            "The number k belongs to the column's centre, x = k + 0.5, so at x = 3.0 the slope is 2.5. "
            "Take off a half, and mind that features[j, i] is row j, column i.",
        ),
        *(Case(_name(p), (BUMPS, p), hint) for p, hint in zip(PARTS, hints, strict=True)),
    ]
    return check(student, _one_bin, cases)


def _gradient(part: Tensor, height: int, width: int, **options) -> Tensor:
    cells = torch.zeros(height, width, requires_grad=True)
    return torch.autograd.grad(_one_bin(cells, part, **options), cells)[0]


def check_gradient_of_one_bin(student: Callable) -> Verdict:
    """Check `student(part [4], height, width) -> gradient [height, width]` of one part's answer."""
    hints = (
        "The four points are the centres of four cells, which get a quarter each. Take off a half.",
        "Each point gives a quarter of its four bilinear weights; where points meet, add. "
        "Rows are y, columns are x.",
        "x1, y1 and x2, y2 are corners; this part is wider than it is tall.",
    )
    cases = [
        Case(f"{_name(part)} on 4 x 5 cells", (part, 4, 5), hint)
        for part, hint in zip(PARTS, hints, strict=True)
    ]
    return check(student, _gradient, cases)


def _swap(part: Tensor) -> Tensor:
    return part[[1, 0, 3, 2]]


WRONG_SOLUTIONS = {
    check_bilinear_weights: {
        "the far neighbour counts more": lambda x, y: _weights(x, y).flip(0),
        "x and y swapped": lambda x, y: _weights(y, x),
        "down before right": lambda x, y: _weights(x, y)[[0, 2, 1, 3]],
        "the nearest alone": lambda x, y: _weights(round(x), round(y)),
        "a quarter each": lambda x, y: torch.full((4,), 0.25),
        "distances added, not multiplied": lambda x, y: (
            torch.tensor([2 - x % 1 - y % 1, 1 + x % 1 - y % 1, 1 - x % 1 + y % 1, x % 1 + y % 1])
            / 4
        ),
        "the distance from the nearest": lambda x, y: _weights(
            abs(x - round(x)), abs(y - round(y))
        ),
        "always zero": lambda x, y: torch.zeros(4),
    },
    check_snapping_offset: {
        "no cell added": lambda box, stride: _offset(box, stride, last=0),
        "a pixel added instead of a cell": lambda box, stride: _offset(
            box, stride, last=1 / stride
        ),
        "rounded down": lambda box, stride: _offset(box - stride / 2, stride) - stride / 2,
        "halves to even": lambda box, stride: (
            ((box / stride).round() + torch.tensor([0, 0, 1, 1])) * stride - box
        ),
        "in cells": lambda box, stride: _offset(box, stride) / stride,
        "the wrong sign": lambda box, stride: -_offset(box, stride),
        "no sign": lambda box, stride: _offset(box, stride).abs(),
        "a stride of its own": lambda box, stride: _offset(box, 32),
        "always zero": lambda box, stride: torch.zeros(4),
    },
    check_align_one_bin: {
        "no half taken off": lambda features, part: _one_bin(features, part, aligned=False),
        "a half taken off x alone": lambda features, part: _one_bin(
            features, part + torch.tensor([0.0, 0.5, 0.0, 0.5])
        ),
        "a half added": lambda features, part: _one_bin(features, part + 1),
        "one point": lambda features, part: _one_bin(features, part, samples=1),
        "three by three points": lambda features, part: _one_bin(features, part, samples=3),
        "a sum": lambda features, part: 4 * _one_bin(features, part),
        "x and y swapped": lambda features, part: _one_bin(features, _swap(part)),
        "rounded": lambda features, part: _one_bin(features, part.round()),
        "the largest cell": lambda features, part: features[
            int(part[1]) : int(part[3]) + 1, int(part[0]) : int(part[2]) + 1
        ].max(),
        "points on the edges": lambda features, part: _one_bin(
            features, torch.cat([1.5 * part[:2] - part[2:] / 2, 1.5 * part[2:] - part[:2] / 2])
        ),
        "always zero": lambda features, part: 0.0,
    },
    check_gradient_of_one_bin: {
        "no half taken off": lambda part, h, w: _gradient(part, h, w, aligned=False),
        "one point": lambda part, h, w: _gradient(part, h, w, samples=1),
        "a sum": lambda part, h, w: 4 * _gradient(part, h, w),
        "x and y swapped": lambda part, h, w: _gradient(_swap(part), h, w),
        "transposed": lambda part, h, w: _gradient(part, w, h).T,
        "the second half of the points": lambda part, h, w: _gradient(
            torch.cat([(part[:2] + part[2:]) / 2, part[2:]]), h, w, samples=1
        ),
        "the largest takes all": lambda part, h, w: (
            (g := _gradient(part, h, w)) == g.max()
        ).float(),
        "evenly among the cells": lambda part, h, w: (
            (g := (_gradient(part, h, w) > 0).float()) / g.sum()
        ),
        "always zero": lambda part, h, w: torch.zeros(h, w),
    },
}
