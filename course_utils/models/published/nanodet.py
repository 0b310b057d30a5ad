"""NanoDet-g: a small detector for COCO's 80 classes, in a single stage and without anchors.

Channels x height x width, for a picture of 416 x 416 pixels:

    image                                       3 x 416 x 416
    3 x 3 convolution, stride 2                32 x 208 x 208
    3 x 3 max pooling, stride 2                32 x 104 x 104
    stage of width 32, 1 block                 64 x 104 x 104
    stage of width 64, 2 blocks, stride 2     128 x 52 x 52   -- 1 x 1 convolution to 128 -- stride 8
    stage of width 128, 2 blocks, stride 2    256 x 26 x 26   -- 1 x 1 convolution to 128 -- stride 16
    stage of width 256, 3 blocks, stride 2    512 x 13 x 13   -- 1 x 1 convolution to 128 -- stride 32

The pyramid adds to each level the coarser one, enlarged; then to each level the finer one, reduced. The head
of a level (3 x 3, 1 x 1 convolution) predicts 80 scores and 4 x 11 distance logits for every place.

Source: https://github.com/RangiLyu/nanodet (Apache-2.0), 22.9 AP on COCO by its authors. Stages: Wang et al.,
"CSPNet", CVPR Workshops 2020; pyramid: Liu et al., "Path Aggregation Network", CVPR 2018; no anchors: Tian
et al., "FCOS", ICCV 2019; distances: Li et al., "Generalized Focal Loss", NeurIPS 2020.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights as CocoWeights

from course_utils.core import check_floating, check_fraction, check_shape, check_size
from course_utils.fast.nms import batched_nms
from course_utils.models.blocks import Normalize, upsample_by_two
from course_utils.models.published._csp import Stage, leaky_convolution
from course_utils.models.published._loading import load_published
from course_utils.ops.boxes import clip_boxes_to_image

_, *_CATEGORIES = CocoWeights.DEFAULT.meta["categories"]  # numbers 1 to 90, some unused
CLASSES = ("background", *(name for name in _CATEGORIES if name != "N/A"))  # so labels are 1 to 80


def load() -> "NanoDet":
    """The network with its published weights, in evaluation mode and without gradients of the weights."""
    return load_published("nanodet", NanoDet())


class NanoDet(nn.Module):
    """The network in the figure above."""

    strides = (8, 16, 32)

    def __init__(self):
        super().__init__()
        self.normalize = Normalize()
        self.stem = nn.Sequential(leaky_convolution(3, 32, stride=2), nn.MaxPool2d(3, 2, padding=1))
        self.stages = nn.ModuleList(
            [Stage(32, 32, 1, stride=1), Stage(64, 64, 2), Stage(128, 128, 2), Stage(256, 256, 3)]
        )
        self.laterals = nn.ModuleList(nn.Conv2d(width, 128, 1) for width in (128, 256, 512))
        self.heads = nn.ModuleList(
            nn.Sequential(leaky_convolution(128, 128), nn.Conv2d(128, 80 + 4 * 11, 1))
            for _ in self.strides
        )

    def forward(
        self, images: Float[Tensor, "b 3 h w"]
    ) -> list[tuple[Float[Tensor, "b _ 80"], Float[Tensor, "b _ 44"]]]:
        """Scores, from 0 to 1, and distance logits of all places at strides 8, 16 and 32, row by row.

        `images` are RGB in 0..1; their height and width are multiples of 32.
        """
        check_shape("images", images, "b", 3, "h", "w")
        check_floating("images", images)
        if any(size < 32 or size % 32 for size in images.shape[2:]):
            raise ValueError(
                f"images: expected a height and width in multiples of 32, got {list(images.shape)}"
            )
        levels = (head(level) for head, level in zip(self.heads, self.pyramid(images)))
        outputs = [level.flatten(2).mT.split([80, 44], dim=2) for level in levels]
        return [(classes.sigmoid(), distances) for classes, distances in outputs]

    def pyramid(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b 128 _ _"]]:
        """Levels with semantics from the coarser ones and precise positions from the finer ones."""
        images = images.contiguous(memory_format=torch.channels_last)  # faster on a CPU
        features = [self.stem(self.normalize(images))]
        for stage in self.stages:
            features.append(stage(features[-1]))
        fine, middle, coarse = (
            lateral(level) for lateral, level in zip(self.laterals, features[2:])
        )
        middle = middle + upsample_by_two(coarse, like=middle, mode="bilinear")
        fine = fine + upsample_by_two(middle, like=fine, mode="bilinear")
        middle = middle + F.avg_pool2d(fine, 2)
        coarse = coarse + F.avg_pool2d(middle, 2)
        return [fine, middle, coarse]

    @torch.no_grad()
    def candidates(
        self, image: Float[Tensor, "3 h w"]
    ) -> dict[int, tuple[Float[Tensor, "_ 4"], Float[Tensor, "_ 80"]]]:
        """What `detect` selects from: the boxes of all places, in pixels of the image, and their scores.

        The longer side of the image is resized to 416 pixels, the shorter one in proportion; black padding
        makes it a multiple of 32. The scores, of the labels 1 to 80, and the boxes are listed by stride.
        """
        check_shape("image", image, 3, "h", "w")
        check_floating("image", image)
        check_size("image", tuple(image.shape[1:]))
        height, width = (max(1, round(n * 416 / max(image.shape[1:]))) for n in image.shape[1:])
        resized = F.interpolate(
            image[None].float(), (height, width), mode="bilinear", antialias=True
        )
        padded = F.pad(resized, (0, -width % 32, 0, -height % 32))
        scale = resized.new_tensor([image.shape[2] / width, image.shape[1] / height]).repeat(2)
        return {
            stride: (decode(logits[0], padded.shape[3] // stride, stride) * scale, scores[0])
            for stride, (scores, logits) in zip(self.strides, self(padded))
        }

    def detect(
        self,
        image: Float[Tensor, "3 h w"],
        score_threshold: float = 0.35,
        nms_threshold: float = 0.5,
    ) -> dict[str, Tensor]:
        """The objects in a picture of any size, RGB in 0..1: the best candidates of each class.

        Returns:
            "boxes" `[k, 4]`, `x1, y1, x2, y2` in pixels of the image; "labels" `[k]`, indices into `CLASSES`;
            and "scores" `[k]`, at least `score_threshold`, the highest first.
        """
        check_fraction("score_threshold", score_threshold)
        check_fraction("nms_threshold", nms_threshold)
        boxes, scores = map(torch.cat, zip(*self.candidates(image).values()))
        boxes = clip_boxes_to_image(boxes, tuple(image.shape[1:]))
        visible = (boxes[:, :2] < boxes[:, 2:]).all(dim=1)  # the others are in the padding
        place, index = ((scores >= score_threshold) & visible[:, None]).nonzero(as_tuple=True)
        boxes, labels, scores = boxes[place], index + 1, scores[place, index]
        kept = batched_nms(boxes, scores, labels, nms_threshold)
        return {"boxes": boxes[kept], "labels": labels[kept], "scores": scores[kept]}


def decode(logits: Float[Tensor, "n 44"], columns: int, stride: int) -> Float[Tensor, "n 4"]:
    """The boxes of a level's places, which lie `columns` in a row: `x1, y1, x2, y2` in pixels.

    A place predicts how far the left, top, right and bottom edges are from its centre,
    `((j + 0.5) * stride, (i + 0.5) * stride)`. Each distance is the mean of a distribution over 0, 1, ..., 10
    strides, `stride * sum(k * softmax(logits)[k])`.
    """
    distances = stride * (logits.unflatten(1, (4, 11)).softmax(dim=2) @ torch.arange(11).to(logits))
    place = torch.arange(len(logits), device=logits.device)
    centre = stride * (torch.stack([place % columns, place // columns], dim=1) + 0.5)
    return torch.cat([centre - distances[:, :2], centre + distances[:, 2:]], dim=1)
