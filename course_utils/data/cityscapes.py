"""Cityscapes: street scenes recorded from a car, every pixel labelled.

    leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png          the photo
    gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png           34 labels
    gtFine/train/aachen/aachen_000000_000019_gtFine_instanceIds.png        1000 * label + k for objects

The benchmark evaluates 19 of the 34 labels, with the "train ids" 0 to 18, and ignores the rest. In this
course 0 is always background, so **a class's number here is its train id plus 1**, and ignored pixels are
255; `train_ids` gives the benchmark's own numbers.
"""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from course_utils.core import VOID
from course_utils.data.files import check_files, path_inside
from course_utils.data.image_files import read_image, read_pixels
from course_utils.data.pictures import Pictures, make_sample
from course_utils.data.sample import Sample


class Label(NamedTuple):
    """One of the 34 labels.

    Attributes:
        name: the name of the class.
        number: its id in `labelIds.png`, which is its index in `LABELS`.
        train_id: 0 to 18, or 255 if the benchmark ignores it.
        has_instances: whether its objects are annotated one by one.
        colour: RGB from 0 to 255, as in the figures of the paper.
    """

    name: str
    number: int
    train_id: int
    has_instances: bool
    colour: tuple[int, int, int]


LABELS = (
    Label("unlabeled", 0, VOID, False, (0, 0, 0)),
    Label("ego vehicle", 1, VOID, False, (0, 0, 0)),
    Label("rectification border", 2, VOID, False, (0, 0, 0)),
    Label("out of roi", 3, VOID, False, (0, 0, 0)),
    Label("static", 4, VOID, False, (0, 0, 0)),
    Label("dynamic", 5, VOID, False, (111, 74, 0)),
    Label("ground", 6, VOID, False, (81, 0, 81)),
    Label("road", 7, 0, False, (128, 64, 128)),
    Label("sidewalk", 8, 1, False, (244, 35, 232)),
    Label("parking", 9, VOID, False, (250, 170, 160)),
    Label("rail track", 10, VOID, False, (230, 150, 140)),
    Label("building", 11, 2, False, (70, 70, 70)),
    Label("wall", 12, 3, False, (102, 102, 156)),
    Label("fence", 13, 4, False, (190, 153, 153)),
    Label("guard rail", 14, VOID, False, (180, 165, 180)),
    Label("bridge", 15, VOID, False, (150, 100, 100)),
    Label("tunnel", 16, VOID, False, (150, 120, 90)),
    Label("pole", 17, 5, False, (153, 153, 153)),
    Label("polegroup", 18, VOID, False, (153, 153, 153)),
    Label("traffic light", 19, 6, False, (250, 170, 30)),
    Label("traffic sign", 20, 7, False, (220, 220, 0)),
    Label("vegetation", 21, 8, False, (107, 142, 35)),
    Label("terrain", 22, 9, False, (152, 251, 152)),
    Label("sky", 23, 10, False, (70, 130, 180)),
    Label("person", 24, 11, True, (220, 20, 60)),
    Label("rider", 25, 12, True, (255, 0, 0)),
    Label("car", 26, 13, True, (0, 0, 142)),
    Label("truck", 27, 14, True, (0, 0, 70)),
    Label("bus", 28, 15, True, (0, 60, 100)),
    Label("caravan", 29, VOID, True, (0, 0, 90)),
    Label("trailer", 30, VOID, True, (0, 0, 110)),
    Label("train", 31, 16, True, (0, 80, 100)),
    Label("motorcycle", 32, 17, True, (0, 0, 230)),
    Label("bicycle", 33, 18, True, (119, 11, 32)),
)
EVALUATED = tuple(label for label in LABELS if label.train_id != VOID)
CLASS_NAMES = ("background", *(label.name for label in EVALUATED))
COLOURS = ((0, 0, 0), *(label.colour for label in EVALUATED))
STUFF = tuple(label.train_id + 1 for label in EVALUATED if not label.has_instances)


def train_ids(label_ids: Int64[Tensor, "h w"]) -> Int64[Tensor, "h w"]:
    """The benchmark's class of each pixel.

    Args:
        label_ids: labels 0 to 33.

    Returns:
        0 to 18, or 255 where the benchmark ignores the label.

    Source: the table in Cordts et al., The Cityscapes Dataset, CVPR 2016.

    >>> train_ids(torch.tensor([[7, 26, 4]]))  # road, car, static
    tensor([[  0,  13, 255]])
    """
    unknown = (label_ids < 0) | (label_ids >= len(LABELS))
    if unknown.any():
        raise ValueError(
            f"label_ids: expected 0 to {len(LABELS) - 1}, got {int(label_ids[unknown][0])} "
            f"in {int(unknown.sum())} pixels"
        )
    return torch.tensor([label.train_id for label in LABELS])[label_ids]


def read(folder: Path | str, split: str = "train") -> Pictures:
    """Open a folder in Cityscapes' layout, with the fine annotations.

    Groups of objects that were not annotated one by one ("cargroup") have their class in the semantic map,
    but are not objects, and are void in the panoptic map. A photo without a file that ends in
    `instanceIds.png` has a semantic map only: its boxes, labels, masks and panoptic map are None.

    Args:
        folder: the folder that holds `leftImg8bit` and `gtFine`.
        split: "train", "val" or "test" (whose labels are not published: all void).

    Returns:
        The photos, sorted by city.

    Source: Cordts et al., The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016.
    """
    folder, ending = Path(folder), "_leftImg8bit.png"
    root = path_inside(folder, f"leftImg8bit/{split}")
    photos = sorted(root.glob(f"*/*{ending}"))
    if not photos:
        raise FileNotFoundError(
            f"folder: expected photos such as {root}/city/*{ending}, found none"
        )
    names = [f"{split}/{photo.parent.name}/{photo.name.removesuffix(ending)}" for photo in photos]
    check_files("label map", (_annotation(folder, name, "labelIds") for name in names))
    return Pictures(names, CLASS_NAMES, STUFF, partial(_read_sample, folder))


def _annotation(folder: Path, name: str, kind: str) -> Path:
    return path_inside(folder, f"gtFine/{name}_gtFine_{kind}.png")


def _read_sample(folder: Path, name: str) -> Sample:
    image = read_image(path_inside(folder, f"leftImg8bit/{name}_leftImg8bit.png"))
    path = _annotation(folder, name, "labelIds")
    label_ids = torch.from_numpy(read_pixels(path, size=image.shape[1:]).astype(np.int64))
    try:
        classes = train_ids(label_ids)
    except ValueError as error:
        raise ValueError(f"folder: {path} has an unknown label ({error})") from error
    semantic = torch.where(classes == VOID, VOID, classes + 1)
    path = _annotation(folder, name, "instanceIds")
    if not path.is_file():
        sample = make_sample(image, None, None, semantic, CLASS_NAMES, STUFF)
        return sample._replace(panoptic=None)
    masks, labels = _read_objects(path, label_ids)
    return make_sample(image, masks, labels, semantic, CLASS_NAMES, STUFF)


def _read_objects(
    path: Path, label_ids: Int64[Tensor, "h w"]
) -> tuple[Bool[Tensor, "n h w"], Int64[Tensor, " n"]]:
    """The mask and the class of each object of the classes that the benchmark evaluates."""
    instance_ids = torch.from_numpy(read_pixels(path, size=label_ids.shape).astype(np.int64))
    differing = torch.where(instance_ids < 1000, instance_ids, instance_ids // 1000) != label_ids
    if differing.any():
        raise ValueError(
            f"folder: expected {path} to agree with its labelIds.png, "
            f"but {int(differing.sum())} pixels differ"
        )
    numbers = instance_ids[instance_ids >= 1000].unique()
    classes = torch.tensor([label.train_id for label in LABELS])[numbers // 1000]
    numbers, classes = numbers[classes != VOID], classes[classes != VOID]
    return instance_ids == numbers[:, None, None], classes + 1
