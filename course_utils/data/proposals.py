"""Region proposals without a proposal algorithm, to demonstrate how training targets are assigned."""

import torch
from jaxtyping import Float
from torch import Tensor

from course_utils.core import check_boxes, check_size, check_whole


def jittered_proposals(
    boxes: Float[Tensor, "n 4"],
    size: tuple[int, int],
    per_box: int,
    anywhere: int,
    *,
    seed: int = 0,
) -> Float[Tensor, "p 4"]:
    """Boxes such as selective search might propose: some around each object, others at random positions.

    A proposal around an object is the object's box with each side moved by up to half of the box's width or
    height. All proposals have integer coordinates inside the image and are at least 4 pixels wide and high.

    Args:
        boxes: the objects, `x1, y1, x2, y2` in pixels.
        size: the image's (height, width) in pixels, at least 8 x 8.
        per_box: the number of proposals around each object.
        anywhere: the number of proposals at random positions; their sides are a twelfth to half of the
            image's.
        seed: the same seed gives the same proposals on every machine.

    Returns:
        n * per_box + anywhere proposals, those around the first object first.

    >>> jittered_proposals(torch.tensor([[10.0, 10.0, 30.0, 20.0]]), (40, 40), 1, 0, seed=1).shape
    torch.Size([1, 4])
    """
    check_boxes("boxes", boxes)
    check_size("size", size)
    if min(size) < 8:
        raise ValueError(f"size: expected a height and width of at least 8 pixels, got {size}")
    check_whole("per_box", per_box)
    check_whole("anywhere", anywhere)
    height, width = size
    sides = torch.tensor([width, height])
    generator = torch.Generator().manual_seed(seed)
    shift = torch.rand(len(boxes), per_box, 4, generator=generator) - 0.5
    extent = (boxes[:, 2:] - boxes[:, :2]).cpu().repeat(1, 2)[:, None]  # [n, 1, 4]
    around = (boxes.cpu()[:, None] + shift * extent).reshape(-1, 4)
    uniform = torch.rand(anywhere, 4, generator=generator)
    extent = sides * (1 / 12 + uniform[:, 2:] * (1 / 2 - 1 / 12))
    corner = uniform[:, :2] * (sides - extent)
    proposals = torch.cat([around, torch.cat([corner, corner + extent], dim=1)]).round()
    top_left = torch.minimum(proposals[:, :2].clamp(min=0), sides - 4)
    bottom_right = torch.minimum(torch.maximum(proposals[:, 2:], top_left + 4), sides)
    return torch.cat([top_left, bottom_right], dim=1).to(boxes.device)
