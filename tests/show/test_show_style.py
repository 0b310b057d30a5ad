"""The course's style: colours that everybody can distinguish, and fonts that can be enlarged."""

import hashlib
import os
import subprocess
import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb

from course_utils import show
from course_utils.show import figures


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


HOSTILE = """axes.grid: True
axes.titleweight: bold
font.weight: bold
figure.autolayout: True
lines.marker: x
text.usetex: True
xtick.top: True
"""
DRAW = """
import hashlib
from course_utils import show
from course_utils.show import figures
ax = show.plot_losses([4.0, 2.0, 1.0])
ax.set_title("A title")
print(hashlib.sha256(figures.encode(figures.draw(ax.figure))[1]).hexdigest())
"""


def test_a_users_matplotlibrc_changes_no_figure(tmp_path):
    ax = show.plot_losses([4.0, 2.0, 1.0])
    ax.set_title("A title")
    expected = hashlib.sha256(figures.encode(figures.draw(ax.figure))[1]).hexdigest()
    plt.close(ax.figure)
    (tmp_path / "matplotlibrc").write_text(HOSTILE)
    done = subprocess.run(
        [sys.executable, "-c", DRAW],
        capture_output=True,
        text=True,
        env=os.environ | {"MATPLOTLIBRC": str(tmp_path / "matplotlibrc"), "MPLBACKEND": "agg"},
    )
    assert done.stdout.strip() == expected, done.stderr


def test_the_style_leaves_the_backend_alone():
    matplotlib.use("svg")
    show.use_course_style()
    assert matplotlib.get_backend() == "svg"


def test_present_enlarges_and_can_be_undone():
    before = dict(matplotlib.rcParams)
    show.present()
    show.present()
    assert matplotlib.rcParams["font.size"] == 1.5 * before["font.size"]
    assert matplotlib.rcParams["lines.linewidth"] == 1.5 * before["lines.linewidth"]
    show.use_course_style()
    assert dict(matplotlib.rcParams) == before
