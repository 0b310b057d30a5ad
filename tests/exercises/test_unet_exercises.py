"""Right and wrong solutions of the exercises in `course_utils.exercises.unet`."""

import math
import operator

import numpy as np
import torch
from skimage.segmentation import watershed

from course_utils.data.microscopy import label_components
from course_utils.exercises import unet
from course_utils.exercises.unet import _count, _gap_weight, _mirror, _valid_size
from tests.exercises.common import ExerciseTests

SIDES = [(0, 1), (1, 0), (0, -1), (-1, 0)]
CORNERS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]


def components_by_spreading(foreground, smallest):
    """Number the pixels, and give both of two neighbours the larger number until nothing changes."""
    numbers = foreground * torch.arange(1, foreground.numel() + 1).reshape(foreground.shape)
    before = None
    while before is None or not torch.equal(numbers, before):
        before, wide = numbers, torch.nn.functional.pad(numbers, (1, 1, 1, 1))
        shifted = [wide[1:-1, 2:], wide[1:-1, :-2], wide[2:, 1:-1], wide[:-2, 1:-1], numbers]
        numbers = foreground * torch.stack(shifted).amax(dim=0)
    return sum(bool((numbers == n).sum() >= smallest) for n in numbers[foreground].unique())


def flood_fill(foreground, smallest, neighbours, counts):
    left = {tuple(pixel) for pixel in foreground.nonzero().tolist()}
    count = 0
    while left:
        component = {left.pop()}
        edge = list(component)
        while edge:
            i, j = edge.pop()
            near = {(i + y, j + x) for y, x in neighbours} & left
            left -= near
            component |= near
            edge += near
        count += counts(len(component), smallest)
    return count


def mirrored_by_numpy(image, border):
    return torch.from_numpy(np.pad(image.numpy(), border, mode="reflect"))


def padded_by_numpy(mode):
    """A wrong solution that the ban of torch's `pad` does not catch."""
    return lambda image, border: torch.from_numpy(np.pad(image.numpy(), border, mode=mode))


def grown(probability, above, smallest=20, mask=0.5):
    seeds = label_components(probability > above, smallest=smallest).numpy()
    return torch.from_numpy(
        watershed(-probability.numpy(), seeds, mask=(probability > mask).numpy())
    )


RIGHT_SOLUTIONS = {
    unet.check_valid_size: lambda size, depth: size - 2 * (6 * 2**depth - 4) if depth else size - 4,
    unet.check_gap_weight: lambda pixel, one, other: (
        1
        + 10
        * math.exp(
            -(sum(min(math.dist(pixel, p) for p in nucleus) for nucleus in (one, other)) ** 2) / 50
        )
    ),
    unet.check_mirror: mirrored_by_numpy,
    unet.check_count_nuclei: components_by_spreading,
    unet.check_prediction: lambda: np.array([4, 4, 5]),
    unet.check_separate_nuclei: lambda probability: grown(probability, 0.8),
}

WRONG_SOLUTIONS = {
    unet.check_valid_size: {
        "the size of the input": lambda size, depth: size,
        "the lowest level forgotten": lambda size, depth: _valid_size(size, depth) + 4 * 2**depth,
        "one convolution per level": lambda size, depth: (
            size - (size - _valid_size(size, depth)) // 2
        ),
        "only the way down": lambda size, depth: size // 2**depth,
        "always the 184 of the paper": lambda size, depth: size - 184,
        "one level too many": lambda size, depth: _valid_size(size, depth + 1),
        "always zero": lambda size, depth: 0,
    },
    unet.check_gap_weight: {
        "the sum of the squares": lambda pixel, a, b: (
            1 + 10 * math.exp(-sum(((n - pixel) ** 2).sum(1).min().item() for n in (a, b)) / 50)
        ),
        "no 2 in front of sigma": lambda pixel, a, b: (
            1 + 10 * math.exp(2 * math.log(max(1e-9, (_gap_weight(pixel, a, b) - 1) / 10)))
        ),
        "no class weight": lambda pixel, a, b: _gap_weight(pixel, a, b) - 1,
        "sigma 10": lambda pixel, a, b: 1 + 10 * ((_gap_weight(pixel, a, b) - 1) / 10) ** 0.25,
        "w0 = 5": lambda pixel, a, b: 1 + (_gap_weight(pixel, a, b) - 1) / 2,
        "city-block distance": lambda pixel, a, b: (
            1
            + 10 * math.exp(-(sum((n - pixel).abs().sum(1).min().item() for n in (a, b)) ** 2) / 50)
        ),
        "distances to the centroids": lambda pixel, a, b: _gap_weight(
            pixel, a.float().mean(0, keepdim=True), b.float().mean(0, keepdim=True)
        ),
        "the nearer nucleus twice": lambda pixel, a, b: max(
            _gap_weight(pixel, a, a), _gap_weight(pixel, b, b)
        ),
        "always zero": lambda pixel, a, b: 0.0,
    },
    unet.check_mirror: {
        "torch's own": lambda image, border: torch.nn.functional.pad(
            image[None, None], [border] * 4, mode="reflect"
        )[0, 0],
        "torch's own layer": lambda image, border: torch.nn.ReflectionPad2d(border)(image[None])[0],
        "zeros": padded_by_numpy("constant"),
        "replicated border": padded_by_numpy("edge"),
        "circular padding": padded_by_numpy("wrap"),
        "the border pixel repeated (symmetric)": lambda image, border: (
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
    unet.check_count_nuclei: {
        "8-connectivity": lambda foreground, smallest: flood_fill(
            foreground, smallest, CORNERS, operator.ge
        ),
        "> instead of >=": lambda foreground, smallest: flood_fill(
            foreground, smallest, SIDES, operator.gt
        ),
        "small components counted": lambda foreground, smallest: _count(foreground, 1),
        "the number of pixels": lambda foreground, smallest: int(foreground.sum()),
        "the background counted": lambda foreground, smallest: _count(foreground, smallest) + 1,
        "rows only": lambda foreground, smallest: flood_fill(
            foreground, smallest, SIDES[::2], operator.ge
        ),
        "always zero": lambda foreground, smallest: 0,
    },
    unet.check_prediction: {
        "the nuclei": lambda: (5, 5, 5),
        "corners connect": lambda: (3, 3, 5),
        "merged nuclei match nothing": lambda: (4, 3, 5),
        "merged nuclei match both": lambda: (4, 5, 5),
        "the gaps change nothing": lambda: (4, 4, 4),
        "the smallest nucleus vanishes": lambda: (4, 4, 3),
        "the corner stays": lambda: (4, 4, 6),
        "one number": lambda: 4,
        "two numbers": lambda: (4, 5),
        "F1": lambda: 0.89,
        "nothing": lambda: None,
    },
    unet.check_separate_nuclei: {
        "the components": lambda p: label_components(p > 0.5, smallest=20),
        "all components": lambda p: label_components(p > 0.5),
        "a high threshold": lambda p: label_components(p > 0.9, smallest=20),
        "a low threshold": lambda p: label_components(p > 0.2, smallest=20),
        "seeds that are not grown": lambda p: label_components(p > 0.8, smallest=20),
        "grown too far": lambda p: grown(p, 0.8, mask=0.05),
        "a seed for each maximum": lambda p: grown(p, 0.999, smallest=1),
        "a mask": lambda p: p > 0.5,
        "one nucleus": lambda p: (p > 0.5).long(),
        "the probabilities": lambda p: p,
        "a nucleus for each pixel": lambda p: torch.arange(p.numel()).reshape(p.shape),
        "transposed": lambda p: grown(p, 0.8).T,
        "always zero": lambda p: torch.zeros(p.shape, dtype=torch.int64),
    },
}


class TestUNetExercises(ExerciseTests):
    exercises, right, wrong = unet, RIGHT_SOLUTIONS, WRONG_SOLUTIONS

    def test_a_right_solution_passes(self, check):
        verdict = check(self.right[check])
        assert verdict.passed and verdict.message.startswith("Passed: "), verdict.message
