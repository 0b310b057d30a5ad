"""Slow and Fast R-CNN: the same head on crops of the image and on crops of its features."""

import pytest
import torch
import torchvision
from torch.testing import assert_close

from course_utils.data.collate import flatten_targets
from course_utils.models import backbones
from course_utils.models.heads.box import BoxHead
from course_utils.models.rcnn import FastRCNN, SlowRCNN
from course_utils.models.regions import boxes_to_rois, sample_regions
from tests.models.detector_inputs import only, random_boxes, random_targets

TWO = {"class", "box"}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def tiny(kind, **options):
    backbone = backbones.small((4, 8, 8, 8, 8))
    crop_size = options.get("image_size", 32 * 3) // 32
    head = BoxHead(channels=8, classes=4, crop_size=crop_size, hidden=16)
    return kind(backbone=backbone, box_head=head, **options)


RCNNS = {
    "slow, 32": lambda **options: tiny(SlowRCNN, image_size=32, **options),
    "slow, 64": lambda **options: tiny(SlowRCNN, image_size=64, **options),
    "fast": lambda **options: tiny(FastRCNN, **options),
}


@pytest.mark.parametrize("name", RCNNS)
def test_slow_and_fast_rcnn(name):
    network = RCNNS[name](batch_size_per_image=8)
    images, targets = (
        torch.rand(2, 3, 96, 64),
        only(random_targets([2, 1], (96, 64)), "boxes", "labels"),
    )
    proposals = [random_boxes(count, (96, 64)).float() for count in (9, 5)]
    losses = network(images, proposals, flatten_targets(targets))
    assert set(losses) == TWO and all(loss.isfinite() and loss > 0 for loss in losses.values())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    sum(network(images, proposals, flatten_targets(targets)).values()).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key
    found = network.eval()(images, proposals)
    assert [set(one) for one in found] == [{"boxes", "labels", "scores"}] * 2
    assert all(len(one["boxes"]) for one in found)
    nothing = network(images, [proposals[0][:0]] * 2)
    assert [len(one["boxes"]) for one in nothing] == [0, 0]


@pytest.mark.parametrize(("name", "seen"), [("slow, 32", 14), ("fast", 2)])
def test_how_often_the_backbone_runs(name, seen):
    network = RCNNS[name]().eval()
    calls = []
    network.backbone.register_forward_hook(lambda module, given, _: calls.append(given[0].shape))
    proposals = [random_boxes(count).float() for count in (9, 5)]
    network(torch.rand(2, 3, 64, 64), proposals)
    targets = only(random_targets([2, 1]), "boxes", "labels")
    _, labels, _ = sample_regions(boxes_to_rois(proposals), flatten_targets(targets), 2, 64, 0.25)
    network.train()(torch.rand(2, 3, 64, 64), proposals, flatten_targets(targets))
    learnt = len(labels) if seen == 14 else 2
    assert [shape[0] for shape in calls] == [seen, learnt]
    assert calls[0][2:] == ((32, 32) if name != "fast" else (64, 64))


@pytest.mark.parametrize("name", ["slow, 64", "fast"])
def test_slow_and_fast_crop_what_their_names_say(name):
    images, proposals = torch.rand(2, 3, 64, 96), [random_boxes(3).float(), random_boxes(2).float()]
    rois = boxes_to_rois(proposals)
    network, seen = RCNNS[name]().eval(), []
    network.box_head.register_forward_hook(lambda module, given, _: seen.append(given[0]))
    network(images, proposals)
    if name == "fast":
        features = network.backbone(images)[-1]
        expected = torchvision.ops.roi_align(features, rois, 3, 1 / 32, aligned=True)
    else:
        crops = torchvision.ops.roi_align(images, rois, 64, aligned=True)
        expected = network.backbone(crops)[-1]
    assert_close(seen[0], expected)
