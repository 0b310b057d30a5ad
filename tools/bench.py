"""Measure what the course promises about speed, and write docs/benchmarks.md: `python tools/bench.py`.

Every figure is the best of several runs, on the machine named at the top of the page: other machines differ.
"""

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

from course_utils.data.scenes import make_scenes

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"


def main() -> None:
    page = "\n".join(["# Benchmarks", "", *describe_machine(), "", *measure_scenes()]) + "\n"
    print(page)
    PAGE.write_text(page, encoding="utf-8")


def describe_machine() -> list[str]:
    """What the figures were measured with."""
    return [
        f"Measured with `python tools/bench.py` on one {processor()} with {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, torch {torch.__version__}. Each figure is the best of several runs.",
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
        "`make_scenes` draws pictures with all their answers; batches of 64, one CPU thread.",
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


if __name__ == "__main__":
    main()
