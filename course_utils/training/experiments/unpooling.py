"""Two decoders that differ in one thing: max unpooling uses the indices of the maxima, bed of nails not."""

from functools import partial

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_utils.core import seed_everything
from course_utils.data.scenes import CLASS_NAMES, make_scenes
from course_utils.fast.pool import max_pool_with_indices
from course_utils.models.backbones import Backbone
from course_utils.models.blocks import convolution_block
from course_utils.models.deconvnet import Unpool, unpool_maxima
from course_utils.ops.upsample import bed_of_nails, bilinear
from course_utils.training.experiments.fcn import SIZE, batches_of, ious_of
from course_utils.training.loop import train
from course_utils.training.recipes import load_checkpoint
from course_utils.training.semantic import pixel_loss

UNPOOLING: dict[str, Unpool] = {
    "max unpooling": unpool_maxima,
    "bed of nails": lambda features, indices, size: bed_of_nails(features, 2),
}


@torch.no_grad()
def encode_with_indices(
    backbone: Backbone, images: Float[Tensor, "b 3 h w"]
) -> tuple[Float[Tensor, "b c _ _"], list[tuple[Int64[Tensor, "b _ _ _"], tuple[int, int]]]]:
    """Features at stride 16; for each pooling layer the indices of its maxima and the size before it."""
    first, *stages = backbone.stages[:4]
    features, pooled = first(images), []
    for pool, convolve in stages:
        size = tuple(features.shape[2:])
        features, indices = max_pool_with_indices(features, pool.kernel_size)
        pooled.append((indices, size))
        features = convolve(features)
    return features, pooled


class Decoder(nn.Module):
    """From stride 16 to stride 2: convolve, unpool, convolve, ..., score; then bilinear upsampling."""

    def __init__(self, backbone: Backbone, unpool: Unpool, classes: int):
        super().__init__()
        levels = [(96, 64), (64, 32), (32, 16), (16, 16)]
        self.convolve = nn.ModuleList(convolution_block(*level) for level in levels)
        self.score = nn.Conv2d(16, classes, 1)
        self.unpool = unpool
        self.encode = partial(encode_with_indices, backbone)  # no submodule: it stays as it is

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b classes h w"]:
        """One score per class and pixel."""
        features, pooled = self.encode(images)
        features = self.convolve[0](features)
        for convolve in self.convolve[1:]:
            features = convolve(self.unpool(features, *pooled.pop()))
        return bilinear(self.score(features), tuple(images.shape[2:]))


def unpooling(
    seed: int, *, steps: int = 160, scenes: int = 1000, held_out: int = 200
) -> dict[str, dict[int, float]]:
    """The mean IoU of both decoders on the frozen encoder of the shipped FCN.

    Args:
        seed: of the initial weights.
        steps: of training.
        scenes: how many to learn from.
        held_out: how many to measure on.

    Returns:
        For each decoder its mean IoU.
    """
    backbone = load_checkpoint("fcn").backbone
    unseen, results = make_scenes(range(held_out), seed=1, size=SIZE), {}
    for name, unpool in UNPOOLING.items():
        seed_everything(seed)
        network = Decoder(backbone, unpool, len(CLASS_NAMES))
        train(
            network, batches_of(scenes), pixel_loss, steps=steps, learning_rate=2e-2, device="cpu"
        )
        results[name] = {steps: ious_of(network, unseen).mean().item()}
    return results
