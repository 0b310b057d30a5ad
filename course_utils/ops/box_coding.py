"""Box targets: the four numbers a detector regresses, and the way back to a box."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Real
from torch import Tensor

from course_utils.core import (
    check_boxes,
    check_floating,
    check_rows,
    check_same_device,
    check_shape,
)

Weights = tuple[float, float, float, float]
ONES: Weights = (1.0, 1.0, 1.0, 1.0)


def _check_weights(weights: Weights) -> None:
    four = isinstance(weights, Sequence) and len(weights) == 4
    if not four or not all(0 < weight < math.inf for weight in weights):
        raise ValueError(f"weights: expected four numbers above zero, got {weights}")


def _check_pairs(reference_boxes: Tensor, proposals: Tensor) -> None:
    for name, boxes in (("reference_boxes", reference_boxes), ("proposals", proposals)):
        check_boxes(name, boxes)
        sized = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        check_rows(name, boxes, sized, "width and height above zero")
    check_shape("reference_boxes", reference_boxes, len(proposals), 4)
    check_same_device(reference_boxes=reference_boxes, proposals=proposals)


def encode_boxes_loops(
    reference_boxes: Real[Tensor, "n 4"], proposals: Real[Tensor, "n 4"], weights: Weights = ONES
) -> Float[Tensor, "n 4"]:
    """`encode_boxes` written out for one pair of boxes at a time, to read."""
    targets = []
    for truth, proposal in zip(reference_boxes.tolist(), proposals.tolist(), strict=True):
        width, height = proposal[2] - proposal[0], proposal[3] - proposal[1]
        centre_x, centre_y = proposal[0] + width / 2, proposal[1] + height / 2
        true_width, true_height = truth[2] - truth[0], truth[3] - truth[1]
        true_centre_x, true_centre_y = truth[0] + true_width / 2, truth[1] + true_height / 2
        tx, ty = (true_centre_x - centre_x) / width, (true_centre_y - centre_y) / height
        tw, th = math.log(true_width / width), math.log(true_height / height)
        targets.append([w * t for w, t in zip(weights, (tx, ty, tw, th), strict=True)])
    dtype = torch.promote_types(proposals.dtype, torch.float32)
    return torch.tensor(targets, dtype=dtype).reshape(-1, 4)


def encode_boxes(
    reference_boxes: Real[Tensor, "n 4"], proposals: Real[Tensor, "n 4"], weights: Weights = ONES
) -> Float[Tensor, "n 4"]:
    """The box target: how to shift and scale each proposal so that it becomes its ground-truth box.

    With the proposal's centre (px, py) and size (pw, ph) and the ground truth's (gx, gy), (gw, gh):
    tx = (gx - px) / pw, ty = (gy - py) / ph, tw = log(gw / pw), th = log(gh / ph). Shifts are measured in
    proposal widths and sizes as ratios, so the target does not change when the image is enlarged.

    Args:
        reference_boxes: the ground-truth box of each proposal, `x1, y1, x2, y2` in pixels.
        proposals: the boxes to start from, the same.
        weights: factors on tx, ty, tw, th that bring the four to a similar variance.

    Returns:
        `tx, ty, tw, th` of each proposal.

    Source: Girshick et al., "Rich feature hierarchies", CVPR 2014, appendix C; torchvision's
    `BoxCoder.encode_single`. D2L's `offset_boxes` is this with weights (10, 10, 5, 5) and 1e-6 added
    inside the log.

    >>> encode_boxes(torch.tensor([[2.0, 0.0, 6.0, 2.0]]), torch.tensor([[0.0, 0.0, 4.0, 2.0]]))
    tensor([[0.5000, 0.0000, 0.0000, 0.0000]])
    """
    _check_pairs(reference_boxes, proposals)
    _check_weights(weights)
    size = proposals[:, 2:] - proposals[:, :2]  # [n, 2], width and height
    true_size = reference_boxes[:, 2:] - reference_boxes[:, :2]
    centre = proposals[:, :2] + size / 2
    true_centre = reference_boxes[:, :2] + true_size / 2
    targets = torch.cat([(true_centre - centre) / size, torch.log(true_size / size)], dim=1)
    return targets * targets.new_tensor(weights)


def _check_codes(rel_codes: Tensor, boxes: Tensor) -> None:
    check_boxes("boxes", boxes)
    check_shape("rel_codes", rel_codes, len(boxes), "4 C")
    if rel_codes.shape[1] % 4:
        raise ValueError(
            f"rel_codes: expected shape [{len(boxes)}, 4 C], got {list(rel_codes.shape)}"
        )
    check_floating("rel_codes", rel_codes)
    check_same_device(rel_codes=rel_codes, boxes=boxes)
    check_rows("rel_codes", rel_codes, ~rel_codes.isnan(), "numbers")


def decode_boxes_loops(
    rel_codes: Float[Tensor, "n 4"],
    boxes: Real[Tensor, "n 4"],
    weights: Weights = ONES,
    bbox_xform_clip: float = math.log(1000 / 16),
) -> Float[Tensor, "n 4"]:
    """`decode_boxes` written out for one box at a time, to read."""
    decoded = torch.zeros_like(rel_codes)
    for i, (code, (x1, y1, x2, y2)) in enumerate(
        zip(rel_codes.tolist(), boxes.tolist(), strict=True)
    ):
        tx, ty, tw, th = (value / weight for value, weight in zip(code, weights, strict=True))
        width, height = x2 - x1, y2 - y1
        centre_x, centre_y = x1 + width / 2 + tx * width, y1 + height / 2 + ty * height
        width *= math.exp(min(tw, bbox_xform_clip))
        height *= math.exp(min(th, bbox_xform_clip))
        decoded[i, 0], decoded[i, 2] = centre_x - width / 2, centre_x + width / 2
        decoded[i, 1], decoded[i, 3] = centre_y - height / 2, centre_y + height / 2
    return decoded


def decode_boxes(
    rel_codes: Float[Tensor, "n k"],
    boxes: Real[Tensor, "n 4"],
    weights: Weights = ONES,
    bbox_xform_clip: float = math.log(1000 / 16),
) -> Float[Tensor, "n k"]:
    """Undo `encode_boxes`: shift and scale each box by its four numbers.

    An untrained network can predict a box e^20 times as wide. tw and th are clamped to `bbox_xform_clip`,
    so that no box grows by more than 1000 / 16 and nothing overflows.

    Args:
        rel_codes: `tx, ty, tw, th` of each box, or C such groups side by side, one per class: k = 4 C.
        boxes: the boxes to start from, `x1, y1, x2, y2` in pixels.
        weights: the factors that `encode_boxes` used.
        bbox_xform_clip: the largest tw and th, a natural logarithm.

    Returns:
        `x1, y1, x2, y2` for each group.

    Source: Girshick et al., CVPR 2014, appendix C; torchvision's `BoxCoder.decode_single`. D2L's
    `offset_inverse` is this with weights (10, 10, 5, 5) and no limit.

    >>> decode_boxes(torch.tensor([[0.5, 0.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 4.0, 2.0]]))
    tensor([[2., 0., 6., 2.]])
    """
    _check_codes(rel_codes, boxes)
    _check_weights(weights)
    boxes = boxes.to(rel_codes.dtype)
    size = (boxes[:, 2:] - boxes[:, :2])[:, None]  # [n, 1, 2]
    centre = boxes[:, None, :2] + size / 2
    groups = rel_codes.reshape(len(boxes), rel_codes.shape[1] // 4, 4)  # [n, C, 4]
    codes = groups / rel_codes.new_tensor(weights)
    new_centre = centre + codes[..., :2] * size
    half = torch.exp(codes[..., 2:].clamp(max=bbox_xform_clip)) * size / 2
    return torch.cat([new_centre - half, new_centre + half], dim=2).reshape(rel_codes.shape)
