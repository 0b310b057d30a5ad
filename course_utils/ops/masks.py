"""Masks: their boxes, polygons drawn as masks, and the small masks that Mask R-CNN's head predicts."""

import math
from collections.abc import Sequence
from itertools import product

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor

from course_utils.core import (
    check_boxes,
    check_floating,
    check_fraction,
    check_masks,
    check_rows,
    check_same_device,
    check_shape,
    check_size,
)
from course_utils.ops.roi import linear_weights, sampling_matrix


def masks_to_boxes_loops(masks: Bool[Tensor, "n h w"]) -> Float[Tensor, "n 4"]:
    """`masks_to_boxes` written out: look at every pixel and remember the outermost ones."""
    boxes = []
    for mask in masks.tolist():
        pixels = [(i, j) for i, row in enumerate(mask) for j, inside in enumerate(row) if inside]
        rows, columns = [i for i, _ in pixels], [j for _, j in pixels]
        boxes.append([min(columns), min(rows), max(columns) + 1, max(rows) + 1])
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


def masks_to_boxes(masks: Bool[Tensor, "n h w"]) -> Float[Tensor, "n 4"]:
    """The tight box around each mask.

    A pixel is a square: the one in column 3 reaches from x = 3 to x = 4. So a box ends at the far edge of its
    last pixel, and its width is the number of columns it covers.

    Args:
        masks: one mask per object, each with at least one pixel.

    Returns:
        `x1, y1, x2, y2` in pixels.

    Source: `torchvision.ops.masks_to_boxes` returns the indices of the outermost pixels instead: its x2 and
    y2 are smaller by 1.

    >>> masks_to_boxes(torch.tensor([[[False, True, True], [False, True, False]]]))
    tensor([[1., 0., 3., 2.]])
    """
    check_masks("masks", masks)
    height, width = masks.shape[1:]
    columns, rows = masks.any(dim=1), masks.any(dim=2)  # [n, w], [n, h]: with at least one pixel
    check_rows("masks", rows.any(dim=1), rows.any(dim=1), "a pixel in each mask")
    left, top = columns.int().argmax(dim=1), rows.int().argmax(dim=1)  # the first True
    right = width - columns.flip(1).int().argmax(dim=1)
    bottom = height - rows.flip(1).int().argmax(dim=1)
    return torch.stack([left, top, right, bottom], dim=1).float()


# --- polygons


def polygon_mask_loops(
    points: Sequence[Sequence[float | int]], size: tuple[int, int]
) -> Bool[Tensor, "h w"]:
    """`polygon_mask` written out: for each pixel, count the edges to the left of its centre."""
    mask = torch.zeros(size, dtype=torch.bool)
    for i, j in product(range(size[0]), range(size[1])):
        y, x = i + 0.5, j + 0.5
        for edge in zip(points, [*points[1:], points[0]]):
            (y1, x1), (y2, x2) = sorted((y, x) for x, y in edge)  # from top to bottom
            if y1 <= y < y2 and x1 + (x2 - x1) * (y - y1) / (y2 - y1) <= x:
                mask[i, j] = not mask[i, j]
    return mask


def _check_polygon(points: Sequence[Sequence[float | int]], size: tuple[int, int]) -> None:
    """Raise unless these are three or more corners, and the size of an image."""
    if len(points) < 3:
        raise ValueError(f"points: expected 3 corners or more, got {len(points)}")
    if not all(len(point) == 2 and all(map(math.isfinite, point)) for point in points):
        raise ValueError("points: expected two finite numbers x, y for each corner")
    check_size("size", size)


def polygon_mask(
    points: Sequence[Sequence[float | int]], size: tuple[int, int]
) -> Bool[Tensor, "h w"]:
    """The pixels whose centres lie inside a polygon, by the even-odd rule.

    Walk along a row from the left: every edge that you cross takes you from outside to inside or back, so a
    pixel is inside if the number of edges to its left is odd. A centre on a left or upper edge is inside, one
    on a right or lower edge outside: two polygons that share an edge share no pixel.

    Args:
        points: three or more corners `x, y` in continuous pixel coordinates; the last joins the first.
        size: (height, width) of the mask in pixels.

    Returns:
        True inside.

    >>> polygon_mask([(0, 0), (4, 0), (0, 4)], (4, 4)).int()
    tensor([[1, 1, 1, 0],
            [1, 1, 0, 0],
            [1, 0, 0, 0],
            [0, 0, 0, 0]], dtype=torch.int32)
    """
    _check_polygon(points, size)
    height, width = size
    start = torch.tensor(points, dtype=torch.float64)
    end = start.roll(-1, dims=0)
    upwards = start[:, 1:] > end[:, 1:]
    x1, y1 = torch.where(upwards, end, start).T  # each edge from top to bottom
    x2, y2 = torch.where(upwards, start, end).T
    y = torch.arange(height, dtype=torch.float64) + 0.5
    edge, row = ((y1[:, None] <= y) & (y < y2[:, None])).nonzero(as_tuple=True)
    crossing = x1[edge] + (x2 - x1)[edge] * (y[row] - y1[edge]) / (y2 - y1)[edge]
    column = (crossing - 0.5).ceil().clamp(0, width).long()  # the first pixel right of the edge
    crossings = torch.bincount(row * (width + 1) + column, minlength=height * (width + 1))
    to_the_left = crossings.view(height, width + 1).cumsum(dim=1, dtype=torch.uint8)  # 255 + 1 = 0
    return (to_the_left[:, :width] & 1).bool()  # an odd number


# --- Mask R-CNN


def check_crop(
    masks: Bool[Tensor, "n h w"], boxes: Real[Tensor, "n 4"], output_size: tuple[int, int]
) -> Float[Tensor, "n 4"]:
    """Check the arguments of `crop_masks`.

    Args:
        masks: as in `crop_masks`.
        boxes: as in `crop_masks`.
        output_size: as in `crop_masks`.

    Returns:
        The boxes in float32, or in float64 if they are so: float16 cannot represent 2049.

    >>> check_crop(torch.ones(1, 4, 4).bool(), torch.tensor([[0, 0, 4, 3]]), (28, 28))
    tensor([[0., 0., 4., 3.]])
    """
    check_masks("masks", masks)
    check_boxes("boxes", boxes, len(masks), 4)
    check_size("output_size", output_size)
    check_same_device(masks=masks, boxes=boxes)
    return boxes.to(torch.promote_types(boxes.dtype, torch.float32))


def _bilinear(pixels: list[list[float]], y: float, x: float) -> float:
    """The bilinear sample at (y, x). Up to one pixel outside it is the value at the border, further out 0."""
    height, width = len(pixels), len(pixels[0])
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    i, j = int(y), int(x)
    below, right = min(i + 1, height - 1), min(j + 1, width - 1)
    upper = pixels[i][j] + (x - j) * (pixels[i][right] - pixels[i][j])
    lower = pixels[below][j] + (x - j) * (pixels[below][right] - pixels[below][j])
    return upper + (y - i) * (lower - upper)


def crop_masks_loops(
    masks: Bool[Tensor, "n h w"],
    boxes: Real[Tensor, "n 4"],
    output_size: tuple[int, int] = (28, 28),
    aligned: bool = False,
) -> Float[Tensor, "n oh ow"]:
    """`crop_masks` written out: a bin is the mean of its samples, a sample is interpolated bilinearly."""
    boxes, (rows, columns) = check_crop(masks, boxes, output_size), output_size
    size = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0 if aligned else 1)
    samples = (size / size.new_tensor([columns, rows])).ceil().int()  # per bin, along x and y
    start = boxes[:, :2] - (0.5 if aligned else 0)
    crops = torch.zeros(len(masks), rows, columns, dtype=boxes.dtype)
    for n, mask in enumerate(masks.float().tolist()):
        (x1, y1), (width, height), (across, down) = (
            part[n].tolist() for part in (start, size, samples)
        )
        for i, j, a, b in product(range(rows), range(columns), range(down), range(across)):
            y = y1 + (i + (a + 0.5) / down) * height / rows
            x = x1 + (j + (b + 0.5) / across) * width / columns
            crops[n, i, j] += _bilinear(mask, y, x) / (down * across)
    return crops


def crop_masks(
    masks: Bool[Tensor, "n h w"],
    boxes: Real[Tensor, "n 4"],
    output_size: tuple[int, int] = (28, 28),
    aligned: bool = False,
) -> Float[Tensor, "n oh ow"]:
    """The target of Mask R-CNN's mask head: each mask cropped to its box and resized to 28 x 28.

    This is RoIAlign of the mask. Bilinear interpolation is separable: we can interpolate along the columns
    first and along the rows afterwards, so a crop is a product of three matrices, `rows @ mask @ columns.T`.

    Args:
        masks: the ground-truth mask of each box, in the whole image.
        boxes: `x1, y1, x2, y2` in pixels; usually the proposals that were matched.
        output_size: (height, width) of each crop, in bins.
        aligned: as in `torchvision.ops.roi_align`. False, as in torchvision's Mask R-CNN: the centre of
            pixel j counts as x = j, and a box is at least one pixel wide and high. True: it counts as
            x = j + 0.5, as everywhere else in this course; `paste_masks` is the inverse of this one.

    Returns:
        The fraction of each bin that the mask covers, from 0 to 1.

    Source: He et al., "Mask R-CNN", ICCV 2017, section 3; same as `torchvision.ops.roi_align` of each mask
    with spatial_scale 1 and the adaptive sampling_ratio -1, which torchvision's `maskrcnn_loss` uses.

    >>> masks = torch.tensor([[[False, True, True, True], [False, False, False, True]]])
    >>> crop_masks(masks, torch.tensor([[0.0, 0.0, 4.0, 2.0]]), (2, 2), aligned=True)
    tensor([[[0.5000, 1.0000],
             [0.0000, 0.5000]]])
    """
    boxes = check_crop(masks, boxes, output_size)
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    (height, width), size = output_size, masks.shape[1:]
    rows = sampling_matrix(y1, y2, height, size[0], aligned=aligned)  # [n, oh, h]
    columns = sampling_matrix(x1, x2, width, size[1], aligned=aligned)  # [n, ow, w]
    return rows @ masks.to(boxes.dtype) @ columns.mT


def check_paste(
    masks: Float[Tensor, "n mh mw"],
    boxes: Real[Tensor, "n 4"],
    size: tuple[int, int],
    threshold: float,
) -> tuple[Float[Tensor, "n mh mw"], Float[Tensor, "n 4"]]:
    """Check the arguments of `paste_masks`.

    Args:
        masks: as in `paste_masks`.
        boxes: as in `paste_masks`.
        size: as in `paste_masks`.
        threshold: as in `paste_masks`.

    Returns:
        The masks and the boxes in one type, float32 or float64.

    >>> masks, boxes = torch.ones(1, 28, 28).half(), torch.tensor([[0, 0, 4, 3]])
    >>> [tensor.dtype for tensor in check_paste(masks, boxes, (8, 8), 0.5)]
    [torch.float32, torch.float32]
    """
    check_shape("masks", masks, "n", "h", "w")
    check_floating("masks", masks)
    check_boxes("boxes", boxes, len(masks), 4)
    check_size("size", size)
    check_fraction("threshold", threshold)
    check_same_device(masks=masks, boxes=boxes)
    common = torch.promote_types(torch.promote_types(masks.dtype, torch.float32), boxes.dtype)
    return masks.to(common), boxes.to(common)


def paste_masks_loops(
    masks: Float[Tensor, "n mh mw"],
    boxes: Real[Tensor, "n 4"],
    size: tuple[int, int],
    threshold: float = 0.5,
) -> Bool[Tensor, "n h w"]:
    """`paste_masks` written out: where in the small mask does the centre of each pixel lie?"""
    masks, boxes = check_paste(masks, boxes, size, threshold)
    pasted = torch.zeros(len(masks), *size, dtype=torch.bool)
    # With a border of zeros around it, a mask fades to 0 outside.
    padded = torch.nn.functional.pad(masks, (1, 1, 1, 1)).tolist()
    for image, mask, (x1, y1, x2, y2) in zip(pasted, padded, boxes.tolist()):
        if x1 == x2 or y1 == y2:
            continue
        for i, j in product(range(size[0]), range(size[1])):
            y = (i + 0.5 - y1) / (y2 - y1) * masks.shape[1] - 0.5
            x = (j + 0.5 - x1) / (x2 - x1) * masks.shape[2] - 0.5
            image[i, j] = _bilinear(mask, y + 1, x + 1) > threshold
    return pasted


def paste_masks(
    masks: Float[Tensor, "n mh mw"],
    boxes: Real[Tensor, "n 4"],
    size: tuple[int, int],
    threshold: float = 0.5,
) -> Bool[Tensor, "n h w"]:
    """Bring the small masks of Mask R-CNN's head back into the image: resize each to its box.

    The centre of every pixel lies somewhere among the 28 x 28 values of the mask, and its probability is
    interpolated bilinearly between four of them; outside the mask all values are 0. As in `crop_masks`, that
    is a product of three matrices.

    Args:
        masks: probabilities, `[n, 28, 28]` or of another size.
        boxes: `x1, y1, x2, y2` in pixels; parts outside the image are cut off.
        size: the image's (height, width) in pixels.
        threshold: a pixel belongs to the object when its probability is above this.

    Returns:
        One mask of the whole image per box. It is empty for a box without area.

    Source: as detectron2's `paste_masks_in_image`, in continuous coordinates.
    `torchvision.models.detection.roi_heads.paste_masks_in_image` works on whole pixels instead: it pads
    the mask with zeros, enlarges the box by 30 / 28, truncates its corners to integers, resizes the mask to
    that box and leaves the threshold to the caller. Its outlines are up to a pixel off.

    >>> paste_masks(torch.ones(1, 2, 2), torch.tensor([[1.0, 0.0, 3.0, 2.0]]), (3, 4)).int()
    tensor([[[0, 1, 1, 0],
             [0, 1, 1, 0],
             [0, 0, 0, 0]]], dtype=torch.int32)
    """
    masks, boxes = check_paste(masks, boxes, size, threshold)
    x1, y1, x2, y2 = boxes.T[..., None]  # [n, 1] each
    y, x = (torch.arange(pixels).to(boxes) + 0.5 for pixels in size)  # the centres of the pixels
    rows = linear_weights((y - y1) / (y2 - y1) * masks.shape[1] - 0.5, masks.shape[1])
    columns = linear_weights((x - x1) / (x2 - x1) * masks.shape[2] - 0.5, masks.shape[2])
    return rows @ masks @ columns.mT > threshold
