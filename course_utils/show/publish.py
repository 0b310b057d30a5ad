"""The one place where something is put under a notebook cell."""

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display


def publish(bundle: dict, metadata: dict | None = None) -> None:
    """Display one output in several forms; in plain Python, where nothing can be displayed, print its text.

    Args:
        bundle: the output by MIME type; "text/plain" is always there.
        metadata: what notebooks store beside it, by MIME type.

    >>> publish({"text/plain": "a cat on a mat", "image/png": "..."})
    a cat on a mat
    """
    if InteractiveShell.initialized():
        display(bundle, raw=True, metadata=metadata)
    else:
        print(bundle["text/plain"])
