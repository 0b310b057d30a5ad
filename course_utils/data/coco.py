"""COCO: everyday scenes with object annotations (instances) and with panoptic annotations.

    val2017/000000000139.jpg                              the photo
    annotations/instances_val2017.json                    its objects, as polygons or run lengths
    annotations/panoptic_val2017.json                     its segments, and
    annotations/panoptic_val2017/000000000139.png         the segment of each pixel, R + 256 G + 65536 B

The ids of COCO's categories have gaps (1 to 90 for 80 things). Here the classes are numbered 1, 2, 3, ...
in the same order, and 0 is background.
"""

import json
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from PIL import Image
from torch import Tensor

from course_utils.core import VOID, check_shape
from course_utils.data._coco_files import (
    AnnotatedPhoto,
    find_photo,
    naming_the_file,
    read_annotation,
    read_listing,
)
from course_utils.data.pictures import (
    MAX_CLASSES,
    Pictures,
    check_files,
    check_same_size,
    make_sample,
    path_inside,
    read_image,
    read_pixels,
)
from course_utils.data.rle import decode_rle
from course_utils.data.sample import Sample
from course_utils.ops.boxes import box_convert
from course_utils.ops.masks import polygon_mask


def read(folder: Path | str, split: str = "train2017") -> Pictures:
    """Open a folder in COCO's layout with its object annotations.

    The semantic map is derived from the masks: pixels without an object are background, and pixels where
    objects of two classes overlap are void. A crowd (`iscrowd`) has its class in the semantic map but is not
    an object. Objects keep COCO's own boxes; their masks may overlap and, for tiny objects, be empty.

    Args:
        folder: the folder that holds `annotations` and a folder of photos per split.
        split: "train2017", "val2017", or the name of your own `annotations/instances_*.json`.

    Returns:
        The photos in the order of the JSON file. The references in the JSON file are checked now, the files
        of a photo when it is requested.

    Source: Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014.
    """
    listing = read_listing(Path(folder), "instances", split)
    with naming_the_file(listing.path):
        for entry in listing.content["annotations"]:
            find_photo(listing, entry).annotations.append(read_annotation(listing, entry))
    photos = {photo.name: photo for photo in listing.photos.values()}
    read_sample = partial(_read_instances, listing.path, photos, listing.class_names)
    read_pair = partial(_read_pair, read_sample)
    return Pictures(tuple(photos), listing.class_names, (), read_pair, read_sample)


def read_panoptic(folder: Path | str, split: str = "train2017") -> Pictures:
    """Open a folder in COCO's layout with its panoptic annotations.

    Pixels of segment 0 are void. A crowd has its class in the semantic map, but is not an object, and is void
    in the panoptic map, which has the course's ids (`1000 * class + k`) and not the data set's.

    Args:
        folder: the folder that holds `annotations` and a folder of photos per split.
        split: "train2017", "val2017", or the name of your own `annotations/panoptic_*.json`.

    Returns:
        As in `read`.

    Source: Kirillov et al., Panoptic Segmentation, CVPR 2019; the format at https://cocodataset.org/#format-data.
    """
    listing = read_listing(Path(folder), "panoptic", split)
    maps = {}
    with naming_the_file(listing.path):
        for entry in listing.content["annotations"]:
            photo = find_photo(listing, entry)
            photo.annotations.extend(
                read_annotation(listing, segment) for segment in entry["segments_info"]
            )
            name = f"panoptic_{split}/{entry['file_name']}"
            maps[photo.name] = path_inside(listing.path.parent, name)
        things = {entry["id"] for entry in listing.content["categories"] if entry["isthing"]}
    photos = {photo.name: photo for photo in listing.photos.values()}
    if missing := [name for name in photos if name not in maps]:
        raise ValueError(
            f"folder: expected an annotation for each image in {listing.path}, none for {missing[0]}"
        )
    check_files("panoptic map", maps.values())
    stuff = tuple(label for category, label in listing.labels.items() if category not in things)
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
    """Write panoptic maps as a folder in COCO's layout.

    COCO's own evaluation compares two such folders, one with the ground truth and one with predictions:
    `python -m panopticapi.evaluation --gt_json_file .../panoptic_val2017.json --pred_json_file ...`.
    The id of a category is our class number, and the id of a segment is the one in the map.

    All files are written to a temporary folder first and then moved, the JSON file last, so an interrupted
    call leaves no JSON file that lists missing files. An earlier split with this name is replaced.

    Args:
        folder: where to write; it is created if it does not exist.
        images: RGB in 0..1. They are stored as JPEG files.
        maps: the segment of each pixel, as in `Sample.panoptic`: `1000 * class + k`, and 0 for void. A thing
            with k = 0 is a crowd.
        class_names: the name of each class, background first.
        stuff: the numbers of the stuff classes.
        split: the name of the split, such as "train2017" or "val2017".

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
    json_file = path_inside(folder, f"annotations/panoptic_{split}.json")
    photo_folder, map_folder = path_inside(folder, split), json_file.with_suffix("")
    if len(images) != len(maps):
        raise ValueError(f"maps: expected {len(images)}, one for each image, got {len(maps)}")
    labels = range(1, len(class_names))
    if not 0 < len(labels) <= MAX_CLASSES:
        raise ValueError(
            f"class_names: expected 2 to {MAX_CLASSES + 1}, background first, got {len(class_names)}"
        )
    if wrong := [label for label in stuff if label not in labels]:
        raise ValueError(f"stuff: expected classes from 1 to {len(labels)}, got {wrong[0]}")
    content = {
        "images": [],
        "annotations": [],
        "categories": [
            {"id": label, "name": class_names[label], "isthing": int(label not in stuff)}
            for label in labels
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder) as temporary:
        temporary, moves = Path(temporary), []
        for number, (image, ids) in enumerate(zip(images, maps)):
            check_shape("images", image, 3, "h", "w")
            height, width = image.shape[1:]
            segments = _list_segments(ids, (height, width), len(class_names), stuff)
            pixels = (image.detach().cpu() * 255).round().byte().permute(1, 2, 0).numpy()
            rgb = torch.stack([ids % 256, ids // 256 % 256, ids // 65536], dim=2)
            jpeg, png = f"{number:012d}.jpg", f"{number:012d}.png"
            Image.fromarray(pixels).save(temporary / jpeg, quality=95, subsampling=0)
            Image.fromarray(rgb.cpu().byte().numpy()).save(temporary / png)
            moves += [(jpeg, photo_folder), (png, map_folder)]
            content["images"].append(
                {"id": number, "file_name": jpeg, "height": height, "width": width}
            )
            content["annotations"].append(
                {"image_id": number, "file_name": png, "segments_info": segments}
            )
        (temporary / json_file.name).write_text(json.dumps(content), encoding="utf-8")
        for target in (photo_folder, map_folder):
            target.mkdir(parents=True, exist_ok=True)
        json_file.unlink(missing_ok=True)
        for name, target in moves:
            os.replace(temporary / name, target / name)
        os.replace(temporary / json_file.name, json_file)


def _read_pair(
    read_sample: Callable[[str], Sample], name: str
) -> tuple[Float[Tensor, "3 h w"], Int64[Tensor, "h w"]]:
    sample = read_sample(name)
    return sample.image, sample.semantic


def _read_instances(
    path: Path, photos: dict[str, AnnotatedPhoto], class_names: tuple[str, ...], name: str
) -> Sample:
    photo = photos[name]
    image = read_image(photo.path)
    check_same_size(path, photo.size, image)
    semantic = torch.zeros(photo.size, dtype=torch.int64)
    masks, boxes, labels = [], [], []
    for annotation in photo.annotations:
        try:
            mask = _decode_segmentation(annotation.entry["segmentation"], photo.size)
            box = [float(number) for number in annotation.entry["bbox"]]
            if len(box) != 4 or not all(map(math.isfinite, box)) or min(box[2:]) < 0:
                raise ValueError(f"bbox: expected x, y, width, height, got {box}")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"folder: annotation {annotation.id} in {path} is not a valid object "
                f"({type(error).__name__}: {error})"
            ) from error
        label, previous = annotation.label, semantic[mask]
        semantic[mask] = torch.where((previous == 0) | (previous == label), label, VOID)
        if not annotation.iscrowd:
            masks.append(mask)
            boxes.append(box)
            labels.append(label)
    corners = box_convert(torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4), "xywh", "xyxy")
    return make_sample(
        image,
        torch.stack(masks) if masks else torch.zeros((0, *photo.size), dtype=torch.bool),
        torch.tensor(labels, dtype=torch.int64),
        semantic,
        class_names,
        (),
        corners.float(),
    )


def _decode_segmentation(segmentation: list | dict, size: tuple[int, int]) -> Bool[Tensor, "h w"]:
    """The mask of an object that is given as polygons (several if it is partly occluded) or as RLE."""
    if isinstance(segmentation, dict):
        if tuple(segmentation["size"]) != tuple(size):
            raise ValueError(
                f"size: expected {size[0]} x {size[1]} as the image, got {segmentation['size']}"
            )
        return decode_rle(segmentation["counts"], size)
    if not segmentation:
        raise ValueError("segmentation: expected one or more polygons, got none")
    mask = torch.zeros(size, dtype=torch.bool)
    for polygon in segmentation:
        if len(polygon) % 2:
            raise ValueError(f"segmentation: expected pairs x, y, got {len(polygon)} numbers")
        mask |= polygon_mask(list(zip(polygon[::2], polygon[1::2], strict=True)), size)
    return mask


def _read_segments(
    photos: dict[str, AnnotatedPhoto],
    maps: dict[str, Path],
    class_names: tuple[str, ...],
    stuff: tuple[int, ...],
    name: str,
) -> Sample:
    photo, path = photos[name], maps[name]
    image = read_image(photo.path)
    ids = read_pixels(path, "RGB").astype(np.int64) @ [1, 256, 65536]
    check_same_size(path, ids.shape, image)
    in_png, inverse = np.unique(ids, return_inverse=True)
    listed = {segment.id: segment for segment in photo.annotations}
    if len(listed) < len(photo.annotations):
        raise ValueError(f"folder: expected segments_info to list each segment of {path} once")
    if differing := set(listed) ^ (set(in_png.tolist()) - {0}):
        segment_id = min(differing)
        here, there = ("segments_info", "PNG") if segment_id in listed else ("PNG", "segments_info")
        raise ValueError(
            f"folder: expected the same segments in {path} and its segments_info, "
            f"but {segment_id} is in the {here} and not in the {there}"
        )
    classes = [listed[number].label if number else VOID for number in in_png.tolist()]
    semantic = torch.tensor(classes)[torch.from_numpy(inverse).reshape(ids.shape)]
    things = [item for item in photo.annotations if item.label not in stuff and not item.iscrowd]
    thing_ids = torch.tensor([item.id for item in things], dtype=torch.int64)
    masks = torch.from_numpy(ids) == thing_ids[:, None, None]
    labels = torch.tensor([item.label for item in things], dtype=torch.int64)
    return make_sample(image, masks, labels, semantic, class_names, stuff)


def _list_segments(
    ids: Int64[Tensor, "h w"], size: Sequence[int], num_classes: int, stuff: Sequence[int]
) -> list[dict]:
    """The `segments_info` of a panoptic map: class, area, box and whether it is a crowd, per segment."""
    check_shape("maps", ids, *size)
    if ids.dtype != torch.int64:
        raise TypeError(f"maps: expected torch.int64, got {ids.dtype}")
    segments = []
    for segment_id in ids.unique().tolist():
        label, k = divmod(segment_id, 1000)
        if not 0 <= label < num_classes or (k and (label == 0 or label in stuff)):
            raise ValueError(
                f"maps: expected 1000 * class + k for classes 1 to {num_classes - 1}, k = 0 for stuff, "
                f"or 0, got {segment_id}"
            )
        if segment_id == 0:
            continue
        rows, columns = (ids == segment_id).nonzero(as_tuple=True)
        top, left = int(rows.min()), int(columns.min())
        segments.append(
            {
                "id": segment_id,
                "category_id": label,
                "area": len(rows),
                "bbox": [left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top],
                "iscrowd": int(k == 0 and label not in stuff),
            }
        )
    return segments
