"""Boxes: their area, their overlap, other formats to write them in, and the pixels inside them."""

import math

import torch
from jaxtyping import Float, Real
from torch import Tensor

from course_utils.core import (
    check_boxes,
    check_floating,
    check_rows,
    check_same_device,
    check_shape,
    check_size,
)


def _check_format(name: str, fmt: str) -> None:
    if fmt not in ("xyxy", "xywh", "cxcywh"):
        raise ValueError(f'{name}: expected "xyxy", "xywh" or "cxcywh", got {fmt!r}')


def _convert(boxes: Tensor, in_fmt: str, out_fmt: str) -> Tensor:
    """`box_convert` without its checks."""
    first, second = boxes[..., :2], boxes[..., 2:]
    if in_fmt == "xyxy":
        corner, size = first, second - first
    else:
        corner, size = (first, second) if in_fmt == "xywh" else (first - second / 2, second)
    if out_fmt == "xyxy":
        return torch.cat([corner, corner + size], dim=-1)
    return torch.cat([corner if out_fmt == "xywh" else corner + size / 2, size], dim=-1)


def _upcast(boxes: Tensor, whole: torch.dtype = torch.int64) -> Tensor:
    """A wider type: areas overflow float16 and small integers."""
    wide = torch.float32 if boxes.is_floating_point() else whole
    return boxes.to(torch.promote_types(boxes.dtype, wide))


def _corners(name: str, boxes: Tensor, fmt: str) -> Tensor:
    """The boxes as `x1, y1, x2, y2`, checked, in a type that has room for their areas."""
    _check_format("fmt", fmt)
    check_shape(name, boxes, ..., "n", 4)
    corners = boxes if fmt == "xyxy" else _convert(_upcast(boxes), fmt, "xyxy")
    check_boxes(name, corners, ..., "n", 4)
    return _upcast(corners)


def box_area(boxes: Real[Tensor, "*b n 4"], fmt: str = "xyxy") -> Real[Tensor, "*b n"]:
    """Width times height of each box.

    Args:
        boxes: `[..., n, 4]`, in pixels.
        fmt: the format of the boxes, "xyxy", "xywh" or "cxcywh".

    Returns:
        The areas in square pixels, `[..., n]`. As in torchvision, float16 becomes float32 and integers below
        32 bits become int32; give int64 boxes where an area can be above 2^31.

    Source: `torchvision.ops.box_area`.

    >>> box_area(torch.tensor([[0.0, 0.0, 4.0, 3.0]]))
    tensor([12.])
    """
    _corners("boxes", boxes, fmt)
    width, height = _convert(_upcast(boxes, torch.int32), fmt, "xywh")[..., 2:].unbind(dim=-1)
    return width * height


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
    boxes1: Real[Tensor, "*#b n 4"], boxes2: Real[Tensor, "*#b m 4"], fmt: str = "xyxy"
) -> tuple[Real[Tensor, "*#b n m"], Real[Tensor, "*#b n m"]]:
    """The area that two boxes share and the area that they cover together, for every pair.

    Args:
        boxes1: `[..., n, 4]`, in pixels.
        boxes2: `[..., m, 4]`, in pixels.
        fmt: the format of both, "xyxy", "xywh" or "cxcywh".

    Returns:
        |A and B| and |A or B| of `boxes1[i]` and `boxes2[j]`, in square pixels, `[..., n, m]` each.

    Source: `_box_inter_union` in torchvision.

    >>> intersection_and_union(
    ...     torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0]])
    ... )
    (tensor([[2.]]), tensor([[6.]]))
    """
    boxes1, boxes2 = _corners("boxes1", boxes1, fmt), _corners("boxes2", boxes2, fmt)
    check_same_device(boxes1=boxes1, boxes2=boxes2)
    left_top = torch.maximum(boxes1[..., :, None, :2], boxes2[..., None, :, :2])  # [..., n, m, 2]
    right_bottom = torch.minimum(boxes1[..., :, None, 2:], boxes2[..., None, :, 2:])
    width, height = (right_bottom - left_top).clamp(min=0).unbind(dim=-1)  # 0 where they are apart
    intersection = width * height  # [..., n, m]
    union = box_area(boxes1)[..., :, None] + box_area(boxes2)[..., None, :] - intersection
    return intersection, union


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, and 0 instead of nan where both are 0."""
    return part / torch.where(whole > 0, whole, 1)


def box_iou(
    boxes1: Real[Tensor, "*#b n 4"], boxes2: Real[Tensor, "*#b m 4"], fmt: str = "xyxy"
) -> Float[Tensor, "*#b n m"]:
    """Intersection over union of every box of one set with every box of another.

    IoU = |A and B| / |A or B| is 1 for equal boxes and 0 for boxes that share no area. It does not change
    when both boxes are scaled, which is why one threshold serves small and large objects.

    Args:
        boxes1: `[..., n, 4]`, in pixels.
        boxes2: `[..., m, 4]`, in pixels.
        fmt: the format of both, "xyxy", "xywh" or "cxcywh".

    Returns:
        IoU of `boxes1[i]` and `boxes2[j]`, from 0 to 1, `[..., n, m]`.

    Source: `torchvision.ops.box_iou`, except that two boxes without area have IoU 0 here and nan there.

    >>> box_iou(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0]]))
    tensor([[0.3333]])
    """
    intersection, union = intersection_and_union(boxes1, boxes2, fmt)
    return _ratio(intersection, union)


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
    boxes1: Real[Tensor, "*#b n 4"], boxes2: Real[Tensor, "*#b m 4"]
) -> Float[Tensor, "*#b n m"]:
    """IoU minus the share of the smallest enclosing box that neither box fills.

    Boxes that do not touch all have IoU 0, so IoU cannot say which is nearer. With C the smallest box around
    A and B, GIoU = IoU - |C without (A or B)| / |C| goes on falling, to -1, as they move apart, and so it has
    a gradient that pulls them together.

    Args:
        boxes1: `x1, y1, x2, y2` in pixels, `[..., n, 4]`.
        boxes2: the same, `[..., m, 4]`.

    Returns:
        GIoU of `boxes1[i]` and `boxes2[j]`, from -1 to 1, `[..., n, m]`.

    Source: Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019;
    `torchvision.ops.generalized_box_iou`, except that it gives nan where the enclosing box has no area.

    >>> generalized_box_iou(
    ...     torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[3.0, 0.0, 4.0, 1.0]])
    ... )
    tensor([[-0.5000]])
    """
    intersection, union = intersection_and_union(boxes1, boxes2)
    boxes1, boxes2 = _upcast(boxes1), _upcast(boxes2)
    left_top = torch.minimum(boxes1[..., :, None, :2], boxes2[..., None, :, :2])  # [..., n, m, 2]
    right_bottom = torch.maximum(boxes1[..., :, None, 2:], boxes2[..., None, :, 2:])
    width, height = (right_bottom - left_top).unbind(dim=-1)
    enclosing = width * height  # [..., n, m]
    return _ratio(intersection, union) - _ratio(enclosing - union, enclosing)


def clip_boxes_to_image(
    boxes: Real[Tensor, "*b n 4"], size: tuple[int, int]
) -> Real[Tensor, "*b n 4"]:
    """Move every corner that lies outside the image to the image's border.

    Args:
        boxes: `x1, y1, x2, y2` in pixels, `[..., n, 4]`.
        size: the image's (height, width) in pixels.

    Returns:
        The clipped boxes, `[..., n, 4]`. A box that lies wholly outside keeps no area.

    Source: `torchvision.ops.clip_boxes_to_image`.

    >>> clip_boxes_to_image(torch.tensor([[-5.0, 2.0, 9.0, 30.0]]), (20, 8))
    tensor([[ 0.,  2.,  8., 20.]])
    """
    check_boxes("boxes", boxes, ..., "n", 4)
    check_size("size", size)
    height, width = size
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)  # [..., n, 2] each
    return torch.stack([x, y], dim=-1).flatten(start_dim=-2)


def box_convert(boxes: Real[Tensor, "*b n 4"], in_fmt: str, out_fmt: str) -> Real[Tensor, "*b n 4"]:
    """Convert boxes from one of the three usual formats to another.

    "xyxy" is two corners (this course, torchvision), "xywh" a corner and the size (COCO's files), "cxcywh"
    the centre and the size (the format in which box targets are computed).

    Args:
        boxes: `[..., n, 4]` in the format `in_fmt`, in pixels.
        in_fmt: "xyxy", "xywh" or "cxcywh".
        out_fmt: the same.

    Returns:
        The boxes in the format `out_fmt`, `[..., n, 4]`.

    Source: `torchvision.ops.box_convert`; D2L's `box_corner_to_center` is "xyxy" to "cxcywh".

    >>> box_convert(torch.tensor([[10.0, 20.0, 14.0, 30.0]]), "xyxy", "cxcywh")
    tensor([[12., 25.,  4., 10.]])
    """
    _check_format("in_fmt", in_fmt)
    _check_format("out_fmt", out_fmt)
    _corners("boxes", boxes, in_fmt)
    return boxes.clone() if in_fmt == out_fmt else _convert(boxes, in_fmt, out_fmt)


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


def _pixels_of_boxes(image: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The first column and row that each box touches, and the last of each plus one; all inputs checked."""
    check_shape("image", image, "c", "h", "w")
    check_floating("image", image)
    check_boxes("boxes", boxes)
    check_same_device(image=image, boxes=boxes)
    height, width = image.shape[1:]
    boxes = boxes.to(
        torch.promote_types(image.dtype, torch.float32)
    )  # float16 ends counting at 2048
    left, top = boxes[:, 0].floor(), boxes[:, 1].floor()
    right = torch.maximum(boxes[:, 2].ceil(), left + 1).clamp(max=width)
    bottom = torch.maximum(boxes[:, 3].ceil(), top + 1).clamp(max=height)
    left, top = left.clamp(min=0), top.clamp(min=0)
    inside = (left < right) & (top < bottom)
    check_rows("boxes", boxes, inside, f"a pixel inside the {height} x {width} image")
    return left, top, right, bottom


def _neighbours(start: Tensor, stop: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of `steps` positions between two borders: the pixels before and after, and the second's weight."""
    length = (stop - start)[:, None]  # [n, 1]
    centre = torch.arange(steps, device=start.device) + 0.5  # [steps]
    position = (centre * length / steps - 0.5).clamp(
        min=0
    )  # [n, steps], from the first pixel's centre
    before = position.floor()
    after = torch.minimum(before + 1, length - 1)
    offset = start[:, None]
    return (offset + before).long(), (offset + after).long(), position - before


def crop_and_resize(
    image: Float[Tensor, "c h w"],
    boxes: Real[Tensor, "n 4"],
    output_size: tuple[int, int] = (224, 224),
) -> Float[Tensor, "n c oh ow"]:
    """Cut the pixels of every box out of one image and resize each crop to the same size.

    This is what Slow R-CNN feeds to its network, one forward pass per crop. A crop is made of whole pixels: a
    box is first grown outwards to the pixels it touches and clipped to the image. Resizing is bilinear and
    does not keep the aspect ratio: a tall box and a wide box both come out square.

    Args:
        image: `[c, h, w]`.
        boxes: `x1, y1, x2, y2` in pixels; each must touch a pixel of the image.
        output_size: (height, width) of each crop; 224 x 224 in the lecture.

    Returns:
        One crop per box.

    Source: lecture, "Slow" R-CNN training; `torchvision.transforms.functional.resized_crop` with
    `antialias=False`, for all boxes at once.

    >>> image = torch.arange(16.0).reshape(1, 4, 4)
    >>> crop_and_resize(image, torch.tensor([[1.0, 1.0, 3.0, 3.0]]), (2, 2))
    tensor([[[[ 5.,  6.],
              [ 9., 10.]]]])
    """
    check_size("output_size", output_size)
    left, top, right, bottom = _pixels_of_boxes(image, boxes)  # [n] each
    above, below, down = (y[:, :, None] for y in _neighbours(top, bottom, output_size[0]))
    before, after, along = (x[:, None, :] for x in _neighbours(left, right, output_size[1]))
    down, along = down.to(image.dtype), along.to(image.dtype)  # [n, oh, 1] and [n, 1, ow]
    upper = torch.lerp(image[:, above, before], image[:, above, after], along)  # [c, n, oh, ow]
    lower = torch.lerp(image[:, below, before], image[:, below, after], along)
    return torch.lerp(upper, lower, down).movedim(0, 1)
