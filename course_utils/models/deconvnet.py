"""DeconvNet: an encoder remembers where each maximum lay, a decoder puts the values back there."""

from collections.abc import Callable

from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_utils.core import check_floating, check_shape
from course_utils.fast.upsample import max_pool_with_indices, max_unpool
from course_utils.models.backbones import convolution_block

Unpool = Callable[
    [Float[Tensor, "b c h w"], Int64[Tensor, "b c h w"], tuple[int, int]],
    Float[Tensor, "b c oh ow"],
]


def _pair(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3 x 3 convolutions, as in a level of VGG."""
    return nn.Sequential(convolution_block(inputs, outputs), convolution_block(outputs, outputs))


class DeconvNet(nn.Module):
    """A classifier and its mirror image: each unpooling layer is paired with the pooling layer it undoes.

    Pooling forgets where in its window the maximum lay. The encoder hands these places to the decoder, so
    the values come back where they were found and not somewhere in the window. Around them are zeros, which
    the following convolutions fill. (The paper's "deconvolutions" have stride 1: there a transposed
    convolution is a convolution with other padding, so the decoder here uses ordinary ones.)

    Args:
        classes: how many scores a pixel gets.
        width: channels of the first level; they double down to 8 times as many, as in VGG.
        depth: how often the image is halved.
        unpool: how the decoder enlarges: called with the features, the places of the maxima, and the size
            to return to. Others can be tried on equal terms: `lambda x, places, size: bilinear(x, size)`.

    Source: Noh et al., "Learning Deconvolution Network for Semantic Segmentation", ICCV 2015.
    """

    def __init__(
        self, *, classes: int, width: int = 64, depth: int = 5, unpool: Unpool = max_unpool
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
        """One score a class and pixel."""
        check_shape("images", images, "b", 3, "h", "w")
        check_floating("images", images)
        least = 2 ** len(self.encoder)
        if min(images.shape[2:]) < least:
            raise ValueError(
                f"images: expected at least {least} x {least} pixels, got {list(images.shape)}"
            )
        x, places = images, []
        for convolve in self.encoder:
            x = convolve(x)
            size = x.shape[2:]
            x, indices = max_pool_with_indices(x, 2)
            places.append((indices, tuple(size)))
        x = self.bottom(x)
        for convolve in self.decoder:
            x = convolve(self.unpool(x, *places.pop()))
        return self.score(x)


def small(classes: int, unpool: Unpool = max_unpool) -> DeconvNet:
    """A DeconvNet for a laptop.

    Args:
        classes: how many scores a pixel gets.
        unpool: as in `DeconvNet`.

    Returns:
        The network, with random weights.

    >>> import torch
    >>> small(9)(torch.zeros(2, 3, 50, 70)).shape
    torch.Size([2, 9, 50, 70])
    """
    return DeconvNet(classes=classes, width=8, depth=4, unpool=unpool)
