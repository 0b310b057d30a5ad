"""Faster R-CNN for a laptop."""

from course_utils.models import backbones, rpn
from course_utils.models.fpn import CROP, FPN, Crop
from course_utils.models.heads.box import BoxHead
from course_utils.models.rcnn import FasterRCNN


def small(
    classes: int, *, backbone: backbones.Backbone | None = None, crop: Crop = CROP
) -> FasterRCNN:
    """A Faster R-CNN for images of about 100 pixels: narrower than the paper's, and finer.

    Objects are about 36 pixels wide. Proposals come from stride 8, and regions are cropped at stride 2.

    Args:
        classes: number of classes, background included.
        backbone: `backbones.small()` when left out.
        crop: as in `FasterRCNN`.

    Returns:
        The network, with random weights.
    """
    backbone, channels = backbone or backbones.small(), 32
    inputs = dict(zip((2, 4, 8, 16, 32), backbone.channels))
    return FasterRCNN(
        backbone=backbone,
        neck=FPN(inputs=inputs, channels=channels, kernel_sizes={2: 0, 8: 3}),
        rpn=rpn.small(channels=channels, post_nms_top_n=32),
        box_head=BoxHead(
            channels=channels,
            classes=classes - 1,
            crop_strides=(2,),
            hidden=128,
            detections_per_image=20,
        ),
        batch_size_per_image=24,
        positive_fraction=0.33,
        crop=crop,
    )
