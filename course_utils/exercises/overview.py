"""The exercises of 00_overview."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_utils.core import VOID
from course_utils.exercises.checking import Case, Verdict, attempt, check
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
    """Check `student(instances [h, w]) -> boxes [n, 4]`: the tight boxes of objects 1, 2, ..., n."""
    single = _mask(4, 4, (2, 3, 3, 4)).long()
    pieces = _mask(5, 8, (0, 0, 1, 1), (6, 3, 8, 5)).long() + 2 * _mask(5, 8, (2, 1, 5, 2))
    full = torch.tensor([[3, 3, 1, 1, 1], [3, 3, 1, 1, 1], [2, 2, 2, 2, 2]])
    late = 2 * _mask(4, 6, (0, 0, 2, 1)) + _mask(4, 6, (3, 2, 6, 4))
    cases = [
        Case("one object", (_mask(6, 9, (2, 1, 7, 4)).long(),), "x counts columns, y counts rows."),
        Case(
            "an object of a single pixel",
            (single,),
            "A pixel is a square of width 1: the box ends at the pixel's index plus 1.",
        ),
        Case(
            "an object in two pieces, and a second object",
            (pieces,),
            "Return one box per object number, also where an object consists of several pieces.",
        ),
        Case(
            "an image in which object 2 lies above object 1",
            (late,),
            "The boxes must come in the order of the object numbers.",
        ),
        Case(
            "three objects that cover the whole image",
            (full,),
            "There need not be a pixel 0: the objects are those with the numbers 1, 2, ..., n.",
        ),
        Case(
            "an image without objects",
            (torch.zeros(3, 5, dtype=torch.int64),),
            "With no objects the result has the shape [0, 4].",
        ),
    ]
    return check(student, _instance_boxes, cases)


def _merge(masks: Tensor, labels: Tensor) -> Tensor:
    semantic = torch.zeros(masks.shape[1:], dtype=torch.int64)
    for mask, label in zip(masks, labels.tolist(), strict=True):
        semantic[mask] = label
    return semantic


def check_merge_instances(student: Callable) -> Verdict:
    """Check `student(masks [n, h, w], labels [n]) -> semantic [h, w]`: the map of class labels."""
    three = torch.stack(
        [_mask(5, 7, (5, 3, 7, 5)), _mask(5, 7, (1, 0, 4, 2)), _mask(5, 7, (0, 2, 2, 5))]
    )
    two = torch.stack([_mask(4, 6, (0, 1, 3, 4)), _mask(4, 6, (3, 1, 5, 4))])
    cases = [
        Case(
            "one object of class 3",
            (two[:1], torch.tensor([3])),
            "Each pixel gets the class of its object, not the number of the object.",
        ),
        Case(
            "two touching objects of class 2",
            (two, torch.tensor([2, 2])),
            "In a semantic map, touching objects of the same class become one region.",
        ),
        Case(
            "a dog (2) and a person (4)",
            (two, torch.tensor([2, 4])),
            "The pixels of each mask get the label of that mask.",
        ),
        Case(
            "three objects of classes 7, 1 and 7",
            (three, torch.tensor([7, 1, 7])),
            "Objects of one class may lie apart; the labels come in the order of the masks.",
        ),
        Case(
            "no objects",
            (two[:0], torch.zeros(0, dtype=torch.int64)),
            "Without objects every pixel is background: class 0, with dtype int64.",
        ),
    ]
    return check(student, _merge, cases)


def _object_counts(semantic: Tensor, number: int) -> tuple[int, int]:
    pixels = int((semantic == number).sum())
    return min(pixels, 1), pixels


def check_object_counts(student: Callable) -> Verdict:
    """Check `student(semantic [h, w], number) -> (fewest, most)`: how many objects a map can hold."""
    one = _mask(4, 6, (1, 0, 4, 2)).long()
    three = 5 * _mask(6, 9, (0, 0, 2, 2), (4, 1, 7, 5), (8, 5, 9, 6)).long()
    mixed = three + 2 * _mask(6, 9, (0, 4, 3, 6)) + VOID * _mask(6, 9, (7, 0, 9, 3))
    cases = [
        Case(
            "one region of six pixels",
            (one, 1),
            "Each of the six pixels could be an object of its own.",
        ),
        Case(
            "three regions of 4, 12 and 1 pixels",
            (three, 5),
            "One object may consist of several pieces, so the number of regions is no lower bound.",
        ),
        Case(
            "a map with three more classes, void among them",
            (mixed, 2),
            "Only the pixels of the class count.",
        ),
        Case("a class that is not in the map", (one, 3), "There cannot be an object: (0, 0)."),
        Case("a single pixel", (three[5:, 8:], 5), "One pixel belongs to one object: (1, 1)."),
    ]
    return check(student, _object_counts, cases)


def check_twins(student: Callable) -> Verdict:
    """Check `student() -> (first [h, w], second [h, w])`: two instance maps with the same boxes.

    All objects are of one class, and both maps show it at the same pixels. Numbering the same objects in
    another order makes no other answer. The fewest pixels that suffice are five, in one row: of all maps of
    up to four pixels, no two different ones agree in pixels and boxes.
    """
    answer = attempt(student, "your two maps", "return (first, second).")
    if isinstance(answer, Verdict):
        return answer
    hint = _twins_hint(answer)
    if hint:
        return Verdict(False, f"Not yet: {hint}")
    first = torch.as_tensor(answer[0])
    words = f"{int(first.max())} objects, on a map of {first.numel()} pixels"
    return Verdict(True, f"Passed: other objects, but the same class map and boxes. {words}.")


def _twins_hint(answer: object) -> str | None:
    """Why these are not two different instance maps with the same pixels and boxes, or None."""
    try:
        first, second = (torch.as_tensor(numbers) for numbers in answer)
    except (TypeError, ValueError, RuntimeError):
        return "expected two maps of whole numbers. Hint: return (first, second)."
    if first.dim() != 2 or first.shape != second.shape or not first.numel():
        shapes = f"{list(first.shape)} and {list(second.shape)}"
        return f"expected two maps of one shape [h, w], got {shapes}. Hint: the image is the same."
    for name, numbers in (("first", first), ("second", second)):
        found = set(numbers.unique().tolist()) - {0}
        if not found or found != set(range(1, len(found) + 1)):
            return (
                f"the {name} map should number its objects 1, 2, ..., n, got {sorted(found)}. "
                "Hint: 0 is no object."
            )
    if not torch.equal(first > 0, second > 0):
        return (
            "the two semantic maps should be equal, but a pixel has an object in only one of them. "
            "Hint: move pixels from one object to another."
        )
    boxes = [sorted(_instance_boxes(numbers.long()).tolist()) for numbers in (first, second)]
    if boxes[0] != boxes[1]:
        return (
            f"expected the same boxes, got {boxes[0]} and {boxes[1]}. "
            "Hint: exchange pixels that are not the outermost ones of an object."
        )
    objects = [
        {tuple((numbers == k).flatten().tolist()) for k in numbers.unique() if k}
        for numbers in (first, second)
    ]
    if objects[0] == objects[1]:
        return (
            "the two maps should have different objects, but they hold the same ones. "
            "Hint: another order of the numbers is not another answer."
        )
    return None
