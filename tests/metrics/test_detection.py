"""course_utils.metrics.detection: equal to pycocotools and torchmetrics, and by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close
from torchmetrics.detection import MeanAveragePrecision

from course_utils.metrics import detection
from course_utils.metrics._coco_matching import _pixels, match_images
from course_utils.metrics.average_precision import (
    RECALLS,
    average_precision,
    mask_iou,
    match_detections,
    precision_and_recall,
)
from course_utils.metrics.detection import IOU_THRESHOLDS, detection_metrics
from course_utils.ops.boxes import box_iou
from tests.metrics.coco_reference import coco, random_images, with_masks
from tools.bench_memory import peak_bytes

# --- the reference


def assert_equal_to_coco(predictions, targets, iou_type="boxes"):
    """The twelve numbers, and every single value of the tables that they summarise."""
    expected = coco(predictions, targets, iou_type)
    metrics = detection_metrics(predictions, targets, iou_type=iou_type)
    numbers = torch.tensor(metrics[:12], dtype=torch.float64).nan_to_num(-1)
    assert_close(numbers, torch.from_numpy(expected.stats), rtol=0, atol=1e-9)
    curves = detection._curves(match_images(predictions, targets, iou_type, *detection.PROTOCOL))
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
        iou_thresholds=IOU_THRESHOLDS.tolist(),
        rec_thresholds=RECALLS.tolist(),
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


# --- the plain steps of course_utils.metrics.average_precision as a reference


def without_crowds(seed, iou_type):
    """Random images without crowds, and the IoU of all detections with all ground truths of each."""
    images = random_images(seed)
    if iou_type == "masks":
        images = map(with_masks, images)
    predictions, targets = images
    targets = [target | {"iscrowd": target["iscrowd"] & False} for target in targets]
    both = zip(predictions, targets)
    if iou_type == "masks":
        return predictions, targets, [mask_iou(p["masks"], t["masks"]) for p, t in both]
    return (
        predictions,
        targets,
        [box_iou(p["boxes"].double(), t["boxes"].double()) for p, t in both],
    )


def with_ties(seed):
    """Boxes of one size side by side: many detections lie midway between two ground truths."""
    generator = torch.Generator().manual_seed(seed)
    predictions, targets, ious = [], [], []
    for detections, truths in ((10, 6), (8, 8), (12, 4)):
        left = torch.randint(0, 9, (detections + truths, 1), generator=generator).double()
        boxes = left * torch.tensor([1, 0, 1, 0]) + torch.tensor([0, 0, 4, 1])
        labels = torch.ones(detections + truths, dtype=torch.int64)
        scores = torch.randint(0, 4, (detections,), generator=generator) / 4
        predictions.append({"boxes": boxes[:detections], "labels": labels[:detections]})
        predictions[-1]["scores"] = scores
        targets.append({"boxes": boxes[detections:], "labels": labels[detections:]})
        ious.append(box_iou(boxes[:detections], boxes[detections:]))
    return predictions, targets, ious


CASES = {
    "boxes": lambda seed: without_crowds(seed, "boxes"),
    "masks": lambda seed: without_crowds(seed, "masks"),
    "ties": with_ties,
}


@pytest.mark.parametrize("case", CASES)
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 100_000))
def test_matching_equals_match_detections(case, seed):
    """In all images, with ties of scores and of IoUs."""
    predictions, targets, ious = CASES[case](seed)
    kind = "masks" if case == "masks" else "boxes"
    matching = match_images(predictions, targets, kind, IOU_THRESHOLDS, [(0.0, 1e10)], 100)
    expected = torch.zeros_like(matching.correct)
    first = 0
    for prediction, target, iou in zip(predictions, targets, ious):
        for label in prediction["labels"].unique():
            mine = (prediction["labels"] == label).nonzero()[:, 0]
            overlaps = iou[mine][:, target["labels"] == label]
            for number, threshold in enumerate(IOU_THRESHOLDS.tolist()):
                matches = match_detections(overlaps, prediction["scores"][mine], threshold)
                expected[first + mine, 0, number] = matches >= 0
        first += len(prediction["labels"])
    assert torch.equal(matching.correct, expected)


@pytest.mark.parametrize("seed", range(6))
def test_the_steps_one_after_the_other_give_the_metrics(seed):
    predictions, targets, ious = without_crowds(seed, "boxes")
    metrics = detection_metrics(predictions, targets)
    for label, ap in metrics.ap_per_class.items():
        precisions = []
        for threshold in IOU_THRESHOLDS.tolist():
            scores, correct, truths = [], [], 0
            for prediction, target, iou in zip(predictions, targets, ious):
                mine, theirs = prediction["labels"] == label, target["labels"] == label
                scores.append(prediction["scores"][mine])
                matches = match_detections(iou[mine][:, theirs], scores[-1], threshold)
                correct.append(matches >= 0)
                truths += int(theirs.sum())
            curve = precision_and_recall(torch.cat(scores), torch.cat(correct), truths)
            precisions.append(average_precision(*curve))
        assert_close(float(sum(precisions) / len(precisions)), ap)


@pytest.mark.parametrize(
    "size", [(1, 1), (3, 5), (8, 255), (51, 40), (60, 100), (480, 640)], ids=str
)
def test_pixels_are_counted_wherever_the_masks_lie_in_memory(size):
    height, width = size
    drawn = torch.rand(3, height + 1, width + 1, generator=torch.Generator().manual_seed(0)) < 0.7
    contiguous = drawn[:, :-1, :-1].contiguous()
    for masks in (
        contiguous,
        torch.ones_like(contiguous),
        contiguous[1:],
        contiguous[:0],
        contiguous[:, 1:],
        drawn[:, 1:, 1:],
        contiguous.mT,
        contiguous[:1].expand(4, -1, -1),
    ):
        assert torch.equal(_pixels(masks), masks.sum(dim=(1, 2)).double())


# --- memory


def crowded_image(detections, truths, seed=0, identical=False):
    """A prediction and a target with many boxes of one class."""
    generator = torch.Generator().manual_seed(seed)

    def draw(count):
        corner, size = torch.rand(2, count, 2, generator=generator)
        corner, size = 1000 * corner * (not identical), 50 + 50 * size * (not identical)
        return {
            "boxes": torch.cat([corner, corner + size], dim=1),
            "labels": torch.ones(count, dtype=torch.int64),
        }

    scores = torch.rand(detections, generator=generator)
    return draw(detections) | {"scores": scores}, draw(truths)


@pytest.mark.parametrize("identical", [False, True], ids=["random boxes", "identical boxes"])
def test_ten_thousand_detections_of_five_thousand_objects_in_one_image(identical):
    """As a table of all pairs this took 6.9 GB."""
    prediction, target = crowded_image(10_000, 5_000, identical=identical)
    metrics = []
    peak = peak_bytes(lambda: metrics.append(detection_metrics([prediction], [target])), "cpu")
    assert peak < 100e6
    assert metrics[0].ar100 == 100 / 5_000 if identical else 0 < metrics[0].ar100 < 0.02


def test_two_million_pairs_in_forty_images():
    predictions, targets = zip(*(crowded_image(100, 500, seed) for seed in range(40)))
    assert peak_bytes(lambda: detection_metrics(predictions, targets), "cpu") < 150e6


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


def test_a_crowd_is_not_an_object_that_is_missed():
    """Once the AP was .5 here, because `iscrowd` got lost on the way."""
    both = image([BOX, [100, 100, 200, 200]], iscrowd=torch.tensor([0, 1]))
    found = image([FAR, [130, 100, 150, 120], BOX], scores=[0.9, 0.8, 0.7])
    assert metrics_of(found, both).ap == 1
    assert metrics_of(image([BOX], scores=[0.7]), both).ap == 1
    assert metrics_of(image([BOX], scores=[0.7]), image([BOX, [100, 100, 200, 200]])).ap < 0.51


@pytest.mark.parametrize("iou_type", ["boxes", "masks"])
def test_the_area_that_is_given_decides_the_size_not_that_of_the_mask_or_box(iou_type):
    square = torch.zeros(1, 40, 40, dtype=torch.bool)
    square[:, 10:30, 10:30] = True
    found = image([BOX], scores=[0.9], masks=square)
    target = image([BOX], masks=square, area=torch.tensor([5000.0]))
    metrics = assert_equal_to_coco([found], [target], iou_type)
    assert metrics.ap_medium == 1 and math.isnan(metrics.ap_small)


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
