"""Every check passes a right solution, says when nothing was attempted, and rejects each known mistake."""

import importlib
import itertools
import math
import pkgutil

import pytest
import torch

import course_utils.exercises
from course_utils.exercises import (
    checking,
    overview,
    rcnn_training_targets,
    roi_align,
    transposed_convolution,
    upsampling,
)
from course_utils.exercises.checking import Case, check
from course_utils.ops.box_coding import encode_boxes_loops
from course_utils.ops.boxes import box_iou_loops
from course_utils.ops.masks import masks_to_boxes_loops

MODULES = [
    importlib.import_module(f"course_utils.exercises.{module.name}")
    for module in pkgutil.iter_modules(course_utils.exercises.__path__)
    if module.name != "checking"
]
CHECKS = [check for module in MODULES for check in module.WRONG_SOLUTIONS]


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


def transposed_by_copies(image, kernel, stride, padding):
    (height, width), (tall, broad) = image.shape, kernel.shape
    output = torch.zeros((height - 1) * stride + tall, (width - 1) * stride + broad)
    for i in range(height):
        for j in range(width):
            rows = slice(i * stride, i * stride + tall)
            output[rows, j * stride : j * stride + broad] += image[i, j] * kernel
    return output[padding : len(output) - padding, padding : output.shape[1] - padding]


def linear_rows(inputs, outputs):
    matrix = torch.zeros(outputs, inputs)
    for i in range(outputs):
        position = min(max((i + 0.5) * inputs / outputs - 0.5, 0.0), inputs - 1.0)
        left = min(int(position), inputs - 1)
        matrix[i, left] += 1 - (position - left)
        matrix[i, min(left + 1, inputs - 1)] += position - left
    return matrix


def one_value_at_a_time(values, places, size):
    larger = torch.zeros(size)
    for value, place in zip(values.flatten(), places.flatten().tolist(), strict=True):
        larger[place // size[1], place % size[1]] = value
    return larger


def align_by_points(features, part):
    """RoIAlign of one part by the lecture's formula, point after point."""
    return (gradient_by_points(part, *features.shape) * features).sum()


def gradient_by_points(part, height, width):
    x1, y1, x2, y2 = part.tolist()
    gradient = torch.zeros(height, width)
    for quarter_x, quarter_y in itertools.product((0.25, 0.75), repeat=2):
        x, y = x1 + quarter_x * (x2 - x1) - 0.5, y1 + quarter_y * (y2 - y1) - 0.5
        for i, j in itertools.product(range(height), range(width)):
            gradient[i, j] += max(0, 1 - abs(x - j)) * max(0, 1 - abs(y - i)) / 4
    return gradient


RIGHT = {
    overview.check_instance_boxes: lambda instances: torch.cat(
        [masks_to_boxes_loops(instances[None] == n) for n in range(1, int(instances.max()) + 1)]
    ),
    overview.check_merge_instances: lambda masks, labels: (
        (masks * labels[:, None, None]).amax(dim=0)
        if len(masks)
        else torch.zeros(masks.shape[1:], dtype=torch.int64)
    ),
    rcnn_training_targets.check_iou: lambda a, b: box_iou_loops(a[None], b[None]).item(),
    rcnn_training_targets.check_three_way: lambda iou, high, low: torch.tensor(
        [1 if best >= high else 0 if best < low else -1 for best in iou.max(dim=0).values]
    ),
    rcnn_training_targets.check_box_target: lambda proposal, truth: encode_boxes_loops(
        truth[None], proposal[None]
    )[0],
    rcnn_training_targets.check_training_targets: lambda *arguments: targets_one_by_one(*arguments),
    upsampling.check_repeat_pixels: lambda image, factor: torch.kron(
        image, torch.ones(factor, factor)
    ),
    upsampling.check_linear_matrix: linear_rows,
    upsampling.check_place_values: one_value_at_a_time,
    upsampling.check_enlarge_labels: lambda scores, size: (
        linear_rows(scores.shape[1], size[0]) @ scores @ linear_rows(scores.shape[2], size[1]).T
    ).argmax(dim=0),
    transposed_convolution.check_output_size: lambda size, kernel, *rest: (
        len(transposed_by_copies(torch.ones(size, 1), torch.ones(kernel, 1), rest[0], 0))
        - 2 * rest[1]
        + rest[2]
    ),
    transposed_convolution.check_scatter: lambda signal, kernel, stride: transposed_by_copies(
        signal[:, None], kernel[:, None], stride, 0
    )[:, 0],
    transposed_convolution.check_matrix: lambda kernel, size, stride: torch.tensor(
        [
            [0.0] * left + kernel.tolist() + [0.0] * (size - left - len(kernel))
            for left in range(0, size - len(kernel) + 1, stride)
        ]
    ),
    transposed_convolution.check_spread_and_convolve: transposed_by_copies,
    roi_align.check_bilinear_weights: lambda x, y: torch.tensor(
        [
            max(0, 1 - abs(x - i)) * max(0, 1 - abs(y - j))
            for j in (math.floor(y), math.floor(y) + 1)
            for i in (math.floor(x), math.floor(x) + 1)
        ]
    ),
    roi_align.check_snapping_offset: lambda box, stride: torch.tensor(
        [
            stride * (math.floor(edge / stride + 0.5) + (place > 1)) - edge
            for place, edge in enumerate(box.tolist())
        ]
    ),
    roi_align.check_align_one_bin: align_by_points,
    roi_align.check_gradient_of_one_bin: gradient_by_points,
}


def test_every_public_check_has_wrong_solutions():
    for module in MODULES:
        public = {value for name, value in vars(module).items() if name.startswith("check_")}
        assert public == set(module.WRONG_SOLUTIONS)
        assert all(len(wrong) >= 4 for wrong in module.WRONG_SOLUTIONS.values())


@pytest.mark.parametrize("exercise", CHECKS, ids=lambda exercise: exercise.__name__)
def test_a_right_solution_passes(exercise):
    assert exercise(RIGHT[exercise]) == (True, "Passed: right on every input.")


@pytest.mark.parametrize("exercise", CHECKS, ids=lambda exercise: exercise.__name__)
def test_a_stub_is_not_attempted(exercise):
    def stub(*arguments):
        raise NotImplementedError

    verdict = exercise(stub)
    assert verdict.passed is None and repr(verdict).startswith("Not attempted yet")


WRONG = [
    pytest.param(exercise, wrong, id=f"{exercise.__name__}: {name}")
    for module in MODULES
    for exercise, solutions in module.WRONG_SOLUTIONS.items()
    for name, wrong in solutions.items()
]


@pytest.mark.parametrize(("exercise", "wrong"), WRONG)
def test_a_wrong_solution_is_rejected_with_an_explanation(exercise, wrong):
    verdict = exercise(wrong)
    assert verdict.passed is False
    assert "expected" in verdict.message or "should" in verdict.message, verdict.message
    assert "Hint: " in verdict.message and "stopped with" not in verdict.message, verdict.message


def test_an_exception_is_reported_in_a_sentence():
    verdict = check(lambda x: 1 / 0, lambda x: x, [Case("one", (1,), "Think.")])
    assert (
        verdict.message
        == "Not yet: on one, it stopped with ZeroDivisionError: division by zero. Hint: Think."
    )


@pytest.mark.parametrize(
    ("got", "words"),
    [
        ("word", "should be numbers"),
        (torch.zeros(3), r"should have shape [2], got [3]"),
        (torch.tensor([1.0, 3.0]), "expected [1.0, 2.0], got [1.0, 3.0]"),
        (torch.tensor([1.0, float("nan")]), "got [1.0, nan]"),
    ],
)
def test_what_was_expected_and_what_came(got, words):
    verdict = check(lambda: got, lambda: torch.tensor([1.0, 2.0]), [Case("nothing", (), "Think.")])
    assert verdict.passed is False and words in verdict.message


def test_a_student_who_changes_the_input_in_place_harms_nothing():
    def in_place(x):
        return x.mul_(2)

    numbers = torch.tensor([1.0])
    assert check(in_place, lambda x: 2 * x, [Case("one", (numbers,), "")] * 2).passed
    assert numbers.item() == 1


def test_tuples_are_compared_part_by_part():
    assert checking._difference((1, 2), (1, 2)) is None
    assert checking._difference((1, 3), (1, 2)) == "expected 2, got 3"
    assert checking._difference(5, (1, 2)) == "the result should be 2 things, got 5"
