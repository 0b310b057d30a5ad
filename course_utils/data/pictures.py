"""What the readers of real data sets share: images by index, and files that are opened with checks.

Files of a data set may be missing, truncated, of the wrong size, or refer to each other wrongly. The
functions here raise errors that name the file and say what was expected.
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
DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
# numbers 1 to 254: 0 is background and 255 is void
MAX_CLASSES = 254


class Pictures(Sequence):
    """A data set as a sequence of (image, semantic map) pairs; `sample` returns all ground truth of an image.

    Files are opened when an image is requested, and nothing is cached, so the data set may be of any size.

    Attributes:
        names: the name of each image in its data set.
        class_names: the name of each class; 0 is "background".
        stuff: the numbers of the stuff classes; all others are things.
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

    def __getitem__(self, index: int) -> tuple[Float[Tensor, "3 h w"], Int64[Tensor, "h w"]]:
        """The image, RGB in 0..1, and the class of each pixel, 255 where it is unlabelled."""
        return self._read_pair(self.names[operator.index(index)])

    def sample(self, index: int) -> Sample:
        """An image with all ground truth that the data set has."""
        return self._read_sample(self.names[operator.index(index)])


def path_inside(folder: Path, name: str) -> Path:
    """The path of a file in a folder, for a relative name with slashes that comes from the data set.

    Raises:
        ValueError: the name is absolute or leads out of the folder.

    >>> path_inside(Path("voc"), "../secret.txt")
    Traceback (most recent call last):
    ...
    ValueError: folder: expected the name of a file inside voc, got '../secret.txt'
    """
    parts = str(name).replace("\\", "/").split("/")
    if any(part in ("", ".", "..") or ":" in part or "\0" in part for part in parts):
        raise ValueError(f"folder: expected the name of a file inside {folder}, got {name!r}")
    return folder.joinpath(*parts)


def check_files(kind: str, paths: Iterable[Path]) -> None:
    """Raise unless all these files exist, before training starts rather than in the middle of it.

    Args:
        kind: what the files are, for the message.
        paths: the files.

    >>> check_files("label map", [Path("voc/SegmentationClass/2007_000032.png")])
    Traceback (most recent call last):
    ...
    FileNotFoundError: folder: 1 label map is missing, the first is voc/SegmentationClass/2007_000032.png
    """
    missing = [path for path in paths if not path.is_file()]
    if missing:
        count = f"1 {kind} is" if len(missing) == 1 else f"{len(missing)} {kind}s are"
        raise FileNotFoundError(f"folder: {count} missing, the first is {missing[0].as_posix()}")


def read_pixels(path: Path, mode: str | None = None) -> np.ndarray:
    """The pixels of an image file, as stored.

    The orientation in the EXIF data is ignored, because annotations refer to the pixels as they are stored.

    Args:
        path: the file.
        mode: the Pillow mode to convert to, such as "RGB"; None for one number per pixel, as in the file.

    Returns:
        `[h, w]` or `[h, w, 3]`.
    """
    check_files("image file", [path])
    try:
        with Image.open(path) as opened:
            pixels = np.array(opened if mode is None else opened.convert(mode))
    except DECODING_ERRORS as error:
        raise ValueError(
            f"folder: {path} is not a complete image file ({error}); download it again"
        ) from error
    if mode is None and pixels.ndim != 2:
        raise ValueError(
            f"folder: expected one number per pixel in {path}, got {pixels.shape[2]} channels"
        )
    return pixels


def read_image(path: Path) -> Float[Tensor, "3 h w"]:
    """An image file as the input of a model: RGB in 0..1; grey becomes RGB."""
    return torch.from_numpy(read_pixels(path, "RGB")).permute(2, 0, 1).contiguous() / 255


def read_json(path: Path) -> dict:
    """The content of a JSON file that holds an object."""
    check_files("annotation file", [path])
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"folder: {path} is not a complete JSON file ({error}); download it again"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"folder: expected a JSON object in {path}, got a {type(content).__name__}"
        )
    return content


def check_same_size(path: Path, size: Sequence[int], image: Float[Tensor, "3 h w"]) -> None:
    """Raise unless an annotation file has the same (height, width) as its image.

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


def make_sample(
    image: Float[Tensor, "3 h w"],
    masks: Bool[Tensor, "n h w"],
    labels: Int64[Tensor, " n"],
    semantic: Int64[Tensor, "h w"],
    class_names: tuple[str, ...],
    stuff: tuple[int, ...],
    boxes: Float[Tensor, "n 4"] | None = None,
) -> Sample:
    """A sample whose boxes and panoptic map are derived from the masks and the semantic map.

    In the panoptic map, a pixel of a thing class that belongs to no object, as in a crowd, is void, and so is
    one that belongs to several.

    Args:
        image, masks, labels, semantic, class_names, stuff: the fields of `Sample`.
        boxes: `x1, y1, x2, y2` in pixels, if the data set has its own; None for tight boxes.

    >>> grid = torch.tensor([[1, 1, 2]])
    >>> sample = make_sample(
    ...     torch.zeros(3, 1, 3), grid[None] == 1, torch.tensor([1]), grid, ("", "cat", "sky"), (2,)
    ... )
    >>> sample.panoptic, sample.boxes
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
