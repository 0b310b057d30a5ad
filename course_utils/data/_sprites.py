"""Figures as small transparent images (sprites), and how they are composited into scenes with occlusion."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from course_utils.data import _figures as figures
from course_utils.data._canvas import Canvas
from course_utils.data._dice import Dice
from course_utils.data._placement import KINDS, Placement

# An object is left out if its visible part is smaller than this fraction of a square image, or of itself.
LEAST_VISIBLE, LEAST_PART = 12 / 64**2, 0.15


class Sprites(NamedTuple):
    """Painted figures of one kind, and where each belongs: its scene, its slot, its upper left corner."""

    scene: Int64[Tensor, " n"]
    slot: Int64[Tensor, " n"]
    top: Int64[Tensor, " n"]
    left: Int64[Tensor, " n"]
    rgba: Float[Tensor, "n 4 s t"]
    mask: Bool[Tensor, "n s t"]


def paint_figures(
    kind: str, placement: Placement, size: tuple[int, int]
) -> tuple[Sprites, Float[Tensor, "n 17 2"] | None, Bool[Tensor, "n 17"] | None]:
    """Paint all figures of one kind, each on its own small canvas.

    Returns:
        The sprites; for persons also their keypoints in pixels, and which of them their own head occludes.
    """
    height = size[0]
    scene, slot = (placement.label == KINDS.index(kind)).nonzero(as_tuple=True)
    x, y, unit = (
        field[scene, slot, None] * height for field in (placement.x, placement.y, placement.unit)
    )
    largest = float(unit.max()) if len(unit) else 0.0
    side, above, below = (int(reach * largest) + 2 for reach in figures.REACH[kind])
    left, top = x.floor().long() - side, y.floor().long() - above
    columns = torch.arange(2 * side, device=x.device) + left
    rows = torch.arange(above + below, device=x.device) + top
    canvas = Canvas(
        (columns + 0.5 - x) * placement.mirror[scene, slot, None] / unit,
        (y - (rows + 0.5)) / unit,
        unit[:, 0],
        thinnest=0.0125 * height,
    )
    points = getattr(figures, f"draw_{kind}")(
        canvas, Dice(placement.key[scene, slot]), placement.appearance[scene, slot]
    )
    canvas.finish(rim=0.016 * height)
    keypoints, hidden = points or (None, None)
    if points:
        keypoints = torch.stack(
            [x + keypoints[..., 0] * unit, y - keypoints[..., 1] * unit], dim=-1
        )
    mask = canvas.distance < 0
    return Sprites(scene, slot, top[:, 0], left[:, 0], canvas.rgba, mask), keypoints, hidden


def _windows(padded: Tensor, shape: tuple[int, int]) -> Tensor:
    """Every window of this shape, as a view: `[..., y, x, s, t]` from `[..., h, w]`."""
    return padded.unfold(-2, shape[0], 1).unfold(-2, shape[1], 1)


def full_masks(
    groups: list[Sprites], slots: int, scenes: int, size: tuple[int, int], pad: int
) -> Bool[Tensor, "b slots h w"]:
    """The masks of the whole figures, occluded parts included, each in the slot of its figure."""
    shape = (scenes, slots, size[0] + 2 * pad, size[1] + 2 * pad)
    padded = torch.zeros(shape, dtype=torch.bool, device=groups[0].mask.device)
    for sprites in groups:
        windows = _windows(padded, sprites.mask.shape[1:])
        windows[sprites.scene, sprites.slot, sprites.top + pad, sprites.left + pad] = sprites.mask
    return padded[:, :, pad:-pad, pad:-pad]


def visible_masks(full: Bool[Tensor, "b m h w"]) -> Bool[Tensor, "b m h w"]:
    """What nearer figures leave visible of each figure; empty where that is too little to be an object."""
    occupied = torch.zeros_like(full[:, 0])
    masks = torch.zeros_like(full)
    for slot in reversed(range(full.shape[1])):  # from the front to the back
        visible = full[:, slot] & ~occupied
        area, height = count_pixels(visible), full.shape[2]
        enough = (area >= LEAST_VISIBLE * height * height) & (
            area >= LEAST_PART * count_pixels(full[:, slot])
        )
        masks[:, slot] = visible & enough[:, None, None]
        occupied |= masks[:, slot]
    return masks


def composite(
    padded: Float[Tensor, "b 3 h w"],
    groups: list[Sprites],
    slot: int,
    present: Bool[Tensor, "b m"],
    pad: int,
) -> None:
    """Composite the present figures of this slot onto the padded images, in place."""
    for sprites in groups:
        chosen = ((sprites.slot == slot) & present[sprites.scene, slot]).nonzero()[:, 0]
        rgba = sprites.rgba[chosen]
        index = (
            sprites.scene[chosen],
            slice(None),
            sprites.top[chosen] + pad,
            sprites.left[chosen] + pad,
        )
        windows = _windows(padded, rgba.shape[2:])
        windows[index] = windows[index] * (1 - rgba[:, 3:]) + rgba[:, :3]


def count_pixels(masks: Bool[Tensor, "*some h w"]) -> Float[Tensor, "*some"]:
    """The number of pixels in each mask."""
    return masks.flatten(-2).float().sum(dim=-1)  # exact: whole numbers far below 2**24
