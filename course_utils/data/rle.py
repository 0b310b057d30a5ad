"""COCO's run-length encoding of masks (RLE)."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from course_utils.core import check_masks, check_size


def decode_rle(counts: str | bytes | Sequence[int], size: tuple[int, int]) -> Bool[Tensor, "h w"]:
    """Decode a mask from COCO's run-length encoding.

    Pixels are counted column by column, from top to bottom. `counts` holds the lengths of the runs, which
    alternate between pixels outside and inside the mask and start outside.

    Args:
        counts: a list of run lengths, or COCO's compressed string.
        size: height and width of the mask in pixels.

    Returns:
        True inside.

    Source: same as `pycocotools.mask.decode`.

    >>> decode_rle([1, 2, 2, 1], (2, 3)).int()
    tensor([[0, 1, 0],
            [1, 0, 1]], dtype=torch.int32)
    >>> decode_rle("122O", (2, 3)).int()
    tensor([[0, 1, 0],
            [1, 0, 1]], dtype=torch.int32)
    """
    check_size("size", size)
    runs = _decompress(counts) if isinstance(counts, str | bytes) else list(counts)
    height, width = size
    wrong = [run for run in runs if not isinstance(run, int) or run < 0]
    if wrong or sum(runs) != height * width:
        got = f"a run of {wrong[0]!r}" if wrong else f"{sum(runs)}"
        raise ValueError(
            f"counts: expected runs that add up to {height} x {width} = {height * width} pixels, got {got}"
        )
    inside = torch.arange(len(runs)) % 2 == 1
    return inside.repeat_interleave(torch.tensor(runs)).reshape(width, height).T.contiguous()


def _decompress(text: str | bytes) -> list[int]:
    """The run lengths in a compressed string.

    From the fourth run on, the difference to the run before the previous one is stored. Each number is
    written in groups of 5 bits, least significant first; a sixth bit says that more groups follow, and 48 is
    added to get a printable character.
    """
    characters = text.encode("latin-1", "replace") if isinstance(text, str) else text
    runs, number, shift = [], 0, 0
    for character in characters:
        bits = character - 48
        if not 0 <= bits < 64:
            raise ValueError(f"counts: expected characters from '0' to 'o', got {chr(character)!r}")
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << shift  # the highest bit is the sign
        runs.append(number + (runs[-2] if len(runs) > 2 else 0))
        number, shift = 0, 0
    if shift:
        raise ValueError("counts: the string ends in the middle of a number")
    return runs


def encode_rle(mask: Bool[Tensor, "h w"]) -> str:
    """Encode a mask in COCO's compressed run-length encoding.

    Args:
        mask: True inside.

    Returns:
        The string that `decode_rle` reads.

    Source: same as `pycocotools.mask.encode`, which returns bytes.

    >>> encode_rle(torch.tensor([[False, True, False], [True, False, True]]))
    '122O'
    """
    check_masks("mask", mask, "h", "w")
    pixels = mask.T.flatten()  # column by column
    ends = (pixels[1:] != pixels[:-1]).nonzero().flatten() + 1
    edges = [0, *ends.tolist(), len(pixels)]
    runs = torch.tensor(edges).diff().tolist()
    if pixels[:1].any():
        runs.insert(0, 0)  # the first run is outside
    return "".join(_compress(run - (runs[k - 2] if k > 2 else 0)) for k, run in enumerate(runs))


def _compress(number: int) -> str:
    """One number in groups of 5 bits, least significant first; see `_decompress`."""
    text = ""
    while not -16 <= number < 16:
        text += chr(48 + (number & 31 | 32))
        number >>= 5
    return text + chr(48 + (number & 31))
