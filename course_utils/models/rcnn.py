"""Slow, Fast and Faster R-CNN: one family, three short compositions of the same parts.

| | where regions come from | what is cropped | the backbone runs |
|---|---|---|---|
| Slow | outside | the image | once a region |
| Fast | outside | its features | once an image |
| Faster | a region proposal network | its features | once an image |
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_utils.fast.roi import roi_align
from course_utils.models.backbones import Backbone
from course_utils.models.fpn import crop_regions
from course_utils.models.heads.box import BoxHead
from course_utils.models.rpn import RPN, Objects, collate_objects, match_regions
from course_utils.ops.assignment import balanced_sample, class_targets

Targets = Sequence[Mapping[str, Tensor]]
Features = Mapping[int, Float[Tensor, "b _ _ _"]]
Losses = dict[str, Float[Tensor, ""]]
Detections = list[dict[str, Tensor]]


def number_regions(boxes: Sequence[Float[Tensor, "_ 4"]]) -> Float[Tensor, "k 5"]:
    """Each image's boxes in one list, every box behind the number of its image.

    >>> number_regions([torch.zeros(1, 4), torch.ones(1, 4)])
    tensor([[0., 0., 0., 0., 0.],
            [1., 1., 1., 1., 1.]])
    """
    numbers = [torch.full_like(rows[:, :1], number) for number, rows in enumerate(boxes)]
    return torch.cat([torch.cat(numbers), torch.cat(list(boxes))], dim=1)


def separate_images(found: Mapping[str, Tensor], images: int) -> Detections:
    """What was found in a batch, image by image.

    >>> separate_images({"image": torch.tensor([1, 0]), "labels": torch.tensor([3, 4])}, 2)
    [{'labels': tensor([4])}, {'labels': tensor([3])}]
    """
    rest = {key: rows for key, rows in found.items() if key != "image"}
    return [
        {key: rows[found["image"] == number] for key, rows in rest.items()}
        for number in range(images)
    ]


class SlowRCNN(nn.Module):
    """Cut every region out of the image, bring it to one size, and send it through the whole network.

    Args:
        backbone: crops in, features out; the coarsest ones go to the head.
        box_head: names and refines the regions; its `crop_size` is that of these features.
        side: height and width to which a region is resized, in pixels.
        samples: how many regions an image the head learns from.
        positive_fraction: at most this part of them shows an object.

    Source: lecture, "Slow" R-CNN; Girshick et al., "Rich feature hierarchies", CVPR 2014.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        box_head: BoxHead,
        side: int = 224,
        samples: int = 64,
        positive_fraction: float = 0.25,
    ):
        super().__init__()
        self.backbone, self.box_head, self.side = backbone, box_head, side
        self.samples, self.positive_fraction = samples, positive_fraction

    def forward(
        self,
        images: Float[Tensor, "b 3 h w"],
        proposals: Sequence[Float[Tensor, "_ 4"]],
        targets: Targets | None = None,
    ) -> Losses | Detections:
        """With targets the two losses, without them the detections of each image.

        Args:
            images: RGB in 0..1, all of one size.
            proposals: regions of each image, `x1, y1, x2, y2` in pixels.
            targets: for each image "boxes" and "labels", 1 or above.

        Returns:
            "class" and "box" losses; or for each image "boxes", "labels" and "scores".
        """
        rois = number_regions(proposals)
        if targets is None:
            answers = self.box_head(self.crops(images, rois))
            found = self.box_head.predict(answers, rois, tuple(images.shape[2:]))
            return separate_images(found, len(images))
        objects = collate_objects(targets)
        rois, labels, matches = sample_regions(
            rois, objects, self.samples * len(images), self.positive_fraction
        )
        deltas = self.box_head.targets(rois[: len(matches), 1:], objects, matches)
        return self.box_head.loss(self.box_head(self.crops(images, rois)), labels, deltas)

    def crops(
        self, images: Float[Tensor, "b 3 h w"], rois: Float[Tensor, "k 5"]
    ) -> Float[Tensor, "k c s s"]:
        """Crop, then convolve: as many forward passes as there are regions."""
        return self.backbone(roi_align(images, rois, self.side, aligned=True))[-1]


class FastRCNN(SlowRCNN):
    """Send the image through the network once, and cut every region out of its features.

    Source: Girshick, "Fast R-CNN", ICCV 2015. The arguments are those of `SlowRCNN`, but `side` is not used.
    """

    def crops(
        self, images: Float[Tensor, "b 3 h w"], rois: Float[Tensor, "k 5"]
    ) -> Float[Tensor, "k c s s"]:
        """Convolve, then crop: one forward pass for all regions."""
        features = self.backbone(images)[-1]
        scale = 0.5 ** len(self.backbone.channels)  # each stage halves the size
        return roi_align(features, rois, self.box_head.crop_size, scale, aligned=True)


class FasterRCNN(nn.Module):
    """Propose regions, crop their features, and ask each head about every crop.

    Args:
        backbone: images in, features out.
        neck: makes a pyramid of the features, levels by their stride; see `FPN`.
        rpn: proposes regions.
        box_head: names and refines them.
        heads: more questions about a region, by name; "masks" makes Mask R-CNN. A head has a `crop_size`,
            the `crop_strides` of the levels it is cut from, a `forward(crops)`, and the methods
            `targets(boxes, objects, matches)`, `loss(answers, labels, targets)` and
            `predict(answers, boxes, labels, size)`; with a `skip` its crops come in pairs, see `MaskHead`.
        samples: how many regions an image the heads learn from.
        positive_fraction: at most this part of them shows an object.
        crop: `roi_align`, or `roi_pool` to see what it costs.

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
        samples: int = 512,
        positive_fraction: float = 0.25,
        crop: Callable[..., Tensor] = roi_align,
    ):
        super().__init__()
        self.backbone, self.neck, self.rpn, self.box_head = backbone, neck, rpn, box_head
        self.heads = nn.ModuleDict(heads or {})
        self.samples, self.positive_fraction = samples, positive_fraction
        self.crop = crop

    def forward(
        self, images: Float[Tensor, "b 3 h w"], targets: Targets | None = None
    ) -> Losses | Detections:
        """With targets the losses, without them the detections of each image.

        Args:
            images: RGB in 0..1, all of one size.
            targets: for each image "boxes", "labels" (1 or above) and what the heads want, such as "masks".

        Returns:
            The losses by name; or for each image "boxes", "labels", "scores" and an entry a head.
        """
        features, size = self.features(images), tuple(images.shape[2:])
        if targets is None:
            return self.detect(features, size)
        return self.losses(features, size, collate_objects(targets))

    def features(self, images: Float[Tensor, "b 3 h w"]) -> Features:
        """The pyramid's levels by their stride, finest first."""
        return self.neck(self.backbone(images))

    def losses(self, features: Features, size: tuple[int, int], objects: Objects) -> Losses:
        """Stage one learns to propose, stage two to name, to refine, and whatever else the heads do."""
        answers = self.rpn(features)
        images = len(answers.objectness)
        losses = self.rpn.loss(answers, *self.rpn.targets(answers.anchors, objects, images))
        proposals, _ = self.rpn.predict(answers, size)
        rois, labels, matches = self.sample(proposals, objects, images)
        positive = len(matches)
        deltas = self.box_head.targets(rois[:positive, 1:], objects, matches)
        answers = self.box_head(self.cut(features, rois, self.box_head))
        losses |= self.box_head.loss(answers, labels, deltas)
        for head in self.heads.values():
            answers = head(self.cut(features, rois[:positive], head))
            targets = head.targets(rois[:positive, 1:], objects, matches)
            losses |= head.loss(answers, labels[:positive], targets)
        return losses

    def sample(
        self, proposals: Float[Tensor, "k 5"], objects: Objects, images: int
    ) -> tuple[Float[Tensor, "s 5"], Int64[Tensor, " s"], Int64[Tensor, " p"]]:
        """The regions that the heads learn from: `sample_regions` with this network's numbers."""
        return sample_regions(proposals, objects, self.samples * images, self.positive_fraction)

    def cut(
        self, features: Features, rois: Float[Tensor, "k 5"], head: nn.Module
    ) -> Float[Tensor, "k c s s"] | tuple[Tensor, Tensor]:
        """The crops that a head wants to see; of a head with a skip also those of the finer level."""
        levels = {stride: features[stride] for stride in head.crop_strides}
        crops = crop_regions(levels, rois, head.crop_size, self.crop)
        if not getattr(head, "skip", None):
            return crops
        stride, _ = head.skip
        finer = {stride: features[stride]}
        return crops, crop_regions(finer, rois, 2 * head.crop_size, self.crop)

    @torch.no_grad()
    def detect(self, features: Features, size: tuple[int, int]) -> Detections:
        """Propose, name and refine; then every other head looks at the refined boxes."""
        proposals = self.rpn(features)
        rois, _ = self.rpn.predict(proposals, size)
        answers = self.box_head(self.cut(features, rois, self.box_head))
        found = self.box_head.predict(answers, rois, size)
        rois = torch.cat([found["image"][:, None], found["boxes"]], dim=1)
        for name, head in self.heads.items():
            answers = head(self.cut(features, rois, head))
            found[name] = head.predict(answers, found["boxes"], found["labels"], size)
        return separate_images(found, len(proposals.objectness))


@torch.no_grad()
def sample_regions(
    proposals: Float[Tensor, "k 5"], objects: Objects, count: int, positive_fraction: float
) -> tuple[Float[Tensor, "s 5"], Int64[Tensor, " s"], Int64[Tensor, " p"]]:
    """The regions to learn from: those that show an object first, then background.

    The true boxes join the proposals, for an untrained network proposes nothing useful. The sample is drawn
    from the whole batch at once.

    Args:
        proposals: `image, x1, y1, x2, y2`.
        objects: all of the batch.
        count: how many regions to draw.
        positive_fraction: at most this part of them shows an object.

    Returns:
        Regions; the class of each, 0 for background; and the object of each of the p positive ones.

    Source: Girshick, "Fast R-CNN", ICCV 2015, section 2.3.
    """
    true = torch.cat([objects["image"][:, None], objects["boxes"]], dim=1)
    rois = torch.cat([proposals, true.to(proposals)])
    matches = match_regions(objects, rois[:, 0].long(), rois[:, 1:], 0.5, 0.5)
    labels = class_targets(matches, objects["labels"])
    drawn = balanced_sample(labels, count, positive_fraction)
    positive, negative = (mask.nonzero()[:, 0] for mask in drawn)
    chosen = torch.cat([positive, negative])
    return rois[chosen], labels[chosen], matches[positive]
