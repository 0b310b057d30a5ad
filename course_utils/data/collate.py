"""From samples to the batch that models take: padded images, and one list with the objects of all images."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from course_utils.core import VOID
from course_utils.data.sample import Sample

Objects = Mapping[str, Tensor]  # "image", "boxes", "labels", ...: one row per object of the batch

DIVISOR = 32  # the coarsest stride, so that each level of a pyramid is half as large as the last


class Batch(NamedTuple):
    """Some images with their ground truth, in the one form in which models, losses and metrics take it.

    An object belongs to the image whose number stands in its row of "image". There are no empty rows, so the
    images of a batch may have any number of objects.

    Attributes:
        images: RGB in 0..1, padded with zeros on the right and at the bottom.
        objects: "image", "boxes", "labels", "iscrowd" and "masks" of all objects; only those that the data
            set has.
        sizes: height and width of each image without its padding.
        semantic: the class of each pixel; 255 in the padding.
    """

    images: Float[Tensor, "b 3 h w"]
    objects: Objects | None = None
    sizes: Int64[Tensor, "b 2"] | None = None
    semantic: Int64[Tensor, "b h w"] | None = None

    def part(self, rows: slice) -> "Batch":
        """Consecutive images of the batch, and their objects."""
        objects = self.objects
        if objects is not None:
            image = objects["image"]
            mine = (image >= rows.start) & (image < rows.stop)
            objects = {key: values[mine] for key, values in objects.items()}
            objects["image"] = image[mine] - rows.start
        sizes = None if self.sizes is None else self.sizes[rows]
        semantic = None if self.semantic is None else self.semantic[rows]
        return Batch(self.images[rows], objects, sizes, semantic)

    def to(self, device: torch.device | str) -> "Batch":
        """The batch with its tensors on a device; sizes stay on the CPU, where boxes are clipped to them."""
        objects = self.objects and {key: rows.to(device) for key, rows in self.objects.items()}
        semantic = None if self.semantic is None else self.semantic.to(device)
        return Batch(self.images.to(device), objects, self.sizes, semantic)


def collate(samples: Sequence[Sample], divisor: int = DIVISOR) -> Batch:
    """Put samples into a batch.

    Args:
        samples: images of any size, with the ground truth that the training needs: "boxes" of all of them or
            of none, and the same for "masks" and "semantic".
        divisor: the height and the width of the padded images are multiples of this number.

    Returns:
        The batch. "iscrowd" is False for the objects of a data set without crowds.

    >>> from course_utils.data.scenes import make_scene
    >>> batch = collate([make_scene(3, size=(48, 64)), make_scene(4, size=(64, 40))])
    >>> batch.images.shape, batch.sizes.tolist(), batch.objects["image"].tolist()
    (torch.Size([2, 3, 64, 64]), [[48, 64], [64, 40]], [0, 0, 1, 1, 1])
    """
    sizes = torch.tensor([sample.image.shape[1:] for sample in samples])
    height, width = (-(-int(side) // divisor) * divisor for side in sizes.amax(dim=0))

    def pad(grid: Tensor, value: int = 0) -> Tensor:
        below, right = height - grid.shape[-2], width - grid.shape[-1]
        return F.pad(grid, (0, right, 0, below), value=value) if below or right else grid

    images = torch.stack([pad(sample.image) for sample in samples])
    objects = semantic = None
    if samples[0].boxes is not None:
        objects = flatten_targets([_objects(sample, pad) for sample in samples])
    if samples[0].semantic is not None:
        semantic = torch.stack([pad(sample.semantic, VOID) for sample in samples])
    return Batch(images, objects, sizes, semantic)


def _objects(sample: Sample, pad: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    crowd = sample.iscrowd
    if crowd is None:
        crowd = torch.zeros(len(sample.labels), dtype=torch.bool)
    objects = {"boxes": sample.boxes, "labels": sample.labels, "iscrowd": crowd}
    return objects if sample.masks is None else objects | {"masks": pad(sample.masks)}


def flatten_targets(targets: Sequence[Mapping[str, Tensor]]) -> Objects:
    """The objects of all images in one list, each with the number of its image.

    Args:
        targets: for each image "boxes", "labels", "masks", ...: one row per object in each of them.

    Returns:
        The same keys with the rows of all images, one after the other, and "image".

    >>> targets = [{"labels": torch.tensor([3, 1])}, {"labels": torch.tensor([2])}]
    >>> flatten_targets(targets)
    {'labels': tensor([3, 1, 2]), 'image': tensor([0, 0, 1])}
    """
    ground_truth = {key: torch.cat([target[key] for target in targets]) for key in targets[0]}
    counts = torch.tensor([len(target["labels"]) for target in targets])
    image = torch.arange(len(targets)).repeat_interleave(counts)
    return ground_truth | {"image": image.to(ground_truth["labels"].device)}
