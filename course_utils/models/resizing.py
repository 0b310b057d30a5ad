"""From pictures of any sizes to the batch that a detector takes, and its answers back into each picture."""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import paste_masks_in_image

from course_utils.core import check_floating, check_shape, check_whole
from course_utils.data.collate import DIVISOR, flatten_targets
from course_utils.models.blocks import Normalize
from course_utils.models.rcnn import FasterRCNN, Losses
from course_utils.models.regions import Detections

Target = Mapping[str, Tensor]  # "boxes", "labels" and "masks" of one picture


class ResizedDetector(nn.Module):
    """A detector for a list of pictures: resize, put into one batch, detect, and scale the answers back.

    A network recognises objects of the sizes it was trained with, so every picture is enlarged or reduced to
    the size of its training pictures. The batch is padded on the right and at the bottom with ImageNet's mean
    colour, which the backbone's normalisation makes 0.

    Args:
        detector: its backbone normalises the images. A head "masks" predicts the crops of the masks as they
            are, with `paste=keep_crops`.
        min_size: the shorter side of a resized picture, in pixels,
        max_size: unless the longer one would be longer than this.

    Source: torchvision's `GeneralizedRCNNTransform`; Lin et al., "Feature Pyramid Networks", CVPR 2017,
    section 5.1.
    """

    def __init__(self, detector: FasterRCNN, *, min_size: int = 800, max_size: int = 1333):
        super().__init__()
        check_whole("min_size", min_size, least=1)
        check_whole("max_size", max_size, least=1)
        self.detector, self.min_size, self.max_size = detector, min_size, max_size

    def forward(
        self, images: Sequence[Float[Tensor, "3 _ _"]], targets: Sequence[Target] | None = None
    ) -> Losses | Detections:
        """With targets the losses, without them the detections of each picture, in its own pixels.

        Args:
            images: RGB in 0..1, each of its own size.
            targets: for each picture "boxes" (`x1, y1, x2, y2` in its pixels), "labels" (1 or above) and, if
                there is a mask head, "masks" `[n, h, w]`.

        Returns:
            The losses by name; or for each picture "boxes", "labels", "scores" and, if there is a mask head,
            "masks": `[n, 1, h, w]`, for each pixel the probability that it belongs to the object. They take
            four bytes per pixel and detection.
        """
        return self.detect(images) if targets is None else self.losses(images, targets)

    def losses(self, images: Sequence[Float[Tensor, "3 _ _"]], targets: Sequence[Target]) -> Losses:
        """The losses by name, of the resized pictures and objects; arguments as in `forward`."""
        batch, sizes = self.resize(images)
        if len(targets) != len(images):
            raise ValueError(
                f"targets: expected one for each of {len(images)} images, got {len(targets)}"
            )
        keys, objects = ["boxes", "labels", *self.detector.heads], []
        for target, image, size in zip(targets, images, sizes.tolist()):
            if missing := [key for key in keys if key not in target]:
                raise ValueError(
                    f"targets: expected {keys} of each picture, {missing[0]} is missing"
                )
            own = {key: target[key] for key in keys}
            objects.append(_resize_target(own, image.shape[1:], size, batch.shape[2:]))
        features = self.detector.features(batch)
        return self.detector.losses(features, sizes, flatten_targets(objects))

    @torch.no_grad()
    def detect(self, images: Sequence[Float[Tensor, "3 _ _"]]) -> Detections:
        """The detections of each picture; arguments and results as in `forward`."""
        batch, sizes = self.resize(images)
        found = self.detector.detect(self.detector.features(batch), sizes)
        return [
            _restore(one, size, tuple(image.shape[1:]))
            for one, size, image in zip(found, sizes.tolist(), images)
        ]

    def resize(
        self, images: Sequence[Float[Tensor, "3 _ _"]]
    ) -> tuple[Float[Tensor, "b 3 h w"], Int64[Tensor, "b 2"]]:
        """The pictures resized and padded to a common size, and the (height, width) of each in the batch."""
        if isinstance(images, Tensor) or not images:
            raise ValueError("images: expected a list of at least one picture [3, h, w]")
        resized = []
        for image in images:
            check_shape("images", image, 3, "h", "w")
            check_floating("images", image)
            size = resized_size(tuple(image.shape[1:]), self.min_size, self.max_size)
            resized.append(F.interpolate(image[None], size, mode="bilinear")[0])
        sizes = torch.tensor([image.shape[1:] for image in resized])
        height, width = (-(-int(side) // DIVISOR) * DIVISOR for side in sizes.amax(dim=0))
        batch = Normalize().mean.to(resized[0]).repeat(len(images), 1, height, width)
        for padded, image in zip(batch, resized):
            padded[:, : image.shape[1], : image.shape[2]] = image
        return batch, sizes


def resized_size(size: tuple[int, int], min_size: int, max_size: int) -> tuple[int, int]:
    """Height and width with the shorter side `min_size`, or with the longer side `max_size` if that is less.

    >>> resized_size((480, 640), 800, 1333), resized_size((480, 960), 800, 1333)
    ((800, 1066), (666, 1333))
    """
    if 0 in size:
        raise ValueError(f"images: expected at least one pixel, got a picture of size {size}")
    scale = min(min_size / min(size), max_size / max(size))
    height, width = (max(1, math.floor(side * scale)) for side in size)
    return height, width


def resize_boxes(
    boxes: Float[Tensor, "n 4"], size: Sequence[int], new_size: Sequence[int]
) -> Float[Tensor, "n 4"]:
    """The boxes of a picture of this (height, width) when it is resized.

    >>> resize_boxes(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), (10, 10), (20, 30))
    tensor([[3., 4., 9., 8.]])
    """
    down, across = (new / old for new, old in zip(new_size, size))
    return boxes * boxes.new_tensor([across, down, across, down])


def keep_crops(masks: Float[Tensor, "n m m"], boxes: Tensor, size: object) -> Tensor:
    """In place of `paste_masks`: the crops themselves, for who pastes them into another picture."""
    return masks


def _resize_target(
    target: Target, size: Sequence[int], new_size: Sequence[int], padded: Sequence[int]
) -> dict[str, Tensor]:
    """The objects of a picture in the pixels of the resized picture; masks as large as the padded batch."""
    check_shape("boxes", target["boxes"], "n", 4)
    check_floating("boxes", target["boxes"])
    resized = {**target, "boxes": resize_boxes(target["boxes"], size, new_size)}
    if "masks" in target:
        check_shape("masks", target["masks"], len(target["boxes"]), *size)
        masks = F.interpolate(target["masks"][:, None].float(), new_size)
        right, below = padded[1] - new_size[1], padded[0] - new_size[0]
        # The last row and column go on in the padding: RoIAlign's samples at the border look beyond it.
        resized["masks"] = F.pad(masks, (0, right, 0, below), mode="replicate")[:, 0] > 0
    return resized


def _restore(
    found: Mapping[str, Tensor], size: Sequence[int], own: tuple[int, int]
) -> dict[str, Tensor]:
    """The detections of a resized picture in the pixels of the picture itself."""
    restored = {**found, "boxes": resize_boxes(found["boxes"], size, own)}
    if "masks" in found:
        restored["masks"] = paste_masks_in_image(found["masks"][:, None], restored["boxes"], own)
    return restored
