"""COCO's JSON files, with their references checked: categories, photos and the annotations of each photo."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from course_utils.data.pictures import MAX_CLASSES, check_files, path_inside, read_json


class Annotation(NamedTuple):
    """One object or segment: an entry of COCO's `annotations` or `segments_info`."""

    id: int
    label: int
    iscrowd: bool
    entry: dict


class AnnotatedPhoto(NamedTuple):
    """A photo and its annotations; `size` is the one that the JSON file states."""

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
def naming_the_file(path: Path) -> Iterator[None]:
    """Name the JSON file in the error if an entry is missing or of the wrong type."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"folder: {path} does not hold COCO's annotations ({type(error).__name__}: {error})"
        ) from error


def read_listing(folder: Path, kind: str, split: str) -> Listing:
    """Read the categories and photos of `annotations/{kind}_{split}.json`; photos have no annotations yet."""
    path = path_inside(folder, f"annotations/{kind}_{split}.json")
    content = read_json(path)
    with naming_the_file(path):
        categories = sorted(content["categories"], key=lambda entry: entry["id"])
        labels = {entry["id"]: label for label, entry in enumerate(categories, 1)}
        if not 0 < len(labels) == len(categories) <= MAX_CLASSES:
            raise ValueError(
                f"folder: expected 1 to {MAX_CLASSES} categories in {path}, each with its own id, "
                f"got {len(categories)} with {len(labels)} ids"
            )
        photos = {}
        for entry in content["images"]:
            name, size = entry["file_name"], (entry["height"], entry["width"])
            photos[entry["id"]] = AnnotatedPhoto(
                name, path_inside(folder, f"{split}/{name}"), size, []
            )
        names = {photo.name for photo in photos.values()}
        if not 0 < len(names) == len(content["images"]):
            raise ValueError(
                f"folder: expected one or more images in {path}, each with its own id and file name, "
                f"got {len(content['images'])} with {len(names)} names"
            )
        class_names = ("background", *(str(entry["name"]) for entry in categories))
    check_files("photo", (photo.path for photo in photos.values()))
    return Listing(path, content, labels, class_names, photos)


def find_photo(listing: Listing, entry: dict) -> AnnotatedPhoto:
    """The photo that an entry of `annotations` belongs to."""
    image_id = entry["image_id"]
    if image_id not in listing.photos:
        raise ValueError(
            f"folder: {listing.path} annotates image {image_id}, which its images do not list"
        )
    return listing.photos[image_id]


def read_annotation(listing: Listing, entry: dict) -> Annotation:
    """An entry of `annotations` or `segments_info`, with our class number."""
    category = entry["category_id"]
    if category not in listing.labels:
        raise ValueError(
            f"folder: annotation {entry['id']} in {listing.path} has category {category}, "
            "which its categories do not list"
        )
    label, iscrowd = listing.labels[category], bool(entry.get("iscrowd", 0))
    return Annotation(entry["id"], label, iscrowd, entry)
