"""Masks: which pixels belong to an object."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from course_utils.core import check_shape


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
