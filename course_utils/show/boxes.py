"""Plots of boxes, of proposals matched with ground truth, and of keypoints."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor

from course_utils.core import check_boxes, check_labels, check_rows, check_shape
from course_utils.ops.assignment import NEGATIVE, NEUTRAL
from course_utils.ops.box_coding import encode_boxes
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

    >>> import matplotlib.pyplot as plt
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

    >>> import matplotlib.pyplot as plt
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


def plot_box_targets(
    proposals: Float[Tensor, "n 4"], ground_truth: Float[Tensor, "n 4"], *, ax: Axes | None = None
) -> Axes:
    """Draw the targets of box regression: how each proposal's centre has to move and its size has to change.

    The long arrow runs from the proposal's centre to the centre of its object. Two short arrows at the right
    and lower edge show how width and height have to change, and a label gives the two targets
    tw = log(w_true / w) and th = log(h_true / h): positive if the proposal has to grow.

    Args:
        proposals: `x1, y1, x2, y2` in pixels, with positive width and height.
        ground_truth: the box matched to each proposal, in the same order.
        ax: where to draw.

    Returns:
        The axes.

    >>> import matplotlib.pyplot as plt
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
        positive = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        check_rows(name, boxes, positive, "positive width and height")
    sizes = encode_boxes(ground_truth, proposals)[:, 2:].tolist()  # tw, th
    ax = get_axes(ax, to_numpy(torch.cat([proposals, ground_truth])))
    pairs = zip(to_numpy(proposals.double()), to_numpy(ground_truth.double()), sizes, strict=True)
    for index, (proposal, truth, (tw, th)) in enumerate(pairs):
        color = instance_color(index)
        (start, size), (end, true_size) = _centre_and_size(proposal), _centre_and_size(truth)
        corner, target_corner = start + size / 2, start + true_size / 2
        _arrow(ax, tuple(start), tuple(end), color, width=2.5)
        dot = {"markersize": 6, "markeredgecolor": text_color(color), "zorder": 5}
        ax.plot(*start, marker="o", color=color, **dot)
        _arrow(ax, (corner[0], start[1]), (target_corner[0], start[1]), color, width=1.5)
        _arrow(ax, (start[0], corner[1]), (start[0], target_corner[1]), color, width=1.5)
        add_tag(ax, *corner, f"tw {tw:+.2f}\nth {th:+.2f}", color)
    return ax


def plot_keypoints(
    keypoints: Float[Tensor, "n 17 3"],
    skeleton: Sequence[tuple[int, int]],
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw the keypoints of persons and the limbs between them.

    A visible keypoint is a disc and an occluded one a ring; a limb with an occluded end is dashed. Absent
    keypoints and their limbs are left out.

    Args:
        keypoints: `x, y, visibility` of COCO's 17 keypoints per person; 0 absent, 1 occluded, 2 visible.
        skeleton: the limbs, as pairs of keypoint indices.
        ax: where to draw.

    Returns:
        The axes.

    >>> import matplotlib.pyplot as plt
    >>> ax = plot_keypoints(torch.full((1, 17, 3), 2.0), [(0, 1), (1, 2)])
    >>> len(ax.lines)
    2
    >>> plt.close(ax.figure)
    """
    check_shape("keypoints", keypoints, "n", 17, 3)
    wrong = [limb for limb in skeleton if len(limb) != 2 or not all(0 <= k < 17 for k in limb)]
    if wrong:
        raise ValueError(
            f"skeleton: expected pairs of keypoint indices from 0 to 16, got {wrong[0]}"
        )
    people = to_numpy(keypoints)
    present = people[people[..., 2] > 0][:, :2]
    ax = get_axes(ax, np.concatenate([present, present], axis=1))
    for index, person in enumerate(people):
        color = instance_color(index)
        for first, second in skeleton:
            visibility = min(person[first, 2], person[second, 2])
            if visibility > 0:
                (limb,) = ax.plot(*person[[first, second], :2].T, color=color, zorder=3)
                limb.set_linestyle("-" if visibility == 2 else (0, (2, 1.5)))
                limb.set_path_effects(outline(text_color(color), limb.get_linewidth()))
        for visibility, face in ((1, "white"), (2, color)):
            points = person[person[:, 2] == visibility]
            ax.scatter(
                *points[:, :2].T,
                s=36,
                facecolor=face,
                edgecolor=text_color(color),
                linewidth=1,
                zorder=4,
            )
    return ax


def _arrow(
    ax: Axes, start: Sequence[float], end: Sequence[float], color: str, width: int | float
) -> None:
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
    arrow.arrow_patch.set_path_effects(outline(text_color(color), width))


def _centre_and_size(box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (box[:2] + box[2:]) / 2, box[2:] - box[:2]
