"""course_utils.ops.losses: loops = vectorised = torch and torchvision, forward and backward."""

import inspect
from functools import partial

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from course_utils.ops.boxes import generalized_box_iou
from course_utils.ops.losses import (
    cross_entropy,
    cross_entropy_loops,
    generalized_box_iou_loss,
    generalized_box_iou_loss_loops,
    sigmoid_focal_loss,
    sigmoid_focal_loss_loops,
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


# --- focal loss


def logits_and_targets(*shape, soft=False, dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(shape, generator=generator, dtype=torch.float64)
    targets = torch.rand(shape, generator=generator, dtype=torch.float64)
    targets = targets if soft else targets.round()
    return logits.to(device, dtype), targets.to(device, dtype)


FOCAL = pytest.mark.parametrize("focal", [sigmoid_focal_loss, sigmoid_focal_loss_loops])


@FOCAL
@pytest.mark.parametrize("shape", [(), (6,), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("alpha", [0.25, 0.0, 1.0, -1.0])
@pytest.mark.parametrize("gamma", [2.0, 0.0, 1.5])
@pytest.mark.parametrize("soft", [False, True], ids=["0 or 1", "between"])
def test_focal_loss_equals_torchvision_forward_and_backward(
    focal, shape, reduction, alpha, gamma, soft, device
):
    logits, targets = logits_and_targets(*shape, soft=soft, device=device)
    ours, theirs = (
        lambda x, f=f: f(x, targets, alpha, gamma, reduction)
        for f in (focal, torchvision.ops.sigmoid_focal_loss)
    )
    assert_close(ours(logits), theirs(logits))
    assert_close(gradient(ours, logits), gradient(theirs, logits))


def test_focal_loss_by_default_equals_torchvision_by_default():
    logits, targets = logits_and_targets(5, 4)
    expected = torchvision.ops.sigmoid_focal_loss(logits, targets)
    assert_close(sigmoid_focal_loss(logits, targets), expected)
    assert_close(sigmoid_focal_loss_loops(logits, targets), expected)


@FOCAL
def test_a_nine_tenths_right_answer_costs_a_hundredth(focal):
    p = torch.tensor([0.9, 0.1], dtype=torch.float64)
    for targets in (torch.ones_like(p), torch.zeros_like(p)):
        right = torch.where(targets == 1, p, 1 - p)
        losses = focal(p.logit(), targets, alpha=-1.0)
        assert_close(losses, -right.log() * (1 - right) ** 2)


@FOCAL
def test_focal_loss_of_large_logits_is_finite_and_tells_them_apart(focal):
    logits = torch.tensor([-1e4, 1e4, -20.0, 20.0])
    wrong, right = (logits < 0).float(), (logits > 0).float()
    assert focal(logits, wrong, alpha=-1.0).tolist() == [1e4, 1e4, 20, 20]
    assert focal(logits, right, alpha=-1.0)[2:].min() > 0  # 1 - p is not rounded to 0
    for targets in (wrong, right):
        assert gradient(lambda x, t=targets: focal(x, t), logits).isfinite().all()


@FOCAL
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_focal_loss_of_nothing(focal, reduction):
    nothing = torch.zeros(0, 3)
    assert focal(nothing, nothing).shape == (0, 3)
    assert focal(nothing, nothing, reduction=reduction).item() == 0


def test_focal_loss_passes_gradcheck():
    logits, targets = logits_and_targets(2, 3, soft=True)
    assert torch.autograd.gradcheck(
        partial(sigmoid_focal_loss, targets=targets), logits.requires_grad_()
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_focal_loss_in_half_precision(dtype):
    logits, targets = logits_and_targets(5, 7, dtype=dtype)
    losses = sigmoid_focal_loss(logits, targets)
    assert losses.dtype == dtype
    expected = sigmoid_focal_loss(logits.double(), targets.double())
    assert_close(losses.double(), expected, rtol=0.05, atol=1e-3)


# --- GIoU of pairs

GIOU = pytest.mark.parametrize("giou", [generalized_box_iou_loss, generalized_box_iou_loss_loops])


def pairs(n, dtype=torch.float64, device="cpu"):
    """Pairs of boxes of which about half overlap."""
    generator = torch.Generator().manual_seed(0)
    corner, size = torch.rand(2, 2, n, 2, generator=generator, dtype=torch.float64) * 10
    return torch.cat([corner, corner + size + 0.1], dim=2).to(device, dtype).unbind()


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_giou_loss_equals_torchvision_forward_and_backward(reduction, device):
    first, second = pairs(40, device=device)
    theirs = partial(torchvision.ops.generalized_box_iou_loss, reduction=reduction, eps=0)
    ours = partial(generalized_box_iou_loss, reduction=reduction)
    assert_close(ours(first, second), theirs(first, second))
    assert_close(
        gradient(lambda x: ours(x, second), first), gradient(lambda x: theirs(x, second), first)
    )
    assert_close(
        gradient(lambda x: ours(first, x), second), gradient(lambda x: theirs(first, x), second)
    )
    apart = torchvision.ops.box_iou(first, second).diagonal() == 0
    assert 5 < apart.sum() < 35


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_giou_loss_equals_loops_and_the_matrix_of_all_pairs(box_pair, reduction):
    n = min(map(len, box_pair))
    first, second = (boxes[:n] for boxes in box_pair)
    losses = generalized_box_iou_loss(first, second)
    assert_close(losses, 1 - generalized_box_iou(first, second).diagonal())
    expected = generalized_box_iou_loss_loops(first.cpu(), second.cpu(), reduction)
    tolerance = 1e-3 if first.dtype == torch.float16 else 1e-6
    ours = generalized_box_iou_loss(first, second, reduction).cpu()
    assert_close(ours, expected, rtol=tolerance, atol=tolerance)


@GIOU
def test_giou_loss_by_hand(giou, device):
    first = torch.tensor([[0.0, 0, 1, 1], [0, 0, 2, 2], [1, 2, 3, 4]], device=device)
    second = torch.tensor([[2.0, 0, 3, 1], [1, 0, 3, 2], [1, 2, 3, 4]], device=device)
    assert giou(first, second).tolist() == pytest.approx([4 / 3, 2 / 3, 0])


@GIOU
def test_boxes_without_area_have_no_nan(giou):
    boxes = torch.tensor([[3.0, 3, 3, 3], [1, 2, 1, 6], [0, 0, 4, 0], [0, 0, 4, 4], [2, 2, 2, 2]])
    others = torch.tensor([[3.0, 3, 3, 3], [1, 2, 1, 6], [1, 0, 2, 0], [2, 2, 2, 2], [0, 0, 4, 4]])
    assert giou(boxes, others).tolist() == [1, 1, 1, 1, 1]
    for one, other in ((boxes, others), (others, boxes)):
        assert gradient(lambda x, y=other: generalized_box_iou_loss(x, y), one).isfinite().all()


def test_boxes_apart_are_pulled_together():
    first, second = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[7.0, 0, 9, 2]])
    slope = gradient(lambda x: generalized_box_iou_loss(x, second), first)
    assert slope[0, 2] < 0  # a right edge further right, a smaller loss


@GIOU
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_giou_loss_of_nothing(giou, reduction):
    loss = giou(torch.zeros(0, 4), torch.zeros(0, 4), reduction)
    assert loss.shape == ((0,) if reduction == "none" else ()) and loss.sum() == 0


def test_giou_loss_passes_gradcheck():
    first, second = (boxes.clone().requires_grad_() for boxes in pairs(6))
    assert torch.autograd.gradcheck(generalized_box_iou_loss, (first, second))


def test_giou_loss_of_boxes_that_are_not_contiguous():
    first, second = pairs(6)
    turned = first.T.contiguous().T
    assert not turned.is_contiguous()
    expected = generalized_box_iou_loss(first, second)
    assert torch.equal(generalized_box_iou_loss(turned, second), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_focal_and_giou_loss_are_deterministic_on_cuda():
    torch.use_deterministic_algorithms(True)
    try:
        logits, targets = logits_and_targets(100, 50, device="cuda")
        first, second = pairs(500, device="cuda")
        for loss, input in (
            (lambda x: sigmoid_focal_loss(x, targets), logits),
            (lambda x: generalized_box_iou_loss(x, second), first),
        ):
            assert torch.equal(gradient(loss, input), gradient(loss, input))
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
numbers, boxes = torch.zeros(2, 3), torch.tensor([[0.0, 0.0, 2.0, 2.0]])
BAD_CALLS = {
    "focal: a list": (lambda: sigmoid_focal_loss([0.0], numbers), TypeError, "inputs", "got list"),
    "focal: whole logits": (
        lambda: sigmoid_focal_loss(numbers.long(), numbers),
        TypeError,
        "inputs",
        "floating-point numbers, got torch.int64",
    ),
    "focal: other targets": (
        lambda: sigmoid_focal_loss(numbers, numbers[:1]),
        ValueError,
        "targets",
        "expected shape [2, 3], got [1, 3]",
    ),
    "focal: labels": (
        lambda: sigmoid_focal_loss(numbers, numbers.long()),
        TypeError,
        "targets",
        "floating-point numbers, got torch.int64",
    ),
    "focal: target 2": (
        lambda: sigmoid_focal_loss(numbers, numbers + 2),
        ValueError,
        "targets",
        "numbers from 0 to 1, but row [0, 0] is 2.0",
    ),
    "focal: alpha": (
        lambda: sigmoid_focal_loss(numbers, numbers, alpha=-0.5),
        ValueError,
        "alpha",
        "from 0 to 1, got -0.5",
    ),
    "focal: gamma": (
        lambda: sigmoid_focal_loss(numbers, numbers, gamma=-2.0),
        ValueError,
        "gamma",
        "at least 0, got -2.0",
    ),
    "focal: reduction": (
        lambda: sigmoid_focal_loss(numbers, numbers, reduction="max"),
        ValueError,
        "reduction",
        "max",
    ),
    "giou: other boxes": (
        lambda: generalized_box_iou_loss(boxes, boxes.repeat(2, 1)),
        ValueError,
        "boxes2",
        "expected shape [1, 4], got [2, 4]",
    ),
    "giou: reduction": (
        lambda: generalized_box_iou_loss(boxes, boxes, "max"),
        ValueError,
        "reduction",
        "max",
    ),
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
