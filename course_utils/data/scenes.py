"""Synthetic scenes: landscapes with cats, dogs, cars and persons, and the ground truth of every task.

Scene k of a seed is the same image with the same ground truth wherever it is drawn: alone or in a batch, with
one thread or many. `make_scenes` draws a padded batch for training, `make_scene` one `Sample` to look at.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from course_utils.core import check_rows, check_size, check_whole
from course_utils.data._captions import write_captions
from course_utils.data._dice import fold
from course_utils.data._landscape import (
    GRASS,
    SKY,
    TREE,
    WATER,
    apply_light,
    lay_out_landscape,
    paint_landscape,
)
from course_utils.data._placement import (
    MOST_OBJECTS,
    MOST_TREES,
    Placement,
    place_things,
    place_trees,
)
from course_utils.data._sprites import (
    composite,
    count_pixels,
    full_masks,
    paint_figures,
    visible_masks,
)
from course_utils.data.sample import Sample

CLASS_NAMES = ("background", "cat", "dog", "car", "person", "sky", "grass", "water", "tree")
THINGS = (1, 2, 3, 4)
STUFF = (SKY, GRASS, WATER, TREE)

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
# The limbs of COCO's skeleton, as pairs of indices into KEYPOINT_NAMES.
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

PIXELS_PER_GROUP = 2**18  # a large batch is drawn in groups of scenes, to limit the memory


class Scenes(NamedTuple):
    """A batch of scenes, padded to the largest number of objects that a scene can have.

    Unused slots come last and hold zeros. Objects are ordered from the background to the foreground.

    Attributes:
        images: RGB in 0..1.
        boxes: `x1, y1, x2, y2` in pixels, tight around the visible masks.
        labels: 1 to 4, an index into `CLASS_NAMES`; 0 where the slot is unused.
        masks: the visible pixels of each object; no two masks overlap.
        semantic: the class of each pixel, 1 to 8.
        panoptic: `1000 * class + k`, where k = 1, 2, ... counts the things of a class and is 0 for stuff.
        keypoints: COCO's 17 keypoints of each person as `x, y, visibility` (0 absent, 1 occluded, 2 visible).
        captions: for each scene a phrase per object.
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
        """Scene `number` of the batch without its unused slots, as views of the batch's tensors."""
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
    """One scene with its ground truth. Arguments as in `make_scenes`.

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
    """A batch of scenes with their ground truth.

    Every random number is a hash of the seed, the scene's index and the object's slot, so a scene does not
    depend on the batch in which it is drawn.

    Args:
        indices: the index of each scene, 0 to 2**31 - 1.
        seed: selects one of 2**31 different series of scenes.
        size: (height, width) in pixels, at least 16 each. A scene has the same content at every size with
            the same aspect ratio.
        device: where to draw; None for the CPU.

    Returns:
        The scenes, in the order of `indices`.

    >>> scenes = make_scenes([0, 1, 2], size=(48, 64))
    >>> scenes.images.shape, scenes.labels.shape
    (torch.Size([3, 3, 48, 64]), torch.Size([3, 5]))
    """
    check_size("size", size)
    size = (int(size[0]), int(size[1]))
    if min(size) < 16:
        raise ValueError(f"size: expected a height and width of at least 16 pixels, got {size}")
    check_whole("seed", seed)
    if seed >= 2**31:
        raise ValueError(f"seed: expected 0 <= seed < 2**31, got {seed}")
    numbers = _check_indices(indices, device)
    keys = fold(fold(torch.zeros_like(numbers), seed), numbers)
    groups = keys.split(max(1, PIXELS_PER_GROUP // (size[0] * size[1])))
    *tensors, captions = zip(*(_draw(group, size) for group in groups), strict=True)
    return Scenes(
        *(torch.cat(parts) for parts in tensors), [phrases for part in captions for phrases in part]
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
    good = (numbers >= 0) & (numbers < 2**31)
    check_rows("indices", numbers, good, "numbers from 0 to 2**31 - 1")
    try:
        return numbers.to("cpu" if device is None else device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device: this machine has no device {str(device)!r}; leave it out for the CPU"
        ) from error


def _draw(keys: Int64[Tensor, " b"], size: tuple[int, int]) -> tuple:
    """The fields of `Scenes` for the scenes with these keys."""
    aspect = size[1] / size[0]
    land = lay_out_landscape(fold(keys, 1), aspect)
    images, ground = paint_landscape(land, size)
    trees = place_trees(fold(keys, 2), land, aspect)
    things = place_things(fold(keys, 3), land, aspect)
    tree_sprites = [paint_figures(kind, trees, size)[0] for kind in ("tree", "fir")]
    sprites = [paint_figures(kind, things, size)[0] for kind in ("cat", "dog", "car")]
    persons, points, self_occluded = paint_figures("person", things, size)
    sprites.append(persons)
    pad = max(max(group.mask.shape[1:]) for group in tree_sprites + sprites) + size[0] // 8 + 1

    # trees stand behind all things; then the things of which enough is visible, from back to front
    full = full_masks(sprites, MOST_OBJECTS, len(keys), size, pad)
    masks = visible_masks(full)
    present = count_pixels(masks) > 0
    padded = torch.nn.functional.pad(images, (pad, pad, pad, pad))
    for slot in range(MOST_TREES):
        composite(padded, tree_sprites, slot, torch.ones_like(present), pad)
    for slot in range(MOST_OBJECTS):
        composite(padded, sprites, slot, present, pad)
    images = apply_light(padded[:, :, pad:-pad, pad:-pad], land, keys)
    for mask in full_masks(tree_sprites, MOST_TREES, len(keys), size, pad).unbind(1):
        ground.masked_fill_(mask, TREE)

    keypoints = images.new_zeros(len(keys), MOST_OBJECTS, 17, 3)
    keypoints[persons.scene, persons.slot] = _with_visibility(
        points, self_occluded, masks[persons.scene, persons.slot]
    )

    # used slots first
    order = torch.argsort((~present).long(), dim=1, stable=True)
    rows = torch.arange(len(keys), device=keys.device)[:, None]
    things = Placement(*(field[rows, order] for field in things))
    masks, full, present, keypoints = (
        field[rows, order] for field in (masks, full, present, keypoints)
    )
    labels = torch.where(present, things.label, 0)
    semantic, panoptic = _label_pixels(labels, masks, ground)
    captions = write_captions(labels, things, full, masks, land, aspect)
    return images, _tight_boxes(masks), labels, masks, semantic, panoptic, keypoints, captions


def _tight_boxes(masks: Bool[Tensor, "b m h w"]) -> Float[Tensor, "b m 4"]:
    """The smallest box around each mask; zeros for an empty mask."""
    sides = []
    for axis in (2, 3):
        occupied = masks.view(torch.uint8).amax(dim=axis) > 0  # [b, m, w], then [b, m, h]
        index = torch.arange(occupied.shape[2], device=masks.device)
        first = torch.where(occupied, index, occupied.shape[2]).amin(dim=2)
        sides.append((first, torch.where(occupied, index + 1, 0).amax(dim=2)))
    (x1, x2), (y1, y2) = sides
    boxes = torch.stack([x1, y1, x2, y2], dim=2)
    return torch.where((x2 > 0)[..., None], boxes, 0).float()


def _label_pixels(
    labels: Int64[Tensor, "b m"], masks: Bool[Tensor, "b m h w"], ground: Int64[Tensor, "b h w"]
) -> tuple[Int64[Tensor, "b h w"], Int64[Tensor, "b h w"]]:
    """The semantic and the panoptic map: stuff from `ground`, things from their masks."""
    panoptic = 1000 * ground
    for slot in range(labels.shape[1]):
        label = labels[:, slot]
        k = (labels[:, : slot + 1] == label[:, None]).sum(dim=1)
        panoptic = torch.where(masks[:, slot], (1000 * label + k)[:, None, None], panoptic)
    return panoptic // 1000, panoptic


def _with_visibility(
    points: Float[Tensor, "n 17 2"],
    self_occluded: Bool[Tensor, "n 17"],
    masks: Bool[Tensor, "n h w"],
) -> Float[Tensor, "n 17 3"]:
    """Add COCO's visibility to keypoints: 2 if its pixel shows the person, 1 if occluded, 0 if outside."""
    height, width = masks.shape[1:]
    x, y = points.floor().long().unbind(dim=2)
    inside = (
        (x >= 0) & (x < width) & (y >= 0) & (y < height) & masks.flatten(1).any(dim=1, keepdim=True)
    )
    own = masks.flatten(1).gather(1, y.clamp(0, height - 1) * width + x.clamp(0, width - 1))
    visibility = inside.float() * (1 + (own & ~self_occluded).float())
    return torch.cat([points * inside[..., None], visibility[..., None]], dim=2)
