"""One-to-one matching of predictions to the objects of an image, as DETR's loss needs it."""

import itertools
import math

import torch
from jaxtyping import Float, Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from course_utils.core import check_floating, check_shape

Pairs = Int64[Tensor, "pairs 2"]


def _check_cost(cost: Tensor) -> None:
    check_shape("cost", cost, "predictions", "objects")
    check_floating("cost", cost)
    if not cost.isfinite().all():
        raise ValueError("cost: expected finite numbers, got an infinite one or nan")


def match_sets_loops(cost: Float[Tensor, "predictions objects"]) -> Pairs:
    """`match_sets` written out: try every one-to-one assignment, and keep the first with the lowest total.

    There are n! / (n - k)! assignments of k objects to n predictions: 6,720 for 5 and 8, but more than
    10^18 for 10 and 100.
    """
    predictions, objects = cost.shape
    fewer = min(predictions, objects)
    best, lowest = [], math.inf
    for rows in itertools.permutations(range(predictions), fewer):
        for columns in itertools.combinations(range(objects), fewer):
            total = sum(float(cost[i, j]) for i, j in zip(rows, columns, strict=True))
            if total < lowest:
                best, lowest = sorted(zip(rows, columns, strict=True)), total
    return torch.tensor(best, dtype=torch.int64, device=cost.device).reshape(-1, 2)


def match_sets(cost: Float[Tensor, "predictions objects"]) -> Pairs:
    """The one-to-one matching of predictions and objects with the lowest total cost.

    Every object gets a prediction of its own, if there are enough predictions; all others are left without an
    object. The Hungarian algorithm finds it in time that grows with the cube of the size. No gradient flows
    through a matching.

    Args:
        cost: of giving an object to a prediction, finite; it may be negative.

    Returns:
        Pairs of a prediction and an object, in the order of the predictions; as many as the shorter side has.

    Raises:
        ValueError: a cost is infinite or nan.

    Source: Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, section 3.1; the
    matching is `scipy.optimize.linear_sum_assignment`.

    >>> match_sets(torch.tensor([[0.1, 0.2], [0.15, 0.6]])).tolist()
    [[0, 1], [1, 0]]
    """
    _check_cost(cost)
    rows, columns = linear_sum_assignment(cost.detach().cpu().double().numpy())
    pairs = torch.stack([torch.from_numpy(rows), torch.from_numpy(columns)], dim=1)
    return pairs.to(cost.device)


def match_greedily(cost: Float[Tensor, "predictions objects"]) -> Pairs:
    """The lowest cost first: a one-to-one matching whose total can be higher than that of `match_sets`.

    Args:
        cost: as in `match_sets`.

    Returns:
        Pairs of a prediction and an object, in the order of the predictions. Of equal costs the first counts,
        row by row.

    >>> match_greedily(
    ...     torch.tensor([[0.1, 0.2], [0.15, 0.6]])
    ... ).tolist()  # .7 in total instead of .35
    [[0, 0], [1, 1]]
    """
    _check_cost(cost)
    objects, rows, columns, pairs = cost.shape[1], set(), set(), []
    for place in cost.flatten().argsort(stable=True).tolist():
        row, column = divmod(place, objects)
        if row not in rows and column not in columns:
            pairs.append((row, column))
            rows.add(row)
            columns.add(column)
    return torch.tensor(sorted(pairs), dtype=torch.int64, device=cost.device).reshape(-1, 2)
