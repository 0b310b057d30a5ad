"""Mask R-CNN as a whole: it learns, and its parts can be replaced."""

import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.testing import assert_close

from course_utils.data.collate import flatten_targets
from course_utils.data.scenes import make_scenes
from course_utils.fast.roi import roi_pool
from course_utils.models import backbones, mask_rcnn
from course_utils.models.fpn import crop_regions
from course_utils.models.heads.mask import MaskHead
from course_utils.models.rcnn import FasterRCNN
from course_utils.models.regions import boxes_to_rois
from course_utils.ops.boxes import box_iou
from course_utils.ops.masks import masks_to_boxes
from tests.models.detector_inputs import losses_of, only, random_boxes, random_targets, targets_for

DETECTION = {"boxes", "labels", "scores", "masks"}
FIVE = {"objectness", "proposal_box", "class", "box", "mask"}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def scene_targets(scenes):
    samples = map(scenes.sample, range(len(scenes.images)))
    return [{key: getattr(one, key) for key in ("boxes", "labels", "masks")} for one in samples]


@pytest.fixture(scope="module")
def by_heart():
    """A network that has seen nothing but two pictures, and the pictures."""
    torch.manual_seed(0)
    scenes = make_scenes([12, 24], size=(64, 64))
    targets = scene_targets(scenes)
    network, steps = mask_rcnn.small(5), 150
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 5e-3 * (1 + math.cos(math.pi * step / steps)) / 2
        loss = sum(losses_of(network, scenes.images, targets).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval(), scenes.images, targets


def test_mask_rcnn_learns_two_pictures_by_heart(by_heart):
    network, images, targets = by_heart
    for found, target in zip(network(images), targets):
        sure = {key: rows[found["scores"] > 0.5] for key, rows in found.items()}
        order, expected = sure["labels"].argsort(), target["labels"].argsort()
        assert sure["labels"][order].tolist() == target["labels"][expected].tolist()
        boxes = box_iou(sure["boxes"][order], target["boxes"][expected]).diagonal()
        masks, truth = sure["masks"][order], target["masks"][expected]
        overlap = (masks & truth).sum((1, 2)) / (masks | truth).sum((1, 2))
        assert boxes.min() > 0.75 and overlap.min() > 0.7


def test_a_prediction_does_not_depend_on_the_rest_of_the_batch(by_heart):
    network, images, _ = by_heart
    others = torch.cat([torch.rand(2, 3, 64, 64), images[:1] / 2])
    alone = network(images[:1])[0]
    assert len(alone["boxes"])
    for batch, place in [
        (torch.cat([images[:1], others]), 0),
        (torch.cat([others, images[:1]]), 3),
    ]:
        together = network(batch)[place]
        assert_close(together, alone, rtol=1e-3, atol=1e-3)


def test_masks_of_one_pixel():
    network = mask_rcnn.small(5)
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, 0, 0] = masks[1, 63, 30] = True
    one = {"boxes": masks_to_boxes(masks), "labels": torch.tensor([1, 4]), "masks": masks}
    losses = losses_of(network, torch.rand(1, 3, 64, 64), [one])
    assert all(loss.isfinite() for loss in losses.values()) and losses["mask"] > 0
    sum(losses.values()).backward()
    targets = MaskHead(channels=1, classes=4).targets(
        one["boxes"], flatten_targets([one]), torch.arange(2)
    )
    assert targets.shape == (2, 28, 28) and targets.mean() > 0.5


def test_regions_can_be_pooled_instead():
    network = mask_rcnn.small(5, crop=roi_pool)
    losses = losses_of(network, torch.rand(2, 3, 64, 64), targets_for("mask_rcnn", (2, 1)))
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert network.backbone.stages[0][1][0].weight.grad.abs().sum() > 0
    aligned = mask_rcnn.small(5).eval()
    aligned.load_state_dict(network.state_dict())
    network.eval()
    features = network.features(torch.rand(1, 3, 64, 64))
    rois = boxes_to_rois([random_boxes(5).float()])
    crops = network.box_head.crops(features, rois, network.crop)
    assert_close(crops, torchvision.ops.roi_pool(features[2], rois, 7, 1 / 2))
    assert not torch.allclose(crops, network.box_head.crops(features, rois, aligned.crop))


def test_class_agnostic_network():
    network = mask_rcnn.small(5, class_agnostic=True)
    losses = losses_of(network, torch.rand(2, 3, 64, 64), targets_for("mask_rcnn", (2, 1)))
    assert set(losses) == FIVE
    assert network.heads["masks"].layers[-1].out_channels == 1
    assert mask_rcnn.small(5).heads["masks"].layers[-1].out_channels == 4
    assert {len(one["masks"]) for one in network.eval()(torch.rand(1, 3, 64, 64))} == {20}


def test_mobilenet_as_backbone():
    network = mask_rcnn.small(5, backbone=backbones.mobilenet_v2())
    losses = losses_of(
        network, torch.rand(2, 3, 64, 80), targets_for("mask_rcnn", (2, 1), (64, 80))
    )
    sum(losses.values()).backward()
    assert set(losses) == FIVE and all(loss.isfinite() for loss in losses.values())
    assert network.backbone.stages[0][1][0].weight.grad.abs().sum() > 0
    found = network.eval()(torch.rand(1, 3, 61, 79))
    assert set(found[0]) == DETECTION


class ColourHead(nn.Module):
    """What is the mean colour of the object?"""

    def __init__(self, channels):
        super().__init__()
        self.colour = nn.Sequential(nn.Flatten(), nn.Linear(channels * 4**2, 3))

    def crops(self, features, rois, crop):
        return crop_regions({2: features[2]}, rois, 4, crop)

    def forward(self, crops):
        return self.colour(crops)

    def targets(self, boxes, objects, matches):
        return objects["colour"][matches]

    def loss(self, answers, labels, targets):
        return {"colour": F.mse_loss(answers, targets, reduction="sum") / max(len(labels), 1)}

    @torch.no_grad()
    def predict(self, answers, boxes, labels, size):
        return answers


def test_another_head_only_needs_a_name():
    whole = mask_rcnn.small(5)
    parts = {key: getattr(whole, key) for key in ("backbone", "neck", "rpn", "box_head")}
    heads = {"masks": whole.heads["masks"], "colour": ColourHead(32)}
    network = FasterRCNN(**parts, heads=heads, batch_size_per_image=24)
    images = torch.rand(2, 3, 64, 64)
    targets = only(random_targets([2, 1]), "boxes", "labels", "masks")
    for image, target in zip(images, targets):
        area = target["masks"].sum((1, 2))[:, None]
        target["colour"] = torch.einsum("chw,nhw->nc", image, target["masks"].float()) / area
    losses = losses_of(network, images, targets)
    assert set(losses) == FIVE | {"colour"}
    losses["colour"].backward()
    assert heads["colour"].colour[1].weight.grad.abs().sum() > 0
    for one in network.eval()(images):
        assert set(one) == DETECTION | {"colour"} and one["colour"].shape == (len(one["boxes"]), 3)
