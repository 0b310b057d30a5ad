"""CornerNet's losses: heat maps of corners, and embeddings that say which corners belong together."""

import itertools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from course_utils.core import check_floating, check_same_device, check_shape
from course_utils.ops.losses import _check_exponent, _check_soft_targets


class PullPush(NamedTuple):
    """The two losses of the embeddings of one image, one number each."""

    pull: Float[Tensor, ""]
    push: Float[Tensor, ""]


def _check_heatmaps(input: Tensor, target: Tensor, alpha: float, beta: float) -> None:
    if not isinstance(input, Tensor):
        raise TypeError(f"input: expected a torch.Tensor, got {type(input).__name__}")
    if input.ndim < 2:
        raise ValueError(f"input: expected shape [b, ..., h, w], got {list(input.shape)}")
    check_floating("input", input)
    _check_soft_targets("target", target, "input", input)
    _check_exponent("alpha", alpha)
    _check_exponent("beta", beta)


def heatmap_focal_loss_loops(
    input: Float[Tensor, "b *shape"],
    target: Float[Tensor, "b *shape"],
    alpha: float = 2.0,
    beta: float = 4.0,
) -> Float[Tensor, " b"]:
    """`heatmap_focal_loss` written out: one image, one cell at a time."""
    losses = input.new_zeros(len(input))
    for n in range(len(input)):
        objects = 0
        for cell in itertools.product(*map(range, input.shape[1:])):
            logit, y = input[n, *cell], target[n, *cell]
            if y == 1:
                losses[n] -= (-logit).sigmoid() ** alpha * F.logsigmoid(logit)
                objects += 1
            else:
                losses[n] -= (1 - y) ** beta * logit.sigmoid() ** alpha * F.logsigmoid(-logit)
        losses[n] /= max(objects, 1)
    return losses


def heatmap_focal_loss(
    input: Float[Tensor, "b *shape"],
    target: Float[Tensor, "b *shape"],
    alpha: float = 2.0,
    beta: float = 4.0,
) -> Float[Tensor, " b"]:
    """Focal loss for heat maps: the cells around a corner are punished less than those far away.

    With p the predicted probability and y the target, the loss of a cell is

        -(1 - p)^alpha log p                  where y = 1, at a corner
        -(1 - y)^beta p^alpha log(1 - p)      elsewhere

    Predicting a corner one cell beside the true one still gives a good box, and there y, the Gaussian bump
    of `corner_heatmaps`, is nearly 1. It is computed from logits, so that log p stays finite.

    Args:
        input: logits, `[b, classes, h, w]` or with other axes after the first.
        target: numbers from 0 to 1, exactly 1 at the corners.
        alpha: how much the cells that are right already are turned down.
        beta: how much the cells around a corner are.

    Returns:
        One loss per image: the sum over its cells, divided by the image's number of corners (cells where the
        target is 1), at least 1. The mean of them is a mean over images; CornerNet's code divides the sum of
        the batch by the number of corners in the batch instead.

    Source: Law & Deng, "CornerNet", ECCV 2018, section 3.2.

    >>> heatmap_focal_loss(
    ...     torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 0.5]]]])
    ... )  # p = .5: .1733 + .0108
    tensor([0.1841])
    """
    _check_heatmaps(input, target, alpha, beta)
    at_corner = target == 1
    found = -((-input).sigmoid() ** alpha) * F.logsigmoid(input)
    invented = -((1 - target) ** beta) * input.sigmoid() ** alpha * F.logsigmoid(-input)
    losses = torch.where(at_corner, found, invented).flatten(1).sum(dim=1)
    return losses / at_corner.flatten(1).sum(dim=1).clamp(min=1)


def _check_embeddings(top_left: Tensor, bottom_right: Tensor, margin: float) -> None:
    check_shape("top_left", top_left, "n")
    check_floating("top_left", top_left)
    check_shape("bottom_right", bottom_right, len(top_left))
    check_floating("bottom_right", bottom_right)
    check_same_device(top_left=top_left, bottom_right=bottom_right)
    _check_exponent("margin", margin)


def pull_push_loss_loops(
    top_left: Float[Tensor, " n"], bottom_right: Float[Tensor, " n"], margin: float = 1.0
) -> PullPush:
    """`pull_push_loss` written out: every object, then every pair of objects, in both orders."""
    pull = push = top_left.new_zeros(())
    n = len(top_left)
    means = [(top_left[k] + bottom_right[k]) / 2 for k in range(n)]
    for k in range(n):
        pull = pull + (top_left[k] - means[k]) ** 2 + (bottom_right[k] - means[k]) ** 2
    for j, k in itertools.permutations(range(n), 2):
        push = push + (margin - (means[j] - means[k]).abs()).clamp(min=0)
    return PullPush(pull / max(n, 1), push / max(n * (n - 1), 1))


def pull_push_loss(
    top_left: Float[Tensor, " n"], bottom_right: Float[Tensor, " n"], margin: float = 1.0
) -> PullPush:
    """Embeddings: the two corners of an object are pulled together, different objects pushed apart.

    Nobody says what the embedding of an object should be, only which are to be equal. With e_t and e_b those
    of the corners of object k, and m_k their mean,

        pull = 1 / n sum_k (e_t - m_k)^2 + (e_b - m_k)^2
        push = 1 / (n (n - 1)) sum_(j != k) max(0, margin - |m_j - m_k|)

    Args:
        top_left: the embeddings at the top left corners of the objects of one image.
        bottom_right: those at their bottom right corners, in the same order.
        margin: the distance at which two objects are far enough apart.

    Returns:
        pull and push. Without objects both are 0, and with one object push is.

    Source: Law & Deng, "CornerNet", ECCV 2018, section 3.3; Newell et al., "Associative Embedding", 2017.

    >>> losses = pull_push_loss(torch.tensor([1.0, 2.0]), torch.tensor([1.2, 1.8]))
    >>> losses.pull, losses.push
    (tensor(0.0200), tensor(0.2000))
    """
    _check_embeddings(top_left, bottom_right, margin)
    n = len(top_left)
    means = (top_left + bottom_right) / 2  # [n]
    pull = (top_left - means) ** 2 + (bottom_right - means) ** 2
    distances = (means[:, None] - means).abs()  # [n, n]
    push = (margin - distances).clamp(min=0)
    push = push.masked_fill(
        torch.eye(n, dtype=torch.bool, device=push.device), 0
    )  # not from itself
    return PullPush(pull.sum() / max(n, 1), push.sum() / max(n * (n - 1), 1))
