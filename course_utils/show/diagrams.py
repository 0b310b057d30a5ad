"""Diagrams of whole systems: blocks with arrows between them, and feature maps in their proportions."""

from collections.abc import Mapping, Sequence
from itertools import chain, pairwise

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, Rectangle

from course_utils.show.style import text_color

DATA, ENCODER, DECODER = "#DDDDDD", "#A6D5F2", "#F7C873"
CHANNELS_TO_WIDTH = 0.005  # times the square root of the channels: a share of the highest map
GAP = 0.14  # between two maps, likewise
_ARROW = {"arrowstyle": "-|>", "mutation_scale": 16, "linewidth": 1.6, "color": "black"}


def plot_diagram(
    blocks: Mapping[str, tuple[int | float, int | float]],
    arrows: Sequence[str],
    *,
    colors: Mapping[str, str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a system as blocks and arrows.

    Args:
        blocks: where the centre of each block is, as column and row counted from the top left. The key is the
            text of the block; its first line is its name, a second line can give the size of a tensor.
        arrows: names joined by `>`, such as `"image > backbone > features"`.
        colors: the colour of a block by its name; light blue if it is not listed.
        ax: where to draw.

    Returns:
        The axes.

    Raises:
        ValueError: an arrow or a colour names a block that does not exist.

    >>> ax = plot_diagram({"image\\n3 x 64 x 64": (0, 0), "CNN": (1, 0)}, ["image > CNN"])
    >>> [text.get_text() for text in ax.texts]
    ['image\\n3 x 64 x 64', 'CNN']
    >>> plt.close(ax.figure)
    """
    colors = colors or {}
    names = {text.partition("\n")[0]: text for text in blocks}
    chains = [[name.strip() for name in arrow.split(">")] for arrow in arrows]
    for name in [*chain.from_iterable(chains), *colors]:
        if name not in names:
            raise ValueError(
                f"arrows, colors: expected names of blocks {list(names)}, got {name!r}"
            )
    columns, rows = zip(*blocks.values(), strict=True)
    if ax is None:
        size = 1.9 * (max(columns) - min(columns) + 1), 0.9 * (max(rows) - min(rows) + 1)
        _, ax = plt.subplots(figsize=size)
    ax.set(xlim=(min(columns) - 0.5, max(columns) + 0.5), ylim=(max(rows) + 0.5, min(rows) - 0.5))
    ax.axis("off")
    drawn = {}
    for name, text in names.items():
        color = colors.get(name, ENCODER)
        look = {"boxstyle": "round,pad=0.4", "facecolor": color, "edgecolor": "black"}
        drawn[name] = ax.text(
            *blocks[text], text, color=text_color(color), ha="center", va="center", bbox=look
        )
    for start, end in chain.from_iterable(map(pairwise, chains)):
        ends = {"patchA": drawn[start].get_bbox_patch(), "patchB": drawn[end].get_bbox_patch()}
        places = blocks[names[start]], blocks[names[end]]
        # On top, as the outlines of the blocks are known only after the blocks were drawn.
        ax.add_patch(FancyArrowPatch(*places, shrinkA=2, shrinkB=2, zorder=4, **ends, **_ARROW))
    return ax


def plot_feature_maps(
    maps: Mapping[str, Sequence[int]],
    skips: Sequence[tuple[str, str]] = (),
    *,
    colors: Mapping[str, str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the tensors of a network in their proportions, in the order of the forward pass.

    A block is as high as its map, and its width grows with the square root of the number of channels.

    Args:
        maps: the size of each tensor by its name, (channels, height, width), with or without a
            batch in front.
        skips: connections between two of them besides the forward pass; drawn as dashed arrows below.
        colors: the colour of a block by its name. If it is not listed, the first block is grey, the
            following are blue as long as the maps do not grow, and orange afterwards.
        ax: where to draw.

    Returns:
        The axes.

    Raises:
        ValueError: a skip or a colour names a map that does not exist.

    >>> ax = plot_feature_maps({"image": (3, 32, 32), "conv1": (8, 16, 16)})
    >>> [text.get_text() for text in ax.texts]
    ['image\\n3 x 32 x 32', 'conv1\\n8 x 16 x 16']
    >>> plt.close(ax.figure)
    """
    colors = colors or {}
    for name in [*chain.from_iterable(skips), *colors]:
        if name not in maps:
            raise ValueError(f"skips, colors: expected names of maps {list(maps)}, got {name!r}")
    if ax is None:
        _, ax = plt.subplots(figsize=(max(6, 1.45 * len(maps)), 4))
    highest = max(size[-2] for size in maps.values())
    left, lowest, below = 0.0, highest, {}
    for number, (name, size) in enumerate(maps.items()):
        channels, height = size[-3], size[-2]
        width = CHANNELS_TO_WIDTH * highest * channels**0.5 + 0.02 * highest
        grows = height > lowest
        usual = DECODER if grows else ENCODER if number else DATA
        lowest = min(lowest, height)
        ax.add_patch(
            Rectangle(
                (left, -height / 2),
                width,
                height,
                facecolor=colors.get(name, usual),
                edgecolor="black",
            )
        )
        text = name + "\n" + " x ".join(str(n) for n in size[-3:])
        ax.text(left + width / 2, 0.54 * highest, text, ha="center", va="bottom")
        if number:
            begin, end = (left - 0.85 * GAP * highest, 0), (left - 0.15 * GAP * highest, 0)
            ax.add_patch(FancyArrowPatch(begin, end, shrinkA=0, shrinkB=0, **_ARROW))
        below[name] = left + width / 2, -height / 2
        left += width + GAP * highest
    for start, end in skips:
        bent = {"connectionstyle": "arc3,rad=0.25", "linestyle": "--"}
        ax.add_patch(FancyArrowPatch(below[start], below[end], **bent, **_ARROW))
    ax.set(xlim=(-0.1 * highest, left), ylim=((-0.95 if skips else -0.55) * highest, 0.8 * highest))
    ax.axis("off")
    return ax
