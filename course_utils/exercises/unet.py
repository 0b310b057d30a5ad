"""The exercises of 09_unet."""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from course_utils.core import data_path
from course_utils.data.microscopy import label_components, nuclei, open_gaps
from course_utils.data.weights import load_weights
from course_utils.exercises.checking import Case, Verdict, attempt, check
from course_utils.exercises.predictions import Answer, compare
from course_utils.metrics.instances import match_instances
from course_utils.models.tiles import mirror_pad
from course_utils.training.microscopy import nuclei_unet, nucleus_probability

RAMP = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0], [9.0, 10.0, 11.0, 12.0]])

F1_GOAL, IOU_GOAL = 0.91, 0.88  # the components of the mask at 0.5 have 0.88 and 0.89


def nuclei_to_count() -> Tensor:
    """Five nuclei on a small grid, numbered; some touch."""
    rows = ["11112200000", "11112203300", "11110003300", "00000000044", "05000000044"]
    return torch.tensor([[int(number) for number in row] for row in rows])


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


def check_prediction(student: Callable) -> Verdict:
    """Check `student() -> three counts` for `nuclei_to_count`.

    The connected components of a perfect map of foreground; how many of them match a nucleus (IoU above one
    half); the components after `open_gaps`.
    """
    truth = nuclei_to_count()
    perfect = label_components(truth > 0)
    right = (
        int(perfect.max()),
        len(match_instances(perfect, truth)),
        int(label_components(open_gaps(truth) > 0).max()),
    )
    hints = (
        "Pixels are connected if they share a side; a common corner is not enough.",
        "Nuclei 1 and 2 together have 16 pixels, 12 of them are nucleus 1: what is the IoU?",
        "`open_gaps` removes pixels with another nucleus among their eight neighbours. What is left?",
    )
    names = ("components", "matched components", "components after open_gaps")
    answers = [
        Answer(f"the number of {name}", *rest)
        for name, *rest in zip(names, right, hints, strict=True)
    ]
    return compare(student, answers, tolerance=0.0)


@lru_cache(1)
def _held_out_probability() -> tuple[Tensor, Tensor]:
    network, (_, held_out) = nuclei_unet(2), nuclei()
    load_weights(data_path("checkpoints", "nuclei.safetensors"), network)
    return nucleus_probability(network.eval(), held_out.image), held_out.instances


def check_separate_nuclei(student: Callable) -> Verdict:
    """Check `student(probability [h, w]) -> numbers [h, w]`, one for each nucleus: F1 and IoU of the pixels.

    The probabilities are those of the shipped network for the held-out part.
    """
    probability, truth = _held_out_probability()
    hint = (
        "Probabilities [h, w] come in, numbers [h, w] go out: 0 for medium, 1, 2, ... for nuclei."
    )
    found = attempt(
        lambda: torch.as_tensor(student(probability.clone())), "the held-out part", hint
    )
    if isinstance(found, Verdict):
        return found
    if found.shape != truth.shape or found.is_floating_point() or found.dtype == torch.bool:
        wanted = f"whole numbers of shape {list(truth.shape)}"
        hint = "0 is medium, and each nucleus has a number of its own."
        got = f"{found.dtype} of shape {list(found.shape)}"
        return Verdict(
            False, f"Not yet: for the held-out part, expected {wanted}, got {got}. Hint: {hint}"
        )
    found = found.long()
    pairs = len(match_instances(found, truth))
    f1 = 2 * pairs / (len(found[found != 0].unique()) + len(truth.unique()) - 1)
    iou = ((found > 0) & (truth > 0)).sum() / ((found > 0) | (truth > 0)).sum()
    result = f"F1 {f1:.3f}, IoU of the pixels {iou:.3f}"
    if not (f1 >= F1_GOAL and iou >= IOU_GOAL):
        hint = (
            "A high threshold separates nuclei, but makes them too small. Find a seed for each nucleus, and "
            "let the seeds grow (`skimage.segmentation.watershed`)."
        )
        return Verdict(
            False,
            f"Not yet: F1 should be at least {F1_GOAL} and the IoU at least {IOU_GOAL}, got {result}. "
            f"Hint: {hint}",
        )
    return Verdict(True, f"Passed: {result}.")
