"""COCO's JSON files, with their references checked: categories, photos and the annotations of each photo."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from course_utils.data.files import check_files, path_inside, read_json

# what Python raises for an entry that is missing or of the wrong type
WRONG_CONTENT = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError)
# coordinates beyond this are errors, and lose their decimals in float32
LARGEST = 2.0**24
KEYPOINTS = 17


class Annotation(NamedTuple):
    """One object, or one segment of a panoptic map.

    Attributes:
        id: its number in the file.
        label: our class number.
        iscrowd: whether it is a crowd.
        area: in square pixels; None if the file does not say.
        box: `x1, y1, x2, y2`, around the polygons if the file has no usable one; else None.
        outline: polygons as `x, y, x, y, ...`, or run lengths; None if the file has none.
        keypoints: 51 numbers, or None.
    """

    id: int | str
    label: int
    iscrowd: bool
    area: float | None
    box: tuple[float, ...] | None = None
    outline: Sequence[Sequence[float | int]] | dict | None = None
    keypoints: tuple[float, ...] | None = None


class AnnotatedPhoto(NamedTuple):
    """A photo and its annotations; `size` is the (height, width) that the JSON file states."""

    name: str
    path: Path
    size: tuple[int, int]
    annotations: list[Annotation]


class Listing(NamedTuple):
    """A JSON file: `labels` maps a category id to our class number, and `photos` an image id to its photo."""

    path: Path
    content: dict
    labels: dict[int, int]
    class_names: tuple[str, ...]
    photos: dict[int, AnnotatedPhoto]


@contextmanager
def naming_the_file(path: Path, what: str = "") -> Iterator[None]:
    """Name the JSON file, and the entry if there is one, in the error about wrong content."""
    try:
        yield
    except (*WRONG_CONTENT, OSError) as error:
        if isinstance(error, FileNotFoundError) or str(path) in str(error):
            raise
        where = f"{what} in {path}" if what else path
        text = f"{type(error).__name__}: {error}".replace("folder: ", "")
        raise ValueError(f"folder: {where} is not in COCO's format ({text})") from error


def layout(folder: Path, kind: str, split: str | None) -> tuple[Path, str]:
    """The JSON file and the name of the folder of photos.

    Args:
        folder: the folder of the data set.
        kind: "instances", "person_keypoints" or "panoptic".
        split: such as "val2017" in COCO's own layout; None for a folder with `images`.

    >>> json_file, photos = layout(Path("coco"), "panoptic", "val2017")
    >>> json_file.as_posix(), photos
    ('coco/annotations/panoptic_val2017.json', 'val2017')
    """
    if split is None:
        return folder / ("annotations.json" if kind == "instances" else f"{kind}.json"), "images"
    return path_inside(folder, f"annotations/{kind}_{split}.json"), split


def locate(folder: Path, subfolder: str, name: Any) -> Path:
    """The path of a file in a subfolder; `name` may begin with the subfolder's own name."""
    if not isinstance(name, str):
        raise TypeError(f"file_name: expected the name of a file, got {name!r}")
    inside, beside = path_inside(folder, f"{subfolder}/{name}"), path_inside(folder, name)
    return beside if beside.is_file() and not inside.is_file() else inside


def read_listing(folder: Path, kind: str, split: str | None) -> Listing:
    """Read the categories and photos of a JSON file; photos have no annotations yet.

    LVIS names a photo by the address it was downloaded from, which ends in `val2017/000000000139.jpg`.
    """
    path, photo_folder = layout(folder, kind, split)
    content = read_json(path)
    with naming_the_file(path):
        categories = sorted(content["categories"], key=lambda entry: entry["id"])
        labels = {entry["id"]: label for label, entry in enumerate(categories, 1)}
        if not 0 < len(labels) == len(categories):
            raise ValueError(
                f"folder: expected one or more categories in {path}, each with its own id, "
                f"got {len(categories)} with {len(labels)} ids"
            )
        class_names = ("background", *(_class_name(entry) for entry in categories))
        photos = {}
        for entry in content["images"]:
            with naming_the_file(path, "an entry of images"):
                name = entry.get("file_name") or "/".join(entry["coco_url"].split("/")[-2:])
                size = whole("height", entry["height"]), whole("width", entry["width"])
                place = locate(folder, photo_folder, name)
                photos[entry["id"]] = AnnotatedPhoto(name, place, size, [])
        names = {photo.name for photo in photos.values()}
        if not 0 < len(names) == len(content["images"]):
            raise ValueError(
                f"folder: expected one or more images in {path}, each with its own id and file name, "
                f"got {len(content['images'])} with {len(names)} names"
            )
        check_files("photo", (photo.path for photo in photos.values()))
    return Listing(path, content, labels, class_names, photos)


def find_photo(listing: Listing, entry: Any) -> AnnotatedPhoto:
    """The photo that an entry of `annotations` belongs to."""
    image_id = entry["image_id"]
    if image_id not in listing.photos:
        raise ValueError(
            f"folder: {listing.path} annotates image {image_id!r}, which its images do not list"
        )
    return listing.photos[image_id]


def read_annotation(listing: Listing, entry: Any) -> Annotation:
    """An entry of `annotations` or `segments_info`, with our class number."""
    number = entry.get("id") if isinstance(entry, dict) else entry
    with naming_the_file(listing.path, f"annotation {number!r}"):
        category = entry["category_id"]
        if category not in listing.labels:
            raise ValueError(
                f"folder: annotation {number!r} in {listing.path} has category {category!r}, "
                "which its categories do not list"
            )
        area, outline = entry.get("area"), _read_outline(entry.get("segmentation"))
        return Annotation(
            entry["id"],
            listing.labels[category],
            flag("iscrowd", entry.get("iscrowd", 0)),
            None if area is None or not 0 <= float(area) < LARGEST**2 else float(area),
            _read_box(entry.get("bbox")) or _box_around(outline),
            outline,
            _read_keypoints(entry.get("keypoints")),
        )


def flag(name: str, value: Any) -> bool:
    """A yes or no in COCO's files: 0 or 1, which some tools write as text.

    >>> flag("iscrowd", "0")
    False
    """
    if float(value) not in (0, 1):
        raise ValueError(f"{name}: expected 0 or 1, got {value!r}")
    return float(value) == 1


def whole(name: str, value: Any, least: int = 1) -> int:
    """A whole number, which some tools write as 480.0."""
    if isinstance(value, bool | str) or value != int(value) or value < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")
    return int(value)


def _class_name(entry: Any) -> str:
    name = entry["name"]
    if not isinstance(name, str) or not name:
        raise ValueError(f"category {entry['id']!r}: expected a name, got {name!r}")
    return name


def _read_box(box: Any) -> tuple[float, ...] | None:
    """COCO's `x, y, width, height` as corners; None for none, and for sizes below 0 or NaN."""
    if not box:
        return None
    if len(box) != 4:
        raise ValueError(f"bbox: expected x, y, width, height, got {box}")
    x, y, width, height = map(float, box)
    corners = (x, y, x + width, y + height)
    usable = width >= 0 and height >= 0 and all(abs(corner) < LARGEST for corner in corners)
    return corners if usable else None


def _box_around(outline: list | dict | None) -> tuple[float, ...] | None:
    """The box around the corners of polygons."""
    if not isinstance(outline, list):
        return None
    xs = [float(x) for polygon in outline for x in polygon[::2]]
    ys = [float(y) for polygon in outline for y in polygon[1::2]]
    return _read_box((min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)))


def _read_outline(segmentation: Any) -> list | dict | None:
    """Polygons with three corners or more, or run lengths; None if there are none."""
    if not segmentation or isinstance(segmentation, dict):
        return segmentation or None
    polygons = list(segmentation)
    if odd := [len(polygon) for polygon in polygons if len(polygon) % 2]:
        raise ValueError(f"segmentation: expected pairs x, y, got {odd[0]} numbers")
    return [polygon for polygon in polygons if len(polygon) >= 6] or None


def _read_keypoints(keypoints: Any) -> tuple[float, ...] | None:
    if not keypoints:
        return None
    numbers = tuple(map(float, keypoints))
    if len(numbers) != 3 * KEYPOINTS or not all(map(math.isfinite, numbers)):
        raise ValueError(
            f"keypoints: expected x, y, visibility of {KEYPOINTS} points, got {len(numbers)} numbers"
        )
    return numbers
