"""The exercises of 02_roi_align."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_utils.exercises.checking import Case, Verdict, check
from course_utils.ops.roi import roi_align

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


def _gradient(part: Tensor, height: int, width: int) -> Tensor:
    cells = torch.zeros(height, width, requires_grad=True)
    return torch.autograd.grad(_one_bin(cells, part), cells)[0]


def check_gradient_of_one_bin(student: Callable) -> Verdict:
    """Check `student(part [4], height, width) -> [height, width]`: the gradient of one bin's value."""
    hints = (
        "The four sampling points are the centres of four cells, and each of these cells gets 1/4. "
        "Subtract 0.5 from x and y to get their indices.",
        "Each sampling point contributes 1/4 of its four bilinear weights; where points share a cell, add "
        "their contributions. Rows are y, columns are x.",
        "x1, y1 and x2, y2 are opposite corners; this bin is wider than it is high.",
    )
    cases = [
        Case(f"{_name(part)} on a feature map of 4 x 5 cells", (part, 4, 5), hint)
        for part, hint in zip(BINS, hints, strict=True)
    ]
    return check(student, _gradient, cases)
