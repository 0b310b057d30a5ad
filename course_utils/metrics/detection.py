"""How good detections are: COCO's average precision, from one matched detection to the twelve numbers.

The small functions come first, in the order in which one would compute by hand; `detection_metrics` does
the same for all images, classes, thresholds and sizes at once:

>>> iou = torch.tensor([[0.9, 0.0], [0.8, 0.0], [0.0, 0.6]])
>>> scores = torch.tensor([0.9, 0.8, 0.7])
>>> correct = match_detections(iou, scores, threshold=0.5) >= 0
>>> correct
tensor([ True, False,  True])
>>> average_precision(*precision_and_recall(scores, correct, ground_truths=2))
tensor(0.8350, dtype=torch.float64)
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Real
from torch import Tensor

from course_utils.core import (
    check_floating,
    check_fraction,
    check_labels,
    check_same_device,
    check_shape,
)
from course_utils.ops.boxes import box_area

# numpy rounds these steps as COCO's tool does; an IoU of exactly 0.6 must reach the threshold 0.6.
IOU_THRESHOLDS = torch.from_numpy(np.linspace(0.5, 0.95, 10))
RECALLS = torch.from_numpy(np.linspace(0, 1, 101))
SIZES = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
MOST_DETECTIONS = (1, 10, 100)


Images = Sequence[Mapping[str, Tensor]]  # for each image "labels", "boxes", ...: one row an object


class DetectionMetrics(NamedTuple):
    """COCO's twelve numbers and each class's AP, 0 to 1; nan where there is no object to find."""

    ap: float  # the mean over IoU thresholds 0.50, 0.55, ..., 0.95
    ap50: float
    ap75: float
    ap_small: float  # objects of at most 32 x 32 pixels
    ap_medium: float
    ap_large: float  # of at least 96 x 96
    ar1: float  # recall with one detection of a class in an image
    ar10: float
    ar100: float
    ar_small: float
    ar_medium: float
    ar_large: float
    ap_per_class: dict[int, float]  # by label


def mask_iou(masks1: Bool[Tensor, "n h w"], masks2: Bool[Tensor, "m h w"]) -> Float[Tensor, "n m"]:
    """Intersection over union of every mask of one set with every mask of another.

    Args:
        masks1: masks of one image.
        masks2: masks of the same image.

    Returns:
        IoU of `masks1[i]` and `masks2[j]`, from 0 to 1; two masks without a pixel have IoU 0.

    Raises:
        TypeError: the masks are not boolean.
        ValueError: a wrong shape, two sizes, or tensors on different devices.

    Source: same as `pycocotools.mask.iou`, from pixels.

    >>> mask_iou(torch.tensor([[[True, True, False]]]), torch.tensor([[[False, True, True]]]))
    tensor([[0.3333]], dtype=torch.float64)
    """
    _check_masks("masks1", masks1)
    _check_masks("masks2", masks2)
    check_shape("masks2", masks2, "m", *masks1.shape[1:])
    check_same_device(masks1=masks1, masks2=masks2)
    pixels1, pixels2 = masks1.flatten(1).double(), masks2.flatten(1).double()
    shared = pixels1 @ pixels2.T
    return shared / (pixels1.sum(dim=1)[:, None] + pixels2.sum(dim=1) - shared).clamp(min=1)


def match_detections(
    iou: Float[Tensor, "d g"], scores: Float[Tensor, " d"], threshold: float = 0.5
) -> Int64[Tensor, " d"]:
    """Give each detection, the surest first, the ground truth that it overlaps most of those still free.

    So a second detection of the same object finds it taken, and is a mistake.

    Args:
        iou: of each detection with each ground truth of its image and class.
        scores: how sure each detection is.
        threshold: the IoU must be at least this.

    Returns:
        For each detection the index of its ground truth, or -1.

    Raises:
        TypeError: not tensors, or not of floating-point numbers.
        ValueError: a wrong shape, or a threshold outside 0..1.

    Source: `COCOeval.evaluateImg` of pycocotools, without crowds and sizes.

    >>> match_detections(torch.tensor([[0.6], [0.9]]), torch.tensor([0.8, 0.7]))
    tensor([ 0, -1])
    """
    check_shape("iou", iou, "d", "g")
    check_floating("iou", iou)
    check_shape("scores", scores, len(iou))
    _check_scores("scores", scores)
    check_fraction("threshold", threshold)
    matches, free = [-1] * len(iou), set(range(iou.shape[1]))
    for detection in scores.argsort(descending=True, stable=True).tolist():
        overlaps = iou[detection].tolist()
        fits = [truth for truth in sorted(free) if overlaps[truth] >= threshold]
        if fits:
            best = max(reversed(fits), key=overlaps.__getitem__)  # of equals the last, as COCO
            matches[detection] = best
            free.remove(best)
    return torch.tensor(matches, dtype=torch.int64, device=iou.device)


def precision_and_recall(
    scores: Float[Tensor, " n"],
    correct: Bool[Tensor, "*cases n"],
    ground_truths: int | Int64[Tensor, "..."],
    ignored: Bool[Tensor, "*cases n"] | None = None,
) -> tuple[Float[Tensor, "*cases n"], Float[Tensor, "*cases n"]]:
    """How precise and how complete the first detection is, the first two, the first three, ...

    Precision = right / (right + wrong), recall = right / ground truths, with the surest detection first.

    Args:
        scores: how sure each detection is, of one class in all images.
        correct: whether it has found an object; one row for each case, such as a threshold.
        ground_truths: how many objects there are to find; or as many for each case.
        ignored: detections that count neither as right nor as wrong.

    Returns:
        Precision and recall, in the order of the scores. The recall is nan if there is nothing to find.

    Raises:
        TypeError: not tensors, or not of numbers that fit.
        ValueError: a wrong shape, or scores that are no finite numbers.

    >>> precision, recall = precision_and_recall(
    ...     torch.tensor([0.9, 0.8, 0.7]), torch.tensor([True, False, True]), ground_truths=2
    ... )
    >>> print(precision.tolist(), recall.tolist())
    [1.0, 0.5, 0.6666666666666666] [0.5, 0.5, 1.0]
    """
    check_shape("correct", correct, *correct.shape)
    check_shape("scores", scores, *correct.shape[-1:])
    _check_scores("scores", scores)
    wrong = ~correct if ignored is None else ~(correct | ignored)
    order = scores.argsort(descending=True, stable=True)
    right = correct[..., order].cumsum(-1, dtype=torch.float64)
    wrong = wrong[..., order].cumsum(-1, dtype=torch.float64)
    truths = torch.as_tensor(ground_truths, device=scores.device)[..., None]
    return right / (right + wrong).clamp(min=1), right / truths


def interpolate_precision(
    precision: Float[Tensor, "*cases n"], recall: Float[Tensor, "*cases n"]
) -> Float[Tensor, "*cases 101"]:
    """The best precision with which each of the recalls 0, 0.01, ..., 1 is reached or exceeded.

    This takes the zigzag out of the curve: what it shows never gets better to the right.

    Args:
        precision: from `precision_and_recall`.
        recall: the same.

    Returns:
        A precision for each of the 101 recalls; 0 where the recall is not reached.

    Raises:
        TypeError: not tensors, or not of floating-point numbers.
        ValueError: a wrong shape.

    >>> curve = interpolate_precision(
    ...     torch.tensor([1.0, 0.5, 2 / 3]), torch.tensor([0.5, 0.5, 1.0])
    ... )
    >>> curve[[0, 50, 51, 100]]
    tensor([1.0000, 1.0000, 0.6667, 0.6667])
    """
    check_shape("precision", precision, *precision.shape)
    check_shape("recall", recall, *precision.shape)
    check_floating("precision", precision)
    check_floating("recall", recall)
    best = precision.flip(-1).cummax(-1).values.flip(-1)  # of this place or any further right
    steps = RECALLS.to(recall).expand(*recall.shape[:-1], -1).contiguous()
    place = torch.searchsorted(recall.contiguous(), steps)
    return torch.nn.functional.pad(best, (0, 1)).gather(-1, place)


def average_precision(
    precision: Float[Tensor, "*cases n"], recall: Float[Tensor, "*cases n"]
) -> Float[Tensor, "*cases"]:
    """The area under the interpolated curve: the mean of its 101 heights.

    Args:
        precision: from `precision_and_recall`.
        recall: the same.

    Returns:
        0 to 1.

    Raises:
        TypeError: not tensors, or not of floating-point numbers.
        ValueError: a wrong shape.

    >>> average_precision(torch.tensor([1.0, 0.5, 2 / 3]), torch.tensor([0.5, 0.5, 1.0]))
    tensor(0.8350)
    """
    return interpolate_precision(precision, recall).mean(-1)


def detection_metrics(
    predictions: Images,
    targets: Images,
    *,
    iou_type: Literal["boxes", "masks"] = "boxes",
) -> DetectionMetrics:
    """COCO's twelve numbers of the detections in a set of images.

    Three kinds of detections count neither as right nor as wrong: those that match a crowd (many of them
    may match one crowd, and their IoU is the part of the detection that lies inside it); for the small,
    medium and large figures, those that match an object of another size, and those that match nothing and
    are of another size themselves. A class counts only if the targets have it; at most 100 detections of a
    class in an image count.

    Args:
        predictions: a dict for each image, as torchvision's detectors return it: "labels" `[n]` from 1 on,
            "scores" `[n]`, and "boxes" `[n, 4]` (`x1, y1, x2, y2` in pixels) or boolean "masks" `[n, h, w]`.
        targets: a dict for each image: "labels", and "boxes" or "masks"; where wanted "iscrowd" `[n]` and
            "area" `[n]`. Without "area" the pixels of the "masks" are counted, for boxes too, as in COCO's
            files; without masks it is the boxes' area.
        iou_type: what is compared, "boxes" or "masks".

    Returns:
        The metrics, as Python numbers.

    Raises:
        TypeError: something is not a dict, not a tensor, or not of numbers that fit.
        ValueError: lists of two lengths, a missing key, a wrong shape, a label below 1, a nan, tensors on
            different devices, or an unknown `iou_type`.

    Source: same as pycocotools' `COCOeval`, where nan is -1. torchmetrics' `MeanAveragePrecision` takes the
    same dicts, but rounds the thresholds to float32, and without "area" takes boxes' areas for boxes.

    >>> box = torch.tensor([[10.0, 10.0, 30.0, 30.0]])
    >>> target = {"boxes": box, "labels": torch.tensor([1])}
    >>> prediction = {"boxes": box + 1, "labels": torch.tensor([1]), "scores": torch.tensor([0.9])}
    >>> metrics = detection_metrics([prediction], [target])
    >>> metrics.ap, metrics.ap50, metrics.ap_large
    (0.7, 1.0, nan)
    """
    curves = _curves(predictions, targets, iou_type)
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
    """COCO's two large tables, over thresholds, recalls, classes, sizes and most detections."""

    labels: list[int]
    precision: Float[Tensor, "thresholds 101 classes sizes"]  # of at most 100 detections
    recall: Float[Tensor, "thresholds classes sizes most"]


class _Objects(NamedTuple):
    """The detections of all images, or the ground truths, one after the other."""

    label: Int64[Tensor, " n"]
    image: Int64[Tensor, " n"]
    group: Int64[Tensor, " n"]  # a number for each pair of a class and an image
    area: Float[Tensor, " n"]  # of the boxes or masks themselves


class _Pairs(NamedTuple):
    """A detection and a ground truth of one group."""

    found: Int64[Tensor, " p"]
    true: Int64[Tensor, " p"]
    iou: Float[Tensor, " p"]


def _curves(predictions: Images, targets: Images, iou_type: str) -> _Curves:
    """Match all detections; then draw the curves, one class after the other."""
    _check(predictions, targets, iou_type)
    found, true = _objects(predictions, iou_type), _objects(targets, iou_type)
    scores = _all(predictions, "scores").double()
    order = scores.argsort(descending=True, stable=True)
    rank = _rank(found.group, order)  # 0: the surest of its class in its image
    late = rank >= MOST_DETECTIONS[-1]
    crowd, area = (torch.cat([*map(of, targets)]) for of in (_crowd, _known_area))
    left_out = crowd[:, None] | _of_another_size(area)  # [m, sizes]: what need not be found

    pairs = _pairs(predictions, targets, found, true, crowd, iou_type)
    able = (pairs.iou >= IOU_THRESHOLDS[0]) & ~late[pairs.found]
    pairs = _Pairs(*(each[able] for each in pairs))
    matched, correct = _match(pairs, rank, true.group, crowd, left_out)
    doubtful = late[:, None] | _of_another_size(found.area)  # [n, sizes]
    ignored = ~correct & (matched | doubtful[:, :, None])

    labels = true.label.unique()
    axes = (len(IOU_THRESHOLDS), len(labels), len(SIZES))
    precision = scores.new_empty(axes[0], len(RECALLS), *axes[1:])
    recall = scores.new_empty(*axes, len(MOST_DETECTIONS))
    for number, label in enumerate(labels):
        mine = (found.label == label).nonzero()[:, 0]
        truths = (~left_out)[true.label == label].sum(dim=0)  # [sizes]
        hits, skip = (each[mine].permute(2, 1, 0).contiguous() for each in (correct, ignored))
        curve = interpolate_precision(*precision_and_recall(scores[mine], hits, truths, skip))
        precision[:, :, number] = (curve * (truths / truths)[:, None]).movedim(2, 1)  # 0 / 0 is nan
        for column, most in enumerate(MOST_DETECTIONS):
            right = (hits & (rank[mine] < most)).sum(dim=2)  # [thresholds, sizes]
            recall[:, number, :, column] = right.double() / truths
    return _Curves(labels.tolist(), precision, recall)


def _all(images: Images, key: str) -> Tensor:
    """The objects of all images, one after the other."""
    return torch.cat([objects[key] for objects in images])


def _objects(images: Images, iou_type: str) -> _Objects:
    """What is known of all objects alike."""
    label = _all(images, "labels")
    counts = torch.tensor([len(objects["labels"]) for objects in images])
    image = torch.arange(len(images)).repeat_interleave(counts).to(label.device)
    if iou_type == "boxes":
        area = box_area(_all(images, "boxes").double())
    else:
        area = torch.cat([_pixels(objects["masks"]) for objects in images])
    return _Objects(label, image, label * len(images) + image, area)


def _crowd(target: Mapping[str, Tensor]) -> Bool[Tensor, " m"]:
    """Which ground truths of an image stand for many objects."""
    return target.get("iscrowd", torch.zeros_like(target["labels"])).bool()


def _known_area(target: Mapping[str, Tensor]) -> Float[Tensor, " m"]:
    """The areas of an image's ground truths that decide between small, medium and large."""
    if "area" in target:
        return target["area"].double()
    return _pixels(target["masks"]) if "masks" in target else box_area(target["boxes"].double())


def _of_another_size(area: Float[Tensor, " n"]) -> Bool[Tensor, "n sizes"]:
    """For each of the sizes, whether an object is smaller or larger."""
    least, most = torch.tensor(list(SIZES.values()), dtype=area.dtype, device=area.device).T
    return (area[:, None] < least) | (area[:, None] > most)


def _order(*keys: Tensor) -> Int64[Tensor, " n"]:
    """The indices that sort by the first key, equals by the second, and so on; equals in all stay."""
    order = torch.arange(len(keys[0]), device=keys[0].device)
    for key in reversed(keys):
        order = order[key[order].argsort(stable=True)]
    return order


def _rank(group: Int64[Tensor, " n"], order: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """How many of its own group come before each, in this order."""
    order = order[group[order].argsort(stable=True)]
    ordered = group[order]
    rank = torch.empty_like(group)
    first = torch.searchsorted(ordered, ordered)
    rank[order] = torch.arange(len(group), device=group.device) - first
    return rank


def _pairs(
    predictions: Images,
    targets: Images,
    found: _Objects,
    true: _Objects,
    crowd: Bool[Tensor, " m"],
    iou_type: str,
) -> _Pairs:
    """The IoU of each detection with each ground truth of its group, if it can be a half."""
    order = true.group.argsort(stable=True)
    ordered = true.group[order]
    first = torch.searchsorted(ordered, found.group)
    counts = torch.searchsorted(ordered, found.group, right=True) - first
    row = torch.arange(len(counts), device=first.device).repeat_interleave(counts)
    before = counts.cumsum(0) - counts  # how many pairs the detections further up have
    column = order[torch.arange(len(row), device=first.device) + (first - before)[row]]
    if iou_type == "boxes":
        shared = _shared_area(_all(predictions, "boxes")[row], _all(targets, "boxes")[column])
    else:
        # With more than twice the other's area, an IoU of a half cannot be reached.
        area1, area2 = found.area[row], true.area[column]
        able = crowd[column] | (2 * torch.minimum(area1, area2) >= torch.maximum(area1, area2))
        row, column = row[able], column[able]
        shared = _shared_pixels(predictions, targets, found, true, row, column)
    # A crowd has no outline to be met: what counts is how much of the detection lies inside.
    area1, area2 = found.area[row], true.area[column]
    return _Pairs(row, column, shared / torch.where(crowd[column], area1, area1 + area2 - shared))


def _shared_area(boxes1: Real[Tensor, "p 4"], boxes2: Real[Tensor, "p 4"]) -> Float[Tensor, " p"]:
    """The area of the intersection, pair by pair."""
    boxes1, boxes2 = boxes1.double(), boxes2.double()
    left_top = torch.maximum(boxes1[:, :2], boxes2[:, :2])
    right_bottom = torch.minimum(boxes1[:, 2:], boxes2[:, 2:])
    return (right_bottom - left_top).clamp(min=0).prod(dim=1)


def _shared_pixels(
    predictions: Images,
    targets: Images,
    found: _Objects,
    true: _Objects,
    row: Int64[Tensor, " p"],
    column: Int64[Tensor, " p"],
) -> Float[Tensor, " p"]:
    """How many pixels both masks have, pair by pair, a few pairs of one image at a time."""
    image = found.image[row]
    counts = image.bincount(minlength=len(targets)).tolist()
    rows = (row - torch.searchsorted(found.image, image)).split(counts)  # numbers within the image
    columns = (column - torch.searchsorted(true.image, image)).split(counts)
    return torch.cat(
        [
            _pixels(prediction["masks"][few] & target["masks"][as_many])
            for prediction, target, *pairs in zip(predictions, targets, rows, columns)
            for few, as_many in zip(*(each.split(16) for each in pairs))
        ]
    )


def _pixels(masks: Bool[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """How many pixels each mask has, eight at a time.

    A boolean is a byte, so eight of them can be read as one number. The sum of up to 255 such numbers has
    in each of its bytes the sum of the bytes, for none of them overflows.
    """
    pixels = masks.flatten(1)
    pixels = torch.nn.functional.pad(pixels, (0, -pixels.shape[1] % (8 * 255)))
    sums = pixels.view(torch.int64).unflatten(1, (-1, 255)).sum(dim=2)
    return sums.view(torch.uint8).sum(dim=1).double()


def _match(
    pairs: _Pairs,
    rank: Int64[Tensor, " n"],
    group: Int64[Tensor, " m"],
    crowd: Bool[Tensor, " m"],
    left_out: Bool[Tensor, "m sizes"],
) -> tuple[Bool[Tensor, "n sizes thresholds"], Bool[Tensor, "n sizes thresholds"]]:
    """`match_detections` for all images, classes, sizes and thresholds: who is matched, who to be found.

    In each group the pairs stand in line: the surest detection first; of its ground truths the one that it
    overlaps most first, and those that are left out last. A pair matches if both are still free. The first
    of all lines take their turn at once, then the second ones, ...
    """
    sizes, thresholds = left_out.shape[1], IOU_THRESHOLDS.to(left_out.device)
    free = torch.ones(left_out.numel(), len(thresholds), dtype=torch.bool, device=left_out.device)
    matched = free.new_zeros(len(rank) * sizes, len(thresholds))
    correct = matched.clone()

    found, true, iou = (each.repeat_interleave(sizes) for each in pairs)  # each pair in all sizes
    size = torch.arange(len(iou), device=iou.device) % sizes
    crowd, left_out = crowd[true], left_out[true, size]
    line = _order(rank[found], left_out, -iou, -true)  # of equals the last first, as in COCO's tool
    turn = _rank(group[true] * sizes + size, line)

    fits, found, true = iou[:, None] >= thresholds, found * sizes + size, true * sizes + size
    for now in turn.argsort().split(turn.bincount().tolist()):
        new = fits[now] & free[true[now]] & ~matched[found[now]]
        matched[found[now]] |= new
        correct[found[now]] |= new & ~left_out[now, None]
        free[true[now]] &= ~new | crowd[now, None]
    return matched.unflatten(0, (-1, sizes)), correct.unflatten(0, (-1, sizes))


def _check_scores(name: str, scores: Tensor) -> None:
    """Raise unless these are finite numbers, one a detection."""
    check_shape(name, scores, "n")
    check_floating(name, scores)
    if not scores.isfinite().all():
        raise ValueError(f"{name}: expected finite numbers, got {scores.tolist()}")


def _check_masks(name: str, masks: Tensor) -> None:
    """Raise unless these are boolean masks."""
    check_shape(name, masks, "n", "h", "w")
    if masks.dtype != torch.bool:
        raise TypeError(f"{name}: expected torch.bool, got {masks.dtype}")


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
            check_shape(f'{name1}["masks"]', prediction["masks"], "n", height, width)


def _check_images(
    name: str, images: Images, needed: Sequence[str], optional: Sequence[str] = ()
) -> None:
    """Raise unless each dict has these keys, as many objects in all of them, and possible values."""
    for number, objects in enumerate(images):
        if not isinstance(objects, Mapping):
            raise TypeError(f"{name}[{number}]: expected a dict, got {type(objects).__name__}")
        for key in needed:
            if key not in objects:
                raise ValueError(f'{name}[{number}]: expected the key "{key}", got {list(objects)}')
        check_labels(f'{name}[{number}]["labels"]', objects["labels"])
        fields = {}
        for key in (key for key in (*needed, *optional) if key in objects):
            field, values = f'{name}[{number}]["{key}"]', objects[key]
            check_shape(field, values, len(objects["labels"]), *SHAPES[key])
            if key == "scores":
                check_floating(field, values)
            if key == "masks":
                _check_masks(field, values)
            fields[field] = values
        check_same_device(**fields)
    for key in VALUES:
        if key in (*needed, *optional):
            _check_values(name, images, key)


def _check_values(name: str, images: Images, key: str) -> None:
    """Raise unless all values of a key are possible: look at all at once, and only then for the bad one."""
    expected, good = VALUES[key]
    found = {number: each[key] for number, each in enumerate(images) if key in each}
    if found and not good(torch.cat([*found.values()])).all():
        number = next(number for number, values in found.items() if not good(values).all())
        row = int(good(found[number]).int().argmin())
        value = found[number][row].tolist()
        raise ValueError(
            f'{name}[{number}]["{key}"]: expected {expected}, but row {row} is {value}'
        )


def _ordered(boxes: Tensor) -> Tensor:
    """Which boxes are finite and not turned inside out."""
    return boxes.isfinite().all(dim=1) & (boxes[:, :2] <= boxes[:, 2:]).all(dim=1)


# One object's shape in each key of the dicts; and what its value must be, with how to tell.
SHAPES = {"labels": (), "scores": (), "boxes": (4,), "masks": ("h", "w"), "iscrowd": (), "area": ()}
VALUES = {
    "labels": ("1 or more", lambda labels: labels >= 1),
    "scores": ("finite numbers", torch.isfinite),
    "boxes": ("finite numbers, x1 <= x2 and y1 <= y2", _ordered),
    "iscrowd": ("0 or 1", lambda crowd: (crowd == 0) | (crowd == 1)),
    "area": ("square pixels, 0 or more", lambda area: area.isfinite() & (area >= 0)),
}
