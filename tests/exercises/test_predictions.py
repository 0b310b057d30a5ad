"""Predictions: the first wrong number is named with its hint, and the right one is not given away."""

import pytest

from course_utils.exercises.predictions import Answer, compare

ANSWERS = [Answer("the sum", 3.5, "Add them."), Answer("the product", 2.0, "Multiply them.")]


def unfinished():
    raise NotImplementedError


@pytest.mark.parametrize("numbers", [(3.5, 2), (3.509, 1.991)])
def test_numbers_within_the_tolerance_pass(numbers):
    assert compare(lambda: numbers, ANSWERS, 0.01).passed is True


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((3.52, 2), "the sum should be another number than 3.52. Hint: Add them."),
        ((3.5, 3.5), "the product should be another number than 3.5. Hint: Multiply them."),
        ((float("nan"), 2), "the sum should be another number than nan. Hint: Add them."),
        ((3.5,), "the result should be 2 numbers. Hint: the sum, the product."),
        ((3.5, 2, 1), "the result should be 2 numbers. Hint: the sum, the product."),
        (None, "the result should be 2 numbers. Hint: the sum, the product."),
        (("a", "b"), "the result should be 2 numbers. Hint: the sum, the product."),
    ],
)
def test_a_wrong_number_is_named(numbers, said):
    verdict = compare(lambda: numbers, ANSWERS, 0.01)
    assert verdict.passed is False and verdict.message == f"Not yet: {said}"


def test_a_stub_is_not_attempted():
    assert compare(unfinished, ANSWERS, 0.01).passed is None
