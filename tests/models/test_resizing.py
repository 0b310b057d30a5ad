"""Pictures of any size through a detector: the sizes and the targets of torchvision, and every edge."""

import itertools

import pytest
import torch
from torch.testing import assert_close
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from course_utils.models import faster_rcnn, mask_rcnn
from course_utils.models.blocks import Normalize
from course_utils.models.resizing import ResizedDetector, keep_crops, resized_size
from tests.models.detector_inputs import only, random_targets


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def small():
    detector = mask_rcnn.small(5)
    detector.heads["masks"].paste = keep_crops
    detector.box_head.score_threshold = 0.1
    return ResizedDetector(detector, min_size=64, max_size=100).eval()


def theirs(min_size, max_size):
    return GeneralizedRCNNTransform(min_size, max_size, [0.0] * 3, [1.0] * 3).eval()


@pytest.mark.parametrize("min_size, max_size", [(40, 70), (23, 37), (64, 64)])
def test_sizes_are_torchvisions(min_size, max_size):
    transform = theirs(min_size, max_size)
    for size in itertools.product((9, 10, 31, 40, 57, 80), repeat=2):
        resized, _ = transform.resize(torch.zeros(3, *size))
        assert resized_size(size, min_size, max_size) == tuple(resized.shape[1:])


def test_batch_and_targets_are_torchvisions(small, monkeypatch):
    sizes = (50, 90), (71, 40), (64, 64)
    images = [torch.rand(3, *size) for size in sizes]
    targets = [random_targets([2], size)[0] for size in sizes]
    targets = only(targets, "boxes", "labels", "masks")
    expected, expected_targets = theirs(64, 100)(images, targets)
    batch, own = small.resize(images)
    assert own.tolist() == [list(size) for size in expected.image_sizes]
    assert batch.shape == expected.tensors.shape == (3, 3, 128, 128)
    given = {}
    monkeypatch.setattr(small.detector, "losses", lambda *rest: given.update(rest[2]) or {})
    small(images, targets)
    for number, (height, width) in enumerate(own.tolist()):
        picture = expected.tensors[number, :, :height, :width]
        assert_close(batch[number, :, :height, :width], picture)
        mine, one = given["image"] == number, expected_targets[number]
        assert_close(given["boxes"][mine], one["boxes"])
        assert torch.equal(given["labels"][mine], one["labels"])
        masks = given["masks"][mine]
        assert torch.equal(masks[:, :height, :width], one["masks"].bool())
        # RoIAlign repeats the border of a mask; the padding does the same.
        assert torch.equal(masks[:, height:, :width].all(dim=1), masks[:, height - 1, :width]) or (
            height == 128
        )


def test_padding_becomes_zero():
    network = ResizedDetector(faster_rcnn.small(5), min_size=40, max_size=50)
    batch, sizes = network.resize([torch.rand(3, 20, 20), torch.rand(3, 20, 40)])
    assert sizes.tolist() == [[40, 40], [25, 50]] and batch.shape == (2, 3, 64, 64)
    normalised = Normalize()(batch)
    for image, (height, width) in zip(normalised, sizes.tolist()):
        outside = torch.ones(64, 64, dtype=torch.bool)
        outside[:height, :width] = False
        assert (image[:, outside] == 0).all() and (image[:, ~outside] != 0).any()


def test_pictures_of_every_size(small):
    sizes = (1, 1), (3, 500), (700, 2), (31, 17), (64, 64), (200, 330)
    images = [torch.rand(3, *size) for size in sizes[:-1]] + [torch.full((3, *sizes[-1]), 0.5)]
    for image, found in zip(images, small(images), strict=True):
        height, width = image.shape[1:]
        count = len(found["scores"])
        assert found["masks"].shape == (count, 1, height, width)
        assert found["masks"].min() >= 0 and found["masks"].max() <= 1
        limit = torch.tensor([width, height, width, height])
        assert (found["boxes"] >= 0).all() and (found["boxes"] <= limit * (1 + 1e-6)).all()
        assert not found["boxes"].requires_grad


def test_each_picture_has_its_own_box_limits(small):
    """Boxes and masks of a picture are those of the picture alone, but for what padding does nearby."""
    images = [torch.rand(3, 64, 64), torch.rand(3, 64, 96)]
    for found in small(images):
        assert len(found["boxes"]) > 0
    wide, narrow = (one["boxes"][:, 2].max() for one in small(images[::-1]))
    assert narrow <= 64 < wide <= 96


def test_no_detections(small):
    small.detector.box_head.score_threshold = 1.0
    for found, size in zip(small([torch.rand(3, 40, 50), torch.rand(3, 9, 9)]), ((40, 50), (9, 9))):
        assert found["boxes"].shape == (0, 4) and found["masks"].shape == (0, 1, *size)
        assert len(found["labels"]) == len(found["scores"]) == 0


@pytest.mark.usefixtures("as_student")
def test_messages(small):
    image, (target,) = torch.rand(3, 40, 40), random_targets([2], (40, 40))
    less = only([target], "boxes", "labels")
    whole = {**target, "boxes": target["boxes"].long()}
    wrong = (
        (lambda: small([]), ValueError, r"^images: expected a list of at least one picture"),
        (lambda: small(image[None]), ValueError, r"^images: expected a list of at least one pict"),
        (
            lambda: small([image[0]]),
            ValueError,
            r"^images: expected shape \[3, h, w\], got \[40, 4",
        ),
        (lambda: small([image.byte()]), TypeError, r"^images: expected floating-point numbers"),
        (lambda: small([image[:, :0]]), ValueError, r"^images: expected at least one pixel"),
        (lambda: small([image], []), ValueError, r"^targets: expected one for each of 1 images, g"),
        (lambda: small([image], less), ValueError, r"^targets: expected .*, masks is missing$"),
        (lambda: small([image], [whole]), TypeError, r"^boxes: expected floating-point numbers"),
        (
            lambda: small([image], [{**target, "masks": target["masks"][:, 1:]}]),
            ValueError,
            r"^masks: expected shape \[2, 40, 40\], got \[2, 39, 40\]",
        ),
        (lambda: ResizedDetector(small.detector, min_size=0), ValueError, r"^min_size: expected a"),
        (lambda: ResizedDetector(small.detector, max_size=9.5), TypeError, r"^max_size: expected"),
    )
    for call, kind, words in wrong:
        with pytest.raises(kind, match=words):
            call()
