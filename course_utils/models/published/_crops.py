"""Crops around boxes: cut out of a picture, resized to what a network takes, and its maps pasted back."""

import torch
from jaxtyping import Float, Real
from torch import Tensor
from torch.nn import functional as F

from course_utils.core import check_boxes

Windows = list[list[int]]  # left, top, right, bottom of each crop, in whole pixels


def windows(boxes: Real[Tensor, "n 4"], margin: float, height: int, width: int) -> Windows:
    """The whole pixels that boxes touch, with a margin on each side, inside an image.

    Args:
        boxes: `x1, y1, x2, y2` in pixels.
        margin: as a fraction of the box's width and height.
        height, width: of the image; of a box beyond its border, the nearest pixels are taken.

    >>> windows(torch.tensor([[10.0, 10.0, 20.0, 30.0]]), 0.1, height=31, width=100)
    [[9, 8, 21, 31]]
    """
    check_boxes("boxes", boxes)
    corners, size = boxes.double(), torch.tensor([width, height], device=boxes.device)
    grow = margin * (corners[:, 2:] - corners[:, :2])
    first = (corners[:, :2] - grow).floor().clamp(min=0).minimum(size - 1)
    last = (corners[:, 2:] + grow).ceil().minimum(size).maximum(first + 1)
    return torch.cat([first, last], dim=1).long().tolist()


def cut(
    image: Float[Tensor, "c h w"], where: Windows, size: int
) -> Float[Tensor, "_ c {size} {size}"]:
    """The crops, each resized to `size` x `size` pixels whatever its aspect ratio."""
    crops = [_resize(image[:, y1:y2, x1:x2], size, size) for x1, y1, x2, y2 in where]
    return torch.stack(crops) if crops else image.new_zeros(0, len(image), size, size)


def paste(
    maps: Float[Tensor, "n s s"], where: Windows, height: int, width: int
) -> Float[Tensor, "n {height} {width}"]:
    """A map of the whole image for each crop: the crop's own map, resized back, and 0 around it."""
    pasted = maps.new_zeros(len(maps), height, width)
    for whole, part, (x1, y1, x2, y2) in zip(pasted, maps, where, strict=True):
        whole[y1:y2, x1:x2] = _resize(part[None], y2 - y1, x2 - x1)[0]
    return pasted


def _resize(pixels: Float[Tensor, "c _ _"], height: int, width: int) -> Float[Tensor, "c _ _"]:
    return F.interpolate(pixels[None], (height, width), mode="bilinear", antialias=True)[0]
