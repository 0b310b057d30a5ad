"""What a detector with masks learns from and is judged by: scenes without end."""

import functools
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_utils.data.scenes import CLASS_NAMES, MOST_OBJECTS, STUFF, THINGS, Scenes, make_scenes
from course_utils.fast.panoptic import merge_panoptic
from course_utils.metrics.detection import detection_metrics
from course_utils.metrics.panoptic import PanopticCounts, panoptic_counts, panoptic_quality
from course_utils.metrics.semantic import confusion_matrix, iou_per_class
from course_utils.training.semantic import (
    BLOCK,
    HELD_OUT,
    HELD_OUT_SEED,
    TRAINING_SEED,
    Task,
    scene_stock,
)

Batch = tuple[Float[Tensor, "b 3 h w"], list[dict[str, Tensor]]]

WEIGHTS = {"proposal_box": 3.0, "box": 2.0, "mask": 2.0}  # the others count once
SCENES = 12288  # to learn from: a detector sees few objects in each
LEAST_STUFF = 1 / 150  # of a picture; a smaller piece is left void


def weighted_loss(model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
    """The sum of a detector's losses, those of boxes and masks counting more.

    Args:
        model: images and targets to losses by name.
        batch: both.

    Returns:
        The loss.
    """
    losses = model(*batch)
    return sum(WEIGHTS.get(name, 1.0) * loss for name, loss in losses.items())


def detector_task(
    data: str, *, batch_size: int, size: int, seed: int, device: torch.device | str
) -> Task:
    """Scenes for a detector: boxes, labels and masks; judged by COCO's average precision.

    Args:
        data: "scenes"; folders of photos are not read yet.
        batch_size: pictures a step.
        size: height and width of a picture.
        seed: not used, for scenes come in their own order.
        device: where to draw the scenes.

    Returns:
        Batches, and the evaluation on 400 scenes of another seed: "box_ap", "box_ap50", "mask_ap" and
        "mask_ap50".

    Raises:
        ValueError: `data` is something else.
    """
    return _scene_task(data, batch_size, size, device, with_stuff=False)


def panoptic_task(
    data: str, *, batch_size: int, size: int, seed: int, device: torch.device | str
) -> Task:
    """Scenes for a panoptic network: also the class of each pixel, and judged by panoptic quality too.

    Args:
        data, batch_size, size, seed, device: as in `detector_task`.

    Returns:
        Batches, and the evaluation: that of `detector_task`, "pq", "sq", "rq" and "mean_iou" of all pixels.

    Raises:
        ValueError: `data` is something else than "scenes".
    """
    return _scene_task(data, batch_size, size, device, with_stuff=True)


def predict_panoptic(prediction: dict[str, Tensor]) -> Int64[Tensor, "h w"]:
    """One map out of what a `PanopticFPN` says about a scene: objects first, then stuff where there is room.

    Args:
        prediction: for one image, with "masks", "labels", "scores" and the "semantic" class scores.

    Returns:
        `1000 * class + number`, 0 where nothing was sure enough.
    """
    semantic = prediction["semantic"].argmax(dim=0)
    return merge_panoptic(
        prediction["masks"],
        prediction["labels"],
        prediction["scores"],
        semantic,
        stuff=STUFF,
        stuff_area=round(LEAST_STUFF * semantic.numel()),
    )


def _scene_task(
    data: str, batch_size: int, size: int, device: torch.device | str, with_stuff: bool
) -> Task:
    if data != "scenes":
        raise ValueError(f'data: expected "scenes", the only source with masks here, got {data!r}')

    def draw(first: int, count: int, world: int) -> Scenes:
        numbers = range(first, first + count)
        return make_scenes(numbers, seed=world, size=(size, size), device=device)

    def stored(first: int) -> tuple[Tensor, ...]:
        scenes = draw(first, BLOCK, TRAINING_SEED)
        images = (scenes.images * 255).round().byte()
        return images, scenes.boxes, scenes.labels, _slots(scenes), scenes.semantic.byte()

    stock = scene_stock(stored, batch_size, device, SCENES)

    def batches(step: int) -> Batch:
        (images, boxes, labels, slots, semantic), mirrored = stock(step)
        maps = torch.cat([images, slots[:, None], semantic[:, None]], dim=1)
        maps = torch.where(mirrored[:, None, None, None], maps.flip(-1), maps)
        other_side = torch.stack(
            [size - boxes[..., 2], boxes[..., 1], size - boxes[..., 0], boxes[..., 3]], -1
        )
        boxes = torch.where(mirrored[:, None, None], other_side, boxes)
        targets = _targets(boxes, labels, maps[:, 3], maps[:, 4].long() if with_stuff else None)
        return maps[:, :3] / 255, targets

    def evaluate(model: nn.Module) -> dict[str, float]:
        parts = (draw(first, 50, HELD_OUT_SEED) for first in range(0, HELD_OUT, 50))
        return scene_metrics(model, parts)

    return Task(CLASS_NAMES if with_stuff else CLASS_NAMES[: len(THINGS) + 1], batches, evaluate)


def _slots(scenes: Scenes) -> Tensor:
    """All masks of a scene in one map, as they never overlap: 1 for the first object, 2 for the next, ..."""
    number = torch.arange(1, MOST_OBJECTS + 1, device=scenes.masks.device)
    return (scenes.masks * number[:, None, None]).sum(dim=1).byte()


def _targets(
    boxes: Tensor, labels: Tensor, slots: Tensor, semantic: Tensor | None
) -> list[dict[str, Tensor]]:
    """For each scene its objects, without the unused slots."""
    number = torch.arange(1, MOST_OBJECTS + 1, device=slots.device)
    masks = slots[:, None] == number[:, None, None]
    counts = (labels > 0).sum(dim=1).tolist()
    targets = [
        {"boxes": boxes[k, :n], "labels": labels[k, :n], "masks": masks[k, :n]}
        for k, n in enumerate(counts)
    ]
    if semantic is not None:
        targets = [one | {"semantic": labels} for one, labels in zip(targets, semantic)]
    return targets


def scene_metrics(model: nn.Module, parts: Iterator[Scenes]) -> dict[str, float]:
    """How good a detector or panoptic network is on scenes.

    Args:
        model: in evaluation mode.
        parts: batches of scenes on its device.

    Returns:
        Average precision of boxes and masks; of a panoptic network also PQ, SQ, RQ and mean IoU.
    """
    predictions, targets, counts, matrix = [], [], [], 0
    with torch.no_grad():
        for scenes in parts:
            found = model(scenes.images)
            predictions += found
            targets += _targets(scenes.boxes, scenes.labels, _slots(scenes), None)
            if "semantic" in found[0]:
                panoptic = torch.stack([predict_panoptic(one) for one in found])
                counts.append(panoptic_counts(panoptic, scenes.panoptic, len(CLASS_NAMES)))
                labels = torch.stack([one.pop("semantic") for one in found]).argmax(dim=1)
                matrix = confusion_matrix(labels, scenes.semantic, len(CLASS_NAMES)) + matrix
    metrics = {}
    for kind, iou_type in (("box", "boxes"), ("mask", "masks")):
        precision = detection_metrics(predictions, targets, iou_type=iou_type)
        metrics |= {f"{kind}_ap": precision.ap, f"{kind}_ap50": precision.ap50}
    if counts:
        total = functools.reduce(PanopticCounts.__add__, counts)
        quality = panoptic_quality(total, stuff=STUFF).all._asdict()
        metrics |= {name: float(value) for name, value in quality.items()}
        metrics["mean_iou"] = float(iou_per_class(matrix)[matrix.sum(dim=1) > 0].mean())
    return metrics
