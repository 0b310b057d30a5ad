"""Networks that see 11 x 11 pixels: what do more channels change, and what does longer training?"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from course_utils.core import seed_everything
from course_utils.data.scenes import CLASS_NAMES, make_scenes
from course_utils.metrics.semantic import confusion_matrix, iou_per_class, mean_iou
from course_utils.models import sliding_window
from course_utils.ops.losses import cross_entropy
from course_utils.training.loop import train

CAT, DOG, WATER = (CLASS_NAMES.index(name) for name in ("cat", "dog", "water"))


def patch_network(classes: int, layers: int, width: int = 8) -> nn.Sequential:
    """A patch network in double precision, with Kaiming's initial weights."""
    network = sliding_window.small(classes, layers, width).double()
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return network


def widths_and_steps(
    seed: int,
    *,
    widths: Sequence[int] = (8, 32),
    steps: Sequence[int] = (400, 3000),
    scenes: int = 200,
    held_out: int = 100,
) -> dict[str, dict[int, float]]:
    """Five layers of 3 x 3, with few or more channels, after few or more steps.

    Args:
        seed: of the initial weights.
        widths: channels of the layers.
        steps: a network is trained anew for each number of steps.
        scenes: how many to learn from, two per step.
        held_out: how many to measure on.

    Returns:
        For each width the mean IoU, the share of the cats' pixels that are called dog, and the IoU of water.
    """
    known = make_scenes(range(scenes), size=(48, 48))
    unseen = make_scenes(range(held_out), seed=1, size=(48, 48))
    results: dict[str, dict[int, float]] = {}

    def scores_of(network: nn.Module, images: Tensor) -> Tensor:
        return sliding_window.classify_at_once(network, images.double() - 0.5)

    def loss(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return cross_entropy(scores_of(network, batch[0]), batch[1])

    def batches(step: int) -> tuple[Tensor, Tensor]:
        chosen = torch.arange(2 * step, 2 * step + 2) % scenes
        return known.images[chosen], known.semantic[chosen]

    for width in widths:
        for count in steps:
            seed_everything(seed)
            network = patch_network(len(CLASS_NAMES), 5, width)
            train(network, batches, loss, steps=count, learning_rate=0.01, device="cpu")
            with torch.no_grad():
                found = scores_of(network, unseen.images).argmax(dim=1)
            matrix = confusion_matrix(found, unseen.semantic, len(CLASS_NAMES))
            measured = {
                "mean IoU": mean_iou(matrix),
                "cats called dog": matrix[CAT, DOG] / matrix[CAT].sum(),
                "IoU of water": iou_per_class(matrix)[WATER],
            }
            for name, value in measured.items():
                results.setdefault(f"{width} channels: {name}", {})[count] = float(value)
    return results
