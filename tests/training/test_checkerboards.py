"""Layers that upsample by 2: the experiment behind the record, and what can be known without training."""

import pytest
import torch
from torch import nn

from course_utils.training.experiments.checkerboards import (
    UPSAMPLERS,
    cat_to_upsample,
    checkerboards,
    constant_response,
    error_on_cat,
    pattern_of,
    stack_of_two,
    train_on_cat,
)


@pytest.mark.parametrize("kind", UPSAMPLERS)
def test_every_stack_upsamples_the_cat_by_4_and_can_be_trained(kind):
    small, large = cat_to_upsample()
    stack = stack_of_two(kind, seed=0)
    assert stack(small).shape == large.shape == (1, 3, 64, 80)
    before = error_on_cat(stack).item()
    train_on_cat(stack, steps=3)
    assert error_on_cat(stack).item() < before


@pytest.mark.parametrize("kind", UPSAMPLERS)
def test_only_two_kinds_start_without_a_pattern(kind):
    pattern = pattern_of(constant_response(stack_of_two(kind, seed=1)))
    assert (pattern < 1e-9) == (kind in ("PixelShuffle, ICNR", "resize-convolution"))


def test_resize_convolution_keeps_a_constant_image_constant_whatever_its_weights():
    stack = stack_of_two("resize-convolution", seed=0)
    train_on_cat(stack, steps=5)
    for grey in (0.0, 0.3, 1.0):
        assert pattern_of(constant_response(stack, grey)) < 1e-9


def test_the_error_is_measured_away_from_the_border():
    _, large = cat_to_upsample()

    class Rim(nn.Module):
        def forward(self, small):
            output = large + 0.5
            output[..., 8:-8, 8:-8] = large[..., 8:-8, 8:-8] + 0.1
            return output

    assert error_on_cat(Rim()).item() == pytest.approx(0.01)


def test_the_pattern_does_not_count_the_colour_itself():
    response = torch.arange(3.0)[:, None, None].expand(3, 4, 4).clone()
    assert pattern_of(response) == 0
    response[0, ::2] += 2.0
    assert pattern_of(response) == pytest.approx(1 / 3)


def test_the_stacks_of_the_experiment_differ_by_their_kind_and_seed():
    few = {"steps": (0, 2)}
    first, again, other = (checkerboards(seed, **few) for seed in (0, 0, 1))
    assert first == again != other
    assert list(first) == [
        f"{kind}: {what}" for kind in UPSAMPLERS for what in ("pattern", "error")
    ]
    assert all(list(by_steps) == [0, 2] for by_steps in first.values())
