"""How a prediction is checked: a wrong number is named, and the right one is not given away."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from course_utils.exercises.checking import RIGHT, Verdict, attempt


class Answer(NamedTuple):
    """A number that a student predicts.

    Attributes:
        what: the number in words, for the message.
        value: the right number.
        hint: shown when the prediction is another.
    """

    what: str
    value: float
    hint: str


def compare(student: Callable, answers: Sequence[Answer], tolerance: float) -> Verdict:
    """Call a student's function without arguments and compare the numbers it returns with the answers.

    >>> answers = [
    ...     Answer("the sum", 3.0, "Add them."),
    ...     Answer("the product", 2.0, "Multiply them."),
    ... ]
    >>> compare(lambda: (3, 2), answers, 0.01)
    Passed: right on every input.
    >>> compare(lambda: (3, 4), answers, 0.01)
    Not yet: the product should be another number than 4. Hint: Multiply them.
    """
    words = ", ".join(answer.what for answer in answers)
    got = attempt(student, "your prediction", words)
    if isinstance(got, Verdict):
        return got
    try:
        numbers = [float(number) for number in got]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != len(answers):
        return Verdict(
            False, f"Not yet: the result should be {len(answers)} numbers. Hint: {words}."
        )
    for number, answer in zip(numbers, answers, strict=True):
        if not math.isclose(number, answer.value, rel_tol=0, abs_tol=tolerance):
            told = f"{answer.what} should be another number than {number:g}"
            return Verdict(False, f"Not yet: {told}. Hint: {answer.hint}")
    return RIGHT
