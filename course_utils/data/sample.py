"""What every source of pictures returns: one picture with all its answers."""

from typing import NamedTuple

from jaxtyping import Bool, Float, Int64
from torch import Tensor


class Sample(NamedTuple):
    """One picture and everything the lecture's tasks ask about it.

    A class has one number in all of these: its place in `class_names`. Number 0 is "background" (a detector's
    answer for "no object"); pixels that nobody labelled are `VOID` (255) in the semantic map.

    Attributes:
        image: RGB in 0..1.
        boxes: `x1, y1, x2, y2` in pixels, tight around each object's visible mask.
        labels: the class of each object, 1 or above.
        masks: the visible pixels of each object; no two overlap, except in COCO's files.
        semantic: the class of each pixel, or 255.
        panoptic: the segment of each pixel, `1000 * class + k` with k = 1, 2, ... for the objects of a
            class and k = 0 for stuff; 0 where the pixel is void. Written as R + 256 G + 65536 B it is COCO's
            panoptic PNG.
        class_names: the name of each class number.
        stuff: the class numbers that are stuff; the others are things.
        keypoints: COCO's 17 points of each object as `x, y, visibility` (0 absent, 1 hidden, 2
            visible); None where the source has no keypoints.
        captions: a phrase for each object; empty where the source has none.
    """

    image: Float[Tensor, "3 h w"]
    boxes: Float[Tensor, "n 4"]
    labels: Int64[Tensor, " n"]
    masks: Bool[Tensor, "n h w"]
    semantic: Int64[Tensor, "h w"]
    panoptic: Int64[Tensor, "h w"]
    class_names: tuple[str, ...]
    stuff: tuple[int, ...]
    keypoints: Float[Tensor, "n 17 3"] | None = None
    captions: tuple[str, ...] = ()
