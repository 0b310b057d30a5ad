"""The landscape that the figures of a scene stand in: sky, clouds, hills, a distant wood, grass and water.

Lengths are in image heights: y runs down from 0 to 1, x from 0 to the image's width / height.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from course_utils.data._canvas import palette
from course_utils.data._dice import Dice, fold

SKY, GRASS, WATER, TREE = 5, 6, 7, 8

# top of the sky, sky at the horizon, light on everything
SKIES = (
    ("4a9be0", "cfe9f7", "ffffff"),  # noon
    ("62aee6", "e6f2ee", "fffdf4"),  # morning
    ("3f83c9", "a9d8f0", "fbfdff"),  # deep blue
    ("8fb4d4", "f7dfc2", "fff3e2"),  # afternoon
    ("7a7fc0", "fbc3a0", "ffe6d6"),  # evening
    ("a9bccb", "dfe6e8", "eef1f4"),  # overcast
)
# far grass, near grass
MEADOWS = (
    ("a8cf7a", "5f9f45"),
    ("bcd47c", "7bab3f"),
    ("93c48a", "4a8f4f"),
    ("cfd084", "93a446"),
    ("a5c987", "6a9a52"),
)
FLOWERS = 26  # cells per image height; each has one flower or none
WOODS = ("4f8a5b", "5d9467", "477a5f", "6f9a5a")


class Landscape(NamedTuple):
    """The random parameters of b landscapes, one row per scene."""

    horizon: Float[Tensor, " b"]
    sky: Int64[Tensor, " b"]
    meadow: Int64[Tensor, " b"]
    wood: Int64[Tensor, " b"]
    sun: Float[Tensor, "b 2"]
    clouds: Float[Tensor, "b clouds 3"]
    puffs: Float[Tensor, "b clouds puffs 3"]
    hills: Float[Tensor, "b layers bumps 3"]
    crowns: Float[Tensor, "b crowns 3"]
    water_kind: Int64[Tensor, " b"]
    water: Float[Tensor, "b 8"]
    noise_key: Int64[Tensor, " b"]


def lay_out_landscape(keys: Int64[Tensor, " b"], aspect: float) -> Landscape:
    """Draw the random parameters of landscapes, one per key, for images with this width / height."""
    dice = Dice(keys, throws=256)
    wide = torch.tensor([aspect, 1.0, 1.0], device=keys.device)

    def triples(count: int, *ranges: tuple[float, float]) -> Float[Tensor, "b count 3"]:
        return torch.stack([dice.uniforms(low, high, count) for low, high in ranges], dim=-1)

    horizon = dice.uniform(0.30, 0.46)
    clouds = triples(3, (0.0, 1.0), (0.05, 0.24), (0.07, 0.15)) * wide
    puffs = triples(12, (-0.35, 0.35), (0.0, 0.35), (0.35, 0.6)).reshape(-1, 3, 4, 3)
    hills = triples(8, (-0.1, 1.1), (0.01, 0.10), (0.10, 0.30)).reshape(-1, 2, 4, 3) * wide
    centre = dice.uniform(0.0, 1.0)[:, None] * aspect
    spread = dice.uniform(0.2, 1.2)[:, None]
    crowns = triples(14, (-0.5, 0.5), (0.0, 0.012), (0.02, 0.05))
    crowns[..., 0] = crowns[..., 0] * spread + centre
    crowns[..., 2] *= dice.chance(0.7)[:, None]
    kind = dice.uniform(0.0, 1.0)
    return Landscape(
        horizon=horizon,
        sky=dice.pick(len(SKIES)),
        meadow=dice.pick(len(MEADOWS)),
        wood=dice.pick(len(WOODS)),
        sun=torch.stack([dice.uniform(0.08, 0.92) * aspect, dice.uniform(0.06, 0.24)], dim=1),
        clouds=clouds,
        puffs=puffs,
        hills=hills,
        crowns=crowns,
        water_kind=(kind >= 0.2).long() + (kind >= 0.5).long() + (kind >= 0.75).long(),
        water=dice.uniforms(0.0, 1.0, 8),
        noise_key=fold(keys, 7),
    )


def water_distance(land: Landscape, x: Tensor, y: Tensor, aspect: float) -> Tensor:
    """Signed distance of points to the water (a pond, a river, a lake or none), negative inside the water.

    Args:
        land: b landscapes.
        x, y: points in image heights, `[b, ...]`, of the same rank and broadcastable.
        aspect: width / height of the images.

    Returns:
        An approximate distance in image heights (vertical for pond and lake, horizontal for the river).
    """
    shape = (-1,) + (1,) * (x.ndim - 1)
    w = [number.reshape(shape) for number in land.water.unbind(dim=1)]
    horizon, kind = land.horizon.reshape(shape), land.water_kind.reshape(shape)
    down = (y - horizon) / (1 - horizon)  # 0 at the horizon, 1 at the lower edge

    pond_x, pond_y = (0.15 + 0.7 * w[0]) * aspect, horizon + 0.13 + w[1] * 0.22
    rx, ry = 0.24 + 0.16 * w[2], 0.05 + 0.035 * w[3]
    large_x, large_y = (x - pond_x) / rx, (y - pond_y) / ry
    small_x, small_y = (
        (x - pond_x - rx * (w[4] - 0.5) * 1.8) / (0.6 * rx),
        (y - pond_y - ry * 0.5) / (0.7 * ry),
    )
    pond = (
        (
            torch.minimum(
                large_x * large_x + large_y * large_y, small_x * small_x + small_y * small_y
            )
            - 1
        )
        * ry
        / 2
    )

    middle = (0.2 + 0.6 * w[0]) * aspect + down * (
        (w[1] - 0.5) * 1.0 + down * ((w[2] - 0.5) * 2.2 - down * (w[2] - 0.5) * 1.4)
    )
    river = (x - middle).abs() - (0.012 + down * (0.05 + 0.10 * w[3]))
    river = torch.maximum(river, -down)

    across = x / aspect - 0.5
    shore = (
        horizon
        + 0.035
        + 0.05 * w[4]
        + across * ((w[5] - 0.5) * 0.10 + across * (w[6] - 0.5) * 0.25)
    )
    lake = torch.maximum(y - shore, horizon - y)

    dry = torch.ones_like(pond)
    return torch.where(
        kind == 1, pond, torch.where(kind == 2, river, torch.where(kind == 3, lake, dry))
    )


def noise(
    keys: Int64[Tensor, " b"], rows: int, columns: int, size: tuple[int, int]
) -> Float[Tensor, "b h w"]:
    """Value noise from -1 to 1: random numbers on a grid, interpolated bilinearly.

    Args:
        keys: one per scene.
        rows: grid rows per image height.
        columns: grid columns per image height.
        size: (height, width) in pixels.
    """
    height, width = size

    def cell_and_offset(cells: int, count: int) -> tuple[Tensor, Tensor]:
        position = (torch.arange(count, device=keys.device) + 0.5) * (cells / height)
        return position.long(), position - position.floor()

    row, row_offset = cell_and_offset(rows, height)
    column, column_offset = cell_and_offset(columns, width)
    grid = torch.arange(rows + 1, device=keys.device)[:, None] * 4096 + torch.arange(
        int(column[-1]) + 2, device=keys.device
    )
    values = (fold(keys[:, None, None], grid) >> 8).float() * 2**-23 - 1
    upper = values.index_select(1, row)
    lines = (
        upper + (values.index_select(1, row + 1) - upper) * row_offset[:, None]
    )  # [b, h, columns]
    left = lines.index_select(2, column)
    return left + (lines.index_select(2, column + 1) - left) * column_offset


def _flowers(
    land: Landscape, size: tuple[int, int]
) -> tuple[Float[Tensor, "b h w"], Float[Tensor, "b 3 1 1"]]:
    """Each pixel's signed distance to the flower of its cell, negative inside, and the flowers' colour."""
    height, width = size
    key = fold(land.noise_key, 3)
    row = (torch.arange(height, device=key.device) + 0.5) * (FLOWERS / height)
    column = (torch.arange(width, device=key.device) + 0.5) * (FLOWERS / height)
    cells = torch.arange(FLOWERS, device=key.device)[:, None] * 4096 + torch.arange(
        int(column[-1]) + 1, device=key.device
    )
    bits = fold(key[:, None, None], cells)
    many = 10 * (key & 3)[:, None, None]  # of 256 cells that have a flower
    parts = ((bits & 255) < many, (bits >> 8) & 255, (bits >> 16) & 255)
    blooms, across, down = (
        part.float().index_select(1, row.long()).index_select(2, column.long()) for part in parts
    )
    x = column - column.floor() - 0.25 - across * (0.5 / 256)
    y = (row - row.floor())[:, None] - 0.25 - down * (0.5 / 256)
    colour = palette("fff6e8", "f6d24a", "f2a0b5", "c9a7ea", device=key.device)[(key >> 2) & 3]
    return (x * x + y * y - 0.030) * blooms, colour[..., None, None]


def paint_landscape(
    land: Landscape, size: tuple[int, int]
) -> tuple[Float[Tensor, "b 3 h w"], Int64[Tensor, "b h w"]]:
    """Paint b landscapes: images of this (height, width) in pixels, and the class of each pixel."""
    height, width = size
    device = land.horizon.device
    x = ((torch.arange(width, device=device) + 0.5) / height)[None, None, :]
    y = ((torch.arange(height, device=device) + 0.5) / height)[None, :, None]
    horizon = land.horizon[:, None, None]
    skies = torch.stack([palette(*sky, device=device) for sky in SKIES])
    skies = skies[land.sky][..., None, None]  # [b, 3, 3, 1, 1]
    top, low = skies[:, 0], skies[:, 1]
    meadows = torch.stack([palette(*meadow, device=device) for meadow in MEADOWS])[land.meadow][
        ..., None, None
    ]
    far, near = meadows[:, 0], meadows[:, 1]
    white = torch.ones(1, 3, 1, 1, device=device)

    def cover(distance: Tensor) -> Tensor:
        return (0.5 - distance * height).clamp_(0, 1)[:, None]

    def over(image: Tensor, colour: Tensor, alpha: Tensor) -> Tensor:
        return image.add_((colour - image).mul_(alpha))

    # the sky: brighter towards the horizon and around the sun
    down = (y / horizon).clamp(max=1)[:, None]
    image = (top + (low - top) * down).repeat(1, 1, 1, width)
    sun_x, sun_y = x - land.sun[:, 0, None, None], y - land.sun[:, 1, None, None]
    from_sun = sun_x * sun_x + sun_y * sun_y
    warm = palette("fff3cf", device=device)[..., None, None]
    over(image, warm, (0.55 / (1 + from_sun * 60))[:, None])
    over(
        image,
        palette("fffbe6", device=device)[..., None, None],
        ((0.0021 - from_sun) * 900).clamp_(0, 1)[:, None],
    )
    for cloud, puffs in zip(land.clouds.unbind(1), land.puffs.unbind(1), strict=True):
        cx, cy, reach = cloud.T[:, :, None, None]
        shape = None
        for k, puff in enumerate(puffs.unbind(1)):
            px, py, radius = puff.T[:, :, None, None]
            dx = (x - cx - (px + (k - 1.5) * 0.45) * reach) / (radius * reach)
            dy = (y - cy + py * reach * 0.5) / (radius * reach * 0.8)
            distance = dx * dx + dy * dy
            shape = distance if shape is None else torch.minimum(shape, distance)
        shape = torch.maximum((shape - 1) * 0.03, y - cy - 0.012)
        over(image, white, (0.5 - shape * 60).clamp_(0, 1)[:, None] * 0.8)

    # two ranges of hills, the far one paler; a wood at their feet; then the meadow with its grain
    classes = torch.full((len(horizon), height, width), SKY, device=device)
    patches = noise(land.noise_key, 5, 4, size) * 0.05
    blades = noise(fold(land.noise_key, 1), 40, 26, size) * 0.06
    for layer, (flat, haze) in enumerate(((0.8, 0.6), (0.35, 0.3))):
        ridge = horizon
        for bump in land.hills[:, layer].unbind(1):
            centre, tall, broad = bump.T[:, :, None, None]
            off = (x - centre) / broad
            ridge = ridge - tall * flat / (1 + off * off)
        over(image, (far + (low - far) * haze) * (1 + patches[:, None]), cover(ridge - y))
        classes.masked_fill_(ridge < y, GRASS)
    crowns = land.crowns.permute(2, 1, 0)[..., None, None]
    crown_x, crown_y, radius = crowns  # [crowns, b, 1, 1] each
    rise = (radius * radius - (x - crown_x) * (x - crown_x)).clamp_(min=0).sqrt_()
    wood_top = horizon - torch.where(rise > 0, crown_y + rise * 1.2, rise).amax(dim=0)
    wood = palette(*WOODS, device=device)[land.wood][..., None, None]
    leaves = (wood + (low - wood) * 0.25) * (1 + 1.5 * blades + (wood_top - y + 0.02))[:, None]
    over(image, leaves, cover(wood_top - y))
    classes.masked_fill_(wood_top < y, TREE)
    down = ((y - horizon) / (1 - horizon)).clamp_(min=0)
    meadow = (far + (near - far) * down.sqrt()[:, None]) * (
        1 + patches + blades * (0.4 + 0.9 * down)
    )[:, None]
    flower, petals = _flowers(land, size)
    over(
        meadow,
        petals,
        ((flower * (-45 * height / 64)).clamp_(0, 1) * (0.25 + down).clamp_(max=0.9))[:, None],
    )
    over(image, meadow, cover(horizon - y))
    classes.masked_fill_(horizon < y, GRASS)

    # water mirrors the sky upside down, with lighter ripples, inside a sandy bank
    water = water_distance(land, x, y, width / height)
    sand = (near + (palette("e2d3a0", device=device)[..., None, None] - near) * 0.65).expand_as(
        image
    )
    over(image, sand, cover(water - 0.010 * (0.4 + down)))
    ripples = noise(fold(land.noise_key, 2), 50, 7, size)
    mirror = low + (top - low) * (0.35 + 0.65 * down)[:, None]
    mirror = (
        mirror * 0.65
        + palette("1c4b66", device=device)[..., None, None]
        + (ripples - 0.35).clamp_(min=0)[:, None] * 0.30
    )
    mirror = mirror - (0.10 * (1 + water * 60).clamp_(0, 1))[:, None]
    over(image, mirror, cover(water))
    classes.masked_fill_(water < 0, WATER)
    return image, classes


def apply_light(
    images: Float[Tensor, "b 3 h w"], land: Landscape, keys: Int64[Tensor, " b"]
) -> Float[Tensor, "b 3 h w"]:
    """Multiply by the colour of the light, vary the brightness between scenes, and add a little noise."""
    light = torch.stack([palette(*sky, device=keys.device) for sky in SKIES])[land.sky, 2]
    brightness = Dice(fold(keys, 4), throws=1).uniform(0.94, 1.07)
    grain = noise(fold(keys, 5), 48, 48, tuple(images.shape[2:])) * 0.012
    lit = images * (light * brightness[:, None])[..., None, None]
    return lit.add_(grain[:, None]).clamp_(0, 1)
