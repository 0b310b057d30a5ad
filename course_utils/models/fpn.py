"""Feature pyramid: every level learns what from the coarser ones and keeps its own where."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_utils.core import check_shape
from course_utils.fast.roi import roi_align
from course_utils.models.backbones import convolution_block


class FPN(nn.Module):
    """From coarse to fine: double the size, add the finer features, and smooth each sum.

    A backbone's fine features know where an edge runs and not whose it is; the coarse ones know what there is
    and not where. A 1 x 1 convolution brings all levels to the same number of channels (lateral connection),
    then each level adds what comes down from the one above.

    Args:
        inputs: channels of the backbone's features, by their stride, finest first.
        channels: of every level of the pyramid.
        kernels: which levels to return, by their stride, and the kernel that smooths each: 3 in the paper,
            0 for none, which spares the fine levels, with their many pixels, the dearest convolution.

    Source: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, section 3. The batch norm
    and ReLU after the last convolution are younger than the paper.
    """

    def __init__(
        self,
        *,
        inputs: Mapping[int, int],
        channels: int = 256,
        kernels: Mapping[int, int] = MappingProxyType({4: 3, 8: 3, 16: 3, 32: 3}),
    ):
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in inputs.values())
        self.smooth = nn.ModuleDict(
            {str(stride): _smooth(channels, kernel) for stride, kernel in kernels.items()}
        )
        self.strides, self.channels = tuple(inputs), channels

    def forward(
        self, features: Sequence[Float[Tensor, "b _ _ _"]]
    ) -> dict[int, Float[Tensor, "b c _ _"]]:
        """The pyramid's levels by their stride, finest first; of the features, the last ones count."""
        features = features[-len(self.strides) :]
        sums = [lateral(level) for lateral, level in zip(self.lateral, features)]
        for fine in range(len(sums) - 2, -1, -1):
            sums[fine] = sums[fine] + _double(sums[fine + 1], sums[fine])
        return {
            stride: self.smooth[str(stride)](level)
            for stride, level in zip(self.strides, sums)
            if str(stride) in self.smooth
        }


def _smooth(channels: int, kernel: int) -> nn.Sequential:
    if kernel == 0:
        return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())
    return convolution_block(channels, channels, kernel_size=kernel, padding=kernel // 2)


def _double(coarse: Tensor, like: Tensor) -> Tensor:
    """Each pixel becomes 2 x 2; cut where the finer level, halved and rounded up, had an odd size."""
    doubled = nn.functional.interpolate(coarse, scale_factor=2, mode="nearest")
    return doubled[..., : like.shape[-2], : like.shape[-1]]


def pyramid_level(
    boxes: Float[Tensor, "n 4"], levels: int, whole: int | float = 224, whole_level: int = 2
) -> Int64[Tensor, " n"]:
    """Which level a box is cropped from: one twice as large, one level up.

    A crop has a fixed number of bins. Taken from the level where the box is about as many pixels wide as an
    image is for the classifier's last features, each bin covers about one pixel, whatever the box's size.

    Args:
        boxes: `x1, y1, x2, y2` in pixels.
        levels: how many there are.
        whole: the side of a box, in pixels, that goes to level `whole_level`.
        whole_level: that level, counted from the finest, 0.

    Returns:
        A level from 0 to `levels - 1` for each box.

    Source: Lin et al., CVPR 2017, equation 1: k = floor(k0 + log2(sqrt(w h) / 224)).

    >>> pyramid_level(torch.tensor([[0.0, 0.0, 112.0, 112.0], [0.0, 0.0, 448.0, 224.0]]), 4)
    tensor([1, 2])
    """
    check_shape("boxes", boxes, "n", 4)
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    level = torch.floor(whole_level + (side / whole + 1e-6).log2())
    return level.clamp(0, levels - 1).long()


def crop_regions(
    features: Mapping[int, Float[Tensor, "b c _ _"]],
    rois: Float[Tensor, "k 5"],
    output_size: int,
    crop: Callable[..., Tensor] = roi_align,
) -> Float[Tensor, "k c s s"]:
    """Cut every region out of its level of the pyramid.

    Args:
        features: the levels by their stride, finest first, each twice as coarse as the one before.
        rois: `image, x1, y1, x2, y2` in pixels of the image.
        output_size: the crops' height and width in bins.
        crop: `roi_align`, or `roi_pool` to see what it costs.

    Returns:
        One crop a region.
    """
    options = {"sampling_ratio": 2, "aligned": True} if crop is roi_align else {}
    (finest, first), *others = features.items()
    if not others:
        return crop(first, rois, output_size, 1 / finest, **options)
    level = pyramid_level(rois[:, 1:], len(features), whole=2 * output_size * finest, whole_level=1)
    crops = first.new_zeros(len(rois), first.shape[1], output_size, output_size)
    for number, (stride, feature) in enumerate(features.items()):
        here = (level == number).nonzero()[:, 0]
        found = crop(feature, rois[here], output_size, 1 / stride, **options)
        crops = crops.index_copy(0, here, found.to(crops.dtype))
    return crops
