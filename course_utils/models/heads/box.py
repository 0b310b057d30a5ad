"""The box head: which class is in the region, and where exactly?"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_utils.fast.nms import batched_nms
from course_utils.models.backbones import convolution_block
from course_utils.models.rpn import Objects, first_of_each
from course_utils.ops.box_coding import decode_boxes, encode_boxes
from course_utils.ops.boxes import clip_boxes_to_image

WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # bring the four box targets to similar spread


class BoxHead(nn.Module):
    """Two fully connected layers, then C + 1 class scores and 4 C box coordinates.

    A fully connected layer is a convolution with a filter as large as its input.

    Args:
        channels: of the crops.
        classes: how many kinds of things there are, C; background comes on top.
        crop_size: the crops' height and width in bins.
        crop_strides: the levels of the pyramid that regions are cut from.
        hidden: outputs of the fully connected layers.
        score_threshold: answers that are less sure are dropped.
        iou_threshold: of two boxes of a class that overlap more, the weaker goes.
        detections: the best so many of an image are kept.

    Source: Girshick, "Fast R-CNN", ICCV 2015, section 2, with batch norm.
    """

    def __init__(
        self,
        *,
        channels: int = 256,
        classes: int,
        crop_size: int = 7,
        crop_strides: Sequence[int] = (4, 8, 16, 32),
        hidden: int = 1024,
        score_threshold: float = 0.05,
        iou_threshold: float = 0.5,
        detections: int = 100,
    ):
        super().__init__()
        self.layers = nn.Sequential(
            convolution_block(channels, hidden, kernel_size=crop_size, padding=0),
            convolution_block(hidden, hidden, kernel_size=1, padding=0),
            nn.Flatten(),
        )
        self.scores = nn.Linear(hidden, classes + 1)
        self.deltas = nn.Linear(hidden, 4 * classes)
        nn.init.normal_(self.scores.weight, std=0.01)
        nn.init.normal_(self.deltas.weight, std=0.001)
        for layer in (self.scores, self.deltas):
            nn.init.zeros_(layer.bias)
        self.crop_size, self.crop_strides, self.classes = crop_size, crop_strides, classes
        self.score_threshold, self.iou_threshold = score_threshold, iou_threshold
        self.detections = detections

    def forward(
        self, crops: Float[Tensor, "k c s s"]
    ) -> tuple[Float[Tensor, "k classes"], Float[Tensor, "k boxes"]]:
        """C + 1 class scores, background first, and C groups of `tx, ty, tw, th`."""
        hidden = self.layers(crops)
        return self.scores(hidden).float(), self.deltas(hidden).float()

    def targets(
        self, boxes: Float[Tensor, "p 4"], objects: Objects, matches: Int64[Tensor, " p"]
    ) -> Float[Tensor, "p 4"]:
        """From each positive region to its object."""
        return encode_boxes(objects["boxes"][matches], boxes, WEIGHTS)

    def loss(
        self,
        answers: tuple[Float[Tensor, "k classes"], Float[Tensor, "k boxes"]],
        labels: Int64[Tensor, " k"],
        deltas: Float[Tensor, "p 4"],
    ) -> dict[str, Float[Tensor, ""]]:
        """The other two losses: the class of every region, and the box of the positives.

        Args:
            answers: of the head.
            labels: the class of each region; the p positives come first, then background, 0.
            deltas: of `targets`.

        Returns:
            "class" and "box", per region.
        """
        scores, found = answers
        positive = labels[: len(deltas)]
        region = torch.arange(len(positive), device=positive.device)
        own = found[region].unflatten(1, (-1, 4))[region, positive - 1]
        box = F.smooth_l1_loss(own, deltas, beta=1 / 9, reduction="sum")
        count = max(len(labels), 1)
        return {
            "class": F.cross_entropy(scores, labels, reduction="sum") / count,
            "box": box / count,
        }

    @torch.no_grad()
    def predict(
        self,
        answers: tuple[Float[Tensor, "k classes"], Float[Tensor, "k boxes"]],
        rois: Float[Tensor, "k 5"],
        size: tuple[int, int],
    ) -> dict[str, Tensor]:
        """Detections: refined boxes of every class that is likely enough, without weaker ones beside them.

        Args:
            answers: of the head.
            rois: the regions, `image, x1, y1, x2, y2` in pixels.
            size: the images' (height, width).

        Returns:
            "image", "boxes", "labels" and "scores" of all detections in the batch, best first.
        """
        scores, deltas = answers
        likely = scores.softmax(dim=1)[:, 1:]
        region, label = (likely > self.score_threshold).nonzero(as_tuple=True)
        own = deltas.unflatten(1, (-1, 4))[region, label]
        boxes = decode_boxes(own, rois[region, 1:], WEIGHTS)
        boxes = clip_boxes_to_image(boxes, size)
        image, score = rois[region, 0].long(), likely[region, label]
        group = image * self.classes + label
        keep = batched_nms(boxes, score, group, self.iou_threshold)
        keep = keep[first_of_each(image[keep], self.detections)]
        return {
            "image": image[keep],
            "boxes": boxes[keep],
            "labels": label[keep] + 1,
            "scores": score[keep],
        }
