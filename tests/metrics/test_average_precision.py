"""course_utils.metrics.average_precision: equal to pycocotools and scikit-learn, and by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as run_lengths
from sklearn.metrics import precision_recall_curve
from torch.testing import assert_close

from course_utils.core import checks
from course_utils.metrics import average_precision as average_precision_module
from course_utils.metrics.average_precision import (
    average_precision,
    interpolate_precision,
    mask_iou,
    match_detections,
    precision_and_recall,
)
from course_utils.metrics.detection import IOU_THRESHOLDS
from tests.metrics.coco_reference import coco, random_images, with_masks


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_match_detections_equals_pycocotools(seed):
    predictions, targets = random_images(seed, images=1, classes=1)
    prediction, target = predictions[0], targets[0] | {"iscrowd": targets[0]["iscrowd"] & False}
    prediction["labels"].fill_(1)
    evaluation = coco([prediction], [target], "boxes")
    if not evaluation.evalImgs or not len(evaluation.ious[0, 1]):
        return
    order = prediction["scores"].argsort(descending=True, stable=True)
    iou = torch.zeros(len(order), len(target["labels"]), dtype=torch.float64)
    iou[order] = torch.from_numpy(evaluation.ious[0, 1]).reshape(len(order), -1)
    for threshold, expected in zip(IOU_THRESHOLDS.tolist(), evaluation.evalImgs[0]["dtMatches"]):
        matches = match_detections(iou, prediction["scores"], threshold)
        assert matches[order].tolist() == [int(number) - 1 for number in expected]


def test_match_detections_by_hand():
    iou = torch.tensor([[0.6, 0.7], [0.9, 0.8], [0.5, 0.0]])
    assert match_detections(iou, torch.tensor([0.7, 0.9, 0.8])).tolist() == [1, 0, -1]
    assert match_detections(iou, torch.tensor([0.7, 0.9, 0.8]), 0.75).tolist() == [-1, 0, -1]
    assert match_detections(iou, torch.tensor([0.9, 0.8, 0.7])).tolist() == [1, 0, -1]
    assert match_detections(iou[:, :0], torch.ones(3)).tolist() == [-1, -1, -1]
    assert match_detections(iou[:0], torch.ones(0)).shape == (0,)


def test_precision_recall_equals_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(50, generator=generator)
    correct = torch.rand(50, generator=generator) < scores
    precision, recall = precision_and_recall(scores, correct, int(correct.sum()))
    expected = precision_recall_curve(correct, scores)
    assert_close(precision.flip(0).numpy(), expected[0][:-1])
    assert_close(recall.flip(0).numpy(), expected[1][:-1])


def test_precision_recall_of_several_cases_and_without_the_ignored():
    scores = torch.tensor([0.7, 0.9, 0.8])
    correct = torch.tensor([[True, True, False], [True, False, False]])
    ignored = torch.tensor([[False, False, True], [False, True, False]])
    precision, recall = precision_and_recall(scores, correct, torch.tensor([2, 4]), ignored)
    assert_close(precision, torch.tensor([[1, 1, 1], [0, 0, 0.5]]).double())
    assert_close(recall, torch.tensor([[0.5, 0.5, 1], [0, 0, 0.25]]).double())


def test_average_precision_by_hand():
    curve = interpolate_precision(torch.tensor([0.0, 0.5, 2 / 3]), torch.tensor([0.0, 0.25, 0.5]))
    assert_close(curve, torch.tensor([2 / 3] * 51 + [0.0] * 50))
    nothing = torch.zeros(2, 0)
    assert average_precision(nothing, nothing).tolist() == [0, 0]
    assert average_precision(torch.ones(3), torch.tensor([0.3, 0.6, 1.0])).item() == 1


def test_without_ground_truths_recall_and_average_precision_are_nan():
    scores, correct = torch.tensor([0.9, 0.8]), torch.tensor([True, False])
    for truths in (0, torch.tensor(0)):
        curve = precision_and_recall(scores, correct, truths)
        assert curve[1].isnan().all() and average_precision(*curve).isnan()
    cases = precision_and_recall(scores, correct.expand(2, 2), torch.tensor([0, 1]))
    assert_close(average_precision(*cases).tolist(), [math.nan, 1.0], equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.float32])
def test_correct_must_be_boolean(dtype, as_student):
    """With 0 and 1 in place of booleans, `~correct` is no negation: this once gave an AP of 2."""
    correct = torch.tensor([1, 0, 1], dtype=dtype)
    with pytest.raises(TypeError, match=rf"^correct: expected torch.bool, got {dtype}$"):
        precision_and_recall(torch.tensor([0.9, 0.8, 0.7]), correct, 2)


@pytest.mark.parametrize(
    "truths, error",
    [
        (-1, ValueError),
        (1.5, TypeError),
        (2.0, TypeError),
        (True, TypeError),
        (torch.tensor([2, -1]), ValueError),
        (torch.tensor(2.0), TypeError),
    ],
    ids=str,
)
def test_ground_truths_must_be_whole_and_not_negative(truths, error, as_student):
    with pytest.raises(error, match=r"^ground_truths: expected "):
        precision_and_recall(torch.tensor([0.9, 0.8]), torch.ones(2, 2) > 0, truths)


def test_a_message_names_the_row_of_many():
    scores = torch.rand(100_000)
    scores[70_000] = math.nan
    with pytest.raises(ValueError, match=r"but row 70000 is nan$") as caught:
        precision_and_recall(scores, scores > 0.5, 10)
    assert len(str(caught.value)) < 80


def test_values_are_checked_on_the_cpu_only(monkeypatch):
    """Reading one value from a GPU waits for all that it still has to do."""
    for module in (checks, average_precision_module):
        monkeypatch.setattr(module, "on_cpu", lambda tensor: False)
    scores, correct = torch.full((2,), math.nan), torch.tensor([True, False])
    assert precision_and_recall(scores, correct, torch.tensor(-1))[1].isnan().all()


def test_mask_iou_equals_pycocotools():
    predictions, targets = (with_masks(images) for images in random_images(2))
    for prediction, target in zip(predictions, targets):
        encoded = [
            [run_lengths.encode(np.asfortranarray(mask.numpy().astype(np.uint8))) for mask in masks]
            for masks in (prediction["masks"], target["masks"])
        ]
        expected = run_lengths.iou(*encoded, [0] * len(encoded[1]))
        iou = mask_iou(prediction["masks"], target["masks"])
        assert_close(iou, torch.tensor(expected, dtype=torch.float64).reshape(iou.shape))
    large = torch.ones(1, 300, 400, dtype=torch.bool)
    assert mask_iou(large, large).item() == 1 and mask_iou(~large, ~large).item() == 0


# --- messages

ones = torch.ones(2)
masks = torch.zeros(2, 4, 4, dtype=torch.bool)

BAD_CALLS = {
    "mask_iou": (
        lambda: mask_iou(masks, masks[:, 1:]),
        ValueError,
        "masks2",
        "[m, 4, 4], got [2, 3",
    ),
    "mask_iou, grey": (lambda: mask_iou(masks.float(), masks), TypeError, "masks1", "torch.bool"),
    "iou": (lambda: match_detections(ones, ones), ValueError, "iou", "[d, g], got [2]"),
    "iou, whole": (
        lambda: match_detections(masks[0].long(), torch.ones(4)),
        TypeError,
        "iou",
        "torch.int64",
    ),
    "scores": (
        lambda: match_detections(torch.ones(3, 2), ones),
        ValueError,
        "scores",
        "[3], got [2]",
    ),
    "threshold": (
        lambda: match_detections(torch.ones(2, 2), ones, 50),
        ValueError,
        "threshold",
        "got 50",
    ),
    "curve, scores": (
        lambda: precision_and_recall(ones[:1], ones > 0, 1),
        ValueError,
        "scores",
        "[2], got [1]",
    ),
    "curve, nan": (
        lambda: precision_and_recall(ones * math.nan, ones > 0, 1),
        ValueError,
        "scores",
        "finite numbers, but row 0 is nan",
    ),
    "ignored": (
        lambda: precision_and_recall(ones, ones > 0, 1, ones),
        TypeError,
        "ignored",
        "torch.bool, got torch.float32",
    ),
    "recall": (lambda: average_precision(ones, ones[:1]), ValueError, "recall", "[2], got [1]"),
    "precision": (
        lambda: average_precision(ones > 0, ones),
        TypeError,
        "precision",
        "got torch.bool",
    ),
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
