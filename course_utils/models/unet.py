"""U-Net: a contracting path, an expanding path, and a skip connection between them at each level."""

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from course_utils.core import check_floating, check_shape
from course_utils.models.blocks import convolution_block, crop_to


def _level(inputs: int, outputs: int, convolutions: int, padding: int) -> nn.Sequential:
    """The convolutions of one level of a path; the first changes the number of channels."""
    channels = [inputs] + [outputs] * convolutions
    return nn.Sequential(
        *(convolution_block(a, b, padding=padding) for a, b in itertools.pairwise(channels))
    )


class UNetBackbone(nn.Module):
    """A U-Net without its last layer: the features of the expanding path, finest first.

    Pooling halves the size and the channels double; on the way up a transposed convolution undoes both. The
    skip connection concatenates the features from before the pooling with those that come up, so that the
    decoder has the positions of edges at hand.

    Args:
        channels: of the images.
        width: channels of the finest level.
        depth: how often the image is halved.
        convolutions: number of 3 x 3 convolutions on each level, going down and again going up.
        padding: 1 keeps the size. 0 is the paper's choice: no convolution reaches beyond the image, and the
            output is `border` pixels smaller on each side.
        stride: 1 as in the paper. With 2 all levels work at half the resolution, at a quarter of the cost:
            blocks of 2 x 2 pixels become channels (`pixel_unshuffle`).
        skips: False removes the skip connections, to measure their effect.

    Attributes:
        channels: of each level, finest first.
        border: how many pixels smaller the output is than the image, on each of the four sides.

    Source: Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015. Batch
    normalisation is younger than the paper.
    """

    def __init__(
        self,
        *,
        channels: int = 3,
        width: int = 64,
        depth: int = 4,
        convolutions: int = 2,
        padding: int = 1,
        stride: int = 1,
        skips: bool = True,
    ):
        super().__init__()
        if padding not in (0, 1):
            raise ValueError(f"padding: expected 0 or 1, got {padding!r}")
        widths = [width * 2**level for level in range(depth + 1)]
        *down, bottom = (
            _level(inputs, outputs, convolutions, padding)
            for inputs, outputs in zip([channels * stride**2, *widths], widths)
        )
        upwards = widths[-2::-1]
        self.down, self.bottom = nn.ModuleList(down), bottom
        self.upconv = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in upwards)
        self.up = nn.ModuleList(
            _level(2 * w if skips else w, w, convolutions, padding) for w in upwards
        )
        self.image_channels, self.channels = channels, tuple(widths)
        self.stride, self.skips = stride, skips
        # Without padding the first level loses this many pixels, and each further level twice as many.
        self.lost = 0 if padding else 2 * stride * convolutions
        self.border = self.lost // 2 * (3 * 2**depth - 2)

    def forward(self, images: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b _ _ _"], ...]:
        """The features of the expanding path, finest first: at `stride`, twice that, down to the bottom."""
        x = F.pixel_unshuffle(self._fit(images), self.stride)
        x = x.contiguous(memory_format=torch.channels_last)  # faster on a CPU
        skips = []
        for convolve in self.down:
            x = convolve(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        features = [self.bottom(x)]
        for upconv, convolve in zip(self.upconv, self.up):
            x, skip = upconv(features[-1]), skips.pop()
            x = torch.cat([_center_crop(skip, x), x], dim=1) if self.skips else x
            features.append(convolve(x))
        return tuple(features[::-1])

    def _fit(self, images: Tensor) -> Tensor:
        """Images that can be halved at each level: padded with zeros, or with padding 0 only checked."""
        check_shape("images", images, "b", self.image_channels, "h", "w")
        check_floating("images", images)
        step = self.stride * 2 ** len(self.down)
        if not self.border:
            height, width = images.shape[2:]
            return F.pad(images, (0, -width % step, 0, -height % step))
        least = 2 * self.border + step
        least -= (least + self.lost) % step
        if any(size < least or (size - least) % step for size in images.shape[2:]):
            raise ValueError(
                f"images: expected height and width of {least}, {least + step}, {least + 2 * step}, ... "
                f"for padding 0, got {list(images.shape)}"
            )
        return images


class UNet(nn.Module):
    """Class scores for every pixel from the finest features of a `UNetBackbone`.

    Args:
        classes: number of class scores per pixel.
        width, stride: as in `UNetBackbone`. With stride 2 the last layer is a transposed convolution, which
            brings the scores back to full size.
        options: the other arguments of `UNetBackbone`.

    Attributes:
        border: as in `UNetBackbone`.
    """

    def __init__(self, *, classes: int, width: int = 64, stride: int = 1, **options: int):
        super().__init__()
        self.backbone = UNetBackbone(width=width, stride=stride, **options)
        self.score = nn.ConvTranspose2d(
            width, classes, stride, stride
        )  # stride 1: a 1 x 1 convolution
        self.border = self.backbone.border

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes oh ow"]:
        """One score per class and pixel; with padding 0 for the pixels at least `border` from the edge."""
        finest, *_ = self.backbone(images)
        return crop_to(self.score(finest), images)


def _center_crop(skip: Tensor, like: Tensor) -> Tensor:
    """Crop to the size of another map, equally on both sides; with padding 1 there is nothing to crop."""
    height, width = like.shape[2:]
    top, left = (skip.shape[2] - height) // 2, (skip.shape[3] - width) // 2
    return skip[:, :, top : top + height, left : left + width]


def small(classes: int, skips: bool = True) -> UNet:
    """A U-Net for a laptop: narrow, and with one convolution per level.

    Args:
        classes: number of class scores per pixel.
        skips: as in `UNetBackbone`.

    Returns:
        The network, with random weights.

    >>> small(9)(torch.zeros(2, 3, 50, 70)).shape
    torch.Size([2, 9, 50, 70])
    """
    return UNet(classes=classes, width=8, depth=4, convolutions=1, skips=skips)
