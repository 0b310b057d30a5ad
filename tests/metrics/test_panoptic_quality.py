"""course_utils.metrics.panoptic: by definition = ours = torchmetrics = panopticapi, and by hand."""

import json
import math
from fractions import Fraction
from functools import reduce
from operator import add

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close
from torchmetrics.functional.detection import panoptic_quality as torchmetrics_quality

from course_utils.data.coco import write_panoptic
from course_utils.metrics.panoptic import panoptic_counts, panoptic_quality
from tools.bench_memory import peak_bytes

law = settings(max_examples=60, deadline=None, derandomize=True, database=None)
THINGS, STUFF, CLASSES = (1, 2, 3), (4, 5), 6
NAMES = ("background", "cat", "dog", "car", "sky", "grass")


def maps(seed, batch=3, size=(10, 13), void=0.1, predicted_void=0.1):
    """A truth of stuff with things on it, and a prediction that is like it: moved, renamed, spotted."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low, high, *shape):
        return torch.randint(low, high, shape, generator=generator)

    def spots(part):
        return torch.rand(batch, *size, generator=generator) < part

    truth = torch.full((batch, *size), 4000)
    truth[:, size[0] // 2 :] = 5000
    for image in truth:
        for k in range(1, int(draw(2, 7))):
            top, left = int(draw(0, size[0])), int(draw(0, size[1]))
            tall, wide = draw(1, 6, 2).tolist()
            image[top : top + tall, left : left + wide] = 1000 * int(draw(1, 4)) + k
    predicted = truth.roll((int(draw(0, 2)), int(draw(0, 2))), dims=(1, 2))
    for number in predicted.unique().tolist():
        if number < 4000 and draw(0, 4) == 0:
            predicted[predicted == number] = 1000 * int(draw(1, 4)) + 50 + number % 1000
    predicted[spots(0.1)] = 5000
    predicted[spots(predicted_void)] = 0
    truth[spots(void)] = 0
    return predicted, truth


def crowds(truth, seed):
    """Some of the true things as crowds, one or more a class."""
    numbers = truth.unique()
    things = numbers[(numbers > 0) & (numbers < 4000)]
    chosen = torch.rand(len(things), generator=torch.Generator().manual_seed(seed)) < 0.4
    return torch.isin(truth, things[chosen])


def by_definition(predicted, truth, crowd=None):
    """The paper's definitions with sets of pixels: per class [sum of IoU, TP, FP, FN]."""
    totals = {label: [0, 0, 0, 0] for label in range(CLASSES)}
    crowd = torch.zeros_like(truth, dtype=torch.bool) if crowd is None else crowd
    for image, answer, many in zip(predicted.tolist(), truth.tolist(), crowd.tolist()):
        found, true, crowded, void = {}, {}, {}, set()
        for i, line in enumerate(image):
            for j, number in enumerate(line):
                found.setdefault(number, set()).add((i, j))
                if answer[i][j] == 0:
                    void.add((i, j))
                elif many[i][j]:
                    crowded.setdefault(answer[i][j] // 1000, set()).add((i, j))
                else:
                    true.setdefault(answer[i][j], set()).add((i, j))
        found.pop(0, None)
        for p, pixels in found.items():
            for t, others in true.items():
                iou = Fraction(len(pixels & others), len((pixels - void) | others))
                if p // 1000 == t // 1000 and iou > Fraction(1, 2):
                    totals[p // 1000][0] += iou
                    totals[p // 1000][1] += 1
                    break
            else:
                nobody_knows = pixels & (void | crowded.get(p // 1000, set()))
                totals[p // 1000][2] += 2 * len(nobody_knows) <= len(pixels)
        for t in true:
            totals[t // 1000][3] += 1
    for total in totals.values():
        total[3] -= total[1]
    return [list(map(float, column)) for column in zip(*totals.values())]


def compare(predicted, truth, crowd=None):
    counts = panoptic_counts(predicted, truth, CLASSES, crowd=crowd)
    assert counts.iou.dtype == torch.float64
    assert all(count.dtype == torch.int64 for count in counts[1:])
    for count, expected in zip(counts, by_definition(predicted, truth, crowd)):
        assert_close(count.double(), torch.tensor(expected, dtype=torch.float64))
    return counts


# --- the counts


@law
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.1, 0.5]), st.sampled_from([0.0, 0.1, 0.5]))
def test_counts_are_those_of_the_definition(seed, void, predicted_void):
    compare(*maps(seed, void=void, predicted_void=predicted_void))


@law
@given(st.integers(0, 10_000))
def test_counts_with_crowds_are_those_of_the_definition(seed):
    predicted, truth = maps(seed)
    compare(predicted, truth, crowds(truth, seed))


@law
@given(st.lists(st.sampled_from([0, 1001, 1002, 4000]), min_size=16, max_size=16))
def test_counts_of_tiny_maps(numbers):
    predicted, truth = torch.tensor(numbers).reshape(2, 1, 2, 4)
    compare(predicted, truth)
    compare(truth, predicted)


def test_images_add_up():
    predicted, truth = maps(0, batch=5)
    at_once = panoptic_counts(predicted, truth, CLASSES)
    added = reduce(add, (panoptic_counts(p, t, CLASSES) for p, t in zip(predicted, truth)))
    for count, expected in zip(added, at_once):
        assert_close(count, expected)
    assert at_once.true_positives.sum() > 5 and at_once.false_positives.sum() > 5
    none = panoptic_counts(predicted[:0], truth[:0], CLASSES)
    assert all((count == 0).all() and len(count) == CLASSES for count in none)


def test_segments_of_two_images_are_never_a_pair():
    one, other = torch.tensor([[[1001, 4000]], [[4000, 1001]]])
    counts = panoptic_counts(torch.stack([one, one]), torch.stack([one, other]), CLASSES)
    assert counts.true_positives.tolist() == [0, 1, 0, 0, 1, 0]
    assert counts.false_negatives.tolist() == [0, 1, 0, 0, 1, 0]


def row(*numbers):
    return torch.tensor([numbers])


def of_cats(predicted, truth, crowd=None):
    """The counts of class 1: [IoU, TP, FP, FN]."""
    return [count[1].item() for count in compare(predicted[None], truth[None], crowd)]


def test_half_is_not_enough():
    assert of_cats(row(1001, 1001), row(1001, 4000)) == [0, 0, 1, 1]
    counts = of_cats(row(1001, 1001, 1001), row(1001, 1001, 4000))
    assert counts == pytest.approx([2 / 3, 1, 0, 0])


def test_numbers_need_not_agree_and_classes_must():
    assert of_cats(row(1007, 1003), row(1001, 1002)) == [2, 2, 0, 0]
    assert of_cats(row(2001, 2001), row(1001, 1001)) == [0, 0, 0, 1]


def test_one_pixel_segments():
    assert of_cats(row(1001, 1002, 1003), row(1002, 1001, 4000)) == [2, 2, 1, 0]


def test_true_void_leaves_the_union_and_forgives():
    assert of_cats(row(1001, 1001, 1001, 1001), row(1001, 1001, 0, 0)) == [1, 1, 0, 0]
    assert of_cats(row(1001, 1001, 1001), row(4000, 0, 0)) == [0, 0, 0, 0]
    assert of_cats(row(1001, 1001), row(4000, 0)) == [0, 0, 1, 0]  # a half is no forgiveness


def test_predicted_void_stays_in_the_union_and_forgives_nothing():
    assert of_cats(row(1001, 0), row(1001, 1001)) == [0, 0, 1, 1]
    assert of_cats(row(0, 0), row(1001, 1001)) == [0, 0, 0, 1]
    counts = of_cats(row(1001, 1001, 0), row(1001, 1001, 1001))
    assert counts == pytest.approx([2 / 3, 1, 0, 0])


def test_a_crowd_is_never_missed_and_forgives_its_own_class():
    crowd = torch.tensor([[[False, True, True]]])
    truth = row(4000, 1001, 1001)
    assert of_cats(row(4000, 4000, 4000), truth, crowd) == [0, 0, 0, 0]
    assert of_cats(row(1001, 1001, 1001), truth, crowd) == [0, 0, 0, 0]
    assert of_cats(row(1001, 1001, 4000), truth, crowd) == [0, 0, 1, 0]
    dogs = panoptic_counts(row(2001, 2001, 2001), truth, CLASSES, crowd=crowd[0])
    assert dogs.false_positives[2] == 1
    # Void and crowd together are more than half, though neither is.
    counts = of_cats(row(1001, 1001, 1001), row(4000, 0, 1002), crowd & row(0, 0, 1).bool())
    assert counts == [0, 0, 0, 0]
    # A crowd's pixels stay in the union of its neighbour.
    counts = of_cats(row(1001, 1001, 1001), row(1001, 1001, 1002), row(0, 0, 1).bool()[None])
    assert counts == pytest.approx([2 / 3, 1, 0, 0])


def test_crowd_where_the_truth_is_void_is_void():
    everywhere = torch.ones(1, 1, 2, dtype=torch.bool)
    assert of_cats(row(1001, 1001), row(0, 0), everywhere) == [0, 0, 0, 0]
    assert of_cats(row(0, 0), row(0, 0), everywhere) == [0, 0, 0, 0]


@pytest.mark.parametrize("number", [0, 1001, 4000])
def test_all_void(number):
    some, void = torch.full((4, 5), number), torch.zeros(4, 5, dtype=torch.int64)
    counts = panoptic_counts(some, void, CLASSES)
    assert all((count == 0).all() for count in counts)
    quality = panoptic_quality(counts, stuff=STUFF)
    assert all(part.isnan().all() for group in quality for part in group)


def test_a_perfect_prediction_and_none_at_all():
    _, truth = maps(1)
    perfect = panoptic_quality(panoptic_counts(truth, truth, CLASSES), stuff=STUFF)
    assert all(part == 1 for group in perfect[:3] for part in group)
    none = panoptic_quality(panoptic_counts(truth * 0, truth, CLASSES), stuff=STUFF)
    assert all(part == 0 for group in none[:3] for part in group)


def test_ten_thousand_segments():
    """As a table of all pairs this took 3.9 GB."""
    number = torch.arange(10_000).reshape(100, 100)
    truth = 1000 * (1 + number // 1000) + number % 1000
    truth = truth.repeat_interleave(5, 0).repeat_interleave(5, 1)
    predicted = truth.roll(1, dims=0)  # four of each five rows in common: IoU 4 / 6
    counts = []
    peak = peak_bytes(lambda: counts.append(panoptic_counts(predicted, truth, classes=11)), "cpu")
    assert peak < 50e6
    assert [int(count.sum()) for count in counts[0][1:]] == [10_000, 0, 0]
    assert float(counts[0].iou.sum()) == pytest.approx(10_000 * 4 / 6)


def test_devices_are_equal():
    for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
        predicted, truth = (part.to(device) for part in maps(2))
        counts = panoptic_counts(predicted, truth, CLASSES, crowd=crowds(truth.cpu(), 2).to(device))
        assert {part.device.type for part in counts} == {device}
        quality = panoptic_quality(counts, stuff=STUFF)
        assert quality.all.pq.device.type == device and 0 < quality.all.pq < 1


# --- PQ


def test_quality_by_hand():
    truth = torch.tensor([[1001] * 4 + [1002] * 2 + [4000] * 6])
    predicted = torch.tensor([[1001] * 3 + [4000] * 9])
    quality = panoptic_quality(panoptic_counts(predicted, truth, CLASSES), stuff=STUFF)
    assert [float(part) for part in quality.things] == pytest.approx([0.5, 0.75, 2 / 3])
    assert [float(part) for part in quality.stuff] == pytest.approx([2 / 3, 2 / 3, 1])
    assert float(quality.all.pq) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert quality.per_class.pq[[2, 3, 5]].isnan().all()


def test_a_group_without_a_class_and_a_class_never_found():
    quality = panoptic_quality(panoptic_counts(row(2001), row(1001), CLASSES), stuff=STUFF)
    assert math.isnan(quality.stuff.pq)
    assert [float(part) for part in quality.things] == [0, 0, 0]
    assert quality.per_class.sq[1:3].tolist() == [0, 0]


# --- the libraries


def equal_to_torchmetrics(predicted, truth):
    ours = panoptic_quality(panoptic_counts(predicted, truth, CLASSES), stuff=STUFF)
    pairs = [torch.stack([part // 1000, part % 1000], dim=-1) for part in (predicted, truth)]
    options = dict(allow_unknown_preds_category=True, return_sq_and_rq=True)
    theirs = torchmetrics_quality(*pairs, set(THINGS), set(STUFF), return_per_class=True, **options)
    per_class = torch.stack(ours.per_class, dim=1)[1:].nan_to_num()
    assert_close(per_class, theirs.reshape(5, 3).double(), rtol=0, atol=1e-6)
    theirs = torchmetrics_quality(*pairs, set(THINGS), set(STUFF), **options)
    assert_close(torch.stack(ours.all), theirs.double(), rtol=0, atol=1e-6)


@law
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.1, 0.5]))
def test_equal_to_torchmetrics_where_no_prediction_is_void(seed, void):
    equal_to_torchmetrics(*maps(seed, void=void, predicted_void=0))


def test_torchmetrics_forgives_predicted_void_and_the_reference_does_not():
    with pytest.raises(AssertionError):
        equal_to_torchmetrics(row(1001, 1001, 0)[None], row(1001, 1001, 1001)[None])
    with pytest.raises(AssertionError):
        equal_to_torchmetrics(row(4000, 0, 0)[None], row(4000, 1001, 1001)[None])


@pytest.mark.parametrize("seed", range(8))
def test_equal_to_panopticapi_on_files(tmp_path, seed):
    tool = pytest.importorskip("panopticapi.evaluation")
    predicted, truth = maps(seed, void=[0.0, 0.1, 0.4][seed % 3])
    crowd = crowds(truth, seed) if seed % 2 else torch.zeros_like(truth, dtype=torch.bool)
    # In COCO's files a crowd is one segment a class: here class and k = 0.
    written = torch.where(crowd, truth // 1000 * 1000, truth)
    images, sides = torch.zeros(3, 3, *truth.shape[1:]), []
    for name, side in (("truth", written), ("predicted", predicted)):
        write_panoptic(tmp_path / name, images, side, NAMES, STUFF, split="val2017")
        listed = tmp_path / name / "annotations" / "panoptic_val2017.json"
        sides.append((json.loads(listed.read_text()), str(listed.with_suffix(""))))
    (true, true_folder), (found, found_folder) = sides
    categories = {entry["id"]: entry for entry in true["categories"]}
    pairs = list(zip(true["annotations"], found["annotations"]))
    stat = tool.pq_compute_single_core(0, pairs, true_folder, found_folder, categories)
    counts = panoptic_counts(predicted, truth, CLASSES, crowd=crowd)
    for label in range(1, CLASSES):
        theirs = stat[label]
        ours = [count[label].item() for count in counts]
        assert ours == pytest.approx([theirs.iou, theirs.tp, theirs.fp, theirs.fn], abs=1e-6)
    quality = panoptic_quality(counts, stuff=STUFF)
    for group, isthing in ((quality.all, None), (quality.things, True), (quality.stuff, False)):
        theirs, per_class = stat.pq_average(categories, isthing)
        assert [float(part) for part in group] == pytest.approx(
            [theirs["pq"], theirs["sq"], theirs["rq"]], abs=1e-6
        )
        for label, expected in per_class.items():
            ours = [float(part[label].nan_to_num()) for part in quality.per_class]
            assert ours == pytest.approx(list(expected.values()), abs=1e-6)


# --- messages


def test_messages(as_student):
    good = torch.full((2, 3, 4), 1001)
    for predicted, truth, options, error, message in [
        (good[0], good, {}, ValueError, "predicted: expected shape [2, 3, 4], got [3, 4]"),
        (good, good[:1], {}, ValueError, "predicted: expected shape [1, 3, 4], got [2, 3, 4]"),
        (good, good[0, 0], {}, ValueError, "truth: expected shape [..., h, w], got [4]"),
        (good, [[1001]], {}, TypeError, "truth: expected a torch.Tensor, got list"),
        (good, good.int(), {}, TypeError, "truth: expected torch.int64, got torch.int32"),
        (good.float(), good, {}, TypeError, "predicted: expected torch.int64, got torch.float32"),
        (
            good + 5000,
            good,
            {},
            ValueError,
            "predicted: expected 1000 * class + k for classes 1 to 5, or 0, got 6001",
        ),
        (
            good,
            good - 1000,
            {},
            ValueError,
            "truth: expected 1000 * class + k for classes 1 to 5, or 0, got 1",
        ),
        (
            good,
            good - 1002,
            {},
            ValueError,
            "truth: expected 1000 * class + k for classes 1 to 5, or 0, got -1",
        ),
        (
            good,
            good,
            {"classes": 0},
            ValueError,
            "classes: expected a whole number of at least 1, got 0",
        ),
        (
            good,
            good,
            {"crowd": good[0] > 0},
            ValueError,
            "crowd: expected shape [2, 3, 4], got [3, 4]",
        ),
        (
            good,
            good,
            {"crowd": good},
            TypeError,
            "crowd: expected torch.bool, got torch.int64",
        ),
    ]:
        with pytest.raises(error) as caught:
            panoptic_counts(predicted, truth, **{"classes": CLASSES} | options)
        assert caught.type is error and str(caught.value) == message
    with pytest.raises(ValueError, match=r"^stuff: expected classes from 0 to 5, got 6$"):
        panoptic_quality(panoptic_counts(good, good, CLASSES), stuff=[4, 6])
