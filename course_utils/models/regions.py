"""Regions of a batch: boxes with the number of their image, matched with the ground truth and sampled.

A detector treats all regions of a batch as one list. Every region carries the number of its image, so that
one call of `roi_align` or of a head serves the whole batch, and nothing has to be padded.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from course_utils.fast.boxes import box_iou
from course_utils.ops.assignment import balanced_sample, class_targets, match_boxes

GroundTruth = Mapping[str, Tensor]  # "image", "boxes", "labels", ...: the objects of a whole batch
Sizes = Sequence[int] | Int64[Tensor, "b 2"]  # (height, width) of all images, or of each of them
Detections = list[dict[str, Tensor]]  # for each image "boxes", "labels", "scores", ...


def boxes_to_rois(boxes: Sequence[Float[Tensor, "_ 4"]]) -> Float[Tensor, "k 5"]:
    """The boxes of all images in one list, each row preceded by the number of its image.

    >>> boxes_to_rois([torch.zeros(1, 4), torch.ones(1, 4)])
    tensor([[0., 0., 0., 0., 0.],
            [1., 1., 1., 1., 1.]])
    """
    image = [torch.full_like(rows[:, :1], number) for number, rows in enumerate(boxes)]
    return torch.cat([torch.cat(image), torch.cat(list(boxes))], dim=1)


def split_by_image(detections: Mapping[str, Tensor], images: int) -> Detections:
    """The detections of a batch, image by image.

    >>> split_by_image({"image": torch.tensor([1, 0]), "labels": torch.tensor([3, 4])}, 2)
    [{'labels': tensor([4])}, {'labels': tensor([3])}]
    """
    rest = {key: rows for key, rows in detections.items() if key != "image"}
    return [
        {key: rows[detections["image"] == number] for key, rows in rest.items()}
        for number in range(images)
    ]


def image_sizes(images: Float[Tensor, "b _ h w"], sizes: Sizes | None) -> Int64[Tensor, "b 2"]:
    """The (height, width) of each image of a batch, without its padding; those of the batch for None."""
    sizes = images.shape[2:] if sizes is None else sizes
    return torch.as_tensor(sizes).expand(len(images), 2)


def clip_to_images(
    boxes: Float[Tensor, "k 4"], image: Int64[Tensor, " k"], sizes: Sizes
) -> Float[Tensor, "k 4"]:
    """Each box without what lies outside its own image.

    >>> sizes = torch.tensor([[10, 20], [30, 40]])
    >>> clip_to_images(torch.tensor([[-5.0, 0.0, 50.0, 50.0]]), torch.tensor([0]), sizes)
    tensor([[ 0.,  0., 20., 10.]])
    """
    sizes = torch.as_tensor(sizes, device=boxes.device).reshape(-1, 2)
    limit = sizes.flip(1).repeat(1, 2).to(boxes)  # [b or 1, 4]: width, height, width, height
    return boxes.clamp(min=0).minimum(limit[image] if len(limit) > 1 else limit)


def has_size(boxes: Float[Tensor, "k 4"], min_size: float) -> Bool[Tensor, " k"]:
    """Which boxes are at least `min_size` pixels wide and high.

    >>> has_size(torch.tensor([[0.0, 0.0, 5.0, 5.0], [3.0, 0.0, 3.0, 5.0]]), 0.01)
    tensor([ True, False])
    """
    return (boxes[:, 2:] - boxes[:, :2] >= min_size).all(dim=1)


def each_size(
    run: Callable[[Tensor, tuple[int, int]], list], images: Float[Tensor, "b 3 h w"], sizes: Sizes
) -> list:
    """The results of all images, each of which is computed without padding.

    A convolution near the border of an image would see the padding. Images of one size are computed together,
    and those of another size in another call.

    Args:
        run: a batch of images and their (height, width) to one result per image.
        images: padded to a common size.
        sizes: without the padding.
    """
    sizes, results = [tuple(size) for size in image_sizes(images, sizes).tolist()], {}
    for height, width in dict.fromkeys(sizes):
        rows = [k for k, size in enumerate(sizes) if size == (height, width)]
        part = images if len(rows) == len(sizes) else images[rows]
        found = run(part[..., :height, :width], (height, width))
        results |= zip(rows, found, strict=True)
    return [results[k] for k in range(len(sizes))]


def first_per_image(image: Int64[Tensor, " n"], count: int) -> Bool[Tensor, " n"]:
    """Which entries are among the first `count` of their image.

    >>> first_per_image(torch.tensor([0, 1, 0, 0, 1]), 2)
    tensor([ True,  True,  True, False,  True])
    """
    if not len(image):
        return image.bool()
    return F.one_hot(image).cumsum(dim=0).gather(1, image[:, None])[:, 0] <= count


def match_regions(
    ground_truth: GroundTruth,
    rois: Float[Tensor, "n 5"],
    high_threshold: float,
    low_threshold: float,
    allow_low_quality_matches: bool = False,
) -> Int64[Tensor, " n"]:
    """`match_boxes` for a whole batch: a region can match only objects of its own image.

    Args:
        ground_truth: the objects of the batch.
        rois: `image, x1, y1, x2, y2` of each region.
        high_threshold, low_threshold, allow_low_quality_matches: as in `match_boxes`.

    Returns:
        For each region an index into `ground_truth`, or -1 (negative), or -2 (neutral).
    """
    iou = box_iou(ground_truth["boxes"], rois[:, 1:])
    iou = iou * (ground_truth["image"][:, None] == rois[:, 0])
    return match_boxes(iou, high_threshold, low_threshold, allow_low_quality_matches)


@torch.no_grad()
def sample_regions(
    proposals: Float[Tensor, "k 5"],
    ground_truth: GroundTruth,
    images: int,
    batch_size_per_image: int,
    positive_fraction: float,
) -> tuple[Float[Tensor, "s 5"], Int64[Tensor, " s"], Int64[Tensor, " p"]]:
    """The regions on which the heads are trained: a balanced sample for each image.

    The ground-truth boxes join the proposals, so that every object has at least one positive region.

    Args:
        proposals: `image, x1, y1, x2, y2`.
        ground_truth: the objects of the batch.
        images: number of images in the batch.
        batch_size_per_image: how many regions to sample from each image.
        positive_fraction: the largest fraction of them that may be positive.

    Returns:
        The regions, the p positives of all images first; the class of each, 0 for background; and for each
        positive the index of its object in `ground_truth`.

    Source: Girshick, "Fast R-CNN", ICCV 2015, section 2.3.
    """
    true = torch.cat([ground_truth["image"][:, None], ground_truth["boxes"]], dim=1)
    rois = torch.cat([proposals, true.to(proposals)])
    matches = match_regions(ground_truth, rois, 0.5, 0.5)
    labels = class_targets(matches, ground_truth["labels"])
    positive, negative = [], []
    for number in range(images):
        here = (rois[:, 0] == number).nonzero()[:, 0]
        sample = balanced_sample(labels[here], batch_size_per_image, positive_fraction)
        positive.append(here[sample[0]])
        negative.append(here[sample[1]])
    chosen = torch.cat(positive + negative)
    return rois[chosen], labels[chosen], matches[torch.cat(positive)]
