"""The exercises of 02_roi_align."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_utils.exercises.checking import Case, Verdict, check
from course_utils.ops.roi import roi_align


def _weights(x: int | float, y: int | float) -> Tensor:
    right, down = x % 1, y % 1
    along, across = torch.tensor([1 - right, right]), torch.tensor([1 - down, down])
    return torch.outer(across, along).flatten()


def check_bilinear_weights(student: Callable) -> Verdict:
    """Check `student(x, y) -> weights [4]`: upper left, upper right, lower left, lower right."""
    cases = [
        Case("x = 3.0, y = 2.0", (3.0, 2.0), "On a cell, that cell alone counts."),
        Case("x = 2.5, y = 4.5", (2.5, 4.5), "In the middle of four, a quarter each."),
        Case(
            "x = 6.5, y = 5.8",
            (6.5, 5.8),
            "The lecture's point: 0.5 * 0.2 above, 0.5 * 0.8 below.",
        ),
        Case(
            "x = 1.1, y = 8.3", (1.1, 8.3), "The nearer neighbour counts more; x is left to right."
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
            "Left and top stay; right and bottom take in one more cell.",
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


SLOPE = torch.arange(8.0).expand(6, 8)
BUMPS = torch.tensor(
    [
        [0.0, 3.0, 1.0, 4.0, 1.0],
        [5.0, 9.0, 2.0, 6.0, 5.0],
        [3.0, 5.0, 8.0, 9.0, 7.0],
        [9.0, 3.0, 2.0, 3.0, 8.0],
    ]
)
PARTS = (
    (torch.tensor([1.0, 1.0, 3.0, 3.0]), "Four points, each on the centre of a cell: read there."),
    (
        torch.tensor([0.8, 1.3, 3.6, 2.9]),
        "The points are at a quarter and at three quarters of the part, in x and in y.",
    ),
    (torch.tensor([1.2, 0.6, 4.4, 3.3]), "A cell's value belongs to its centre: take off a half."),
)


def check_align_one_bin(student: Callable) -> Verdict:
    """Check `student(features [h, w], part [4]) -> number`: RoIAlign of one part, 2 x 2 points."""
    slope = torch.tensor([2.0, 1.0, 4.0, 5.0])
    cases = [
        Case(
            "cells all alike",
            (torch.full((6, 8), 5.0), slope),
            "A mean of equal numbers is that number: do the weights sum to 1?",
        ),
        Case(
            "a slope along x",
            (SLOPE, slope),
            "The part's centre is at x = 3.0, and cell 2.5's worth of slope is there: take off a half.",
        ),
        *(Case(f"the part {part.tolist()}", (BUMPS, part), hint) for part, hint in PARTS),
    ]
    return check(student, _one_bin, cases)


def _gradient(part: Tensor, height: int, width: int, **options) -> Tensor:
    cells = torch.zeros(height, width, requires_grad=True)
    return torch.autograd.grad(_one_bin(cells, part, **options), cells)[0]


def check_gradient_of_one_bin(student: Callable) -> Verdict:
    """Check `student(part [4], height, width) -> gradient [height, width]` of one part's answer."""
    hints = (
        "Four points on four centres: a quarter each.",
        "Each point gives a quarter of its four bilinear weights; where points meet, add.",
        "Rows are y and columns are x; take off a half.",
    )
    cases = [
        Case(f"the part {part.tolist()} on 4 x 5 cells", (part, 4, 5), hint)
        for (part, _), hint in zip(PARTS, hints, strict=True)
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
        "a half added": lambda features, part: _one_bin(features, part + 1),
        "one point": lambda features, part: _one_bin(features, part, samples=1),
        "three by three points": lambda features, part: _one_bin(features, part, samples=3),
        "a sum": lambda features, part: 4 * _one_bin(features, part),
        "x and y swapped": lambda features, part: _one_bin(features, _swap(part).clamp(max=4)),
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
        "the largest takes all": lambda part, h, w: (
            (g := _gradient(part, h, w)) == g.max()
        ).float(),
        "evenly among the cells": lambda part, h, w: (
            (g := (_gradient(part, h, w) > 0).float()) / g.sum()
        ),
        "always zero": lambda part, h, w: torch.zeros(h, w),
    },
}
