"""The same small network applied to a patch around every pixel, and to the whole image at once.

The sliding window classifies one pixel at a time: crop a patch, classify it, move on. Neighbouring patches
share nearly all their pixels, so the same products are computed again and again. Applied to the whole image
as a convolution, the network computes each product once, and gives the same scores.
"""

import itertools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from course_utils.core import check_floating, check_shape, check_size


def small(classes: int, layers: int = 5, width: int = 16) -> nn.Sequential:
    """A classifier of patches: 3 x 3 convolutions without padding, until one pixel is left.

    Each layer removes one pixel on every side, so with L layers a patch of 1 + 2L pixels becomes a single
    one: the receptive field of the lecture. A last 1 x 1 convolution turns its features into scores.

    Args:
        classes: number of class scores per patch.
        layers: number of 3 x 3 convolutions, L.
        width: their channels.

    Returns:
        The network, with random weights.

    >>> small(9, layers=5)(torch.zeros(1, 3, 11, 11)).shape
    torch.Size([1, 9, 1, 1])
    """
    channels = [3] + [width] * layers
    convolutions = [
        layer
        for inputs, outputs in itertools.pairwise(channels)
        for layer in (nn.Conv2d(inputs, outputs, 3), nn.ReLU())
    ]
    return nn.Sequential(*convolutions, nn.Conv2d(channels[-1], classes, 1))


def receptive_field(network: nn.Sequential) -> int:
    """Side of the receptive field of one output pixel: 1 + 2L for L convolutions of 3 x 3.

    Args:
        network: convolutions of stride 1 without padding, and layers that work on single pixels.

    Returns:
        1 plus (kernel - 1) * dilation for each convolution.

    >>> receptive_field(small(9, layers=5))
    11
    """
    return 1 + sum((layer.kernel_size[0] - 1) * layer.dilation[0] for layer in _layers(network))


def _layers(network: nn.Sequential) -> list[nn.Conv2d]:
    """The convolutions, if both methods give the same scores for them."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    for layer in layers:
        plain = layer.stride == (1, 1) and layer.padding == (0, 0)
        if not plain or len({*layer.kernel_size}) > 1 or len({*layer.dilation}) > 1:
            raise ValueError(
                f"network: expected square convolutions of stride 1 without padding, got {layer}"
            )
    return layers


def _pad(network: nn.Sequential, images: Tensor) -> Tensor:
    """Zero padding, so that there is a patch around every pixel, also at the corners."""
    check_shape("images", images, "b", "c", "h", "w")
    check_floating("images", images)
    field = receptive_field(network)
    if field % 2 == 0:
        raise ValueError(f"network: expected an odd receptive field, got {field}")
    return F.pad(images, [field // 2] * 4)


def classify_patches(
    network: nn.Sequential, images: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b classes h w"]:
    """The sliding window: crop a patch around every pixel and classify one after the other.

    Args:
        network: as in `receptive_field`; one output pixel for a patch.
        images: of any size; they are padded with zeros.

    Returns:
        The scores of each pixel.

    Source: lecture, semantic segmentation idea 1; Farabet et al., "Learning Hierarchical Features for Scene
    Labeling", 2013.

    >>> classify_patches(small(9), torch.zeros(1, 3, 8, 8)).shape
    torch.Size([1, 9, 8, 8])
    """
    padded = _pad(network, images)
    side = receptive_field(network)
    patches = padded.unfold(2, side, 1).unfold(3, side, 1)  # [b, c, h, w, side, side], a view
    rows = [  # one row of patches at a time, to save memory
        network(row.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(images), -1))
        for row in patches.unbind(2)
    ]  # each [b, w, classes, 1, 1]
    return torch.stack([row.flatten(2) for row in rows], dim=2).permute(0, 3, 2, 1)


def classify_at_once(
    network: nn.Sequential, images: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b classes h w"]:
    """The fully convolutional network: the whole image through the same layers, once.

    Args:
        network: as in `classify_patches`.
        images: of any size; they are padded with zeros.

    Returns:
        The same scores as `classify_patches`.

    Source: lecture, semantic segmentation idea 2: fully convolutional.

    >>> network, images = small(9), torch.rand(1, 3, 8, 8)
    >>> torch.allclose(
    ...     classify_at_once(network, images), classify_patches(network, images), atol=1e-6
    ... )
    True
    """
    return network(_pad(network, images))


class Cost(NamedTuple):
    """Multiplications (each with an addition) to score every pixel of an image.

    Attributes:
        patches: with a sliding window.
        at_once: with convolutions over the whole image.
    """

    patches: int
    at_once: int


def count_multiply_adds(network: nn.Sequential, size: tuple[int, int]) -> Cost:
    """The cost of both methods: output pixels * output channels * numbers in a filter, summed over layers.

    Args:
        network: as in `classify_patches`.
        size: the image's (height, width) in pixels.

    Returns:
        Both counts. Their ratio says how often the sliding window computes the same product.

    A single 3 x 3 layer repeats nothing:

    >>> count_multiply_adds(nn.Sequential(nn.Conv2d(3, 16, 3)), (10, 10))
    Cost(patches=43200, at_once=43200)
    >>> patches, at_once = count_multiply_adds(small(9), (96, 96))
    >>> round(patches / at_once)
    22
    """
    check_size("size", size)
    border = receptive_field(network) - 1
    one_patch = _count(network, 1 + border, 1 + border)
    return Cost(size[0] * size[1] * one_patch, _count(network, size[0] + border, size[1] + border))


def _count(network: nn.Sequential, height: int, width: int) -> int:
    """The multiply-adds of one forward pass over an input of this size."""
    total = 0
    for layer in _layers(network):
        reach = (layer.kernel_size[0] - 1) * layer.dilation[0]
        height, width = height - reach, width - reach
        total += height * width * layer.weight.numel()
    return total


def influence(
    network: nn.Module, images: Float[Tensor, "b c h w"], pixel: tuple[int, int]
) -> Float[Tensor, "h w"]:
    """How much each image pixel influences the scores at one output pixel: the receptive field, measured.

    The gradient of that output pixel is 0 outside its receptive field.

    Args:
        network: any that maps images to score maps.
        images: random ones will do; with many of them, every path through the ReLUs is active in some.
        pixel: (row, column) of the output.

    Returns:
        The absolute gradient, summed over images and channels.

    >>> seen = influence(small(9, layers=2), torch.rand(4, 3, 9, 9), (2, 2)) > 0
    >>> seen.int()[:, 4]
    tensor([0, 0, 1, 1, 1, 1, 1, 0, 0], dtype=torch.int32)
    """
    check_shape("images", images, "b", "c", "h", "w")
    check_floating("images", images)
    images = images.detach().requires_grad_()
    scores = network(images)[:, :, pixel[0], pixel[1]]
    (gradient,) = torch.autograd.grad(scores.sum(), images)
    return gradient.abs().sum(dim=(0, 1))
