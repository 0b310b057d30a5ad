"""Right and wrong solutions of the exercises in `course_utils.exercises.semantic_segmentation`."""

import itertools
import math

import torch
import torch.nn.functional as F

from course_utils.core import VOID
from course_utils.exercises import semantic_segmentation
from course_utils.exercises.semantic_segmentation import (
    _class_iou,
    _count,
    _count_both_ways,
    _field_of_stack,
    _loss_of_picture,
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


def count_with_shapes(channels, size):
    def count(height, width):
        x, total = torch.zeros(1, channels[0], height, width), 0
        for inputs, outputs in itertools.pairwise(channels):
            layer = torch.nn.Conv2d(inputs, outputs, 3)
            x = layer(x)
            total += x[0, 0].numel() * layer.weight.numel()
        return total

    border = 2 * len(channels) - 2
    patches = size[0] * size[1] * count(1 + border, 1 + border)
    return patches, count(size[0] + border, size[1] + border)


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


RIGHT_SOLUTIONS = {
    semantic_segmentation.check_class_iou: iou_pixel_by_pixel,
    semantic_segmentation.check_field_of_stack: field_of_zeros_and_ones,
    semantic_segmentation.check_count_both_ways: count_with_shapes,
    semantic_segmentation.check_loss_of_picture: loss_pixel_by_pixel,
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
    semantic_segmentation.check_count_both_ways: {
        "one number": lambda channels, size: _count_both_ways(channels, size)[0],
        "in the opposite order": lambda channels, size: _count_both_ways(channels, size)[::-1],
        "no padding": lambda channels, size: (
            _count_both_ways(channels, size)[0],
            size[0] * size[1] * sum(a * b * 9 for a, b in itertools.pairwise(channels)),
        ),
        "patches do not shrink": lambda channels, size: (
            size[0]
            * size[1]
            * (2 * len(channels) - 1) ** 2
            * sum(a * b * 9 for a, b in itertools.pairwise(channels)),
            _count_both_ways(channels, size)[1],
        ),
        "one input channel": lambda channels, size: tuple(
            _count([1, *channels[1:]], *sides) * times
            for sides, times in (
                ((2 * len(channels) - 1,) * 2, size[0] * size[1]),
                ([side + 2 * len(channels) - 2 for side in size], 1),
            )
        ),
        "1 x 1 kernels": lambda channels, size: tuple(
            n // 9 for n in _count_both_ways(channels, size)
        ),
        "square images only": lambda channels, size: _count_both_ways(channels, (size[0], size[0])),
        "no input channels": lambda channels, size: _count_both_ways([1, *channels[1:]], size),
        "layers in the opposite order": lambda channels, size: _count_both_ways(
            channels[::-1], size
        ),
        "additions counted as well": lambda channels, size: tuple(
            2 * n for n in _count_both_ways(channels, size)
        ),
        "always zero": lambda channels, size: (0, 0),
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
}


class TestSemanticSegmentationExercises(ExerciseTests):
    exercises, right, wrong = semantic_segmentation, RIGHT_SOLUTIONS, WRONG_SOLUTIONS
