"""What the tests of convolution and transposed convolution share: cases, gradients, and mistakes."""

import pytest
import torch
from torch.testing import assert_close

# batch, channels, height, width; output channels, kernel height, kernel width; the rest as keywords
CONVOLUTIONS = {
    "3x3": ((2, 3, 5, 6), (4, 3, 3), dict(padding=1)),
    "strided": ((2, 3, 8, 7), (4, 3, 3), dict(stride=2, padding=1)),
    "pairs": ((1, 2, 9, 8), (3, 2, 5), dict(stride=(3, 1), padding=(0, 2), dilation=(2, 1))),
    "groups": ((2, 6, 5, 4), (4, 3, 2), dict(groups=2, padding=1)),
    "depthwise": ((1, 4, 6, 6), (8, 3, 3), dict(groups=4, stride=2)),
    "dilated": ((1, 2, 9, 9), (2, 3, 3), dict(dilation=3, padding=2)),
    "1x1": ((2, 3, 4, 5), (5, 1, 1), dict(stride=2)),
    "one pixel": ((1, 2, 1, 1), (3, 3, 3), dict(padding=1)),
    "the whole image": ((2, 2, 4, 3), (3, 4, 3), {}),
    "mostly padding": ((1, 1, 2, 3), (2, 2, 2), dict(padding=4, stride=3)),
    "no image": ((0, 3, 5, 6), (4, 3, 3), dict(stride=2)),
}
TRANSPOSED_CONVOLUTIONS = {
    "k2": ((2, 3, 4, 5), (4, 2, 2), dict(stride=2)),
    "k3": ((2, 3, 4, 5), (4, 3, 3), dict(stride=2, padding=1, output_padding=1)),
    "k4": ((2, 3, 5, 4), (4, 4, 4), dict(stride=2, padding=1)),
    "stride 1": ((1, 2, 5, 4), (3, 3, 3), dict(padding=1)),
    "pairs": (
        (1, 2, 3, 4),
        (3, 2, 5),
        dict(stride=(3, 1), padding=(0, 2), output_padding=(2, 0), dilation=(2, 1)),
    ),
    "groups": ((2, 6, 3, 4), (4, 3, 2), dict(groups=2, stride=2)),
    "depthwise": ((1, 4, 3, 3), (8, 4, 4), dict(groups=4, stride=2, padding=1)),
    "dilated": ((1, 2, 4, 4), (2, 3, 3), dict(dilation=3, stride=2, output_padding=2)),
    "stride above kernel": ((1, 2, 3, 3), (3, 2, 1), dict(stride=4, output_padding=3)),
    "one pixel": ((1, 2, 1, 1), (3, 3, 3), dict(stride=2, padding=1)),
    "trimmed far": ((1, 1, 4, 4), (1, 2, 2), dict(stride=2, padding=3)),
    "no image": ((0, 3, 4, 5), (4, 3, 3), dict(stride=2)),
}


def numbers(*shape, seed=0, dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device, dtype)


def arguments(case, transposed=False, **kind):
    shape, (outputs, *kernel), options = case
    groups = options.get("groups", 1)
    channels = (shape[1], outputs // groups) if transposed else (outputs, shape[1] // groups)
    weight = numbers(*channels, *kernel, seed=1, **kind)
    return [numbers(*shape, **kind), weight, numbers(outputs, seed=2, **kind)], options


def with_gradients(function, tensors, options):
    """The result, and the gradients of input, weight and bias for a fixed gradient of the result."""
    tensors = [tensor.detach().requires_grad_() for tensor in tensors]
    result = function(*tensors, **options)
    incoming = numbers(*result.shape, seed=3).to(result)
    return [result.detach(), *torch.autograd.grad(result, tensors, incoming)]


def check_same(ours, theirs, tolerance):
    for mine, other in zip(ours, theirs, strict=True):
        scale = other.abs().max().item() if other.numel() else 1
        assert_close(mine, other, rtol=0, atol=tolerance * max(scale, 1))


# The letters A, B, C, D and X, Y, Z of the slides: each is a power of ten, so that a sum of products can be
# read off its digits.
LETTERS = 1.0, 1e3, 1e6, 1e9, 1.0, 10.0, 100.0
PRECISIONS = [(torch.float64, 1e-12), (torch.float32, 1e-5)]

# --- mistakes, and how their messages begin

good, filters = torch.zeros(1, 4, 5, 5), torch.zeros(4, 4, 3, 3)
PAIRED = "expected a whole number of at least {}, or two of them, got "
BAD = {
    "a list": ([good.tolist(), filters], {}, TypeError, "input: expected a torch.Tensor, got list"),
    "no batch": ([good[0], filters], {}, ValueError, "input: expected shape [b, c, h, w], got [4,"),
    "whole numbers": ([good.long(), filters], {}, TypeError, "input: expected floating-point"),
    "flat weight": ([good, filters[0, 0]], {}, ValueError, "weight: expected shape ["),
    "channels": ([good, filters[:3, :3]], {}, ValueError, "weight: expected shape ["),
    "whole weight": ([good, filters.long()], {}, TypeError, "weight: expected floating-point"),
    "no taps": ([good, filters[..., :0]], {}, ValueError, "weight: expected a kernel of 1 x 1"),
    "mixed": ([good, filters.double()], {}, TypeError, "weight: expected torch.float32 like"),
    "bias": ([good, filters, filters[:3, 0, 0, 0]], {}, ValueError, "bias: expected shape [4]"),
    "mixed bias": (
        [good, filters, filters[:, 0, 0, 0].double()],
        {},
        TypeError,
        "bias: expected torch.float32 like the input, got torch.float64",
    ),
    "stride": ([good, filters], dict(stride=0), ValueError, f"stride: {PAIRED.format(1)}0"),
    "strides": ([good, filters], dict(stride=(1, 2, 3)), ValueError, "stride: expected a whole"),
    "half": ([good, filters], dict(stride=1.5), ValueError, "stride: expected a whole number"),
    "padding": ([good, filters], dict(padding=-1), ValueError, f"padding: {PAIRED.format(0)}-1"),
    "same": (
        [good, filters],
        dict(padding="same"),
        ValueError,
        f"padding: {PAIRED.format(0)}'same'",
    ),
    "dilation": ([good, filters], dict(dilation=(1, 0)), ValueError, "dilation: expected a whole"),
    "groups": (
        [good, filters],
        dict(groups=3),
        ValueError,
        "groups: expected a divisor of 4 input channels, got 3",
    ),
    "no groups": ([good, filters], dict(groups=0), ValueError, "groups: expected a divisor"),
}


def check(call, error, begins):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert caught.type is error
    assert str(caught.value).startswith(begins), str(caught.value)
