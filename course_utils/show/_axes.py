"""What the plotting functions share: axes in pixel coordinates, labels, and lines with a contrasting edge."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import Normal, Stroke
from matplotlib.text import Text
from torch import Tensor

from course_utils.core import check_labels, check_shape
from course_utils.show.style import text_color

TAG = "tag"  # the gid of the texts that `figure` moves apart


def to_numpy(tensor: Tensor) -> np.ndarray:
    """The values of a tensor on any device as a NumPy array."""
    return tensor.detach().cpu().numpy()


def get_axes(ax: Axes | None, boxes: np.ndarray | None = None) -> Axes:
    """The given axes; or new ones, with the origin at the top left and limits that show all boxes."""
    if ax is not None:
        return ax
    _, ax = plt.subplots(figsize=(6, 4.5))
    ax.set_aspect("equal")
    if boxes is not None and len(boxes):
        (left, top), (right, bottom) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
        margin = 0.08 * max(right - left, bottom - top, 1)
        ax.set(xlim=(left - margin, right + margin), ylim=(bottom + margin, top - margin))
    else:
        ax.invert_yaxis()
    return ax


def draw_pixels(pixels: np.ndarray, ax: Axes, title: str | None, **options) -> Axes:
    """`imshow` in the course's coordinates; `pixels` is `[h, w]` or `[h, w, channels]`."""
    height, width = pixels.shape[:2]
    interpolation = (
        "nearest" if max(height, width) <= 256 or pixels.shape[2:] == (4,) else "antialiased"
    )
    ax.imshow(pixels, extent=(0, width, height, 0), interpolation=interpolation, **options)
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    if title is not None:
        ax.set_title(title, parse_math=False)
    return ax


def one_per_item(name: str, values: str | Sequence[str], count: int) -> list[str]:
    """A list of `count` values; a single value is repeated."""
    if isinstance(values, str):
        return [values] * count
    if len(values) != count:
        raise ValueError(f"{name}: expected {count}, one per item, got {len(values)}")
    return list(values)


def label_texts(
    labels: Sequence[str] | Tensor | None, names: Sequence[str] | None, count: int
) -> list[str]:
    """The text for each object, from texts or from class numbers and the names of the classes."""
    if labels is None:
        return [""] * count
    if not isinstance(labels, Tensor):
        return one_per_item("labels", list(labels), count)
    check_labels("labels", labels)
    check_shape("labels", labels, count)
    if names is None:
        raise ValueError("names: expected the names of the classes, because labels are numbers")
    unnamed = [number for number in labels.tolist() if not 0 <= number < len(names)]
    if unnamed:
        raise ValueError(f"labels: expected class numbers 0..{len(names) - 1}, got {unnamed[0]}")
    return [names[number] for number in labels.tolist()]


class _SolidStroke(Stroke):
    """A stroke that is solid even if the line itself is dashed."""

    def draw_path(self, renderer, gc, *path) -> None:
        solid = renderer.new_gc()
        solid.copy_properties(gc)
        solid.set_dashes(0, None)
        super().draw_path(renderer, solid, *path)
        solid.restore()


def outline(color: str, linewidth: int | float) -> list:
    """Path effects that draw a thin edge on both sides of a line, so that it is visible on any photo."""
    return [_SolidStroke(linewidth=linewidth + 1.6, foreground=color, alpha=0.7), Normal()]


def add_tag(
    ax: Axes, x: int | float, y: int | float, text: str, color: str, **alignment: str
) -> Text:
    """A text on a filled background inside the axes; `figure` moves overlapping tags apart."""
    return ax.text(
        x,
        y,
        text,
        color=text_color(color),
        fontsize=0.85 * plt.rcParams["font.size"],
        bbox={
            "facecolor": color,
            "edgecolor": text_color(color),
            "linewidth": 0.5,
            "boxstyle": "square,pad=0.2",
        },
        zorder=6,
        gid=TAG,
        parse_math=False,
        **({"horizontalalignment": "left", "verticalalignment": "bottom"} | alignment),
    )


def add_centred_tag(ax: Axes, x: int | float, y: int | float, text: str, color: str) -> Text:
    """A tag whose centre is at this point."""
    return add_tag(ax, x, y, text, color, horizontalalignment="center", verticalalignment="center")
