"""The exercises of 12_panoptic."""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from course_utils.data.scenes import CLASS_NAMES, STUFF, THINGS, make_scenes
from course_utils.exercises.checking import Case, Verdict, attempt, check
from course_utils.exercises.predictions import Answer, compare
from course_utils.metrics.panoptic import panoptic_counts, panoptic_quality
from course_utils.metrics.semantic import confusion_matrix, iou_per_class

LEAST_MEAN_IOU, HIGHEST_PQ = 0.95, 0.3  # of things, in the open task


def _quality(ious: Tensor, predicted: int, true: int) -> tuple[float, float, float]:
    found = len(ious)
    sq = float(ious.sum()) / max(found, 1)
    rq = found / (found + (predicted - found) / 2 + (true - found) / 2)
    return sq * rq, sq, rq


def check_quality(student: Callable) -> Verdict:
    """Check `student(ious [k], predicted, true) -> (PQ, SQ, RQ)` of one class."""
    pairs = torch.tensor([0.9, 0.6, 0.75])
    cases = [
        Case(
            "three matched pairs and no other segment",
            (pairs, 3, 3),
            "There are neither false positives nor false negatives: RQ is 1, and SQ is the mean IoU.",
        ),
        Case(
            "one matched pair, three predicted and two true segments",
            (torch.tensor([0.75]), 3, 2),
            "TP = 1, FP = 3 - 1 and FN = 2 - 1; FP and FN count one half each.",
        ),
        Case(
            "three matched pairs, four predicted and nine true segments",
            (pairs, 4, 9),
            "FN is the number of true segments minus the number of matched pairs.",
        ),
        Case(
            "no matched pair",
            (torch.zeros(0), 2, 1),
            "Without a matched pair all three are 0, not nan.",
        ),
    ]
    return check(student, _quality, cases)


def _add_object(panoptic: Tensor, mask: Tensor, label: int, most_taken: float) -> Tensor:
    free = panoptic == 0
    pixels, taken = int(mask.sum()), int((mask & ~free).sum())
    if pixels == 0 or taken / pixels > most_taken:
        return panoptic.clone()
    before = int((panoptic.unique() // 1000 == label).sum())
    return torch.where(mask & free, 1000 * label + before + 1, panoptic)


def check_add_object(student: Callable) -> Verdict:
    """Check `student(panoptic [h, w], mask [h, w], label, most_taken) -> panoptic [h, w]`."""
    empty = torch.zeros(3, 4, dtype=torch.int64)
    left = torch.zeros(3, 4, dtype=torch.bool)
    left[:, :2] = True
    right = left.roll(1, dims=1)
    one = torch.where(left, 1001, 0)
    two = one.clone()
    two[:, 3] = 11001
    crowded = torch.tensor([[1001, 0, 2001, 1002], [1003, 0, 0, 2002], [1003, 0, 2003, 0]])
    cases = [
        Case("the first object", (empty, left, 1, 0.5), "Its pixels become 1000 * 1 + 1."),
        Case(
            "an object of another class, one third of it occupied",
            (one, torch.ones(3, 4, dtype=torch.bool).triu(), 2, 0.6),
            "Only free pixels (0) get the object's id; occupied pixels keep theirs.",
        ),
        Case(
            "an object of which one half is occupied, `most_taken` = 0.5",
            (one, right, 2, 0.5),
            "The object is discarded if *more* than the share `most_taken` of its pixels is occupied.",
        ),
        Case(
            "an object of which one half is occupied, `most_taken` = 0.4",
            (one, right, 2, 0.4),
            "The share is relative to the object's own pixels. This object is discarded: nothing changes.",
        ),
        Case(
            "a second cat beside an object of class 11",
            (two, torch.ones(3, 4, dtype=torch.bool), 1, 0.9),
            "k counts the segments of the same class (id // 1000), so the second cat is 1002.",
        ),
        Case(
            "a fourth cat beside three cats and three dogs",
            (crowded, crowded == 0, 1, 0.5),
            "k goes on counting: with 1001, 1002 and 1003 in the map the next cat is 1004.",
        ),
        Case(
            "a fourth dog, in a corner of the map",
            (crowded, torch.ones(3, 4, dtype=torch.bool).tril(-1), 2, 0.8),
            "k counts the segments of the object's own class, here three dogs.",
        ),
        Case(
            "an empty mask",
            (one, torch.zeros_like(left), 2, 0.5),
            "There is no pixel to add, and none to divide by: return the map unchanged.",
        ),
    ]
    return check(student, _add_object, cases)


def _count_class(predicted: Tensor, truth: Tensor, label: int) -> tuple[Tensor, ...]:
    return tuple(part[label] for part in panoptic_counts(predicted, truth, classes=10))


def check_count_class(student: Callable) -> Verdict:
    """Check `student(predicted [h, w], truth [h, w], label) -> (sum of IoUs, TP, FP, FN)`."""
    truth = torch.tensor([[1001, 1001, 1001, 4000], [4000, 4000, 4000, 4000], [1002, 1002, 0, 0]])
    moved = torch.tensor([[1001, 1001, 4000, 4000], [4000, 4000, 4000, 4000], [1002, 4000, 0, 0]])
    outside = torch.tensor([[1001] * 3 + [4000], [4000] * 4, [1002, 1002, 1002, 1002]])
    floating = torch.tensor([[4000] * 4, [4000] * 4, [4000, 1005, 1005, 1005]])
    halfway = torch.tensor([[4000] * 3 + [1007], [4000] * 3 + [1007], [4000, 4000, 1007, 1007]])
    dogs = torch.where(truth // 1000 == 1, truth + 1000, truth)
    beside_void = torch.tensor(
        [[1001] * 3 + [4000] * 3, [4000] * 6, [0] * 4 + [4000] * 2, [4000] * 6]
    )
    invented = torch.tensor(
        [
            [1001] * 3 + [4000] * 3,
            [4000] * 4 + [1003] * 2,
            [1002] * 4 + [4000] * 2,
            [1004] * 3 + [4000] * 3,
        ]
    )
    cases = [
        Case("a perfect prediction", (truth, truth, 1), "Every segment has a match with IoU 1."),
        Case(
            "one cat cut to two thirds, the other to one half",
            (moved, truth, 1),
            "An IoU of 2/3 is a match. An IoU of exactly 1/2 is not, and gives one FP and one FN.",
        ),
        Case(
            "cats in the ground truth, dogs in the prediction",
            (dogs, truth, 1),
            "Only segments of the same class can match: take those with id // 1000 == label.",
        ),
        Case(
            "a cat that extends into void pixels",
            (outside, truth, 1),
            "Pixels that are void in the ground truth do not count in the union.",
        ),
        Case(
            "a cat that lies mostly on void pixels",
            (floating, truth, 1),
            "It has no match, but more than half of it is void, so it is no FP. Both true cats are FN.",
        ),
        Case(
            "a cat of which exactly one half is void",
            (halfway, truth, 1),
            "One half is not more than one half, so it counts as FP.",
        ),
        Case(
            "three cats too many, and one of them lies on void pixels",
            (invented, beside_void, 1),
            "Each unmatched segment is judged by itself: here one is ignored, and two are FP.",
        ),
        Case(
            "three cats of which two are missed",
            (beside_void, invented, 1),
            "Every true segment without a match is an FN, also the third.",
        ),
        Case(
            "the grass",
            (moved, truth, 4),
            "Stuff is counted as things are: it is one segment, with k = 0.",
        ),
    ]
    return check(student, _count_class, cases)


def check_cut_dogs(student: Callable) -> Verdict:
    """Check `student() -> (TP, FP, FN, PQ)`: two dogs, each cut into halves; for PQ at two thirds."""
    half = "Each half has an IoU of exactly 1/2 with its dog, and a match needs *more* than 1/2."
    answers = [
        Answer("TP", 0, half),
        Answer("FP", 4, "Every half is a predicted segment. How many of them have no match?"),
        Answer("FN", 2, "Every true dog without a match is an FN."),
        Answer(
            "PQ for cuts at two thirds",
            4 / 9,
            "The larger part of each dog matches with 2/3: TP 2, FP 2, FN 0. Divide the sum of the IoUs by "
            "TP + FP / 2 + FN / 2.",
        ),
    ]
    return compare(student, answers, tolerance=0.006)


@lru_cache(maxsize=1)
def _true_maps() -> Tensor:
    return make_scenes(range(4), seed=3, size=(96, 96)).panoptic


def check_damage(student: Callable) -> Verdict:
    """Check `student(panoptic [h, w]) -> [h, w]`: damage with a high mean IoU of things and a low PQ."""
    truth = _true_maps()
    damaged = attempt(
        lambda: torch.stack([torch.as_tensor(student(codes.clone())) for codes in truth]),
        "4 scenes",
        "A panoptic map [h, w] comes in, and another one goes out.",
    )
    if isinstance(damaged, Verdict):
        return damaged
    if damaged.shape != truth.shape or damaged.dtype != truth.dtype:
        told = f"the map should be int64, {list(truth.shape[1:])}"
        got = f"got {damaged.dtype}, {list(damaged.shape[1:])}"
        return Verdict(False, f"Not yet: {told}; {got}. Hint: Change numbers, not the size.")
    classes = len(CLASS_NAMES)
    labels = damaged // 1000
    if not ((damaged == 0) | ((labels > 0) & (labels < classes))).all():
        return Verdict(
            False,
            "Not yet: every number should be 1000 * class + k. Hint: k has three digits, and the classes "
            f"are 1 to {classes - 1}; 0 is void.",
        )
    matrix = confusion_matrix(labels, truth // 1000, classes)
    there = [label for label in THINGS if matrix[label].any()]
    iou = float(iou_per_class(matrix)[there].mean())
    pq = float(panoptic_quality(panoptic_counts(damaged, truth, classes), stuff=STUFF).things.pq)
    told = f"mean IoU {iou:.2f}, PQ {pq:.2f}"
    if iou > LEAST_MEAN_IOU and pq < HIGHEST_PQ:
        return Verdict(True, f"Passed: on 4 scenes the things have {told}.")
    if iou <= LEAST_MEAN_IOU:
        hint = "Keep the class of nearly every pixel: change the numbers of the objects only."
    else:
        hint = "Which segments no longer match? PQ counts those, not the pixels."
    return Verdict(
        False,
        f"Not yet: on 4 scenes the things have {told}; they should have a mean IoU above {LEAST_MEAN_IOU} "
        f"and a PQ below {HIGHEST_PQ}. Hint: {hint}",
    )
