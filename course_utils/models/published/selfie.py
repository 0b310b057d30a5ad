"""MediaPipe's selfie segmentation: for each pixel the probability that it belongs to a person.

An encoder like MobileNetV3 halves the image four times, and a decoder brings the features back to its size.
Sizes are channels x height x width:

    image             3 x 256 x 256        probabilities     1 x 256 x 256
      | stem                                 ^ transposed convolution 2 x 2, stride 2, and a sigmoid
    stride 2         16 x 128 x 128 -----> 16 x 128 x 128    up[2]
      | stages[0]                            ^ bilinear x 2
    stride 4         16 x  64 x  64 -----> 16 x  64 x  64    up[1]
      | stages[1]                            ^ bilinear x 2
    stride 8         24 x  32 x  32 -----> 24 x  32 x  32    up[0]
      | stages[2]                            ^ bilinear x 2
    stride 16        32 x  16 x  16 -----> 128 x 16 x  16    context

A skip connection (to the right) is weighted, channel by channel, before it is added to what comes from below.
"""

from functools import partial

import torch
from jaxtyping import Float, Real
from torch import Tensor, nn

from course_utils.core import check_floating, check_shape
from course_utils.models.blocks import same_convolution, upsample_by_two
from course_utils.models.published._crops import cut, paste, windows
from course_utils.models.published._loading import load_published
from course_utils.models.published.mobilenet_v3 import (
    ChannelAttention,
    Context,
    HardSwish,
    InvertedResidual,
)

SIZE = 256  # height and width of the images that the network takes
MARGIN = 0.1  # of a box's width and height, on each side of a crop


class Up(nn.Module):
    """One level of the decoder: upsample, add the weighted skip connection, and convolve."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.reduce = nn.Conv2d(inputs, outputs, 1)
        self.attention = ChannelAttention(outputs, outputs)
        self.mix = nn.Conv2d(outputs, outputs, 1)
        self.depthwise = same_convolution(outputs, outputs, 3, groups=outputs)

    def forward(
        self, coarse: Float[Tensor, "b _ _ _"], skip: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Features of the size of `skip`, which is twice that of `coarse`."""
        coarse = self.reduce(upsample_by_two(coarse, skip, "bilinear"))
        x = self.mix(coarse + skip * self.attention(coarse + skip)).relu()
        return x + self.depthwise(x).relu()


class SelfieSegmentation(nn.Module):
    """The network of the figure above, with random weights; `load` gives it the published ones.

    Source: MediaPipe Selfie Segmentation (Google, 2021); Howard et al., "Searching for MobileNetV3", 2019.
    """

    def __init__(self):
        super().__init__()
        block = InvertedResidual
        wide = partial(InvertedResidual, kernel_size=5, activation=HardSwish)
        self.stem = nn.Sequential(same_convolution(3, 16, 3, stride=2), HardSwish())
        self.stages = nn.Sequential(
            block(16, 16, 16, stride=2, attention=8),
            nn.Sequential(block(16, 72, 24, stride=2), block(24, 88, 24)),
            nn.Sequential(
                wide(24, 96, 32, stride=2, attention=24),
                *(wide(32, 128, 32, attention=32) for _ in range(2)),
                *(wide(32, 96, 32, attention=24) for _ in range(2)),
            ),
        )
        self.context = Context(32, 128)
        self.up = nn.ModuleList([Up(128, 24), Up(24, 16), Up(16, 16)])
        self.segment = nn.ConvTranspose2d(16, 1, 2, stride=2)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
        """The probability of "person" for each pixel of images of 256 x 256 pixels, RGB in 0..1."""
        return self.decode(self.encode(images))

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """The features at strides 2, 4, 8 and 16, finest first; the last ones after `context`."""
        check_shape("images", images, "b", 3, SIZE, SIZE)
        check_floating("images", images)
        features = [self.stem(images)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return [*features[:-1], self.context(features[-1])]

    def decode(self, features: list[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b h w"]:
        """From the features of `encode` to the probability for each pixel."""
        *skips, x = features
        for up, skip in zip(self.up, reversed(skips), strict=True):
            x = up(x, skip)
        return self.segment(x).sigmoid().squeeze(1)

    @torch.no_grad()
    def mask(
        self, image: Float[Tensor, "3 h w"], boxes: Real[Tensor, "n 4"] | None = None
    ) -> Float[Tensor, "_ h w"]:
        """The probability of "person" for each pixel of a picture of any size, or of crops around boxes.

        Args:
            image: RGB in 0..1.
            boxes: of persons, `x1, y1, x2, y2` in pixels; None for one crop that is the whole picture. A crop
                is larger than its box by `MARGIN`. All crops go through the network together.

        Returns:
            One map for each crop, in the picture's own pixels; 0 outside of the crop.
        """
        check_shape("image", image, 3, "h", "w")
        check_floating("image", image)
        size = image.shape[1:]
        where = [[0, 0, size[1], size[0]]] if boxes is None else windows(boxes, MARGIN, *size)
        return paste(self(cut(image.float(), where, SIZE)), where, *size)


def load() -> SelfieSegmentation:
    """The network with its published weights, in evaluation mode and without gradients.

    >>> load()(torch.zeros(1, 3, 256, 256)).shape
    torch.Size([1, 256, 256])
    """
    return load_published("selfie", SelfieSegmentation())
