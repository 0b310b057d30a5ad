"""Panoptic FPN: one backbone, two branches, and every pixel gets a class and every thing a number."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from course_utils.models import rpn
from course_utils.models.backbones import convolution_block
from course_utils.models.heads.box import BoxHead
from course_utils.models.heads.mask import MaskHead
from course_utils.models.rcnn import FasterRCNN, Features, Losses, Targets
from course_utils.models.rpn import collate_objects
from course_utils.models.unet import UNetBackbone
from course_utils.ops.losses import cross_entropy


class Levels(nn.Module):
    """What a detector takes of a U-Net's way up: some levels, each convolved once to the width it needs.

    A neck that needs no way down of its own (see `FPN`), because the U-Net's fine levels know already what
    the coarse ones know.

    Args:
        inputs: channels of all levels, by their stride, finest first.
        outputs: channels of the levels to return, by their stride; one that keeps its number stays as it is.
    """

    def __init__(self, *, inputs: Mapping[int, int], outputs: Mapping[int, int]):
        super().__init__()
        self.strides = tuple(inputs)
        self.layers = nn.ModuleDict()
        for stride, width in outputs.items():
            same = width == inputs[stride]
            layer = nn.Identity() if same else convolution_block(inputs[stride], width)
            self.layers[str(stride)] = layer

    def forward(self, features: Sequence[Float[Tensor, "b _ _ _"]]) -> Features:
        """The chosen levels by their stride, finest first."""
        levels = dict(zip(self.strides, features))
        return {int(key): layer(levels[int(key)]) for key, layer in self.layers.items()}


class SemanticHead(nn.Module):
    """The second branch: levels of the pyramid score the classes; the scores are enlarged and added.

    Args:
        channels: of each level, by its stride, finest first.
        classes: how many scores a pixel gets.

    Source: Kirillov et al., "Panoptic Feature Pyramid Networks", CVPR 2019, section 3. There each level is
    convolved and enlarged in steps of two before the levels are added and scored.
    """

    def __init__(self, *, channels: Mapping[int, int], classes: int):
        super().__init__()
        self.score = nn.ModuleDict(
            {str(stride): nn.Conv2d(width, classes, 1) for stride, width in channels.items()}
        )

    def forward(self, features: Features, size: tuple[int, int]) -> Float[Tensor, "b classes h w"]:
        """One score a class and pixel."""
        total, (finest, *_) = 0, map(int, self.score)
        height, width = features[finest].shape[2:]
        for stride, score in self.score.items():
            scores = _enlarge(score(features[int(stride)]), int(stride) // finest)
            total = total + scores[..., :height, :width]
        return _enlarge(total, finest)[..., : size[0], : size[1]].float()


def _enlarge(scores: Tensor, factor: int) -> Tensor:
    """Sizes that were rounded up on the way down give some rows and columns too many: cut them."""
    return F.interpolate(scores, scale_factor=factor, mode="bilinear") if factor > 1 else scores


class PanopticFPN(nn.Module):
    """A detector with masks, and a semantic head on the same features.

    Args:
        detector: finds the things.
        semantic_head: names every pixel.
        semantic_weight: of its loss, beside the detector's five.
    """

    def __init__(
        self, *, detector: FasterRCNN, semantic_head: SemanticHead, semantic_weight: float = 1.0
    ):
        super().__init__()
        self.detector, self.semantic_head = detector, semantic_head
        self.semantic_weight = semantic_weight

    def forward(
        self, images: Float[Tensor, "b 3 h w"], targets: Targets | None = None
    ) -> Losses | list[dict[str, Tensor]]:
        """With targets the six losses; without them what the detector says, and "semantic" class scores."""
        features, size = self.detector.features(images), tuple(images.shape[2:])
        scores = self.semantic_head(features, size)
        if targets is None:
            found = self.detector.detect(features, size)
            return [one | {"semantic": score} for one, score in zip(found, scores)]
        labels = torch.stack([target["semantic"] for target in targets])
        objects = [{k: v for k, v in target.items() if k != "semantic"} for target in targets]
        losses = self.detector.losses(features, size, collate_objects(objects))
        semantic = cross_entropy(scores, labels, reduction="none").mean()
        return losses | {"semantic": self.semantic_weight * semantic}


def on_unet(classes: int, *, width: int = 8, channels: int = 32, hidden: int = 128) -> PanopticFPN:
    """A Panoptic FPN for scenes of about 100 pixels, whose pyramid is a U-Net's way up.

    Proposals come from stride 8, boxes and masks from stride 2, and what makes outlines as sharp as the image
    from stride 1: the masks' skip connection and the semantic scores. With the widths left out, the backbone
    is that of `unet.small`.

    Args:
        classes: how many scores a pixel gets, background and stuff among them; of them 1 to 4 are things.
        width: channels of the U-Net's uppermost level.
        channels: of the levels that boxes come from.
        hidden: width of the box head.

    Returns:
        The network, with random weights.
    """
    backbone, things = UNetBackbone(width=width, depth=4, convolutions=1), 4
    neck = Levels(
        inputs=dict(zip((1, 2, 4, 8, 16), backbone.channels)),
        outputs={1: width, 2: channels, 8: channels},
    )
    detector = FasterRCNN(
        backbone=backbone,
        neck=neck,
        rpn=rpn.small(channels=channels, proposals=48),
        box_head=BoxHead(
            channels=channels,
            classes=things,
            crop_strides=(2,),
            hidden=hidden,
            iou_threshold=0.6,
            detections=20,
        ),
        heads={
            "masks": MaskHead(
                channels=channels,
                classes=things,
                crop_strides=(2,),
                width=channels,
                convolutions=3,
                skip=(1, width),
            )
        },
        samples=32,
        positive_fraction=0.35,
    )
    head = SemanticHead(channels={1: width, 8: channels}, classes=classes)
    return PanopticFPN(detector=detector, semantic_head=head)
