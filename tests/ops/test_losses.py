"""course_utils.ops.losses: loops = vectorised = torch and torchvision, forward and backward."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close
from torchvision.ops import sigmoid_focal_loss

from course_utils.ops.losses import (
    cross_entropy,
    cross_entropy_loops,
    dice_loss,
    dice_loss_loops,
    focal_loss,
    focal_loss_loops,
)

SHAPES = {"image": (2, 5, 3, 4), "line": (3, 4, 6), "vector": (7, 3), "one class": (2, 1, 3, 3)}


def maps(shape, seed=0, void=0.3, dtype=torch.float32, device="cpu"):
    """Random scores and labels, some of them void."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < void] = 255
    return logits.to(dtype).to(device), labels.to(device)


def gradient(function, logits):
    logits = logits.clone().requires_grad_()
    function(logits).sum().backward()
    return logits.grad


# --- cross-entropy


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_cross_entropy_equals_torch_forward_and_backward(shape, reduction, weighted, device):
    logits, labels = maps(shape, device=device)
    weight = torch.linspace(0.5, 2, shape[1], device=device) if weighted else None

    def ours(logits):
        return cross_entropy(logits, labels, weight=weight, reduction=reduction)

    def torchs(logits):
        return F.cross_entropy(logits, labels, weight, ignore_index=255, reduction=reduction)

    assert_close(ours(logits), torchs(logits))
    assert_close(gradient(ours, logits), gradient(torchs, logits))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_equals_loops(shape, reduction):
    logits, labels = maps(shape, dtype=torch.float64)
    weight = torch.linspace(0.5, 2, shape[1], dtype=torch.float64)
    for arguments in ((None, 255), (weight, 255), (weight, 0)):
        if arguments[1] == 0:
            labels = labels % 255
        loops = cross_entropy_loops(logits, labels, *arguments, reduction=reduction)
        assert_close(cross_entropy(logits, labels, *arguments, reduction=reduction), loops)


def test_cross_entropy_passes_gradcheck():
    logits, labels = maps((2, 3, 2, 2), dtype=torch.float64)
    logits.requires_grad_()
    weight = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, labels, weight), logits)


def test_gradient_of_cross_entropy_is_probability_less_one_hot():
    logits, labels = maps((1, 4, 2, 2), void=0)
    expected = logits.softmax(dim=1) - F.one_hot(labels, 4).movedim(-1, 1)
    assert_close(gradient(lambda x: cross_entropy(x, labels, reduction="sum"), logits), expected)


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (0, 3, 4, 4), (2, 3, 0, 4)], ids=str)
def test_nothing_but_void_gives_zero_here_and_nan_in_torch(shape):
    logits, _ = maps((2, 3, 4, 4))
    logits = logits.new_zeros(shape) if 0 in shape else logits
    labels = torch.full((shape[0], *shape[2:]), 255)
    assert cross_entropy(logits, labels).item() == 0
    assert F.cross_entropy(logits, labels, ignore_index=255).isnan()
    assert (gradient(lambda x: cross_entropy(x, labels), logits) == 0).all()


def test_an_infinite_score_at_a_void_pixel_does_not_matter():
    logits, labels = maps((1, 3, 2, 2), void=0)
    labels[0, 0, 0] = 255
    logits[0, 0, 0, 0] = -torch.inf
    assert_close(cross_entropy(logits, labels), F.cross_entropy(logits, labels, ignore_index=255))
    assert gradient(lambda x: cross_entropy(x, labels), logits).isfinite().all()


def test_large_scores_do_not_overflow():
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]])
    assert cross_entropy(logits, torch.tensor([0, 0])).item() == 1e4
    assert cross_entropy_loops(logits, torch.tensor([0, 0])).item() == 1e4


@given(st.integers(0, 10_000), st.floats(-50, 50))
def test_cross_entropy_does_not_change_when_all_scores_shift(seed, shift):
    logits, labels = maps((2, 3, 2, 2), seed, dtype=torch.float64)
    assert_close(cross_entropy(logits + shift, labels), cross_entropy(logits, labels))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cross_entropy_is_deterministic_on_cuda():
    logits, labels = maps((2, 5, 8, 8), device="cuda")
    torch.use_deterministic_algorithms(True)
    try:
        first = gradient(lambda x: cross_entropy(x, labels), logits)
        assert torch.equal(first, gradient(lambda x: cross_entropy(x, labels), logits))
    finally:
        torch.use_deterministic_algorithms(False)


# --- dice


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_dice_equals_loops(shape):
    logits, labels = maps(shape, dtype=torch.float64)
    for arguments in ((255, 1.0), (255, 0.1), (0, 1.0)):
        labels = labels % 255 if arguments[0] == 0 else labels
        loops = dice_loss_loops(logits, labels, *arguments)
        assert_close(dice_loss(logits, labels, *arguments), loops)


def test_dice_passes_gradcheck():
    logits, labels = maps((2, 3, 2, 2), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: dice_loss(x, labels), logits.requires_grad_())


def test_dice_of_sure_answers_is_one_minus_the_dice_of_the_sets():
    labels = torch.tensor([[0, 0, 0, 1, 1, 2, 2, 255]])
    answer = torch.tensor([[0, 0, 1, 1, 2, 2, 2, 0]])
    logits = 1e3 * F.one_hot(answer, 4).movedim(-1, 1).float()  # class 3 is nowhere: no loss
    dice = [2 * 2 / (3 + 2), 2 * 1 / (2 + 2), 2 * 2 / (2 + 3), 1.0]
    assert_close(dice_loss(logits, labels, smooth=1e-6).item(), 1 - sum(dice) / 4)


def test_dice_is_zero_when_all_is_right_or_void():
    logits, labels = maps((2, 3, 4, 4))
    right = 1e3 * F.one_hot(labels % 255, 3).movedim(-1, 1).float()
    assert_close(dice_loss(right, labels).item(), 0.0)
    assert dice_loss(logits, torch.full_like(labels, 255)).item() == 0
    assert (gradient(lambda x: dice_loss(x, torch.full_like(labels, 255)), logits) == 0).all()


# --- focal


@pytest.mark.parametrize("alpha", [0.25, 0.9, -1.0])
@pytest.mark.parametrize("gamma", [0.0, 2.0, 3.5])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_focal_equals_torchvision_and_loops(alpha, gamma, reduction):
    logits, _ = maps((2, 3, 4), dtype=torch.float64)
    for targets in (torch.rand_like(logits), torch.rand_like(logits).round()):
        arguments = (targets, alpha, gamma, reduction)
        expected = sigmoid_focal_loss(logits, *arguments)
        assert_close(focal_loss(logits, *arguments), expected)
        assert_close(focal_loss_loops(logits, *arguments), expected)
        assert_close(
            gradient(lambda x, a=arguments: focal_loss(x, *a), logits),
            gradient(lambda x, a=arguments: sigmoid_focal_loss(x, *a), logits),
        )


def test_focal_without_focus_is_binary_cross_entropy():
    logits, _ = maps((4, 5))
    targets = torch.rand_like(logits).round()
    expected = F.binary_cross_entropy_with_logits(logits, targets)
    assert_close(focal_loss(logits, targets, -1.0, 0.0, "mean"), expected)


def test_focal_passes_gradcheck_and_stays_finite():
    logits, _ = maps((4, 5), dtype=torch.float64)
    targets = torch.rand_like(logits).round()
    assert torch.autograd.gradcheck(lambda x: focal_loss(x, targets), logits.requires_grad_())
    far = torch.tensor([-500.0, 500.0, 500.0, -500.0])
    assert focal_loss(far, torch.tensor([1.0, 0.0, 1.0, 0.0])).tolist() == [125, 375, 0, 0]
    assert gradient(lambda x: focal_loss(x, torch.ones(4)), far).isfinite().all()


# --- messages

image, truth = torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.int64)
yes = torch.ones(5)
BAD = {
    "a list": (lambda f: f([[0.0]], truth), TypeError, "logits", "[b, classes, ...], got list"),
    "one axis": (lambda f: f(yes, truth), ValueError, "logits", "[b, classes, ...], got [5]"),
    "whole scores": (lambda f: f(image.long(), truth), TypeError, "logits", "got torch.int64"),
    "another size": (
        lambda f: f(image, truth[:, 1:]),
        ValueError,
        "labels",
        "[2, 4, 4], got [2, 3",
    ),
    "one-hot": (lambda f: f(image, image.long()), ValueError, "labels", "expected shape [2, 4, 4]"),
    "floats": (lambda f: f(image, truth.float()), TypeError, "labels", "torch.int64, got torch.f"),
    "class 3 of 3": (lambda f: f(image, truth + 3), ValueError, "labels", "0..2 or 255, got 3"),
    "below 0": (lambda f: f(image, truth - 1), ValueError, "labels", "0..2 or 255, got -1"),
}
BAD_CALLS = {
    "weight": (
        lambda: cross_entropy(image, truth, torch.ones(2)),
        ValueError,
        "weight",
        "[3], got",
    ),
    "reduction": (
        lambda: cross_entropy(image, truth, reduction="max"),
        ValueError,
        "reduction",
        "max",
    ),
    "smooth": (lambda: dice_loss(image, truth, smooth=0.0), ValueError, "smooth", "above 0, got 0"),
    "targets' shape": (lambda: focal_loss(yes, yes[1:]), ValueError, "targets", "[5], got [4]"),
    "targets' type": (lambda: focal_loss(yes, yes.long()), TypeError, "targets", "torch.int64"),
    "focal, a list": (lambda: focal_loss([1.0], yes), TypeError, "logits", "got list"),
    "focal, whole": (lambda: focal_loss(yes.int(), yes), TypeError, "logits", "torch.int32"),
    "focal, reduction": (lambda: focal_loss(yes, yes, reduction=""), ValueError, "reduction", "''"),
}


def check(call, error, begins, words):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert caught.type is error
    assert str(caught.value).startswith(f"{begins}: ")
    assert words in str(caught.value)


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("function", [cross_entropy, dice_loss], ids=lambda f: f.__name__)
def test_bad_maps(function, what):
    call, error, begins, words = BAD[what]
    check(lambda: call(function), error, begins, words)


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize("what", BAD_CALLS)
def test_bad_calls(what):
    check(*BAD_CALLS[what])
