"""The training part of `make bench`: how good in how long, ours beside the libraries' networks."""

import importlib
import importlib.util
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import DeepLabHead
from torchvision.models.segmentation.fcn import FCNHead

from course_utils.core import seed_everything
from course_utils.models import backbones, fcn, unet
from course_utils.training import train
from course_utils.training.semantic import pixel_loss, semantic_task

SECONDS, BATCH, SIZE, RATE, POINTS = 60, 8, 96, 1e-2, 4


class WithHead(nn.Module):
    """A head of torchvision on our small backbone's coarsest features, enlarged as torchvision does."""

    def __init__(self, head: Callable[[int, int], nn.Module], classes: int):
        super().__init__()
        self.backbone = backbones.small()
        self.head = head(self.backbone.channels[2], classes)

    def forward(self, images: Tensor) -> Tensor:
        scores = self.head(self.backbone(images)[2])  # stride 8, as torchvision's dilated trunks
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
    task = semantic_task("scenes", batch_size=BATCH, size=SIZE, seed=0, device="cpu")
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


def measure_network(build: Callable[[int], nn.Module], task) -> str:
    """One row of the table: the speed first, then as many steps as fit into the time."""
    classes = len(task.class_names)
    seed_everything(0)
    trial = build(classes)
    settings = {"learning_rate": RATE, "device": "cpu"}
    train(trial, task.batches, pixel_loss, steps=5, **settings)
    start = time.perf_counter()
    train(trial, task.batches, pixel_loss, steps=30, **settings)
    steps = round(SECONDS * 30 / (time.perf_counter() - start) / POINTS) * POINTS
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
        pixel_loss,
        steps=steps,
        evaluate=evaluate,
        evaluate_every=steps // POINTS,
        **settings,
    )
    cells = [f"{metrics['mean_iou']:.3f}" for metrics in history.metrics.values()]
    last = list(history.metrics.values())[-1]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return " | ".join(
        [
            f"{parameters / 1e6:.2f} M",
            f"{steps * BATCH / clock[0]:.0f}",
            *cells,
            f"({last['mean_iou_with_contours']:.3f})",
        ]
    )
