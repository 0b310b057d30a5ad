"""Right and wrong solutions of the exercises in `course_utils.exercises.upsampling`."""

import torch
from torch.nn.functional import avg_pool2d, interpolate, max_unpool2d

from course_utils.exercises import upsampling
from course_utils.exercises.upsampling import _label_map, _unpool
from course_utils.ops import upsample
from tests.exercises.common import ExerciseTests, linear_rows


def one_value_at_a_time(values, places, size):
    larger = torch.zeros(size)
    for value, index in zip(values.flatten(), places.flatten().tolist(), strict=True):
        larger[index // size[1], index % size[1]] = value
    return larger


def bicubic(small):
    return interpolate(small, scale_factor=4, mode="bicubic")


def corrected(large, small):
    """Back-projection: what the means of the blocks lack is enlarged and added."""
    return large + bicubic(small - avg_pool2d(large, 4))


RIGHT_SOLUTIONS = {
    upsampling.check_predictions: lambda: torch.tensor([4.0, 2.0, 7.5, 0.0625]),
    upsampling.check_linear_matrix: linear_rows,
    upsampling.check_place_values: one_value_at_a_time,
    upsampling.check_enlarge_labels: lambda scores, size: (
        linear_rows(scores.shape[1], size[0]) @ scores @ linear_rows(scores.shape[2], size[1]).T
    ).argmax(dim=0),
    upsampling.check_enlarge_photo: lambda small: corrected(
        corrected(bicubic(small), small), small
    ),
}

WRONG_SOLUTIONS = {
    upsampling.check_predictions: {
        "nothing changes": lambda: (8, 0, 0, 1),
        "centres at 0, 0.5, 1": lambda: (8 / 3, 2, 7.5, 1 / 16),
        "one wrong pixel": lambda: (4, 1, 7.5, 1 / 16),
        "half of the factor": lambda: (4, 2, 8, 1 / 16),
        "the other direction": lambda: (4, 2, -7.5, 1 / 16),
        "a quarter, not a sixteenth": lambda: (4, 2, 7.5, 1 / 4),
        "the sum, not the mean": lambda: (4, 2, 7.5, 1),
        "three answers": lambda: (4, 2, 7.5),
        "words": lambda: ("four", "two", "seven", "a bit"),
        "not a number": lambda: (float("nan"), 2, 7.5, 1 / 16),
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
    upsampling.check_enlarge_photo: {
        "bicubic": lambda small: bicubic(small),
        "bicubic, a = -1": lambda small: upsample.bicubic(small, (224, 224), a=-1.0),
        "bicubic, align_corners": lambda small: interpolate(
            small, scale_factor=4, mode="bicubic", align_corners=True
        ),
        "bilinear": lambda small: interpolate(small, scale_factor=4, mode="bilinear"),
        "nearest": lambda small: interpolate(small, scale_factor=4),
        "corrected in the wrong direction": lambda small: (
            2 * bicubic(small) - corrected(bicubic(small), small)
        ),
        "clamped": lambda small: bicubic(small).clamp(0, 1),
        "sharpened": lambda small: (
            1.5 * bicubic(small) - 0.5 * avg_pool2d(bicubic(small), 5, stride=1, padding=2)
        ),
        "as it came": lambda small: small,
        "one photo": lambda small: bicubic(small)[0],
        "grey": lambda small: torch.full((4, 3, 224, 224), 0.5),
        "not a number": lambda small: bicubic(small) * float("nan"),
    },
}


class TestUpsamplingExercises(ExerciseTests):
    exercises, right, wrong = upsampling, RIGHT_SOLUTIONS, WRONG_SOLUTIONS

    def test_a_right_solution_passes(self, check):
        verdict = check(self.right[check])
        assert verdict.passed and verdict.message.startswith("Passed: ")
