"""Polygons drawn in LabelMe, read as masks and a semantic map."""

import json
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from course_utils.core import VOID, check_size
from course_utils.ops.masks import polygon_mask


class LabelMe(NamedTuple):
    """The ground truth in a LabelMe file.

    Attributes:
        masks: the visible pixels of each thing, in the order of the file; no two overlap.
        labels: the class of each thing, 1 or above.
        semantic: the class of each pixel, or 255 where there is no polygon.
        class_names: "background", then the things, then the stuff.
        stuff: the numbers of the stuff classes.
    """

    masks: Bool[Tensor, "n h w"]
    labels: Int64[Tensor, " n"]
    semantic: Int64[Tensor, "h w"]
    class_names: tuple[str, ...]
    stuff: tuple[int, ...]


def read_labelme(path: Path | str, size: tuple[int, int] | None = None) -> LabelMe:
    """Read the polygons of a LabelMe file as disjoint masks and a semantic map.

    The polygons are painted in the order of the file, so a later one occludes earlier ones. Polygons with the
    same label and `group_id` are one thing (a car on both sides of a tree). A shape whose `flags` say
    `"stuff": true` is stuff, all others are things.

    Args:
        path: the JSON file.
        size: height and width of the image, to be compared with the file's; None to skip this check.

    Returns:
        Masks, labels and the semantic map, at the image's size.

    Source: the file format of LabelMe 5, https://github.com/wkentaro/labelme.

    >>> from course_utils.core.paths import data_path
    >>> read_labelme(data_path("annotations", "chelsea.json")).class_names
    ('background', 'cat', 'blanket')
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path: no annotation file {path}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"path: {path.name} is not a complete JSON file ({error}); download it again"
        ) from error
    try:
        height, width = int(content["imageHeight"]), int(content["imageWidth"])
        check_size("imageHeight, imageWidth", (height, width))
        shapes = [_read_shape(shape) for shape in content["shapes"]]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"path: {path.name} does not hold LabelMe's polygons ({type(error).__name__}: {error})"
        ) from error
    if size is not None and tuple(size) != (height, width):
        raise ValueError(
            f"path: {path.name} annotates an image of {height} x {width} pixels (height x width), "
            f"this one has {size[0]} x {size[1]}"
        )

    things = tuple(dict.fromkeys(shape.label for shape in shapes if not shape.stuff))
    stuff = tuple(dict.fromkeys(shape.label for shape in shapes if shape.stuff))
    if both := sorted(set(things) & set(stuff)):
        raise ValueError(f"path: {path.name} has {', '.join(both)} both as a thing and as stuff")
    class_names = ("background", *things, *stuff)

    semantic = torch.full((height, width), VOID)
    owner = torch.full((height, width), -1)  # the index of the thing that each pixel belongs to
    found: dict[tuple, int] = {}  # (label, group) of a thing -> its index
    for index, shape in enumerate(shapes):
        try:
            inside = polygon_mask(shape.points, (height, width))
        except ValueError as error:
            raise ValueError(
                f"path: {path.name}, shape {index} ({shape.label}): {error}"
            ) from error
        key = (
            (shape.label, index, None) if shape.group is None else (shape.label, None, shape.group)
        )
        semantic[inside] = class_names.index(shape.label)
        owner[inside] = -1 if shape.stuff else found.setdefault(key, len(found))

    masks = owner == torch.arange(len(found))[:, None, None]  # [n, h, w]
    labels = torch.tensor([class_names.index(label) for label, *_ in found], dtype=torch.int64)
    if hidden := [label for (label, *_), mask in zip(found, masks, strict=True) if not mask.any()]:
        raise ValueError(
            f"path: {path.name} has things of which no pixel is visible: {', '.join(hidden)}"
        )
    return LabelMe(
        masks, labels, semantic, class_names, tuple(class_names.index(name) for name in stuff)
    )


class _Shape(NamedTuple):
    label: str
    points: list[tuple[float, ...]]
    group: int | None
    stuff: bool


def _read_shape(shape: dict) -> _Shape:
    """One entry of a LabelMe file's `shapes`."""
    label, kind = shape["label"], shape["shape_type"]
    if kind != "polygon":
        raise ValueError(f"shape_type: expected 'polygon', got {kind!r} for {label!r}")
    if not isinstance(label, str) or label == "background":
        raise ValueError(f"label: expected the name of a class, got {label!r}")
    points = [tuple(float(number) for number in point) for point in shape["points"]]
    stuff = bool((shape.get("flags") or {}).get("stuff", False))
    return _Shape(label, points, shape.get("group_id"), stuff)
