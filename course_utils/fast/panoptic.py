"""Panoptic segmentation: the objects and the label map of a picture as one map without overlaps."""

from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from course_utils.core import (
    VOID,
    check_floating,
    check_fraction,
    check_labels,
    check_same_device,
    check_shape,
)


def merge_panoptic_loops(
    masks: Bool[Tensor, "n h w"],
    labels: Int64[Tensor, " n"],
    scores: Float[Tensor, " n"],
    semantic: Int64[Tensor, "h w"],
    *,
    stuff: Sequence[int],
    score_threshold: float = 0.5,
    overlap_threshold: float = 0.5,
    stuff_area: int = 64 * 64,
) -> Int64[Tensor, "h w"]:
    """`merge_panoptic` written out, pixel by pixel: best object first, then the stuff in what is left."""
    height, width = semantic.shape
    every_pixel = [(i, j) for i in range(height) for j in range(width)]
    panoptic, classes, objects = dict.fromkeys(every_pixel, 0), semantic.tolist(), Counter()
    sure = (scores >= score_threshold).tolist()
    # Best first; equal scores stay in order.
    for number in sorted(range(len(scores)), key=lambda number: -scores[number].item()):
        mask, label = masks[number].tolist(), labels[number].item()
        pixels = [(i, j) for i, j in every_pixel if mask[i][j]]
        taken = [pixel for pixel in pixels if panoptic[pixel] != 0]
        if not sure[number] or not pixels or len(taken) / len(pixels) > overlap_threshold:
            continue
        objects[label] += 1
        for pixel in pixels:
            panoptic[pixel] = panoptic[pixel] or 1000 * label + objects[label]
    for label in stuff:
        pixels = [(i, j) for i, j in every_pixel if classes[i][j] == label and not panoptic[i, j]]
        if len(pixels) >= stuff_area:
            panoptic.update(dict.fromkeys(pixels, 1000 * label))
    return torch.tensor(list(panoptic.values())).reshape(height, width)


def _extents(touched: Tensor) -> list[slice]:
    """From the first to the last pixel that each mask touches along an axis, of `[n, size]`."""
    first = touched.int().argmax(dim=1)
    last = touched.shape[1] - touched.flip(1).int().argmax(dim=1)
    return [slice(*ends) for ends in torch.stack([first, last], dim=1).tolist()]


def _windows(masks: Tensor) -> list[tuple[slice, slice]]:
    """The rows and columns of each mask. (As numbers: the largest boolean takes six times as long.)"""
    if len(masks) == 0:
        return []
    pixels = masks.view(torch.uint8)
    rows = _extents(pixels.amax(dim=2))
    columns = _extents(torch.stack([mask[band].amax(dim=0) for mask, band in zip(pixels, rows)]))
    return list(zip(rows, columns))


def _check_merge(
    masks: Tensor, labels: Tensor, scores: Tensor, semantic: Tensor, stuff: Sequence[int]
) -> None:
    """Raise unless these are masks of things, a label map, and classes that are stuff."""
    check_shape("masks", masks, "n", "h", "w")
    if masks.dtype != torch.bool:
        raise TypeError(f"masks: expected torch.bool, got {masks.dtype}")
    check_labels("labels", labels)
    check_shape("labels", labels, len(masks))
    check_shape("scores", scores, len(masks))
    check_floating("scores", scores)
    if scores.isnan().any():
        raise ValueError("scores: expected numbers, got nan")
    check_shape("semantic", semantic, *masks.shape[1:])
    if semantic.dtype != torch.int64:
        raise TypeError(f"semantic: expected torch.int64, got {semantic.dtype}")
    check_same_device(masks=masks, labels=labels, scores=scores, semantic=semantic)
    least, most = (int(end) for end in semantic.aminmax())
    if least < 0 or most > VOID:
        raise ValueError(
            f"semantic: expected classes from 0 to {VOID}, got {least if least < 0 else most}"
        )
    if wrong := [label for label in stuff if not 1 <= label < VOID]:
        raise ValueError(f"stuff: expected classes from 1 to {VOID - 1}, got {wrong[0]}")
    if wrong := [label for label in labels.tolist() if label < 1 or label in stuff]:
        raise ValueError(
            f"labels: expected things, 1 or above and none of stuff = {list(stuff)}, got {wrong[0]}"
        )


def merge_panoptic(
    masks: Bool[Tensor, "n h w"],
    labels: Int64[Tensor, " n"],
    scores: Float[Tensor, " n"],
    semantic: Int64[Tensor, "h w"],
    *,
    stuff: Sequence[int],
    score_threshold: float = 0.5,
    overlap_threshold: float = 0.5,
    stuff_area: int = 64 * 64,
) -> Int64[Tensor, "h w"]:
    """One answer for each pixel from two that contradict each other: objects that overlap, and a label map.

    Objects go first, the best before the others, and each takes those of its pixels that are still free;
    one whose pixels are mostly taken goes away as a whole: it is likely the same object again. Then stuff
    fills what is free. What the label map says of things is not used, for it knows no objects.

    Args:
        masks: the pixels of each object; they may overlap.
        labels: its class, 1 or above.
        scores: higher is better, and of equal scores the first object goes first.
        semantic: the class of each pixel.
        stuff: the classes that are stuff.
        score_threshold: an object goes away when its score is below this.
        overlap_threshold: an object goes away when `taken pixels / pixels` is above this, where better
            objects that stayed take pixels.
        stuff_area: a stuff class goes away when fewer free pixels than this have it. The default fits
            photos of 640 x 480 pixels, of which it is 1.3 %.

    Returns:
        The panoptic map: `1000 * class + k`, with k = 1, 2, ... for the objects of a class by falling score,
        k = 0 for stuff; 0 where the pixel is void. With the first few objects only, the map as it was then.

    Raises:
        TypeError: not tensors, or numbers of another type.
        ValueError: a wrong shape, a nan, a class that cannot be, an object whose class is stuff, more than
            999 objects of a class, thresholds outside 0..1, an area below 0, or tensors on different devices.

    Source: Kirillov et al., "Panoptic Segmentation", CVPR 2019, section 7, and, for the area of stuff,
    "Panoptic Feature Pyramid Networks", CVPR 2019; thresholds as in panopticapi's
    `combine_semantic_and_instance_predictions`.

    >>> cat, dog = torch.tensor([[[1, 1, 0, 0, 0]], [[0, 1, 1, 1, 0]]]).bool()
    >>> masks, labels, scores = (
    ...     torch.stack([cat, dog]),
    ...     torch.tensor([1, 2]),
    ...     torch.tensor([0.9, 0.8]),
    ... )
    >>> semantic = torch.tensor([[5, 5, 1, 2, 5]])
    >>> merge_panoptic(masks, labels, scores, semantic, stuff=[5], stuff_area=1)
    tensor([[1001, 1001, 2001, 2001, 5000]])
    >>> merge_panoptic(
    ...     masks, labels, scores, semantic, stuff=[5], stuff_area=2, overlap_threshold=0.3
    ... )
    tensor([[1001, 1001,    0,    0,    0]])
    """
    _check_merge(masks, labels, scores, semantic, stuff)
    check_fraction("score_threshold", score_threshold)
    check_fraction("overlap_threshold", overlap_threshold)
    if stuff_area < 0:
        raise ValueError(f"stuff_area: expected 0 or above, got {stuff_area}")
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] >= score_threshold]
    panoptic = torch.zeros_like(semantic)
    free = torch.ones_like(semantic, dtype=torch.bool)
    # An object is looked at in its own rows and columns only.
    windows, objects = _windows(masks), Counter()
    for number, label in zip(order.tolist(), labels[order].tolist()):
        window = windows[number]
        mask, unclaimed = masks[number][window], free[window]
        visible = mask & unclaimed
        area, shown = int(mask.count_nonzero()), int(visible.count_nonzero())
        if area == 0 or (area - shown) / area > overlap_threshold:
            continue
        objects[label] += 1
        if objects[label] > 999:
            raise ValueError(f"labels: expected up to 999 objects of a class, got more of {label}")
        panoptic[window].masked_fill_(visible, 1000 * label + objects[label])
        unclaimed ^= visible
    # The label map where no object is, and background elsewhere.
    left = semantic.byte() * free
    areas = left.flatten().bincount(minlength=VOID + 1).tolist()
    for label in stuff:
        if areas[label] >= stuff_area:
            panoptic.masked_fill_(left == label, 1000 * label)
    return panoptic
