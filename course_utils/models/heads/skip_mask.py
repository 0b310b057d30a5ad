"""A mask head with a skip connection from a finer level, for outlines as sharp as that level."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_utils.models.blocks import convolution_block
from course_utils.models.fpn import Crop, Features, crop_regions
from course_utils.models.heads.mask import MaskHead


class SkipMaskHead(MaskHead):
    """`MaskHead`, and after its upsampling the crops of a finer level join, as in a U-Net.

    Not in the Mask R-CNN paper: there the masks are as sharp as the level from which the region is cropped.

    Args:
        classes: as in `MaskHead`.
        skip_stride: stride of the finer level.
        skip_channels: its channels.
        width: channels of the convolutions.
        options: the other arguments of `MaskHead`.
    """

    def __init__(
        self, *, classes: int, skip_stride: int, skip_channels: int, width: int = 256, **options
    ):
        half = width // 2
        super().__init__(classes=half, width=width, **options)
        self.classes = classes
        self.join = convolution_block(half + skip_channels, half)
        self.score = nn.Conv2d(half, classes, 1)
        self.skip_stride = skip_stride

    def crops(
        self, features: Features, rois: Float[Tensor, "k 5"], crop: Crop
    ) -> tuple[Float[Tensor, "k c s s"], Float[Tensor, "k d m m"]]:
        """The crops of `MaskHead`, and those of the finer level, twice as large."""
        finer = {self.skip_stride: features[self.skip_stride]}
        return (
            super().crops(features, rois, crop),
            crop_regions(finer, rois, 2 * self.crop_size, crop),
        )

    def forward(self, crops: tuple[Tensor, Tensor]) -> Float[Tensor, "p classes m m"]:
        """C mask logits for each region."""
        crops, finer = (part.contiguous(memory_format=torch.channels_last) for part in crops)
        return self.score(self.join(torch.cat([finer, self.layers(crops)], dim=1))).float()
