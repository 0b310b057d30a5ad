"""Pairs of found and true objects, against masks compared one by one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils.metrics.instances import instance_ious, match_instances

maps = st.lists(st.integers(0, 4), min_size=24, max_size=24).map(
    lambda numbers: torch.tensor(numbers).reshape(4, 6)
)


@settings(deadline=None)
@given(maps, maps)
def test_ious_are_those_of_the_masks(predicted, truth):
    found, true, iou = instance_ious(predicted, truth)
    assert found.tolist() == [n for n in range(1, 5) if (predicted == n).any()]
    assert true.tolist() == [n for n in range(1, 5) if (truth == n).any()]
    assert iou.shape == (len(found), len(true))
    for row, p in enumerate(found):
        for column, t in enumerate(true):
            a, b = predicted == p, truth == t
            assert iou[row, column] == pytest.approx(((a & b).sum() / (a | b).sum()).item())


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


def test_messages(as_student):
    empty = torch.zeros(3, 3, dtype=torch.int64)
    for call, message in [
        (
            lambda: match_instances(empty, empty[:2]),
            "predicted: expected shape [2, 3], got [3, 3]",
        ),
        (lambda: match_instances(empty - 1, empty), "predicted: expected 0 or more, got -1"),
        (
            lambda: match_instances(empty, empty, 0.4),
            "iou_threshold: expected 0.5 to 1, got 0.4",
        ),
    ]:
        with pytest.raises(ValueError) as caught:
            call()
        assert str(caught.value) == message
