"""Plots of boxes and of proposals matched with ground truth."""

from collections.abc import Sequence

from jaxtyping import Float, Int64
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor

from course_utils.core import check_boxes, check_labels, check_rows, check_shape
from course_utils.ops.assignment import NEGATIVE, NEUTRAL
from course_utils.show._axes import (
    add_tag,
    get_axes,
    label_texts,
    one_per_item,
    outline,
    to_numpy,
)
from course_utils.show.style import class_color, instance_color, text_color

ROLES = (
    ("negative", "#D55E00", ":", 1.0),
    ("neutral", "#F0E442", "--", 1.5),
    ("positive", "#56B4E9", "-", 2.2),
)


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
    """Draw boxes, each with a label such as "dog 0.93".

    Args:
        boxes: `x1, y1, x2, y2` in pixels.
        ax: where to draw.
        labels: a text for each box, or class numbers, which need `names`.
        names: the name of each class.
        scores: a number for each box, shown after the label.
        colors: one colour for all boxes, or one per box; by default that of the class, or else of the index.
        styles: one line style for all boxes, or one per box.
        linewidth: in points.

    Returns:
        The axes.

    >>> import torch, matplotlib.pyplot as plt
    >>> ax = plot_boxes(
    ...     torch.tensor([[0.0, 0.0, 4.0, 3.0]]), labels=["dog"], scores=torch.tensor([0.931])
    ... )
    >>> ax.texts[0].get_text()
    'dog 0.93'
    >>> plt.close(ax.figure)
    """
    check_boxes("boxes", boxes)
    count = len(boxes)
    texts = label_texts(labels, names, count)
    if scores is not None:
        check_shape("scores", scores, count)
        texts = [
            f"{text} {score:.2f}".strip()
            for text, score in zip(texts, scores.tolist(), strict=True)
        ]
    if colors is None and isinstance(labels, Tensor):
        colors = [class_color(number, names) for number in labels.tolist()]
    colors = one_per_item(
        "colors", colors or [instance_color(index) for index in range(count)], count
    )
    styles = one_per_item("styles", styles or "-", count)
    ax = get_axes(ax, to_numpy(boxes))
    for (x1, y1, x2, y2), text, color, style in zip(
        boxes.tolist(), texts, colors, styles, strict=True
    ):
        patch = Rectangle(
            (x1, y1),
            x2 - x1,
            y2 - y1,
            fill=False,
            edgecolor=color,
            linestyle=style,
            linewidth=linewidth,
            zorder=3,
        )
        patch.set_path_effects(outline(text_color(color), linewidth))
        ax.add_patch(patch)
        if text:
            add_tag(ax, x1, y1, text, color)
    return ax


def plot_matches(
    proposals: Float[Tensor, "n 4"], matches: Int64[Tensor, " n"], *, ax: Axes | None = None
) -> Axes:
    """Draw proposals by role: positive solid blue, neutral dashed yellow, negative dotted red; with counts.

    Args:
        proposals: `x1, y1, x2, y2` in pixels.
        matches: the result of `match_boxes` for them.
        ax: where to draw.

    Returns:
        The axes.

    >>> import torch, matplotlib.pyplot as plt
    >>> ax = plot_matches(torch.tensor([[0.0, 0.0, 4.0, 3.0]]), torch.tensor([0]))
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['1 positive', '0 neutral', '0 negative']
    >>> plt.close(ax.figure)
    """
    check_boxes("proposals", proposals)
    check_labels("matches", matches)
    check_shape("matches", matches, len(proposals))
    check_rows("matches", matches, matches >= NEUTRAL, f"{NEUTRAL} or above")
    ax = get_axes(ax, to_numpy(proposals))
    handles = []
    selected = (matches == NEGATIVE, matches == NEUTRAL, matches >= 0)
    for (role, color, style, width), has_role in zip(ROLES, selected, strict=True):
        for x1, y1, x2, y2 in proposals[has_role].tolist():
            look = {
                "edgecolor": color,
                "linestyle": style,
                "linewidth": width,
                "zorder": 2 + width / 4,
            }
            ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **look))
        label = f"{int(has_role.sum())} {role}"
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
