"""Detectors and panoptic networks: losses, metrics, and the tasks on scenes or a folder of photographs."""

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torchvision.transforms import v2

from course_utils.core import VOID
from course_utils.data.collate import Batch
from course_utils.data.sample import Sample
from course_utils.data.scenes import STUFF
from course_utils.fast.panoptic import merge_panoptic
from course_utils.metrics.detection import detection_metrics
from course_utils.metrics.panoptic import PanopticCounts, panoptic_counts, panoptic_quality
from course_utils.metrics.semantic import confusion_matrix, iou_per_class
from course_utils.training.batches import Batches, Task, open_data, same_size

SCENES = 12288  # in the training set; each has few objects
LEAST_STUFF = 1 / 150  # of an image; a stuff class with fewer pixels is left void
BOXES = ("boxes", "labels", "iscrowd")  # what every detector learns from
TRUTH = (*BOXES, "masks", "area")  # what the evaluation compares with


def losses(model: nn.Module, batch: Batch) -> dict[str, Float[Tensor, ""]]:
    """A detector's losses by name; crowds are no objects to learn from.

    Args:
        model: a `FasterRCNN`, or a `PanopticNetwork` if the batch has semantic maps.
        batch: images and their objects.
    """
    single = ~batch.objects["iscrowd"]
    objects = {key: rows[single] for key, rows in batch.objects.items()}
    pixels = {} if batch.semantic is None else {"semantic": batch.semantic}
    return model(batch.images, objects, batch.sizes, **pixels)


def weighted_loss(
    model: nn.Module, batch: Batch, weights: Mapping[str, float] = MappingProxyType({})
) -> Float[Tensor, ""]:
    """The weighted sum of a detector's losses.

    Args:
        model, batch: as in `losses`.
        weights: of the losses by name; 1 for those that are not listed.

    Returns:
        The loss.
    """
    return sum(weights.get(name, 1.0) * loss for name, loss in losses(model, batch).items())


def detector_task(
    data: str, *, batch_size: int, size: int, seed: int, workers: int = 0, masks: bool = True
) -> Task:
    """Boxes, labels and masks for a detector; evaluated by COCO's average precision.

    Args:
        data: "scenes" or a folder, see `open_data`.
        batch_size: images per step.
        size: height and width of a training image.
        seed: for the order and the augmentation of photographs; scenes have a fixed order.
        workers: as in `Batches`.
        masks: whether the detector learns masks.

    Returns:
        Batches, and the evaluation on the held-out images, see `instance_metrics`. The classes are things.
    """
    fields = (*BOXES, "masks") if masks else BOXES
    return _task(data, fields, "instances", batch_size, size, seed, workers)


def panoptic_task(data: str, *, batch_size: int, size: int, seed: int, workers: int = 0) -> Task:
    """The same for a panoptic network: also the class of each pixel; evaluated by panoptic quality, too.

    Args:
        data, batch_size, size, seed, workers: as in `detector_task`.

    Returns:
        Batches, and the evaluation. The things are the first classes, and stuff comes after them.
    """
    fields = (*BOXES, "masks", "semantic")
    return _task(data, fields, "panoptic", batch_size, size, seed, workers)


def _task(
    data: str,
    fields: Sequence[str],
    kind: str,
    batch_size: int,
    size: int,
    seed: int,
    workers: int,
) -> Task:
    opened = open_data(data, fields=fields, kinds=[kind], scenes=SCENES, size=size, seed=seed)
    panoptic = kind == "panoptic"
    names, stuff = opened.class_names, opened.stuff
    things = len(names) - 1 - len(stuff)
    if sorted(stuff) != list(range(things + 1, len(names))):
        raise ValueError(
            f"data: expected the categories of things before those of stuff in {data}, got {names[1:]}"
        )
    if panoptic and not things:
        raise ValueError(f"data: expected categories of things in {data}, got only stuff")

    def evaluate(model: nn.Module) -> dict[str, float]:
        return instance_metrics(model, opened.held_out(), size=size, stuff=stuff)

    batches = Batches(opened.views, batch_size, workers)
    return Task(
        names if panoptic else names[: things + 1],
        batches,
        evaluate,
        {"things": things} if panoptic else {},
    )


@torch.no_grad()
def predict(
    model: nn.Module, images: Iterable[Float[Tensor, "3 _ _"]], size: int
) -> Iterator[dict[str, Tensor]]:
    """What a detector or a panoptic network finds in images, in the pixels of the images.

    Args:
        model: in evaluation mode.
        images: RGB in 0..1.
        size: the longer side of an image is resized to so many pixels before.

    Returns:
        For each image "boxes", "labels", "scores" and what the heads add, on the CPU.
    """
    place = next(model.parameters()).device
    for part in same_size(images):
        batch = v2.Resize(None, max_size=size)(torch.stack(part))
        for found in model(batch.to(place)):
            found = {name: rows.cpu() for name, rows in found.items()}
            yield _resize(found, batch.shape[2:], part[0].shape[1:])


def _resize(
    found: dict[str, Tensor], size: Sequence[int], target: Sequence[int]
) -> dict[str, Tensor]:
    """Detections in an image of one (height, width), moved into the same image of another."""
    if tuple(size) == tuple(target):
        return found
    factor = torch.tensor([target[1] / size[1], target[0] / size[0]]).repeat(2)
    found = found | {"boxes": found["boxes"] * factor}
    for name in {"masks", "semantic"} & found.keys():
        grid = found[name].reshape(1, -1, *size).float()
        grid = F.interpolate(grid, tuple(target), mode="nearest-exact").to(found[name].dtype)
        found[name] = grid[0].reshape(*found[name].shape[:-2], *target)
    return found


def predict_panoptic(
    prediction: Mapping[str, Tensor], stuff: Sequence[int] = STUFF
) -> Int64[Tensor, "h w"]:
    """The panoptic map of an image from the output of a `PanopticNetwork`: objects first, then stuff.

    Args:
        prediction: for one image, with "masks", "labels", "scores" and "semantic" class numbers.
        stuff: the numbers of the stuff classes; those of the scenes.

    Returns:
        `1000 * class + number` for each pixel; 0 is void.
    """
    semantic = prediction["semantic"]
    return merge_panoptic(
        prediction["masks"],
        prediction["labels"],
        prediction["scores"],
        semantic,
        stuff=stuff,
        stuff_area=round(LEAST_STUFF * semantic.numel()),
    )


def instance_metrics(
    model: nn.Module, samples: Iterable[Sample], *, size: int, stuff: Sequence[int] = STUFF
) -> dict[str, float]:
    """Metrics of a detector or a panoptic network.

    Args:
        model: in evaluation mode.
        samples: images with their ground truth.
        size: as in `predict`.
        stuff: the numbers of the stuff classes.

    Returns:
        Average precision of boxes and, if the model has them, masks; of a panoptic network also PQ, SQ, RQ,
        and the mean IoU of the classes of its semantic head over all pixels.
    """
    predictions, targets, counts, matrix = [], [], [], 0
    samples, others = itertools.tee(samples)
    images = (sample.image for sample in others)
    for found, sample in zip(predict(model, images, size), samples):
        predictions.append(found)
        fields = {name: getattr(sample, name) for name in TRUTH}
        targets.append({name: rows for name, rows in fields.items() if rows is not None})
        if "semantic" in found and sample.panoptic is not None:
            counts.append(_panoptic_counts(predict_panoptic(found, stuff), sample))
            channel = model.channel.cpu()
            labels, truth = channel[found["semantic"]], channel[sample.semantic]
            matrix = matrix + confusion_matrix(labels, truth, len(model.semantic_classes))
    metrics = {}
    for kind, iou_type in (("box", "boxes"), ("mask", "masks")):
        if iou_type in predictions[0] and iou_type in targets[0]:
            precision = detection_metrics(predictions, targets, iou_type=iou_type)
            metrics |= {f"{kind}_ap": precision.ap, f"{kind}_ap50": precision.ap50}
    if counts:
        total = functools.reduce(PanopticCounts.__add__, counts)
        quality = panoptic_quality(total, stuff=stuff).all._asdict()
        metrics |= {name: float(value) for name, value in quality.items()}
        metrics["mean_iou"] = float(iou_per_class(matrix)[matrix.sum(dim=1) > 0].mean())
    return metrics


def _panoptic_counts(predicted: Int64[Tensor, "h w"], sample: Sample) -> PanopticCounts:
    """The counts of an image; a crowd forgives segments of its class and is never missed."""
    crowd = torch.zeros_like(predicted, dtype=torch.bool)
    if sample.iscrowd is not None and sample.masks is not None:
        crowd = sample.masks[sample.iscrowd].any(dim=0)
        crowd &= (sample.panoptic == 0) & (sample.semantic != VOID)
    truth = torch.where(crowd, 1000 * sample.semantic, sample.panoptic)
    return panoptic_counts(predicted, truth, len(sample.class_names), crowd=crowd)
