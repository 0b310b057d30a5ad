"""What students see: figures held in memory, never files."""

import base64
import functools
import io
import math
import subprocess
import sys

import ipywidgets
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb
from nbclient import NotebookClient
from nbformat import v4
from PIL import Image

from course_utils import show
from course_utils.core import check_boxes
from course_utils.show import figures, source, widgets


@pytest.fixture(autouse=True)
def no_window_and_no_open_figure():
    """Draw in memory, and see that a test and what it calls close what they open."""
    matplotlib.use("agg")
    show.use_course_style()
    yield
    left, _ = plt.get_fignums(), plt.close("all")
    assert not left, f"figures left open: {left}"


@pytest.fixture
def published(monkeypatch):
    """What would stand under the cell: a list of (bundle, metadata)."""
    outputs = []
    for module in (figures, source, widgets):
        monkeypatch.setattr(
            module, "publish", lambda data, metadata=None: outputs.append((data, metadata))
        )
    return outputs


@pytest.fixture
def ax():
    fig, ax = plt.subplots()
    yield ax
    plt.close(fig)


def rectangles(ax):
    return [(*patch.get_xy(), patch.get_width(), patch.get_height()) for patch in ax.patches]


def texts(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


def opened(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def example():
    """A figure with a picture and two boxes whose tags start on each other."""
    image = torch.linspace(0, 1, 3 * 40 * 60).reshape(3, 40, 60)
    boxes = torch.tensor([[5.0, 8.0, 40.0, 35.0], [6.0, 9.0, 30.0, 30.0]])
    return show.plot_boxes(boxes, ax=show.plot_image(image), labels=["a cat", "a dog"])


# style


def test_importing_the_package_draws_nothing():
    code = (
        "import sys, course_utils; sys.exit('matplotlib' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_palette_colors_differ_for_every_kind_of_colour_vision():
    """Machado et al. 2009: what a person without red, green or blue cones sees."""
    visions = {
        "usual": np.eye(3),
        "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
        "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
        "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
    }
    colors = np.array([to_rgb(color) for color in show.PALETTE[:8]])
    assert len(set(show.PALETTE)) == len(show.PALETTE) >= 8
    for vision, matrix in visions.items():
        seen = (colors**2.2 @ np.transpose(matrix)).clip(0, 1) ** (1 / 2.2)
        distance = np.linalg.norm(seen[:, None] - seen[None], axis=-1)[~np.eye(8, dtype=bool)]
        assert distance.min() > 0.11, vision


def test_tag_text_is_readable_on_every_color():
    def luminance(color):
        return np.dot(
            [0.2126, 0.7152, 0.0722],
            [((c + 0.055) / 1.055) ** 2.4 if c > 0.04 else c / 12.92 for c in to_rgb(color)],
        )

    for color in (*show.PALETTE, show.class_color(0)):
        low, high = sorted([luminance(color), luminance(show.text_color(color))])
        assert (high + 0.05) / (low + 0.05) > 4.5, color


def test_present_enlarges_and_can_be_undone():
    before = dict(matplotlib.rcParams)
    show.present()
    show.present()
    assert matplotlib.rcParams["font.size"] == 1.5 * before["font.size"]
    assert matplotlib.rcParams["lines.linewidth"] == 1.5 * before["lines.linewidth"]
    show.use_course_style()
    assert dict(matplotlib.rcParams) == before


# plots


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
    figures.png_bytes(ax.figure)
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


def test_box_targets_point_from_proposal_to_object(ax):
    proposals = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    targets = torch.tensor([[10.0, 20.0, 30.0, 25.0]])
    show.plot_box_targets(proposals, targets, ax=ax)
    center, width, height = ax.texts[:3]
    assert (tuple(center.xyann), tuple(center.xy)) == ((5, 5), (20, 22.5))
    assert (tuple(width.xyann), tuple(width.xy)) == ((10, 5), (15, 5))
    assert (tuple(height.xyann), tuple(height.xy)) == ((5, 10), (5, 7.5))
    assert texts(ax) == [f"tw {math.log(2):+.2f}\nth {math.log(0.5):+.2f}"]


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


def test_keypoints_leave_out_absent_joints_and_dash_hidden_bones(ax):
    keypoints = torch.zeros(1, 17, 3)
    keypoints[0, :3] = torch.tensor([[1.0, 2.0, 2.0], [3.0, 4.0, 2.0], [5.0, 6.0, 1.0]])
    show.plot_keypoints(keypoints, [(0, 1), (1, 2), (2, 3)], ax=ax)
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[1, 2], [3, 4]], [[3, 4], [5, 6]]]
    assert [line.get_linestyle() for line in ax.lines] == ["-", "--"]
    assert [len(joints.get_offsets()) for joints in ax.collections] == [1, 2]


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
            lambda: show.plot_box_targets(torch.ones(2, 4), torch.ones(1, 4)),
            ValueError,
            "ground_truth: ",
        ),
        (
            lambda: show.plot_box_targets(torch.ones(1, 4), torch.ones(1, 4)),
            ValueError,
            "proposals: .*width",
        ),
        (
            lambda: show.plot_grid(torch.zeros(3)),
            ValueError,
            r"matrix: expected shape \[h, w\], got \[3\]",
        ),
        (lambda: show.plot_keypoints(torch.zeros(1, 5, 3), []), ValueError, "keypoints: "),
        (
            lambda: show.plot_keypoints(torch.zeros(1, 17, 3), [(0, 17)]),
            ValueError,
            "skeleton: .*17",
        ),
        (lambda: show.figure("a figure", "text"), TypeError, "fig_or_ax: .*got str"),
    ],
)
def test_bad_input_is_named_and_leaves_no_figure(call, error, message):
    with pytest.raises(error, match=message):
        call()


# figure


def test_figure_is_displayed_once_with_its_description(published):
    show.figure(example(), "A cat and a dog.")
    [(data, metadata)] = published
    assert metadata == {"image/png": {"alt": "A cat and a dog."}}
    assert data["text/plain"] == "A cat and a dog."
    pixels = opened(base64.b64decode(data["image/png"]))
    assert pixels.shape[1] <= 720 and (pixels[0] == 255).all()


@pytest.mark.parametrize("alt", ["", "  ", None])
@pytest.mark.usefixtures("as_student")
def test_figure_without_description_is_refused(ax, alt):
    with pytest.raises(ValueError, match="alt: "):
        show.figure(ax, alt)


def test_same_figure_same_bytes(published):
    for _ in range(2):
        show.figure(example().figure, "A cat and a dog.")
    assert published[0] == published[1]
    png = base64.b64decode(published[0][0]["image/png"])
    assert b"Software" not in png and b"matplotlib" not in png and b"tIME" not in png


def test_few_colors_are_kept_exactly(ax):
    show.plot_image(torch.tensor([[[0.2, 0.4]]] * 3).float(), ax=ax)
    levels = set(opened(figures.png_bytes(ax.figure)).reshape(-1, 3)[:, 0].tolist())
    assert {51, 102, 255} <= levels


def test_many_colors_are_rounded_so_that_one_pixel_changes_no_other(ax):
    show.plot_image(torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)), ax=ax)
    before = opened(figures.png_bytes(ax.figure))
    ax.images[0].get_array()[30, 30] = 0.0
    changed = (opened(figures.png_bytes(ax.figure)) != before).any(axis=-1)
    assert 0 < changed.mean() < 0.001
    assert set(np.unique(before).tolist()) <= {17 * level for level in range(16)}


# source


def twice(function):
    """A decorator."""

    @functools.wraps(function)
    def wrapper(x):
        return function(function(x))

    return wrapper


@twice
def halve(x):
    """
    Half of x.

    Args:
        x: a number.

    >>> halve(8)
    2.0
    """

    def inner(y):
        r"""The inner one.

        More about it.
        """
        return y / 2

    return inner(x)  # a comment stays


class Box:
    """A box.

    More.
    """

    side = """not a
    docstring"""


def test_source_is_shown_with_name_decorator_and_short_docstrings(published):
    show.show_source(halve)
    [(data, _)] = published
    code = '''@twice
def halve(x):
    """Half of x."""

    def inner(y):
        r"""The inner one."""
        return y / 2

    return inner(x)  # a comment stays'''
    name = f"{__name__}.halve"
    assert data["text/plain"] == f"{name}\n\n{code}"
    assert data["text/markdown"] == f"<small><code>{name}</code></small>\n\n```python\n{code}\n```"


def test_source_of_several_and_of_classes(published):
    show.show_source(check_boxes, Box)
    text = published[0][0]["text/plain"]
    assert text.startswith("course_utils.core.checks.check_boxes\n\ndef check_boxes(")
    assert "Traceback" not in text and 'check_shape("boxes"' not in text
    assert text.endswith('class Box:\n    """A box."""\n\n    side = """not a\n    docstring"""')


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize(
    ("function", "message"),
    [
        (torch.nn.functional.conv2d, r"show_source: .*conv2d is implemented in C\+\+"),
        (len, r"show_source: .*len is implemented in C\+\+"),
        (torch.Tensor.add, r"show_source: .*add is implemented in C\+\+"),
        (3, "show_source: expected a function or a class, got 3"),
        (math, "show_source: expected a function or a class, got a module"),
        (eval("lambda x: x"), "show_source: the source of .* cannot be found"),
    ],
)
def test_source_that_is_not_python(function, message):
    with pytest.raises(TypeError, match=message):
        show.show_source(function)


def test_source_of_nothing():
    with pytest.raises(TypeError, match="show_source: "):
        show.show_source()


# widgets


def bar(high_threshold, kind="wide"):
    if high_threshold > 0.8:
        raise ValueError("high_threshold: <too> high")
    _, ax = plt.subplots(figsize=(4 if kind == "wide" else 2, 2))
    ax.bar(0, high_threshold)
    return ax


def test_explore_moves_the_picture():
    box = widgets.assemble(
        bar, "A bar.", {"high_threshold": (0.0, 1.0, 0.05, 0.5), "kind": ["wide", "narrow"]}
    )
    slider, menu, picture = box.children
    assert (slider.value, slider.description, slider.continuous_update) == (
        0.5,
        "high threshold",
        False,
    )
    first = picture.value
    assert first.startswith(
        '<img alt="A bar (high threshold 0.5, kind wide)" src="data:image/png;base64,'
    )
    slider.value = 0.7
    assert (
        "high threshold 0.7" in picture.value
        and picture.value.split("base64")[1] != first.split("base64")[1]
    )
    menu.value = "narrow"
    assert "kind narrow" in picture.value
    slider.value, menu.value = 0.5, "wide"
    assert picture.value == first


def test_explore_says_what_went_wrong_and_recovers():
    slider, picture = widgets.assemble(
        bar, "A bar.", {"high_threshold": (0.0, 1.0, 0.05, 0.5)}
    ).children
    slider.value = 0.9
    assert (
        "ValueError: high_threshold: &lt;too&gt; high" in picture.value
        and "<img" not in picture.value
    )
    slider.value = 0.6
    assert picture.value.startswith("<img")


def test_explore_displays_one_short_stable_text(published):
    assert (
        show.explore(bar, "A bar.", high_threshold=(0.0, 1.0, 0.1, 0.5), kind=["wide", "narrow"])
        is None
    )
    [(data, _)] = published
    assert data["text/plain"] == "A widget to move: high threshold, kind"
    assert set(data) == {"text/plain", widgets.WIDGET_VIEW}
    assert data[widgets.WIDGET_VIEW]["version_major"] == 2


def test_a_widget_of_ones_own_keeps_its_name(published):
    sure = ipywidgets.FloatSlider(value=0.5, max=1.0, description="how sure")
    show.explore(bar, "A bar.", high_threshold=sure)
    assert published[0][0]["text/plain"] == "A widget to move: how sure"
    assert (
        '<img alt="A bar (how sure 0.5)"'
        in widgets.assemble(bar, "A bar.", {"high_threshold": sure}).children[-1].value
    )


def test_a_picture_in_html_says_what_it_shows_and_fits_its_place():
    fig = plt.figure()
    image = figures.html_image(fig, 'x < "y"')
    plt.close(fig)
    assert image.startswith('<img alt="x &lt; &quot;y&quot;" src="data:image/png;base64,')
    assert "max-width: 100%" in image


def test_explore_fails_at_the_start_like_any_cell():
    with pytest.raises(ValueError, match="high_threshold: <too> high"):
        show.explore(bar, "A bar.", high_threshold=(0.0, 1.0, 0.1, 0.9))


def test_controls_take_the_form_that_suits_them():
    def nothing(**_):
        return plt.figure(figsize=(1, 1))

    ready = ipywidgets.Checkbox(value=True, description="")
    box = widgets.assemble(
        nothing,
        "Nothing.",
        {"count": (1, 5, 1, 2), "side": [16, 32, 64], "grid": [True, False], "more": ready},
    )
    assert [type(child).__name__ for child in box.children] == [
        "IntSlider",
        "SelectionSlider",
        "Dropdown",
        "Checkbox",
        "HTML",
    ]
    assert ready.description == "more"
    assert 'alt="Nothing (count 2, side 16, grid yes, more yes)"' in box.children[-1].value


def test_a_range_is_played_or_stepped_through_by_hand():
    def squares(step):
        return plt.figure(figsize=(step, 1))

    row, picture = widgets.assemble(squares, "Squares.", {"step": range(1, 6, 2)}).children
    play, slider = row.children
    assert isinstance(play, ipywidgets.Play) and slider.description == "step"
    for part in (play, slider):
        assert (part.min, part.max, part.step, part.value) == (1, 5, 2, 1)
    play.value = 3
    assert slider.value == 3 and "(step 3)" in picture.value
    slider.value = 5
    assert play.value == 5 and "(step 5)" in picture.value


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize(
    ("alt", "controls", "error", "message"),
    [
        ("", {"high_threshold": (0, 1, 1, 0)}, ValueError, "alt: "),
        ("A bar.", {}, TypeError, "controls: "),
        ("A bar.", {"high_threshold": (0.0, 1.0, 0.1)}, TypeError, "high_threshold: expected"),
        ("A bar.", {"high_threshold": []}, TypeError, "high_threshold: expected"),
        ("A bar.", {"high_threshold": range(3, 4)}, TypeError, "high_threshold: .*range of two"),
        ("A bar.", {"high_threshold": range(4, 1, -1)}, ValueError, "high_threshold: .*step"),
        ("A bar.", {"high_threshold": (0.0, 1.0, 0.1, 2.0)}, ValueError, "high_threshold: .*start"),
        ("A bar.", {"high_threshold": (0.0, 1.0, 0.0, 0.5)}, ValueError, "high_threshold: .*step"),
    ],
)
def test_explore_refuses(alt, controls, error, message):
    with pytest.raises(error, match=message):
        show.explore(bar, alt, **controls)


# all of it in a kernel


def test_in_a_notebook_each_cell_has_one_output():
    cells = [
        "import torch\nfrom course_utils import show",
        "show.figure(show.plot_grid(torch.eye(2)), 'The identity.')",
        "show.show_source(show.class_color)",
        "show.explore(lambda n: show.plot_grid(torch.eye(n)), 'The identity.', n=(1, 4, 1, 2))",
    ]
    notebook = v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3", store_widget_state=False).execute()
    first, drawn, shown, moved = (cell.outputs for cell in notebook.cells)
    assert first == [] and len(drawn) == len(shown) == len(moved) == 1
    assert drawn[0].metadata == {"image/png": {"alt": "The identity."}}
    assert "def class_color(number: int" in shown[0].data["text/markdown"]
    assert moved[0].data["text/plain"] == "A widget to move: n"
