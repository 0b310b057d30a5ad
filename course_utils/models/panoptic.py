"""A panoptic network: one backbone, a detector with masks, and class scores for every pixel."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_utils.core import VOID
from course_utils.models.rcnn import FasterRCNN, Losses
from course_utils.models.regions import Targets, flatten_targets
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
        self, images: Float[Tensor, "b 3 h w"], targets: Targets | None = None
    ) -> Losses | list[dict[str, Tensor]]:
        """With targets the six losses; without them the detections and the "semantic" class of each pixel."""
        features, size = self.detector.features(images), tuple(images.shape[2:])
        scores = self.semantic_head(features, size)
        if targets is None:
            detections = self.detector.detect(features, size)
            labels = self.number[scores.argmax(dim=1)]
            return [one | {"semantic": classes} for one, classes in zip(detections, labels)]
        semantic = self.channel[torch.stack([target["semantic"] for target in targets])]
        objects = [{k: v for k, v in target.items() if k != "semantic"} for target in targets]
        losses = self.detector.losses(features, size, flatten_targets(objects))
        return losses | {"semantic": cross_entropy(scores, semantic, reduction="none").mean()}
