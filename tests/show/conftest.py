"""What the tests of `course_utils.show` share: figures are drawn in memory and closed."""

import matplotlib
import matplotlib.pyplot as plt
import pytest

from course_utils import show
from course_utils.show import figures, source, widgets


@pytest.fixture(autouse=True)
def no_window_and_no_open_figure():
    """Draw in memory, and check that a test and what it calls close the figures that they open."""
    matplotlib.use("agg")
    show.use_course_style()
    yield
    left, _ = plt.get_fignums(), plt.close("all")
    assert not left, f"figures left open: {left}"


@pytest.fixture
def published(monkeypatch):
    """The output of the cell: a list of (bundle, metadata)."""
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
