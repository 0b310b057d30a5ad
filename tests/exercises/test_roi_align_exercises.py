"""Right and wrong solutions of the exercises in `course_utils.exercises.roi_align`."""

import itertools
import math

import torch

from course_utils.exercises import roi_align
from course_utils.exercises.roi_align import _gradient, _offset, _one_bin, _weights
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


def gradient_with(part, height, width, **options):
    features = torch.zeros(height, width, requires_grad=True)
    return torch.autograd.grad(one_bin_with(features, part, **options), features)[0]


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
    roi_align.check_gradient_of_one_bin: gradient_by_points,
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
    roi_align.check_gradient_of_one_bin: {
        "0.5 not subtracted": lambda part, h, w: gradient_with(part, h, w, aligned=False),
        "one sampling point": lambda part, h, w: gradient_with(part, h, w, sampling_ratio=1),
        "a sum": lambda part, h, w: 4 * _gradient(part, h, w),
        "x and y swapped": lambda part, h, w: _gradient(swapped(part), h, w),
        "transposed": lambda part, h, w: _gradient(part, w, h).T,
        "one sampling point in the second half": lambda part, h, w: gradient_with(
            torch.cat([(part[:2] + part[2:]) / 2, part[2:]]), h, w, sampling_ratio=1
        ),
        "the largest weight alone": lambda part, h, w: (
            (g := _gradient(part, h, w)) == g.max()
        ).float(),
        "the same for every cell": lambda part, h, w: (
            (g := (_gradient(part, h, w) > 0).float()) / g.sum()
        ),
        "always zero": lambda part, h, w: torch.zeros(h, w),
    },
}


class TestRoIAlignExercises(ExerciseTests):
    exercises, right, wrong = roi_align, RIGHT_SOLUTIONS, WRONG_SOLUTIONS
