"""course_utils.ops.anchors: loops = vectorised = torchvision's AnchorGenerator = D2L's multibox_prior."""

import pytest
import torch
from d2l import torch as d2l
from torch.testing import assert_close
from torchvision.models.detection.anchor_utils import AnchorGenerator

from course_utils.ops.anchors import grid_anchors, grid_anchors_loops, pyramid_anchors
from course_utils.ops.boxes import box_area, box_convert


@pytest.mark.parametrize("feature_size", [(1, 1), (1, 5), (4, 1), (3, 7)])
@pytest.mark.parametrize("stride", [1, 4, 16])
@pytest.mark.parametrize(
    ("sizes", "aspect_ratios"),
    [
        ([8.0], [1.0]),
        ([8.0, 20.5], [0.5, 1.0, 2.0]),
        ([1000.0], [0.1, 10.0]),
        ([0.25, 3.0, 7.0], [1.0]),
    ],
)
def test_grid_equals_loops(device, feature_size, stride, sizes, aspect_ratios):
    anchors = grid_anchors(feature_size, stride, sizes, aspect_ratios, device=device)
    assert anchors.device.type == device
    assert anchors.dtype == torch.float32
    assert_close(anchors.cpu(), grid_anchors_loops(feature_size, stride, sizes, aspect_ratios))


def test_the_usual_aspect_ratios():
    assert_close(grid_anchors((2, 3), 8, [16.0]), grid_anchors((2, 3), 8, [16.0], (0.5, 1.0, 2.0)))
    assert_close(grid_anchors_loops((2, 3), 8, [16.0]), grid_anchors((2, 3), 8, [16.0]))


def test_grid_by_hand(device):
    # row 0 first; then ratio by ratio (height over width); then size by size
    anchors = grid_anchors((2, 1), 10, [4.0, 8.0], [1.0, 4.0], device=device)
    expected = [
        [3.0, 3.0, 7.0, 7.0],
        [1.0, 1.0, 9.0, 9.0],
        [4.0, 1.0, 6.0, 9.0],
        [3.0, -3.0, 7.0, 13.0],
        [3.0, 13.0, 7.0, 17.0],
        [1.0, 11.0, 9.0, 19.0],
        [4.0, 11.0, 6.0, 19.0],
        [3.0, 7.0, 7.0, 23.0],
    ]
    assert anchors.tolist() == expected


def test_area_and_shape_are_what_was_asked():
    anchors = grid_anchors((2, 2), 16, [32.0], [0.25, 1.0, 3.0])
    assert_close(box_area(anchors), torch.full((12,), 32.0**2))
    width, height = box_convert(anchors, "xyxy", "cxcywh")[:, 2:].T
    assert_close(height / width, torch.tensor([0.25, 1.0, 3.0]).repeat(4))


def grid_with_torchvision(feature_size, stride, sizes, aspect_ratios):
    generator = AnchorGenerator((tuple(sizes),), (tuple(aspect_ratios),))
    steps = torch.tensor(stride), torch.tensor(stride)
    return generator.grid_anchors([feature_size], [steps])[0]


@pytest.mark.parametrize("feature_size", [(1, 1), (3, 5), (5, 3)])
@pytest.mark.parametrize("stride", [4, 16])
def test_grid_equals_torchvision_moved_by_half_a_stride(feature_size, stride):
    # ratios with whole square roots and sizes that are multiples of 8: nothing for torchvision to round
    sizes, aspect_ratios = [8.0, 32.0, 64.0], [0.25, 1.0, 4.0]
    theirs = grid_with_torchvision(feature_size, stride, sizes, aspect_ratios)
    assert torch.equal(
        grid_anchors(feature_size, stride, sizes, aspect_ratios), theirs + stride / 2
    )


def test_torchvision_rounds_anchors_to_whole_pixels_and_we_do_not():
    ours = grid_anchors((1, 1), 4, [10.0], [2.0])
    theirs = grid_with_torchvision((1, 1), 4, [10.0], [2.0]) + 2
    assert torch.equal(theirs, theirs.round())
    assert_close(theirs, ours, rtol=0, atol=0.5)
    assert not torch.equal(ours, ours.round())


@pytest.mark.parametrize("feature_size", [(4, 4), (3, 6), (6, 3)])
def test_grid_equals_d2l(feature_size):
    # D2L's boxes are parts of the image, its sizes parts of the image's height, its ratios width over height
    (rows, columns), stride = feature_size, 8
    height, width = rows * stride, columns * stride
    theirs = d2l.multibox_prior(
        torch.zeros(1, 3, rows, columns), sizes=[0.5], ratios=[1.0, 2.0, 0.5]
    )[0]
    ours = grid_anchors(feature_size, stride, [0.5 * height], [1.0, 0.5, 2.0])
    assert_close(ours, theirs * torch.tensor([width, height, width, height]), rtol=0, atol=1e-4)


def test_pyramid_is_one_grid_a_level(device):
    levels = pyramid_anchors(
        [(4, 6), (2, 3)], [8, 16], [[16.0], [32.0, 40.0]], [1.0, 2.0], device=device
    )
    assert [level.device.type for level in levels] == [device, device]
    assert torch.equal(levels[0], grid_anchors((4, 6), 8, [16.0], [1.0, 2.0], device=device))
    assert torch.equal(levels[1], grid_anchors((2, 3), 16, [32.0, 40.0], [1.0, 2.0], device=device))


def test_pyramid_equals_torchvision():
    generator = AnchorGenerator(((16,), (32,)), ((0.25, 1.0, 4.0),) * 2)
    strides = [(torch.tensor(stride), torch.tensor(stride)) for stride in (8, 16)]
    theirs = generator.grid_anchors([(4, 6), (2, 3)], strides)
    ours = pyramid_anchors([(4, 6), (2, 3)], [8, 16], [[16.0], [32.0]], [0.25, 1.0, 4.0])
    assert torch.equal(ours[0], theirs[0] + 4)
    assert torch.equal(ours[1], theirs[1] + 8)


def test_pyramid_without_levels():
    assert pyramid_anchors([], [], []) == []
