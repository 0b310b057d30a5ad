"""Fully convolutional networks: class scores at several strides, upsampled and added from coarse to fine."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from course_utils.models import backbones
from course_utils.models.blocks import convolution_block, crop_to
from course_utils.ops.conv_transpose import bilinear_kernel, bilinear_transposed_convolve

STRIDES = (32, 16, 8, 4, 2)


def _upsample_by_two(channels: int) -> nn.ConvTranspose2d:
    """A learnable transposed convolution that starts out as bilinear upsampling."""
    layer = nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(bilinear_kernel(channels, 4))
    return layer


class FCN(nn.Module):
    """FCN-32s, 16s or 8s: class scores at every position of a classifier's features, upsampled to full size.

    The coarsest features have the strongest semantics, but one of their pixels covers 32 x 32 pixels of the
    image. So their scores are upsampled by two and the scores of the next finer features are added, until
    `stride` is reached. The last upsampling, to the size of the image, is bilinear and not learned.

    Args:
        backbone: images in, features at strides 2, 4, 8, 16, 32 out, with their `channels`.
        classes: number of class scores per pixel.
        stride: of the finest features that are added: 32, 16 or 8 as in the paper, or 4 or 2.

    Source: Long et al., "Fully Convolutional Networks", CVPR 2015, section 4.
    """

    def __init__(self, *, backbone: backbones.Backbone, classes: int, stride: int = 8):
        super().__init__()
        if stride not in STRIDES:
            raise ValueError(f"stride: expected one of {STRIDES}, got {stride!r}")
        channels = backbone.channels[: -STRIDES.index(stride) - 2 : -1]  # coarsest first
        self.backbone = backbone
        self.score = nn.ModuleList(nn.Conv2d(inputs, classes, 1) for inputs in channels)
        self.upsample = nn.ModuleList(_upsample_by_two(classes) for _ in channels[1:])
        self.stride = stride
        for layer in self.score:
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b classes h w"]:
        """One score per class and pixel."""
        features = self.backbone(images)[::-1]  # coarsest first
        scores = self.score[0](features[0])
        for upsample, score, finer in zip(self.upsample, self.score[1:], features[1:]):
            scores = crop_to(upsample(scores), finer) + score(finer)
        whole = bilinear_transposed_convolve(scores, 2 * self.stride, self.stride, self.stride // 2)
        return crop_to(whole, images)


class DilatedFCN(nn.Module):
    """An FCN without skip connections: its backbone is dilated and stays at stride 8 to the end.

    Where `FCN` adds finer features to get its resolution back, this network does not give it up. It pays with
    time and memory: the widest features have 16 times as many positions as at stride 32.

    Args:
        backbone: images in, features out; the last ones, at stride 8, are classified.
        classes: number of class scores per pixel.
        dropout: the fraction of the head's features that are 0 in training.

    Source: torchvision's `fcn_resnet50`, after Long et al., CVPR 2015, and Chen et al., "Rethinking Atrous
    Convolution for Semantic Image Segmentation", 2017, section 3.
    """

    def __init__(self, *, backbone: backbones.Backbone, classes: int, dropout: float = 0.1):
        super().__init__()
        channels = backbone.channels[-1]
        self.backbone = backbone
        self.head = nn.Sequential(
            convolution_block(channels, channels // 4),
            nn.Dropout(dropout),
            nn.Conv2d(channels // 4, classes, 1),
        )

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b classes h w"]:
        """One score per class and pixel."""
        scores = self.head(self.backbone(images)[-1])
        return F.interpolate(scores, images.shape[2:], mode="bilinear")


def small(classes: int, stride: int = 2) -> FCN:
    """An FCN for a laptop, with the small backbone.

    Our scenes are 96 pixels wide and the paper's photographs 500, so stride 2 here corresponds to stride 8.

    Args:
        classes: number of class scores per pixel.
        stride: as in `FCN`.

    Returns:
        The network, with random weights.

    >>> small(9)(torch.zeros(2, 3, 50, 70)).shape
    torch.Size([2, 9, 50, 70])
    """
    return FCN(backbone=backbones.small(), classes=classes, stride=stride)
