"""Right and wrong solutions of the exercises in `course_utils.exercises.semantic_segmentation`."""

import itertools
import math
from functools import cache

import torch
import torch.nn.functional as F

from course_utils.core import VOID
from course_utils.data.scenes import make_scenes
from course_utils.exercises import semantic_segmentation
from course_utils.exercises.semantic_segmentation import (
    _class_iou,
    _field_of_stack,
    _loss_of_picture,
    faulty_maps,
)
from tests.exercises.common import ExerciseTests


def iou_pixel_by_pixel(predicted, labels, number):
    pairs = [pair for pair in zip(predicted.flatten(), labels.flatten()) if pair[1] != 255]
    either = sum(number in pair for pair in pairs)
    return sum(a == b == number for a, b in pairs) / either if either else 0


def field_of_zeros_and_ones(layers):
    """The input pixels on which the first output depends, found layer by layer from the last."""
    seen = {0}
    for kernel, stride in reversed(layers):
        seen = {stride * output + k for output in seen for k in range(kernel)}
    return max(seen) - min(seen) + 1


def loss_pixel_by_pixel(logits, labels):
    total, counted = 0.0, 0
    for i, j in itertools.product(*map(range, labels.shape)):
        if labels[i, j] != 255:
            total -= float(logits[:, i, j].double().log_softmax(dim=0)[labels[i, j]])
            counted += 1
    return total / counted


def sum_of_losses(logits, labels):
    log_p = logits.log_softmax(dim=0)[None]
    return F.nll_loss(log_p, labels[None], ignore_index=VOID, reduction="sum")


def mean_of_losses(logits, labels):
    return F.nll_loss(logits.log_softmax(dim=0)[None], labels[None], ignore_index=VOID)


@cache
def counts_of_colors(steps=32):
    """How often each colour has each class, [steps**3, 9]."""
    scenes = make_scenes(range(200), size=(48, 48))
    colors = number_of_color(scenes.images, steps).flatten()
    counts = torch.zeros(steps**3, 9)
    ones = torch.ones(len(colors))
    counts.index_put_((colors, scenes.semantic.flatten()), ones, accumulate=True)
    return counts + 1e-6 * counts.sum(dim=0)  # what was never seen gets the most frequent class


def number_of_color(images, steps=32):
    red, green, blue = (images * (steps - 0.01)).long().unbind(dim=1)
    return (red * steps + green) * steps + blue


def score_colors(images, steps=32):
    """Scores that depend on nothing but the pixel itself."""
    return counts_of_colors(steps)[number_of_color(images, steps)].permute(0, 3, 1, 2)


def score_means(images, side):
    """The scores of the colours, averaged over a square around each pixel."""
    return F.avg_pool2d(score_colors(images), side, stride=1, padding=side // 2)


RIGHT_SOLUTIONS = {
    semantic_segmentation.check_class_iou: iou_pixel_by_pixel,
    semantic_segmentation.check_field_of_stack: field_of_zeros_and_ones,
    semantic_segmentation.check_loss_of_picture: loss_pixel_by_pixel,
    semantic_segmentation.check_causes: lambda: torch.tensor([3, 1, 4, 2]),
    semantic_segmentation.check_pixel_scores: score_colors,
}

WRONG_SOLUTIONS = {
    semantic_segmentation.check_class_iou: {
        "accuracy": lambda predicted, labels, number: (predicted == labels).float().mean(),
        "always class 0": lambda predicted, labels, number: _class_iou(predicted, labels, 0),
        "void counts in the union": lambda predicted, labels, number: (
            ((predicted == number) & (labels == number)).sum()
            / ((predicted == number) | (labels == number)).sum().clamp(min=1)
        ),
        "precision": lambda predicted, labels, number: (
            ((predicted == number) & (labels == number)).sum()
            / ((predicted == number) & (labels != VOID)).sum().clamp(min=1)
        ),
        "recall": lambda predicted, labels, number: (
            ((predicted == number) & (labels == number)).sum()
            / (labels == number).sum().clamp(min=1)
        ),
        "dice": lambda predicted, labels, number: (
            2 * _class_iou(predicted, labels, number) / (1 + _class_iou(predicted, labels, number))
        ),
        "pixels of both counted twice": lambda predicted, labels, number: (
            ((predicted == number) & (labels == number)).sum()
            / ((predicted == number).sum() + (labels == number).sum()).clamp(min=1)
        ),
        "1 for a class that does not occur": lambda predicted, labels, number: (
            _class_iou(predicted, labels, number) if (labels == number).any() else 1.0
        ),
        "void counted as the class": lambda predicted, labels, number: _class_iou(
            predicted, labels.where(labels != VOID, number), number
        ),
        "mean over all classes": lambda predicted, labels, number: (
            sum(_class_iou(predicted, labels, k) for k in range(3)) / 3
        ),
        "always zero": lambda predicted, labels, number: 0.0,
    },
    semantic_segmentation.check_field_of_stack: {
        "1 + 2L": lambda layers: 1 + 2 * len(layers),
        "strides ignored": lambda layers: _field_of_stack([(kernel, 1) for kernel, _ in layers]),
        "the layer's own stride included": lambda layers: (
            1
            + sum(
                (kernel - 1) * math.prod(stride for _, stride in layers[: k + 1])
                for k, (kernel, _) in enumerate(layers)
            )
        ),
        "only the stride of the layer before": lambda layers: (
            1
            + sum(
                (kernel - 1) * (layers[k - 1][1] if k else 1)
                for k, (kernel, _) in enumerate(layers)
            )
        ),
        "k instead of k - 1": lambda layers: _field_of_stack(
            [(kernel + 1, stride) for kernel, stride in layers]
        ),
        "kernel sizes multiplied": lambda layers: math.prod(kernel for kernel, _ in layers),
        "the last layer first": lambda layers: _field_of_stack(layers[::-1]),
        "without the pixel itself": lambda layers: _field_of_stack(layers) - 1,
        "strides added": lambda layers: (
            1
            + sum(
                (kernel - 1) * max(1, sum(stride for _, stride in layers[:k]))
                for k, (kernel, _) in enumerate(layers)
            )
        ),
        "all strides are 2 or none": lambda layers: (
            1
            + sum(
                (kernel - 1) * 2 ** sum(stride > 1 for _, stride in layers[:k])
                for k, (kernel, _) in enumerate(layers)
            )
        ),
        "always zero": lambda layers: 0,
    },
    semantic_segmentation.check_loss_of_picture: {
        "torch's cross_entropy": _loss_of_picture,
        "torch's layer CrossEntropyLoss": lambda logits, labels: torch.nn.CrossEntropyLoss(
            ignore_index=VOID
        )(logits[None], labels[None]),
        "divided by all pixels": lambda logits, labels: (
            sum_of_losses(logits, labels) / labels.numel()
        ),
        "the sum": lambda logits, labels: sum_of_losses(logits, labels),
        "void is class 0": lambda logits, labels: F.nll_loss(
            logits.log_softmax(dim=0)[None], labels.where(labels != VOID, 0)[None]
        ),
        "softmax over the columns": lambda logits, labels: (
            -logits.log_softmax(dim=2)
            .gather(0, labels.where(labels != VOID, 0)[None])[0][labels != VOID]
            .mean()
        ),
        "softmax twice": lambda logits, labels: mean_of_losses(logits.softmax(dim=0), labels),
        "a small number added in the logarithm": lambda logits, labels: F.nll_loss(
            (logits.softmax(dim=0) + 1e-9).log()[None], labels[None], ignore_index=VOID
        ),
        "no logarithm": lambda logits, labels: (
            1 - logits.softmax(dim=0).gather(0, labels.where(labels != VOID, 0)[None])[0]
        )[labels != VOID].mean(),
        "logarithm to base 2": lambda logits, labels: mean_of_losses(logits, labels) / math.log(2),
        "exponentials that overflow": lambda logits, labels: (
            -(logits.exp() / logits.exp().sum(dim=0))
            .gather(0, labels.where(labels != VOID, 0)[None])[0][labels != VOID]
            .log()
            .mean()
        ),
        "the best class instead of the true one": lambda logits, labels: (
            -logits.log_softmax(dim=0).amax(dim=0)[labels != VOID].mean()
        ),
        "always zero": lambda logits, labels: 0.0,
    },
    semantic_segmentation.check_causes: {
        "in the order of the list": lambda: (1, 2, 3, 4),
        "nearest-neighbour and bilinear exchanged": lambda: (3, 2, 4, 1),
        "the rims are a small receptive field": lambda: (3, 6, 4, 2),
        "the missing details are rare classes": lambda: (3, 1, 4, 5),
        "a shift is a small receptive field": lambda: (6, 1, 4, 2),
        "wrong classes everywhere are rare classes": lambda: (3, 1, 5, 2),
        "always the same": lambda: (3, 3, 3, 3),
        "three answers": lambda: (3, 1, 4),
        "a number": lambda: 3142,
        "letters": lambda: ("C", "A", "D", "B"),
        "not a number": lambda: (float("nan"), 1, 4, 2),
    },
    semantic_segmentation.check_pixel_scores: {
        "all grass": lambda images: F.one_hot(torch.full((len(images), 48, 48), 6), 9).permute(
            0, 3, 1, 2
        ),
        "random": lambda images: torch.rand(
            len(images), 9, 48, 48, generator=torch.Generator().manual_seed(0)
        ),
        "class numbers": lambda images: score_colors(images).argmax(dim=1),
        "classes last": lambda images: score_colors(images).permute(0, 2, 3, 1),
        "one class too few": lambda images: score_colors(images)[:, 1:],
        "classes shifted by one": lambda images: score_colors(images).roll(1, dims=1),
        "too few colours": lambda images: score_colors(images, steps=4),
        "shifted by four pixels": lambda images: score_colors(images).roll(4, dims=3),
        "a window of 13 x 13": lambda images: score_colors(images) + score_means(images, 13),
        "the mean over the image added": lambda images: (
            score_colors(images) + images.mean(dim=(1, 2, 3), keepdim=True)
        ),
        "one scene's scores for all": lambda images: score_colors(images[:1]).expand(
            len(images), -1, -1, -1
        ),
        "not a number": lambda images: score_colors(images) * float("nan"),
    },
}


class TestSemanticSegmentationExercises(ExerciseTests):
    exercises, right, wrong = semantic_segmentation, RIGHT_SOLUTIONS, WRONG_SOLUTIONS


def test_a_window_of_eleven_pixels_is_allowed():
    message = semantic_segmentation.check_pixel_scores(
        lambda images: score_means(images, 11)
    ).message
    assert "pixels away" not in message


def test_an_error_in_a_students_scores_is_told():
    verdict = semantic_segmentation.check_pixel_scores(lambda images: images.nothing)
    assert verdict.passed is False and "raised AttributeError" in verdict.message


def test_each_faulty_map_has_its_own_error():
    truth = torch.full((32, 40), 6)
    truth[10:21, 12:27] = 1
    maps = faulty_maps(truth)
    assert all(semantic.shape == truth.shape for semantic in maps.values())
    assert torch.equal(maps["A"][8:, 8:], truth[:-8, :-8])
    assert set(maps["B"].unique().tolist()) > {1, 6}
    assert torch.equal(maps["C"], truth - 1)
    assert torch.equal(maps["D"][::8, ::8], truth[4::8, 4::8]) and not torch.equal(maps["D"], truth)
