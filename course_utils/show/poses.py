"""Plots of poses: the joints of persons as a network finds them, and the limbs between them."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from torch import Tensor

from course_utils.core import check_fraction, check_shape
from course_utils.data.scenes import KEYPOINT_NAMES, SKELETON
from course_utils.show._axes import get_axes, outline, to_numpy

# The sides of the body: middle (0), left (1) and right (-1), which is the last of the colours
COLORS = np.array(["#FFFFFF", "#E69F00", "#56B4E9"])
SIDES = np.array([name.startswith("left") - name.startswith("right") for name in KEYPOINT_NAMES])
LIMBS = np.array(SKELETON)


def plot_poses(
    poses: Float[Tensor, "n 17 3"],
    *,
    ax: Axes | None = None,
    score_threshold: int | float = 0.3,
    linewidth: int | float = 3,
) -> Axes:
    """Draw the poses of persons: the left side of each body in orange, its right side in blue.

    Left is the person's own left: if somebody looks into the camera, it is on the right in the picture. The
    nose and the limbs that connect the two sides are white.

    Args:
        poses: x and y in pixels and a score for COCO's 17 keypoints of each person.
        ax: where to draw.
        score_threshold: joints with a smaller score and their limbs are left out.
        linewidth: of the limbs, in points.

    Returns:
        The axes.

    >>> import matplotlib.pyplot as plt
    >>> import torch
    >>> ax = plot_poses(torch.ones(1, 17, 3))
    >>> len(ax.collections[0].get_segments())  # the limbs of COCO's skeleton
    19
    >>> plt.close(ax.figure)
    """
    check_shape("poses", poses, "n", 17, 3)
    check_fraction("score_threshold", score_threshold)
    people = to_numpy(poses)
    points, sure = people[..., :2], people[..., 2] >= score_threshold
    ax = get_axes(ax, np.concatenate([points[sure], points[sure]], axis=1))
    person, limb = sure[:, LIMBS].all(axis=2).nonzero()
    lines = LineCollection(
        points[person[:, None], LIMBS[limb]],
        colors=COLORS[np.sign(SIDES[LIMBS[limb]].sum(axis=1))],
        linewidths=linewidth,
        capstyle="round",
        path_effects=outline("black", linewidth),
        zorder=3,
    )
    ax.add_collection(lines, autolim=False)
    ax.scatter(
        *points[sure].T,
        s=(2.4 * linewidth) ** 2,
        facecolors=COLORS[SIDES[sure.nonzero()[1]]],
        edgecolors="black",
        linewidths=1,
        zorder=4,
    )
    return ax
