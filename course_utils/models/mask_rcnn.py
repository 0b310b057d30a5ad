"""Mask R-CNN: Faster R-CNN, and one more head."""

from collections.abc import Callable

from torch import Tensor

from course_utils.fast.roi import roi_align
from course_utils.models import backbones, rpn
from course_utils.models.fpn import FPN
from course_utils.models.heads.box import BoxHead
from course_utils.models.heads.mask import MaskHead
from course_utils.models.rcnn import FasterRCNN


def small(
    classes: int,
    *,
    backbone: backbones.Backbone | None = None,
    crop: Callable[..., Tensor] = roi_align,
    class_agnostic: bool = False,
) -> FasterRCNN:
    """A Mask R-CNN for a laptop and pictures of about 100 pixels: thin, and finer than the paper's.

    Proposals come from stride 8, and regions are cropped at stride 2: an object is about 36 pixels wide.

    Args:
        classes: how many there are, background among them.
        backbone: `backbones.small()` when left out.
        crop: as in `FasterRCNN`.
        class_agnostic: one mask a region instead of one a class.

    Returns:
        The network, with random weights.
    """
    backbone = backbone or backbones.small()
    channels, things = 32, classes - 1
    return FasterRCNN(
        backbone=backbone,
        neck=FPN(
            inputs=dict(zip((2, 4, 8, 16, 32), backbone.channels)),
            channels=channels,
            kernels={2: 0, 8: 3},
        ),
        rpn=rpn.small(channels=channels, proposals=32),
        box_head=BoxHead(
            channels=channels, classes=things, crop_strides=(2,), hidden=128, detections=20
        ),
        heads={
            "masks": MaskHead(
                channels=channels,
                classes=1 if class_agnostic else things,
                crop_strides=(2,),
                width=32,
                convolutions=2,
            )
        },
        samples=24,
        positive_fraction=0.33,
        crop=crop,
    )
