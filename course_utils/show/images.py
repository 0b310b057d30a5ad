"""Plots of images and small matrices.

All plotting functions of `course_utils.show` draw into `ax` (or into new axes if it is None) and return the
axes, so that they can be combined: first `plot_image`, then boxes, masks or arrows on top. Coordinates are
the course's: the pixel in row i and column j covers `[j, j + 1] x [i, i + 1]`. A cell ends with `figure`.
"""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from torch import Tensor

from course_utils.core import check_floating, check_shape, check_whole
from course_utils.show._axes import draw_pixels, get_axes, one_per_item, to_numpy
from course_utils.show.style import text_color


def plot_image(image: Tensor, *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """Draw an image so that pixel (i, j) covers `[j, j + 1] x [i, i + 1]`.

    Pixels of small images are drawn as squares; images of more than 256 pixels per side are antialiased.

    Args:
        image: RGB `[3, h, w]` in 0..1 (clipped), or one channel `[1, h, w]` or `[h, w]`, drawn in grey from
            black (0, or a smaller minimum) to white (1, or a larger maximum).
        ax: where to draw.
        title: above the image.

    Returns:
        The axes, `0..w` from left to right and `0..h` from top to bottom, without ticks.

    >>> import torch
    >>> ax = plot_image(torch.zeros(3, 2, 5))
    >>> [float(limit) for limit in (*ax.get_xlim(), *ax.get_ylim())]
    [0.0, 5.0, 2.0, 0.0]
    >>> plt.close(ax.figure)
    """
    if not isinstance(image, Tensor):
        raise TypeError(f"image: expected a torch.Tensor, got {type(image).__name__}")
    if not (image.ndim == 2 or (image.ndim == 3 and image.shape[0] in (1, 3))):
        raise ValueError(
            f"image: expected shape [3, h, w], [1, h, w] or [h, w], got {list(image.shape)}"
        )
    check_floating("image", image)
    pixels = to_numpy(image.float())
    if image.ndim == 3 and len(image) == 3:
        return draw_pixels(pixels.transpose(1, 2, 0).clip(0, 1), get_axes(ax), title=title)
    grey = pixels.reshape(image.shape[-2:])
    limits = {"vmin": min(0.0, grey.min(initial=0)), "vmax": max(1.0, grey.max(initial=1))}
    return draw_pixels(grey, get_axes(ax), title=title, cmap="gray", **limits)


def plot_crops(
    crops: Float[Tensor, "n 3 h w"], titles: Sequence[str], *, columns: int = 6
) -> Figure:
    """Draw images of the same size in a grid, each below its title.

    Args:
        crops: RGB in 0..1.
        titles: one per crop.
        columns: the number of columns of the grid.

    Returns:
        The figure.

    >>> import torch
    >>> figure = plot_crops(torch.zeros(3, 3, 8, 8), ["cat", "dog", "car"], columns=2)
    >>> len(figure.axes)
    3
    >>> plt.close(figure)
    """
    check_shape("crops", crops, "n", 3, "h", "w")
    titles = one_per_item("titles", list(titles), len(crops))
    check_whole("columns", columns, least=1)
    columns = max(1, min(columns, len(crops)))
    rows = max(1, -(-len(crops) // columns))
    size = min(2.4, 9 / columns)
    figure = plt.figure(figsize=(size * columns, (size + 0.35) * rows))
    fontsize = 0.85 * plt.rcParams["font.size"]
    width = int(size * 72 / (0.62 * fontsize))  # in characters
    for index, (crop, title) in enumerate(zip(crops, titles, strict=True)):
        ax = plot_image(crop, ax=figure.add_subplot(rows, columns, index + 1))
        lines = [part for line in title.split("\n") for part in textwrap.wrap(line, width) or [""]]
        ax.set_title("\n".join(lines), fontsize=fontsize, loc="center", parse_math=False)
    if not len(crops):
        figure.text(0.5, 0.5, "no crops", horizontalalignment="center")
    return figure


def plot_grid(
    matrix: Tensor,
    *,
    ax: Axes | None = None,
    title: str | None = None,
    format: str = "{:.2f}",
    colors: Mapping[int, str] | None = None,
) -> Axes:
    """Draw a small matrix as squares with their numbers, as on the lecture's slides.

    Positive numbers are orange and negative ones purple, in stronger shades the larger their magnitude.
    Numbers that are names, such as classes, get `colors` instead: a scale would say that 7 is more than 5.

    Args:
        matrix: `[h, w]`, of any dtype.
        ax: where to draw.
        title: above the squares.
        format: the format of a number, for example "{:.0f}".
        colors: the colour of each number that has one of its own; all others are white.

    Returns:
        The axes.

    >>> import torch
    >>> ax = plot_grid(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), format="{:.0f}")
    >>> [text.get_text() for text in ax.texts]
    ['1', '2', '3', '4']
    >>> plt.close(ax.figure)
    """
    check_shape("matrix", matrix, "h", "w")
    height, width = matrix.shape
    values = to_numpy(matrix.double())
    texts = [[format.format(value) for value in row] for row in matrix.tolist()]
    longest = max((len(text) for row in texts for text in row), default=1)
    side = max(0.6, 0.13 * longest + 0.15) * plt.rcParams["font.size"] / 12
    if ax is None:
        _, ax = plt.subplots(
            figsize=(side * max(width, 2), side * max(height, 1) + (0.4 if title else 0))
        )
    finite = np.abs(values[np.isfinite(values)])
    limit = 1.8 * finite.max(initial=1e-12)  # 1.8: even the largest number has a light background
    shades = plt.get_cmap("PuOr_r")(
        Normalize(-limit, limit)(np.nan_to_num(values, posinf=limit, neginf=-limit))
    )
    shades[np.isnan(values)] = to_rgba("#DDDDDD")
    if colors is not None:
        shades[:] = to_rgba("white")
        for number, color in colors.items():
            shades[values == number] = to_rgba(color)
    draw_pixels(shades, ax, title=title)
    ax.vlines(range(width + 1), 0, height, color="black", linewidth=1, clip_on=False)
    ax.hlines(range(height + 1), 0, width, color="black", linewidth=1, clip_on=False)
    for i, j in np.ndindex(height, width):
        ax.text(
            j + 0.5,
            i + 0.5,
            texts[i][j],
            color=text_color(tuple(shades[i, j, :3])),
            horizontalalignment="center",
            verticalalignment="center",
        )
    return ax


def plot_grids(matrices: Mapping[str, Tensor], format: str = "{:.2f}") -> Figure:
    """Draw small matrices side by side, with squares of one size, each below its title.

    Args:
        matrices: `[h, w]`, by their titles.
        format: as in `plot_grid`.

    Returns:
        The figure.

    >>> import torch
    >>> fig = plot_grids({"a": torch.eye(2), "b": torch.eye(3)})
    >>> [ax.get_title(loc="left") for ax in fig.axes]
    ['a', 'b']
    >>> plt.close(fig)
    """
    widths = [matrix.shape[1] for matrix in matrices.values()]
    total, highest = sum(widths) + 0.6 * len(widths), max(len(m) for m in matrices.values())
    side = min(0.65, 4.2 / highest, 10.5 / total)  # of a square, in inches
    size = side * total, side * highest + 0.5
    fig, axes = plt.subplots(1, len(widths), figsize=size, width_ratios=widths, squeeze=False)
    for ax, (title, matrix) in zip(axes[0], matrices.items(), strict=True):
        plot_grid(matrix, ax=ax, title=title, format=format)
    return fig
