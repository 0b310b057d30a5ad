"""The building blocks of MobileNetV3, from which the encoder of `selfie` is made.

Source: Howard et al., "Searching for MobileNetV3", ICCV 2019.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils.models.blocks import same_convolution

SIXTH = 1365 / 8192  # 1 / 6, rounded to float16 as in the published file


class HardSwish(nn.Module):
    """x * sigmoid(x) with straight lines instead of the sigmoid; `nn.Hardswish` with a rounded 1 / 6."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """0 below -3, nearly x above 3."""
        return SIXTH * x * F.relu6(x + 3)


class ChannelAttention(nn.Module):
    """A weight in 0..1 for each channel, computed from the means of all channels: squeeze and excitation.

    Args:
        channels: of the features.
        hidden: channels of the layer between the means and the weights.

    Source: Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018.
    """

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 1 1"]:
        """The weights, which the caller multiplies with features of the same number of channels."""
        means = features.mean(dim=(2, 3), keepdim=True)
        return self.excite(self.squeeze(means).relu()).sigmoid()


class InvertedResidual(nn.Module):
    """1 x 1 to many channels, one filter for each of them, attention, 1 x 1 back to few; and a shortcut."""

    def __init__(
        self,
        inputs: int,
        hidden: int,
        outputs: int,
        *,
        stride: int = 1,
        attention: int | None = None,
        kernel_size: int = 3,
        activation: type[nn.Module] = nn.ReLU,
    ):
        super().__init__()
        self.expand = nn.Conv2d(inputs, hidden, 1)
        self.depthwise = same_convolution(hidden, hidden, kernel_size, stride=stride, groups=hidden)
        self.attention = ChannelAttention(hidden, attention) if attention else None
        self.project = nn.Conv2d(hidden, outputs, 1)
        self.activation, self.shortcut = activation(), stride == 1 and inputs == outputs

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b _ _ _"]:
        """Features of the same size, or with stride 2 of half the size."""
        y = self.activation(self.depthwise(self.activation(self.expand(x))))
        y = y if self.attention is None else y * self.attention(y)
        return x + self.project(y) if self.shortcut else self.project(y)


class Context(nn.Module):
    """Features with a weight in 0..1 for each channel, which depends on the means over the whole image."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.features, self.weights = nn.Conv2d(inputs, outputs, 1), nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b _ h w"]:
        """More channels, at the same size."""
        return self.features(x).relu() * self.weights(x.mean((2, 3), keepdim=True)).sigmoid()
