"""Losses of classes and boxes: cross-entropy per pixel, focal loss, and generalised IoU."""

import itertools
import math
from numbers import Real as Number
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Real
from torch import Tensor

from course_utils.core import (
    VOID,
    check_boxes,
    check_floating,
    check_fraction,
    check_rows,
    check_same_device,
    check_shape,
    on_cpu,
)
from course_utils.ops.boxes import _ratio, _upcast, box_area, generalized_box_iou_loops

Reduction = Literal["mean", "sum", "none"]


def _check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction: expected "mean", "sum" or "none", got {reduction!r}')


def _reduce(losses: Tensor, reduction: str) -> Tensor:
    """The losses themselves, their sum, or their mean; the mean of none is 0."""
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" and losses.numel() else losses.sum()


# --- Cross-entropy


def _check_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> None:
    """Raise unless there is one label per pixel, each a class or the one to ignore."""
    if not isinstance(input, Tensor):
        raise TypeError(f"input: expected a torch.Tensor, got {type(input).__name__}")
    if input.ndim < 2:
        raise ValueError(f"input: expected shape [b, classes, ...], got {list(input.shape)}")
    check_floating("input", input)
    check_shape("target", target, len(input), *input.shape[2:])
    if target.dtype != torch.int64:
        raise TypeError(f"target: expected torch.int64, got {target.dtype}")
    check_same_device(input=input, target=target)
    if weight is not None:
        check_shape("weight", weight, input.shape[1])
    _check_reduction(reduction)
    check_fraction("label_smoothing", label_smoothing)
    if on_cpu(target):
        good = ((target >= 0) & (target < input.shape[1])) | (target == ignore_index)
        check_rows("target", target, good, f"0..{input.shape[1] - 1} or {ignore_index}")


def cross_entropy_loops(
    input: Float[Tensor, "b c *shape"],
    target: Int64[Tensor, "b *shape"],
    weight: Float[Tensor, " c"] | None = None,
    ignore_index: int = VOID,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> Float[Tensor, "..."]:
    """`cross_entropy` written out: a softmax at each pixel, and minus the logarithm of one entry."""
    classes = range(input.shape[1])
    weights = [1.0 if weight is None else float(weight[c]) for c in classes]
    losses = torch.zeros_like(target, dtype=input.dtype)
    total = 0.0
    for b, *pixel in (target != ignore_index).nonzero().tolist():
        label = int(target[b, *pixel])
        scores = input[b, :, *pixel].tolist()
        largest = max(scores)  # e to the power of a large score would overflow
        normaliser = largest + math.log(sum(math.exp(score - largest) for score in scores))
        loss = weights[label] * (normaliser - scores[label])
        if label_smoothing > 0:
            uniform = sum(weights[c] * (normaliser - scores[c]) for c in classes) / len(classes)
            loss = (1 - label_smoothing) * loss + label_smoothing * uniform
        losses[b, *pixel] = loss
        total += weights[label]
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" or total == 0 else losses.sum() / total


def cross_entropy(
    input: Float[Tensor, "b c *shape"],
    target: Int64[Tensor, "b *shape"],
    weight: Float[Tensor, " c"] | None = None,
    ignore_index: int = VOID,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> Float[Tensor, "..."]:
    """Classification of every pixel: minus the logarithm of the probability of the true class.

    A softmax over the classes turns scores s into probabilities, so with true class y the loss of a pixel is
    -log(exp(s_y) / sum_c exp(s_c)) = log sum_c exp(s_c) - s_y. Void pixels, which nobody labelled, have
    loss 0 and no gradient, and do not count in the mean.

    Args:
        input: scores (logits) per class and pixel; any number of axes may follow the classes, or none.
        target: the true class of each pixel, or `ignore_index`.
        weight: weight of each class; 1 by default. The mean is then a weighted one.
        ignore_index: the label of void pixels.
        reduction: "mean" over all pixels that are not void, "sum", or "none".
        label_smoothing: share of the target that is spread evenly over all classes, from 0 to 1.

    Returns:
        One number, or with "none" one per pixel.

    Source: lecture, per-pixel cross-entropy; label smoothing: Szegedy et al., "Rethinking the Inception
    Architecture", 2016. Same as `torch.nn.functional.cross_entropy` for targets that are classes, except that
    torch's `ignore_index` is -100 by default, that its deprecated `size_average` and `reduce` are left out,
    and that the mean over no pixel is 0 here and nan there. It is deterministic on CUDA, where torch's own is
    not for images.

    >>> logits = torch.tensor([[[[4.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]]]])
    >>> labels = torch.tensor([[[0, 1, 255]]])
    >>> cross_entropy(logits, labels, reduction="none")
    tensor([[[0.0181, 0.6931, 0.0000]]])
    >>> cross_entropy(logits, labels)
    tensor(0.3556)
    """
    _check_cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing)
    weight = input.new_ones(input.shape[1]) if weight is None else weight
    counts = target != ignore_index
    label = torch.where(counts, target, 0)  # void pixels get any class: they are masked below
    log_p = input.log_softmax(dim=1)
    weights = weight[label]  # of each pixel
    losses = -log_p.gather(1, label[:, None])[:, 0] * weights
    if label_smoothing > 0:
        uniform = -log_p.movedim(1, -1) @ weight / input.shape[1]
        losses = (1 - label_smoothing) * losses + label_smoothing * uniform
    losses = losses.masked_fill(~counts, 0)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    total = weights.masked_fill(~counts, 0).sum()
    return losses.sum() / torch.where(total == 0, 1, total)


# --- Focal loss


def _check_focal(
    inputs: Tensor, targets: Tensor, alpha: float, gamma: float, reduction: str
) -> None:
    check_shape("inputs", inputs, ...)
    check_floating("inputs", inputs)
    _check_soft_targets("targets", targets, "inputs", inputs)
    if alpha != -1:
        check_fraction("alpha", alpha)
    _check_exponent("gamma", gamma)
    _check_reduction(reduction)


def _check_soft_targets(name: str, targets: Tensor, input_name: str, input: Tensor) -> None:
    """Raise unless there is a number from 0 to 1 for each logit."""
    check_shape(name, targets, *input.shape)
    check_floating(name, targets)
    check_same_device(**{input_name: input, name: targets})
    check_rows(name, targets, (targets >= 0) & (targets <= 1), "numbers from 0 to 1")


def _check_exponent(name: str, value: float) -> None:
    if not isinstance(value, Number):
        raise TypeError(f"{name}: expected a number of at least 0, got {value!r}")
    if not value >= 0:
        raise ValueError(f"{name}: expected a number of at least 0, got {value}")


def sigmoid_focal_loss_loops(
    inputs: Float[Tensor, "*shape"],
    targets: Float[Tensor, "*shape"],
    alpha: float = 0.25,
    gamma: float = 2.0,
    reduction: Reduction = "none",
) -> Float[Tensor, "..."]:
    """`sigmoid_focal_loss` written out: one logit at a time."""
    losses = torch.zeros_like(inputs)
    for place in itertools.product(*map(range, inputs.shape)):
        logit, target = inputs[place], targets[place]
        loss = -target * F.logsigmoid(logit) - (1 - target) * F.logsigmoid(-logit)
        mistake = target * (-logit).sigmoid() + (1 - target) * logit.sigmoid()
        weight = 1 if alpha == -1 else alpha * target + (1 - alpha) * (1 - target)
        losses[place] = weight * mistake**gamma * loss
    return _reduce(losses, reduction)


def sigmoid_focal_loss(
    inputs: Float[Tensor, "*shape"],
    targets: Float[Tensor, "*shape"],
    alpha: float = 0.25,
    gamma: float = 2.0,
    reduction: Reduction = "none",
) -> Float[Tensor, "..."]:
    """Binary cross-entropy that all but ignores what is right already.

    A detector without proposals looks at 100,000 boxes, nearly all of them background and easy: many small
    losses drown the few large ones. With p_t the probability of the right answer, -log p_t is multiplied by
    (1 - p_t)^gamma: with gamma = 2, a hundredth of it is left at p_t = .9, and nearly all at .01. Positives
    also weigh alpha and negatives 1 - alpha.

    Args:
        inputs: logits, of any shape.
        targets: 1 for positives and 0 for negatives.
        alpha: weight of positives, from 0 to 1, or -1 for no weights.
        gamma: how much the easy ones are turned down; 0 is cross-entropy.
        reduction: "none", "mean" or "sum".

    Returns:
        One loss per logit, or with "mean" and "sum" one number.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017; same as
    `torchvision.ops.sigmoid_focal_loss`, except that the mean over nothing is 0 here and nan there.

    >>> logits = torch.tensor([0.9, 0.01]).logit()  # easy and hard
    >>> sigmoid_focal_loss(logits, torch.tensor([1.0, 1.0]), alpha=-1.0)
    tensor([1.0536e-03, 4.5135e+00])
    """
    _check_focal(inputs, targets, alpha, gamma, reduction)
    losses = -targets * F.logsigmoid(inputs) - (1 - targets) * F.logsigmoid(-inputs)
    mistake = targets * (-inputs).sigmoid() + (1 - targets) * inputs.sigmoid()  # 1 - p_t
    losses = mistake**gamma * losses
    if alpha != -1:
        losses = (alpha * targets + (1 - alpha) * (1 - targets)) * losses
    return _reduce(losses, reduction)


# --- Boxes


def generalized_box_iou_loss_loops(
    boxes1: Real[Tensor, "n 4"], boxes2: Real[Tensor, "n 4"], reduction: Reduction = "none"
) -> Float[Tensor, "..."]:
    """`generalized_box_iou_loss` written out: 1 - GIoU of the first two boxes, the second two, ..."""
    losses = torch.zeros(len(boxes1), dtype=torch.promote_types(boxes1.dtype, torch.float32))
    for n in range(len(boxes1)):
        losses[n] = 1 - generalized_box_iou_loops(boxes1[n : n + 1], boxes2[n : n + 1])[0, 0]
    return _reduce(losses, reduction)


def generalized_box_iou_loss(
    boxes1: Real[Tensor, "n 4"], boxes2: Real[Tensor, "n 4"], reduction: Reduction = "none"
) -> Float[Tensor, "..."]:
    """1 - GIoU of each predicted box and the true box that it is matched with.

    A loss on the four numbers of a box weighs a pixel of a small object like a pixel of a large one. GIoU
    does not change with the scale, and unlike IoU it has a gradient also where two boxes are apart: it falls
    with the empty part of the box around both (see `generalized_box_iou`, which has all pairs).

    Args:
        boxes1: `x1, y1, x2, y2` in pixels.
        boxes2: the same, one for each box of `boxes1`.
        reduction: "none", "mean" or "sum".

    Returns:
        One loss per pair, 0 for equal boxes and up to 2 for boxes far apart, or with "mean" and "sum" one
        number. Where neither box has an area, IoU counts as 0.

    Source: Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019; same as
    `torchvision.ops.generalized_box_iou_loss` with `eps=0`, except that it gives nan for boxes without area.

    >>> generalized_box_iou_loss(
    ...     torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 2.0, 2.0]]),
    ...     torch.tensor([[2.0, 0.0, 3.0, 1.0], [1.0, 0.0, 3.0, 2.0]]),
    ... )
    tensor([1.3333, 0.6667])
    """
    check_boxes("boxes1", boxes1)
    check_boxes("boxes2", boxes2)
    check_shape("boxes2", boxes2, *boxes1.shape)
    check_same_device(boxes1=boxes1, boxes2=boxes2)
    _check_reduction(reduction)
    boxes1, boxes2 = _upcast(boxes1), _upcast(boxes2)
    larger, smaller = torch.maximum(boxes1, boxes2), torch.minimum(boxes1, boxes2)
    width, height = (
        (smaller[:, 2:] - larger[:, :2]).clamp(min=0).unbind(dim=1)
    )  # 0 where they are apart
    intersection = width * height  # [n]
    union = box_area(boxes1) + box_area(boxes2) - intersection
    width, height = (larger[:, 2:] - smaller[:, :2]).unbind(dim=1)  # of the box around both
    enclosing = width * height
    losses = 1 - _ratio(intersection, union) + _ratio(enclosing - union, enclosing)
    return _reduce(losses, reduction)
