"""Floor 0: what everything else stands on. The course's conventions are stated here, once.

- **Boxes** are `x1, y1, x2, y2` in continuous pixel coordinates: the width is `x2 - x1`, never plus one.
- **Pixels** are unit squares: the centre of the pixel in row i and column j is at x = j + 0.5, y = i + 0.5.
- **Sizes** are (height, width).
- **Images** are float `[3, h, w]`, RGB in 0..1. **Masks** are bool `[n, h, w]`.
- **Labels** are int64. Each data set numbers its classes; 0 is always background; `VOID` is no label.
- **Bad input** raises a TypeError or a ValueError whose message names the argument, what was expected and
  what came (see `core.checks`). Empty input, such as zero boxes, is a normal case and gives empty results.
"""

from course_utils.core.checks import (
    check_boxes,
    check_floating,
    check_fraction,
    check_labels,
    check_masks,
    check_rows,
    check_same_device,
    check_shape,
    check_size,
    check_whole,
    on_cpu,
)
from course_utils.core.device import get_device
from course_utils.core.paths import data_path
from course_utils.core.random import seed_everything

VOID = 255

__all__ = [
    "VOID",
    "check_boxes",
    "check_floating",
    "check_fraction",
    "check_labels",
    "check_masks",
    "check_rows",
    "check_same_device",
    "check_shape",
    "check_size",
    "check_whole",
    "data_path",
    "get_device",
    "on_cpu",
    "seed_everything",
]
