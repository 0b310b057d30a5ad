"""The exercises of 06_transposed_convolution."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils.exercises.checking import (
    RIGHT,
    Case,
    ForbiddenCallError,
    Verdict,
    attempt,
    check,
    forbid,
)
from course_utils.ops.conv_transpose import bilinear_kernel
from course_utils.training.experiments.checkerboards import (
    cat_to_upsample,
    constant_response,
    error_on_cat,
    pattern_of,
)

TRANSPOSED = [
    F.conv_transpose1d,
    F.conv_transpose2d,
    F.conv_transpose3d,
]  # refused where they are built


LAYERS = {  # a hint for each layer of the prediction
    "A": "No copies overlap here. Which numbers stand in a block of 2 x 2 output pixels?",
    "B": "At each inner pixel four copies overlap. Which weights does it receive from them?",
    "C": "Count the copies that overlap at neighbouring pixels: section 8, first figure.",
    "D": "The copies fill the output without overlapping. Is each of them constant?",
    "E": "This filter makes the layer equal to bilinear upsampling. What does that do to a constant image?",
    "F": "At stride 1 it is an ordinary convolution: each inner pixel receives all nine weights.",
    "G": "Zeros between the pixels and a convolution: which layer of this list is that?",
    "H": "After the nearest-neighbour upsampling the image is still constant.",
}


def _layer_outputs() -> dict[str, Tensor]:
    """What the eight layers of the prediction make of a constant image."""
    generator = torch.Generator().manual_seed(0)
    ones = torch.ones(1, 1, 12, 12)
    random = {k: torch.randn(1, 1, k, k, generator=generator) for k in (2, 3)}
    square = {k: torch.ones(1, 1, k, k) for k in (3, 4)}
    nails = F.conv_transpose2d(ones, torch.ones(1, 1, 1, 1), stride=2)
    return {
        "A": F.conv_transpose2d(ones, random[2], stride=2),
        "B": F.conv_transpose2d(ones, square[4], stride=2),
        "C": F.conv_transpose2d(ones, square[3], stride=2),
        "D": F.conv_transpose2d(ones, random[3], stride=3),
        "E": F.conv_transpose2d(ones, bilinear_kernel(1, 8), stride=4, padding=2),
        "F": F.conv_transpose2d(ones, random[3]),
        "G": F.conv2d(nails, random[3], padding=1),
        "H": F.conv2d(F.interpolate(ones, scale_factor=2), random[3], padding=1),
    }


def check_constant_layers(student: Callable) -> Verdict:
    """Check `student() -> str`: the letters of the layers that map a constant image to a constant."""
    answer = attempt(student, "eight layers", 'return their letters, such as "AH".')
    if isinstance(answer, Verdict):
        return answer
    got = set(answer) if isinstance(answer, str | list | tuple | set) else {None}
    if not got <= LAYERS.keys():
        wrong = 'expected a string of letters from A to H, such as "AH"'
        return Verdict(False, f"Not yet: {wrong}. Hint: name each layer with a constant output.")
    for letter, output in _layer_outputs().items():
        constant = float(output[..., 6:-6, 6:-6].std()) < 1e-5
        if constant != (letter in got):
            wrong = f"layer {letter} should {'' if constant else 'not '}be in your list"
            return Verdict(False, f"Not yet: {wrong}. Hint: {LAYERS[letter]}")
    return RIGHT


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


GREYS = (0.1, 0.3, 0.5, 0.7, 0.9)


def check_even_upsampler(student: Callable) -> Verdict:
    """Check `student() -> network`: two transposed convolutions that upsample the cat without a pattern.

    The network maps [1, 3, h, w] to [1, 3, 4h, 4w], both float64. On constant images its pattern must be
    below one grey level, and its error on the cat, away from the border, below that of bilinear upsampling.
    """
    hint = "Start from `stack_of_two` or an nn.Sequential with two nn.ConvTranspose2d, filter 4, stride 2."
    network = attempt(student, "your network", hint)
    if isinstance(network, Verdict):
        return network
    layers = (
        [m for m in network.modules() if isinstance(m, nn.ConvTranspose2d)]
        if isinstance(network, nn.Module)
        else []
    )
    if [(layer.kernel_size, layer.stride) for layer in layers] != [((4, 4), (2, 2))] * 2:
        wrong = "expected a network with two transposed convolutions, filter 4, stride 2"
        return Verdict(False, f"Not yet: {wrong}. Hint: {hint}")
    small, large = cat_to_upsample()
    try:
        with torch.no_grad(), forbid(F.interpolate, F.pixel_shuffle, F.fold):
            got = network(small.clone())
            if got.shape != large.shape:
                wrong = f"expected shape {list(large.shape)}, got {list(got.shape)}"
                return Verdict(False, f"Not yet: {wrong}. Hint: {hint}")
            pattern = 255 * max(pattern_of(constant_response(network, grey)) for grey in GREYS)
            error = error_on_cat(network).sqrt().item()
    except ForbiddenCallError as refused:
        wrong = str(refused).replace("your function", "your network")
        return Verdict(False, f"Not yet: {wrong}. Hint: only the transposed convolutions upsample.")
    bilinear = error_on_cat(nn.Upsample(scale_factor=4, mode="bilinear")).sqrt().item()
    if not pattern < 1:
        wrong = f"the pattern on constant images should be below 1 grey level, got {pattern:.2f}"
        hint = "Put the pattern into the loss, or start from weights that have none."
        return Verdict(False, f"Not yet: {wrong}. Hint: {hint}")
    if not error < 0.995 * bilinear:  # not by rounding
        wrong = f"the error should be below bilinear upsampling's {bilinear:.4f}, got {error:.4f}"
        hint = "Start near the bilinear filter, then train."
        return Verdict(False, f"Not yet: {wrong}. Hint: {hint}")
    words = f"pattern {pattern:.2f} grey levels, error {error:.4f}, bilinear {bilinear:.4f}"
    return Verdict(True, f"Passed: {words}.")
