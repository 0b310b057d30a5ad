"""torchvision's networks and ours with the same weights: the same proposals, detections and losses."""

import inspect
import re

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.segmentation import fcn_resnet50
from torchvision.transforms.functional import normalize

from course_utils.data.photos import photo
from course_utils.models.fpn import pyramid_level
from course_utils.models.torchvision_weights import corner_anchors, faster_rcnn, fcn, mask_rcnn
from tests.models.torchvision_networks import random_detector, random_fcn

SIZE = {"min_size": 256, "max_size": 400}
SCORE = 0.5
FEWER = {  # proposals than at full size, so that a test takes seconds
    f"rpn_{step}_nms_top_n_{mode}": count
    for step in ("pre", "post")
    for mode, count in (("test", 100), ("train", 130))
}
NAMES = {  # torchvision's losses and ours
    "loss_objectness": "objectness",
    "loss_rpn_box_reg": "proposal_box",
    "loss_classifier": "class",
    "loss_box_reg": "box",
    "loss_mask": "mask",
}


@pytest.fixture(scope="module")
def samples():
    return [photo(name).sample for name in ("astronaut", "coffee")]


@pytest.fixture(scope="module")
def theirs(samples):
    torch.manual_seed(0)
    images = [sample.image for sample in samples]
    network = random_detector(MaskRCNN, images, box_score_thresh=SCORE, **SIZE, **FEWER)
    network.transform.torch_choice = lambda sizes: sizes[0]  # of one size; draws no random number
    return network


@pytest.fixture
def theirs_without_masks(theirs, monkeypatch):
    monkeypatch.setattr(theirs.roi_heads, "mask_roi_pool", None)
    return theirs


@pytest.fixture(scope="module")
def ours(theirs):
    return with_fewer(mask_rcnn(theirs.state_dict(), score_threshold=SCORE, **SIZE))


def with_fewer(network):
    rpn = network.detector.rpn
    rpn.pre_nms_top_n, rpn.post_nms_top_n, rpn.training_top_n = 100, 100, 130
    return network


def box_state(state):
    return {name: tensor for name, tensor in state.items() if ".mask_" not in name}


def random_pictures():
    """Coarse noise, as white noise looks the same everywhere; one picture is enlarged, one is reduced."""
    torch.manual_seed(1)
    coarse = torch.rand(1, 3, 9, 7), torch.rand(1, 3, 5, 8)
    sizes = (120, 93), (61, 80)
    return [nn.functional.interpolate(c, size, mode="bicubic")[0] for c, size in zip(coarse, sizes)]


def assert_same_rows(mine, expected, tolerance):
    """The same rows in any order: two scores that differ by less than rounding may change places."""
    assert len(mine) == len(expected) > 0
    distance = torch.cdist(mine.double(), expected.double(), p=float("inf"))
    assert distance.amin(dim=0).max() < tolerance and distance.amin(dim=1).max() < tolerance


def assert_same_detections(found, expected, images):
    for mine, one, image in zip(found, expected, images, strict=True):
        assert set(mine) == set(one) and len(mine["scores"]) == len(one["scores"])
        rows = []
        for part in (
            mine,
            one,
        ):  # a label is far from another one, and a box 1e-4 of the picture's size
            boxes = part["boxes"] / max(image.shape[1:])
            rows.append(torch.cat([boxes, part["scores"][:, None], part["labels"][:, None]], dim=1))
        assert_same_rows(*rows, 1e-4)
        partner = torch.cdist(*rows, p=float("inf")).argmin(dim=1)
        if "masks" in one:
            assert mine["masks"].shape == (len(mine["scores"]), 1, *image.shape[1:])
            assert_close(mine["masks"], one["masks"][partner], rtol=0, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("pictures", ["photographs", "noise"])
def test_mask_rcnn_detects_as_torchvision(theirs, ours, samples, pictures):
    images = random_pictures() if pictures == "noise" else [one.image for one in samples]
    expected = theirs(images)
    for one in expected:  # many, different, and not all of the image
        assert len(one["boxes"]) >= 5 and len(one["labels"].unique()) >= 2
        assert one["scores"].max() - one["scores"].min() > 0.1
        assert one["masks"].min() < 0.1 and one["masks"].max() > 0.9
    assert_same_detections(ours(images), expected, images)


@torch.no_grad()
def test_proposals_are_torchvisions(theirs, ours, samples):
    images = [sample.image for sample in samples]
    resized, _ = theirs.transform(images)
    expected, _ = theirs.rpn(resized, theirs.backbone(resized.tensors))
    batch, sizes = ours.resize(images)
    assert sizes.tolist() == [list(size) for size in resized.image_sizes]
    output = ours.detector.rpn(ours.detector.features(batch))
    rois, _ = ours.detector.rpn.predict(output, sizes)
    assert len(pyramid_level(rois[:, 1:], 4).unique()) >= 2
    for number, boxes in enumerate(expected):
        assert_same_rows(rois[rois[:, 0] == number, 1:], boxes, 0.015)


def coco_targets(samples):
    return [{"boxes": s.boxes, "labels": 7 * s.labels + 1, "masks": s.masks} for s in samples]


def losses_of_both(theirs, ours, images, targets):
    """The same random anchors, and all regions: two of nearly the same score may change places."""
    theirs.roi_heads.fg_bg_sampler = BalancedPositiveNegativeSampler(5000, 0.25)
    ours.detector.sampling = 5000, 0.25
    losses = []
    for network in (ours, theirs):
        torch.manual_seed(3)
        losses.append(network.train()(images, [dict(target) for target in targets]))
        network.eval()
    return losses[0], {NAMES[name]: loss for name, loss in losses[1].items()}


def test_the_five_losses_and_their_gradients_are_torchvisions(theirs, ours, samples):
    images, targets = [sample.image for sample in samples], coco_targets(samples)
    losses, expected = losses_of_both(theirs, ours, images, targets)
    assert len(losses) == 5 and all(loss > 0.01 for loss in losses.values())
    assert_close(losses, expected, rtol=1e-4, atol=1e-4)
    layers = (
        (theirs.backbone.fpn.inner_blocks[3][0], ours.detector.neck.lateral[3]),
        (theirs.roi_heads.mask_predictor.conv5_mask, ours.detector.heads["masks"].layers[4]),
    )
    for index, total in enumerate((expected, losses)):
        sum(total.values()).backward(inputs=[pair[index].weight for pair in layers])
    for layer, mine in layers:
        difference = (mine.weight.grad - layer.weight.grad).norm() / layer.weight.grad.norm()
        assert difference < 5e-4


def test_losses_of_a_batch_with_a_picture_without_objects(theirs, ours, samples):
    images = [sample.image for sample in samples]
    targets = coco_targets(samples)
    targets[0] = {key: rows[:0] for key, rows in targets[0].items()}
    with torch.no_grad():
        losses, expected = losses_of_both(theirs, ours, images, targets)
    assert_close(losses, expected, rtol=1e-4, atol=1e-4)


def test_faster_rcnn_detects_and_learns_as_torchvision(theirs_without_masks, samples):
    images, targets = [sample.image for sample in samples], coco_targets(samples)
    theirs = theirs_without_masks
    ours = with_fewer(faster_rcnn(box_state(theirs.state_dict()), score_threshold=SCORE, **SIZE))
    with torch.no_grad():
        expected = theirs(images)
        assert set(expected[0]) == {"boxes", "labels", "scores"}
        assert_same_detections(ours(images), expected, images)
        losses, expected = losses_of_both(theirs, ours, images, targets)
    assert len(losses) == 4
    assert_close(losses, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_network_with_ordinary_batch_normalisation_keeps_it(samples):
    """As one that torchvision builds without weights, here for four classes."""
    torch.manual_seed(0)
    images = [sample.image for sample in samples]
    options = {"norm": nn.BatchNorm2d, "classes": 5, "box_score_thresh": 0.9}
    theirs = random_detector(FasterRCNN, images, **options, **SIZE, **FEWER)
    ours = with_fewer(faster_rcnn(theirs.state_dict(), score_threshold=0.9, **SIZE))
    assert_same_detections(ours(images), theirs(images), images)


@torch.no_grad()
@pytest.mark.long
def test_mask_rcnn_at_full_size(samples):
    torch.manual_seed(0)
    images = [sample.image for sample in samples]
    theirs = random_detector(MaskRCNN, images, min_size=200, box_score_thresh=SCORE)
    theirs.transform.min_size = (800,)
    theirs.transform.torch_choice = lambda sizes: sizes[0]
    ours = mask_rcnn(theirs.state_dict(), score_threshold=SCORE)
    assert_same_detections(ours(images), theirs(images), images)
    losses, expected = losses_of_both(theirs, ours, images, coco_targets(samples))
    assert_close(losses, expected, rtol=1e-4, atol=1e-4)


def test_settings_are_torchvisions(theirs):
    network = mask_rcnn(theirs.state_dict())
    rpn, head = network.detector.rpn, network.detector.box_head
    defaults = inspect.signature(FasterRCNN.__init__).parameters
    ours = {
        "min_size": network.min_size,
        "max_size": network.max_size,
        "rpn_pre_nms_top_n_train": rpn.training_top_n,
        "rpn_post_nms_top_n_train": rpn.training_top_n,
        "rpn_pre_nms_top_n_test": rpn.pre_nms_top_n,
        "rpn_post_nms_top_n_test": rpn.post_nms_top_n,
        "rpn_nms_thresh": rpn.nms_threshold,
        "rpn_batch_size_per_image": rpn.batch_size_per_image,
        "rpn_positive_fraction": rpn.positive_fraction,
        "box_score_thresh": head.score_threshold,
        "box_nms_thresh": head.nms_threshold,
        "box_detections_per_img": head.detections_per_image,
        "box_batch_size_per_image": network.detector.sampling[0],
        "box_positive_fraction": network.detector.sampling[1],
    }
    assert ours == {name: defaults[name].default for name in ours}
    assert rpn.min_size == theirs.rpn.min_size and not network.training


def published_names(state):
    """The names in torchvision's published files, which are older than its code."""
    older = (
        (r"(inner_blocks|layer_blocks)\.(\d)\.0\.", r"\1.\2."),
        (r"rpn\.head\.conv\.0\.0\.", "rpn.head.conv."),
        (r"mask_head\.(\d)\.0\.", lambda match: f"mask_head.mask_fcn{int(match[1]) + 1}."),
    )
    renamed = {}
    for name, tensor in state.items():
        for now, before in older:
            name = re.sub(now, before, name)
        renamed[name] = tensor
    return renamed


def test_the_names_in_the_published_files(theirs, ours):
    state = published_names(theirs.state_dict())
    assert "roi_heads.mask_head.mask_fcn4.bias" in state and "rpn.head.conv.weight" in state
    theirs.load_state_dict(dict(state))  # torchvision knows them as well
    expected = ours.state_dict()
    found = mask_rcnn(state).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@torch.no_grad()
@pytest.mark.parametrize("aux_loss", [False, True])
def test_fcn_scores_as_torchvision(samples, aux_loss):
    torch.manual_seed(0)
    image = samples[1].image[None, :, 60:157, 100:233]
    normalised = normalize(image, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    theirs = random_fcn(normalised, aux_loss=aux_loss)
    assert any("aux" in name for name in theirs.state_dict()) == aux_loss
    ours, expected = fcn(theirs.state_dict()), theirs(normalised)["out"]
    scores = ours(image)
    assert scores.shape == (1, 21, 97, 133) and len(expected.argmax(dim=1).unique()) > 5
    assert_close(scores, expected, rtol=1e-4, atol=1e-3)
    assert_close(scores.softmax(dim=1), expected.softmax(dim=1), rtol=0, atol=1e-4)
    assert ours(torch.rand(2, 3, 9, 5)).shape == (2, 21, 9, 5)


@pytest.mark.parametrize("height, width", [(800, 1088), (96, 160), (1344, 800), (64, 64)])
def test_anchors_are_torchvisions(height, width):
    strides, sizes = (4, 8, 16, 32), ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,))
    grids = [(height // stride, width // stride) for stride in strides]
    grids.append(tuple(-(-side // 2) for side in grids[-1]))
    generator = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5)
    batch = ImageList(torch.zeros(1, 3, height, width), [(height, width)])
    (expected,) = generator(batch, [torch.zeros(1, 1, *grid) for grid in grids])
    assert torch.equal(torch.cat(corner_anchors(grids, (*strides, 64), sizes)), expected)


def changed(state, name, tensor):
    state = {**state, name: tensor}
    return {key: value for key, value in state.items() if value is not None}


@pytest.mark.usefixtures("as_student")
def test_weights_of_another_network(theirs):
    state = theirs.state_dict()
    fcns = fcn_resnet50(weights=None, weights_backbone=None).state_dict()
    box = "roi_heads.box_predictor.bbox_pred.weight"
    wrong = (
        (
            mask_rcnn,
            fcns,
            "expected torchvision's weights, but roi_heads.box_predictor.cls_score.b",
        ),
        (fcn, state, "expected torchvision's weights, but classifier.4.bias is missing"),
        (faster_rcnn, state, r"expected fasterrcnn_resnet50_fpn, which has no tensor roi_heads.ma"),
        (
            mask_rcnn,
            box_state(state),
            "but nothing in it belongs to our heads.masks.layers.0.0.wei",
        ),
        (mask_rcnn, changed(state, "rpn.head.cls_logits.bias", None), "our rpn.objectness.bias$"),
        (mask_rcnn, changed(state, "surprise", torch.zeros(1)), "which has no tensor surprise$"),
        (mask_rcnn, changed(state, "rpn.head.cls_logits.bias", torch.zeros(9)), r"\[9\], which"),
        (mask_rcnn, changed(state, box, torch.zeros(9, 1024)), r"bbox_pred.weight has the shape"),
        (
            fcn,
            changed(fcns, "backbone.conv1.weight", torch.zeros(3)),
            r"conv1.weight has the shape",
        ),
    )
    for build, given, words in wrong:
        with pytest.raises(ValueError, match=rf"^state_dict: .*{words}"):
            build(given)
    for build in (faster_rcnn, mask_rcnn, fcn):
        with pytest.raises(TypeError, match=r"^state_dict: expected tensors by their names, got s"):
            build("mask_rcnn")
