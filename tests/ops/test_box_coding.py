"""course_utils.ops.box_coding: loops = vectorised = torchvision's BoxCoder = D2L."""

import math

import pytest
import torch
from d2l import torch as d2l
from torch.testing import assert_close
from torchvision.models.detection._utils import BoxCoder

from course_utils.ops.box_coding import (
    decode_boxes,
    decode_boxes_loops,
    encode_boxes,
    encode_boxes_loops,
)

WEIGHTS = [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0), (2.0, 3.0, 5.0, 7.0)]
D2L_WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def random_boxes(count, seed, device="cpu"):
    numbers = torch.rand(
        count, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    ).to(device)
    corner, size = numbers[:, :2] * 100 - 30, numbers[:, 2:] * 50 + 1
    return torch.cat([corner, corner + size], dim=1)


@pytest.fixture
def matched(device):
    """True boxes and proposals: equal, nested, touching, far apart, huge, tiny, far from zero, random."""
    by_hand = [
        ([1, 2, 5, 9], [1, 2, 5, 9]),
        ([0, 0, 100, 100], [40, 45, 50, 60]),
        ([0, 0, 4, 4], [4, 4, 8, 8]),
        ([0, 0, 1, 1], [5000, 0, 5001, 1]),
        ([0, 0, 1e6, 1e6], [10, 10, 11, 12]),
        ([-1e15, -1e15, 1e15, 3e15], [0, 0, 2e15, 1e15]),
        ([0, 0, 1e-3, 1e-3], [-50, -50, 50, 50]),
        ([1e6, 1e6, 1e6 + 4, 1e6 + 2], [1e6 + 1, 1e6 - 1, 1e6 + 5, 1e6 + 1]),
    ]
    truth, proposals = (
        torch.tensor(boxes, dtype=torch.float64, device=device)
        for boxes in zip(*by_hand, strict=True)
    )
    return torch.cat([truth, random_boxes(40, 0, device)]), torch.cat(
        [proposals, random_boxes(40, 1, device)]
    )


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_encode_equals_torchvision_and_loops(matched, weights, dtype):
    truth, proposals = (boxes.to(dtype) for boxes in matched)
    targets = encode_boxes(truth, proposals, weights)
    assert targets.dtype == dtype
    assert_close(targets, BoxCoder(weights).encode_single(truth, proposals), rtol=1e-5, atol=1e-5)
    assert_close(targets.cpu(), encode_boxes_loops(truth, proposals, weights), rtol=1e-4, atol=1e-4)


def test_encode_in_float64_is_exact_to_float64(matched):
    assert_close(encode_boxes(*matched).cpu(), encode_boxes_loops(*matched))


@pytest.mark.parametrize("dtype", [torch.float16, torch.int64, torch.int32, torch.uint8])
def test_encode_every_type(device, dtype):
    truth = torch.tensor([[10, 20, 30, 60], [5, 5, 6, 7]], dtype=dtype, device=device)
    proposals = torch.tensor([[12, 10, 42, 70], [4, 1, 8, 9]], dtype=dtype, device=device)
    expected = BoxCoder((1.0, 1.0, 1.0, 1.0)).encode_single(truth.double(), proposals.double())
    assert_close(encode_boxes(truth, proposals).double(), expected, rtol=2e-3, atol=2e-3)
    assert_close(
        encode_boxes_loops(truth, proposals).double(), expected.cpu(), rtol=1e-6, atol=1e-6
    )


def test_encode_by_hand(device):
    proposal = torch.tensor([[0.0, 0.0, 4.0, 10.0]], dtype=torch.float64, device=device)
    truth = torch.tensor([[4.0, 10.0, 12.0, 15.0]], dtype=torch.float64, device=device)
    # centre (2, 5) to (8, 12.5): 6 / 4 widths and 7.5 / 10 heights; twice as wide, half as high
    expected = torch.tensor(
        [[1.5, 0.75, math.log(2), -math.log(2)]], dtype=torch.float64, device=device
    )
    assert_close(encode_boxes(truth, proposal), expected)
    assert_close(
        encode_boxes(truth, proposal, (2.0, 4.0, 10.0, 100.0)),
        expected * expected.new_tensor([2, 4, 10, 100]),
    )


def test_encode_equals_d2l_but_for_its_epsilon(device):
    truth, proposals = random_boxes(50, 2, device), random_boxes(50, 3, device)
    ours, theirs = encode_boxes(truth, proposals, D2L_WEIGHTS), d2l.offset_boxes(proposals, truth)
    assert_close(theirs[:, :2], ours[:, :2])
    assert_close(
        theirs[:, 2:], 5 * torch.log(torch.exp(ours[:, 2:] / 5) + 1e-6)
    )  # D2L adds 1e-6 inside the log
    assert_close(theirs, ours, rtol=0, atol=1e-3)


def test_a_box_that_is_right_already_has_target_zero_here_and_almost_zero_in_d2l():
    boxes = torch.tensor([[1.0, 2.0, 5.0, 9.0]], dtype=torch.float64)
    assert encode_boxes(boxes, boxes).tolist() == [[0.0, 0.0, 0.0, 0.0]]
    assert (d2l.offset_boxes(boxes, boxes)[:, 2:] > 0).all()


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_decode_equals_torchvision_and_loops(device, weights, dtype):
    boxes = torch.cat(
        [random_boxes(40, 4), torch.tensor([[3, 3, 3, 3], [1e6, 0, 2e6, 5], [0, 2, 9, 2]])]
    )
    boxes = boxes.to(device, dtype)
    codes = (
        torch.randn(len(boxes), 4, generator=torch.Generator().manual_seed(5)).to(device, dtype) * 8
    )
    decoded = decode_boxes(codes, boxes, weights)
    assert decoded.dtype == dtype
    assert_close(decoded, BoxCoder(weights).decode_single(codes, boxes), rtol=1e-5, atol=1e-3)
    assert_close(decoded.cpu(), decode_boxes_loops(codes, boxes, weights), rtol=1e-4, atol=1e-3)


def test_decode_in_float64_is_exact_to_float64(device):
    boxes, codes = random_boxes(40, 4, device), random_boxes(40, 5, device) / 40
    assert_close(decode_boxes(codes, boxes).cpu(), decode_boxes_loops(codes, boxes))


def test_decode_several_groups_of_codes(device):
    boxes = random_boxes(6, 6, device)
    codes = torch.randn(6, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(7)).to(
        device
    )
    decoded = decode_boxes(codes, boxes, D2L_WEIGHTS)
    assert_close(decoded, BoxCoder(D2L_WEIGHTS).decode_single(codes, boxes))
    for group in range(3):
        columns = slice(4 * group, 4 * group + 4)
        assert_close(
            decoded[:, columns].cpu(), decode_boxes_loops(codes[:, columns], boxes, D2L_WEIGHTS)
        )


def test_decode_whole_number_boxes(device):
    boxes = torch.tensor([[10, 20, 30, 60]], device=device)
    codes = torch.tensor([[0.25, 0.5, math.log(2), 0.0]], device=device)
    assert_close(decode_boxes(codes, boxes).tolist(), [[5.0, 40.0, 45.0, 80.0]])


def test_decode_half_precision(device):
    boxes, codes = random_boxes(10, 8, device), random_boxes(10, 9, device) / 100
    expected = BoxCoder((1.0, 1.0, 1.0, 1.0)).decode_single(codes, boxes)
    assert decode_boxes(codes.half(), boxes).dtype == torch.float16
    assert_close(decode_boxes(codes.half(), boxes).double(), expected, rtol=0.02, atol=0.5)


def test_decode_limits_growth_here_and_in_torchvision_but_not_in_d2l():
    box = torch.tensor([[0.0, 0.0, 4.0, 4.0]], dtype=torch.float64)
    codes = torch.tensor([[0.0, 0.0, 100.0, -100.0]], dtype=torch.float64)
    grown = decode_boxes(codes, box, D2L_WEIGHTS)
    assert_close((grown[:, 2] - grown[:, 0]).item(), 4 * 1000 / 16)  # the lecture's limit
    assert 0 <= (grown[:, 3] - grown[:, 1]).item() < 1e-7  # shrinking has no limit
    theirs = d2l.offset_inverse(box, codes)
    assert_close((theirs[:, 2] - theirs[:, 0]).item(), 4 * math.exp(20))
    assert_close(grown, BoxCoder(D2L_WEIGHTS).decode_single(codes, box))
    assert_close(grown, decode_boxes_loops(codes, box, D2L_WEIGHTS))


def test_decode_with_another_limit():
    box, codes = torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([[0.0, 0.0, 3.0, 3.0]])
    for decode in (decode_boxes, decode_boxes_loops):
        assert_close(
            decode(codes, box, bbox_xform_clip=math.log(2)), torch.tensor([[-2.0, -2.0, 6.0, 6.0]])
        )


def test_decode_equals_d2l_below_the_limit(device):
    boxes, codes = random_boxes(50, 10, device), random_boxes(50, 11, device) / 10
    assert_close(decode_boxes(codes, boxes, D2L_WEIGHTS), d2l.offset_inverse(boxes, codes))


def test_infinite_codes_stay_on_their_axis():
    decoded = decode_boxes(
        torch.tensor([[0.0, 0.0, math.inf, -math.inf]]), torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    )
    assert_close(decoded, torch.tensor([[2 - 125.0, 2.0, 2 + 125.0, 2.0]]))


def test_no_boxes(device):
    empty = torch.zeros(0, 4, device=device)
    for function in (encode_boxes, encode_boxes_loops, decode_boxes, decode_boxes_loops):
        assert function(empty, empty).shape == (0, 4)
    assert decode_boxes(torch.zeros(0, 12), torch.zeros(0, 4)).shape == (0, 12)
    assert decode_boxes(torch.zeros(3, 0), torch.zeros(3, 4)).shape == (3, 0)


def test_gradients():
    truth, proposals = random_boxes(3, 12).requires_grad_(), random_boxes(3, 13).requires_grad_()
    codes = (random_boxes(3, 14) / 40).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda a, b: encode_boxes(a, b, (2.0, 3.0, 5.0, 7.0)), (truth, proposals)
    )
    assert torch.autograd.gradcheck(
        lambda a, b: decode_boxes(a, b, (2.0, 3.0, 5.0, 7.0)), (codes, proposals)
    )


def test_gradient_is_finite_for_boxes_without_area_and_for_wild_codes():
    boxes = torch.tensor([[3.0, 3.0, 3.0, 3.0], [0.0, 0.0, 4.0, 4.0]], requires_grad=True)
    codes = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1e4, -1e4]], requires_grad=True)
    decode_boxes(codes, boxes).sum().backward()
    assert boxes.grad.isfinite().all()
    assert codes.grad.isfinite().all()


def test_layout_in_memory_does_not_matter():
    truth, proposals = random_boxes(5, 15), random_boxes(5, 16)
    turned = [boxes.T.contiguous().T for boxes in (truth, proposals)]
    assert torch.equal(encode_boxes(*turned), encode_boxes(truth, proposals))
    assert torch.equal(decode_boxes(turned[0] / 50, turned[1]), decode_boxes(truth / 50, proposals))
