"""Plots of instance masks and of semantic label maps."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path
from scipy import ndimage
from torch import Tensor

from course_utils.core import VOID, check_masks, check_shape
from course_utils.show._axes import (
    add_centred_tag,
    draw_pixels,
    get_axes,
    label_texts,
    one_per_item,
    to_numpy,
)
from course_utils.show.images import plot_image
from course_utils.show.style import HATCHES, class_color, instance_color

VOID_FACE, VOID_HATCH = "#C8C8C8", "#6E6E6E"


def plot_masks(
    masks: Bool[Tensor, "n h w"],
    *,
    ax: Axes | None = None,
    labels: Sequence[str] | None = None,
    colors: str | Sequence[str] | None = None,
    alpha: int | float = 0.5,
) -> Axes:
    """Draw masks: a translucent fill, and an outline that follows the edges of the pixels.

    Args:
        masks: one per object; where two masks overlap, both are visible.
        ax: where to draw.
        labels: a text for each mask, shown in its widest place.
        colors: one colour for all masks, or one per mask; by default one per index, so that neighbours of the
            same class differ.
        alpha: the opacity of the fill, 0 to 1.

    Returns:
        The axes.

    >>> ax = plot_masks(torch.ones(1, 2, 3, dtype=torch.bool))
    >>> len(ax.collections[0].get_segments())  # the outer edges of the six pixels
    10
    >>> plt.close(ax.figure)
    """
    check_masks("masks", masks)
    count = len(masks)
    colors = one_per_item(
        "colors", colors or [instance_color(index) for index in range(count)], count
    )
    ax = get_axes(ax)
    fill = np.zeros((*masks.shape[1:], 4))
    segments, segment_colors = [], []
    for mask, color in zip(to_numpy(masks), colors, strict=True):
        fill[mask] = _composite(np.array(to_rgba(color, alpha)), fill[mask])
        edges = _pixel_edges(np.pad(mask, 1).astype(int)) - 1
        segments.extend(edges)
        segment_colors.extend([color] * len(edges))
    if masks.numel():
        draw_pixels(fill, ax, title=None, zorder=2)
    lines = LineCollection(
        segments, colors=segment_colors, linewidths=2, capstyle="projecting", zorder=2.5
    )
    ax.add_collection(lines, autolim=False)
    texts = label_texts(labels, None, count)
    for mask, text, color in zip(to_numpy(masks), texts, colors, strict=True):
        if text and mask.any():
            y, x = _innermost_point(mask)
            add_centred_tag(ax, x, y, text, color)
    return ax


def plot_label_map(
    semantic: Int64[Tensor, "h w"],
    class_names: Sequence[str],
    *,
    ax: Axes | None = None,
    image: Float[Tensor, "3 h w"] | None = None,
    alpha: int | float = 0.6,
    legend: bool = True,
    tags: bool = True,
) -> Axes:
    """Draw a semantic map: each class in its colour, with its name on its largest region.

    Void pixels (255) are grey with a hatch pattern. White lines separate the regions, so that the map can be
    read without its colours.

    Args:
        semantic: a class number or 255 for each pixel.
        class_names: the name of each class.
        ax: where to draw.
        image: an image of the same size to draw below the map.
        alpha: the opacity of the map over `image`, 0 to 1.
        legend: whether to list the classes of the map below the axes.
        tags: whether to write the names on the map; a small object can disappear below its name.

    Returns:
        The axes.

    >>> ax = plot_label_map(torch.tensor([[0, 1], [1, 255]]), ["background", "cat"])
    >>> sorted(text.get_text() for text in ax.get_legend().get_texts())
    ['background', 'cat', 'void']
    >>> plt.close(ax.figure)
    """
    check_shape("semantic", semantic, "h", "w")
    if semantic.dtype != torch.int64:
        raise TypeError(f"semantic: expected torch.int64, got {semantic.dtype}")
    numbers = semantic.unique().tolist()
    unnamed = [
        number for number in numbers if number != VOID and not 0 <= number < len(class_names)
    ]
    if unnamed:
        raise ValueError(
            f"semantic: expected 0..{len(class_names) - 1} or {VOID}, but some pixels are {unnamed[0]}"
        )
    ax = get_axes(ax)
    classes = to_numpy(semantic)
    if image is not None:
        check_shape("image", image, 3, *semantic.shape)
        plot_image(image, ax=ax)
    colors = np.zeros((*classes.shape, 4))
    for number in numbers:
        colors[classes == number] = to_rgba(_map_color(number, class_names))
    colors[..., 3] = 1 if image is None else alpha
    draw_pixels(colors, ax, title=None, zorder=2)
    lines = LineCollection(
        _pixel_edges(classes), colors="white", linewidths=1.5, capstyle="projecting", zorder=2.5
    )
    ax.add_collection(lines, autolim=False)
    if VOID in numbers:
        ax.add_patch(_hatched(classes == VOID))
    names = {number: "void" if number == VOID else class_names[number] for number in numbers}
    for number, name in names.items() if tags else ():
        y, x = _innermost_point(classes == number)
        add_centred_tag(ax, x, y, name, _map_color(number, class_names))
    if legend:
        handles = [
            Patch(
                facecolor=_map_color(number, class_names),
                edgecolor=VOID_HATCH if number == VOID else "black",
                hatch=HATCHES[1] if number == VOID else None,
                linewidth=0.5,
                label=name,
            )
            for number, name in names.items()
        ]
        _legend_below(ax, handles)
    return ax


def _composite(top: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Alpha compositing of one translucent colour `[4]` over others `[k, 4]`."""
    alpha = top[3] + below[:, 3] * (1 - top[3])
    color = top[:3] * top[3] + below[:, :3] * (below[:, 3] * (1 - top[3]))[:, None]
    return np.concatenate([color / alpha[:, None], alpha[:, None]], axis=1)


def _pixel_edges(numbers: np.ndarray) -> np.ndarray:
    """The unit segments `[k, 2, 2]` (start and end as x, y) between neighbouring pixels that differ."""
    i, j = np.nonzero(numbers[1:] != numbers[:-1])
    horizontal = np.stack([np.stack([j, i + 1], 1), np.stack([j + 1, i + 1], 1)], 1)
    i, j = np.nonzero(numbers[:, 1:] != numbers[:, :-1])
    vertical = np.stack([np.stack([j + 1, i], 1), np.stack([j + 1, i + 1], 1)], 1)
    return np.concatenate([horizontal, vertical])


def _map_color(number: int, names: Sequence[str]) -> str:
    """The colour of a class in a label map; void is a lighter grey than background."""
    return VOID_FACE if number == VOID else class_color(number, names)


def _hatched(mask: np.ndarray) -> PathPatch:
    """A hatch pattern on the pixels of a mask: one rectangle for each run of pixels in a row."""
    steps = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(int), axis=1)
    (i, left), (_, right) = np.nonzero(steps == 1), np.nonzero(steps == -1)
    corners = np.stack([left, i, right, i, right, i + 1, left, i + 1, left, i], 1).reshape(-1, 5, 2)
    return PathPatch(
        Path.make_compound_path(*[Path(run, closed=True) for run in corners.astype(float)]),
        facecolor="none",
        edgecolor=VOID_HATCH,
        hatch=HATCHES[1],
        linewidth=0,
        zorder=2.2,
    )


def _innermost_point(mask: np.ndarray) -> tuple[float, float]:
    """The point (y, x) of the mask's largest connected component that is furthest from its edge."""
    components, _ = ndimage.label(mask)
    largest = np.bincount(components.ravel())[1:].argmax() + 1
    depth = ndimage.distance_transform_edt(np.pad(components == largest, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return y + 0.5, x + 0.5


def _legend_below(ax: Axes, handles: list[Patch]) -> None:
    """A legend below the axes, in as many columns as fit into their width."""
    fontsize = plt.rcParams["legend.fontsize"]
    longest = max(len(handle.get_label()) for handle in handles)
    width = ax.get_window_extent().width / ax.figure.dpi * 72  # in points
    columns = max(1, min(len(handles), int(width / ((0.62 * longest + 3.5) * fontsize))))
    legend = ax.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, -0.01),
        ncols=columns,
        borderaxespad=0,
        fontsize=fontsize,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
