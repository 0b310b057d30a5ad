"""COCO's two JSON files, checked entry by entry: the ground truth and the detections ("results")."""

import json
import reprlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Int64
from pycocotools import mask as run_lengths

Kind = Literal["bbox", "segm"]
LARGEST = 1e8  # a coordinate, in pixels
MOST_PIXELS = 10**8  # of an image
LONGEST_OUTLINE = 2e6  # of a polygon, in pixels
FINITE = sys.float_info.max


class Region(NamedTuple):
    """A ground truth or a detection."""

    image: int  # the place of its image among all images, by ascending id
    label: int  # the place of its class among all classes, by ascending id
    shape: list[float] | dict[str, Any]  # a box (x, y, width, height), or pycocotools' run lengths
    area: float  # what makes it small, medium or large
    score: float = 1.0
    id: int = 0
    iscrowd: bool = False


class GroundTruth(NamedTuple):
    """A ground-truth file."""

    path: Path
    images: dict[int, int]  # the place of each image id, in ascending order
    sizes: dict[int, tuple[int, int]]  # height and width by image id; (0, 0) for boxes
    categories: dict[int, int]  # the place of each category id, in ascending order
    regions: list[Region]  # by image, within an image as in the file
    without_mask: int  # how many objects are left out, because they have no polygon of three points


def read_ground_truth(path: Path, kind: Kind) -> GroundTruth:
    """Read the images, the categories and the objects of a COCO file.

    Args:
        path: a JSON file like COCO's `instances_val2017.json`.
        kind: whether the objects' boxes ("bbox") or their masks ("segm") will be compared.
    """
    content = _read_json(path)
    keys = ("images", "categories", "annotations")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in keys):
        raise ValueError(
            f'{path}: expected a JSON object with the lists "{keys[0]}", "{keys[1]}" and "{keys[2]}"'
        )
    sizes = _by_id(path, "images", content["images"], _size if kind == "segm" else lambda _: (0, 0))
    names = _by_id(path, "categories", content["categories"], lambda _: None)
    images = {id: place for place, id in enumerate(sorted(sizes))}
    categories = {id: place for place, id in enumerate(sorted(names))}

    def read(entry: dict) -> Region | None:
        image, label = _listed(entry, "image_id", images), _listed(entry, "category_id", categories)
        shape = _box(entry) if kind == "bbox" else _mask(entry, sizes[entry["image_id"]])
        area = _number(entry, "area", "a number of at least 0", least=0.0)
        if entry.get("iscrowd", 0) not in (0, 1):
            raise ValueError(f"iscrowd: expected 0 or 1, got {reprlib.repr(entry['iscrowd'])}")
        crowd = bool(entry.get("iscrowd", 0))
        return shape and Region(image, label, shape, area, id=entry["id"], iscrowd=crowd)

    found = [*_by_id(path, "annotations", content["annotations"], read).values()]
    regions = sorted((region for region in found if region), key=lambda region: region.image)
    return GroundTruth(path, images, sizes, categories, regions, len(found) - len(regions))


def read_results(path: Path, kind: Kind, truth: GroundTruth) -> list[Region]:
    """Read the detections of a results file, by image, within an image as in the file.

    Args:
        path: a JSON file with a list of entries: `image_id`, `category_id`, `score`, and `bbox` or
            `segmentation`.
        kind: what will be compared, "bbox" or "segm".
        truth: the ground truth; it lists the images and the categories that the entries may name.
    """
    content = _read_json(path)
    if not isinstance(content, list):
        raise ValueError(f"{path}: expected a JSON list of detections, got {reprlib.repr(content)}")
    # pycocotools looks at the first entry: if it has a box, the areas of all detections are those of boxes.
    first = content[0] if content and isinstance(content[0], dict) else {}
    areas_of_boxes = kind == "bbox" or bool(first.get("bbox"))

    def read(entry: dict) -> Region:
        image = _listed(entry, "image_id", truth.images)
        label = _listed(entry, "category_id", truth.categories)
        score = _number(entry, "score", "a finite number")
        box, mask = _box(entry) if areas_of_boxes else None, None
        if kind == "segm":
            size = truth.sizes[entry["image_id"]]
            mask = _mask(entry, size) or _encode([size[0] * size[1]], size)  # or without a pixel
        area = box[2] * box[3] if box else float(run_lengths.area(mask))
        return Region(image, label, mask or box, area, score)

    regions = [_entry(path, "entry", number, entry, read) for number, entry in enumerate(content)]
    return sorted(regions, key=lambda region: region.image)


def _read_json(path: Path) -> Any:
    """The content of a JSON file."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise type(error)(f"{path}: the file cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, but it cannot be parsed ({error})") from error


def _entry(path: Path, name: str, number: int, entry: Any, read: Callable[[dict], Any]) -> Any:
    """Read one entry of a list; if it is bad, the message names the file and the entry."""
    try:
        if not isinstance(entry, dict):
            raise ValueError(f"expected a JSON object, got {reprlib.repr(entry)}")
        return read(entry)
    except ValueError as error:
        raise ValueError(f"{path}, {name} {number}: {error}") from error


def _by_id(path: Path, key: str, entries: list, read: Callable[[dict], Any]) -> dict[int, Any]:
    """What `read` makes of each entry, by the entry's own id."""
    values: dict[int, Any] = {}

    def read_new(entry: dict) -> None:
        if type(_get(entry, "id")) is not int or entry["id"] in values:
            got = reprlib.repr(entry["id"])
            raise ValueError(f"id: expected a whole number that no entry before it has, got {got}")
        values[entry["id"]] = read(entry)

    for number, entry in enumerate(entries):
        _entry(path, f'entry of "{key}"', number, entry, read_new)
    return values


def _get(entry: dict, key: str) -> Any:
    """A value that every entry must have."""
    if key not in entry:
        raise ValueError(f'expected the key "{key}", got {reprlib.repr(list(entry))}')
    return entry[key]


def _listed(entry: dict, key: str, known: Mapping[int, int]) -> int:
    """The place of an image or a category that the ground truth lists."""
    value = _get(entry, key)
    if type(value) not in (int, float) or value not in known:
        got = reprlib.repr(value)
        raise ValueError(f"{key}: expected an id that the ground truth lists, got {got}")
    return known[value]


def _is_number(value: Any, least: float = -LARGEST, most: float = LARGEST) -> bool:
    """Whether a value is a number (True and False are not) in this range; NaN is in none."""
    return type(value) in (int, float) and least <= value <= most


def _number(entry: dict, key: str, expected: str, least: float = -FINITE) -> float:
    """A finite number."""
    value = _get(entry, key)
    if not _is_number(value, least, FINITE):
        raise ValueError(f"{key}: expected {expected}, got {reprlib.repr(value)}")
    return float(value)


def _size(image: dict) -> tuple[int, int]:
    """The height and width of an image."""
    height, width = _get(image, "height"), _get(image, "width")
    if not all(_is_number(side, 1.0) and side == int(side) for side in (height, width)):
        got = f"{reprlib.repr(height)} and {reprlib.repr(width)}"
        raise ValueError(f"height and width: expected whole numbers of at least 1, got {got}")
    if height * width > MOST_PIXELS:
        raise ValueError(
            f"height and width: expected at most {MOST_PIXELS:,} pixels, got {height} x {width}"
        )
    return int(height), int(width)


def _box(entry: dict) -> list[float]:
    """A box: x, y, width and height."""
    box = _get(entry, "bbox")
    four = isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))
    if not four or min(box[2:]) < 0:
        raise ValueError(
            "bbox: expected [x, y, width, height] in pixels, at most 100 million, width and height not "
            f"below 0, got {reprlib.repr(box)}"
        )
    return [float(value) for value in box]


def _mask(entry: dict, size: tuple[int, int]) -> dict[str, Any] | None:
    """A mask as pycocotools' run lengths; None if there is no polygon of at least three points."""
    segmentation = _get(entry, "segmentation")
    if isinstance(segmentation, dict):
        return _checked_run_lengths(segmentation, size)
    if not isinstance(segmentation, list):
        got = reprlib.repr(segmentation)
        raise ValueError(f"segmentation: expected polygons or run lengths, got {got}")
    for polygon in segmentation:
        _check_polygon(polygon)
    polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
    if not polygons:
        return None
    return run_lengths.merge(run_lengths.frPyObjects(polygons, *size))


def _check_polygon(polygon: Any) -> None:
    """Raise unless these are the numbers x1, y1, x2, y2, ... of an outline that is not absurdly long."""
    good = isinstance(polygon, list) and len(polygon) % 2 == 0 and all(map(_is_number, polygon))
    if not good:
        got = reprlib.repr(polygon)
        raise ValueError(
            f"segmentation: expected polygons [x1, y1, x2, y2, ...] in pixels, got {got}"
        )
    points = np.array(polygon, dtype=float).reshape(-1, 2)
    if np.abs(points - np.roll(points, 1, axis=0)).sum() > LONGEST_OUTLINE:
        raise ValueError(
            f"segmentation: expected polygons no longer than {LONGEST_OUTLINE:,.0f} pixels around"
        )


def _checked_run_lengths(segmentation: dict, size: tuple[int, int]) -> dict[str, Any]:
    """Run lengths that fill the image; pycocotools would read others beyond their end, or never stop."""
    if _get(segmentation, "size") != [*size]:
        got = reprlib.repr(segmentation["size"])
        raise ValueError(
            f"segmentation: expected run lengths of size {[*size]}, as the image's, got {got}"
        )
    counts = _get(segmentation, "counts")
    if isinstance(counts, str):
        runs = _decompress(counts)
        total = int(runs.sum()) if (runs >= 0).all() else None
    elif isinstance(counts, list) and all(type(run) is int and run >= 0 for run in counts):
        total = sum(counts)
    else:
        total = None
    if total != size[0] * size[1]:
        raise ValueError(
            f"segmentation: expected run lengths that add up to {size[0]} x {size[1]} pixels, got "
            f"{reprlib.repr(counts if total is None else total)}"
        )
    return _encode(counts, size)


def _encode(counts: list[int] | str, size: tuple[int, int]) -> dict[str, Any]:
    """Run lengths as pycocotools compares them."""
    if isinstance(counts, str):
        return {"size": [*size], "counts": counts}
    return run_lengths.frPyObjects({"size": [*size], "counts": counts}, *size)


def _decompress(text: str) -> Int64[np.ndarray, " runs"]:
    """The run lengths in COCO's compressed string.

    Each character holds five bits of a number, least significant first, and a sixth bit if more follow. From
    the fourth number on, what is stored is the difference to the number two places before.
    """
    bits = np.frombuffer(text.encode("ascii", "replace"), np.uint8).astype(np.int64) - 48
    last = bits & 32 == 0
    ends = np.flatnonzero(last)
    lengths = np.diff(ends, prepend=-1)
    if not len(bits) or bits.min() < 0 or bits.max() > 63 or not last[-1] or lengths.max() > 6:
        got = reprlib.repr(text)
        raise ValueError(f"segmentation: expected counts in COCO's compressed form, got {got}")
    shift = 5 * (np.arange(len(bits)) - np.repeat(ends - lengths + 1, lengths))
    runs = np.add.reduceat((bits & 31) << shift, ends - lengths + 1)
    runs -= np.where(bits[ends] & 16, 1 << 5 * lengths, 0)
    runs[1::2], runs[2::2] = runs[1::2].cumsum(), runs[2::2].cumsum()
    return runs
