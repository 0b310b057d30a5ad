"""Region proposals without a proposal algorithm, for looking at training targets."""

import torch
from jaxtyping import Float
from torch import Tensor

from course_utils.core import check_boxes, check_size


def jittered_proposals(
    boxes: Float[Tensor, "n 4"],
    size: tuple[int, int],
    per_box: int,
    anywhere: int,
    *,
    seed: int = 0,
) -> Float[Tensor, "p 4"]:
    """Boxes such as selective search might propose: some around each object, others anywhere.

    Those around an object are the object's box with each side moved by up to half of the box's width or
    height. All are whole pixels inside the image, at least 4 pixels wide and high.

    Args:
        boxes: the objects, `x1, y1, x2, y2` in pixels.
        size: the image's (height, width) in pixels, at least 8 x 8.
        per_box: proposals around each object.
        anywhere: proposals at random places, from a twelfth to half of the image's sides.
        seed: the same seed gives the same proposals on every machine.

    Returns:
        n * per_box + anywhere proposals, those around the first object first.

    Raises:
        ValueError: a wrong shape, a nan, swapped corners, a size below 8, or a negative number of proposals.

    >>> jittered_proposals(torch.tensor([[10.0, 10.0, 30.0, 20.0]]), (40, 40), 1, 0, seed=1).shape
    torch.Size([1, 4])
    """
    check_boxes("boxes", boxes)
    check_size("size", size)
    if min(size) < 8:
        raise ValueError(f"size: expected at least 8 pixels each way, got {size}")
    for name, count in (("per_box", per_box), ("anywhere", anywhere)):
        if count < 0:
            raise ValueError(f"{name}: expected 0 or above, got {count}")
    height, width = size
    sides = torch.tensor([width, height])
    generator = torch.Generator().manual_seed(seed)
    move = torch.rand(len(boxes), per_box, 4, generator=generator) - 0.5
    extent = (boxes[:, 2:] - boxes[:, :2]).cpu().repeat(1, 2)[:, None]  # [n, 1, 4]
    around = (boxes.cpu()[:, None] + move * extent).reshape(-1, 4)
    spread = torch.rand(anywhere, 4, generator=generator)
    extent = sides * (1 / 12 + spread[:, 2:] * (1 / 2 - 1 / 12))
    corner = spread[:, :2] * (sides - extent)
    proposals = torch.cat([around, torch.cat([corner, corner + extent], dim=1)]).round()
    corner = torch.minimum(proposals[:, :2].clamp(min=0), sides - 4)
    opposite = torch.minimum(torch.maximum(proposals[:, 2:], corner + 4), sides)
    return torch.cat([corner, opposite], dim=1).to(boxes.device)
