"""FCN-32s, 16s, 8s and 2s on equal budgets, and the order in which an FCN learns the classes."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_utils.core import seed_everything
from course_utils.data.collate import Batch
from course_utils.data.scenes import CLASS_NAMES, Scenes, make_scenes
from course_utils.metrics.semantic import confusion_matrix, iou_per_class
from course_utils.models import fcn
from course_utils.training.loop import Record, train
from course_utils.training.semantic import pixel_loss

CLASSES, SIZE = len(CLASS_NAMES), (96, 96)


def fcn_strides(
    seed: int, *, steps: Sequence[int] = (120, 400), scenes: int = 1000, held_out: int = 200
) -> dict[str, dict[int, float]]:
    """The mean IoU of FCNs that add scores down to stride 32, 16, 8 or 2, after equal numbers of steps.

    Args:
        seed: of the initial weights.
        steps: a network is trained anew for each number of steps.
        scenes: how many to learn from.
        held_out: how many to measure on.

    Returns:
        For each network the mean IoU after each number of steps.
    """
    batches, unseen = batches_of(scenes), make_scenes(range(held_out), seed=1, size=SIZE)

    def train_and_measure(stride: int, steps: int) -> float:
        seed_everything(seed)
        network = fcn.small(CLASSES, stride=stride)
        train(network, batches, pixel_loss, steps=steps, learning_rate=1e-2)
        return ious_of(network, unseen).mean().item()

    return {
        f"FCN-{stride}s": {count: train_and_measure(stride, count) for count in steps}
        for stride in (32, 16, 8, 2)
    }


def fcn_classes(
    seed: int,
    *,
    steps: Sequence[int] = (10, 30, 60, 120, 200, 400),
    scenes: int = 1000,
    held_out: int = 200,
) -> dict[str, dict[int, float]]:
    """The IoU of each class while one FCN-2s is trained.

    Args:
        seed, scenes, held_out: as in `fcn_strides`.
        steps: when it is measured; the last one is the end.

    Returns:
        For each class its IoU after each number of steps.
    """
    unseen = make_scenes(range(held_out), seed=1, size=SIZE)
    seed_everything(seed)
    network, ious = fcn.small(CLASSES), {}

    def watch(record: Record) -> None:
        if record.step in steps:
            ious[record.step] = ious_of(network, unseen).tolist()
            network.train()

    train(
        network, batches_of(scenes), pixel_loss, steps=max(steps), learning_rate=1e-2, watch=watch
    )
    return {
        name: {count: ious[count][k] for count in steps} for k, name in enumerate(CLASS_NAMES[1:])
    }


def batches_of(scenes: int) -> Callable[[int], Batch]:
    """Eight scenes for each step; in every other epoch they are mirrored."""
    known = make_scenes(range(scenes), seed=0, size=SIZE)

    def batches(step: int) -> Batch:
        epoch, first = divmod(8 * step, scenes)
        images, labels = known.images[first : first + 8], known.semantic[first : first + 8]
        if epoch % 2:
            images, labels = images.flip(-1), labels.flip(-1)
        return Batch(images, semantic=labels)

    return batches


@torch.no_grad()
def ious_of(network: nn.Module, scenes: Scenes) -> Float[Tensor, " classes"]:
    """The IoU of cat, dog, ..., tree; no pixel of a scene is background."""
    parts = [network.eval()(part).argmax(dim=1) for part in scenes.images.split(50)]
    return iou_per_class(confusion_matrix(torch.cat(parts), scenes.semantic, CLASSES))[1:]
