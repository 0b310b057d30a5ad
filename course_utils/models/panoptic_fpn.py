"""Panoptic FPN: one backbone, two branches, and every pixel gets a class and every thing a number."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from course_utils.models import mask_rcnn
from course_utils.models.rcnn import FasterRCNN, Features, Losses, Targets
from course_utils.models.rpn import collate_objects
from course_utils.ops.losses import cross_entropy


class SemanticHead(nn.Module):
    """The second branch: every level of the pyramid scores the classes; the scores are enlarged and added.

    Args:
        channels: of the levels.
        classes: how many scores a pixel gets.
        strides: of the levels.

    Source: Kirillov et al., "Panoptic Feature Pyramid Networks", CVPR 2019, section 3. There each level is
    convolved and enlarged in steps of two before the levels are added and scored.
    """

    def __init__(
        self, *, channels: int = 256, classes: int, strides: Sequence[int] = (4, 8, 16, 32)
    ):
        super().__init__()
        self.score = nn.ModuleDict(
            {str(stride): nn.Conv2d(channels, classes, 1) for stride in strides}
        )

    def forward(self, features: Features, size: tuple[int, int]) -> Float[Tensor, "b classes h w"]:
        """One score a class and pixel."""
        finest, *coarser = (score(features[int(stride)]) for stride, score in self.score.items())
        for level in coarser:
            finest = finest + F.interpolate(level, finest.shape[2:], mode="bilinear")
        return F.interpolate(finest, size, mode="bilinear").float()


class PanopticFPN(nn.Module):
    """A detector with masks, and a semantic head on the same features.

    Args:
        detector: finds the things.
        semantic_head: names every pixel.
        semantic_weight: of its loss, beside the detector's five.
    """

    def __init__(
        self, *, detector: FasterRCNN, semantic_head: SemanticHead, semantic_weight: float = 1.0
    ):
        super().__init__()
        self.detector, self.semantic_head = detector, semantic_head
        self.semantic_weight = semantic_weight

    def forward(
        self, images: Float[Tensor, "b 3 h w"], targets: Targets | None = None
    ) -> Losses | list[dict[str, Tensor]]:
        """With targets the six losses; without them what the detector says, and "semantic" class scores."""
        features, size = self.detector.features(images), tuple(images.shape[2:])
        scores = self.semantic_head(features, size)
        if targets is None:
            found = self.detector.detect(features, size)
            return [one | {"semantic": score} for one, score in zip(found, scores)]
        labels = torch.stack([target["semantic"] for target in targets])
        objects = [{k: v for k, v in target.items() if k != "semantic"} for target in targets]
        losses = self.detector.losses(features, size, collate_objects(objects))
        semantic = cross_entropy(scores, labels, reduction="none").mean()
        return losses | {"semantic": self.semantic_weight * semantic}


def small(classes: int, things: int = 4) -> PanopticFPN:
    """A Panoptic FPN for a laptop: `mask_rcnn.small` and a semantic head.

    Args:
        classes: how many scores a pixel gets, background and stuff among them.
        things: how many of them are things; they come right after the background.

    Returns:
        The network, with random weights.
    """
    detector = mask_rcnn.small(things + 1)
    head = SemanticHead(channels=detector.neck.channels, classes=classes, strides=(2, 8))
    return PanopticFPN(detector=detector, semantic_head=head)
