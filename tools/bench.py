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
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torchvision import ops as vision
from torchvision.models.detection.roi_heads import paste_masks_in_image

from course_utils.data.scenes import make_scenes
from course_utils.fast import boxes as fast_boxes
from course_utils.fast import conv_transpose as fast_conv
from course_utils.fast import masks as fast_masks
from course_utils.fast import nms as fast_nms
from course_utils.fast import pool as fast_pool
from course_utils.fast import roi as fast_roi
from course_utils.ops import boxes, conv_transpose, masks, nms, pool, roi, upsample

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.bench_detection import measure_detection
from tools.bench_memory import measure_memory, peak_bytes, random_boxes
from tools.bench_training import measure_detectors, measure_training
from tools.notebooks import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"


def main() -> None:
    lines = ["# Benchmarks", "", *describe_machine(), "", *measure_scenes(), ""]
    parts = (
        measure_operators,
        measure_memory,
        measure_detection,
        measure_training,
        measure_detectors,
    )
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


Operator = Callable[..., Tensor]


class Case(NamedTuple):
    """One operator on one input: the form that models run, the plain form and the library's.

    Attributes:
        name: the operator and the sizes.
        wanted: the ratios to reach, forward / backward.
        fast: the form of `course_utils.fast`; that of `ops` where there is no other.
        plain: the form of `course_utils.ops`.
        library: that of torch or torchvision.
        call: calls one of the three with `inputs`.
        inputs: tensors.
        backward: whether to measure the gradient, too.
    """

    name: str
    wanted: str
    fast: Operator
    plain: Operator
    library: Operator
    call: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]
    backward: bool = True


def box_cases(device: str) -> Iterator[Case]:
    """Boxes and masks at the sizes of a detector."""
    many = random_boxes(1000, device)
    yield Case(
        "box_iou 1000 x 1000",
        "4",
        fast_boxes.box_iou,
        boxes.box_iou,
        vision.box_iou,
        lambda operator, a, b: operator(a, b),
        (many, many.flip(0)),
        backward=False,
    )
    yield Case(
        "nms 1000",
        "1",
        fast_nms.nms,
        nms.nms,
        vision.nms,
        lambda operator, rows, scores: operator(rows, scores, 0.5),
        (many, torch.rand(1000, device=device)),
        backward=False,
    )
    some, size = random_boxes(100, device), (800, 1088)
    probabilities = torch.rand(100, 28, 28, device=device)
    yield Case(
        "paste_masks 100, 800 x 1088 (the library's without threshold)",
        "6",
        fast_masks.paste_masks,
        masks.paste_masks,
        lambda small, rows, size: paste_masks_in_image(small[:, None], rows, size),
        lambda operator, small, rows: operator(small, rows, size),
        (probabilities, some),
        backward=False,
    )
    rois = torch.cat([torch.arange(100.0, device=device)[:, None], some], dim=1)
    yield Case(
        "crop_masks 100, 800 x 1088",
        "-",
        fast_masks.crop_masks,
        masks.crop_masks,
        lambda pixels, _: vision.roi_align(pixels[:, None].float(), rois, (28, 28)),
        lambda operator, pixels: operator(pixels, some),
        (fast_masks.paste_masks(probabilities, some, size),),
        backward=False,
    )


def roi_cases(device: str) -> Iterator[Case]:
    """Crops of features at the sizes of Mask R-CNN."""
    features = torch.rand(1, 256, 50, 68, device=device)
    layouts = {"NCHW": features, "channels-last": features.to(memory_format=torch.channels_last)}
    for layout, input in layouts.items():
        for count, side in ((512, 7), (128, 14), (8, 7)):
            rows = [random_boxes(count, device)]
            yield Case(
                f"roi_align {count} x {side} x {side}, {layout}",
                "1 / -" if count == 8 else "4 / 12" if layout == "NCHW" else "6 / 12",
                fast_roi.roi_align,
                roi.roi_align,
                vision.roi_align,
                lambda operator, input, rows=rows, side=side: operator(
                    input, rows, side, 1 / 16, 2, True
                ),
                (input,),
            )
    rows = [random_boxes(512, device)]
    yield Case(
        "roi_pool 512 x 7 x 7, NCHW",
        "0.9 / 0.9",
        fast_roi.roi_pool,
        roi.roi_pool,
        vision.roi_pool,
        lambda operator, input: operator(input, rows, 7, 1 / 16),
        (features,),
    )


def upsampling_cases(device: str) -> Iterator[Case]:
    """Interpolation, pooling and transposed convolution at the sizes of Mask R-CNN and FCN."""
    small = torch.rand(1, 256, 32, 32, device=device)
    for ours, wanted in ((upsample.bilinear, "2 / -"), (upsample.bicubic, "1.5 / 4")):
        yield Case(
            f"{ours.__name__} 32 -> 64, 256 channels",
            wanted,
            ours,
            ours,
            partial(functional.interpolate, mode=ours.__name__),
            lambda operator, input: operator(input, (64, 64)),
            (small,),
        )
    features = torch.rand(1, 256, 50, 68, device=device)
    yield Case(
        "max_pool_with_indices 2 x 2, 256 channels, 50 x 68",
        "1",
        fast_pool.max_pool_with_indices,
        pool.max_pool_with_indices,
        partial(functional.max_pool2d, return_indices=True),
        lambda operator, input: operator(input, 2)[0],
        (features,),
    )
    pooled, indices = functional.max_pool2d(features, 2, return_indices=True)
    yield Case(
        "max_unpool 2 x 2, 256 channels, 50 x 68",
        "1",
        fast_pool.max_unpool,
        pool.max_unpool,
        functional.max_unpool2d,
        lambda operator, input: operator(input, indices, 2),
        (pooled,),
    )
    for side in (2, 4):
        weight = torch.rand(256, 256, side, side, device=device)
        for wanted, ours in (
            ("1", fast_conv.transposed_convolve),
            ("-", conv_transpose.transposed_convolve_by_interleaving),
        ):
            yield Case(
                f"{ours.__name__} {side} x {side}, stride 2, 16 x 256 x 14 x 14",
                wanted,
                ours,
                getattr(conv_transpose, ours.__name__),
                functional.conv_transpose2d,
                lambda operator, input, weight: operator(input, weight, stride=2),
                (torch.rand(16, 256, 14, 14, device=device), weight),
            )
    kernel = conv_transpose.bilinear_kernel(21, 64).to(device)
    yield Case(
        "bilinear transposed convolution of FCN-32s, 21 channels, 16 -> 512",
        "4",
        conv_transpose.bilinear_transposed_convolve,
        conv_transpose.bilinear_transposed_convolve,
        lambda input, *_: functional.conv_transpose2d(input, kernel, stride=32, padding=16),
        lambda operator, input: operator(input, 64, 32, 16),
        (torch.rand(1, 21, 16, 16, device=device),),
    )


def cases(device: str) -> Iterator[Case]:
    """Every operator that has a counterpart in torch or torchvision."""
    return itertools.chain(box_cases(device), roi_cases(device), upsampling_cases(device))


def compare(case: Case, device: str) -> str:
    """The case's ratios as cells of a table: forward, backward, peak memory; the plain form's first two."""
    inputs = [input.detach().requires_grad_(case.backward) for input in case.inputs]
    forms = case.library, case.fast, case.plain

    def run(operator: Operator) -> tuple[float, float]:
        """Seconds forward and, where there is one, backward."""
        start = now(device)
        output = case.call(operator, *inputs)
        middle = now(device)
        if case.backward:
            torch.autograd.grad(output, inputs, torch.ones_like(output))
        return middle - start, now(device) - middle

    seconds = [], [], []
    stop = time.perf_counter() + 4
    while len(seconds[0]) < 4 or (time.perf_counter() < stop and len(seconds[0]) < 40):
        for operator, times in zip(forms[:2], seconds):
            times.append(run(operator))
    while len(seconds[2]) < 2 or (sum(map(sum, seconds[2])) < 2 and len(seconds[2]) < 20):
        seconds[2].append(run(case.plain))
    library, fast = (peak_bytes(lambda form=form: run(form), device) for form in forms[:2])
    passes = [list(zip(*times[1:])) for times in seconds]
    cells = []
    for ours in passes[1:]:
        cells.append(ratio(passes[0][0], ours[0]))
        cells.append(ratio(passes[0][1], ours[1]) if case.backward else "-")
    return " | ".join([*cells[:2], f"{library / fast:.1f}", *cells[2:]])


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
    columns = ("forward", "backward", "memory", "plain forward", "plain backward")
    headings += [f"{device.upper()} {what}" for device in devices for what in columns]
    lines = [
        "## Operators",
        "",
        "How many times faster than the function of the same name in torch or torchvision: its time divided "
        "by ours; its peak memory by ours. Above 1 ours is the better one, below 1 the library. Same input, "
        "same process, one CPU thread, turn by turn, medians. Wanted: forward / backward on the CPU. The "
        "first three columns are the forms of `course_utils.fast`, which models run; `plain` are those of "
        "`course_utils.ops`, which are there to be read.",
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
