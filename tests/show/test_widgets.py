"""Widgets: a figure is drawn again when a control changes, and errors are shown in its place."""

import base64
import io

import ipywidgets
import matplotlib.pyplot as plt
import pytest
from PIL import Image

from course_utils import show
from course_utils.show import figures, widgets


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


def test_small_multiples_are_what_the_widget_draws(published):
    show.small_multiples(bar, "Bars.", high_threshold=[0.1, 0.3, 0.5, 0.7])
    [(data, metadata)] = published
    assert data["text/plain"] == metadata["image/png"]["alt"] == "Bars."
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    panels = [widgets._panel(bar, {"high_threshold": value}) for value in (0.1, 0.3, 0.5, 0.7)]
    width = max(panel.width for panel in panels)
    assert picture.width == 2 * width  # four do not fit in 1200 pixels, and three and one look odd
    first = picture.crop((0, 0, *panels[0].size)).convert("RGB")
    assert first.tobytes() == panels[0].tobytes()
    assert plt.get_fignums() == []


@pytest.mark.parametrize("values", [{}, {"high_threshold": [0.1, 0.2], "kind": ["wide"]}])
def test_small_multiples_need_lists_of_one_length(values):
    with pytest.raises(ValueError, match="values: expected"):
        show.small_multiples(bar, "Bars.", **values)
