"""Feature pyramid: every level combines the semantics of the coarser levels with its own resolution."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_utils.core import check_shape
from course_utils.fast.roi import roi_align
from course_utils.models.blocks import convolution_block, upsample_by_two

Features = Mapping[
    int, Float[Tensor, "b _ _ _"]
]  # the levels of a pyramid by their stride, finest first
Crop = Callable[[Tensor, Tensor, int, float], Tensor]  # features, rois, output size, spatial scale

CROP: Crop = partial(roi_align, sampling_ratio=2, aligned=True)


def smooth_block(channels: int, kernel_size: int) -> nn.Sequential:
    """A convolution, batch normalisation and a ReLU; for kernel size 0 without the convolution."""
    if kernel_size == 0:
        return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())
    return convolution_block(channels, channels, kernel_size=kernel_size, padding=kernel_size // 2)


def smooth_convolution(channels: int, kernel_size: int) -> nn.Conv2d:
    """A convolution and nothing else, as in the paper."""
    return nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2)


class FPN(nn.Module):
    """From coarse to fine: double the size, add the lateral connection, and smooth each sum.

    The fine features of a backbone are precise about positions and weak in semantics; for the coarse ones it
    is the other way round. A 1 x 1 convolution (lateral connection) brings all levels to the same number of
    channels, and each level adds the upsampled level above it.

    Args:
        inputs: channels of the backbone's features by their stride, finest first.
        channels: of every level of the pyramid.
        kernel_sizes: which levels to return, by their stride, and the size of the convolution that smooths
            each: 3 in the paper. 0 leaves it out, which saves time on fine levels with many pixels.
        smooth: makes that layer from the channels and the kernel size.
        subsampled: strides of coarser levels, each of which is every second pixel of the level before. The
            paper has one, 64, for the largest anchors.

    Source: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, section 3 and a
    footnote to 4.1. Unlike in the paper, `smooth_block` adds batch normalisation and a ReLU to the last
    convolution; `smooth_convolution` is the paper's.
    """

    def __init__(
        self,
        *,
        inputs: Mapping[int, int],
        channels: int = 256,
        kernel_sizes: Mapping[int, int] = MappingProxyType({4: 3, 8: 3, 16: 3, 32: 3}),
        smooth: Callable[[int, int], nn.Module] = smooth_block,
        subsampled: Sequence[int] = (),
    ):
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in inputs.values())
        self.smooth = nn.ModuleDict(
            {str(stride): smooth(channels, size) for stride, size in kernel_sizes.items()}
        )
        self.strides, self.channels, self.subsampled = tuple(inputs), channels, subsampled

    def forward(
        self, features: Sequence[Float[Tensor, "b _ _ _"]]
    ) -> dict[int, Float[Tensor, "b c _ _"]]:
        """The levels of the pyramid by their stride, finest first, from the last of the features."""
        features = features[-len(self.strides) :]
        sums = [lateral(level) for lateral, level in zip(self.lateral, features)]
        for fine in range(len(sums) - 2, -1, -1):
            sums[fine] = sums[fine] + upsample_by_two(sums[fine + 1], like=sums[fine])
        levels = {
            stride: self.smooth[str(stride)](level)
            for stride, level in zip(self.strides, sums)
            if str(stride) in self.smooth
        }
        for stride in self.subsampled:
            levels[stride] = levels[stride // 2][..., ::2, ::2]
        return levels


def pyramid_level(
    boxes: Float[Tensor, "n 4"],
    levels: int,
    canonical_scale: int | float = 224,
    canonical_level: int | float = 2,
) -> Int64[Tensor, " n"]:
    """The level from which a box is cropped: k = floor(k0 + log2(sqrt(w h) / 224)).

    All crops have the same number of bins, so a box twice as large is cropped from the next coarser level,
    where it covers as many pixels as the smaller one does on its own level.

    Args:
        boxes: `x1, y1, x2, y2` in pixels.
        levels: how many levels there are.
        canonical_scale: side of the box that belongs to level `canonical_level`, in pixels.
        canonical_level: that level, k0, counted from the finest level, 0. With strides 4 to 32 it is the
            level of stride 16.

    Returns:
        A level from 0 to `levels - 1` for each box.

    Source: Lin et al., CVPR 2017, equation 1; `torchvision.ops.poolers.LevelMapper`.

    >>> pyramid_level(torch.tensor([[0.0, 0.0, 112.0, 112.0], [0.0, 0.0, 448.0, 224.0]]), 4)
    tensor([1, 2])
    """
    check_shape("boxes", boxes, "n", 4)
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    level = torch.floor(canonical_level + (side / canonical_scale).log2() + 1e-6)
    return level.clamp(0, levels - 1).long()


def crop_regions(
    features: Features, rois: Float[Tensor, "k 5"], output_size: int, crop: Crop = CROP
) -> Float[Tensor, "k c s s"]:
    """Crop every region from its level of the pyramid.

    Args:
        features: the levels by their stride, finest first, each twice as coarse as the one before.
        rois: `image, x1, y1, x2, y2` in pixels of the image.
        output_size: height and width of the crops in bins.
        crop: the operator, called as `crop(features, rois, output_size, spatial_scale)`.

    Returns:
        One crop for each region.
    """
    (finest, first), *coarser = features.items()
    if not coarser:
        return crop(first, rois, output_size, 1 / finest)
    level = pyramid_level(rois[:, 1:], len(features), canonical_level=math.log2(16 / finest))
    crops = first.new_zeros(len(rois), first.shape[1], output_size, output_size)
    for number, (stride, feature) in enumerate(features.items()):
        here = (level == number).nonzero()[:, 0]
        part = crop(feature, rois[here], output_size, 1 / stride)
        crops = crops.index_copy(0, here, part.to(crops.dtype))
    return crops
