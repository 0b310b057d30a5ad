"""polygon_mask = its loops = scikit-image away from edges; a shared edge belongs to one polygon only."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.draw import polygon2mask

from course_utils.ops.masks import polygon_mask, polygon_mask_loops


def corners():
    coordinate = st.floats(-3, 15).map(lambda number: round(number, 2))
    return st.integers(3, 8).flatmap(
        lambda count: arrays(np.float64, (count, 2), elements=coordinate)
    )


@settings(deadline=None)
@given(corners())
def test_polygon_mask_equals_skimage_away_from_edges(points):
    ours = polygon_mask(points.tolist(), (12, 10)).numpy()
    theirs = polygon2mask((12, 10), points[:, ::-1] - 0.5)
    differing = np.argwhere(ours != theirs)[:, ::-1] + 0.5  # pixel centres x, y
    starts, ends = points, np.roll(points, -1, axis=0)
    along = ends - starts
    length = np.maximum((along**2).sum(axis=1), 1e-12)
    for (
        centre
    ) in differing:  # skimage takes every centre on an edge, ours only on left and upper edges
        t = np.clip(((centre - starts) * along).sum(axis=1) / length, 0, 1)
        assert np.hypot(*(starts + t[:, None] * along - centre).T).min() < 1e-6


@settings(deadline=None)
@given(corners(), st.tuples(st.integers(1, 12), st.integers(1, 12)))
@example(np.array([[0, 0], [0, 0], [9.38, 9.38], [0, 0]]), (4, 4))  # an edge there and back
def test_polygons_that_share_an_edge_share_no_pixel(points, size):
    if len(points) < 4:
        return
    head, tail = points[:3].tolist(), points[[0, *range(2, len(points))]].tolist()
    whole = polygon_mask(points.tolist(), size)
    assert torch.equal(polygon_mask(head, size) ^ polygon_mask(tail, size), whole)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(corners(), st.tuples(st.integers(1, 12), st.integers(1, 12)))
def test_polygon_mask_equals_its_loops(points, size):
    for polygon in (points.tolist(), (points * 2).round().tolist()):
        corners_in_halves = [(x / 2, y / 2) for x, y in polygon]  # these meet centres of pixels
        for some in (polygon, corners_in_halves):
            assert torch.equal(polygon_mask(some, size), polygon_mask_loops(some, size))


@pytest.mark.parametrize("teeth", [127, 128, 129, 300])
def test_polygon_mask_of_hundreds_of_edges_in_a_row(teeth):
    zigzag = [(-k / teeth, y) for k in range(teeth) for y in (-5, 5)]  # left of all pixels
    points = [*zigzag, (3, 5), (3, -5)]
    assert torch.equal(polygon_mask(points, (2, 5)), polygon_mask_loops(points, (2, 5)))
    assert polygon_mask(points, (2, 5)).any()


def test_polygon_mask_of_the_whole_picture_and_beyond():
    assert polygon_mask([(0, 0), (5, 0), (5, 3), (0, 3)], (3, 5)).all()
    assert polygon_mask([(-9, -9), (50, -9), (50, 50), (-9, 50)], (3, 5)).all()
    assert not polygon_mask([(6, 0), (9, 0), (9, 3)], (3, 5)).any()


def test_centres_on_left_and_upper_edges_are_inside():
    square_of_centres = [(0.5, 0.5), (2.5, 0.5), (2.5, 2.5), (0.5, 2.5)]
    for points in (square_of_centres, square_of_centres[::-1]):
        assert polygon_mask(points, (3, 3)).int().tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]


def test_polygon_mask_even_odd_leaves_the_heart_of_a_star_empty():
    angles = 2 * np.pi * 2 * np.arange(5) / 5 - np.pi / 2
    star = np.stack([10 + 9 * np.cos(angles), 10 + 9 * np.sin(angles)], axis=1).tolist()
    mask = polygon_mask(star, (20, 20))
    assert not mask[10, 10] and mask[4, 10] and mask[15, 6]


@pytest.mark.parametrize(
    "points, size, message",
    [
        ([(0, 0), (1, 1)], (4, 4), "points: expected 3 corners or more, got 2"),
        ([(0, 0), (1, 1), (float("nan"), 2)], (4, 4), "points: expected two finite numbers"),
        ([(0, 0), (1, 1), (2, 2, 2)], (4, 4), "points: expected two finite numbers"),
        ([(0, 0), (1, 1), (2, 0)], (0, 4), "size: expected"),
    ],
)
def test_polygon_mask_bad_input(points, size, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        polygon_mask(points, size)
