"""Diagrams: blocks where they are asked for, arrows between the right ones, maps in proportion."""

import matplotlib.pyplot as plt
import pytest
from matplotlib.patches import FancyArrowPatch, Rectangle

from course_utils import show

BLOCKS = {"image\n3 x 8 x 8": (0, 1), "CNN": (1, 1), "class": (2, 0), "box": (2, 2)}


def arrows(ax: plt.Axes) -> list[FancyArrowPatch]:
    return [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]


def test_arrows_connect_the_blocks_that_they_name():
    ax = show.plot_diagram(BLOCKS, ["image > CNN > class", "CNN > box"], colors={"CNN": "#FFFFFF"})
    ends = [patch._posA_posB for patch in arrows(ax)]
    assert ends == [[(0, 1), (1, 1)], [(1, 1), (2, 0)], [(1, 1), (2, 2)]]
    colors = {text.get_text(): text.get_bbox_patch().get_facecolor() for text in ax.texts}
    assert colors["CNN"] == (1, 1, 1, 1) and list(colors) == list(BLOCKS)
    left, right = ax.get_xlim()
    bottom, top = ax.get_ylim()
    assert left < 0 and right > 2 and bottom > top
    plt.close(ax.figure)


def test_maps_are_as_high_as_they_are_and_turn_orange_when_they_grow():
    maps = {"image": (1, 3, 96, 96), "conv": (16, 24, 24), "deep": (64, 6, 6), "up": (16, 24, 24)}
    ax = show.plot_feature_maps(maps, [("conv", "up")])
    blocks = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    assert [block.get_height() for block in blocks] == [96, 24, 6, 24]
    assert blocks[1].get_width() == blocks[3].get_width() < blocks[2].get_width()
    faces = [block.get_facecolor() for block in blocks]
    assert faces[1] == faces[2] != faces[3] and faces[0] != faces[1]
    assert len(arrows(ax)) == 4 and arrows(ax)[-1].get_linestyle() == "--"
    assert ax.texts[0].get_text() == "image\n3 x 96 x 96"
    plt.close(ax.figure)


@pytest.mark.parametrize(
    "call",
    [
        lambda: show.plot_diagram(BLOCKS, ["image > CNM"]),
        lambda: show.plot_diagram(BLOCKS, [], colors={"boxes": "red"}),
        lambda: show.plot_feature_maps({"a": (1, 2, 2)}, [("a", "b")]),
        lambda: show.plot_feature_maps({"a": (1, 2, 2)}, colors={"b": "red"}),
    ],
)
def test_a_name_that_does_not_exist_is_named(call):
    with pytest.raises(ValueError, match=r"expected names of .*, got '(CNM|boxes|b)'"):
        call()
    plt.close("all")
