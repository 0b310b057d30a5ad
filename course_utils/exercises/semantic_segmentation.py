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
    union = int((called | true).sum())
    return int((called & true).sum()) / union if union else 0.0


def check_class_iou(student: Callable) -> Verdict:
    """Check `student(predicted [h, w], labels [h, w], number) -> IoU` of one class, void ignored."""
    cases = [
        Case(
            "class 0, no void",
            (PREDICTED, LABELS, 0),
            "Divide the number of pixels that have the class in both maps by the number in at least one.",
        ),
        Case(
            "class 1, no void",
            (PREDICTED, LABELS, 1),
            "Use the argument `number`, not class 0.",
        ),
        Case(
            "class 1, with void",
            (PREDICTED, WITH_VOID, 1),
            "A void pixel counts neither in the intersection nor in the union, whatever was predicted there.",
        ),
        Case(
            "class 2, with void",
            (PREDICTED, WITH_VOID, 2),
            "The union holds the pixels of the class in the prediction and those in the labels.",
        ),
        Case(
            "a class that is never predicted",
            (PREDICTED.where(PREDICTED != 2, 1), LABELS, 2),
            "Its pixels are still in the union: the IoU is 0.",
        ),
        Case(
            "a map in which every pixel is void",
            (PREDICTED, torch.full_like(LABELS, VOID), 0),
            "No pixel counts, so the union is empty and the IoU is defined as 0 here.",
        ),
        Case(
            "a class that occurs in neither map",
            (PREDICTED, LABELS, 7),
            "The union is empty, and the IoU is defined as 0 here: avoid the division by zero.",
        ),
    ]
    return check(student, _class_iou, cases)


def _field_of_stack(layers: Layers) -> int:
    strides = [math.prod(stride for _, stride in layers[:k]) for k in range(len(layers))]
    return 1 + sum((kernel - 1) * before for (kernel, _), before in zip(layers, strides))


def check_field_of_stack(student: Callable) -> Verdict:
    """Check `student(layers: list of (kernel, stride)) -> receptive field` in input pixels."""
    cases = [
        Case(
            "five 3 x 3 layers with stride 1",
            ([(3, 1)] * 5,),
            "With stride 1, L layers of 3 x 3 have a receptive field of 1 + 2L.",
        ),
        Case(
            "a 7 x 7 and a 1 x 1 layer",
            ([(7, 1), (1, 1)],),
            "With stride 1, a layer with kernel size k adds k - 1 pixels, so a 1 x 1 layer adds none.",
        ),
        Case(
            "three 3 x 3 layers with stride 2",
            ([(3, 2)] * 3,),
            "1 + 2 + 4 + 8: each stride of 2 doubles the distance, in input pixels, between neighbours.",
        ),
        Case(
            "two 3 x 3 layers, the second with stride 2",
            ([(3, 1), (3, 2)],),
            "The stride of a layer affects only the layers after it.",
        ),
        Case(
            "the first layers of a ResNet (7 x 7 with stride 2, 3 x 3 pooling with stride 2, two 3 x 3)",
            ([(7, 2), (3, 2), (3, 1), (3, 1)],),
            "A layer adds k - 1, multiplied by the strides of all layers before it.",
        ),
        Case(
            "a 4 x 4 layer with stride 3, a 1 x 1 layer with stride 2, and a 5 x 5 layer",
            ([(4, 3), (1, 2), (5, 1)],),
            "1 + 3 + 0 + 4 * 6: a layer adds (k - 1) times the product of the strides of all earlier layers.",
        ),
        Case(
            "an empty list of layers",
            ([],),
            "Without layers an output pixel is an input pixel: the receptive field is 1.",
        ),
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
            "one layer from 1 channel to 1, an image of 4 x 5",
            ([1, 1], (4, 5)),
            "With one layer both methods need 9 multiplications per pixel.",
        ),
        Case(
            "the two layers of section 4, an image of 4 x 4",
            ([1, 1, 1], (4, 4)),
            "The numbers are 1440 and 468; section 4 counts them by hand.",
        ),
        Case(
            "two layers with 3, 16 and 9 channels, an image of 10 x 20",
            ([3, 16, 9], (10, 20)),
            "Each output value is a sum of 9 products per input channel.",
        ),
        Case(
            "five layers, an image of 48 x 64",
            ([3, 8, 8, 8, 8, 9], (48, 64)),
            "The padded image is 58 x 74, and every layer removes one pixel from each side.",
        ),
        Case(
            "three layers with 2, 5, 7 and 4 channels, an image of 9 x 3",
            ([2, 5, 7, 4], (9, 3)),
            "A layer costs its input channels times its output channels times 9, for each output pixel.",
        ),
    ]
    return check(student, _count_both_ways, cases)


def _loss_of_picture(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits[None], labels[None], ignore_index=VOID)


def check_loss_of_picture(student: Callable) -> Verdict:
    """Check `student(logits [c, h, w], labels [h, w]) -> loss`: mean cross-entropy, void ignored, by hand."""
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
            "The loss of a pixel is minus the logarithm of the probability of its true class; take the mean.",
        ),
        Case(
            "the four pixels of section 5",
            (small, torch.tensor([[0, 1], [1, VOID]])),
            "The void pixel adds nothing, and the mean is over the other three pixels.",
        ),
        Case(
            "four classes, 3 x 5 pixels",
            (logits, labels),
            "The softmax runs over the classes (dim 0).",
        ),
        Case(
            "the same with six void pixels",
            (logits, with_void),
            "Divide by the 9 pixels that are not void.",
        ),
        Case(
            "logits of 1000 and 990",
            (torch.tensor([[[1000.0]], [[990.0]]]), torch.tensor([[1]])),
            "exp(1000) overflows: `logsumexp` and `log_softmax` subtract the largest logit first.",
        ),
        Case(
            "logits of -1000 and -960",
            (torch.tensor([[[-1000.0, 0.0]], [[-960.0, 0.0]]]), torch.tensor([[0, VOID]])),
            "exp(-1000) is 0, and its logarithm minus infinity: use `logsumexp` or `log_softmax`.",
        ),
    ]
    return check(student, _loss_of_picture, cases, forbidden=(F.cross_entropy,))
