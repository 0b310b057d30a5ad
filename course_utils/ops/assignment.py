"""Training targets: match boxes with the ground truth by IoU, label them, and draw a balanced sample."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from course_utils.core import (
    check_floating,
    check_fraction,
    check_labels,
    check_rows,
    check_same_device,
    check_shape,
    check_whole,
)

NEGATIVE = -1  # overlaps no ground truth enough: learns "background"
NEUTRAL = -2  # overlaps some, but too little to be positive: not used in training


def _check_quality(match_quality_matrix: Tensor) -> None:
    check_shape("match_quality_matrix", match_quality_matrix, "ground truths", "boxes")
    check_floating("match_quality_matrix", match_quality_matrix)
    check_rows("match_quality_matrix", match_quality_matrix, ~match_quality_matrix.isnan(), "IoUs")


def _check_thresholds(high_threshold: float, low_threshold: float) -> None:
    check_fraction("high_threshold", high_threshold)
    check_fraction("low_threshold", low_threshold)
    if low_threshold > high_threshold:
        raise ValueError(
            f"low_threshold: expected at most high_threshold = {high_threshold}, got {low_threshold}"
        )


def match_boxes_loops(
    match_quality_matrix: Float[Tensor, "m n"],
    high_threshold: float,
    low_threshold: float,
    allow_low_quality_matches: bool = False,
) -> Int64[Tensor, " n"]:
    """`match_boxes` written out for one box at a time, to read."""
    iou = match_quality_matrix
    truths, boxes = iou.shape
    matches = torch.full((boxes,), NEGATIVE)
    for j in range(boxes if truths else 0):
        best = max(range(truths), key=lambda i: iou[i, j])  # the first of equals
        if iou[best, j] >= high_threshold:
            matches[j] = best
        elif iou[best, j] >= low_threshold:
            matches[j] = NEUTRAL
        if allow_low_quality_matches and any(iou[i, j] == iou[i].max() > 0 for i in range(truths)):
            matches[j] = best
    return matches


def match_boxes(
    match_quality_matrix: Float[Tensor, "m n"],
    high_threshold: float,
    low_threshold: float,
    allow_low_quality_matches: bool = False,
) -> Int64[Tensor, " n"]:
    """Make every box positive, neutral or negative by its best IoU with the ground truth.

    Best IoU >= `high_threshold`: positive, and matched with that ground truth. Below `low_threshold`:
    negative. Between the two: neutral. The best-anchor rule (`allow_low_quality_matches`) saves a ground
    truth that no box reaches with `high_threshold`: the box that overlaps it most, and every box that
    ties, becomes positive.

    Args:
        match_quality_matrix: IoU of ground truth i with box j, `box_iou(ground_truth, boxes)`.
        high_threshold: positive from this IoU on.
        low_threshold: negative below this IoU.
        allow_low_quality_matches: apply the best-anchor rule.

    Returns:
        For each box the index of its ground truth, or `NEGATIVE` (-1), or `NEUTRAL` (-2).

    Source: lecture, "Slow" R-CNN training; Ren et al., NeurIPS 2015, section 3.1.2; torchvision's `Matcher`,
    with two differences: without ground truth every box is negative (there: an error), and a ground truth
    that overlaps no box claims none (there: every box that overlaps nothing).

    >>> iou = torch.tensor([[0.8, 0.4, 0.1, 0.0], [0.0, 0.0, 0.2, 0.0]])
    >>> match_boxes(iou, 0.5, 0.3)
    tensor([ 0, -2, -1, -1])
    >>> match_boxes(iou, 0.5, 0.3, allow_low_quality_matches=True)
    tensor([ 0, -2,  1, -1])
    """
    _check_quality(match_quality_matrix)
    _check_thresholds(high_threshold, low_threshold)
    if match_quality_matrix.numel() == 0:
        return match_quality_matrix.new_full(match_quality_matrix.shape[1:], NEGATIVE).long()
    best_iou, best_truth = match_quality_matrix.max(dim=0)  # [n] each
    matches = torch.where(best_iou < high_threshold, NEUTRAL, best_truth)
    matches = torch.where(best_iou < low_threshold, NEGATIVE, matches)
    if allow_low_quality_matches:
        best_for_truth = match_quality_matrix.amax(dim=1, keepdim=True)  # [m, 1]
        claimed = ((match_quality_matrix == best_for_truth) & (best_for_truth > 0)).any(dim=0)
        matches = torch.where(claimed, best_truth, matches)
    return matches


def match_boxes_one_to_one_loops(
    match_quality_matrix: Float[Tensor, "m n"], iou_threshold: float = 0.5
) -> Int64[Tensor, " n"]:
    """`match_boxes_one_to_one` written out: all pairs, best first, each box and each ground truth once."""
    truths, boxes = match_quality_matrix.shape
    matches = match_boxes_loops(match_quality_matrix, iou_threshold, iou_threshold)
    pairs = [
        (-match_quality_matrix[i, j].item(), j, i) for j in range(boxes) for i in range(truths)
    ]
    taken_truths, taken_boxes = set(), set()
    for _, j, i in sorted(pairs):
        if i not in taken_truths and j not in taken_boxes:
            matches[j] = i
            taken_truths.add(i)
            taken_boxes.add(j)
    return matches


def match_boxes_one_to_one(
    match_quality_matrix: Float[Tensor, "m n"], iou_threshold: float = 0.5
) -> Int64[Tensor, " n"]:
    """Another best-anchor rule: every ground truth gets a box of its own, the pair of highest IoU first.

    Take the highest IoU of the whole matrix, pair that ground truth with that box, cross out its row
    and column, repeat. The boxes left over are positive from `iou_threshold` on and negative below;
    none is neutral. Unlike `match_boxes`, two ground truths never lose to each other over one box.

    Args:
        match_quality_matrix: IoU of ground truth i with box j.
        iou_threshold: positive from this IoU on.

    Returns:
        For each box the index of its ground truth, or `NEGATIVE` (-1).

    Source: Liu et al., "SSD", ECCV 2016, section 2.2; D2L 14.4, whose `assign_anchor_to_bbox` takes the
    boxes and returns the same indices. With fewer boxes than ground truths it goes on with crossed-out
    pairs; here it stops.

    >>> match_boxes_one_to_one(torch.tensor([[0.4, 0.3], [0.3, 0.0]]))
    tensor([0, 1])
    """
    _check_quality(match_quality_matrix)
    check_fraction("iou_threshold", iou_threshold)
    matches = match_boxes(match_quality_matrix, iou_threshold, iou_threshold)
    left = match_quality_matrix.T.clone()  # [n, m]: of equal pairs, the first box wins
    boxes, truths = left.shape
    for _ in range(min(boxes, truths)):
        box, truth = divmod(int(left.argmax()), truths)
        matches[box] = truth
        left[box, :] = -1
        left[:, truth] = -1
    return matches


def class_targets_loops(
    matches: Int64[Tensor, " n"], labels: Int64[Tensor, " m"]
) -> Int64[Tensor, " n"]:
    """`class_targets` written out for one box at a time, to read."""
    targets = torch.zeros_like(matches)
    for j, match in enumerate(matches.tolist()):
        targets[j] = {NEGATIVE: 0, NEUTRAL: -1}[match] if match < 0 else labels[match]
    return targets


def class_targets(matches: Int64[Tensor, " n"], labels: Int64[Tensor, " m"]) -> Int64[Tensor, " n"]:
    """The class that each box should be given: its ground truth's, background, or none.

    For a region proposal network every object has the label 1, as it only tells objects from background.

    Args:
        matches: what `match_boxes` returned.
        labels: the class of each ground truth, 1 or above.

    Returns:
        The class of a positive box, 0 for a negative one, -1 for a neutral one (left out of the loss).

    Source: lecture, "Slow" R-CNN training.

    >>> class_targets(torch.tensor([0, -2, 1, -1]), torch.tensor([3, 7]))
    tensor([ 3, -1,  7,  0])
    """
    check_labels("matches", matches)
    check_labels("labels", labels)
    check_same_device(matches=matches, labels=labels)
    check_rows("labels", labels, labels >= 1, "classes of 1 or above (0 is background)")
    exists = (matches >= NEUTRAL) & (matches < len(labels))
    check_rows("matches", matches, exists, f"{NEUTRAL}..{len(labels) - 1} for {len(labels)} labels")
    table = torch.cat([labels, labels.new_tensor([-1, 0])])  # matches -2 and -1 count from its end
    return table[matches]


def balanced_sample_loops(
    labels: Int64[Tensor, " n"],
    batch_size_per_image: int,
    positive_fraction: float,
    *,
    generator: torch.Generator | None = None,
) -> tuple[Bool[Tensor, " n"], Bool[Tensor, " n"]]:
    """`balanced_sample` written out: shuffle the positives, take some, fill up with negatives."""
    positives = [j for j, label in enumerate(labels.tolist()) if label >= 1]
    negatives = [j for j, label in enumerate(labels.tolist()) if label == 0]
    limits = [int(batch_size_per_image * positive_fraction), batch_size_per_image]
    chosen = torch.zeros(2, len(labels), dtype=torch.bool)
    for row, candidates in enumerate((positives, negatives)):
        for place in torch.randperm(len(candidates), generator=generator).tolist():
            if chosen.sum() < limits[row]:
                chosen[row, candidates[place]] = True
    return chosen[0], chosen[1]


def balanced_sample(
    labels: Int64[Tensor, " n"],
    batch_size_per_image: int,
    positive_fraction: float,
    *,
    generator: torch.Generator | None = None,
) -> tuple[Bool[Tensor, " n"], Bool[Tensor, " n"]]:
    """Draw the boxes that enter the loss, so that thousands of negatives do not outweigh a few positives.

    At most `positive_fraction` of the batch are positives. Where there are fewer, negatives fill the
    batch up.

    Args:
        labels: for each box 1 or above (positive), 0 (negative) or -1 (neutral, never drawn).
        batch_size_per_image: how many boxes to draw.
        positive_fraction: the largest share of positives, 0..1.
        generator: the source of random numbers; torch's global one when left out.

    Returns:
        Two masks: the drawn positives and the drawn negatives.

    Source: Girshick, "Fast R-CNN", ICCV 2015, section 2.3; torchvision's `BalancedPositiveNegativeSampler`
    on one image, with the same draws from the same seed.

    >>> positive, negative = balanced_sample(torch.tensor([2, 0, 0, 0, -1]), 3, 0.5)
    >>> int(positive.sum()), int(negative.sum())
    (1, 2)
    """
    check_labels("labels", labels)
    check_fraction("positive_fraction", positive_fraction)
    check_whole("batch_size_per_image", batch_size_per_image)
    positives = torch.nonzero(labels >= 1)[:, 0]
    negatives = torch.nonzero(labels == 0)[:, 0]
    take_positives = min(len(positives), int(batch_size_per_image * positive_fraction))
    take_negatives = min(len(negatives), batch_size_per_image - take_positives)
    masks = []
    for candidates, count in ((positives, take_positives), (negatives, take_negatives)):
        device = generator.device if generator else labels.device
        order = torch.randperm(len(candidates), generator=generator, device=device)[:count]
        mask = torch.zeros_like(labels, dtype=torch.bool)
        mask[candidates[order.to(labels.device)]] = True
        masks.append(mask)
    return masks[0], masks[1]
