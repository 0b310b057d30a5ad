"""Building blocks that several networks share."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate


def convolution_block(
    inputs: int,
    outputs: int,
    *,
    kernel_size: int = 3,
    stride: int = 1,
    padding: int = 1,
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
) -> nn.Sequential:
    """A convolution, a normalisation and a ReLU.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel_size: height and width of the filter.
        stride: of the convolution, in pixels.
        padding: zeros around the image; half of an odd kernel keeps the size.
        norm: makes the normalisation layer for a number of channels.

    Returns:
        The three layers. The convolution has no bias, because the normalisation has its own.

    >>> convolution_block(3, 16)(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 16, 8, 8])
    """
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size, stride, padding, bias=False),
        norm(outputs),
        nn.ReLU(inplace=True),
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
