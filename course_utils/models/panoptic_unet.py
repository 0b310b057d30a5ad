"""A panoptic network whose feature pyramid is a U-Net. It does not come from a paper."""

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from course_utils.models import rpn
from course_utils.models.blocks import convolution_block
from course_utils.models.fpn import Features
from course_utils.models.heads.box import BoxHead
from course_utils.models.heads.skip_mask import SkipMaskHead
from course_utils.models.panoptic import PanopticNetwork
from course_utils.models.rcnn import FasterRCNN
from course_utils.models.unet import UNetBackbone


class Levels(nn.Module):
    """The levels of a U-Net's expanding path that a detector uses, each with one convolution.

    The fine levels of the expanding path already contain what comes from the coarse ones, so that this neck
    needs no top-down path of its own, unlike `FPN`.

    Args:
        inputs: channels of all levels by their stride, finest first.
        outputs: channels of the levels to return by their stride; a level whose number of channels does not
            change has no convolution.
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


class LevelScores(nn.Module):
    """Class scores from several levels, upsampled and added: a 1 x 1 convolution for each level.

    Args:
        channels: of each level by its stride, finest first.
        classes: number of class scores per pixel.
    """

    def __init__(self, *, channels: Mapping[int, int], classes: int):
        super().__init__()
        self.score = nn.ModuleDict(
            {str(stride): nn.Conv2d(width, classes, 1) for stride, width in channels.items()}
        )

    def forward(self, features: Features, size: tuple[int, int]) -> Float[Tensor, "b classes h w"]:
        """One score per class and pixel of an image of this (height, width)."""
        total, (finest, *_) = 0, map(int, self.score)
        height, width = features[finest].shape[2:]
        for stride, score in self.score.items():
            scores = _upsample(score(features[int(stride)]), int(stride) // finest)
            total = total + scores[..., :height, :width]
        return _upsample(total, finest)[..., : size[0], : size[1]].float()


def _upsample(scores: Tensor, factor: int) -> Tensor:
    return F.interpolate(scores, scale_factor=factor, mode="bilinear") if factor > 1 else scores


def small(
    classes: int, *, things: int = 4, width: int = 8, channels: int = 32, hidden: int = 128
) -> PanopticNetwork:
    """A panoptic network on a U-Net for images of about 100 pixels.

    Proposals come from stride 8, boxes and masks from stride 2; the skip connection of the mask head and the
    semantic scores come from stride 1. With the default widths the backbone is that of `unet.small`.

    Args:
        classes: number of classes: background (0), the things (from 1 on), then stuff.
        things: how many of them are things.
        width: channels of the U-Net's finest level.
        channels: of the levels from which boxes come.
        hidden: width of the box head.

    Returns:
        The network, with random weights.
    """
    backbone = UNetBackbone(width=width, depth=4, convolutions=1)
    neck = Levels(
        inputs=dict(zip((1, 2, 4, 8, 16), backbone.channels)),
        outputs={1: width, 2: channels, 8: channels},
    )
    detector = FasterRCNN(
        backbone=backbone,
        neck=neck,
        rpn=rpn.small(channels=channels, post_nms_top_n=48),
        box_head=BoxHead(
            channels=channels,
            classes=things,
            crop_strides=(2,),
            hidden=hidden,
            nms_threshold=0.6,
            detections_per_image=20,
        ),
        heads={
            "masks": SkipMaskHead(
                channels=channels,
                classes=things,
                crop_strides=(2,),
                width=channels,
                convolutions=3,
                skip_stride=1,
                skip_channels=width,
            )
        },
        batch_size_per_image=32,
        positive_fraction=0.35,
    )
    head = LevelScores(channels={1: width, 8: channels}, classes=classes)
    return PanopticNetwork(detector=detector, semantic_head=head, semantic_classes=range(classes))
