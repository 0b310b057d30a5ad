"""The source code that runs, shown in the notebook, instead of a pasted copy."""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable

from course_utils.show.publish import publish


def show_source(*functions: Callable) -> None:
    """Display the source code of Python functions, methods or classes, each below its dotted name.

    The docstring is shortened to its first line, so that the code fits on a slide; `help(function)` shows it.

    >>> show_source(textwrap.indent)  # doctest: +ELLIPSIS
    textwrap.indent
    <BLANKLINE>
    def indent(text, prefix, predicate=None):
        \"\"\"Adds 'prefix' to the beginning of selected lines in 'text'.\"\"\"
    ...
    """
    if not functions:
        raise TypeError("show_source: expected at least one function or class, got none")
    named = [(_dotted_name(function), _source(function)) for function in functions]
    publish(
        {
            "text/markdown": "\n\n".join(
                f"<small><code>{name}</code></small>\n\n```python\n{code}\n```"
                for name, code in named
            ),
            "text/plain": "\n\n".join(f"{name}\n\n{code}" for name, code in named),
        }
    )


def _dotted_name(function: Callable) -> str:
    """The name with its module; only the name of what is defined in the notebook itself."""
    function = inspect.unwrap(function) if callable(function) else function
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", repr(function))
    module = getattr(function, "__module__", None)
    return f"{module}.{name}" if module and module != "__main__" else name


def _source(function: Callable) -> str:
    """The source code without its indentation, with short docstrings."""
    if isinstance(function, property | staticmethod | classmethod) or inspect.ismodule(function):
        raise TypeError(
            f"show_source: expected a function or a class, got a {type(function).__name__}"
        )
    if not callable(function):
        raise TypeError(f"show_source: expected a function or a class, got {function!r}")
    try:
        lines, _ = inspect.getsourcelines(inspect.unwrap(function))
    except TypeError as error:
        raise TypeError(
            f"show_source: {_dotted_name(function)} is implemented in C++ (or C) and has no Python source"
        ) from error
    except OSError as error:
        raise TypeError(
            f"show_source: the source of {_dotted_name(function)} cannot be found"
        ) from error
    return _shorten_docstrings(textwrap.dedent("".join(lines)).rstrip())


def _shorten_docstrings(code: str) -> str:
    """Shorten every docstring in `code` to its first line.

    >>> print(
    ...     _shorten_docstrings(
    ...         "def f(x):\\n    '''Twice x.\\n\\n    More.\\n    '''\\n    return 2 * x"
    ...     )
    ... )
    def f(x):
        '''Twice x.'''
        return 2 * x
    """
    lines = code.splitlines()
    owners = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    found = [n for n in ast.walk(ast.parse(code)) if isinstance(n, owners) and ast.get_docstring(n)]
    for owner in sorted(found, key=lambda node: -node.lineno):
        docstring = owner.body[0]
        first, last = docstring.lineno - 1, docstring.end_lineno
        indent, opening = re.match(r"(\s*)([a-zA-Z]*(?:\"\"\"|'''|\"|'))", lines[first]).groups()
        if last - first > 1:
            title = lines[first][len(indent + opening) :].strip() or lines[first + 1].strip()
            lines[first:last] = [indent + opening + title + opening.lstrip("rRuU")]
    return "\n".join(lines)
