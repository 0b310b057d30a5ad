"""Boxes as two corners (CornerNet): heat maps of the corners, and the corners paired to boxes again."""

import itertools
import math
from numbers import Real as Number
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, Real
from torch import Tensor

from course_utils.core import (
    check_boxes,
    check_floating,
    check_fraction,
    check_labels,
    check_rows,
    check_same_device,
    check_shape,
    check_size,
    check_whole,
)
from course_utils.ops.boxes import _ratio, _upcast


class CornerTargets(NamedTuple):
    """What CornerNet should predict for one image; the first axis is top left, bottom right."""

    heatmaps: Float[Tensor, "2 classes h w"]
    cells: Int64[Tensor, "2 n 2"]
    offsets: Float[Tensor, "2 n 2"]


class ScoredCorners(NamedTuple):
    """Corners of one kind that were found in one image: `x, y` in pixels, 1 or above, any number, 0 to 1."""

    points: Float[Tensor, "n 2"]
    labels: Int64[Tensor, " n"]
    embeddings: Float[Tensor, " n"]
    scores: Float[Tensor, " n"]


class PairedCorners(NamedTuple):
    """Boxes in one image, by decreasing score."""

    boxes: Float[Tensor, "k 4"]
    labels: Int64[Tensor, " k"]
    scores: Float[Tensor, " k"]


# --- Targets


def _check_overlap(min_overlap: float) -> None:
    check_fraction("min_overlap", min_overlap)
    if min_overlap == 0:
        raise ValueError(f"min_overlap: expected an IoU above 0, got {min_overlap}")


def _check_sides(height: Tensor, width: Tensor, min_overlap: float) -> None:
    check_shape("height", height, ...)
    check_floating("height", height)
    check_shape("width", width, *height.shape)
    check_floating("width", width)
    check_same_device(height=height, width=width)
    for name, side in (("height", height), ("width", width)):
        check_rows(name, side, (side >= 0) & side.isfinite(), "finite numbers, 0 or above")
    _check_overlap(min_overlap)


def corner_radius_loops(
    height: Float[Tensor, "*n"], width: Float[Tensor, "*n"], min_overlap: float = 0.3
) -> Float[Tensor, "*n"]:
    """`corner_radius` written out: move the corners of one box, and halve the interval again and again."""
    radii = []
    for h, w in zip(height.flatten().tolist(), width.flatten().tolist()):
        low, high = 0.0, min(h, w) / 2  # moved inwards any further, the box is gone
        for _ in range(60 if h * w > 0 else 0):
            r = (low + high) / 2
            shared = (h - r) * (w - r)
            overlaps = (
                shared / (2 * h * w - shared),  # both corners moved the same way
                (h - 2 * r) * (w - 2 * r) / (h * w),  # both inwards
                h * w / ((h + 2 * r) * (w + 2 * r)),  # both outwards
            )
            low, high = (r, high) if min(overlaps) >= min_overlap else (low, r)
        radii.append(low)
    return _upcast(height).new_tensor(radii).reshape(height.shape)


def corner_radius(
    height: Float[Tensor, "*n"], width: Float[Tensor, "*n"], min_overlap: float = 0.3
) -> Float[Tensor, "*n"]:
    """How far the corners of a box may be off, along x and along y, for it to keep its IoU.

    With both corners off by r, the box has moved, shrunk or grown. Its IoU with the true box, h x w, is then

        (h - r)(w - r) / (2 h w - (h - r)(w - r))    moved: both corners the same way
        (h - 2 r)(w - 2 r) / (h w)                   shrunk: both inwards
        h w / ((h + 2 r)(w + 2 r))                   grown: both outwards

    Each is `min_overlap` for one r, the root of a quadratic, and the smallest of the three counts. It always
    is the second: shrinking takes 2 r off each side of the intersection, moving only r, and growing nothing.

    Args:
        height: heights of boxes, in any unit.
        width: their widths.
        min_overlap: the IoU to keep, above 0.

    Returns:
        The radii in the same unit, not rounded (CornerNet rounds them down); 0 for a box without area.

    Source: Law & Deng, "CornerNet", ECCV 2018, section 3.2, and its code, which takes the three cases.

    >>> corner_radius(torch.tensor([10.0, 10.0]), torch.tensor([10.0, 40.0]))  # 3.21, 2.26 and 4.13
    tensor([2.2614, 3.2129])
    """
    _check_sides(height, width, min_overlap)
    height, width = _upcast(height), _upcast(width)
    sides, area = height + width, (1 - min_overlap) * height * width
    # Each is the root of a r^2 - b r + c = 0 nearer to 0, as 2 c / (b + sqrt(b^2 - 4 a c)): nothing cancels.
    lost = 2 * area / (1 + min_overlap)
    moved = _ratio(lost, sides + (sides**2 - 2 * lost).clamp(min=0).sqrt())
    shrunk = _ratio(area, sides + (sides**2 - 4 * area).clamp(min=0).sqrt())
    sides = min_overlap * sides
    grown = _ratio(area, sides + (sides**2 + 4 * min_overlap * area).sqrt())
    return torch.minimum(torch.minimum(moved, shrunk), grown)


def _check_targets(
    boxes: Tensor,
    labels: Tensor,
    classes: int,
    stride: int,
    size: tuple[int, int],
    min_overlap: float,
) -> None:
    check_boxes("boxes", boxes)
    check_labels("labels", labels)
    check_shape("labels", labels, len(boxes))
    check_same_device(boxes=boxes, labels=labels)
    check_whole("classes", classes, 1)
    check_whole("stride", stride, 1)
    check_size("size", size)
    _check_overlap(min_overlap)
    good = (labels >= 1) & (labels <= classes)
    check_rows("labels", labels, good, f"classes from 1 to {classes}")
    height, width = (stride * cells for cells in size)
    x, y = _upcast(boxes)[:, 0::2], _upcast(boxes)[:, 1::2]
    inside = ((x >= 0) & (x <= width) & (y >= 0) & (y <= height)).all(dim=1)
    check_rows("boxes", boxes, inside, f"corners inside the {height} x {width} image")


def _radii_in_cells(boxes: Tensor, min_overlap: float) -> Tensor:
    """The radius of each box, in whole cells: CornerNet rounds the sides up, and the radius down."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).ceil().unbind(dim=1)
    return corner_radius(height, width, min_overlap).floor()


def corner_heatmaps_loops(
    boxes: Real[Tensor, "n 4"],
    labels: Int64[Tensor, " n"],
    classes: int,
    stride: int,
    size: tuple[int, int],
    min_overlap: float = 0.3,
) -> CornerTargets:
    """`corner_heatmaps` written out: for each corner of each box, every cell within the radius."""
    boxes = _upcast(boxes) / stride
    heatmaps = boxes.new_zeros(2, classes, *size)
    offsets = boxes.new_zeros(2, len(boxes), 2)
    cells = torch.zeros_like(offsets, dtype=torch.int64)
    radii = _radii_in_cells(boxes, min_overlap).int().tolist()
    for corner, (n, radius) in itertools.product(range(2), enumerate(radii)):
        heatmap = heatmaps[corner, labels[n] - 1]
        x, y = boxes[n, 2 * corner : 2 * corner + 2].tolist()
        column, row = min(int(x), size[1] - 1), min(int(y), size[0] - 1)
        cells[corner, n] = torch.tensor([column, row])
        offsets[corner, n] = torch.tensor([x - column, y - row])
        sigma = (2 * radius + 1) / 6
        for i in range(max(row - radius, 0), min(row + radius + 1, size[0])):
            for j in range(max(column - radius, 0), min(column + radius + 1, size[1])):
                bump = math.exp(-((i - row) ** 2 + (j - column) ** 2) / (2 * sigma**2))
                heatmap[i, j] = max(bump, heatmap[i, j].item())
    return CornerTargets(heatmaps, cells, offsets)


def _bumps(centres: Tensor, radii: Tensor, cells: int) -> Tensor:
    """A Gaussian around the centre of each row, along one axis, cut off beyond its radius; [2, n, cells]."""
    distance = torch.arange(cells, device=centres.device) - centres[..., None]
    radius = radii[:, None]  # [n, 1]
    sigma = (2 * radius + 1) / 6
    bumps = torch.exp(-(distance**2) / (2 * sigma**2))
    return torch.where(distance.abs() <= radius, bumps, 0)


def corner_heatmaps(
    boxes: Real[Tensor, "n 4"],
    labels: Int64[Tensor, " n"],
    classes: int,
    stride: int,
    size: tuple[int, int],
    min_overlap: float = 0.3,
) -> CornerTargets:
    """The targets of one image: where the top left and the bottom right corners of each class are.

    A heat map is 1 in the cell of each corner. Cells beside it would give nearly the same box, so they are
    to be punished less: around each corner is a Gaussian bump whose sigma is a sixth of its diameter,
    (2 r + 1) / 6, cut off beyond the radius r of `corner_radius`. Where bumps overlap, the larger one counts.

    A cell is `stride` pixels wide; its number is rounded down, and the offset is what was lost by that:
    corner = (cell + offset) stride.

    Args:
        boxes: `x1, y1, x2, y2` in pixels, inside the image.
        labels: their classes, from 1 to `classes`; background, 0, has no corners.
        classes: number of classes, without background: that of label 1 has the first heat map.
        stride: pixels of the image per cell of the heat maps.
        size: (height, width) of the heat maps in cells.
        min_overlap: as in `corner_radius`.

    Returns:
        heatmaps, from 0 to 1, and for each box the cells (column, row) of its corners and their offsets
        (x, y), from 0 to below 1. Corners on the right and lower border of the image belong to the last
        cells, with offset 1.

    Source: Law & Deng, "CornerNet", ECCV 2018, section 3.2, and its code.

    >>> targets = corner_heatmaps(
    ...     torch.tensor([[5.0, 2.0, 31.0, 30.0]]), torch.tensor([1]), 1, stride=4, size=(8, 8)
    ... )
    >>> targets.cells.tolist(), targets.offsets.tolist()
    ([[[1, 0]], [[7, 7]]], [[[0.25, 0.5]], [[0.75, 0.5]]])
    >>> targets.heatmaps[0, 0, :2, :3]
    tensor([[0.1353, 1.0000, 0.1353],
            [0.0183, 0.1353, 0.0183]])
    """
    _check_targets(boxes, labels, classes, stride, size, min_overlap)
    boxes = _upcast(boxes) / stride
    radii = _radii_in_cells(boxes, min_overlap)  # [n]
    corners = boxes.unflatten(1, (2, 2)).movedim(1, 0)  # [2, n, 2]: top left, then bottom right
    last = corners.new_tensor([size[1] - 1, size[0] - 1])
    cells = torch.minimum(corners.floor(), last)
    columns = _bumps(cells[..., 0], radii, size[1])  # [2, n, w]
    rows = _bumps(cells[..., 1], radii, size[0])
    bumps = rows[..., :, None] * columns[..., None, :]  # [2, n, h, w]
    heatmaps = boxes.new_zeros(2, classes, *size)
    channels = (labels - 1)[None, :, None, None].expand_as(bumps)
    heatmaps = heatmaps.scatter_reduce(1, channels, bumps, "amax")  # the largest of each class
    return CornerTargets(heatmaps, cells.long(), corners - cells)


# --- From corners to boxes


def _check_corners(name: str, corners: ScoredCorners) -> None:
    if not isinstance(corners, ScoredCorners):
        raise TypeError(f"{name}: expected ScoredCorners, got {type(corners).__name__}")
    check_shape(f"{name}.points", corners.points, "n", 2)
    check_floating(f"{name}.points", corners.points)
    check_labels(f"{name}.labels", corners.labels)
    for field in ("labels", "embeddings", "scores"):
        check_shape(f"{name}.{field}", getattr(corners, field), len(corners.points))
    for field in ("embeddings", "scores"):
        numbers = getattr(corners, field)
        check_floating(f"{name}.{field}", numbers)
        check_rows(f"{name}.{field}", numbers, ~numbers.isnan(), "numbers")
    check_same_device(**{f"{name}.{key}": value for key, value in corners._asdict().items()})


def _check_pairs(
    top_left: ScoredCorners,
    bottom_right: ScoredCorners,
    embedding_threshold: float,
    max_detections: int,
) -> None:
    _check_corners("top_left", top_left)
    _check_corners("bottom_right", bottom_right)
    check_same_device(top_left=top_left.points, bottom_right=bottom_right.points)
    words = f"embedding_threshold: expected a number of at least 0, got {embedding_threshold!r}"
    if not isinstance(embedding_threshold, Number):
        raise TypeError(words)
    if not embedding_threshold >= 0:
        raise ValueError(words)
    check_whole("max_detections", max_detections, 0)


def pair_corners_loops(
    top_left: ScoredCorners,
    bottom_right: ScoredCorners,
    embedding_threshold: float = 0.5,
    max_detections: int = 100,
) -> PairedCorners:
    """`pair_corners` written out: try every top left corner with every bottom right one."""
    found = []
    for (x1, y1), label1, e1, score1 in zip(*(field.tolist() for field in top_left)):
        for (x2, y2), label2, e2, score2 in zip(*(field.tolist() for field in bottom_right)):
            below_and_right = x1 < x2 and y1 < y2
            if label1 == label2 and abs(e1 - e2) <= embedding_threshold and below_and_right:
                found.append(([x1, y1, x2, y2], label1, (score1 + score2) / 2))
    found = sorted(found, key=lambda pair: -pair[2])[:max_detections]  # equal scores stay in order
    boxes, labels, scores = zip(*found) if found else ([], [], [])
    return PairedCorners(
        top_left.points.new_tensor(boxes).reshape(-1, 4),
        top_left.labels.new_tensor(labels),
        top_left.scores.new_tensor(scores),
    )


def pair_corners(
    top_left: ScoredCorners,
    bottom_right: ScoredCorners,
    embedding_threshold: float = 0.5,
    max_detections: int = 100,
) -> PairedCorners:
    """Boxes from corners: each top left corner with each bottom right corner that fits.

    Two corners fit when they are of one class, their embeddings differ by no more than the threshold, and
    the one really is above and to the left of the other. A corner may be in several boxes.

    Args:
        top_left: the top left corners of one image.
        bottom_right: its bottom right corners.
        embedding_threshold: largest difference of two embeddings; infinity leaves them out of account.
        max_detections: the most boxes to return.

    Returns:
        The boxes, `x1, y1, x2, y2` in pixels, with their labels and scores, the mean of both corners' scores,
        highest first; of equal scores, the first top left corner, then the first bottom right one.

    Source: Law & Deng, "CornerNet", ECCV 2018, sections 3.3 and 4.2.

    >>> corners = torch.tensor([[4.0, 2.0], [20.0, 2.0]]), torch.tensor([[12.0, 9.0], [30.0, 9.0]])
    >>> labels, embeddings = torch.tensor([1, 1]), torch.tensor([0.1, 2.0])
    >>> top_left = ScoredCorners(corners[0], labels, embeddings, torch.tensor([0.5, 1.0]))
    >>> bottom_right = ScoredCorners(corners[1], labels, embeddings, torch.tensor([0.25, 0.5]))
    >>> pair_corners(top_left, bottom_right).boxes
    tensor([[20.,  2., 30.,  9.],
            [ 4.,  2., 12.,  9.]])
    """
    _check_pairs(top_left, bottom_right, embedding_threshold, max_detections)
    fits = top_left.labels[:, None] == bottom_right.labels  # [n, m]
    difference = top_left.embeddings[:, None] - bottom_right.embeddings
    fits = fits & (difference.abs() <= embedding_threshold)
    fits = fits & (top_left.points[:, None] < bottom_right.points).all(dim=2)
    first, second = fits.nonzero(as_tuple=True)
    scores = (top_left.scores[first] + bottom_right.scores[second]) / 2
    best = scores.argsort(descending=True, stable=True)[:max_detections]
    first, second = first[best], second[best]
    boxes = torch.cat([top_left.points[first], bottom_right.points[second]], dim=1)
    return PairedCorners(boxes, top_left.labels[first], scores[best])
