"""Masks: which pixels belong to an object, and the small masks that Mask R-CNN's head predicts."""

import itertools
import math
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor

from course_utils.core import (
    check_boxes,
    check_floating,
    check_fraction,
    check_same_device,
    check_shape,
    check_size,
)


def masks_to_boxes_loops(masks: Bool[Tensor, "n h w"]) -> Float[Tensor, "n 4"]:
    """`masks_to_boxes` written out: look at every pixel, remember the outermost ones."""
    boxes = []
    for mask in masks.tolist():
        pixels = [(i, j) for i, row in enumerate(mask) for j, inside in enumerate(row) if inside]
        rows, columns = [i for i, _ in pixels], [j for _, j in pixels]
        boxes.append([min(columns), min(rows), max(columns) + 1, max(rows) + 1])
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


def masks_to_boxes(masks: Bool[Tensor, "n h w"]) -> Float[Tensor, "n 4"]:
    """The tight box around each mask.

    A pixel is a square: the one in column 3 reaches from x = 3 to x = 4. So a box ends one past its last
    pixel, and its width is the number of columns it covers.

    Args:
        masks: one mask an object.

    Returns:
        `x1, y1, x2, y2` in pixels.

    Raises:
        TypeError: the masks are not boolean.
        ValueError: a wrong shape, or a mask without a pixel.

    Source: `torchvision.ops.masks_to_boxes` returns the centres' numbers instead: its x2 and y2 are
    smaller by 1.

    >>> masks_to_boxes(torch.tensor([[[False, True, True], [False, True, False]]]))
    tensor([[1., 0., 3., 2.]])
    """
    check_shape("masks", masks, "n", "h", "w")
    if masks.dtype != torch.bool:
        raise TypeError(f"masks: expected torch.bool, got {masks.dtype}")
    empty = ~masks.flatten(1).any(dim=1)
    if empty.any():
        number = int(empty.int().argmax())
        raise ValueError(f"masks: expected a pixel in each, but mask {number} has none")
    height, width = masks.shape[1:]
    columns = masks.any(dim=1).int()  # [n, w]: 1 where the mask has a pixel in the column
    rows = masks.any(dim=2).int()  # [n, h]
    left, top = columns.argmax(dim=1), rows.argmax(dim=1)  # the first 1
    right, bottom = width - columns.flip(1).argmax(dim=1), height - rows.flip(1).argmax(dim=1)
    return torch.stack([left, top, right, bottom], dim=1).float()


def _floating(tensor: Tensor) -> Tensor:
    """At least float32: float16 cannot count to 2049."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _blend(pixels: list[list[float]], y: float, x: float) -> float:
    """The four pixels around (y, x), each by its nearness; at the border the last one, further out 0."""
    height, width = len(pixels), len(pixels[0])
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    i, j = int(y), int(x)
    below, right = min(i + 1, height - 1), min(j + 1, width - 1)
    upper = pixels[i][j] + (x - j) * (pixels[i][right] - pixels[i][j])
    lower = pixels[below][j] + (x - j) * (pixels[below][right] - pixels[below][j])
    return upper + (y - i) * (lower - upper)


def _crop_grid(
    boxes: Tensor, output_size: tuple[int, int], aligned: bool
) -> tuple[list[list[float]], list[list[float]], list[list[int]]]:
    """RoIAlign's grid: each box's first corner, its size and its samples a bin, all as (y, x)."""
    size = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0 if aligned else 1).flip(1)
    corner = boxes[:, :2].flip(1) - (0.5 if aligned else 0)
    samples = (size / size.new_tensor(output_size)).ceil().long()
    return corner.tolist(), size.tolist(), samples.tolist()


def crop_masks_loops(
    masks: Bool[Tensor, "n h w"],
    boxes: Real[Tensor, "n 4"],
    output_size: tuple[int, int] = (28, 28),
    aligned: bool = False,
) -> Float[Tensor, "n oh ow"]:
    """`crop_masks` written out: a bin is the mean of its samples, a sample the blend of four pixels."""
    boxes = _floating(boxes)
    crops = torch.zeros(len(masks), *output_size, dtype=boxes.dtype)
    grids = zip(*_crop_grid(boxes, output_size, aligned))
    for crop, mask, ((y1, x1), (height, width), (down, along)) in zip(
        crops, _floating(masks).tolist(), grids
    ):
        for i, j in itertools.product(range(output_size[0]), range(output_size[1])):
            for a, b in itertools.product(range(down), range(along)):
                y = y1 + (i + (a + 0.5) / down) * height / output_size[0]
                x = x1 + (j + (b + 0.5) / along) * width / output_size[1]
                crop[i, j] += _blend(mask, y, x) / (down * along)
    return crops


def _crop_weights(
    start: float, length: float, samples: int, bins: int, size: int, like: Tensor
) -> tuple[slice, Tensor]:
    """Along one axis: the pixels that a box touches, and `[bins, pixels]`, the part of each in each bin."""
    if samples == 0:
        return slice(0, 1), like.new_zeros(bins, 1)
    first = min(max(math.floor(start), 0), size - 1)
    last = max(min(math.floor(start + length) + 2, size), first + 1)
    pixel = torch.arange(first, last, dtype=like.dtype, device=like.device)
    sample = torch.arange(bins * samples, dtype=like.dtype, device=like.device)[:, None]
    position = start + (sample + 0.5) * (length / (bins * samples))
    inside = (position >= -1) & (position <= size)
    nearness = (1 - (position.clamp(0, size - 1) - pixel).abs()).clamp(min=0) * inside
    return slice(first, last), nearness.reshape(bins, samples, -1).mean(dim=1)


def crop_masks(
    masks: Bool[Tensor, "n h w"],
    boxes: Real[Tensor, "n 4"],
    output_size: tuple[int, int] = (28, 28),
    aligned: bool = False,
) -> Float[Tensor, "n oh ow"]:
    """The target of Mask R-CNN's mask head: each mask cut to its box and resized to 28 x 28.

    This is RoIAlign of the mask. Its blends fall apart into one along the rows and one along the columns, so
    a crop is two small matrices around the mask's pixels: `rows @ mask @ columns.T`.

    Args:
        masks: the ground-truth mask of each box, of the whole image.
        boxes: `x1, y1, x2, y2` in pixels; usually the proposals that matched.
        output_size: (height, width) of each crop, in bins.
        aligned: as in `torchvision.ops.roi_align`. False, as in torchvision's Mask R-CNN: the centre of
            pixel j counts as x = j, and a box is at least one pixel wide and high. True: it counts as
            x = j + 0.5, as everywhere else in this course; `paste_masks` undoes this one.

    Returns:
        The part of each bin that the mask covers, from 0 to 1.

    Raises:
        TypeError: the masks are not boolean, or the boxes not numbers that fit.
        ValueError: a wrong shape, not one box a mask, a nan, swapped corners, a size that is not above
            zero, or tensors on different devices.

    Source: He et al., "Mask R-CNN", ICCV 2017, section 3; same as `torchvision.ops.roi_align` of each mask
    with spatial_scale 1 and the adaptive sampling_ratio -1, which `maskrcnn_loss` uses.

    >>> masks = torch.tensor([[[False, True, True, True], [False, False, False, True]]])
    >>> crop_masks(masks, torch.tensor([[0.0, 0.0, 4.0, 2.0]]), (2, 2), aligned=True)
    tensor([[[0.5000, 1.0000],
             [0.0000, 0.5000]]])
    """
    check_shape("masks", masks, "n", "h", "w")
    if masks.dtype != torch.bool:
        raise TypeError(f"masks: expected torch.bool, got {masks.dtype}")
    check_boxes("boxes", boxes)
    check_shape("boxes", boxes, len(masks), 4)
    check_size("output_size", output_size)
    check_same_device(masks=masks, boxes=boxes)
    boxes = _floating(boxes)
    crops = boxes.new_zeros(len(masks), *output_size)
    grids = zip(*_crop_grid(boxes, output_size, aligned))
    for crop, mask, ((y1, x1), (height, width), (down, along)) in zip(crops, masks, grids):
        rows, top_to_bottom = _crop_weights(y1, height, down, output_size[0], mask.shape[0], boxes)
        columns, left_to_right = _crop_weights(
            x1, width, along, output_size[1], mask.shape[1], boxes
        )
        crop.copy_(top_to_bottom @ mask[rows, columns].to(crop.dtype) @ left_to_right.T)
    return crops


def paste_masks_loops(
    masks: Float[Tensor, "n mh mw"],
    boxes: Real[Tensor, "n 4"],
    size: tuple[int, int],
    threshold: float = 0.5,
) -> Bool[Tensor, "n h w"]:
    """`paste_masks` written out: where in the small mask does the centre of each pixel lie?"""
    pasted = torch.zeros(len(masks), *size, dtype=torch.bool)
    # A ring of zeros: beyond its border a mask fades out.
    framed = torch.nn.functional.pad(_floating(masks), (1, 1, 1, 1)).tolist()
    for image, mask, (x1, y1, x2, y2) in zip(pasted, framed, _floating(boxes).tolist()):
        if x1 == x2 or y1 == y2:
            continue
        for i, j in itertools.product(range(size[0]), range(size[1])):
            y = (i + 0.5 - y1) / (y2 - y1) * masks.shape[1] - 0.5
            x = (j + 0.5 - x1) / (x2 - x1) * masks.shape[2] - 0.5
            image[i, j] = _blend(mask, y + 1, x + 1) > threshold
    return pasted


def _paste_axis(
    start: Tensor, stop: Tensor, cells: int, size: int
) -> Iterator[tuple[slice, Tensor]]:
    """Along one axis, mask by mask: the pixels it reaches, and `[pixels, cells]`, how near its cells are."""
    pixel = torch.arange(size).to(start)
    position = (pixel + 0.5 - start[:, None]) / (stop - start)[:, None] * cells - 0.5
    fade = (stop - start) / cells / 2
    first = ((start - fade - 0.5).floor() + 1).clamp(0, size)
    last = torch.maximum((stop + fade - 0.5).ceil().clamp(max=size), first)
    cell = torch.arange(cells).to(start)
    for row, i, j in zip(position, first.long().tolist(), last.long().tolist()):
        yield slice(i, j), (1 - (row[i:j, None] - cell).abs()).clamp(min=0)


def paste_masks(
    masks: Float[Tensor, "n mh mw"],
    boxes: Real[Tensor, "n 4"],
    size: tuple[int, int],
    threshold: float = 0.5,
) -> Bool[Tensor, "n h w"]:
    """Bring the small masks of Mask R-CNN's head back into the image: stretch each over its box.

    The centre of every pixel falls somewhere into the 28 x 28 cells; its probability is the blend of the
    four cells around, where cells beyond the border count as 0. As in `crop_masks` that is two small
    matrices, and only the pixels near the box are looked at.

    Args:
        masks: probabilities, `[n, 28, 28]` or of another size.
        boxes: `x1, y1, x2, y2` in pixels; parts outside the image are cut off.
        size: the image's (height, width) in pixels.
        threshold: a pixel belongs to the object when its probability is above this.

    Returns:
        One mask of the whole image a box. A box without area gets none of its pixels.

    Raises:
        TypeError: not tensors, masks of whole numbers, or boxes that are not real numbers.
        ValueError: a wrong shape, not one box a mask, a nan, swapped corners, a size that is not above
            zero, a threshold outside 0..1, or tensors on different devices.

    Source: as detectron2's `paste_masks_in_image`, in continuous coordinates.
    `torchvision.models.detection.roi_heads.paste_masks_in_image` works on whole pixels instead: it frames
    the mask with zeros, enlarges the box by 30 / 28, cuts its corners down to whole numbers, resizes the
    mask to that box and leaves the threshold to the caller. Its outlines are up to a pixel off.

    >>> paste_masks(torch.ones(1, 2, 2), torch.tensor([[1.0, 0.0, 3.0, 2.0]]), (3, 4)).int()
    tensor([[[0, 1, 1, 0],
             [0, 1, 1, 0],
             [0, 0, 0, 0]]], dtype=torch.int32)
    """
    check_shape("masks", masks, "n", "h", "w")
    check_floating("masks", masks)
    check_boxes("boxes", boxes)
    check_shape("boxes", boxes, len(masks), 4)
    check_size("size", size)
    check_fraction("threshold", threshold)
    check_same_device(masks=masks, boxes=boxes)
    common = torch.promote_types(_floating(masks).dtype, boxes.dtype)
    masks, boxes = masks.to(common), boxes.to(common)
    pasted = masks.new_zeros(len(masks), *size, dtype=torch.bool)
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    vertical = _paste_axis(y1, y2, masks.shape[1], size[0])
    horizontal = _paste_axis(x1, x2, masks.shape[2], size[1])
    for image, mask, (rows, down), (columns, along) in zip(pasted, masks, vertical, horizontal):
        torch.gt(down @ mask @ along.T, threshold, out=image[rows, columns])
    return pasted
