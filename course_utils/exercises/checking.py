"""How an exercise is checked: call the student's function on chosen inputs and compare the results."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

NOT_ATTEMPTED = "Not attempted yet: replace `raise NotImplementedError` with your own lines."


class Case(NamedTuple):
    """One input that a student's function must get right.

    Attributes:
        what: the input in words, for the message.
        arguments: the arguments for the call.
        hint: shown when the function fails on this input.
    """

    what: str
    arguments: tuple[Any, ...]
    hint: str


class Verdict(NamedTuple):
    """The result of a check. A notebook displays its message.

    Attributes:
        passed: True, False, or None when the exercise was not attempted yet.
        message: one or two sentences for the student.
    """

    passed: bool | None
    message: str

    def __repr__(self) -> str:
        return self.message


class ForbiddenCallError(Exception):
    """A function was called that the exercise asks you to do without."""


class forbid(TorchFunctionMode):
    """Inside this context, the given functions of torch raise `ForbiddenCallError`.

    A function is recognised by its name, so that its spellings as a method of a tensor and as a layer
    (`torch.nn.ConvTranspose2d` for `F.conv_transpose2d`) are refused as well.

    Args:
        functions: functions of `torch`, `torch.nn.functional` or methods of `torch.Tensor`.

    >>> with forbid(torch.nn.functional.cross_entropy):
    ...     torch.nn.CrossEntropyLoss()(torch.zeros(1, 2), torch.tensor([0]))
    Traceback (most recent call last):
    ...
    course_utils.exercises.checking.ForbiddenCallError: your function should not call cross_entropy here
    """

    def __init__(self, *functions: Callable) -> None:
        super().__init__()
        self.names = {function.__name__ for function in functions}

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if (name := getattr(func, "__name__", "")) in self.names:
            raise ForbiddenCallError(f"your function should not call {name} here")
        return func(*args, **(kwargs or {}))


RIGHT = Verdict(True, "Passed: right on every input.")


def _difference(got: Any, expected: Any, what: str = "the result") -> str | None:
    """How `got` differs from `expected`, in words, or None."""
    if isinstance(expected, tuple):
        if not isinstance(got, tuple | list) or len(got) != len(expected):
            return f"{what} should be a tuple of {len(expected)} values, got {_show(got)}"
        differences = (
            _difference(g, e, f"value {i} of {what}")
            for i, (g, e) in enumerate(zip(got, expected, strict=True))
        )
        return next((difference for difference in differences if difference), None)
    try:
        tensor = torch.as_tensor(got).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        return f"{what} should be numbers, got {_show(got)}"
    if tensor.is_complex():
        return f"{what} should be real numbers, got {_show(got)}"
    expected = torch.as_tensor(expected).detach().cpu()
    if tensor.shape != expected.shape:
        return f"{what} should have shape {list(expected.shape)}, got {list(tensor.shape)}"
    if tensor.is_floating_point() and not expected.is_floating_point():
        return f"{what} should be whole numbers (int64), got {tensor.dtype}"
    wrong = ~torch.isclose(tensor.double(), expected.double(), rtol=1e-4, atol=1e-4)
    if wrong.any() and expected.numel() <= 12:
        return f"expected {_show(expected)}, got {_show(tensor)}"
    if wrong.any():
        place = wrong.nonzero()[0].tolist()
        got_there, expected_there = _show(tensor[tuple(place)]), _show(expected[tuple(place)])
        return f"{what} should be {expected_there} at index {place}, got {got_there}"
    return None


def _show(value: Any) -> str:
    """A value in at most 120 characters; tensors as lists of numbers, rounded to 4 digits."""
    if isinstance(value, Tensor):
        value = (value.double() * 1e4).round().div(1e4) if value.is_floating_point() else value
        value = value.tolist()
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def attempt(
    call: Callable[[], Any], what: str, hint: str, forbidden: Sequence[Callable] = ()
) -> Any | Verdict:
    """The result of a student's function; or the verdict, if it is a stub or raises an error.

    Args:
        call: calls the function.
        what: the input in words, for the message.
        hint: for the message.
        forbidden: as in `check`.

    >>> attempt(lambda: 1 + 1, "nothing", "Add.")
    2
    >>> attempt(lambda: 1 / 0, "nothing", "Add.")
    Not yet: for nothing, your function raised ZeroDivisionError: division by zero. Hint: Add.
    """
    try:
        with forbid(*forbidden) if forbidden else nullcontext():
            return call()
    except ForbiddenCallError as error:
        return Verdict(False, f"Not yet: for {what}, {error}. Hint: {hint}")
    except Exception as error:
        if type(error) is NotImplementedError and not error.args:  # torch's own has a message
            return Verdict(None, NOT_ATTEMPTED)
        reason = f"your function raised {type(error).__name__}: {error}"
        return Verdict(False, f"Not yet: for {what}, {reason}. Hint: {hint}")


def check(
    student: Callable,
    reference: Callable,
    cases: Sequence[Case],
    forbidden: Sequence[Callable] = (),
) -> Verdict:
    """Call a student's function on every case and compare its results with the reference's, to 1e-4.

    Args:
        student: the function to check; if it raises NotImplementedError, the exercise is not attempted.
        reference: a correct function with the same arguments.
        cases: the inputs, simplest first. `student` gets copies of the tensors, which it may change.
        forbidden: functions of torch that `student` must do without; see `forbid`.

    Returns:
        The verdict on the first case that fails, or on all cases.

    >>> cases = [Case("the number 3", (3,), "Twice means times 2.")]
    >>> check(lambda x: 2 * x, lambda x: x + x, cases)
    Passed: right on every input.
    >>> check(lambda x: x**2, lambda x: x + x, cases)
    Not yet: for the number 3, expected 6, got 9. Hint: Twice means times 2.
    """
    for case in cases:
        copies = tuple(
            value.clone() if isinstance(value, Tensor) else value for value in case.arguments
        )
        got = attempt(lambda: student(*copies), case.what, case.hint, forbidden)  # noqa: B023
        if isinstance(got, Verdict):
            return got
        difference = _difference(got, reference(*case.arguments))
        if difference:
            return Verdict(False, f"Not yet: for {case.what}, {difference}. Hint: {case.hint}")
    return RIGHT
