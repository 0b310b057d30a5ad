"""Source code shown in a notebook: the whole function, with a short docstring."""

import functools
import math

import pytest
import torch

from course_utils import show
from course_utils.core import check_boxes


def twice(function):
    """A decorator."""

    @functools.wraps(function)
    def wrapper(x):
        return function(function(x))

    return wrapper


@twice
def halve(x):
    """
    Half of x.

    Args:
        x: a number.

    >>> halve(8)
    2.0
    """

    def inner(y):
        r"""The inner one.

        More about it.
        """
        return y / 2

    return inner(x)  # a comment stays


class Box:
    """A box.

    More.
    """

    side = """not a
    docstring"""


def test_source_is_shown_with_name_decorator_and_short_docstrings(published):
    show.show_source(halve)
    [(data, _)] = published
    code = '''@twice
def halve(x):
    """Half of x."""

    def inner(y):
        r"""The inner one."""
        return y / 2

    return inner(x)  # a comment stays'''
    name = f"{__name__}.halve"
    assert data["text/plain"] == f"{name}\n\n{code}"
    assert data["text/markdown"] == f"<small><code>{name}</code></small>\n\n```python\n{code}\n```"


def test_source_of_several_and_of_classes(published):
    show.show_source(check_boxes, Box)
    text = published[0][0]["text/plain"]
    assert text.startswith("course_utils.core.checks.check_boxes\n\ndef check_boxes(")
    assert "Traceback" not in text and 'check_shape("boxes"' not in text
    assert text.endswith('class Box:\n    """A box."""\n\n    side = """not a\n    docstring"""')


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize(
    ("function", "message"),
    [
        (torch.nn.functional.conv2d, r"show_source: .*conv2d is implemented in C\+\+"),
        (len, r"show_source: .*len is implemented in C\+\+"),
        (torch.Tensor.add, r"show_source: .*add is implemented in C\+\+"),
        (3, "show_source: expected a function or a class, got 3"),
        (math, "show_source: expected a function or a class, got a module"),
        (eval("lambda x: x"), "show_source: the source of .* cannot be found"),
    ],
)
def test_source_that_is_not_python(function, message):
    with pytest.raises(TypeError, match=message):
        show.show_source(function)


def test_source_of_nothing():
    with pytest.raises(TypeError, match="show_source: "):
        show.show_source()
