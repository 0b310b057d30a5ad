"""Photos labelled in LabelMe: a JSON file with polygons, rectangles and circles beside each photo.

pets/tom.jpg      the photo
pets/tom.json     its shapes; LabelMe writes it
"""

import base64
import math
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from PIL import Image
from torch import Tensor

from course_utils.core import VOID
from course_utils.data.files import check_files, read_json
from course_utils.data.image_files import check_same_size, read_image
from course_utils.data.pictures import MAX_CLASSES, Pictures, make_sample
from course_utils.data.sample import Sample
from course_utils.ops.masks import polygon_mask

IGNORED = "__ignore__"  # LabelMe's label of regions that do not count
FARTHEST = 1e9  # pixels; larger coordinates overflow in the arithmetic of polygons


class LabelMe(NamedTuple):
    """The ground truth in a LabelMe file.

    Attributes:
        masks: the visible pixels of each thing, in the order of the file; no two overlap.
        labels: the class of each thing, 1 or above.
        semantic: the class of each pixel, or 255 where there is no shape.
        class_names: "background", then the things, then the stuff.
        stuff: the numbers of the stuff classes.
    """

    masks: Bool[Tensor, "n h w"]
    labels: Int64[Tensor, " n"]
    semantic: Int64[Tensor, "h w"]
    class_names: tuple[str, ...]
    stuff: tuple[int, ...]


def read(folder: Path | str, class_names: tuple[str, ...] | None = None) -> Pictures:
    """Open a folder of photos that were labelled in LabelMe.

    Every JSON file is a sample; photos without one are left out. The photo is the one embedded in the JSON
    file, or the file that `imagePath` names, turned as its EXIF data say, because LabelMe shows it so. The
    shapes are read as in `read_labelme`.

    Args:
        folder: the folder that holds the JSON files.
        class_names: those of your training photos, to number the classes of validation photos alike; None for
            "background", the things of all files and the stuff of all files, each in alphabetical order.

    Returns:
        The photos in the order of the names of their JSON files. They have no crowds.

    Source: the file format of LabelMe 5, https://github.com/wkentaro/labelme.
    """
    folder = Path(folder)
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise FileNotFoundError(f"folder: expected LabelMe's files {folder}/*.json, found none")
    things, stuff = {}, {}  # the labels, each with the first file that has it
    for path in paths:
        content = read_json(path)
        if not content.get("imageData"):
            check_files("photo", [_photo_file(path, content)])
        for shape in _read_shapes(path, content):
            (stuff if shape.stuff else things).setdefault(shape.label, path)
    stuff.pop(IGNORED, None)
    if both := sorted(things.keys() & stuff.keys()):
        raise ValueError(
            f"folder: {both[0]} is a thing in {things[both[0]]} and stuff in {stuff[both[0]]}"
        )
    if class_names is None:
        class_names = ("background", *sorted(things), *sorted(stuff))
    first = things | stuff
    if unknown := [label for label in first if label not in class_names[1:]]:
        raise ValueError(
            f"folder: expected one of class_names in {first[unknown[0]]}, got {unknown[0]!r}"
        )
    stuff = tuple(number for number, name in enumerate(class_names) if name in stuff)
    read_sample = partial(_read_sample, folder, class_names, stuff)
    return Pictures([path.stem for path in paths], class_names, stuff, read_sample)


def read_labelme(path: Path | str, size: tuple[int, int] | None = None) -> LabelMe:
    """Read the shapes of a LabelMe file as disjoint masks and a semantic map.

    Polygons, rectangles and circles are painted in the order of the file, so a later one occludes earlier
    ones. Shapes with the same label and `group_id` are one thing (a car on both sides of a tree). A shape
    whose `flags` say `"stuff": true` is stuff, all others are things. The pixels of a shape with the label
    `__ignore__` are void.

    Args:
        path: the JSON file.
        size: height and width of the image, to be compared with the file's; None to skip this check.

    Returns:
        Masks, labels and the semantic map, at the image's size.

    >>> from course_utils.core.paths import data_path
    >>> read_labelme(data_path("annotations", "chelsea.json")).class_names
    ('background', 'cat', 'blanket')
    """
    path = Path(path)
    content = read_json(path)
    shapes = _read_shapes(path, content)
    stated = _read_size(path, content)
    if stated is not None and size is not None and tuple(size) != stated:
        raise ValueError(
            f"folder: {path} annotates an image of {stated[0]} x {stated[1]} pixels (height x width), "
            f"this one has {size[0]} x {size[1]}"
        )
    size = stated or size or _read_photo(path, content).shape[1:]
    labels = dict.fromkeys(shape.label for shape in shapes if shape.label != IGNORED)
    stuff = {shape.label for shape in shapes if shape.stuff}
    if both := sorted({shape.label for shape in shapes if not shape.stuff} & stuff):
        raise ValueError(f"folder: {path} has {', '.join(both)} both as a thing and as stuff")
    class_names = ("background", *sorted(labels, key=stuff.__contains__))  # things, then stuff
    masks, numbers, semantic = _paint(path, shapes, tuple(size), class_names)
    return LabelMe(
        masks,
        numbers,
        semantic,
        class_names,
        tuple(class_names.index(name) for name in labels if name in stuff),
    )


class _Shape(NamedTuple):
    label: str
    kind: str
    points: list[tuple[float, ...]]
    group: int | str | None
    stuff: bool


def _read_shapes(path: Path, content: dict) -> list[_Shape]:
    try:
        return [_read_shape(shape) for shape in content["shapes"]]
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"folder: {path} does not hold LabelMe's shapes ({type(error).__name__}: {error})"
        ) from error


def _read_shape(shape: dict) -> _Shape:
    """One entry of a LabelMe file's `shapes`; the first versions of LabelMe had polygons only."""
    label, kind, group = shape["label"], shape.get("shape_type", "polygon"), shape.get("group_id")
    if not isinstance(label, str) or label in ("", "background"):
        raise ValueError(f"label: expected the name of a class, got {label!r}")
    if kind not in ("polygon", "rectangle", "circle"):
        raise ValueError(
            f"shape_type: expected polygon, rectangle or circle, got {kind!r} for {label!r}"
        )
    if not isinstance(group, int | str | None):
        raise ValueError(f"group_id: expected a number or null, got {group!r} for {label!r}")
    stuff = label == IGNORED or (shape.get("flags") or {}).get("stuff", False)
    if not isinstance(stuff, bool):
        raise ValueError(f"flags: expected true or false for stuff, got {stuff!r} for {label!r}")
    points = [tuple(float(number) for number in point) for point in shape["points"]]
    if any(len(p) != 2 or not all(abs(number) < FARTHEST for number in p) for p in points):
        raise ValueError(f"points: expected x, y in pixels for {label!r}")
    if len(points) < 3 if kind == "polygon" else len(points) != 2:
        expected = "3 corners or more" if kind == "polygon" else "2 points"
        raise ValueError(
            f"points: expected {expected} for the {kind} of {label!r}, got {len(points)}"
        )
    return _Shape(label, kind, points, group, stuff)


def _read_size(path: Path, content: dict) -> tuple[int, int] | None:
    """The (height, width) that a LabelMe file states, if it does."""
    size = content.get("imageHeight"), content.get("imageWidth")
    if size == (None, None):
        return None
    whole = all(isinstance(side, int | float) and side >= 1 and side % 1 == 0 for side in size)
    if not whole or size[0] * size[1] > (Image.MAX_IMAGE_PIXELS or math.inf):
        raise ValueError(
            f"folder: expected imageHeight and imageWidth of an image in {path}, got {size}"
        )
    return int(size[0]), int(size[1])


def _photo_file(path: Path, content: dict) -> Path:
    """The photo that a LabelMe file names; tools on Windows write backslashes."""
    name = content.get("imagePath")
    if not isinstance(name, str) or not name:
        raise ValueError(f"folder: expected the name of a photo in {path}, got imagePath {name!r}")
    return path.parent / name.replace("\\", "/")


def _read_photo(path: Path, content: dict) -> Float[Tensor, "3 h w"]:
    """The image as LabelMe shows it: the one inside the file, or the one that it names, turned upright."""
    embedded = content.get("imageData")
    if not embedded:
        return read_image(_photo_file(path, content), upright=True)
    try:
        image_file = base64.b64decode(embedded)
    except (TypeError, ValueError) as error:
        raise ValueError(f"folder: expected base64 as imageData in {path} ({error})") from error
    return read_image(path, content=image_file)


def _read_sample(
    folder: Path, class_names: tuple[str, ...], stuff: tuple[int, ...], name: str
) -> Sample:
    path = folder / f"{name}.json"
    content = read_json(path)
    image = _read_photo(path, content)
    check_same_size(path, _read_size(path, content) or image.shape[1:], image)
    shapes = _read_shapes(path, content)
    return make_sample(
        image, *_paint(path, shapes, tuple(image.shape[1:]), class_names), class_names, stuff
    )


def _paint(
    path: Path, shapes: list[_Shape], size: tuple[int, int], class_names: tuple[str, ...]
) -> tuple[Bool[Tensor, "n h w"], Int64[Tensor, " n"], Int64[Tensor, "h w"]]:
    """The masks and classes of the things, and the semantic map."""
    if len(class_names) > MAX_CLASSES + 1:
        raise ValueError(f"folder: expected {MAX_CLASSES} classes or fewer in {path}")
    numbers = {name: number for number, name in enumerate(class_names)} | {IGNORED: VOID}
    semantic = torch.full(size, VOID)
    owner = torch.full(size, -1)  # the index of the thing that each pixel belongs to
    found: dict[tuple, int] = {}  # (label, group) of a thing -> its index
    for index, shape in enumerate(shapes):
        inside = _inside(shape, size)
        key = (
            (shape.label, index, None) if shape.group is None else (shape.label, None, shape.group)
        )
        semantic[inside] = numbers[shape.label]
        owner[inside] = -1 if shape.stuff else found.setdefault(key, len(found))
    masks = owner == torch.arange(len(found))[:, None, None]  # [n, h, w]
    if hidden := [label for (label, *_), mask in zip(found, masks, strict=True) if not mask.any()]:
        raise ValueError(
            f"folder: {path} has things of which no pixel is visible: {', '.join(hidden)}"
        )
    labels = torch.tensor([numbers[label] for label, *_ in found], dtype=torch.int64)
    return masks, labels, semantic


def _inside(shape: _Shape, size: tuple[int, int]) -> Bool[Tensor, "h w"]:
    """The pixels whose centres lie inside a shape."""
    if shape.kind == "polygon":
        return polygon_mask(shape.points, size)
    (x1, y1), (x2, y2) = shape.points
    if shape.kind == "rectangle":  # two opposite corners
        return polygon_mask([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], size)
    # the centre of a circle, and a point on its rim
    y, x = (torch.arange(pixels, dtype=torch.float64) + 0.5 for pixels in size)
    return (y[:, None] - y1) ** 2 + (x - x1) ** 2 <= (x2 - x1) ** 2 + (y2 - y1) ** 2
