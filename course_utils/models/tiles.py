"""Inference on large images: tile by tile without seams, and averaged over eight views."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from course_utils.core import check_floating, check_shape


def mirror_pad(
    image: Float[Tensor, "c h w"], before: int, after: tuple[int, int]
) -> Float[Tensor, "c h2 w2"]:
    """Continue an image beyond its borders by reflection; the border pixel itself is not repeated.

    Args:
        image: of any number of channels.
        before: new pixels at the top, and as many at the left.
        after: new pixels at the bottom and at the right. There may be more than the image has: it is then
            reflected several times.

    Returns:
        The larger image.

    Source: Ronneberger et al., "U-Net", 2015, section 2. Same as `torch.nn.functional.pad` with
    mode="reflect", which allows no more pixels than the image has.

    >>> mirror_pad(torch.tensor([[[1.0, 2.0, 3.0]]]), 0, (0, 5))
    tensor([[[1., 2., 3., 2., 1., 2., 3., 2.]]])
    """
    check_shape("image", image, "c", "h", "w")
    if min(before, *after) < 0:
        raise ValueError(f"before, after: expected 0 or more, got {before} and {after}")
    rows, columns = (
        _reflect(torch.arange(-before, size + more, device=image.device), size)
        for size, more in zip(image.shape[1:], after, strict=True)
    )
    return image[:, rows[:, None], columns]


def _reflect(positions: Tensor, size: int) -> Tensor:
    """The index that reflection at the first and the last pixel gives for each position."""
    period = max(1, 2 * (size - 1))
    positions = positions % period
    return torch.minimum(positions, period - positions).clamp(max=size - 1)


def predict_in_tiles(
    predict: Callable[[Float[Tensor, "1 c h w"]], Float[Tensor, "1 k h2 w2"]],
    image: Float[Tensor, "c h w"],
    *,
    tile: int,
    overlap: int,
) -> Float[Tensor, "k h w"]:
    """Predict an image tile by tile (overlap-tile); only the middle of each prediction is kept.

    A pixel at the border of a tile needs the context beyond it, or its prediction depends on where the tile
    ends. With an overlap of half the receptive field there are no seams. Beyond the border of the image the
    context is its reflection.

    Args:
        predict: a network, from images to scores of the same size, or smaller by up to `overlap` on each
            side (a U-Net with padding 0 is smaller by its `border`).
        image: of any size.
        tile: height and width of the part that is kept of each prediction.
        overlap: context on each of the four sides of a tile, in pixels.

    Returns:
        One score per class and pixel of the image.

    Source: Ronneberger et al., "U-Net", 2015, figure 2.

    >>> image = torch.rand(1, 5, 7)
    >>> torch.equal(predict_in_tiles(torch.sqrt, image, tile=2, overlap=3), image.sqrt())
    True
    """
    check_shape("image", image, "c", "h", "w")
    check_floating("image", image)
    if tile < 1 or overlap < 0:
        raise ValueError(
            f"tile, overlap: expected tile >= 1 and overlap >= 0, got {tile} and {overlap}"
        )
    height, width = image.shape[1:]
    wide = mirror_pad(image, overlap, (overlap + -height % tile, overlap + -width % tile))
    side = tile + 2 * overlap
    rows = []
    for top in range(0, height, tile):
        windows = (wide[:, top : top + side, left : left + side] for left in range(0, width, tile))
        rows.append(torch.cat([_middle(predict(window[None])[0], tile) for window in windows], 2))
    return torch.cat(rows, dim=1)[:, :height, :width]


def _middle(scores: Tensor, tile: int) -> Tensor:
    """The scores of the tile itself, without its context."""
    cut = (scores.shape[1] - tile) // 2
    if cut < 0:
        raise ValueError(
            f"predict: expected an output of at least {tile} pixels, got {scores.shape[1]}"
        )
    return scores[:, cut : cut + tile, cut : cut + tile]


def mean_over_views(
    predict: Callable[[Float[Tensor, "c _ _"]], Float[Tensor, "k _ _"]],
    image: Float[Tensor, "c h w"],
) -> Float[Tensor, "k h w"]:
    """Predict an image in eight views, transform the predictions back, and average them.

    A microscope image has no up and down, so all eight views are equally valid (test-time augmentation).

    Args:
        predict: from an image to a map of the same height and width, such as probabilities.
        image: the image.

    Returns:
        The mean of the predictions for four rotations by 90 degrees, each with and without a flip.

    Source: Ronneberger et al., "U-Net", 2015, table 1, where seven rotated versions are averaged.

    >>> image = torch.rand(1, 4, 6)
    >>> torch.allclose(mean_over_views(torch.sqrt, image), image.sqrt())
    True
    """
    predictions = []
    for turns in range(4):
        view = torch.rot90(image, turns, (1, 2))
        for prediction in (predict(view), predict(view.flip(2)).flip(2)):
            predictions.append(torch.rot90(prediction, -turns, (1, 2)))
    return torch.stack(predictions).mean(dim=0)
