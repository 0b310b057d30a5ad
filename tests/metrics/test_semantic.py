"""course_utils.metrics.semantic: equal to torchmetrics, scikit-learn and SciPy, and by hand."""

import math

import numpy as np
import pytest
import sklearn.metrics
import torch
import torchmetrics.functional.classification as torchmetrics
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion
from torch.testing import assert_close

from course_utils.metrics.semantic import (
    boundary_iou,
    confusion_matrix,
    iou_per_class,
    mask_boundary,
    mean_iou,
    pixel_accuracy,
    pixel_agreement,
)


def maps(shape=(2, 12, 15), classes=5, void=0.2, seed=0):
    """Random predictions and labels, some of them void."""
    generator = torch.Generator().manual_seed(seed)
    predicted, labels = torch.randint(0, classes, (2, *shape), generator=generator)
    labels[torch.rand(shape, generator=generator) < void] = 255
    return predicted, labels


# --- the confusion matrix and what follows from it


@pytest.mark.parametrize("classes", [2, 5, 19, 150, 254])
@pytest.mark.parametrize("void", [0.0, 0.3])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_confusion_matrix_equals_scikit_learn_and_torchmetrics(classes, void, dtype):
    predicted, labels = maps(classes=classes, void=void)
    matrix = confusion_matrix(predicted.to(dtype), labels.to(dtype), classes)
    known = labels != 255
    expected = sklearn.metrics.confusion_matrix(
        labels[known], predicted[known], labels=range(classes)
    )
    assert matrix.dtype == torch.int64
    assert_close(matrix, torch.from_numpy(expected))
    expected = torchmetrics.multiclass_confusion_matrix(
        predicted, labels, classes, ignore_index=255
    )
    assert_close(matrix, expected)


def test_iou_and_accuracy_equal_torchmetrics_and_scikit_learn():
    predicted, labels = maps()
    matrix, known = confusion_matrix(predicted, labels, 5), labels != 255
    iou = iou_per_class(matrix)
    jaccard = torchmetrics.multiclass_jaccard_index
    assert_close(iou.float(), jaccard(predicted, labels, 5, average=None, ignore_index=255))
    assert_close(mean_iou(matrix).float(), jaccard(predicted, labels, 5, ignore_index=255))
    truth, answer = labels[known], predicted[known]
    assert_close(
        iou.numpy(), sklearn.metrics.jaccard_score(truth, answer, average=None, labels=range(5))
    )
    accuracy = torchmetrics.multiclass_accuracy(
        predicted, labels, 5, average="micro", ignore_index=255
    )
    assert_close(pixel_accuracy(matrix).float(), accuracy)
    assert_close(pixel_accuracy(matrix).item(), sklearn.metrics.accuracy_score(truth, answer))


@given(st.integers(0, 10_000), st.integers(1, 11))
def test_batches_add_up(seed, cut):
    predicted, labels = maps(seed=seed)
    parts = (slice(None, cut), slice(cut, None))
    added = sum(confusion_matrix(predicted[:, part], labels[:, part], 5) for part in parts)
    assert torch.equal(added, confusion_matrix(predicted, labels, 5))


def test_confusion_matrix_by_hand(device):
    predicted = torch.tensor([[0, 1, 1], [2, 2, 0]], device=device)
    labels = torch.tensor([[0, 0, 1], [2, 255, 1]], device=device)
    matrix = confusion_matrix(predicted, labels, 4)
    assert matrix.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert_close(iou_per_class(matrix).tolist(), [1 / 3, 1 / 3, 1.0, math.nan], equal_nan=True)
    assert_close(mean_iou(matrix).item(), 5 / 9)
    assert_close(pixel_accuracy(matrix).item(), 3 / 5)


@pytest.mark.parametrize("shape", [(0, 4, 4), (0,), (2, 3, 3)], ids=str)
def test_no_pixel_that_counts(shape):
    predicted, labels = torch.zeros(shape).long(), torch.full(shape, 255)
    matrix = confusion_matrix(predicted, labels, 3)
    assert matrix.tolist() == [[0] * 3] * 3
    assert iou_per_class(matrix).isnan().all()
    assert mean_iou(matrix).isnan() and pixel_accuracy(matrix).isnan()
    assert pixel_agreement(predicted, labels).isnan()


def test_a_class_that_is_only_predicted_counts_as_zero_and_one_that_is_nowhere_does_not_count():
    matrix = confusion_matrix(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 0, 0]), 3)
    assert_close(iou_per_class(matrix).tolist(), [0.75, 0.0, math.nan], equal_nan=True)
    assert mean_iou(matrix).item() == 0.375


def test_one_class():
    matrix = confusion_matrix(torch.zeros(6).long(), torch.tensor([0, 0, 0, 0, 255, 255]), 1)
    assert matrix.tolist() == [[4]] and mean_iou(matrix).item() == 1


# --- agreement


def test_agreement_of_two_annotations():
    first = torch.tensor([[1, 1, 2], [255, 3, 3]])
    second = torch.tensor([[1, 2, 2], [4, 255, 3]])
    assert pixel_agreement(first, second).item() == 0.75
    assert pixel_agreement(second, first).item() == 0.75
    assert pixel_agreement(first, first).item() == 1
    assert pixel_agreement(first, first + (first != 255)).item() == 0


@given(st.integers(0, 10_000))
def test_agreement_is_the_accuracy_of_one_measured_by_the_other(seed):
    first, second = maps(seed=seed)
    assert_close(pixel_agreement(first, second), pixel_accuracy(confusion_matrix(first, second, 5)))


# --- borders


def blobs(count=6, size=(40, 50), seed=0):
    """Random ellipses, some over the image's border."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.arange(size[0])[:, None], torch.arange(size[1])
    middle = torch.rand(count, 2, 1, 1, generator=generator) * torch.tensor(size)[:, None, None]
    radius = 3 + 15 * torch.rand(count, 2, 1, 1, generator=generator)
    parts = ((y - middle[:, 0]) / radius[:, 0]) ** 2 + ((x - middle[:, 1]) / radius[:, 1]) ** 2
    return parts < 1


@pytest.mark.parametrize("distance", [1, 2, 5, 30])
def test_boundary_is_what_erosion_takes_away(distance, device):
    masks = torch.cat([blobs(), torch.ones(1, 40, 50).bool(), torch.zeros(1, 40, 50).bool()])
    rims = mask_boundary(masks.to(device), distance).cpu()
    for mask, rim in zip(masks.numpy(), rims.numpy(), strict=True):
        eroded = binary_erosion(mask, np.ones((3, 3)), iterations=distance, border_value=0)
        assert (rim == mask & ~eroded).all()


@pytest.mark.parametrize("ratio", [0.02, 0.05, 0.0])
def test_boundary_iou_equals_the_definition_with_scipy(ratio):
    truth, predicted = blobs(seed=0), blobs(seed=0).roll((1, 2), dims=(1, 2))
    distance = max(1, round(ratio * math.hypot(40, 50)))
    for one, other, iou in zip(
        truth.numpy(), predicted.numpy(), boundary_iou(predicted, truth, ratio), strict=True
    ):
        rims = [
            mask & ~binary_erosion(mask, np.ones((3, 3)), iterations=distance)
            for mask in (one, other)
        ]
        assert_close(iou.item(), (rims[0] & rims[1]).sum() / (rims[0] | rims[1]).sum())


def test_boundary_iou_sees_what_iou_overlooks():
    """A square that is 2 pixels too wide at each side: the larger it is, the less the IoU cares."""
    truth = torch.zeros(1, 200, 200, dtype=torch.bool)
    truth[:, 20:180, 20:180] = True
    sloppy = torch.zeros_like(truth)
    sloppy[:, 18:182, 18:182] = True
    iou = (truth & sloppy).sum() / (truth | sloppy).sum()
    assert iou > 0.95 and boundary_iou(sloppy, truth).item() < 0.6


def test_boundary_iou_of_equal_of_disjoint_and_of_empty_masks():
    masks = blobs()
    assert (boundary_iou(masks, masks) == 1).all()
    nothing = torch.zeros_like(masks)
    assert (boundary_iou(masks, nothing) == 0).all()
    assert boundary_iou(nothing, nothing).isnan().all()
    assert boundary_iou(masks[:0], masks[:0]).shape == (0,)


# --- messages

two = torch.zeros(2, 2, dtype=torch.int64)
masks = torch.zeros(2, 4, 4, dtype=torch.bool)
BAD_CALLS = {
    "a list": (lambda: confusion_matrix(two, [[0]], 2), TypeError, "labels", "got list"),
    "scores": (lambda: confusion_matrix(two.float(), two, 2), TypeError, "predicted", "float32"),
    "a mask": (lambda: confusion_matrix(two, two > 0, 2), TypeError, "labels", "torch.bool"),
    "shapes": (
        lambda: confusion_matrix(two[0], two, 2),
        ValueError,
        "predicted",
        "[2, 2], got [2]",
    ),
    "class 2 of 2": (
        lambda: confusion_matrix(two + 2, two, 2),
        ValueError,
        "predicted",
        "0..1, got 2",
    ),
    "void answer": (
        lambda: confusion_matrix(two + 255, two, 2),
        ValueError,
        "predicted",
        "got 255",
    ),
    "label 2 of 2": (lambda: confusion_matrix(two, two + 2, 2), ValueError, "labels", "255, got 2"),
    "label 254": (lambda: confusion_matrix(two, two + 254, 2), ValueError, "labels", "got 254"),
    "label 256": (lambda: confusion_matrix(two, two + 256, 2), ValueError, "labels", "got 256"),
    "label -1": (lambda: confusion_matrix(two, two - 1, 2), ValueError, "labels", "got -1"),
    "huge label": (
        lambda: confusion_matrix(two, two + 2**32, 2),
        ValueError,
        "labels",
        "4294967296",
    ),
    "no class": (lambda: confusion_matrix(two, two, 0), ValueError, "classes", "at least 1, got 0"),
    "256 classes": (lambda: confusion_matrix(two, two, 256), ValueError, "classes", "got 256"),
    "iou, not square": (lambda: iou_per_class(two[:1]), ValueError, "matrix", "[1, 1], got [1, 2]"),
    "mean, not square": (lambda: mean_iou(two[:1]), ValueError, "matrix", "[1, 1], got [1, 2]"),
    "accuracy": (lambda: pixel_accuracy(two[0]), ValueError, "matrix", "[2, 2], got [2]"),
    "agreement": (lambda: pixel_agreement(two, two[0]), ValueError, "labels2", "[2, 2], got [2]"),
    "half a class": (lambda: confusion_matrix(two, two, 2.0), TypeError, "classes", "got 2.0"),
    "agreement, floats": (lambda: pixel_agreement(two / 2, two), TypeError, "labels1", "float32"),
    "grey masks": (lambda: mask_boundary(masks.float(), 1), TypeError, "masks", "torch.float32"),
    "distance": (lambda: mask_boundary(masks, 0), ValueError, "distance", "at least 1, got 0"),
    "one mask": (
        lambda: boundary_iou(masks[0], masks[0]),
        ValueError,
        "truth",
        "[n, h, w], got [4",
    ),
    "pairs": (lambda: boundary_iou(masks[:1], masks), ValueError, "predicted", "[2, 4, 4], got [1"),
    "percent": (lambda: boundary_iou(masks, masks, 2.0), ValueError, "dilation_ratio", "got 2.0"),
}


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize("what", BAD_CALLS)
def test_bad_calls(what):
    call, error, begins, words = BAD_CALLS[what]
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert caught.type is error
    assert str(caught.value).startswith(f"{begins}: ")
    assert words in str(caught.value)
