"""The exercises of 00_overview."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_utils.exercises.checking import Case, Verdict, check
from course_utils.ops.masks import masks_to_boxes


def _mask(height: int, width: int, *rectangles: tuple[int, int, int, int]) -> Tensor:
    mask = torch.zeros(height, width, dtype=torch.bool)
    for x1, y1, x2, y2 in rectangles:
        mask[y1:y2, x1:x2] = True
    return mask


def _instance_boxes(instances: Tensor) -> Tensor:
    numbers = torch.arange(1, int(instances.max()) + 1)
    return masks_to_boxes(instances == numbers[:, None, None])


def check_instance_boxes(student: Callable) -> Verdict:
    """Check `student(instances [h, w]) -> boxes [n, 4]`: the tight box of objects 1, 2, ..., n."""
    single = _mask(4, 4, (2, 3, 3, 4)).long()
    pieces = _mask(5, 8, (0, 0, 1, 1), (6, 3, 8, 5)).long() + 2 * _mask(5, 8, (2, 1, 5, 2))
    late = 2 * _mask(4, 6, (0, 0, 2, 1)) + _mask(4, 6, (3, 2, 6, 4))
    cases = [
        Case("one object", (_mask(6, 9, (2, 1, 7, 4)).long(),), "x counts columns, y counts rows."),
        Case("a single pixel", (single,), "A pixel is a square: its box is 1 wide, not 0."),
        Case("an object in two pieces, and another", (pieces,), "One box for each object number."),
        Case("object 2 above object 1", (late,), "The boxes come in the order of the numbers."),
    ]
    return check(student, _instance_boxes, cases)


def _merge(masks: Tensor, labels: Tensor) -> Tensor:
    semantic = torch.zeros(masks.shape[1:], dtype=torch.int64)
    for mask, label in zip(masks, labels.tolist(), strict=True):
        semantic[mask] = label
    return semantic


def check_merge_instances(student: Callable) -> Verdict:
    """Check `student(masks [n, h, w], labels [n]) -> semantic [h, w]`: forget which object it is."""
    two = torch.stack([_mask(4, 6, (0, 1, 3, 4)), _mask(4, 6, (3, 1, 5, 4))])
    cases = [
        Case(
            "one object of class 3",
            (two[:1], torch.tensor([3])),
            "Pixels get the class, not the object's number.",
        ),
        Case(
            "two touching objects of class 2",
            (two, torch.tensor([2, 2])),
            "Things of one class merge.",
        ),
        Case(
            "a dog (2) and a person (4)",
            (two, torch.tensor([2, 4])),
            "Each mask brings its own class.",
        ),
        Case(
            "no objects",
            (two[:0], torch.zeros(0, dtype=torch.int64)),
            "All background: class 0, in int64.",
        ),
    ]
    return check(student, _merge, cases)


WRONG_SOLUTIONS = {
    check_instance_boxes: {
        "last pixel left out": lambda instances: (
            _instance_boxes(instances) - torch.tensor([0.0, 0.0, 1.0, 1.0])
        ),
        "axes swapped": lambda instances: _instance_boxes(instances)[:, [1, 0, 3, 2]],
        "width and height for the corner": lambda instances: torch.cat(
            [(b := _instance_boxes(instances))[:, :2], b[:, 2:] - b[:, :2]], dim=1
        ),
        "one box for all": lambda instances: masks_to_boxes(instances[None] > 0),
        "by place, not by number": lambda instances: (b := _instance_boxes(instances))[
            b[:, 1].argsort(stable=True)
        ],
        "background counted": lambda instances: masks_to_boxes(
            instances == torch.arange(int(instances.max()) + 1)[:, None, None]
        ),
        "always zero": lambda instances: torch.zeros(int(instances.max()), 4),
    },
    check_merge_instances: {
        "object numbers for classes": lambda masks, labels: _merge(
            masks, torch.arange(len(labels)) + 1
        ),
        "union without classes": lambda masks, labels: masks.any(dim=0).long(),
        "the first class for all": lambda masks, labels: _merge(
            masks, labels[:1].expand(len(labels))
        ),
        "classes off by one": lambda masks, labels: (masks * (labels[:, None, None] + 1)).sum(
            dim=0
        ),
        "always zero": lambda masks, labels: torch.zeros(masks.shape[1:], dtype=torch.int64),
    },
}
