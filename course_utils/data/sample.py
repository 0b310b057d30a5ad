"""What every data set returns: one image with its ground truth."""

from typing import NamedTuple

from jaxtyping import Bool, Float, Int64
from torch import Tensor


class Sample(NamedTuple):
    """One image with the ground truth of every task.

    A class has the same number in all fields, its index in `class_names`. Number 0 is "background" (in a
    detector: no object); unlabelled pixels are `VOID` (255) in the semantic map.

    Attributes:
        image: RGB in 0..1.
        boxes: `x1, y1, x2, y2` in pixels, tight around each object's visible mask.
        labels: the class of each object, 1 or above.
        masks: the visible pixels of each object; masks do not overlap, except in COCO's files.
        semantic: the class of each pixel, or 255.
        panoptic: the segment of each pixel, `1000 * class + k` with k = 1, 2, ... for the objects of a
            class and k = 0 for stuff; 0 where the pixel is void. COCO's panoptic PNG files store the same
            number as R + 256 G + 65536 B.
        class_names: the name of each class.
        stuff: the numbers of the stuff classes; all others are things.
        keypoints: COCO's 17 keypoints of each object as `x, y, visibility` (0 absent, 1 occluded, 2
            visible); None where the data set has none.
        captions: a phrase per object; empty where the data set has none.
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
