"""Plots of poses: which joints and limbs are drawn, where, and in the colour of which side."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from course_utils import show
from course_utils.data.scenes import KEYPOINT_NAMES, SKELETON
from course_utils.show.poses import plot_poses

LEFT, RIGHT, MIDDLE = "#E69F00", "#56B4E9", "#FFFFFF"


def pose(**scores):
    """A person whose keypoint k is at (10 k, 5 k), with the scores of some keypoints."""
    number = torch.arange(17.0)
    person = torch.stack([10 * number, 5 * number, torch.zeros(17)], dim=1)
    for name, score in scores.items():
        person[KEYPOINT_NAMES.index(name.replace("_", " ")), 2] = score
    return person[None]


def drawn(ax):
    """The limbs with their colours, and the joints with theirs, by the indices of keypoints."""
    limbs, joints = ax.collections
    ends = [tuple((end[:, 0] / 10).astype(int).tolist()) for end in limbs.get_segments()]
    points = (joints.get_offsets()[:, 0] / 10).astype(int).tolist()
    colors = (
        [to_hex(color).upper() for color in part]
        for part in (limbs.get_colors(), joints.get_facecolors())
    )
    limb_colors, joint_colors = colors
    return dict(zip(ends, limb_colors)), dict(zip(points, joint_colors))


def test_a_whole_person_has_all_limbs_in_the_colours_of_the_sides(ax):
    person = pose(**{name.replace(" ", "_"): 1 for name in KEYPOINT_NAMES})
    assert plot_poses(person, ax=ax) is ax
    limbs, joints = drawn(ax)
    assert list(limbs) == list(SKELETON) and list(joints) == list(range(17))
    for k, name in enumerate(KEYPOINT_NAMES):
        side = {"left": LEFT, "right": RIGHT, "nose": MIDDLE}[name.split()[0]]
        assert joints[k] == side, name
    assert limbs[5, 7] == limbs[15, 13] == limbs[3, 5] == LEFT
    assert limbs[6, 8] == limbs[4, 6] == limbs[0, 2] == RIGHT  # with the nose: the side of the eye
    assert limbs[0, 1] == LEFT
    assert limbs[5, 6] == limbs[11, 12] == limbs[1, 2] == MIDDLE


def test_joints_below_the_threshold_and_their_limbs_are_left_out(ax):
    person = pose(left_shoulder=0.3, left_elbow=0.9, left_wrist=0.29, right_hip=0.5)
    plot_poses(person, ax=ax)
    limbs, joints = drawn(ax)
    assert limbs == {(5, 7): LEFT}
    assert joints == {5: LEFT, 7: LEFT, 12: RIGHT}


def test_the_threshold_can_be_raised(ax):
    plot_poses(pose(left_shoulder=0.5, left_elbow=0.9), ax=ax, score_threshold=0.6)
    assert drawn(ax) == ({}, {7: LEFT})


def test_limbs_and_joints_stand_where_the_poses_say(ax):
    people = torch.cat([pose(right_knee=1, right_ankle=1), pose(nose=1) + 3])
    people[1, 1:, 2] = 0
    show.plot_image(torch.zeros(3, 200, 300), ax=ax)
    plot_poses(people, ax=ax)
    limbs, joints = ax.collections
    np.testing.assert_array_equal(limbs.get_segments(), [[[160, 80], [140, 70]]])
    np.testing.assert_array_equal(joints.get_offsets(), [[140, 70], [160, 80], [3, 3]])
    assert ax.get_xlim() == (0, 300) and ax.get_ylim() == (200, 0)  # as the image set them


def test_joints_lie_above_limbs_and_limbs_have_a_dark_edge(ax):
    ax.set(xlim=(0, 100), ylim=(100, 0), facecolor="white")
    person = torch.zeros(1, 17, 3)
    person[0, 5], person[0, 6] = torch.tensor([20.0, 50.0, 1.0]), torch.tensor([80.0, 50.0, 1.0])
    plot_poses(person, ax=ax, linewidth=6)
    ax.figure.canvas.draw()
    pixels = np.asarray(ax.figure.canvas.buffer_rgba())[::-1, :, :3].astype(int)
    column, row = ax.transData.transform((50, 50)).astype(int)
    profile = pixels[row - 12 : row + 13, column].sum(axis=1)
    assert profile[12] == profile[0] == 3 * 255  # a white line on white ...
    assert profile[:12].min() < 600 and profile[13:].min() < 600  # ... between two dark edges
    column, row = ax.transData.transform((20, 50)).astype(int)
    assert to_hex(pixels[row, column] / 255).upper() == LEFT


@pytest.mark.parametrize("people", [torch.zeros(0, 17, 3), torch.zeros(2, 17, 3)])
def test_nobody_and_nothing_sure_are_fine(ax, people):
    plot_poses(people, ax=ax)
    assert drawn(ax) == ({}, {})
    ax.figure.canvas.draw()


def test_new_axes_show_everybody():
    ax = plot_poses(pose(nose=1, left_ankle=1))
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert left < 0 < 150 < right and top < 0 < 75 < bottom
    plt.close(ax.figure)


def test_bad_input_is_refused_with_a_sentence(ax, as_student):
    with pytest.raises(ValueError, match=r"poses: expected shape \[n, 17, 3\]"):
        plot_poses(torch.zeros(17, 3), ax=ax)
    with pytest.raises(ValueError, match="score_threshold: expected a number from 0 to 1"):
        plot_poses(torch.zeros(1, 17, 3), ax=ax, score_threshold=30)
