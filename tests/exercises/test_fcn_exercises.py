"""Right and wrong solutions of the exercises in `course_utils.exercises.fcn`."""

import itertools

import torch
from scipy.ndimage import distance_transform_edt
from torch import nn
from torch.nn.functional import avg_pool2d, cross_entropy, interpolate, log_softmax, nll_loss, pad

from course_utils.core import VOID
from course_utils.exercises import fcn
from course_utils.exercises.fcn import (
    _add_finer,
    _add_finer_transposed,
    _mean_loss,
    _near,
    _wrong_near_borders,
)
from course_utils.ops.conv_transpose import bilinear_kernel
from course_utils.ops.losses import cross_entropy_loops
from tests.exercises.common import ExerciseTests, linear_rows


def doubled_by_weights(coarse, finer):
    rows, columns = (linear_rows(size, 2 * size) for size in coarse.shape[1:])
    doubled = rows @ coarse @ columns.T
    return finer + doubled[:, : finer.shape[1], : finer.shape[2]]


def pixel_by_pixel_near_borders(predicted, labels, distance):
    errors = []
    for i, j in itertools.product(*map(range, labels.shape)):
        rows = slice(max(0, i - distance), i + distance + 1)
        around = labels[rows, max(0, j - distance) : j + distance + 1]
        if (around != labels[i, j]).any():
            errors.append(bool(predicted[i, j] != labels[i, j]))
    return sum(errors) / max(1, len(errors))


def add_finer_with(coarse, finer, **options):
    doubled = interpolate(coarse[None], scale_factor=2, **options)[0]
    return doubled[:, : finer.shape[1], : finer.shape[2]] + finer


def moved(network, images, down, right):
    """The probabilities for images that are moved, moved back again."""
    around = pad(images, (2, 2, 2, 2), mode="replicate").roll((down, right), (2, 3))
    scores = network(around[..., 2:-2, 2:-2]).softmax(dim=1)
    back = pad(scores, (2, 2, 2, 2), mode="replicate").roll((-down, -right), (2, 3))
    return back[..., 2:-2, 2:-2]


def rolled(network, images, pixels):
    return network(images.roll(pixels, 3)).softmax(dim=1)


def wrong_within(radius, norm=2.0):
    """The share of wrong pixels whose nearest pixel of another class is at most `radius(distance)` away."""

    def solution(predicted, labels, distance):
        pixels = torch.cartesian_prod(*map(torch.arange, labels.shape)).double()
        apart = torch.cdist(pixels, pixels, p=norm)
        apart[labels.flatten()[:, None] == labels.flatten()] = torch.inf
        near = (apart.amin(dim=1) <= radius(distance) + 1e-9).reshape(labels.shape)
        return ((predicted != labels) & near).sum() / near.sum().clamp(min=1)

    return solution


def wrong_within_by_scipy(predicted, labels, distance):
    inside = [(labels == number).numpy() for number in labels.unique()]
    apart = sum(distance_transform_edt(where) * where for where in inside)
    near = torch.from_numpy(apart) <= distance + 0.5
    return ((predicted != labels) & near).sum() / near.sum().clamp(min=1)


RIGHT_SOLUTIONS = {
    fcn.check_mean_loss: lambda scores, labels: cross_entropy_loops(scores[None], labels[None]),
    fcn.check_add_finer: doubled_by_weights,
    fcn.check_wrong_near_borders: pixel_by_pixel_near_borders,
    fcn.check_doubled_scores: lambda: torch.tensor([0, 1, -1, 0, 1]),
    fcn.check_better_maps: lambda network, images: (
        sum(moved(network, images, *step) for step in [(0, 0), (1, 0), (0, 1), (-1, 0), (0, -1)])
    ).argmax(dim=1),
}

WRONG_SOLUTIONS = {
    fcn.check_mean_loss: {
        "torch's own": lambda scores, labels: cross_entropy(
            scores[None], labels[None], ignore_index=VOID
        ),
        "torch's own layer": lambda scores, labels: nn.CrossEntropyLoss(ignore_index=VOID)(
            scores[None], labels[None]
        ),
        "half of torch's own": lambda scores, labels: nll_loss(
            log_softmax(scores, dim=0)[None], labels[None], ignore_index=VOID
        ),
        "void counts in the divisor": lambda scores, labels: (
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
        "softmax twice": lambda scores, labels: _mean_loss(scores.softmax(dim=0), labels),
        "the opposite sign": lambda scores, labels: -_mean_loss(scores, labels),
        "always zero": lambda scores, labels: torch.zeros(()),
    },
    fcn.check_add_finer: {
        "nearest": lambda coarse, finer: add_finer_with(coarse, finer, mode="nearest"),
        "align_corners": lambda coarse, finer: add_finer_with(
            coarse, finer, mode="bilinear", align_corners=True
        ),
        "bicubic": lambda coarse, finer: add_finer_with(coarse, finer, mode="bicubic"),
        "resized to the finer size": lambda coarse, finer: (
            interpolate(coarse[None], size=finer.shape[1:], mode="bilinear")[0] + finer
        ),
        "the first row and column cropped": lambda coarse, finer: (
            interpolate(coarse[None], scale_factor=2, mode="bilinear")[
                0, :, -finer.shape[1] :, -finer.shape[2] :
            ]
            + finer
        ),
        "transposed convolution, the first row and column cropped": lambda coarse, finer: (
            _add_finer_transposed(
                coarse, torch.zeros(len(coarse), *(2 * n for n in coarse.shape[1:]))
            )[:, -finer.shape[1] :, -finer.shape[2] :]
            + finer
        ),
        "transposed convolution, not added": lambda coarse, finer: _add_finer_transposed(
            coarse, torch.zeros_like(finer)
        ),
        "finer scores not added": lambda coarse, finer: _add_finer(coarse, torch.zeros_like(finer)),
        "the mean": lambda coarse, finer: _add_finer(coarse, finer) / 2,
        "multiplied": lambda coarse, finer: _add_finer(coarse, torch.zeros_like(finer)) * finer,
        "the finer scores alone": lambda coarse, finer: finer,
        "always zero": lambda coarse, finer: torch.zeros_like(finer),
    },
    fcn.check_wrong_near_borders: {
        "all pixels": lambda predicted, labels, distance: (predicted != labels).float().mean(),
        "share of all pixels": lambda predicted, labels, distance: (
            ((predicted != labels) & _near(labels, distance)).sum() / labels.numel()
        ),
        "share of the errors": lambda predicted, labels, distance: (
            ((predicted != labels) & _near(labels, distance)).sum()
            / (predicted != labels).sum().clamp(min=1)
        ),
        "borders of the prediction": lambda predicted, labels, distance: (
            ((predicted != labels) & _near(predicted, distance)).sum()
            / _near(predicted, distance).sum().clamp(min=1)
        ),
        "Euclidean distance": wrong_within(lambda distance: distance),
        "Euclidean distance up to half a pixel more": wrong_within(lambda distance: distance + 0.5),
        "Euclidean distance by scipy": wrong_within_by_scipy,
        "Euclidean distance to the corner": wrong_within(lambda distance: distance * 2**0.5),
        "city-block distance": wrong_within(lambda distance: distance, norm=1.0),
        "city-block distance to the corner": wrong_within(lambda distance: 2 * distance, norm=1.0),
        "always distance 1": lambda predicted, labels, distance: _wrong_near_borders(
            predicted, labels, 1
        ),
        "distance + 1": lambda predicted, labels, distance: _wrong_near_borders(
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
    fcn.check_doubled_scores: {
        "nothing changes": lambda: (0, 0, 0, 0, 0),
        "all is doubled": lambda: (1, 1, 1, 1, 1),
        "the mean IoU rises, too": lambda: (1, 1, -1, 0, 1),
        "the softmax takes it away": lambda: (0, 0, 0, 0, 0.0),
        "every loss falls": lambda: (0, 1, -1, -1, -1),
        "a wrong pixel is wrong as before": lambda: (0, 1, -1, 0, 0),
        "the signs of the losses exchanged": lambda: (0, 1, 1, 0, -1),
        "equal scores lose": lambda: (0, 1, -1, 1, 1),
        "words": lambda: ("stays", "rises", "falls", "stays", "rises"),
        "four numbers": lambda: (0, 1, -1, 0),
        "one number": lambda: 1,
        "nothing": lambda: None,
    },
    fcn.check_better_maps: {
        "the network as it is": lambda network, images: network(images).argmax(dim=1),
        "with the mirrored image": lambda network, images: (
            network(images) + network(images.flip(-1)).flip(-1)
        ).argmax(dim=1),
        "mirrored and not mirrored back": lambda network, images: (
            network(images) + network(images.flip(-1))
        ).argmax(dim=1),
        "moved and not moved back": lambda network, images: (
            sum(rolled(network, images, pixels) for pixels in (-1, 0, 1))
        ).argmax(dim=1),
        "blurred scores": lambda network, images: avg_pool2d(
            network(images), 3, stride=1, padding=1
        ).argmax(dim=1),
        "scores instead of classes": lambda network, images: network(images),
        "a map of numbers with a point": lambda network, images: (
            network(images).argmax(dim=1).double()
        ),
        "the best score": lambda network, images: network(images).amax(dim=1).long(),
        "one scene": lambda network, images: network(images[:1]).argmax(dim=1),
        "doubled scores": lambda network, images: (2 * network(images)).argmax(dim=1),
        "no class at all": lambda network, images: torch.full((40, 96, 96), -1),
        "always grass": lambda network, images: torch.full((40, 96, 96), 6),
    },
}


class TestFCNExercises(ExerciseTests):
    exercises, right, wrong = fcn, RIGHT_SOLUTIONS, WRONG_SOLUTIONS

    def test_a_right_solution_passes(self, check):
        verdict = check(self.right[check])
        assert verdict.passed and verdict.message.startswith("Passed: "), verdict.message


def test_the_layer_that_the_notebook_teaches_passes() -> None:
    """A transposed convolution finds zeros beyond the border, where interpolation repeats the last score."""

    def with_a_layer(coarse, finer):
        layer = nn.ConvTranspose2d(len(coarse), len(coarse), 4, 2, 1, bias=False)
        layer.weight.data.copy_(bilinear_kernel(len(coarse), 4))
        with torch.no_grad():
            return layer(coarse[None])[0, :, : finer.shape[1], : finer.shape[2]] + finer

    assert fcn.check_add_finer(with_a_layer).passed
