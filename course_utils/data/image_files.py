"""Image files of a data set: photos and label maps, decoded with checks.

A photo is read as RGB in 0..1, whatever the file holds; a label map is read as the numbers that it holds, or
not at all. Pillow has readers that run other programs, such as Ghostscript, and it recognises a file by its
content, not by its name; so only the formats of photos are opened.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from course_utils.data.files import check_files

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "PPM")
LOSSLESS_FORMATS = ("PNG", "TIFF", "BMP", "PPM")


def load_image(
    path: Path,
    size: Sequence[int] | None = None,
    *,
    lossless: bool = False,
    content: bytes | None = None,
) -> Image.Image:
    """An image file as Pillow decodes it, in the mode of the file.

    The size in the file's header is compared before the pixels are decoded: a PNG file of 160 kB can hold 169
    million pixels.

    Args:
        path: the file.
        size: the (height, width) that the image must have; None for any up to `Image.MAX_IMAGE_PIXELS`.
        lossless: whether it is a label map, whose numbers must be exactly those that were stored.
        content: the bytes of an image that is a part of `path`; None if the file is the image.
    """
    if content is None:
        check_files("image file", [path])
    with _naming_the_file(path):
        image = Image.open(path if content is None else BytesIO(content), formats=FORMATS)
    with image:
        width, height = image.size
        limit = Image.MAX_IMAGE_PIXELS or math.inf
        if not 0 < width * height <= limit:
            raise ValueError(
                f"folder: expected 1 to {limit} pixels in {path}, got {height} x {width}; "
                "PIL.Image.MAX_IMAGE_PIXELS is the limit"
            )
        if size is not None:
            _check_size(path, (height, width), size)
        if lossless:
            _check_lossless(path, image)
        with _naming_the_file(path):
            image.load()
    image.info.pop("transparency", None)  # transparent pixels keep their colour
    return image


def read_image(
    path: Path | str, *, upright: bool = False, content: bytes | None = None
) -> Float[Tensor, "3 h w"]:
    """An image file as the input of a model: RGB in 0..1.

    Grey becomes RGB; transparency is ignored. Grey with 16 bits is divided by 65535, and grey in floating
    point must be in 0..1 already.

    Args:
        path, content: as in `load_image`.
        upright: whether to turn the image as its EXIF data say. Most annotations refer to the pixels as they
            are stored; those of LabelMe refer to the image as you see it.
    """
    path = Path(path)
    image = load_image(path, content=content)
    with _naming_the_file(path):
        if upright:
            image = ImageOps.exif_transpose(image)
        wide = image.mode == "F" or image.mode.startswith("I")  # more than 8 bits per pixel
        pixels = np.array(image if wide else image.convert("RGB"))
    if not wide:
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous() / 255
    white = 1 if image.mode == "F" else 65535
    if not ((pixels >= 0) & (pixels <= white)).all():
        raise ValueError(
            f"folder: expected grey values from 0 to {white} in {path}, "
            f"got {pixels.min()} to {pixels.max()}"
        )
    return torch.from_numpy((pixels / white).astype(np.float32)).repeat(3, 1, 1)


def read_pixels(
    path: Path, mode: str | None = None, size: Sequence[int] | None = None
) -> np.ndarray:
    """The numbers in a label map, as stored.

    Args:
        path: the file.
        mode: "RGB" for three numbers per pixel; None for one, which in a palette image is the index.
        size: as in `load_image`.

    Returns:
        `[h, w]` or `[h, w, 3]`.
    """
    image = load_image(path, size, lossless=True)
    if mode is None and len(image.getbands()) > 1:
        raise ValueError(
            f"folder: expected one number per pixel in {path}, got {len(image.getbands())} channels"
        )
    if mode is not None and image.mode.startswith("I"):
        raise ValueError(f"folder: expected colours in {path}, got one number per pixel")
    return np.array(image if mode is None else image.convert(mode))


def check_same_size(path: Path, size: Sequence[int], image: Float[Tensor, "3 h w"]) -> None:
    """Raise unless an annotation file has the same (height, width) as its image.

    >>> check_same_size(Path("a.png"), (4, 6), torch.zeros(3, 4, 5))
    Traceback (most recent call last):
    ...
    ValueError: folder: expected 4 x 5 pixels (height x width) in a.png, as in its image, got 4 x 6
    """
    _check_size(path, size, image.shape[1:])


def _check_size(path: Path, size: Sequence[int], expected: Sequence[int]) -> None:
    if tuple(size) != tuple(expected):
        raise ValueError(
            f"folder: expected {expected[0]} x {expected[1]} pixels (height x width) in {path}, "
            f"as in its image, got {size[0]} x {size[1]}"
        )


def _check_lossless(path: Path, image: Image.Image) -> None:
    """Raise unless Pillow returns the numbers of a label map as they were written."""
    if image.format not in LOSSLESS_FORMATS:
        raise ValueError(
            f"folder: expected a label map as PNG in {path}, got {image.format}, whose compression changes "
            "the numbers"
        )
    # Pillow stretches grey values of 1, 2 and 4 bits to 0..255: class 1 would become void
    few_bits = image.mode == "1" or any(f"'L;{bits}" in str(image.tile) for bits in (2, 4))
    if few_bits or image.mode == "F":
        found = "floating-point numbers" if image.mode == "F" else "grey values of fewer bits"
        raise ValueError(f"folder: expected 8 or 16 bits per pixel in {path}, got {found}")


@contextmanager
def _naming_the_file(path: Path) -> Iterator[None]:
    """Turn what Pillow raises for a broken file, which may be anything, into a sentence with its name."""
    try:
        yield
    except Exception as error:
        if getattr(error, "filename", None):  # the system could not open it, and names it
            raise
        unknown = isinstance(error, UnidentifiedImageError)
        reason = (
            f"it is not {', '.join(FORMATS)}" if unknown else str(error) or type(error).__name__
        )
        raise ValueError(
            f"folder: {path} is not a complete image file ({reason}); download it again, or save it as PNG"
        ) from error
