"""Pictures of tensors: axes in, axes out.

Every function draws into `ax` (or makes axes when it is None) and returns the axes, so that calls stack:
first `plot_image`, then boxes, masks or arrows on top. Coordinates are the course's: the pixel in row i and
column j covers `[j, j + 1] x [i, i + 1]`. `course_utils.show.figure` ends a cell.
"""

import textwrap
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.patheffects import Normal, Stroke
from matplotlib.text import Text
from scipy import ndimage
from torch import Tensor

from course_utils.core import VOID, check_boxes, check_labels, check_shape
from course_utils.ops.assignment import NEGATIVE, NEUTRAL
from course_utils.ops.box_coding import encode_boxes
from course_utils.show.style import HATCHES, class_color, instance_color, text_color

TAG = "tag"  # marks the texts that `figure` moves apart
ROLES = (
    ("negative", "#D55E00", ":", 1.0),
    ("neutral", "#F0E442", "--", 1.5),
    ("positive", "#56B4E9", "-", 2.2),
)
VOID_FACE, VOID_HATCH = "#C8C8C8", "#6E6E6E"


def plot_image(image: Tensor, *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """Draw a picture so that pixel (i, j) covers `[j, j + 1] x [i, i + 1]`.

    Small pictures are drawn as squares; pictures of more than 256 pixels a side are smoothed, because squares
    smaller than the screen's would be dropped.

    Args:
        image: RGB `[3, h, w]` in 0..1 (clipped), or one channel `[1, h, w]` or `[h, w]`, drawn in grey from
            black (0, or the smallest value below) to white (1, or the largest value above).
        ax: where to draw.
        title: a line above the picture.

    Returns:
        The axes, `0..w` from left to right and `0..h` from top to bottom, without ticks.

    Raises:
        TypeError: not a floating point tensor.
        ValueError: another shape.

    >>> ax = plot_image(torch.zeros(3, 2, 5))
    >>> [float(end) for end in (*ax.get_xlim(), *ax.get_ylim())]
    [0.0, 5.0, 2.0, 0.0]
    >>> plt.close(ax.figure)
    """
    if not isinstance(image, Tensor):
        raise TypeError(f"image: expected a torch.Tensor, got {type(image).__name__}")
    if not (image.ndim == 2 or (image.ndim == 3 and image.shape[0] in (1, 3))):
        raise ValueError(
            f"image: expected shape [3, h, w], [1, h, w] or [h, w], got {list(image.shape)}"
        )
    if not image.is_floating_point():
        raise TypeError(f"image: expected floating point numbers in 0..1, got {image.dtype}")
    pixels = _numpy(image.float())
    if image.ndim == 3 and len(image) == 3:
        return _draw_pixels(pixels.transpose(1, 2, 0).clip(0, 1), _axes(ax), title=title)
    grey = pixels.reshape(image.shape[-2:])
    limits = {"vmin": min(0.0, grey.min(initial=0)), "vmax": max(1.0, grey.max(initial=1))}
    return _draw_pixels(grey, _axes(ax), title=title, cmap="gray", **limits)


def plot_boxes(
    boxes: Float[Tensor, "n 4"],
    *,
    ax: Axes | None = None,
    labels: Sequence[str] | Int64[Tensor, " n"] | None = None,
    names: Sequence[str] | None = None,
    scores: Float[Tensor, " n"] | None = None,
    colors: str | Sequence[str] | None = None,
    styles: str | Sequence[str] | None = None,
    linewidth: int | float = 2,
) -> Axes:
    """Draw boxes, each with a small tag such as "dog 0.93".

    Args:
        boxes: `x1, y1, x2, y2` in pixels.
        ax: where to draw.
        labels: a text for each box, or class numbers; numbers need `names`.
        names: the name of each class number.
        scores: a number for each box, written after the label.
        colors: one colour, or one for each box; by default by class number, else one after the other.
        styles: one line style, or one for each box.
        linewidth: in points.

    Returns:
        The axes.

    Raises:
        ValueError: shapes or lengths that do not fit, class numbers without a name.

    >>> ax = plot_boxes(
    ...     torch.tensor([[0.0, 0.0, 4.0, 3.0]]), labels=["dog"], scores=torch.tensor([0.931])
    ... )
    >>> ax.texts[0].get_text()
    'dog 0.93'
    >>> plt.close(ax.figure)
    """
    check_boxes("boxes", boxes)
    count = len(boxes)
    texts = _label_texts(labels, names, count)
    if scores is not None:
        check_shape("scores", scores, count)
        texts = [
            f"{text} {score:.2f}".strip()
            for text, score in zip(texts, scores.tolist(), strict=True)
        ]
    if colors is None and isinstance(labels, Tensor):
        colors = [class_color(number, names) for number in labels.tolist()]
    colors = _each("colors", colors or [instance_color(index) for index in range(count)], count)
    styles = _each("styles", styles or "-", count)
    ax = _axes(ax, _numpy(boxes))
    for (x1, y1, x2, y2), text, color, style in zip(
        boxes.tolist(), texts, colors, styles, strict=True
    ):
        outline = Rectangle(
            (x1, y1),
            x2 - x1,
            y2 - y1,
            fill=False,
            edgecolor=color,
            linestyle=style,
            linewidth=linewidth,
            zorder=3,
        )
        outline.set_path_effects(_halo(text_color(color), linewidth))
        ax.add_patch(outline)
        if text:
            _tag(ax, x1, y1, text, color)
    return ax


def plot_masks(
    masks: Bool[Tensor, "n h w"],
    *,
    ax: Axes | None = None,
    labels: Sequence[str] | None = None,
    colors: str | Sequence[str] | None = None,
    alpha: int | float = 0.5,
) -> Axes:
    """Draw masks: a translucent fill, and an outline that follows the pixels' edges.

    Args:
        masks: one for each object; where two overlap, both show.
        ax: where to draw.
        labels: a text for each mask, written where it is widest.
        colors: one colour, or one for each mask; by default one after the other, so that neighbours of one
            class differ.
        alpha: how much the fill hides, 0 to 1.

    Returns:
        The axes.

    Raises:
        TypeError: not a bool tensor.
        ValueError: another shape, or another number of labels or colours.

    >>> ax = plot_masks(torch.ones(1, 2, 3, dtype=torch.bool))
    >>> len(
    ...     ax.collections[0].get_segments()
    ... )  # the edges of the six pixels that have none beside them
    10
    >>> plt.close(ax.figure)
    """
    check_shape("masks", masks, "n", "h", "w")
    if masks.dtype != torch.bool:
        raise TypeError(f"masks: expected torch.bool, got {masks.dtype}")
    colors = _each(
        "colors", colors or [instance_color(index) for index in range(len(masks))], len(masks)
    )
    ax = _axes(ax)
    fill = np.zeros((*masks.shape[1:], 4))
    segments, outlines = [], []
    for mask, color in zip(_numpy(masks), colors, strict=True):
        fill[mask] = _over(np.array(to_rgba(color, alpha)), fill[mask])
        edges = _pixel_edges(np.pad(mask, 1).astype(int)) - 1
        segments.extend(edges)
        outlines.extend([color] * len(edges))
    if masks.numel():
        _draw_pixels(fill, ax, title=None, zorder=2)
    lines = LineCollection(
        segments, colors=outlines, linewidths=2, capstyle="projecting", zorder=2.5
    )
    ax.add_collection(lines, autolim=False)
    texts = _label_texts(labels, None, len(masks))
    for mask, text, color in zip(_numpy(masks), texts, colors, strict=True):
        if text and mask.any():
            y, x = _heart_of_largest_region(mask)
            _tag(ax, x, y, text, color, horizontalalignment="center", verticalalignment="center")
    return ax


def plot_label_map(
    semantic: Int64[Tensor, "h w"],
    class_names: Sequence[str],
    *,
    ax: Axes | None = None,
    image: Float[Tensor, "3 h w"] | None = None,
    alpha: int | float = 0.6,
    legend: bool = True,
) -> Axes:
    """Draw the class of every pixel in the class's colour, with its name on its largest region.

    Void pixels (255) are grey stripes. Lines run between regions, so that colour is never all there is.

    Args:
        semantic: a class number or 255 for each pixel.
        class_names: the name of each class number.
        ax: where to draw.
        image: a picture of the same size to draw under the map.
        alpha: how much the map hides `image`, 0 to 1.
        legend: list the classes that are present below the map.

    Returns:
        The axes.

    Raises:
        ValueError: another shape, or a class number without a name.

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
    ax = _axes(ax)
    classes = _numpy(semantic)
    if image is not None:
        check_shape("image", image, 3, *semantic.shape)
        plot_image(image, ax=ax)
    colors = np.zeros((*classes.shape, 4))
    for number in numbers:
        colors[classes == number] = to_rgba(_map_color(number, class_names))
    colors[..., 3] = 1 if image is None else alpha
    _draw_pixels(colors, ax, title=None, zorder=2)
    ax.add_collection(
        LineCollection(
            _pixel_edges(classes), colors="white", linewidths=1.5, capstyle="projecting", zorder=2.5
        ),
        autolim=False,
    )
    if VOID in numbers:
        ax.add_patch(_hatched(classes == VOID))
    shown = {number: "void" if number == VOID else class_names[number] for number in numbers}
    for number, name in shown.items():
        y, x = _heart_of_largest_region(classes == number)
        _tag(
            ax,
            x,
            y,
            name,
            _map_color(number, class_names),
            horizontalalignment="center",
            verticalalignment="center",
        )
    if legend:
        handles = [
            Patch(
                facecolor=_map_color(number, class_names),
                edgecolor=VOID_HATCH if number == VOID else "black",
                hatch=HATCHES[1] if number == VOID else None,
                linewidth=0.5,
                label=name,
            )
            for number, name in shown.items()
        ]
        _legend_below(ax, handles)
    return ax


def plot_crops(
    crops: Float[Tensor, "n 3 h w"], titles: Sequence[str], *, columns: int = 6
) -> Figure:
    """Draw pictures of one size side by side, each under its title.

    Args:
        crops: RGB in 0..1.
        titles: a text for each crop.
        columns: how many stand in a row.

    Returns:
        The figure.

    Raises:
        ValueError: another shape, or another number of titles.

    >>> figure = plot_crops(torch.zeros(3, 3, 8, 8), ["cat", "dog", "car"], columns=2)
    >>> len(figure.axes)
    3
    >>> plt.close(figure)
    """
    check_shape("crops", crops, "n", 3, "h", "w")
    titles = _each("titles", list(titles), len(crops))
    if columns < 1:
        raise ValueError(f"columns: expected 1 or more, got {columns}")
    across = max(1, min(columns, len(crops)))
    rows = max(1, -(-len(crops) // across))
    size = min(2.4, 9 / across)
    figure = plt.figure(figsize=(size * across, (size + 0.35) * rows))
    font = 0.85 * plt.rcParams["font.size"]
    letters = int(size * 72 / (0.62 * font))
    for index, (crop, title) in enumerate(zip(crops, titles, strict=True)):
        ax = plot_image(crop, ax=figure.add_subplot(rows, across, index + 1))
        lines = [
            part for line in title.split("\n") for part in textwrap.wrap(line, letters) or [""]
        ]
        ax.set_title("\n".join(lines), fontsize=font, loc="center")
    if not len(crops):
        figure.text(0.5, 0.5, "no crops", horizontalalignment="center")
    return figure


def plot_matches(
    proposals: Float[Tensor, "n 4"], matches: Int64[Tensor, " n"], *, ax: Axes | None = None
) -> Axes:
    """Draw boxes by role: positive solid blue, neutral dashed yellow, negative dotted red, and count.

    Args:
        proposals: `x1, y1, x2, y2` in pixels.
        matches: what `match_boxes` returned for them.
        ax: where to draw.

    Returns:
        The axes.

    Raises:
        ValueError: another shape, or another number of matches than proposals.

    >>> ax = plot_matches(torch.tensor([[0.0, 0.0, 4.0, 3.0]]), torch.tensor([0]))
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['1 positive', '0 neutral', '0 negative']
    """
    check_boxes("proposals", proposals)
    check_labels("matches", matches)
    check_shape("matches", matches, len(proposals))
    if len(matches) and int(matches.min()) < NEUTRAL:
        raise ValueError(f"matches: expected {NEUTRAL} or above, got {int(matches.min())}")
    ax = _axes(ax, _numpy(proposals))
    handles = []
    members = (matches == NEGATIVE, matches == NEUTRAL, matches >= 0)
    for (role, color, style, width), chosen in zip(ROLES, members, strict=True):
        for x1, y1, x2, y2 in proposals[chosen].tolist():
            look = {
                "edgecolor": color,
                "linestyle": style,
                "linewidth": width,
                "zorder": 2 + width / 4,
            }
            ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **look))
        label = f"{int(chosen.sum())} {role}"
        handles.insert(0, Line2D([], [], color=color, linestyle=style, linewidth=2.5, label=label))
    ax.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        ncols=3,
        frameon=True,
        facecolor="#333333",
        labelcolor="white",
    )
    return ax


def plot_box_targets(
    proposals: Float[Tensor, "n 4"], ground_truth: Float[Tensor, "n 4"], *, ax: Axes | None = None
) -> Axes:
    """Draw what a box regressor must learn: where each proposal's centre has to go, and how it has to grow.

    The long arrow runs from the proposal's centre to its object's centre. Two short arrows at the proposal's
    right and lower edge show how it must widen and heighten, and a tag gives the two targets
    tw = log(w_true / w) and th = log(h_true / h): above zero it grows, below zero it shrinks.

    Args:
        proposals: `x1, y1, x2, y2` in pixels, with width and height above zero.
        ground_truth: the box matched to each proposal, in the same order.
        ax: where to draw.

    Returns:
        The axes.

    Raises:
        ValueError: another shape, another number of true boxes, or a box without width or height.

    >>> ax = plot_box_targets(
    ...     torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([[1.0, 1.0, 9.0, 5.0]])
    ... )
    >>> [text.get_text() for text in ax.texts if text.get_text()]
    ['tw +0.69\\nth +0.00']
    >>> plt.close(ax.figure)
    """
    check_shape("ground_truth", ground_truth, len(proposals), 4)
    for name, boxes in (("proposals", proposals), ("ground_truth", ground_truth)):
        check_boxes(name, boxes)
        if (boxes[:, 2:] <= boxes[:, :2]).any():
            raise ValueError(f"{name}: expected width and height above zero in every row")
    sizes = encode_boxes(ground_truth, proposals)[:, 2:].tolist()  # tw, th
    ax = _axes(ax, _numpy(torch.cat([proposals, ground_truth])))
    pairs = zip(_numpy(proposals.double()), _numpy(ground_truth.double()), sizes, strict=True)
    for index, (proposal, truth, (tw, th)) in enumerate(pairs):
        color = instance_color(index)
        (start, size), (end, true_size) = _center_size(proposal), _center_size(truth)
        grown = start + true_size / 2
        edge = start + size / 2
        _arrow(ax, tuple(start), tuple(end), color, width=2.5)
        dot = {"markersize": 6, "markeredgecolor": text_color(color), "zorder": 5}
        ax.plot(*start, marker="o", color=color, **dot)
        _arrow(ax, (edge[0], start[1]), (grown[0], start[1]), color, width=1.5)
        _arrow(ax, (start[0], edge[1]), (start[0], grown[1]), color, width=1.5)
        _tag(ax, *edge, f"tw {tw:+.2f}\nth {th:+.2f}", color)
    return ax


def plot_grid(
    matrix: Tensor, *, ax: Axes | None = None, title: str | None = None, format: str = "{:.2f}"
) -> Axes:
    """Draw a small matrix as squares with their numbers, as the lecture's slides do.

    Positive numbers are orange, negative ones purple, and the more so the further from zero.

    Args:
        matrix: `[h, w]`, numbers of any kind.
        ax: where to draw.
        title: a line above the squares.
        format: how a number is written, for example "{:.0f}".

    Returns:
        The axes.

    Raises:
        ValueError: another shape.

    >>> ax = plot_grid(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), format="{:.0f}")
    >>> [text.get_text() for text in ax.texts]
    ['1', '2', '3', '4']
    >>> plt.close(ax.figure)
    """
    check_shape("matrix", matrix, "h", "w")
    height, width = matrix.shape
    values = _numpy(matrix.double())
    texts = [[format.format(value) for value in row] for row in matrix.tolist()]
    longest = max((len(text) for row in texts for text in row), default=1)
    side = max(0.6, 0.13 * longest + 0.15) * plt.rcParams["font.size"] / 12
    if ax is None:
        _, ax = plt.subplots(
            figsize=(side * max(width, 2), side * max(height, 1) + (0.4 if title else 0))
        )
    finite = np.abs(values[np.isfinite(values)])
    limit = 1.8 * finite.max(initial=1e-12)  # 1.8: even the largest number stays on a pale square
    colors = plt.get_cmap("PuOr_r")(
        Normalize(-limit, limit)(np.nan_to_num(values, posinf=limit, neginf=-limit))
    )
    colors[np.isnan(values)] = to_rgba("#DDDDDD")
    _draw_pixels(colors, ax, title=title)
    ax.vlines(range(width + 1), 0, height, color="black", linewidth=1, clip_on=False)
    ax.hlines(range(height + 1), 0, width, color="black", linewidth=1, clip_on=False)
    for i, j in np.ndindex(height, width):
        ax.text(
            j + 0.5,
            i + 0.5,
            texts[i][j],
            color=text_color(tuple(colors[i, j, :3])),
            horizontalalignment="center",
            verticalalignment="center",
        )
    return ax


def plot_keypoints(
    keypoints: Float[Tensor, "n 17 3"],
    skeleton: Sequence[tuple[int, int]],
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw the joints of people and the bones between them.

    A visible joint is a disc, a hidden one a ring, and a bone to a hidden joint is dashed; absent joints are
    left out, with their bones.

    Args:
        keypoints: `x, y, visibility` of COCO's 17 joints for each person; 0 absent, 1 hidden, 2 visible.
        skeleton: pairs of joint numbers, from 0.
        ax: where to draw.

    Returns:
        The axes.

    Raises:
        ValueError: another shape, or a joint number out of range.

    >>> ax = plot_keypoints(torch.full((1, 17, 3), 2.0), [(0, 1), (1, 2)])
    >>> len(ax.lines)
    2
    >>> plt.close(ax.figure)
    """
    check_shape("keypoints", keypoints, "n", 17, 3)
    wrong = [
        pair for pair in skeleton if len(pair) != 2 or not all(0 <= joint < 17 for joint in pair)
    ]
    if wrong:
        raise ValueError(f"skeleton: expected pairs of joint numbers from 0 to 16, got {wrong[0]}")
    people = _numpy(keypoints)
    present = people[people[..., 2] > 0][:, :2]
    ax = _axes(ax, np.concatenate([present, present], axis=1))
    for index, person in enumerate(people):
        color = instance_color(index)
        for first, second in skeleton:
            visibility = min(person[first, 2], person[second, 2])
            if visibility > 0:
                (bone,) = ax.plot(*person[[first, second], :2].T, color=color, zorder=3)
                bone.set_linestyle("-" if visibility == 2 else (0, (2, 1.5)))
                bone.set_path_effects(_halo(text_color(color), bone.get_linewidth()))
        for visibility, face in ((1, "white"), (2, color)):
            joints = person[person[:, 2] == visibility]
            ax.scatter(
                *joints[:, :2].T,
                s=36,
                facecolor=face,
                edgecolor=text_color(color),
                linewidth=1,
                zorder=4,
            )
    return ax


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _axes(ax: Axes | None, boxes: np.ndarray | None = None) -> Axes:
    """The axes given; or new ones, with the origin at the top left and room for the boxes to be drawn."""
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


def _draw_pixels(pixels: np.ndarray, ax: Axes, title: str | None, **options) -> Axes:
    """One call of imshow with the course's coordinates; `pixels` is `[h, w]` or `[h, w, channels]`."""
    height, width = pixels.shape[:2]
    interpolation = (
        "nearest" if max(height, width) <= 256 or pixels.shape[2:] == (4,) else "antialiased"
    )
    ax.imshow(pixels, extent=(0, width, height, 0), interpolation=interpolation, **options)
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    if title is not None:
        ax.set_title(title)
    return ax


def _each(name: str, values: str | Sequence[str], count: int) -> list[str]:
    """One value for each of `count` things; a single one is for all."""
    if isinstance(values, str):
        return [values] * count
    if len(values) != count:
        raise ValueError(f"{name}: expected {count}, one for each, got {len(values)}")
    return list(values)


def _label_texts(
    labels: Sequence[str] | Tensor | None, names: Sequence[str] | None, count: int
) -> list[str]:
    """What to write on each box."""
    if labels is None:
        return [""] * count
    if not isinstance(labels, Tensor):
        return _each("labels", list(labels), count)
    check_labels("labels", labels)
    check_shape("labels", labels, count)
    if names is None:
        raise ValueError("names: class numbers need the names of the classes")
    unnamed = [number for number in labels.tolist() if not 0 <= number < len(names)]
    if unnamed:
        raise ValueError(f"labels: expected class numbers 0..{len(names) - 1}, got {unnamed[0]}")
    return [names[number] for number in labels.tolist()]


class _SolidStroke(Stroke):
    """A stroke that stays whole where the line itself is dashed."""

    def draw_path(self, renderer, gc, *path) -> None:
        whole = renderer.new_gc()
        whole.copy_properties(gc)
        whole.set_dashes(0, None)
        super().draw_path(renderer, whole, *path)
        whole.restore()


def _halo(color: str, linewidth: int | float) -> list:
    """A thin line of a contrasting colour on both sides, so that a line reads on any photo."""
    return [_SolidStroke(linewidth=linewidth + 1.6, foreground=color, alpha=0.7), Normal()]


def _tag(ax: Axes, x: int | float, y: int | float, text: str, color: str, **alignment: str) -> Text:
    """A filled label inside the axes; `figure` moves labels apart that lie on each other."""
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
        **({"horizontalalignment": "left", "verticalalignment": "bottom"} | alignment),
    )


def _arrow(
    ax: Axes, start: Sequence[float], end: Sequence[float], color: str, width: int | float
) -> None:
    """An arrow from one point to another, in pixels of the image."""
    arrow = ax.annotate(
        "",
        end,
        start,
        arrowprops={
            "arrowstyle": "-|>,head_width=0.25,head_length=0.5",
            "color": color,
            "linewidth": width,
            "shrinkA": 0,
            "shrinkB": 0,
        },
        zorder=5,
    )
    arrow.arrow_patch.set_path_effects(_halo(text_color(color), width))


def _center_size(box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (box[:2] + box[2:]) / 2, box[2:] - box[:2]


def _over(top: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Lay one translucent colour `[4]` over others `[k, 4]`."""
    alpha = top[3] + below[:, 3] * (1 - top[3])
    color = top[:3] * top[3] + below[:, :3] * (below[:, 3] * (1 - top[3]))[:, None]
    return np.concatenate([color / alpha[:, None], alpha[:, None]], axis=1)


def _pixel_edges(numbers: np.ndarray) -> np.ndarray:
    """The unit segments `[k, 2, 2]` (start and end as x, y) between neighbouring pixels that differ."""
    i, j = np.nonzero(numbers[1:] != numbers[:-1])
    across = np.stack([np.stack([j, i + 1], 1), np.stack([j + 1, i + 1], 1)], 1)
    i, j = np.nonzero(numbers[:, 1:] != numbers[:, :-1])
    down = np.stack([np.stack([j + 1, i], 1), np.stack([j + 1, i + 1], 1)], 1)
    return np.concatenate([across, down])


def _map_color(number: int, names: Sequence[str]) -> str:
    """The colour of a class in a label map; void is paler than background."""
    return VOID_FACE if number == VOID else class_color(number, names)


def _hatched(mask: np.ndarray) -> PathPatch:
    """Stripes on the pixels of a mask: one rectangle for every run of pixels in a row."""
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


def _heart_of_largest_region(mask: np.ndarray) -> tuple[float, float]:
    """The point (y, x) of the largest connected region that lies furthest from its edge."""
    regions, _ = ndimage.label(mask)
    largest = np.bincount(regions.ravel())[1:].argmax() + 1
    depth = ndimage.distance_transform_edt(np.pad(regions == largest, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return y + 0.5, x + 0.5


def _legend_below(ax: Axes, handles: list[Patch]) -> None:
    """A legend under the axes, in as many columns as there is room for."""
    font = plt.rcParams["legend.fontsize"]
    longest = max(len(handle.get_label()) for handle in handles)
    room = ax.get_window_extent().width / ax.figure.dpi * 72
    columns = max(1, min(len(handles), int(room / ((0.62 * longest + 3.5) * font))))
    ax.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, -0.01),
        ncols=columns,
        borderaxespad=0,
        fontsize=font,
    )
