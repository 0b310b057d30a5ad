"""Region proposal network: at every place, is there an object, and how must the anchor change to fit it?"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from course_utils.fast.boxes import box_iou
from course_utils.fast.nms import batched_nms
from course_utils.models.backbones import convolution_block
from course_utils.ops.anchors import pyramid_anchors
from course_utils.ops.assignment import balanced_sample, class_targets, match_boxes
from course_utils.ops.box_coding import decode_boxes, encode_boxes
from course_utils.ops.boxes import clip_boxes_to_image

Objects = Mapping[
    str, Tensor
]  # "image", "boxes", "labels", ... with a row for each object of a batch


def collate_objects(targets: Sequence[Mapping[str, Tensor]]) -> Objects:
    """All objects of a batch in one list, each with the number of its image.

    With that number, functions made for one image serve a batch: boxes of two images have an overlap of 0,
    and nothing is ever padded.

    Args:
        targets: for each image "boxes", "labels", "masks", ...: one row an object in all of them.

    Returns:
        The same keys with the rows of all images, one after the other, and "image".

    >>> targets = [{"labels": torch.tensor([3, 1])}, {"labels": torch.tensor([2])}]
    >>> collate_objects(targets)
    {'labels': tensor([3, 1, 2]), 'image': tensor([0, 0, 1])}
    """
    objects = {key: torch.cat([target[key] for target in targets]) for key in targets[0]}
    counts = torch.tensor([len(target["labels"]) for target in targets])
    image = torch.arange(len(targets)).repeat_interleave(counts)
    return objects | {"image": image.to(objects["labels"].device)}


def match_regions(
    objects: Objects,
    image: Int64[Tensor, " n"],
    boxes: Float[Tensor, "n 4"],
    high_threshold: float,
    low_threshold: float,
    allow_low_quality_matches: bool = False,
) -> Int64[Tensor, " n"]:
    """`match_boxes` for a whole batch: only objects of the same image count.

    Args:
        objects: all of the batch.
        image: the image of each box.
        boxes: anchors or proposals.
        high_threshold, low_threshold, allow_low_quality_matches: as in `match_boxes`.

    Returns:
        For each box a place in `objects`, or -1 (negative), or -2 (neutral).
    """
    iou = box_iou(objects["boxes"], boxes)
    iou = iou * (objects["image"][:, None] == image)
    return match_boxes(iou, high_threshold, low_threshold, allow_low_quality_matches)


def first_of_each(image: Int64[Tensor, " n"], count: int) -> Bool[Tensor, " n"]:
    """Which entries are among the first `count` of their image.

    >>> first_of_each(torch.tensor([0, 1, 0, 0, 1]), 2)
    tensor([ True,  True,  True, False,  True])
    """
    if not len(image):
        return image.bool()
    return F.one_hot(image).cumsum(dim=0).gather(1, image[:, None])[:, 0] <= count


class Answers(NamedTuple):
    """What the network says about each anchor.

    Attributes:
        anchors: those of one image, all levels one after the other.
        objectness: how sure it is of an object, before the sigmoid.
        deltas: `tx, ty, tw, th` from the anchor to the object.
        levels: how many anchors each level has.
    """

    anchors: Float[Tensor, "n 4"]
    objectness: Float[Tensor, "b n"]
    deltas: Float[Tensor, "b n 4"]
    levels: tuple[int, ...]


class RPN(nn.Module):
    """A 3 x 3 convolution, then two 1 x 1: one for objectness, one for the boxes; the same on all levels.

    Args:
        channels: of the features.
        strides: pixels of the image for one of each level.
        sizes: of the anchors on each level, in pixels.
        aspect_ratios: of the anchors, heights over widths.
        samples: how many anchors an image learns from; half of them positive if there are so many.
        candidates: the best so many of a level and image go to non-maximum suppression.
        proposals: the best so many of an image leave it.
        iou_threshold: of two proposals that overlap more, the weaker goes.

    Source: Ren et al., "Faster R-CNN", NeurIPS 2015, section 3.1. As in Lin et al., CVPR 2017, the layers are
    shared by all levels; torchvision suppresses overlaps within each level, and here all levels compete.
    """

    def __init__(
        self,
        *,
        channels: int = 256,
        strides: Sequence[int] = (4, 8, 16, 32),
        sizes: Sequence[Sequence[float]] = ((32.0,), (64.0,), (128.0,), (256.0,)),
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        samples: int = 256,
        candidates: int = 2000,
        proposals: int = 1000,
        iou_threshold: float = 0.7,
    ):
        super().__init__()
        shapes = len(sizes[0]) * len(aspect_ratios)
        self.hidden = convolution_block(channels, channels)
        self.objectness = nn.Conv2d(channels, shapes, 1)
        self.deltas = nn.Conv2d(channels, 4 * shapes, 1)
        self.strides, self.sizes, self.aspect_ratios = strides, sizes, aspect_ratios
        self.samples, self.candidates = samples, candidates
        self.proposals, self.iou_threshold = proposals, iou_threshold

    def forward(self, features: Mapping[int, Float[Tensor, "b c _ _"]]) -> Answers:
        """An answer for every anchor; of the features, those at its own strides count."""
        levels = [features[stride] for stride in self.strides]
        objectness, deltas = [], []
        for level in levels:
            hidden = self.hidden(level)
            objectness.append(self.objectness(hidden).permute(0, 2, 3, 1).flatten(1))
            deltas.append(self.deltas(hidden).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4)))
        anchors = pyramid_anchors(
            [tuple(level.shape[2:]) for level in levels],
            self.strides,
            self.sizes,
            self.aspect_ratios,
            device=levels[0].device,
        )
        return Answers(
            torch.cat(anchors),
            torch.cat(objectness, dim=1).float(),
            torch.cat(deltas, dim=1).float(),
            tuple(len(level) for level in anchors),
        )

    def targets(
        self, anchors: Float[Tensor, "n 4"], objects: Objects, images: int
    ) -> tuple[Int64[Tensor, "b n"], Float[Tensor, "b n 4"]]:
        """What each anchor should answer.

        Args:
            anchors: of one image.
            objects: all objects of the batch.
            images: how many there are in the batch.

        Returns:
            1 for an object, 0 for background, -1 for neither; and the box targets, 0 where there is none.
        """
        overlap = box_iou(objects["boxes"], anchors)  # [m, n]: every image has the same anchors
        iou = overlap.new_zeros(len(overlap), images, len(anchors))
        iou[torch.arange(len(iou), device=iou.device), objects["image"]] = overlap
        matches = match_boxes(iou.flatten(1), 0.7, 0.3, allow_low_quality_matches=True)
        boxes = anchors.repeat(images, 1)
        labels = class_targets(matches, torch.ones_like(objects["labels"]))
        positive = (labels == 1).nonzero()[:, 0]
        deltas = torch.zeros_like(boxes)
        deltas[positive] = encode_boxes(objects["boxes"][matches[positive]], boxes[positive])
        return labels.view(images, -1), deltas.view(images, -1, 4)

    def loss(
        self, answers: Answers, labels: Int64[Tensor, "b n"], deltas: Float[Tensor, "b n 4"]
    ) -> dict[str, Float[Tensor, ""]]:
        """Two of the four losses: objectness of a balanced sample of anchors, and the positives' boxes.

        Args:
            answers: of the network.
            labels, deltas: of `targets`.

        Returns:
            "objectness" and "proposal_box", divided by the number of anchors that should be sampled.
        """
        count = self.samples * len(labels)
        positive, negative = balanced_sample(labels.flatten(), count, 0.5)
        chosen = (positive | negative).nonzero()[:, 0]
        positive = positive.nonzero()[:, 0]
        objectness = F.binary_cross_entropy_with_logits(
            answers.objectness.flatten()[chosen], labels.flatten()[chosen].float(), reduction="sum"
        )
        box = F.smooth_l1_loss(
            answers.deltas.flatten(0, 1)[positive],
            deltas.flatten(0, 1)[positive],
            beta=1 / 9,
            reduction="sum",
        )
        return {"objectness": objectness / count, "proposal_box": box / count}

    @torch.no_grad()
    def predict(
        self, answers: Answers, size: tuple[int, int]
    ) -> tuple[Float[Tensor, "k 5"], Float[Tensor, " k"]]:
        """Proposals: the best anchors, moved and stretched, without those that overlap a better one.

        Args:
            answers: of the network.
            size: the images' (height, width) in pixels.

        Returns:
            `image, x1, y1, x2, y2` of each proposal and its objectness, 0..1, best first.
        """
        places, start = [], 0
        for count in answers.levels:
            scores = answers.objectness[:, start : start + count]
            places.append(scores.topk(min(self.candidates, count)).indices + start)
            start += count
        place = torch.cat(places, dim=1)  # [b, candidates]
        scores = answers.objectness.gather(1, place).sigmoid().flatten()
        deltas = answers.deltas.gather(1, place[..., None].expand(-1, -1, 4)).flatten(0, 1)
        boxes = decode_boxes(deltas, answers.anchors[place.flatten()])
        boxes = clip_boxes_to_image(boxes, size)
        image = torch.arange(len(place), device=place.device).repeat_interleave(place.shape[1])
        keep = batched_nms(boxes, scores, image, self.iou_threshold)
        keep = keep[first_of_each(image[keep], self.proposals)]
        return torch.cat([image[keep, None], boxes[keep]], dim=1), scores[keep]


def small(*, channels: int, proposals: int) -> RPN:
    """An `RPN` for pictures of about 100 pixels and objects of about 36: anchors of one size, at stride 8."""
    return RPN(
        channels=channels,
        strides=(8,),
        sizes=((36.0,),),
        samples=128,
        candidates=96,
        proposals=proposals,
    )
