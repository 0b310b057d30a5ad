"""Boxes with scores, for the tests of non-maximum suppression."""

import torch
from torchvision import ops as tv

THRESHOLDS = [0.0, 0.1, 0.3, 1 / 3, 0.5, 0.6, 0.7, 0.9, 1.0]


def crowd(count, seed, size=12, low=0):
    """Boxes on a coarse grid: many are equal, touch, lie in each other, or have no area."""
    corners = torch.randint(
        low, low + size, (count, 2, 2), generator=torch.Generator().manual_seed(seed)
    ).float()
    return torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)


def tied_scores(count, seed):
    """Only six different scores."""
    return torch.randint(0, 6, (count,), generator=torch.Generator().manual_seed(seed + 1000)) / 5


def distinct_scores(count, seed):
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed + 2000)) / max(
        count, 1
    )


def torchvision_per_class(boxes, scores, idxs, iou_threshold):
    """torchvision's nms class by class; its batched_nms may shift boxes apart instead, which rounds them."""
    keep = torch.zeros_like(scores, dtype=torch.bool)
    for label in idxs.unique():
        members = torch.nonzero(idxs == label)[:, 0]
        keep[members[tv.nms(boxes[members], scores[members], iou_threshold)]] = True
    order = scores.sort(descending=True, stable=True).indices
    return order[keep[order]]


def spread_boxes(count):
    """Boxes of 4 to 204 pixels, spread evenly over an image of 800 x 1088."""
    generator = torch.Generator().manual_seed(count)
    size = torch.tensor([1088.0, 800.0])
    centre = torch.rand(count, 2, generator=generator) * size
    half = torch.rand(count, 2, generator=generator) * 100 + 2
    return torch.cat([(centre - half).clamp(min=0), torch.minimum(centre + half, size)], dim=1)


def cluster(count):
    """Boxes that all contain the point (500, 400), with sides of 2 to 202 pixels."""
    size = 1 + 100 * torch.rand(count, 4, generator=torch.Generator().manual_seed(count))
    return torch.tensor([500.0, 400.0, 500.0, 400.0]) + size * torch.tensor([-1, -1, 1, 1])
