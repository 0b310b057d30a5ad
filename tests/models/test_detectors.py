"""What holds for every detector with masks: any size, any number of objects, and no loop over objects."""

from collections import Counter

import pytest
import torch
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from course_utils.data.collate import flatten_targets
from course_utils.models import mask_rcnn, panoptic_fpn, panoptic_unet
from course_utils.ops.boxes import clip_boxes_to_image
from tests.models.detector_inputs import losses_of, only, targets_for

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
    losses = losses_of(network, torch.rand(2, 3, *size), targets_for(name, (2, 1), size))
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
    sum(losses_of(network, torch.rand(2, 3, 64, 64), targets).values()).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("counts", [(0, 3), (0, 0), (2, 0, 0), (0,)], ids=str)
def test_images_without_objects(name, counts):
    network = SMALL[name]()
    losses = losses_of(network, torch.rand(len(counts), 3, 64, 64), targets_for(name, counts))
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
        losses_of(network, images, targets)
    return count.calls


def test_a_step_has_as_many_calls_for_many_objects_as_for_few(as_student):
    network = mask_rcnn.small(5)
    images, targets = torch.rand(1, 3, 64, 64), targets_for("mask_rcnn", (12,))
    many = calls_of_a_step(network, images, targets)
    few = calls_of_a_step(network, images, [{k: rows[:1] for k, rows in targets[0].items()}])
    assert abs(many.total() - few.total()) < 11, (many - few, few - many)


# --- images of different sizes in one batch

SIZES = [(64, 96), (48, 40), (64, 96), (50, 70)]


def padded():
    """Images of different sizes, padded with noise: nothing may depend on the padding."""
    torch.manual_seed(1)
    images = [torch.rand(3, *size) for size in SIZES]
    batch = torch.rand(len(SIZES), 3, 64, 96)
    for image, row in zip(images, batch):
        row[:, : image.shape[1], : image.shape[2]] = image
    return images, batch


@pytest.mark.parametrize("name", SMALL)
def test_an_image_alone_and_padded_in_a_batch_has_the_same_detections(name):
    network, (images, batch) = SMALL[name]().eval(), padded()
    together = network(batch, sizes=torch.tensor(SIZES))
    for image, size, found in zip(images, SIZES, together, strict=True):
        (alone,) = network(image[None])
        assert found.keys() == alone.keys()
        for key, rows in alone.items():
            assert_close(found[key], rows, rtol=1e-4, atol=1e-4)
        assert found["masks"].shape[1:] == size
        assert (found["boxes"] <= torch.tensor([size[1], size[0]]).repeat(2)).all()


def test_proposals_and_anchors_stay_inside_their_own_image():
    network = SMALL["mask_rcnn"]()
    _, batch = padded()
    sizes = torch.tensor(SIZES)
    output = network.rpn(network.features(batch))
    rois, _ = network.rpn.predict(output, sizes)
    limit = sizes.flip(1).repeat(1, 2)[rois[:, 0].long()]
    assert (rois[:, 1:] >= 0).all() and (rois[:, 1:] <= limit).all()
    objects = flatten_targets(targets_for("mask_rcnn", (2, 1, 0, 2), (48, 40)))
    labels, _ = network.rpn.targets(output.anchors, objects, 4, sizes)
    whole, _ = network.rpn.targets(output.anchors, objects, 4)
    centre = (output.anchors[:, :2] + output.anchors[:, 2:]) / 2
    for own, same, (height, width) in zip(labels, whole, SIZES):
        inside = (centre[:, 0] < width) & (centre[:, 1] < height)
        assert torch.equal(own[inside], same[inside])
        assert (own[~inside] == -1).all() and (same[~inside] >= -1).all()
    assert (labels[1] == -1).sum() > (labels[0] == -1).sum()


@pytest.mark.parametrize("name", SMALL)
def test_a_batch_of_different_sizes_trains(name):
    network, (_, batch) = SMALL[name](), padded()
    targets = targets_for(name, (2, 1, 0, 2), (48, 40))
    objects = flatten_targets(only(targets, "boxes", "labels", "masks"))
    objects["masks"] = torch.nn.functional.pad(objects["masks"], (0, 56, 0, 16))
    given = {} if name == "mask_rcnn" else {"semantic": torch.full((4, 64, 96), 255)}
    losses = network(batch, objects, torch.tensor(SIZES), **given)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
