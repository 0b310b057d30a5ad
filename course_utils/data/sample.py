"""What every data set returns: one image with its ground truth."""

from typing import NamedTuple

from jaxtyping import Bool, Float, Int64
from torch import Tensor


class Sample(NamedTuple):
    """One image with the ground truth of every task; None for what a data set does not have.

    A class has the same number in all fields, its index in `class_names`. Number 0 is "background" (in a
    detector: no object); unlabelled pixels are `VOID` (255) in the semantic map. A crowd, many objects that
    nobody outlined one by one, is one row of boxes, labels and masks with `iscrowd` True: COCO's evaluation
    needs it, and losses leave it out. Its pixels have a class in the semantic map, but no id in the panoptic.

    Attributes:
        image: RGB in 0..1.
        boxes: `x1, y1, x2, y2` in pixels, tight around each object's visible mask, except in COCO's files.
        labels: the class of each object, 1 or above.
        masks: the visible pixels of each object; masks do not overlap, except in COCO's files, where a mask
            without a pixel belongs to an object that has no outline.
        semantic: the class of each pixel, or 255.
        panoptic: the segment of each pixel, `1000 * class + k` with k = 1, 2, ... for the objects of a
            class and k = 0 for stuff; 0 where the pixel is void. COCO's panoptic PNG files store the same
            number as R + 256 G + 65536 B.
        class_names: the name of each class.
        stuff: the numbers of the stuff classes; all others are things.
        keypoints: COCO's 17 keypoints of each object as `x, y, visibility` (0 absent, 1 occluded, 2
            visible).
        captions: a phrase per object; empty where the data set has none.
        iscrowd: True for each row that is a crowd; None where the data set has no crowds.
        area: the size of each object in square pixels, as the data set states it; None: count the mask.
    """

    image: Float[Tensor, "3 h w"]
    boxes: Float[Tensor, "n 4"] | None
    labels: Int64[Tensor, " n"] | None
    masks: Bool[Tensor, "n h w"] | None
    semantic: Int64[Tensor, "h w"] | None
    panoptic: Int64[Tensor, "h w"] | None
    class_names: tuple[str, ...]
    stuff: tuple[int, ...]
    keypoints: Float[Tensor, "n 17 3"] | None = None
    captions: tuple[str, ...] = ()
    iscrowd: Bool[Tensor, " n"] | None = None
    area: Float[Tensor, " n"] | None = None
