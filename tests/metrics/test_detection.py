"""course_utils.metrics.detection: equal to pycocotools and torchmetrics, and by hand."""

import contextlib
import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn.metrics import precision_recall_curve
from torch.testing import assert_close
from torchmetrics.detection import MeanAveragePrecision

from course_utils.metrics import detection
from course_utils.metrics.detection import (
    average_precision,
    detection_metrics,
    interpolate_precision,
    mask_iou,
    match_detections,
    precision_and_recall,
)

# --- the reference


def annotations(images, known_area):
    """The objects of all images as COCO's files write them."""
    rows = []
    for number, image in enumerate(images):
        for i, label in enumerate(image["labels"].tolist()):
            row = {"id": len(rows) + 1, "image_id": number, "category_id": label, "iscrowd": 0}
            if "boxes" in image:
                x1, y1, x2, y2 = image["boxes"][i].double().tolist()
                row |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            if "masks" in image:
                mask = np.asfortranarray(image["masks"][i].numpy().astype(np.uint8))
                row["segmentation"] = run_lengths.encode(mask)
                if known_area or "boxes" not in image:
                    row["area"] = int(mask.sum())
            if "scores" in image:
                row["score"] = image["scores"][i].item()
            if known_area and "area" in image:
                row["area"] = image["area"][i].item()
            if "iscrowd" in image:
                row["iscrowd"] = int(image["iscrowd"][i])
            rows.append(row)
    return rows


def coco(predictions, targets, iou_type):
    """pycocotools' evaluation of the same dicts."""
    labels = sorted({label for target in targets for label in target["labels"].tolist()})
    dataset = {
        "images": [{"id": number, "height": 0, "width": 0} for number in range(len(targets))],
        "categories": [{"id": label} for label in labels],
    }
    if iou_type == "masks":  # a mask's area, not its box's
        predictions = [{k: v for k, v in each.items() if k != "boxes"} for each in predictions]
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        truth.dataset = dataset | {"annotations": annotations(targets, known_area=True)}
        found.dataset = dataset | {"annotations": annotations(predictions, known_area=False)}
        truth.createIndex()
        found.createIndex()
        evaluation = COCOeval(truth, found, {"boxes": "bbox", "masks": "segm"}[iou_type])
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def assert_equal_to_coco(predictions, targets, iou_type="boxes"):
    """The twelve numbers, and every single value of the tables that they summarise."""
    expected = coco(predictions, targets, iou_type)
    metrics = detection_metrics(predictions, targets, iou_type=iou_type)
    numbers = torch.tensor(metrics[:12], dtype=torch.float64).nan_to_num(-1)
    assert_close(numbers, torch.from_numpy(expected.stats), rtol=0, atol=1e-9)
    curves = detection._curves(predictions, targets, iou_type)
    assert curves.labels == expected.params.catIds
    for ours, theirs in (
        (curves.precision, expected.eval["precision"][..., 2]),
        (curves.recall, expected.eval["recall"]),
    ):
        assert_close(ours.nan_to_num(-1), torch.from_numpy(theirs), rtol=0, atol=1e-9)
    for column, label in enumerate(curves.labels):
        per_class = expected.eval["precision"][:, :, column, 0, 2].mean()
        assert_close(np.nan_to_num(metrics.ap_per_class[label], nan=-1), per_class)
    return metrics


# --- random cases, made so that nothing is rare: ties, crowds, sizes on the border, IoU on a threshold


def random_boxes(count, generator, step):
    """Boxes with corners on a grid, some of them without area."""
    corner = torch.randint(0, 5, (count, 2), generator=generator)
    size = torch.randint(0, 6, (count, 2), generator=generator)
    return torch.cat([corner, corner + size], dim=1).float() * step


def random_images(seed, images=6, most_truths=6, most_found=14, classes=3):
    """Predictions and targets with boxes only; a third of the targets tell their areas."""
    generator = torch.Generator().manual_seed(seed)

    def draw(high, *shape):
        return torch.randint(0, high, shape, generator=generator)

    step = [1.0, 8.0, 32.0, 7.3][seed % 4]
    predictions, targets = [], []
    for _ in range(images):
        truths, found = int(draw(most_truths + 1)), int(draw(most_found + 1))
        target = {
            "boxes": random_boxes(truths, generator, step),
            "labels": draw(classes, truths) + 1,
            "iscrowd": draw(4, truths) == 0,
        }
        if draw(3) == 0:
            target["area"] = torch.tensor([0, 32**2, 5000, 96**2, 1e5])[draw(5, truths)]
        boxes = random_boxes(found, generator, step)
        if truths:
            copies = target["boxes"][draw(truths, found)]
            near = copies + draw(3, found, 1) * step * torch.tensor([0.0, 0.0, 1.0, 0.0]) / 2
            boxes = torch.where(draw(3, found, 1) > 0, near, boxes)
        prediction = {
            "boxes": boxes,
            "labels": draw(classes + 1, found) + 1,
            "scores": draw(6, found) / 5,
        }
        predictions.append(prediction)
        targets.append(target)
    return predictions, targets


def with_masks(images, size=(40, 52)):
    """The same objects as ellipses in their boxes, which may have no pixel or just one."""
    rows, columns = torch.arange(size[0])[:, None] + 0.5, torch.arange(size[1]) + 0.5
    drawn = []
    for image in images:
        x1, y1, x2, y2 = image["boxes"].clamp(0, 60).T[:, :, None, None]
        across = (2 * columns - x1 - x2) / (x2 - x1).clamp(min=1)
        down = (2 * rows - y1 - y2) / (y2 - y1).clamp(min=1)
        drawn.append(image | {"masks": across**2 + down**2 < 1.2})
    return drawn


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 100_000))
def test_boxes_equal_pycocotools(seed):
    assert_equal_to_coco(*random_images(seed))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 100_000))
def test_masks_equal_pycocotools(seed):
    predictions, targets = random_images(seed)
    assert_equal_to_coco(with_masks(predictions), with_masks(targets), "masks")


@pytest.mark.parametrize("seed", range(4))
def test_boxes_are_small_medium_or_large_by_the_pixels_of_their_masks(seed):
    predictions, targets = random_images(seed)
    assert_equal_to_coco(predictions, with_masks(targets))


@pytest.mark.parametrize("seed", range(4))
def test_masks_need_no_boxes(seed):
    predictions, targets = (with_masks(images) for images in random_images(seed))
    for image in predictions + targets:
        del image["boxes"]
    assert_equal_to_coco(predictions, targets, "masks")


def test_many_images_many_detections_and_boxes_off_the_grid():
    """As a real evaluation: more than 100 detections of a class in an image, nothing rounded."""
    predictions, targets = random_images(1, images=12, most_truths=40, most_found=500, classes=2)
    generator = torch.Generator().manual_seed(0)
    for image in predictions:
        count = len(image["labels"])
        image["boxes"][:, 2:] += torch.rand(count, 2, generator=generator) * 20
        image["scores"] = torch.rand(count, generator=generator)
    assert max(int(each["labels"].bincount().max()) for each in predictions) > 120
    metrics = assert_equal_to_coco(predictions, targets)
    assert metrics.ap > 0.01


@pytest.mark.parametrize("iou_type, name", [("boxes", "bbox"), ("masks", "segm")])
def test_equal_to_torchmetrics_with_coco_s_thresholds(iou_type, name):
    """Left alone, torchmetrics rounds them to float32: an IoU of exactly 0.8 is not enough for it.

    Nor does it count the masks of an image with objects where nothing was found.
    """
    both = zip(*(with_masks(images) for images in random_images(4, images=12)))
    both = [pair for pair in both if len(pair[0]["labels"]) and len(pair[1]["labels"])]
    predictions, targets = zip(*both)
    for target in targets:
        target["area"] = target["masks"].sum(dim=(1, 2)).clamp(min=1)
        target["iscrowd"] = target["iscrowd"].long()
    reference = MeanAveragePrecision(
        iou_type=name,
        iou_thresholds=detection.IOU_THRESHOLDS.tolist(),
        rec_thresholds=detection.RECALLS.tolist(),
        class_metrics=True,
    )
    reference.update(list(predictions), list(targets))
    expected = reference.compute()
    metrics = detection_metrics(predictions, targets, iou_type=iou_type)
    names = (
        "map map_50 map_75 map_small map_medium map_large mar_1 mar_10 mar_100 mar_small mar_medium"
    )
    for value, name in zip(metrics, [*names.split(), "mar_large"]):
        assert_close(-1.0 if math.isnan(value) else value, expected[name].item())
    per_class = dict(zip(expected["classes"].tolist(), expected["map_per_class"].tolist()))
    for label, value in metrics.ap_per_class.items():
        assert_close(-1.0 if math.isnan(value) else value, per_class[label])


# --- by hand


def image(boxes=(), labels=None, scores=None, **more):
    """One image's dict, of class 1 unless told."""
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor([1] * len(boxes) if labels is None else labels, dtype=torch.int64)
    given = {} if scores is None else {"scores": torch.tensor(scores, dtype=torch.float32)}
    return {"boxes": boxes, "labels": labels} | given | more


BOX, FAR = [10, 10, 30, 30], [100, 100, 120, 120]
HALF = [10, 10, 20, 30]  # IoU with BOX exactly 0.5


def metrics_of(prediction, target):
    return assert_equal_to_coco([prediction], [target])


def test_three_detections_by_hand():
    """Right, a second time the same object, right: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1."""
    found = image([BOX, BOX, FAR], scores=[0.9, 0.8, 0.7])
    metrics = metrics_of(found, image([BOX, FAR]))
    assert_close(metrics.ap, (51 * 1 + 50 * 2 / 3) / 101)
    assert metrics.ar1 == 0.5 and metrics.ar10 == metrics.ar100 == 1
    assert math.isnan(metrics.ap_medium) and metrics.ap_small == metrics.ap


def test_an_iou_of_exactly_the_threshold_is_enough():
    metrics = metrics_of(image([HALF], scores=[0.9]), image([BOX]))
    assert (metrics.ap50, metrics.ap75, metrics.ap) == (1, 0, 0.1)
    three_fifths = image([[10, 10, 22, 30]], scores=[0.9])
    assert_close(metrics_of(three_fifths, image([BOX])).ap, 0.3)


def test_no_ground_truth_at_all():
    metrics = metrics_of(image([BOX], scores=[0.9]), image())
    assert all(math.isnan(value) for value in metrics[:12]) and metrics.ap_per_class == {}


def test_no_detection_at_all():
    metrics = metrics_of(image(scores=[]), image([BOX]))
    assert metrics.ap == metrics.ar100 == metrics.ap_small == 0 and metrics.ap_per_class == {1: 0}


def test_nothing_at_all():
    assert math.isnan(metrics_of(image(scores=[]), image()).ap)


def test_an_image_without_anything_changes_nothing():
    found, truth = image([HALF, BOX], scores=[0.9, 0.8]), image([BOX, FAR])
    alone = detection_metrics([found], [truth])
    beside = assert_equal_to_coco([image(scores=[]), found], [image(), truth])
    assert str(alone) == str(beside)


def test_a_wrong_detection_in_an_image_without_objects_counts():
    found = [image([BOX], scores=[0.8]), image([FAR], scores=[0.9])]
    assert assert_equal_to_coco(found, [image([BOX]), image()]).ap == 0.5


def test_a_class_only_in_the_predictions_does_not_count_and_one_only_in_the_targets_is_missed():
    found = image([BOX, FAR], labels=[1, 7], scores=[0.5, 0.9])
    assert metrics_of(found, image([BOX])).ap_per_class == {1: 1}
    metrics = metrics_of(found, image([BOX, FAR], labels=[1, 3]))
    assert metrics.ap_per_class == {1: 1, 3: 0} and metrics.ap == 0.5


def test_identical_scores_count_in_the_order_given():
    right_first = image([BOX, FAR], scores=[0.5, 0.5])
    wrong_first = image([FAR, BOX], scores=[0.5, 0.5])
    assert metrics_of(right_first, image([BOX])).ap == 1
    assert metrics_of(wrong_first, image([BOX])).ap == 0.5


def test_only_a_crowd_is_nothing_to_find():
    crowd = image([BOX], iscrowd=torch.tensor([1]))
    metrics = metrics_of(image([BOX, FAR], scores=[0.9, 0.8]), crowd)
    assert math.isnan(metrics.ap) and math.isnan(metrics.ap_per_class[1])


def test_any_number_of_detections_may_lie_inside_a_crowd():
    """Small boxes in a crowd are no mistakes, though surer than the one that is right."""
    target = image([[0, 0, 200, 200], [300, 300, 340, 340]], iscrowd=torch.tensor([True, False]))
    found = image([BOX, BOX, FAR, [300, 300, 340, 340]], scores=[0.9, 0.8, 0.7, 0.6])
    assert metrics_of(found, target).ap == 1
    assert metrics_of(found, target | {"iscrowd": torch.tensor([0, 0])}).ap < 0.13


def test_an_object_goes_before_a_crowd():
    """The detection overlaps the crowd more, and matches the object nevertheless."""
    target = image([HALF, [0, 0, 200, 200]], iscrowd=torch.tensor([0, 1]))
    assert metrics_of(image([BOX], scores=[0.9]), target).ap50 == 1


def test_the_borders_of_the_sizes_belong_to_both():
    found, target = image([[0, 0, 32, 32]], scores=[0.9]), image([[0, 0, 32, 32]])
    metrics = metrics_of(found, target)
    assert (metrics.ap_small, metrics.ap_medium) == (1, 1) and math.isnan(metrics.ap_large)


def test_more_than_a_hundred_detections_of_a_class():
    scores = torch.linspace(0.9, 0.1, 101).tolist()
    found = image([FAR] * 99 + [BOX, BOX], scores=scores)
    assert metrics_of(found, image([BOX])).ar100 == 1
    found = image([FAR] * 100 + [BOX], scores=scores)
    assert metrics_of(found, image([BOX])).ar100 == 0
    other = image([FAR] * 100 + [BOX], labels=[2] * 100 + [1], scores=scores)
    assert metrics_of(other, image([BOX])).ar100 == 1


def test_boxes_without_area():
    point = [10, 10, 10, 10]
    metrics = metrics_of(image([point, BOX], scores=[0.9, 0.8]), image([point, BOX]))
    assert metrics.ar100 == 0.5
    metrics_of(image([point], scores=[0.9]), image([point], iscrowd=torch.tensor([1])))


def test_of_equal_overlaps_the_last_is_taken():
    """The first detection lies midway between both objects; the second is the right-hand one."""
    found = image([[12, 10, 32, 30], [14, 10, 34, 30]], scores=[0.9, 0.8])
    left, right = [10, 10, 30, 30], [14, 10, 34, 30]
    right_taken = metrics_of(found, image([left, right]))
    left_taken = metrics_of(found, image([right, left]))
    assert right_taken.ap75 < left_taken.ap75


def test_every_hundredth_of_recall():
    """A hundred objects, found one by one with mistakes between: each step decides as numpy rounds it."""
    boxes = [[10 * i, 0, 10 * i + 5, 5] for i in range(100)]
    found = [box for box in boxes for box in ([box] if box[0] % 30 else [box, FAR])]
    predictions = [
        image(found[start::2], scores=[0.9 - 0.001 * i for i in range(start, len(found), 2)])
        for start in range(2)
    ]
    half = (
        [box for box in boxes if box in found[0::2]],
        [box for box in boxes if box in found[1::2]],
    )
    metrics = assert_equal_to_coco(predictions, [image(part) for part in half])
    assert 0.5 < metrics.ap < 1


def test_large_full_masks():
    masks = torch.ones(2, 100, 130, dtype=torch.bool)
    masks[1, :, 90:] = False
    found = {"labels": torch.ones(2).long(), "scores": torch.tensor([0.9, 0.8]), "masks": masks}
    target = {"labels": torch.ones(2).long(), "masks": masks.flip(0)}
    metrics = assert_equal_to_coco([found], [target], "masks")
    assert metrics.ap == metrics.ap_large == 1 and math.isnan(metrics.ap_small)


def test_masks_of_one_pixel():
    masks = torch.eye(9, dtype=torch.bool).reshape(9, 3, 3)
    found = {"labels": torch.ones(2).long(), "scores": torch.tensor([0.9, 0.8]), "masks": masks[:2]}
    target = {"labels": torch.ones(2).long(), "masks": masks[1:3]}
    metrics = assert_equal_to_coco([found], [target], "masks")
    assert metrics.ar100 == 0.5 and metrics.ar1 == 0


def test_masks_with_holes_are_not_their_boxes():
    ring = torch.ones(1, 20, 20, dtype=torch.bool)
    ring[:, 3:17, 3:17] = False
    found = image([[0, 0, 20, 20]], scores=[0.9], masks=torch.ones_like(ring))
    target = image([[0, 0, 20, 20]], masks=ring)
    assert detection_metrics([found], [target]).ap == 1
    assert assert_equal_to_coco([found], [target], "masks").ap50 == 1  # 204 / 400
    assert detection_metrics([found], [target], iou_type="masks").ap == 0.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int64])
def test_boxes_of_any_numbers(dtype):
    found, target = image([BOX, FAR], scores=[0.9, 0.8]), image([BOX, FAR])
    found["boxes"], target["boxes"] = found["boxes"].to(dtype), target["boxes"].to(dtype)
    found["scores"] = found["scores"].half()
    assert detection_metrics([found], [target]).ap == 1


def test_on_any_device(device):
    predictions, targets = (with_masks(images) for images in random_images(3))
    for iou_type in ("boxes", "masks"):
        expected = detection_metrics(predictions, targets, iou_type=iou_type)
        moved = (
            [{key: value.to(device) for key, value in each.items()} for each in images]
            for images in (predictions, targets)
        )
        assert str(detection_metrics(*moved, iou_type=iou_type)) == str(expected)


# --- the pieces


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
    for threshold, expected in zip(
        detection.IOU_THRESHOLDS.tolist(), evaluation.evalImgs[0]["dtMatches"]
    ):
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
    assert precision_and_recall(scores, correct[0], 0)[1].isnan().sum() == 0  # 1 / 0, 2 / 0


def test_average_precision_by_hand():
    curve = interpolate_precision(torch.tensor([0.0, 0.5, 2 / 3]), torch.tensor([0.0, 0.25, 0.5]))
    assert_close(curve, torch.tensor([2 / 3] * 51 + [0.0] * 50))
    nothing = torch.zeros(2, 0)
    assert average_precision(nothing, nothing).tolist() == [0, 0]
    assert average_precision(torch.ones(3), torch.tensor([0.3, 0.6, 1.0])).item() == 1


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

found, truth = image([BOX, FAR], scores=[0.9, 0.8]), image([BOX, FAR])
masks = torch.zeros(2, 4, 4, dtype=torch.bool)
ones = torch.ones(2)


def change(where="predictions", iou_type="boxes", **fields):
    """A call with these fields changed in the second image; None takes a key away."""
    images = {"predictions": [found, found], "targets": [truth, truth]}
    if iou_type == "masks":
        images = {name: [one | {"masks": masks} for one in both] for name, both in images.items()}
    changed = images[where][1] | fields
    images[where][1] = {key: value for key, value in changed.items() if value is not None}
    return lambda: detection_metrics(images["predictions"], images["targets"], iou_type=iou_type)


FIRST, SECOND = "predictions[1]", "targets[1]"
BAD_CALLS = {
    "segm": (change(iou_type="segm"), ValueError, "iou_type", "\"masks\", got 'segm'"),
    "lengths": (
        lambda: detection_metrics([found], [truth, truth]),
        ValueError,
        "predictions",
        "got 1 for 2 targets",
    ),
    "no image": (lambda: detection_metrics([], []), ValueError, "predictions", "at least one"),
    "a list": (lambda: detection_metrics([[]], [truth]), TypeError, "predictions[0]", "got list"),
    "no scores": (change(scores=None), ValueError, FIRST, "the key \"scores\", got ['boxes'"),
    "no labels": (change("targets", labels=None), ValueError, SECOND, 'the key "labels"'),
    "no masks": (change("targets", "masks", masks=None), ValueError, SECOND, 'the key "masks"'),
    "label 0": (
        change("targets", labels=torch.tensor([2, 0])),
        ValueError,
        SECOND + '["labels"]',
        "1 or more, but row 1 is 0",
    ),
    "float labels": (change(labels=ones), TypeError, FIRST + '["labels"]', "got torch.float32"),
    "labels None": (change(labels=[1, 2]), TypeError, FIRST + '["labels"]', "got list"),
    "one box": (
        change(boxes=found["boxes"][:1]),
        ValueError,
        FIRST + '["boxes"]',
        "[2, 4], got [1, 4]",
    ),
    "box columns": (change(boxes=torch.zeros(2, 5)), ValueError, FIRST + '["boxes"]', "got [2, 5]"),
    "nan box": (
        change("targets", boxes=torch.full((2, 4), math.nan)),
        ValueError,
        SECOND + '["boxes"]',
        "row 0 is [nan",
    ),
    "swapped": (
        change(boxes=found["boxes"].flip(1)),
        ValueError,
        FIRST + '["boxes"]',
        "x1 <= x2 and y1 <= y2, but row 0 is [30.0, 30.0, 10.0, 10.0]",
    ),
    "nan score": (
        change(scores=ones * math.nan),
        ValueError,
        FIRST + '["scores"]',
        "finite numbers, but row 0 is nan",
    ),
    "whole scores": (change(scores=ones.long()), TypeError, FIRST + '["scores"]', "torch.int64"),
    "one score": (change(scores=ones[:1]), ValueError, FIRST + '["scores"]', "[2], got [1]"),
    "crowd": (change("targets", iscrowd=ones * 2), ValueError, SECOND + '["iscrowd"]', "is 2.0"),
    "crowds": (change("targets", iscrowd=ones[:1]), ValueError, SECOND + '["iscrowd"]', "got [1]"),
    "area": (change("targets", area=-ones), ValueError, SECOND + '["area"]', "row 0 is -1.0"),
    "grey masks": (
        change("predictions", "masks", masks=masks.float()),
        TypeError,
        FIRST + '["masks"]',
        "torch.bool, got torch.float32",
    ),
    "torchvision's masks": (
        change("predictions", "masks", masks=masks[:, None]),
        ValueError,
        FIRST + '["masks"]',
        "[2, h, w], got [2, 1, 4, 4]",
    ),
    "size of masks": (
        change("predictions", "masks", masks=masks[:, :, :3]),
        ValueError,
        FIRST + '["masks"]',
        "[n, 4, 4], got [2, 4, 3]",
    ),
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
        "finite numbers, got [nan, nan]",
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
