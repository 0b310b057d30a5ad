"""What the U-Net for cell nuclei learns from and is judged by."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_utils.data.microscopy import (
    CLASS_NAMES,
    WeightedBatch,
    label_components,
    nuclei,
    nuclei_batches,
)
from course_utils.metrics.instances import match_instances
from course_utils.metrics.semantic import confusion_matrix, iou_per_class
from course_utils.models.tiles import mean_over_views, predict_in_tiles
from course_utils.models.unet import UNet
from course_utils.ops.losses import cross_entropy
from course_utils.training.semantic import Task

SMALLEST = 20  # pixels; the smallest nucleus in the picture has 25


def nuclei_task(
    data: str = "nuclei", *, batch_size: int, size: int, seed: int, device: torch.device | str
) -> Task:
    """The microscope's picture: learn from the left three quarters, be judged by the rest.

    Args:
        data: "nuclei"; there is one picture only.
        batch_size: squares a step.
        size: height and width of a square.
        seed: for the squares and how they are bent.
        device: where to judge; the squares are drawn on the CPU.

    Returns:
        Batches with a weight for each pixel, and the evaluation.

    Raises:
        ValueError: another word for `data`, or squares that do not fit into the picture.
        ModuleNotFoundError: the package that carries the picture is not installed.
    """
    if data != "nuclei":
        raise ValueError(f'data: expected "nuclei", got {data!r}')
    _, judge = nuclei()
    image, truth = judge.image.to(device), judge.instances.to(device)

    def evaluate(model: nn.Module) -> dict[str, float]:
        return nuclei_metrics(nucleus_probability(model, image), truth)

    return Task(CLASS_NAMES, nuclei_batches(batch_size, size, seed=seed), evaluate)


def nuclei_unet(classes: int, skips: bool = True) -> UNet:
    """A U-Net for the nuclei: three levels deep, which sees further than a nucleus is long, at half the size.

    Args:
        classes: how many scores a pixel gets.
        skips: as in `UNet`.

    Returns:
        The network, with random weights.

    >>> nuclei_unet(2)(torch.zeros(1, 3, 64, 48)).shape
    torch.Size([1, 2, 64, 48])
    """
    return UNet(classes=classes, width=16, depth=3, stride=2, skips=skips)


def weighted_pixel_loss(model: nn.Module, batch: WeightedBatch) -> Float[Tensor, ""]:
    """Cross-entropy of each pixel times its weight, averaged over all pixels.

    Args:
        model: images to one score a class and pixel.
        batch: images, labels, weights.

    Returns:
        The loss.
    """
    images, labels, weights = batch
    return (weights * cross_entropy(model(images), labels, reduction="none")).mean()


def nucleus_probability(
    model: nn.Module, image: Float[Tensor, "3 h w"], *, tile: int = 128, overlap: int = 32
) -> Float[Tensor, "h w"]:
    """How sure a network is that a pixel is nucleus: the mean over eight views, each predicted in tiles.

    Args:
        model: in evaluation mode.
        image: the square root of the brightness, as `nuclei` gives it.
        tile, overlap: see `predict_in_tiles`.

    Returns:
        0 to 1 for each pixel.
    """

    def predict(view: Float[Tensor, "3 h w"]) -> Float[Tensor, "2 h w"]:
        return predict_in_tiles(model, view, tile=tile, overlap=overlap).softmax(dim=0)

    with torch.no_grad():
        return mean_over_views(predict, image)[1]


def nuclei_metrics(
    probability: Float[Tensor, "h w"], instances: Tensor, threshold: float = 0.5
) -> dict[str, float]:
    """Are the pixels right, and are the nuclei?

    Args:
        probability: of nucleus, for each pixel.
        instances: the true nuclei.
        threshold: a pixel above it is nucleus.

    Returns:
        `foreground_iou` of all nucleus pixels together; `count` of islands; and `f1`, the part of the nuclei,
        found and true, that have a partner with IoU above 0.5.
    """
    found = probability > threshold
    matrix = confusion_matrix(found.long(), (instances > 0).long(), classes=2)
    islands = label_components(found, smallest=SMALLEST)
    count, truths = int(islands.max()), len(instances.unique()) - 1
    return {
        "foreground_iou": float(iou_per_class(matrix)[1]),
        "count": float(count),
        "f1": 2 * len(match_instances(islands, instances)) / (count + truths),
    }
