"""How a picture goes through a network: tile by tile without seams, and from eight sides."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from course_utils.core import check_floating, check_shape


def mirror_pad(
    image: Float[Tensor, "c h w"], before: int, after: tuple[int, int]
) -> Float[Tensor, "c h2 w2"]:
    """Continue a picture beyond its borders as a mirror would: the border pixel itself is not repeated.

    Args:
        image: of any number of channels.
        before: new pixels above, and as many at the left.
        after: new pixels below and at the right. There may be more than the picture has: the mirrors then
            face each other.

    Returns:
        The larger picture.

    Source: Ronneberger et al., "U-Net", 2015, section 2. Same as `torch.nn.functional.pad` with
    mode="reflect", which stops at the size of the picture.

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


def _reflect(places: Tensor, size: int) -> Tensor:
    """The pixel that a mirror at the first and at the last pixel shows at each place."""
    period = max(1, 2 * (size - 1))
    places = places % period
    return torch.minimum(places, period - places).clamp(max=size - 1)


def predict_in_tiles(
    predict: Callable[[Float[Tensor, "1 c h w"]], Float[Tensor, "1 k h2 w2"]],
    image: Float[Tensor, "c h w"],
    *,
    tile: int,
    overlap: int,
) -> Float[Tensor, "k h w"]:
    """Predict a picture tile by tile; each tile comes with its surroundings, and only its middle is kept.

    A pixel at a tile's border needs to see what lies beyond, or its answer changes where one tile ends and
    the next begins. With an overlap as wide as half the receptive field the seams are gone. Beyond the
    picture's own border lies its mirror image.

    Args:
        predict: a network, from images to scores of the same size, or narrower by up to `overlap` at each
            side (a U-Net with padding 0 is narrower by its `border`).
        image: a picture of any size.
        tile: height and width of what is kept of each prediction.
        overlap: how much more a tile sees at each of its four sides, in pixels.

    Returns:
        One score a class and pixel of the picture.

    Raises:
        TypeError: the picture has no floating-point numbers.
        ValueError: a wrong shape, no tile, or scores that are too narrow.

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
    """The scores of the tile itself, out of those of the tile and its surroundings."""
    cut = (scores.shape[1] - tile) // 2
    if cut < 0:
        raise ValueError(f"predict: expected {tile} or more pixels back, got {scores.shape[1]}")
    return scores[:, cut : cut + tile, cut : cut + tile]


def mean_over_views(
    predict: Callable[[Float[Tensor, "c _ _"]], Float[Tensor, "k _ _"]],
    image: Float[Tensor, "c h w"],
) -> Float[Tensor, "k h w"]:
    """Predict a picture in its eight views, turn the answers back, and average them.

    Under a microscope there is no above and below. A network that was trained on a few pictures still makes
    another small mistake in each view, and the mean has fewer of them.

    Args:
        predict: from a picture to something of the same height and width, such as probabilities.
        image: the picture.

    Returns:
        The mean of the predictions for four quarter turns, each as it is and mirrored.

    Source: Ronneberger et al., "U-Net", 2015, table 1, where seven turned versions are averaged.

    >>> image = torch.rand(1, 4, 6)
    >>> torch.allclose(mean_over_views(torch.sqrt, image), image.sqrt())
    True
    """
    answers = []
    for turns in range(4):
        view = torch.rot90(image, turns, (1, 2))
        for answer in (predict(view), predict(view.flip(2)).flip(2)):
            answers.append(torch.rot90(answer, -turns, (1, 2)))
    return torch.stack(answers).mean(dim=0)
