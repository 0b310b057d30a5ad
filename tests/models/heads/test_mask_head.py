"""The mask head against torchvision's: targets, loss and masks; and the one with a skip connection."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch.testing import assert_close
from torchvision.models.detection import roi_heads
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from course_utils.data.collate import flatten_targets
from course_utils.fast.roi import roi_align
from course_utils.models import panoptic_unet
from course_utils.models.heads.mask import MaskHead
from course_utils.ops.masks import crop_masks, masks_to_boxes, paste_masks
from tests.models.detector_inputs import only, random_boxes, random_targets

SEEDS = range(4)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("seed", SEEDS)
def test_mask_targets_are_crops_of_the_own_mask(seed):
    torch.manual_seed(seed)
    objects = flatten_targets(only(random_targets([3, 0, 2]), "boxes", "labels", "masks"))
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
    targets = head.targets(boxes, flatten_targets([target]), matches)
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
    truth = head.targets(target["boxes"], flatten_targets([target]), torch.arange(5))
    logits = torch.logit(truth, 1e-4)[:, None].expand(-1, 4, -1, -1)
    masks = head.predict(logits, target["boxes"], target["labels"], (64, 64))
    iou = (masks & target["masks"]).sum((1, 2)) / (masks | target["masks"]).sum((1, 2))
    assert iou.min() > 0.97


def test_a_mask_heads_skip_sees_the_finer_level():
    network = panoptic_unet.small(9).detector.eval()
    head, rois = network.heads["masks"], torch.tensor([[0, 3.0, 5, 40, 31], [1, 20, 8, 61, 60]])
    features = network.features(torch.rand(2, 3, 64, 64))
    crops, finer = head.crops(features, rois, network.crop)
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


def test_an_object_without_an_outline_teaches_no_mask():
    head, target = MaskHead(channels=1, classes=4, crop_size=4), random_targets([3], least=20)[0]
    matches, labels = torch.arange(3), target["labels"]
    logits = torch.randn(3, 4, 8, 8, requires_grad=True)
    target["masks"][1] = False
    targets = head.targets(target["boxes"], flatten_targets([target]), matches)
    assert (targets[1] == -1).all() and (targets[[0, 2]] >= 0).all()
    loss = head.loss(logits, labels, targets)["mask"]
    loss.backward()
    assert (logits.grad[1] == 0).all() and (logits.grad[0] != 0).any()
    both = [0, 2]
    expected = head.loss(logits[both], labels[both], targets[both])["mask"]
    assert_close(loss * 3, expected * 2)


def test_the_papers_mask_head_is_torchvisions():
    """Transposed convolution, ReLU, and a 1 x 1 convolution; no normalisation; masks cropped another way."""
    head = MaskHead(
        channels=3, classes=4, width=6, convolutions=2, upsampled=5, norm=None, crop_truth=roi_align
    )
    layers, predictor = MaskRCNNHeads(3, (6, 6), 1), MaskRCNNPredictor(6, 5, 5)
    for layer, theirs in zip(head.layers, layers):
        layer[0].load_state_dict(theirs[0].state_dict())
    head.layers[2].load_state_dict(predictor.conv5_mask.state_dict())
    last = {key: rows[1:] for key, rows in predictor.mask_fcn_logits.state_dict().items()}
    head.layers[4].load_state_dict(last)
    crops = torch.rand(7, 3, 14, 14)
    assert_close(head(crops), predictor(layers(crops))[:, 1:])
    target = random_targets([5], least=20)[0]
    boxes, matches = random_boxes(12).float(), torch.randint(0, 5, (12,))
    expected = roi_heads.project_masks_on_boxes(target["masks"], boxes, matches, 28)
    assert_close(head.targets(boxes, flatten_targets([target]), matches), expected)


def test_masks_can_be_pasted_by_the_caller():
    head = MaskHead(channels=3, classes=4, paste=lambda masks, boxes, size: masks)
    logits, boxes, labels = torch.randn(2, 4, 28, 28), random_boxes(2).float(), torch.tensor([2, 4])
    masks = head.predict(logits, boxes, labels, torch.tensor([[64, 64], [60, 50]]))
    assert_close(masks, torch.stack([logits[0, 1], logits[1, 3]]).sigmoid())
