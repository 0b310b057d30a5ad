"""Polygons drawn in LabelMe, read as masks."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from course_utils.core import VOID, check_size


class LabelMe(NamedTuple):
    """What one LabelMe file says about each pixel of its picture.

    Attributes:
        masks: the visible pixels of each thing, in the order of the file; no two overlap.
        labels: the class of each thing, 1 or above.
        semantic: the class of each pixel, or 255 where no polygon lies.
        class_names: "background", then the names of the things, then those of the stuff.
        stuff: the class numbers that are stuff.
    """

    masks: Bool[Tensor, "n h w"]
    labels: Int64[Tensor, " n"]
    semantic: Int64[Tensor, "h w"]
    class_names: tuple[str, ...]
    stuff: tuple[int, ...]


def polygon_mask(
    points: Sequence[Sequence[float | int]], size: tuple[int, int]
) -> Bool[Tensor, "h w"]:
    """The pixels whose centres lie inside a polygon, by the even-odd rule.

    Walk along a row from the left: every edge that is crossed switches between outside and inside. So each
    edge flips all the pixels to its right in the rows it spans, and what was flipped an odd number of times
    is inside. A centre on a left or upper edge is inside, on a right or lower edge outside: two polygons
    that share an edge share no pixel.

    Args:
        points: corners `x, y` in continuous pixel coordinates, three or more; the last joins the first.
        size: height and width of the mask in pixels.

    Returns:
        True inside.

    Raises:
        ValueError: fewer than three corners, or a corner that is not two finite numbers.

    >>> polygon_mask([(0, 0), (4, 0), (0, 4)], (4, 4)).int()
    tensor([[1, 1, 1, 0],
            [1, 1, 0, 0],
            [1, 0, 0, 0],
            [0, 0, 0, 0]], dtype=torch.int32)
    """
    if len(points) < 3:
        raise ValueError(f"points: expected 3 corners or more, got {len(points)}")
    if not all(
        len(point) == 2 and all(math.isfinite(number) for number in point) for point in points
    ):
        raise ValueError("points: expected two finite numbers x, y for each corner")
    check_size("size", size)
    height, width = size
    inside = np.zeros((height, width), dtype=bool)
    centres = np.arange(width) + 0.5
    for edge in zip(points, [*points[1:], points[0]], strict=True):
        (y1, x1), (y2, x2) = sorted((y, x) for x, y in edge)  # walked either way, the same numbers
        first, last = (min(max(math.ceil(y - 0.5), 0), height) for y in (y1, y2))
        rows = np.arange(first, last) + 0.5
        crossing = x1 + (x2 - x1) * (rows - y1) / ((y2 - y1) or 1)  # a level edge spans no row
        inside[first:last] ^= centres >= crossing[:, None]
    return torch.from_numpy(inside)


def read_labelme(path: Path | str, size: tuple[int, int] | None = None) -> LabelMe:
    """Read the polygons of a LabelMe file as disjoint masks and a semantic map.

    The polygons are painted in the order of the file, so that a later one hides what lies below it. Parts
    with the same label and `group_id` are one thing (a car seen left and right of a tree). A shape whose
    `flags` say `"stuff": true` is stuff, all others are things.

    Args:
        path: the JSON file.
        size: height and width of the picture, to be checked against the file; None to trust the file.

    Returns:
        Masks, labels and the semantic map, at the picture's size.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not whole JSON or not LabelMe's, has another size than the picture, a shape
            that is no polygon or has fewer than three corners, a label that is both thing and stuff, or a
            thing of which nothing is visible.

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
            f"path: {path.name} is not whole JSON ({error}); fetch it again"
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
            f"path: {path.name} was drawn on a picture of {height} x {width} pixels (height x width), "
            f"this one has {size[0]} x {size[1]}"
        )

    things = tuple(dict.fromkeys(shape.label for shape in shapes if not shape.stuff))
    stuff = tuple(dict.fromkeys(shape.label for shape in shapes if shape.stuff))
    if both := sorted(set(things) & set(stuff)):
        raise ValueError(f"path: {path.name} has {', '.join(both)} both as thing and as stuff")
    class_names = ("background", *things, *stuff)

    semantic = torch.full((height, width), VOID)
    owner = torch.full((height, width), -1)  # the thing each pixel belongs to
    found: dict[tuple, int] = {}  # (label, group) of a thing -> its number
    for place, shape in enumerate(shapes):
        try:
            inside = polygon_mask(shape.points, (height, width))
        except ValueError as error:
            raise ValueError(
                f"path: {path.name}, shape {place} ({shape.label}): {error}"
            ) from error
        key = (
            (shape.label, place, None) if shape.group is None else (shape.label, None, shape.group)
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
        raise ValueError(f"label: expected the name of a thing or of stuff, got {label!r}")
    points = [tuple(float(number) for number in point) for point in shape["points"]]
    stuff = bool((shape.get("flags") or {}).get("stuff", False))
    return _Shape(label, points, shape.get("group_id"), stuff)
