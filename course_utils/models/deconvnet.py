"""DeconvNet: the encoder keeps the indices of its maxima, and the decoder unpools with them."""

from collections.abc import Callable

from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_utils.core import check_floating, check_shape
from course_utils.fast.pool import max_pool_with_indices, max_unpool
from course_utils.models.blocks import convolution_block

Unpool = Callable[
    [Float[Tensor, "b c h w"], Int64[Tensor, "b c h w"], tuple[int, int]],
    Float[Tensor, "b c oh ow"],
]


def unpool_maxima(
    x: Float[Tensor, "b c h w"], indices: Int64[Tensor, "b c h w"], size: tuple[int, int]
) -> Float[Tensor, "b c oh ow"]:
    """Max unpooling, the inverse of the encoder's 2 x 2 pooling."""
    return max_unpool(x, indices, 2, output_size=size)


def _pair(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3 x 3 convolutions, as in a level of VGG."""
    return nn.Sequential(convolution_block(inputs, outputs), convolution_block(outputs, outputs))


class DeconvNet(nn.Module):
    """A classifier and its mirror image: each unpooling layer is paired with the pooling layer it undoes.

    Pooling discards where in its window the maximum was. The encoder passes these indices (the switches) to
    the decoder, which puts each value back in its position and zeros around it; the following convolutions
    fill the gaps. (The paper's "deconvolutions" have stride 1. There a transposed convolution is a
    convolution with other padding, so the decoder here uses ordinary convolutions.)

    Args:
        classes: number of class scores per pixel.
        width: channels of the first level; they double up to 8 times as many, as in VGG.
        depth: how often the image is halved.
        unpool: how the decoder upsamples: called with the features, the indices of the maxima, and the size
            of the output. For another method: `lambda x, indices, size: bilinear(x, size)`.

    Source: Noh et al., "Learning Deconvolution Network for Semantic Segmentation", ICCV 2015.
    """

    def __init__(
        self, *, classes: int, width: int = 64, depth: int = 5, unpool: Unpool = unpool_maxima
    ):
        super().__init__()
        widths = [width * 2 ** min(level, 3) for level in range(depth)]
        levels = list(zip([3, *widths], widths))
        self.encoder = nn.ModuleList(_pair(inputs, outputs) for inputs, outputs in levels)
        self.bottom = _pair(widths[-1], widths[-1])
        self.decoder = nn.ModuleList(
            _pair(inputs, outputs)
            for inputs, outputs in zip(widths[::-1], [*widths[-2::-1], width])
        )
        self.score = nn.Conv2d(width, classes, 1)
        self.unpool = unpool

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b classes h w"]:
        """One score per class and pixel."""
        check_shape("images", images, "b", 3, "h", "w")
        check_floating("images", images)
        least = 2 ** len(self.encoder)
        if min(images.shape[2:]) < least:
            raise ValueError(
                f"images: expected at least {least} x {least} pixels, got {list(images.shape)}"
            )
        x, switches = images, []
        for convolve in self.encoder:
            x = convolve(x)
            size = x.shape[2:]
            x, indices = max_pool_with_indices(x, 2)
            switches.append((indices, tuple(size)))
        x = self.bottom(x)
        for convolve in self.decoder:
            x = convolve(self.unpool(x, *switches.pop()))
        return self.score(x)


def small(classes: int, unpool: Unpool = unpool_maxima) -> DeconvNet:
    """A DeconvNet for a laptop.

    Args:
        classes: number of class scores per pixel.
        unpool: as in `DeconvNet`.

    Returns:
        The network, with random weights.

    >>> import torch
    >>> small(9)(torch.zeros(2, 3, 50, 70)).shape
    torch.Size([2, 9, 50, 70])
    """
    return DeconvNet(classes=classes, width=8, depth=4, unpool=unpool)
