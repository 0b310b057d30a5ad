"""Training data and evaluation of segmentation networks, on generated scenes or a folder of photographs."""

import random
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from course_utils.core import VOID
from course_utils.data import coco, voc
from course_utils.data.pictures import Pictures
from course_utils.data.scenes import CLASS_NAMES, make_scenes
from course_utils.metrics.semantic import confusion_matrix, iou_per_class, pixel_accuracy
from course_utils.ops.losses import cross_entropy

Batch = tuple[Float[Tensor, "b 3 h w"], Int64[Tensor, "b h w"]]  # labels: 255 is void

TRAINING_SEED, HELD_OUT_SEED, HELD_OUT = 0, 1, 400
SCENES = 4096  # in the training set
BLOCK = 64  # scenes generated at a time, which is faster than one by one
SMALLEST_CROP = 0.5  # as a fraction of the shorter side of a photograph


class Task(NamedTuple):
    """Training data and evaluation.

    Attributes:
        class_names: the name of each class number.
        batches: the batch of a training step; the same step always gives the same batch.
        evaluate: metrics of a model on held-out images.
    """

    class_names: tuple[str, ...]
    batches: Callable[[int], Batch]
    evaluate: Callable[[nn.Module], dict[str, float]]


def pixel_loss(model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
    """Cross-entropy, averaged over all pixels; void pixels count as zero.

    The divisor is the same for every batch, so that the average of the losses of several processes with equal
    shares is the loss of the whole batch.

    Args:
        model: images to one score per class and pixel.
        batch: images and labels.
    """
    images, labels = batch
    return cross_entropy(model(images), labels, reduction="none").mean()


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
        batches: images and labels, on the model's device.
        classes: number of classes.

    Returns:
        `mean_iou` and `pixel_accuracy` with void contours, and `mean_iou_with_contours` over all pixels. The
        means are over the classes that occur in the labels (scenes have no background).
    """
    inside = everywhere = 0
    with torch.no_grad():
        for images, labels in batches:
            predicted = model(images).argmax(dim=1)
            inside = inside + confusion_matrix(predicted, void_contours(labels), classes)
            everywhere = everywhere + confusion_matrix(predicted, labels, classes)

    def mean_iou(matrix: Tensor) -> float:
        return float(iou_per_class(matrix)[matrix.sum(dim=1) > 0].mean())

    return {
        "mean_iou": mean_iou(inside),
        "mean_iou_with_contours": mean_iou(everywhere),
        "pixel_accuracy": float(pixel_accuracy(inside)),
    }


def semantic_task(
    data: str, *, batch_size: int, size: int, seed: int, device: torch.device | str
) -> Task:
    """Scenes, or a folder of photographs with label maps.

    Args:
        data: "scenes", or a folder in VOC's or COCO's layout.
        batch_size: images per step.
        size: height and width of a training image.
        seed: for the order and the crops of photographs; scenes have a fixed order.
        device: where to generate the scenes.

    Returns:
        Batches, and the evaluation on 400 held-out scenes, or on the first 400 photographs of the `val` list.
    """
    if data == "scenes":
        return _scene_task(batch_size, size, device)
    learn, judge = _open_folder(Path(data), "train"), _open_folder(Path(data), "val")
    if learn.class_names != judge.class_names:
        raise ValueError(
            f"data: expected the same classes in the training and validation sets of {data}"
        )
    classes = len(learn.class_names)

    def evaluate(model: nn.Module) -> dict[str, float]:
        place = next(model.parameters()).device
        pairs = (_resize(*judge[k], size) for k in range(min(HELD_OUT, len(judge))))
        batches = ((image[None].to(place), labels[None].to(place)) for image, labels in pairs)
        return semantic_metrics(model, batches, classes)

    return Task(learn.class_names, _photo_batches(learn, batch_size, size, seed), evaluate)


def _scene_task(batch_size: int, size: int, device: torch.device | str) -> Task:
    def draw(first: int, count: int, world: int) -> Batch:
        numbers = range(first, first + count)
        scenes = make_scenes(numbers, seed=world, size=(size, size), device=device)
        return scenes.images, scenes.semantic

    def stored(first: int) -> tuple[Tensor, ...]:
        images, labels = draw(first, BLOCK, TRAINING_SEED)
        return (images * 255).round().byte(), labels.byte()

    stock = scene_stock(stored, batch_size, device, SCENES)

    def batches(step: int) -> Batch:
        (images, labels), mirrored = stock(step)
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        labels = torch.where(mirrored[:, None, None], labels.flip(-1), labels)
        return images / 255, labels.long()

    def evaluate(model: nn.Module) -> dict[str, float]:
        parts = (draw(first, 50, HELD_OUT_SEED) for first in range(0, HELD_OUT, 50))
        return semantic_metrics(model, parts, len(CLASS_NAMES))

    return Task(CLASS_NAMES, batches, evaluate)


def scene_stock(
    draw: Callable[[int], tuple[Tensor, ...]],
    batch_size: int,
    device: torch.device | str,
    scenes: int,
) -> Callable[[int], tuple[list[Tensor], Bool[Tensor, " b"]]]:
    """Scenes 0, 1, 2, ..., generated when they are first needed and kept in memory.

    After the last scene the next epoch begins; in every other epoch the scenes are flipped horizontally.

    Args:
        draw: generates a block of scenes from this number on, in compact types.
        batch_size: scenes per step.
        device: where they are kept.
        scenes: size of the training set.

    Returns:
        The scenes of a step, and which of them are to be flipped.
    """
    kept: list[Tensor] = []
    drawn: set[int] = set()

    def stock(step: int) -> tuple[list[Tensor], Tensor]:
        places = torch.arange(step * batch_size, (step + 1) * batch_size, device=device)
        numbers, mirrored = places % scenes, places // scenes % 2 == 1
        for block in set((numbers // BLOCK).tolist()) - drawn:
            parts = draw(block * BLOCK)
            if not kept:
                kept.extend(part.new_empty(scenes, *part.shape[1:]) for part in parts)
            for rows, part in zip(kept, parts, strict=True):
                rows[block * BLOCK : (block + 1) * BLOCK] = part
            drawn.add(block)
        return [rows[numbers] for rows in kept], mirrored

    return stock


def _open_folder(folder: Path, part: str) -> Pictures:
    """The training or validation set of a folder in either layout."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f'data: expected "scenes" or a folder, but there is no folder {folder}'
        )
    if (folder / "JPEGImages").is_dir():
        return voc.read(folder, part)
    for kind, read in (("instances", coco.read), ("panoptic", coco.read_panoptic)):
        if found := sorted((folder / "annotations").glob(f"{kind}_{part}*.json")):
            return read(folder, found[0].stem.removeprefix(f"{kind}_"))
    raise ValueError(
        f"data: {folder} has neither JPEGImages, as VOC does, "
        f"nor annotations/instances_{part}*.json, as COCO does"
    )


def _photo_batches(
    pictures: Sequence[tuple[Tensor, Tensor]], batch_size: int, size: int, seed: int
) -> Callable[[int], Batch]:
    """Every photograph once per epoch, in an order drawn for each epoch, randomly cropped and flipped."""

    @lru_cache(maxsize=2)
    def order(turn: int) -> list[int]:
        return random.Random(f"{seed}: round {turn}").sample(range(len(pictures)), len(pictures))

    def picture(place: int) -> tuple[Tensor, Tensor]:
        turn, number = divmod(place, len(pictures))
        draw = random.Random(f"{seed}: picture {place}")
        return _random_crop(*pictures[order(turn)[number]], size, draw)

    def batches(step: int) -> Batch:
        pairs = [picture(step * batch_size + k) for k in range(batch_size)]
        images, labels = zip(*pairs, strict=True)
        return torch.stack(images), torch.stack(labels)

    return batches


def _random_crop(
    image: Float[Tensor, "3 h w"], labels: Int64[Tensor, "h w"], size: int, draw: random.Random
) -> tuple[Float[Tensor, "3 s s"], Int64[Tensor, "s s"]]:
    """A random square of the photograph, resized, and flipped horizontally with probability 0.5."""
    height, width = labels.shape
    side = round(min(height, width) * draw.uniform(SMALLEST_CROP, 1))
    top, left = draw.randint(0, height - side), draw.randint(0, width - side)
    rows, columns = slice(top, top + side), slice(left, left + side)
    image, labels = _resize(image[:, rows, columns], labels[rows, columns], size)
    return (image.flip(-1), labels.flip(-1)) if draw.random() < 0.5 else (image, labels)


def _resize(
    image: Float[Tensor, "3 h w"], labels: Int64[Tensor, "h w"], size: int
) -> tuple[Float[Tensor, "3 h2 w2"], Int64[Tensor, "h2 w2"]]:
    """Resize the shorter side to `size` pixels: bilinear for the image, nearest-neighbour for the labels."""
    shape = [round(side * size / min(labels.shape)) for side in labels.shape]
    image = F.interpolate(image[None], shape, mode="bilinear", antialias=True)[0]
    labels = F.interpolate(labels[None, None].float(), shape, mode="nearest-exact")[0, 0].long()
    return image, labels
