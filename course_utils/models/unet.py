"""U-Net: down to see what, up to see where, and at each level a skip connection across."""

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from course_utils.core import check_floating, check_shape
from course_utils.models.backbones import convolution_block


def _level(inputs: int, outputs: int, convolutions: int, padding: int) -> nn.Sequential:
    """The convolutions of one level on one side; the first changes the number of channels."""
    channels = [inputs] + [outputs] * convolutions
    return nn.Sequential(
        *(convolution_block(a, b, padding=padding) for a, b in itertools.pairwise(channels))
    )


class UNetBackbone(nn.Module):
    """A U-Net without its last layer: what the way up sees at each level, finest first.

    It serves a detector as backbone and pyramid in one: its fine levels know what the coarse ones know.

    Args:
        channels, width, depth, convolutions, padding, stride, skips: as in `UNet`.

    Attributes:
        channels: of each level, finest first.
        border: as in `UNet`.
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
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in upwards)
        self.up = nn.ModuleList(
            _level(2 * w if skips else w, w, convolutions, padding) for w in upwards
        )
        self.image_channels, self.channels = channels, tuple(widths)
        self.stride, self.skips = stride, skips
        # Without padding the first level takes so many pixels away, and each further down twice as many.
        self.lost = 0 if padding else 2 * stride * convolutions
        self.border = self.lost // 2 * (3 * 2**depth - 2)

    def forward(self, images: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b _ _ _"], ...]:
        """The features of the way up, finest first: at `stride`, twice that, and so on to the bottom."""
        x = F.pixel_unshuffle(self._fit(images), self.stride)
        x = x.contiguous(memory_format=torch.channels_last)  # faster on a CPU
        across = []
        for convolve in self.down:
            x = convolve(x)
            across.append(x)
            x = F.max_pool2d(x, 2)
        features = [self.bottom(x)]
        for enlarge, convolve in zip(self.enlarge, self.up):
            x, skip = enlarge(features[-1]), across.pop()
            x = torch.cat([_middle(skip, x), x], dim=1) if self.skips else x
            features.append(convolve(x))
        return tuple(features[::-1])

    def _fit(self, images: Tensor) -> Tensor:
        """Images that can be halved at each level: filled up with zeros if there is padding, else checked."""
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


class UNet(UNetBackbone):
    """Convolve and pool on the way down; enlarge, join the other side and convolve on the way up.

    Pooling halves the size and the channels double; on the way up a transposed convolution undoes both. The
    skip connection lays the features from before the pooling beside those that come up, so the decoder need
    not guess where a border ran. Batch normalisation, which is younger than the paper, makes training quick.

    Args:
        classes: how many scores a pixel gets.
        channels: of the images.
        width: channels of the uppermost level.
        depth: how often the image is halved.
        convolutions: how many of 3 x 3 each level has, going down and again going up.
        padding: 1 keeps the size. 0 is the paper's way: no convolution looks beyond the image, and the
            scores are those of its middle, `border` pixels narrower at each side.
        stride: 1 is the paper's. With 2 all levels work at half the size, which costs a quarter: blocks of
            2 x 2 pixels come in together, and the last layer is a transposed convolution out of them.
        skips: False leaves the skip connections away, to measure what they are good for.

    Attributes:
        border: how many pixels fewer than the images the scores have, at each of the four sides.

    Source: Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015.
    """

    def __init__(self, *, classes: int, width: int = 64, stride: int = 1, **shape: int):
        super().__init__(width=width, stride=stride, **shape)
        self.score = nn.ConvTranspose2d(width, classes, stride, stride)  # stride 1: plain 1 x 1

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes oh ow"]:
        """One score a class and pixel; with padding 1 for every pixel, with padding 0 for the middle."""
        finest, *_ = super().forward(images)
        return self.score(finest)[..., : images.shape[-2], : images.shape[-1]]


def _middle(skip: Tensor, like: Tensor) -> Tensor:
    """Cut to the size of another map, as much on each side; with padding 1 there is nothing to cut."""
    height, width = like.shape[2:]
    top, left = (skip.shape[2] - height) // 2, (skip.shape[3] - width) // 2
    return skip[:, :, top : top + height, left : left + width]


def small(classes: int, skips: bool = True) -> UNet:
    """A U-Net for a laptop: thin, and with one convolution a level.

    In the same time it sees nearly twice as many pictures as with two, which does it more good.

    Args:
        classes: how many scores a pixel gets.
        skips: as in `UNet`.

    Returns:
        The network, with random weights.

    >>> small(9)(torch.zeros(2, 3, 50, 70)).shape
    torch.Size([2, 9, 50, 70])
    """
    return UNet(classes=classes, width=8, depth=4, convolutions=1, skips=skips)
