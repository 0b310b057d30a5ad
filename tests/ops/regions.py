"""Awkward rois, layouts and bad arguments, for the tests of RoIPool and RoIAlign in ops and in fast."""

import math

import torch
from torch.testing import assert_close

# on a map of 9 x 12 at stride 2: pixels of the image, 18 x 24
ROIS = {
    "inside": [[2.3, 3.1, 17.9, 12.2], [5.0, 1.0, 9.0, 15.5]],
    "whole image": [[0, 0, 24, 18]],
    "partly outside": [[-7.5, -3.2, 8.1, 6.6], [15.3, 10.1, 40.7, 30.9], [-9.0, 4.0, 33.0, 8.0]],
    "wholly outside": [[-30, -30, -20, -22], [60, 2, 70, 9], [4, 50, 9, 55]],
    "at the border": [[-2, -2, 0, 0], [24, 18, 26, 20], [22, 16, 24, 18]],
    "zero size": [[5, 5, 5, 5], [3, 4, 9, 4], [3, 4, 3, 9], [0, 0, 0, 0], [24, 18, 24, 18]],
    "halves": [[1, 3, 5, 7], [-1, -3, 9, 11], [3, 1, 13, 17]],
    "tiny": [[4.2, 4.4, 4.9, 4.6], [7.99, 7.99, 8.01, 8.01]],
    "none": [],
}
ROIS["all"] = [roi for rois in ROIS.values() for roi in rois]
ALIGN = [(ratio, aligned) for ratio in (-1, 1, 2) for aligned in (False, True)]


def feature_map(*shape, dtype=torch.float32, device="cpu"):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(device, dtype)


def rois_of(name, dtype=torch.float32, device="cpu"):
    """The named rois, dealt out to two images, as [k, 5]."""
    boxes = torch.tensor(ROIS[name], dtype=dtype, device=device).reshape(-1, 4)
    return torch.cat([(torch.arange(len(boxes), device=device) % 2)[:, None].to(boxes), boxes], 1)


def with_gradient(operator, input, *arguments):
    """The output, and the gradient of a fixed, uneven sum of it."""
    input = input.detach().requires_grad_()
    output = operator(input, *arguments)
    weights = feature_map(*output.shape, dtype=output.dtype, device=output.device)
    return output, torch.autograd.grad((output * weights).sum(), input)[0]


def same(ours, theirs, **tolerance):
    tolerance = tolerance or {"rtol": 1e-5, "atol": 1e-5}
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b, **tolerance)


LAYOUTS = {
    "channels-last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.mT.contiguous().mT,
    "every second channel": lambda x: x.repeat_interleave(2, 1)[:, ::2],
    "images swapped": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "one image for all": lambda x: x[:1].expand(2, -1, -1, -1),
    "one pixel for all": lambda x: x[:, :, :1, :1].expand_as(x),
}

good = torch.tensor([[0.0, 1.0, 1.0, 4.0, 5.0]])
maps = torch.zeros(1, 2, 8, 8)
BAD_ARGUMENTS = [
    ((maps[0], good, 2), ValueError, "input: expected shape [b, c, h, w], got [2, 8, 8]"),
    (
        (maps.int(), good, 2),
        TypeError,
        "input: expected floating-point numbers, got torch.int32",
    ),
    (
        (maps[:, :, :0], good, 2),
        ValueError,
        "input: expected (height, width) above zero, got (0, 8)",
    ),
    ((maps, good[:, 1:], 2), ValueError, "boxes: expected shape [k, 5], got [1, 4]"),
    ((maps, [good], 2), ValueError, "boxes: expected shape [n, 4], got [1, 5]"),
    ((maps, [], 2), ValueError, "boxes: expected one tensor per image, 1, got 0"),
    ((maps, "boxes", 2), TypeError, "boxes: expected a torch.Tensor, got str"),
    ((maps, None, 2), TypeError, "boxes: expected a torch.Tensor, got NoneType"),
    ((maps, good.to("meta"), 2), ValueError, "input, boxes: expected one device, got input on"),
    (
        (maps, [good[:, 1:].to("meta")], 2),
        ValueError,
        "input, boxes: expected one device, got input on cpu, boxes on meta",
    ),
    (
        (maps, good + 1, 2),
        ValueError,
        "boxes: expected the index of an image, 0 to 0, first, but row 0 is [1.0, 2.0,",
    ),
    (
        (maps, good - 0.5, 2),
        ValueError,
        "boxes: expected the index of an image, 0 to 0, first, but row 0 is [-0.5, 0.5,",
    ),
    (
        (maps, good * math.inf, 2),
        ValueError,
        "boxes: expected the index of an image, 0 to 0, first, but row 0 is [nan",
    ),
    (
        (maps, good[:, [0, 3, 2, 1, 4]], 2),
        ValueError,
        "boxes: expected x1 <= x2 and y1 <= y2, but",
    ),
    (
        (maps, good, 0),
        ValueError,
        "output_size: expected (height, width) above zero, got (0, 0)",
    ),
    (
        (maps, good, (2,)),
        ValueError,
        "output_size: expected (height, width) above zero, got (2,)",
    ),
    ((maps, good, 2, 0), ValueError, "spatial_scale: expected a number above zero, got 0"),
    (
        (maps, good, 2, math.nan),
        ValueError,
        "spatial_scale: expected a number above zero, got nan",
    ),
]
