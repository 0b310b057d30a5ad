"""What holds for every detector with masks: any size, any number of objects, and no loop over objects."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from course_utils.models import mask_rcnn, panoptic_fpn, panoptic_unet
from course_utils.ops.boxes import clip_boxes_to_image
from tests.models.detector_inputs import targets_for

DETECTION = {"boxes", "labels", "scores", "masks"}
FIVE = {"objectness", "proposal_box", "class", "box", "mask"}
SMALL = {
    "mask_rcnn": lambda: mask_rcnn.small(5),
    "panoptic_fpn": lambda: panoptic_fpn.small(9),
    "panoptic_unet": lambda: panoptic_unet.small(9),
}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(64, 64), (48, 80), (33, 47), (61, 37)], ids=str)
def test_losses_and_detections_at_any_size(name, size):
    network = SMALL[name]()
    losses = network(torch.rand(2, 3, *size), targets_for(name, (2, 1), size))
    assert set(losses) == (FIVE if name == "mask_rcnn" else FIVE | {"semantic"})
    assert all(loss.shape == () and loss.isfinite() and loss > 0 for loss in losses.values())
    network.eval()
    (network.detector if name != "mask_rcnn" else network).box_head.score_threshold = 0.1
    found = network(torch.rand(3, 3, *size))
    assert len(found) == 3
    for one in found:
        n = len(one["boxes"])
        assert 0 < n <= 20 and set(one) - {"semantic"} == DETECTION
        types = {key: (tuple(value.shape), value.dtype) for key, value in one.items()}
        expected = {
            "boxes": ((n, 4), torch.float32),
            "labels": ((n,), torch.int64),
            "scores": ((n,), torch.float32),
            "masks": ((n, *size), torch.bool),
            "semantic": (size, torch.int64),
        }
        assert types == {key: expected[key] for key in types}
        assert ("semantic" in one) == (name != "mask_rcnn")
        assert not any(value.requires_grad for value in one.values())
        assert one["labels"].min() >= 1 and one["labels"].max() <= 4
        assert torch.equal(one["boxes"], clip_boxes_to_image(one["boxes"], size))
        assert one["scores"].min() > 0.1 and one["scores"].max() <= 1


@pytest.mark.parametrize("name", SMALL)
def test_every_weight_gets_a_gradient(name):
    network = SMALL[name]()
    with torch.no_grad():  # the last layers begin near zero: let them be of any size
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    targets = targets_for(name, (4, 3))
    for target in targets:
        target["labels"] = torch.arange(len(target["labels"])) % 4 + 1
    sum(network(torch.rand(2, 3, 64, 64), targets).values()).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("counts", [(0, 3), (0, 0), (2, 0, 0), (0,)], ids=str)
def test_images_without_objects(name, counts):
    network = SMALL[name]()
    losses = network(torch.rand(len(counts), 3, 64, 64), targets_for(name, counts))
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    for parameter in network.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()
    objects = sum(counts) > 0
    assert all((losses[key] > 0) == objects for key in ("proposal_box", "box", "mask"))
    assert losses["class"] > 0 and losses["objectness"] > 0


@pytest.mark.parametrize("name", SMALL)
def test_no_detections(name):
    network = SMALL[name]().eval()
    (network.detector if name != "mask_rcnn" else network).box_head.score_threshold = 1.0
    for one in network(torch.rand(2, 3, 48, 40)):
        assert one["boxes"].shape == (0, 4) and one["masks"].shape == (0, 48, 40)
        assert one["labels"].shape == one["scores"].shape == (0,)
        assert one["labels"].dtype == torch.int64 and one["masks"].dtype == torch.bool


class CountCalls(TorchDispatchMode):
    """How often each operator of torch is called."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[str(func)] += 1
        return func(*args, **(kwargs or {}))


def calls_of_a_step(network, images, targets):
    torch.manual_seed(0)
    with CountCalls() as count:
        network(images, targets)
    return count.calls


def test_a_step_has_as_many_calls_for_many_objects_as_for_few(as_student):
    network = mask_rcnn.small(5)
    images, targets = torch.rand(1, 3, 64, 64), targets_for("mask_rcnn", (12,))
    many = calls_of_a_step(network, images, targets)
    few = calls_of_a_step(network, images, [{k: rows[:1] for k, rows in targets[0].items()}])
    assert abs(many.total() - few.total()) < 11, (many - few, few - many)
