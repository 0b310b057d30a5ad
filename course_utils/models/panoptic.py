"""A panoptic network: one backbone, a detector with masks, and class scores for every pixel."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_utils.core import VOID
from course_utils.models.rcnn import FasterRCNN, Losses
from course_utils.models.regions import (
    Detections,
    GroundTruth,
    Sizes,
    each_size,
    image_sizes,
)
from course_utils.ops.losses import cross_entropy


class PanopticNetwork(nn.Module):
    """A detector with masks, and a semantic head on the same features.

    Args:
        detector: finds the things.
        semantic_head: `forward(features, size)` gives one score per semantic class and pixel.
        semantic_classes: the class number of each of these scores. Pixels of any class that is not among
            them belong to the first one, which is then the class "other", 0.
    """

    def __init__(
        self,
        *,
        detector: FasterRCNN,
        semantic_head: nn.Module,
        semantic_classes: Sequence[int],
    ):
        super().__init__()
        self.detector, self.semantic_head = detector, semantic_head
        self.semantic_classes = tuple(semantic_classes)
        number = torch.tensor(self.semantic_classes)
        channel = torch.zeros(VOID + 1, dtype=torch.int64)
        channel[number] = torch.arange(len(number))
        channel[VOID] = VOID
        self.register_buffer("number", number, persistent=False)  # of each channel
        self.register_buffer("channel", channel, persistent=False)  # of each class number

    def forward(
        self,
        images: Float[Tensor, "b 3 h w"],
        ground_truth: GroundTruth | None = None,
        sizes: Sizes | None = None,
        semantic: Int64[Tensor, "b h w"] | None = None,
    ) -> Losses | Detections:
        """With ground truth the six losses; without it detections and a class for each pixel.

        Args:
            images, ground_truth, sizes: as in `FasterRCNN`.
            semantic: with the ground truth, the class of each pixel; 255 is void.

        Returns:
            The losses by name; or for each image the detections, and "semantic", the class of each pixel.
        """
        sizes = image_sizes(images, sizes)
        if ground_truth is None:
            return each_size(self._detect, images, sizes)
        features = self.detector.features(images)
        scores = self.semantic_head(features, tuple(images.shape[2:]))
        loss = cross_entropy(scores, self.channel[semantic], reduction="none").mean()
        return self.detector.losses(features, sizes, ground_truth) | {"semantic": loss}

    def _detect(self, images: Float[Tensor, "b 3 h w"], size: tuple[int, int]) -> Detections:
        features = self.detector.features(images)
        detections = self.detector.detect(features, size)
        labels = self.number[self.semantic_head(features, size).argmax(dim=1)]
        return [one | {"semantic": classes} for one, classes in zip(detections, labels)]
