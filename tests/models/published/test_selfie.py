"""Selfie segmentation against the published graph, and its masks against our annotations.

The fixtures hold what the graph itself gives for two photos in float64, operation by operation: every fourth
pixel of its output, and a subset of the features inside. The shipped weights are the graph's own float16
numbers, so that both must agree to the last digits.
"""

import resource
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from course_utils.core import data_path
from course_utils.data.photos import photo
from course_utils.data.weights import read_card
from course_utils.models.published import selfie

FIXTURES = Path(__file__).parent / "fixtures"
PHOTOS = ["astronaut", "camera"]


@pytest.fixture(scope="module")
def network():
    return selfie.load()


@pytest.fixture(scope="module", params=PHOTOS)
def graph(request):
    """An image of 256 x 256 pixels, every second pixel of a photo, and the graph's values for it."""
    image = photo(request.param).sample.image[None, :, ::2, ::2]
    with np.load(FIXTURES / f"selfie_{request.param}.npz") as values:
        return image, {name: torch.from_numpy(array) for name, array in values.items()}


def person(name):
    sample = photo(name).sample
    k = sample.labels.tolist().index(sample.class_names.index("person"))
    return sample.image, sample.boxes[k : k + 1], sample.masks[k]


def iou(mask, truth):
    return ((mask & truth).sum() / (mask | truth).sum()).item()


def test_the_output_is_the_graphs(network, graph):
    image, expected = graph
    exact = selfie.load().double()(image.double())[0, ::4, ::4]
    torch.testing.assert_close(exact, expected["probabilities"], rtol=0, atol=1e-10)
    rounded = network(image)[0, ::4, ::4].double()  # float32, whose rounding errors add up
    torch.testing.assert_close(rounded, expected["probabilities"], rtol=0, atol=1e-4)


def test_every_stage_is_the_graphs(graph):
    image, expected = graph
    network = selfie.load().double()
    features = network.encode(image.double())
    names = ["stem", "stride_4", "stride_8", "context"]
    values = dict(zip(names, features, strict=True))
    x = features[-1]
    for k, skip in enumerate(features[-2::-1]):
        x = network.up[k](x, skip)
        values[f"up_{k}"] = x
    for name, value in values.items():
        torch.testing.assert_close(
            value[0, ::4, 3::8, 2::8], expected[name], rtol=1e-10, atol=1e-10, msg=name
        )


def test_the_figure_in_the_docstring_has_the_sizes_of_the_tensors(network):
    features = network.encode(torch.zeros(1, 3, 256, 256))
    shapes = [list(feature.shape[1:]) for feature in features]
    assert shapes == [[16, 128, 128], [16, 64, 64], [24, 32, 32], [128, 16, 16]]
    figure = " ".join(selfie.__doc__.split())
    for shape in shapes:
        assert " x ".join(map(str, shape)) in figure
    assert network.decode(features).shape == (1, 256, 256)


def test_the_person_of_a_photo_is_found_by_her_box(network):
    for name, least in (("astronaut", 0.93), ("camera", 0.92)):
        image, boxes, truth = person(name)
        assert iou(network.mask(image, boxes)[0] > 0.5, truth) > least
    assert iou(network.mask(image)[0] > 0.5, truth) > 0.85  # the whole picture of the cameraman


def test_a_batch_gives_what_single_images_give(network):
    images = torch.stack([photo(name).sample.image[:, ::2, ::2] for name in PHOTOS])
    single = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(network(images), single, rtol=0, atol=1e-4)


def test_the_masks_of_several_boxes_are_those_of_each_box(network):
    image = person("astronaut")[0]
    boxes = torch.tensor([[80.0, 4, 430, 500], [10, 20, 30.5, 90], [300, -40, 600, 200]])
    masks = network.mask(image, boxes)
    for box, mask in zip(boxes, masks, strict=True):
        torch.testing.assert_close(network.mask(image, box[None])[0], mask, rtol=0, atol=1e-4)
    outside = torch.ones(512, 512, dtype=torch.bool)
    outside[4:107, 5:36] = False  # 10 % more on each side would be 13 .. 97 and 7.95 .. 32.55
    assert masks[1][outside].count_nonzero() == 0 < masks[1].count_nonzero()


def test_no_box_gives_no_mask(network):
    assert network.mask(torch.rand(3, 40, 50), torch.zeros(0, 4)).shape == (0, 40, 50)


@pytest.mark.parametrize("size", [(1, 1), (16, 31), (5, 300)])
def test_a_tiny_picture_and_boxes_beyond_its_border(network, size):
    height, width = size
    boxes = torch.tensor(
        [[0.0, 0, width, height], [-9, -9, -5, -5], [width, height, width, height]]
    )
    image = torch.full((3, *size), 0.5)
    for masks, count in ((network.mask(image), 1), (network.mask(image, boxes), 3)):
        assert masks.shape == (count, *size)
        assert masks.isfinite().all() and masks.min() >= 0 and masks.max() <= 1


def test_a_picture_of_one_colour_shows_nobody(network):
    for grey in (0.0, 0.5, 1.0):
        assert (network.mask(torch.full((3, 64, 64), grey)) < 0.5).all()


def test_a_huge_picture_takes_little_more_than_its_mask(network):
    image = torch.full((3, 4000, 6000), 0.5)  # 288 MB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    masks = network.mask(image, torch.tensor([[100.0, 100, 5900, 3900]]))
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert masks.shape == (1, 4000, 6000)
    assert more / (1e3 if sys.platform == "linux" else 1e6) < 800  # megabytes


def test_what_is_no_picture_is_named(network, as_student):
    with pytest.raises(ValueError, match=r"images: expected shape \[b, 3, 256, 256\]"):
        network(torch.zeros(1, 3, 128, 128))
    with pytest.raises(TypeError, match="image: expected floating-point"):
        network.mask(torch.zeros(3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="boxes: expected x1 <= x2"):
        network.mask(torch.zeros(3, 8, 8), torch.tensor([[5.0, 0, 2, 9]]))


def test_the_network_is_ready_and_its_card_says_what_it_is(network):
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    card = read_card(data_path("checkpoints", "selfie.safetensors"))
    assert card["licence"] == "Apache-2.0" and "surveillance" in card["not_for"]
    assert card["bytes"] < 250_000
