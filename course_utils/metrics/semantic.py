"""How good a label map is: from one confusion matrix to the mean IoU, and how well boundaries are met.

A confusion matrix counts pixels, so the matrices of several batches can be added:

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

from course_utils.core import (
    VOID,
    check_fraction,
    check_masks,
    check_same_device,
    check_shape,
    check_whole,
    on_cpu,
)


def confusion_matrix(
    predicted: Integer[Tensor, "*shape"], labels: Integer[Tensor, "*shape"], classes: int
) -> Int64[Tensor, "classes classes"]:
    """Count the pixels of each ground-truth class (rows) that were predicted as each class (columns).

    Correctly classified pixels lie on the diagonal; a large count off the diagonal tells which class was
    mistaken for which. Void pixels are ignored.

    Args:
        predicted: the predicted class of each pixel.
        labels: the ground-truth class of each pixel, or 255 for void.
        classes: the number of classes, at most 255.

    Returns:
        The counts. Those of several batches may be added.

    Source: same as `torchmetrics.functional.classification.multiclass_confusion_matrix` with
    `ignore_index=255`, and `sklearn.metrics.confusion_matrix` for the labels 0, 1, ... without void.

    >>> confusion_matrix(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 1, 255]), classes=2)
    tensor([[1, 1],
            [0, 1]])
    """
    _check_label_maps(labels=labels, predicted=predicted)
    _check_classes(predicted, labels, classes)
    # Number all pairs of a label (0 to 255, void included) and a class, count each, drop the rows above.
    pairs = labels.long() * classes + predicted
    counts = pairs.flatten().bincount(minlength=(VOID + 1) * classes)
    return counts.reshape(VOID + 1, classes)[:classes]


def iou_per_class(matrix: Int64[Tensor, "classes classes"]) -> Float[Tensor, " classes"]:
    """Intersection over union of the pixels that are of a class and those predicted as it.

    IoU = TP / (TP + FP + FN): the diagonal over row plus column minus diagonal.

    Args:
        matrix: from `confusion_matrix`, of one batch or of many.

    Returns:
        0 to 1 for each class; nan for one that occurs neither in the ground truth nor in the prediction.

    Source: same as `torchmetrics.functional.classification.multiclass_jaccard_index` with
    `average=None`, which gives 0 in place of nan.

    >>> iou_per_class(torch.tensor([[1, 1, 0], [0, 2, 0], [0, 0, 0]]))
    tensor([0.5000, 0.6667,    nan], dtype=torch.float64)
    """
    check_shape("matrix", matrix, len(matrix), len(matrix))
    intersection = matrix.diagonal().double()
    return intersection / (matrix.sum(dim=0) + matrix.sum(dim=1) - intersection)


def mean_iou(matrix: Int64[Tensor, "classes classes"]) -> Float[Tensor, ""]:
    """The mean of `iou_per_class` over the classes that occur: mIoU, the usual metric.

    Each class has the same weight, however few pixels it has; pixel accuracy hardly notices rare classes.

    Args:
        matrix: from `confusion_matrix`, of the whole test set. (The mean of the mIoU of single images is
            another number.)

    Returns:
        0 to 1; nan if the matrix is empty.

    >>> mean_iou(torch.tensor([[1, 1, 0], [0, 2, 0], [0, 0, 0]]))
    tensor(0.5833, dtype=torch.float64)
    """
    return iou_per_class(matrix).nanmean()


def pixel_accuracy(matrix: Int64[Tensor, "classes classes"]) -> Float[Tensor, ""]:
    """The fraction of the pixels that were classified correctly.

    Args:
        matrix: from `confusion_matrix`.

    Returns:
        0 to 1; nan if the matrix is empty.

    >>> pixel_accuracy(torch.tensor([[1, 1], [0, 2]]))
    tensor(0.7500, dtype=torch.float64)
    """
    check_shape("matrix", matrix, len(matrix), len(matrix))
    return matrix.diagonal().sum().double() / matrix.sum()


def pixel_agreement(
    labels1: Integer[Tensor, "*shape"], labels2: Integer[Tensor, "*shape"]
) -> Float[Tensor, ""]:
    """The fraction of the pixels to which two annotators gave the same class.

    No network can be expected to agree with an annotator more than a second annotator does.

    Args:
        labels1: the class of each pixel, or 255 for void.
        labels2: the same by another annotator, or by the same one at another time.

    Returns:
        0 to 1, of the pixels that both labelled; nan if there are none.

    Source: Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017: 82.4 % on 61 images.

    >>> pixel_agreement(torch.tensor([1, 1, 2, 255]), torch.tensor([1, 1, 1, 1]))
    tensor(0.6667, dtype=torch.float64)
    """
    _check_label_maps(labels1=labels1, labels2=labels2)
    both = (labels1 != VOID) & (labels2 != VOID)
    return ((labels1 == labels2) & both).sum().double() / both.sum()


def mask_boundary(masks: Bool[Tensor, "n h w"], distance: int) -> Bool[Tensor, "n h w"]:
    """The boundary of each mask: its pixels within `distance` of a pixel outside, as erosion removes them.

    Distances are counted in steps to any of the eight neighbours. Beyond the border of the image is outside.

    Args:
        masks: one mask per object.
        distance: the width of the boundary in pixels.

    >>> mask_boundary(torch.ones(1, 4, 5, dtype=torch.bool), 1).int()
    tensor([[[1, 1, 1, 1, 1],
             [1, 0, 0, 0, 1],
             [1, 0, 0, 0, 1],
             [1, 1, 1, 1, 1]]], dtype=torch.int32)
    """
    check_masks("masks", masks)
    check_whole("distance", distance, least=1)
    # Dilate the outside with a square window, which is separable: first the rows, then the columns.
    outside = F.pad((~masks[:, None]).float(), [distance] * 4, value=1.0)
    window = 2 * distance + 1
    near = F.max_pool2d(F.max_pool2d(outside, (window, 1), stride=1), (1, window), stride=1)
    return masks & (near[:, 0] > 0)


def boundary_iou(
    predicted: Bool[Tensor, "n h w"], truth: Bool[Tensor, "n h w"], dilation_ratio: float = 0.02
) -> Float[Tensor, " n"]:
    """Intersection over union of the boundaries of two masks, pair by pair.

    In a large mask nearly all pixels are far from the contour, so the mask IoU hardly notices an imprecise
    contour. The boundary IoU compares only pixels near the contour.

    Args:
        predicted: the predicted masks.
        truth: the ground-truth masks, in the same order. For label maps: one mask per class.
        dilation_ratio: the width of the boundary as a fraction of the image's diagonal; at least 1 pixel.

    Returns:
        0 to 1 for each pair; nan where both masks are empty.

    Source: Cheng et al., "Boundary IoU", CVPR 2021.

    >>> square = torch.zeros(1, 50, 50, dtype=torch.bool)
    >>> square[:, 10:40, 10:40] = True
    >>> boundary_iou(square.roll(1, dims=2), square)
    tensor([0.3333], dtype=torch.float64)
    """
    check_masks("truth", truth)
    check_masks("predicted", predicted, *truth.shape)
    check_fraction("dilation_ratio", dilation_ratio)
    check_same_device(predicted=predicted, truth=truth)
    height, width = truth.shape[1:]
    distance = max(1, round(dilation_ratio * (height**2 + width**2) ** 0.5))
    boundary1, boundary2 = mask_boundary(predicted, distance), mask_boundary(truth, distance)
    intersection = (boundary1 & boundary2).sum(dim=(1, 2)).double()
    return intersection / (boundary1 | boundary2).sum(dim=(1, 2))


def _check_label_maps(**maps: Tensor) -> None:
    """Raise unless all are integer tensors, of the shape of the first, on one device."""
    first = next(iter(maps.values()))
    for name, labels in maps.items():
        check_shape(name, labels, ...)
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise TypeError(f"{name}: expected integers, got {labels.dtype}")
        check_shape(name, labels, *first.shape)
    check_same_device(**maps)


def _check_classes(predicted: Tensor, labels: Tensor, classes: int) -> None:
    """Raise unless all values are classes, or void in the labels."""
    check_whole("classes", classes, least=1)
    if classes > VOID:
        raise ValueError(f"classes: expected 1 to {VOID}, got {classes}")
    known = labels.where(labels != VOID, 0)
    for name, values, void in (("labels", known, f" or {VOID}"), ("predicted", predicted, "")):
        if on_cpu(values) and values.numel():
            for end in values.aminmax():
                if not 0 <= end < classes:
                    expected = f"0..{classes - 1}{void}"
                    raise ValueError(f"{name}: expected {expected}, got {int(end)}")
