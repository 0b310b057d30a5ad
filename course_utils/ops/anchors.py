"""Anchors: the fixed boxes at every position of a feature map that region proposals start from."""

import math
from collections.abc import Sequence
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor

from course_utils.core import check_size


def _check_above_zero(name: str, *values: Real) -> None:
    for value in values:
        if not isinstance(value, Real):
            raise TypeError(f"{name}: expected a number, got {value!r}")
        if not 0 < value < math.inf:
            raise ValueError(f"{name}: expected a number above zero, got {value}")


def _check_anchor_shapes(
    stride: int, sizes: Sequence[float], aspect_ratios: Sequence[float]
) -> None:
    _check_above_zero("stride", stride)
    for name, values in (("sizes", sizes), ("aspect_ratios", aspect_ratios)):
        if not isinstance(values, Sequence):
            raise TypeError(f"{name}: expected a list of numbers, got {values!r}")
        if not values:
            raise ValueError(f"{name}: expected at least one number, got none")
        _check_above_zero(name, *values)


def grid_anchors_loops(
    feature_size: tuple[int, int],
    stride: int,
    sizes: Sequence[float],
    aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
) -> Float[Tensor, "n 4"]:
    """`grid_anchors` written out: every position, every aspect ratio, every size."""
    anchors = []
    for row in range(feature_size[0]):
        for column in range(feature_size[1]):
            x, y = (column + 0.5) * stride, (row + 0.5) * stride
            for ratio in aspect_ratios:
                for size in sizes:
                    width, height = size / ratio**0.5, size * ratio**0.5
                    anchors.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    return torch.tensor(anchors).reshape(-1, 4)


def grid_anchors(
    feature_size: tuple[int, int],
    stride: int,
    sizes: Sequence[float],
    aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    *,
    device: torch.device | str | None = None,
) -> Float[Tensor, "n 4"]:
    """The anchors of one feature map: at each position, one box for each aspect ratio and size.

    The position in row i and column j covers a square of `stride` x `stride` pixels of the image; its anchors
    are centred on that square, at ((j + 0.5) stride, (i + 0.5) stride). With size s and aspect ratio r an
    anchor is s / sqrt(r) wide and s sqrt(r) high, so all anchors of one size have the same area.

    Args:
        feature_size: (height, width) of the feature map.
        stride: pixels of the image per position of the feature map.
        sizes: square roots of the anchors' areas, in pixels.
        aspect_ratios: heights over widths.
        device: the device of the result; the CPU when left out.

    Returns:
        `x1, y1, x2, y2` in pixels, n = height * width * ratios * sizes: row by row, then ratio by ratio.

    Source: Ren et al., "Faster R-CNN", NeurIPS 2015, section 3.1.1; torchvision's `AnchorGenerator`, in the
    same order, but that centres anchors on the square's top left corner and rounds their corners to whole
    pixels. D2L's `multibox_prior` has the same centres; its ratios are widths over heights and its sizes
    fractions of the image.

    >>> grid_anchors((1, 2), stride=16, sizes=[8.0], aspect_ratios=[1.0])
    tensor([[ 4.,  4., 12., 12.],
            [20.,  4., 28., 12.]])
    """
    check_size("feature_size", feature_size)
    _check_anchor_shapes(stride, sizes, aspect_ratios)
    rows, columns = (torch.arange(steps, device=device) for steps in feature_size)
    y, x = torch.meshgrid((rows + 0.5) * stride, (columns + 0.5) * stride, indexing="ij")
    centres = torch.stack([x, y], dim=2).reshape(-1, 1, 2)  # [h * w, 1, 2]
    ratio = torch.tensor(aspect_ratios, dtype=torch.float32, device=device)[:, None]  # [r, 1]
    scale = torch.tensor(sizes, dtype=torch.float32, device=device)[None, :]  # [1, s]
    width, height = scale / ratio.sqrt(), scale * ratio.sqrt()  # [r, s] each
    half = torch.stack([width, height], dim=2).reshape(1, -1, 2) / 2  # [1, r * s, 2]
    return torch.cat([centres - half, centres + half], dim=2).reshape(-1, 4)


def pyramid_anchors(
    feature_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    sizes: Sequence[Sequence[float]],
    aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    *,
    device: torch.device | str | None = None,
) -> list[Float[Tensor, "n 4"]]:
    """The anchors of a feature pyramid: small anchors on fine levels, large ones on coarse levels.

    Args:
        feature_sizes: (height, width) of each level.
        strides: pixels of the image per position of each level.
        sizes: the anchor sizes of each level, in pixels.
        aspect_ratios: heights over widths, the same on all levels.
        device: the device of the result; the CPU when left out.

    Returns:
        One tensor of `x1, y1, x2, y2` per level.

    Source: Lin et al., "Feature Pyramid Networks", CVPR 2017, section 4.1.

    >>> [len(level) for level in pyramid_anchors([(4, 4), (2, 2)], [8, 16], [[16.0], [32.0]])]
    [48, 12]
    """
    if not len(feature_sizes) == len(strides) == len(sizes):
        raise ValueError(
            f"feature_sizes, strides, sizes: expected one of each per level, got {len(feature_sizes)}, "
            f"{len(strides)} and {len(sizes)}"
        )
    levels = zip(feature_sizes, strides, sizes, strict=True)
    return [
        grid_anchors(feature_size, stride, level_sizes, aspect_ratios, device=device)
        for feature_size, stride, level_sizes in levels
    ]
