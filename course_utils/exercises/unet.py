"""The exercises of 09_unet."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from course_utils.data.microscopy import label_components
from course_utils.exercises.checking import Case, Verdict, check
from course_utils.models.tiles import mirror_pad

RAMP = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0], [9.0, 10.0, 11.0, 12.0]])


def _valid_size(size: int, depth: int) -> int:
    for _ in range(depth):
        size = (size - 4) // 2
    size -= 4
    for _ in range(depth):
        size = 2 * size - 4
    return size


def check_valid_size(student: Callable) -> Verdict:
    """Check `student(size, depth) -> size of the output` of a U-Net without padding."""
    cases = [
        Case(
            "an image of 572 x 572 pixels, pooled 4 times",
            (572, 4),
            "The two 3 x 3 convolutions of each level remove 4 pixels, also at the lowest level.",
        ),
        Case(
            "an image of 44 x 44 pixels, pooled twice",
            (44, 2),
            "`depth` is the number of max pooling layers.",
        ),
        Case(
            "an image of 20 x 20 pixels, not pooled at all",
            (20, 0),
            "There is only the lowest level, which removes 4 pixels.",
        ),
        Case(
            "an image of 140 x 140 pixels, pooled 3 times",
            (140, 3),
            "Halve the size on the way down, and double it on the way up.",
        ),
    ]
    return check(student, _valid_size, cases)


def _gap_weight(pixel: Tensor, nucleus1: Tensor, nucleus2: Tensor) -> float:
    d1, d2 = (
        (nucleus - pixel).double().norm(dim=1).min().item() for nucleus in (nucleus1, nucleus2)
    )
    return 1 + 10 * math.exp(-((d1 + d2) ** 2) / (2 * 5**2))


def check_gap_weight(student: Callable) -> Verdict:
    """Check `student(pixel [2], nucleus1 [n, 2], nucleus2 [m, 2]) -> weight` of a pixel between two nuclei.

    All pixels are (row, column); the class weight is 1, w0 is 10 and sigma is 5.
    """
    left = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    cases = [
        Case(
            "a gap of one pixel",
            (torch.tensor([0, 2]), left, left + torch.tensor([0, 3])),
            "Both distances are 1, so the weight is 1 + 10 exp(-4 / 50).",
        ),
        Case(
            "a pixel with one nucleus far to its right",
            (torch.tensor([1, 3]), left, left + torch.tensor([0, 8])),
            "Add the two distances first, then square the sum.",
        ),
        Case(
            "nuclei that are shifted in both axes",
            (torch.tensor([4, 5]), left, left + torch.tensor([6, 7])),
            "Use the Euclidean distance to the nearest pixel of each nucleus.",
        ),
        Case(
            "two nuclei of different sizes",
            (torch.tensor([5, 0]), left[:1], left.repeat(2, 1) + torch.tensor([7, 3])),
            "There is one distance per nucleus, however many pixels it has.",
        ),
    ]
    return check(student, _gap_weight, cases)


def _mirror(image: Tensor, border: int) -> Tensor:
    return mirror_pad(image[None], border, (border, border))[0]


def check_mirror(student: Callable) -> Verdict:
    """Check `student(image [h, w], border) -> larger [h + 2 border, w + 2 border]`: mirrored borders.

    torch's `pad` is refused, its padding layers too.
    """
    cases = [
        Case(
            "a border of one pixel",
            (RAMP, 1),
            "The image is mirrored at its outermost pixel, which is not repeated: 2 1 2 3 ...",
        ),
        Case(
            "a border of two pixels",
            (RAMP, 2),
            "Two mirrored pixels precede the outermost one: 3 2 1 2 3 ...",
        ),
        Case(
            "a border of 0",
            (RAMP, 0),
            "The output equals the input. Slices that end at -0 are empty.",
        ),
        Case(
            "negative numbers",
            (3 - RAMP[:, :3], 2),
            "Copy the values unchanged: none of them is set to 0 or clamped.",
        ),
    ]
    return check(student, _mirror, cases, forbidden=(pad,))


def _count(foreground: Tensor, smallest: int) -> int:
    return int(label_components(foreground, smallest=smallest).max())


def check_count_nuclei(student: Callable) -> Verdict:
    """Check `student(foreground [h, w], smallest) -> count` of components of `smallest` pixels or more."""
    rows = ["##..#", "##.##", "...#.", "#..#.", ".#..."]
    islands = torch.tensor([[c == "#" for c in row] for row in rows])
    ring = torch.ones(5, 6, dtype=torch.bool)
    ring[1:4, 1:5] = False
    ring[2, 2] = True
    cases = [
        Case(
            "two connected components and two single pixels",
            (islands, 1),
            "Pixels that share a side are connected, pixels that share only a corner are not: 4 components.",
        ),
        Case(
            "the same with `smallest` = 2",
            (islands, 2),
            "Components of 1 pixel do not count, so 2 are left.",
        ),
        Case(
            "the same with `smallest` = 5",
            (islands, 5),
            "A component of 5 pixels counts, one of 4 pixels does not.",
        ),
        Case(
            "a ring with a pixel inside",
            (ring, 1),
            "A component may lie in the hole of another one.",
        ),
        Case(
            "a mask without foreground",
            (torch.zeros(3, 4, dtype=torch.bool), 1),
            "There are no components: the count is 0.",
        ),
    ]
    return check(student, _count, cases)
