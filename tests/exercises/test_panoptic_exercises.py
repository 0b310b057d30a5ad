"""Right and wrong solutions of the exercises in `course_utils.exercises.panoptic`."""

import math
from functools import partial

import torch

from course_utils.exercises import panoptic
from course_utils.exercises.panoptic import _add_object, _count_class, _quality
from tests.exercises.common import ExerciseTests


def object_added_pixel_by_pixel(panoptic, mask, label, most_taken):
    canvas, pixels = panoptic.tolist(), mask.nonzero().tolist()
    free = [(i, j) for i, j in pixels if canvas[i][j] == 0]
    if pixels and 1 - len(free) / len(pixels) <= most_taken + 1e-9:
        segments = {code for row in canvas for code in row if code // 1000 == label}
        for i, j in free:
            canvas[i][j] = 1000 * label + len(segments) + 1
    return torch.tensor(canvas)


def class_counted_by_sets(predicted, truth, label):
    def segments(panoptic):
        pixels = {}
        for pixel, code in enumerate(panoptic.flatten().tolist()):
            pixels.setdefault(code, set()).add(pixel)
        return pixels

    mine, its = segments(predicted), segments(truth)
    void = its.pop(0, set())
    mine, its = ([p for c, p in s.items() if c // 1000 == label] for s in (mine, its))
    ious = [len(a & b) / len((a | b) - (void & a)) for a in mine for b in its]
    pairs = [iou for iou in ious if iou > 0.5]
    alone = [a for a in mine if not any(2 * len(a & b) > len((a | b) - (void & a)) for b in its)]
    extra = sum(2 * len(a & void) <= len(a) for a in alone)
    return sum(pairs), len(pairs), extra, len(its) - len(pairs)


def add_object_with(
    panoptic,
    mask,
    label,
    most_taken,
    *,
    overwrites=False,
    drops_at_limit=False,
    never_drops=False,
    share_of_image=False,
    always_first=False,
    counts_all_classes=False,
):
    """Add an object to the map, with one mistake."""
    free = panoptic == 0
    pixels, taken = int(mask.sum()), int((mask & ~free).sum())
    share = taken / (panoptic.numel() if share_of_image else max(pixels, 1))
    dropped = share >= most_taken if drops_at_limit else share > most_taken
    if pixels == 0 or (dropped and not never_drops):
        return panoptic.clone()
    ids = panoptic.unique()
    before = int((ids > 0 if counts_all_classes else ids // 1000 == label).sum())
    new = 1000 * label + (1 if always_first else before + 1)
    return torch.where(mask if overwrites else mask & free, new, panoptic)


def count_class_with(
    predicted,
    truth,
    label,
    *,
    void_in_union=False,
    void_is_fp=False,
    half_void_is_enough=False,
    half_iou_is_enough=False,
    any_class=False,
    void_of_all_together=False,
):
    """Sum of IoUs, TP, FP and FN, segment by segment, with one mistake."""
    mine = [n for n in predicted.unique() if n // 1000 == label or (any_class and n)]
    its = [n for n in truth.unique() if n // 1000 == label]
    void = truth == 0
    total, found, false_positives = 0.0, 0, 0
    alone = []  # the predicted segments without a match
    for number in mine:
        here, matched = predicted == number, False
        void_pixels = int((here & void).sum())
        for other in its:
            there = truth == other
            union = int((here | there).sum()) - (0 if void_in_union else void_pixels)
            iou = int((here & there).sum()) / union
            if iou > 0.5 or (half_iou_is_enough and iou >= 0.5):
                matched, total, found = True, total + iou, found + 1
        share = void_pixels / int(here.sum())
        ignored = share >= 0.5 if half_void_is_enough else share > 0.5
        false_positives += not matched and (void_is_fp or not ignored)
        alone += [here] if not matched else []
    if void_of_all_together:
        void_pixels = sum(int((here & void).sum()) for here in alone)
        ignored = 2 * void_pixels > sum(int(here.sum()) for here in alone)
        false_positives = 0 if ignored else len(alone)
    return total, found, false_positives, len(its) - found


def split_into_columns(codes, parts=3):
    """Each thing in parts: every third column of it is an object of its own."""
    columns = torch.arange(codes.shape[1]) % parts
    return torch.where(codes % 1000 > 0, codes + 100 * columns, codes)


def halves(codes):
    """Each thing cut at the middle of the map."""
    return torch.where((codes % 1000 > 0) & (torch.arange(codes.shape[1]) < 40), codes + 100, codes)


RIGHT_SOLUTIONS = {
    panoptic.check_quality: lambda ious, predicted, true: (
        2 * sum(ious.tolist()) / (predicted + true),
        math.fsum(ious.tolist()) / len(ious) if len(ious) else 0.0,
        2 * len(ious) / (predicted + true),
    ),
    panoptic.check_add_object: object_added_pixel_by_pixel,
    panoptic.check_count_class: class_counted_by_sets,
    panoptic.check_cut_dogs: lambda: (0, 4, 2, 0.444),
    panoptic.check_damage: split_into_columns,
}

WRONG_SOLUTIONS = {
    panoptic.check_quality: {
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
        "nan without matches": lambda ious, predicted, true: tuple(
            part if len(ious) else float("nan") for part in _quality(ious, predicted, true)
        ),
        "in the opposite order": lambda ious, predicted, true: _quality(ious, predicted, true)[
            ::-1
        ],
        "always zero": lambda ious, predicted, true: (0.0, 0.0, 0.0),
    },
    panoptic.check_add_object: {
        "overwrites occupied pixels": partial(add_object_with, overwrites=True),
        "discarded at exactly the limit": partial(add_object_with, drops_at_limit=True),
        "never discarded": partial(add_object_with, never_drops=True),
        "occupied share of the image": partial(add_object_with, share_of_image=True),
        "always k = 1": partial(add_object_with, always_first=True),
        "k counts all classes": partial(add_object_with, counts_all_classes=True),
        "never more than k = 2": lambda panoptic, mask, label, most_taken: torch.where(
            (changed := add_object_with(panoptic, mask, label, most_taken)) != panoptic,
            changed.clamp(max=1000 * label + 2),
            panoptic,
        ),
        "k = 2 as soon as the class is there": lambda panoptic, mask, label, most_taken: (
            torch.where(
                _add_object(panoptic, mask, label, most_taken) != panoptic,
                1000 * label + 1 + bool((panoptic // 1000 == label).any()),
                panoptic,
            )
        ),
        "k is the number of pixels of the class": lambda panoptic, mask, label, most_taken: (
            torch.where(
                _add_object(panoptic, mask, label, most_taken) != panoptic,
                1000 * label + 1 + int((panoptic // 1000 == label).sum()),
                panoptic,
            )
        ),
        "class 1 and 11 mixed up": lambda panoptic, mask, label, most_taken: _add_object(
            torch.where(panoptic > 10000, panoptic - 10000, panoptic), mask, label, most_taken
        ),
        "nothing changes": lambda panoptic, *rest: panoptic,
        "always zero": lambda panoptic, *rest: torch.zeros_like(panoptic),
    },
    panoptic.check_count_class: {
        "void counts in the union": partial(count_class_with, void_in_union=True),
        "void segments are FP": partial(count_class_with, void_is_fp=True),
        "FP ignored at exactly half void": partial(count_class_with, half_void_is_enough=True),
        "IoU of exactly one half is a match": partial(count_class_with, half_iou_is_enough=True),
        "matches of any class": partial(count_class_with, any_class=True),
        "void of all segments together": partial(count_class_with, void_of_all_together=True),
        "at most one FP": lambda predicted, truth, label: tuple(
            part.clamp(max=1) if k == 2 else part
            for k, part in enumerate(_count_class(predicted, truth, label))
        ),
        "at most one FN": lambda predicted, truth, label: tuple(
            part.clamp(max=1) if k == 3 else part
            for k, part in enumerate(_count_class(predicted, truth, label))
        ),
        "FP and FN exchanged": lambda predicted, truth, label: tuple(
            _count_class(predicted, truth, label)[i] for i in (0, 1, 3, 2)
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
    panoptic.check_cut_dogs: {
        "one half is enough": lambda: (2, 2, 0, 0.444),
        "both halves match": lambda: (4, 0, 0, 0.444),
        "only one half counts as FP": lambda: (0, 2, 2, 0.444),
        "every half is missed": lambda: (0, 4, 4, 0.444),
        "FP and FN count fully": lambda: (0, 4, 2, 1 / 3),
        "PQ is the mean IoU": lambda: (0, 4, 2, 2 / 3),
        "PQ of one half": lambda: (0, 4, 2, 0.0),
        "in another order": lambda: (4, 2, 0, 0.444),
        "three numbers": lambda: (0, 4, 2),
        "one word": lambda: "none",
    },
    panoptic.check_damage: {
        "nothing changes": lambda codes: codes,
        "one object per class": lambda codes: torch.where(
            codes % 1000 > 0, 1000 * (codes // 1000) + 1, codes
        ),
        "all things cut once": halves,
        "all void": torch.zeros_like,
        "things become grass": lambda codes: torch.where(codes % 1000 > 0, 6000, codes),
        "cats become dogs": lambda codes: torch.where(codes // 1000 == 1, codes + 1000, codes),
        "the numbers of the objects reversed": lambda codes: torch.where(
            codes % 1000 > 0, 1000 * (codes // 1000) + 999 - codes % 1000, codes
        ),
        "the stuff in parts": lambda codes: torch.where(
            codes % 1000 == 0, codes + torch.arange(96) % 3, codes
        ),
        "numbers beyond the class": lambda codes: codes + 10000 * (torch.arange(96) % 3),
        "cropped": lambda codes: codes[:90],
        "the semantic map": lambda codes: codes // 1000,
        "floats": lambda codes: split_into_columns(codes).float(),
    },
}


class TestPanopticExercises(ExerciseTests):
    exercises, right, wrong = panoptic, RIGHT_SOLUTIONS, WRONG_SOLUTIONS

    def test_a_right_solution_passes(self, check):
        if check is not panoptic.check_damage:
            return super().test_a_right_solution_passes(check)
        passed, message = check(split_into_columns)
        assert passed is True and "mean IoU 1.00, PQ 0.0" in message
