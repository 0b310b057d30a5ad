"""course_utils.ops.corner_losses: loops = plain, the examples by hand, and the laws of both losses."""

import itertools
import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from course_utils.ops.corner_losses import (
    heatmap_focal_loss,
    heatmap_focal_loss_loops,
    pull_push_loss,
    pull_push_loss_loops,
)
from course_utils.ops.losses import sigmoid_focal_loss
from tests.ops.feature_maps import random

focal_losses = pytest.mark.parametrize("loss", [heatmap_focal_loss, heatmap_focal_loss_loops])
embedding_losses = pytest.mark.parametrize("loss", [pull_push_loss, pull_push_loss_loops])


def heatmaps(*shape, seed=0):
    """Targets in which some cells of the first image, many of the second and none of the third are 1."""
    target = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    target[0][target[0] > 0.9] = 1
    target[1][target[1] > 0.5] = 1
    return target


def gradients(function, *inputs):
    leaves = [input.clone().requires_grad_() for input in inputs]
    return torch.autograd.grad(function(*leaves), leaves)


# --- heat maps


@focal_losses
def test_two_cells_by_hand(loss, device):
    target = torch.tensor([[[[1.0, 0.5]]]], device=device)
    expected = 0.25 * math.log(2) + 0.5**4 * 0.25 * math.log(2)  # .1733 at the corner, .0108 beside
    assert loss(torch.zeros_like(target), target).item() == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(3, 2, 4, 5), (3, 7), (3, 2, 2, 3, 2)], ids=str)
@pytest.mark.parametrize("exponents", [(2.0, 4.0), (0.0, 0.0), (1.5, 3.0)], ids=str)
def test_heatmap_loss_equals_loops_forward_and_backward(shape, exponents, device):
    input, target = 3 * random(*shape, device=device), heatmaps(*shape).to(device)
    ours, loops = (
        lambda x, f=f: f(x, target, *exponents)
        for f in (heatmap_focal_loss, heatmap_focal_loss_loops)
    )
    assert ours(input).shape == (3,)
    assert_close(ours(input), loops(input), rtol=1e-12, atol=1e-12)
    weights = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64, device=device)
    mine, theirs = (gradients(lambda x, f=f: f(x) @ weights, input)[0] for f in (ours, loops))
    assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_without_bumps_it_is_the_focal_loss_of_retinanet():
    input, target = 3 * random(3, 2, 4, 5), heatmaps(3, 2, 4, 5).floor()
    expected = sigmoid_focal_loss(input, target, alpha=-1.0).flatten(1).sum(dim=1)
    objects = (target == 1).flatten(1).sum(dim=1)
    assert objects.tolist()[2] == 0 and objects[:2].min() > 0
    assert_close(heatmap_focal_loss(input, target), expected / objects.clamp(min=1))


def test_without_exponents_it_is_binary_cross_entropy_per_corner():
    input, target = 3 * random(3, 2, 4, 5), heatmaps(3, 2, 4, 5)
    corners = (target == 1).double()
    expected = (
        F.binary_cross_entropy_with_logits(input, corners, reduction="none").flatten(1).sum(1)
    )
    losses = heatmap_focal_loss(input, target, alpha=0.0, beta=0.0)
    assert_close(losses, expected / corners.flatten(1).sum(1).clamp(min=1))


@focal_losses
def test_each_image_counts_its_own_corners(loss):
    """The loss of an image does not depend on which images are in the batch with it."""
    input, target = random(3, 2, 4, 5), heatmaps(3, 2, 4, 5)
    alone = torch.cat([loss(input[n : n + 1], target[n : n + 1]) for n in range(3)])
    assert_close(loss(input, target), alone, rtol=1e-12, atol=0)


def test_beside_a_corner_a_prediction_costs_less_than_far_away():
    target = torch.tensor([[1.0, 0.9, 0.5, 0.1, 0.0]])
    costs = [
        heatmap_focal_loss(8 * F.one_hot(torch.tensor([k]), 5) - 4.0, target) for k in range(5)
    ]
    assert costs == sorted(costs)


@focal_losses
@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_large_logits_stay_finite(loss, logit):
    target = torch.tensor([[1.0, 0.0, 0.5]])
    input = torch.full_like(target, logit)
    expected = 1e4 if logit < 0 else 1e4 + 1e4 / 16  # missed, or invented at both other cells
    assert loss(input, target).item() == pytest.approx(expected)
    assert gradients(lambda x: loss(x, target).sum(), input)[0].isfinite().all()


@focal_losses
def test_nothing_to_predict(loss):
    assert loss(torch.zeros(0, 2, 4, 4), torch.zeros(0, 2, 4, 4)).shape == (0,)
    assert loss(torch.zeros(2, 0, 4, 4), torch.zeros(2, 0, 4, 4)).tolist() == [0, 0]


def test_heatmap_loss_passes_gradcheck():
    target = heatmaps(3, 1, 2, 3)
    input = random(3, 1, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: heatmap_focal_loss(x, target), input)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_heatmap_loss_in_half_precision(dtype):
    input, target = random(3, 2, 4, 5).to(dtype), heatmaps(3, 2, 4, 5).to(dtype)
    losses = heatmap_focal_loss(input, target)
    assert losses.dtype == dtype
    expected = heatmap_focal_loss(input.double(), target.double())
    assert_close(losses.double(), expected, rtol=0.03, atol=0.01)


# --- embeddings


@embedding_losses
def test_two_objects_by_hand(loss, device):
    losses = loss(*torch.tensor([[1.0, 2.0], [1.2, 1.8]], device=device))
    assert losses.pull.item() == pytest.approx(0.02)
    assert losses.push.item() == pytest.approx(0.2)


def cornernet(top_left, bottom_right):
    """The losses as in CornerNet's code: the diagonal is summed too, and 1 / n subtracted from each entry."""
    n = len(top_left)
    mean = (top_left + bottom_right) / 2
    pull = ((top_left - mean) ** 2).sum() / n + ((bottom_right - mean) ** 2).sum() / n
    distance = F.relu(1 - (mean[None] - mean[:, None]).abs())
    return pull, ((distance - 1 / n) / (n * (n - 1))).sum()


@pytest.mark.parametrize("n", [2, 3, 7])
@pytest.mark.parametrize("spread", [0.3, 3.0])
def test_equals_loops_and_cornernets_code(n, spread, device):
    embeddings = (spread * random(n, device=device), spread * random(n, seed=1, device=device))
    for loss in (pull_push_loss, pull_push_loss_loops):
        assert_close(tuple(loss(*embeddings)), cornernet(*embeddings))
        mine, theirs = (
            gradients(lambda *e, f=f: 2 * f(*e)[0] + 3 * f(*e)[1], *embeddings)
            for f in (loss, cornernet)
        )
        assert_close(mine, theirs)


@pytest.mark.parametrize("margin", [0.0, 0.5, 2.0])
def test_margin_equals_loops(margin):
    embeddings = random(5), random(5, seed=1)
    ours, loops = (f(*embeddings, margin) for f in (pull_push_loss, pull_push_loss_loops))
    assert_close(tuple(ours), tuple(loops), rtol=1e-12, atol=1e-12)
    assert (ours.push == 0) == (margin == 0)


@embedding_losses
@pytest.mark.parametrize("n", [0, 1])
def test_without_another_object_nothing_is_pushed(loss, n):
    top_left, bottom_right = torch.full((n,), 1.0), torch.full((n,), 3.0)
    losses = loss(top_left, bottom_right)
    assert losses.push.item() == 0 and losses.pull.item() == 2 * n
    slopes = gradients(lambda *e: sum(pull_push_loss(*e)), top_left, bottom_right)
    assert [slope.tolist() for slope in slopes] == [[-2.0] * n, [2.0] * n]


@embedding_losses
def test_both_are_0_where_objects_are_a_margin_apart(loss):
    embeddings = torch.tensor([0.0, 1.0, 2.5])
    assert [value.item() for value in loss(embeddings, embeddings)] == [0, 0]


@embedding_losses
def test_equal_embeddings_are_pushed_by_the_whole_margin_and_have_a_gradient_of_0(loss):
    same = torch.full((4,), 0.7)
    assert loss(same, same, 1.5).push.item() == pytest.approx(1.5)
    assert all((slope == 0).all() for slope in gradients(lambda *e: loss(*e).push, same, same))


def test_the_order_of_objects_and_of_corners_does_not_matter():
    top_left, bottom_right = random(4), random(4, seed=1)
    expected = pull_push_loss(top_left, bottom_right)
    for order in map(list, itertools.permutations(range(4))):
        for pair in ((top_left, bottom_right), (bottom_right, top_left)):
            assert_close(tuple(pull_push_loss(*(side[order] for side in pair))), tuple(expected))


def test_embedding_losses_pass_gradcheck():
    inputs = random(4).requires_grad_(), random(4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda *e: tuple(pull_push_loss(*e)), inputs)


def test_embeddings_read_out_of_a_map():
    """Every second number of a wider tensor."""
    wide = random(5, 2)
    expected = pull_push_loss(wide[:, 0].clone(), wide[:, 1].clone())
    assert_close(tuple(pull_push_loss(wide[:, 0], wide[:, 1])), tuple(expected))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_both_are_deterministic_on_cuda():
    torch.use_deterministic_algorithms(True)
    try:
        input, target = random(3, 2, 40, 50, device="cuda"), heatmaps(3, 2, 40, 50).cuda()
        loss = lambda x: heatmap_focal_loss(x, target).sum()  # noqa: E731
        assert torch.equal(*(gradients(loss, input)[0] for _ in range(2)))
        loss = lambda x: sum(pull_push_loss(x, x**2))  # noqa: E731
        assert torch.equal(*(gradients(loss, input[0, 0, 0])[0] for _ in range(2)))
    finally:
        torch.use_deterministic_algorithms(False)


# --- messages

maps, three = torch.zeros(2, 3, 4, 4), torch.zeros(3)
MISTAKES = {
    "a list": (lambda: heatmap_focal_loss([0.0], maps), TypeError, "input: expected a torch.Ten"),
    "one axis": (
        lambda: heatmap_focal_loss(three, three),
        ValueError,
        "input: expected shape [b, ..., h, w], got [3]",
    ),
    "whole logits": (lambda: heatmap_focal_loss(maps.long(), maps), TypeError, "input: expected f"),
    "another size": (
        lambda: heatmap_focal_loss(maps, maps[:, 1:]),
        ValueError,
        "target: expected shape [2, 3, 4, 4], got [2, 2, 4, 4]",
    ),
    "whole targets": (
        lambda: heatmap_focal_loss(maps, maps.long()),
        TypeError,
        "target: expected floating-point numbers, got torch.int64",
    ),
    "target 2": (
        lambda: heatmap_focal_loss(maps, maps + 2),
        ValueError,
        "target: expected numbers from 0 to 1, but row [0, 0, 0, 0] is 2.0",
    ),
    "nan": (
        lambda: heatmap_focal_loss(maps, maps + math.nan),
        ValueError,
        "target: expected numbers from 0 to 1, but row [0, 0, 0, 0] is nan",
    ),
    "alpha": (
        lambda: heatmap_focal_loss(maps, maps, alpha=-1),
        ValueError,
        "alpha: expected a number of at least 0, got -1",
    ),
    "beta": (
        lambda: heatmap_focal_loss(maps, maps, beta="4"),
        TypeError,
        "beta: expected a number of at least 0, got '4'",
    ),
    "embeddings in a list": (
        lambda: pull_push_loss([0.0], three),
        TypeError,
        "top_left: expected a torch.Tensor, got list",
    ),
    "embeddings of two numbers": (
        lambda: pull_push_loss(maps[0, 0], maps[0, 0]),
        ValueError,
        "top_left: expected shape [n], got [4, 4]",
    ),
    "whole embeddings": (
        lambda: pull_push_loss(three, three.long()),
        TypeError,
        "bottom_right: expected floating-point numbers, got torch.int64",
    ),
    "another number of corners": (
        lambda: pull_push_loss(three, three[:2]),
        ValueError,
        "bottom_right: expected shape [3], got [2]",
    ),
    "margin": (
        lambda: pull_push_loss(three, three, math.nan),
        ValueError,
        "margin: expected a number of at least 0, got nan",
    ),
}


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize(("call", "error", "words"), MISTAKES.values(), ids=MISTAKES)
def test_message(call, error, words):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value).startswith(words)


@pytest.mark.usefixtures("as_student")
def test_mixed_devices():
    class Elsewhere(torch.Tensor):
        device = torch.device("cuda", 0)

    for begins, call in (
        ("input, target: ", lambda: heatmap_focal_loss(maps, maps.as_subclass(Elsewhere))),
        ("top_left, bottom_right: ", lambda: pull_push_loss(three.as_subclass(Elsewhere), three)),
    ):
        with pytest.raises(ValueError, match=f"^{begins}expected one device, got"):
            call()


def test_values_are_read_on_the_cpu_only():
    far = maps.to("meta")
    assert heatmap_focal_loss(far, far).device.type == "meta"
    assert pull_push_loss(three.to("meta"), three.to("meta")).push.device.type == "meta"
