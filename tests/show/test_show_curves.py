"""Learning curves: what they draw, and what a notebook sees while a network trains."""

import ipywidgets
import matplotlib.pyplot as plt
import pytest
from ipywidgets.widgets import widget

from course_utils.show import curves
from course_utils.show.curves import live_curve, plot_losses
from course_utils.training import History, Record


def record(step: int, steps: int = 10, **metrics: float) -> Record:
    losses = [1 / (n + 1) for n in range(step)]
    return Record(step, steps, losses[-1], 0.1, metrics, History(losses, {}))


@pytest.fixture
def notebook(monkeypatch):
    """What is displayed, as in a notebook, and a clock that stands still."""
    shown = []
    monkeypatch.setattr(curves.InteractiveShell, "initialized", lambda: True)
    monkeypatch.setattr(curves, "publish", shown.append)
    monkeypatch.setattr(curves.time, "monotonic", lambda: notebook_time[0])
    return shown


notebook_time = [0.0]


def box(shown: list[dict]) -> tuple[ipywidgets.HBox, ipywidgets.HTML]:
    (bundle,) = shown
    return widget._instances[bundle[curves.WIDGET_VIEW]["model_id"]].children


def test_the_line_is_the_mean_of_neighbours_and_keeps_to_the_steps_that_are_planned():
    ax = plot_losses([4.0, 2.0] * 100, steps=400)
    line, single = ax.lines
    assert set(line.get_ydata()) == {3.0}
    assert len(line.get_ydata()) == 25
    assert list(single.get_ydata()) == [4.0, 2.0] * 100
    assert ax.get_xlim() == (0, 400)
    assert ax.get_xlabel() == "step" and ax.get_ylabel() == "loss"
    plt.close(ax.figure)


def test_two_curves_share_axes():
    ax = plot_losses([3.0, 2.0], label="with")
    assert plot_losses([4.0, 3.0], ax=ax, label="without") is ax
    assert ax.get_legend_handles_labels()[1] == ["with", "without"]
    plt.close(ax.figure)


def test_the_curve_grows_once_a_second_and_the_bar_disappears_at_the_end(notebook):
    watch = live_curve("The loss")
    watch(record(1))
    progress, picture = box(notebook)
    bar, words = progress.children
    assert (bar.value, bar.max) == (1, 10)
    assert picture.value.startswith('<img alt="The loss: loss 1.00" src="data:image/png;base64,')
    notebook_time[0] += 0.5
    watch(record(2))
    assert bar.value == 1
    notebook_time[0] += 0.6
    watch(record(3))
    assert words.value == "step 3 of 10: loss 0.33"
    assert progress.layout.display is None
    watch(record(10, **{"mean IoU": 0.5}))
    assert progress.layout.display == "none"
    assert 'alt="The loss: loss 0.10, mean IoU 0.50"' in picture.value
    assert len(notebook) == 1
    assert not plt.get_fignums()


def test_outside_a_notebook_nothing_is_shown(capsys):
    live_curve()(record(1))
    assert capsys.readouterr() == ("", "")
