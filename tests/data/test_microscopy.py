"""The nuclei: split, elastic deformation, loss weights, connected components; each against plain loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils.data import microscopy
from course_utils.data.microscopy import (
    border_weights,
    displacement_field,
    elastic_deformation,
    label_components,
    nuclei,
    nuclei_batches,
    open_gaps,
)
from course_utils.data.photos import photo

maps = st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=1, max_size=6)


def test_the_two_parts_are_the_whole_picture():
    train, held_out = nuclei()
    sample = photo("nuclei").sample
    image = torch.cat([train.image, held_out.image], dim=2)
    torch.testing.assert_close(image.square(), sample.image)
    instances = torch.cat([train.instances, held_out.instances], dim=1)
    assert torch.equal(instances > 0, sample.masks.any(dim=0))
    for number in (1, 60, 125):
        assert torch.equal(instances == number, sample.masks[number - 1])


def test_no_deformation_changes_nothing():
    image, labels = torch.rand(2, 9, 12), torch.randint(0, 5, (9, 12))
    bent, same = elastic_deformation(image, labels, seed=3, deviation=0)
    torch.testing.assert_close(bent, image)
    assert torch.equal(same, labels)


def test_image_and_labels_are_deformed_alike():
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    disc = ((x - 30) ** 2 + (y - 25) ** 2 < 15**2).long()
    bent, labels = elastic_deformation(disc[None].float(), disc, seed=1, deviation=5)
    assert (labels != disc).sum() > 50
    assert ((bent[0] > 0.5) == labels.bool()).float().mean() > 0.99  # but for single rim pixels


def test_a_pixel_shows_what_lies_at_its_displaced_place():
    ramp = torch.arange(80.0).expand(1, 80, 80) / 80
    bent, _ = elastic_deformation(ramp, torch.zeros(80, 80, dtype=torch.int64), seed=2, deviation=4)
    moved = ramp[0] * 80 + displacement_field((80, 80), seed=2, deviation=4)[0]
    inside = (moved > 0) & (moved < 79)
    torch.testing.assert_close(bent[0][inside] * 80, moved[inside], atol=1e-3, rtol=0)


def test_the_field_is_smooth_and_as_strong_as_wanted():
    field = displacement_field((100, 60), seed=0, points=3, deviation=10)
    assert field.shape == (2, 100, 60)
    assert field.diff(dim=1).abs().max() < 1.5
    corners = torch.stack(
        [displacement_field((20, 20), seed=seed, deviation=7)[:, ::19, ::19] for seed in range(400)]
    )
    assert abs(corners.std() - 7) < 0.4 and abs(corners.mean()) < 0.5


def test_labels_keep_their_numbers():
    labels = torch.tensor([0, 125, 7])[torch.randint(0, 3, (40, 40))]
    _, bent = elastic_deformation(torch.zeros(1, 40, 40), labels, seed=0)
    assert set(bent.unique().tolist()) <= {0, 7, 125}


def gaps_by_hand(instances):
    height, width = len(instances), len(instances[0])
    opened = [row.copy() for row in instances]
    for i in range(height):
        for j in range(width):
            around = {
                instances[y][x]
                for y in range(max(0, i - 1), min(height, i + 2))
                for x in range(max(0, j - 1), min(width, j + 2))
            } - {0, instances[i][j]}
            if around:
                opened[i][j] = 0
    return torch.tensor(opened)


@settings(deadline=None)
@given(maps)
def test_gaps_open_where_two_numbers_touch(instances):
    assert torch.equal(open_gaps(torch.tensor(instances)), gaps_by_hand(instances))


def weights_by_hand(instances, w0, sigma, class_weights):
    height, width = len(instances), len(instances[0])
    pixels = [(i, j) for i in range(height) for j in range(width)]
    weights = torch.zeros(height, width)
    for i, j in pixels:
        nearest = {}
        for y, x in pixels:
            if instances[y][x]:
                distance = math.hypot(y - i, x - j)
                number = instances[y][x]
                nearest[number] = min(nearest.get(number, math.inf), distance)
        d1, d2, *_ = sorted([*nearest.values(), math.inf, math.inf])
        gap = 0 if instances[i][j] else w0 * math.exp(-((d1 + d2) ** 2) / (2 * sigma**2))
        weights[i, j] = class_weights[instances[i][j] > 0] + gap
    return weights


@settings(deadline=None, max_examples=50)
@given(maps, st.sampled_from([0.6, 2.0, 5.0]))
def test_border_weights_are_the_formula(instances, sigma):
    ours = border_weights(torch.tensor(instances), w0=8, sigma=sigma, class_weights=(0.5, 2))
    torch.testing.assert_close(
        ours, weights_by_hand(instances, 8, sigma, (0.5, 2)), atol=1e-5, rtol=0
    )


def test_components_are_numbered_and_small_ones_left_out():
    mask = torch.tensor([[1, 0, 1, 1], [1, 0, 0, 0], [0, 1, 1, 1]]).bool()
    expected = torch.tensor([[1, 0, 2, 2], [1, 0, 0, 0], [0, 3, 3, 3]])
    assert torch.equal(label_components(mask), expected)
    expected = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 1]])
    assert torch.equal(label_components(mask, smallest=3), expected)
    assert label_components(torch.zeros(2, 2).bool()).max() == 0


def test_batches_are_a_function_of_the_step():
    batches, again = nuclei_batches(2, 64, seed=5), nuclei_batches(2, 64, seed=5)
    batches(0)
    first, second = batches(3), again(3)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    images, labels, weights = first
    assert images.shape == (2, 3, 64, 64) and images.min() >= 0 and images.max() <= 1
    assert labels.shape == weights.shape == (2, 64, 64)
    assert set(labels.unique().tolist()) == {0, 1}
    assert not torch.equal(images, batches(4)[0])
    assert not torch.equal(images, nuclei_batches(2, 64, seed=6)(3)[0])


def test_the_held_out_part_is_not_trained_on(monkeypatch):
    train, held_out = nuclei()
    dark = microscopy.Micrograph(
        torch.zeros_like(held_out.image), torch.zeros_like(held_out.instances)
    )
    ordinary = nuclei_batches(4, 128)(0)
    monkeypatch.setattr(microscopy, "nuclei", lambda: (train, dark))
    assert all(torch.equal(a, b) for a, b in zip(nuclei_batches(4, 128)(0), ordinary, strict=True))


def test_without_w0_only_the_classes_weigh():
    _, _, weights = nuclei_batches(2, 96, w0=0.0)(0)
    assert weights.min() >= 1 - 1e-6 and weights.max() <= 1.5 + 1e-6


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: elastic_deformation(torch.zeros(4, 4), torch.zeros(4, 4).long(), seed=0),
            ValueError,
            "image: expected shape [c, h, w], got [4, 4]",
        ),
        (
            lambda: elastic_deformation(torch.zeros(1, 4, 4), torch.zeros(4, 5).long(), seed=0),
            ValueError,
            "labels: expected shape [4, 4], got [4, 5]",
        ),
        (
            lambda: elastic_deformation(
                torch.zeros(1, 4, 4), torch.zeros(4, 4).long(), seed=0, points=1
            ),
            ValueError,
            "points: expected 2 or more, got 1",
        ),
        (
            lambda: elastic_deformation(
                torch.zeros(1, 4, 4), torch.zeros(4, 4).long(), seed=0, deviation=-1
            ),
            ValueError,
            "deviation: expected 0 or more, got -1",
        ),
        (
            lambda: elastic_deformation(
                torch.zeros(1, 4, 4).long(), torch.zeros(4, 4).long(), seed=0
            ),
            TypeError,
            "image: expected floating-point numbers, got torch.int64",
        ),
        (
            lambda: border_weights(torch.zeros(4).long()),
            ValueError,
            "instances: expected shape [h, w], got [4]",
        ),
        (
            lambda: border_weights(torch.zeros(4, 4).long(), sigma=0),
            ValueError,
            "w0, sigma: expected w0 >= 0 and sigma > 0, got 10.0 and 0",
        ),
        (lambda: nuclei_batches(2, 400), ValueError, "size: expected 1 to 384, got 400"),
    ],
)
def test_messages(as_student, call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
