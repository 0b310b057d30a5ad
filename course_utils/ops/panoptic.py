"""Panoptic segmentation: merging objects and a semantic map into one map in which nothing overlaps."""

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
    check_masks,
    check_rows,
    check_same_device,
    check_shape,
    check_whole,
)


def check_merge(
    masks: Bool[Tensor, "n h w"],
    labels: Int64[Tensor, " n"],
    scores: Float[Tensor, " n"],
    semantic: Int64[Tensor, "h w"],
    stuff: Sequence[int],
    score_threshold: float,
    overlap_threshold: float,
    stuff_area: int,
) -> None:
    """Check the arguments of `merge_panoptic`.

    Args:
        masks: as in `merge_panoptic`.
        labels: as in `merge_panoptic`.
        scores: as in `merge_panoptic`.
        semantic: as in `merge_panoptic`.
        stuff: as in `merge_panoptic`.
        score_threshold: as in `merge_panoptic`.
        overlap_threshold: as in `merge_panoptic`.
        stuff_area: as in `merge_panoptic`.

    Returns:
        Nothing; it raises an error if an argument is wrong.

    >>> mask, one, half = torch.ones(1, 2, 2).bool(), torch.tensor([1]), torch.tensor([0.5])
    >>> check_merge(mask, one, half, torch.zeros(2, 2).long(), [1], 0.5, 0.5, 0)
    Traceback (most recent call last):
    ...
    ValueError: labels: expected things, 1 or above and none of stuff = [1], but row 0 is 1
    """
    check_masks("masks", masks)
    check_labels("labels", labels)
    check_shape("labels", labels, len(masks))
    check_shape("scores", scores, len(masks))
    check_floating("scores", scores)
    check_rows("scores", scores, ~scores.isnan(), "numbers")
    check_shape("semantic", semantic, *masks.shape[1:])
    if semantic.dtype != torch.int64:
        raise TypeError(f"semantic: expected torch.int64, got {semantic.dtype}")
    check_same_device(masks=masks, labels=labels, scores=scores, semantic=semantic)
    known = (semantic >= 0) & (semantic <= VOID)
    check_rows("semantic", semantic, known, f"classes from 0 to {VOID}")
    if wrong := [label for label in stuff if not 1 <= label < VOID]:
        raise ValueError(f"stuff: expected classes from 1 to {VOID - 1}, got {wrong[0]}")
    things = (labels >= 1) & ~torch.isin(labels, labels.new_tensor(list(stuff)))
    check_rows("labels", labels, things, f"things, 1 or above and none of stuff = {list(stuff)}")
    check_fraction("score_threshold", score_threshold)
    check_fraction("overlap_threshold", overlap_threshold)
    check_whole("stuff_area", stuff_area)


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
    """`merge_panoptic` written out, pixel by pixel: the best objects first, then stuff in the free pixels."""
    height, width = semantic.shape
    every_pixel = [(i, j) for i in range(height) for j in range(width)]
    panoptic, classes, objects = dict.fromkeys(every_pixel, 0), semantic.tolist(), Counter()
    confident = (scores >= score_threshold).tolist()
    # By falling score; objects of equal scores stay in order.
    for number in sorted(range(len(scores)), key=lambda number: -scores[number].item()):
        mask, label = masks[number].tolist(), labels[number].item()
        pixels = [(i, j) for i, j in every_pixel if mask[i][j]]
        taken = [pixel for pixel in pixels if panoptic[pixel] != 0]
        if not confident[number] or not pixels or len(taken) / len(pixels) > overlap_threshold:
            continue
        objects[label] += 1
        for pixel in pixels:
            panoptic[pixel] = panoptic[pixel] or 1000 * label + objects[label]
    for label in stuff:
        pixels = [(i, j) for i, j in every_pixel if classes[i][j] == label and not panoptic[i, j]]
        if len(pixels) >= stuff_area:
            panoptic.update(dict.fromkeys(pixels, 1000 * label))
    return torch.tensor(list(panoptic.values())).reshape(height, width)


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
    """Combine objects, which may overlap, and a semantic map into one label per pixel.

    Objects come first, by falling score, and each takes those of its pixels that are still free. An object
    is dropped if most of its pixels are taken, as it is probably a second detection of the same object. Stuff
    then fills the free pixels. Things in the semantic map are ignored, as it does not separate objects.

    Args:
        masks: the pixels of each object; they may overlap.
        labels: the class of each object, 1 or above.
        scores: higher is better; of equal scores the first object comes first.
        semantic: the class of each pixel.
        stuff: the classes that are stuff.
        score_threshold: objects with a score below this are dropped.
        overlap_threshold: an object is dropped if the fraction of its pixels that better objects have taken
            is above this.
        stuff_area: stuff classes with fewer free pixels than this are dropped. The default suits photos of
            640 x 480 pixels, of which it is 1.3 %.

    Returns:
        The panoptic map: `1000 * class + k`, where k = 1, 2, ... numbers the objects of a class by falling
        score, and is 0 for stuff; 0 where the pixel is void.

    Source: Kirillov et al., "Panoptic Segmentation", CVPR 2019, section 7, and, for the area of stuff,
    "Panoptic Feature Pyramid Networks", CVPR 2019; thresholds as in panopticapi's
    `combine_semantic_and_instance_predictions`.

    >>> masks = torch.tensor([[[1, 1, 0, 0, 0]], [[0, 1, 1, 1, 0]]]).bool()  # a cat and a dog
    >>> objects = masks, torch.tensor([1, 2]), torch.tensor([0.9, 0.8])
    >>> semantic = torch.tensor([[5, 5, 1, 2, 5]])
    >>> merge_panoptic(*objects, semantic, stuff=[5], stuff_area=1)
    tensor([[1001, 1001, 2001, 2001, 5000]])
    >>> merge_panoptic(*objects, semantic, stuff=[5], stuff_area=2, overlap_threshold=0.3)
    tensor([[1001, 1001,    0,    0,    0]])
    """
    thresholds = score_threshold, overlap_threshold, stuff_area
    check_merge(masks, labels, scores, semantic, stuff, *thresholds)
    panoptic, objects = torch.zeros_like(semantic), Counter()
    confident = (scores >= score_threshold).tolist()
    for number in scores.argsort(descending=True, stable=True).tolist():
        mask, label = masks[number], int(labels[number])
        free = mask & (panoptic == 0)
        area, taken = int(mask.sum()), int((mask & ~free).sum())
        if not confident[number] or area == 0 or taken / area > overlap_threshold:
            continue
        objects[label] += 1
        if objects[label] > 999:
            raise ValueError(f"labels: expected up to 999 objects per class, got more of {label}")
        panoptic = torch.where(free, 1000 * label + objects[label], panoptic)
    for label in stuff:
        region = (semantic == label) & (panoptic == 0)
        if region.sum() >= stuff_area:
            panoptic = torch.where(region, 1000 * label, panoptic)
    return panoptic
