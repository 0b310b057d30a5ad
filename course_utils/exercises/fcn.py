"""The exercises of 07_fcn."""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate, max_pool2d, nll_loss

from course_utils.core import VOID
from course_utils.data.scenes import CLASS_NAMES, Scenes, make_scenes
from course_utils.exercises.checking import Case, Verdict, attempt, check
from course_utils.exercises.predictions import Answer, compare
from course_utils.metrics.semantic import confusion_matrix, iou_per_class
from course_utils.ops.conv_transpose import bilinear_transposed_convolve
from course_utils.training.recipes import load_checkpoint

SCORES = torch.tensor([[[2.0, 0.0, 1.0], [1.0, 1.0, 4.0]], [[1.0, 0.0, 3.0], [3.0, 1.0, -2.0]]])
LABELS = torch.tensor([[0, 1, 1], [1, VOID, 0]])
GOAL = 0.912  # mean IoU; the network as it is reaches 0.906, with the mirrored image 0.909
CHANGES = (  # what doubled scores do: 1 rises, -1 falls, 0 stays
    Answer("the mean IoU (a)", 0, "The largest of the scores of a pixel is still the largest."),
    Answer(
        "the probability of the best class (b)",
        1,
        "Doubling also doubles the lead of the best class.",
    ),
    Answer(
        "the loss of a pixel that is right (c)",
        -1,
        "Its loss is -log of the probability just asked for.",
    ),
    Answer("the loss of a pixel with equal scores (d)", 0, "Twice zero is zero."),
    Answer(
        "the loss of a pixel that is wrong (e)",
        1,
        "Compute it once: the scores are 2, 1, 0, then 4, 2, 0.",
    ),
)


def _mean_loss(scores: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(scores[None], labels[None], ignore_index=VOID)


def check_mean_loss(student: Callable) -> Verdict:
    """Check `student(scores [c, h, w], labels [h, w]) -> loss`: mean cross-entropy, void ignored.

    `cross_entropy` and `nll_loss` of torch are refused.
    """
    several = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
    classes = torch.arange(15).reshape(3, 5) % 4
    cases = [
        Case(
            "two classes with equal scores",
            (torch.zeros(2, 1, 2), torch.tensor([[0, 1]])),
            "Each class has the probability 1/2, and the loss is log 2, about 0.6931.",
        ),
        Case(
            "four classes, 3 x 5 pixels, no void",
            (several, classes),
            "Take a softmax over the classes (dim 0), then minus the natural logarithm of the probability of "
            "the true class.",
        ),
        Case(
            "a void pixel",
            (SCORES, LABELS),
            "Void pixels count neither in the sum nor in the number of pixels by which you divide it.",
        ),
        Case(
            "scores of 200 and more",
            (100 * SCORES, LABELS),
            "exp(200) overflows in float32: `log_softmax` subtracts the largest score first.",
        ),
    ]
    return check(student, _mean_loss, cases, forbidden=(cross_entropy, nll_loss))


def _add_finer(coarse: Tensor, finer: Tensor) -> Tensor:
    doubled = interpolate(coarse[None], scale_factor=2, mode="bilinear", align_corners=False)[0]
    return doubled[:, : finer.shape[1], : finer.shape[2]] + finer


def _add_finer_transposed(coarse: Tensor, finer: Tensor) -> Tensor:
    doubled = bilinear_transposed_convolve(coarse[None], 4, 2, 1)[0]
    return doubled[:, : finer.shape[1], : finer.shape[2]] + finer


def check_add_finer(student: Callable) -> Verdict:
    """Check `student(coarse [c, h, w], finer [c, H, W]) -> sum [c, H, W]`: upsample by 2, crop, add.

    Interpolation (`align_corners=False`) and the transposed convolution that starts out bilinear differ at
    the border of the map; either is accepted.
    """
    coarse = torch.tensor([[[4.0, 0.0, 1.0], [0.0, 2.0, 3.0]], [[1.0, 5.0, 0.0], [2.0, 2.0, 8.0]]])
    finer = torch.arange(48.0).reshape(2, 4, 6) / 10
    cases = [
        Case(
            "one class, finer scores of zero",
            (coarse[:1], torch.zeros(1, 4, 6)),
            "The sum is the upsampled map alone: bilinear, by a factor of 2, align_corners=False.",
        ),
        Case("two classes", (coarse, finer), "Add the finer scores, class by class."),
        Case(
            "an odd size",
            (coarse, finer[:, :3, :5]),
            "Upsample by 2 first, then crop the last row and column; do not resize to the odd size.",
        ),
    ]
    verdict = check(student, _add_finer, cases)
    transposed = check(student, _add_finer_transposed, cases)
    return transposed if transposed.passed else verdict


def _near(labels: Tensor, distance: int) -> Tensor:
    window, values = 2 * distance + 1, labels[None].float()
    high = max_pool2d(values, window, stride=1, padding=distance)[0]
    low = -max_pool2d(-values, window, stride=1, padding=distance)[0]
    return low < high


def _wrong_near_borders(predicted: Tensor, labels: Tensor, distance: int) -> Tensor:
    near = _near(labels, distance)
    return ((predicted != labels) & near).sum() / near.sum().clamp(min=1)


def check_wrong_near_borders(student: Callable) -> Verdict:
    """Check `student(predicted [h, w], labels [h, w], distance) -> share` of wrong pixels near a border."""
    halves = torch.zeros(7, 12, dtype=torch.int64)
    halves[:, 5:] = 3
    shifted = halves.roll(1, dims=1)
    shifted[:, 0] = 0
    corner = torch.ones(9, 8, dtype=torch.int64)
    corner[6:, 5:] = 2
    far = corner.clone()
    far[0, 0], far[5, 4], far[8, 7] = 0, 0, 1
    pixel = torch.zeros(9, 11, dtype=torch.int64)
    pixel[5, 4], pixel[0, 10] = 7, 3
    square = pixel.clone()
    square[2:9, 1:8] = 1
    cases = [
        Case(
            "two halves whose border is predicted one column too far to the right",
            (shifted, halves, 1),
            "Two columns are near the border, one on each side, and one of them is wrong: 1/2.",
        ),
        Case(
            "the same with distance 2",
            (shifted, halves, 2),
            "Now four columns are near the border, and one of them is wrong: 1/4.",
        ),
        Case(
            "a region with a corner",
            (far, corner, 1),
            "Diagonal neighbours count, and errors far from the border do not.",
        ),
        Case(
            "a single pixel of another class and distance 2",
            (square, pixel, 2),
            "A pixel that is 2 rows and 2 columns away is near: a square of 5 x 5 pixels, not a disc.",
        ),
        Case(
            "the same with distance 3",
            (square, pixel, 3),
            "The square has 7 x 7 pixels now; where it reaches beyond the image, it is cut.",
        ),
        Case(
            "a prediction with borders that the labels do not have",
            (far, halves[:, :8].repeat(2, 1)[:9], 1),
            "Use the borders between the true classes, not those between the predicted ones.",
        ),
        Case(
            "labels of a single class",
            (far, torch.ones(9, 8, dtype=torch.int64), 2),
            "There is no border, and what lies outside the image is not another class: the share is 0.",
        ),
    ]
    return check(student, _wrong_near_borders, cases)


def check_doubled_scores(student: Callable) -> Verdict:
    """Check `student() -> five numbers`: whether each of `CHANGES` rises (1), falls (-1) or stays (0)."""
    return compare(student, CHANGES, tolerance=0.0)


@lru_cache(1)
def _network_and_scenes() -> tuple[nn.Module, Scenes]:
    return load_checkpoint("fcn").eval(), make_scenes(range(40), seed=6, size=(96, 96))


def check_better_maps(student: Callable) -> Verdict:
    """Check `student(network, images [b, 3, h, w]) -> label maps [b, h, w]`: at least a mean IoU of `GOAL`.

    The network is the shipped one, the images are 40 scenes that nobody has trained with.
    """
    network, scenes = _network_and_scenes()
    hint = "`network(images)` gives scores [b, 9, h, w]; return the number of the best class."
    with torch.no_grad():
        maps = attempt(
            lambda: torch.as_tensor(student(network, scenes.images.clone())), "40 scenes", hint
        )
    if isinstance(maps, Verdict):
        return maps
    if maps.shape != scenes.semantic.shape or maps.is_floating_point():
        wanted = f"whole numbers of shape {list(scenes.semantic.shape)}"
        hint = "Take the `argmax` over the classes at the end, after the average."
        found = f"{maps.dtype} of shape {list(maps.shape)}"
        return Verdict(
            False, f"Not yet: for 40 scenes, expected {wanted}, got {found}. Hint: {hint}"
        )
    known = maps.clamp(0, len(CLASS_NAMES) - 1)
    score = iou_per_class(confusion_matrix(known, scenes.semantic, len(CLASS_NAMES)))[1:].mean()
    if not score >= GOAL:
        hint = "Nearly all errors lie at borders: move the image by a pixel, and the scores back."
        return Verdict(
            False,
            f"Not yet: the mean IoU should be at least {GOAL}, got {score:.3f}. Hint: {hint}",
        )
    return Verdict(True, f"Passed: mean IoU {score:.3f}; argmax of the plain scores gives 0.906.")
