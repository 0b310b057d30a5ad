"""The same small network applied to a patch around every pixel, and to the whole image at once.

The sliding window answers for one pixel at a time: cut out a patch, classify it, move on. Neighbouring
patches share nearly all their pixels, and the same products are computed again and again. As a convolution
the network computes each of them once, and gives the same scores.
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

    Each layer takes a pixel off every side, so with L layers a patch of 1 + 2L pixels becomes a single one:
    the receptive field of the lecture. A last 1 x 1 convolution turns its features into scores.

    Args:
        classes: how many scores a patch gets.
        layers: how many 3 x 3 convolutions, L.
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
    """How many pixels across one output pixel sees: 1 + 2L for L convolutions of 3 x 3.

    Args:
        network: convolutions of stride 1 without padding, and layers that look at one pixel.

    Returns:
        1 plus (kernel - 1) * dilation for each convolution.

    Raises:
        ValueError: a convolution with a stride or a padding, or one that is not square.

    >>> receptive_field(small(9, layers=5))
    11
    """
    return 1 + sum((layer.kernel_size[0] - 1) * layer.dilation[0] for layer in _layers(network))


def _layers(network: nn.Sequential) -> list[nn.Conv2d]:
    """The convolutions, if patch by patch and all at once can give the same."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    for layer in layers:
        plain = layer.stride == (1, 1) and layer.padding == (0, 0)
        if not plain or len({*layer.kernel_size}) > 1 or len({*layer.dilation}) > 1:
            raise ValueError(
                f"network: expected square convolutions of stride 1 without padding, got {layer}"
            )
    return layers


def _frame(network: nn.Sequential, images: Tensor) -> Tensor:
    """Zeros around the images, so that there is a patch around each pixel, also around the corners."""
    check_shape("images", images, "b", "c", "h", "w")
    check_floating("images", images)
    field = receptive_field(network)
    if field % 2 == 0:
        raise ValueError(f"network: expected patches with a pixel in the middle, got side {field}")
    return F.pad(images, [field // 2] * 4)


def classify_patches(
    network: nn.Sequential, images: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b classes h w"]:
    """The sliding window: cut a patch out around every pixel and classify one after the other.

    Args:
        network: as in `receptive_field`; gives one pixel for a patch.
        images: of any size; beyond the border they are 0.

    Returns:
        The scores of each pixel.

    Raises:
        TypeError: images that are not floating-point numbers.
        ValueError: a wrong shape, or a network with a stride or a padding.

    Source: lecture, semantic segmentation idea 1; Farabet et al., "Learning Hierarchical Features for Scene
    Labeling", 2013.

    >>> classify_patches(small(9), torch.zeros(1, 3, 8, 8)).shape
    torch.Size([1, 9, 8, 8])
    """
    framed = _frame(network, images)
    side = receptive_field(network)
    patches = framed.unfold(2, side, 1).unfold(3, side, 1)  # [b, c, h, w, side, side], a view
    rows = [  # a row of patches at a time: all of them would not fit into memory
        network(row.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(images), -1))
        for row in patches.unbind(2)
    ]  # each [b, w, classes, 1, 1]
    return torch.stack([row.flatten(2) for row in rows], dim=2).permute(0, 3, 2, 1)


def classify_at_once(
    network: nn.Sequential, images: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b classes h w"]:
    """The fully convolutional way: put the whole image through the same network, once.

    Args:
        network: as in `classify_patches`.
        images: of any size; beyond the border they are 0.

    Returns:
        The same scores as `classify_patches` gives.

    Raises:
        TypeError: as there.
        ValueError: as there.

    Source: lecture, semantic segmentation idea 2: fully convolutional.

    >>> network, images = small(9), torch.rand(1, 3, 8, 8)
    >>> torch.allclose(
    ...     classify_at_once(network, images), classify_patches(network, images), atol=1e-6
    ... )
    True
    """
    return network(_frame(network, images))


class Cost(NamedTuple):
    """Multiplications (each with an addition) to score every pixel of an image.

    Attributes:
        patches: with a sliding window.
        at_once: with convolutions over the whole image.
    """

    patches: int
    at_once: int


def count_multiply_adds(network: nn.Sequential, size: tuple[int, int]) -> Cost:
    """What both ways cost, counted by hand: output pixels * output channels * numbers in a filter, added up.

    Args:
        network: as in `classify_patches`.
        size: the image's (height, width) in pixels.

    Returns:
        Both counts. Their ratio is about the number of times that the sliding window repeats itself.

    Raises:
        ValueError: a size that is not above zero, or a network with a stride or a padding.

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
    """The multiply-adds of one pass over pixels of this size, layer by layer."""
    total = 0
    for layer in _layers(network):
        reach = (layer.kernel_size[0] - 1) * layer.dilation[0]
        height, width = height - reach, width - reach
        total += height * width * layer.weight.numel()
    return total


def influence(
    network: nn.Module, images: Float[Tensor, "b c h w"], pixel: tuple[int, int]
) -> Float[Tensor, "h w"]:
    """How much each image pixel moves the scores at one output pixel: the receptive field, measured.

    The gradient of that output pixel is 0 wherever the network does not look.

    Args:
        network: any that maps images to maps of scores.
        images: random ones will do; the more, the fewer dead ReLUs hide a path.
        pixel: (row, column) of the output.

    Returns:
        The size of the gradient, added up over images and channels.

    Raises:
        TypeError: images that are not floating-point numbers.
        ValueError: a wrong shape.

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
