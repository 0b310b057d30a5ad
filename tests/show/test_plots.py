"""The plotting functions: what is drawn, where, and in which colour."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb
from matplotlib.text import Text

from course_utils import show
from course_utils.show import figures


def rectangles(ax):
    return [(*patch.get_xy(), patch.get_width(), patch.get_height()) for patch in ax.patches]


def texts(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


@pytest.mark.parametrize("shape", [(3, 4, 6), (1, 4, 6), (4, 6)])
def test_image_puts_pixels_on_unit_squares(ax, shape):
    image = torch.zeros(shape)
    image[..., 1, 4] = 1.0
    assert show.plot_image(image, ax=ax, title="a dot") is ax
    assert ax.get_xlim() == (0, 6) and ax.get_ylim() == (4, 0)
    assert list(ax.images[0].get_extent()) == [0, 6, 4, 0]
    assert len(ax.get_xticks()) == len(ax.get_yticks()) == 0
    assert ax.get_title(loc="left") == "a dot"
    ax.figure.canvas.draw()
    drawn = np.asarray(ax.figure.canvas.buffer_rgba())[::-1]
    for x, y, bright in [(4.1, 1.1, True), (4.9, 1.9, True), (3.9, 1.5, False), (4.5, 2.1, False)]:
        column, row = ax.transData.transform((x, y)).astype(int)
        assert (drawn[row, column, 0] > 128) == bright


def test_boxes_stand_where_their_coordinates_say(ax):
    boxes = torch.tensor([[1.0, 2.0, 5.0, 4.0], [0.5, 0.0, 0.5, 3.0]])
    names = ["background", "cat", "dog"]
    show.plot_boxes(
        boxes,
        ax=ax,
        labels=torch.tensor([2, 1]),
        names=names,
        scores=torch.tensor([0.926, 1.0]),
        styles=["-", ":"],
    )
    assert rectangles(ax) == [(1, 2, 4, 2), (0.5, 0, 0, 3)]
    assert texts(ax) == ["dog 0.93", "cat 1.00"]
    assert [to_hex(patch.get_edgecolor()).upper() for patch in ax.patches] == [
        show.class_color(2),
        show.class_color(1),
    ]
    assert [patch.get_linestyle() for patch in ax.patches] == ["-", ":"]


def test_boxes_may_be_none_and_unlabelled(ax):
    show.plot_boxes(torch.zeros(0, 4), ax=ax, labels=[], scores=torch.zeros(0))
    show.plot_boxes(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), ax=ax, colors="red")
    assert len(ax.patches) == 1 and not texts(ax)


def test_tags_end_inside_the_axes_and_apart(ax):
    show.plot_image(torch.zeros(3, 100, 100), ax=ax)
    boxes = torch.tensor([[-20.0, -10.0, 50.0, 50.0]] * 4 + [[99.0, 99.0, 120.0, 120.0]])
    show.plot_boxes(boxes, ax=ax, labels=["a person"] * 5)
    figures.draw(ax.figure)
    ax.figure.draw_without_rendering()
    places = [tag.get_bbox_patch().get_window_extent() for tag in ax.texts]
    for index, place in enumerate(places):
        assert place.x0 >= ax.bbox.x0 - 1 and place.x1 <= ax.bbox.x1 + 1
        assert place.y0 >= ax.bbox.y0 - 1 and place.y1 <= ax.bbox.y1 + 1
        assert not any(place.shrunk(0.98, 0.98).overlaps(other) for other in places[:index])


def test_masks_are_filled_and_outlined_on_pixel_edges(ax):
    masks = torch.zeros(2, 3, 4, dtype=torch.bool)
    masks[0, 1, 1:3] = True
    masks[1, 1, 2] = True
    show.plot_masks(masks, ax=ax, colors=["#FF0000", "#0000FF"], alpha=0.5)
    fill = ax.images[0].get_array()
    np.testing.assert_allclose(fill[1, 1], [1, 0, 0, 0.5])
    np.testing.assert_allclose(fill[1, 2], [1 / 3, 0, 2 / 3, 0.75])  # blue over red
    assert fill[0].sum() == 0
    edges = {
        tuple(map(tuple, edge.astype(int).tolist()))
        for edge in ax.collections[0].get_segments()[:6]
    }
    assert edges == {
        ((1, 1), (2, 1)),
        ((2, 1), (3, 1)),
        ((1, 2), (2, 2)),
        ((2, 2), (3, 2)),
        ((1, 1), (1, 2)),
        ((3, 1), (3, 2)),
    }


def test_neighbouring_masks_have_different_colors(ax):
    show.plot_masks(torch.eye(9, dtype=torch.bool).reshape(9, 3, 3), ax=ax)
    colors = [tuple(color[:3]) for row in ax.images[0].get_array().tolist() for color in row]
    assert len(set(colors)) == 9


def test_label_map_colors_names_and_legend(ax):
    semantic = torch.tensor([[2, 2, 2, 1], [2, 2, 2, 255], [2, 2, 2, 255]])
    show.plot_label_map(semantic, ["background", "cat", "dog", "car"], ax=ax)
    colors = ax.images[0].get_array()
    np.testing.assert_allclose(colors[0, 3, :3], to_rgb(show.class_color(1)))
    np.testing.assert_allclose(colors[2, 0, :3], to_rgb(show.class_color(2)))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["cat", "dog", "void"]
    assert [patch.get_hatch() for patch in ax.patches] == ["///"]  # void is striped
    assert {text.get_text(): text.get_position() for text in ax.texts}["dog"] == (1.5, 1.5)
    ax.figure.draw_without_rendering()
    assert (
        not ax.get_legend().get_window_extent().overlaps(ax.get_window_extent().shrunk(0.99, 0.99))
    )


def test_label_map_over_a_picture_without_legend(ax):
    show.plot_label_map(
        torch.ones(4, 5).long(),
        ["background", "cat"],
        ax=ax,
        image=torch.zeros(3, 4, 5),
        alpha=0.4,
        legend=False,
    )
    assert len(ax.images) == 2 and ax.get_legend() is None
    assert ax.images[1].get_array()[0, 0, 3] == pytest.approx(0.4)


def test_label_map_without_names_on_it(ax):
    show.plot_label_map(torch.tensor([[0, 1]]), ["background", "cat"], ax=ax, tags=False)
    assert not ax.texts and len(ax.get_legend().get_texts()) == 2


@pytest.mark.parametrize("text", [r"$\foo$", "a$b$c", "__ignore__"])
def test_a_text_with_dollar_signs_is_not_taken_for_a_formula(text):
    """Names come from files: what is not TeX would stop the figure, and what is would be drawn as TeX."""
    mask, image = torch.ones(1, 4, 4, dtype=torch.bool), torch.zeros(3, 4, 4)
    semantic = torch.tensor([[0, 1], [1, 255]])
    drawn = [
        show.plot_boxes(torch.tensor([[0.0, 0.0, 4.0, 3.0]]), labels=[text]),
        show.plot_masks(mask, labels=[text]),
        show.plot_label_map(semantic, ["background", text]),
        show.plot_image(image, title=text),
        show.plot_crops(image[None], [text]),
    ]
    for fig in map(figures.figure_of, drawn):
        figures.draw(fig)
        found = [one for one in fig.findobj(Text) if one.get_text() == text]
        assert found and not any(one.get_parse_math() for one in found)
        plt.close(fig)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_crops_stand_in_rows(count):
    fig = show.plot_crops(
        torch.rand(count, 3, 8, 8), [f"crop {k}" for k in range(count)], columns=3
    )
    assert [ax.get_title() for ax in fig.axes] == [f"crop {k}" for k in range(count)]
    assert all(len(ax.images) == 1 for ax in fig.axes)
    rows = {ax.get_subplotspec().rowspan.start for ax in fig.axes}
    assert len(rows) == math.ceil(count / 3)
    plt.close(fig)


def test_grid_writes_every_number_in_its_square(ax):
    show.plot_grid(
        torch.tensor([[1.0, -2.5, float("nan")], [0.0, 4.0, float("inf")]]), ax=ax, format="{:.1f}"
    )
    assert {text.get_position(): text.get_text() for text in ax.texts} == {
        (0.5, 0.5): "1.0",
        (1.5, 0.5): "-2.5",
        (2.5, 0.5): "nan",
        (0.5, 1.5): "0.0",
        (1.5, 1.5): "4.0",
        (2.5, 1.5): "inf",
    }


def test_grid_of_whole_numbers(ax):
    show.plot_grid(torch.tensor([[1, 2]]), ax=ax, format="{:d}")
    assert texts(ax) == ["1", "2"]


def test_grid_of_classes_has_the_colours_of_the_classes(ax):
    show.plot_grid(torch.tensor([[5, 2001, 0]]), ax=ax, format="{:d}", colors={2001: "#0072B2"})
    assert to_hex(ax.images[0].get_array()[0, 1]).upper() == "#0072B2"
    assert {to_hex(ax.images[0].get_array()[0, k]) for k in (0, 2)} == {"#ffffff"}
    assert [text.get_color() for text in ax.texts] == ["black", "white", "black"]


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: show.plot_image([1, 2]), TypeError, r"image: expected a torch.Tensor, got list"),
        (lambda: show.plot_image(torch.zeros(2, 4, 4)), ValueError, r"image: .*got \[2, 4, 4\]"),
        (
            lambda: show.plot_image(torch.zeros(3, 4, 4).byte()),
            TypeError,
            "image: .*got torch.uint8",
        ),
        (lambda: show.plot_boxes(torch.zeros(3, 5)), ValueError, r"boxes: expected shape \[n, 4\]"),
        (
            lambda: show.plot_boxes(torch.zeros(2, 4), labels=["a"]),
            ValueError,
            "labels: expected 2.*got 1",
        ),
        (
            lambda: show.plot_boxes(torch.zeros(1, 4), labels=torch.tensor([1])),
            ValueError,
            "names: ",
        ),
        (
            lambda: show.plot_boxes(torch.zeros(1, 4), labels=torch.tensor([7]), names=["a"]),
            ValueError,
            "labels: .*got 7",
        ),
        (lambda: show.plot_boxes(torch.zeros(1, 4), scores=torch.zeros(2)), ValueError, "scores: "),
        (
            lambda: show.plot_boxes(torch.zeros(2, 4), colors=["red"]),
            ValueError,
            "colors: expected 2",
        ),
        (lambda: show.plot_masks(torch.zeros(1, 4, 4)), TypeError, "masks: expected torch.bool"),
        (lambda: show.plot_masks(torch.zeros(4, 4).bool()), ValueError, r"masks: .*got \[4, 4\]"),
        (lambda: show.plot_label_map(torch.tensor([[3]]), ["a"]), ValueError, "semantic: .*are 3"),
        (lambda: show.plot_label_map(torch.zeros(2), ["a"]), ValueError, "semantic: "),
        (lambda: show.plot_crops(torch.zeros(2, 3, 4, 4), ["a"]), ValueError, "titles: expected 2"),
        (
            lambda: show.plot_crops(torch.zeros(1, 3, 4, 4), ["a"], columns=0),
            ValueError,
            "columns: ",
        ),
        (
            lambda: show.plot_grid(torch.zeros(3)),
            ValueError,
            r"matrix: expected shape \[h, w\], got \[3\]",
        ),
        (lambda: show.figure("a figure", "text"), TypeError, "fig_or_ax: .*got str"),
    ],
)
def test_bad_input_is_named_and_leaves_no_figure(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_grids_side_by_side_have_squares_of_one_size():
    fig = show.plot_grids({"wide": torch.ones(2, 5), "high": torch.ones(4, 2)}, format="{:.0f}")
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["wide", "high"]
    assert [len(ax.texts) for ax in fig.axes] == [10, 8]
    fig.canvas.draw()
    sides = [ax.get_window_extent().width / columns for ax, columns in zip(fig.axes, (5, 2))]
    assert abs(sides[0] - sides[1]) < 0.1 * sides[0]
    plt.close(fig)


def test_a_row_draws_maps_of_classes_and_images():
    semantic = torch.tensor([[1, 2], [2, 2]])
    fig = show.plot_row({"photo": torch.rand(3, 2, 4), "map": semantic}, width=5, names="abc")
    photo, map_ = fig.axes
    assert photo.images[0].get_array().shape[:2] == (2, 4) and fig.get_size_inches()[0] == 5
    assert {text.get_text() for text in map_.texts} == {"b", "c"}
    plt.close(fig)


def test_segments_of_a_panoptic_map_have_names_and_colours_of_their_own(ax):
    codes = torch.tensor([[2001, 2001, 2002, 2002], [6000, 6000, 0, 0]]).repeat_interleave(9, dim=0)
    show.plot_panoptic(codes, ax=ax, title="two dogs")
    assert set(texts(ax)) == {"dog 1", "dog 2", "grass", "void"}
    assert len(set(show.segment_colors([2001, 2002, 6000]).values())) == 3
    assert show.segment_colors([6000])[6000] == show.class_color(1, ["background", "grass"])
    show.plot_panoptic(codes, ax=ax, names={2001: "Rex"})
    assert "Rex" in texts(ax)


def test_matched_segments_share_a_colour_and_missed_ones_are_named():
    truth = torch.zeros(30, 60, dtype=torch.int64)
    truth[:, :20], truth[:, 20:40], truth[:, 40:] = 1001, 2001, 6000
    predicted = truth.clone()
    predicted[:, :20], predicted[:, 20:40] = 1003, 4001
    fig = show.plot_segment_pairs(torch.rand(3, 30, 60), predicted, truth, {1003: (1001, 0.75)})
    _, left, right = fig.axes
    assert set(texts(left)) == {"cat 3: 0.75", "person 1: no match", "grass"}
    assert set(texts(right)) == {"cat 1", "dog 1: missed", "grass"}
    color = {
        t.get_text(): t.get_bbox_patch().get_facecolor() for ax in (left, right) for t in ax.texts
    }
    assert color["cat 3: 0.75"] == color["cat 1"] != color["dog 1: missed"]
    plt.close(fig)
