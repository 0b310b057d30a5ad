"""The training part of `make bench`: how good in how long, ours beside the libraries' networks."""

import importlib
import importlib.util
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.segmentation.deeplabv3 import DeepLabHead
from torchvision.models.segmentation.fcn import FCNHead
from torchvision.ops import MultiScaleRoIAlign

from course_utils.core import seed_everything
from course_utils.data.collate import Batch
from course_utils.models import backbones, fcn, mask_rcnn, panoptic_fpn, panoptic_unet, unet
from course_utils.models.fpn import FPN
from course_utils.models.regions import GroundTruth, split_by_image
from course_utils.training import train
from course_utils.training.batches import Task
from course_utils.training.instances import detector_task, losses, panoptic_task
from course_utils.training.loop import History
from course_utils.training.recipes import (
    MASK_RCNN,
    PANOPTIC_FPN,
    PANOPTIC_UNET,
    load_checkpoint,
)
from course_utils.training.semantic import pixel_loss, semantic_task

SECONDS, BATCH, SIZE, RATE, POINTS = 60, 8, 96, 1e-2, 4
THEIR_RATE = 3e-3  # of torchvision's Mask R-CNN
DRAWN = 9600  # scenes to draw beforehand


class WithHead(nn.Module):
    """A head of torchvision on our small backbone's coarsest features, enlarged as torchvision does."""

    def __init__(self, head: Callable[[int, int], nn.Module], classes: int):
        super().__init__()
        self.backbone = backbones.small()
        self.head = head(self.backbone.channels[2], classes)

    def forward(self, images: Tensor) -> Tensor:
        scores = self.head(self.backbone(images)[2])  # stride 8, as torchvision's dilated backbones
        return nn.functional.interpolate(scores, images.shape[-2:], mode="bilinear")


def smp_unet(classes: int) -> nn.Module:
    """The U-Net of segmentation-models-pytorch with the smallest encoder it has, without weights.

    The package is not part of the tested set: `pip install segmentation-models-pytorch` adds its row.
    """
    return importlib.import_module("segmentation_models_pytorch").Unet(
        "timm-mobilenetv3_small_minimal_100",
        encoder_weights=None,
        decoder_channels=(64, 48, 32, 24, 16),
        classes=classes,
    )


def networks() -> dict[str, Callable[[int], nn.Module]]:
    """What is trained, by name; the last one only where its package is installed."""
    found: dict[str, Callable[[int], nn.Module]] = {
        "our FCN": fcn.small,
        "our U-Net": unet.small,
        "torchvision's FCN head": lambda classes: WithHead(FCNHead, classes),
        "torchvision's DeepLab head": lambda classes: WithHead(
            lambda channels, count: DeepLabHead(channels, count, atrous_rates=(2, 4, 6)), classes
        ),
    }
    if importlib.util.find_spec("segmentation_models_pytorch"):
        found["segmentation-models-pytorch's U-Net"] = smp_unet
    return found


def measure_training() -> list[str]:
    """Held-out mean IoU after each quarter of 60 s of training, and images a second."""
    task = semantic_task("scenes", batch_size=BATCH, size=SIZE, seed=0)
    for step in range(4096 // BATCH):
        task.batches(step)  # drawn before the clock starts, for all alike
    lines = [
        "## Training",
        "",
        f"{SECONDS} s of training with {torch.get_num_threads()} threads on scenes of {SIZE} x {SIZE}, "
        f"batches of {BATCH}, one loop, one learning rate and one seed for all: mean IoU on 400 held-out "
        "scenes after so many seconds. Contours are void, as in VOC; in brackets the last figure with every "
        "pixel counted. Drawing the scenes is not in the time.",
        "",
        "| network | parameters | images / s | 15 s | 30 s | 45 s | 60 s | (all pixels) |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, build in networks().items():
        lines.append(f"| {name} | {measure_network(build, task)} |")
        print(lines[-1], flush=True)
    return lines


def measure_network(build: Callable[[int], nn.Module], task: Task) -> str:
    """One row of the table."""
    history, cells = train_for_a_minute(build, task, pixel_loss, learning_rate=RATE)
    points = [f"{metrics['mean_iou']:.3f}" for metrics in history.metrics.values()]
    last = list(history.metrics.values())[-1]
    return " | ".join([*cells, *points, f"({last['mean_iou_with_contours']:.3f})"])


def train_for_a_minute(
    build: Callable[[int], nn.Module],
    task: Task,
    loss: Callable[[nn.Module, tuple], Tensor],
    points: int = POINTS,
    **settings: float,
) -> tuple[History, list[str]]:
    """The speed first, then as many steps as fit into the time; parameters and images a second as cells."""
    classes = len(task.class_names)
    settings |= {"device": "cpu"}
    seed_everything(0)
    trial = build(classes)
    train(trial, task.batches, loss, steps=5, **settings)
    start = time.perf_counter()
    train(trial, task.batches, loss, steps=60, **settings)
    steps = round(SECONDS * 60 / (time.perf_counter() - start) / points) * points
    seed_everything(0)
    model, clock = build(classes), [0.0, time.perf_counter()]

    def evaluate(network: nn.Module) -> dict[str, float]:
        clock[0] += time.perf_counter() - clock[1]  # seconds of training so far
        metrics = task.evaluate(network)
        clock[1] = time.perf_counter()
        return metrics

    history = train(
        model,
        task.batches,
        loss,
        steps=steps,
        evaluate=evaluate,
        evaluate_every=steps // points,
        **settings,
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return history, [f"{parameters / 1e6:.2f} M", f"{steps * BATCH / clock[0]:.0f}"]


class OneLevel(nn.Module):
    """Our small backbone and a pyramid's level at stride 4, as torchvision's detectors want them."""

    def __init__(self, channels: int):
        super().__init__()
        self.backbone, self.out_channels = backbones.small(), channels
        inputs = dict(zip((2, 4, 8, 16, 32), self.backbone.channels))
        self.neck = FPN(inputs=inputs, channels=channels, kernel_sizes={4: 3})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"0": self.neck(self.backbone(images))[4]}


class TorchvisionMaskRCNN(nn.Module):
    """torchvision's class with parts as large as ours, called as ours is, with bool masks as its answer."""

    def __init__(self, classes: int):
        super().__init__()
        ours = mask_rcnn.small(classes)
        channels, box_head, mask_head = ours.neck.channels, ours.box_head, ours.heads["masks"]
        hidden, width = box_head.scores.in_features, mask_head.layers[0][0].out_channels
        self.model = MaskRCNN(
            OneLevel(channels),
            min_size=SIZE,
            max_size=SIZE,
            image_mean=[0.0] * 3,
            image_std=[1.0] * 3,
            rpn_anchor_generator=AnchorGenerator(tuple(ours.rpn.sizes), (ours.rpn.aspect_ratios,)),
            rpn_pre_nms_top_n_train=ours.rpn.pre_nms_top_n,
            rpn_pre_nms_top_n_test=ours.rpn.pre_nms_top_n,
            rpn_post_nms_top_n_train=ours.rpn.post_nms_top_n,
            rpn_post_nms_top_n_test=ours.rpn.post_nms_top_n,
            rpn_batch_size_per_image=ours.rpn.batch_size_per_image,
            box_roi_pool=MultiScaleRoIAlign(["0"], box_head.crop_size, 2),
            box_head=TwoMLPHead(channels * box_head.crop_size**2, hidden),
            box_predictor=FastRCNNPredictor(hidden, classes),
            box_batch_size_per_image=ours.sampling[0],
            box_positive_fraction=ours.sampling[1],
            box_detections_per_img=box_head.detections_per_image,
            mask_roi_pool=MultiScaleRoIAlign(["0"], mask_head.crop_size, 2),
            mask_head=MaskRCNNHeads(channels, (width, width), 1),
            mask_predictor=MaskRCNNPredictor(width, width, classes),
        )

    def forward(
        self, images: Tensor, ground_truth: GroundTruth | None = None, sizes: Tensor | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        if ground_truth is not None:
            return self.model(list(images), split_by_image(ground_truth, len(images)))
        found = self.model(list(images))
        return [one | {"masks": one["masks"][:, 0] > 0.5} for one in found]


def panoptic_from_unet(classes: int) -> nn.Module:
    """Our panoptic network on a U-Net that starts with the weights of the shipped U-Net."""
    network = panoptic_unet.small(classes)
    network.detector.backbone.load_state_dict(load_checkpoint("unet").backbone.state_dict())
    return network


def plain_sum(model: nn.Module, batch: Batch) -> Tensor:
    """torchvision's losses as torchvision's reference training adds them."""
    return sum(losses(model, batch).values())


def measure_detectors() -> list[str]:
    """Average precision after 60 s of training, ours beside torchvision's Mask R-CNN."""
    options = {"batch_size": BATCH, "size": SIZE, "seed": 0}
    detect, panoptic = detector_task("scenes", **options), panoptic_task("scenes", **options)
    clip = {"clip": MASK_RCNN.clip}
    rows = {
        "our panoptic network on a U-Net, from the shipped U-Net": (
            panoptic_from_unet,
            panoptic,
            PANOPTIC_UNET.total_loss,
            clip | {"learning_rate": PANOPTIC_UNET.learning_rate},
        ),
        "our Panoptic FPN": (
            panoptic_fpn.small,
            panoptic,
            PANOPTIC_FPN.total_loss,
            clip | {"learning_rate": PANOPTIC_FPN.learning_rate},
        ),
        "our Mask R-CNN": (
            mask_rcnn.small,
            detect,
            MASK_RCNN.total_loss,
            clip | {"learning_rate": MASK_RCNN.learning_rate},
        ),
        "torchvision's Mask R-CNN": (
            TorchvisionMaskRCNN,
            detect,
            plain_sum,
            clip | {"learning_rate": THEIR_RATE},
        ),
    }
    for step in range(DRAWN // BATCH):
        for task in (detect, panoptic):
            task.batches(step)  # drawn before the clock starts, for all alike
    lines = [
        "## Training of detectors",
        "",
        f"{SECONDS} s of training with {torch.get_num_threads()} threads on scenes of {SIZE} x {SIZE}, "
        f"batches of {BATCH}, one loop and one seed for all; the learning rates are "
        f"{PANOPTIC_UNET.learning_rate:g}, {PANOPTIC_FPN.learning_rate:g}, {MASK_RCNN.learning_rate:g} and "
        f"{THEIR_RATE:g}. COCO's average "
        "precision and panoptic quality on 400 held-out scenes, by our evaluation for all. Drawing the "
        "scenes is not in the time. The first network starts from one that was trained "
        "to label the pixels of such scenes; the others start from random weights.",
        "",
        "| network | parameters | images / s | box AP50 | box AP | mask AP | PQ |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, (build, task, loss, settings) in rows.items():
        history, cells = train_for_a_minute(build, task, loss, points=1, **settings)
        (metrics,) = history.metrics.values()
        names = ("box_ap50", "box_ap", "mask_ap", "pq")
        found = [f"{metrics[key]:.3f}" if key in metrics else "" for key in names]
        lines.append(f"| {' | '.join([name, *cells, *found])} |")
        print(lines[-1], flush=True)
    return lines
