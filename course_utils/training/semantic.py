"""Segmentation networks: the loss, the metrics, and the task on scenes or on a folder of photographs."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_utils.core import VOID
from course_utils.data.collate import Batch, collate
from course_utils.data.transforms import fit_into
from course_utils.metrics.semantic import confusion_matrix, iou_per_class, pixel_accuracy
from course_utils.ops.losses import cross_entropy
from course_utils.training.batches import Batches, Task, open_data

SCENES = 4096  # in the training set


def pixel_loss(model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
    """Cross-entropy, averaged over all pixels; void pixels count as zero.

    The divisor is the same for every batch, so that the average of the losses of several processes with equal
    shares is the loss of the whole batch.

    Args:
        model: images to one score per class and pixel.
        batch: images and their semantic maps.
    """
    return cross_entropy(model(batch.images), batch.semantic, reduction="none").mean()


def void_contours(labels: Int64[Tensor, "b h w"]) -> Int64[Tensor, "b h w"]:
    """Label maps with void along every border between classes, as in VOC's annotations.

    A pixel on a border shows a mixture of two classes, and annotators do not agree on its label.

    Args:
        labels: the class of each pixel.

    Returns:
        The same, but 255 wherever one of the eight neighbours has another class.

    >>> void_contours(torch.tensor([[[1, 1, 1, 2, 2, 2]]]))
    tensor([[[  1,   1, 255, 255,   2,   2]]])
    """
    classes = labels[:, None].float()
    highest = F.max_pool2d(classes, 3, stride=1, padding=1)
    lowest = -F.max_pool2d(-classes, 3, stride=1, padding=1)
    return torch.where((highest == lowest)[:, 0], labels, VOID)


def semantic_metrics(model: nn.Module, batches: Iterable[Batch], classes: int) -> dict[str, float]:
    """Mean IoU and pixel accuracy over many batches, from one confusion matrix.

    Args:
        model: images to one score per class and pixel, in evaluation mode.
        batches: images and their semantic maps, on the model's device.
        classes: number of classes.

    Returns:
        `mean_iou` and `pixel_accuracy` with void contours, and `mean_iou_with_contours` over all pixels. The
        means are over the classes that occur in the labels (scenes have no background).
    """
    inside = everywhere = 0
    with torch.no_grad():
        for batch in batches:
            predicted = model(batch.images).argmax(dim=1)
            contours = void_contours(batch.semantic)
            inside = inside + confusion_matrix(predicted, contours, classes)
            everywhere = everywhere + confusion_matrix(predicted, batch.semantic, classes)

    def mean_iou(matrix: Tensor) -> float:
        return float(iou_per_class(matrix)[matrix.sum(dim=1) > 0].mean())

    return {
        "mean_iou": mean_iou(inside),
        "mean_iou_with_contours": mean_iou(everywhere),
        "pixel_accuracy": float(pixel_accuracy(inside)),
    }


def semantic_task(data: str, *, batch_size: int, size: int, seed: int, workers: int = 0) -> Task:
    """Scenes, or a folder of photographs with label maps.

    Of a folder with COCO's panoptic annotations these are read, which label every pixel; of one with objects
    only, all other pixels are background.

    Args:
        data: "scenes" or a folder, see `open_data`.
        batch_size: images per step.
        size: height and width of a training image.
        seed: for the order and the augmentation of photographs; scenes have a fixed order.
        workers: as in `Batches`.

    Returns:
        Batches, and the evaluation on the held-out images.
    """
    opened = open_data(
        data,
        fields=("semantic",),
        kinds=("panoptic", "instances"),
        scenes=SCENES,
        size=size,
        seed=seed,
    )
    classes = len(opened.class_names)

    def evaluate(model: nn.Module) -> dict[str, float]:
        place = next(model.parameters()).device
        samples = (sample._replace(boxes=None, masks=None) for sample in opened.held_out())
        batches = (collate([fit_into(sample, size)], 1).to(place) for sample in samples)
        return semantic_metrics(model, batches, classes)

    return Task(opened.class_names, Batches(opened.views, batch_size, workers), evaluate)
