"""The exercises of 12_panoptic."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_utils.exercises.checking import Case, Verdict, check
from course_utils.metrics.panoptic import panoptic_counts


def _segment_numbers(pixels: Tensor) -> Tensor:
    return pixels.long() @ torch.tensor([1, 256, 65536])


def check_segment_numbers(student: Callable) -> Verdict:
    """Check `student(pixels [h, w, 3] uint8) -> numbers [h, w]`: R + 256 G + 65536 B."""
    cases = [
        Case(
            "numbers below 256",
            (torch.tensor([[[7, 0, 0], [200, 0, 0], [0, 0, 0]]], dtype=torch.uint8),),
            "Red counts once: [7, 0, 0] is 7.",
        ),
        Case(
            "cat 1, cat 2 and the sky",
            (torch.tensor([[[233, 3, 0], [234, 3, 0]], [[136, 19, 0], [0, 0, 0]]]).byte(),),
            "233 + 256 * 3 = 1001. In uint8, 256 * 3 does not fit: convert to int64 first.",
        ),
        Case(
            "COCO's own numbers, up to 16.7 million",
            (torch.tensor([[[255, 255, 255], [1, 2, 3]], [[0, 0, 90], [91, 60, 120]]]).byte(),),
            "Blue counts 65536 times, not 512 times.",
        ),
    ]
    return check(student, _segment_numbers, cases)


def _quality(ious: Tensor, predicted: int, true: int) -> tuple[float, float, float]:
    found = len(ious)
    sq = float(ious.sum()) / max(found, 1)
    rq = found / (found + (predicted - found) / 2 + (true - found) / 2)
    return sq * rq, sq, rq


def check_quality(student: Callable) -> Verdict:
    """Check `student(ious [k], predicted, true) -> (pq, sq, rq)` of one class."""
    pairs = torch.tensor([0.9, 0.6, 0.75])
    cases = [
        Case(
            "everything found, nothing else",
            (pairs, 3, 3),
            "All found: RQ is 1, and SQ is the mean of the IoUs.",
        ),
        Case(
            "one pair; three segments predicted, two true",
            (torch.tensor([0.75]), 3, 2),
            "TP = 1, FP = 3 - 1, FN = 2 - 1; FP and FN count one half each.",
        ),
        Case("three pairs, more missed than invented", (pairs, 4, 9), "FN is true minus found."),
        Case(
            "no pair",
            (torch.zeros(0), 2, 1),
            "Nothing found: all three are 0, not nan.",
        ),
    ]
    return check(student, _quality, cases)


def _add_object(
    panoptic: Tensor, mask: Tensor, label: int, most_taken: float, **change: bool
) -> Tensor:
    """One step; `change` breaks it in one place."""
    free = panoptic == 0
    pixels, taken = int(mask.sum()), int((mask & ~free).sum())
    whole = panoptic.numel() if change.get("of_the_picture") else max(pixels, 1)
    at_most = taken / whole < most_taken if change.get("strict") else taken / whole <= most_taken
    if pixels == 0 or not (at_most or change.get("never_dropped")):
        return panoptic.clone()
    numbers = panoptic.unique()
    own = numbers // 1000 == label
    before = int((numbers > 0 if change.get("counts_all") else own).sum())
    code = 1000 * label + (1 if change.get("always_one") else before + 1)
    return torch.where(mask if change.get("overwrites") else mask & free, code, panoptic)


def check_add_object(student: Callable) -> Verdict:
    """Check `student(panoptic [h, w], mask [h, w], label, most_taken) -> panoptic [h, w]`."""
    empty = torch.zeros(3, 4, dtype=torch.int64)
    left = torch.zeros(3, 4, dtype=torch.bool)
    left[:, :2] = True
    right = left.roll(1, dims=1)
    one = torch.where(left, 1001, 0)
    two = one.clone()
    two[:, 3] = 11001
    cases = [
        Case("the first object", (empty, left, 1, 0.5), "Its pixels become 1000 * 1 + 1."),
        Case(
            "another class, a third of it taken",
            (one, torch.ones(3, 4, dtype=torch.bool).triu(), 2, 0.6),
            "Only free pixels (0) get its number; what is taken stays as it is.",
        ),
        Case(
            "half of it taken, which is just allowed",
            (one, right, 2, 0.5),
            "It goes away when *more* than `most_taken` of its pixels are taken.",
        ),
        Case(
            "half of it taken, and less is allowed",
            (one, right, 2, 0.4),
            "Divide the taken pixels by the object's own pixels; then nothing changes at all.",
        ),
        Case(
            "a second cat beside one of class 11",
            (two, torch.ones(3, 4, dtype=torch.bool), 1, 0.9),
            "The number counts within its class (number // 1000): the second cat is 1002.",
        ),
        Case(
            "a mask without a pixel",
            (one, torch.zeros_like(left), 2, 0.5),
            "Nothing to place, and nothing to divide by: return the map as it is.",
        ),
    ]
    return check(student, _add_object, cases)


def _count_class(predicted: Tensor, truth: Tensor, label: int) -> tuple[Tensor, ...]:
    return tuple(part[label] for part in panoptic_counts(predicted, truth, classes=10))


def _count_wrong(predicted: Tensor, truth: Tensor, label: int, **change: bool) -> tuple:
    """The counts by sets of pixels; `change` breaks them in one place."""
    mine = [n for n in predicted.unique() if n // 1000 == label or (change.get("any_class") and n)]
    its = [n for n in truth.unique() if n // 1000 == label]
    void = truth == 0
    total, found, lone = 0.0, 0, []
    for number in mine:
        here, partner = predicted == number, False
        for other in its:
            there = truth == other
            ignored = 0 if change.get("void_in_union") else int((here & void).sum())
            iou = int((here & there).sum()) / (int((here | there).sum()) - ignored)
            if iou > 0.5 or (change.get("at_least") and iou >= 0.5):
                partner, total, found = True, total + iou, found + 1
        share = int((here & void).sum()) / int(here.sum())
        forgiven = share >= 0.5 if change.get("half_is_enough") else share > 0.5
        if not partner and (not forgiven or change.get("not_forgiven")):
            lone.append(number)
    return total, found, len(lone), len(its) - found


def check_count_class(student: Callable) -> Verdict:
    """Check `student(predicted [h, w], truth [h, w], label) -> (sum of IoUs, TP, FP, FN)`."""
    truth = torch.tensor([[1001, 1001, 1001, 4000], [4000, 4000, 4000, 4000], [1002, 1002, 0, 0]])
    moved = torch.tensor([[1001, 1001, 4000, 4000], [4000, 4000, 4000, 4000], [1002, 4000, 0, 0]])
    outside = torch.tensor([[1001] * 3 + [4000], [4000] * 4, [1002, 1002, 1002, 1002]])
    floating = torch.tensor([[4000] * 4, [4000] * 4, [4000, 1005, 1005, 1005]])
    halfway = torch.tensor([[4000] * 3 + [1007], [4000] * 3 + [1007], [4000, 4000, 1007, 1007]])
    dogs = torch.where(truth // 1000 == 1, truth + 1000, truth)
    cases = [
        Case("the truth itself", (truth, truth, 1), "Every segment has a partner with IoU 1."),
        Case(
            "one cat cut to two thirds, the other to one half",
            (moved, truth, 1),
            "IoU 2/3 makes a pair. IoU 1/2 does not: it must be above, and then both lack a partner.",
        ),
        Case(
            "cats in the truth, dogs in the prediction",
            (dogs, truth, 1),
            "Only segments of one class can be a pair: take those with number // 1000 == label.",
        ),
        Case(
            "a cat that runs into the void",
            (outside, truth, 1),
            "Where the truth is void nobody knows: these pixels do not count in the union.",
        ),
        Case(
            "a cat that lies mostly in the void",
            (floating, truth, 1),
            "No partner, but more than half of it is void: no false positive. Both cats are missed.",
        ),
        Case(
            "a cat that lies half in the void",
            (halfway, truth, 1),
            "Exactly one half is not more than half: it counts as a false positive.",
        ),
        Case("the grass", (moved, truth, 4), "Stuff is counted as things are: one segment, k = 0."),
    ]
    return check(student, _count_class, cases)


WRONG_SOLUTIONS = {
    check_segment_numbers: {
        "in uint8": lambda pixels: (
            pixels[..., 0] + (pixels[..., 1] << 8) + (pixels[..., 2] << 16)
        ).long(),
        "blue, green, red": lambda pixels: _segment_numbers(pixels.flip(-1)),
        "base 255": lambda pixels: pixels.long() @ torch.tensor([1, 255, 255**2]),
        "without blue": lambda pixels: pixels[..., :2].long() @ torch.tensor([1, 256]),
        "blue counts 512 times": lambda pixels: pixels.long() @ torch.tensor([1, 256, 512]),
        "the sum": lambda pixels: pixels.long().sum(dim=-1),
        "channels first": lambda pixels: _segment_numbers(pixels).T,
        "always zero": lambda pixels: torch.zeros(pixels.shape[:2], dtype=torch.int64),
    },
    check_quality: {
        "FP and FN count fully": lambda ious, predicted, true: (
            float(ious.sum()) / max(predicted + true - len(ious), 1),
            float(ious.sum()) / max(len(ious), 1),
            len(ious) / (predicted + true - len(ious)),
        ),
        "RQ is the precision": lambda ious, predicted, true: (
            float(ious.sum()) / predicted,
            float(ious.sum()) / max(len(ious), 1),
            len(ious) / predicted,
        ),
        "RQ is the recall": lambda ious, predicted, true: (
            float(ious.sum()) / true,
            float(ious.sum()) / max(len(ious), 1),
            len(ious) / true,
        ),
        "predicted is taken for FP": lambda ious, predicted, true: _quality(
            ious, predicted + len(ious), true + len(ious)
        ),
        "SQ over all true segments": lambda ious, predicted, true: (
            _quality(ious, predicted, true)[0],
            float(ious.sum()) / true,
            _quality(ious, predicted, true)[2],
        ),
        "the mean of SQ and RQ": lambda ious, predicted, true: (
            sum(_quality(ious, predicted, true)[1:]) / 2,
            *_quality(ious, predicted, true)[1:],
        ),
        "nan without pairs": lambda ious, predicted, true: tuple(
            part if len(ious) else float("nan") for part in _quality(ious, predicted, true)
        ),
        "another order": lambda ious, predicted, true: _quality(ious, predicted, true)[::-1],
        "always zero": lambda ious, predicted, true: (0.0, 0.0, 0.0),
    },
    check_add_object: {
        "takes what is taken": lambda *given: _add_object(*given, overwrites=True),
        "a half is too much": lambda *given: _add_object(*given, strict=True),
        "never goes away": lambda *given: _add_object(*given, never_dropped=True),
        "taken share of the picture": lambda *given: _add_object(*given, of_the_picture=True),
        "always number 1": lambda *given: _add_object(*given, always_one=True),
        "one count for all classes": lambda *given: _add_object(*given, counts_all=True),
        "class 1 and 11 mixed up": lambda panoptic, mask, label, most_taken: _add_object(
            torch.where(panoptic > 10000, panoptic - 10000, panoptic), mask, label, most_taken
        ),
        "nothing changes": lambda panoptic, *rest: panoptic,
        "always zero": lambda panoptic, *rest: torch.zeros_like(panoptic),
    },
    check_count_class: {
        "void counts in the union": lambda *given: _count_wrong(*given, void_in_union=True),
        "void forgives nothing": lambda *given: _count_wrong(*given, not_forgiven=True),
        "half in the void is enough": lambda *given: _count_wrong(*given, half_is_enough=True),
        "one half makes a pair": lambda *given: _count_wrong(*given, at_least=True),
        "pairs of any class": lambda *given: _count_wrong(*given, any_class=True),
        "FP and FN exchanged": lambda predicted, truth, label: tuple(
            _count_class(predicted, truth, label)[place] for place in (0, 1, 3, 2)
        ),
        "the mean IoU": lambda predicted, truth, label: (
            _count_class(predicted, truth, label)[0]
            / max(int(_count_class(predicted, truth, label)[1]), 1),
            *_count_class(predicted, truth, label)[1:],
        ),
        "truth and prediction exchanged": lambda predicted, truth, label: _count_class(
            truth, predicted, label
        ),
        "always zero": lambda *given: (0.0, 0, 0, 0),
    },
}
