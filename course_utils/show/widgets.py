"""Widgets that call a notebook's own plotting function with new values, and figures of several of them."""

import html
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import ipywidgets
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from course_utils.show.figures import check_alt, display_picture, draw, figure_of, html_image
from course_utils.show.publish import publish

Control = tuple | list | range | ipywidgets.Widget
WIDEST = 1200  # pixels of a figure with several panels
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def explore(plot: Callable[..., Axes | Figure], alt: str, **controls: Control) -> None:
    """Display a figure that is drawn again whenever a control changes.

    Args:
        plot: called with the value of each control as a keyword argument; returns axes or a figure.
        alt: a description of the figure in one sentence; the values of the controls are added to it.
        controls: for each argument of `plot` a slider as `(min, max, step, start)`, a list of options, a
            range to step through (a slider with a Play button), or a widget that has a value.

    Raises:
        Exception: what `plot` raises for the initial values; later errors are shown in place of the figure.
    """
    box = assemble(plot, alt, controls)
    names = ", ".join(
        getattr(control, "description", _words(name)) for name, control in controls.items()
    )
    view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
    publish({WIDGET_VIEW: view, "text/plain": f"A widget to move: {names}"})


def assemble(plot: Callable[..., Axes | Figure], alt: str, controls: dict) -> ipywidgets.VBox:
    """The controls and, below them, the figure; `explore` displays it.

    >>> def square(side):
    ...     return plt.figure(figsize=(side, side))
    >>> box = assemble(square, "A square", {"side": (1, 3, 1, 2)})
    >>> box.children[0].value, box.children[-1].value[:43]
    (2, '<img alt="A square (side 2)" src="data:imag')
    """
    check_alt(alt)
    if not controls:
        raise TypeError("controls: expected at least one, such as threshold=(0.0, 1.0, 0.1, 0.5)")
    widgets = {name: _control(name, control) for name, control in controls.items()}
    picture = ipywidgets.HTML(value=_draw(plot, alt, widgets))

    def redraw(_change: dict) -> None:
        try:
            picture.value = _draw(plot, alt, widgets)
        except Exception as error:  # a callback has no cell in which a traceback would be shown
            sentence = html.escape(f"{type(error).__name__}: {error}")
            picture.value = f'<p role="alert">There is no figure for these values. {sentence}</p>'

    for widget in widgets.values():
        widget.observe(redraw, names="value")
    rows = [
        _with_play(widget) if isinstance(controls[name], range) else widget
        for name, widget in widgets.items()
    ]
    return ipywidgets.VBox([*rows, picture])


def small_multiples(plot: Callable[..., Axes | Figure], alt: str, **values: Sequence) -> None:
    """Display several settings of a widget in one figure, for readers who cannot move it.

    Args:
        plot: the function that `explore` calls.
        alt: a description of the figure in one sentence.
        values: for each argument of `plot` that varies, its value in each panel; the titles tell them.

    Raises:
        ValueError: `values` is empty, or its lists differ in length.

    >>> def square(side):
    ...     return plt.figure(figsize=(side, side))
    >>> small_multiples(square, "A square of four sizes.", side=[1, 2, 3, 4])
    A square of four sizes.
    """
    if not values or len({len(options) for options in values.values()}) != 1:
        raise ValueError("values: expected a list for at least one argument, all of one length")
    settings = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    panels = [_panel(plot, setting) for setting in settings]
    width, height = (max(panel.size[axis] for panel in panels) for axis in (0, 1))
    columns = max(1, min(len(panels), WIDEST // width))
    columns = -(-len(panels) // -(-len(panels) // columns))  # five in two rows: three and two
    picture = Image.new("RGB", (columns * width, -(-len(panels) // columns) * height), "white")
    for number, panel in enumerate(panels):
        picture.paste(panel, (number % columns * width, number // columns * height))
    display_picture(picture, check_alt(alt))


def _draw(
    plot: Callable[..., Axes | Figure], alt: str, widgets: dict[str, ipywidgets.Widget]
) -> str:
    """Draw, and return the figure as an HTML image; no figure is left open, even after an error."""
    setting = {name: widget.value for name, widget in widgets.items()}
    now = ", ".join(f"{widgets[name].description} {_format(v)}" for name, v in setting.items())
    with _closing_figures():
        return html_image(figure_of(plot(**setting)), f"{alt.rstrip('.')} ({now})")


def _panel(plot: Callable[..., Axes | Figure], setting: dict) -> Image.Image:
    """The drawn figure, with the setting above it."""
    with _closing_figures():
        fig = figure_of(plot(**setting))
        words = ", ".join(f"{_words(name)} {_format(value)}" for name, value in setting.items())
        fig.suptitle(words, x=0.02, ha="left", fontweight="bold", parse_math=False)
        return draw(fig)


@contextmanager
def _closing_figures() -> Iterator[None]:
    """Close at the end, even after an error, the figures that were opened since."""
    open_before = set(plt.get_fignums())
    try:
        yield
    finally:
        for number in set(plt.get_fignums()) - open_before:
            plt.close(number)


def _control(name: str, control: Control) -> ipywidgets.Widget:
    """The widget for one control, with a description."""
    look = {
        "description": _words(name),
        "style": {"description_width": "9em"},
        "layout": {"width": "min(100%, 34em)"},
    }
    if isinstance(control, ipywidgets.Widget) and hasattr(control, "value"):
        control.description = control.description or _words(name)
        return control
    if isinstance(control, list) and control:
        numbers = all(
            isinstance(option, int | float) and not isinstance(option, bool) for option in control
        )
        options = [(_format(option), option) for option in control]
        if numbers:
            return ipywidgets.SelectionSlider(
                options=options, value=control[0], continuous_update=False, **look
            )
        return ipywidgets.Dropdown(options=options, value=control[0], **look)
    if isinstance(control, range) and len(control) > 1:
        control = (control[0], control[-1], control.step, control[0])
    if (
        isinstance(control, tuple)
        and len(control) == 4
        and all(isinstance(v, int | float) for v in control)
    ):
        low, high, step, start = control
        if not (low <= start <= high and step > 0):
            raise ValueError(
                f"{name}: expected min <= start <= max and a step above zero, got {control}"
            )
        limits = {"min": low, "max": high, "step": step, "value": start, "continuous_update": False}
        if all(isinstance(value, int) for value in control):
            return ipywidgets.IntSlider(**limits, **look)
        decimals = len(f"{step:.6f}".rstrip("0").partition(".")[2])
        return ipywidgets.FloatSlider(**limits, readout_format=f".{decimals}f", **look)
    raise TypeError(
        f"{name}: expected (min, max, step, start), a list, a range of two or more, "
        f"or a widget with a value, got {control!r}"
    )


def _with_play(slider: ipywidgets.IntSlider) -> ipywidgets.HBox:
    """The slider with a Play button, which advances it every 1.5 s."""
    limits = {"min": slider.min, "max": slider.max, "step": slider.step, "value": slider.value}
    play = ipywidgets.Play(**limits, interval=1500)
    ipywidgets.link((play, "value"), (slider, "value"))
    return ipywidgets.HBox([play, slider])


def _words(name: str) -> str:
    return name.replace("_", " ")


def _format(value: object) -> str:
    """A value for people to read: 0.3, not 0.30000000000000004; yes, not True."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
