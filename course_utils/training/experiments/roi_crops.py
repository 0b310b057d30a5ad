"""What costs masks: rounding the box, the cell that RoIPool adds, its maximum, or a small head?"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from course_utils.data.sample import Sample
from course_utils.data.scenes import make_scene
from course_utils.ops.masks import crop_masks, paste_masks
from course_utils.ops.roi import roi_align, roi_pool

SIZE, BINS, CLASSES = (256, 256), (14, 14), 8
CROPS = ("RoIPool", "round + 1 cell", "round only", "RoIAlign")


def crop_shares(scene: Sample, stride: int, way: str) -> Float[Tensor, "n 8 14 14"]:
    """The share of each class in every cell of the feature map, cropped for each object."""
    shares = F.one_hot(scene.semantic - 1, CLASSES).double().movedim(2, 0)
    features, boxes = F.avg_pool2d(shares[None], stride), scene.boxes.double()
    if way == "RoIPool":
        return roi_pool(features, [boxes], BINS, 1 / stride)
    if way != "RoIAlign":
        boxes = (boxes / stride + 0.5).floor()
        if way == "round + 1 cell":
            boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + 1], dim=1)
        boxes = boxes * stride
    return roi_align(features, [boxes], BINS, 1 / stride, 2, True)


def neighbourhoods(crops: Float[Tensor, "n 8 h w"], window: int) -> Float[Tensor, "n cells shares"]:
    """What the head sees for each cell: the shares in the window around it, 0 outside the crop."""
    return F.unfold(crops, window, padding=window // 2).movedim(1, 2).contiguous()


def quality_after(
    learn: Sequence[Sample],
    test: Sequence[Sample],
    stride: int,
    way: str,
    window: int,
    steps: Sequence[int],
) -> dict[int, float]:
    """The mean IoU of the masks on the test scenes after some numbers of training steps."""
    seen, labels, targets = [], [], []
    for scene in learn:
        seen.append(neighbourhoods(crop_shares(scene, stride, way), window))
        masks = crop_masks(scene.masks, scene.boxes.double(), BINS, aligned=True)
        targets.append((masks > 0.5).double().flatten(1))
        labels.append(scene.labels - 1)
    seen, labels, targets = torch.cat(seen), torch.cat(labels), torch.cat(targets)
    groups = [(k, seen[labels == k], targets[labels == k]) for k in labels.unique().tolist()]
    weight = torch.zeros(CLASSES, seen.shape[2], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(CLASSES, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], lr=0.3 if window == 1 else 0.03)
    results = {}
    for step in range(1, max(steps) + 1):
        losses = [
            F.binary_cross_entropy_with_logits(x @ weight[k] + bias[k], y, reduction="sum")
            for k, x, y in groups
        ]
        optimizer.zero_grad()
        (sum(losses) / targets.numel()).backward()
        optimizer.step()
        if step in steps:
            results[step] = _mean_iou(weight, bias, test, stride, way)
    return results


@torch.no_grad()
def _mean_iou(weight: Tensor, bias: Tensor, test: Sequence[Sample], stride: int, way: str) -> float:
    window, ious = math.isqrt(weight.shape[1] // CLASSES), []
    for scene in test:
        seen, k = neighbourhoods(crop_shares(scene, stride, way), window), scene.labels - 1
        logits = torch.einsum("nps,ns->np", seen, weight[k]) + bias[k, None]
        small = logits.sigmoid().unflatten(1, BINS)
        masks = paste_masks(small, scene.boxes.double(), SIZE)
        ious.append((masks & scene.masks).sum((1, 2)) / (masks | scene.masks).sum((1, 2)))
    return torch.cat(ious).mean().item()


def roi_crops(
    seed: int,
    *,
    strides: Sequence[int] = (8, 16),
    windows: Sequence[int] = (1, 5),
    steps: Sequence[int] = (60, 300, 1000),
    scenes: int = 60,
) -> dict[str, dict[int, float]]:
    """Four ways to crop, with a head that sees one cell of the crop and one that sees 5 x 5.

    Args:
        seed: of the scenes; the weights start from zero.
        strides: pixels per cell of the feature map.
        windows: the cells that the head sees, along each axis.
        steps: the masks are measured after each of these numbers of steps.
        scenes: half of them to learn from, half to measure on.

    Returns:
        For each stride, head and crop the mean IoU of the masks.
    """
    drawn = [make_scene(k, size=SIZE, seed=seed) for k in range(scenes)]
    learn, test = drawn[: scenes // 2], drawn[scenes // 2 :]
    return {
        f"stride {stride}, head {window} x {window}, {way}": quality_after(
            learn, test, stride, way, window, steps
        )
        for stride in strides
        for window in windows
        for way in CROPS
    }
