"""torchvision's published detectors and FCN in the course's own code: the same weights, the same answers.

`mask_rcnn(download("mask_rcnn"))` is a Mask R-CNN with ResNet-50 and FPN, trained on COCO. It is composed of
the parts that the course teaches, in the settings of the papers, and takes torchvision's `state_dict`, the
weights by their names.

| | our part | setting |
|---|---|---|
| trunk | `backbones.resnet50` | batch normalisation with fixed statistics; strides 4 to 32 |
| pyramid | `FPN` | no normalisation after the last convolution; stride 64 for the largest anchors |
| anchors | `RPN` | one size per level, 32 to 512, around the corners of the cells |
| proposals | `RPN` | 1000 per level before and 1000 in all after NMS; 2000 in training |
| crops | `crop_regions` | k0 = 4; RoIAlign with 2 x 2 samples per bin, not aligned |
| boxes | `BoxHead` | for every class its own, weights 10, 10, 5, 5 |
| masks | `MaskHead` | transposed convolution to 256 channels, then 1 x 1 to the classes |
| pictures | `ResizedDetector` | shorter side 800 pixels, longer side at most 1333 |
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.detection import (
    FasterRCNN_ResNet50_FPN_Weights,
    MaskRCNN_ResNet50_FPN_Weights,
)
from torchvision.models.segmentation import FCN_ResNet50_Weights
from torchvision.ops import FrozenBatchNorm2d

from course_utils.data.download import download as download_file
from course_utils.fast.roi import roi_align
from course_utils.models import backbones
from course_utils.models.fcn import DilatedFCN
from course_utils.models.fpn import FPN, smooth_convolution
from course_utils.models.heads.box import BoxHead
from course_utils.models.heads.mask import MaskHead
from course_utils.models.rcnn import FasterRCNN
from course_utils.models.resizing import ResizedDetector, keep_crops
from course_utils.models.rpn import RPN
from course_utils.ops.anchors import grid_anchors

StateDict = Mapping[str, Tensor]

WEIGHTS = {  # each knows its address, its class names (`.meta["categories"]`) and its accuracy
    "faster_rcnn": FasterRCNN_ResNet50_FPN_Weights.COCO_V1,
    "mask_rcnn": MaskRCNN_ResNet50_FPN_Weights.COCO_V1,
    "fcn": FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1,
}

# From torchvision's names to ours. Its published files have older names for some layers: `(0\.)?` is left out
# there, and `mask_fcn1` is `mask_head.0`.
TRUNK = (
    (r"(conv1|bn1)\.", r"stages.0.\1."),
    (r"layer1\.", r"stages.1.layer1."),
    (r"layer([234])\.", r"stages.\1."),
)
DETECTOR = (
    *((rf"backbone\.body\.{theirs}", f"backbone.{ours}") for theirs, ours in TRUNK),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.(0\.)?", r"neck.lateral.\1."),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.(0\.)?", lambda m: f"neck.smooth.{4 << int(m[1])}."),
    (r"rpn\.head\.conv\.(0\.0\.)?", r"rpn.hidden.0."),
    (r"rpn\.head\.cls_logits\.", r"rpn.objectness."),
    (r"rpn\.head\.bbox_pred\.", r"rpn.deltas."),
    (r"roi_heads\.box_head\.fc6\.", r"box_head.layers.0.0."),
    (r"roi_heads\.box_head\.fc7\.", r"box_head.layers.1.0."),
    (r"roi_heads\.box_predictor\.cls_score\.", r"box_head.scores."),
    (r"roi_heads\.box_predictor\.bbox_pred\.", r"box_head.deltas."),
    (r"roi_heads\.mask_head\.(\d)\.0\.", r"heads.masks.layers.\1.0."),
    (r"roi_heads\.mask_head\.mask_fcn(\d)\.", lambda m: f"heads.masks.layers.{int(m[1]) - 1}.0."),
    (r"roi_heads\.mask_predictor\.conv5_mask\.", r"heads.masks.layers.4."),
    (r"roi_heads\.mask_predictor\.mask_fcn_logits\.", r"heads.masks.layers.6."),
)
SEGMENTER = (
    *((rf"backbone\.{theirs}", f"backbone.{ours}") for theirs, ours in TRUNK),
    (r"classifier\.([01])\.", r"head.0.\1."),
    (r"classifier\.4\.", r"head.2."),
)


def faster_rcnn(
    state_dict: StateDict,
    *,
    min_size: int = 800,
    max_size: int = 1333,
    score_threshold: float = 0.05,
) -> ResizedDetector:
    """Our Faster R-CNN with the weights of torchvision's `fasterrcnn_resnet50_fpn`.

    The statistics of its batch normalisation are fixed, and, as in torchvision's published networks, nothing
    is added to the variances. A `state_dict` that counts batches (`num_batches_tracked`) comes from a network
    with ordinary batch normalisation, and gets that one.

    Args:
        state_dict: torchvision's; `download("faster_rcnn")`, or of a network with any number of classes.
        min_size: to which the shorter side of each picture is resized, in pixels,
        max_size: unless the longer one would be longer than this.
        score_threshold: detections with a lower score are dropped.

    Returns:
        The detector, in evaluation mode.

    Source: `torchvision.models.detection.fasterrcnn_resnet50_fpn`; Lin et al., "Feature Pyramid Networks",
    CVPR 2017.
    """
    classes = _rows(state_dict, "roi_heads.box_predictor.cls_score.bias") - 1
    detector = _faster_rcnn(classes, score_threshold, _norm_of(state_dict))
    _load("fasterrcnn_resnet50_fpn", state_dict, detector, DETECTOR)
    return ResizedDetector(detector, min_size=min_size, max_size=max_size).eval()


def mask_rcnn(
    state_dict: StateDict,
    *,
    min_size: int = 800,
    max_size: int = 1333,
    score_threshold: float = 0.05,
) -> ResizedDetector:
    """Our Mask R-CNN with the weights of torchvision's `maskrcnn_resnet50_fpn`.

    Args:
        state_dict: torchvision's; `download("mask_rcnn")`, or of a network with any number of classes.
        min_size, max_size, score_threshold: as in `faster_rcnn`.

    Returns:
        The detector, in evaluation mode.

    Source: `torchvision.models.detection.maskrcnn_resnet50_fpn`; He et al., "Mask R-CNN", ICCV 2017.
    """
    classes = _rows(state_dict, "roi_heads.box_predictor.cls_score.bias") - 1
    detector = _faster_rcnn(classes, score_threshold, _norm_of(state_dict))
    detector.heads["masks"] = MaskHead(
        classes=classes, upsampled=256, norm=None, crop_truth=roi_align, paste=keep_crops
    )
    _load("maskrcnn_resnet50_fpn", state_dict, detector, DETECTOR)
    return ResizedDetector(detector, min_size=min_size, max_size=max_size).eval()


def fcn(state_dict: StateDict) -> DilatedFCN:
    """Our `DilatedFCN` with the weights of torchvision's `fcn_resnet50`.

    Args:
        state_dict: torchvision's; `download("fcn")`, or of a network with any number of classes. The
            classifier that only helps in training (`aux_classifier`) is left out.

    Returns:
        The network, in evaluation mode: RGB in 0..1 in, one score per class and pixel out. The published one
        was trained with pictures whose shorter side has 520 pixels.

    Source: `torchvision.models.segmentation.fcn_resnet50`.
    """
    backbone = backbones.resnet50(dilated=True)
    network = DilatedFCN(backbone=backbone, classes=_rows(state_dict, "classifier.4.bias"))
    main = {k: v for k, v in state_dict.items() if not k.startswith("aux_classifier.")}
    _load("fcn_resnet50", main, network, SEGMENTER)
    return network.eval()


def download(name: str) -> dict[str, Tensor]:
    """torchvision's published weights, from its cache or from the network, after their sha256 was checked.

    Args:
        name: "faster_rcnn" (167 MB), "mask_rcnn" (178 MB) or "fcn" (142 MB).

    Returns:
        The `state_dict` for the function of that name.

    Raises:
        ConnectionError: there is no network, and the file is not in the cache.
        ValueError: the file is not torchvision's; it is deleted.
    """
    if name not in WEIGHTS:
        raise ValueError(f"name: expected one of {', '.join(WEIGHTS)}, got {name!r}")
    url = WEIGHTS[name].url
    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if not path.is_file():
        try:
            download_file(url, path, None)
        except OSError as error:
            if error.errno is not None:  # the disk, not the network
                raise
            raise ConnectionError(
                f"the weights of {name} could not be fetched ({error}); without a network, those in "
                "course_utils.models.published work: nanodet, movenet, selfie"
            ) from error
        path.with_name(path.name + ".sha256").unlink()  # its name says it
    start = path.stem.rpartition("-")[2]  # of the sha256, with which torchvision's file names end
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if not sha256.startswith(start):
        path.unlink()
        raise ValueError(
            f"the weights of {name} were damaged and are deleted (sha256 {sha256[:8]}, expected {start}); "
            "call again"
        )
    return torch.load(path, map_location="cpu", weights_only=True)


def corner_anchors(
    feature_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    sizes: Sequence[Sequence[float]],
    aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    *,
    device: torch.device | str | None = None,
) -> list[Float[Tensor, "n 4"]]:
    """`pyramid_anchors` as torchvision places them.

    Anchors lie around the upper left corner of their cell, with corners at whole pixels. On a level whose
    size was rounded up, as 13 of 800 / 64, the cells are as large as fit the image, 800 // 13 = 61 pixels.

    >>> corner_anchors([(1, 2)], [16], [[9.0]], [1.0])
    [tensor([[-4., -4.,  4.,  4.],
            [12., -4., 20.,  4.]])]
    """
    image = [steps * strides[0] for steps in feature_sizes[0]]
    levels = []
    for (rows, columns), stride, own in zip(feature_sizes, strides, sizes):
        cell = (
            grid_anchors((1, 1), stride, own, aspect_ratios, device=device) - stride / 2
        ).round()
        down = torch.arange(rows, device=device) * (image[0] // rows)
        across = torch.arange(columns, device=device) * (image[1] // columns)
        y, x = torch.meshgrid(down, across, indexing="ij")
        corner = torch.stack([x, y, x, y], dim=2).reshape(-1, 1, 4)
        levels.append((corner + cell).reshape(-1, 4))
    return levels


def _faster_rcnn(
    classes: int, score_threshold: float, norm: Callable[[int], nn.Module]
) -> FasterRCNN:
    """The full-size Faster R-CNN, with random weights; `keypoint_rcnn` will give it another head."""
    return FasterRCNN(
        backbone=backbones.resnet50(norm),
        neck=FPN(
            inputs={4: 256, 8: 512, 16: 1024, 32: 2048}, smooth=smooth_convolution, subsampled=(64,)
        ),
        rpn=RPN(
            strides=(4, 8, 16, 32, 64),
            sizes=((32.0,), (64.0,), (128.0,), (256.0,), (512.0,)),
            anchors=corner_anchors,
            anchors_in_padding=True,
            pre_nms_top_n=1000,
            post_nms_top_n=1000,
            training_top_n=2000,
            min_size=1e-3,
            norm=None,
        ),
        box_head=BoxHead(
            classes=classes, score_threshold=score_threshold, min_size=1e-2, norm=None
        ),
        crop=partial(roi_align, sampling_ratio=2, aligned=False),
    )


def _norm_of(state_dict: StateDict) -> Callable[[int], nn.Module]:
    counts_batches = any(name.endswith("num_batches_tracked") for name in state_dict)
    return nn.BatchNorm2d if counts_batches else partial(FrozenBatchNorm2d, eps=0.0)


def _rows(state_dict: StateDict, name: str) -> int:
    """The number of classes, background included, by the tensor with one row for each."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            f"state_dict: expected tensors by their names, got {type(state_dict).__name__}"
        )
    if name not in state_dict:
        raise ValueError(f"state_dict: expected torchvision's weights, but {name} is missing")
    return len(state_dict[name])


def _load(title: str, state_dict: StateDict, network: nn.Module, rules: Sequence[tuple]) -> None:
    """Copy torchvision's weights into our network, every one under our name and in our shape."""
    wanted, found = network.state_dict(), {}
    for name, tensor in state_dict.items():
        ours = _rename(name, rules)
        if ours not in wanted:
            raise ValueError(f"state_dict: expected {title}, which has no tensor {name}")
        shape = wanted[ours].shape
        if re.search(r"(bbox_pred|mask_fcn_logits)\.\w+$", name) and not name.startswith("rpn"):
            tensor = tensor[len(tensor) - len(wanted[ours]) :]  # ours has none for background
        if ".fc" in name and tensor.numel() == shape.numel():
            tensor = tensor.reshape(shape)  # a fully connected layer is a convolution
        if tensor.shape != shape:
            raise ValueError(
                f"state_dict: {name} has the shape {list(state_dict[name].shape)}, "
                f"which does not fit {title} with {list(shape)}"
            )
        found[ours] = tensor
    missing = [name for name in wanted if name not in found]
    if missing := [name for name in missing if not name.endswith("num_batches_tracked")]:
        raise ValueError(
            f"state_dict: expected {title}, but nothing in it belongs to our {missing[0]}"
        )
    network.load_state_dict(found, strict=False)


def _rename(name: str, rules: Sequence[tuple]) -> str | None:
    """Our name of torchvision's tensor; None if no rule says it."""
    for theirs, ours in rules:
        if match := re.match(theirs, name):
            rest = name[match.end() :]
            return (ours(match) if callable(ours) else match.expand(ours)) + rest
    return None
