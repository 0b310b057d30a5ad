"""Right and wrong solutions of the exercises in `course_utils.exercises.roi_align`."""

import itertools
import math

import torch

from course_utils.exercises import roi_align
from course_utils.exercises.roi_align import _offset, _one_bin, _weights
from course_utils.ops import roi
from tests.exercises.common import ExerciseTests


def align_by_points(features, part):
    """RoIAlign of one bin by the lecture's formula, point after point."""
    return (gradient_by_points(part, *features.shape) * features).sum()


def gradient_by_points(part, height, width):
    x1, y1, x2, y2 = part.tolist()
    gradient = torch.zeros(height, width)
    for quarter_x, quarter_y in itertools.product((0.25, 0.75), repeat=2):
        x, y = x1 + quarter_x * (x2 - x1) - 0.5, y1 + quarter_y * (y2 - y1) - 0.5
        for i, j in itertools.product(range(height), range(width)):
            gradient[i, j] += max(0, 1 - abs(x - j)) * max(0, 1 - abs(y - i)) / 4
    return gradient


def one_bin_with(features, part, sampling_ratio=2, aligned=True):
    """RoIAlign of one bin with other options."""
    options = {"sampling_ratio": sampling_ratio, "aligned": aligned}
    return roi.roi_align(features[None, None], [part[None]], output_size=1, **options).squeeze()


def swapped(part):
    return part[[1, 0, 3, 2]]


RIGHT_SOLUTIONS = {
    roi_align.check_bilinear_weights: lambda x, y: torch.tensor(
        [
            max(0, 1 - abs(x - i)) * max(0, 1 - abs(y - j))
            for j in (math.floor(y), math.floor(y) + 1)
            for i in (math.floor(x), math.floor(x) + 1)
        ]
    ),
    roi_align.check_snapping_offset: lambda box, stride: torch.tensor(
        [
            stride * (math.floor(edge / stride + 0.5) + (axis > 1)) - edge
            for axis, edge in enumerate(box.tolist())
        ]
    ),
    roi_align.check_align_one_bin: align_by_points,
    roi_align.check_diagnosis: lambda: torch.tensor([2, 4, 1, 5]),
    roi_align.check_boxes_for_roi_pool: lambda boxes, stride: torch.stack(
        [boxes[:, 0], boxes[:, 1], boxes[:, 2] - stride, boxes[:, 3] - stride], dim=1
    ),
}

WRONG_SOLUTIONS = {
    roi_align.check_bilinear_weights: {
        "the far neighbour weighs more": lambda x, y: _weights(x, y).flip(0),
        "x and y swapped": lambda x, y: _weights(y, x),
        "lower left before upper right": lambda x, y: _weights(x, y)[[0, 2, 1, 3]],
        "only the nearest neighbour": lambda x, y: _weights(round(x), round(y)),
        "a quarter each": lambda x, y: torch.full((4,), 0.25),
        "distances added, not multiplied": lambda x, y: (
            torch.tensor([2 - x % 1 - y % 1, 1 + x % 1 - y % 1, 1 - x % 1 + y % 1, x % 1 + y % 1])
            / 4
        ),
        "the distance to the nearest cell": lambda x, y: _weights(
            abs(x - round(x)), abs(y - round(y))
        ),
        "always zero": lambda x, y: torch.zeros(4),
    },
    roi_align.check_snapping_offset: {
        "no cell added": lambda box, stride: (
            _offset(box, stride) - torch.tensor([0, 0, stride, stride])
        ),
        "a pixel added instead of a cell": lambda box, stride: (
            _offset(box, stride) - torch.tensor([0, 0, stride - 1, stride - 1])
        ),
        "rounded down": lambda box, stride: _offset(box - stride / 2, stride) - stride / 2,
        "halves to even": lambda box, stride: (
            ((box / stride).round() + torch.tensor([0, 0, 1, 1])) * stride - box
        ),
        "in cells": lambda box, stride: _offset(box, stride) / stride,
        "the opposite sign": lambda box, stride: -_offset(box, stride),
        "no sign": lambda box, stride: _offset(box, stride).abs(),
        "a stride of its own": lambda box, stride: _offset(box, 32),
        "always zero": lambda box, stride: torch.zeros(4),
    },
    roi_align.check_align_one_bin: {
        "0.5 not subtracted": lambda features, part: one_bin_with(features, part, aligned=False),
        "0.5 subtracted from x alone": lambda features, part: _one_bin(
            features, part + torch.tensor([0.0, 0.5, 0.0, 0.5])
        ),
        "0.5 added": lambda features, part: _one_bin(features, part + 1),
        "one sampling point": lambda features, part: one_bin_with(features, part, sampling_ratio=1),
        "3 x 3 sampling points": lambda features, part: one_bin_with(
            features, part, sampling_ratio=3
        ),
        "a sum": lambda features, part: 4 * _one_bin(features, part),
        "x and y swapped": lambda features, part: _one_bin(features, swapped(part)),
        "rounded": lambda features, part: _one_bin(features, part.round()),
        "the largest cell": lambda features, part: features[
            int(part[1]) : int(part[3]) + 1, int(part[0]) : int(part[2]) + 1
        ].max(),
        "sampling points on the edges": lambda features, part: _one_bin(
            features, torch.cat([1.5 * part[:2] - part[2:] / 2, 1.5 * part[2:] - part[:2] / 2])
        ),
        "always zero": lambda features, part: 0.0,
    },
    roi_align.check_diagnosis: {
        "the same mistake four times": lambda: (2, 2, 2, 2),
        "in the order of the list": lambda: (1, 2, 4, 5),
        "RoIPool where it only rounded": lambda: (2, 4, 3, 5),
        "aligned and scale exchanged": lambda: (5, 4, 1, 2),
        "x and y, and rounding exchanged": lambda: (2, 1, 4, 5),
        "counted from 0": lambda: (1, 3, 0, 4),
        "three answers": lambda: (2, 4, 1),
        "one number": lambda: 2,
        "the crops' names": lambda: "ABCD",
        "nothing": lambda: None,
    },
    roi_align.check_boxes_for_roi_pool: {
        "the boxes as they are": lambda boxes, stride: boxes,
        "a pixel less": lambda boxes, stride: boxes - torch.tensor([0, 0, 1, 1]),
        "half a cell less": lambda boxes, stride: boxes - torch.tensor([0, 0, 0.5, 0.5]) * stride,
        "moved by a cell": lambda boxes, stride: boxes - stride,
        "a cell smaller on every side": lambda boxes, stride: (
            boxes + torch.tensor([1, 1, -1, -1]) * stride
        ),
        "one axis": lambda boxes, stride: boxes - torch.tensor([0, 0, stride, 0]),
        "always 16 pixels less": lambda boxes, stride: boxes - torch.tensor([0, 0, 16, 16]),
        "a cell more": lambda boxes, stride: boxes + torch.tensor([0, 0, 1, 1]) * stride,
        "rounded before": lambda boxes, stride: (boxes / stride).round() * stride,
        "in cells": lambda boxes, stride: boxes / stride - torch.tensor([0, 0, 1, 1]),
        "one box": lambda boxes, stride: boxes[0],
    },
}


class TestRoIAlignExercises(ExerciseTests):
    exercises, right, wrong = roi_align, RIGHT_SOLUTIONS, WRONG_SOLUTIONS

    def test_a_right_solution_passes(self, check):
        verdict = check(self.right[check])
        assert verdict.passed and verdict.message.startswith("Passed: ")


def test_the_crops_to_diagnose_are_not_what_they_should_be_and_all_different():
    crops = roi_align.crops_to_diagnose()
    values = {tuple(round(value, 1) for value in crop) for crop in crops.values()}
    assert values == {(222.4, 292.8), (129.6, 225.6), (200.0, 280.0), (412.8, 0.0)}


def test_the_score_is_that_of_the_cells_that_roi_pool_crops():
    box = torch.tensor([[171.2, 81.6, 312.0, 273.6]], dtype=torch.float64)
    cropped = torch.tensor([160, 96, 352, 320])
    inside, whole = (312 - 171.2) * (273.6 - 96), 192 * 224 + 140.8 * (96 - 81.6)
    assert torch.equal(torch.tensor([5, 3, 11, 10]) * 32, cropped)
    assert abs(roi_align.overlap_of_cropped(box, box, 32) - inside / whole) < 1e-9
