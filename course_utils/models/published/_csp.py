"""The stage of NanoDet's backbone: some of the channels skip the convolutions (cross-stage partial)."""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_utils.models.blocks import convolution_block

# Batch normalisation has become a part of the convolution, which therefore has a bias.
leaky_convolution = partial(
    convolution_block, norm=None, activation=partial(nn.LeakyReLU, negative_slope=0.1)
)


class Block(nn.Module):
    """Two convolutions of half the width; their outputs are concatenated."""

    def __init__(self, width: int):
        super().__init__()
        self.first = leaky_convolution(width, width // 2)
        self.second = leaky_convolution(width // 2, width // 2)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        first = self.first(features)
        return torch.cat([self.second(first), first], dim=1)


class Stage(nn.Module):
    """A convolution; blocks and one more convolution on one path; the end and the beginning concatenated."""

    def __init__(self, inputs: int, width: int, blocks: int, stride: int = 2):
        super().__init__()
        self.first = leaky_convolution(inputs, width, stride=stride)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(blocks)))
        self.last = leaky_convolution(width, width)

    def forward(self, features: Float[Tensor, "b _ _ _"]) -> Float[Tensor, "b _ _ _"]:
        first = self.first(features)
        return torch.cat([self.last(self.blocks(first)), first], dim=1)
