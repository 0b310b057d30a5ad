"""Instance segmentation without scores: which predicted instances match a ground-truth instance."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from course_utils.core import check_shape, on_cpu


def count_values(
    values: Int64[Tensor, "*shape"],
) -> tuple[Int64[Tensor, " k"], Int64[Tensor, " k"]]:
    """The different values of a map in rising order, and the number of pixels of each.

    Same as `values.unique(return_counts=True)`, but sorts runs of equal pixels, of which there are fewer.

    >>> count_values(torch.tensor([[7, 7, 7], [3, 3, 7]]))
    (tensor([3, 7]), tensor([2, 4]))
    """
    runs, lengths = values.flatten().unique_consecutive(return_counts=True)
    different, index = runs.unique(return_inverse=True)
    return different, torch.zeros_like(different).index_add(0, index, lengths)


def instance_ious(
    predicted: Int64[Tensor, "h w"], truth: Int64[Tensor, "h w"]
) -> tuple[Int64[Tensor, "k 2"], Float[Tensor, " k"]]:
    """Intersection over union of all pairs of a predicted and a ground-truth instance that overlap.

    Args:
        predicted: 0 for background, and a number for each predicted instance.
        truth: 0 for background, and a number for each ground-truth instance.

    Returns:
        The numbers of both instances of each pair that shares a pixel, and its IoU; all other IoUs are 0.

    >>> instance_ious(torch.tensor([[3, 3, 0, 7]]), torch.tensor([[1, 1, 1, 1]]))
    (tensor([[3, 1],
            [7, 1]]), tensor([0.5000, 0.2500], dtype=torch.float64))
    """
    _check_instances("truth", truth)
    _check_instances("predicted", predicted, *truth.shape)
    numbers1, rows = predicted.unique(return_inverse=True)  # rows: index of each pixel's number
    numbers2, columns = truth.unique(return_inverse=True)
    pairs, intersection = count_values(rows * len(numbers2) + columns)
    row, column = pairs // len(numbers2), pairs % len(numbers2)
    area1, area2 = rows.flatten().bincount(), columns.flatten().bincount()
    iou = intersection.double() / (area1[row] + area2[column] - intersection)
    instances = torch.stack([numbers1[row], numbers2[column]], dim=1)
    no_background = (instances > 0).all(dim=1)
    return instances[no_background], iou[no_background]


def match_instances(
    predicted: Int64[Tensor, "h w"], truth: Int64[Tensor, "h w"], iou_threshold: int | float = 0.5
) -> Int64[Tensor, "n 2"]:
    """Match predicted instances with ground-truth instances: those whose IoU is above one half.

    The instances of one map do not overlap, so none can have an IoU above one half with two others: no
    further choice is needed.

    Args:
        predicted, truth: as in `instance_ious`.
        iou_threshold: the IoU must be above this; 0.5 or more.

    Returns:
        The number of the predicted and of the ground-truth instance of each match.

    >>> match_instances(torch.tensor([[3, 3, 3, 7]]), torch.tensor([[1, 1, 1, 1]]))
    tensor([[3, 1]])
    """
    if not 0.5 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold: expected 0.5 to 1, got {iou_threshold}")
    pairs, iou = instance_ious(predicted, truth)
    return pairs[iou > iou_threshold]


def _check_instances(name: str, instances: Tensor, *shape: int) -> None:
    """Raise unless this is a map of numbers from 0 on."""
    check_shape(name, instances, *(shape or ("h", "w")))
    if instances.dtype != torch.int64:
        raise TypeError(f"{name}: expected torch.int64, got {instances.dtype}")
    if on_cpu(instances) and (instances < 0).any():
        raise ValueError(f"{name}: expected 0 or more, got {int(instances.min())}")
