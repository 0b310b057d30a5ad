"""The box head against torchvision's: losses and detections."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from torchvision.models.detection import roi_heads
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead

from course_utils.models.heads.box import WEIGHTS, BoxHead
from course_utils.models.regions import boxes_to_rois, split_by_image
from tests.models.detector_inputs import random_boxes

SEEDS = range(4)


def theirs_heads(samples=16, score=0.05, iou=0.5, detections=100):
    rest = (WEIGHTS, score, iou, detections)
    return roi_heads.RoIHeads(None, None, None, 0.5, 0.5, samples, 0.25, *rest)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


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
    head = BoxHead(channels=1, classes=4, score_threshold=0.15, detections_per_image=detections)
    proposals = [random_boxes(count, (50, 70), 8.0) for count in (40, 0, 25)]
    scores = 2 * torch.randn(65, 5, dtype=torch.float64)
    deltas = torch.randn(65, 16, dtype=torch.float64)
    found = head.predict((scores, deltas), boxes_to_rois(proposals), (50, 70))
    assert torch.equal(found["scores"], found["scores"].sort(descending=True).values)
    theirs = theirs_heads(score=0.15, detections=detections)
    expected = theirs.postprocess_detections(
        scores, F.pad(deltas, (4, 0)), proposals, [(50, 70)] * 3
    )
    assert detections > 7 or len(expected[0][0]) == 7
    for mine, boxes, score, labels in zip(split_by_image(found, 3), *expected):
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


@pytest.mark.parametrize("seed", SEEDS)
def test_each_image_clips_its_own_boxes_and_drops_what_is_left_of_none(seed):
    torch.manual_seed(seed)
    head = BoxHead(channels=1, classes=4, score_threshold=0.15, min_size=1e-2)
    proposals = [random_boxes(count, (50, 70), 8.0) for count in (40, 25)]
    scores = 2 * torch.randn(65, 5, dtype=torch.float64)
    deltas = 9 * torch.randn(65, 16, dtype=torch.float64)
    sizes = torch.tensor([[50, 70], [41, 33]])
    found = head.predict((scores, deltas), boxes_to_rois(proposals), sizes)
    expected = theirs_heads(score=0.15).postprocess_detections(
        scores, F.pad(deltas, (4, 0)), proposals, [(50, 70), (41, 33)]
    )
    for mine, boxes, score, labels in zip(split_by_image(found, 2), *expected):
        assert_close(mine, {"boxes": boxes, "labels": labels, "scores": score})
    head.min_size = 0.0
    more = head.predict((scores, deltas), boxes_to_rois(proposals), sizes)
    assert len(more["boxes"]) > len(found["boxes"]) > 0


def test_a_box_head_without_normalisation_is_torchvisions():
    head = BoxHead(channels=3, classes=4, crop_size=5, hidden=8, norm=None)
    mlp, predictor = TwoMLPHead(3 * 25, 8), FastRCNNPredictor(8, 5)
    for layer, theirs in zip((head.layers[0][0], head.layers[1][0]), (mlp.fc6, mlp.fc7)):
        layer.weight.data = theirs.weight.data.reshape(layer.weight.shape)
        layer.bias.data = theirs.bias.data
    head.scores.load_state_dict(predictor.cls_score.state_dict())
    head.deltas.weight.data, head.deltas.bias.data = (
        predictor.bbox_pred.weight.data[4:],
        predictor.bbox_pred.bias.data[4:],
    )
    crops = torch.rand(6, 3, 5, 5)
    scores, deltas = predictor(mlp(crops))
    assert_close(head(crops), (scores, deltas[:, 4:]))
