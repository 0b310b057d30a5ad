"""Feature pyramid and the crops from its levels against torchvision's."""

import math
from functools import partial

import pytest
import torch
import torchvision
from torch import nn
from torch.testing import assert_close
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool
from torchvision.ops.poolers import LevelMapper

from course_utils.fast.roi import roi_align, roi_pool
from course_utils.models import backbones
from course_utils.models.fpn import FPN, crop_regions, pyramid_level, smooth_convolution
from course_utils.models.regions import boxes_to_rois
from tests.models.detector_inputs import random_boxes

SEEDS = range(4)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("levels", "whole", "whole_level"), [(4, 224, 2), (3, 28, 1), (1, 50, 0)])
def test_pyramid_level_is_torchvisions(seed, levels, whole, whole_level):
    torch.manual_seed(seed)
    side = torch.exp(torch.rand(300, 2, dtype=torch.float64) * math.log(2000))
    boxes = torch.cat([side * 0, side], dim=1)
    powers = whole * 2.0 ** torch.arange(-3, 4, dtype=torch.float64)
    squares = torch.stack([powers * 0, powers * 0, powers, powers], dim=1)
    boxes = torch.cat([boxes, squares, torch.zeros(1, 4, dtype=torch.float64)])
    mapper = LevelMapper(2, 2 + levels - 1, canonical_scale=whole, canonical_level=2 + whole_level)
    assert torch.equal(pyramid_level(boxes, levels, whole, whole_level), mapper([boxes]))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("strides", [(4,), (4, 8), (2, 4, 8, 16)], ids=str)
def test_crop_regions_crops_each_region_from_torchvisions_level(seed, strides):
    torch.manual_seed(seed)
    features = {
        stride: torch.rand(3, 5, 512 // stride, 384 // stride, dtype=torch.float64)
        for stride in strides
    }
    boxes = [random_boxes(count, (512, 384)) for count in (30, 0, 20)]
    boxes[1] = torch.tensor([[0.0, 0, 384, 512], [9, 9, 20, 20]], dtype=torch.float64)
    rois = boxes_to_rois(boxes)
    size, first = 4, int(math.log2(strides[0]))
    mapper = LevelMapper(first, first + len(strides) - 1)  # 224 pixels belong to stride 16
    level = mapper([rois[:, 1:]])
    assert len(level.unique()) == len(strides)
    expected = torch.stack(
        [
            torchvision.ops.roi_align(
                features[strides[number]], roi[None], size, 1 / strides[number], 2, aligned=True
            )[0]
            for number, roi in zip(level.tolist(), rois)
        ]
    )
    assert_close(crop_regions(features, rois, size), expected)
    assert crop_regions(features, rois[:0], size).shape == (0, 5, size, size)


def test_crop_regions_passes_gradients_to_every_level():
    features = {stride: torch.rand(1, 2, 256 // stride, 256 // stride) for stride in (4, 8)}
    for level in features.values():
        level.requires_grad_()
    rois = torch.tensor([[0, 8.0, 8, 20, 20], [0, 8, 8, 200, 200]])
    crop_regions(features, rois, 4).sum().backward()
    small, large = (level.grad.sum(dim=(0, 1)) for level in features.values())
    assert small[2:5, 2:5].min() > 0 and small[6:].abs().max() == 0
    assert large[1:25, 1:25].max() > 0 and large[26:].abs().max() == 0
    assert_close(small.sum() + large.sum(), torch.tensor(2 * 2 * 16.0))


def test_crop_regions_with_roi_pool():
    feature = torch.rand(2, 3, 16, 16)
    rois = boxes_to_rois([random_boxes(5).float(), random_boxes(4).float()])
    expected = torchvision.ops.roi_pool(feature, rois, 4, 1 / 4)
    assert_close(crop_regions({4: feature}, rois, 4, roi_pool), expected)


def test_crop_is_called_as_it_was_given():
    """A sampling ratio or an alignment other than the default is not lost on the way."""
    feature = torch.rand(1, 3, 16, 16)
    rois = boxes_to_rois([random_boxes(5).float()])
    for options in ({"sampling_ratio": 1, "aligned": False}, {"sampling_ratio": 3}):
        found = crop_regions({4: feature}, rois, 4, partial(roi_align, **options))
        assert_close(found, torchvision.ops.roi_align(feature, rois, 4, 1 / 4, **options))
    default = torchvision.ops.roi_align(feature, rois, 4, 1 / 4, 2, aligned=True)
    assert_close(crop_regions({4: feature}, rois, 4), default)


@pytest.mark.parametrize("size", [(64, 96), (33, 47), (35, 50)], ids=str)
@pytest.mark.parametrize("seed", SEEDS)
def test_fpn_is_torchvisions(seed, size):
    torch.manual_seed(seed)
    backbone = backbones.small((4, 6, 8, 10, 12)).eval()
    neck = FPN(inputs={4: 6, 8: 8, 16: 10, 32: 12}, channels=7).eval()
    theirs = torchvision.ops.FeaturePyramidNetwork([6, 8, 10, 12], 7)
    with torch.no_grad():
        for lateral, smooth, inner, layer in zip(
            neck.lateral, neck.smooth.values(), theirs.inner_blocks, theirs.layer_blocks
        ):
            inner[0].weight.copy_(lateral.weight)
            inner[0].bias.copy_(lateral.bias)
            layer[0].weight.copy_(smooth[0].weight)
            smooth[1].eps = 1e-12  # then batch norm of mean 0 and variance 1 changes nothing
    features = backbone(torch.rand(2, 3, *size))
    expected = theirs({str(4 * 2**k): feature for k, feature in enumerate(features[1:])})
    levels = neck(features)
    assert list(levels) == [4, 8, 16, 32]
    for level, other in zip(levels.values(), expected.values()):
        assert_close(level, other.relu())


def test_fpn_smooths_and_returns_the_levels_it_is_told():
    neck = FPN(inputs={2: 3, 4: 4, 8: 5}, channels=6, kernel_sizes={2: 0, 8: 3}).eval()
    features = [torch.rand(1, 3, 16, 12), torch.rand(1, 4, 8, 6), torch.rand(1, 5, 4, 3)]
    levels = neck([torch.rand(1, 1, 32, 24), *features])  # the finest one is not asked for
    assert {stride: tuple(level.shape) for stride, level in levels.items()} == {
        2: (1, 6, 16, 12),
        8: (1, 6, 4, 3),
    }
    top = neck.lateral[2](features[2])
    up = nn.Upsample(scale_factor=2)
    sums = neck.lateral[0](features[0]) + up(neck.lateral[1](features[1]) + up(top))
    assert_close(levels[2], sums.relu() / (1 + 1e-5) ** 0.5)
    assert not any(isinstance(layer, nn.Conv2d) for layer in neck.smooth["2"])


def test_the_papers_pyramid_is_torchvisions():
    """A convolution and nothing else after each sum, and every second pixel of the coarsest level."""
    inputs, shapes = {4: 3, 8: 5, 16: 6}, ((24, 32), (12, 16), (6, 8))
    ours = FPN(
        inputs=inputs, channels=7, kernel_sizes=dict.fromkeys(inputs, 3), smooth=smooth_convolution,
        subsampled=(32, 64),
    )  # fmt: skip
    theirs = FeaturePyramidNetwork(list(inputs.values()), 7, LastLevelMaxPool())
    for number, smooth in enumerate(ours.smooth.values()):
        ours.lateral[number].load_state_dict(theirs.inner_blocks[number][0].state_dict())
        smooth.load_state_dict(theirs.layer_blocks[number][0].state_dict())
    features = [torch.rand(2, width, *shape) for width, shape in zip(inputs.values(), shapes)]
    expected = theirs(dict(zip("012", features)))
    found = ours(features)
    assert list(found) == [4, 8, 16, 32, 64]
    for mine, level in zip(list(found.values())[:4], expected.values(), strict=True):
        assert_close(mine, level)
    assert torch.equal(found[64], found[32][:, :, ::2, ::2]) and found[64].shape[2:] == (2, 2)
