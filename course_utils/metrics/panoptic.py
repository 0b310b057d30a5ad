"""Panoptic quality: how many segments were found, and how well; one number for things and for stuff.

For each class PQ = SQ * RQ, the mean IoU of the segments found (segmentation quality) times the F1 score of
finding them (recognition quality). Then the mean over classes is taken.

Of two cats one is found, and the water; a third cat is seen where the truth is void, which does no harm:

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

from course_utils.core import check_same_device, check_shape


class PanopticCounts(NamedTuple):
    """What PQ is made of, for each class. Those of several images add up: `counts + counts`.

    Attributes:
        iou: the sum of the IoU of all pairs.
        true_positives: pairs of a true segment and a predicted one.
        false_positives: predicted segments without a partner.
        false_negatives: true segments without a partner.
    """

    iou: Float[Tensor, " classes"]
    true_positives: Int64[Tensor, " classes"]
    false_positives: Int64[Tensor, " classes"]
    false_negatives: Int64[Tensor, " classes"]

    def __add__(self, other: "PanopticCounts") -> "PanopticCounts":
        return PanopticCounts(*(mine + its for mine, its in zip(self, other)))


class Quality(NamedTuple):
    """PQ and its two parts, 0 to 1: of one group of classes, or of each class.

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
    """Compare the segments of panoptic maps: which were found, and how well.

    A predicted segment and a true one of its class are a pair if their IoU is above one half. Segments do not
    overlap, so none is in two such pairs, and nothing has to be chosen.

    Nobody knows what is right where the truth is void: those pixels do not count in the union, and a
    predicted segment without partner is forgiven if more than half of it lies there. A crowd of its own
    class is as good as void for that, but its pixels do count in unions; a crowd itself is never missed.

    Args:
        predicted: a map, or a batch of them: `1000 * class + k`, and 0 where the pixel is void.
        truth: the same.
        classes: how many there are, with background as number 0.
        crowd: True where the truth is a crowd of the class that `truth` has there; None if there is none.

    Returns:
        The counts of all images together. Those of several batches may be added.

    Raises:
        TypeError: not tensors, or numbers of another type.
        ValueError: other shapes, a number that stands for no segment of a class, `classes` below 1, or
            tensors on different devices.

    Source: Kirillov et al., "Panoptic Segmentation", CVPR 2019, section 4; same as
    `panopticapi.evaluation`. `torchmetrics.detection.PanopticQuality` differs where the prediction is void:
    it leaves these pixels out of the union, and forgives a missed segment that mostly lies there.

    >>> truth = torch.tensor([[1001, 1001, 1001, 1002]])
    >>> panoptic_counts(torch.tensor([[1001, 1001, 1002, 1003]]), truth, classes=2).iou
    tensor([0.0000, 1.6667], dtype=torch.float64)
    """
    if classes < 1:
        raise ValueError(f"classes: expected 1 or more, got {classes}")
    _check_map("truth", truth, classes)
    _check_map("predicted", predicted, classes)
    check_shape("predicted", predicted, *truth.shape)
    check_same_device(predicted=predicted, truth=truth)
    if crowd is not None:
        check_shape("crowd", crowd, *truth.shape)
        if crowd.dtype != torch.bool:
            raise TypeError(f"crowd: expected torch.bool, got {crowd.dtype}")
        check_same_device(truth=truth, crowd=crowd)
        # A crowd's number is beyond those of all objects.
        truth = torch.where(crowd & (truth > 0), 1000 * classes + truth // 1000, truth)
    size = truth.shape[-2:]
    counts = PanopticCounts(
        truth.new_zeros(classes, dtype=torch.float64),
        *(truth.new_zeros(classes) for _ in range(3)),
    )
    for image, answer in zip(predicted.reshape(-1, *size), truth.reshape(-1, *size)):
        counts += _image_counts(image, answer, classes)
    return counts


def panoptic_quality(counts: PanopticCounts, *, stuff: Sequence[int]) -> PanopticQuality:
    """PQ, SQ and RQ of all classes, of things, of stuff and of each class.

        SQ = iou / TP        RQ = TP / (TP + FP / 2 + FN / 2)        PQ = SQ * RQ

    Args:
        counts: from `panoptic_counts`, of the whole test set. (The mean over images of their PQ is another
            number.)
        stuff: the classes that are stuff; the others are things.

    Returns:
        A class that neither the truth nor the prediction has is nan and left out of the means; a group
        without a class is nan. SQ is 0 for a class of which nothing was found.

    Raises:
        ValueError: a number in `stuff` that is no class.

    >>> counts = panoptic_counts(
    ...     torch.tensor([[1001, 1002]]), torch.tensor([[1001, 2000]]), classes=3
    ... )
    >>> panoptic_quality(counts, stuff=[2]).per_class.pq
    tensor([   nan, 0.6667, 0.0000], dtype=torch.float64)
    """
    classes = len(counts.iou)
    if wrong := [label for label in stuff if not 0 <= label < classes]:
        raise ValueError(f"stuff: expected classes from 0 to {classes - 1}, got {wrong[0]}")
    iou, found, extra, missed = (count.double() for count in counts)
    sq = iou / found.clamp(min=1)
    rq = found / (found + extra / 2 + missed / 2)
    per_class = Quality(sq * rq, torch.where(rq.isnan(), rq, sq), rq)
    is_stuff = torch.zeros(classes, dtype=torch.bool, device=iou.device)
    is_stuff[list(stuff)] = True
    groups = (torch.ones_like(is_stuff), ~is_stuff, is_stuff)
    means = (Quality(*(part[group].nanmean() for part in per_class)) for group in groups)
    return PanopticQuality(*means, per_class)


def _check_map(name: str, panoptic: Tensor, classes: int) -> None:
    """Raise unless this is a panoptic map, or a batch of them, of these classes."""
    if isinstance(panoptic, Tensor) and panoptic.ndim == 3:
        check_shape(name, panoptic, "b", "h", "w")
    else:
        check_shape(name, panoptic, "h", "w")
    if panoptic.dtype != torch.int64:
        raise TypeError(f"{name}: expected torch.int64, got {panoptic.dtype}")
    wrong = (panoptic < 0) | (panoptic >= 1000 * classes) | ((panoptic > 0) & (panoptic < 1000))
    if wrong.any():
        raise ValueError(
            f"{name}: expected 1000 * class + k for classes 1 to {classes - 1}, or 0, "
            f"got {int(panoptic[wrong][0])}"
        )


def _segments(
    panoptic: Int64[Tensor, "h w"], most: int
) -> tuple[Int64[Tensor, " n"], Int64[Tensor, "h w"]]:
    """The numbers in a map, void (0) always among them, and the place of each pixel's number in that list."""
    present = panoptic.flatten().bincount(minlength=most) > 0
    present[0] = True
    place = present.cumsum(0) - 1
    return present.nonzero()[:, 0], place[panoptic]


def _image_counts(
    predicted: Int64[Tensor, "h w"], truth: Int64[Tensor, "h w"], classes: int
) -> PanopticCounts:
    """The counts of one image; in the truth, numbers from `1000 * classes` are crowds."""
    most = 1001 * classes
    segments, rows = _segments(predicted, most)
    answers, columns = _segments(truth, most)
    pairs = (rows * len(answers) + columns).flatten()
    both = pairs.bincount(minlength=len(segments) * len(answers)).reshape(len(segments), -1)
    area, void = both.sum(dim=1), both[:, 0]
    is_crowd = answers >= 1000 * classes
    label = segments // 1000
    answer = torch.where(is_crowd, answers - 1000 * classes, answers // 1000)
    same = label[:, None] == answer
    same[0] = False
    iou = both.double() / (area[:, None] + both.sum(dim=0) - both - void[:, None])
    pair = same & ~is_crowd & (iou > 0.5)
    forgiven = void + (both * (same & is_crowd)).sum(dim=1)
    row, column = pair.nonzero(as_tuple=True)
    found = answer[column]
    extra = label[~pair.any(dim=1) & (label > 0) & (2 * forgiven <= area)]
    missed = answer[~pair.any(dim=0) & (answer > 0) & ~is_crowd]
    return PanopticCounts(
        iou.new_zeros(classes).index_add_(0, found, iou[row, column]),
        *(labels.bincount(minlength=classes) for labels in (found, extra, missed)),
    )
