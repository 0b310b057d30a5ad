"""Region proposal network: for every anchor, is it an object, and which box fits the object better?"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_utils.fast.boxes import box_iou
from course_utils.fast.nms import batched_nms
from course_utils.models.blocks import convolution_block
from course_utils.models.regions import (
    GroundTruth,
    Sizes,
    clip_to_images,
    first_per_image,
    has_size,
)
from course_utils.ops.anchors import pyramid_anchors
from course_utils.ops.assignment import balanced_sample, class_targets, match_boxes
from course_utils.ops.box_coding import decode_boxes, encode_boxes


class RPNOutput(NamedTuple):
    """What the network predicts for each anchor.

    Attributes:
        anchors: those of one image, the levels one after the other.
        objectness: logits, before the sigmoid.
        deltas: `tx, ty, tw, th` from the anchor to the object.
        levels: how many anchors each level has.
    """

    anchors: Float[Tensor, "n 4"]
    objectness: Float[Tensor, "b n"]
    deltas: Float[Tensor, "b n 4"]
    levels: tuple[int, ...]


class RPN(nn.Module):
    """A 3 x 3 convolution, then two 1 x 1 convolutions: objectness and box deltas, shared by all levels.

    Args:
        channels: of the features.
        strides: of the pyramid levels that have anchors, in pixels.
        sizes: of the anchors on each level, in pixels.
        aspect_ratios: of the anchors, height over width.
        batch_size_per_image: how many anchors of an image are sampled for the loss.
        positive_fraction: the largest fraction of them that may be positive.
        pre_nms_top_n: how many boxes of each level and image, by objectness, go to non-maximum suppression.
        post_nms_top_n: how many proposals of each image are kept after it.
        nms_threshold: a box is suppressed by a better one of its level when their IoU is above this.
        training_top_n: both numbers in training mode, where more proposals help; None for the same ones.
        min_size: narrower or lower proposals are dropped, in pixels.
        anchors: places the anchors, called as `pyramid_anchors` is.
        anchors_in_padding: whether anchors whose centre lies in the padding are trained as background.
        norm: makes the normalisation after the 3 x 3 convolution; None for none, as in the paper.

    Source: Ren et al., "Faster R-CNN", NeurIPS 2015, section 3.1; with a pyramid as in Lin et al., CVPR 2017.
    """

    def __init__(
        self,
        *,
        channels: int = 256,
        strides: Sequence[int] = (4, 8, 16, 32),
        sizes: Sequence[Sequence[float]] = ((32.0,), (64.0,), (128.0,), (256.0,)),
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        batch_size_per_image: int = 256,
        positive_fraction: float = 0.5,
        pre_nms_top_n: int = 2000,
        post_nms_top_n: int = 1000,
        nms_threshold: float = 0.7,
        training_top_n: int | None = None,
        min_size: float = 0.0,
        anchors: Callable[..., list[Tensor]] = pyramid_anchors,
        anchors_in_padding: bool = False,
        norm: Callable[[int], nn.Module] | None = nn.BatchNorm2d,
    ):
        super().__init__()
        shapes = len(sizes[0]) * len(aspect_ratios)
        self.hidden = convolution_block(channels, channels, norm=norm)
        self.objectness = nn.Conv2d(channels, shapes, 1)
        self.deltas = nn.Conv2d(channels, 4 * shapes, 1)
        self.strides, self.sizes, self.aspect_ratios = strides, sizes, aspect_ratios
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        self.pre_nms_top_n, self.post_nms_top_n = pre_nms_top_n, post_nms_top_n
        self.training_top_n = training_top_n
        self.nms_threshold, self.min_size = nms_threshold, min_size
        self.anchors, self.anchors_in_padding = anchors, anchors_in_padding

    def forward(self, features: Mapping[int, Float[Tensor, "b c _ _"]]) -> RPNOutput:
        """A prediction for every anchor, from the levels of its own strides."""
        levels = [features[stride] for stride in self.strides]
        objectness, deltas = [], []
        for level in levels:
            hidden = self.hidden(level)
            objectness.append(self.objectness(hidden).permute(0, 2, 3, 1).flatten(1))
            deltas.append(self.deltas(hidden).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4)))
        anchors = self.anchors(
            [tuple(level.shape[2:]) for level in levels],
            self.strides,
            self.sizes,
            self.aspect_ratios,
            device=levels[0].device,
        )
        return RPNOutput(
            torch.cat(anchors),
            torch.cat(objectness, dim=1).float(),
            torch.cat(deltas, dim=1).float(),
            tuple(len(level) for level in anchors),
        )

    def targets(
        self,
        anchors: Float[Tensor, "n 4"],
        ground_truth: GroundTruth,
        images: int,
        sizes: Int64[Tensor, "b 2"] | None = None,
    ) -> tuple[Int64[Tensor, "b n"], Float[Tensor, "b n 4"]]:
        """Object, background or neither, and the box target, for every anchor of every image.

        Args:
            anchors: those of one image.
            ground_truth: the objects of the batch.
            images: number of images in the batch.
            sizes: height and width of each image; anchors whose centre lies in the padding are not used,
                unless `anchors_in_padding` says so.

        Returns:
            1 for an object, 0 for background, -1 for anchors that are not used; and the box targets, 0 where
            an anchor is not positive.
        """
        labels = ground_truth["labels"].new_zeros(images, len(anchors))
        deltas = anchors.new_zeros(images, len(anchors), 4)
        for number in range(images):
            boxes = ground_truth["boxes"][ground_truth["image"] == number]
            matches = match_boxes(box_iou(boxes, anchors), 0.7, 0.3, allow_low_quality_matches=True)
            labels[number] = class_targets(matches, labels.new_ones(len(boxes)))
            positive = (matches >= 0).nonzero()[:, 0]
            deltas[number, positive] = encode_boxes(boxes[matches[positive]], anchors[positive])
        if sizes is not None and not self.anchors_in_padding:
            centre = (anchors[:, :2] + anchors[:, 2:]) / 2
            inside = centre < sizes.flip(1).to(anchors)[:, None]  # [b, n, 2]
            labels = torch.where(inside.all(dim=2), labels, -1)
        return labels, deltas

    def loss(
        self, output: RPNOutput, labels: Int64[Tensor, "b n"], deltas: Float[Tensor, "b n 4"]
    ) -> dict[str, Float[Tensor, ""]]:
        """Two of the four losses: objectness of a balanced sample of anchors, and the boxes of the positives.

        Args:
            output: of the network.
            labels, deltas: of `targets`.

        Returns:
            "objectness" and "proposal_box", divided by the number of sampled anchors.
        """
        samples = [
            balanced_sample(row, self.batch_size_per_image, self.positive_fraction)
            for row in labels
        ]
        positive, negative = (torch.cat(masks).nonzero()[:, 0] for masks in zip(*samples))
        sampled = torch.cat([positive, negative])
        objectness = F.binary_cross_entropy_with_logits(
            output.objectness.flatten()[sampled],
            labels.flatten()[sampled].float(),
            reduction="sum",
        )
        box = F.smooth_l1_loss(
            output.deltas.flatten(0, 1)[positive],
            deltas.flatten(0, 1)[positive],
            beta=1 / 9,
            reduction="sum",
        )
        count = max(len(sampled), 1)
        return {"objectness": objectness / count, "proposal_box": box / count}

    @torch.no_grad()
    def predict(
        self, output: RPNOutput, sizes: Sizes
    ) -> tuple[Float[Tensor, "k 5"], Float[Tensor, " k"]]:
        """Proposals: the best anchors of each level, refined, without those that overlap a better one.

        Args:
            output: of the network.
            sizes: (height, width) of the images in pixels, or `[b, 2]` with those of each image.

        Returns:
            `image, x1, y1, x2, y2` of each proposal and its objectness, 0..1, by falling objectness.
        """
        top_n = self.training_top_n if self.training else None
        best, level, start = [], [], 0
        for number, count in enumerate(output.levels):
            scores = output.objectness[:, start : start + count]
            best.append(scores.topk(min(top_n or self.pre_nms_top_n, count)).indices + start)
            level += [number] * best[-1].shape[1]
            start += count
        best = torch.cat(best, dim=1)  # [b, m]
        images, count = best.shape
        scores = output.objectness.gather(1, best).sigmoid().flatten()
        deltas = output.deltas.gather(1, best[..., None].expand(-1, -1, 4)).flatten(0, 1)
        boxes = decode_boxes(deltas, output.anchors[best.flatten()])
        image = torch.arange(images, device=best.device).repeat_interleave(count)
        boxes = clip_to_images(boxes, image, sizes)
        level = torch.tensor(level, device=best.device).repeat(images)
        group = image * len(output.levels) + level
        large = has_size(boxes, self.min_size)
        image, boxes, scores, group = image[large], boxes[large], scores[large], group[large]
        keep = batched_nms(boxes, scores, group, self.nms_threshold)
        keep = keep[first_per_image(image[keep], top_n or self.post_nms_top_n)]
        return torch.cat([image[keep, None], boxes[keep]], dim=1), scores[keep]


def small(*, channels: int, post_nms_top_n: int) -> RPN:
    """An `RPN` for images of about 100 pixels and objects of about 36: anchors of one size, at stride 8."""
    return RPN(
        channels=channels,
        strides=(8,),
        sizes=((36.0,),),
        batch_size_per_image=128,
        pre_nms_top_n=96,
        post_nms_top_n=post_nms_top_n,
    )
