"""course_utils.models.sliding_window: patch by patch = all at once, and the costs and fields counted."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from course_utils.models.sliding_window import (
    classify_at_once,
    classify_patches,
    count_multiply_adds,
    influence,
    receptive_field,
    small,
)

DILATED = nn.Sequential(
    nn.Conv2d(3, 4, 5), nn.ReLU(), nn.Conv2d(4, 4, 3, dilation=3), nn.Conv2d(4, 2, 1)
)


@pytest.mark.parametrize("layers", [1, 2, 5])
@pytest.mark.parametrize("size", [(1, 1), (7, 12), (16, 9)], ids=str)
def test_patch_by_patch_gives_the_same_as_all_at_once(layers, size):
    network, images = small(4, layers=layers).double(), torch.rand(2, 3, *size).double()
    scores = classify_patches(network, images)
    assert scores.shape == (2, 4, *size)
    assert_close(scores, classify_at_once(network, images))


def test_a_patch_in_the_middle_is_cut_where_one_expects():
    network, images = small(4, layers=2), torch.rand(1, 3, 9, 11)
    patch = images[:, :, 3 - 2 : 3 + 3, 6 - 2 : 6 + 3]
    assert_close(classify_patches(network, images)[:, :, 3, 6], network(patch)[:, :, 0, 0])


def test_other_kernels_and_dilation():
    images = torch.rand(1, 3, 12, 12)
    assert receptive_field(DILATED) == 1 + 4 + 6
    assert_close(
        classify_patches(DILATED, images), classify_at_once(DILATED, images), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("layers", range(1, 7))
def test_receptive_field_is_one_plus_two_layers_and_the_gradient_agrees(layers):
    network = small(4, layers=layers)
    side = 1 + 2 * layers
    assert receptive_field(network) == side
    seen = influence(network, torch.rand(8, 3, 17, 17), (4, 4)) > 0
    below = 17 - 2 * layers  # the output is that much smaller
    assert below > 4
    expected = torch.zeros(17, 17, dtype=torch.bool)
    expected[4 : 4 + side, 4 : 4 + side] = True
    assert torch.equal(seen, expected)


@pytest.mark.parametrize("network", [small(4), DILATED], ids=["small", "dilated"])
@pytest.mark.parametrize("size", [(1, 1), (6, 9)], ids=str)
def test_costs_counted_by_hand_equal_those_that_torch_counts(network, size):
    images = torch.rand(1, 3, *size)
    costs = count_multiply_adds(network, size)
    for classify, cost in ((classify_patches, costs.patches), (classify_at_once, costs.at_once)):
        with FlopCounterMode(display=False) as counter:
            classify(network, images)
        assert counter.get_total_flops() == 2 * cost  # a multiplication and an addition


def test_sliding_costs_more_the_more_layers_there_are():
    ratios = [
        cost.patches / cost.at_once
        for cost in (count_multiply_adds(small(9, layers=n), (96, 96)) for n in range(1, 8))
    ]
    assert ratios == sorted(ratios) and ratios[0] < 1.1 and ratios[-1] > 30


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda n, x: classify_patches(n, x[0]), ValueError, "images: expected shape [b, c, h, w]"),
        (lambda n, x: classify_at_once(n, x.long()), TypeError, "images: expected floating-point"),
        (lambda n, x: count_multiply_adds(n, (0, 4)), ValueError, "size: expected (height, width)"),
        (
            lambda n, x: influence(n, x[0], (0, 0)),
            ValueError,
            "images: expected shape [b, c, h, w]",
        ),
        (
            lambda n, x: receptive_field(nn.Sequential(nn.Conv2d(3, 3, 3, stride=2))),
            ValueError,
            "network: expected square convolutions of stride 1 without padding, got Conv2d",
        ),
        (
            lambda n, x: classify_at_once(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1)), x),
            ValueError,
            "network: expected square convolutions of stride 1 without padding, got Conv2d",
        ),
        (
            lambda n, x: classify_patches(nn.Sequential(nn.Conv2d(3, 3, 4)), x),
            ValueError,
            "network: expected an odd receptive field, got 4",
        ),
    ],
)
def test_messages(call, error, message):
    with pytest.raises(error) as caught:
        call(small(4), torch.rand(1, 3, 8, 8))
    assert str(caught.value).startswith(message)
