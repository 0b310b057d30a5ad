"""COCO: everyday scenes with object annotations (instances) and with panoptic annotations.

    val2017/000000000139.jpg                              the photo
    annotations/instances_val2017.json                    its objects, as polygons or run lengths
    annotations/panoptic_val2017.json                     its segments, and
    annotations/panoptic_val2017/000000000139.png         the segment of each pixel, R + 256 G + 65536 B

A folder of your own may be flatter; it is opened with `split=None`:

    images/cat.png, annotations.json                      the photos, and their objects
    panoptic.json, panoptic/cat.png                       their segments

The ids of COCO's categories have gaps (1 to 90 for 80 things). Here the classes are numbered 1, 2, 3, ...
in the same order, and 0 is background.
"""

import itertools
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from pycocotools import mask as run_lengths
from torch import Tensor

from course_utils.core import VOID
from course_utils.data._coco_files import (
    KEYPOINTS,
    AnnotatedPhoto,
    Annotation,
    find_photo,
    flag,
    locate,
    naming_the_file,
    read_annotation,
    read_listing,
    whole,
)
from course_utils.data._coco_writing import write_results, write_samples
from course_utils.data.files import check_files
from course_utils.data.image_files import check_same_size, read_image, read_pixels
from course_utils.data.pictures import MAX_CLASSES, Pictures, make_sample
from course_utils.data.rle import decode_rle
from course_utils.data.sample import Sample
from course_utils.ops.boxes import box_area
from course_utils.ops.masks import masks_to_boxes

__all__ = [
    "read",
    "read_keypoints",
    "read_panoptic",
    "write_panoptic",
    "write_results",
    "write_samples",
]


def read(folder: Path | str, split: str | None = "train2017") -> Pictures:
    """Open a folder in COCO's layout with its object annotations.

    Objects keep COCO's own boxes and areas, and a crowd (`iscrowd`) is a row like any other. Masks may
    overlap, and a mask without a pixel belongs to an object that has no outline, or one that covers no
    pixel's centre; `masks` is None if no object in the file has an outline. An object that has neither a
    usable box nor an outline is left out, and a warning says how many there were.

    The semantic map is derived from the masks: pixels without an object are background, and pixels are void
    where objects of two classes overlap, and in the box of an object without an outline. With more than
    254 classes (LVIS has 1,230) there is no semantic and no panoptic map.

    A polygon covers the pixels that `COCO.annToMask` of pycocotools gives it, so that average precision
    agrees with COCO's tool. It follows the edge on a grid five times as fine as the pixels. `polygon_mask`,
    which asks for a pixel's centre, gives other pixels along the edge: on the 74 polygons of the course's own
    photos the mean IoU of the two masks is .988, the lowest .871 (a strip of 163 pixels).

    Args:
        folder: the folder that holds `annotations` and a folder of photos per split.
        split: "train2017", "val2017", or the name of your own `annotations/instances_*.json`; None for a
            folder that holds `annotations.json` and `images`.

    Returns:
        The photos in the order of the JSON file; one without annotations has no objects. The JSON file is
        checked now, the files of a photo when it is requested. Keypoints are there if the file has them.

    Source: Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014.
    """
    return _open_objects(Path(folder), "instances", split)


def read_keypoints(folder: Path | str, split: str | None = "train2017") -> Pictures:
    """Open a folder in COCO's layout with its persons and their keypoints.

    Args:
        folder: as in `read`.
        split: as in `read`, for `annotations/person_keypoints_*.json`; None for `person_keypoints.json`.

    Returns:
        As in `read`. The keypoints of a crowd are all 0 (absent).
    """
    return _open_objects(Path(folder), "person_keypoints", split)


def read_panoptic(folder: Path | str, split: str | None = "train2017") -> Pictures:
    """Open a folder in COCO's layout with its panoptic annotations.

    Pixels of segment 0 are void. A crowd has its class in the semantic map, and is void in the panoptic map,
    which has the course's ids (`1000 * class + k`) and not the data set's.

    Args:
        folder: the folder that holds `annotations` and a folder of photos per split.
        split: "train2017", "val2017", or the name of your own `annotations/panoptic_*.json`; None for a
            folder that holds `panoptic.json`, `panoptic` and `images`.

    Returns:
        As in `read`.

    Source: Kirillov et al., Panoptic Segmentation, CVPR 2019; the format at https://cocodataset.org/#format-data.
    """
    listing = read_listing(Path(folder), "panoptic", split)
    path, maps = listing.path, {}
    if len(listing.labels) > MAX_CLASSES:
        raise ValueError(
            f"folder: expected 1 to {MAX_CLASSES} categories in {path}, got {len(listing.labels)}"
        )
    with naming_the_file(path):
        for entry in listing.content["annotations"]:
            photo = find_photo(listing, entry)
            segments = [read_annotation(listing, segment) for segment in entry["segments_info"]]
            if len({whole("id", segment.id) for segment in segments}) < len(segments):
                raise ValueError(
                    f"expected segments_info to list each segment of {photo.name} once"
                )
            photo.annotations[:] = segments
            maps[photo.name] = locate(path.parent, path.stem, entry["file_name"])
        things = {
            entry["id"]
            for entry in listing.content["categories"]
            if flag("isthing", entry["isthing"])
        }
        check_files("panoptic map", maps.values())
    photos = {photo.name: photo for photo in listing.photos.values()}
    if missing := [name for name in photos if name not in maps]:
        raise ValueError(
            f"folder: expected an annotation for each image in {path}, none for {missing[0]}"
        )
    stuff = tuple(label for category, label in listing.labels.items() if category not in things)
    read_sample = partial(_read_segments, photos, maps, listing.class_names, stuff)
    return Pictures(tuple(photos), listing.class_names, stuff, read_sample)


def write_panoptic(
    folder: Path | str,
    images: Float[Tensor, "b 3 h w"] | Sequence[Float[Tensor, "3 _ _"]],
    maps: Int64[Tensor, "b h w"] | Sequence[Int64[Tensor, "_ _"]],
    class_names: Sequence[str],
    stuff: Sequence[int],
    split: str | None = "train2017",
) -> None:
    """Write panoptic maps as a folder in COCO's layout.

    COCO's own evaluation compares two such folders, one with the ground truth and one with predictions:
    `python -m panopticapi.evaluation --gt_json_file .../panoptic_val2017.json --pred_json_file ...`.

    Args:
        folder: where to write, as in `write_samples`.
        images: RGB in 0..1.
        maps: the segment of each pixel, as in `Sample.panoptic`: `1000 * class + k`, and 0 for void. A thing
            with k = 0 is a crowd.
        class_names: the name of each class, background first.
        stuff: the numbers of the stuff classes.
        split: as in `write_samples`.

    Source: the format at https://cocodataset.org/#format-data.

    >>> import tempfile
    >>> from course_utils.data.scenes import CLASS_NAMES, STUFF, make_scenes
    >>> scenes = make_scenes([3, 4], size=(32, 48))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_panoptic(folder, scenes.images, scenes.panoptic, CLASS_NAMES, STUFF)
    ...     sample = read_panoptic(folder)[1]
    >>> torch.equal(sample.panoptic, scenes.panoptic[1])
    True
    """
    if len(images) != len(maps):
        raise ValueError(f"maps: expected {len(images)}, one for each image, got {len(maps)}")
    shared = tuple(class_names), tuple(stuff)
    samples = [Sample(image, *[None] * 4, ids, *shared) for image, ids in zip(images, maps)]
    write_samples(folder, samples, split=split)


def _open_objects(folder: Path, kind: str, split: str | None) -> Pictures:
    """The photos and objects of an instances or person_keypoints file."""
    listing = read_listing(folder, kind, split)
    objects, left_out = [], []
    with naming_the_file(listing.path):
        for entry in listing.content["annotations"]:
            photo, found = find_photo(listing, entry), read_annotation(listing, entry)
            if found.box or found.outline:
                photo.annotations.append(found)
                objects.append(found)
            else:
                left_out.append(found.id)
    _warn_about(listing.path, left_out)
    photos = {photo.name: photo for photo in listing.photos.values()}
    has_masks = not objects or any(found.outline for found in objects)
    has_keypoints = any(found.keypoints for found in objects)
    names = listing.class_names
    read_sample = partial(_read_objects, listing.path, photos, names, has_masks, has_keypoints)
    return Pictures(tuple(photos), names, (), read_sample)


def _warn_about(path: Path, left_out: Sequence[int | str]) -> None:
    if left_out:
        warnings.warn(
            f"folder: {len(left_out)} annotations in {path} have neither a box nor an outline and are "
            f"left out, the first is {left_out[0]!r}",
            stacklevel=4,
        )


def _read_objects(
    path: Path,
    photos: dict[str, AnnotatedPhoto],
    class_names: tuple[str, ...],
    has_masks: bool,
    has_keypoints: bool,
    name: str,
) -> Sample:
    photo = photos[name]
    image = read_image(photo.path)
    check_same_size(path, photo.size, image)
    found, boxes, masks = [], [], []
    for item in photo.annotations:
        with naming_the_file(path, f"annotation {item.id!r}"):
            mask = _decode_outline(item.outline, photo.size)
        box = item.box or (masks_to_boxes(mask[None])[0].tolist() if mask.any() else None)
        if box is None:
            _warn_about(path, [item.id])
            continue
        found.append(item)
        boxes.append(box)
        masks.append(mask)
    semantic = None
    if has_masks and len(class_names) <= MAX_CLASSES + 1:
        semantic = _paint_classes(found, masks, photo.size)
    boxes = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
    areas = [
        (int(mask.count_nonzero()) or box_size) if item.area is None else item.area
        for item, mask, box_size in zip(found, masks, box_area(boxes).tolist())
    ]
    masks = torch.stack(masks) if masks else torch.zeros((0, *photo.size), dtype=torch.bool)
    sample = make_sample(
        image,
        masks if has_masks else None,
        torch.tensor([item.label for item in found], dtype=torch.int64),
        semantic,
        class_names,
        (),
        boxes.float(),
        torch.tensor([item.iscrowd for item in found], dtype=torch.bool),
        torch.tensor(areas, dtype=torch.float32),
    )
    if not has_keypoints:
        return sample
    absent = (0.0,) * (3 * KEYPOINTS)
    keypoints = torch.tensor([item.keypoints or absent for item in found])
    return sample._replace(keypoints=keypoints.reshape(-1, KEYPOINTS, 3))


def _paint_classes(
    found: Sequence[Annotation], masks: Sequence[Bool[Tensor, "h w"]], size: tuple[int, int]
) -> Int64[Tensor, "h w"]:
    """The semantic map of objects: their masks, and void in the box of an object without an outline."""
    semantic = torch.zeros(size, dtype=torch.int64)
    for item, mask in zip(found, masks):
        previous = semantic[mask]
        known = (previous == 0) | (previous == item.label)
        semantic[mask] = torch.where(known, item.label, VOID)
    for item in found:
        if item.outline is None:
            x1, y1, x2, y2 = (max(0, round(side)) for side in item.box)
            inside = semantic[y1:y2, x1:x2]
            inside[inside == 0] = VOID
    return semantic


def _decode_outline(
    outline: Sequence[Sequence[float | int]] | dict | None, size: tuple[int, int]
) -> Bool[Tensor, "h w"]:
    """The mask of an object that is given as polygons (several if it is partly occluded) or as RLE."""
    if isinstance(outline, dict):
        if tuple(outline["size"]) != tuple(size):
            raise ValueError(
                f"size: expected {size[0]} x {size[1]} as the image, got {outline['size']}"
            )
        return decode_rle(outline["counts"], size)
    if not outline:
        return torch.zeros(size, dtype=torch.bool)
    polygons = [list(map(float, polygon)) for polygon in outline]
    farthest = 100 * max(size)  # the edges are followed point by point
    for number in itertools.chain(*polygons):
        if not abs(number) <= farthest:
            raise ValueError(f"points: expected finite numbers up to {farthest}, got {number}")
    polygons = run_lengths.frPyObjects(polygons, *size)
    return decode_rle(run_lengths.merge(polygons)["counts"], size)


def _read_segments(
    photos: dict[str, AnnotatedPhoto],
    maps: dict[str, Path],
    class_names: tuple[str, ...],
    stuff: tuple[int, ...],
    name: str,
) -> Sample:
    photo, path = photos[name], maps[name]
    image = read_image(photo.path)
    ids = read_pixels(path, "RGB", photo.size).astype(np.int64) @ [1, 256, 65536]
    check_same_size(path, ids.shape, image)
    in_png, inverse = np.unique(ids, return_inverse=True)
    listed = {segment.id: segment for segment in photo.annotations}
    if differing := set(listed) ^ (set(in_png.tolist()) - {0}):
        segment_id = min(differing)
        here, there = ("segments_info", "PNG") if segment_id in listed else ("PNG", "segments_info")
        raise ValueError(
            f"folder: expected the same segments in {path} and its segments_info, "
            f"but {segment_id} is in the {here} and not in the {there}"
        )
    classes = [listed[number].label if number else VOID for number in in_png.tolist()]
    semantic = torch.tensor(classes)[torch.from_numpy(inverse).reshape(ids.shape)]
    things = [item for item in photo.annotations if item.label not in stuff]
    thing_ids = torch.tensor([item.id for item in things], dtype=torch.int64)
    masks = torch.from_numpy(ids) == thing_ids[:, None, None]
    pixels = masks.sum(dim=(1, 2)).tolist()
    areas = [size if item.area is None else item.area for item, size in zip(things, pixels)]
    return make_sample(
        image,
        masks,
        torch.tensor([item.label for item in things], dtype=torch.int64),
        semantic,
        class_names,
        stuff,
        iscrowd=torch.tensor([item.iscrowd for item in things], dtype=torch.bool),
        area=torch.tensor(areas, dtype=torch.float32),
    )
