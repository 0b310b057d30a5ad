"""Losses for a score a class and pixel: cross-entropy, dice, and focal."""

import itertools
import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from course_utils.core import VOID, check_floating, check_same_device, check_shape

Reduction = Literal["mean", "sum", "none"]


def _check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction: expected "mean", "sum" or "none", got {reduction!r}')


def _check_classes(logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
    """Raise unless there is a label a pixel, a class or the one to ignore; else where a label counts."""
    if not isinstance(logits, Tensor) or logits.ndim < 2:
        shape = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        error = ValueError if isinstance(logits, Tensor) else TypeError
        raise error(f"logits: expected shape [b, classes, ...], got {shape}")
    check_floating("logits", logits)
    check_shape("labels", labels, len(logits), *logits.shape[2:])
    if labels.dtype != torch.int64:
        raise TypeError(f"labels: expected torch.int64, got {labels.dtype}")
    check_same_device(logits=logits, labels=labels)
    counts = labels != ignore_index
    classes = logits.shape[1]
    wrong = counts & ((labels < 0) | (labels >= classes))
    if wrong.any():
        raise ValueError(
            f"labels: expected 0..{classes - 1} or {ignore_index}, got {int(labels[wrong][0])}"
        )
    return counts


def cross_entropy_loops(
    logits: Float[Tensor, "b c *shape"],
    labels: Int64[Tensor, "b *shape"],
    weight: Float[Tensor, " c"] | None = None,
    ignore_index: int = VOID,
    reduction: Reduction = "mean",
) -> Float[Tensor, "..."]:
    """`cross_entropy` written out: a softmax at each pixel, and minus the logarithm of one of its numbers."""
    losses = torch.zeros_like(labels, dtype=logits.dtype)
    total = 0.0
    for b, *pixel in itertools.product(*map(range, labels.shape)):
        label = int(labels[b, *pixel])
        if label == ignore_index:
            continue
        scores = logits[b, :, *pixel].tolist()
        largest = max(scores)  # e to the power of a large score would overflow
        normaliser = largest + math.log(sum(math.exp(score - largest) for score in scores))
        share = 1.0 if weight is None else float(weight[label])
        losses[b, *pixel] = share * (normaliser - scores[label])
        total += share
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" or total == 0 else losses.sum() / total


def cross_entropy(
    logits: Float[Tensor, "b c *shape"],
    labels: Int64[Tensor, "b *shape"],
    weight: Float[Tensor, " c"] | None = None,
    ignore_index: int = VOID,
    reduction: Reduction = "mean",
) -> Float[Tensor, "..."]:
    """Classification at every pixel: minus the logarithm of the probability that the true class gets.

    A softmax over the classes turns scores s into probabilities, so with true class y the loss of a pixel is
    -log(exp(s_y) / sum_c exp(s_c)) = log sum_c exp(s_c) - s_y. Void pixels, which nobody labelled, have
    loss 0 and no gradient, and do not count in the mean.

    Args:
        logits: a score for each class and pixel; any number of axes after the classes, also none.
        labels: the true class of each pixel, or `ignore_index`.
        weight: how much each class counts; all alike if left out. The mean is then a weighted one.
        ignore_index: the label of void pixels.
        reduction: "mean" over all pixels that count, "sum", or "none".

    Returns:
        One number, or with "none" one for each pixel.

    Raises:
        TypeError: logits that are not of floating-point numbers, or labels that are not int64.
        ValueError: a wrong shape, a label that is no class, an unknown reduction, tensors on different
            devices.

    Source: lecture, per-pixel cross-entropy. Same as `torch.nn.functional.cross_entropy`, except that the
    void label is 255 there only if one says so, and that the mean over no pixel at all is 0 here and nan
    there. It is deterministic on CUDA, where torch's own is not for images.

    >>> logits = torch.tensor([[[[4.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]]]])
    >>> labels = torch.tensor([[[0, 1, 255]]])
    >>> cross_entropy(logits, labels, reduction="none")
    tensor([[[0.0181, 0.6931, 0.0000]]])
    >>> cross_entropy(logits, labels)
    tensor(0.3556)
    """
    _check_reduction(reduction)
    counts = _check_classes(logits, labels, ignore_index)
    true = torch.where(counts, labels, 0)  # some class where there is none: masked out below
    losses = -logits.log_softmax(dim=1).gather(1, true[:, None])[:, 0]
    losses = losses.masked_fill(~counts, 0)
    share = counts.to(losses.dtype)
    if weight is not None:
        check_shape("weight", weight, logits.shape[1])
        share = share * weight[true]
        losses = losses * share
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    total = share.sum()
    return losses.sum() / torch.where(total == 0, 1, total)


def dice_loss_loops(
    logits: Float[Tensor, "b c *shape"],
    labels: Int64[Tensor, "b *shape"],
    ignore_index: int = VOID,
    smooth: float = 1.0,
) -> Float[Tensor, ""]:
    """`dice_loss` written out: for each class, add up pixel by pixel what overlaps and what there is."""
    classes = logits.shape[1]
    both, sizes = [0.0] * classes, [0.0] * classes
    for b, *pixel in itertools.product(*map(range, labels.shape)):
        label = int(labels[b, *pixel])
        if label == ignore_index:
            continue
        exponentials = [math.exp(score) for score in logits[b, :, *pixel].tolist()]
        for c, exponential in enumerate(exponentials):
            probability = exponential / sum(exponentials)
            both[c] += probability * (label == c)
            sizes[c] += probability + (label == c)
    losses = [1 - (2 * a + smooth) / (b + smooth) for a, b in zip(both, sizes)]
    return logits.new_tensor(sum(losses) / classes)


def dice_loss(
    logits: Float[Tensor, "b c *shape"],
    labels: Int64[Tensor, "b *shape"],
    ignore_index: int = VOID,
    smooth: float = 1.0,
) -> Float[Tensor, ""]:
    """One minus the overlap of each class with its true pixels, averaged over the classes.

    Dice is 2 |A and B| / (|A| + |B|). With probabilities p in place of a set A it has a gradient:
    1 - (2 sum p t + smooth) / (sum p + sum t + smooth), where t is 1 at the true pixels. It does not care how
    many pixels a class has, so a class of a few pixels weighs as much as the sky. The sums run over the whole
    batch.

    Args:
        logits: a score for each class and pixel; a softmax turns them into probabilities.
        labels: the true class of each pixel, or `ignore_index`.
        ignore_index: the label of void pixels, which do not count.
        smooth: keeps the quotient of a class that is nowhere, in the truth or the prediction, at 1 (no loss).

    Returns:
        One number from 0, where all is right, to 1.

    Raises:
        TypeError: logits that are not of floating-point numbers, or labels that are not int64.
        ValueError: a wrong shape, a label that is no class, tensors on different devices, or a `smooth`
            that is not above 0.

    Source: Milletari et al., "V-Net", 2016.

    Half of the four pixels right for sure, half wrong for sure:

    >>> logits = 100 * torch.tensor([[[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]])
    >>> dice_loss(logits, torch.tensor([[0, 1, 0, 1]]), smooth=1e-6)
    tensor(0.5000)
    """
    if smooth <= 0:
        raise ValueError(f"smooth: expected a number above 0, got {smooth}")
    counts = _check_classes(logits, labels, ignore_index)
    probabilities = logits.softmax(dim=1).masked_fill(~counts[:, None], 0)
    classes = torch.arange(logits.shape[1], device=logits.device)
    true = labels[:, None] == classes.reshape(-1, *[1] * (labels.ndim - 1))  # [b, classes, ...]
    true = true & counts[:, None]
    all_but_classes = [axis for axis in range(logits.ndim) if axis != 1]
    both = (probabilities * true).sum(dim=all_but_classes)
    sizes = (probabilities + true).sum(dim=all_but_classes)
    return (1 - (2 * both + smooth) / (sizes + smooth)).mean()


def focal_loss_loops(
    logits: Float[Tensor, "*shape"],
    targets: Float[Tensor, "*shape"],
    alpha: float = 0.25,
    gamma: float = 2,
    reduction: Reduction = "none",
) -> Float[Tensor, "..."]:
    """`focal_loss` written out: cross-entropy times a factor that is small where the answer is right."""
    losses = torch.zeros_like(logits)
    for place in itertools.product(*map(range, logits.shape)):
        target = float(targets[place])
        yes = 1 / (1 + math.exp(-float(logits[place])))
        surprise = -(target * math.log(yes) + (1 - target) * math.log(1 - yes))
        wrong = yes * (1 - target) + (1 - yes) * target
        balance = alpha * target + (1 - alpha) * (1 - target) if alpha >= 0 else 1
        losses[place] = balance * wrong**gamma * surprise
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.mean()


def focal_loss(
    logits: Float[Tensor, "*shape"],
    targets: Float[Tensor, "*shape"],
    alpha: float = 0.25,
    gamma: float = 2,
    reduction: Reduction = "none",
) -> Float[Tensor, "..."]:
    """Binary cross-entropy that soon loses interest in what is already right.

    With p the probability (sigmoid) that the true answer gets, the loss is -(1 - p)^gamma log p. Where one
    place in a thousand holds an object, the many easy "no"s would drown the few "yes"es: at p = 0.9 and
    gamma 2 they count a hundredth. alpha is what a "yes" weighs, 1 - alpha what a "no" does.

    Args:
        logits: scores of yes or no, before the sigmoid; any shape.
        targets: 1 for yes, 0 for no, or a probability between.
        alpha: the weight of yes; below 0 nothing is weighted.
        gamma: how fast interest fades; 0 gives binary cross-entropy.
        reduction: "none", "mean" or "sum".

    Returns:
        The loss of each place, or one number.

    Raises:
        TypeError: not tensors of floating-point numbers.
        ValueError: two shapes, an unknown reduction, or tensors on different devices.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017; same as
    `torchvision.ops.sigmoid_focal_loss`.

    At p = 1/2: a quarter of log 2.

    >>> focal_loss(torch.zeros(1), torch.ones(1), alpha=-1.0)
    tensor([0.1733])
    """
    _check_reduction(reduction)
    if not isinstance(logits, Tensor):
        raise TypeError(f"logits: expected a torch.Tensor, got {type(logits).__name__}")
    check_floating("logits", logits)
    check_shape("targets", targets, *logits.shape)
    check_floating("targets", targets)
    check_same_device(logits=logits, targets=targets)
    # log p = -softplus(-x) for yes and log(1 - p) = -softplus(x) for no: exact for large scores, too
    surprise = targets * F.softplus(-logits) + (1 - targets) * F.softplus(logits)
    yes = logits.sigmoid()
    wrong = yes * (1 - targets) + (1 - yes) * targets
    losses = wrong**gamma * surprise
    if alpha >= 0:
        losses = losses * (alpha * targets + (1 - alpha) * (1 - targets))
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.mean()
