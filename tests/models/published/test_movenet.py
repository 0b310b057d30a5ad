"""MoveNet against the published graph, its decoding against a version with loops, and poses on photographs.

The fixtures hold what the graph itself gives for a crop of two photos: its output, and every fifth row and
column of its four maps. The shipped weights are the graph's own float16 numbers, so both agree to 1e-5.
"""

import math
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from course_utils.core import data_path
from course_utils.data.photos import photo
from course_utils.data.weights import read_card
from course_utils.models.published import movenet

FIXTURES = Path(__file__).parent / "fixtures"
CROPS = {  # of 192 x 192 pixels
    "astronaut": (slice(0, 384, 2), slice(0, 384, 2)),
    "crowd": (slice(60, 252), slice(150, 342)),  # one person, with two more beside
}
ASTRONAUT = torch.tensor([[19.0, 16.0, 366.0, 512.0]])
NOSE, LEFT_EYE, LEFT_SHOULDER, RIGHT_SHOULDER = 0, 1, 5, 6


@pytest.fixture(scope="module")
def network():
    return movenet.load()


@pytest.fixture(scope="module")
def astronaut():
    return photo("astronaut").sample.image


@pytest.fixture(params=CROPS)
def graph(request):
    """A crop, and the graph's values for it."""
    crop = photo(request.param).sample.image[None, :, *CROPS[request.param]]
    with np.load(FIXTURES / f"movenet_{request.param}.npz") as values:
        return crop, {name: torch.from_numpy(array) for name, array in values.items()}


def random_maps(people=3):
    """Maps that no network would predict, where every step of the decoding matters."""
    maps = movenet.Maps(
        centre=torch.rand(people, 48, 48),
        heat_maps=torch.rand(people, 17, 48, 48),
        regression=20 * torch.randn(people, 17, 2, 48, 48),
        offsets=torch.rand(people, 17, 2, 48, 48),
    )
    return movenet.Maps(*(value.double() for value in maps))


def test_the_pose_is_the_graphs(network, graph):
    crop, expected = graph
    torch.testing.assert_close(network(crop)[0], expected["pose"], rtol=0, atol=1e-5)


def test_the_maps_are_the_graphs(network, graph):
    crop, expected = graph
    maps = network.maps(crop)
    for name in maps._fields:
        value = getattr(maps, name)[0, ..., ::5, ::5]
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-4, msg=name)


def test_the_figure_in_the_docstring_has_the_sizes_of_the_tensors(network):
    features = network.trunk(torch.zeros(1, 3, 192, 192))
    laterals = [lateral(level) for lateral, level in zip(network.laterals, features[1:])]
    smoothed = [smooth(level) for smooth, level in zip(network.smooth, laterals[2::-1])]
    figure = " ".join(movenet.__doc__.split())
    for feature in [*features[1:], *laterals, *smoothed]:
        channels, height, width = feature.shape[1:]
        assert f"{channels} x {height} x {width}" in figure
    assert [len(smooth[0].weight) for smooth in network.smooth] == [64, 32, 24]


def test_decoding_equals_a_version_with_loops():
    torch.manual_seed(0)
    maps = random_maps()
    places = [(i, j) for i in range(48) for j in range(48)]
    for decoded, *arrays in zip(movenet.decode(maps), *maps):
        centre, heat, regression, offsets = (array.numpy() for array in arrays)
        i, j = max(places, key=lambda at: centre[at] / (math.dist(at, (24, 24)) + 1.8))
        expected = []
        for k in range(17):
            guess = (i + regression[k, 0, i, j], j + regression[k, 1, i, j])
            p, q = max(places, key=lambda at: heat[k][at] / (math.dist(at, guess) + 1.8))
            place = (p + offsets[k, 0, p, q], q + offsets[k, 1, p, q])
            expected.append([number * movenet.CELL for number in place] + [heat[k, p, q]])
        torch.testing.assert_close(decoded, torch.tensor(expected, dtype=torch.float64))


def test_of_two_equal_persons_the_one_in_the_middle_is_decoded():
    maps = movenet.Maps(*(torch.zeros_like(value) for value in random_maps(1)))
    for row, column in ((25, 20), (10, 40)):
        maps.centre[0, row, column] = 0.9
        maps.heat_maps[0, :, row - 3, column + 2] = 0.8
    pose = movenet.decode(maps)[0]
    expected = torch.tensor([22 * movenet.CELL, 22 * movenet.CELL, 0.8], dtype=torch.float64)
    torch.testing.assert_close(pose, expected.expand(17, 3))


def test_the_constants_of_the_graph_are_rounded_to_float16():
    assert np.float16(2 / 255) == movenet.GREY_LEVEL
    assert np.float16(1 / 48) == movenet.CELL


def test_the_astronaut_has_a_sensible_pose(network, astronaut):
    (pose,) = network.pose(astronaut, ASTRONAUT)
    assert torch.dist(pose[NOSE, :2], torch.tensor([224.0, 127.0])) < 8  # as seen in the photo
    assert torch.dist(pose[LEFT_EYE, :2], torch.tensor([247.0, 103.0])) < 8
    shoulders = pose[[LEFT_SHOULDER, RIGHT_SHOULDER]]
    assert (shoulders[:, 1] > pose[NOSE, 1] + 50).all()
    assert shoulders[0, 0] > shoulders[1, 0] + 150  # she looks into the camera
    sure = pose[pose[:, 2] > 0.3, :2]
    assert len(sure) >= 11
    assert (sure > 0).all() and (sure < 512).all()


@pytest.fixture(scope="module")
def crowd():
    """A photo of seven persons, with their boxes and masks."""
    sample = photo("crowd").sample
    person = sample.labels == sample.class_names.index("person")
    return sample.image, sample.boxes[person], sample.masks[person]


def test_neighbours_in_a_crowd_have_their_own_poses(network, crowd):
    image, boxes, masks = crowd
    poses, shares = network.pose(image, boxes), []
    for mask, pose in zip(masks, poses):
        column, row = pose[pose[:, 2] > 0.3, :2].long().T
        shares.append(mask[row.clamp(max=374), column].float().mean().item())
    hidden = shares.index(0)  # behind the neighbour, whose pose is found in both boxes
    assert min(shares[:hidden] + shares[hidden + 1 :]) > 0.7
    noses = (poses[:, NOSE, :2] - poses[hidden, NOSE, :2]).norm(dim=1)
    assert (noses < 5).sum() == 2


def test_a_batch_gives_what_each_person_gives_alone(network, crowd):
    image, boxes, _ = crowd
    alone = torch.cat([network.pose(image, box[None]) for box in boxes])
    torch.testing.assert_close(network.pose(image, boxes), alone, rtol=0, atol=1e-3)


def test_a_shifted_picture_gives_a_shifted_pose(network, astronaut):
    larger = torch.zeros(3, 700, 800)
    larger[:, 41:553, 83:595] = astronaut
    expected = network.pose(astronaut, ASTRONAUT) + torch.tensor([83.0, 41.0, 0.0])
    pose = network.pose(larger, ASTRONAUT + torch.tensor([83.0, 41.0, 83.0, 41.0]))
    torch.testing.assert_close(pose, expected, rtol=0, atol=1e-3)


def test_an_enlarged_picture_gives_an_enlarged_pose(network, astronaut):
    large = astronaut.repeat_interleave(3, 1).repeat_interleave(3, 2)
    pose, expected = network.pose(large, 3 * ASTRONAUT), network.pose(astronaut, ASTRONAUT)
    sure = expected[..., 2] > 0.3
    difference = (pose[sure] / 3 - expected[sure])[:, :2].abs()
    assert difference.max() < 12 and difference.median() < 2  # a cell has 12 pixels


def test_what_is_finer_than_a_pixel_of_the_crop_becomes_grey(network):
    rows, columns = torch.meshgrid(torch.arange(1920), torch.arange(1920), indexing="ij")
    box = torch.tensor([[200.0, 200.0, 1700.0, 1700.0]])  # a square of 1800 pixels
    chequered = network.pose(((rows + columns) % 2).float().expand(3, -1, -1), box)
    grey = network.pose(torch.full((3, 1920, 1920), 0.5), box)
    torch.testing.assert_close(chequered[..., 2], grey[..., 2], rtol=0, atol=1e-3)


def test_boxes_are_clipped_to_the_picture(network, astronaut):
    beyond = torch.tensor([[19.0, 16.0, 366.0, 1e9], [-300.0, 16.0, 366.0, 512.0]])
    inside = torch.tensor([[19.0, 16.0, 366.0, 512.0], [0.0, 16.0, 366.0, 512.0]])
    poses, expected = (network.pose(astronaut, boxes) for boxes in (beyond, inside))
    torch.testing.assert_close(poses, expected, rtol=0, atol=1e-4)
    outside = network.pose(astronaut, torch.tensor([[600.0, -90.0, 700.0, -10.0]]))
    assert outside.isfinite().all() and (outside[..., 2] < 0.3).all()


def test_boxes_may_be_whole_numbers_or_a_point(network, astronaut):
    whole = network.pose(astronaut, ASTRONAUT.long())
    torch.testing.assert_close(whole, network.pose(astronaut, ASTRONAUT))
    assert network.pose(astronaut, torch.full((1, 4), 99.0)).isfinite().all()


def test_no_boxes_give_no_poses(network, astronaut):
    assert network.pose(astronaut, torch.zeros(0, 4)).shape == (0, 17, 3)
    assert network(torch.zeros(0, 3, 192, 192)).shape == (0, 17, 3)


@pytest.mark.parametrize("size", [(1, 1), (20, 31), (300, 200)])
@pytest.mark.parametrize("value", [0.0, 0.6, 1.0])
def test_in_a_picture_of_one_colour_no_joint_is_sure(network, size, value):
    height, width = size
    box = torch.tensor([[0.0, 0.0, width, height]])
    pose = network.pose(torch.full((3, *size), value), box)
    assert pose.isfinite().all() and (pose[..., 2] < 0.3).all()


def test_24_million_pixels_fit_into_2_gigabytes(network, astronaut):
    huge = torch.zeros(3, 4000, 6000)
    huge[:, 1000:3048, 2000:4048] = astronaut.repeat_interleave(4, 1).repeat_interleave(4, 2)
    corner = torch.tensor([2000.0, 1000.0, 2000.0, 1000.0])
    whole = torch.tensor([0.0, 0.0, 6000.0, 4000.0])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    poses = network.pose(huge, torch.stack([4 * ASTRONAUT[0] + corner, whole]))
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    nose = 4 * torch.tensor([224.0, 127.0]) + corner[:2]
    assert torch.dist(poses[0, NOSE, :2], nose) < 32
    assert more < 1.2 * 2**20  # kilobytes; the picture itself has 0.3 GB


def test_the_network_is_ready_to_use_and_says_what_it_is_not_for(network):
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    card = read_card(data_path("checkpoints", "movenet.safetensors"))
    assert card["licence"].startswith("Apache-2.0") and "surveillance" in card["not_for"]
    assert len(movenet.KEYPOINTS) == 17 and movenet.KEYPOINTS[LEFT_SHOULDER] == "left shoulder"
    assert sorted({end for limb in movenet.SKELETON for end in limb}) == list(range(17))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda n: n(torch.zeros(1, 3, 256, 256)), ValueError, r"crops: .*\[b, 3, 192, 192\]"),
        (lambda n: n(torch.zeros(3, 192, 192)), ValueError, "crops: "),
        (lambda n: n(torch.zeros(1, 3, 192, 192).int()), TypeError, "crops: .*int32"),
        (lambda n: n.pose(torch.zeros(1, 9, 9), ASTRONAUT), ValueError, "image: .*3"),
        (lambda n: n.pose(torch.zeros(3, 9, 9).byte(), ASTRONAUT), TypeError, "image: .*uint8"),
        (lambda n: n.pose(torch.zeros(3, 9, 9), torch.zeros(4)), ValueError, r"boxes: .*\[n, 4\]"),
        (
            lambda n: n.pose(torch.zeros(3, 9, 9), ASTRONAUT.flip(1)),
            ValueError,
            "boxes: .*x1 <= x2",
        ),
        (lambda n: n.pose(torch.zeros(3, 0, 9), ASTRONAUT), ValueError, "size: .*above zero"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(network, as_student, call, error, message):
    with pytest.raises(error, match=message):
        call(network)
