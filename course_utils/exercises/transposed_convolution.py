"""The exercises of 06_transposed_convolution."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from course_utils.exercises.checking import Case, Verdict, check

TRANSPOSED = [
    F.conv_transpose1d,
    F.conv_transpose2d,
    F.conv_transpose3d,
]  # refused where they are built


def _output_size(size: int, kernel: int, stride: int, padding: int, output_padding: int) -> int:
    return (size - 1) * stride + kernel - 2 * padding + output_padding


def check_output_size(student: Callable) -> Verdict:
    """Check `student(size, kernel, stride, padding, output_padding) -> size of the output`."""
    cases = [
        Case("an input of one pixel", (1, 3, 2, 0, 0), "The output is one copy of the kernel."),
        Case(
            "the lecture's input of 2 pixels",
            (2, 3, 2, 0, 0),
            "The second copy of the kernel starts 2 pixels after the first, so the output has 5 pixels.",
        ),
        Case(
            "a kernel of size 1",
            (3, 1, 2, 0, 0),
            "The copies are at 0, 2 and 4, and no pixel follows the last one.",
        ),
        Case(
            "padding 1",
            (4, 4, 2, 1, 0),
            "The padding of a transposed convolution is cut off the output, at both ends.",
        ),
        Case(
            "the lecture's example from 2 to 4 pixels",
            (2, 3, 2, 1, 1),
            "Cut 2 * padding off the 5 pixels, then add the output padding once.",
        ),
        Case("stride 1", (7, 5, 1, 2, 0), "With this padding the output is as large as the input."),
        Case(
            "the last layer of FCN-32s",
            (16, 64, 32, 16, 0),
            "The output is exactly 32 times as large as the input: 512.",
        ),
    ]
    return check(student, _output_size, cases)


def _scatter(signal: Tensor, kernel: Tensor, stride: int) -> Tensor:
    return F.conv_transpose1d(signal[None, None], kernel[None, None], stride=stride)[0, 0]


def check_scatter(student: Callable) -> Verdict:
    """Check `student(signal [n], kernel [k], stride) -> [(n - 1) * stride + k]`, without padding."""
    two, kernel = torch.tensor([2.0, 3.0]), torch.tensor([1.0, 10.0, 100.0])
    four = torch.tensor([1.0, 2.0, 3.0, 4.0])
    cases = [
        Case(
            "a signal of one number",
            (torch.tensor([2.5]), kernel, 2),
            "The output is the kernel multiplied by this number.",
        ),
        Case(
            "the lecture's example",
            (two, kernel, 2),
            "Copy i of the kernel starts at i * stride. Where two copies overlap, they are added.",
        ),
        Case(
            "stride 1",
            (four, kernel, 1),
            "Copy i of the kernel starts at i, so up to three copies overlap.",
        ),
        Case("stride 3", (two, kernel, 3), "The copies lie side by side and do not overlap."),
        Case(
            "a stride that is larger than the kernel",
            (two, kernel[:2], 4),
            "The output is 0 between the copies, and it ends with the last copy.",
        ),
    ]
    return check(student, _scatter, cases, TRANSPOSED)


def _matrix(kernel: Tensor, size: int, stride: int) -> Tensor:
    return F.conv1d(torch.eye(size)[:, None], kernel[None, None], stride=stride)[:, 0].T


def check_matrix(student: Callable) -> Verdict:
    """Check `student(kernel [k], size, stride) -> X [(size - k) // stride + 1, size]`.

    `X @ signal` is the convolution of a signal of `size` numbers, its padding included.
    """
    kernel = torch.tensor([5.0, 6.0, 7.0])
    cases = [
        Case(
            "a kernel as long as the signal",
            (kernel, 3, 1),
            "X has a single row, which is the kernel; it is not flipped.",
        ),
        Case(
            "the lecture's X",
            (kernel, 6, 1),
            "Each row holds the kernel one column further to the right than the row above.",
        ),
        Case(
            "the lecture's X with stride 2",
            (kernel, 6, 2),
            "The rows are rows 0 and 2 of the matrix for stride 1.",
        ),
        Case(
            "a kernel of size 2, a signal of 7 numbers and stride 3",
            (kernel[:2], 7, 3),
            "The kernel fits twice, from columns 0 and 3 on; the last two columns are 0.",
        ),
        Case(
            "a kernel of size 1",
            (kernel[:1], 4, 2),
            "Each row selects one number of the signal, and multiplies it by the kernel's only weight.",
        ),
    ]
    return check(student, _matrix, cases)


def _spread_and_convolve(image: Tensor, kernel: Tensor, stride: int, padding: int) -> Tensor:
    image, kernel = image[None, None], kernel[None, None]
    return F.conv_transpose2d(image, kernel, stride=stride, padding=padding)[0, 0]


def check_spread_and_convolve(student: Callable) -> Verdict:
    """Check `student(image [h, w], kernel [k, k], stride, padding) -> transposed convolution`.

    It is to be built from zeros between the pixels and one convolution; `padding` is less than k.
    """
    image, kernel = (
        torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        torch.arange(1.0, 10.0).reshape(3, 3),
    )
    wide = torch.tensor([[1.0, 2.0, 0.0, 5.0], [3.0, 4.0, 7.0, 6.0]])
    cases = [
        Case(
            "an image of one pixel, which is 1",
            (image[:1, :1], kernel, 1, 0),
            "Pad the image with k - 1 zeros on each side, so that every weight meets the pixel. The output "
            "must be the kernel itself, so flip the kernel in both axes before the convolution.",
        ),
        Case(
            "the lecture's example from 2 x 2 to 5 x 5 pixels",
            (image, kernel, 2, 0),
            "Insert one row and one column of zeros between the pixels, none after the last; then pad.",
        ),
        Case(
            "the same with padding 1",
            (image, kernel, 2, 1),
            "Each pixel of padding makes the border of zeros one pixel narrower.",
        ),
        Case(
            "stride 1 and padding 1",
            (wide, kernel, 1, 1),
            "There are no zeros between the pixels, and the border of zeros is one pixel wide.",
        ),
        Case(
            "a wide image with stride 3",
            (wide, kernel[:2, 1:], 3, 0),
            "Insert two rows and two columns of zeros between the pixels.",
        ),
    ]
    return check(student, _spread_and_convolve, cases, [*TRANSPOSED, F.fold])
