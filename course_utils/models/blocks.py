"""Building blocks that several networks share."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

RELU = partial(nn.ReLU, inplace=True)


def convolution_block(
    inputs: int,
    outputs: int,
    *,
    kernel_size: int = 3,
    stride: int = 1,
    padding: int = 1,
    norm: Callable[[int], nn.Module] | None = nn.BatchNorm2d,
    activation: Callable[[], nn.Module] = RELU,
) -> nn.Sequential:
    """A convolution, a normalisation and a ReLU.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel_size: height and width of the filter.
        stride: of the convolution, in pixels.
        padding: zeros around the image; half of an odd kernel keeps the size.
        norm: makes the normalisation layer for a number of channels. None leaves it out, as published
            networks do whose normalisation has become a part of the convolution.
        activation: makes the last layer.

    Returns:
        The three layers. The convolution has no bias if a normalisation follows, which has its own.

    >>> convolution_block(3, 16)(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 16, 8, 8])
    """
    convolution = nn.Conv2d(inputs, outputs, kernel_size, stride, padding, bias=norm is None)
    normalisation = () if norm is None else (norm(outputs),)
    return nn.Sequential(convolution, *normalisation, activation())


def same_convolution(
    inputs: int, outputs: int, kernel_size: int, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """A convolution with TensorFlow's padding "SAME": an even size stays the same, or is halved by stride 2.

    With stride 2 the zeros are not symmetric: there is one more at the lower and at the right border.

    Args:
        inputs, outputs, kernel_size, stride, groups: as in `nn.Conv2d`; the kernel is odd, the stride 1 or 2.

    >>> same_convolution(3, 16, 3, stride=2)[0]
    ZeroPad2d((0, 1, 0, 1))
    """
    after = kernel_size // 2
    before = after + 1 - stride
    return nn.Sequential(
        nn.ZeroPad2d((before, after, before, after)),
        nn.Conv2d(inputs, outputs, kernel_size, stride, groups=groups),
    )


def crop_to(
    features: Float[Tensor, "b c h w"], like: Float[Tensor, "b _ _ _"]
) -> Float[Tensor, "b c _ _"]:
    """Crop a feature map to at most the height and width of another one, at the lower and right border.

    Halving an odd size rounds up, so doubling it again gives one row or column too many.
    """
    return features[..., : like.shape[-2], : like.shape[-1]]


def upsample_by_two(
    coarse: Float[Tensor, "b c h w"], like: Float[Tensor, "b _ _ _"], mode: str = "nearest"
) -> Float[Tensor, "b c _ _"]:
    """Double a feature map, by `mode` "nearest" or "bilinear", and crop it to the size of the finer level."""
    return crop_to(interpolate(coarse, scale_factor=2, mode=mode), like)


class Normalize(nn.Module):
    """Subtract ImageNet's mean colour and divide by its standard deviation, as pretrained networks expect."""

    def __init__(self):
        super().__init__()
        mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
        self.register_buffer("mean", mean[:, None, None], persistent=False)
        self.register_buffer("deviation", deviation[:, None, None], persistent=False)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Colours with mean 0 and standard deviation 1 over ImageNet."""
        return (images - self.mean) / self.deviation
