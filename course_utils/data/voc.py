"""PASCAL VOC: photos with semantic maps that are stored as images in the colours of the classes.

    JPEGImages/2007_000032.jpg           the photo
    SegmentationClass/2007_000032.png    the class of each pixel, as a colour
    SegmentationObject/2007_000032.png   the object of each pixel, as a colour
    Annotations/2007_000032.xml          the boxes
    ImageSets/Segmentation/train.txt     the names of the training photos

`d2l.torch.read_voc_images` reads the same folders. It treats the pale border around objects as background;
here it is void, as in the benchmark.
"""

from functools import cache, partial
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from PIL import Image
from torch import Tensor

from course_utils.core import VOID, check_boxes
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
from course_utils.data.sample import Sample
from course_utils.data.scenes import CLASS_NAMES as SCENE_CLASS_NAMES
from course_utils.data.scenes import Scenes

CLASS_NAMES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


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


def colour_map(count: int = 256) -> UInt8[Tensor, "count 3"]:
    """VOC's colour of each class.

    The bits of the class number are assigned to red, green and blue in turn, and the lowest bits become the
    most significant bits of the colour, so that consecutive classes get clearly different colours.

    Args:
        count: the number of colours, up to 256; the last of 256 is the pale colour of void.

    Returns:
        RGB from 0 to 255.

    Source: `VOClabelcolormap` of the VOC development kit; its first 21 are `d2l.torch.VOC_COLORMAP`.

    >>> colour_map(4).tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    """
    if not 0 <= count <= 256:
        raise ValueError(f"count: expected 0 to 256, got {count}")
    numbers = torch.arange(count)
    colours = torch.zeros(count, 3, dtype=torch.int64)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (numbers >> (3 * bit + channel) & 1) << (7 - bit)
    return colours.byte()


def read(
    folder: Path | str, split: str = "train", class_names: tuple[str, ...] = CLASS_NAMES
) -> Pictures:
    """Open a folder in VOC's layout.

    Semantic maps may be PNG files with VOC's palette (as in VOC), in RGB with VOC's colours, or in grey with
    the class numbers themselves.

    Args:
        folder: the folder that holds `JPEGImages`, for example `VOCdevkit/VOC2012`.
        split: the name of a list in `ImageSets/Segmentation`: "train", "val" or "trainval".
        class_names: the name of each class, background first; VOC's 21 unless it is your own data.

    Returns:
        The photos in the order of the list. `sample` needs the folder `SegmentationObject`.

    Source: Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 2015.
    """
    folder = Path(folder)
    if len(class_names) > MAX_CLASSES + 1:
        raise ValueError(
            f"class_names: expected {MAX_CLASSES + 1} or fewer, got {len(class_names)}"
        )
    listed = path_inside(folder, f"ImageSets/Segmentation/{split}.txt")
    check_files("list of photos", [listed])
    names = listed.read_text(encoding="utf-8").split()
    if not names:
        raise ValueError(f"split: expected the names of photos in {listed}, but it is empty")
    check_files("photo", (_photo(folder, name) for name in names))
    check_files("label map", (_label_map(folder, name) for name in names))
    read_pair = partial(_read_pair, folder, class_names)
    read_sample = partial(_read_sample, folder, class_names)
    return Pictures(names, class_names, (), read_pair, read_sample)


def read_label_map(
    path: Path | str, class_names: tuple[str, ...] = CLASS_NAMES
) -> Int64[Tensor, "h w"]:
    """The class of each pixel in a file of `SegmentationClass`; 255 for void.

    Args:
        path: a PNG file with VOC's palette, in RGB with VOC's colours, or in grey with class numbers.
        class_names: the name of each class.
    """
    path = Path(path)
    numbers = _read_numbers(path)
    unknown = (numbers >= len(class_names)) & (numbers != VOID)
    if unknown.any():
        raise ValueError(
            f"folder: expected classes 0 to {len(class_names) - 1} or {VOID} in {path}, "
            f"got {int(numbers[unknown][0])} in {int(unknown.sum())} pixels"
        )
    return numbers


def read_boxes(path: Path | str, class_names: tuple[str, ...] = CLASS_NAMES) -> BoxAnnotations:
    """The objects in an XML file of `Annotations`.

    VOC numbers pixels from 1, and its boxes include their last pixel: `xmin` = 1 and `xmax` = 3 become x1 = 0
    and x2 = 3.

    Args:
        path: the file.
        class_names: the name of each class.
    """
    path = Path(path)
    check_files("annotation file", [path])
    text = path.read_bytes()
    try:
        # VOC's files declare no document type; an attack with nested entities would
        if b"<!" in text:
            raise ValueError("it declares a document type")
        objects = ElementTree.fromstring(text).findall("object")
        names = [item.findtext("name", "").strip() for item in objects]
        corners = [
            [
                float(item.findtext(f"bndbox/{side}", ""))
                for side in ("xmin", "ymin", "xmax", "ymax")
            ]
            for item in objects
        ]
        difficult = [item.findtext("difficult", "0").strip() == "1" for item in objects]
        boxes = torch.tensor(corners).reshape(-1, 4) - torch.tensor([1.0, 1.0, 0.0, 0.0])
        check_boxes("bndbox", boxes)
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"folder: {path} does not hold VOC's objects ({error})") from error
    if unknown := [name for name in names if name not in class_names[1:]]:
        raise ValueError(f"folder: expected one of class_names in {path}, got {unknown[0]!r}")
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
    ...     image, label_map = read(folder)[0]
    >>> image.shape, [CLASS_NAMES[number] for number in label_map.unique()]
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
        _write_numbers(_label_map(folder, name), class_map)
        _write_numbers(_object_map(folder, name), object_map)
    listed.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _photo(folder: Path, name: str) -> Path:
    return path_inside(folder, f"JPEGImages/{name}.jpg")


def _label_map(folder: Path, name: str) -> Path:
    return path_inside(folder, f"SegmentationClass/{name}.png")


def _object_map(folder: Path, name: str) -> Path:
    return path_inside(folder, f"SegmentationObject/{name}.png")


def _read_pair(
    folder: Path, class_names: tuple[str, ...], name: str
) -> tuple[Float[Tensor, "3 h w"], Int64[Tensor, "h w"]]:
    image, path = read_image(_photo(folder, name)), _label_map(folder, name)
    semantic = read_label_map(path, class_names)
    check_same_size(path, semantic.shape, image)
    return image, semantic


def _read_sample(folder: Path, class_names: tuple[str, ...], name: str) -> Sample:
    image, semantic = _read_pair(folder, class_names, name)
    path = _object_map(folder, name)
    instances = _read_numbers(path)
    check_same_size(path, instances.shape, image)
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
    return make_sample(
        image, masks, torch.tensor(labels, dtype=torch.int64), semantic, class_names, ()
    )


@cache
def _palette() -> tuple[np.ndarray, np.ndarray]:
    """The codes R * 65536 + G * 256 + B of all colours in ascending order, and the number of each colour."""
    codes = colour_map().numpy().astype(np.int64) @ [65536, 256, 1]
    order = codes.argsort()
    return codes[order], order


def _read_numbers(path: Path) -> Int64[Tensor, "h w"]:
    """The number that each pixel's colour encodes; in a grey file, the pixels are the numbers themselves."""
    check_files("label map", [path])
    try:
        with Image.open(path) as opened:
            grey = opened.mode == "L"
    except OSError:
        grey = False  # read_pixels raises the error
    pixels = read_pixels(path, "L" if grey else "RGB").astype(np.int64)
    if grey:
        return torch.from_numpy(pixels)
    codes = pixels @ [65536, 256, 1]
    known, numbers = _palette()
    index = np.searchsorted(known, codes).clip(max=len(known) - 1)
    wrong = known[index] != codes
    if wrong.any():
        colour = tuple(pixels[wrong][0].tolist())
        raise ValueError(
            f"folder: expected the colours of VOC's map in {path}, got {colour} in {int(wrong.sum())} pixels"
        )
    return torch.from_numpy(numbers[index])


def _write_numbers(path: Path, numbers: Int64[Tensor, "h w"]) -> None:
    image = Image.fromarray(numbers.byte().numpy())
    image.putpalette(colour_map().flatten().tolist())
    image.save(path)
