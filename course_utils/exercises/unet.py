"""The exercises of 09_unet."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

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
    """Check `student(size, depth) -> size`: what a U-Net without padding leaves of an image."""
    cases = [
        Case(
            "an image of 572, pooled 4 times",
            (572, 4),
            "Two 3 x 3 convolutions take 4 pixels a level, at the bottom too.",
        ),
        Case("an image of 44, pooled twice", (44, 2), "The depth is the number of poolings."),
        Case(
            "an image of 20, not pooled at all", (20, 0), "Then there is the bottom only: 4 pixels."
        ),
        Case(
            "an image of 140, pooled 3 times", (140, 3), "Halve on the way down, double going up."
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

    All are (row, column) of pixels; the class weight is 1, w0 is 10 and sigma is 5.
    """
    left = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    cases = [
        Case(
            "a gap of one pixel",
            (torch.tensor([0, 2]), left, left + torch.tensor([0, 3])),
            "Both distances are 1: 1 + 10 exp(-4 / 50).",
        ),
        Case(
            "a pixel with a nucleus far to the right",
            (torch.tensor([1, 3]), left, left + torch.tensor([0, 8])),
            "Add the two distances first, then square the sum.",
        ),
        Case(
            "a nucleus that lies aslant",
            (torch.tensor([4, 5]), left, left + torch.tensor([6, 7])),
            "The distance to the nearest pixel of a nucleus, as the crow flies.",
        ),
        Case(
            "two nuclei of different sizes",
            (torch.tensor([5, 0]), left[:1], left.repeat(2, 1) + torch.tensor([7, 3])),
            "One distance for each nucleus, whatever its number of pixels.",
        ),
    ]
    return check(student, _gap_weight, cases)


def _mirror(image: Tensor, border: int) -> Tensor:
    return mirror_pad(image[None], border, (border, border))[0]


def check_mirror(student: Callable) -> Verdict:
    """Check `student(image [h, w], border) -> larger [h + 2 border, w + 2 border]`: mirrored borders."""
    cases = [
        Case(
            "a border of one pixel",
            (RAMP, 1),
            "The border pixel is the mirror and is not repeated: beyond 1 2 3 comes 2.",
        ),
        Case("a border of two pixels", (RAMP, 2), "Two beyond the border: beyond 1 2 3 comes 2 3."),
        Case("no border", (RAMP, 0), "Nothing is added. Mind slices that end at -0."),
        Case(
            "negative numbers", (3 - RAMP[:, :3], 2), "Copy the numbers; nothing is 0 or clipped."
        ),
    ]
    return check(student, _mirror, cases)


def _count(foreground: Tensor, smallest: int) -> int:
    return int(label_components(foreground, smallest=smallest).max())


def check_count_nuclei(student: Callable) -> Verdict:
    """Check `student(foreground bool [h, w], smallest) -> how many` islands of `smallest` pixels or more."""
    rows = ["##..#", "##.##", "...#.", "#..#.", ".#..."]
    islands = torch.tensor([[c == "#" for c in row] for row in rows])
    ring = torch.ones(5, 6, dtype=torch.bool)
    ring[1:4, 1:5] = False
    ring[2, 2] = True
    cases = [
        Case(
            "two islands and two single pixels",
            (islands, 1),
            "Sides hang together, corners do not: 4.",
        ),
        Case("the same without single pixels", (islands, 2), "Islands of 1 pixel do not count: 2."),
        Case(
            "the same, from 5 pixels", (islands, 5), "An island of 5 pixels counts, one of 4 not."
        ),
        Case("a ring with a pixel inside", (ring, 1), "An island may lie inside another's hole."),
        Case("nothing", (torch.zeros(3, 4, dtype=torch.bool), 1), "No islands: 0."),
    ]
    return check(student, _count, cases)


def _flood(foreground: Tensor, smallest: int, neighbours: list, least: Callable) -> int:
    left = {tuple(place) for place in foreground.nonzero().tolist()}
    count = 0
    while left:
        island = {left.pop()}
        edge = list(island)
        while edge:
            i, j = edge.pop()
            near = {(i + y, j + x) for y, x in neighbours} & left
            left -= near
            island |= near
            edge += near
        count += least(len(island), smallest)
    return count


SIDES = [(0, 1), (1, 0), (0, -1), (-1, 0)]
CORNERS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]

WRONG_SOLUTIONS = {
    check_valid_size: {
        "nothing is lost": lambda size, depth: size,
        "the bottom forgotten": lambda size, depth: _valid_size(size, depth) + 4 * 2**depth,
        "one convolution a level": lambda size, depth: (
            size - (size - _valid_size(size, depth)) // 2
        ),
        "only the way down": lambda size, depth: size // 2**depth,
        "the paper's 184 always": lambda size, depth: size - 184,
        "one level too many": lambda size, depth: _valid_size(size, depth + 1),
        "always zero": lambda size, depth: 0,
    },
    check_gap_weight: {
        "squares added, not the sum squared": lambda pixel, a, b: (
            1 + 10 * math.exp(-sum(((n - pixel) ** 2).sum(1).min().item() for n in (a, b)) / 50)
        ),
        "no 2 in front of sigma": lambda pixel, a, b: (
            1 + 10 * math.exp(2 * math.log(max(1e-9, (_gap_weight(pixel, a, b) - 1) / 10)))
        ),
        "no class weight": lambda pixel, a, b: _gap_weight(pixel, a, b) - 1,
        "sigma 10": lambda pixel, a, b: 1 + 10 * ((_gap_weight(pixel, a, b) - 1) / 10) ** 0.25,
        "w0 = 5": lambda pixel, a, b: 1 + (_gap_weight(pixel, a, b) - 1) / 2,
        "city blocks": lambda pixel, a, b: (
            1
            + 10 * math.exp(-(sum((n - pixel).abs().sum(1).min().item() for n in (a, b)) ** 2) / 50)
        ),
        "distances to the middles": lambda pixel, a, b: _gap_weight(
            pixel, a.float().mean(0, keepdim=True), b.float().mean(0, keepdim=True)
        ),
        "the nearest only": lambda pixel, a, b: max(
            _gap_weight(pixel, a, a), _gap_weight(pixel, b, b)
        ),
        "always zero": lambda pixel, a, b: 0.0,
    },
    check_mirror: {
        "zeros": lambda image, border: torch.nn.functional.pad(image, [border] * 4),
        "the border repeated": lambda image, border: torch.nn.functional.pad(
            image[None, None], [border] * 4, mode="replicate"
        )[0, 0],
        "around the back": lambda image, border: torch.nn.functional.pad(
            image[None, None], [border] * 4, mode="circular"
        )[0, 0],
        "the border pixel twice": lambda image, border: (
            torch.cat([image[:border].flip(0), image, image[image.shape[0] - border :].flip(0)])
            .T.contiguous()[
                torch.cat(
                    [
                        torch.arange(border).flip(0),
                        torch.arange(image.shape[1]),
                        torch.arange(image.shape[1] - border, image.shape[1]).flip(0),
                    ]
                )
            ]
            .T
        ),
        "always one pixel": lambda image, border: _mirror(image, 1),
        "rows only": lambda image, border: _mirror(image, border)[
            :, border : border + image.shape[1]
        ],
        "only positive numbers": lambda image, border: _mirror(image, border).clamp(min=0),
        "always zero": lambda image, border: torch.zeros_like(_mirror(image, border)),
    },
    check_count_nuclei: {
        "corners hang together": lambda foreground, smallest: _flood(
            foreground, smallest, CORNERS, lambda size, least: size >= least
        ),
        "the smallest left out": lambda foreground, smallest: _flood(
            foreground, smallest, SIDES, lambda size, least: size > least
        ),
        "small ones counted": lambda foreground, smallest: _count(foreground, 1),
        "pixels": lambda foreground, smallest: int(foreground.sum()),
        "the background counted": lambda foreground, smallest: _count(foreground, smallest) + 1,
        "rows only": lambda foreground, smallest: _flood(
            foreground, smallest, SIDES[::2], lambda size, least: size >= least
        ),
        "always zero": lambda foreground, smallest: 0,
    },
}
