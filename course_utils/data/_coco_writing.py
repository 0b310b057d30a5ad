"""Samples written as a folder in COCO's layout; the function is `coco.write_samples`."""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Int64
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from course_utils.core import VOID, check_boxes, check_labels, check_masks, check_shape
from course_utils.data._coco_files import layout, read_listing
from course_utils.data.files import path_inside
from course_utils.data.pictures import MAX_CLASSES
from course_utils.data.rle import encode_rle
from course_utils.data.sample import Sample


def write_samples(
    folder: Path | str,
    samples: Sequence[Sample] | Dataset[Sample],
    names: Sequence[str] | None = None,
    split: str | None = None,
) -> None:
    """Write samples as a folder in COCO's layout: their objects, their panoptic maps, or both.

    The id of a category is our class number. The objects' file lists the things only, and the masks are
    compressed run lengths; the panoptic file lists all classes, and the id of a segment is the one in the
    map. Images are stored as PNG files, which lose nothing but what is finer than 1 / 255.

    All files are written to a temporary folder first and then moved, the JSON files last, so an interrupted
    call leaves no JSON file that lists missing files. An earlier set of the same split is replaced.

    Args:
        folder: where to write; it is created if it does not exist.
        samples: one or more, all with the same classes. Objects are written if they have boxes, panoptic
            maps if they have those. A pixel that has a thing's class and no object becomes part of a crowd.
        names: the name of each file, without ending; None for 000000000000, 000000000001, ...
        split: the name of the split, such as "train2017", in COCO's own layout; None for the flat one with
            `images`, `annotations.json` and `panoptic.json`.
    """
    folder = Path(folder)
    if not len(samples):
        raise ValueError("samples: expected one or more, got none")
    names = [f"{number:012d}" for number in range(len(samples))] if names is None else list(names)
    if len(names) != len(samples) or len(set(names)) != len(names):
        raise ValueError(
            f"names: expected {len(samples)} different ones, one for each sample, got {names}"
        )
    first = samples[0]
    _check_classes(first)
    with replacing(folder) as temporary:
        photos, objects, maps = [], [], []
        paths = {kind: layout(temporary, kind, split)[0] for kind in ("instances", "panoptic")}
        photo_folder = path_inside(temporary, layout(temporary, "panoptic", split)[1])
        for number, (name, sample) in enumerate(zip(names, samples)):
            _check_alike(number, sample, first)
            check_shape(f"image {number}", sample.image, 3, "h", "w")
            height, width = sample.image.shape[1:]
            file = f"{name}.png"
            pixels = (sample.image.detach().cpu().clamp(0, 1) * 255).round().byte()
            _save(pixels, path_inside(photo_folder, file))
            photos.append({"id": number, "file_name": file, "height": height, "width": width})
            if sample.boxes is not None:
                objects += _list_objects(number, sample, 1 + len(objects))
            if sample.panoptic is not None:
                ids = _with_crowds(number, sample)
                segments = _list_segments(number, ids, first)
                colours = torch.stack([ids % 256, ids // 256 % 256, ids // 65536]).byte()
                _save(colours, path_inside(paths["panoptic"].with_suffix(""), file))
                maps.append({"image_id": number, "file_name": file, "segments_info": segments})
        categories = [
            {"id": label, "name": name, "isthing": int(label not in first.stuff)}
            for label, name in enumerate(first.class_names)
            if label
        ]
        things = [category for category in categories if category["isthing"]]
        if first.boxes is not None:
            content = {"images": photos, "annotations": objects, "categories": things}
            write_json(paths["instances"], content)
        if first.panoptic is not None:
            content = {"images": photos, "annotations": maps, "categories": categories}
            write_json(paths["panoptic"], content)


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A temporary folder whose files are moved into `folder` at the end, the JSON files last."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder) as temporary:
        yield Path(temporary)
        files = [path for path in Path(temporary).rglob("*") if path.is_file()]
        files.sort(key=lambda path: (path.suffix == ".json", path))
        targets = [folder / path.relative_to(temporary) for path in files]
        for target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.suffix == ".json":
                target.unlink(missing_ok=True)
        for path, target in zip(files, targets):
            os.replace(path, target)


def write_json(path: Path, content: dict | list) -> None:
    """Write a JSON file without spaces; numbers are read back the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, separators=(",", ":"), allow_nan=False), encoding="utf-8")


def _save(pixels: Tensor, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy()).save(path)


def _check_classes(sample: Sample) -> None:
    labels = range(1, len(sample.class_names))
    if not labels or (sample.panoptic is not None and len(labels) > MAX_CLASSES):
        raise ValueError(
            f"class_names: expected 2 to {MAX_CLASSES + 1}, background first, "
            f"got {len(sample.class_names)}"
        )
    if wrong := [label for label in sample.stuff if label not in labels]:
        raise ValueError(f"stuff: expected classes from 1 to {len(labels)}, got {wrong[0]}")


def _check_alike(number: int, sample: Sample, first: Sample) -> None:
    """Raise unless a sample has the classes of the first one, and the same fields."""
    if (sample.class_names, sample.stuff) != (first.class_names, first.stuff):
        raise ValueError(f"samples: expected the classes of sample 0 in all, not so in {number}")
    for field in ("boxes", "masks", "panoptic"):
        if (getattr(sample, field) is None) != (getattr(first, field) is None):
            raise ValueError(f"samples: expected {field} in all or in none, not so in {number}")


def _list_objects(number: int, sample: Sample, first_id: int) -> list[dict]:
    """The entries of `annotations` for the objects of a sample, with ids from `first_id` on."""
    count, (height, width) = len(sample.boxes), sample.image.shape[1:]
    check_boxes(f"boxes of sample {number}", sample.boxes)
    check_labels(f"labels of sample {number}", sample.labels)
    if sample.masks is not None:
        check_masks(f"masks of sample {number}", sample.masks, count, height, width)
    entries = []
    for k, (label, (x1, y1, x2, y2)) in enumerate(
        zip(sample.labels.tolist(), sample.boxes.tolist(), strict=True)
    ):
        if not 0 < label < len(sample.class_names) or label in sample.stuff:
            raise ValueError(
                f"labels of sample {number}: expected the number of a thing, got {label}"
            )
        area = (x2 - x1) * (y2 - y1) if sample.masks is None else float(sample.masks[k].sum())
        entry = {
            "id": first_id + k,
            "image_id": number,
            "category_id": label,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": area if sample.area is None else sample.area[k].item(),
            "iscrowd": int(sample.iscrowd is not None and sample.iscrowd[k].item()),
        }
        if sample.masks is not None:
            counts = encode_rle(sample.masks[k].cpu())
            entry["segmentation"] = {"size": [height, width], "counts": counts}
        if sample.keypoints is not None:
            entry["keypoints"] = sample.keypoints[k].flatten().tolist()
            entry["num_keypoints"] = int((sample.keypoints[k, :, 2] > 0).sum())
        entries.append(entry)
    return entries


def _with_crowds(number: int, sample: Sample) -> Int64[Tensor, "h w"]:
    """The panoptic map, with `1000 * class` where the semantic map knows more than it: in crowds."""
    check_shape(f"panoptic map {number}", sample.panoptic, *sample.image.shape[1:])
    if sample.panoptic.dtype != torch.int64:
        raise TypeError(f"panoptic map {number}: expected torch.int64, got {sample.panoptic.dtype}")
    if sample.semantic is None:
        return sample.panoptic.cpu()
    known = (sample.panoptic == 0) & (sample.semantic != VOID)
    return torch.where(known, 1000 * sample.semantic, sample.panoptic).cpu()


def _list_segments(number: int, ids: Int64[Tensor, "h w"], sample: Sample) -> list[dict]:
    """The `segments_info` of a panoptic map: class, area, box and whether it is a crowd, per segment."""
    num_classes, segments = len(sample.class_names), []
    for segment_id in ids.unique().tolist():
        label, k = divmod(segment_id, 1000)
        if not 0 <= label < num_classes or (k and (label == 0 or label in sample.stuff)):
            raise ValueError(
                f"panoptic map {number}: expected 1000 * class + k for classes 1 to {num_classes - 1}, "
                f"k = 0 for stuff, or 0, got {segment_id}"
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
                "iscrowd": int(k == 0 and label not in sample.stuff),
            }
        )
    return segments


def write_results(
    path: Path | str,
    folder: Path | str,
    detections: Iterable[Mapping[str, Tensor]],
    kind: Literal["bbox", "segm"],
    split: str | None = None,
) -> int:
    """Write detections as COCO's results file, with the ids of a folder's images and categories.

    Boxes and masks have files of their own, as in COCO's challenges: in a file with both, COCO's tool takes
    the area of the box for the size of the mask.

    Args:
        path: the JSON file; it is written only when all detections are there.
        folder, split: as in `read`.
        detections: for each photo, in the order of `read`: "labels", "scores", and "boxes" or "masks".
        kind: "bbox" for boxes, "segm" for masks.

    Returns:
        How many detections were written.

    Source: https://cocodataset.org/#format-results.
    """
    listing, entries = read_listing(Path(folder), "instances", split), []
    category = {label: number for number, label in listing.labels.items()}
    for image, found in zip(listing.photos, detections, strict=True):
        for k, label in enumerate(found["labels"].tolist()):
            entry = {"image_id": image, "category_id": category[label]}
            entry["score"] = found["scores"][k].item()
            if kind == "bbox":
                x1, y1, x2, y2 = found["boxes"][k].double().tolist()
                entry["bbox"] = [x1, y1, x2 - x1, y2 - y1]
            else:
                mask = found["masks"][k]
                entry["segmentation"] = {"size": list(mask.shape), "counts": encode_rle(mask)}
            entries.append(entry)
    write_json(Path(path), entries)
    return len(entries)
