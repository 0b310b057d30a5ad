"""Pairs of found and true objects, against masks compared one by one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils.metrics.instances import count_values, instance_ious, match_instances
from tools.bench_memory import peak_bytes

maps = st.lists(st.integers(0, 4), min_size=24, max_size=24).map(
    lambda numbers: torch.tensor(numbers).reshape(4, 6)
)


@settings(deadline=None)
@given(maps, maps)
def test_ious_are_those_of_the_masks(predicted, truth):
    pairs, ious = instance_ious(predicted, truth)
    expected = {}
    for p in range(1, 5):
        for t in range(1, 5):
            a, b = predicted == p, truth == t
            if (a & b).any():
                expected[p, t] = ((a & b).sum() / (a | b).sum()).item()
    assert list(map(tuple, pairs.tolist())) == list(expected)
    assert ious.tolist() == pytest.approx(list(expected.values()))
    assert ious.dtype == torch.float64


@settings(deadline=None)
@given(maps)
def test_counts_are_those_of_unique(values):
    for ours, theirs in zip(count_values(values), values.unique(return_counts=True)):
        assert torch.equal(ours, theirs)


def test_ten_thousand_instances():
    """As a table of all pairs this took 3.1 GB. The numbers may be of any size."""
    numbers = (torch.arange(10_000).reshape(100, 100) + 1) * 2**40
    truth = numbers.repeat_interleave(5, 0).repeat_interleave(5, 1)
    matches = []
    peak = peak_bytes(lambda: matches.append(match_instances(truth.roll(2, 0), truth)), "cpu")
    assert peak < 50e6 and len(matches[0]) == 0
    assert len(match_instances(truth.clamp(min=2**41), truth)) == 9_998  # 1 and 2 are one


@settings(deadline=None)
@given(maps, maps)
def test_no_object_has_two_partners(predicted, truth):
    pairs = match_instances(predicted, truth)
    for column in pairs.T:
        assert len(column.unique()) == len(column)
    assert len(match_instances(truth, truth)) == len(truth[truth > 0].unique())


def test_half_is_not_enough():
    assert len(match_instances(torch.tensor([[1, 1]]), torch.tensor([[2, 0]]))) == 0
    pairs = match_instances(torch.tensor([[1, 1, 5]]), torch.tensor([[0, 0, 9]]), 1 - 1e-9)
    assert pairs.tolist() == [[5, 9]]


def test_no_objects():
    empty = torch.zeros(3, 3, dtype=torch.int64)
    assert match_instances(empty, empty).shape == (0, 2)
    assert match_instances(empty[:0], empty[:0]).shape == (0, 2)


def test_messages(as_student):
    empty = torch.zeros(3, 3, dtype=torch.int64)
    for call, message in [
        (
            lambda: match_instances(empty, empty[:2]),
            "predicted: expected shape [2, 3], got [3, 3]",
        ),
        (lambda: match_instances(empty - 1, empty), "predicted: expected 0 or more, got -1"),
        (
            lambda: match_instances(empty.float(), empty),
            "predicted: expected torch.int64, got torch.float32",
        ),
        (
            lambda: match_instances(empty, empty, 0.4),
            "iou_threshold: expected 0.5 to 1, got 0.4",
        ),
    ]:
        with pytest.raises((TypeError, ValueError)) as caught:
            call()
        assert str(caught.value) == message
