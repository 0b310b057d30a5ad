"""Learning curves: drawn during training, and afterwards from the recorded losses."""

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

UPDATE_INTERVAL = 1.0  # seconds between two drawings of a live curve


def plot_losses(
    losses: Sequence[float],
    *,
    ax: Axes | None = None,
    steps: int | None = None,
    label: str = "loss",
) -> Axes:
    """Draw losses over steps: the loss of each step in a light colour, and averages over 1/50 of the steps.

    Batches differ in difficulty, so single losses fluctuate; the averages show whether the network learns.

    Args:
        losses: one per step.
        ax: where to draw.
        steps: the total number of steps, if training is still running.
        label: the name of the line in a legend.

    Returns:
        The axes.

    >>> ax = plot_losses([4.0, 2.0, 1.0, 0.5], steps=10)
    >>> [float(limit) for limit in ax.get_xlim()]
    [0.0, 10.0]
    >>> plt.close(ax.figure)
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 3))
    steps = steps or len(losses)
    step = np.arange(1, len(losses) + 1)
    parts = max(1, len(losses) // max(1, steps // 50))
    (line,) = ax.plot(
        [part.mean() for part in np.array_split(step, parts)],
        [part.mean() for part in np.array_split(np.asarray(losses), parts)],
        label=label,
    )
    ax.plot(step, losses, color=line.get_color(), linestyle="-", linewidth=0.5, alpha=0.3)
    ax.set(xlim=(0, steps), ylim=(0, None), xlabel="step", ylabel="loss")
    return ax


def live_curve(alt: str = "The loss of each step, falling") -> Callable[[Record], None]:
    """A callback for the argument `watch` of `train`: a growing curve, and a progress bar until the end.

    Both are widgets, so the stored output of a notebook does not depend on them. Outside a notebook nothing
    is shown.

    Args:
        alt: a description of the curve in one sentence.

    Returns:
        A function that takes the record of each step.
    """
    bar = ipywidgets.IntProgress(layout=ipywidgets.Layout(width="60%"))
    status = ipywidgets.Label()
    picture = ipywidgets.HTML()
    progress = ipywidgets.HBox([bar, status])
    last_drawn = None

    def watch(record: Record) -> None:
        nonlocal last_drawn
        if not InteractiveShell.initialized():
            return
        if last_drawn is None:
            box = ipywidgets.VBox([progress, picture])
            view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
            publish(
                {WIDGET_VIEW: view, "text/plain": "A curve that grows while the network trains"}
            )
        finished = record.step == record.steps
        waited = last_drawn is None or time.monotonic() - last_drawn >= UPDATE_INTERVAL
        if not (waited or finished):
            return
        bar.max, bar.value = record.steps, record.step
        status.value = f"step {record.step} of {record.steps}: {_describe(record)}"
        picture.value = _picture(record, alt)
        if finished:
            progress.layout.display = "none"
        last_drawn = time.monotonic()

    return watch


def _describe(record: Record) -> str:
    numbers: Mapping[str, float] = {"loss": record.loss, **record.metrics}
    return ", ".join(f"{name} {value:.2f}" for name, value in numbers.items())


def _picture(record: Record, alt: str) -> str:
    """The curve up to this step as an HTML image."""
    ax = plot_losses(record.history.losses, steps=record.steps)
    try:
        return html_image(figure_of(ax), f"{alt}: {_describe(record)}")
    finally:
        plt.close(figure_of(ax))
