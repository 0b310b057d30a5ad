"""Panoptic quality: how many segments were found, and how well; one number for things and for stuff.

For each class PQ = SQ * RQ: segmentation quality, the mean IoU of the matched segments, times recognition
quality, the F1 score of finding them. PQ is then averaged over classes.

In this example one of two cats is matched, and so is the water; a third cat is predicted where the ground
truth is void, and is ignored:

>>> truth = torch.tensor([[1001, 1001, 1001, 1002], [4000, 4000, 4000, 0]])
>>> predicted = torch.tensor([[1001, 1001, 4000, 4000], [4000, 4000, 4000, 1002]])
>>> counts = panoptic_counts(predicted, truth, classes=5)
>>> quality = panoptic_quality(counts, stuff=[4])
>>> [round(float(number), 3) for number in quality.things]
[0.444, 0.667, 0.667]
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from course_utils.core import check_masks, check_same_device, check_shape, check_whole, on_cpu
from course_utils.metrics.instances import count_values


class PanopticCounts(NamedTuple):
    """What PQ is computed from, for each class. Counts of several images add up: `counts + counts`.

    Attributes:
        iou: the sum of the IoUs of all matches.
        true_positives: matches of a predicted with a ground-truth segment.
        false_positives: predicted segments without a match.
        false_negatives: ground-truth segments without a match.
    """

    iou: Float[Tensor, " classes"]
    true_positives: Int64[Tensor, " classes"]
    false_positives: Int64[Tensor, " classes"]
    false_negatives: Int64[Tensor, " classes"]

    def __add__(self, other: "PanopticCounts") -> "PanopticCounts":
        return PanopticCounts(*(count1 + count2 for count1, count2 in zip(self, other)))


class Quality(NamedTuple):
    """PQ and its two factors, 0 to 1: of a group of classes, or of each class.

    Attributes:
        pq: panoptic quality.
        sq: segmentation quality.
        rq: recognition quality.
    """

    pq: Float[Tensor, "*classes"]
    sq: Float[Tensor, "*classes"]
    rq: Float[Tensor, "*classes"]


class PanopticQuality(NamedTuple):
    """PQ, SQ and RQ as they are reported.

    Attributes:
        all: the means over all classes that occur.
        things: the means over things.
        stuff: the means over stuff.
        per_class: each class; nan for one that does not occur.
    """

    all: Quality
    things: Quality
    stuff: Quality
    per_class: Quality


def panoptic_counts(
    predicted: Int64[Tensor, "*b h w"],
    truth: Int64[Tensor, "*b h w"],
    classes: int,
    *,
    crowd: Bool[Tensor, "*b h w"] | None = None,
) -> PanopticCounts:
    """Match the segments of panoptic maps and count true positives, false positives and false negatives.

    A predicted and a ground-truth segment of the same class match if their IoU is above one half. Segments
    do not overlap, so none has two such matches, and no further choice is needed.

    Where the ground truth is void, nobody knows what is right: those pixels do not count in the union, and an
    unmatched predicted segment is ignored if more than half of it lies there. A crowd of the same class has
    the same effect on unmatched segments, but its pixels do count in unions; a crowd itself is never missed.

    Args:
        predicted: a map, or a batch of them: `1000 * class + k`, and 0 for void.
        truth: the ground truth, in the same form.
        classes: the number of classes, with background as class 0.
        crowd: True where the ground truth is a crowd of the class that `truth` has there.

    Returns:
        The counts of all images together. Counts of several batches may be added.

    Source: Kirillov et al., "Panoptic Segmentation", CVPR 2019, section 4; same as
    `panopticapi.evaluation`. `torchmetrics.detection.PanopticQuality` differs where the prediction is void:
    it leaves these pixels out of the union, and ignores a missed segment that mostly lies there.

    >>> truth = torch.tensor([[1001, 1001, 1001, 1002]])
    >>> panoptic_counts(torch.tensor([[1001, 1001, 1002, 1003]]), truth, classes=2).iou
    tensor([0.0000, 1.6667], dtype=torch.float64)
    """
    check_whole("classes", classes, least=1)
    _check_map("truth", truth, classes)
    _check_map("predicted", predicted, classes)
    check_shape("predicted", predicted, *truth.shape)
    check_same_device(predicted=predicted, truth=truth)
    if crowd is not None:
        check_masks("crowd", crowd, *truth.shape)
        check_same_device(truth=truth, crowd=crowd)
        # A crowd becomes segment 1000 * classes + class, a number beyond those of all objects.
        truth = torch.where(crowd & (truth > 0), 1000 * classes + truth // 1000, truth)
    size = truth.shape[-2:]
    counts = PanopticCounts(
        truth.new_zeros(classes, dtype=torch.float64),
        *(truth.new_zeros(classes) for _ in range(3)),
    )
    for image, target in zip(predicted.reshape(-1, *size), truth.reshape(-1, *size)):
        counts += _image_counts(image, target, classes)
    return counts


def panoptic_quality(counts: PanopticCounts, *, stuff: Sequence[int]) -> PanopticQuality:
    """PQ, SQ and RQ of all classes, of things, of stuff and of each class.

        SQ = iou / TP        RQ = TP / (TP + FP / 2 + FN / 2)        PQ = SQ * RQ

    Args:
        counts: from `panoptic_counts`, of the whole test set. (The mean of the PQ of single images is another
            number.)
        stuff: the classes that are stuff; the others are things.

    Returns:
        A class that occurs neither in the ground truth nor in the prediction is nan and left out of the
        means; a group without a class is nan. SQ is 0 for a class without a match.

    >>> counts = panoptic_counts(
    ...     torch.tensor([[1001, 1002]]), torch.tensor([[1001, 2000]]), classes=3
    ... )
    >>> panoptic_quality(counts, stuff=[2]).per_class.pq
    tensor([   nan, 0.6667, 0.0000], dtype=torch.float64)
    """
    classes = len(counts.iou)
    if wrong := [label for label in stuff if not 0 <= label < classes]:
        raise ValueError(f"stuff: expected classes from 0 to {classes - 1}, got {wrong[0]}")
    iou, tp, fp, fn = (count.double() for count in counts)
    sq = iou / tp.clamp(min=1)
    rq = tp / (tp + fp / 2 + fn / 2)
    per_class = Quality(sq * rq, torch.where(rq.isnan(), rq, sq), rq)
    is_stuff = torch.zeros(classes, dtype=torch.bool, device=iou.device)
    is_stuff[list(stuff)] = True
    groups = (torch.ones_like(is_stuff), ~is_stuff, is_stuff)
    means = (Quality(*(values[group].nanmean() for values in per_class)) for group in groups)
    return PanopticQuality(*means, per_class)


def _check_map(name: str, panoptic: Tensor, classes: int) -> None:
    """Raise unless this is a panoptic map, or a batch of them, of these classes."""
    check_shape(name, panoptic, ..., "h", "w")
    if panoptic.dtype != torch.int64:
        raise TypeError(f"{name}: expected torch.int64, got {panoptic.dtype}")
    wrong = (panoptic < 0) | (panoptic >= 1000 * classes) | ((panoptic > 0) & (panoptic < 1000))
    if on_cpu(panoptic) and wrong.any():
        raise ValueError(
            f"{name}: expected 1000 * class + k for classes 1 to {classes - 1}, or 0, "
            f"got {int(panoptic[wrong][0])}"
        )


def _image_counts(
    predicted: Int64[Tensor, "h w"], truth: Int64[Tensor, "h w"], classes: int
) -> PanopticCounts:
    """The counts of one image; in the ground truth, segment `1000 * classes + class` is a crowd."""
    n = 1001 * classes  # the numbers of all segments are below this
    number = torch.arange(n, device=truth.device)
    is_crowd = number >= 1000 * classes
    label = torch.where(is_crowd, number - 1000 * classes, number // 1000)

    def total(segments: Tensor, pixels: Tensor) -> Int64[Tensor, " n"]:
        return torch.zeros_like(number).index_add(0, segments, pixels)

    # All pairs of a predicted segment p and a ground-truth segment t that share pixels, and their IoU.
    pairs, intersection = count_values(predicted * n + truth)
    p, t = pairs // n, pairs % n
    area_p, area_t = total(p, intersection), total(t, intersection)
    in_void = total(p, intersection * (t == 0))
    union = area_p[p] + area_t[t] - intersection - in_void[p]
    iou = intersection.double() / union

    same_class = (label[p] == label[t]) & (p > 0)
    match = same_class & ~is_crowd[t] & (iou > 0.5)
    in_crowd = total(p, intersection * (same_class & is_crowd[t]))
    void_or_crowd = is_crowd | (number == 0)
    false_positive = (area_p > 0) & ~void_or_crowd & (2 * (in_void + in_crowd) <= area_p)
    false_negative = (area_t > 0) & ~void_or_crowd
    false_positive[p[match]] = False
    false_negative[t[match]] = False
    return PanopticCounts(
        iou.new_zeros(classes).index_add(0, label[p[match]], iou[match]),
        label[p[match]].bincount(minlength=classes),
        label[false_positive].bincount(minlength=classes),
        label[false_negative].bincount(minlength=classes),
    )
