"""course_utils.ops.masks: loops = plain = torchvision, and the messages of bad input."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close
from torchvision import ops as tv
from torchvision.models.detection.roi_heads import paste_masks_in_image, project_masks_on_boxes

from course_utils.ops.masks import (
    crop_masks,
    crop_masks_loops,
    masks_to_boxes,
    masks_to_boxes_loops,
    paste_masks,
    paste_masks_loops,
)
from tests.ops.regions_of_masks import (
    BOXES,
    HEIGHT,
    WIDTH,
    paste_as_detectron2,
    random_masks,
    random_probabilities,
)

law = settings(max_examples=40, deadline=None, derandomize=True, database=None)


@pytest.fixture(params=[torch.float64, torch.float32])
def boxes(request, device):
    return torch.tensor(list(BOXES.values()), dtype=request.param, device=device)


@pytest.fixture
def masks(device):
    """A mask of the image for each of BOXES: half of its pixels, at random."""
    return random_masks().to(device)


@pytest.fixture
def small_masks(device):
    """Probabilities for each of BOXES, as the mask head gives them."""
    return random_probabilities().to(device)


# --- the box of a mask


def test_boxes_equal_torchvision_plus_one_and_loops(masks):
    found = masks_to_boxes(masks)
    # torchvision gives the number of the last pixel; here a box ends where that pixel ends
    assert torch.equal(found, tv.masks_to_boxes(masks) + torch.tensor([0, 0, 1, 1]).to(found))
    assert torch.equal(found.cpu(), masks_to_boxes_loops(masks))


def test_boxes_by_hand(device):
    masks = torch.zeros(3, 4, 6, dtype=torch.bool, device=device)
    masks[0, 2, 3] = True
    masks[1] = True
    masks[2, 0, 5] = masks[2, 3, 1] = True
    expected = [[3, 2, 4, 3], [0, 0, 6, 4], [1, 0, 6, 4]]
    assert masks_to_boxes(masks).tolist() == masks_to_boxes_loops(masks).tolist() == expected


def test_boxes_of_no_masks(device):
    none = torch.zeros(0, 4, 6, dtype=torch.bool, device=device)
    assert masks_to_boxes(none).shape == masks_to_boxes_loops(none).shape == (0, 4)


# --- from the image to the box


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("output_size", [(28, 28), (7, 5), (1, 1), (2, 40)])
def test_crop_equals_torchvision(masks, boxes, output_size, aligned):
    crops = crop_masks(masks, boxes, output_size, aligned)
    rois = torch.cat([torch.arange(len(boxes)).to(boxes)[:, None], boxes], dim=1)
    expected = tv.roi_align(masks[:, None].to(boxes), rois, output_size, 1.0, -1, aligned)[:, 0]
    assert crops.dtype == boxes.dtype
    assert_close(crops, expected, rtol=0, atol=1e-10 if boxes.dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("output_size", [(3, 4), (1, 1)])
def test_crop_equals_loops(masks, boxes, output_size, aligned):
    crops, loops = (
        crop(masks, boxes, output_size, aligned).cpu() for crop in (crop_masks, crop_masks_loops)
    )
    assert_close(crops, loops, rtol=0, atol=1e-10 if boxes.dtype == torch.float64 else 1e-5)


def test_crop_is_the_target_of_torchvisions_mask_loss(masks, boxes):
    matched = torch.arange(len(boxes), device=boxes.device)
    assert_close(
        crop_masks(masks, boxes),
        project_masks_on_boxes(masks, boxes, matched, 28),
        atol=1e-5,
        rtol=0,
    )


def test_crop_by_hand(device):
    mask = torch.tensor([[[False, True, True], [False, False, True]]], device=device)
    box = torch.tensor([[0.0, 0.0, 3.0, 2.0]], device=device)
    for crop in (crop_masks, crop_masks_loops):
        # aligned: one bin a pixel, so each bin is its pixel
        assert crop(mask, box, (2, 3), True).tolist() == mask.float().tolist()
        # not aligned: half a pixel right and down, between four pixels, or two at the border
        assert crop(mask, box, (2, 3)).tolist() == [[[0.25, 0.75, 1.0], [0.0, 0.5, 1.0]]]


def test_crop_of_a_box_smaller_than_a_pixel(device):
    mask = torch.tensor([[[True, False]]], device=device)
    point = torch.tensor([[0.0, 0.0, 0.0, 0.0]], device=device)
    for crop in (crop_masks, crop_masks_loops):
        assert crop(mask, point, (1, 2)).tolist() == [[[0.75, 0.25]]]  # it grows to a pixel
        assert crop(mask, point, (1, 2), True).tolist() == [[[0.0, 0.0]]]  # it has no samples


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16])
def test_crop_with_every_box_type(masks, dtype):
    boxes = torch.tensor([[2, 3, 9, 11]] * len(masks), device=masks.device)
    assert torch.equal(crop_masks(masks, boxes.to(dtype)), crop_masks(masks, boxes.float()))


# --- from the box to the image


@pytest.mark.parametrize("threshold", [0.05, 0.2, 0.5, 0.9, 1.0])
def test_paste_equals_grid_sample(small_masks, boxes, threshold):
    sized = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    masks, boxes = small_masks[sized], boxes[sized].double()
    expected = paste_as_detectron2(masks, boxes, (HEIGHT, WIDTH)) > threshold
    assert torch.equal(paste_masks(masks, boxes, (HEIGHT, WIDTH), threshold), expected)
    assert expected.any() == (threshold < 1)


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("cells", [(28, 28), (3, 5), (1, 1)])
def test_paste_equals_loops(small_masks, boxes, cells, threshold):
    masks, size = small_masks[:, : cells[0], : cells[1]], (HEIGHT, WIDTH)
    pasted = paste_masks(masks, boxes, size, threshold)
    assert torch.equal(pasted.cpu(), paste_masks_loops(masks, boxes, size, threshold))
    assert pasted.any()


def test_paste_of_a_full_mask_is_the_pixels_whose_centre_the_box_holds(boxes):
    pasted = paste_masks(torch.ones(len(boxes), 28, 28).to(boxes.device), boxes, (HEIGHT, WIDTH))
    x, y = torch.arange(WIDTH).to(boxes) + 0.5, torch.arange(HEIGHT).to(boxes) + 0.5
    x1, y1, x2, y2 = boxes.T[:, :, None]
    columns, rows = (x1 < x) & (x < x2), (y1 < y) & (y < y2)
    assert torch.equal(pasted, rows[:, :, None] & columns[:, None, :])


def test_paste_near_the_border_fades_out(device):
    # half a cell, 2 pixels, beyond the border of a mask of ones the probability falls from 1/2 to 0
    ones, box = torch.ones(1, 1, 2, device=device), torch.tensor([[4, 0, 12, 1]], device=device)
    for paste in (paste_masks, paste_masks_loops):
        row = paste(ones, box, (1, 16), 0.2)[0, 0].tolist()
        assert row == [False] * 3 + [True] * 10 + [False] * 3
        assert paste(ones, box, (1, 16), 0.5).sum() == 8


def test_a_pixel_needs_more_than_the_threshold(device):
    halves, box = torch.full((1, 2, 2), 0.5, device=device), torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    for paste in (paste_masks, paste_masks_loops):
        assert not paste(halves, box.to(device), (4, 4), 0.5).any()
        assert paste(halves, box.to(device), (4, 4), 0.49)[0, 1:3, 1:3].all()


def test_torchvision_pastes_on_whole_pixels():
    ones = torch.ones(1, 28, 28)
    box = torch.tensor([[2.0, 2.0, 6.0, 6.0]])
    ours = paste_masks(ones, box, (9, 9))
    theirs = paste_masks_in_image(ones[:, None], box, (9, 9))[0] > 0.5
    assert masks_to_boxes(ours).tolist() == box.tolist()
    # 2..6 grown by 30 / 28 is 1.86..6.14, cut down to pixels 1..6: a sixth of this box's pixels more
    assert masks_to_boxes(theirs).tolist() == [[1.0, 1.0, 7.0, 7.0]]


@pytest.mark.parametrize("side", [60, 300])
def test_paste_and_torchvision_differ_by_a_thin_outline_only(side):
    probabilities = torch.zeros(1, 28, 28)
    probabilities[0, 6:20, 4:25] = 1
    box = torch.tensor([[10.3, 20.6, 10.3 + side, 20.6 + side]])
    size = (side + 40, side + 40)
    ours = paste_masks(probabilities, box, size)[0]
    theirs = paste_masks_in_image(probabilities[:, None], box, size)[0, 0] > 0.5
    apart = (ours ^ theirs).sum().item()
    outline = 2 * (14 + 21) * side / 28
    assert 0 < apart <= 1.5 * outline


def test_crop_and_paste_bring_a_mask_back(device):
    y, x = torch.meshgrid(torch.arange(60) + 0.5, torch.arange(80) + 0.5, indexing="ij")
    disc = ((x - 37.2) ** 2 + (y - 31.7) ** 2 < 20**2)[None].to(device)
    box = torch.tensor([[15.3, 10.1, 59.7, 53.4]], device=device)
    size = (60, 80)
    there_and_back = paste_masks(crop_masks(disc, box, aligned=True), box, size)
    shifted = paste_masks(crop_masks(disc, box), box, size)
    iou, iou_shifted = (
        ((disc & mask).sum() / (disc | mask).sum()).item() for mask in (there_and_back, shifted)
    )
    assert iou > 0.97
    assert iou_shifted < iou  # without aligned the mask comes back half a pixel too far left and up


def test_half_precision_and_no_gradient(small_masks):
    boxes = torch.tensor([[2.0, 3.0, 9.0, 11.0]], device=small_masks.device).expand(len(BOXES), 4)
    half = small_masks.half()
    expected = paste_masks(half.float(), boxes, (HEIGHT, WIDTH))
    assert torch.equal(paste_masks(half, boxes, (HEIGHT, WIDTH)), expected)
    half.requires_grad_()
    assert torch.equal(paste_masks(half, boxes, (HEIGHT, WIDTH)), expected)


# --- both ways


def test_no_masks_and_no_boxes(device):
    boxes = torch.zeros(0, 4, device=device)
    for crop in (crop_masks, crop_masks_loops):
        none = torch.zeros(0, 5, 6, dtype=torch.bool, device=device)
        assert crop(none, boxes).shape == (0, 28, 28)
        assert crop(none, boxes, (3, 2)).shape == (0, 3, 2)
    for paste in (paste_masks, paste_masks_loops):
        pasted = paste(torch.zeros(0, 28, 28, device=device), boxes, (5, 6))
        assert (pasted.shape, pasted.dtype) == ((0, 5, 6), torch.bool)


def test_layout_in_memory_does_not_matter(masks, small_masks, boxes):
    turned, size = boxes.T.contiguous().T, (HEIGHT, WIDTH)
    layers = masks.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert not turned.is_contiguous() and not layers.is_contiguous()
    assert torch.equal(masks_to_boxes(layers), masks_to_boxes(masks))
    assert torch.equal(crop_masks(layers, turned), crop_masks(masks, boxes))
    flipped = small_masks.transpose(1, 2)
    assert torch.equal(
        paste_masks(flipped, turned, size), paste_masks(flipped.contiguous(), boxes, size)
    )


def test_a_picture_of_one_pixel(device):
    mask = torch.ones(1, 1, 1, dtype=torch.bool, device=device)
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0]], device=device)
    assert masks_to_boxes(mask).tolist() == box.tolist()
    for aligned in (False, True):
        assert crop_masks(mask, box, (2, 2), aligned).tolist() == [[[1.0, 1.0], [1.0, 1.0]]]
    assert paste_masks(torch.ones(1, 28, 28, device=device), box, (1, 1)).tolist() == [[[True]]]


quarter = st.integers(-20, 60).map(lambda number: number / 4)


@law
@given(st.lists(st.tuples(*[quarter] * 4), max_size=4), st.integers(1, 9), st.integers(1, 9))
def test_any_boxes_and_sizes(rows, height, width):
    ordered = [[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in rows]
    boxes = torch.tensor(ordered, dtype=torch.float64).reshape(-1, 4)
    generator = torch.Generator().manual_seed(height * 10 + width)
    masks = torch.rand(len(boxes), height, width, generator=generator) < 0.5
    crops = crop_masks(masks, boxes, (2, 3))
    assert ((crops >= 0) & (crops <= 1 + 1e-12)).all()
    assert_close(crops, crop_masks_loops(masks, boxes, (2, 3)), rtol=0, atol=1e-10)
    # not a half: on this grid a pixel may lie exactly between two cells
    pasted = paste_masks(crops, boxes, (height, width), 0.4321)
    assert torch.equal(pasted, paste_masks_loops(crops, boxes, (height, width), 0.4321))


# --- bad input

mask = torch.ones(2, 5, 6, dtype=torch.bool)
chances = torch.ones(2, 28, 28)
good = torch.tensor([[0.0, 0.0, 4.0, 3.0], [1.0, 1.0, 2.0, 2.0]])


class Elsewhere(torch.Tensor):
    """A tensor that says it lives on a GPU, for machines that have none."""

    device = torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: masks_to_boxes([[True]]), TypeError, "masks: expected a torch.Tensor, got list"),
        (
            lambda: masks_to_boxes(mask[0]),
            ValueError,
            "masks: expected shape [n, h, w], got [5, 6]",
        ),
        (
            lambda: masks_to_boxes(mask.int()),
            TypeError,
            "masks: expected torch.bool, got torch.int32",
        ),
        (
            lambda: masks_to_boxes(torch.stack([mask[0], ~mask[0]])),
            ValueError,
            "masks: expected a pixel in each mask, but row 1 is False",
        ),
        (lambda: crop_masks(mask.float(), good), TypeError, "masks: expected torch.bool, got"),
        (
            lambda: crop_masks(mask[0], good),
            ValueError,
            "masks: expected shape [n, h, w], got [5, 6]",
        ),
        (
            lambda: crop_masks(mask, good[:, :3]),
            ValueError,
            "boxes: expected shape [2, 4], got [2, 3]",
        ),
        (
            lambda: crop_masks(mask, good[:1]),
            ValueError,
            "boxes: expected shape [2, 4], got [1, 4]",
        ),
        (
            lambda: crop_masks(mask, good.flip(1)),
            ValueError,
            "boxes: expected x1 <= x2 and y1 <= y2",
        ),
        (lambda: crop_masks(mask, good * math.nan), ValueError, "boxes: expected finite numbers"),
        (
            lambda: crop_masks(mask, good, (28, 0)),
            ValueError,
            "output_size: expected (height, width)",
        ),
        (
            lambda: crop_masks(mask, good.as_subclass(Elsewhere)),
            ValueError,
            "masks, boxes: expected one device, got masks on cpu, boxes on cuda:0",
        ),
        (
            lambda: paste_masks(mask, good, (5, 6)),
            TypeError,
            "masks: expected floating-point numbers",
        ),
        (
            lambda: paste_masks(chances[0], good, (5, 6)),
            ValueError,
            "masks: expected shape [n, h, w]",
        ),
        (
            lambda: paste_masks(chances, good[:1], (5, 6)),
            ValueError,
            "boxes: expected shape [2, 4]",
        ),
        (lambda: paste_masks(chances, good > 0, (5, 6)), TypeError, "boxes: expected real numbers"),
        (
            lambda: paste_masks(chances, good, (0, 6)),
            ValueError,
            "size: expected (height, width) above",
        ),
        (lambda: paste_masks(chances, good, 5), ValueError, "size: expected (height, width) above"),
        (
            lambda: paste_masks(chances, good, (5, 6), 2),
            ValueError,
            "threshold: expected a number from",
        ),
        (
            lambda: paste_masks(chances, good, (5, 6), "x"),
            TypeError,
            "threshold: expected a number",
        ),
        (
            lambda: paste_masks(chances, good.as_subclass(Elsewhere), (5, 6)),
            ValueError,
            "masks, boxes: expected one device, got masks on cpu, boxes on cuda:0",
        ),
    ],
)
def test_messages(as_student, call, error, words):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert caught.type is error
    assert str(caught.value).startswith(words)
