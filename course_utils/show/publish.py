"""The only function that writes the output of a notebook cell."""

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display


def publish(bundle: dict, metadata: dict | None = None) -> None:
    """Display one output in several formats; outside a notebook, print its text.

    Args:
        bundle: the output by MIME type; it must contain "text/plain".
        metadata: stored with it in the notebook, by MIME type.

    >>> publish({"text/plain": "a cat on a mat", "image/png": "..."})
    a cat on a mat
    """
    if InteractiveShell.initialized():
        display(bundle, raw=True, metadata=metadata)
    else:
        print(bundle["text/plain"])
