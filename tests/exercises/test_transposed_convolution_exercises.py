"""Right and wrong solutions of the exercises in `course_utils.exercises.transposed_convolution`."""

import torch
from torch import nn
from torch.nn import functional as F

from course_utils.exercises import transposed_convolution
from course_utils.exercises.transposed_convolution import (
    _matrix,
)
from course_utils.ops.conv_transpose import bilinear_kernel, transposed_convolve
from course_utils.training.experiments.checkerboards import (
    constant_response,
    error_on_cat,
    stack_of_two,
    train_on_cat,
)
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


def bilinear_stack():
    """Two transposed convolutions that are bilinear upsampling, with five channels that do nothing."""
    network = stack_of_two("transposed 4", 0)
    for layer, kernel in (
        (network[0], bilinear_kernel(8, 4)[:3]),
        (network[2], bilinear_kernel(8, 4)),
    ):
        layer.weight.data = kernel[:, : layer.weight.shape[1]].double()
        layer.bias.data.zero_()
    return network


def trained_without_pattern(steps=200):
    """From near bilinear upsampling, with a loss for the pattern."""
    network, even = stack_of_two("transposed 4", 0), bilinear_stack()
    for layer in (0, 2):
        network[layer].weight.data = even[layer].weight.data + 0.05 * network[layer].weight.data
        network[layer].bias.data.zero_()
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    greys = torch.tensor([0.1, 0.4, 0.7, 1]).double().view(4, 1, 1, 1).expand(4, 3, 8, 8)
    for _ in range(steps):
        flat = network(greys)[..., 8:-8, 8:-8]
        loss = error_on_cat(network) + 30 * flat.var(dim=(2, 3)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


def stack_after(steps, kind="transposed 4"):
    network = stack_of_two(kind, 0)
    train_on_cat(network, steps)
    return network


def constant_stack():
    network = stack_of_two("transposed 4", 0)
    network[2].weight.data.zero_()
    return network


class Interpolating(nn.Module):
    """It has the layers, and does not use them."""

    def __init__(self):
        super().__init__()
        self.layers = stack_of_two("transposed 4", 0)

    def forward(self, image):
        return F.interpolate(image, scale_factor=4, mode="bicubic")


RIGHT_SOLUTIONS = {
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
    transposed_convolution.check_constant_layers: lambda: "HFEB",
    transposed_convolution.check_even_upsampler: trained_without_pattern,
}

WRONG_SOLUTIONS = {
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
    transposed_convolution.check_constant_layers: {
        "filter size a multiple of the stride": lambda: "ABDEF",
        "only resize-convolution": lambda: "H",
        "without the bilinear filter": lambda: "BFH",
        "no transposed convolution": lambda: "GH",
        "square filters of ones": lambda: "BCEFH",
        "bed of nails is resize-convolution": lambda: "BEFGH",
        "no overlap, no pattern": lambda: "ABDEFH",
        "all": lambda: "ABCDEFGH",
        "none": lambda: "",
        "lower case": lambda: "befh",
        "numbers": lambda: (2, 5, 6, 8),
        "nothing": lambda: None,
    },
    transposed_convolution.check_even_upsampler: {
        "untrained": lambda: stack_of_two("transposed 4", 0),
        "trained as in the notebook": lambda: stack_after(20),
        "filter 3": lambda: stack_after(1, "transposed 3"),
        "resize-convolution": lambda: stack_of_two("resize-convolution", 0),
        "PixelShuffle": lambda: stack_of_two("PixelShuffle, ICNR", 0),
        "a constant output": constant_stack,
        "bilinear upsampling itself": bilinear_stack,
        "interpolation in disguise": Interpolating,
        "one layer": lambda: stack_of_two("transposed 4", 0)[:2],
        "three layers": lambda: stack_of_two("transposed 4", 0).append(
            nn.ConvTranspose2d(3, 3, 4, 2)
        ),
        "no network": lambda: torch.zeros(1, 3, 64, 80),
        "nothing": lambda: None,
    },
}


class TestTransposedConvolutionExercises(ExerciseTests):
    exercises, right, wrong = transposed_convolution, RIGHT_SOLUTIONS, WRONG_SOLUTIONS


def test_a_network_of_another_size_is_rejected():
    larger = stack_of_two("transposed 4", 0)
    larger[2].padding = (0, 0)
    message = transposed_convolution.check_even_upsampler(lambda: larger).message
    assert "expected shape [1, 3, 64, 80], got [1, 3, 66, 82]" in message


def test_bilinear_weights_have_no_pattern():
    assert constant_response(bilinear_stack()).std() < 1e-6
