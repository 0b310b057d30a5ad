"""course_utils.fast.masks = plain = torchvision, and it looks only at the pixels near a box."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close
from torchvision import ops as tv

from course_utils.fast.masks import crop_masks, paste_masks
from course_utils.ops import masks as plain
from tests.ops.regions_of_masks import (
    BOXES,
    HEIGHT,
    WIDTH,
    paste_as_detectron2,
    random_masks,
    random_probabilities,
)

SIZE = HEIGHT, WIDTH
law = settings(max_examples=40, deadline=None, derandomize=True, database=None)


@pytest.fixture(params=[torch.float64, torch.float32])
def boxes(request, device):
    return torch.tensor(list(BOXES.values()), dtype=request.param, device=device)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("output_size", [(28, 28), (7, 5), (1, 1), (2, 40)])
def test_crop_equals_plain_and_torchvision(boxes, output_size, aligned):
    masks, tolerance = (
        random_masks().to(boxes.device),
        1e-10 if boxes.dtype == torch.float64 else 1e-5,
    )
    crops = crop_masks(masks, boxes, output_size, aligned)
    rois = torch.cat([torch.arange(len(boxes)).to(boxes)[:, None], boxes], dim=1)
    expected = tv.roi_align(masks[:, None].to(boxes), rois, output_size, 1.0, -1, aligned)[:, 0]
    assert crops.dtype == boxes.dtype
    assert_close(crops, expected, rtol=0, atol=tolerance)
    assert_close(
        crops, plain.crop_masks(masks, boxes, output_size, aligned), rtol=0, atol=tolerance
    )


@pytest.mark.parametrize("threshold", [0.05, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("cells", [(28, 28), (3, 5), (1, 1)])
def test_paste_equals_plain_and_grid_sample(boxes, cells, threshold):
    masks = random_probabilities().to(boxes.device)[:, : cells[0], : cells[1]]
    pasted = paste_masks(masks, boxes, SIZE, threshold)
    assert torch.equal(pasted, plain.paste_masks(masks, boxes, SIZE, threshold))
    sized = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    expected = paste_as_detectron2(masks[sized], boxes[sized].double(), SIZE) > threshold
    assert torch.equal(pasted[sized], expected) and not pasted[~sized].any()


quarter = st.integers(-20, 60).map(lambda number: number / 4)


@law
@given(st.lists(st.tuples(*[quarter] * 4), max_size=4), st.integers(1, 9), st.integers(1, 9))
def test_any_boxes_and_sizes(rows, height, width):
    ordered = [[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in rows]
    boxes = torch.tensor(ordered, dtype=torch.float64).reshape(-1, 4)
    generator = torch.Generator().manual_seed(height * 10 + width)
    masks = torch.rand(len(boxes), height, width, generator=generator) < 0.5
    for aligned in (False, True):
        crops = crop_masks(masks, boxes, (2, 3), aligned)
        expected = plain.crop_masks(masks, boxes, (2, 3), aligned)
        assert_close(crops, expected, rtol=0, atol=1e-10)
    # not a half: on this grid a pixel may lie exactly between two values
    arguments = crops, boxes, (height, width), 0.4321
    assert torch.equal(paste_masks(*arguments), plain.paste_masks(*arguments))


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16])
def test_every_box_type(dtype):
    boxes = torch.tensor([[2, 3, 9, 11]] * len(BOXES))
    masks, small = random_masks(), random_probabilities()
    assert torch.equal(crop_masks(masks, boxes.to(dtype)), crop_masks(masks, boxes.float()))
    expected = paste_masks(small, boxes.float(), SIZE)
    assert torch.equal(paste_masks(small, boxes.to(dtype), SIZE), expected)


def test_half_precision_and_no_gradient():
    boxes = torch.tensor([[2.0, 3.0, 9.0, 11.0]]).expand(len(BOXES), 4)
    half = random_probabilities().half()
    expected = paste_masks(half.float(), boxes, SIZE)
    assert torch.equal(paste_masks(half, boxes, SIZE), expected)
    assert torch.equal(paste_masks(half.requires_grad_(), boxes, SIZE), expected)


def test_no_masks_and_no_boxes(device):
    boxes = torch.zeros(0, 4, device=device)
    none = torch.zeros(0, 5, 6, dtype=torch.bool, device=device)
    assert crop_masks(none, boxes).shape == (0, 28, 28)
    assert crop_masks(none, boxes, (3, 2)).shape == (0, 3, 2)
    pasted = paste_masks(torch.zeros(0, 28, 28, device=device), boxes, (5, 6))
    assert (pasted.shape, pasted.dtype) == ((0, 5, 6), torch.bool)


def test_layout_in_memory_does_not_matter(boxes):
    masks, small = random_masks().to(boxes.device), random_probabilities().to(boxes.device)
    turned = boxes.T.contiguous().T
    layers = masks.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert not turned.is_contiguous() and not layers.is_contiguous()
    assert torch.equal(crop_masks(layers, turned), crop_masks(masks, boxes))
    flipped = small.transpose(1, 2)
    expected = paste_masks(flipped.contiguous(), boxes, SIZE)
    assert torch.equal(paste_masks(flipped, turned, SIZE), expected)


@pytest.mark.usefixtures("as_student")
def test_messages():
    masks, chances = torch.ones(2, 5, 6).bool(), torch.ones(2, 28, 28)
    boxes = torch.tensor([[0.0, 0.0, 4.0, 3.0], [1.0, 1.0, 2.0, 2.0]])
    with pytest.raises(TypeError, match=r"^masks: expected torch.bool, got torch.float32"):
        crop_masks(chances, boxes)
    with pytest.raises(ValueError, match=r"^boxes: expected shape \[2, 4\], got \[1, 4\]"):
        crop_masks(masks, boxes[:1])
    with pytest.raises(ValueError, match=r"^boxes: expected x1 <= x2 and y1 <= y2, but row 0 is"):
        paste_masks(chances, boxes.flip(1), (5, 6))
    with pytest.raises(ValueError, match=r"^threshold: expected a number from 0 to 1"):
        paste_masks(chances, boxes, (5, 6), 2)
