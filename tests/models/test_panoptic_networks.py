"""Panoptic FPN as in the paper, and the panoptic network on a U-Net: their semantic branches and losses."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from course_utils.models import panoptic_fpn, panoptic_unet, unet
from course_utils.models.panoptic_fpn import SemanticBranch
from course_utils.models.panoptic_unet import Levels, LevelScores
from course_utils.training.recipes import load_checkpoint
from tests.models.detector_inputs import losses_of, random_targets

SMALL = {"panoptic_fpn": panoptic_fpn.small, "panoptic_unet": panoptic_unet.small}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("strides", [(1, 8), (2, 8), (4, 8, 16)], ids=str)
def test_semantic_scores_stay_over_their_pixels(strides):
    """At odd sizes too: enlarged by the stride and cut, not squeezed to the image's size."""
    size = (37, 61)
    row, column = torch.meshgrid(*map(torch.arange, size), indexing="ij")
    place = torch.stack([row, column]).float()
    head = LevelScores(channels=dict.fromkeys(strides, 2), classes=2)
    features = {}
    for stride, score in zip(strides, head.score.values()):
        rows, columns = (
            (torch.arange(math.ceil(side / stride)) + 0.5) * stride - 0.5 for side in size
        )
        features[stride] = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None]
        nn.init.eye_(score.weight[:, :, 0, 0].data)
        nn.init.zeros_(score.bias)
    found = head(features, size)[0] / len(strides)
    inside = (
        slice(16, 28),
        slice(16, 45),
    )  # away from the rims, where bilinear repeats the last value
    assert_close(found[:, *inside], place[:, *inside])


def test_levels_of_a_unet():
    backbone = unet.UNetBackbone(width=4, depth=3, convolutions=1)
    assert backbone.channels == (4, 8, 16, 32)
    neck = Levels(inputs=dict(zip((1, 2, 4, 8), backbone.channels)), outputs={1: 4, 4: 6})
    images = torch.rand(2, 3, 30, 41)  # filled up to 32 x 48
    features = backbone.eval()(images)
    assert [tuple(one.shape[1:]) for one in features] == [
        (4, 32, 48),
        (8, 16, 24),
        (16, 8, 12),
        (32, 4, 6),
    ]
    levels = neck.eval()(features)
    assert list(levels) == [1, 4]
    assert_close(levels[1], features[0])
    assert_close(levels[4], neck.layers["4"](features[2]))
    whole = unet.UNet(classes=5, width=4, depth=3, convolutions=1).eval()
    backbone.load_state_dict(whole.backbone.state_dict())
    assert_close(whole(images), whole.score(backbone(images)[0])[..., :30, :41])


def test_a_panoptic_network_starts_from_the_shipped_unet():
    backbone = panoptic_unet.small(9).detector.backbone
    backbone.load_state_dict(load_checkpoint("unet").backbone.state_dict())


@pytest.mark.parametrize("size", [(64, 96), (33, 47), (61, 50)], ids=str)
def test_semantic_branch_is_the_papers_stages(size):
    """Convolution, group norm, ReLU and upsampling by two, until stride 4; written out for one level."""
    branch = SemanticBranch(classes=5, channels=6, width=8, groups=2).eval()
    assert {stride: len(blocks) for stride, blocks in branch.stages.items()} == {
        "4": 1,
        "8": 1,
        "16": 2,
        "32": 3,
    }
    sides = {stride: [math.ceil(side / stride) for side in size] for stride in (4, 8, 16, 32)}
    features = {stride: torch.rand(2, 6, *side) for stride, side in sides.items()}
    total = 0
    for stride, level in features.items():
        for block in branch.stages[str(stride)]:
            convolution, norm, _ = block
            assert isinstance(norm, nn.GroupNorm) and norm.num_groups == 2
            level = F.conv2d(level, convolution.weight, padding=1)
            level = F.relu(F.group_norm(level, 2, norm.weight, norm.bias))
            if stride > 4:
                stride //= 2
                level = F.interpolate(level, scale_factor=2, mode="bilinear")
                level = level[..., : sides[stride][0], : sides[stride][1]]
        total = total + level
    scores = F.interpolate(branch.score(total), scale_factor=4, mode="bilinear")
    found = branch(features, size)
    assert found.shape == (2, 5, *size)
    assert_close(found, scores[..., : size[0], : size[1]])


@pytest.mark.parametrize("name", SMALL)
def test_panoptic_loss_is_cross_entropy_over_all_pixels(name):
    """Of Panoptic FPN's scores the first is "other", the class of all things."""
    images, targets = torch.rand(2, 3, 64, 64), random_targets([2, 1])
    targets[0]["semantic"][:, 10:] = 255
    network = SMALL[name](9)
    loss = losses_of(network, images, targets)["semantic"]
    scores = network.semantic_head(network.detector.features(images), (64, 64))
    labels = torch.stack([target["semantic"] for target in targets])
    if name == "panoptic_fpn":
        assert scores.shape[1] == 5
        labels = torch.where(labels == 255, 255, (labels - 4).clamp(min=0))
    total = F.cross_entropy(scores, labels, ignore_index=255, reduction="sum")
    assert_close(loss, total / labels.numel())


@pytest.mark.parametrize("name", SMALL)
def test_semantic_output_has_the_class_numbers_of_the_data_set(name):
    network, images = SMALL[name](9).eval(), torch.rand(3, 3, 64, 64)
    scores = network.semantic_head(network.detector.features(images), (64, 64))
    numbers = torch.tensor([0, 5, 6, 7, 8] if name == "panoptic_fpn" else list(range(9)))
    assert torch.equal(torch.tensor(network.semantic_classes), numbers)
    detections = network.detector(images)
    for one, other, score in zip(network(images), detections, scores):
        assert torch.equal(one.pop("semantic"), numbers[score.argmax(dim=0)])
        assert_close(one, other)


def test_a_network_answers_for_one_image_as_for_a_batch():
    network, images = panoptic_fpn.small(9).eval(), torch.rand(3, 3, 64, 64)
    alone, together = network(images[1:2])[0], network(images)[1]
    assert_close(alone, together, rtol=1e-3, atol=1e-3)
