"""course_utils.fast.boxes: plain = fast = torchvision, forward and backward, in little memory."""

import pytest
import torch
from torch.testing import assert_close
from torchvision import ops as tv

from course_utils.fast import boxes as module
from course_utils.fast.boxes import box_iou, crop_and_resize
from course_utils.ops import boxes as plain
from tests.ops.conftest import CASES
from tests.ops.test_boxes import CROPS, FORMS, SHAPES, random_boxes
from tools.bench_memory import peak_bytes

MB = 10**6


@pytest.mark.parametrize(("pair", "dtype"), CASES)
@pytest.mark.parametrize("pairs_at_a_time", [2**16, 3])
def test_iou_equals_plain(device, monkeypatch, pair, dtype, pairs_at_a_time):
    monkeypatch.setattr(module, "PAIRS", pairs_at_a_time)
    boxes1, boxes2 = (
        torch.tensor(boxes, dtype=dtype, device=device).reshape(-1, 4) for boxes in pair
    )
    iou, expected = box_iou(boxes1, boxes2), plain.box_iou(boxes1, boxes2)
    assert iou.dtype == expected.dtype
    assert torch.equal(iou, expected)


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("pairs_at_a_time", [2**16, 17])
def test_iou_of_a_batch_equals_torchvision(device, monkeypatch, shapes, pairs_at_a_time):
    monkeypatch.setattr(module, "PAIRS", pairs_at_a_time)
    boxes1, boxes2 = (
        random_boxes(*shape, seed=seed).to(device) for seed, shape in enumerate(shapes)
    )
    assert torch.equal(box_iou(boxes1, boxes2), tv.box_iou(boxes1, boxes2))


@pytest.mark.parametrize("fmt", FORMS)
def test_iou_in_other_formats_equals_plain(device, fmt):
    boxes1, boxes2 = (
        tv.box_convert(random_boxes(9, seed=seed), "xyxy", fmt).to(device) for seed in (0, 1)
    )
    assert torch.equal(box_iou(boxes1, boxes2, fmt), plain.box_iou(boxes1, boxes2, fmt))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int32])
def test_iou_of_more_boxes_than_it_compares_at_a_time(dtype):
    boxes = 90 * torch.rand(1100, 4, generator=torch.Generator().manual_seed(0)).cumsum(dim=1)
    boxes1, boxes2 = boxes.to(dtype), boxes[:300].flip(0).to(dtype)
    assert torch.equal(box_iou(boxes1, boxes2), tv.box_iou(boxes1, boxes2))
    if boxes1.is_floating_point():
        assert torch.equal(
            box_iou(boxes1, boxes2), box_iou(boxes1.requires_grad_(), boxes2).detach()
        )


def test_iou_gradient_equals_plain():
    gradients = []
    for function in (box_iou, plain.box_iou):
        boxes1, boxes2 = (random_boxes(6, seed=seed).double().requires_grad_() for seed in (0, 1))
        weights = torch.arange(36.0, dtype=torch.float64).reshape(6, 6)
        (function(boxes1, boxes2) * weights).sum().backward()
        gradients.append((boxes1.grad, boxes2.grad))
    assert torch.equal(gradients[0][0], gradients[1][0])
    assert torch.equal(gradients[0][1], gradients[1][1])


def test_iou_where_no_gradient_is_wanted():
    boxes = random_boxes(6).requires_grad_()
    with torch.no_grad():
        iou = box_iou(boxes, boxes)
    assert not iou.requires_grad
    assert torch.equal(iou, plain.box_iou(boxes, boxes).detach())


def test_layout_in_memory_does_not_matter():
    boxes = random_boxes(3, 50)
    turned = boxes.movedim(-1, 0).contiguous().movedim(0, -1)
    assert not turned.is_contiguous()
    assert torch.equal(box_iou(turned, turned), box_iou(boxes, boxes))
    assert box_iou(turned, turned).is_contiguous()


def test_memory_of_iou_is_little_more_than_its_result():
    boxes = random_boxes(2000)
    peak = peak_bytes(lambda: box_iou(boxes, boxes), "cpu")
    assert peak < 16 * MB + 3 * MB  # 2000 x 2000 float32 are 16 MB


# --- crop and resize


@pytest.fixture(
    params=[torch.contiguous_format, torch.channels_last], ids=["NCHW", "channels-last"]
)
def image(request, device):
    image = torch.rand(1, 3, 40, 30, generator=torch.Generator().manual_seed(0)).to(device)
    return image.contiguous(memory_format=request.param)[0]


@pytest.mark.parametrize("output_size", [(224, 224), (7, 5), (1, 1), (64, 3)], ids=str)
@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str
)
def test_crop_equals_plain(image, output_size, dtype):
    boxes = torch.tensor(list(CROPS.values()), device=image.device)
    crops = crop_and_resize(image.to(dtype), boxes, output_size)
    expected = plain.crop_and_resize(image.to(dtype), boxes, output_size)
    assert crops.dtype == dtype
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 3e-3}.get(dtype, 3e-2)
    assert_close(crops, expected, rtol=0, atol=tolerance)


def test_crop_of_no_boxes(image):
    boxes = torch.zeros(0, 4, device=image.device)
    assert crop_and_resize(image, boxes).shape == (0, 3, 224, 224)


def test_crop_finds_the_pixel_in_a_wide_image_of_float16():
    image = torch.zeros(1, 1, 4000, dtype=torch.float16)
    image[0, 0, 3001] = 1  # float16 has no number 3001
    assert crop_and_resize(image, torch.tensor([[3001.0, 0.0, 3002.0, 1.0]]), (1, 1)).item() == 1


def test_crop_gradient_equals_plain():
    gradients = []
    for function in (crop_and_resize, plain.crop_and_resize):
        image = torch.rand(2, 9, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
        boxes = torch.tensor([[0.5, 1.0, 3.0, 4.5], [2.0, 2.0, 2.0, 2.0], [-1.0, -1.0, 9.0, 9.0]])
        function(image, boxes, (3, 4)).square().sum().backward()
        gradients.append(image.grad)
    assert torch.equal(*gradients)


def test_memory_of_crops_is_little_more_than_the_crops():
    image = torch.rand(3, 300, 400, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[50.0, 40.0, 350.0, 250.0]]).repeat(100, 1)
    peak = peak_bytes(lambda: crop_and_resize(image, boxes), "cpu")
    output = 100 * 3 * 224 * 224 * 4
    assert peak < output + 5 * MB  # the plain form needs four times the output
