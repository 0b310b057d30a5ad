"""Fully convolutional networks: class scores at several strides, upsampled and added from coarse to fine."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_utils.fast.conv import bilinear_transposed_convolve
from course_utils.models import backbones
from course_utils.ops.conv import bilinear_kernel

STRIDES = (32, 16, 8, 4, 2)


def _upsample_by_two(channels: int) -> nn.ConvTranspose2d:
    """A learnable transposed convolution that starts out as bilinear upsampling."""
    layer = nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(bilinear_kernel(channels, 4))
    return layer


class FCN(nn.Module):
    """FCN-32s, 16s or 8s: a classifier's features, scored at every place, and brought back to full size.

    The coarsest features know best what there is, but one of their pixels stands for 32 x 32 of the image.
    So their scores are doubled in size and the scores of the next finer features are added, until `stride` is
    reached. The last step to the image's size is plain bilinear upsampling, which is not learned.

    Args:
        backbone: images in, features at strides 2, 4, 8, 16, 32 out, with their `channels`.
        classes: how many scores a pixel gets.
        stride: where to stop adding: 32, 16 or 8 as in the paper, or 4 or 2.
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
        """One score a class and pixel."""
        features = self.backbone(images)[::-1]  # coarsest first
        scores = self.score[0](features[0])
        for upsample, score, finer in zip(self.upsample, self.score[1:], features[1:]):
            scores = _crop(upsample(scores), finer) + score(finer)
        whole = bilinear_transposed_convolve(scores, 2 * self.stride, self.stride, self.stride // 2)
        return _crop(whole, images)


def _crop(scores: Tensor, like: Tensor) -> Tensor:
    """Cut to the size of another map.

    Halving an odd size rounds up, so doubling it gives a row or column too many, at the lower or right end.
    """
    return scores[..., : like.shape[-2], : like.shape[-1]]


def small(classes: int, stride: int = 2) -> FCN:
    """An FCN for a laptop, with the small backbone.

    Our scenes are 96 pixels wide and the paper's photographs 500: what stride 8 is there, stride 2 is here.

    Args:
        classes: how many scores a pixel gets.
        stride: as in `FCN`.

    Returns:
        The network, with random weights.

    >>> small(9)(torch.zeros(2, 3, 50, 70)).shape
    torch.Size([2, 9, 50, 70])
    """
    return FCN(backbone=backbones.small(), classes=classes, stride=stride)
