"""Right and wrong solutions of the exercises in `course_utils.exercises.upsampling`."""

import torch
from torch.nn.functional import interpolate, max_unpool2d

from course_utils.exercises import upsampling
from course_utils.exercises.upsampling import _label_map, _repeat, _unpool
from tests.exercises.common import ExerciseTests, linear_rows


def one_value_at_a_time(values, places, size):
    larger = torch.zeros(size)
    for value, index in zip(values.flatten(), places.flatten().tolist(), strict=True):
        larger[index // size[1], index % size[1]] = value
    return larger


RIGHT_SOLUTIONS = {
    upsampling.check_repeat_pixels: lambda image, factor: torch.kron(
        image, torch.ones(factor, factor)
    ),
    upsampling.check_linear_matrix: linear_rows,
    upsampling.check_place_values: one_value_at_a_time,
    upsampling.check_enlarge_labels: lambda scores, size: (
        linear_rows(scores.shape[1], size[0]) @ scores @ linear_rows(scores.shape[2], size[1]).T
    ).argmax(dim=0),
}

WRONG_SOLUTIONS = {
    upsampling.check_repeat_pixels: {
        "torch's own": lambda image, factor: interpolate(image[None, None], scale_factor=factor)[
            0, 0
        ],
        "tiles instead of pixels": lambda image, factor: image.repeat(factor, factor),
        "always twice": lambda image, factor: _repeat(image, 2),
        "rows only": lambda image, factor: image.repeat_interleave(factor, dim=0),
        "transposed": lambda image, factor: _repeat(image.T, factor),
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
    upsampling.check_linear_matrix: {
        "torch's own": lambda inputs, outputs: (
            interpolate(torch.eye(inputs)[None], size=outputs, mode="linear")[0].T
        ),
        "align_corners": lambda inputs, outputs: (
            1
            - (
                torch.arange(outputs)[:, None] * (inputs - 1) / max(outputs - 1, 1)
                - torch.arange(inputs)
            ).abs()
        ).clamp(min=0),
        "transposed": lambda inputs, outputs: linear_rows(inputs, outputs).T,
        "nearest": lambda inputs, outputs: torch.eye(inputs)[
            torch.arange(outputs) * inputs // outputs
        ],
        "no half-pixel shift": lambda inputs, outputs: (
            1 - (torch.arange(outputs)[:, None] * inputs / outputs - torch.arange(inputs)).abs()
        ).clamp(min=0),
        "0 beyond the border": lambda inputs, outputs: (
            1
            - (
                (torch.arange(outputs)[:, None] + 0.5) * inputs / outputs
                - 0.5
                - torch.arange(inputs)
            ).abs()
        ).clamp(min=0),
        "integer factors only": lambda inputs, outputs: torch.cat(
            [
                linear_rows(inputs, inputs * (outputs // inputs)),
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
    upsampling.check_place_values: {
        "bed of nails": lambda values, places, size: _unpool(
            values,
            2 * size[1] * torch.arange(values.shape[0])[:, None]
            + 2 * torch.arange(values.shape[1]),
            size,
        ),
        "torch's own": lambda values, places, size: max_unpool2d(
            values[None], places[None], 2, output_size=size
        )[0],
        "values added": lambda values, places, size: (
            torch.zeros(size[0] * size[1])
            .index_add_(0, places.flatten(), values.flatten())
            .reshape(size)
        ),
        "values averaged": lambda values, places, size: (
            _unpool(values, places, size)
            / torch.bincount(places.flatten(), minlength=size[0] * size[1]).clamp(min=1).view(size)
        ),
        "column by column": lambda values, places, size: (
            _unpool(values, places, (size[1], size[0])).T
        ),
        "the input's width": lambda values, places, size: _unpool(
            values, places // size[1] * values.shape[1] + places % size[1], size
        ),
        "off by one": lambda values, places, size: _unpool(values, (places - 1).clamp(min=0), size),
        "indices instead of values": lambda values, places, size: _unpool(
            places.float(), places, size
        ),
        "only positive numbers": lambda values, places, size: _unpool(
            values.clamp(min=0), places, size
        ),
        "integers only": lambda values, places, size: _unpool(values.trunc(), places, size),
        "always twice as large": lambda values, places, size: _unpool(
            values, places.clamp(max=4 * values.numel() - 1), tuple(2 * n for n in values.shape)
        ),
        "always zero": lambda values, places, size: torch.zeros(size),
    },
    upsampling.check_enlarge_labels: {
        "argmax first, then nearest": lambda scores, size: interpolate(
            scores.argmax(dim=0)[None, None].float(), size=size, mode="nearest"
        )[0, 0].long(),
        "argmax first, then bilinear": lambda scores, size: (
            interpolate(scores.argmax(dim=0)[None, None].float(), size=size, mode="bilinear")[0, 0]
            .round()
            .long()
        ),
        "scores by nearest": lambda scores, size: interpolate(
            scores[None], size=size, mode="nearest"
        )[0].argmax(dim=0),
        "align_corners": lambda scores, size: interpolate(
            scores[None], size=size, mode="bilinear", align_corners=True
        )[0].argmax(dim=0),
        "height and width swapped": lambda scores, size: _label_map(scores, (size[1], size[0])),
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


class TestUpsamplingExercises(ExerciseTests):
    exercises, right, wrong = upsampling, RIGHT_SOLUTIONS, WRONG_SOLUTIONS
