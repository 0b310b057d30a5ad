"""Fast, Faster and Mask R-CNN and Panoptic FPN: every part against torchvision's, and what the whole does."""

import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.detection import _utils, roi_heads
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers
from torchvision.ops.poolers import LevelMapper

from course_utils.data.scenes import make_scenes
from course_utils.models import backbones, mask_rcnn, panoptic_fpn, unet
from course_utils.models.fpn import FPN, crop_regions, pyramid_level
from course_utils.models.heads.box import WEIGHTS, BoxHead
from course_utils.models.heads.mask import MaskHead
from course_utils.models.panoptic_fpn import Levels, PanopticFPN, SemanticHead
from course_utils.models.rcnn import (
    FasterRCNN,
    FastRCNN,
    SlowRCNN,
    number_regions,
    sample_regions,
    separate_images,
)
from course_utils.models.rpn import RPN, Answers, collate_objects, first_of_each, match_regions
from course_utils.ops.anchors import pyramid_anchors
from course_utils.ops.boxes import box_iou, clip_boxes_to_image
from course_utils.ops.masks import crop_masks, masks_to_boxes, paste_masks
from course_utils.ops.roi import roi_pool
from course_utils.training.recipes import load_checkpoint

SEEDS = range(4)
DETECTION = {"boxes", "labels", "scores", "masks"}
TWO, FIVE = {"class", "box"}, {"objectness", "proposal_box", "class", "box", "mask"}
SMALL = {
    "mask_rcnn": lambda: mask_rcnn.small(5),
    "panoptic_fpn": lambda: panoptic_fpn.on_unet(9),
}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def random_boxes(count, size=(64, 64), least=2.0):
    """Boxes inside an image, at least so many pixels wide and high; double, so that no rounding decides."""
    height, width = size
    extent = torch.tensor([width, height], dtype=torch.float64)
    side = least + torch.rand(count, 2, dtype=torch.float64) * (extent / 2 - least)
    corner = torch.rand(count, 2, dtype=torch.float64) * (extent - side)
    return torch.cat([corner, corner + side], dim=1)


def random_targets(counts, size=(64, 64), classes=4, least=8.0):
    """For each image so many objects, with filled ellipses as masks."""
    y, x = (torch.arange(n)[:, None] + 0.5 for n in size)
    targets = []
    for count in counts:
        boxes = random_boxes(count, size, least).float()
        centre, radius = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
        across = ((x.T[None] - centre[:, 0, None, None]) / radius[:, 0, None, None]) ** 2
        down = ((y[None] - centre[:, 1, None, None]) / radius[:, 1, None, None]) ** 2
        labels = torch.randint(1, classes + 1, (count,))
        semantic = torch.randint(0, 9, size)
        masks = across + down <= 1
        targets.append({"boxes": boxes, "labels": labels, "masks": masks, "semantic": semantic})
    return targets


def only(targets, *keys):
    return [{key: target[key] for key in keys} for target in targets]


def targets_for(name, counts, size=(64, 64)):
    targets = random_targets(counts, size)
    return targets if name != "mask_rcnn" else only(targets, "boxes", "labels", "masks")


# --- lists of objects


def test_objects_of_a_batch_and_back():
    targets = random_targets([2, 0, 3])
    objects = collate_objects(targets)
    assert objects["image"].tolist() == [0, 0, 2, 2, 2]
    assert set(objects) == {"boxes", "labels", "masks", "semantic", "image"}
    del objects["semantic"]
    for found, target in zip(separate_images(objects, 3), targets):
        assert set(found) == {"boxes", "labels", "masks"}
        assert all(torch.equal(rows, target[key]) for key, rows in found.items())


def test_separate_images_keeps_the_order_within_an_image():
    found = {"image": torch.tensor([2, 0, 2, 0]), "scores": torch.tensor([0.9, 0.8, 0.7, 0.6])}
    parts = [part["scores"].tolist() for part in separate_images(found, 4)]
    assert parts == [pytest.approx([0.8, 0.6]), [], pytest.approx([0.9, 0.7]), []]


def test_number_regions_is_torchvisions_roi_format():
    boxes = [random_boxes(count) for count in (3, 0, 2)]
    expected = torchvision.ops.poolers._convert_to_roi_format(boxes)
    assert torch.equal(number_regions(boxes), expected)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_first_of_each(seed, count):
    torch.manual_seed(seed)
    image = torch.randint(0, 4, (20,))
    seen = Counter()
    expected = []
    for number in image.tolist():
        seen[number] += 1
        expected.append(seen[number] <= count)
    assert first_of_each(image, count).tolist() == expected
    assert first_of_each(image[:0], count).shape == (0,)


# --- pyramid


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
def test_crop_regions_cuts_each_region_out_of_its_level(seed, strides):
    torch.manual_seed(seed)
    features = {
        stride: torch.rand(3, 5, 128 // stride, 96 // stride, dtype=torch.float64)
        for stride in strides
    }
    boxes = [random_boxes(count, (128, 96)) for count in (30, 0, 20)]
    boxes[1] = torch.tensor([[0.0, 0.0, 96.0, 128.0]], dtype=torch.float64)
    rois = number_regions(boxes)
    size, first = 4, int(math.log2(strides[0]))
    mapper = LevelMapper(
        first,
        first + len(strides) - 1,
        canonical_scale=2 * size * strides[0],
        canonical_level=first + 1,
    )
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
    features = {stride: torch.rand(1, 2, 64 // stride, 64 // stride) for stride in (4, 8)}
    for level in features.values():
        level.requires_grad_()
    rois = torch.tensor([[0, 8.0, 8, 20, 20], [0, 4, 4, 60, 60]])
    crop_regions(features, rois, 4).sum().backward()
    small, large = (level.grad.sum(dim=(0, 1)) for level in features.values())
    assert small[2:5, 2:5].min() > 0 and small[6:].abs().max() == 0
    assert large[1:7, 1:7].min() > 0
    assert_close(small.sum() + large.sum(), torch.tensor(2 * 2 * 16.0))


def test_crop_regions_with_roi_pool():
    feature = torch.rand(2, 3, 16, 16)
    rois = number_regions([random_boxes(5).float(), random_boxes(4).float()])
    expected = torchvision.ops.roi_pool(feature, rois, 4, 1 / 4)
    assert_close(crop_regions({4: feature}, rois, 4, roi_pool), expected)


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
    neck = FPN(inputs={2: 3, 4: 4, 8: 5}, channels=6, kernels={2: 0, 8: 3}).eval()
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


# --- region proposal network


def theirs_rpn(rpn, images=1):
    """torchvision's network with the same numbers, for its methods; the sample is drawn from the batch."""
    candidates, proposals = (
        dict.fromkeys(("training", "testing"), n) for n in (rpn.candidates, rpn.proposals)
    )
    network = RegionProposalNetwork(
        nn.Identity(),
        nn.Identity(),
        0.7,
        0.3,
        rpn.samples * images,
        0.5,
        candidates,
        proposals,
        rpn.iou_threshold,
    )
    network.min_size = 0.0
    return network


def anchors_of(strides, size=(64, 64)):
    shapes = [(size[0] // stride, size[1] // stride) for stride in strides]
    sizes = [(6.0 * stride,) for stride in strides]
    return [level.double() for level in pyramid_anchors(shapes, strides, sizes)]


def random_answers(images, strides, size=(64, 64)):
    levels = anchors_of(strides, size)
    anchors = torch.cat(levels)
    return Answers(
        anchors,
        2 * torch.randn(images, len(anchors), dtype=torch.float64),
        0.3 * torch.randn(images, len(anchors), 4, dtype=torch.float64),
        tuple(map(len, levels)),
    )


def test_rpn_asks_the_same_questions_at_every_place_and_level():
    rpn = RPN(
        channels=4, strides=(4, 8), sizes=((8.0, 12.0), (20.0, 30.0)), aspect_ratios=(0.5, 2.0)
    ).eval()
    features = {2: torch.rand(2, 4, 32, 20), 4: torch.rand(2, 4, 16, 10), 8: torch.rand(2, 4, 8, 5)}
    answers = rpn(features)
    hidden = [rpn.hidden(features[stride]) for stride in (4, 8)]
    objectness, deltas = concat_box_prediction_layers(
        [rpn.objectness(level) for level in hidden], [rpn.deltas(level) for level in hidden]
    )
    assert_close(answers.objectness.flatten(), objectness.flatten())
    assert_close(answers.deltas.flatten(0, 1), deltas)
    assert answers.levels == (16 * 10 * 4, 8 * 5 * 4) and len(answers.anchors) == 800
    # Of all answers at row 3 and column 7 of the first level the anchors have that place as their centre.
    place = (3 * 10 + 7) * 4
    corners = answers.anchors[place : place + 4]
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
    labels, deltas = rpn.targets(anchors, collate_objects(targets), 4)
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


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("seed", range(6))
def test_rpn_predicts_as_torchvision_on_one_level(seed, images):
    torch.manual_seed(seed)
    rpn = RPN(channels=4, strides=(4,), sizes=((24.0,),), candidates=150, proposals=40)
    answers = random_answers(images, (4,), (64, 48))
    compare_proposals(rpn, answers, answers.objectness, answers.deltas, (64, 48))


@pytest.mark.parametrize("seed", range(6))
def test_rpn_takes_the_best_of_each_level_and_suppresses_across_levels(seed):
    """torchvision's candidates; then, unlike there, boxes of all levels compete."""
    torch.manual_seed(seed)
    rpn = RPN(channels=4, strides=(4, 8), sizes=((24.0,),) * 2, candidates=100, proposals=60)
    answers = random_answers(3, (4, 8))
    theirs = theirs_rpn(rpn)
    best = theirs._get_top_n_idx(answers.objectness, list(answers.levels))
    assert best.shape == (3, 200)
    compare_proposals(rpn, answers, answers.objectness, answers.deltas, (64, 64), best)


def compare_proposals(rpn, answers, objectness, deltas, size, best=None):
    theirs = theirs_rpn(rpn)
    images = len(objectness)
    boxes = theirs.box_coder.decode(deltas.flatten(0, 1), [answers.anchors] * images)
    boxes = boxes.view(images, -1, 4)
    if best is not None:
        rows = torch.arange(images)[:, None]
        boxes, objectness = boxes[rows, best], objectness[rows, best]
        theirs._pre_nms_top_n = dict.fromkeys(("training", "testing"), 10**6)
    expected = theirs.filter_proposals(boxes, objectness, [size] * images, [boxes.shape[1]])
    rois, scores = rpn.predict(answers, size)
    assert torch.equal(scores, scores.sort(descending=True).values)
    for number in range(images):
        mine = rois[:, 0] == number
        assert 0 < mine.sum() <= rpn.proposals
        assert_close(rois[mine, 1:], expected[0][number])
        assert_close(scores[mine], expected[1][number])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("counts", [(2, 3), (1, 0, 4), (0,)], ids=str)
def test_rpn_loss_is_torchvisions_on_a_sample_of_the_batch(seed, counts):
    torch.manual_seed(seed)
    images = len(counts)
    rpn = RPN(channels=4, strides=(8,), sizes=((48.0,),), samples=40)
    answers = random_answers(images, (8,))
    answers = Answers(*(part.float() for part in answers[:3]), answers.levels)
    boxes = [random_boxes(n, least=20).float() for n in counts]
    targets = [{"boxes": rows, "labels": torch.ones(len(rows)).long()} for rows in boxes]
    labels, deltas = rpn.targets(answers.anchors, collate_objects(targets), images)
    torch.manual_seed(seed)
    losses = rpn.loss(answers, labels, deltas)
    torch.manual_seed(seed)
    objectness, box = theirs_rpn(rpn, images).compute_loss(
        answers.objectness.flatten(),
        answers.deltas.flatten(0, 1),
        [labels.flatten().float()],
        [deltas.flatten(0, 1)],
    )
    assert_close(losses, {"objectness": objectness, "proposal_box": box})
    # The same once more, by hand.
    torch.manual_seed(seed)
    sampler = _utils.BalancedPositiveNegativeSampler(40 * images, 0.5)
    (positive,), (negative,) = sampler([labels.flatten()])
    x = answers.objectness.flatten()
    terms = torch.cat([F.softplus(-x[positive.bool()]), F.softplus(x[negative.bool()])])
    assert len(terms) == 40 * images and (positive.sum() > 0) == (sum(counts) > 0)
    assert_close(losses["objectness"], terms.mean())
    error = (answers.deltas - deltas).flatten(0, 1)[positive.bool()].abs()
    huber = torch.where(error < 1 / 9, 4.5 * error**2, error - 1 / 18)
    assert_close(losses["proposal_box"], huber.sum() / (40 * images))


def test_rpn_proposals_do_not_learn():
    answers = random_answers(2, (8,))
    answers.objectness.requires_grad_()
    answers.deltas.requires_grad_()
    rois, scores = RPN(channels=4, strides=(8,), sizes=((48.0,),)).predict(answers, (64, 64))
    assert not rois.requires_grad and not scores.requires_grad


@pytest.mark.parametrize("strides", [(8,), (8, 16)], ids=str)
def test_identical_scores(strides):
    rpn = RPN(
        channels=4, strides=strides, sizes=((48.0,),) * len(strides), candidates=50, proposals=9
    )
    answers = random_answers(2, strides)
    answers = answers._replace(objectness=torch.zeros_like(answers.objectness))
    rois, scores = rpn.predict(answers, (64, 64))
    assert Counter(rois[:, 0].tolist()) == {0: 9, 1: 9} and (scores == 0.5).all()
    for number in range(2):
        iou = box_iou(*[rois[rois[:, 0] == number, 1:]] * 2).fill_diagonal_(0)
        assert iou.max() <= 0.7


def test_boxes_of_another_image_never_match():
    box = torch.tensor([[8.0, 8.0, 40.0, 40.0]])
    objects = collate_objects(
        [{"boxes": box + k, "labels": torch.tensor([k + 1])} for k in range(3)]
    )
    image = torch.tensor([2, 1, 0, 3])
    matches = match_regions(objects, image, box.expand(4, 4), 0.5, 0.5)
    assert matches.tolist() == [2, 1, 0, -1]
    low = match_regions(objects, image, (box + 20).expand(4, 4), 0.9, 0.01, True)
    assert low.tolist() == [2, 1, 0, -1]  # the best of its own image, however bad


# --- regions to learn from


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("count", [4, 16, 400])
def test_sample_regions_draws_as_torchvision_from_one_image(seed, count):
    torch.manual_seed(seed)
    target = {"boxes": random_boxes(4, least=16), "labels": torch.randint(1, 5, (4,))}
    proposals = torch.cat([random_boxes(60), target["boxes"].repeat(8, 1) + torch.rand(32, 4)])
    heads = theirs_heads(samples=count)
    torch.manual_seed(seed)
    boxes, _, labels, codes = (
        part[0] for part in heads.select_training_samples([proposals], [target])
    )
    torch.manual_seed(seed)
    objects = collate_objects([target])
    rois, found, own = sample_regions(number_regions([proposals]), objects, count, 0.25)
    assert len(rois) == len(boxes) and own.numel() == (labels > 0).sum()
    assert (found[: len(own)] > 0).all() and (found[len(own) :] == 0).all()
    mine = sorted(zip(rois[:, 1:].tolist(), found.tolist()))
    assert mine == sorted(zip(boxes.tolist(), labels.tolist()))
    targets = BoxHead(channels=1, classes=4).targets(rois[: len(own), 1:], objects, own)
    order, their = rois[: len(own), 1].argsort(), (labels > 0).nonzero()[:, 0]
    assert_close(targets[order], codes[their[boxes[their, 0].argsort()]])


@pytest.mark.parametrize("seed", SEEDS)
def test_sample_regions_joins_the_true_boxes_and_keeps_to_its_fraction(seed):
    torch.manual_seed(seed)
    targets = only(random_targets([3, 0, 2]), "boxes", "labels")
    objects = collate_objects(targets)
    nowhere = torch.tensor([[0.0, 0.0, 2.0, 2.0]]).repeat(30, 1)
    proposals = number_regions([nowhere] * 3)
    rois, labels, matches = sample_regions(proposals, objects, 40, 0.25)
    order = matches.argsort()
    assert torch.equal(matches[order], torch.arange(5))
    assert torch.equal(rois[: len(matches)][order], number_regions([t["boxes"] for t in targets]))
    assert torch.equal(labels[:5][order], objects["labels"]) and len(labels) == 40
    many = number_regions([target["boxes"].repeat(9, 1) for target in targets])
    proposals = torch.cat([proposals, many])
    for fraction, positive in ((0.25, 10), (0.5, 20), (0.0, 0)):
        rois, labels, matches = sample_regions(proposals, objects, 40, fraction)
        assert len(matches) == (labels > 0).sum() == positive and len(labels) == 40
        assert torch.equal(objects["image"][matches], rois[:positive, 0].long())
        assert torch.equal(objects["labels"][matches], labels[:positive])


# --- box head


def theirs_heads(samples=16, score=0.05, iou=0.5, detections=100):
    rest = (WEIGHTS, score, iou, detections)
    return roi_heads.RoIHeads(None, None, None, 0.5, 0.5, samples, 0.25, *rest)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("positive", [0, 5, 12])
def test_box_loss_is_torchvisions(seed, positive):
    torch.manual_seed(seed)
    classes, count = 4, 12
    scores = torch.randn(count, classes + 1, dtype=torch.float64)
    found = torch.randn(count, 4 * classes, dtype=torch.float64)
    labels = torch.zeros(count, dtype=torch.int64)
    labels[:positive] = torch.randint(1, classes + 1, (positive,))
    deltas = torch.randn(positive, 4, dtype=torch.float64) / 2
    losses = BoxHead(channels=1, classes=classes).loss((scores, found), labels, deltas)
    # There background has box coordinates too.
    theirs = roi_heads.fastrcnn_loss(
        scores, F.pad(found, (4, 0)), [labels], [F.pad(deltas, (0, 0, 0, count - positive))]
    )
    assert_close(losses, dict(zip(("class", "box"), theirs)))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("detections", [7, 100])
def test_box_predictions_are_torchvisions(seed, detections):
    torch.manual_seed(seed)
    head = BoxHead(channels=1, classes=4, score_threshold=0.15, detections=detections)
    proposals = [random_boxes(count, (50, 70), 8.0) for count in (40, 0, 25)]
    scores = 2 * torch.randn(65, 5, dtype=torch.float64)
    deltas = torch.randn(65, 16, dtype=torch.float64)
    found = head.predict((scores, deltas), number_regions(proposals), (50, 70))
    assert torch.equal(found["scores"], found["scores"].sort(descending=True).values)
    theirs = theirs_heads(score=0.15, detections=detections)
    expected = theirs.postprocess_detections(
        scores, F.pad(deltas, (4, 0)), proposals, [(50, 70)] * 3
    )
    assert detections > 7 or len(expected[0][0]) == 7
    for mine, boxes, score, labels in zip(separate_images(found, 3), *expected):
        assert_close(mine, {"boxes": boxes, "labels": labels, "scores": score})


def test_box_head_is_two_fully_connected_layers():
    head = BoxHead(channels=3, classes=4, crop_size=5, hidden=8).eval()
    crops = torch.rand(6, 3, 5, 5)
    first, second = head.layers[0][0], head.layers[1][0]
    hidden = F.relu(F.linear(crops.flatten(1), first.weight.flatten(1)) / (1 + 1e-5) ** 0.5)
    hidden = F.relu(F.linear(hidden, second.weight.flatten(1)) / (1 + 1e-5) ** 0.5)
    scores, deltas = head(crops)
    assert_close(scores, head.scores(hidden))
    assert_close(deltas, head.deltas(hidden))
    assert scores.shape == (6, 5) and deltas.shape == (6, 16)


# --- mask head


@pytest.mark.parametrize("seed", SEEDS)
def test_mask_targets_are_crops_of_the_own_mask(seed):
    torch.manual_seed(seed)
    objects = collate_objects(only(random_targets([3, 0, 2]), "boxes", "labels", "masks"))
    objects["masks"] |= torch.rand(5, 64, 64) < 0.1
    boxes, matches = random_boxes(12).float(), torch.randint(0, 5, (12,))
    targets = MaskHead(channels=2, classes=4, crop_size=7).targets(boxes, objects, matches)
    assert targets.shape == (12, 14, 14) and 0 <= targets.min() < targets.max() < 1 + 1e-6
    assert_close(targets, crop_masks(objects["masks"][matches], boxes, (14, 14), aligned=True))
    rois = torch.cat([matches[:, None], boxes], dim=1)
    theirs = torchvision.ops.roi_align(objects["masks"][:, None].float(), rois, 14, aligned=True)
    assert_close(targets, theirs[:, 0])


@pytest.mark.parametrize("seed", SEEDS)
def test_mask_loss_is_torchvisions(seed):
    torch.manual_seed(seed)
    target = random_targets([3])[0]
    boxes, matches = random_boxes(8).float(), torch.randint(0, 3, (8,))
    head = MaskHead(channels=2, classes=4, crop_size=5, width=3)
    logits, labels = torch.randn(8, 4, 10, 10), target["labels"][matches]
    targets = head.targets(boxes, collate_objects([target]), matches)
    loss = head.loss(logits, labels, targets)["mask"]
    # Boxes half a pixel further up and left make up for `aligned=False`; and background has a mask there.
    theirs = roi_heads.maskrcnn_loss(
        torch.cat([torch.full_like(logits[:, :1], 9), logits], dim=1),
        [boxes - 0.5],
        [target["masks"]],
        [target["labels"]],
        [matches],
    )
    assert_close(loss, theirs)
    own = torch.stack([maps[label - 1] for maps, label in zip(logits, labels.tolist())])
    by_hand = targets * F.softplus(-own) + (1 - targets) * F.softplus(own)
    assert_close(loss, by_hand.mean())


def test_only_the_mask_of_the_true_class_learns():
    head = MaskHead(channels=2, classes=3, crop_size=2)
    logits = torch.randn(4, 3, 4, 4, requires_grad=True)
    labels = torch.tensor([3, 1, 1, 2])
    head.loss(logits, labels, torch.rand(4, 4, 4))["mask"].backward()
    learns = logits.grad.flatten(2).abs().sum(dim=2) > 0
    assert torch.equal(learns, F.one_hot(labels - 1, 3).bool())


def test_class_agnostic_head_has_one_mask_for_all():
    head = MaskHead(channels=2, classes=1, crop_size=2)
    logits, targets = torch.randn(4, 1, 4, 4), torch.rand(4, 4, 4)
    labels = torch.tensor([3, 1, 1, 2])
    expected = F.binary_cross_entropy_with_logits(logits[:, 0], targets)
    assert_close(head.loss(logits, labels, targets)["mask"], expected)
    boxes = random_boxes(4).float()
    expected = paste_masks(logits[:, 0].sigmoid(), boxes, (64, 64))
    assert torch.equal(head.predict(logits, boxes, labels, (64, 64)), expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_mask_prediction_pastes_the_mask_of_the_class(seed):
    torch.manual_seed(seed)
    head = MaskHead(channels=2, classes=3, crop_size=3)
    logits, labels = torch.randn(6, 3, 6, 6), torch.randint(1, 4, (6,))
    boxes = random_boxes(6, (40, 60)).float()
    own = torch.stack([maps[label - 1] for maps, label in zip(logits, labels.tolist())])
    masks = head.predict(logits, boxes, labels, (40, 60))
    assert masks.dtype == torch.bool and masks.shape == (6, 40, 60)
    assert torch.equal(masks, paste_masks(own.sigmoid(), boxes, (40, 60)))


def test_cropping_and_pasting_a_mask_gives_it_back():
    """The head's targets as its answer: what it learns is what it draws."""
    target = random_targets([5], least=20)[0]
    target["boxes"] = masks_to_boxes(target["masks"])
    head = MaskHead(channels=2, classes=4)
    truth = head.targets(target["boxes"], collate_objects([target]), torch.arange(5))
    logits = torch.logit(truth, 1e-4)[:, None].expand(-1, 4, -1, -1)
    masks = head.predict(logits, target["boxes"], target["labels"], (64, 64))
    iou = (masks & target["masks"]).sum((1, 2)) / (masks | target["masks"]).sum((1, 2))
    assert iou.min() > 0.97


# --- whole networks


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
            "semantic": ((9, *size), torch.float32),
        }
        assert types == {key: expected[key] for key in types}
        assert ("semantic" in one) == (name != "mask_rcnn")
        assert not any(value.requires_grad for key, value in one.items() if key != "semantic")
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


def scene_targets(scenes):
    samples = map(scenes.sample, range(len(scenes.images)))
    return [{key: getattr(one, key) for key in ("boxes", "labels", "masks")} for one in samples]


@pytest.fixture(scope="module")
def by_heart():
    """A network that has seen nothing but two pictures, and the pictures."""
    torch.manual_seed(0)
    scenes = make_scenes([12, 24], size=(64, 64))
    targets = scene_targets(scenes)
    network, steps = mask_rcnn.small(5), 80
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 5e-3 * (1 + math.cos(math.pi * step / steps)) / 2
        loss = sum(network(scenes.images, targets).values())
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


def test_panoptic_semantic_scores_are_those_of_its_head(by_heart):
    detector, images, _ = by_heart
    head = SemanticHead(channels={2: 32, 8: 32}, classes=9)
    network = PanopticFPN(detector=detector, semantic_head=head).eval()
    features = detector.features(images)
    coarse = F.interpolate(head.score["8"](features[8]), (32, 32), mode="bilinear")
    scores = F.interpolate(head.score["2"](features[2]) + coarse, (64, 64), mode="bilinear")
    for one, other, score in zip(network(images), detector(images), scores):
        assert_close(one.pop("semantic"), score)
        assert_close(one, other)


def test_a_mask_heads_skip_sees_the_finer_level():
    network = panoptic_fpn.on_unet(9).detector.eval()
    head, rois = network.heads["masks"], torch.tensor([[0, 3.0, 5, 40, 31], [1, 20, 8, 61, 60]])
    features = network.features(torch.rand(2, 3, 64, 64))
    crops, finer = network.cut(features, rois, head)
    assert crops.shape == (2, 32, 14, 14) and finer.shape == (2, 8, 28, 28)
    expected = torchvision.ops.roi_align(features[1], rois, 28, 1.0, 2, aligned=True)
    assert_close(finer, expected)
    masks = head((crops, finer))
    assert masks.shape == (2, 4, 28, 28)
    changed = finer.clone()
    changed[:, :, 20, 9] += 1  # a cell of the finer crop matters for the masks near it only
    moved = (head((crops, changed)) - masks).abs().amax(dim=(0, 1)) > 1e-6
    near = torch.zeros(28, 28, dtype=torch.bool)
    near[19:22, 8:11] = True
    assert moved[20, 9] and not moved[~near].any()


@pytest.mark.parametrize("strides", [(1, 8), (2, 8), (4, 8, 16)], ids=str)
def test_semantic_scores_stay_over_their_pixels(strides):
    """At odd sizes too: enlarged by the stride and cut, not squeezed to the image's size."""
    size = (37, 61)
    row, column = torch.meshgrid(*map(torch.arange, size), indexing="ij")
    place = torch.stack([row, column]).float()
    head = SemanticHead(channels=dict.fromkeys(strides, 2), classes=2)
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
    backbone.load_state_dict(
        {k: v for k, v in whole.state_dict().items() if not k.startswith("score")}
    )
    assert_close(whole(images), whole.score(backbone(images)[0])[..., :30, :41])


def test_a_panoptic_network_starts_from_the_shipped_unet():
    backbone = panoptic_fpn.on_unet(9).detector.backbone
    keys = backbone.load_state_dict(load_checkpoint("unet").state_dict(), strict=False)
    assert not keys.missing_keys and keys.unexpected_keys == ["score.weight", "score.bias"]


def test_panoptic_loss_is_cross_entropy_over_all_pixels():
    images, targets = torch.rand(2, 3, 64, 64), random_targets([2, 1])
    targets[0]["semantic"][:, 10:] = 255
    network = panoptic_fpn.on_unet(9)
    network.semantic_weight = 0.25
    loss = network(images, targets)["semantic"]
    scores = network.semantic_head(network.detector.features(images), (64, 64))
    labels = torch.stack([target["semantic"] for target in targets])
    total = F.cross_entropy(scores, labels, ignore_index=255, reduction="sum")
    assert_close(loss, 0.25 * total / labels.numel())


# --- what hardly ever happens


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


def test_masks_of_one_pixel():
    network = mask_rcnn.small(5)
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, 0, 0] = masks[1, 63, 30] = True
    one = {"boxes": masks_to_boxes(masks), "labels": torch.tensor([1, 4]), "masks": masks}
    losses = network(torch.rand(1, 3, 64, 64), [one])
    assert all(loss.isfinite() for loss in losses.values()) and losses["mask"] > 0
    sum(losses.values()).backward()
    targets = MaskHead(channels=1, classes=4).targets(
        one["boxes"], collate_objects([one]), torch.arange(2)
    )
    assert targets.shape == (2, 28, 28) and targets.mean() > 0.5


# --- other parts in the same frame


def test_regions_can_be_pooled_instead():
    network = mask_rcnn.small(5, crop=roi_pool)
    losses = network(torch.rand(2, 3, 64, 64), targets_for("mask_rcnn", (2, 1)))
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert network.backbone.stages[0][1][0].weight.grad.abs().sum() > 0
    aligned = mask_rcnn.small(5).eval()
    aligned.load_state_dict(network.state_dict())
    network.eval()
    features = network.features(torch.rand(1, 3, 64, 64))
    rois = number_regions([random_boxes(5).float()])
    crops = network.cut(features, rois, network.box_head)
    assert_close(crops, torchvision.ops.roi_pool(features[2], rois, 7, 1 / 2))
    assert not torch.allclose(crops, aligned.cut(features, rois, network.box_head))


def test_class_agnostic_network():
    network = mask_rcnn.small(5, class_agnostic=True)
    losses = network(torch.rand(2, 3, 64, 64), targets_for("mask_rcnn", (2, 1)))
    assert set(losses) == FIVE
    assert network.heads["masks"].layers[-1].out_channels == 1
    assert mask_rcnn.small(5).heads["masks"].layers[-1].out_channels == 4
    assert {len(one["masks"]) for one in network.eval()(torch.rand(1, 3, 64, 64))} == {20}


def test_mobilenet_as_backbone():
    network = mask_rcnn.small(5, backbone=backbones.mobilenet_v2())
    losses = network(torch.rand(2, 3, 64, 80), targets_for("mask_rcnn", (2, 1), (64, 80)))
    sum(losses.values()).backward()
    assert set(losses) == FIVE and all(loss.isfinite() for loss in losses.values())
    assert network.backbone.stages[0][1][0].weight.grad.abs().sum() > 0
    found = network.eval()(torch.rand(1, 3, 61, 79))
    assert set(found[0]) == DETECTION


def tiny(kind, **options):
    backbone = backbones.small((4, 8, 8, 8, 8))
    crop_size = options.get("side", 32 * 3) // 32
    head = BoxHead(channels=8, classes=4, crop_size=crop_size, hidden=16)
    return kind(backbone=backbone, box_head=head, **options)


RCNNS = {
    "slow, 32": lambda **options: tiny(SlowRCNN, side=32, **options),
    "slow, 64": lambda **options: tiny(SlowRCNN, side=64, **options),
    "fast": lambda **options: tiny(FastRCNN, **options),
}


@pytest.mark.parametrize("name", RCNNS)
def test_slow_and_fast_rcnn(name):
    network = RCNNS[name](samples=8)
    images, targets = (
        torch.rand(2, 3, 96, 64),
        only(random_targets([2, 1], (96, 64)), "boxes", "labels"),
    )
    proposals = [random_boxes(count, (96, 64)).float() for count in (9, 5)]
    losses = network(images, proposals, targets)
    assert set(losses) == TWO and all(loss.isfinite() and loss > 0 for loss in losses.values())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    sum(network(images, proposals, targets).values()).backward()
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
    _, labels, _ = sample_regions(number_regions(proposals), collate_objects(targets), 128, 0.25)
    network.train()(torch.rand(2, 3, 64, 64), proposals, targets)
    learnt = len(labels) if seen == 14 else 2
    assert [shape[0] for shape in calls] == [seen, learnt]
    assert calls[0][2:] == ((32, 32) if name != "fast" else (64, 64))


def test_slow_and_fast_crop_what_their_names_say():
    images, proposals = torch.rand(2, 3, 64, 96), [random_boxes(3).float(), random_boxes(2).float()]
    rois = number_regions(proposals)
    slow, fast = RCNNS["slow, 64"]().eval(), RCNNS["fast"]().eval()
    crops = torchvision.ops.roi_align(images, rois, 64, aligned=True)
    assert_close(slow.crops(images, rois), slow.backbone(crops)[-1])
    features = fast.backbone(images)[-1]
    expected = torchvision.ops.roi_align(features, rois, 3, 1 / 32, aligned=True)
    assert_close(fast.crops(images, rois), expected)


class ColourHead(nn.Module):
    """What is the mean colour of the object?"""

    crop_size, crop_strides = 4, (2,)

    def __init__(self, channels):
        super().__init__()
        self.colour = nn.Sequential(nn.Flatten(), nn.Linear(channels * self.crop_size**2, 3))

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
    network = FasterRCNN(**parts, heads=heads, samples=24)
    images = torch.rand(2, 3, 64, 64)
    targets = only(random_targets([2, 1]), "boxes", "labels", "masks")
    for image, target in zip(images, targets):
        area = target["masks"].sum((1, 2))[:, None]
        target["colour"] = torch.einsum("chw,nhw->nc", image, target["masks"].float()) / area
    losses = network(images, targets)
    assert set(losses) == FIVE | {"colour"}
    losses["colour"].backward()
    assert heads["colour"].colour[1].weight.grad.abs().sum() > 0
    for one in network.eval()(images):
        assert set(one) == DETECTION | {"colour"} and one["colour"].shape == (len(one["boxes"]), 3)


# --- speed that no clock has to tell


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


@pytest.mark.parametrize("name", SMALL)
def test_a_step_has_no_loop_over_images_or_objects(name, as_student):
    """Three times the batch, the same calls. (With other images suppression may need another round.)"""
    network = SMALL[name]()
    images, targets = torch.rand(2, 3, 64, 64), targets_for(name, (3, 2))
    few = calls_of_a_step(network, images, targets)
    many = calls_of_a_step(network, images.repeat(3, 1, 1, 1), targets * 3)
    assert few.total() > 500
    assert many == few, (many - few, few - many)


def test_a_step_has_as_many_calls_for_many_objects_as_for_few(as_student):
    network = mask_rcnn.small(5)
    images, targets = torch.rand(1, 3, 64, 64), targets_for("mask_rcnn", (12,))
    many = calls_of_a_step(network, images, targets)
    few = calls_of_a_step(network, images, [{k: rows[:1] for k, rows in targets[0].items()}])
    assert abs(many.total() - few.total()) < 11, (many - few, few - many)
