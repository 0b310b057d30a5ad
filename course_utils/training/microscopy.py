"""The task of the U-Net for cell nuclei: training set, network, loss, and evaluation on held-out nuclei."""

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
from course_utils.training.batches import Task

SMALLEST = 20  # smaller connected components are ignored; the smallest nucleus has 25 pixels


def nuclei_task(
    data: str = "nuclei", *, batch_size: int, size: int, seed: int, workers: int = 0
) -> Task:
    """The microscopy image: its left three quarters are the training set, the rest is for validation.

    Args:
        data: "nuclei"; there is only this image.
        batch_size: the number of crops per batch.
        size: height and width of a crop in pixels.
        seed: for the random crops and their elastic deformation.
        workers: 0; the crops are made by this process.

    Returns:
        Batches with a weight for each pixel, and the evaluation.

    Raises:
        ModuleNotFoundError: the package that contains the image is not installed.
    """
    if data != "nuclei":
        raise ValueError(f'data: expected "nuclei", got {data!r}')
    if workers:
        raise ValueError(
            f"workers: expected 0, got {workers}; the crops of one image need no workers"
        )
    _, held_out = nuclei()

    def evaluate(model: nn.Module) -> dict[str, float]:
        device = next(model.parameters()).device
        probability = nucleus_probability(model, held_out.image.to(device))
        return nuclei_metrics(probability, held_out.instances.to(device))

    return Task(CLASS_NAMES, nuclei_batches(batch_size, size, seed=seed), evaluate)


def nuclei_unet(classes: int, skips: bool = True) -> UNet:
    """A U-Net for the nuclei, at half the resolution and three levels deep.

    With this depth the receptive field is larger than a nucleus.

    Args:
        classes: the number of classes.
        skips: with or without skip connections, as in `UNet`.

    Returns:
        The network, with random weights.

    >>> nuclei_unet(2)(torch.zeros(1, 3, 64, 48)).shape
    torch.Size([1, 2, 64, 48])
    """
    return UNet(classes=classes, width=16, depth=3, stride=2, skips=skips)


def weighted_pixel_loss(model: nn.Module, batch: WeightedBatch) -> Float[Tensor, ""]:
    """The cross-entropy of each pixel times its weight, averaged over all pixels of the batch.

    Args:
        model: maps images to scores per class and pixel.
        batch: images, labels, and the weight of each pixel.

    Returns:
        The loss.

    Source: Ronneberger et al., "U-Net", MICCAI 2015, equation 1.
    """
    images, labels, weights = batch
    return (weights * cross_entropy(model(images), labels, reduction="none")).mean()


def nucleus_probability(
    model: nn.Module, image: Float[Tensor, "3 h w"], *, tile: int = 128, overlap: int = 32
) -> Float[Tensor, "h w"]:
    """The predicted probability that a pixel belongs to a nucleus.

    It is the mean over the eight rotations and reflections of the image (test-time augmentation), each
    predicted in overlapping tiles.

    Args:
        model: the network, in evaluation mode.
        image: the square root of the brightness, as returned by `nuclei`.
        tile, overlap: as in `predict_in_tiles`.

    Returns:
        A probability per pixel.
    """

    def predict(view: Float[Tensor, "3 h w"]) -> Float[Tensor, "2 h w"]:
        return predict_in_tiles(model, view, tile=tile, overlap=overlap).softmax(dim=0)

    with torch.no_grad():
        return mean_over_views(predict, image)[1]


def nuclei_metrics(
    probability: Float[Tensor, "h w"], instances: Tensor, threshold: float = 0.5
) -> dict[str, float]:
    """The quality of the predicted nucleus pixels, and of the predicted nuclei.

    Args:
        probability: the predicted probability of nucleus per pixel.
        instances: the ground-truth nuclei, numbered from 1; 0 is background.
        threshold: a pixel with a higher probability is predicted as nucleus.

    Returns:
        `foreground_iou`: the IoU of predicted and ground-truth nucleus pixels. `count`: the number of
        predicted nuclei (connected components). `f1`: 2 TP / (predicted + ground truth), where TP is the
        number of predicted nuclei matched with a ground-truth nucleus at an IoU above 0.5.
    """
    foreground = probability > threshold
    matrix = confusion_matrix(foreground.long(), (instances > 0).long(), classes=2)
    predicted = label_components(foreground, smallest=SMALLEST)
    n_predicted, n_truth = int(predicted.max()), len(instances.unique()) - 1
    return {
        "foreground_iou": float(iou_per_class(matrix)[1]),
        "count": float(n_predicted),
        "f1": 2 * len(match_instances(predicted, instances)) / (n_predicted + n_truth),
    }
