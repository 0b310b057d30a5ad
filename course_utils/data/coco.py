"""COCO: everyday scenes with their objects outlined, and with every pixel labelled (panoptic).

    val2017/000000000139.jpg                              the photo
    annotations/instances_val2017.json                    its objects, as polygons or run lengths
    annotations/panoptic_val2017.json                     its segments, and
    annotations/panoptic_val2017/000000000139.png         the segment of each pixel, R + 256 G + 65536 B

COCO numbers its categories with gaps (1 to 90 for 80 things). Here they are numbered 1, 2, 3, ... in the same
order, and 0 is background.
"""

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from PIL import Image
from torch import Tensor

from course_utils.core import VOID, check_shape, check_size
from course_utils.data.labelme import polygon_mask
from course_utils.data.pictures import (
    MOST_CLASSES,
    Pictures,
    check_present,
    check_same_size,
    complete,
    member,
    open_image,
    open_json,
    open_pixels,
)
from course_utils.data.sample import Sample


def decode_rle(counts: str | bytes | Sequence[int], size: tuple[int, int]) -> Bool[Tensor, "h w"]:
    """The mask that COCO's run lengths stand for.

    Go down the first column, then down the second, and so on: `counts` says how many pixels are outside,
    then how many inside, then outside again. COCO's files write the numbers as a list, or squeezed into a
    text: from the fourth on only the difference to the last but one is kept, and each number is written in
    groups of 5 bits, the lowest first, with a sixth bit where more follow; adding 48 makes letters of them.

    Args:
        counts: a list of numbers, or the text.
        size: height and width of the mask in pixels.

    Returns:
        True inside.

    Raises:
        ValueError: the text ends within a number or has a letter that is none of these, a number is below 0,
            or the numbers do not add up to the pixels.

    Source: same as `pycocotools.mask.decode`.

    >>> decode_rle([1, 2, 2, 1], (2, 3)).int()
    tensor([[0, 1, 0],
            [1, 0, 1]], dtype=torch.int32)
    >>> decode_rle("122O", (2, 3)).int()
    tensor([[0, 1, 0],
            [1, 0, 1]], dtype=torch.int32)
    """
    check_size("size", size)
    numbers = _read_text(counts) if isinstance(counts, str | bytes) else list(counts)
    height, width = size
    wrong = [number for number in numbers if not isinstance(number, int) or number < 0]
    if wrong or sum(numbers) != height * width:
        got = f"a run of {wrong[0]!r}" if wrong else f"{sum(numbers)}"
        raise ValueError(
            f"counts: expected runs that add up to {height} x {width} = {height * width} pixels, got {got}"
        )
    inside = torch.arange(len(numbers)) % 2 == 1
    return inside.repeat_interleave(torch.tensor(numbers)).reshape(width, height).T.contiguous()


def read(folder: Path | str, split: str = "train2017") -> Pictures:
    """Open a folder in COCO's layout with the outlines of its objects.

    The label map is made from the outlines: background where there is no object, void where objects of two
    classes lie over each other. A crowd (`iscrowd`) has its class in the label map but is no object. Objects
    keep COCO's own boxes, and their masks may overlap or, if tiny, be empty.

    Args:
        folder: the one that holds `annotations` and a folder of photos for each split.
        split: "train2017", "val2017", or whatever stands in your `annotations/instances_*.json`.

    Returns:
        The photos by number, in the order of the JSON file.

    Raises:
        FileNotFoundError: the JSON file or a photo is missing.
        ValueError: the JSON file is broken, is none of COCO's, or has an annotation whose photo or category
            is not listed; later, when a picture is asked for: it is broken, its size is not the one in the
            JSON file, or an outline is none.

    Source: Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014.
    """
    listing = _open(Path(folder), "instances", split)
    with _naming_the_file(listing.path):
        for entry in listing.content["annotations"]:
            _find_photo(listing, entry).objects.append(_read_object(listing, entry))
    photos = {photo.name: photo for photo in listing.photos.values()}
    read_sample = partial(_read_instances, listing.path, photos, listing.class_names)
    read_pair = partial(_read_pair, read_sample)
    return Pictures(tuple(photos), listing.class_names, (), read_pair, read_sample)


def read_panoptic(folder: Path | str, split: str = "train2017") -> Pictures:
    """Open a folder in COCO's layout with the segment of each pixel.

    Pixels of segment 0 are void. A crowd has its class in the label map, but is no object, and void in the
    panoptic map, whose numbers are the course's (`1000 * class + k`).

    Args:
        folder: the one that holds `annotations` and a folder of photos for each split.
        split: "train2017", "val2017", or whatever stands in your `annotations/panoptic_*.json`.

    Returns:
        The photos by number, in the order of the JSON file.

    Raises:
        FileNotFoundError: the JSON file, a photo or a PNG file is missing.
        ValueError: the JSON file is broken, is none of COCO's, or has an annotation whose photo or category
            is not listed; later, when a picture is asked for: a file is broken, sizes differ, or the segments
            in the JSON file are not those in the PNG file.

    Source: Kirillov et al., Panoptic Segmentation, CVPR 2019; the format at https://cocodataset.org/#format-data.
    """
    listing = _open(Path(folder), "panoptic", split)
    maps = {}
    with _naming_the_file(listing.path):
        for entry in listing.content["annotations"]:
            photo = _find_photo(listing, entry)
            photo.objects.extend(
                _read_object(listing, segment) for segment in entry["segments_info"]
            )
            maps[photo.name] = member(listing.path.parent, f"panoptic_{split}/{entry['file_name']}")
        things = {entry["id"] for entry in listing.content["categories"] if entry["isthing"]}
    photos = {photo.name: photo for photo in listing.photos.values()}
    if lacking := [name for name in photos if name not in maps]:
        raise ValueError(
            f"folder: expected an annotation for each image in {listing.path}, none for {lacking[0]}"
        )
    check_present("panoptic map", maps.values())
    stuff = tuple(label for number, label in listing.labels.items() if number not in things)
    read_sample = partial(_read_segments, photos, maps, listing.class_names, stuff)
    read_pair = partial(_read_pair, read_sample)
    return Pictures(tuple(photos), listing.class_names, stuff, read_pair, read_sample)


def write_panoptic(
    folder: Path | str,
    images: Float[Tensor, "b 3 h w"] | Sequence[Float[Tensor, "3 _ _"]],
    maps: Int64[Tensor, "b h w"] | Sequence[Int64[Tensor, "_ _"]],
    class_names: Sequence[str],
    stuff: Sequence[int],
    split: str = "train2017",
) -> None:
    """Write panoptic maps as a folder in COCO's layout, for any program that reads it.

    The reference tool compares two such folders, one of the truth and one of predictions:
    `python -m panopticapi.evaluation --gt_json_file .../panoptic_val2017.json --pred_json_file ...`.
    A category's number is the class's, and a segment's is the one in the map. All is written aside first and
    moved into place when it is whole, the JSON file last; of an earlier set with this name nothing is read
    any more.

    Args:
        folder: where to write; made if it is not there.
        images: RGB in 0..1. They become JPEG files.
        maps: the segment of each pixel, as in `Sample.panoptic`: `1000 * class + k`, and 0 for void. A thing
            with k = 0 is a crowd.
        class_names: the name of each class number, background first.
        stuff: the class numbers that are stuff.
        split: the name of the set, "train2017" or "val2017".

    Raises:
        TypeError: a map is not of whole numbers.
        ValueError: not as many maps as images, a map of another size than its image, a number in a map that
            stands for no segment of a class, no class or too many, stuff that is none of them, or a split
            that is no plain name.

    Source: the format at https://cocodataset.org/#format-data.

    >>> from course_utils.data.scenes import CLASS_NAMES, STUFF, make_scenes
    >>> scenes = make_scenes([3, 4], size=(32, 48))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_panoptic(folder, scenes.images, scenes.panoptic, CLASS_NAMES, STUFF)
    ...     sample = read_panoptic(folder).sample(1)
    >>> torch.equal(sample.panoptic, scenes.panoptic[1])
    True
    """
    folder = Path(folder)
    listed = member(folder, f"annotations/panoptic_{split}.json")
    photos, pictures = member(folder, split), listed.with_suffix("")
    if len(images) != len(maps):
        raise ValueError(f"maps: expected {len(images)}, one for each image, got {len(maps)}")
    numbers = range(1, len(class_names))
    if not 0 < len(numbers) <= MOST_CLASSES:
        raise ValueError(
            f"class_names: expected 2 to {MOST_CLASSES + 1}, background first, got {len(class_names)}"
        )
    if wrong := [label for label in stuff if label not in numbers]:
        raise ValueError(f"stuff: expected classes from 1 to {len(numbers)}, got {wrong[0]}")
    content = {
        "images": [],
        "annotations": [],
        "categories": [
            {"id": label, "name": class_names[label], "isthing": int(label not in stuff)}
            for label in numbers
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder) as aside:
        aside, moves = Path(aside), []
        for number, (image, codes) in enumerate(zip(images, maps)):
            check_shape("images", image, 3, "h", "w")
            height, width = image.shape[1:]
            segments = _list_segments(codes, (height, width), len(class_names), stuff)
            pixels = (image.detach().cpu() * 255).round().byte().permute(1, 2, 0).numpy()
            digits = torch.stack([codes % 256, codes // 256 % 256, codes // 65536], dim=2)
            photo, picture = f"{number:012d}.jpg", f"{number:012d}.png"
            Image.fromarray(pixels).save(aside / photo, quality=95, subsampling=0)
            Image.fromarray(digits.cpu().byte().numpy()).save(aside / picture)
            moves += [(photo, photos), (picture, pictures)]
            content["images"].append(
                {"id": number, "file_name": photo, "height": height, "width": width}
            )
            content["annotations"].append(
                {"image_id": number, "file_name": picture, "segments_info": segments}
            )
        (aside / listed.name).write_text(json.dumps(content), encoding="utf-8")
        for place in (photos, pictures):
            place.mkdir(parents=True, exist_ok=True)
        listed.unlink(missing_ok=True)
        for name, place in moves:
            os.replace(aside / name, place / name)
        os.replace(aside / listed.name, listed)


class _Object(NamedTuple):
    """An annotation of a photo: an outline, or a segment of its panoptic map."""

    number: int
    label: int
    crowd: bool
    entry: dict


class _Photo(NamedTuple):
    """A photo and what is annotated on it; its size is the JSON file's."""

    name: str
    path: Path
    size: tuple[int, int]
    objects: list[_Object]


class _Listing(NamedTuple):
    """A JSON file, checked: the class of each category and the photos, both by COCO's number."""

    path: Path
    content: dict
    labels: dict[int, int]
    class_names: tuple[str, ...]
    photos: dict[int, _Photo]


@contextmanager
def _naming_the_file(path: Path) -> Iterator[None]:
    """Say which file it is that lacks an entry or has one of another kind."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"folder: {path} does not hold COCO's annotations ({type(error).__name__}: {error})"
        ) from error


def _open(folder: Path, kind: str, split: str) -> _Listing:
    path = member(folder, f"annotations/{kind}_{split}.json")
    content = open_json(path)
    with _naming_the_file(path):
        categories = sorted(content["categories"], key=lambda entry: entry["id"])
        labels = {entry["id"]: label for label, entry in enumerate(categories, 1)}
        if not 0 < len(labels) == len(categories) <= MOST_CLASSES:
            raise ValueError(
                f"folder: expected 1 to {MOST_CLASSES} categories in {path}, each with its own id, "
                f"got {len(categories)} with {len(labels)} ids"
            )
        photos = {}
        for entry in content["images"]:
            name, size = entry["file_name"], (entry["height"], entry["width"])
            photos[entry["id"]] = _Photo(name, member(folder, f"{split}/{name}"), size, [])
        names = {photo.name for photo in photos.values()}
        if not 0 < len(names) == len(content["images"]):
            raise ValueError(
                f"folder: expected one or more images in {path}, each with its own id and file name, "
                f"got {len(content['images'])} with {len(names)} names"
            )
        class_names = ("background", *(str(entry["name"]) for entry in categories))
    check_present("photo", (photo.path for photo in photos.values()))
    return _Listing(path, content, labels, class_names, photos)


def _find_photo(listing: _Listing, entry: dict) -> _Photo:
    number = entry["image_id"]
    if number not in listing.photos:
        raise ValueError(
            f"folder: {listing.path} annotates image {number}, which its images do not list"
        )
    return listing.photos[number]


def _read_object(listing: _Listing, entry: dict) -> _Object:
    number, category = entry["id"], entry["category_id"]
    if category not in listing.labels:
        raise ValueError(
            f"folder: annotation {number} in {listing.path} has category {category}, "
            "which its categories do not list"
        )
    return _Object(number, listing.labels[category], bool(entry.get("iscrowd", 0)), entry)


def _read_pair(
    read_sample: Callable[[str], Sample], name: str
) -> tuple[Float[Tensor, "3 h w"], Int64[Tensor, "h w"]]:
    sample = read_sample(name)
    return sample.image, sample.semantic


def _read_instances(
    path: Path, photos: dict[str, _Photo], class_names: tuple[str, ...], name: str
) -> Sample:
    photo = photos[name]
    image = open_image(photo.path)
    check_same_size(path, photo.size, image)
    semantic = torch.zeros(photo.size, dtype=torch.int64)
    masks, boxes, labels = [], [], []
    for item in photo.objects:
        try:
            mask = _outline_mask(item.entry["segmentation"], photo.size)
            box = x, y, width, height = [float(number) for number in item.entry["bbox"]]
            if not all(map(math.isfinite, box)) or width < 0 or height < 0:
                raise ValueError(f"bbox: expected x, y, width, height, got {box}")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"folder: annotation {item.number} in {path} is no object ({type(error).__name__}: {error})"
            ) from error
        below = semantic[mask]
        semantic[mask] = torch.where((below == 0) | (below == item.label), item.label, VOID)
        if not item.crowd:
            masks.append(mask)
            boxes.append([x, y, x + width, y + height])
            labels.append(item.label)
    return complete(
        image,
        torch.stack(masks) if masks else torch.zeros((0, *photo.size), dtype=torch.bool),
        torch.tensor(labels, dtype=torch.int64),
        semantic,
        class_names,
        (),
        torch.tensor(boxes).reshape(-1, 4),
    )


def _outline_mask(segmentation: list | dict, size: tuple[int, int]) -> Bool[Tensor, "h w"]:
    """Polygons (several where something hides the middle), or run lengths, as a mask."""
    if isinstance(segmentation, dict):
        if tuple(segmentation["size"]) != tuple(size):
            raise ValueError(
                f"size: expected {size[0]} x {size[1]} as the image, got {segmentation['size']}"
            )
        return decode_rle(segmentation["counts"], size)
    if not segmentation:
        raise ValueError("segmentation: expected a polygon or more, got none")
    mask = torch.zeros(size, dtype=torch.bool)
    for numbers in segmentation:
        if len(numbers) % 2:
            raise ValueError(f"segmentation: expected pairs x, y, got {len(numbers)} numbers")
        mask |= polygon_mask(list(zip(numbers[::2], numbers[1::2], strict=True)), size)
    return mask


def _read_segments(
    photos: dict[str, _Photo],
    maps: dict[str, Path],
    class_names: tuple[str, ...],
    stuff: tuple[int, ...],
    name: str,
) -> Sample:
    photo, path = photos[name], maps[name]
    image = open_image(photo.path)
    codes = open_pixels(path, "RGB").astype(np.int64) @ [1, 256, 65536]
    check_same_size(path, codes.shape, image)
    found, place = np.unique(codes, return_inverse=True)
    listed = {item.number: item for item in photo.objects}
    if len(listed) < len(photo.objects):
        raise ValueError(f"folder: expected segments_info to list each segment of {path} once")
    if differing := set(listed) ^ (set(found.tolist()) - {0}):
        number = min(differing)
        here, there = ("segments_info", "PNG") if number in listed else ("PNG", "segments_info")
        raise ValueError(
            f"folder: expected the same segments in {path} and its segments_info, "
            f"but {number} is in the {here} and not in the {there}"
        )
    classes = [listed[number].label if number else VOID for number in found.tolist()]
    semantic = torch.tensor(classes)[torch.from_numpy(place).reshape(codes.shape)]
    things = [item for item in photo.objects if item.label not in stuff and not item.crowd]
    owner = torch.from_numpy(codes)
    masks = (
        owner == torch.tensor([item.number for item in things], dtype=torch.int64)[:, None, None]
    )
    labels = torch.tensor([item.label for item in things], dtype=torch.int64)
    return complete(image, masks, labels, semantic, class_names, stuff)


def _list_segments(
    codes: Int64[Tensor, "h w"], size: Sequence[int], classes: int, stuff: Sequence[int]
) -> list[dict]:
    """The `segments_info` of a map: class, area, box and whether it is a crowd, for each number in it."""
    check_shape("maps", codes, *size)
    if codes.dtype != torch.int64:
        raise TypeError(f"maps: expected torch.int64, got {codes.dtype}")
    segments = []
    for code in codes.unique().tolist():
        label, place = divmod(code, 1000)
        if not 0 <= label < classes or (place and (label == 0 or label in stuff)):
            raise ValueError(
                f"maps: expected 1000 * class + k for classes 1 to {classes - 1}, k = 0 for stuff, or 0, "
                f"got {code}"
            )
        if code == 0:
            continue
        rows, columns = (codes == code).nonzero(as_tuple=True)
        top, left = int(rows.min()), int(columns.min())
        segments.append(
            {
                "id": code,
                "category_id": label,
                "area": len(rows),
                "bbox": [left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top],
                "iscrowd": int(place == 0 and label not in stuff),
            }
        )
    return segments


def _read_text(text: str | bytes) -> list[int]:
    """The numbers in a text of COCO's run lengths."""
    letters = text.encode("latin-1", "replace") if isinstance(text, str) else text
    numbers, number, place = [], 0, 0
    for letter in letters:
        bits = letter - 48
        if not 0 <= bits < 64:
            raise ValueError(f"counts: expected letters from '0' to 'o', got {chr(letter)!r}")
        number |= (bits & 31) << place
        place += 5
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << place  # the highest bit written is the sign
        numbers.append(number + (numbers[-2] if len(numbers) > 2 else 0))
        number, place = 0, 0
    if place:
        raise ValueError("counts: expected whole numbers, but the text ends within one")
    return numbers
