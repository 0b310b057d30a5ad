"""course_utils.ops.losses: loops = vectorised = torch, forward and backward."""

import inspect
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from course_utils.ops.losses import cross_entropy, cross_entropy_loops

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
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_equals_torch_forward_and_backward(
    shape, reduction, weighted, smoothing, device
):
    logits, labels = maps(shape, device=device)
    weight = torch.linspace(0.5, 2, shape[1], device=device) if weighted else None

    def ours(logits):
        return cross_entropy(
            logits, labels, weight=weight, reduction=reduction, label_smoothing=smoothing
        )

    def torchs(logits):
        return F.cross_entropy(
            logits,
            labels,
            weight,
            ignore_index=255,
            reduction=reduction,
            label_smoothing=smoothing,
        )

    assert_close(ours(logits), torchs(logits))
    assert_close(gradient(ours, logits), gradient(torchs, logits))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_equals_loops(shape, reduction):
    logits, labels = maps(shape, dtype=torch.float64)
    weight = torch.linspace(0.5, 2, shape[1], dtype=torch.float64)
    for weights, ignore_index, smoothing in (
        (None, 255, 0.0),
        (None, 255, 0.2),
        (weight, 255, 0.0),
        (weight, 0, 0.3),
    ):
        labels = labels % 255 if ignore_index == 0 else labels
        arguments = (logits, labels, weights, ignore_index, reduction, smoothing)
        assert_close(cross_entropy(*arguments), cross_entropy_loops(*arguments))


def test_arguments_are_those_of_torch_but_for_what_the_docstring_says():
    ours = list(inspect.signature(cross_entropy).parameters.values())
    theirs = inspect.signature(F.cross_entropy).parameters
    deprecated = {"size_average", "reduce"}
    assert [argument.name for argument in ours] == [n for n in theirs if n not in deprecated]
    defaults = {a.name: a.default for a in ours if a.default != theirs[a.name].default}
    assert defaults == {"ignore_index": 255}


def test_minus_infinity_for_a_class_does_not_matter_without_smoothing():
    logits, labels = maps((2, 3, 2, 2), void=0)
    logits[:, 2] = -torch.inf
    labels = labels % 2
    expected = F.cross_entropy(logits, labels)
    assert expected.isfinite()
    assert_close(cross_entropy(logits, labels), expected)


def test_cross_entropy_passes_gradcheck():
    logits, labels = maps((2, 3, 2, 2), dtype=torch.float64)
    logits.requires_grad_()
    weight = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    for smoothing in (0.0, 0.1):
        loss = partial(cross_entropy, target=labels, weight=weight, label_smoothing=smoothing)
        assert torch.autograd.gradcheck(loss, logits)


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


# --- messages

image, truth = torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.int64)
BAD = {
    "a list": (
        lambda f: f([[0.0]], truth),
        TypeError,
        "input",
        "expected a torch.Tensor, got list",
    ),
    "one axis": (
        lambda f: f(torch.ones(5), truth),
        ValueError,
        "input",
        "[b, classes, ...], got [5]",
    ),
    "whole scores": (lambda f: f(image.long(), truth), TypeError, "input", "got torch.int64"),
    "another size": (
        lambda f: f(image, truth[:, 1:]),
        ValueError,
        "target",
        "[2, 4, 4], got [2, 3",
    ),
    "one-hot": (lambda f: f(image, image.long()), ValueError, "target", "expected shape [2, 4, 4]"),
    "floats": (lambda f: f(image, truth.float()), TypeError, "target", "torch.int64, got torch.f"),
    "class 3 of 3": (
        lambda f: f(image, truth + 3),
        ValueError,
        "target",
        "0..2 or 255, but row [0, 0, 0] is 3",
    ),
    "below 0": (
        lambda f: f(image, truth - 1),
        ValueError,
        "target",
        "0..2 or 255, but row [0, 0, 0] is -1",
    ),
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
    "smoothing": (
        lambda: cross_entropy(image, truth, label_smoothing=1.5),
        ValueError,
        "label_smoothing",
        "from 0 to 1, got 1.5",
    ),
}


def check(call, error, begins, words):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert caught.type is error
    assert str(caught.value).startswith(f"{begins}: ")
    assert words in str(caught.value)


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize("what", BAD)
def test_bad_maps(what):
    call, error, begins, words = BAD[what]
    check(lambda: call(cross_entropy), error, begins, words)


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize("what", BAD_CALLS)
def test_bad_calls(what):
    check(*BAD_CALLS[what])
