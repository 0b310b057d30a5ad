"""What the readers of real data sets share: pictures by number, and files opened with care.

A data set is other people's work: files are missing, cut off, of the wrong size, or name each other wrongly.
Everything here answers with one sentence that says which file it is and what was expected.
"""

import json
import operator
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from PIL import Image
from torch import Tensor

from course_utils.core import check_boxes
from course_utils.data.sample import Sample
from course_utils.ops.masks import masks_to_boxes

# what Pillow raises for broken files
BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
# numbers 1 to 254: 0 is background and 255 is void
MOST_CLASSES = 254


class Pictures(Sequence):
    """A data set's pictures by number: `pictures[i]` is what training takes, an image and its label map.

    No picture is opened before it is asked for, and none is kept, so that the set may be of any size.

    Attributes:
        names: what each picture is called in its data set.
        class_names: the name of each class number; 0 is "background".
        stuff: the class numbers that are stuff; the others are things.
    """

    def __init__(
        self,
        names: Sequence[str],
        class_names: tuple[str, ...],
        stuff: tuple[int, ...],
        read_pair: Callable[[str], tuple[Tensor, Tensor]],
        read_sample: Callable[[str], Sample],
    ):
        self.names, self.class_names, self.stuff = tuple(names), class_names, stuff
        self._read_pair, self._read_sample = read_pair, read_sample

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: int) -> tuple[Float[Tensor, "3 h w"], Int64[Tensor, "h w"]]:
        """The image, RGB in 0..1, and the class of each pixel, 255 where nobody knows."""
        return self._read_pair(self.names[operator.index(number)])

    def sample(self, number: int) -> Sample:
        """One picture with all the answers that the data set has."""
        return self._read_sample(self.names[operator.index(number)])


def member(folder: Path, name: str) -> Path:
    """The path of a file in a folder, for a name that a file of the data set gave.

    Args:
        folder: where the data set lies.
        name: a path below it, with slashes.

    Returns:
        The path; the file need not exist.

    Raises:
        ValueError: the name is absolute or leads out of the folder.

    >>> member(Path("voc"), "../secret.txt")
    Traceback (most recent call last):
    ...
    ValueError: folder: expected the name of a file in voc, got '../secret.txt'
    """
    parts = str(name).replace("\\", "/").split("/")
    if any(part in ("", ".", "..") or ":" in part or "\0" in part for part in parts):
        raise ValueError(f"folder: expected the name of a file in {folder}, got {name!r}")
    return folder.joinpath(*parts)


def check_present(what: str, paths: Iterable[Path]) -> None:
    """Raise unless all these files are there: better at once than after an hour of training.

    Args:
        what: what they are, for the message.
        paths: where they should be.

    Raises:
        FileNotFoundError: one or more are not there.

    >>> check_present("label map", [Path("voc/SegmentationClass/2007_000032.png")])
    Traceback (most recent call last):
    ...
    FileNotFoundError: folder: 1 label map is missing, the first is voc/SegmentationClass/2007_000032.png
    """
    missing = [path for path in paths if not path.is_file()]
    if missing:
        count = f"1 {what} is" if len(missing) == 1 else f"{len(missing)} {what}s are"
        raise FileNotFoundError(f"folder: {count} missing, the first is {missing[0].as_posix()}")


def open_pixels(path: Path, mode: str | None = None) -> np.ndarray:
    """The pixels of a picture file.

    Pictures are taken as they are stored, without turning them as a camera's EXIF note would have it: the
    annotations of all data sets are drawn on the stored pixels.

    Args:
        path: the file.
        mode: Pillow's name of the form wanted, such as "RGB"; None for one number a pixel, as in the file.

    Returns:
        `[h, w]` or `[h, w, 3]`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no picture or is cut off, or has colours where one number a pixel was
            expected.
    """
    check_present("picture", [path])
    try:
        with Image.open(path) as opened:
            pixels = np.array(opened if mode is None else opened.convert(mode))
    except (*BROKEN, Image.DecompressionBombError) as error:
        raise ValueError(f"folder: {path} is no whole picture ({error}); fetch it again") from error
    if mode is None and pixels.ndim != 2:
        raise ValueError(
            f"folder: expected one number a pixel in {path}, got {pixels.shape[2]}: it is in colour"
        )
    return pixels


def open_image(path: Path) -> Float[Tensor, "3 h w"]:
    """A picture file as a model takes it: RGB in 0..1; grey becomes RGB.

    Args:
        path: the file.

    Returns:
        The image.

    Raises:
        FileNotFoundError, ValueError: see `open_pixels`.
    """
    return torch.from_numpy(open_pixels(path, "RGB")).permute(2, 0, 1).contiguous() / 255


def open_json(path: Path) -> dict:
    """The content of a JSON file that holds an object.

    Args:
        path: the file.

    Returns:
        What it says.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not whole JSON, or something else than an object.
    """
    check_present("annotation file", [path])
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"folder: {path} is not whole JSON ({error}); fetch it again") from error
    if not isinstance(content, dict):
        raise ValueError(
            f"folder: expected an object with names in {path}, got a {type(content).__name__}"
        )
    return content


def check_same_size(path: Path, size: Sequence[int], image: Float[Tensor, "3 h w"]) -> None:
    """Raise unless an annotation has as many pixels as its image.

    Args:
        path: the annotation file, for the message.
        size: its height and width in pixels.
        image: the image it belongs to.

    Raises:
        ValueError: they differ.

    >>> check_same_size(Path("a.png"), (4, 6), torch.zeros(3, 4, 5))
    Traceback (most recent call last):
    ...
    ValueError: folder: expected 4 x 5 pixels (height x width) in a.png, as in its image, got 4 x 6
    """
    height, width = image.shape[1:]
    if tuple(size) != (height, width):
        raise ValueError(
            f"folder: expected {height} x {width} pixels (height x width) in {path}, as in its image, "
            f"got {size[0]} x {size[1]}"
        )


def complete(
    image: Float[Tensor, "3 h w"],
    masks: Bool[Tensor, "n h w"],
    labels: Int64[Tensor, " n"],
    semantic: Int64[Tensor, "h w"],
    class_names: tuple[str, ...],
    stuff: tuple[int, ...],
    boxes: Float[Tensor, "n 4"] | None = None,
) -> Sample:
    """Add what follows from the masks and the label map: boxes and panoptic ids.

    A pixel of a thing's class that belongs to no object, as in a crowd, is void in the panoptic map, and so
    is one that belongs to several.

    Args:
        image: RGB in 0..1.
        masks: the pixels of each object.
        labels: the class of each object.
        semantic: the class of each pixel, or 255.
        class_names: the name of each class number.
        stuff: the class numbers that are stuff.
        boxes: `x1, y1, x2, y2` in pixels where the data set has its own; None for tight ones.

    Returns:
        The picture with all its answers.

    Raises:
        ValueError: a mask without a pixel where boxes are asked for, or boxes with swapped corners.

    >>> grid = torch.tensor([[1, 1, 2]])
    >>> whole = complete(
    ...     torch.zeros(3, 1, 3), grid[None] == 1, torch.tensor([1]), grid, ("", "cat", "sky"), (2,)
    ... )
    >>> whole.panoptic, whole.boxes
    (tensor([[1001, 1001, 2000]]), tensor([[0., 0., 2., 1.]]))
    """
    if boxes is None:
        boxes = masks_to_boxes(masks)
    check_boxes("boxes", boxes)
    panoptic = torch.where(torch.isin(semantic, torch.tensor(stuff)), 1000 * semantic, 0)
    for k, (mask, label) in enumerate(zip(masks, labels, strict=True)):
        panoptic[mask] = 1000 * label + 1 + (labels[:k] == label).sum()
    panoptic[masks.sum(dim=0) > 1] = 0
    return Sample(image, boxes, labels, masks, semantic, panoptic, class_names, stuff)
