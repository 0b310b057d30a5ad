"""How good a label map is: from one confusion matrix to the mean IoU, and how well borders are met.

A confusion matrix counts pixels, so those of several batches simply add up:

>>> matrix = torch.zeros(2, 2, dtype=torch.int64)
>>> for predicted, labels in [([0, 1, 1], [0, 1, 0]), ([1, 1], [1, 255])]:
...     matrix += confusion_matrix(torch.tensor(predicted), torch.tensor(labels), classes=2)
>>> mean_iou(matrix)
tensor(0.5833, dtype=torch.float64)
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, Integer
from torch import Tensor

from course_utils.core import VOID, check_fraction, check_same_device, check_shape


def _check_range(name: str, labels: Tensor, highest: int, expected: str) -> None:
    """Raise unless these are numbers from 0 to the highest."""
    if labels.numel():
        least, most = (int(end) for end in labels.aminmax())
        if least < 0 or most > highest:
            raise ValueError(f"{name}: expected {expected}, got {least if least < 0 else most}")


def _check_whole(name: str, labels: Tensor) -> None:
    """Raise unless this is a tensor of whole numbers."""
    if not isinstance(labels, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(labels).__name__}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"{name}: expected whole numbers, got {labels.dtype}")


def confusion_matrix(
    predicted: Integer[Tensor, "*shape"], labels: Integer[Tensor, "*shape"], classes: int
) -> Int64[Tensor, "classes classes"]:
    """Count the pixels of each true class (rows) that were given each class (columns).

    What is right is on the diagonal; a large number off it names a mistake. Void pixels are left out.

    Args:
        predicted: a class for each pixel.
        labels: the true class, or 255 for void.
        classes: how many classes there are.

    Returns:
        The counts. Those of several batches may be added.

    Raises:
        TypeError: not tensors of whole numbers.
        ValueError: two shapes, a number that is no class, tensors on different devices, or `classes` not
            from 1 to 255.

    Source: same as `torchmetrics.functional.classification.multiclass_confusion_matrix` with
    `ignore_index=255`, and `sklearn.metrics.confusion_matrix` for the labels 0, 1, ... without void.

    >>> confusion_matrix(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 1, 255]), classes=2)
    tensor([[1, 1],
            [0, 1]])
    """
    _check_whole("labels", labels)
    _check_whole("predicted", predicted)
    check_shape("predicted", predicted, *labels.shape)
    check_same_device(predicted=predicted, labels=labels)
    if not 1 <= classes <= VOID:
        raise ValueError(f"classes: expected 1 to {VOID}, got {classes}")
    with_void = f"0..{classes - 1} or {VOID}"
    _check_range("predicted", predicted, classes - 1, f"0..{classes - 1}")
    _check_range("labels", labels, VOID, with_void)
    # A bin for each pair of a label up to 255 and a class; 32-bit numbers are quicker to count than 64-bit.
    pairs = labels.int() * classes + predicted.int()
    counts = pairs.flatten().bincount(minlength=(VOID + 1) * classes).reshape(-1, classes)
    wrong = counts[classes:VOID].any(dim=1)
    if wrong.any():
        raise ValueError(f"labels: expected {with_void}, got {classes + int(wrong.int().argmax())}")
    return counts[:classes]


def iou_per_class(matrix: Int64[Tensor, "classes classes"]) -> Float[Tensor, " classes"]:
    """Intersection over union of the pixels that are of a class and those that were given it.

    Of the confusion matrix: the diagonal over row plus column minus diagonal.

    Args:
        matrix: from `confusion_matrix`, of one batch or of many.

    Returns:
        0 to 1 for each class; nan for one that occurs neither in the truth nor in the prediction.

    Raises:
        ValueError: the matrix is not square.

    Source: same as `torchmetrics.functional.classification.multiclass_jaccard_index` with
    `average=None`, which gives 0 in place of nan.

    >>> iou_per_class(torch.tensor([[1, 1, 0], [0, 2, 0], [0, 0, 0]]))
    tensor([0.5000, 0.6667,    nan], dtype=torch.float64)
    """
    check_shape("matrix", matrix, len(matrix), len(matrix))
    right = matrix.diagonal().double()
    return right / (matrix.sum(dim=0) + matrix.sum(dim=1) - right)


def mean_iou(matrix: Int64[Tensor, "classes classes"]) -> Float[Tensor, ""]:
    """The mean of `iou_per_class` over the classes that occur: the usual figure of merit, mIoU.

    A class of few pixels counts as much as the sky, so mIoU sees what pixel accuracy overlooks.

    Args:
        matrix: from `confusion_matrix`, of the whole test set. (The mean over images of their mIoU is another
            number.)

    Returns:
        0 to 1; nan if the matrix is empty.

    Raises:
        ValueError: the matrix is not square.

    >>> mean_iou(torch.tensor([[1, 1, 0], [0, 2, 0], [0, 0, 0]]))
    tensor(0.5833, dtype=torch.float64)
    """
    return iou_per_class(matrix).nanmean()


def pixel_accuracy(matrix: Int64[Tensor, "classes classes"]) -> Float[Tensor, ""]:
    """The part of the pixels that were given their true class.

    Args:
        matrix: from `confusion_matrix`.

    Returns:
        0 to 1; nan if the matrix is empty.

    Raises:
        ValueError: the matrix is not square.

    >>> pixel_accuracy(torch.tensor([[1, 1], [0, 2]]))
    tensor(0.7500, dtype=torch.float64)
    """
    check_shape("matrix", matrix, len(matrix), len(matrix))
    return matrix.diagonal().sum().double() / matrix.sum()


def pixel_agreement(
    labels1: Integer[Tensor, "*shape"], labels2: Integer[Tensor, "*shape"]
) -> Float[Tensor, ""]:
    """The part of the pixels to which two annotators gave the same class.

    No network can be expected to agree with an annotator more than a second annotator does.

    Args:
        labels1: a class for each pixel, or 255 for void.
        labels2: the same by somebody else; or by the same one, later.

    Returns:
        0 to 1, of the pixels that both labelled; nan if there are none.

    Raises:
        TypeError: not tensors of whole numbers.
        ValueError: two shapes, or tensors on different devices.

    Source: Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017: 82.4 % on 61 images.

    >>> pixel_agreement(torch.tensor([1, 1, 2, 255]), torch.tensor([1, 1, 1, 1]))
    tensor(0.6667, dtype=torch.float64)
    """
    _check_whole("labels1", labels1)
    _check_whole("labels2", labels2)
    check_shape("labels2", labels2, *labels1.shape)
    check_same_device(labels1=labels1, labels2=labels2)
    both = (labels1 != VOID) & (labels2 != VOID)
    return ((labels1 == labels2) & both).sum().double() / both.sum()


def mask_boundary(masks: Bool[Tensor, "n h w"], distance: int) -> Bool[Tensor, "n h w"]:
    """The rim of each mask: its pixels from which the outside is at most `distance` steps away.

    A step goes to any of the eight neighbours; what lies beyond the image is outside.

    Args:
        masks: one mask an object.
        distance: the rim's width in pixels.

    Returns:
        What erosion takes away.

    Raises:
        TypeError: the masks are not boolean.
        ValueError: a wrong shape, or a distance below 1.

    >>> mask_boundary(torch.ones(1, 4, 5, dtype=torch.bool), 1).int()
    tensor([[[1, 1, 1, 1, 1],
             [1, 0, 0, 0, 1],
             [1, 0, 0, 0, 1],
             [1, 1, 1, 1, 1]]], dtype=torch.int32)
    """
    check_shape("masks", masks, "n", "h", "w")
    if masks.dtype != torch.bool:
        raise TypeError(f"masks: expected torch.bool, got {masks.dtype}")
    if distance < 1:
        raise ValueError(f"distance: expected 1 or more, got {distance}")
    # Dilate the outside, rows first and then columns: a square window is both, one after the other.
    outside = F.pad((~masks[:, None]).float(), [distance] * 4, value=1.0)
    window = 2 * distance + 1
    near = F.max_pool2d(F.max_pool2d(outside, (window, 1), stride=1), (1, window), stride=1)
    return masks & (near[:, 0] > 0)


def boundary_iou(
    predicted: Bool[Tensor, "n h w"], truth: Bool[Tensor, "n h w"], dilation_ratio: float = 0.02
) -> Float[Tensor, " n"]:
    """Intersection over union of the rims of two masks, pair by pair.

    In a large mask nearly all pixels are far from the border, and the IoU hardly notices a sloppy outline.
    The rims, as wide as 2 % of the image's diagonal, consist of nothing else.

    Args:
        predicted: masks.
        truth: as many, in the same order. For label maps: a mask for each class.
        dilation_ratio: the rim's width as a part of the image's diagonal; at least 1 pixel.

    Returns:
        0 to 1 for each pair; nan where both masks are empty.

    Raises:
        TypeError: the masks are not boolean.
        ValueError: a wrong shape, two shapes, a ratio outside 0..1, or tensors on different devices.

    Source: Cheng et al., "Boundary IoU", CVPR 2021.

    >>> square = torch.zeros(1, 50, 50, dtype=torch.bool)
    >>> square[:, 10:40, 10:40] = True
    >>> boundary_iou(square.roll(1, dims=2), square)
    tensor([0.3333], dtype=torch.float64)
    """
    check_shape("truth", truth, "n", "h", "w")
    check_shape("predicted", predicted, *truth.shape)
    check_fraction("dilation_ratio", dilation_ratio)
    check_same_device(predicted=predicted, truth=truth)
    height, width = truth.shape[1:]
    distance = max(1, round(dilation_ratio * (height**2 + width**2) ** 0.5))
    rim1, rim2 = mask_boundary(predicted, distance), mask_boundary(truth, distance)
    both = (rim1 & rim2).sum(dim=(1, 2)).double()
    return both / (rim1 | rim2).sum(dim=(1, 2))
