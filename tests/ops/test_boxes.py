"""course_utils.ops.boxes: loops = vectorised = torchvision = D2L, on random and on awkward boxes."""

import itertools

import pytest
import torch
from d2l import torch as d2l
from torch.testing import assert_close
from torchvision import ops as tv
from torchvision.transforms.functional import resized_crop

from course_utils.ops.boxes import (
    box_area,
    box_convert,
    box_iou,
    box_iou_loops,
    clip_boxes_to_image,
    crop_and_resize,
    crop_and_resize_loops,
    generalized_box_iou,
    generalized_box_iou_loops,
    intersection_and_union,
)

FORMS = ("xyxy", "xywh", "cxcywh")


def random_boxes(*shape, seed=0):
    """Boxes with an area, some of them far from the origin."""
    numbers = torch.rand(*shape, 4, generator=torch.Generator().manual_seed(seed))
    corner, size = numbers[..., :2] * 90 - 20, numbers[..., 2:] * 40 + 1
    return torch.cat([corner, corner + size], dim=-1)


def sized(boxes):
    """The boxes that have an area."""
    return boxes[(boxes[:, 2:] > boxes[:, :2]).all(dim=1)]


# --- area, IoU, GIoU


def test_area_equals_torchvision(box_pair):
    for boxes in box_pair:
        assert box_area(boxes).dtype == tv.box_area(boxes).dtype
        assert torch.equal(box_area(boxes), tv.box_area(boxes))


def test_area_of_whole_numbers_does_not_overflow():
    boxes = torch.tensor([[0, 0, 100_000, 100_000]], dtype=torch.int32)
    assert box_area(boxes.long()).tolist() == [10**10]
    assert box_area(boxes).dtype == torch.int32  # torchvision's type, although it is too small here
    intersection, union = intersection_and_union(boxes, boxes // 2)
    assert (intersection.tolist(), union.tolist()) == ([[25 * 10**8]], [[10**10]])
    assert box_iou(boxes, boxes // 2).tolist() == [[0.25]]
    assert box_area(torch.tensor([[0, 0, 200, 200]], dtype=torch.uint8)).tolist() == [40_000]
    assert box_area(torch.tensor([[0.0, 0.0, 2000.0, 2000.0]]).half()).tolist() == [4_000_000.0]


def test_iou_equals_torchvision(box_pair):
    boxes1, boxes2 = box_pair
    iou = box_iou(boxes1, boxes2)
    # where both boxes are without area torchvision divides 0 by 0; here that is 0
    expected = tv.box_iou(boxes1.double(), boxes2.double()).nan_to_num(0)
    assert iou.dtype == (torch.float64 if boxes1.dtype == torch.float64 else torch.float32)
    assert_close(iou.double(), expected, rtol=2e-6, atol=1e-9)


def test_iou_is_torchvisions_to_the_last_bit():
    boxes1 = torch.rand(200, 4, generator=torch.Generator().manual_seed(0)).cumsum(dim=1)
    assert torch.equal(box_iou(boxes1, boxes1.flip(0)), tv.box_iou(boxes1, boxes1.flip(0)))


def test_iou_equals_loops(box_pair):
    boxes1, boxes2 = box_pair
    assert_close(box_iou(boxes1, boxes2).cpu(), box_iou_loops(boxes1, boxes2), rtol=2e-6, atol=1e-9)


def test_iou_equals_d2l(box_pair):
    boxes1, boxes2 = (boxes.double() for boxes in box_pair)
    # D2L divides 0 by 0 as torchvision does
    assert_close(box_iou(boxes1, boxes2), d2l.box_iou(boxes1, boxes2).nan_to_num(0))


def test_intersection_and_union_are_the_two_parts_of_the_iou(box_pair):
    boxes1, boxes2 = (sized(boxes) for boxes in box_pair)
    intersection, union = intersection_and_union(boxes1, boxes2)
    assert_close(intersection / union, box_iou(boxes1, boxes2))
    both = intersection.double() + union.double()
    areas = tv.box_area(boxes1.double())[:, None] + tv.box_area(boxes2.double())
    assert_close(both, areas, rtol=1e-6, atol=0)


def test_intersection_and_union_by_hand(device):
    boxes1 = torch.tensor([[0, 0, 4, 2]], device=device)
    boxes2 = torch.tensor([[2, 1, 6, 3], [4, 0, 5, 2], [1, 0, 2, 1]], device=device)
    intersection, union = intersection_and_union(boxes1, boxes2)
    assert intersection.tolist() == [[2, 0, 1]]
    assert union.tolist() == [[14, 10, 8]]


def test_iou_by_hand(device):
    boxes1 = torch.tensor([[0.0, 0.0, 4.0, 2.0]], device=device)
    boxes2 = torch.tensor(
        [[2.0, 0.0, 6.0, 2.0], [0.0, 1.0, 4.0, 3.0], [4.0, 0.0, 5.0, 2.0]], device=device
    )
    assert_close(box_iou(boxes1, boxes2).tolist(), [[4 / 12, 4 / 12, 0.0]])


def test_iou_of_boxes_without_area_is_zero_here_and_nan_in_torchvision():
    point = torch.tensor([[3.0, 3.0, 3.0, 3.0]])
    assert box_iou(point, point).item() == 0
    assert tv.box_iou(point, point).isnan().all()


def test_giou_equals_torchvision(box_pair):
    boxes1, boxes2 = (sized(boxes) for boxes in box_pair)
    giou = generalized_box_iou(boxes1, boxes2)
    expected = tv.generalized_box_iou(boxes1.double(), boxes2.double())
    assert giou.dtype == (torch.float64 if boxes1.dtype == torch.float64 else torch.float32)
    assert_close(giou.double(), expected, rtol=2e-6, atol=1e-6)


def test_giou_equals_loops(box_pair):
    boxes1, boxes2 = box_pair
    giou, loops = (
        generalized_box_iou(boxes1, boxes2).cpu(),
        generalized_box_iou_loops(boxes1, boxes2),
    )
    assert_close(giou, loops, rtol=2e-6, atol=1e-6)


def test_giou_by_hand(device):
    boxes1 = torch.tensor([[0.0, 0.0, 2.0, 2.0]], device=device)
    boxes2 = torch.tensor(
        [[2.0, 0.0, 4.0, 2.0], [4.0, 4.0, 6.0, 6.0], [0.0, 0.0, 2.0, 2.0]], device=device
    )
    assert_close(generalized_box_iou(boxes1, boxes2).tolist(), [[0.0, -28 / 36, 1.0]])


def test_giou_of_boxes_without_area_is_a_number_here_and_nan_in_torchvision():
    point = torch.tensor([[3.0, 3.0, 3.0, 3.0]])
    far = torch.tensor([[3.0, 3.0, 3.0, 3.0], [5.0, 5.0, 5.0, 5.0], [9.0, 3.0, 9.0, 3.0]])
    # the same point; two corners of an empty box; two ends of a line, whose enclosing box has no area either
    assert generalized_box_iou(point, far).tolist() == [[0.0, -1.0, 0.0]]
    assert tv.generalized_box_iou(point, far).isnan().all()


@pytest.mark.parametrize("overlap", [box_iou, generalized_box_iou])
def test_overlap_gradient(overlap):
    boxes1 = torch.tensor(
        [[0.0, 0.0, 4.0, 3.0], [1.0, 1.5, 9.0, 8.0]], dtype=torch.float64, requires_grad=True
    )
    boxes2 = torch.tensor(
        [[2.0, 0.5, 7.0, 5.0], [20.0, 21.0, 22.0, 25.0]], dtype=torch.float64, requires_grad=True
    )
    assert torch.autograd.gradcheck(overlap, (boxes1, boxes2))


@pytest.mark.parametrize("overlap", [box_iou, generalized_box_iou])
def test_overlap_gradient_is_never_nan(overlap, box_pair):
    boxes1, boxes2 = (boxes.double().requires_grad_() for boxes in box_pair)
    overlap(boxes1, boxes2).sum().backward()
    assert boxes1.grad.isfinite().all()
    assert boxes2.grad.isfinite().all()


# --- batches, other formats

SHAPES = [
    ((5,), (7,)),
    ((2, 5), (2, 7)),
    ((2, 3, 5), (2, 3, 7)),
    ((2, 0), (2, 7)),
    ((0, 5), (0, 7)),
]
SHAPES += [((2, 5), (7,)), ((5,), (2, 7)), ((2, 1, 5), (3, 7))]  # one set for all of a batch


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["box_iou", "generalized_box_iou"])
def test_overlaps_of_a_batch_equal_torchvision(device, shapes, name):
    boxes1, boxes2 = (
        random_boxes(*shape, seed=seed).to(device) for seed, shape in enumerate(shapes)
    )
    ours = {"box_iou": box_iou, "generalized_box_iou": generalized_box_iou}[name]
    assert torch.equal(ours(boxes1, boxes2), getattr(tv, name)(boxes1, boxes2))


@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 0), (0, 3), (2, 2, 2)], ids=str)
def test_a_batch_of_boxes_equals_torchvision(device, shape):
    boxes = random_boxes(*shape).to(device)
    assert torch.equal(box_area(boxes), tv.box_area(boxes))
    assert torch.equal(
        clip_boxes_to_image(boxes, (20, 50)), tv.clip_boxes_to_image(boxes, (20, 50))
    )
    for in_fmt, out_fmt in itertools.product(FORMS, FORMS):
        given = tv.box_convert(boxes, "xyxy", in_fmt)
        assert_close(box_convert(given, in_fmt, out_fmt), tv.box_convert(given, in_fmt, out_fmt))


@pytest.mark.parametrize("fmt", FORMS)
def test_area_and_iou_in_other_formats_equal_torchvision(box_pair, fmt):
    boxes1, boxes2 = (tv.box_convert(boxes.double(), "xyxy", fmt) for boxes in box_pair)
    assert torch.equal(box_area(boxes1, fmt), tv.box_area(boxes1, fmt))
    expected = tv.box_iou(boxes1, boxes2, fmt).nan_to_num(0)
    assert_close(box_iou(boxes1, boxes2, fmt), expected, rtol=1e-9, atol=1e-12)
    intersection, union = intersection_and_union(boxes1, boxes2, fmt)
    assert_close((intersection / union).nan_to_num(0), expected, rtol=1e-9, atol=1e-12)


def test_other_formats_of_small_integers_do_not_overflow(device):
    boxes = torch.tensor([[100, 100, 200, 200]], dtype=torch.uint8, device=device)  # to 300, 300
    assert box_area(boxes, "xywh").tolist() == [40_000]
    assert box_iou(boxes, boxes, "xywh").tolist() == [[1.0]]


# --- clip, convert


def test_clip_equals_torchvision(box_pair):
    for boxes, size in itertools.product(box_pair, [(20, 8), (8, 20), (1, 1), (5, 100)]):
        clipped = clip_boxes_to_image(boxes, size)
        assert clipped.dtype == boxes.dtype
        assert torch.equal(clipped, tv.clip_boxes_to_image(boxes, size))


def test_clip_by_hand(device):
    boxes = torch.tensor(
        [[-5.0, -5.0, 50.0, 60.0], [30.0, 30.0, 40.0, 40.0], [1.0, 2.0, 3.0, 4.0]], device=device
    )
    expected = [[0.0, 0.0, 8.0, 20.0], [8.0, 20.0, 8.0, 20.0], [1.0, 2.0, 3.0, 4.0]]
    assert clip_boxes_to_image(boxes, (20, 8)).tolist() == expected


def test_convert_equals_torchvision(box_pair):
    for corners, in_fmt, out_fmt in itertools.product(box_pair, FORMS, FORMS):
        corners = corners.double()
        boxes = tv.box_convert(corners, "xyxy", in_fmt)
        converted = box_convert(boxes, in_fmt, out_fmt)
        assert_close(converted, tv.box_convert(boxes, in_fmt, out_fmt))
        assert_close(converted, tv.box_convert(corners, "xyxy", out_fmt))


def test_convert_of_every_type_equals_torchvision(box_pair):
    for boxes, out_fmt in itertools.product(box_pair, FORMS):
        converted, expected = (
            box_convert(boxes, "xyxy", out_fmt),
            tv.box_convert(boxes, "xyxy", out_fmt),
        )
        tolerance = 1e-3 if boxes.dtype == torch.float16 else 1e-6
        assert_close(converted.double(), expected.double(), rtol=tolerance, atol=0)


def test_convert_to_centre_equals_d2l(box_pair):
    for boxes in box_pair:
        boxes = boxes.double()
        assert_close(box_convert(boxes, "xyxy", "cxcywh"), d2l.box_corner_to_center(boxes))
        assert_close(box_convert(d2l.box_corner_to_center(boxes), "cxcywh", "xyxy"), boxes)


@pytest.mark.parametrize("form", FORMS)
def test_convert_never_shares_memory(form):
    boxes = torch.tensor([[5.0, 5.0, 8.0, 9.0]])
    box_convert(boxes, form, form).zero_()
    assert boxes.tolist() == [[5.0, 5.0, 8.0, 9.0]]


# --- crop and resize

CROPS = {
    "whole pixels": [3, 4, 13, 24],
    "fractions": [3.2, 4.9, 13.1, 24.5],
    "the image": [0, 0, 30, 40],
    "beyond the image": [-1e6, -50, 1e6, 90],
    "over the left border": [-7.5, 3, 5, 11],
    "over the lower right corner": [22.5, 33, 44, 45],
    "one pixel": [7, 9, 8, 10],
    "inside a pixel": [7.2, 9.3, 7.4, 9.9],
    "a point": [7, 9, 7, 9],
    "a line": [3, 11, 20, 11],
    "the image's corner": [0, 0, 0, 0],
    "the last pixel": [29, 39, 30, 40],
    "a row": [0, 5, 30, 6],
    "a column": [5, 0, 6, 40],
}


def crop_with_torchvision(image, box, output_size):
    height, width = image.shape[1:]
    left, top = int(box[0] // 1), int(box[1] // 1)
    right, bottom = max(int(-(-box[2] // 1)), left + 1), max(int(-(-box[3] // 1)), top + 1)
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    return resized_crop(
        image, top, left, bottom - top, right - left, list(output_size), antialias=False
    )


@pytest.fixture
def image(device):
    return torch.rand(3, 40, 30, generator=torch.Generator().manual_seed(0)).to(device)


@pytest.mark.parametrize("output_size", [(224, 224), (7, 5), (5, 7), (1, 1), (64, 3), (20, 10)])
def test_crop_equals_torchvision_and_loops(image, output_size):
    boxes = torch.tensor(list(CROPS.values()), device=image.device)
    crops = crop_and_resize(image, boxes, output_size)
    expected = torch.stack(
        [crop_with_torchvision(image, box, output_size) for box in boxes.tolist()]
    )
    assert_close(crops, expected, rtol=0, atol=1e-5)
    assert_close(crops, crop_and_resize_loops(image, boxes, output_size), rtol=0, atol=1e-5)


def test_crop_is_224_by_224_when_not_told_otherwise(image):
    boxes = torch.tensor([[3.0, 4.0, 13.0, 24.0]], device=image.device)
    assert torch.equal(crop_and_resize(image, boxes), crop_and_resize(image, boxes, (224, 224)))
    assert torch.equal(
        crop_and_resize_loops(image, boxes), crop_and_resize_loops(image, boxes, (224, 224))
    )


def test_crop_at_its_own_size_is_the_pixels_themselves(image):
    boxes = torch.tensor([[3.0, 4.0, 13.0, 24.0]], device=image.device)
    assert torch.equal(crop_and_resize(image, boxes, (20, 10))[0], image[:, 4:24, 3:13])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_crop_of_every_image_type(image, dtype):
    boxes = torch.tensor(list(CROPS.values()), device=image.device)
    crops = crop_and_resize(image.to(dtype), boxes, (6, 9))
    assert crops.dtype == dtype
    tolerance = {torch.float64: 1e-12, torch.float16: 3e-3, torch.bfloat16: 3e-2}[dtype]
    loops = crop_and_resize_loops(image.to(dtype).double(), boxes, (6, 9))
    assert_close(crops.double(), loops, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "dtype", [torch.int64, torch.int32, torch.uint8, torch.float16, torch.float64]
)
def test_crop_with_every_box_type(image, dtype):
    boxes = torch.tensor([[3.0, 4.0, 13.0, 24.0], [0.0, 0.0, 30.0, 40.0]], device=image.device)
    assert torch.equal(
        crop_and_resize(image, boxes.to(dtype), (6, 9)), crop_and_resize(image, boxes, (6, 9))
    )


def test_crop_finds_the_pixel_in_a_wide_image_of_float16():
    image = torch.zeros(1, 1, 4000, dtype=torch.float16)
    image[0, 0, 3001] = 1  # float16 has no number 3001
    assert crop_and_resize(image, torch.tensor([[3001.0, 0.0, 3002.0, 1.0]]), (1, 1)).item() == 1


def test_crop_of_no_boxes(image):
    boxes = torch.zeros(0, 4, device=image.device)
    assert crop_and_resize(image, boxes, (5, 7)).shape == (0, 3, 5, 7)
    assert crop_and_resize_loops(image, boxes, (5, 7)).shape == (0, 3, 5, 7)


def test_crop_gradient():
    image = torch.rand(
        2, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    boxes = torch.tensor([[0.5, 1.0, 3.0, 4.5], [2.0, 2.0, 2.0, 2.0], [-1.0, -1.0, 9.0, 9.0]])
    assert torch.autograd.gradcheck(lambda pixels: crop_and_resize(pixels, boxes, (3, 4)), image)


# --- memory layout


def test_layout_in_memory_does_not_matter(image):
    boxes = torch.tensor(
        [[1.0, 2.0, 9.0, 8.0], [3.0, 3.0, 20.0, 11.0], [0.0, 5.0, 7.0, 30.0]], device=image.device
    )
    turned = boxes.T.contiguous().T
    assert not turned.is_contiguous()
    assert torch.equal(box_area(turned), box_area(boxes))
    assert torch.equal(box_iou(turned, turned), box_iou(boxes, boxes))
    assert torch.equal(generalized_box_iou(turned, turned), generalized_box_iou(boxes, boxes))
    assert torch.equal(clip_boxes_to_image(turned, (6, 6)), clip_boxes_to_image(boxes, (6, 6)))
    assert torch.equal(box_convert(turned, "xyxy", "cxcywh"), box_convert(boxes, "xyxy", "cxcywh"))
    pixels = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert torch.equal(
        crop_and_resize(pixels, turned, (4, 4)), crop_and_resize(image, boxes, (4, 4))
    )
