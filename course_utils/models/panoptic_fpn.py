"""Panoptic FPN: a Mask R-CNN on a feature pyramid, and a semantic branch on the same pyramid."""

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from course_utils.models import backbones, rpn
from course_utils.models.blocks import convolution_block, upsample_by_two
from course_utils.models.fpn import FPN, Features
from course_utils.models.heads.box import BoxHead
from course_utils.models.heads.mask import MaskHead
from course_utils.models.panoptic import PanopticNetwork
from course_utils.models.rcnn import FasterRCNN


class SemanticBranch(nn.Module):
    """Upsample every level of the pyramid to the finest one, add them up, and score the classes.

    A level goes through stages of a 3 x 3 convolution, group normalisation, a ReLU and bilinear upsampling by
    two, as many as it takes to reach the finest level; the finest level has one stage without upsampling. A
    1 x 1 convolution of the sum gives the scores, which are upsampled to the size of the image.

    Args:
        classes: number of class scores per pixel: the stuff classes, and "other" for all things.
        channels: of the levels.
        strides: of the levels, finest first.
        width: channels of the stages.
        groups: of the group normalisation.

    Source: Kirillov et al., "Panoptic Feature Pyramid Networks", CVPR 2019, section 3 and figure 3.
    """

    def __init__(
        self,
        *,
        classes: int,
        channels: int = 256,
        strides: Sequence[int] = (4, 8, 16, 32),
        width: int = 128,
        groups: int = 32,
    ):
        super().__init__()
        norm = partial(nn.GroupNorm, groups)
        self.stages = nn.ModuleDict()
        for stride in strides:
            count = max(1, round(math.log2(stride / strides[0])))
            widths = [channels] + [width] * count
            blocks = (convolution_block(a, b, norm=norm) for a, b in pairwise(widths))
            self.stages[str(stride)] = nn.ModuleList(blocks)
        self.score = nn.Conv2d(width, classes, 1)
        self.strides = tuple(strides)

    def forward(self, features: Features, size: tuple[int, int]) -> Float[Tensor, "b classes h w"]:
        """One score per class and pixel of an image of this (height, width)."""
        finest, total = self.strides[0], 0
        for stride in self.strides:
            level = features[stride]
            for block in self.stages[str(stride)]:
                level = block(level)
                if stride > finest:
                    stride //= 2
                    level = upsample_by_two(level, like=features[stride], mode="bilinear")
            total = total + level
        scores = F.interpolate(self.score(total), scale_factor=finest, mode="bilinear")
        return scores[..., : size[0], : size[1]].float()


def small(classes: int, *, things: int = 4, channels: int = 32) -> PanopticNetwork:
    """A Panoptic FPN for images of about 100 pixels: narrower than the paper's, with one finer level.

    Objects are about 36 pixels wide, so the pyramid begins at stride 2. The semantic branch adds its levels
    up there, and all regions are cropped there; in the paper both happen from stride 4 on.

    Args:
        classes: number of classes: background (0), the things (from 1 on), then stuff.
        things: how many of them are things.
        channels: of the pyramid.

    Returns:
        The network, with random weights.
    """
    backbone, strides = backbones.small(), (2, 4, 8, 16, 32)
    inputs = dict(zip(strides, backbone.channels))
    detector = FasterRCNN(
        backbone=backbone,
        neck=FPN(inputs=inputs, channels=channels, kernel_sizes=dict.fromkeys(strides, 3)),
        rpn=rpn.small(channels=channels, post_nms_top_n=48),
        box_head=BoxHead(
            channels=channels,
            classes=things,
            crop_strides=(2,),
            hidden=192,
            nms_threshold=0.6,
            detections_per_image=20,
        ),
        heads={"masks": MaskHead(channels=channels, classes=things, crop_strides=(2,), width=32)},
        batch_size_per_image=32,
        positive_fraction=0.35,
    )
    other_and_stuff = (0, *range(things + 1, classes))
    branch = SemanticBranch(
        classes=len(other_and_stuff),
        channels=channels,
        strides=strides,
        width=channels,
        groups=channels // 4,
    )
    return PanopticNetwork(
        detector=detector, semantic_head=branch, semantic_classes=other_and_stuff
    )
