"""The box head: the class of a region, and its box."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_utils.fast.nms import batched_nms
from course_utils.models.blocks import convolution_block
from course_utils.models.fpn import Crop, Features, crop_regions
from course_utils.models.regions import (
    GroundTruth,
    Sizes,
    clip_to_images,
    first_per_image,
    has_size,
)
from course_utils.ops.box_coding import decode_boxes, encode_boxes

WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # bring the four box targets to similar variance

Prediction = tuple[Float[Tensor, "k classes"], Float[Tensor, "k boxes"]]


class BoxHead(nn.Module):
    """Two fully connected layers, then C + 1 class scores and 4 C box coordinates.

    A fully connected layer is a convolution whose filter is as large as its input.

    Args:
        channels: of the crops.
        classes: number of thing classes, C, without background.
        crop_size: height and width of the crops in bins.
        crop_strides: the levels of the pyramid from which regions are cropped.
        hidden: outputs of the fully connected layers.
        score_threshold: detections with a lower score are dropped.
        nms_threshold: a box is suppressed by a better one of its class when their IoU is above this.
        detections_per_image: how many detections of an image are kept, by score.
        min_size: narrower or lower detections are dropped, in pixels.
        norm: makes the normalisation after each fully connected layer; None for none, as in the paper.

    Source: Girshick, "Fast R-CNN", ICCV 2015, section 2.
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
        nms_threshold: float = 0.5,
        detections_per_image: int = 100,
        min_size: float = 0.0,
        norm: Callable[[int], nn.Module] | None = nn.BatchNorm2d,
    ):
        super().__init__()
        self.layers = nn.Sequential(
            convolution_block(channels, hidden, kernel_size=crop_size, padding=0, norm=norm),
            convolution_block(hidden, hidden, kernel_size=1, padding=0, norm=norm),
            nn.Flatten(),
        )
        self.scores = nn.Linear(hidden, classes + 1)
        self.deltas = nn.Linear(hidden, 4 * classes)
        nn.init.normal_(self.scores.weight, std=0.01)
        nn.init.normal_(self.deltas.weight, std=0.001)
        for layer in (self.scores, self.deltas):
            nn.init.zeros_(layer.bias)
        self.crop_size, self.crop_strides, self.classes = crop_size, crop_strides, classes
        self.score_threshold, self.nms_threshold = score_threshold, nms_threshold
        self.detections_per_image, self.min_size = detections_per_image, min_size

    def crops(
        self, features: Features, rois: Float[Tensor, "k 5"], crop: Crop
    ) -> Float[Tensor, "k c s s"]:
        """The crops that `forward` takes; `crop` as in `crop_regions`."""
        levels = {stride: features[stride] for stride in self.crop_strides}
        return crop_regions(levels, rois, self.crop_size, crop)

    def forward(self, crops: Float[Tensor, "k c s s"]) -> Prediction:
        """C + 1 class scores (logits, background first), and `tx, ty, tw, th` for each of the C classes."""
        hidden = self.layers(crops)
        return self.scores(hidden).float(), self.deltas(hidden).float()

    def targets(
        self, boxes: Float[Tensor, "p 4"], ground_truth: GroundTruth, matches: Int64[Tensor, " p"]
    ) -> Float[Tensor, "p 4"]:
        """The box target of each positive region."""
        return encode_boxes(ground_truth["boxes"][matches], boxes, WEIGHTS)

    def loss(
        self, prediction: Prediction, labels: Int64[Tensor, " k"], targets: Float[Tensor, "p 4"]
    ) -> dict[str, Float[Tensor, ""]]:
        """The other two losses: the class of every region, and the box of the positive ones.

        Args:
            prediction: of the head.
            labels: the class of each region; the p positives come first, then background, 0.
            targets: of `targets`.

        Returns:
            "class" and "box", averaged over the regions.
        """
        scores, deltas = prediction
        positive = labels[: len(targets)]
        region = torch.arange(len(positive), device=positive.device)
        deltas = deltas[region].unflatten(1, (-1, 4))[region, positive - 1]  # of the true class
        box = F.smooth_l1_loss(deltas, targets, beta=1 / 9, reduction="sum")
        count = max(len(labels), 1)
        return {
            "class": F.cross_entropy(scores, labels, reduction="sum") / count,
            "box": box / count,
        }

    @torch.no_grad()
    def predict(
        self, prediction: Prediction, rois: Float[Tensor, "k 5"], size: Sizes
    ) -> dict[str, Tensor]:
        """Detections: the refined box of every class whose score is high enough, after NMS per class.

        Args:
            prediction: of the head.
            rois: the regions, `image, x1, y1, x2, y2` in pixels.
            size: (height, width) of the images in pixels, or `[b, 2]` with those of each image.

        Returns:
            "image", "boxes", "labels" and "scores" of all detections in the batch, by falling score.
        """
        scores, deltas = prediction
        probability = scores.softmax(dim=1)[:, 1:]
        region, label = (probability > self.score_threshold).nonzero(as_tuple=True)
        deltas = deltas.unflatten(1, (-1, 4))[region, label]
        boxes = decode_boxes(deltas, rois[region, 1:], WEIGHTS)
        boxes = clip_to_images(boxes, rois[region, 0].long(), size)
        large = has_size(boxes, self.min_size)
        region, label, boxes = region[large], label[large], boxes[large]
        image, score = rois[region, 0].long(), probability[region, label]
        group = image * self.classes + label
        keep = batched_nms(boxes, score, group, self.nms_threshold)
        keep = keep[first_per_image(image[keep], self.detections_per_image)]
        return {
            "image": image[keep],
            "boxes": boxes[keep],
            "labels": label[keep] + 1,
            "scores": score[keep],
        }
