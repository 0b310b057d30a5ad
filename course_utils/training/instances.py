"""Training data and evaluation of detectors with masks and of panoptic networks, on generated scenes."""

import functools
from collections.abc import Iterable, Mapping

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

SCENES = 12288  # in the training set; each has few objects
LEAST_STUFF = 1 / 150  # of an image; a stuff class with fewer pixels is left void


def weighted_loss(
    model: nn.Module, batch: Batch, weights: Mapping[str, float]
) -> Float[Tensor, ""]:
    """The weighted sum of a detector's losses.

    Args:
        model: images and targets to losses by name.
        batch: both.
        weights: of the losses by name; 1 for those that are not listed.

    Returns:
        The loss.
    """
    losses = model(*batch)
    return sum(weights.get(name, 1.0) * loss for name, loss in losses.items())


def detector_task(
    data: str, *, batch_size: int, size: int, seed: int, device: torch.device | str
) -> Task:
    """Scenes for a detector: boxes, labels and masks; evaluated by COCO's average precision.

    Args:
        data: "scenes"; folders of photographs are not supported yet.
        batch_size: images per step.
        size: height and width of an image.
        seed: not used: the scenes have a fixed order.
        device: where to generate the scenes.

    Returns:
        Batches, and the evaluation on 400 held-out scenes: "box_ap", "box_ap50", "mask_ap", "mask_ap50".
    """
    return _scene_task(data, batch_size, size, device, with_stuff=False)


def panoptic_task(
    data: str, *, batch_size: int, size: int, seed: int, device: torch.device | str
) -> Task:
    """Scenes for a panoptic network: also the class of each pixel; evaluated by panoptic quality, too.

    Args:
        data, batch_size, size, seed, device: as in `detector_task`.

    Returns:
        Batches, and the evaluation: that of `detector_task`, and "pq", "sq", "rq" and "mean_iou".
    """
    return _scene_task(data, batch_size, size, device, with_stuff=True)


def predict_panoptic(prediction: dict[str, Tensor]) -> Int64[Tensor, "h w"]:
    """The panoptic map of a scene from the output of a `PanopticNetwork`: objects first, then stuff.

    Args:
        prediction: for one image, with "masks", "labels", "scores" and "semantic" class numbers.

    Returns:
        `1000 * class + number` for each pixel; 0 is void.
    """
    semantic = prediction["semantic"]
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
        raise ValueError(
            f'data: expected "scenes", the only training set with masks so far, got {data!r}'
        )

    def draw(first: int, count: int, world: int) -> Scenes:
        numbers = range(first, first + count)
        return make_scenes(numbers, seed=world, size=(size, size), device=device)

    def stored(first: int) -> tuple[Tensor, ...]:
        scenes = draw(first, BLOCK, TRAINING_SEED)
        images = (scenes.images * 255).round().byte()
        return images, scenes.boxes, scenes.labels, _instance_map(scenes), scenes.semantic.byte()

    stock = scene_stock(stored, batch_size, device, SCENES)

    def batches(step: int) -> Batch:
        (images, boxes, labels, instance_map, semantic), mirrored = stock(step)
        maps = torch.cat([images, instance_map[:, None], semantic[:, None]], dim=1)
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


def _instance_map(scenes: Scenes) -> Tensor:
    """The masks of a scene, which never overlap, as one map: 1 for the first object, 2 for the next, ..."""
    number = torch.arange(1, MOST_OBJECTS + 1, device=scenes.masks.device)
    return (scenes.masks * number[:, None, None]).sum(dim=1).byte()


def _targets(
    boxes: Tensor, labels: Tensor, instance_map: Tensor, semantic: Tensor | None
) -> list[dict[str, Tensor]]:
    """The objects of each scene, without the unused rows."""
    number = torch.arange(1, MOST_OBJECTS + 1, device=instance_map.device)
    masks = instance_map[:, None] == number[:, None, None]
    counts = (labels > 0).sum(dim=1).tolist()
    targets = [
        {"boxes": boxes[k, :n], "labels": labels[k, :n], "masks": masks[k, :n]}
        for k, n in enumerate(counts)
    ]
    if semantic is not None:
        targets = [one | {"semantic": labels} for one, labels in zip(targets, semantic)]
    return targets


def scene_metrics(model: nn.Module, parts: Iterable[Scenes]) -> dict[str, float]:
    """Metrics of a detector or a panoptic network on scenes.

    Args:
        model: in evaluation mode.
        parts: batches of scenes on its device.

    Returns:
        Average precision of boxes and masks; of a panoptic network also PQ, SQ, RQ, and the mean IoU of the
        classes of its semantic head over all pixels.
    """
    predictions, targets, counts, matrix = [], [], [], 0
    with torch.no_grad():
        for scenes in parts:
            detections = model(scenes.images)
            predictions += detections
            targets += _targets(scenes.boxes, scenes.labels, _instance_map(scenes), None)
            if "semantic" in detections[0]:
                panoptic = torch.stack([predict_panoptic(one) for one in detections])
                counts.append(panoptic_counts(panoptic, scenes.panoptic, len(CLASS_NAMES)))
                labels = torch.stack([one["semantic"] for one in detections])
                classes = len(model.semantic_classes)
                matrix = matrix + confusion_matrix(
                    model.channel[labels], model.channel[scenes.semantic], classes
                )
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
