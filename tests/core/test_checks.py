"""course_utils.core.checks: what passes, what does not, and the sentence that says so."""

import math

import numpy as np
import pytest
import torch

from course_utils.core import (
    check_boxes,
    check_floating,
    check_fraction,
    check_labels,
    check_masks,
    check_rows,
    check_same_device,
    check_shape,
    check_size,
    check_whole,
    on_cpu,
)

pytestmark = pytest.mark.usefixtures("as_student")


def message_of(error, check, *arguments, **named):
    with pytest.raises((TypeError, ValueError)) as caught:
        check(*arguments, **named)
    assert caught.type is error
    return str(caught.value)


def test_shape_passes():
    check_shape("x", torch.zeros(3, 4), 3, 4)
    check_shape("x", torch.zeros(0, 4), "n", 4)
    check_shape("x", torch.zeros(()))


@pytest.mark.parametrize("shape", [(3, 5), (4, 3), (4,), (1, 3, 4), ()], ids=str)
def test_shape_fails(shape):
    expected = f"anchors: expected shape [n, 4], got {list(shape)}"
    assert message_of(ValueError, check_shape, "anchors", torch.zeros(shape), "n", 4) == expected


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), (0, 5, 3, 4)], ids=str)
def test_leading_axes_pass(shape):
    check_shape("boxes", torch.zeros(shape), ..., 4)
    if len(shape) > 1:
        check_shape("boxes", torch.zeros(shape), ..., "n", 4)


@pytest.mark.parametrize("shape", [(5,), (4, 3), ()], ids=str)
def test_leading_axes_fail(shape):
    expected = f"boxes: expected shape [..., 4], got {list(shape)}"
    assert message_of(ValueError, check_shape, "boxes", torch.zeros(shape), ..., 4) == expected


def test_leading_axes_need_the_other_axes():
    expected = "boxes: expected shape [..., n, 4], got [4]"
    assert message_of(ValueError, check_shape, "boxes", torch.zeros(4), ..., "n", 4) == expected


@pytest.mark.parametrize("value", [[[1.0]], None, "boxes", np.zeros((1, 4))])
def test_shape_of_no_tensor(value):
    expected = f"anchors: expected a torch.Tensor, got {type(value).__name__}"
    assert message_of(TypeError, check_shape, "anchors", value, "n", 4) == expected
    assert message_of(TypeError, check_boxes, "anchors", value) == expected


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8]
)
def test_boxes_pass(dtype):
    check_boxes("boxes", torch.tensor([[0, 0, 4, 5], [1, 1, 1, 1], [1, 2, 1, 9]], dtype=dtype))
    check_boxes("boxes", torch.zeros(0, 4, dtype=dtype))


def test_boxes_may_be_negative_and_huge():
    check_boxes("boxes", torch.tensor([[-1e30, -7.0, -3.0, 1e30]]))


@pytest.mark.parametrize("column", range(4))
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_boxes_that_are_not_finite(column, value):
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(3, 1)
    boxes[1, column] = value
    message = message_of(ValueError, check_boxes, "proposals", boxes)
    assert message == f"proposals: expected finite numbers, but row 1 is {boxes[1].tolist()}"


@pytest.mark.parametrize("swapped", [[5.0, 0.0, 2.0, 9.0], [0.0, 9.0, 5.0, 2.0]])
def test_boxes_with_swapped_corners(swapped):
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], swapped, swapped])
    message = message_of(ValueError, check_boxes, "proposals", boxes)
    assert message == f"proposals: expected x1 <= x2 and y1 <= y2, but row 1 is {swapped}"


@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64])
def test_boxes_of_other_numbers(dtype):
    message = message_of(TypeError, check_boxes, "boxes", torch.zeros(1, 4, dtype=dtype))
    assert message == f"boxes: expected real numbers, got {dtype}"


def test_boxes_of_a_batch():
    boxes = torch.tensor([[[0.0, 0.0, 1.0, 1.0]] * 3] * 2)
    check_boxes("boxes", boxes, ..., "n", 4)
    boxes[1, 2, 0] = 5.0
    message = message_of(ValueError, check_boxes, "boxes", boxes, ..., "n", 4)
    found = "row [1, 2] is [5.0, 0.0, 1.0, 1.0]"
    assert message == f"boxes: expected x1 <= x2 and y1 <= y2, but {found}"


def test_boxes_on_another_device_are_checked_by_shape_and_dtype_only():
    there = torch.zeros(3, 4, device="meta")  # has no values: reading one would raise
    check_boxes("boxes", there)
    assert not on_cpu(there) and on_cpu(torch.zeros(1))
    message = message_of(ValueError, check_boxes, "boxes", there.T)
    assert message == "boxes: expected shape [n, 4], got [4, 3]"
    message = message_of(TypeError, check_boxes, "boxes", there.bool())
    assert message == "boxes: expected real numbers, got torch.bool"


def test_masks():
    check_masks("masks", torch.zeros(2, 3, 4).bool())
    check_masks("masks", torch.zeros(0, 3, 4).bool(), "n", 3, 4)
    check_masks("masks", torch.zeros(3, 4).bool(), "h", "w")
    message = message_of(TypeError, check_masks, "masks", torch.zeros(2, 3, 4).byte())
    assert message == "masks: expected torch.bool, got torch.uint8"
    message = message_of(ValueError, check_masks, "masks", torch.zeros(3, 4).bool())
    assert message == "masks: expected shape [n, h, w], got [3, 4]"


def test_rows_name_the_first_bad_one_only():
    scores = torch.tensor([0.5, 2.0, 0.25, -3.0])
    good = (scores >= 0) & (scores <= 1)
    check_rows("scores", scores[:1], good[:1], "0 to 1")
    check_rows("scores", scores[:0], good[:0], "0 to 1")
    message = message_of(ValueError, check_rows, "scores", scores, good, "0 to 1")
    assert message == "scores: expected 0 to 1, but row 1 is 2.0"
    matrix = torch.tensor([[1, 2], [3, 4]])
    message = message_of(ValueError, check_rows, "rows", matrix, torch.tensor([True, False]), "x")
    assert message == "rows: expected x, but row 1 is [3, 4]"
    message = message_of(ValueError, check_rows, "entries", matrix, matrix < 2, "1 or below")
    assert message == "entries: expected 1 or below, but row [0, 1] is 2"


def test_rows_on_another_device_are_not_read():
    there = torch.zeros(2, device="meta")
    check_rows("scores", there, there > 0, "above 0")


@pytest.mark.parametrize("value", [1, 7, 10**12])
def test_whole_passes(value):
    check_whole("stride", value, least=1)
    check_whole("stride", 0)


@pytest.mark.parametrize(
    ("value", "error"),
    [(0, ValueError), (-1, ValueError), (1.0, TypeError), ("2", TypeError), (True, TypeError)],
)
def test_whole_fails(value, error):
    expected = f"stride: expected a whole number of at least 1, got {value!r}"
    assert message_of(error, check_whole, "stride", value, 1) == expected


def test_floating():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        check_floating("image", torch.zeros(1, dtype=dtype))
    for dtype in (torch.uint8, torch.int64, torch.bool, torch.complex64):
        message = message_of(TypeError, check_floating, "image", torch.zeros(1, dtype=dtype))
        assert message == f"image: expected floating-point numbers, got {dtype}"


def test_labels():
    check_labels("labels", torch.tensor([3, -1, 0]))
    check_labels("labels", torch.zeros(0, dtype=torch.int64))
    expected = "labels: expected torch.int64, got torch.int32"
    assert (
        message_of(TypeError, check_labels, "labels", torch.zeros(2, dtype=torch.int32)) == expected
    )
    expected = "labels: expected shape [n], got [2, 1]"
    assert (
        message_of(ValueError, check_labels, "labels", torch.zeros(2, 1, dtype=torch.int64))
        == expected
    )
    expected = "labels: expected a torch.Tensor, got list"
    assert message_of(TypeError, check_labels, "labels", [1, 2]) == expected


def test_same_device():
    here, there = torch.zeros(1), torch.zeros(1, device="meta")
    check_same_device()
    check_same_device(a=here)
    check_same_device(a=here, b=here, c=here)
    check_same_device(a=there, b=there)
    message = message_of(ValueError, check_same_device, boxes=here, scores=here, idxs=there)
    assert (
        message
        == "boxes, scores, idxs: expected one device, got boxes on cpu, scores on cpu, idxs on meta"
    )


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0, 0.5, np.float32(0.5)])
def test_fraction_passes(value):
    check_fraction("share", value)


@pytest.mark.parametrize("value", [-1e-9, 1 + 1e-9, 50, math.nan, math.inf])
def test_fraction_fails(value):
    expected = f"share: expected a number from 0 to 1, got {value}"
    assert message_of(ValueError, check_fraction, "share", value) == expected


@pytest.mark.parametrize("value", ["0.5", None, [0.5], 1j])
def test_fraction_of_no_number(value):
    expected = f"share: expected a number from 0 to 1, got {value!r}"
    assert message_of(TypeError, check_fraction, "share", value) == expected


@pytest.mark.parametrize("size", [(1, 1), [3, 4], (7.0, 9), torch.Size([4, 5])])
def test_size_passes(size):
    check_size("size", size)


@pytest.mark.parametrize(
    "size",
    [
        (0, 1),
        (1, 0),
        (-1, 1),
        (1,),
        (1, 1, 1),
        7,
        None,
        "12",
        (1.5, 1),
        (math.nan, 1),
        (1, math.inf),
        ("1", 1),
    ],
)
def test_size_fails(size):
    expected = f"size: expected (height, width) above zero, got {size}"
    assert message_of(ValueError, check_size, "size", size) == expected
