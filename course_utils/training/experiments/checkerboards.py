"""Five kinds of layers that upsample by 2, two in a stack: which leave a pattern on a constant image?"""

from collections.abc import Sequence
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils.core import seed_everything
from course_utils.data.photos import photo

UPSAMPLERS = (
    "transposed 3",
    "transposed 4",
    "PixelShuffle",
    "PixelShuffle, ICNR",
    "resize-convolution",
)


def upsampler(kind: str, inputs: int, outputs: int) -> nn.Module:
    """A layer that upsamples by 2."""
    if kind.startswith("transposed"):
        size, extra = (3, 1) if kind.endswith("3") else (4, 0)
        return nn.ConvTranspose2d(inputs, outputs, size, stride=2, padding=1, output_padding=extra)
    if kind == "resize-convolution":
        return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 3, padding=1))
    layer = nn.Conv2d(inputs, 4 * outputs, 3, padding=1)
    if kind == "PixelShuffle, ICNR":
        for p in layer.parameters():  # 4 consecutive output channels fill one block of 2 x 2
            p.data = p.data[::4].repeat_interleave(4, dim=0)
    return nn.Sequential(layer, nn.PixelShuffle(2))


def stack_of_two(kind: str, seed: int) -> nn.Sequential:
    """Two of the layers with a ReLU in between: upsampling by 4."""
    seed_everything(seed)
    return nn.Sequential(upsampler(kind, 3, 8), nn.ReLU(), upsampler(kind, 8, 3)).double()


@cache
def cat_to_upsample() -> tuple[Float[Tensor, "1 3 16 20"], Float[Tensor, "1 3 64 80"]]:
    """The cat's face in two sizes."""
    face = photo("chelsea").sample.image[None, :, 20:276, 66:386].double()
    return F.avg_pool2d(face, 16), F.avg_pool2d(face, 4)


def error_on_cat(stack: nn.Module) -> Tensor:
    """The mean squared error of the cat upsampled by 4, away from the border."""
    small, large = cat_to_upsample()
    return (stack(small) - large)[..., 8:-8, 8:-8].square().mean()


def constant_response(stack: nn.Module, grey: float = 0.5) -> Float[Tensor, "3 24 24"]:
    """The output for a constant image, away from the border."""
    with torch.no_grad():
        return stack(torch.full((1, 3, 12, 12), grey, dtype=torch.float64))[0, :, 12:-12, 12:-12]


def pattern_of(response: Float[Tensor, "3 h w"]) -> float:
    """The standard deviation of each channel, averaged: 0 if the output is constant."""
    return response.std(dim=(1, 2), correction=0).mean().item()


def train_on_cat(stack: nn.Module, steps: int) -> None:
    """Train it to upsample the cat."""
    optimizer = torch.optim.Adam(stack.parameters(), lr=5e-3)
    for _ in range(steps):
        loss = error_on_cat(stack)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def checkerboards(
    seed: int, *, steps: Sequence[int] = (0, 200, 1000, 4000)
) -> dict[str, dict[int, float]]:
    """The pattern on a constant image, and the error, in the course of a training.

    Args:
        seed: of the initial weights.
        steps: when to measure; each stack is trained anew for each number of steps.

    Returns:
        For each kind of layer the pattern, where 1 is the range of a pixel, and the root mean squared error.
    """
    results: dict[str, dict[int, float]] = {}
    for kind in UPSAMPLERS:
        for count in steps:
            stack = stack_of_two(kind, seed)
            train_on_cat(stack, count)
            error = error_on_cat(stack).sqrt().item()
            pattern = pattern_of(constant_response(stack))
            results.setdefault(f"{kind}: pattern", {})[count] = pattern
            results.setdefault(f"{kind}: error", {})[count] = error
    return results
