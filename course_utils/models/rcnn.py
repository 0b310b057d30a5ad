"""Slow, Fast and Faster R-CNN: three short compositions of the same parts.

| | regions come from | what is cropped | the backbone runs |
|---|---|---|---|
| Slow | outside | the image | once per region |
| Fast | outside | its features | once per image |
| Faster | a region proposal network | its features | once per image |
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_utils.fast.roi import roi_align
from course_utils.models.backbones import Backbone
from course_utils.models.fpn import CROP, Crop, Features
from course_utils.models.heads.box import BoxHead
from course_utils.models.regions import (
    Detections,
    GroundTruth,
    Sizes,
    boxes_to_rois,
    each_size,
    image_sizes,
    sample_regions,
    split_by_image,
)
from course_utils.models.rpn import RPN

Losses = dict[str, Float[Tensor, ""]]


class SlowRCNN(nn.Module):
    """Crop every region from the image, resize it to one size, and send it through the whole network.

    Args:
        backbone: crops in, features out; the coarsest ones go to the head.
        box_head: classifies and refines the regions; its `crop_size` is that of these features.
        image_size: height and width to which a region is resized, in pixels.
        batch_size_per_image: how many regions of an image are sampled for the loss.
        positive_fraction: the largest fraction of them that may be positive.

    Source: lecture, "Slow" R-CNN; Girshick et al., "Rich feature hierarchies", CVPR 2014, which trained the
    network, the classifiers (SVMs) and the box regression one after the other. Here all are trained together.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        box_head: BoxHead,
        image_size: int = 224,
        batch_size_per_image: int = 64,
        positive_fraction: float = 0.25,
    ):
        super().__init__()
        self.backbone, self.box_head, self.image_size = backbone, box_head, image_size
        self.sampling = (batch_size_per_image, positive_fraction)

    def forward(
        self,
        images: Float[Tensor, "b 3 h w"],
        proposals: Sequence[Float[Tensor, "_ 4"]],
        ground_truth: GroundTruth | None = None,
    ) -> Losses | Detections:
        """With ground truth the two losses, without it the detections of each image.

        Args:
            images: RGB in 0..1, all of one size.
            proposals: regions of each image, `x1, y1, x2, y2` in pixels.
            ground_truth: "image", "boxes" and "labels" (1 or above) of all objects; see `Batch`.

        Returns:
            "class" and "box" losses; or for each image "boxes", "labels" and "scores".
        """

        def crops(rois: Float[Tensor, "k 5"]) -> Float[Tensor, "k c s s"]:
            return self.backbone(roi_align(images, rois, self.image_size, aligned=True))[-1]

        return _classify(self.box_head, crops, images, proposals, ground_truth, self.sampling)


class FastRCNN(nn.Module):
    """Send the image through the backbone once, and crop every region from its features.

    Args:
        backbone: images in, features out; regions are cropped from the coarsest ones.
        box_head: classifies and refines the regions.
        batch_size_per_image, positive_fraction: as in `SlowRCNN`.

    Source: Girshick, "Fast R-CNN", ICCV 2015.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        box_head: BoxHead,
        batch_size_per_image: int = 64,
        positive_fraction: float = 0.25,
    ):
        super().__init__()
        self.backbone, self.box_head = backbone, box_head
        self.sampling = (batch_size_per_image, positive_fraction)

    def forward(
        self,
        images: Float[Tensor, "b 3 h w"],
        proposals: Sequence[Float[Tensor, "_ 4"]],
        ground_truth: GroundTruth | None = None,
    ) -> Losses | Detections:
        """Arguments and results as in `SlowRCNN`."""
        features = self.backbone(images)[-1]
        scale = 0.5 ** len(self.backbone.channels)  # each stage halves the size

        def crops(rois: Float[Tensor, "k 5"]) -> Float[Tensor, "k c s s"]:
            return roi_align(features, rois, self.box_head.crop_size, scale, aligned=True)

        return _classify(self.box_head, crops, images, proposals, ground_truth, self.sampling)


def _classify(
    box_head: BoxHead,
    crops: Callable[[Float[Tensor, "k 5"]], Float[Tensor, "k c s s"]],
    images: Float[Tensor, "b 3 h w"],
    proposals: Sequence[Float[Tensor, "_ 4"]],
    ground_truth: GroundTruth | None,
    sampling: tuple[int, float],
) -> Losses | Detections:
    """Losses or detections of the box head, given a function that makes the crops of regions."""
    rois = boxes_to_rois(proposals)
    if ground_truth is None:
        detections = box_head.predict(box_head(crops(rois)), rois, tuple(images.shape[2:]))
        return split_by_image(detections, len(images))
    rois, labels, matches = sample_regions(rois, ground_truth, len(images), *sampling)
    box_targets = box_head.targets(rois[: len(matches), 1:], ground_truth, matches)
    return box_head.loss(box_head(crops(rois)), labels, box_targets)


class FasterRCNN(nn.Module):
    """Propose regions, crop their features, and apply every head to the crops.

    Args:
        backbone: images in, features out.
        neck: makes a pyramid of the features, levels by their stride; see `FPN`.
        rpn: proposes regions.
        box_head: classifies and refines them.
        heads: further heads by name; "masks" makes Mask R-CNN. A head has the methods
            `crops(features, rois, crop)`, `forward(crops)`, `targets(boxes, ground_truth, matches)`,
            `loss(prediction, labels, targets)` and `predict(prediction, boxes, labels, size)`.
        batch_size_per_image: how many regions of an image are sampled for the heads' losses.
        positive_fraction: the largest fraction of them that may be positive.
        crop: the operator that crops features, as in `crop_regions`; `roi_pool` to see what it costs.

    Source: Ren et al., "Faster R-CNN", NeurIPS 2015; with a pyramid as in Lin et al., CVPR 2017.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        neck: nn.Module,
        rpn: RPN,
        box_head: BoxHead,
        heads: Mapping[str, nn.Module] | None = None,
        batch_size_per_image: int = 512,
        positive_fraction: float = 0.25,
        crop: Crop = CROP,
    ):
        super().__init__()
        self.backbone, self.neck, self.rpn, self.box_head = backbone, neck, rpn, box_head
        self.heads = nn.ModuleDict(heads or {})
        self.sampling = (batch_size_per_image, positive_fraction)
        self.crop = crop

    def forward(
        self,
        images: Float[Tensor, "b 3 h w"],
        ground_truth: GroundTruth | None = None,
        sizes: Sizes | None = None,
    ) -> Losses | Detections:
        """With ground truth the losses, without it the detections of each image.

        Args:
            images: RGB in 0..1, padded to a common size.
            ground_truth: "image", "boxes", "labels" (1 or above) of all objects, and what the heads need,
                such as "masks"; see `course_utils.data.collate.Batch`.
            sizes: height and width of each image without its padding; None if there is none.

        Returns:
            The losses by name; or for each image "boxes", "labels", "scores" and one entry for each head.
        """
        sizes = image_sizes(images, sizes)
        if ground_truth is None:
            return each_size(
                lambda part, size: self.detect(self.features(part), size), images, sizes
            )
        return self.losses(self.features(images), sizes, ground_truth)

    def features(self, images: Float[Tensor, "b 3 h w"]) -> Features:
        """The levels of the pyramid by their stride, finest first."""
        return self.neck(self.backbone(images))

    def losses(
        self, features: Features, sizes: Int64[Tensor, "b 2"], ground_truth: GroundTruth
    ) -> Losses:
        """The losses of the RPN on its anchors, and of every head on a sample of the proposals."""
        output, images = self.rpn(features), len(sizes)
        targets = self.rpn.targets(output.anchors, ground_truth, images, sizes)
        losses = self.rpn.loss(output, *targets)
        proposals, _ = self.rpn.predict(output, sizes)
        rois, labels, matches = sample_regions(proposals, ground_truth, images, *self.sampling)
        positive = rois[: len(matches)]
        prediction = self.box_head(self.box_head.crops(features, rois, self.crop))
        targets = self.box_head.targets(positive[:, 1:], ground_truth, matches)
        losses |= self.box_head.loss(prediction, labels, targets)
        for head in self.heads.values():
            prediction = head(head.crops(features, positive, self.crop))
            targets = head.targets(positive[:, 1:], ground_truth, matches)
            losses |= head.loss(prediction, labels[: len(matches)], targets)
        return losses

    @torch.no_grad()
    def detect(self, features: Features, size: Sizes) -> Detections:
        """Propose regions, classify and refine them; then apply every other head to the refined boxes."""
        output = self.rpn(features)
        rois, _ = self.rpn.predict(output, size)
        prediction = self.box_head(self.box_head.crops(features, rois, self.crop))
        detections = self.box_head.predict(prediction, rois, size)
        rois = torch.cat([detections["image"][:, None], detections["boxes"]], dim=1)
        for name, head in self.heads.items():
            prediction = head(head.crops(features, rois, self.crop))
            detections[name] = head.predict(
                prediction, detections["boxes"], detections["labels"], size
            )
        return split_by_image(detections, len(output.objectness))
