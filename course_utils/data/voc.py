"""PASCAL VOC: photos with semantic maps that are stored as images in the colours of the classes.

    JPEGImages/2007_000032.jpg           the photo
    SegmentationClass/2007_000032.png    the class of each pixel, as a colour
    SegmentationObject/2007_000032.png   the object of each pixel, as a colour
    Annotations/2007_000032.xml          the boxes
    ImageSets/Segmentation/train.txt     the names of the training photos for `read`
    ImageSets/Main/train.txt             and of those for `read_detection`

`d2l.torch.read_voc_images` reads the same folders. It treats the pale border around objects as background;
here it is void, as in the benchmark.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import torch
from jaxtyping import Bool, Float, Int64
from PIL import Image
from torch import Tensor

from course_utils.core import VOID, check_boxes
from course_utils.data.files import check_files, path_inside, read_lines
from course_utils.data.image_files import read_image
from course_utils.data.pictures import MAX_CLASSES, Pictures, make_sample
from course_utils.data.sample import Sample
from course_utils.data.scenes import CLASS_NAMES as SCENE_CLASS_NAMES
from course_utils.data.scenes import Scenes
from course_utils.data.voc_palette import colour_map as colour_map
from course_utils.data.voc_palette import read_numbers, write_numbers

NAMES = """
    background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person
    pottedplant sheep sofa train tvmonitor
"""
CLASS_NAMES = tuple(NAMES.split())


class BoxAnnotations(NamedTuple):
    """The objects in an XML file of VOC.

    Attributes:
        boxes: `x1, y1, x2, y2` in continuous pixel coordinates.
        labels: the class of each object, 1 or above.
        difficult: True for objects that the benchmark ignores.
    """

    boxes: Float[Tensor, "n 4"]
    labels: Int64[Tensor, " n"]
    difficult: Bool[Tensor, " n"]


def read(
    folder: Path | str, split: str = "train", class_names: tuple[str, ...] = CLASS_NAMES
) -> Pictures:
    """Open a folder in VOC's layout with its label maps.

    Label maps may be PNG files with VOC's palette (as in VOC), in RGB with VOC's colours, or in grey with
    the class numbers themselves. A photo without a file in `SegmentationObject` has a semantic map only: its
    boxes, labels, masks and panoptic map are None.

    Args:
        folder: the folder that holds `JPEGImages`, for example `VOCdevkit/VOC2012`.
        split: the name of a list in `ImageSets/Segmentation`: "train", "val" or "trainval".
        class_names: the name of each class, background first; VOC's 21 unless it is your own data.

    Returns:
        The photos in the order of the list.

    Source: Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 2015.
    """
    return _open(Path(folder), f"Segmentation/{split}", class_names, _label_map, _read_segmented)


def read_detection(
    folder: Path | str, split: str = "train", class_names: tuple[str, ...] = CLASS_NAMES
) -> Pictures:
    """Open a folder in VOC's layout with its boxes.

    Samples have boxes and labels, and no masks or maps. Difficult objects are among them; `read_boxes` says
    which they are.

    Args:
        folder, class_names: as in `read`.
        split: the name of a list in `ImageSets/Main`: "train", "val" or "trainval".

    Returns:
        The photos in the order of the list.
    """
    return _open(Path(folder), f"Main/{split}", class_names, _box_file, _read_boxed)


def read_label_map(
    path: Path | str,
    class_names: tuple[str, ...] = CLASS_NAMES,
    size: Sequence[int] | None = None,
) -> Int64[Tensor, "h w"]:
    """The class of each pixel in a file of `SegmentationClass`; 255 for void.

    Args:
        path: a PNG file with VOC's palette, in RGB with VOC's colours, or in grey with class numbers.
        class_names: the name of each class.
        size: height and width of the photo, to be compared with the file's; None to skip this check.
    """
    path = Path(path)
    numbers = read_numbers(path, size)
    unknown = (numbers < 0) | ((numbers >= len(class_names)) & (numbers != VOID))
    if unknown.any():
        raise ValueError(
            f"folder: expected classes 0 to {len(class_names) - 1} or {VOID} in {path}, "
            f"got {int(numbers[unknown][0])} in {int(unknown.sum())} pixels"
        )
    return numbers


def read_boxes(
    path: Path | str,
    class_names: tuple[str, ...] = CLASS_NAMES,
    size: Sequence[int] | None = None,
) -> BoxAnnotations:
    """The objects in an XML file of `Annotations`.

    VOC numbers pixels from 1, and its boxes include their last pixel: `xmin` = 1 and `xmax` = 3 become x1 = 0
    and x2 = 3. Some tools number from 0: `xmin` = 0 becomes x1 = 0 as well.

    Args:
        path: the file.
        class_names: the name of each class.
        size: height and width of the photo, to be compared with the file's; None to skip this check.
    """
    path = Path(path)
    check_files("annotation file", [path])
    try:
        parser = ElementTree.XMLParser(target=_TreeBuilder())
        root = ElementTree.fromstring(path.read_bytes(), parser)
        if root.tag != "annotation":
            raise ValueError(f"expected the root element 'annotation', got {root.tag!r}")
        stated = [float(root.findtext(f"size/{side}") or 0) for side in ("height", "width")]
        objects = root.findall("object")
        names = [item.findtext("name", "").strip() for item in objects]
        corners = [
            [
                float(item.findtext(f"bndbox/{side}", ""))
                for side in ("xmin", "ymin", "xmax", "ymax")
            ]
            for item in objects
        ]
        difficult = [item.findtext("difficult", "0").strip() == "1" for item in objects]
        boxes = torch.tensor(corners).reshape(-1, 4)
        check_boxes("bndbox", boxes)
        _check_inside(boxes, [side or math.inf for side in stated])
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ValueError(f"folder: {path} does not hold VOC's objects ({error})") from error
    if size is not None and all(stated) and tuple(size) != tuple(stated):
        raise ValueError(
            f"folder: expected {size[0]} x {size[1]} pixels (height x width) in {path}, as in its photo, "
            f"got {stated[0]:g} x {stated[1]:g}"
        )
    if unknown := [name for name in names if name not in class_names[1:]]:
        raise ValueError(f"folder: expected one of class_names in {path}, got {unknown[0]!r}")
    boxes[:, :2] = (boxes[:, :2] - 1).clamp(min=0)
    labels = torch.tensor([class_names.index(name) for name in names], dtype=torch.int64)
    return BoxAnnotations(boxes, labels, torch.tensor(difficult, dtype=torch.bool))


def write_voc(
    folder: Path | str,
    scenes: Scenes,
    split: str = "train",
    class_names: tuple[str, ...] = CLASS_NAMES,
) -> None:
    """Write scenes as a folder in VOC's layout. Call it once per split.

    Classes of the scenes that are not in `class_names` become background: with VOC's names, all except cats,
    dogs, cars and persons.

    Args:
        folder: where to write; it is created if it does not exist.
        scenes: any number of scenes.
        split: the name of the list, "train" or "val", which is also a prefix of the file names.
        class_names: the classes of the folder.

    >>> import tempfile
    >>> from course_utils.data.scenes import make_scenes
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_voc(folder, make_scenes([3], size=(32, 48)))
    ...     sample = read(folder)[0]
    >>> sample.image.shape, [CLASS_NAMES[number] for number in sample.semantic.unique()]
    (torch.Size([3, 32, 48]), ['background', 'car', 'person'])
    """
    folder = Path(folder)
    listed = path_inside(folder, f"ImageSets/Segmentation/{split}.txt")
    for part in ("JPEGImages", "SegmentationClass", "SegmentationObject", "ImageSets/Segmentation"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    numbers = [class_names.index(name) if name in class_names else 0 for name in SCENE_CLASS_NAMES]
    semantic = torch.tensor(numbers)[scenes.semantic.cpu()]
    slots = torch.arange(1, scenes.masks.shape[1] + 1)[:, None, None]
    objects = (scenes.masks.cpu() * slots).amax(dim=1) * (semantic > 0)
    images = (scenes.images.cpu() * 255).round().byte().permute(0, 2, 3, 1).numpy()
    names = [f"{split}_{number:06d}" for number in range(len(images))]
    for name, image, class_map, object_map in zip(names, images, semantic, objects, strict=True):
        Image.fromarray(image).save(_photo(folder, name), quality=95, subsampling=0)
        write_numbers(_label_map(folder, name), class_map)
        write_numbers(_object_map(folder, name), object_map)
    listed.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _photo(folder: Path, name: str) -> Path:
    return path_inside(folder, f"JPEGImages/{name}.jpg")


def _label_map(folder: Path, name: str) -> Path:
    return path_inside(folder, f"SegmentationClass/{name}.png")


def _object_map(folder: Path, name: str) -> Path:
    return path_inside(folder, f"SegmentationObject/{name}.png")


def _box_file(folder: Path, name: str) -> Path:
    return path_inside(folder, f"Annotations/{name}.xml")


def _open(
    folder: Path,
    listed: str,
    class_names: tuple[str, ...],
    annotation: Callable[[Path, str], Path],
    read_sample: Callable[[Path, tuple[str, ...], str], Sample],
) -> Pictures:
    """The photos of a list in `ImageSets`, each with a file that `annotation` names."""
    if len(class_names) > MAX_CLASSES + 1:
        raise ValueError(
            f"class_names: expected {MAX_CLASSES + 1} or fewer, got {len(class_names)}"
        )
    path = path_inside(folder, f"ImageSets/{listed}.txt")
    check_files("list of photos", [path])
    names = read_lines(path)
    if not names:
        raise ValueError(f"split: expected the names of photos in {path}, but it is empty")
    check_files("photo", (_photo(folder, name) for name in names))
    check_files("annotation", (annotation(folder, name) for name in names))
    return Pictures(names, class_names, (), partial(read_sample, folder, class_names))


def _read_segmented(folder: Path, class_names: tuple[str, ...], name: str) -> Sample:
    image = read_image(_photo(folder, name))
    semantic = read_label_map(_label_map(folder, name), class_names, image.shape[1:])
    if not _object_map(folder, name).is_file():
        sample = make_sample(image, None, None, semantic, class_names, ())
        return sample._replace(panoptic=None)
    masks, labels = _read_objects(folder, name, semantic)
    return make_sample(image, masks, labels, semantic, class_names, ())


def _read_boxed(folder: Path, class_names: tuple[str, ...], name: str) -> Sample:
    image, path = read_image(_photo(folder, name)), _box_file(folder, name)
    boxes, labels, _ = read_boxes(path, class_names, image.shape[1:])
    try:
        _check_inside(boxes, image.shape[1:])
    except ValueError as error:
        raise ValueError(f"folder: {path} does not fit its photo ({error})") from error
    return make_sample(image, None, labels, None, class_names, (), boxes)


def _read_objects(
    folder: Path, name: str, semantic: Int64[Tensor, "h w"]
) -> tuple[Bool[Tensor, "n h w"], Int64[Tensor, " n"]]:
    """The mask and the class of each object."""
    path = _object_map(folder, name)
    instances = read_numbers(path, semantic.shape)
    numbers = [number for number in instances.unique().tolist() if number not in (0, VOID)]
    labels = []
    for number in numbers:
        classes = semantic[instances == number].unique().tolist()
        if len(classes) > 1 or classes[0] in (0, VOID):
            raise ValueError(
                f"folder: expected one class for object {number} in {path}, but {_label_map(folder, name)} "
                f"has {', '.join(map(str, classes))} there"
            )
        labels += classes
    masks = instances == torch.tensor(numbers, dtype=torch.int64)[:, None, None]
    return masks, torch.tensor(labels, dtype=torch.int64)


class _TreeBuilder(ElementTree.TreeBuilder):
    """Refuses a document type, which VOC's files do not declare: an attack with nested entities would."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it declares a document type")


def _check_inside(boxes: Float[Tensor, "n 4"], size: Sequence[float | int]) -> None:
    """Raise unless the boxes are inside an image of this (height, width)."""
    height, width = size
    outside = ~((boxes >= 0) & (boxes <= torch.tensor([width, height, width, height])))
    if outside.any():
        box = boxes[outside.any(dim=1)][0].tolist()
        raise ValueError(
            f"expected boxes inside an image of {height:g} x {width:g} pixels, got {box}"
        )
