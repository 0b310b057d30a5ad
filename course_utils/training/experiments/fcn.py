"""FCNs of several strides on equal budgets, what a stride allows, and the order in which classes come."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from course_utils.core import seed_everything
from course_utils.data.collate import Batch
from course_utils.data.scenes import CLASS_NAMES, Scenes, make_scenes
from course_utils.metrics.semantic import confusion_matrix, iou_per_class
from course_utils.models import fcn
from course_utils.ops.conv_transpose import bilinear_transposed_convolve
from course_utils.ops.losses import cross_entropy
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


def fcn_snapshots(
    seed: int,
    *,
    scene: int = 7,
    steps: Sequence[int] = (10, 30, 60, 120, 200, 400),
    scenes: int = 1000,
) -> dict[str, UInt8[Tensor, "h w"]]:
    """What the network of `fcn_classes` predicts for a held-out scene in the course of its training.

    Args:
        seed, steps, scenes: as in `fcn_classes`.
        scene: the number of the held-out scene.

    Returns:
        The label map after each number of steps, by this number.
    """
    unseen = make_scenes([scene], seed=1, size=SIZE)
    seed_everything(seed)
    network, maps = fcn.small(CLASSES), {}

    def watch(record: Record) -> None:
        if record.step in steps:
            with torch.no_grad():
                maps[str(record.step)] = network.eval()(unseen.images)[0].argmax(0).byte()
            network.train()

    options = {"steps": max(steps), "learning_rate": 1e-2, "watch": watch}
    train(network, batches_of(scenes), pixel_loss, **options)
    return maps


def fcn_scenes(
    seed: int, *, counts: Sequence[int] = (1000, 20), steps: int = 400, held_out: int = 200
) -> dict[str, dict[int, float]]:
    """The mean IoU of an FCN-2s on the scenes that it was trained with, and on others.

    Args:
        seed: of the initial weights.
        counts: the numbers of training scenes; a network is trained for each.
        steps: of training.
        held_out: how many scenes to measure on; of the training scenes as many, if there are.

    Returns:
        For each number of scenes the mean IoU on training scenes and on held-out scenes.
    """
    unseen, results = make_scenes(range(held_out), seed=1, size=SIZE), {}
    for scenes in counts:
        known = make_scenes(range(min(scenes, held_out)), seed=0, size=SIZE)
        seed_everything(seed)
        network = fcn.small(CLASSES)
        train(network, batches_of(scenes), pixel_loss, steps=steps, learning_rate=1e-2)
        for name, measured in (("training", known), ("held-out", unseen)):
            value = ious_of(network, measured).mean().item()
            results[f"{scenes} scenes: on {name} scenes"] = {steps: value}
    return results


def free_scores(
    seed: int, *, strides: Sequence[int] = (32, 16, 8), scenes: int = 50, steps: int = 100
) -> dict[str, dict[int, float]]:
    """How good a label map can be that is enlarged bilinearly from scores at a coarse stride.

    The scores are no output of a network: they are optimised for the true label map itself, from the exact
    shares of the classes on.

    Args:
        seed: of the scenes.
        strides: of the scores.
        scenes: how many label maps.
        steps: of Adam.

    Returns:
        For each stride the mean IoU of exact shares and of optimised scores.
    """
    truth = make_scenes(range(scenes), seed=seed, size=SIZE).semantic
    results = {}
    for stride in strides:
        shares = F.avg_pool2d(F.one_hot(truth, CLASSES).movedim(3, 1).float(), stride)
        scores = (shares + 0.01).log().requires_grad_()
        optimizer = torch.optim.Adam([scores], lr=0.3)
        for _ in range(steps):
            optimizer.zero_grad()
            cross_entropy(_enlarge(scores, stride), truth).backward()
            optimizer.step()
        for name, coarse in (("exact shares", shares), ("optimised scores", scores.detach())):
            value = _mean_iou(_enlarge(coarse, stride).argmax(1), truth)
            results[f"stride {stride}: {name}"] = {steps: value}
    return results


def _enlarge(scores: Float[Tensor, "b c h w"], stride: int) -> Float[Tensor, "b c oh ow"]:
    return bilinear_transposed_convolve(scores, 2 * stride, stride, stride // 2)


def _mean_iou(predicted: Int64[Tensor, "b h w"], truth: Int64[Tensor, "b h w"]) -> float:
    return iou_per_class(confusion_matrix(predicted, truth, CLASSES))[1:].mean().item()


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
