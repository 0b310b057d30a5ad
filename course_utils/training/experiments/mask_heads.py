"""Four kinds of mask heads on the same frozen features: is it the sigmoid, the class, or the crop?"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from course_utils.core import seed_everything
from course_utils.data.collate import flatten_targets
from course_utils.data.scenes import THINGS, make_scenes
from course_utils.fast.roi import roi_pool
from course_utils.metrics.detection import detection_metrics
from course_utils.models.fpn import CROP, Crop, Features
from course_utils.models.heads.mask import MaskHead
from course_utils.models.regions import GroundTruth
from course_utils.training.loop import train
from course_utils.training.recipes import load_checkpoint

CLASSES = len(THINGS)


class Arm(NamedTuple):
    """A kind of mask head: how many maps, whether they compete in a softmax, and how regions are cropped."""

    maps: int = CLASSES
    softmax: bool = False
    crop: Crop = CROP


ARMS = {
    "a mask per class (sigmoid)": Arm(),
    "one mask for all classes": Arm(maps=1),
    "softmax over classes": Arm(maps=CLASSES + 1, softmax=True),
    "a mask per class, RoIPool": Arm(crop=roi_pool),
}


def mask_heads(
    seed: int, *, steps: Sequence[int] = (120, 800), scenes: int = 400, held_out: int = 100
) -> dict[str, dict[int, float]]:
    """The mask AP of four kinds of mask heads, which get the same features, boxes and numbers of steps.

    Args:
        seed: of the initial weights.
        steps: a head is trained anew for each number of steps.
        scenes: how many to learn from.
        held_out: how many to measure on.

    Returns:
        For each arm the mask AP after each number of steps.
    """
    network = load_checkpoint("mask_rcnn").requires_grad_(False)
    strides = network.heads["masks"].crop_strides
    images, truths = _images_and_targets(scenes, seed=0)
    batches = [
        (network.features(images[k : k + 8]), flatten_targets(truths[k : k + 8]))
        for k in range(0, scenes, 8)
    ]
    images, truths = _images_and_targets(held_out, seed=1)
    found, features = network(images), network.features(images)

    def train_and_measure(arm: Arm, steps: int) -> float:
        seed_everything(seed)
        head = MaskHead(
            channels=32, classes=arm.maps, crop_strides=strides, width=32, convolutions=2
        )
        loss = _softmax_loss(arm.crop) if arm.softmax else _sigmoid_loss(arm.crop)
        train(head, lambda k: batches[k % len(batches)], loss, steps=steps, learning_rate=1e-2)
        return _mask_ap(head.eval(), arm, features, found, truths)

    return {
        name: {count: train_and_measure(arm, count) for count in steps}
        for name, arm in ARMS.items()
    }


def _images_and_targets(count: int, seed: int) -> tuple[Tensor, list[dict[str, Tensor]]]:
    scenes = make_scenes(range(count), seed=seed, size=(96, 96))
    samples = [scenes.sample(k) for k in range(count)]
    names = ("boxes", "labels", "masks")
    return scenes.images, [{name: getattr(one, name) for name in names} for one in samples]


def _crops(head: MaskHead, features: Features, objects: GroundTruth, crop: Crop) -> Tensor:
    rois = torch.cat([objects["image"][:, None].float(), objects["boxes"]], dim=1)
    return head.crops(features, rois, crop)


def _sigmoid_loss(crop: Crop) -> Callable[[MaskHead, tuple], Tensor]:
    def loss(head: MaskHead, batch: tuple[Features, GroundTruth]) -> Tensor:
        features, objects = batch
        targets = head.targets(objects["boxes"], objects, torch.arange(len(objects["labels"])))
        logits = head(_crops(head, features, objects, crop))
        return head.loss(logits, objects["labels"], targets)["mask"]

    return loss


def _softmax_loss(crop: Crop) -> Callable[[MaskHead, tuple], Tensor]:
    """The classes and background compete for every pixel; map 0 is background."""

    def loss(head: MaskHead, batch: tuple[Features, GroundTruth]) -> Tensor:
        features, objects = batch
        targets = head.targets(objects["boxes"], objects, torch.arange(len(objects["labels"])))
        logits = head(_crops(head, features, objects, crop))
        labels = torch.where(targets >= 0.5, objects["labels"][:, None, None], 0)
        return F.cross_entropy(logits, labels)

    return loss


@torch.no_grad()
def _mask_ap(
    head: MaskHead, arm: Arm, features: Features, found: list[dict], truths: list[dict]
) -> float:
    """The AP of masks in the boxes that were found; their order is that of the boxes' scores."""
    objects = flatten_targets([{key: one[key] for key in ("boxes", "labels")} for one in found])
    logits = head(_crops(head, features, objects, arm.crop))
    if arm.softmax:
        logits = logits.softmax(dim=1)[:, 1:].logit(eps=1e-6)
        head.classes = CLASSES
    masks = head.predict(logits, objects["boxes"], objects["labels"], (96, 96))
    parts = masks.split([len(one["boxes"]) for one in found])
    detections = [{**one, "masks": part} for one, part in zip(found, parts)]
    return detection_metrics(detections, truths, iou_type="masks").ap
