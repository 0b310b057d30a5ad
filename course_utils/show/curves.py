"""Learning curves: drawn while a network trains, and afterwards out of what was written down."""

import time
from collections.abc import Callable, Mapping, Sequence

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.axes import Axes

from course_utils.show.figures import figure_of, html_image
from course_utils.show.publish import publish
from course_utils.show.widgets import WIDGET_VIEW
from course_utils.training import Record

SECONDS = 1.0  # between two pictures of a curve that grows


def plot_losses(
    losses: Sequence[float],
    *,
    ax: Axes | None = None,
    steps: int | None = None,
    label: str = "loss",
) -> Axes:
    """Draw losses over steps: each step pale, and the mean of a fiftieth of them as a line.

    One batch is harder than the next, so single losses jump; whether the network learns shows in the mean.

    Args:
        losses: one a step.
        ax: where to draw.
        steps: how far the axis goes, if training is still under way.
        label: what the line is, for a legend.

    Returns:
        The axes.

    >>> ax = plot_losses([4.0, 2.0, 1.0, 0.5], steps=10)
    >>> [float(end) for end in ax.get_xlim()]
    [0.0, 10.0]
    >>> plt.close(ax.figure)
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 3))
    steps = steps or len(losses)
    place = np.arange(1, len(losses) + 1)
    parts = max(1, len(losses) // max(1, steps // 50))
    (line,) = ax.plot(
        [part.mean() for part in np.array_split(place, parts)],
        [part.mean() for part in np.array_split(np.asarray(losses), parts)],
        label=label,
    )
    ax.plot(place, losses, color=line.get_color(), linestyle="-", linewidth=0.5, alpha=0.3)
    ax.set(xlim=(0, steps), ylim=(0, None), xlabel="step", ylabel="loss")
    return ax


def live_curve(alt: str = "The loss of each step, falling") -> Callable[[Record], None]:
    """What to hand to `train` as `watch`: a progress bar, which disappears in the end, and a growing curve.

    Both are widgets: what a notebook stores does not depend on them. Outside a notebook nothing is shown.

    Args:
        alt: the curve in one sentence.

    Returns:
        A function that takes the record of each step.
    """
    bar = ipywidgets.IntProgress(layout=ipywidgets.Layout(width="60%"))
    words = ipywidgets.Label()
    picture = ipywidgets.HTML()
    progress = ipywidgets.HBox([bar, words])
    drawn = None

    def watch(record: Record) -> None:
        nonlocal drawn
        if not InteractiveShell.initialized():
            return
        if drawn is None:
            box = ipywidgets.VBox([progress, picture])
            view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
            publish(
                {WIDGET_VIEW: view, "text/plain": "A curve that grows while the network trains"}
            )
        over = record.step == record.steps
        if drawn is not None and not over and time.monotonic() - drawn < SECONDS:
            return
        bar.max, bar.value = record.steps, record.step
        words.value = f"step {record.step} of {record.steps}: {_words(record)}"
        picture.value = _picture(record, alt)
        if over:
            progress.layout.display = "none"
        drawn = time.monotonic()

    return watch


def _words(record: Record) -> str:
    numbers: Mapping[str, float] = {"loss": record.loss, **record.metrics}
    return ", ".join(f"{name} {value:.2f}" for name, value in numbers.items())


def _picture(record: Record, alt: str) -> str:
    """The curve so far as an HTML image."""
    ax = plot_losses(record.history.losses, steps=record.steps)
    try:
        return html_image(figure_of(ax), f"{alt}: {_words(record)}")
    finally:
        plt.close(figure_of(ax))
