"""The exercises of 04_semantic_segmentation."""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from course_utils.core import VOID
from course_utils.exercises.checking import Case, Verdict, check

LABELS = torch.tensor([[0, 0, 0, 1], [0, 1, 1, 1], [2, 2, 1, 1]])
PREDICTED = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [2, 0, 1, 0]])
WITH_VOID = torch.tensor([[0, VOID, VOID, 1], [0, 1, VOID, 1], [2, 2, 1, VOID]])
Layers = Sequence[tuple[int, int]]


def _class_iou(predicted: Tensor, labels: Tensor, number: int) -> float:
    counts = labels != VOID
    called, true = (predicted == number) & counts, (labels == number) & counts
    either = int((called | true).sum())
    return int((called & true).sum()) / either if either else 0.0


def check_class_iou(student: Callable) -> Verdict:
    """Check `student(predicted [h, w], labels [h, w], number) -> IoU`: one class, void pixels left out."""
    cases = [
        Case(
            "class 0, no void", (PREDICTED, LABELS, 0), "Shared pixels over pixels in either map."
        ),
        Case("class 1, no void", (PREDICTED, LABELS, 1), "Use `number`: the class may be any."),
        Case(
            "class 1, with void",
            (PREDICTED, WITH_VOID, 1),
            "A void pixel that was given the class is neither shared nor in the union.",
        ),
        Case("class 2, with void", (PREDICTED, WITH_VOID, 2), "Both maps count in the union."),
        Case("a class that does not occur", (PREDICTED, LABELS, 7), "Mind the division by zero."),
    ]
    return check(student, _class_iou, cases)


def _field_of_stack(layers: Layers) -> int:
    strides = [math.prod(step for _, step in layers[:k]) for k in range(len(layers))]
    return 1 + sum((kernel - 1) * stride for (kernel, _), stride in zip(layers, strides))


def check_field_of_stack(student: Callable) -> Verdict:
    """Check `student(layers: list of (kernel, step)) -> pixels across`: the receptive field of a stack."""
    cases = [
        Case("five layers of 3 with steps of 1", ([(3, 1)] * 5,), "1 + 2L."),
        Case(
            "a 7 and a 1", ([(7, 1), (1, 1)],), "A layer of k adds k - 1, so a layer of 1 adds 0."
        ),
        Case(
            "three layers of 3 with steps of 2",
            ([(3, 2)] * 3,),
            "1 + 2 + 4 + 8: after each step the pixels stand twice as far apart.",
        ),
        Case(
            "a last layer with a step",
            ([(3, 1), (3, 2)],),
            "A layer's own step changes only what the layers after it see.",
        ),
        Case(
            "a ResNet's first layers: 7 with step 2, pooling 3 with step 2, and two of 3",
            ([(7, 2), (3, 2), (3, 1), (3, 1)],),
            "Multiply the steps of all layers before.",
        ),
        Case("no layer at all", ([],), "An output pixel is then the pixel itself."),
    ]
    return check(student, _field_of_stack, cases)


def _count(channels: Sequence[int], height: int, width: int) -> int:
    total = 0
    for inputs, outputs in itertools.pairwise(channels):
        height, width = height - 2, width - 2
        total += height * width * inputs * outputs * 9
    return total


def _count_both_ways(channels: Sequence[int], size: tuple[int, int]) -> tuple[int, int]:
    border = 2 * (len(channels) - 1)
    one_patch = _count(channels, 1 + border, 1 + border)
    return size[0] * size[1] * one_patch, _count(channels, size[0] + border, size[1] + border)


def check_count_both_ways(student: Callable) -> Verdict:
    """Check `student(channels, size) -> (patches, at_once)`: the multiplications of 3 x 3 layers."""
    cases = [
        Case(
            "one layer from 1 channel to 1, a picture of 4 x 5",
            ([1, 1], (4, 5)),
            "9 multiplications a pixel, whichever way.",
        ),
        Case(
            "the two layers of section 4, a picture of 4 x 4",
            ([1, 1, 1], (4, 4)),
            "1440 and 468: see the count by hand.",
        ),
        Case(
            "two layers with 3, 16 and 9 channels, a picture of 10 x 20",
            ([3, 16, 9], (10, 20)),
            "Each output number is a sum of channels in * 9 products.",
        ),
        Case(
            "five layers, a picture of 48 x 64",
            ([3, 8, 8, 8, 8, 9], (48, 64)),
            "The framed picture is 58 x 74; every layer takes a pixel off each side.",
        ),
    ]
    return check(student, _count_both_ways, cases)


def _loss_of_picture(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits[None], labels[None], ignore_index=VOID)


def check_loss_of_picture(student: Callable) -> Verdict:
    """Check `student(logits [c, h, w], labels [h, w]) -> loss`: cross-entropy without void pixels."""
    cat = torch.tensor([[0.8, 0.5], [0.9, 0.3]])
    small = torch.stack([cat, 1 - cat]).log()
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4, 3, 5, generator=generator)
    labels = torch.randint(0, 4, (3, 5), generator=generator)
    with_void = labels.clone()
    with_void[0], with_void[2, 1] = VOID, VOID
    cases = [
        Case(
            "four pixels, none of them void",
            (small, torch.tensor([[0, 1], [1, 0]])),
            "Minus the logarithm of the probability of the true class; then the mean.",
        ),
        Case(
            "the four pixels of section 5",
            (small, torch.tensor([[0, 1], [1, VOID]])),
            "Void adds nothing, and the mean is over the three other pixels.",
        ),
        Case("four classes, 3 x 5 pixels", (logits, labels), "The softmax runs over the classes."),
        Case("the same with six void pixels", (logits, with_void), "Divide by the 9 that count."),
        Case(
            "scores of 1000",
            (torch.tensor([[[1000.0]], [[990.0]]]), torch.tensor([[1]])),
            "e to the power of 1000 is infinite: `logsumexp` or `log_softmax` take care of that.",
        ),
    ]
    return check(student, _loss_of_picture, cases)


WRONG_SOLUTIONS = {
    check_class_iou: {
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
        "always zero": lambda predicted, labels, number: 0.0,
    },
    check_field_of_stack: {
        "1 + 2L": lambda layers: 1 + 2 * len(layers),
        "no steps": lambda layers: _field_of_stack([(kernel, 1) for kernel, _ in layers]),
        "the layer's own step included": lambda layers: (
            1
            + sum(
                (kernel - 1) * math.prod(step for _, step in layers[: k + 1])
                for k, (kernel, _) in enumerate(layers)
            )
        ),
        "only the step before": lambda layers: (
            1
            + sum(
                (kernel - 1) * (layers[k - 1][1] if k else 1)
                for k, (kernel, _) in enumerate(layers)
            )
        ),
        "kernels, not kernels less one": lambda layers: _field_of_stack(
            [(kernel + 1, step) for kernel, step in layers]
        ),
        "kernels multiplied": lambda layers: math.prod(kernel for kernel, _ in layers),
        "last layer first": lambda layers: _field_of_stack(layers[::-1]),
        "without the pixel itself": lambda layers: _field_of_stack(layers) - 1,
        "always zero": lambda layers: 0,
    },
    check_count_both_ways: {
        "one number": lambda channels, size: _count_both_ways(channels, size)[0],
        "the other way round": lambda channels, size: _count_both_ways(channels, size)[::-1],
        "no frame": lambda channels, size: (
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
        "one channel in": lambda channels, size: tuple(
            _count([1, *channels[1:]], *sides) * times
            for sides, times in (
                ((2 * len(channels) - 1,) * 2, size[0] * size[1]),
                ([side + 2 * len(channels) - 2 for side in size], 1),
            )
        ),
        "a filter of one pixel": lambda channels, size: tuple(
            n // 9 for n in _count_both_ways(channels, size)
        ),
        "square pictures only": lambda channels, size: _count_both_ways(
            channels, (size[0], size[0])
        ),
        "always zero": lambda channels, size: (0, 0),
    },
    check_loss_of_picture: {
        "divided by all pixels": lambda logits, labels: (
            F.cross_entropy(logits[None], labels[None], ignore_index=VOID, reduction="sum")
            / labels.numel()
        ),
        "the sum": lambda logits, labels: F.cross_entropy(
            logits[None], labels[None], ignore_index=VOID, reduction="sum"
        ),
        "void is class 0": lambda logits, labels: F.cross_entropy(
            logits[None], labels.where(labels != VOID, 0)[None]
        ),
        "softmax over the columns": lambda logits, labels: (
            -logits.log_softmax(dim=2)
            .gather(0, labels.where(labels != VOID, 0)[None])[0][labels != VOID]
            .mean()
        ),
        "a softmax too many": lambda logits, labels: _loss_of_picture(
            logits.softmax(dim=0), labels
        ),
        "no logarithm": lambda logits, labels: (
            1 - logits.softmax(dim=0).gather(0, labels.where(labels != VOID, 0)[None])[0]
        )[labels != VOID].mean(),
        "logarithm of 2": lambda logits, labels: _loss_of_picture(logits, labels) / math.log(2),
        "exponentials that overflow": lambda logits, labels: (
            -(logits.exp() / logits.exp().sum(dim=0))
            .gather(0, labels.where(labels != VOID, 0)[None])[0][labels != VOID]
            .log()
            .mean()
        ),
        "the best class's": lambda logits, labels: (
            -logits.log_softmax(dim=0).amax(dim=0)[labels != VOID].mean()
        ),
        "always zero": lambda logits, labels: 0.0,
    },
}
