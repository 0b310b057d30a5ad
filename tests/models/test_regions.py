"""Regions of a batch: in one list and back, matched with objects of their own image, sampled per image."""

from collections import Counter

import pytest
import torch
import torchvision
from torch.testing import assert_close
from torchvision.models.detection import roi_heads

from course_utils.data.collate import flatten_targets
from course_utils.models.heads.box import WEIGHTS, BoxHead
from course_utils.models.regions import (
    boxes_to_rois,
    first_per_image,
    match_regions,
    sample_regions,
    split_by_image,
)
from tests.models.detector_inputs import only, random_boxes, random_targets

SEEDS = range(4)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_targets_of_a_batch_in_one_list_and_back():
    targets = random_targets([2, 0, 3])
    objects = flatten_targets(targets)
    assert objects["image"].tolist() == [0, 0, 2, 2, 2]
    assert set(objects) == {"boxes", "labels", "masks", "semantic", "image"}
    del objects["semantic"]
    for found, target in zip(split_by_image(objects, 3), targets):
        assert set(found) == {"boxes", "labels", "masks"}
        assert all(torch.equal(rows, target[key]) for key, rows in found.items())


def test_split_by_image_keeps_the_order_within_an_image():
    found = {"image": torch.tensor([2, 0, 2, 0]), "scores": torch.tensor([0.9, 0.8, 0.7, 0.6])}
    parts = [part["scores"].tolist() for part in split_by_image(found, 4)]
    assert parts == [pytest.approx([0.8, 0.6]), [], pytest.approx([0.9, 0.7]), []]


def test_boxes_to_rois_is_torchvisions_roi_format():
    boxes = [random_boxes(count) for count in (3, 0, 2)]
    expected = torchvision.ops.poolers._convert_to_roi_format(boxes)
    assert torch.equal(boxes_to_rois(boxes), expected)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_first_per_image(seed, count):
    torch.manual_seed(seed)
    image = torch.randint(0, 4, (20,))
    seen = Counter()
    expected = []
    for number in image.tolist():
        seen[number] += 1
        expected.append(seen[number] <= count)
    assert first_per_image(image, count).tolist() == expected
    assert first_per_image(image[:0], count).shape == (0,)


def test_boxes_of_another_image_never_match():
    box = torch.tensor([[8.0, 8.0, 40.0, 40.0]])
    objects = flatten_targets(
        [{"boxes": box + k, "labels": torch.tensor([k + 1])} for k in range(3)]
    )
    image = torch.tensor([[2.0], [1], [0], [3]])
    matches = match_regions(objects, torch.cat([image, box.expand(4, 4)], dim=1), 0.5, 0.5)
    assert matches.tolist() == [2, 1, 0, -1]
    rois = torch.cat([image, (box + 20).expand(4, 4)], dim=1)
    low = match_regions(objects, rois, 0.9, 0.01, True)
    assert low.tolist() == [2, 1, 0, -1]  # the best of its own image, however bad


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("count", [4, 16, 400])
def test_sample_regions_draws_as_torchvision_image_by_image(seed, count):
    torch.manual_seed(seed)
    targets, proposals = [], []
    for objects in (4, 2, 0):
        boxes = random_boxes(objects, least=16)
        targets.append({"boxes": boxes, "labels": torch.randint(1, 5, (objects,))})
        near = boxes.repeat(8, 1) + torch.rand(8 * objects, 4)
        proposals.append(torch.cat([random_boxes(60), near]))
    theirs = roi_heads.RoIHeads(None, None, None, 0.5, 0.5, count, 0.25, WEIGHTS, 0.05, 0.5, 100)
    torch.manual_seed(seed)
    boxes, _, labels, codes = theirs.select_training_samples(proposals, targets)
    torch.manual_seed(seed)
    ground_truth = flatten_targets(targets)
    rois, found, matches = sample_regions(boxes_to_rois(proposals), ground_truth, 3, count, 0.25)
    positive = rois[: len(matches)]
    assert (found[: len(matches)] > 0).all() and (found[len(matches) :] == 0).all()
    assert torch.equal(ground_truth["image"][matches], positive[:, 0].long())
    assert torch.equal(ground_truth["labels"][matches], found[: len(matches)])
    deltas = BoxHead(channels=1, classes=4).targets(positive[:, 1:], ground_truth, matches)
    for number in range(3):
        here = rois[:, 0] == number
        mine = sorted(zip(rois[here, 1:].tolist(), found[here].tolist()))
        assert mine == sorted(zip(boxes[number].tolist(), labels[number].tolist()))
        own = positive[:, 0] == number
        order = positive[own, 1].argsort()
        their = (labels[number] > 0).nonzero()[:, 0]
        their = their[boxes[number][their, 0].argsort()]
        assert_close(deltas[own][order], codes[number][their])


@pytest.mark.parametrize("seed", SEEDS)
def test_sample_regions_joins_the_true_boxes_and_keeps_to_its_fraction_per_image(seed):
    torch.manual_seed(seed)
    targets = only(random_targets([3, 0, 2]), "boxes", "labels")
    ground_truth = flatten_targets(targets)
    nowhere = torch.tensor([[0.0, 0.0, 2.0, 2.0]]).repeat(30, 1)
    proposals = boxes_to_rois([nowhere] * 3)
    rois, labels, matches = sample_regions(proposals, ground_truth, 3, 20, 0.25)
    assert matches.sort().values.tolist() == [0, 1, 2, 3, 4]
    order = matches.argsort()
    assert torch.equal(rois[:5][order], boxes_to_rois([t["boxes"] for t in targets]))
    assert torch.equal(labels[:5][order], ground_truth["labels"])
    assert Counter(rois[:, 0].tolist()) == {0: 20, 1: 20, 2: 20}
    many = boxes_to_rois([target["boxes"].repeat(9, 1) for target in targets])
    proposals = torch.cat([proposals, many])
    for fraction, positive in ((0.25, 5), (0.5, 10), (0.0, 0)):
        rois, labels, matches = sample_regions(proposals, ground_truth, 3, 20, fraction)
        assert Counter(rois[:, 0].tolist()) == {0: 20, 1: 20, 2: 20}
        assert Counter(rois[: len(matches), 0].tolist()) == Counter({0: positive, 2: positive})
        assert len(matches) == (labels > 0).sum()
        assert torch.equal(ground_truth["image"][matches], rois[: len(matches), 0].long())
        assert torch.equal(ground_truth["labels"][matches], labels[: len(matches)])
