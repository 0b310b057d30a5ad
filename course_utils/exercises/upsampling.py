"""The exercises of 05_upsampling."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, max_unpool2d

from course_utils.data.photos import photo
from course_utils.exercises.checking import Case, Verdict, attempt, check
from course_utils.exercises.predictions import Answer, compare

FOUR = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
PREDICTIONS = (
    Answer(
        "the difference (a)",
        4.0,
        "The output pixels are at -0.25, 0.25, 0.75 and 1.25. Write down the four values.",
    ),
    Answer(
        "the number of pixels (b)",
        2.0,
        "The outputs on either side of the border are at a quarter and at three quarters of the way from 1 "
        "to 6. Which of the eight outputs are between 1 and 6?",
    ),
    Answer(
        "the distance (c)",
        7.5,
        "With align_corners=True the centre of the first pixel is at output position 0. Where is it when it "
        "covers 224 / 14 = 16 output pixels?",
    ),
    Answer("the mean (d)", 1 / 16, "How many of the 4 x 4 pixels of a block are not 0?"),
)
WIDE = torch.tensor([[1.0, 5.0, 2.0], [7.0, 0.0, 3.0]])
LESS = 0.3  # grey levels by which the error must be smaller than that of bicubic upsampling


def check_predictions(student: Callable) -> Verdict:
    """Check `student() -> four numbers`: what upsampling does, predicted."""
    return compare(student, PREDICTIONS, tolerance=1e-3)


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


@cache
def _photos() -> Tensor:
    """Parts of four photos, 224 x 224; other parts than those of the notebook, and mirrored."""
    corners = {
        "chelsea": (60, 200),
        "astronaut": (90, 60),
        "coffee": (120, 250),
        "camera": (150, 110),
    }
    parts = [
        photo(name).sample.image[:, y : y + 224, x : x + 224].flip(2)
        for name, (y, x) in corners.items()
    ]
    return torch.stack(parts)


def _error(enlarged: Tensor) -> float:
    """The mean over the photos of the root mean square difference, in grey levels."""
    difference = enlarged.clamp(0, 1) - _photos()
    return 255 * difference.square().mean(dim=(1, 2, 3)).sqrt().mean().item()


def check_enlarge_photo(student: Callable) -> Verdict:
    """Check `student(small [n, 3, 56, 56]) -> photos [n, 3, 224, 224]`: closer than bicubic upsampling."""
    small = avg_pool2d(_photos(), 4)
    bicubic = _error(interpolate(small, scale_factor=4, mode="bicubic"))
    hint = "Photos [n, 3, 56, 56] come in, photos [n, 3, 224, 224] go out."
    got = attempt(lambda: torch.as_tensor(student(small.clone())).detach(), "four photos", hint)
    if isinstance(got, Verdict):
        return got
    if got.shape != _photos().shape:
        shapes = f"expected shape {list(_photos().shape)}, got {list(got.shape)}"
        return Verdict(False, f"Not yet: {shapes}. Hint: 56 pixels become 224, a factor of 4.")
    error = _error(got)
    if not error <= bicubic - LESS:
        return Verdict(
            False,
            f"Not yet: the error should be at most {bicubic - LESS:.2f} grey levels, got {error:.2f} "
            f"(bicubic: {bicubic:.2f}). Hint: average your result over blocks of 4 x 4. Is it the input?",
        )
    return Verdict(True, f"Passed: {error:.2f} grey levels, bicubic {bicubic:.2f}.")
