"""Augmentation and resizing of samples with `torchvision.transforms.v2`.

The transforms of torchvision change an image together with its boxes and masks, if they are told which tensor
is what: `wrap` does that. A sample is a tuple, and v2 takes tuples, so a transform of a sample is a sample.
"""

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from course_utils.data.sample import Sample
from course_utils.ops.masks import masks_to_boxes

SCALES = (0.8, 2.0)  # 1: the whole image just fits into the training size


def wrap(sample: Sample) -> Sample:
    """The sample with tensors that torchvision's transforms know: image, boxes and masks.

    Keypoints and captions are left out: the left hand of a flipped person is its right one.
    """
    size = tuple(sample.image.shape[1:])
    fields = {"keypoints": None, "captions": (), "image": tv_tensors.Image(sample.image)}
    if sample.boxes is not None:
        fields["boxes"] = tv_tensors.BoundingBoxes(sample.boxes, format="XYXY", canvas_size=size)
    for name in ("masks", "semantic", "panoptic"):
        if (grid := getattr(sample, name)) is not None:
            fields[name] = tv_tensors.Mask(grid)
    return sample._replace(**fields)


def unwrap(sample: Sample) -> Sample:
    """The sample with plain tensors."""
    fields = {
        name: value.as_subclass(torch.Tensor)
        for name, value in sample._asdict().items()
        if isinstance(value, tv_tensors.TVTensor)
    }
    return sample._replace(**fields)


def flip_sample(sample: Sample) -> Sample:
    """The sample flipped horizontally."""
    return unwrap(v2.RandomHorizontalFlip(p=1)(wrap(sample)))


def fit_into(sample: Sample, size: int) -> Sample:
    """The sample resized so that the longer side of its image has `size` pixels."""
    return unwrap(v2.Resize(None, max_size=size)(wrap(sample)))


def augment(sample: Sample, size: int) -> Sample:
    """A random view of a photograph: flipped, resized, cropped, and with changed colours.

    Args:
        sample: the photograph with its ground truth.
        size: the view is at most so many pixels high and wide.

    Returns:
        The view and its ground truth, without the objects of which the crop has left nothing.

    Source: the scale jitter of Ghiasi et al., "Simple Copy-Paste", CVPR 2021, within a narrower range.
    """
    view = v2.RandomHorizontalFlip()(wrap(sample))
    view = v2.ScaleJitter((size, size), SCALES)(view)
    height, width = (min(side, size) for side in view.image.shape[1:])
    view = v2.RandomCrop((height, width))(view)
    view = unwrap(v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2)(view))
    return view if sample.boxes is None else _visible_objects(view, sample)


def _visible_objects(view: Sample, sample: Sample) -> Sample:
    """The view without the rows of objects outside of it, and with tight boxes around those with a mask."""
    boxes = view.boxes
    left = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    if view.masks is not None:
        seen = view.masks.flatten(1).any(dim=1)
        left &= seen | ~sample.masks.flatten(1).any(dim=1)  # some objects have a box and no outline
        boxes = boxes.index_copy(0, seen.nonzero()[:, 0], masks_to_boxes(view.masks[seen]))
    rows = {name: getattr(view, name) for name in ("labels", "masks", "iscrowd", "area")}
    rows = {"boxes": boxes} | {name: row for name, row in rows.items() if row is not None}
    return view._replace(**{name: row[left] for name, row in rows.items()})
