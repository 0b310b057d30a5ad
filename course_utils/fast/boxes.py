"""Boxes: their area, their overlap, other ways to write them, and the pixels inside them."""

import math

import torch
from jaxtyping import Float, Real
from torch import Tensor

from course_utils.core import (
    check_boxes,
    check_floating,
    check_same_device,
    check_shape,
    check_size,
)


def _upcast(boxes: Tensor) -> Tensor:
    """Room for areas, in which float16 and integers below 64 bits overflow; each column apart in memory.

    All x1 side by side, then all y1: comparing every pair is many times faster so than four numbers a box.
    """
    wider = (
        torch.promote_types(boxes.dtype, torch.float32)
        if boxes.is_floating_point()
        else torch.int64
    )
    return boxes.T.to(wider).contiguous().T


def _ratio(part: Tensor, whole: Tensor, out: Tensor | None = None) -> Tensor:
    """part / whole, and 0 / 1 where both are 0 (never nan, also not in the gradient)."""
    return torch.div(part, torch.nn.functional.threshold(whole, 0, 1), out=out)


def _overlaps(boxes1: Tensor, boxes2: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection and union, of x1, y1, x2, y2 first; in place, as making room costs more than the sums."""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = boxes1, boxes2
    intersection = torch.minimum(ax2, bx2).sub_(torch.maximum(ax1, bx1)).clamp_(min=0)
    intersection.mul_(torch.minimum(ay2, by2).sub_(torch.maximum(ay1, by1)).clamp_(min=0))
    area1, area2 = (ax2 - ax1) * (ay2 - ay1), (bx2 - bx1) * (by2 - by1)
    return intersection, (area1 + area2).sub_(intersection)


def box_area(boxes: Real[Tensor, "n 4"]) -> Real[Tensor, " n"]:
    """Width times height of each box.

    Args:
        boxes: `x1, y1, x2, y2` in pixels.

    Returns:
        The areas in square pixels.

    Raises:
        TypeError: not a tensor, or not of numbers that fit.
        ValueError: the boxes have another shape, a nan, or swapped corners.

    Source: same as `torchvision.ops.box_area`.

    >>> box_area(torch.tensor([[0.0, 0.0, 4.0, 3.0]]))
    tensor([12.])
    """
    check_boxes("boxes", boxes)
    boxes = _upcast(boxes)
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def box_iou_loops(boxes1: Real[Tensor, "n 4"], boxes2: Real[Tensor, "m 4"]) -> Float[Tensor, "n m"]:
    """`box_iou` written out for one pair of boxes at a time, to read."""
    iou = torch.zeros(
        len(boxes1), len(boxes2), dtype=torch.promote_types(boxes1.dtype, torch.float32)
    )
    for i, (ax1, ay1, ax2, ay2) in enumerate(boxes1.tolist()):
        for j, (bx1, by1, bx2, by2) in enumerate(boxes2.tolist()):
            width = max(min(ax2, bx2) - max(ax1, bx1), 0)
            height = max(min(ay2, by2) - max(ay1, by1), 0)
            intersection = width * height
            union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - intersection
            iou[i, j] = intersection / union if union > 0 else 0
    return iou


def intersection_and_union(
    boxes1: Real[Tensor, "n 4"], boxes2: Real[Tensor, "m 4"]
) -> tuple[Real[Tensor, "n m"], Real[Tensor, "n m"]]:
    """The area that two boxes share and the area that they cover together, for every pair.

    Args:
        boxes1: `x1, y1, x2, y2` in pixels.
        boxes2: the same.

    Returns:
        |A and B| and |A or B| of `boxes1[i]` and `boxes2[j]`, in square pixels.

    Raises:
        TypeError: not a tensor, or not of numbers that fit.
        ValueError: the boxes have another shape, a nan, swapped corners, or live on different devices.

    >>> intersection_and_union(
    ...     torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0]])
    ... )
    (tensor([[2.]]), tensor([[6.]]))
    """
    check_boxes("boxes1", boxes1)
    check_boxes("boxes2", boxes2)
    check_same_device(boxes1=boxes1, boxes2=boxes2)
    return _overlaps(_upcast(boxes1).T[:, :, None], _upcast(boxes2).T[:, None, :])


def box_iou(boxes1: Real[Tensor, "n 4"], boxes2: Real[Tensor, "m 4"]) -> Float[Tensor, "n m"]:
    """Intersection over union of every box of one set with every box of another.

    IoU = |A and B| / |A or B| is 1 for equal boxes and 0 for boxes that share no area. It does not change
    when both boxes are scaled, which is why one threshold serves small and large objects.

    Args:
        boxes1: `x1, y1, x2, y2` in pixels.
        boxes2: the same.

    Returns:
        IoU of `boxes1[i]` and `boxes2[j]`, from 0 to 1.

    Raises:
        TypeError: not a tensor, or not of numbers that fit.
        ValueError: the boxes have another shape, a nan, swapped corners, or live on different devices.

    Source: same as `torchvision.ops.box_iou`, except that two boxes without area have IoU 0 here and
    nan there.

    >>> box_iou(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0]]))
    tensor([[0.3333]])
    """
    check_boxes("boxes1", boxes1)
    check_boxes("boxes2", boxes2)
    check_same_device(boxes1=boxes1, boxes2=boxes2)
    columns, rows = _upcast(boxes1).T[:, :, None], _upcast(boxes2).T[:, None, :]
    if columns.requires_grad or rows.requires_grad:  # The gradient needs the sums of all pairs.
        return _ratio(*_overlaps(columns, rows))
    dtype = torch.promote_types(torch.result_type(columns, rows), torch.float32)
    iou = torch.empty(len(boxes1), len(boxes2), dtype=dtype, device=columns.device)
    # A few boxes at a time, whose pairs stay in the processor's cache from the first sum to the division.
    few = max(1, 2**18 // max(1, len(boxes2)))
    for part, place in zip(columns.split(few, dim=1), iou.split(few)):
        _ratio(*_overlaps(part, rows), out=place)
    return iou


def generalized_box_iou_loops(
    boxes1: Real[Tensor, "n 4"], boxes2: Real[Tensor, "m 4"]
) -> Float[Tensor, "n m"]:
    """`generalized_box_iou` written out for one pair of boxes at a time, to read."""
    giou = box_iou_loops(boxes1, boxes2)
    for i, (ax1, ay1, ax2, ay2) in enumerate(boxes1.tolist()):
        for j, (bx1, by1, bx2, by2) in enumerate(boxes2.tolist()):
            enclosing = (max(ax2, bx2) - min(ax1, bx1)) * (max(ay2, by2) - min(ay1, by1))
            width = max(min(ax2, bx2) - max(ax1, bx1), 0)
            height = max(min(ay2, by2) - max(ay1, by1), 0)
            union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - width * height
            giou[i, j] -= (enclosing - union) / enclosing if enclosing > 0 else 0
    return giou


def generalized_box_iou(
    boxes1: Real[Tensor, "n 4"], boxes2: Real[Tensor, "m 4"]
) -> Float[Tensor, "n m"]:
    """IoU minus the share of the smallest enclosing box that neither box fills.

    Boxes that do not touch all have IoU 0, so IoU cannot say which is nearer. GIoU goes on falling, to -1,
    as they move apart, and so it has a gradient that pulls them together.

    Args:
        boxes1: `x1, y1, x2, y2` in pixels.
        boxes2: the same.

    Returns:
        GIoU of `boxes1[i]` and `boxes2[j]`, from -1 to 1.

    Raises:
        TypeError: not a tensor, or not of numbers that fit.
        ValueError: the boxes have another shape, a nan, swapped corners, or live on different devices.

    Source: Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019; same as
    `torchvision.ops.generalized_box_iou`, except that boxes whose enclosing box has no area give 0, not
    nan.

    >>> generalized_box_iou(
    ...     torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[3.0, 0.0, 4.0, 1.0]])
    ... )
    tensor([[-0.5000]])
    """
    intersection, union = intersection_and_union(boxes1, boxes2)
    boxes1, boxes2 = _upcast(boxes1), _upcast(boxes2)
    left_top = torch.minimum(boxes1[:, None, :2], boxes2[None, :, :2])  # [n, m, 2]
    right_bottom = torch.maximum(boxes1[:, None, 2:], boxes2[None, :, 2:])
    enclosing = (right_bottom - left_top).prod(dim=2)
    return _ratio(intersection, union) - _ratio(enclosing - union, enclosing)


def clip_boxes_to_image(boxes: Real[Tensor, "n 4"], size: tuple[int, int]) -> Real[Tensor, "n 4"]:
    """Move every corner that lies outside the image to the image's border.

    Args:
        boxes: `x1, y1, x2, y2` in pixels.
        size: the image's (height, width) in pixels.

    Returns:
        The clipped boxes. A box that lies wholly outside keeps no area.

    Raises:
        TypeError: not a tensor, or not of numbers that fit.
        ValueError: the boxes have another shape, a nan, or swapped corners; `size` is not above zero.

    Source: same as `torchvision.ops.clip_boxes_to_image`.

    >>> clip_boxes_to_image(torch.tensor([[-5.0, 2.0, 9.0, 30.0]]), (20, 8))
    tensor([[ 0.,  2.,  8., 20.]])
    """
    check_boxes("boxes", boxes)
    check_size("size", size)
    height, width = size
    return torch.stack([boxes[:, i].clamp(0, (width, height)[i % 2]) for i in range(4)], dim=1)


def box_convert(boxes: Real[Tensor, "n 4"], in_fmt: str, out_fmt: str) -> Real[Tensor, "n 4"]:
    """Rewrite boxes in another of the three usual forms.

    "xyxy" is two corners (this course, torchvision), "xywh" a corner and the size (COCO's files),
    "cxcywh" the centre and the size (the form in which box targets are computed).

    Args:
        boxes: in the form `in_fmt`, in pixels.
        in_fmt: "xyxy", "xywh" or "cxcywh".
        out_fmt: the same.

    Returns:
        The boxes in the form `out_fmt`.

    Raises:
        TypeError: not a tensor, or not of numbers that fit.
        ValueError: an unknown form, another shape, a nan, or a box of negative size.

    Source: same as `torchvision.ops.box_convert`; D2L's `box_corner_to_center` is "xyxy" to "cxcywh".

    >>> box_convert(torch.tensor([[10.0, 20.0, 14.0, 30.0]]), "xyxy", "cxcywh")
    tensor([[12., 25.,  4., 10.]])
    """
    for name, form in (("in_fmt", in_fmt), ("out_fmt", out_fmt)):
        if form not in ("xyxy", "xywh", "cxcywh"):
            raise ValueError(f'{name}: expected "xyxy", "xywh" or "cxcywh", got {form!r}')
    check_shape("boxes", boxes, "n", 4)
    first, second = boxes[:, :2], boxes[:, 2:]
    if in_fmt == "xyxy":
        corner, size = first, second - first
    else:
        corner, size = (first, second) if in_fmt == "xywh" else (first - second / 2, second)
    check_boxes("boxes", torch.cat([corner, corner + size], dim=1))
    if in_fmt == out_fmt:
        return boxes.clone()
    if out_fmt == "xyxy":
        return torch.cat([corner, corner + size], dim=1)
    return torch.cat([corner if out_fmt == "xywh" else corner + size / 2, size], dim=1)


def crop_and_resize_loops(
    image: Float[Tensor, "c h w"],
    boxes: Real[Tensor, "n 4"],
    output_size: tuple[int, int] = (224, 224),
) -> Float[Tensor, "n c oh ow"]:
    """`crop_and_resize` written out: cut the pixels of one box, let torch resize them, next box."""
    crops = [image.new_zeros(0, image.shape[0], *output_size)]
    for x1, y1, x2, y2 in boxes.tolist():
        left, top = math.floor(x1), math.floor(y1)
        right, bottom = max(math.ceil(x2), left + 1), max(math.ceil(y2), top + 1)
        pixels = image[None, :, max(top, 0) : bottom, max(left, 0) : right]
        crops.append(torch.nn.functional.interpolate(pixels, output_size, mode="bilinear"))
    return torch.cat(crops)


def _bilinear_taps(start: Tensor, stop: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each interval of whole pixels: the two pixels around each of `steps` positions, and the blend."""
    length = (stop - start)[:, None]  # [n, 1]
    middle = torch.arange(steps, device=start.device) + 0.5  # [steps]
    position = (middle * length / steps - 0.5).clamp(min=0)  # [n, steps], from the first centre
    lower = position.floor()
    upper = torch.minimum(lower + 1, length - 1)
    offset = start[:, None]
    return (offset + lower).long(), (offset + upper).long(), position - lower


def crop_and_resize(
    image: Float[Tensor, "c h w"],
    boxes: Real[Tensor, "n 4"],
    output_size: tuple[int, int] = (224, 224),
) -> Float[Tensor, "n c oh ow"]:
    """Cut the pixels of every box out of one image and stretch each crop to the same size.

    This is what Slow R-CNN feeds to its network, one forward pass a crop. A crop is made of whole pixels: a
    box is first grown outwards to the pixels it touches and cut at the image's border. Resizing is
    bilinear and stretches: a tall box and a wide box both come out square.

    Args:
        image: `[c, h, w]`.
        boxes: `x1, y1, x2, y2` in pixels.
        output_size: (height, width) of each crop; the lecture's 224 x 224 when left out.

    Returns:
        One crop a box, in order.

    Raises:
        TypeError: an image of whole numbers (divide by 255 first).
        ValueError: a wrong shape, a nan, swapped corners, a size that is not above zero, tensors on
            different devices, or a box without a pixel inside the image.

    Source: lecture, "Slow" R-CNN training; same as `torchvision.transforms.functional.resized_crop` with
    `antialias=False`, for all boxes at once.

    >>> image = torch.arange(16.0).reshape(1, 4, 4)
    >>> crop_and_resize(image, torch.tensor([[1.0, 1.0, 3.0, 3.0]]), (2, 2))
    tensor([[[[ 5.,  6.],
              [ 9., 10.]]]])
    """
    check_shape("image", image, "c", "h", "w")
    check_floating("image", image)
    check_boxes("boxes", boxes)
    check_size("output_size", output_size)
    check_same_device(image=image, boxes=boxes)
    height, width = image.shape[1:]
    # At least float32: float16 cannot count to 2049.
    boxes = boxes.to(torch.promote_types(image.dtype, torch.float32))
    left, top = boxes[:, 0].floor(), boxes[:, 1].floor()
    right = torch.maximum(boxes[:, 2].ceil(), left + 1).clamp(max=width)
    bottom = torch.maximum(boxes[:, 3].ceil(), top + 1).clamp(max=height)
    left, top = left.clamp(min=0), top.clamp(min=0)
    outside = (left >= right) | (top >= bottom)
    if outside.any():
        row = int(outside.int().argmax())
        raise ValueError(
            f"boxes: row {row}, {boxes[row].tolist()}, has no pixel inside the {height} x {width} image"
        )
    above, below, down = _bilinear_taps(top, bottom, output_size[0])  # [n, oh] each
    before, after, along = _bilinear_taps(left, right, output_size[1])  # [n, ow] each
    rows_above, rows_below = above[:, :, None], below[:, :, None]
    left_columns, right_columns = before[:, None, :], after[:, None, :]
    along, down = along[:, None, :].to(image.dtype), down[:, :, None].to(image.dtype)
    upper = torch.lerp(
        image[:, rows_above, left_columns], image[:, rows_above, right_columns], along
    )
    lower = torch.lerp(
        image[:, rows_below, left_columns], image[:, rows_below, right_columns], along
    )
    return torch.lerp(upper, lower, down).movedim(0, 1)  # [c, n, oh, ow] -> [n, c, oh, ow]
