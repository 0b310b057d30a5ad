"""The exercises of 07_fcn."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate, max_pool2d

from course_utils.core import VOID
from course_utils.data.voc import colour_map
from course_utils.exercises.checking import Case, Verdict, check

SCORES = torch.tensor([[[2.0, 0.0, 1.0], [1.0, 1.0, 4.0]], [[1.0, 0.0, 3.0], [3.0, 1.0, -2.0]]])
LABELS = torch.tensor([[0, 1, 1], [1, VOID, 0]])


def _mean_loss(scores: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(scores[None], labels[None], ignore_index=VOID)


def check_mean_loss(student: Callable) -> Verdict:
    """Check `student(scores [c, h, w], labels [h, w]) -> loss`: cross-entropy, void left out."""
    several = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
    classes = torch.arange(15).reshape(3, 5) % 4
    cases = [
        Case(
            "two classes with equal scores",
            (torch.zeros(2, 1, 2), torch.tensor([[0, 1]])),
            "Each class gets 1/2, and the loss is log 2, about 0.6931.",
        ),
        Case(
            "four classes, 3 x 5 pixels, no void",
            (several, classes),
            "A softmax over the classes (dim 0), minus the natural logarithm of the true one's number.",
        ),
        Case(
            "a void pixel",
            (SCORES, LABELS),
            "Void pixels do not count: neither in the sum nor in the number to divide by.",
        ),
        Case(
            "scores of 200",
            (100 * SCORES, LABELS),
            "exp(200) is more than a float holds: `log_softmax` subtracts the largest score first.",
        ),
    ]
    return check(student, _mean_loss, cases)


def _add_finer(coarse: Tensor, finer: Tensor, **options: object) -> Tensor:
    given = {"mode": "bilinear", "align_corners": False} | options
    doubled = interpolate(coarse[None], scale_factor=2, **given)[0]
    return doubled[:, : finer.shape[1], : finer.shape[2]] + finer


def check_add_finer(student: Callable) -> Verdict:
    """Check `student(coarse [c, h, w], finer [c, H, W]) -> sum [c, H, W]`: double, cut, add."""
    coarse = torch.tensor([[[4.0, 0.0, 1.0], [0.0, 2.0, 3.0]], [[1.0, 5.0, 0.0], [2.0, 2.0, 8.0]]])
    finer = torch.arange(48.0).reshape(2, 4, 6) / 10
    cases = [
        Case(
            "one class, finer scores of zero",
            (coarse[:1], torch.zeros(1, 4, 6)),
            "Only the doubling is left: bilinear, align_corners=False.",
        ),
        Case("two classes", (coarse, finer), "Add the finer scores, class by class."),
        Case(
            "an odd size",
            (coarse, finer[:, :3, :5]),
            "Double first, then cut the last row and column; do not squeeze.",
        ),
    ]
    return check(student, _add_finer, cases)


def _classes_of_colours(picture: Tensor, colours: Tensor, otherwise: int = VOID) -> Tensor:
    classes = torch.full(picture.shape[:2], otherwise)
    for number, colour in enumerate(colours):
        classes[(picture == colour).all(dim=-1)] = number
    return classes


def check_classes_of_colours(student: Callable) -> Verdict:
    """Check `student(picture [h, w, 3], colours [k, 3]) -> classes [h, w]`: unknown colours are 255."""
    colours = colour_map(21).long()
    pale = colour_map()[[VOID]].long()
    numbers = torch.tensor([[8, 0, 15, 7], [0, 20, 12, 1]])
    swapped = colours[numbers].flip(-1)  # blue, green, red: several are no colours of VOC
    cases = [
        Case("VOC's colours", (colours[numbers], colours), "The number of the row that is equal."),
        Case(
            "a pale border",
            (torch.cat([colours[numbers], pale.expand(2, 1, 3)], dim=1), colours),
            "A colour that is in no row is 255, not 0.",
        ),
        Case(
            "colours that agree with a row in one or two channels",
            (torch.tensor([[[128, 0, 1], [0, 128, 192], [64, 0, 0]]]), colours),
            "All three channels must be equal.",
        ),
        Case(
            "a table of two colours",
            (swapped, torch.tensor([[0, 0, 64], [7, 7, 7]])),
            "`colours` may be any table of any length; compare with its rows, in this order.",
        ),
    ]
    return check(student, _classes_of_colours, cases)


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
    cases = [
        Case(
            "two halves, the border one column too far right",
            (shifted, halves, 1),
            "Two columns are near, on both sides of the border, and one of them is wrong: 1/2.",
        ),
        Case("the same, two steps", (shifted, halves, 2), "Four columns are near now: 1/4."),
        Case(
            "a corner",
            (far, corner, 1),
            "Diagonal neighbours count, and mistakes far from the border do not.",
        ),
        Case(
            "a mistake that draws a border of its own",
            (far, halves[:, :8].repeat(2, 1)[:9], 1),
            "Borders are those of the true classes, not of the predicted ones.",
        ),
        Case(
            "one class only",
            (far, torch.ones(9, 8, dtype=torch.int64), 2),
            "There is no border, and beyond the picture there is no other class: 0.",
        ),
    ]
    return check(student, _wrong_near_borders, cases)


WRONG_SOLUTIONS = {
    check_mean_loss: {
        "void divides too": lambda scores, labels: (
            _mean_loss(scores, labels) * (labels != VOID).sum() / labels.numel()
        ),
        "void is class 0": lambda scores, labels: _mean_loss(
            scores, labels.where(labels != VOID, 0)
        ),
        "the sum": lambda scores, labels: _mean_loss(scores, labels) * (labels != VOID).sum(),
        "softmax over rows": lambda scores, labels: (
            -scores.log_softmax(dim=1)
            .gather(0, labels.where(labels != VOID, 0)[None])[0][labels != VOID]
            .mean()
        ),
        "logarithm to base 2": lambda scores, labels: (
            _mean_loss(scores, labels) / torch.tensor(2.0).log()
        ),
        "probability without logarithm": lambda scores, labels: (
            -scores.softmax(dim=0)
            .gather(0, labels.where(labels != VOID, 0)[None])[0][labels != VOID]
            .mean()
        ),
        "overflow": lambda scores, labels: (
            -(scores.exp() / scores.exp().sum(dim=0))
            .log()
            .gather(0, labels.where(labels != VOID, 0)[None])[0][labels != VOID]
            .mean()
        ),
        "a softmax twice": lambda scores, labels: _mean_loss(scores.softmax(dim=0), labels),
        "wrong sign": lambda scores, labels: -_mean_loss(scores, labels),
        "always zero": lambda scores, labels: torch.zeros(()),
    },
    check_add_finer: {
        "nearest": lambda coarse, finer: _add_finer(
            coarse, finer, mode="nearest", align_corners=None
        ),
        "align_corners": lambda coarse, finer: _add_finer(coarse, finer, align_corners=True),
        "bicubic": lambda coarse, finer: _add_finer(coarse, finer, mode="bicubic"),
        "squeezed to the finer size": lambda coarse, finer: (
            interpolate(coarse[None], size=finer.shape[1:], mode="bilinear")[0] + finer
        ),
        "cut at the upper and left end": lambda coarse, finer: (
            interpolate(coarse[None], scale_factor=2, mode="bilinear")[
                0, :, -finer.shape[1] :, -finer.shape[2] :
            ]
            + finer
        ),
        "nothing added": lambda coarse, finer: _add_finer(coarse, torch.zeros_like(finer)),
        "the mean": lambda coarse, finer: _add_finer(coarse, finer) / 2,
        "multiplied": lambda coarse, finer: _add_finer(coarse, torch.zeros_like(finer)) * finer,
        "only the finer": lambda coarse, finer: finer,
        "always zero": lambda coarse, finer: torch.zeros_like(finer),
    },
    check_classes_of_colours: {
        "unknown is background": lambda picture, colours: _classes_of_colours(picture, colours, 0),
        "any channel": lambda picture, colours: torch.where(
            (picture[:, :, None] == colours).any(dim=-1).any(dim=-1),
            (picture[:, :, None] == colours).any(dim=-1).long().argmax(dim=-1),
            VOID,
        ),
        "the nearest colour": lambda picture, colours: (
            (picture[:, :, None] - colours).abs().sum(dim=-1).argmin(dim=-1)
        ),
        "blue, green, red": lambda picture, colours: _classes_of_colours(picture.flip(-1), colours),
        "always VOC's table": lambda picture, colours: _classes_of_colours(
            picture, colour_map(21).long()
        ),
        "off by one": lambda picture, colours: _classes_of_colours(picture, colours) + 1,
        "axes swapped": lambda picture, colours: _classes_of_colours(picture, colours).T,
        "unknown is the last class": lambda picture, colours: _classes_of_colours(
            picture, colours, len(colours) - 1
        ),
        "always zero": lambda picture, colours: torch.zeros(picture.shape[:2], dtype=torch.int64),
    },
    check_wrong_near_borders: {
        "all pixels": lambda predicted, labels, distance: (predicted != labels).float().mean(),
        "share of all pixels": lambda predicted, labels, distance: (
            ((predicted != labels) & _near(labels, distance)).sum() / labels.numel()
        ),
        "share of the mistakes": lambda predicted, labels, distance: (
            ((predicted != labels) & _near(labels, distance)).sum()
            / (predicted != labels).sum().clamp(min=1)
        ),
        "borders of the prediction": lambda predicted, labels, distance: (
            ((predicted != labels) & _near(predicted, distance)).sum()
            / _near(predicted, distance).sum().clamp(min=1)
        ),
        "always one step": lambda predicted, labels, distance: _wrong_near_borders(
            predicted, labels, 1
        ),
        "one step too far": lambda predicted, labels, distance: _wrong_near_borders(
            predicted, labels, distance + 1
        ),
        "no border gives nan": lambda predicted, labels, distance: (
            (predicted != labels)[_near(labels, distance)].float().mean()
        ),
        "right instead of wrong": lambda predicted, labels, distance: (
            1 - _wrong_near_borders(predicted, labels, distance)
        ),
        "always zero": lambda predicted, labels, distance: 0.0,
    },
}
