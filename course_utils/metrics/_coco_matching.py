"""COCO's matching of detections with ground truths: all images, classes, sizes and IoU thresholds at once.

`course_utils.metrics.average_precision.match_detections` is the same for one image, class and threshold,
in a plain loop. The tests compare both.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64, Real
from torch import Tensor

from course_utils.ops.boxes import box_area

Images = Sequence[Mapping[str, Tensor]]  # for each image "labels", "boxes", ...: one row per object
Intersections = Callable[[Tensor, Tensor], Tensor]  # of detections and ground truths, pair by pair


class Matching(NamedTuple):
    """The detections of all images, one after the other, then the ground truths of all images."""

    label: Int64[Tensor, " n"]
    score: Float[Tensor, " n"]
    rank: Int64[Tensor, " n"]  # 0: the most confident detection of its class in its image
    correct: Bool[Tensor, "n sizes thresholds"]
    ignored: Bool[Tensor, "n sizes thresholds"]  # neither a true nor a false positive
    truth_label: Int64[Tensor, " m"]
    left_out: Bool[Tensor, "m sizes"]  # need not be found: a crowd, or of another size


class Instances(NamedTuple):
    """The detections of all images, or the ground truths, one after the other."""

    label: Int64[Tensor, " n"]
    image: Int64[Tensor, " n"]
    group: Int64[Tensor, " n"]  # one number for each pair of a class and an image
    area: Float[Tensor, " n"]


class Pairs(NamedTuple):
    """Pairs of a detection and a ground truth of one group, sorted by detection, then by ground truth."""

    detection: Int64[Tensor, " p"]
    truth: Int64[Tensor, " p"]
    iou: Float[Tensor, " p"]


PairFinder = Callable[[Bool[Tensor, " n"]], Pairs]  # of the detections that are counted


def match_images(
    predictions: Images,
    targets: Images,
    iou_type: str,
    thresholds: Float[Tensor, " thresholds"],
    sizes: Sequence[tuple[float, float]],
    most: int,
) -> Matching:
    """Match the detections of all images.

    Args:
        predictions, targets, iou_type: as in `course_utils.metrics.detection.detection_metrics`.
        thresholds: the IoU thresholds, in rising order.
        sizes: the smallest and the largest area of each size.
        most: how many detections of a class count in an image.
    """
    detections, truths = _instances(predictions, iou_type), _instances(targets, iou_type)
    crowd = torch.cat([*map(_crowd, targets)])
    if iou_type == "boxes":
        intersections = partial(
            _shared_areas, _all(predictions, "boxes").double(), _all(targets, "boxes").double()
        )
    else:
        intersections = partial(_shared_pixels, predictions, targets, detections, truths)
    find_pairs = partial(_pairs, detections, truths, crowd, intersections, float(thresholds[0]))
    truths = truths._replace(area=_official_areas(targets, truths.area))
    scores = _all(predictions, "scores")
    return match(detections, scores, truths, crowd, find_pairs, thresholds, sizes, most)


def match(
    detections: Instances,
    scores: Float[Tensor, " n"],
    truths: Instances,
    crowd: Bool[Tensor, " m"],
    find_pairs: PairFinder,
    thresholds: Float[Tensor, " thresholds"],
    sizes: Sequence[tuple[float, float]],
    most: int,
    never_found: int | None = None,
) -> Matching:
    """Match detections with ground truths, whatever they are compared by.

    Args:
        detections: with the area of their boxes or masks.
        scores: the confidence of each detection.
        truths: with the area that makes them small, medium or large.
        crowd: which ground truths stand for many objects.
        find_pairs: finds the pairs of one group whose IoU is at least the first threshold.
        thresholds, sizes, most: as in `match_images`.
        never_found: a ground truth whose detections count as wrong.
    """
    rank = _rank(detections.group, scores)
    counted = rank < most
    left_out = crowd[:, None] | _of_another_size(truths.area, sizes)
    matched, correct = _match(
        find_pairs(counted), rank, crowd, left_out, thresholds.to(rank.device), never_found
    )
    may_be_unmatched = ~counted[:, None] | _of_another_size(detections.area, sizes)
    ignored = ~correct & (matched | may_be_unmatched[:, :, None])
    return Matching(
        detections.label, scores.double(), rank, correct, ignored, truths.label, left_out
    )


def _all(images: Images, key: str) -> Tensor:
    """One field of all images, one after the other."""
    return torch.cat([image[key] for image in images])


def _instances(images: Images, iou_type: str) -> Instances:
    """What detections and ground truths have in common."""
    label = _all(images, "labels")
    counts = torch.tensor([len(image["labels"]) for image in images])
    image = torch.arange(len(images)).repeat_interleave(counts).to(label.device)
    if iou_type == "boxes":
        area = box_area(_all(images, "boxes").double())
    else:
        area = torch.cat([_pixels(each["masks"]) for each in images])
    return Instances(label, image, label * len(images) + image, area)


def _rank(group: Int64[Tensor, " n"], scores: Float[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """How many detections of its own group are more confident than each; of ties, the first comes first."""
    order = scores.argsort(descending=True, stable=True)
    order = order[group[order].argsort(stable=True)]  # by group, within a group by score
    ordered = group[order]
    rank = torch.empty_like(group)
    first = torch.searchsorted(ordered, ordered)
    rank[order] = torch.arange(len(group), device=group.device) - first
    return rank


def _crowd(target: Mapping[str, Tensor]) -> Bool[Tensor, " m"]:
    """Which ground truths of an image stand for many objects."""
    return target.get("iscrowd", torch.zeros_like(target["labels"])).bool()


def _official_areas(targets: Images, areas: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
    """The areas that make a ground truth small, medium or large: as given, else of its mask, else its own."""
    own = areas.split([len(target["labels"]) for target in targets])
    return torch.cat(
        [
            target["area"].double()
            if "area" in target
            else _pixels(target["masks"])
            if "masks" in target
            else area
            for target, area in zip(targets, own)
        ]
    )


def _of_another_size(
    area: Float[Tensor, " n"], sizes: Sequence[tuple[float, float]]
) -> Bool[Tensor, "n sizes"]:
    """For each of the sizes, whether an area is smaller or larger."""
    smallest, largest = torch.tensor(sizes, dtype=area.dtype, device=area.device).T
    return (area[:, None] < smallest) | (area[:, None] > largest)


def _pairs(
    detections: Instances,
    truths: Instances,
    crowd: Bool[Tensor, " m"],
    intersections: Intersections,
    least: float,
    counted: Bool[Tensor, " n"],
) -> Pairs:
    """All pairs of one group whose IoU is at least `least`, of the detections that are counted."""
    row, column = _pairs_of_equals(detections.group, counted, truths.group)
    found = []
    for some, others in zip(row.split(2**17), column.split(2**17)):  # a limit for the memory
        area1, area2 = detections.area[some], truths.area[others]
        # The IoU is at most the ratio of both areas (the factor allows for rounding).
        possible = torch.minimum(area1, area2) > 0.99 * least * torch.maximum(area1, area2)
        possible |= crowd[others]
        some, others, area1, area2 = (each[possible] for each in (some, others, area1, area2))
        shared = intersections(some, others)
        # Of a crowd only a region is known, so the part of the detection inside it counts.
        iou = shared / torch.where(crowd[others], area1, area1 + area2 - shared)
        enough = iou >= least
        found.append(Pairs(some[enough], others[enough], iou[enough]))
    return Pairs(*(torch.cat(parts) for parts in zip(*found)))


def _pairs_of_equals(
    group: Int64[Tensor, " n"], counted: Bool[Tensor, " n"], truth_group: Int64[Tensor, " m"]
) -> tuple[Int64[Tensor, " p"], Int64[Tensor, " p"]]:
    """The row and the column of each pair of a counted detection and a ground truth of the same group."""
    order = truth_group.argsort(stable=True)
    ordered = truth_group[order]
    first = torch.searchsorted(ordered, group)
    counts = torch.searchsorted(ordered, group, right=True) - first
    counts = counts.where(counted, 0)
    row = torch.arange(len(group), device=group.device).repeat_interleave(counts)
    earlier = counts.cumsum(0) - counts  # how many pairs the previous detections have
    return row, order[torch.arange(len(row), device=group.device) + (first - earlier)[row]]


def _shared_areas(
    boxes1: Real[Tensor, "n 4"],
    boxes2: Real[Tensor, "m 4"],
    row: Int64[Tensor, " p"],
    column: Int64[Tensor, " p"],
) -> Float[Tensor, " p"]:
    """The area of the intersection of two boxes, pair by pair."""
    boxes1, boxes2 = boxes1[row], boxes2[column]
    left_top = torch.maximum(boxes1[:, :2], boxes2[:, :2])
    right_bottom = torch.minimum(boxes1[:, 2:], boxes2[:, 2:])
    return (right_bottom - left_top).clamp(min=0).prod(dim=1)


def _shared_pixels(
    predictions: Images,
    targets: Images,
    detections: Instances,
    truths: Instances,
    row: Int64[Tensor, " p"],
    column: Int64[Tensor, " p"],
) -> Float[Tensor, " p"]:
    """How many pixels two masks share, pair by pair: 16 pairs of an image at a time."""
    image = detections.image[row]
    counts = image.bincount(minlength=len(targets)).tolist()
    rows = (row - torch.searchsorted(detections.image, image)).split(counts)  # within the image
    columns = (column - torch.searchsorted(truths.image, image)).split(counts)
    return torch.cat(
        [
            _pixels(prediction["masks"][some] & target["masks"][others])
            for prediction, target, *pairs in zip(predictions, targets, rows, columns)
            for some, others in zip(*(each.split(16) for each in pairs))
        ]
    )


def _pixels(masks: Bool[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """The number of pixels of each mask, faster than `sum`: eight pixels at a time.

    A boolean is a byte, so eight of them can be read as one int64. In the sum of up to 255 such numbers each
    byte is the sum of the bytes at its position, since none of them overflows.
    """
    pixels = masks.flatten(1)
    if any(place % 8 for place in (*pixels.shape[1:], pixels.stride(0), pixels.storage_offset())):
        aligned = pixels.new_zeros(len(pixels), pixels.shape[1] // 8 * 8 + 8)
        aligned[:, : pixels.shape[1]] = pixels
        pixels = aligned
    numbers = pixels.view(torch.int64)
    blocks, rest = numbers.shape[1] // 255, numbers.shape[1] % 255
    sums = numbers[:, : 255 * blocks].unflatten(1, (blocks, 255)).sum(dim=2)
    sums = torch.cat([sums, numbers[:, numbers.shape[1] - rest :].sum(dim=1, keepdim=True)], dim=1)
    return sums.view(torch.uint8).sum(dim=1).double()


def _match(
    pairs: Pairs,
    rank: Int64[Tensor, " n"],
    crowd: Bool[Tensor, " m"],
    left_out: Bool[Tensor, "m sizes"],
    thresholds: Float[Tensor, " thresholds"],
    never_found: int | None,
) -> tuple[Bool[Tensor, "n sizes thresholds"], Bool[Tensor, "n sizes thresholds"]]:
    """Which detections are matched, and which of them with a ground truth that is not left out.

    The most confident detections of all groups are matched first, then the second ones, ... Each takes the
    best ground truth that is still free: one that is left out only if there is no other, and of the others
    that of highest IoU, of ties the last. A crowd stays free.
    """
    rising = pairs.iou.argsort(stable=True).argsort()  # the later of two equal IoUs is higher
    preference = rising[:, None] + len(rising) * ~left_out[pairs.truth]  # [p, sizes]
    enough = pairs.iou[:, None, None] >= thresholds  # [p, 1, thresholds]
    free = torch.ones(*left_out.shape, len(thresholds), dtype=torch.bool, device=crowd.device)
    best = rising.new_full((len(rank), *free.shape[1:]), -1)
    turn = rank[pairs.detection]
    for now in turn.argsort().split(turn.bincount().tolist()):
        detection, truth = pairs.detection[now], pairs.truth[now]
        able = enough[now] & free[truth]  # [pairs of this turn, sizes, thresholds]
        value = preference[now, :, None].where(able, -1)
        best.scatter_reduce_(0, detection[:, None, None].expand_as(value), value, "amax")
        taken = able & (value == best[detection]) & ~crowd[truth, None, None]
        free[truth] &= ~taken
    if never_found is not None:
        wrong = preference[pairs.truth == never_found]
        best[torch.isin(best, wrong[wrong >= len(rising)])] = -1
    return best >= 0, best >= len(rising)
