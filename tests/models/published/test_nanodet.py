"""NanoDet-g against the published graph, its decoding by hand, and what it finds on photographs.

The fixtures hold what the graph of the npm package itself answers: its nodes, run one by one with torch by an
interpreter that knows nothing of our modules, on 416 x 416 pixels of two photos. They keep the scores and
the distance logits of some places of each level, half of them the most confident ones, and the mean over all
places.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from torchvision.ops import box_iou, nms

from course_utils.core import data_path
from course_utils.data.photos import photo
from course_utils.data.weights import read_card
from course_utils.metrics.detection import detection_metrics
from course_utils.models.published import nanodet

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="module")
def network():
    return nanodet.load()


def inputs(name):
    """The pixels that the fixtures were made from: no resizing, so the same in every version of torch."""
    image = photo(name).sample.image
    if name == "astronaut":
        return image[:, 48:464, 48:464]
    return F.pad(image[:, :, :416], (0, 0, 0, 41))


def names(found):
    return [nanodet.CLASSES[label] for label in found["labels"]]


@pytest.mark.parametrize("name", ["astronaut", "crowd"])
def test_outputs_are_the_graphs(network, name):
    with np.load(FIXTURES / f"nanodet_{name}.npz") as expected:
        for stride, outputs in zip((8, 16, 32), network(inputs(name)[None]), strict=True):
            for kind, found in zip(("scores", "logits"), outputs, strict=True):
                assert found.shape == (1, (416 // stride) ** 2, 80 if kind == "scores" else 44)
                some = found[0, expected[f"places_{stride}"]]
                close = {"rtol": 1e-5, "atol": 1e-5}
                assert_close(some, torch.from_numpy(expected[f"{kind}_{stride}"]), **close)
                mean = torch.from_numpy(expected[f"mean_{kind}_{stride}"])
                assert_close(found[0].mean(dim=0), mean, **close)


def test_a_batch_is_the_same_as_its_images_and_need_not_be_square(network):
    images = torch.stack([inputs("astronaut"), inputs("crowd")])[..., 32:384]
    assert images.shape == (2, 3, 416, 352)
    for level, *single in zip(network(images), network(images[:1]), network(images[1:])):
        for part in range(2):
            assert_close(level[part], torch.cat([pair[part] for pair in single]), rtol=0, atol=1e-4)


def test_an_empty_batch_gives_empty_outputs(network):
    shapes = [(pair[0].shape, pair[1].shape) for pair in network(torch.zeros(0, 3, 64, 32))]
    assert shapes == [((0, n, 80), (0, n, 44)) for n in (32, 8, 2)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
def test_a_picture_of_another_precision_is_fine(network, dtype):
    image = photo("camera").sample.image
    found, expected = network.detect(image.to(dtype)), network.detect(image)
    assert torch.equal(found["labels"], expected["labels"])
    assert_close(found["boxes"], expected["boxes"], rtol=0, atol=0.5)


def test_classes_are_cocos_after_background():
    assert len(nanodet.CLASSES) == 81
    assert nanodet.CLASSES[:4] == ("background", "person", "bicycle", "car")
    assert nanodet.CLASSES[12] == "stop sign" and nanodet.CLASSES[-1] == "toothbrush"


def test_weights_are_loaded_for_use(network):
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())


def test_card_says_whose_it_is_and_what_it_is_not_for(network):
    card = read_card(data_path("checkpoints", "nanodet.safetensors"))
    assert "Apache-2.0" in card["licence"] and "RangiLyu" in card["origin"]
    assert card["not_for"] and card["good_at"]
    assert card["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    assert card["class_names"] == list(nanodet.CLASSES)


def test_decode_is_the_mean_of_each_distribution_around_the_centre():
    torch.manual_seed(0)
    logits = 3 * torch.randn(6, 44)
    expected = []
    for place in range(6):  # two rows of three
        left, top, right, bottom = (
            16 * sum(k * p for k, p in enumerate(logits[place, start : start + 11].softmax(0)))
            for start in (0, 11, 22, 33)
        )
        x, y = 16 * (place % 3 + 0.5), 16 * (place // 3 + 0.5)
        expected.append(torch.stack([x - left, y - top, x + right, y + bottom]))
    assert_close(nanodet.decode(logits, columns=3, stride=16), torch.stack(expected))


@pytest.mark.parametrize("size", [(96, 160), (500, 333), (40, 1000)], ids=str)
def test_candidates_have_a_place_for_each_cell_of_the_padded_image(network, size):
    candidates = network.candidates(torch.rand(3, *size))
    scale = 416 / max(size)
    padded = [-(-round(side * scale) // 32) * 32 for side in size]
    for stride, (boxes, scores) in candidates.items():
        count = (padded[0] // stride) * (padded[1] // stride)
        assert boxes.shape == (count, 4) and scores.shape == (count, 80)
    assert list(candidates) == [8, 16, 32]


def test_detections_are_the_best_candidates_of_each_class(network):
    image = photo("crowd").sample.image
    boxes, scores = (torch.cat(part) for part in zip(*network.candidates(image).values()))
    height, width = image.shape[1:]
    boxes = boxes.clamp(min=0).minimum(torch.tensor([width, height, width, height]))
    expected = []
    for label in range(1, 81):
        sure = scores[:, label - 1] >= 0.35
        kept = nms(boxes[sure], scores[sure, label - 1], 0.5)
        expected += [(float(s), label) for s in scores[sure, label - 1][kept]]
    found = network.detect(image)
    assert list(zip(found["scores"].tolist(), found["labels"].tolist())) == sorted(
        expected, reverse=True
    )
    assert found["labels"].dtype == torch.int64 and found["boxes"].shape == (len(expected), 4)


def test_finds_the_persons_of_the_photos(network):
    for name, score in (("astronaut", 0.73), ("camera", 0.88)):
        sample = photo(name).sample
        found = network.detect(sample.image)
        assert names(found)[0] == "person" and abs(found["scores"][0] - score) < 0.02
        person = sample.boxes[sample.labels == sample.class_names.index("person")]
        assert box_iou(found["boxes"][:1], person).item() > 0.75
    assert names(network.detect(photo("chelsea").sample.image))[0] == "cat"
    assert names(network.detect(photo("rocket").sample.image)) == []


def test_finds_six_friends_at_lunch(network):
    sample = photo("crowd").sample
    found = network.detect(sample.image, score_threshold=0.45)
    persons = found["boxes"][[name == "person" for name in names(found)]]
    truth = sample.boxes[sample.labels == sample.class_names.index("person")]
    assert len(persons) == 6 and len(truth) == 7
    iou = box_iou(persons, truth)
    assert (iou.max(dim=1).values > 0.5).sum() >= 5 and len(iou.argmax(dim=1).unique()) >= 5


def test_average_precision_on_our_photos_is_that_of_the_card(network):
    predictions, targets = [], []
    for name in ("astronaut", "camera", "chelsea", "coffee", "crowd"):
        sample = photo(name).sample
        spelled = [{"diningtable": "dining table"}.get(n, n) for n in sample.class_names]
        rows = [k for k, label in enumerate(sample.labels) if spelled[label] in nanodet.CLASSES]
        labels = [nanodet.CLASSES.index(spelled[sample.labels[k]]) for k in rows]
        targets.append({"boxes": sample.boxes[rows], "labels": torch.tensor(labels)})
        predictions.append(network.detect(sample.image, score_threshold=0.05))
    metrics = detection_metrics(predictions, targets)
    card = read_card(data_path("checkpoints", "nanodet.safetensors"))
    for name, value in card["metrics"].items():
        assert abs(getattr(metrics, name) - value) < 0.02, name


@pytest.mark.parametrize("size", [(1, 1), (20, 31), (1, 4000), (417, 416), (64, 64)], ids=str)
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_picture_of_one_colour_has_no_objects(network, size, value):
    found = network.detect(torch.full((3, *size), value))
    assert {name: tuple(rows.shape) for name, rows in found.items()} == {
        "boxes": (0, 4),
        "labels": (0,),
        "scores": (0,),
    }


def test_detections_do_not_depend_on_the_size_of_the_file(network):
    image = photo("astronaut").sample.image
    large = image.repeat_interleave(6, dim=1).repeat_interleave(6, dim=2)
    one, other = network.detect(image), network.detect(large)
    assert names(one) == names(other)
    assert box_iou(one["boxes"], other["boxes"] / 6).diagonal().min() > 0.97


def test_boxes_stay_inside_the_picture(network):
    image = photo("camera").sample.image[:, 100:400, 150:]
    boxes = network.detect(image, score_threshold=0.02)["boxes"]
    assert len(boxes) > 20 and boxes.min() >= 0
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert boxes[:, 2].max() <= image.shape[2] and boxes[:, 3].max() <= image.shape[1]


def test_bad_input_is_a_sentence(network, as_student):
    with pytest.raises(ValueError, match=r"image: expected shape \[3, h, w\], got \[1, 40, 40\]"):
        network.detect(torch.zeros(1, 40, 40))
    with pytest.raises(TypeError, match="image: expected floating-point numbers"):
        network.detect(torch.zeros(3, 40, 40, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"image: expected .* above zero"):
        network.detect(torch.zeros(3, 0, 40))
    with pytest.raises(ValueError, match="score_threshold: expected a number from 0 to 1, got 35"):
        network.detect(torch.zeros(3, 40, 40), score_threshold=35)
    with pytest.raises(ValueError, match="nms_threshold: expected a number from 0 to 1, got 50"):
        network.detect(torch.zeros(3, 40, 40), nms_threshold=50)
    with pytest.raises(ValueError, match="images: expected a height and width in multiples of 32"):
        network(torch.zeros(1, 3, 416, 400))
    with pytest.raises(ValueError, match="images: expected shape"):
        network(torch.zeros(3, 416, 416))
