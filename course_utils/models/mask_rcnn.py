"""Mask R-CNN: Faster R-CNN and one more head."""

from course_utils.models import backbones, faster_rcnn
from course_utils.models.fpn import CROP, Crop
from course_utils.models.heads.mask import MaskHead
from course_utils.models.rcnn import FasterRCNN


def small(
    classes: int,
    *,
    backbone: backbones.Backbone | None = None,
    crop: Crop = CROP,
    class_agnostic: bool = False,
) -> FasterRCNN:
    """A Mask R-CNN for a laptop: `faster_rcnn.small` with a mask head.

    Args:
        classes, backbone, crop: as in `faster_rcnn.small`.
        class_agnostic: one mask for each region instead of one for each class.

    Returns:
        The network, with random weights.
    """
    detector = faster_rcnn.small(classes, backbone=backbone, crop=crop)
    detector.heads["masks"] = MaskHead(
        channels=detector.neck.channels,
        classes=1 if class_agnostic else classes - 1,
        crop_strides=detector.box_head.crop_strides,
        width=32,
        convolutions=2,
    )
    return detector
