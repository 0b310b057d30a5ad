"""The mask head: which pixels of the region belong to the object?"""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from course_utils.fast.masks import paste_masks
from course_utils.fast.roi import roi_align
from course_utils.models.backbones import convolution_block
from course_utils.models.rpn import Objects


class MaskHead(nn.Module):
    """A small FCN on each crop: convolutions, one step of learned upsampling, and a mask for every class.

    The class is known from the box head, so that masks of different classes need not compete: each has its
    own map and a sigmoid, and only the map of the true class learns.

    Args:
        channels: of the crops.
        classes: how many kinds of things there are, C; 1 makes one mask for all of them (class-agnostic).
        crop_size: the crops' height and width in bins; the masks are twice as large.
        crop_strides: the levels of the pyramid that regions are cut from.
        width: channels of the convolutions.
        convolutions: how many there are.
        skip: stride and channels of a finer level, whose crops, twice as large, join after the upsampling:
            a skip connection as in a U-Net, for sharp outlines. None is the paper's way.

    Source: He et al., "Mask R-CNN", ICCV 2017, section 3 and figure 4.
    """

    def __init__(
        self,
        *,
        channels: int = 256,
        classes: int,
        crop_size: int = 14,
        crop_strides: Sequence[int] = (4, 8, 16, 32),
        width: int = 256,
        convolutions: int = 4,
        skip: tuple[int, int] | None = None,
    ):
        super().__init__()
        widths = [channels] + [width] * convolutions
        half = width // 2
        self.layers = nn.Sequential(
            *(convolution_block(a, b) for a, b in itertools.pairwise(widths)),
            nn.ConvTranspose2d(width, half if skip else classes, 2, stride=2),
        )
        if skip:
            self.join = convolution_block(half + skip[1], half)
            self.score = nn.Conv2d(half, classes, 1)
        self.crop_size, self.crop_strides = crop_size, crop_strides
        self.skip, self.classes = skip, classes

    def forward(
        self, crops: Float[Tensor, "p c s s"] | tuple[Tensor, Tensor]
    ) -> Float[Tensor, "p classes m m"]:
        """C masks a region, before the sigmoid; with a skip, from a pair of crops."""
        if not self.skip:
            return self.layers(crops.contiguous(memory_format=torch.channels_last)).float()
        crops, finer = (part.contiguous(memory_format=torch.channels_last) for part in crops)
        return self.score(self.join(torch.cat([finer, self.layers(crops)], dim=1))).float()

    def targets(
        self, boxes: Float[Tensor, "p 4"], objects: Objects, matches: Int64[Tensor, " p"]
    ) -> Float[Tensor, "p m m"]:
        """The true mask of each region's object, cut to the region and resized: RoIAlign of the mask.

        Args:
            boxes: the positive regions, `x1, y1, x2, y2` in pixels.
            objects: all of the batch, with "masks".
            matches: the object of each region.

        Returns:
            How much of each bin the mask covers; `crop_masks`, for all regions at once.
        """
        rois = torch.cat([matches[:, None].to(boxes), boxes], dim=1)
        masks = objects["masks"][:, None].to(boxes)
        return roi_align(masks, rois, 2 * self.crop_size, aligned=True)[:, 0]

    def loss(
        self, logits: Float[Tensor, "p classes m m"], labels: Int64[Tensor, " p"], targets: Tensor
    ) -> dict[str, Float[Tensor, ""]]:
        """The fifth loss: binary cross-entropy on the mask of the true class, averaged over its pixels.

        Args:
            logits: of the head.
            labels: the class of each region, 1 or above.
            targets: of `targets`.

        Returns:
            "mask".
        """
        own = self._own(logits, labels)
        loss = F.binary_cross_entropy_with_logits(own, targets.to(own), reduction="sum")
        return {"mask": loss / max(targets.numel(), 1)}

    def _own(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Of each region the mask of its class; of a class-agnostic head the only one."""
        channel = labels - 1 if self.classes > 1 else torch.zeros_like(labels)
        return logits[torch.arange(len(labels), device=labels.device), channel]

    @torch.no_grad()
    def predict(
        self,
        logits: Float[Tensor, "p classes m m"],
        boxes: Float[Tensor, "p 4"],
        labels: Int64[Tensor, " p"],
        size: tuple[int, int],
    ) -> Bool[Tensor, "p h w"]:
        """Masks of the whole image: that of the detected class, stretched over the detected box."""
        return paste_masks(self._own(logits, labels).sigmoid(), boxes, size)
