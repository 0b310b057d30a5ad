"""The exercises of 06_transposed_convolution."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises.checking import Case, Verdict, check


def _output_size(size: int, kernel: int, stride: int, padding: int, output_padding: int) -> int:
    return (size - 1) * stride + kernel - 2 * padding + output_padding


def check_output_size(student: Callable) -> Verdict:
    """Check `student(size, kernel, stride, padding, output_padding) -> size of the output`."""
    cases = [
        Case("one pixel", (1, 3, 2, 0, 0), "One copy of the filter: 3 pixels."),
        Case("the lecture's 2 pixels", (2, 3, 2, 0, 0), "The second copy starts 2 further on: 5."),
        Case(
            "a filter of one", (3, 1, 2, 0, 0), "Copies at 0, 2 and 4, and nothing after the last."
        ),
        Case("trimmed on both sides", (4, 4, 2, 1, 0), "Padding is trimmed from both ends."),
        Case("the lecture's 2 to 4", (2, 3, 2, 1, 1), "5, less 2 times 1, and 1 given back."),
        Case("stride 1", (7, 5, 1, 2, 0), "With this padding the size stays."),
        Case("FCN-32s", (16, 64, 32, 16, 0), "From 16 to 512: 32 times as large, exactly."),
    ]
    return check(student, _output_size, cases)


def _scatter(signal: Tensor, kernel: Tensor, stride: int) -> Tensor:
    return F.conv_transpose1d(signal[None, None], kernel[None, None], stride=stride)[0, 0]


def check_scatter(student: Callable) -> Verdict:
    """Check `student(signal [n], kernel [k], stride) -> [(n - 1) * stride + k]`, nothing trimmed."""
    two, kernel = torch.tensor([2.0, 3.0]), torch.tensor([1.0, 10.0, 100.0])
    four = torch.tensor([1.0, 2.0, 3.0, 4.0])
    cases = [
        Case(
            "one number",
            (torch.tensor([2.5]), kernel, 2),
            "The output is the filter, times the number.",
        ),
        Case(
            "the lecture's example",
            (two, kernel, 2),
            "Copy i starts at i * stride. Where two copies meet, they are added.",
        ),
        Case("stride 1", (four, kernel, 1), "Copy i starts at i: up to three copies meet."),
        Case("stride 3", (two, kernel, 3), "The copies lie side by side: nothing is added."),
        Case("a gap", (two, kernel[:2], 4), "Between the copies stay zeros; after the last, none."),
    ]
    return check(student, _scatter, cases)


def _matrix(kernel: Tensor, size: int, stride: int) -> Tensor:
    return F.conv1d(torch.eye(size)[:, None], kernel[None, None], stride=stride)[:, 0].T


def check_matrix(student: Callable) -> Verdict:
    """Check `student(kernel [k], size, stride) -> X [(size - k) // stride + 1, size]`.

    `X @ signal` is the convolution of a signal of `size` numbers, padding included.
    """
    kernel = torch.tensor([5.0, 6.0, 7.0])
    cases = [
        Case("a filter that fits once", (kernel, 3, 1), "One row: the filter, as it stands."),
        Case(
            "the lecture's X", (kernel, 6, 1), "Each row has the filter one column further right."
        ),
        Case("the lecture's X at stride 2", (kernel, 6, 2), "Rows 0 and 2 of the X at stride 1."),
        Case("two left over", (kernel[:2], 7, 3), "The filter fits twice; two columns stay empty."),
        Case("a filter of one", (kernel[:1], 4, 2), "Each row picks one number."),
    ]
    return check(student, _matrix, cases)


def _spread_and_convolve(image: Tensor, kernel: Tensor, stride: int, padding: int) -> Tensor:
    image, kernel = image[None, None], kernel[None, None]
    return F.conv_transpose2d(image, kernel, stride=stride, padding=padding)[0, 0]


def check_spread_and_convolve(student: Callable) -> Verdict:
    """Check `student(image [h, w], kernel [k, k], stride, padding) -> transposed convolution`.

    To be built from zeros between the pixels and one normal convolution; `padding` is below k.
    """
    image, kernel = (
        torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        torch.arange(1.0, 10.0).reshape(3, 3),
    )
    wide = torch.tensor([[1.0, 2.0, 0.0, 5.0], [3.0, 4.0, 7.0, 6.0]])
    cases = [
        Case(
            "one pixel of 1",
            (image[:1, :1], kernel, 1, 0),
            "A border of zeros as wide as the filter less 1 lets every weight meet the pixel. The output is "
            "the filter itself, so turn it around first, in both axes.",
        ),
        Case(
            "the lecture's 2 x 2 to 5 x 5",
            (image, kernel, 2, 0),
            "One row and one column of zeros between the pixels, none after the last; then the border.",
        ),
        Case(
            "the same, trimmed",
            (image, kernel, 2, 1),
            "Each pixel of padding takes one off the border.",
        ),
        Case("stride 1", (wide, kernel, 1, 1), "No zeros between the pixels, and one all round."),
        Case(
            "a wide image, stride 3", (wide, kernel[:2, 1:], 3, 0), "Two zeros between the pixels."
        ),
    ]
    return check(student, _spread_and_convolve, cases)


def _stamp_over(signal: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """Copies that replace what is there instead of adding to it, a wrong solution."""
    output = torch.zeros((len(signal) - 1) * stride + len(kernel))
    for i, value in enumerate(signal):
        output[i * stride : i * stride + len(kernel)] = value * kernel
    return output


def _spread_and_forget(
    image: Tensor, kernel: Tensor, stride: int, padding: int, what: str
) -> Tensor:
    """Zero insertion with one mistake, for wrong solutions."""
    height, width = image.shape
    spread = torch.zeros((height - 1) * stride + 1, (width - 1) * stride + 1)
    spread[::stride, ::stride] = image
    if what == "zeros after the last pixel":
        spread = F.pad(spread, (0, stride - 1, 0, stride - 1))
    if what == "copies instead of zeros":
        repeated = image.repeat_interleave(stride, 0).repeat_interleave(stride, 1)
        spread = repeated[: len(spread), : spread.shape[1]]
    if what == "one zero at every stride" and stride > 1:
        spread = torch.zeros(2 * height - 1, 2 * width - 1)
        spread[::2, ::2] = image
    border = {"no border": 0, "the padding as border": padding, "padding ignored": len(kernel) - 1}
    border = border.get(what, len(kernel) - 1 - padding)
    turns = {"kernel not turned": (), "turned in one axis": (1,)}.get(what, (0, 1))
    spread = F.pad(spread, (border,) * 4)
    missing = [max(0, len(kernel) - length) for length in spread.shape]  # room for conv2d
    spread = F.pad(spread, (0, missing[1], 0, missing[0]))
    return F.conv2d(spread[None, None], kernel.flip(turns)[None, None])[0, 0]


WRONG_SOLUTIONS = {
    check_output_size: {
        "times the stride": lambda size, kernel, stride, padding, output_padding: size * stride,
        "a copy too many": lambda size, kernel, stride, padding, output_padding: (
            size * stride + kernel - 2 * padding + output_padding
        ),
        "trimmed on one side": lambda size, kernel, stride, padding, output_padding: (
            _output_size(size, kernel, stride, 0, output_padding) - padding
        ),
        "padding added": lambda size, kernel, stride, padding, output_padding: _output_size(
            size, kernel, stride, -padding, output_padding
        ),
        "output padding left out": lambda size, kernel, stride, padding, output_padding: (
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
        "of a normal convolution": lambda size, kernel, stride, padding, output_padding: (
            (size + 2 * padding - kernel) // stride + 1
        ),
        "always zero": lambda size, kernel, stride, padding, output_padding: 0,
    },
    check_scatter: {
        "the last copy wins": _stamp_over,
        "averaged where copies meet": lambda signal, kernel, stride: (
            _scatter(signal, kernel, stride)
            / _scatter(torch.ones_like(signal), torch.ones_like(kernel), stride).clamp(min=1)
        ),
        "whole numbers only": lambda signal, kernel, stride: _scatter(signal, kernel, stride).int(),
        "kernel backwards": lambda signal, kernel, stride: _scatter(signal, kernel.flip(0), stride),
        "signal backwards": lambda signal, kernel, stride: _scatter(signal.flip(0), kernel, stride),
        "stride ignored": lambda signal, kernel, stride: _scatter(signal, kernel, 1),
        "stride 2 always": lambda signal, kernel, stride: _scatter(signal, kernel, 2),
        "zeros after the last copy": lambda signal, kernel, stride: F.pad(
            _scatter(signal, kernel, stride), (0, stride - 1)
        ),
        "trimmed to stride times the size": lambda signal, kernel, stride: _scatter(
            signal, kernel, stride
        )[: len(signal) * stride],
        "the kernel not weighted": lambda signal, kernel, stride: _scatter(
            torch.ones_like(signal), kernel, stride
        ),
        "always zero": lambda signal, kernel, stride: torch.zeros_like(
            _scatter(signal, kernel, stride)
        ),
    },
    check_matrix: {
        "transposed": lambda kernel, size, stride: _matrix(kernel, size, stride).T,
        "kernel backwards": lambda kernel, size, stride: _matrix(kernel.flip(0), size, stride),
        "stride ignored": lambda kernel, size, stride: _matrix(kernel, size, 1),
        "stride 2 always": lambda kernel, size, stride: _matrix(kernel, size, 2),
        "one row too few": lambda kernel, size, stride: _matrix(kernel, size, stride)[:-1],
        "around the corner": lambda kernel, size, stride: torch.stack(
            [F.pad(kernel, (0, size - len(kernel))).roll(i) for i in range(0, size, stride)]
        ),
        "the right rows in the wrong order": lambda kernel, size, stride: _matrix(
            kernel, size, stride
        ).flip(0),
        "every row a step of 1": lambda kernel, size, stride: _matrix(kernel, size, 1)[
            : (size - len(kernel)) // stride + 1
        ],
        "always zero": lambda kernel, size, stride: torch.zeros_like(_matrix(kernel, size, stride)),
    },
    check_spread_and_convolve: {
        what: lambda image, kernel, stride, padding, what=what: _spread_and_forget(
            image, kernel, stride, padding, what
        )
        for what in (
            "kernel not turned",
            "turned in one axis",
            "zeros after the last pixel",
            "copies instead of zeros",
            "one zero at every stride",
            "no border",
            "the padding as border",
            "padding ignored",
        )
    }
    | {
        "axes swapped": lambda image, kernel, stride, padding: (
            _spread_and_convolve(image, kernel, stride, padding).T
        ),
        "always zero": lambda image, kernel, stride, padding: torch.zeros_like(
            _spread_and_convolve(image, kernel, stride, padding)
        ),
    },
}
