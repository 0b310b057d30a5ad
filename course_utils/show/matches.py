"""Proposals or anchors in the colours of their role: positive, neutral, negative."""

from jaxtyping import Float, Int64
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor

from course_utils.core import check_boxes, check_shape
from course_utils.ops.assignment import NEGATIVE, NEUTRAL
from course_utils.show.plots import _axes, _numpy

ROLES = (
    ("negative", "#D55E00", ":", 1.0),
    ("neutral", "#F0E442", "--", 1.5),
    ("positive", "#56B4E9", "-", 2.2),
)


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

    >>> import torch
    >>> ax = plot_matches(torch.tensor([[0.0, 0.0, 4.0, 3.0]]), torch.tensor([0]))
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['1 positive', '0 neutral', '0 negative']
    """
    check_boxes("proposals", proposals)
    check_shape("matches", matches, len(proposals))
    ax = _axes(ax, _numpy(proposals))
    handles = []
    for role, color, style, width in ROLES:
        chosen = {
            "negative": matches == NEGATIVE,
            "neutral": matches == NEUTRAL,
            "positive": matches >= 0,
        }[role]
        for x1, y1, x2, y2 in proposals[chosen].tolist():
            line = {
                "edgecolor": color,
                "linestyle": style,
                "linewidth": width,
                "zorder": 2 + width / 4,
            }
            ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **line))
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
