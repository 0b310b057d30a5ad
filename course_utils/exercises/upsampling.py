"""The exercises of 05_upsampling."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from course_utils.exercises.checking import Case, Verdict, check

FOUR = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
WIDE = torch.tensor([[1.0, 5.0, 2.0], [7.0, 0.0, 3.0]])


def _repeat(image: Tensor, factor: int) -> Tensor:
    return image.repeat_interleave(factor, dim=0).repeat_interleave(factor, dim=1)


def check_repeat_pixels(student: Callable) -> Verdict:
    """Check `student(image [h, w], factor) -> larger [h * factor, w * factor]`: nearest neighbour."""
    cases = [
        Case(
            "the lecture's four numbers, twice as large",
            (FOUR, 2),
            "1 1 2 2, in two rows; then 3 3 4 4.",
        ),
        Case("two rows of three, three times as large", (WIDE, 3), "Use `factor`, not 2."),
        Case("a factor of 1", (WIDE, 1), "Nothing changes."),
        Case("one pixel", (FOUR[:1, :1], 2), "Four times the same number."),
    ]
    return check(student, _repeat, cases)


def _linear_matrix(inputs: int, outputs: int, align_corners: bool = False) -> Tensor:
    columns = torch.eye(inputs)[None]
    return interpolate(columns, size=outputs, mode="linear", align_corners=align_corners)[0].T


def check_linear_matrix(student: Callable) -> Verdict:
    """Check `student(inputs, outputs) -> matrix [outputs, inputs]`: linear interpolation, half pixels."""
    cases = [
        Case(
            "3 pixels left as they are",
            (3, 3),
            "Each looks at itself, with weight 1 - distance: ones on the diagonal.",
        ),
        Case(
            "1 pixel made 3",
            (1, 3),
            "A row for each output pixel. Whoever looks beyond the border gets the border pixel whole.",
        ),
        Case("2 pixels made 4", (2, 4), "Output i looks at (i + 0.5) * inputs / outputs - 0.5."),
        Case(
            "3 pixels made 5", (3, 5), "The ratio of the sizes is no whole number: divide with /."
        ),
        Case(
            "6 pixels made 4", (6, 4), "Shrinking follows the same rule: two weights in each row."
        ),
    ]
    return check(student, _linear_matrix, cases)


def _unpool(values: Tensor, places: Tensor, size: tuple[int, int]) -> Tensor:
    flat = torch.zeros(size[0] * size[1])
    flat[places.flatten()] = values.flatten()
    return flat.reshape(size)


def check_place_values(student: Callable) -> Verdict:
    """Check `student(values [h, w], places [h, w], size) -> larger [size]`: max unpooling.

    `places` counts the output's pixels row by row, as the pooling layer wrote them down.
    """
    lecture = torch.tensor([[5, 2], [12, 15]])
    wide = torch.tensor([[1, 2, 11], [18, 13, 16]])
    cases = [
        Case("the lecture's four numbers", (FOUR, lecture, (4, 4)), "Place 5 is row 1, column 1."),
        Case(
            "an output that is wider than high",
            (WIDE, wide, (4, 6)),
            "Place p is row p // width, column p % width, with the output's width.",
        ),
        Case(
            "negative numbers and fractions",
            (-FOUR / 4, lecture, (4, 4)),
            "Write the value as it is, whatever its sign; 0 only where there is none.",
        ),
        Case(
            "a row and a column left over by the pooling",
            (FOUR, torch.tensor([[0, 3], [16, 18]]), (5, 5)),
            "`size` says how large the output is, not twice the input.",
        ),
    ]
    return check(student, _unpool, cases)


def _label_map(scores: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
    enlarged = interpolate(scores[None], size=size, mode="bilinear", align_corners=align_corners)
    return enlarged[0].argmax(dim=0)


def check_enlarge_labels(student: Callable) -> Verdict:
    """Check `student(scores [c, h, w], size) -> classes [size]`: the best class of every large pixel."""
    edge = torch.tensor([[[4.0, 0.0]], [[0.0, 1.0]], [[1.0, 0.5]]])
    generator = torch.Generator().manual_seed(0)
    several = torch.randn(4, 3, 4, generator=generator)
    cases = [
        Case(
            "one pixel, two classes",
            (edge[:2, :, :1], (2, 3)),
            "A map [height, width] with the better class everywhere.",
        ),
        Case(
            "a sure pixel beside an unsure one",
            (edge, (2, 8)),
            "Enlarge the scores first (align_corners=False): the sure class reaches further.",
        ),
        Case(
            "four classes, another shape",
            (several, (9, 8)),
            "Bilinear, of the scores as they are: no softmax before it, no bicubic.",
        ),
        Case(
            "four classes, made smaller", (several, (2, 3)), "Bilinear here too, without antialias."
        ),
    ]
    return check(student, _label_map, cases)


WRONG_SOLUTIONS = {
    check_repeat_pixels: {
        "tiles instead of pixels": lambda image, factor: image.repeat(factor, factor),
        "always twice": lambda image, factor: _repeat(image, 2),
        "rows only": lambda image, factor: image.repeat_interleave(factor, dim=0),
        "axes swapped": lambda image, factor: _repeat(image.T, factor),
        "bed of nails": lambda image, factor: (
            _repeat(image, factor)
            * (torch.arange(image.shape[0] * factor) % factor == 0)[:, None]
            * (torch.arange(image.shape[1] * factor) % factor == 0)
        ),
        "bilinear": lambda image, factor: interpolate(
            image[None, None], scale_factor=factor, mode="bilinear"
        )[0, 0],
        "always zero": lambda image, factor: torch.zeros_like(_repeat(image, factor)),
    },
    check_linear_matrix: {
        "align_corners": lambda inputs, outputs: _linear_matrix(inputs, outputs, True),
        "transposed": lambda inputs, outputs: _linear_matrix(inputs, outputs).T,
        "nearest": lambda inputs, outputs: (
            interpolate(torch.eye(inputs)[None], size=outputs, mode="nearest")[0].T
        ),
        "no half pixel": lambda inputs, outputs: (
            1 - (torch.arange(outputs)[:, None] * inputs / outputs - torch.arange(inputs)).abs()
        ).clamp(min=0),
        "nothing beyond the border": lambda inputs, outputs: (
            1
            - (
                (torch.arange(outputs)[:, None] + 0.5) * inputs / outputs
                - 0.5
                - torch.arange(inputs)
            ).abs()
        ).clamp(min=0),
        "whole factors only": lambda inputs, outputs: torch.cat(
            [
                _linear_matrix(inputs, inputs * (outputs // inputs)),
                torch.zeros(outputs % inputs, inputs),
            ]
        ),
        "antialias": lambda inputs, outputs: (
            interpolate(
                torch.eye(inputs)[None, None],
                size=(inputs, outputs),
                mode="bilinear",
                antialias=True,
            )[0, 0].T
        ),
        "always zero": lambda inputs, outputs: torch.zeros(outputs, inputs),
    },
    check_place_values: {
        "bed of nails": lambda values, places, size: _unpool(
            values,
            2 * size[1] * torch.arange(values.shape[0])[:, None]
            + 2 * torch.arange(values.shape[1]),
            size,
        ),
        "columns first": lambda values, places, size: _unpool(values, places, (size[1], size[0])).T,
        "the input's width": lambda values, places, size: _unpool(
            values, places // size[1] * values.shape[1] + places % size[1], size
        ),
        "off by one": lambda values, places, size: _unpool(values, (places - 1).clamp(min=0), size),
        "places written instead of values": lambda values, places, size: _unpool(
            places.float(), places, size
        ),
        "only positive numbers": lambda values, places, size: _unpool(
            values.clamp(min=0), places, size
        ),
        "whole numbers only": lambda values, places, size: _unpool(values.trunc(), places, size),
        "always twice as large": lambda values, places, size: _unpool(
            values, places.clamp(max=4 * values.numel() - 1), tuple(2 * n for n in values.shape)
        ),
        "always zero": lambda values, places, size: torch.zeros(size),
    },
    check_enlarge_labels: {
        "classes first, then nearest": lambda scores, size: interpolate(
            scores.argmax(dim=0)[None, None].float(), size=size, mode="nearest"
        )[0, 0].long(),
        "classes first, then bilinear": lambda scores, size: (
            interpolate(scores.argmax(dim=0)[None, None].float(), size=size, mode="bilinear")[0, 0]
            .round()
            .long()
        ),
        "scores by nearest": lambda scores, size: interpolate(
            scores[None], size=size, mode="nearest"
        )[0].argmax(dim=0),
        "align_corners": lambda scores, size: _label_map(scores, size, True),
        "axes swapped": lambda scores, size: _label_map(scores, (size[1], size[0])),
        "probabilities": lambda scores, size: _label_map(scores.softmax(dim=0), size),
        "bicubic": lambda scores, size: interpolate(scores[None], size=size, mode="bicubic")[
            0
        ].argmax(dim=0),
        "antialias": lambda scores, size: interpolate(
            scores[None], size=size, mode="bilinear", antialias=True
        )[0].argmax(dim=0),
        "the smallest score": lambda scores, size: _label_map(-scores, size),
        "scores returned": lambda scores, size: interpolate(
            scores[None], size=size, mode="bilinear"
        )[0].amax(dim=0),
        "always zero": lambda scores, size: torch.zeros(size, dtype=torch.int64),
    },
}
