"""Cross-entropy per pixel, with void pixels left out."""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from course_utils.core import (
    VOID,
    check_floating,
    check_fraction,
    check_rows,
    check_same_device,
    check_shape,
    on_cpu,
)

Reduction = Literal["mean", "sum", "none"]


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
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction: expected "mean", "sum" or "none", got {reduction!r}')
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
