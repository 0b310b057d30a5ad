"""The tests that the exercises of every notebook must pass, given right and wrong solutions of each."""

from collections.abc import Callable
from types import ModuleType

import pytest
import torch

from course_utils.exercises.checking import Verdict

Check = Callable[[Callable], Verdict]


class ExerciseTests:
    """A subclass names a module of exercises and the solutions that its checks must accept or reject.

    Attributes:
        exercises: the module.
        right: for each check a solution that is computed in another way than the check's own reference.
        wrong: for each check the mistakes of a lazy, a confused and a clever student, by name.
    """

    exercises: ModuleType
    right: dict[Check, Callable]
    wrong: dict[Check, dict[str, Callable]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "mistake" in metafunc.fixturenames:
            mistakes = [
                pytest.param(check, mistake, id=f"{check.__name__}: {name}")
                for check, solutions in self.wrong.items()
                for name, mistake in solutions.items()
            ]
            metafunc.parametrize(("check", "mistake"), mistakes)
        elif "check" in metafunc.fixturenames:
            metafunc.parametrize("check", self.wrong, ids=lambda check: check.__name__)

    def test_every_check_has_a_right_and_several_wrong_solutions(self):
        checks = {f for name, f in vars(self.exercises).items() if name.startswith("check_")}
        assert checks == set(self.right) == set(self.wrong)
        assert all(len(mistakes) >= 4 for mistakes in self.wrong.values())

    def test_a_right_solution_passes(self, check):
        verdict = check(self.right[check])  # an open task's says what it measured, too
        assert verdict.passed and verdict.message.startswith("Passed: "), verdict.message

    def test_a_stub_is_not_attempted(self, check):
        def stub(*arguments):
            raise NotImplementedError

        verdict = check(stub)
        assert verdict.passed is None and repr(verdict).startswith("Not attempted yet")

    @pytest.mark.parametrize("error", [ZeroDivisionError("oh"), NotImplementedError("for int")])
    def test_an_error_of_the_student_is_told(self, check, error):
        def broken(*arguments):
            raise error

        verdict = check(broken)
        assert verdict.passed is False and f"raised {type(error).__name__}" in verdict.message

    def test_nothing_is_no_answer(self, check):
        verdict = check(lambda *arguments: None)
        assert verdict.passed is False and "Hint: " in verdict.message

    def test_a_wrong_solution_is_rejected_with_an_explanation(self, check, mistake):
        verdict = check(mistake)
        assert verdict.passed is False
        assert "expected" in verdict.message or "should" in verdict.message, verdict.message
        assert "Hint: " in verdict.message and "raised" not in verdict.message, verdict.message


def linear_rows(inputs: int, outputs: int) -> torch.Tensor:
    """The matrix of linear interpolation (align_corners=False), entry by entry."""
    matrix = torch.zeros(outputs, inputs)
    for i in range(outputs):
        position = min(max((i + 0.5) * inputs / outputs - 0.5, 0.0), inputs - 1.0)
        left = min(int(position), inputs - 1)
        matrix[i, left] += 1 - (position - left)
        matrix[i, min(left + 1, inputs - 1)] += position - left
    return matrix
