"""Drawn landscapes with cats, dogs, cars and persons, and every answer the lecture's tasks ask about them.

Scene k of a seed is the same picture with the same answers wherever it is drawn: alone or in a batch, on one
thread or many. `make_scenes` draws a padded batch for training, `make_scene` one `Sample` to look at.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from course_utils.core import check_size
from course_utils.data import _figures as figures
from course_utils.data._canvas import Canvas, palette
from course_utils.data._dice import Dice, fold
from course_utils.data._landscape import (
    GRASS,
    SKIES,
    SKY,
    TREE,
    WATER,
    Landscape,
    lay_out_landscape,
    noise,
    paint_landscape,
    water_distance,
)
from course_utils.data.sample import Sample

CLASS_NAMES = ("background", "cat", "dog", "car", "person", "sky", "grass", "water", "tree")
THINGS = (1, 2, 3, 4)
STUFF = (SKY, GRASS, WATER, TREE)
MOST_OBJECTS = 5

KEYPOINT_NAMES = (
    "nose",
    "left eye",
    "right eye",
    "left ear",
    "right ear",
    "left shoulder",
    "right shoulder",
    "left elbow",
    "right elbow",
    "left wrist",
    "right wrist",
    "left hip",
    "right hip",
    "left knee",
    "right knee",
    "left ankle",
    "right ankle",
)
# the limbs of COCO's skeleton, as pairs of places in KEYPOINT_NAMES
SKELETON = (
    (15, 13),
    (13, 11),
    (16, 14),
    (14, 12),
    (11, 12),
    (5, 11),
    (6, 12),
    (5, 6),
    (5, 7),
    (6, 8),
    (7, 9),
    (8, 10),
    (1, 2),
    (0, 1),
    (0, 2),
    (1, 3),
    (2, 4),
    (3, 5),
    (4, 6),
)

PIXELS_AT_ONCE = 2**18  # scenes are drawn in groups of about this many pixels: memory stays small
# An object is left out that shows less than this part of a square picture, or less than this part of itself.
LEAST_VISIBLE, LEAST_PART = 12 / 64**2, 0.15
TREES = 5
KINDS = (*CLASS_NAMES[:5], "tree", "fir")  # what a cast is made of
# The size of a figure unit at the front of the picture, in picture heights.
UNITS = {"cat": 0.46, "dog": 0.50, "car": 0.72, "person": 0.70}


class Scenes(NamedTuple):
    """A batch of scenes on one device; axis m has a slot for each object a scene can have, unused ones last.

    Unused slots hold zeros. Objects come from the back of the scene to the front.

    Attributes:
        images: RGB in 0..1.
        boxes: `x1, y1, x2, y2` in pixels, tight around the visible masks.
        labels: 1 to 4, a place in `CLASS_NAMES`; 0 where the slot is unused.
        masks: visible pixels; no two overlap.
        semantic: the class of each pixel, 1 to 8.
        panoptic: `1000 * class + k`, k = 1, 2, ... within a class in slot order for things, 0 for stuff.
        keypoints: COCO's 17 points of each person as `x, y, visibility` (0 absent, 1 hidden, 2 visible).
        captions: a phrase for each object of each scene.
    """

    images: Float[Tensor, "b 3 h w"]
    boxes: Float[Tensor, "b m 4"]
    labels: Int64[Tensor, "b m"]
    masks: Bool[Tensor, "b m h w"]
    semantic: Int64[Tensor, "b h w"]
    panoptic: Int64[Tensor, "b h w"]
    keypoints: Float[Tensor, "b m 17 3"]
    captions: list[tuple[str, ...]]

    def sample(self, number: int) -> Sample:
        """One scene of the batch without its unused slots.

        Args:
            number: its place in the batch.

        Returns:
            The scene; the tensors are views of the batch's.
        """
        n = int((self.labels[number] > 0).sum())
        return Sample(
            image=self.images[number],
            boxes=self.boxes[number, :n],
            labels=self.labels[number, :n],
            masks=self.masks[number, :n],
            semantic=self.semantic[number],
            panoptic=self.panoptic[number],
            class_names=CLASS_NAMES,
            stuff=STUFF,
            keypoints=self.keypoints[number, :n],
            captions=self.captions[number],
        )


def make_scene(
    index: int,
    *,
    seed: int = 0,
    size: tuple[int, int] = (128, 128),
    device: torch.device | str | None = None,
) -> Sample:
    """One scene with all its answers.

    Args:
        index: the scene's number, 0 or above.
        seed: another seed is another world of scenes.
        size: (height, width) in pixels; the same scene at every size of one shape.
        device: where to draw; None for the CPU.

    Returns:
        The scene.

    Raises:
        TypeError, ValueError: see `make_scenes`.

    >>> sample = make_scene(3, size=(64, 64))
    >>> [sample.class_names[label] for label in sample.labels]
    ['car', 'person']
    """
    return make_scenes([index], seed=seed, size=size, device=device).sample(0)


def make_scenes(
    indices: Sequence[int] | Int64[Tensor, " b"],
    *,
    seed: int = 0,
    size: tuple[int, int] = (64, 64),
    device: torch.device | str | None = None,
) -> Scenes:
    """A batch of scenes with all their answers.

    Every random number comes from (seed, scene, slot) through a hash, so that a scene does not depend on the
    batch it is drawn in.

    Args:
        indices: the scenes' numbers, 0 or above.
        seed: another seed is another world of scenes.
        size: (height, width) in pixels, at least 16 each.
        device: where to draw; None for the CPU.

    Returns:
        The scenes, in the order of `indices`.

    Raises:
        TypeError: `indices` or `seed` are not whole numbers.
        ValueError: a number below 0 or not below 2**31, no number at all, a size that is none or too small,
            or a device that this machine does not have.

    >>> scenes = make_scenes([0, 1, 2], size=(48, 64))
    >>> scenes.images.shape, scenes.labels.shape
    (torch.Size([3, 3, 48, 64]), torch.Size([3, 5]))
    """
    check_size("size", size)
    size = (int(size[0]), int(size[1]))
    if min(size) < 16:
        raise ValueError(f"size: expected at least 16 pixels each way, got {size}")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed: expected a whole number, got {seed!r}")
    if not 0 <= seed < 2**31:
        raise ValueError(f"seed: expected 0 <= seed < 2**31, got {seed}")
    numbers = _check_indices(indices, device)
    keys = fold(fold(torch.zeros_like(numbers), seed), numbers)
    groups = keys.split(max(1, PIXELS_AT_ONCE // (size[0] * size[1])))
    parts = zip(*(_draw(group, size) for group in groups), strict=True)
    *tensors, captions = parts
    return Scenes(
        *(torch.cat(part) for part in tensors), [phrase for part in captions for phrase in part]
    )


def _check_indices(
    indices: Sequence[int] | Tensor, device: torch.device | str | None
) -> Int64[Tensor, " b"]:
    try:
        numbers = torch.as_tensor(indices if isinstance(indices, Tensor) else list(indices))
    except (TypeError, ValueError) as error:
        raise TypeError(f"indices: expected whole numbers, got {indices!r}") from error
    if numbers.ndim != 1 or len(numbers) == 0:
        raise ValueError(
            f"indices: expected shape [b] with at least one scene, got {list(numbers.shape)}"
        )
    if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool:
        raise TypeError(f"indices: expected whole numbers, got {numbers.dtype}")
    numbers = numbers.long()
    if numbers.min() < 0 or numbers.max() >= 2**31:
        wrong = numbers[(numbers < 0) | (numbers >= 2**31)][0]
        raise ValueError(f"indices: expected numbers from 0 to 2**31 - 1, got {int(wrong)}")
    try:
        return numbers.to("cpu" if device is None else device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device: this machine has no device {str(device)!r}; leave it out for the CPU"
        ) from error


class Cast(NamedTuple):
    """Who stands where: one row for each scene, one column for each slot, from back to front."""

    label: Int64[Tensor, "b m"]
    x: Float[Tensor, "b m"]
    y: Float[Tensor, "b m"]
    unit: Float[Tensor, "b m"]
    mirror: Float[Tensor, "b m"]
    look: Int64[Tensor, "b m"]
    key: Int64[Tensor, "b m"]


class Sprites(NamedTuple):
    """Painted figures of one kind and where each belongs: its scene, its slot, its upper left corner."""

    scene: Int64[Tensor, " n"]
    slot: Int64[Tensor, " n"]
    top: Int64[Tensor, " n"]
    left: Int64[Tensor, " n"]
    rgba: Float[Tensor, "n 4 s t"]
    mask: Bool[Tensor, "n s t"]


def _draw(keys: Int64[Tensor, " b"], size: tuple[int, int]) -> tuple:
    """The fields of `Scenes` for the scenes with these keys."""
    aspect = size[1] / size[0]
    land = lay_out_landscape(fold(keys, 1), aspect)
    picture, ground = paint_landscape(land, size)
    trees, cast = (
        _plant_trees(fold(keys, 2), land, aspect),
        _choose_cast(fold(keys, 3), land, aspect),
    )
    wood = [_paint_figures(kind, trees, size)[0] for kind in ("tree", "fir")]
    crowd = [_paint_figures(kind, cast, size)[0] for kind in ("cat", "dog", "car")]
    persons, places, hidden = _paint_figures("person", cast, size)
    crowd.append(persons)
    pad = max(max(sprites.mask.shape[1:]) for sprites in wood + crowd) + size[0] // 8 + 1

    # trees stand behind everybody; then the figures that show enough of themselves, from back to front
    whole = _place_masks(crowd, MOST_OBJECTS, keys, size, pad)
    masks = _visible_parts(whole)
    present = _count(masks) > 0
    frame = torch.nn.functional.pad(picture, (pad, pad, pad, pad))
    for slot in range(TREES):
        _lay_over(frame, wood, slot, torch.ones_like(present), pad)
    for slot in range(MOST_OBJECTS):
        _lay_over(frame, crowd, slot, present, pad)
    picture = _light(frame[:, :, pad:-pad, pad:-pad], land, keys)
    for mask in _place_masks(wood, TREES, keys, size, pad).unbind(1):
        ground.masked_fill_(mask, TREE)

    keypoints = picture.new_zeros(len(keys), MOST_OBJECTS, 17, 3)
    keypoints[persons.scene, persons.slot] = _see_keypoints(
        places, hidden, masks[persons.scene, persons.slot]
    )

    # used slots first
    order = torch.argsort((~present).long(), dim=1, stable=True)
    rows = torch.arange(len(keys), device=keys.device)[:, None]
    cast = Cast(*(field[rows, order] for field in cast))
    masks, whole, present, keypoints = (
        field[rows, order] for field in (masks, whole, present, keypoints)
    )
    labels = torch.where(present, cast.label, 0)
    semantic, panoptic = _label_pixels(labels, masks, ground)
    captions = _describe(labels, cast, whole, masks, land, aspect)
    return picture, _tight_boxes(masks), labels, masks, semantic, panoptic, keypoints, captions


def _choose_cast(keys: Int64[Tensor, " b"], land: Landscape, aspect: float) -> Cast:
    """One to five figures, often close together; the nearer, the larger and the lower in the picture.

    Each takes the first of several places that is dry.
    """
    dice = Dice(keys, throws=160)
    m, tries = MOST_OBJECTS, 8
    count = dice.uniform(0.0, 1.0)[:, None]
    count = 1 + sum((count > share).long() for share in (0.12, 0.34, 0.62, 0.84))
    label = dice.picks(len(THINGS), m) + 1
    horizon = land.horizon[:, None, None]
    near = dice.uniforms(0.0, 1.0, m * tries).reshape(-1, m, tries)
    y = horizon + 0.10 + (0.89 - horizon) * near
    x = dice.uniforms(0.06, 0.94, m * tries).reshape(-1, m, tries) * aspect
    meeting = dice.uniform(0.25, 0.75)[:, None, None] * aspect  # where those who keep together are
    together = dice.uniforms(0.0, 1.0, m)[..., None] < 0.55
    x = torch.where(together, meeting + (x / aspect - 0.5) * 0.75, x)
    dry = water_distance(land, x, y, aspect) > 0.025
    first = torch.where(dry, torch.arange(tries, device=keys.device), tries - 1).amin(
        dim=2, keepdim=True
    )
    x, y = x.gather(2, first)[..., 0], y.gather(2, first)[..., 0]
    units = torch.tensor([UNITS.get(kind, 0.0) for kind in KINDS], device=keys.device)
    depth = (y - land.horizon[:, None]) / (1 - land.horizon[:, None])
    unit = units[label] * (0.46 + 0.54 * depth) * dice.uniforms(0.9, 1.1, m)
    is_person = label == KINDS.index("person")  # a person keeps left and right
    turned = (dice.uniforms(0.0, 1.0, m) < 0.5) & ~is_person
    mirror = torch.where(turned, -1.0, 1.0)
    tables = (figures.CATS, figures.DOGS, figures.CARS, figures.SHIRTS)
    choices = torch.tensor([1] + [len(table) for table in tables], device=keys.device)
    look = dice.picks(2**20, m) % choices[label]
    used = torch.arange(m, device=keys.device) < count
    label = torch.where(used, label, 0)
    own_keys = fold(keys[:, None], torch.arange(m, device=keys.device) + 1000)
    order = torch.argsort(torch.where(used, y, -1.0), dim=1, stable=True)
    return Cast(*(field.gather(1, order) for field in (label, x, y, unit, mirror, look, own_keys)))


def _plant_trees(keys: Int64[Tensor, " b"], land: Landscape, aspect: float) -> Cast:
    """Up to five trees near the horizon, on dry ground; broad ones and firs."""
    dice = Dice(keys, throws=96)
    x = dice.uniforms(0.0, 1.0, TREES) * aspect
    y = land.horizon[:, None] + dice.uniforms(0.01, 0.10, TREES)
    dry = water_distance(land, x, y, aspect) > 0.02
    used = dry & (dice.uniforms(0.0, 1.0, TREES) < 0.62)
    firs = dice.uniforms(0.0, 1.0, TREES) < dice.uniform(-0.2, 1.0)[:, None]
    label = torch.where(used, KINDS.index("tree") + firs.long(), 0)
    unit = dice.uniforms(0.24, 0.40, TREES) * (0.75 + 3.5 * (y - land.horizon[:, None]))
    mirror = torch.ones_like(x)
    kinds = dice.picks(len(figures.BLOSSOMS), TREES)
    own_keys = fold(keys[:, None], torch.arange(TREES, device=keys.device) + 1000)
    order = torch.argsort(y, dim=1, stable=True)
    return Cast(*(field.gather(1, order) for field in (label, x, y, unit, mirror, kinds, own_keys)))


def _paint_figures(
    kind: str, cast: Cast, size: tuple[int, int]
) -> tuple[Sprites, Float[Tensor, "n 17 2"] | None, Bool[Tensor, "n 17"] | None]:
    """All figures of one kind, each on its own small canvas; for persons also their points in pixels."""
    height = size[0]
    scene, slot = (cast.label == KINDS.index(kind)).nonzero(as_tuple=True)
    x, y, unit = (field[scene, slot, None] * height for field in (cast.x, cast.y, cast.unit))
    largest = float(unit.max()) if len(unit) else 0.0
    side, above, below = (int(reach * largest) + 2 for reach in figures.REACH[kind])
    left, top = x.floor().long() - side, y.floor().long() - above
    columns = torch.arange(2 * side, device=x.device) + left
    rows = torch.arange(above + below, device=x.device) + top
    canvas = Canvas(
        (columns + 0.5 - x) * cast.mirror[scene, slot, None] / unit,
        (y - (rows + 0.5)) / unit,
        unit[:, 0],
        thinnest=0.0125 * height,
    )
    points = getattr(figures, f"draw_{kind}")(
        canvas, Dice(cast.key[scene, slot]), cast.look[scene, slot]
    )
    canvas.finish(rim=0.016 * height)
    places, hidden = points or (None, None)
    if points:
        places = torch.stack([x + places[..., 0] * unit, y - places[..., 1] * unit], dim=-1)
    return (
        Sprites(scene, slot, top[:, 0], left[:, 0], canvas.rgba, canvas.distance < 0),
        places,
        hidden,
    )


def _windows(frame: Tensor, shape: tuple[int, int]) -> Tensor:
    """Every window of this shape, as a view: `[..., y, x, s, t]` from `[..., h, w]`."""
    return frame.unfold(-2, shape[0], 1).unfold(-2, shape[1], 1)


def _place_masks(
    groups: list[Sprites], slots: int, keys: Int64[Tensor, " b"], size: tuple[int, int], pad: int
) -> Bool[Tensor, "b slots h w"]:
    """The figures' whole masks, hidden parts too, each in its slot of its scene."""
    shape = (len(keys), slots, size[0] + 2 * pad, size[1] + 2 * pad)
    frame = torch.zeros(shape, dtype=torch.bool, device=keys.device)
    for sprites in groups:
        windows = _windows(frame, sprites.mask.shape[1:])
        windows[sprites.scene, sprites.slot, sprites.top + pad, sprites.left + pad] = sprites.mask
    return frame[:, :, pad:-pad, pad:-pad]


def _visible_parts(whole: Bool[Tensor, "b m h w"]) -> Bool[Tensor, "b m h w"]:
    """From the front to the back, what is left of each figure; nothing of one that shows too little."""
    taken = torch.zeros_like(whole[:, 0])
    masks = torch.zeros_like(whole)
    for slot in reversed(range(whole.shape[1])):
        left = whole[:, slot] & ~taken
        area, height = _count(left), whole.shape[2]
        enough = (area >= LEAST_VISIBLE * height * height) & (
            area >= LEAST_PART * _count(whole[:, slot])
        )
        masks[:, slot] = left & enough[:, None, None]
        taken |= masks[:, slot]
    return masks


def _light(
    picture: Float[Tensor, "b 3 h w"], land: Landscape, keys: Int64[Tensor, " b"]
) -> Float[Tensor, "b 3 h w"]:
    """The colour of the light, some days brighter than others, and a little grain."""
    light = torch.stack([palette(*sky, device=keys.device) for sky in SKIES])[land.sky, 2]
    bright = Dice(fold(keys, 4), throws=1).uniform(0.94, 1.07)
    grain = noise(fold(keys, 5), 48, 48, tuple(picture.shape[2:])) * 0.012
    return (picture * (light * bright[:, None])[..., None, None]).add_(grain[:, None]).clamp_(0, 1)


def _lay_over(
    frame: Float[Tensor, "b 3 h w"],
    groups: list[Sprites],
    slot: int,
    present: Bool[Tensor, "b m"],
    pad: int,
) -> None:
    """Lay the figures in this slot over the pictures, in place."""
    for sprites in groups:
        chosen = ((sprites.slot == slot) & present[sprites.scene, slot]).nonzero()[:, 0]
        rgba = sprites.rgba[chosen]
        place = (
            sprites.scene[chosen],
            slice(None),
            sprites.top[chosen] + pad,
            sprites.left[chosen] + pad,
        )
        windows = _windows(frame, rgba.shape[2:])
        windows[place] = windows[place] * (1 - rgba[:, 3:]) + rgba[:, :3]


def _count(masks: Bool[Tensor, "*some h w"]) -> Float[Tensor, "*some"]:
    return masks.flatten(-2).float().sum(dim=-1)  # exact: whole numbers far below 2**24


def _tight_boxes(masks: Bool[Tensor, "b m h w"]) -> Float[Tensor, "b m 4"]:
    """The smallest box around each mask; zeros around none."""
    sides = []
    for axis in (2, 3):
        line = masks.view(torch.uint8).amax(dim=axis) > 0  # [b, m, w] and [b, m, h]
        place = torch.arange(line.shape[2], device=masks.device)
        sides.append(
            (
                torch.where(line, place, line.shape[2]).amin(dim=2),
                torch.where(line, place + 1, 0).amax(dim=2),
            )
        )
    (x1, x2), (y1, y2) = sides
    boxes = torch.stack([x1, y1, x2, y2], dim=2)
    return torch.where((x2 > 0)[..., None], boxes, 0).float()


def _label_pixels(
    labels: Int64[Tensor, "b m"], masks: Bool[Tensor, "b m h w"], ground: Int64[Tensor, "b h w"]
) -> tuple[Int64[Tensor, "b h w"], Int64[Tensor, "b h w"]]:
    """The class and the panoptic segment of each pixel."""
    panoptic = 1000 * ground
    for slot in range(labels.shape[1]):
        label = labels[:, slot]
        k = (labels[:, : slot + 1] == label[:, None]).sum(dim=1)
        panoptic = torch.where(masks[:, slot], (1000 * label + k)[:, None, None], panoptic)
    return panoptic // 1000, panoptic


def _see_keypoints(
    places: Float[Tensor, "n 17 2"], hidden: Bool[Tensor, "n 17"], masks: Bool[Tensor, "n h w"]
) -> Float[Tensor, "n 17 3"]:
    """Add the visibility: 2 where the pixel at the point is the person's own, 1 if hidden, 0 out of frame."""
    height, width = masks.shape[1:]
    x, y = places.floor().long().unbind(dim=2)
    inside = (
        (x >= 0) & (x < width) & (y >= 0) & (y < height) & masks.flatten(1).any(dim=1, keepdim=True)
    )
    own = masks.flatten(1).gather(1, y.clamp(0, height - 1) * width + x.clamp(0, width - 1))
    visibility = inside.float() * (1 + (own & ~hidden).float())
    return torch.cat([places * inside[..., None], visibility[..., None]], dim=2)


def _describe(
    labels: Int64[Tensor, "b m"],
    cast: Cast,
    whole: Bool[Tensor, "b m h w"],
    masks: Bool[Tensor, "b m h w"],
    land: Landscape,
    aspect: float,
) -> list[tuple[str, ...]]:
    """A phrase for each object: what it is, by its colours, and where it is, by what is around it."""
    m = labels.shape[1]
    visible = masks.flatten(2).float().transpose(1, 2)
    shared = whole.flatten(2).float() @ visible  # pixels, exact; [b, behind, front]
    later = torch.ones(m, m, device=labels.device).triu(1)
    hides = (shared / _count(whole).clamp(min=1)[..., None] * later).tolist()
    shore = water_distance(land, cast.x, cast.y, aspect).tolist()
    rows = zip(labels.tolist(), cast.look.tolist(), cast.key.tolist(), hides, shore, strict=True)
    return [
        tuple(
            f"{_name(label, look[n])} {_whereabouts(n, row, hidden, shore[n], key[n])}"
            for n, label in enumerate(row)
            if label
        )
        for row, look, key, hidden, shore in rows
    ]


def _name(label: int, look: int) -> str:
    """What an object is: "an orange tabby cat", "a person in a blue shirt"."""
    table = (figures.CATS, figures.DOGS, figures.CARS, figures.SHIRTS)[label - 1]
    adjective = table[look][0]
    if label == CLASS_NAMES.index("person"):
        return f"a person in {_article(adjective)} shirt"
    return f"{_article(adjective)} {CLASS_NAMES[label]}"


def _article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _whereabouts(
    n: int, labels: list[int], hides: list[list[float]], shore: float, key: int
) -> str:
    """Where object n is: behind what hides most of it, in front of what it hides, or on which ground."""
    front = max(range(len(labels)), key=lambda other: hides[n][other])
    back = max(range(len(labels)), key=lambda other: hides[other][n] * (labels[other] > 0))
    ground = "in the water" if shore < 0 else "by the water" if shore < 0.09 else "on the grass"
    choices = [ground]
    if hides[n][front] > 0.08:
        choices = [
            f"behind a {CLASS_NAMES[labels[front]]}",
            f"partly hidden by a {CLASS_NAMES[labels[front]]}",
        ]
    elif labels[back] and hides[back][n] > 0.08:
        choices = [ground, f"in front of a {CLASS_NAMES[labels[back]]}"]
    return choices[key % len(choices)]
