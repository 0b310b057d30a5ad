"""The mask head: which pixels of a region belong to the object."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from course_utils.fast.masks import paste_masks
from course_utils.fast.roi import roi_align
from course_utils.models.blocks import convolution_block
from course_utils.models.fpn import Crop, Features, crop_regions
from course_utils.models.regions import GroundTruth, Sizes

CROP_TRUTH = partial(roi_align, aligned=True)


class MaskHead(nn.Module):
    """A small FCN on each crop: convolutions, one transposed convolution, and a mask for every class.

    The box head decides the class, so the masks of different classes need not compete: each has its own map
    and a sigmoid, and only the map of the true class is trained.

    Args:
        channels: of the crops.
        classes: number of thing classes, C; 1 makes one mask for all of them (class-agnostic).
        crop_size: height and width of the crops in bins; the masks are twice as large.
        crop_strides: the levels of the pyramid from which regions are cropped.
        width: channels of the convolutions.
        convolutions: how many there are.
        upsampled: channels after the transposed convolution, if a ReLU and a 1 x 1 convolution follow it: 256
            in the paper. None: the transposed convolution makes the masks itself.
        norm: makes the normalisation after each convolution; None for none.
        crop_truth: crops the ground-truth masks, called as `roi_align`.
        paste: makes masks of images, called as `paste_masks`.

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
        upsampled: int | None = None,
        norm: Callable[[int], nn.Module] | None = nn.BatchNorm2d,
        crop_truth: Callable[[Tensor, Tensor, int], Tensor] = CROP_TRUTH,
        paste: Callable[[Tensor, Tensor, Sizes], Tensor] = paste_masks,
    ):
        super().__init__()
        widths = [channels] + [width] * convolutions
        self.layers = nn.Sequential(
            *(convolution_block(a, b, norm=norm) for a, b in itertools.pairwise(widths)),
            nn.ConvTranspose2d(width, upsampled or classes, 2, stride=2),
        )
        if upsampled:
            self.layers.extend([nn.ReLU(inplace=True), nn.Conv2d(upsampled, classes, 1)])
        self.crop_size, self.crop_strides, self.classes = crop_size, crop_strides, classes
        self.crop_truth, self.paste = crop_truth, paste

    def crops(
        self, features: Features, rois: Float[Tensor, "k 5"], crop: Crop
    ) -> Float[Tensor, "k c s s"]:
        """The crops that `forward` takes; `crop` as in `crop_regions`."""
        levels = {stride: features[stride] for stride in self.crop_strides}
        return crop_regions(levels, rois, self.crop_size, crop)

    def forward(self, crops: Float[Tensor, "p c s s"]) -> Float[Tensor, "p classes m m"]:
        """C mask logits for each region."""
        return self.layers(crops.contiguous(memory_format=torch.channels_last)).float()

    def targets(
        self, boxes: Float[Tensor, "p 4"], ground_truth: GroundTruth, matches: Int64[Tensor, " p"]
    ) -> Float[Tensor, "p m m"]:
        """The ground-truth mask of each region's object, cropped to the region: RoIAlign of the mask.

        Args:
            boxes: the positive regions, `x1, y1, x2, y2` in pixels.
            ground_truth: the objects of the batch, with "masks".
            matches: the object of each region.

        Returns:
            The fraction of each bin that the mask covers, as `crop_masks` gives it; -1 for an object that has
            a box but no mask, as some in COCO's files.
        """
        rois = torch.cat([matches[:, None].to(boxes), boxes], dim=1)
        masks = ground_truth["masks"]
        targets = self.crop_truth(masks[:, None].to(boxes), rois, 2 * self.crop_size)[:, 0]
        known = masks.flatten(1).any(dim=1)[matches]
        return torch.where(known[:, None, None], targets, -1)

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
        mask, known = self.of_class(logits, labels), targets >= 0
        loss = F.binary_cross_entropy_with_logits(
            mask, targets.to(mask).relu(), known.to(mask), reduction="sum"
        )
        return {"mask": loss / max(targets.numel(), 1)}

    def of_class(
        self, logits: Float[Tensor, "p classes m m"], labels: Int64[Tensor, " p"]
    ) -> Float[Tensor, "p m m"]:
        """The mask of each region's class; of a class-agnostic head the only one."""
        channel = labels - 1 if self.classes > 1 else torch.zeros_like(labels)
        return logits[torch.arange(len(labels), device=labels.device), channel]

    @torch.no_grad()
    def predict(
        self,
        logits: Float[Tensor, "p classes m m"],
        boxes: Float[Tensor, "p 4"],
        labels: Int64[Tensor, " p"],
        size: Sizes,
    ) -> Shaped[Tensor, "p _ _"]:
        """Masks of the whole image: that of the detected class, stretched over the detected box."""
        return self.paste(self.of_class(logits, labels).sigmoid(), boxes, size)
