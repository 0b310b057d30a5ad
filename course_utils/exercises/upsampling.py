"""The exercises of 05_upsampling."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_unpool2d

from course_utils.exercises.checking import Case, Verdict, check

FOUR = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
WIDE = torch.tensor([[1.0, 5.0, 2.0], [7.0, 0.0, 3.0]])


def _repeat(image: Tensor, factor: int) -> Tensor:
    return image.repeat_interleave(factor, dim=0).repeat_interleave(factor, dim=1)


def check_repeat_pixels(student: Callable) -> Verdict:
    """Check `student(image [h, w], factor) -> larger [h * factor, w * factor]`: nearest neighbour."""
    cases = [
        Case(
            "the lecture's 2 x 2 image and factor 2",
            (FOUR, 2),
            "The first two rows are 1 1 2 2, the last two are 3 3 4 4.",
        ),
        Case(
            "an image of 2 x 3 pixels and factor 3",
            (WIDE, 3),
            "Use the argument `factor`, not the number 2.",
        ),
        Case("a factor of 1", (WIDE, 1), "The output equals the input."),
        Case(
            "a single pixel and factor 2",
            (FOUR[:1, :1], 2),
            "The output is 2 x 2, with the same number four times.",
        ),
    ]
    return check(student, _repeat, cases, [interpolate])


def _linear_matrix(inputs: int, outputs: int) -> Tensor:
    columns = torch.eye(inputs)[None]
    return interpolate(columns, size=outputs, mode="linear", align_corners=False)[0].T


def check_linear_matrix(student: Callable) -> Verdict:
    """Check `student(inputs, outputs) -> matrix [outputs, inputs]`: linear, align_corners=False."""
    cases = [
        Case(
            "3 input and 3 output pixels",
            (3, 3),
            "Each output pixel coincides with one input pixel: the matrix has ones on its diagonal.",
        ),
        Case(
            "1 input and 3 output pixels",
            (1, 3),
            "The matrix has one row per output pixel. A position beyond the border pixel gives this pixel "
            "the weight 1.",
        ),
        Case(
            "2 input and 4 output pixels",
            (2, 4),
            "Output pixel i is interpolated at position (i + 0.5) * inputs / outputs - 0.5 of the input.",
        ),
        Case(
            "3 input and 5 output pixels",
            (3, 5),
            "The ratio of the sizes is not an integer: divide with /, not with //.",
        ),
        Case(
            "6 input and 4 output pixels",
            (6, 4),
            "Downsampling uses the same formula, with at most two weights in each row.",
        ),
    ]
    return check(student, _linear_matrix, cases, [interpolate])


def _unpool(values: Tensor, places: Tensor, size: tuple[int, int]) -> Tensor:
    flat = torch.zeros(size[0] * size[1])
    flat[places.flatten()] = values.flatten()
    return flat.reshape(size)


def check_place_values(student: Callable) -> Verdict:
    """Check `student(values [h, w], places [h, w], size) -> larger [size]`: max unpooling.

    `places` are the indices that max pooling returns: they count the output's pixels row by row.
    """
    lecture = torch.tensor([[5, 2], [12, 15]])
    wide = torch.tensor([[1, 2, 11], [18, 13, 16]])
    cases = [
        Case(
            "the lecture's 2 x 2 values",
            (FOUR, lecture, (4, 4)),
            "In an output of 4 x 4 pixels, index 5 is row 1, column 1.",
        ),
        Case(
            "an output that is wider than high",
            (WIDE, wide, (4, 6)),
            "Index p is row p // width and column p % width, with the width of the output.",
        ),
        Case(
            "negative numbers and fractions",
            (-FOUR / 4, lecture, (4, 4)),
            "Copy each value unchanged, whatever its sign; only pixels without an index are 0.",
        ),
        Case(
            "an output of 5 x 5 pixels",
            (FOUR, torch.tensor([[0, 3], [16, 18]]), (5, 5)),
            "Use the argument `size`: the output need not be twice as large as the input.",
        ),
        Case(
            "overlapping windows, two of which have the same maximum",
            (torch.tensor([[5.0, 5.0], [2.0, 3.0]]), torch.tensor([[5, 5], [9, 10]]), (4, 4)),
            "Copy the values, do not add them up: two windows that overlap can share their maximum.",
        ),
    ]
    return check(student, _unpool, cases, [max_unpool2d])


def _label_map(scores: Tensor, size: tuple[int, int]) -> Tensor:
    enlarged = interpolate(scores[None], size=size, mode="bilinear", align_corners=False)
    return enlarged[0].argmax(dim=0)


def check_enlarge_labels(student: Callable) -> Verdict:
    """Check `student(scores [c, h, w], size) -> classes [size]`: the best class of each output pixel."""
    edge = torch.tensor([[[4.0, 0.0]], [[0.0, 1.0]], [[1.0, 0.5]]])
    generator = torch.Generator().manual_seed(0)
    several = torch.randn(4, 3, 4, generator=generator)
    cases = [
        Case(
            "one pixel, two classes",
            (edge[:2, :, :1], (2, 3)),
            "The output is a map [height, width] with the class of the higher score everywhere.",
        ),
        Case(
            "a confident pixel beside an uncertain one",
            (edge, (2, 8)),
            "Upsample the scores first (bilinear, align_corners=False) and take the argmax afterwards: then "
            "the class with the higher score covers more pixels.",
        ),
        Case(
            "four classes, another aspect ratio",
            (several, (9, 8)),
            "Interpolate the scores themselves, bilinearly: no softmax before it, and not bicubic.",
        ),
        Case(
            "four classes, a smaller output",
            (several, (2, 3)),
            "Downsampling is bilinear as well, without antialiasing.",
        ),
    ]
    return check(student, _label_map, cases)
