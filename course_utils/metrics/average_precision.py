"""Average precision of one class, step by step, in the order in which one would compute it by hand.

`course_utils.metrics.detection` combines these steps into COCO's protocol.

>>> iou = torch.tensor([[0.9, 0.0], [0.8, 0.0], [0.0, 0.6]])
>>> scores = torch.tensor([0.9, 0.8, 0.7])
>>> correct = match_detections(iou, scores, threshold=0.5) >= 0
>>> correct
tensor([ True, False,  True])
>>> average_precision(*precision_and_recall(scores, correct, ground_truths=2))
tensor(0.8350, dtype=torch.float64)
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from course_utils.core import (
    check_floating,
    check_fraction,
    check_masks,
    check_rows,
    check_same_device,
    check_shape,
    check_whole,
    on_cpu,
)

RECALLS = torch.from_numpy(np.linspace(0, 1, 101))  # rounded by numpy, as in COCO's tool


def mask_iou(masks1: Bool[Tensor, "n h w"], masks2: Bool[Tensor, "m h w"]) -> Float[Tensor, "n m"]:
    """Intersection over union of every mask of one set with every mask of another.

    Args:
        masks1: masks of one image.
        masks2: masks of the same image.

    Returns:
        IoU of `masks1[i]` and `masks2[j]`, from 0 to 1; two empty masks have IoU 0.

    Source: same as `pycocotools.mask.iou`, from pixels instead of run lengths.

    >>> mask_iou(torch.tensor([[[True, True, False]]]), torch.tensor([[[False, True, True]]]))
    tensor([[0.3333]], dtype=torch.float64)
    """
    check_masks("masks1", masks1)
    check_masks("masks2", masks2, "m", *masks1.shape[1:])
    check_same_device(masks1=masks1, masks2=masks2)
    pixels1, pixels2 = masks1.flatten(1).double(), masks2.flatten(1).double()
    intersection = pixels1 @ pixels2.T
    union = pixels1.sum(dim=1)[:, None] + pixels2.sum(dim=1) - intersection
    return intersection / union.clamp(min=1)


def match_detections(
    iou: Float[Tensor, "d g"], scores: Float[Tensor, " d"], threshold: float = 0.5
) -> Int64[Tensor, " d"]:
    """Match each detection, the most confident first, with the unmatched ground truth of highest IoU.

    A second detection of the same object finds it already matched, and is therefore a false positive.

    Args:
        iou: IoU of each detection with each ground truth, of one image and one class.
        scores: the confidence of each detection.
        threshold: the smallest IoU of a match.

    Returns:
        For each detection the index of its ground truth, or -1.

    Source: `COCOeval.evaluateImg` of pycocotools, without crowds and sizes. `detection_metrics` matches all
    images at once; the tests hold it to this loop.

    >>> match_detections(torch.tensor([[0.6], [0.9]]), torch.tensor([0.8, 0.7]))
    tensor([ 0, -1])
    """
    check_shape("iou", iou, "d", "g")
    check_floating("iou", iou)
    _check_scores(scores, len(iou))
    check_fraction("threshold", threshold)
    matches, free = [-1] * len(iou), set(range(iou.shape[1]))
    for detection in scores.argsort(descending=True, stable=True).tolist():
        overlaps = iou[detection].tolist()
        candidates = [truth for truth in sorted(free) if overlaps[truth] >= threshold]
        if candidates:
            best = max(reversed(candidates), key=overlaps.__getitem__)  # of ties the last, as COCO
            matches[detection] = best
            free.remove(best)
    return torch.tensor(matches, dtype=torch.int64, device=iou.device)


def precision_and_recall(
    scores: Float[Tensor, " n"],
    correct: Bool[Tensor, "*cases n"],
    ground_truths: int | Int64[Tensor, "..."],
    ignored: Bool[Tensor, "*cases n"] | None = None,
) -> tuple[Float[Tensor, "*cases n"], Float[Tensor, "*cases n"]]:
    """Precision and recall of the most confident detection alone, of the first two, the first three, ...

        precision = TP / (TP + FP)        recall = TP / ground truths

    Args:
        scores: the confidence of each detection of one class, in all images.
        correct: whether the detection matches a ground truth; one row for each case, such as a threshold.
        ground_truths: how many ground truths there are; one number, or one for each case.
        ignored: detections that count neither as true nor as false positives.

    Returns:
        Precision and recall, in the order of falling score. Without ground truths the recall is nan.

    >>> precision, recall = precision_and_recall(
    ...     torch.tensor([0.9, 0.8, 0.7]), torch.tensor([True, False, True]), ground_truths=2
    ... )
    >>> print(precision.tolist(), recall.tolist())
    [1.0, 0.5, 0.6666666666666666] [0.5, 0.5, 1.0]
    """
    check_masks("correct", correct, ..., "n")
    if ignored is not None:
        check_masks("ignored", ignored, *correct.shape)
    _check_scores(scores, correct.shape[-1])
    truths = _counts(ground_truths, scores.device)[..., None]
    wrong = ~correct if ignored is None else ~(correct | ignored)
    order = scores.argsort(descending=True, stable=True)
    true_positives = correct[..., order].cumsum(-1, dtype=torch.float64)
    false_positives = wrong[..., order].cumsum(-1, dtype=torch.float64)
    precision = true_positives / (true_positives + false_positives).clamp(min=1)
    recall = true_positives / torch.where(truths > 0, truths, torch.nan)
    return precision, recall


def interpolate_precision(
    precision: Float[Tensor, "*cases n"], recall: Float[Tensor, "*cases n"]
) -> Float[Tensor, "*cases 101"]:
    """The highest precision at which each of the recalls 0, 0.01, ..., 1 is reached or exceeded.

    This removes the zigzag from the curve: the interpolated precision never rises with the recall.

    Args:
        precision: from `precision_and_recall`.
        recall: from `precision_and_recall`.

    Returns:
        The precision at each of the 101 recalls; 0 where a recall is not reached, nan if the recall is nan.

    >>> curve = interpolate_precision(
    ...     torch.tensor([1.0, 0.5, 2 / 3]), torch.tensor([0.5, 0.5, 1.0])
    ... )
    >>> curve[[0, 50, 51, 100]]
    tensor([1.0000, 1.0000, 0.6667, 0.6667])
    """
    check_shape("precision", precision, ..., "n")
    check_shape("recall", recall, *precision.shape)
    check_floating("precision", precision)
    check_floating("recall", recall)
    highest = precision.flip(-1).cummax(-1).values.flip(-1)  # at this recall or any higher one
    recalls = RECALLS.to(recall).expand(*recall.shape[:-1], -1).contiguous()
    first = torch.searchsorted(recall.contiguous(), recalls)  # the first detection that reaches it
    curve = F.pad(highest, (0, 1)).gather(-1, first)
    return curve.masked_fill(recall.isnan().any(-1, keepdim=True), torch.nan)


def average_precision(
    precision: Float[Tensor, "*cases n"], recall: Float[Tensor, "*cases n"]
) -> Float[Tensor, "*cases"]:
    """The area under the interpolated curve: the mean of its 101 precisions.

    Args:
        precision: from `precision_and_recall`.
        recall: from `precision_and_recall`.

    Returns:
        AP, from 0 to 1; nan without ground truths, and 0 without detections.

    >>> average_precision(torch.tensor([1.0, 0.5, 2 / 3]), torch.tensor([0.5, 0.5, 1.0]))
    tensor(0.8350)
    """
    return interpolate_precision(precision, recall).mean(-1)


def _check_scores(scores: Tensor, count: int) -> None:
    """Raise unless these are finite numbers, one for each detection."""
    check_shape("scores", scores, count)
    check_floating("scores", scores)
    check_rows("scores", scores, scores.isfinite(), "finite numbers")


def _counts(ground_truths: int | Tensor, device: torch.device) -> Tensor:
    """The numbers of ground truths as a tensor; raise unless they are whole numbers of at least 0."""
    if not isinstance(ground_truths, Tensor):
        check_whole("ground_truths", ground_truths)
    elif ground_truths.dtype != torch.int64:
        raise TypeError(f"ground_truths: expected torch.int64, got {ground_truths.dtype}")
    elif on_cpu(ground_truths) and (ground_truths < 0).any():
        raise ValueError(f"ground_truths: expected at least 0, got {int(ground_truths.min())}")
    return torch.as_tensor(ground_truths, device=device)
