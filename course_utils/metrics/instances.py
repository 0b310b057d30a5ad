"""Which of the found objects are the true ones: pairs of islands that overlap by more than half."""

import torch
from jaxtyping import Int64
from torch import Tensor

from course_utils.core import check_shape


def instance_ious(
    predicted: Int64[Tensor, "h w"], truth: Int64[Tensor, "h w"]
) -> tuple[Int64[Tensor, " p"], Int64[Tensor, " t"], Tensor]:
    """Intersection over union of every found object with every true one.

    Args:
        predicted: 0, and a number for each object that was found.
        truth: 0, and a number for each true object.

    Returns:
        The numbers of the found objects, those of the true ones, and their IoU, a row for each found one.

    Raises:
        ValueError: the maps are of two shapes, or a number is below 0.

    >>> instance_ious(torch.tensor([[3, 3, 0, 7]]), torch.tensor([[1, 1, 1, 1]]))
    (tensor([3, 7]), tensor([1]), tensor([[0.5000],
            [0.2500]], dtype=torch.float64))
    """
    check_shape("truth", truth, "h", "w")
    check_shape("predicted", predicted, *truth.shape)
    for name, numbers in (("predicted", predicted), ("truth", truth)):
        if numbers.numel() and numbers.min() < 0:
            raise ValueError(f"{name}: expected 0 or more, got {int(numbers.min())}")
    found, rows = predicted.unique(return_inverse=True)
    true, columns = truth.unique(return_inverse=True)
    both = (rows * len(true) + columns).flatten().bincount(minlength=len(found) * len(true))
    both = both.reshape(len(found), len(true)).double()
    iou = both / (both.sum(dim=1, keepdim=True) + both.sum(dim=0) - both)
    return found[found > 0], true[true > 0], iou[found > 0][:, true > 0]


def match_instances(
    predicted: Int64[Tensor, "h w"], truth: Int64[Tensor, "h w"], iou_threshold: int | float = 0.5
) -> Int64[Tensor, "n 2"]:
    """Pair found objects with true ones: two belong together if their IoU is above one half.

    Objects do not overlap in such a map, so no object can have an IoU above one half with two others: the
    pairs need no further choice.

    Args:
        predicted, truth: as in `instance_ious`.
        iou_threshold: the IoU must be above this; 0.5 or more.

    Returns:
        The number of the found object and that of the true one, for each pair.

    Raises:
        ValueError: a threshold below 0.5 or above 1; see also `instance_ious`.

    >>> match_instances(torch.tensor([[3, 3, 3, 7]]), torch.tensor([[1, 1, 1, 1]]))
    tensor([[3, 1]])
    """
    if not 0.5 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold: expected 0.5 to 1, got {iou_threshold}")
    found, true, iou = instance_ious(predicted, truth)
    row, column = (iou > iou_threshold).nonzero(as_tuple=True)
    return torch.stack([found[row], true[column]], dim=1)
