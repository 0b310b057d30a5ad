"""Measure what the course promises about speed, and write docs/benchmarks.md: `python tools/bench.py`.

Figures are of the machine named at the top of the page: other machines differ.
"""

import itertools
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile
from torchvision import ops as vision
from torchvision.models.detection.roi_heads import paste_masks_in_image

from course_utils.data.scenes import make_scenes
from course_utils.ops.boxes import box_iou
from course_utils.ops.conv import (
    bilinear_kernel,
    bilinear_transposed_convolve,
    transposed_convolve,
    transposed_convolve_by_interleaving,
)
from course_utils.ops.masks import crop_masks, paste_masks
from course_utils.ops.nms import nms
from course_utils.ops.roi import roi_align, roi_pool
from course_utils.ops.upsample import bicubic, bilinear, max_pool_with_indices, max_unpool

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.bench_detection import measure_detection
from tools.bench_training import measure_detectors, measure_training
from tools.notebooks import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"


def main() -> None:
    lines = ["# Benchmarks", "", *describe_machine(), "", *measure_scenes(), ""]
    parts = (measure_operators, measure_detection, measure_training, measure_detectors)
    page = "\n".join([*lines, *("\n".join([*part(), ""]) for part in parts)])
    print(page)
    PAGE.write_text(page, encoding="utf-8")


def describe_machine() -> list[str]:
    """What the figures were measured with."""
    return [
        f"Measured with `python tools/bench.py` on one {processor()} with {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, torch {torch.__version__}.",
    ]


def processor() -> str:
    """The processor's name where the system tells it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def best_seconds(task: Callable[[], object], runs: int = 5) -> float:
    """The least seconds that the task took, after one run to warm up."""
    task()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        task()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def measure_scenes() -> list[str]:
    """Scenes a second at three sizes, on one thread."""
    lines = [
        "## Scenes",
        "",
        "`make_scenes` draws pictures with all their answers; batches of 64, one CPU thread, the best of "
        "several runs.",
        "",
        "| size | scenes / s | wanted |",
        "|---|---:|---:|",
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for side, wanted in ((64, "400"), (96, "-"), (128, "100")):
        seconds = best_seconds(lambda side=side: make_scenes(range(64), size=(side, side)))
        lines.append(f"| {side} x {side} | {64 / seconds:.0f} | {wanted} |")
    torch.set_num_threads(threads)
    return lines


class Case(NamedTuple):
    """One operator on one input, ours beside the library's."""

    name: str
    wanted: str  # the ratios to reach, forward / backward
    ours: Callable[..., Tensor]
    library: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]  # what both are called with
    backward: bool = True


def random_boxes(count: int, device: str) -> Tensor:
    """Boxes of 4 to 204 pixels, evenly over a picture of 800 x 1088."""
    generator = torch.Generator().manual_seed(count)
    size = torch.tensor([1088.0, 800.0])
    centre = torch.rand(count, 2, generator=generator) * size
    half = torch.rand(count, 2, generator=generator) * 100 + 2
    corners = [(centre - half).clamp(min=0), torch.minimum(centre + half, size)]
    return torch.cat(corners, dim=1).to(device)


def cases(device: str) -> Iterator[Case]:
    """Every operator that has a namesake, at the sizes of Mask R-CNN and FCN."""
    torch.manual_seed(0)
    boxes = random_boxes(1000, device)
    scores = torch.rand(1000, device=device)
    yield Case(
        "box_iou 1000 x 1000", "4", box_iou, vision.box_iou, (boxes, boxes.flip(0)), backward=False
    )
    yield Case(
        "nms 1000",
        "1",
        lambda boxes, scores: nms(boxes, scores, 0.5),
        lambda boxes, scores: vision.nms(boxes, scores, 0.5),
        (boxes, scores),
        backward=False,
    )

    boxes, size = random_boxes(100, device), (800, 1088)
    chances = torch.rand(100, 28, 28, device=device)
    yield Case(
        "paste_masks 100, 800 x 1088 (the library's without threshold)",
        "6",
        lambda masks, boxes: paste_masks(masks, boxes, size),
        lambda masks, boxes: paste_masks_in_image(masks[:, None], boxes, size),
        (chances, boxes),
        backward=False,
    )
    rois = torch.cat([torch.arange(100.0, device=device)[:, None], boxes], dim=1)
    yield Case(
        "crop_masks 100, 800 x 1088",
        "-",
        lambda masks: crop_masks(masks, boxes),
        lambda masks: vision.roi_align(masks[:, None].float(), rois, (28, 28)),
        (paste_masks(chances, boxes, size),),
        backward=False,
    )

    features = torch.rand(1, 256, 50, 68, device=device)
    layouts = {"NCHW": features, "channels-last": features.to(memory_format=torch.channels_last)}
    for layout, input in layouts.items():
        for count, side in ((512, 7), (128, 14), (8, 7)):
            boxes = [random_boxes(count, device)]
            settings = (side, 1 / 16, 2, True)
            wanted = "1 / -" if count == 8 else "4 / 12" if layout == "NCHW" else "6 / 12"
            yield Case(
                f"roi_align {count} x {side} x {side}, {layout}",
                wanted,
                lambda input, boxes=boxes, settings=settings: roi_align(input, boxes, *settings),
                lambda input, boxes=boxes, settings=settings: vision.roi_align(
                    input, boxes, *settings
                ),
                (input,),
            )
    boxes = [random_boxes(512, device)]
    yield Case(
        "roi_pool 512 x 7 x 7, NCHW",
        "-",
        lambda input: roi_pool(input, boxes, 7, 1 / 16),
        lambda input: vision.roi_pool(input, boxes, 7, 1 / 16),
        (features,),
    )

    small = torch.rand(1, 256, 32, 32, device=device)
    for name, wanted, ours in (("bilinear", "2 / -", bilinear), ("bicubic", "1.5 / 4", bicubic)):
        yield Case(
            f"{name} 32 -> 64, 256 channels",
            wanted,
            lambda input, ours=ours: ours(input, (64, 64)),
            lambda input, name=name: functional.interpolate(input, (64, 64), mode=name),
            (small,),
        )
    yield Case(
        "max_pool_with_indices 2 x 2, 256 channels, 50 x 68",
        "1",
        lambda input: max_pool_with_indices(input, 2)[0],
        lambda input: functional.max_pool2d(input, 2, return_indices=True)[0],
        (features,),
    )
    pooled, indices = functional.max_pool2d(features, 2, return_indices=True)
    yield Case(
        "max_unpool 2 x 2, 256 channels, 50 x 68",
        "1",
        lambda input: max_unpool(input, indices, (50, 68)),
        lambda input: functional.max_unpool2d(input, indices, 2),
        (pooled,),
    )
    for side in (2, 4):
        weight = torch.rand(256, 256, side, side, device=device)
        for wanted, ours in (
            ("1", transposed_convolve),
            ("-", transposed_convolve_by_interleaving),
        ):
            yield Case(
                f"{ours.__name__} {side} x {side}, stride 2, 16 x 256 x 14 x 14",
                wanted,
                lambda input, weight, ours=ours: ours(input, weight, stride=2),
                lambda input, weight: functional.conv_transpose2d(input, weight, stride=2),
                (torch.rand(16, 256, 14, 14, device=device), weight),
            )
    kernel = bilinear_kernel(21, 64).to(device)
    yield Case(
        "bilinear transposed convolution of FCN-32s, 21 channels, 16 -> 512",
        "4",
        lambda input: bilinear_transposed_convolve(input, 64, 32, 16),
        lambda input: functional.conv_transpose2d(input, kernel, stride=32, padding=16),
        (torch.rand(1, 21, 16, 16, device=device),),
    )


def compare(case: Case, device: str) -> str:
    """The case's ratios as cells of a table: forward, backward and peak memory of both together."""
    inputs = [input.detach().requires_grad_(case.backward) for input in case.inputs]
    steps = case.library, case.ours

    def run(step: Callable[..., Tensor]) -> tuple[float, float]:
        """Seconds forward and, where there is one, backward."""
        start = now(device)
        output = step(*inputs)
        middle = now(device)
        if case.backward:
            torch.autograd.grad(output, inputs, torch.ones_like(output))
        return middle - start, now(device) - middle

    seconds = [], []
    stop = time.perf_counter() + 3
    while len(seconds[0]) < 4 or (time.perf_counter() < stop and len(seconds[0]) < 40):
        for step, times in zip(steps, seconds):
            times.append(run(step))
    library, ours = (peak_bytes(lambda step=step: run(step), device) for step in steps)
    (forward, backward), (our_forward, our_backward) = (zip(*times[1:]) for times in seconds)
    cells = [
        ratio(forward, our_forward),
        ratio(backward, our_backward) if case.backward else "-",
        f"{library / ours:.1f}",
    ]
    return " | ".join(cells)


def peak_bytes(task: Callable[[], object], device: str) -> int:
    """The most memory that the task held at a time, beside what was there before it."""
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        task()
        return torch.cuda.max_memory_allocated() - before
    with profile(
        activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True
    ) as watched:
        task()
    events = [e for e in watched.profiler.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(itertools.accumulate(event.nbytes() for event in events))


def now(device: str) -> float:
    """Seconds, once the device has done what it was told to."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def ratio(library: Sequence[float], ours: Sequence[float]) -> str:
    """The median time of the library over ours."""
    return f"{statistics.median(library) / statistics.median(ours):.1f}"


def measure_operators() -> list[str]:
    """Each operator against its namesake in torch or torchvision, on the CPU and, if there is one, CUDA."""
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    headings = ["operator", "wanted"]
    headings += [
        f"{d.upper()} {what}" for d in devices for what in ("forward", "backward", "memory")
    ]
    lines = [
        "## Operators",
        "",
        "How many times faster than the function of the same name in torch or torchvision: its time divided "
        "by ours; its peak memory by ours. Above 1 ours is the better one, below 1 the library. Same input, "
        "same process, one CPU thread, turn by turn, medians. Wanted: forward / backward on the CPU.",
        "",
        f"| {' | '.join(headings)} |",
        "|---|---:" + "|---:" * (len(headings) - 2) + "|",
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for columns in zip(*(cases(device) for device in devices)):
        figures = [compare(case, device) for case, device in zip(columns, devices)]
        lines.append(f"| {columns[0].name} | {columns[0].wanted} | {' | '.join(figures)} |")
    torch.set_num_threads(threads)
    return lines


if __name__ == "__main__":
    main()
