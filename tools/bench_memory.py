"""The memory part of `make bench`: what would be large if it were computed all at once."""

import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from course_utils.data.collate import flatten_targets
from course_utils.fast.boxes import crop_and_resize
from course_utils.fast.nms import nms
from course_utils.metrics.detection import detection_metrics
from course_utils.metrics.instances import instance_ious
from course_utils.metrics.panoptic import panoptic_counts
from course_utils.models.rpn import RPN
from course_utils.ops.anchors import pyramid_anchors


def random_boxes(count: int, device: str) -> Tensor:
    """Boxes of 4 to 204 pixels, evenly over a picture of 800 x 1088."""
    generator = torch.Generator().manual_seed(count)
    size = torch.tensor([1088.0, 800.0])
    centre = torch.rand(count, 2, generator=generator) * size
    half = torch.rand(count, 2, generator=generator) * 100 + 2
    corners = [(centre - half).clamp(min=0), torch.minimum(centre + half, size)]
    return torch.cat(corners, dim=1).to(device)


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


def measure_memory() -> list[str]:
    """Peak memory of what would be large if it were computed all at once, beside its arguments."""
    lines = [
        "## Memory",
        "",
        "Peak memory on the CPU beside the arguments, and seconds with one thread. The tests hold the limit; "
        "in brackets: what it takes all at once.",
        "",
        "| what | MB | limit | s |",
        "|---|---:|---:|---:|",
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name, limit, task in memory_cases():
        start = time.perf_counter()
        task()
        seconds = time.perf_counter() - start
        lines.append(f"| {name} | {peak_bytes(task, 'cpu') / 1e6:.0f} | {limit} | {seconds:.1f} |")
    torch.set_num_threads(threads)
    return lines


def memory_cases() -> Iterator[tuple[str, str, Callable[[], object]]]:
    """Name, limit, and what to do."""
    for count in (20_000, 100_000):
        rows, scores = random_boxes(count, "cpu"), torch.rand(count)
        limit = "100 (1,000)" if count == 20_000 else "-"
        yield f"nms, {count:,} boxes", limit, partial(nms, rows, scores, 0.5)
    cluster = torch.tensor([100.0, 100, 200, 200]) + torch.rand(10_000, 4)
    scores = torch.rand(10_000)
    yield "nms, a cluster of 10,000", "200 (3,300)", partial(nms, cluster, scores, 0.5)
    image, rows = torch.rand(3, 800, 1088), random_boxes(2_000, "cpu")
    yield (
        "crop_and_resize, 2,000 boxes to 224 x 224 (1,204 MB of them the result)",
        "- (4,600)",
        partial(crop_and_resize, image, rows),
    )
    sizes = [(800 // stride, 1333 // stride) for stride in (4, 8, 16, 32)]
    anchors = torch.cat(
        pyramid_anchors(sizes, (4, 8, 16, 32), ((32.0,), (64.0,), (128.0,), (256.0,)))
    )
    targets = [{"boxes": random_boxes(10, "cpu"), "labels": torch.ones(10).long()}] * 16
    rpn = RPN(channels=4)
    yield (
        "RPN targets, 16 images of 800 x 1333 with 10 objects",
        "200 (1,800)",
        lambda: rpn.targets(anchors, flatten_targets(targets), 16),
    )
    true = {"boxes": random_boxes(5_000, "cpu"), "labels": torch.ones(5_000).long()}
    found = {"boxes": random_boxes(10_000, "cpu"), "labels": torch.ones(10_000).long()}
    found["scores"] = torch.rand(10_000)
    yield (
        "detection_metrics, 10,000 detections of 5,000 objects in one image",
        "500 (6,900)",
        lambda: detection_metrics([found], [true]),
    )
    segments = torch.arange(10_000).view(100, 100).repeat_interleave(8, 0).repeat_interleave(8, 1)
    segments = 1000 * (1 + segments // 999) + 1 + segments % 999  # up to 999 segments per class
    others = segments.roll(3, dims=1)
    yield (
        "panoptic_counts, 10,000 segments",
        "300 (3,900)",
        lambda: panoptic_counts(segments, others, 12),
    )
    yield (
        "instance_ious, 10,000 objects",
        "300 (3,100)",
        lambda: instance_ious(segments, others),
    )
