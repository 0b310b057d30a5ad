"""Right and wrong solutions of the exercises in `course_utils.exercises.transposed_convolution`."""

import torch
from torch import nn
from torch.nn import functional as F

from course_utils.exercises import transposed_convolution
from course_utils.exercises.transposed_convolution import (
    _matrix,
    _output_size,
)
from course_utils.ops.conv_transpose import transposed_convolve
from tests.exercises.common import ExerciseTests


def transposed_by_copies(image, kernel, stride, padding):
    (height, width), (kernel_height, kernel_width) = image.shape, kernel.shape
    output = torch.zeros((height - 1) * stride + kernel_height, (width - 1) * stride + kernel_width)
    for i in range(height):
        for j in range(width):
            rows = slice(i * stride, i * stride + kernel_height)
            output[rows, j * stride : j * stride + kernel_width] += image[i, j] * kernel
    return output[padding : len(output) - padding, padding : output.shape[1] - padding]


def _scatter(signal, kernel, stride):
    return transposed_by_copies(signal[:, None], kernel[:, None], stride, 0)[:, 0]


def copies_that_replace(signal, kernel, stride):
    output = torch.zeros((len(signal) - 1) * stride + len(kernel))
    for i, value in enumerate(signal):
        output[i * stride : i * stride + len(kernel)] = value * kernel
    return output


def spread_with_mistake(image, kernel, stride, padding, mistake):
    """Zeros between the pixels and a convolution, with one mistake."""
    height, width = image.shape
    spread = torch.zeros((height - 1) * stride + 1, (width - 1) * stride + 1)
    spread[::stride, ::stride] = image
    if mistake == "zeros after the last pixel":
        spread = F.pad(spread, (0, stride - 1, 0, stride - 1))
    if mistake == "copies instead of zeros":
        repeated = image.repeat_interleave(stride, 0).repeat_interleave(stride, 1)
        spread = repeated[: len(spread), : spread.shape[1]]
    if mistake == "one zero at every stride" and stride > 1:
        spread = torch.zeros(2 * height - 1, 2 * width - 1)
        spread[::2, ::2] = image
    border = {"no border": 0, "padding as border": padding, "padding ignored": len(kernel) - 1}
    border = border.get(mistake, len(kernel) - 1 - padding)
    flips = {"kernel not flipped": (), "kernel flipped in one axis": (1,)}.get(mistake, (0, 1))
    spread = F.pad(spread, (border,) * 4)
    missing = [max(0, len(kernel) - length) for length in spread.shape]  # room for conv2d
    spread = F.pad(spread, (0, missing[1], 0, missing[0]))
    return F.conv2d(spread[None, None], kernel.flip(flips)[None, None])[0, 0]


def layer_of_torch(image, kernel, stride, padding):
    layer = nn.ConvTranspose2d(1, 1, kernel.shape, stride, padding, bias=False)
    layer.weight.data = kernel[None, None]
    return layer(image[None, None])[0, 0].detach()


RIGHT_SOLUTIONS = {
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
}

WRONG_SOLUTIONS = {
    transposed_convolution.check_output_size: {
        "times the stride": lambda size, kernel, stride, padding, output_padding: size * stride,
        "a copy too many": lambda size, kernel, stride, padding, output_padding: (
            size * stride + kernel - 2 * padding + output_padding
        ),
        "padding cut off one side": lambda size, kernel, stride, padding, output_padding: (
            _output_size(size, kernel, stride, 0, output_padding) - padding
        ),
        "padding added": lambda size, kernel, stride, padding, output_padding: _output_size(
            size, kernel, stride, -padding, output_padding
        ),
        "output padding ignored": lambda size, kernel, stride, padding, output_padding: (
            _output_size(size, kernel, stride, padding, 0)
        ),
        "output padding on both sides": lambda size, kernel, stride, padding, output_padding: (
            _output_size(size, kernel, stride, padding, 2 * output_padding)
        ),
        "a gap after the last copy": lambda size, kernel, stride, padding, output_padding: (
            _output_size(size, max(kernel, stride), stride, padding, output_padding)
        ),
        "stride ignored": lambda size, kernel, stride, padding, output_padding: _output_size(
            size, kernel, 1, padding, output_padding
        ),
        "the size of a convolution": lambda size, kernel, stride, padding, output_padding: (
            (size + 2 * padding - kernel) // stride + 1
        ),
        "always zero": lambda size, kernel, stride, padding, output_padding: 0,
    },
    transposed_convolution.check_scatter: {
        "torch's own": lambda signal, kernel, stride: F.conv_transpose1d(
            signal[None, None], kernel[None, None], stride=stride
        )[0, 0],
        "torch's own in two dimensions": lambda signal, kernel, stride: F.conv_transpose2d(
            signal[None, None, None], kernel[None, None, None], stride=stride
        )[0, 0, 0],
        "the last copy replaces the others": copies_that_replace,
        "averaged where copies overlap": lambda signal, kernel, stride: (
            _scatter(signal, kernel, stride)
            / _scatter(torch.ones_like(signal), torch.ones_like(kernel), stride).clamp(min=1)
        ),
        "integers only": lambda signal, kernel, stride: _scatter(signal, kernel, stride).int(),
        "kernel flipped": lambda signal, kernel, stride: _scatter(signal, kernel.flip(0), stride),
        "signal flipped": lambda signal, kernel, stride: _scatter(signal.flip(0), kernel, stride),
        "stride ignored": lambda signal, kernel, stride: _scatter(signal, kernel, 1),
        "always stride 2": lambda signal, kernel, stride: _scatter(signal, kernel, 2),
        "zeros after the last copy": lambda signal, kernel, stride: F.pad(
            _scatter(signal, kernel, stride), (0, stride - 1)
        ),
        "cropped to stride times the size": lambda signal, kernel, stride: _scatter(
            signal, kernel, stride
        )[: len(signal) * stride],
        "kernel not multiplied by the signal": lambda signal, kernel, stride: _scatter(
            torch.ones_like(signal), kernel, stride
        ),
        "always zero": lambda signal, kernel, stride: torch.zeros_like(
            _scatter(signal, kernel, stride)
        ),
    },
    transposed_convolution.check_matrix: {
        "transposed": lambda kernel, size, stride: _matrix(kernel, size, stride).T,
        "kernel flipped": lambda kernel, size, stride: _matrix(kernel.flip(0), size, stride),
        "stride ignored": lambda kernel, size, stride: _matrix(kernel, size, 1),
        "always stride 2": lambda kernel, size, stride: _matrix(kernel, size, 2),
        "one row too few": lambda kernel, size, stride: _matrix(kernel, size, stride)[:-1],
        "rows that wrap around": lambda kernel, size, stride: torch.stack(
            [F.pad(kernel, (0, size - len(kernel))).roll(i) for i in range(0, size, stride)]
        ),
        "the right rows in the wrong order": lambda kernel, size, stride: _matrix(
            kernel, size, stride
        ).flip(0),
        "each row shifted by 1": lambda kernel, size, stride: _matrix(kernel, size, 1)[
            : (size - len(kernel)) // stride + 1
        ],
        "always zero": lambda kernel, size, stride: torch.zeros_like(_matrix(kernel, size, stride)),
    },
    transposed_convolution.check_spread_and_convolve: {
        mistake: lambda *arguments, mistake=mistake: spread_with_mistake(*arguments, mistake)
        for mistake in (
            "kernel not flipped",
            "kernel flipped in one axis",
            "zeros after the last pixel",
            "copies instead of zeros",
            "one zero at every stride",
            "no border",
            "padding as border",
            "padding ignored",
        )
    }
    | {
        "torch's own": lambda image, kernel, stride, padding: F.conv_transpose2d(
            image[None, None], kernel[None, None], stride=stride, padding=padding
        )[0, 0],
        "torch's own as a layer": layer_of_torch,
        "the course's own": lambda image, kernel, stride, padding: transposed_convolve(
            image[None, None], kernel[None, None], stride=stride, padding=padding
        )[0, 0],
        "transposed": lambda image, kernel, stride, padding: (
            transposed_by_copies(image, kernel, stride, padding).T
        ),
        "always zero": lambda image, kernel, stride, padding: torch.zeros_like(
            transposed_by_copies(image, kernel, stride, padding)
        ),
    },
}


class TestTransposedConvolutionExercises(ExerciseTests):
    exercises, right, wrong = transposed_convolution, RIGHT_SOLUTIONS, WRONG_SOLUTIONS
