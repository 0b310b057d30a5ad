"""Random boxes and targets for the tests of detectors."""

import torch

from course_utils.data.collate import flatten_targets


def random_boxes(count, size=(64, 64), least=2.0):
    """Boxes inside an image, at least so many pixels wide and high; double, so that no rounding decides."""
    height, width = size
    extent = torch.tensor([width, height], dtype=torch.float64)
    side = least + torch.rand(count, 2, dtype=torch.float64) * (extent / 2 - least)
    corner = torch.rand(count, 2, dtype=torch.float64) * (extent - side)
    return torch.cat([corner, corner + side], dim=1)


def random_targets(counts, size=(64, 64), classes=4, least=8.0):
    """For each image so many objects, with filled ellipses as masks."""
    y, x = (torch.arange(n)[:, None] + 0.5 for n in size)
    targets = []
    for count in counts:
        boxes = random_boxes(count, size, least).float()
        centre, radius = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
        across = ((x.T[None] - centre[:, 0, None, None]) / radius[:, 0, None, None]) ** 2
        down = ((y[None] - centre[:, 1, None, None]) / radius[:, 1, None, None]) ** 2
        labels = torch.randint(1, classes + 1, (count,))
        semantic = torch.randint(0, 9, size)
        masks = across + down <= 1
        targets.append({"boxes": boxes, "labels": labels, "masks": masks, "semantic": semantic})
    return targets


def only(targets, *keys):
    return [{key: target[key] for key in keys} for target in targets]


def targets_for(name, counts, size=(64, 64)):
    targets = random_targets(counts, size)
    return only(targets, "boxes", "labels", "masks") if name == "mask_rcnn" else targets


def losses_of(network, images, targets):
    """The losses of a network, with the ground truth given image by image."""
    objects = flatten_targets(
        [{k: v for k, v in one.items() if k != "semantic"} for one in targets]
    )
    if "semantic" not in targets[0]:
        return network(images, objects)
    return network(images, objects, semantic=torch.stack([one["semantic"] for one in targets]))
