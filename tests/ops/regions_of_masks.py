"""Awkward boxes, masks, and pasting as detectron2 does it, for the tests of masks in ops and in fast."""

import torch
from torch.nn import functional

BOXES = {
    "whole pixels": [2, 3, 9, 11],
    "fractions": [2.3, 3.8, 9.1, 11.4],
    "the image": [0, 0, 17, 13],
    "beyond the image": [-6.5, -4, 30, 22],
    "over the left border": [-7.5, 3, 5, 11],
    "over the lower right corner": [12.5, 9, 25, 25],
    "left of the image": [-9, 2, -3, 8],
    "far below the image": [2, 40, 9, 50],
    "one pixel": [7, 9, 8, 10],
    "inside a pixel": [7.2, 9.3, 7.4, 9.9],
    "a point": [7, 9, 7, 9],
    "a line": [3, 11, 14, 11],
    "the image's corner": [17, 13, 17, 13],
    "wide": [1, 5, 16.5, 5.75],
    "tall": [5.5, 0.5, 6, 12],
}
HEIGHT, WIDTH = 13, 17


def random_masks():
    """A mask of the image for each of BOXES: half of its pixels, at random."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(len(BOXES), HEIGHT, WIDTH, generator=generator) < 0.5


def random_probabilities():
    """Probabilities for each of BOXES, as the mask head gives them."""
    generator = torch.Generator().manual_seed(1)
    return torch.rand(len(BOXES), 28, 28, dtype=torch.float64, generator=generator)


def paste_as_detectron2(masks, boxes, size):
    """Probabilities: a grid of pixel centres in box coordinates, then torch's grid_sample."""
    x1, y1, x2, y2 = boxes.T[:, :, None]
    x = (torch.arange(size[1]).to(boxes) + 0.5 - x1) / (x2 - x1) * 2 - 1  # [n, w]
    y = (torch.arange(size[0]).to(boxes) + 0.5 - y1) / (y2 - y1) * 2 - 1
    x, y = torch.broadcast_tensors(x[:, None, :], y[:, :, None])
    return functional.grid_sample(masks[:, None], torch.stack([x, y], 3), align_corners=False)[:, 0]
