"""MoveNet SinglePose Lightning: the 17 keypoints of one person, the one in the middle of a crop.

MobileNetV2 and a pyramid describe it on a grid of 48 x 48 cells. Sizes are channels x height x width:

    crop          3 x 192 x 192
      | MobileNetV2               lateral                sum    separable 3 x 3
    stride 4     24 x 48 x 48 --> 1 x 1, 24 x 48 x 48 --> (+) --> 24 x 48 x 48 --> four heads
    stride 8     32 x 24 x 24 --> 1 x 1, 32 x 24 x 24 --> (+) --> 24 x 24 x 24 --> bilinear x 2, to stride 4
    stride 16    64 x 12 x 12 --> 1 x 1, 64 x 12 x 12 --> (+) --> 32 x 12 x 12 --> bilinear x 2, to stride 8
    stride 32  1280 x  6 x  6 --> 1 x 1, 64 x  6 x  6 --------------------------> bilinear x 2, to stride 16

A head, separable 3 x 3 to 96 channels and 1 x 1, predicts one of the `Maps`; `decode` finds the pose in them.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, Real
from torch import Tensor, nn
from torchvision.models import mobilenet_v2
from torchvision.ops.misc import Conv2dNormActivation
from torchvision.transforms.v2.functional import resized_crop

from course_utils.core import check_boxes, check_floating, check_shape
from course_utils.data import scenes
from course_utils.models.backbones import Backbone
from course_utils.models.blocks import same_convolution, upsample_by_two
from course_utils.models.published._loading import load_published
from course_utils.ops.boxes import clip_boxes_to_image

KEYPOINTS, SKELETON = scenes.KEYPOINT_NAMES, scenes.SKELETON  # names, and pairs of their indices
SIZE, CELLS = 192, 48  # height and width of a crop in pixels, and in cells
MARGIN = 1.2  # side of the square around a person, divided by the longest side of the box
SOFTENING = 1.8  # cells, added to a distance before a map is divided by it
GREY_LEVEL, CELL = 0.007843017578125, 0.0208282470703125  # 2 / 255, 1 / 48 in float16, as published


class Maps(NamedTuple):
    """What the heads predict for each cell; pairs are (row, column), in cells."""

    centre: Float[Tensor, "b 48 48"]  # probability that the centre of a person is in this cell
    heat_maps: Float[Tensor, "b 17 48 48"]  # that a joint is in this cell, whosever it is
    regression: Float[Tensor, "b 17 2 48 48"]  # from this cell, as a centre, to the person's joints
    offsets: Float[Tensor, "b 17 2 48 48"]  # from this cell to the exact place of a joint in it


class MoveNet(nn.Module):
    """The network of the figure above; `load` gives it its published weights.

    Source: Google, MoveNet.SinglePose.Lightning, version 4 (2021); Zhou et al., "Objects as Points", 2019,
    section 4.2 (the heads); Sandler et al., "MobileNetV2", CVPR 2018.
    """

    def __init__(self):
        super().__init__()
        self.trunk = _trunk()
        self.laterals = nn.ModuleList(nn.Conv2d(n, min(n, 64), 1) for n in (24, 32, 64, 1280))
        self.smooth = nn.ModuleList([_separable(64, 32), _separable(32, 24), _separable(24, 24)])
        heads = (nn.Sequential(_separable(24, 96), nn.Conv2d(96, n, 1)) for n in (1, 17, 34, 34))
        self.heads = nn.ModuleList(heads)

    def forward(self, crops: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 17 3"]:
        """The pose in each crop of 192 x 192 pixels, RGB in 0..1: y and x in 0..1, and a score."""
        return decode(self.maps(crops))

    def maps(self, crops: Float[Tensor, "b 3 h w"]) -> Maps:
        """What the four heads predict for crops of 192 x 192 pixels, RGB in 0..1."""
        check_shape("crops", crops, "b", 3, SIZE, SIZE)
        check_floating("crops", crops)
        _, *features = self.trunk(crops * (255 * GREY_LEVEL) - 1)
        *levels, x = (lateral(level) for lateral, level in zip(self.laterals, features))
        for smooth, level in zip(self.smooth, reversed(levels)):
            x = smooth(level + upsample_by_two(x, level, "bilinear"))
        centre, heat_maps, *pairs = (head(x) for head in self.heads)
        pairs = (pair.unflatten(1, (17, 2)) for pair in pairs)
        return Maps(centre.squeeze(1).sigmoid(), heat_maps.sigmoid(), *pairs)

    @torch.no_grad()
    def pose(
        self, image: Float[Tensor, "3 h w"], boxes: Real[Tensor, "n 4"]
    ) -> Float[Tensor, "n 17 3"]:
        """The poses in a picture of any size, in one call of the network: x, y in pixels and a score.

        Args:
            image: RGB in 0..1.
            boxes: of persons, `x1, y1, x2, y2` in pixels. The network sees a square around each box, clipped
                to the picture first, and black where the square reaches beyond it.

        Returns:
            For each box all joints; those with a score below 0.3 are hardly visible.
        """
        check_shape("image", image, 3, "h", "w")
        check_floating("image", image)
        check_boxes("boxes", boxes)
        squares = _squares(clip_boxes_to_image(boxes.double(), image.shape[1:]))
        crops = torch.zeros(len(boxes), 3, SIZE, SIZE, device=image.device)
        for crop, (left, top, side) in zip(crops, squares.tolist()):
            crop.copy_(resized_crop(image, top, left, side, side, [SIZE, SIZE], antialias=True))
        y, x, score = self(crops).unbind(dim=2)  # [n, 17] each
        left, top, side = squares.T[..., None]
        return torch.stack([left + x * side, top + y * side, score], dim=2)


def decode(maps: Maps) -> Float[Tensor, "b 17 3"]:
    """The pose of one person in each crop: y and x in 0..1, and the probability in the heat map.

    The heat maps show the joints of everybody. The centre map picks the person in the middle; for this person
    the regression roughly guesses each joint; and the joint is where the heat map is high near the guess.
    """
    centre, heat, regression, offsets = (one.flatten(-2) for one in maps)  # [..., 2304]
    row = torch.arange(CELLS, dtype=heat.dtype, device=heat.device)
    cells = torch.cartesian_prod(row, row)  # [2304, 2]
    to_middle = (cells - CELLS // 2).norm(dim=1) + SOFTENING
    person = (centre / to_middle).argmax(dim=1)[:, None, None, None]  # an index of `cells`
    guess = cells[person[:, 0, 0]] + regression.take_along_dim(person, 3).squeeze(3)  # [b, 17, 2]
    to_guess = (cells - guess[:, :, None]).norm(dim=3) + SOFTENING  # [b, 17, 2304]
    joint = (heat / to_guess).argmax(dim=2, keepdim=True)  # [b, 17, 1]
    offset = offsets.take_along_dim(joint[:, :, None], dim=3).squeeze(3)  # [b, 17, 2]
    place = (cells[joint.squeeze(2)] + offset) * CELL
    return torch.cat([place, heat.take_along_dim(joint, dim=2)], dim=2)


def _trunk() -> Backbone:
    """torchvision's MobileNetV2 with TensorFlow's padding, its normalisation folded into the convolutions."""
    layers = mobilenet_v2(norm_layer=nn.Identity).features
    for layer in list(layers.modules()):
        if isinstance(layer, nn.Conv2d):
            layer.bias = nn.Parameter(torch.zeros(layer.out_channels))
        if isinstance(layer, Conv2dNormActivation) and (c := layer[0]).stride == (2, 2):
            layer[0] = same_convolution(c.in_channels, c.out_channels, 3, stride=2, groups=c.groups)
    stages = layers[:2], layers[2:4], layers[4:7], layers[7:11], layers[11:]
    return Backbone(stages=stages, channels=(16, 24, 32, 64, 1280))


def _separable(inputs: int, outputs: int) -> nn.Sequential:
    depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
    return nn.Sequential(depthwise, nn.Conv2d(inputs, outputs, 1), nn.ReLU())


def _squares(boxes: Float[Tensor, "n 4"]) -> Int64[Tensor, "n 3"]:
    """The square around each box, in whole pixels: left, top, side."""
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    side = (MARGIN * size.amax(dim=1, keepdim=True)).ceil().clamp(min=1)
    return torch.cat([(centre - side / 2 + 0.5).floor(), side], dim=1).long()


def load() -> MoveNet:
    """The network with its published weights, in evaluation mode and without gradients."""
    return load_published("movenet", MoveNet())
