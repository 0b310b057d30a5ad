"""COCO's protocol for detections: average precision and recall over classes, IoU thresholds and sizes.

The steps for one class and one IoU threshold are in `course_utils.metrics.average_precision`. Two files, as
COCO's tool compares them, are evaluated from a terminal:

    python -m course_utils.metrics.detection instances_val2017.json results.json --type bbox
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from course_utils.core import (
    check_floating,
    check_labels,
    check_masks,
    check_rows,
    check_same_device,
    check_shape,
    on_cpu,
)
from course_utils.metrics._coco_matching import Images, Matching, match_images
from course_utils.metrics.average_precision import (
    RECALLS,
    interpolate_precision,
    precision_and_recall,
)

# numpy rounds these steps as COCO's tool does; an IoU of exactly 0.6 must reach the threshold 0.6.
IOU_THRESHOLDS = torch.from_numpy(np.linspace(0.5, 0.95, 10))
SIZES = {  # the smallest and the largest area, in square pixels
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
MOST_DETECTIONS = (1, 10, 100)
PROTOCOL = (IOU_THRESHOLDS, list(SIZES.values()), MOST_DETECTIONS[-1])  # for the matching


class DetectionMetrics(NamedTuple):
    """COCO's twelve numbers and the AP of each class, from 0 to 1; nan where there is no ground truth."""

    ap: float  # the mean over the IoU thresholds 0.50, 0.55, ..., 0.95
    ap50: float
    ap75: float
    ap_small: float  # ground truths of at most 32 x 32 pixels
    ap_medium: float
    ap_large: float  # of at least 96 x 96 pixels
    ar1: float  # recall with one detection per class and image
    ar10: float
    ar100: float
    ar_small: float
    ar_medium: float
    ar_large: float
    ap_per_class: dict[int, float]  # by label


def detection_metrics(
    predictions: Images,
    targets: Images,
    *,
    iou_type: Literal["boxes", "masks"] = "boxes",
) -> DetectionMetrics:
    """COCO's twelve numbers for the detections in a set of images.

    Some detections are ignored, that is, count neither as true nor as false positives. They match a crowd
    (any number of detections may match one crowd, and their IoU is the part of the detection inside it); or,
    for the numbers of small, medium and large objects, they match a ground truth of another size, or match
    none and are of another size themselves. Only classes that occur in the targets count, and per class and
    image only the 100 most confident detections.

    Args:
        predictions: a dict per image, as torchvision's detectors return it: "labels" `[n]` from 1 on,
            "scores" `[n]`, and "boxes" `[n, 4]` (`x1, y1, x2, y2` in pixels) or boolean "masks" `[n, h, w]`.
        targets: a dict per image: "labels", "boxes" or "masks", and optionally "iscrowd" `[n]` and "area"
            `[n]`. Without "area", the area is that of the masks if there are any (for boxes too, as in
            COCO's files), and otherwise that of the boxes.
        iou_type: what is compared, "boxes" or "masks".

    Returns:
        The metrics, as Python numbers.

    Source: same as pycocotools' `COCOeval`, where nan is -1. torchmetrics' `MeanAveragePrecision` takes the
    same dicts, but rounds the thresholds to float32, and without "area" takes the area of the boxes.

    >>> box = torch.tensor([[10.0, 10.0, 30.0, 30.0]])
    >>> target = {"boxes": box, "labels": torch.tensor([1])}
    >>> prediction = {"boxes": box + 1, "labels": torch.tensor([1]), "scores": torch.tensor([0.9])}
    >>> metrics = detection_metrics([prediction], [target])
    >>> metrics.ap, metrics.ap50, metrics.ap_large
    (0.7, 1.0, nan)
    """
    _check(predictions, targets, iou_type)
    return summarize(match_images(predictions, targets, iou_type, *PROTOCOL))


def summarize(matching: Matching) -> DetectionMetrics:
    """COCO's twelve numbers, once the detections of all images are matched."""
    curves = _curves(matching)
    precision, recall = curves.precision.mean(dim=1), curves.recall
    every, small, medium, large = range(len(SIZES))

    def mean(values: Tensor) -> float:
        return float(values.nanmean())

    return DetectionMetrics(
        ap=mean(precision[:, :, every]),
        ap50=mean(precision[0, :, every]),
        ap75=mean(precision[5, :, every]),
        ap_small=mean(precision[:, :, small]),
        ap_medium=mean(precision[:, :, medium]),
        ap_large=mean(precision[:, :, large]),
        ar1=mean(recall[:, :, every, 0]),
        ar10=mean(recall[:, :, every, 1]),
        ar100=mean(recall[:, :, every, 2]),
        ar_small=mean(recall[:, :, small, 2]),
        ar_medium=mean(recall[:, :, medium, 2]),
        ar_large=mean(recall[:, :, large, 2]),
        ap_per_class=dict(zip(curves.labels, precision[:, :, every].mean(dim=0).tolist())),
    )


class _Curves(NamedTuple):
    """COCO's two tables, over thresholds, recalls, classes, sizes and the most detections that count."""

    labels: list[int]
    precision: Float[Tensor, "thresholds 101 classes sizes"]  # with at most 100 detections
    recall: Float[Tensor, "thresholds classes sizes most"]


def _curves(matching: Matching) -> _Curves:
    """Compute precision and recall class by class."""
    scores = matching.score
    labels = matching.truth_label.unique()
    axes = (len(IOU_THRESHOLDS), len(labels), len(SIZES))
    precision = scores.new_empty(axes[0], len(RECALLS), *axes[1:])
    recall = scores.new_empty(*axes, len(MOST_DETECTIONS))
    for number, label in enumerate(labels):
        mine = (matching.label == label).nonzero()[:, 0]
        correct, ignored = (
            table[mine].permute(2, 1, 0).contiguous()  # [thresholds, sizes, detections]
            for table in (matching.correct, matching.ignored)
        )
        truths = (~matching.left_out)[matching.truth_label == label].sum(dim=0)  # [sizes]
        curve = interpolate_precision(*precision_and_recall(scores[mine], correct, truths, ignored))
        curve = curve.masked_fill((truths == 0)[:, None], torch.nan)  # also without any detection
        precision[:, :, number] = curve.movedim(2, 1)
        for column, most in enumerate(MOST_DETECTIONS):
            true_positives = (correct & (matching.rank[mine] < most)).sum(dim=2)
            recall[:, number, :, column] = true_positives.double() / truths  # 0 / 0 is nan
    return _Curves(labels.tolist(), precision, recall)


def _check(predictions: Images, targets: Images, iou_type: str) -> None:
    """Raise unless every image has what is compared, in the right form."""
    if iou_type not in ("boxes", "masks"):
        raise ValueError(f'iou_type: expected "boxes" or "masks", got {iou_type!r}')
    if not targets or len(predictions) != len(targets):
        raise ValueError(
            "predictions: expected a dict for each image, as many as targets and at least one, "
            f"got {len(predictions)} for {len(targets)} targets"
        )
    _check_images("predictions", predictions, ["labels", "scores", iou_type])
    _check_images("targets", targets, ["labels", iou_type], ["masks", "iscrowd", "area"])
    for number, (prediction, target) in enumerate(zip(predictions, targets)):
        name1, name2 = f"predictions[{number}]", f"targets[{number}]"
        check_same_device(**{name1: prediction["labels"], name2: target["labels"]})
        if iou_type == "masks":
            height, width = target["masks"].shape[1:]
            check_masks(f'{name1}["masks"]', prediction["masks"], "n", height, width)


def _check_images(
    name: str, images: Images, needed: Sequence[str], optional: Sequence[str] = ()
) -> None:
    """Raise unless each dict has these keys, with one row per object and with possible values."""
    fields: dict[str, dict[str, Tensor]] = {key: {} for key in (*needed, *optional)}
    for number, image in enumerate(images):
        if not isinstance(image, Mapping):
            raise TypeError(f"{name}[{number}]: expected a dict, got {type(image).__name__}")
        for key in needed:
            if key not in image:
                raise ValueError(f'{name}[{number}]: expected the key "{key}", got {list(image)}')
        check_labels(f'{name}[{number}]["labels"]', image["labels"])
        given = {key: image[key] for key in fields if key in image}
        for key, values in given.items():
            fields[key][f'{name}[{number}]["{key}"]'] = values
            check_shape(f'{name}[{number}]["{key}"]', values, len(image["labels"]), *SHAPES[key])
        if "scores" in given:
            check_floating(f'{name}[{number}]["scores"]', given["scores"])
        if "masks" in given:
            check_masks(f'{name}[{number}]["masks"]', given["masks"])
        check_same_device(**{f'{name}[{number}]["{key}"]': given[key] for key in given})
    for key, (expected, good) in VALUES.items():
        _check_values(fields.get(key, {}), expected, good)


def _check_values(
    fields: Mapping[str, Tensor], expected: str, good: Callable[[Tensor], Tensor]
) -> None:
    """Raise unless all rows of a key are good: check all images at once, then search for the bad row."""
    values = list(fields.values())
    if values and all(map(on_cpu, values)) and not good(torch.cat(values)).all():
        for field, rows in fields.items():
            check_rows(field, rows, good(rows), expected)


def _ordered(boxes: Tensor) -> Tensor:
    """Which boxes are finite and have their corners in the right order."""
    return boxes.isfinite().all(dim=1) & (boxes[:, :2] <= boxes[:, 2:]).all(dim=1)


# The shape of one object's row under each key of the dicts; which values a row may have, and the test of it.
SHAPES = {"labels": (), "scores": (), "boxes": (4,), "masks": ("h", "w"), "iscrowd": (), "area": ()}
VALUES = {
    "labels": ("1 or more", lambda labels: labels >= 1),
    "scores": ("finite numbers", torch.isfinite),
    "boxes": ("finite numbers, x1 <= x2 and y1 <= y2", _ordered),
    "iscrowd": ("0 or 1", lambda crowd: (crowd == 0) | (crowd == 1)),
    "area": ("square pixels, 0 or more", lambda area: area.isfinite() & (area >= 0)),
}


if __name__ == "__main__":
    from course_utils.metrics._detection_files import main

    main()
