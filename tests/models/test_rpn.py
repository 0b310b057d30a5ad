"""The region proposal network against torchvision's: targets, losses and proposals."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from torchvision.models.detection import _utils
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers

from course_utils.data.collate import flatten_targets
from course_utils.models.rpn import RPN, RPNOutput
from course_utils.ops.anchors import pyramid_anchors
from course_utils.ops.boxes import box_iou
from tests.models.detector_inputs import random_boxes
from tools.bench_memory import peak_bytes

SEEDS = range(4)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def theirs_rpn(rpn):
    """torchvision's network with the same settings, for its methods."""
    pre_nms, post_nms = (
        dict.fromkeys(("training", "testing"), n) for n in (rpn.pre_nms_top_n, rpn.post_nms_top_n)
    )
    network = RegionProposalNetwork(
        nn.Identity(),
        nn.Identity(),
        0.7,
        0.3,
        rpn.batch_size_per_image,
        0.5,
        pre_nms,
        post_nms,
        rpn.nms_threshold,
    )
    network.min_size = 0.0
    return network


def anchors_of(strides, size=(64, 64)):
    shapes = [(size[0] // stride, size[1] // stride) for stride in strides]
    sizes = [(6.0 * stride,) for stride in strides]
    return [level.double() for level in pyramid_anchors(shapes, strides, sizes)]


def random_output(images, strides, size=(64, 64)):
    levels = anchors_of(strides, size)
    anchors = torch.cat(levels)
    return RPNOutput(
        anchors,
        2 * torch.randn(images, len(anchors), dtype=torch.float64),
        0.3 * torch.randn(images, len(anchors), 4, dtype=torch.float64),
        tuple(map(len, levels)),
    )


def test_rpn_shares_its_layers_between_levels():
    rpn = RPN(
        channels=4, strides=(4, 8), sizes=((8.0, 12.0), (20.0, 30.0)), aspect_ratios=(0.5, 2.0)
    ).eval()
    features = {2: torch.rand(2, 4, 32, 20), 4: torch.rand(2, 4, 16, 10), 8: torch.rand(2, 4, 8, 5)}
    output = rpn(features)
    hidden = [rpn.hidden(features[stride]) for stride in (4, 8)]
    objectness, deltas = concat_box_prediction_layers(
        [rpn.objectness(level) for level in hidden], [rpn.deltas(level) for level in hidden]
    )
    assert_close(output.objectness.flatten(), objectness.flatten())
    assert_close(output.deltas.flatten(0, 1), deltas)
    assert output.levels == (16 * 10 * 4, 8 * 5 * 4) and len(output.anchors) == 800
    # The anchors of row 3 and column 7 of the first level have that position as their centre.
    place = (3 * 10 + 7) * 4
    corners = output.anchors[place : place + 4]
    assert_close((corners[:, :2] + corners[:, 2:]) / 2, torch.tensor([[30.0, 14.0]]).expand(4, 2))


@pytest.mark.parametrize("strides", [(8,), (8, 16)], ids=str)
@pytest.mark.parametrize("seed", range(6))
def test_rpn_targets_are_torchvisions(seed, strides):
    torch.manual_seed(seed)
    anchors = torch.cat(anchors_of(strides))
    rpn = RPN(channels=4, strides=strides, sizes=((48.0,),) * len(strides))
    targets = [
        {"boxes": random_boxes(n, least=20), "labels": torch.full((n,), 3)} for n in (3, 0, 1, 4)
    ]
    labels, deltas = rpn.targets(anchors, flatten_targets(targets), 4)
    theirs = theirs_rpn(rpn)
    expected, matched = theirs.assign_targets_to_anchors([anchors] * 4, targets)
    assert torch.equal(labels.double(), torch.stack(expected).double())
    assert {-1, 0, 1} == set(labels.flatten().tolist())
    positive = labels == 1
    codes = theirs.box_coder.encode_single(
        torch.cat(matched)[positive.flatten()], anchors.repeat(4, 1)[positive.flatten()]
    )
    assert_close(deltas[positive], codes)
    assert deltas[~positive].abs().max() == 0


@pytest.mark.parametrize("strides", [(4,), (4, 8), (4, 8, 16)], ids=str)
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("seed", range(6))
def test_rpn_proposes_as_torchvision(seed, images, strides):
    """The best of each level, suppressed within each level and image, and the best of each image."""
    torch.manual_seed(seed)
    sizes = ((24.0,),) * len(strides)
    rpn = RPN(channels=4, strides=strides, sizes=sizes, pre_nms_top_n=100, post_nms_top_n=40)
    output = random_output(images, strides, (64, 48))
    theirs = theirs_rpn(rpn)
    boxes = theirs.box_coder.decode(output.deltas.flatten(0, 1), [output.anchors] * images)
    expected = theirs.filter_proposals(
        boxes.view(images, -1, 4), output.objectness, [(64, 48)] * images, list(output.levels)
    )
    rois, scores = rpn.predict(output, (64, 48))
    assert torch.equal(scores, scores.sort(descending=True).values)
    for number in range(images):
        mine = rois[:, 0] == number
        assert 0 < mine.sum() <= 40
        assert_close(rois[mine, 1:], expected[0][number])
        assert_close(scores[mine], expected[1][number])


def test_boxes_of_two_levels_do_not_suppress_each_other():
    anchor = torch.tensor([[8.0, 8.0, 40.0, 40.0]])
    output = RPNOutput(
        anchor.repeat(3, 1), torch.tensor([[3.0, 2, 1]]), torch.zeros(1, 3, 4), (2, 1)
    )
    rpn = RPN(channels=4, strides=(8, 16), sizes=((32.0,),) * 2)
    _, scores = rpn.predict(output, (64, 64))
    assert_close(scores, torch.tensor([3.0, 1.0]).sigmoid())
    assert len(rpn.predict(output._replace(levels=(3,)), (64, 64))[0]) == 1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("counts", [(2, 3), (1, 0, 4), (0,)], ids=str)
def test_rpn_loss_is_torchvisions(seed, counts):
    """A sample from each image: the same draws from the same seed."""
    torch.manual_seed(seed)
    images = len(counts)
    rpn = RPN(channels=4, strides=(8,), sizes=((48.0,),), batch_size_per_image=40)
    output = random_output(images, (8,))
    output = RPNOutput(*(part.float() for part in output[:3]), output.levels)
    boxes = [random_boxes(n, least=20).float() for n in counts]
    targets = [{"boxes": rows, "labels": torch.ones(len(rows)).long()} for rows in boxes]
    labels, deltas = rpn.targets(output.anchors, flatten_targets(targets), images)
    torch.manual_seed(seed)
    losses = rpn.loss(output, labels, deltas)
    torch.manual_seed(seed)
    objectness, box = theirs_rpn(rpn).compute_loss(
        output.objectness.flatten(),
        output.deltas.flatten(0, 1),
        list(labels.float()),
        list(deltas),
    )
    assert_close(losses, {"objectness": objectness, "proposal_box": box})
    # The same once more, by hand.
    torch.manual_seed(seed)
    sampler = _utils.BalancedPositiveNegativeSampler(40, 0.5)
    positive, negative = (torch.cat(masks).bool() for masks in sampler(list(labels)))
    assert all(mask.sum() <= 20 for mask in positive.view(images, -1))
    x = output.objectness.flatten()
    terms = torch.cat([F.softplus(-x[positive]), F.softplus(x[negative])])
    assert len(terms) == 40 * images and (positive.sum() > 0) == (sum(counts) > 0)
    assert_close(losses["objectness"], terms.mean())
    error = (output.deltas - deltas).flatten(0, 1)[positive].abs()
    huber = torch.where(error < 1 / 9, 4.5 * error**2, error - 1 / 18)
    assert_close(losses["proposal_box"], huber.sum() / (40 * images))


def test_targets_of_many_large_images_need_little_memory():
    """No table of all objects with the anchors of all images: 16 images of 800 x 1333, 10 objects in each."""
    sizes = [(800 // stride, 1333 // stride) for stride in (4, 8, 16, 32)]
    anchors = torch.cat(
        pyramid_anchors(sizes, (4, 8, 16, 32), ((32.0,), (64.0,), (128.0,), (256.0,)))
    )
    boxes = [random_boxes(10, (800, 1333), 20.0).float() for _ in range(16)]
    targets = [{"boxes": rows, "labels": torch.ones(10).long()} for rows in boxes]
    rpn = RPN(channels=4)
    peak = peak_bytes(lambda: rpn.targets(anchors, flatten_targets(targets), 16), "cpu")
    assert peak < 200e6


def test_rpn_proposals_do_not_learn():
    output = random_output(2, (8,))
    output.objectness.requires_grad_()
    output.deltas.requires_grad_()
    rois, scores = RPN(channels=4, strides=(8,), sizes=((48.0,),)).predict(output, (64, 64))
    assert not rois.requires_grad and not scores.requires_grad


@pytest.mark.parametrize("strides", [(8,), (8, 16)], ids=str)
def test_identical_scores(strides):
    rpn = RPN(
        channels=4,
        strides=strides,
        sizes=((48.0,),) * len(strides),
        pre_nms_top_n=50,
        post_nms_top_n=9,
    )
    output = random_output(2, strides)
    output = output._replace(objectness=torch.zeros_like(output.objectness))
    rois, scores = rpn.predict(output, (64, 64))
    assert Counter(rois[:, 0].tolist()) == {0: 9, 1: 9} and (scores == 0.5).all()
    for number in range(2):
        iou = box_iou(*[rois[rois[:, 0] == number, 1:]] * 2).fill_diagonal_(0)
        assert iou.max() <= 0.7


def test_more_proposals_in_training():
    options = {"pre_nms_top_n": 30, "post_nms_top_n": 20, "nms_threshold": 1.0}
    rpn = RPN(channels=4, strides=(8,), sizes=((48.0,),), training_top_n=50, **options)
    output = random_output(2, (8,))
    assert len(rpn.predict(output, (64, 64))[0]) == 2 * 50
    assert len(rpn.eval().predict(output, (64, 64))[0]) == 2 * 20


def test_small_proposals_are_dropped_as_by_torchvision():
    output = random_output(1, (8,))
    output.deltas[..., 0] += 4 * torch.randn_like(output.deltas[..., 0])  # many outside the image
    output = RPNOutput(*(part.float() for part in output[:3]), output.levels)
    rpn = RPN(channels=4, strides=(8,), sizes=((48.0,),), min_size=1e-3)
    theirs = theirs_rpn(rpn)
    theirs.min_size = 1e-3
    boxes = theirs.box_coder.decode(output.deltas.flatten(0, 1), [output.anchors]).view(1, -1, 4)
    (expected,), _ = theirs.filter_proposals(
        boxes, output.objectness, [(64, 64)], list(output.levels)
    )
    rois, _ = rpn.predict(output, (64, 64))
    assert_close(rois[:, 1:], expected)
    rpn.min_size = 0.0
    assert len(rpn.predict(output, (64, 64))[0]) > len(rois)


def test_anchors_in_the_padding_are_background_if_wanted():
    rpn = RPN(channels=4, strides=(8,), sizes=((48.0,),), anchors_in_padding=True)
    anchors = torch.cat(anchors_of((8,))).float()
    objects = flatten_targets([{"boxes": anchors[:1] + 30, "labels": torch.ones(1).long()}])
    sizes = torch.tensor([[40, 40]])
    labels, _ = rpn.targets(anchors, objects, 1, sizes)
    assert torch.equal(labels, rpn.targets(anchors, objects, 1)[0])
    rpn.anchors_in_padding = False
    assert (labels[0] != rpn.targets(anchors, objects, 1, sizes)[0][0]).sum() > 50


def test_the_loss_is_a_mean_where_there_are_few_anchors():
    rpn = RPN(channels=4, strides=(8,), sizes=((48.0,),), batch_size_per_image=1000)
    output = random_output(2, (8,))
    output = RPNOutput(*(part.float() for part in output[:3]), output.levels)
    labels = torch.zeros(2, len(output.anchors), dtype=torch.int64)
    labels[:, 100:] = -1
    losses = rpn.loss(output, labels, torch.zeros_like(output.deltas))
    assert_close(losses["objectness"], F.softplus(output.objectness[:, :100]).mean())
    nothing = rpn.loss(output, torch.full_like(labels, -1), torch.zeros_like(output.deltas))
    assert nothing == {"objectness": 0, "proposal_box": 0}


def test_other_anchors():
    def shifted(*shape, device):
        return [level + 3 for level in pyramid_anchors(*shape, device=device)]

    options = {"channels": 4, "strides": (8,), "sizes": ((48.0,),)}
    features = {8: torch.rand(1, 4, 6, 5)}
    anchors = RPN(**options, anchors=shifted)(features).anchors
    assert torch.equal(anchors, RPN(**options)(features).anchors + 3)
