"""What a check says about a student's function, and that the exercises of every notebook are tested."""

import importlib
import pkgutil

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import course_utils.exercises
from course_utils.exercises import checking
from course_utils.exercises.checking import Case, ForbiddenCallError, check, forbid
from tests.exercises.common import ExerciseTests

MODULES = [
    module.name
    for module in pkgutil.iter_modules(course_utils.exercises.__path__)
    if module.name not in ("checking", "predictions")
]


@pytest.mark.parametrize("name", MODULES)
def test_the_exercises_of_every_notebook_are_tested(name):
    tests = importlib.import_module(f"tests.exercises.test_{name}_exercises")
    classes = [value for name, value in vars(tests).items() if name.startswith("Test")]
    assert all(issubclass(tested, ExerciseTests) for tested in classes)
    assert [tested.exercises.__name__ for tested in classes] == [f"course_utils.exercises.{name}"]


def test_an_exception_is_reported_in_a_sentence():
    verdict = check(lambda x: 1 / 0, lambda x: x, [Case("one", (1,), "Think.")])
    assert verdict.message == (
        "Not yet: for one, your function raised ZeroDivisionError: division by zero. Hint: Think."
    )


@pytest.mark.parametrize(
    ("got", "words"),
    [
        ("word", "should be numbers"),
        (torch.zeros(3), r"should have shape [2], got [3]"),
        (torch.tensor([1.0, 3.0]), "expected [1.0, 2.0], got [1.0, 3.0]"),
        (torch.tensor([1.0, float("nan")]), "got [1.0, nan]"),
    ],
)
def test_what_was_expected_and_what_came(got, words):
    verdict = check(lambda: got, lambda: torch.tensor([1.0, 2.0]), [Case("nothing", (), "Think.")])
    assert verdict.passed is False and words in verdict.message


def test_of_a_large_tensor_the_first_wrong_element_is_named():
    wrong = torch.zeros(4, 5)
    wrong[2, 3] = 7
    verdict = check(lambda: wrong, lambda: torch.zeros(4, 5), [Case("nothing", (), "Think.")])
    assert "the result should be 0.0 at index [2, 3], got 7.0" in verdict.message


def test_a_student_who_changes_the_input_in_place_harms_nothing():
    def in_place(x):
        return x.mul_(2)

    numbers = torch.tensor([1.0])
    assert check(in_place, lambda x: 2 * x, [Case("one", (numbers,), "")] * 2).passed
    assert numbers.item() == 1


def test_tuples_are_compared_value_by_value():
    assert checking._difference((1, 2), (1, 2)) is None
    assert checking._difference((1, 3), (1, 2)) == "expected 2, got 3"
    assert checking._difference(5, (1, 2)) == "the result should be a tuple of 2 values, got 5"


IMAGE, KERNEL = torch.ones(1, 1, 2, 2), torch.ones(1, 1, 3, 3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: F.conv_transpose2d(IMAGE, KERNEL),
        lambda: torch.conv_transpose2d(IMAGE, KERNEL),
        lambda: nn.ConvTranspose2d(1, 1, 3)(IMAGE),
        lambda: F.cross_entropy(torch.zeros(1, 2), torch.tensor([0])),
        lambda: nn.CrossEntropyLoss()(torch.zeros(1, 2), torch.tensor([0])),
        lambda: F.pad(IMAGE, (1, 1, 1, 1), mode="reflect"),
        lambda: torch.ones(2).unique(),
    ],
)
def test_a_forbidden_function_is_refused_in_all_its_spellings(call):
    with (
        pytest.raises(ForbiddenCallError, match="your function should not call"),
        forbid(F.conv_transpose2d, F.cross_entropy, F.pad, torch.unique),
    ):
        call()
    call()  # outside of the context all is as before


def test_what_is_not_forbidden_works_as_before():
    with forbid(F.conv_transpose2d):
        assert F.conv2d(F.pad(IMAGE, (2, 2, 2, 2)), KERNEL).shape == (1, 1, 4, 4)


def test_a_check_refuses_a_forbidden_function_to_the_student_only():
    cases = [Case("ones", (IMAGE,), "Use conv2d.")]

    def reference(image):
        return F.conv_transpose2d(image, KERNEL)

    def student(image):
        return F.conv2d(F.pad(image, (2, 2, 2, 2)), KERNEL)

    forbidden = [F.conv_transpose2d]
    assert check(student, reference, cases, forbidden).passed
    assert check(reference, reference, cases, forbidden).message == (
        "Not yet: for ones, your function should not call conv_transpose2d here. Hint: Use conv2d."
    )
