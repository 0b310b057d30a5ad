"""The first steps of Mask R-CNN and of Panoptic FPN: each loss, and what is found, every ten steps."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from course_utils.core import seed_everything
from course_utils.data.scenes import CLASS_NAMES, STUFF, THINGS, Scenes, make_scenes
from course_utils.metrics import panoptic as metrics
from course_utils.models import mask_rcnn, panoptic_fpn
from course_utils.training import instances
from course_utils.training.batches import Task
from course_utils.training.loop import train
from course_utils.training.recipes import MASK_RCNN, PANOPTIC_FPN, load_checkpoint

SIZE, EVERY = 96, 10
TRUE_BOXES = "positives that are true boxes"
Curves = dict[str, dict[int, float]]


def mask_rcnn_steps(
    seed: int, *, steps: int = 150, batches: int = 30, held_out: int = 100
) -> Curves:
    """Mask R-CNN from random weights: its five losses, its proposals and its average precision.

    Args:
        seed: of the initial weights and the training.
        steps: of training; measured every ten steps.
        batches: of eight scenes each; they are used in turn.
        held_out: the number of scenes to measure on.

    Returns:
        As means of the last ten steps each loss, and the share of true boxes among the positive regions (the
        others are proposals, which need a correction); AP50 of boxes and masks.
    """
    scenes = make_scenes(range(held_out), seed=1, size=(SIZE, SIZE))
    samples = [scenes.sample(number) for number in range(held_out)]

    def evaluate(model: nn.Module) -> dict[str, float]:
        found = instances.instance_metrics(model, samples, size=SIZE)
        return {"AP50 of boxes": found["box_ap50"], "AP50 of masks": found["mask_ap50"]}

    seed_everything(seed)
    model = mask_rcnn.small(1 + len(THINGS))
    task = instances.detector_task("scenes", batch_size=8, size=SIZE, seed=0)
    parts = {TRUE_BOXES: []}
    _count_true_boxes(model, parts[TRUE_BOXES])
    return _train(model, task, batches, MASK_RCNN.loss_weights, steps, seed, evaluate, parts)


def panoptic_steps(seed: int, *, steps: int = 60, batches: int = 20, held_out: int = 100) -> Curves:
    """Panoptic FPN on the backbone of the shipped Mask R-CNN: its six losses, and PQ of things and stuff.

    Args:
        seed, steps, batches, held_out: as in `mask_rcnn_steps`.

    Returns:
        Each loss as the mean of the last ten steps, and both PQ.
    """
    return _panoptic(seed, steps, batches, held_out)[0]


def panoptic_map(seed: int, *, steps: int = 60, batches: int = 20) -> dict[str, Tensor]:
    """The panoptic map of the held-out scene 20 after the training of `panoptic_steps`."""
    model = _panoptic(seed, steps, batches, 1)[1]
    (codes,) = _panoptic_maps(model, make_scenes([20], seed=1, size=(SIZE, SIZE)))
    return {"scene 20": codes.to(torch.int16)}


def _panoptic(seed: int, steps: int, batches: int, held_out: int) -> tuple[Curves, nn.Module]:
    scenes = make_scenes(range(held_out), seed=1, size=(SIZE, SIZE))

    def evaluate(model: nn.Module) -> dict[str, float]:
        maps = torch.stack(_panoptic_maps(model, scenes))
        counts = metrics.panoptic_counts(maps, scenes.panoptic, len(CLASS_NAMES))
        quality = metrics.panoptic_quality(counts, stuff=STUFF)
        return {"PQ of things": float(quality.things.pq), "PQ of stuff": float(quality.stuff.pq)}

    seed_everything(seed)
    model = panoptic_fpn.small(len(CLASS_NAMES))
    trained = load_checkpoint("mask_rcnn").backbone
    model.detector.backbone.load_state_dict(trained.state_dict())
    task = instances.panoptic_task("scenes", batch_size=8, size=SIZE, seed=0)
    weights = PANOPTIC_FPN.loss_weights
    return _train(model, task, batches, weights, steps, seed, evaluate), model


def _panoptic_maps(model: nn.Module, scenes: Scenes) -> list[Int64[Tensor, "h w"]]:
    return [instances.predict_panoptic(one) for one in model(scenes.images)]


def _count_true_boxes(model: nn.Module, shares: list[float]) -> None:
    """From now on, every training step notes the share of positive regions whose box target is zero."""
    box_loss = model.box_head.loss

    def loss(prediction: tuple, labels: Tensor, targets: Tensor) -> dict[str, Tensor]:
        shares.append((targets == 0).all(dim=1).float().mean().item())
        return box_loss(prediction, labels, targets)

    model.box_head.loss = loss


def _train(
    model: nn.Module,
    task: Task,
    batches: int,
    weights: dict[str, float],
    steps: int,
    seed: int,
    evaluate: Callable[[nn.Module], dict[str, float]],
    parts: dict[str, list[float]] | None = None,
) -> Curves:
    """Train as the notebooks do, and measure every ten steps; `parts` has what is noted at every step."""
    parts = {} if parts is None else parts

    def loss(model: nn.Module, batch: object) -> Tensor:
        losses = instances.losses(model, batch)
        for name, value in losses.items():
            parts.setdefault(f"loss: {name}", []).append(value.item())
        return sum(weights.get(name, 1.0) * value for name, value in losses.items())

    batch_of = lru_cache(lambda number: task.batches(number))
    history = train(
        model,
        lambda step: batch_of(step % batches),
        loss,
        steps=steps,
        learning_rate=6e-3,
        clip=1.0,
        seed=seed,
        device="cpu",
        evaluate=evaluate,
        evaluate_every=EVERY,
    )
    measured = [step for step in history.metrics if step % EVERY == 0]
    curves = {
        name: {step: float(np.mean(values[step - EVERY : step])) for step in measured}
        for name, values in parts.items()
    }
    for name in next(iter(history.metrics.values())):
        curves[name] = {step: history.metrics[step][name] for step in measured}
    return curves
