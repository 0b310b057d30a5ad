"""Numbers stored as the colours of an image, as in PASCAL VOC's label maps."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from torch import Tensor

from course_utils.data.image_files import load_image


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


def read_numbers(path: Path, size: Sequence[int] | None = None) -> Int64[Tensor, "h w"]:
    """The number that each pixel's colour encodes; in a grey file, the pixels are the numbers themselves.

    Args:
        path: an image with VOC's palette, in RGB with VOC's colours, or in grey with 8 or 16 bits.
        size: the (height, width) that it must have; None for any.
    """
    image = load_image(path, size, lossless=True)
    pixels = np.array(image)
    if image.mode in ("L", "LA") or image.mode.startswith("I"):
        return torch.from_numpy((pixels[..., 0] if pixels.ndim == 3 else pixels).astype(np.int64))
    if image.mode != "P":
        return torch.from_numpy(_numbers(path, np.array(image.convert("RGB"))))
    used = np.flatnonzero(image.histogram())  # the colours, not those of all pixels
    palette = np.array(image.getpalette()).reshape(-1, 3)
    if used.max() >= len(palette):
        raise ValueError(
            f"folder: expected a palette of {used.max() + 1} colours or more in {path}, got {len(palette)}"
        )
    numbers = np.zeros(256, dtype=np.int64)
    numbers[used] = _numbers(path, palette[used])
    return torch.from_numpy(numbers[pixels])


def write_numbers(path: Path, numbers: Int64[Tensor, "h w"]) -> None:
    """Write numbers from 0 to 255 as an image with VOC's palette."""
    image = Image.fromarray(numbers.byte().numpy())
    image.putpalette(colour_map().flatten().tolist())
    image.save(path)


@cache
def _codes_of_colours() -> tuple[np.ndarray, np.ndarray]:
    """The codes R * 65536 + G * 256 + B of all colours in ascending order, and the number of each colour."""
    codes = colour_map().numpy().astype(np.int64) @ [65536, 256, 1]
    order = codes.argsort()
    return codes[order], order


def _numbers(path: Path, colours: np.ndarray) -> np.ndarray:
    """The number of each colour, `[..., 3]`."""
    codes = colours.astype(np.int64) @ [65536, 256, 1]
    known, numbers = _codes_of_colours()
    index = np.searchsorted(known, codes).clip(max=len(known) - 1)
    wrong = known[index] != codes
    if wrong.any():
        raise ValueError(
            f"folder: expected the colours of VOC's map in {path}, "
            f"got {tuple(colours[wrong][0].tolist())}"
        )
    return numbers[index]
