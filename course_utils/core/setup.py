"""The first line of every notebook."""

import importlib


def ready() -> None:
    """Print one line: the environment works, or what is missing and how to install it.

    The line contains no version and no device, so that it is the same on every machine.

    >>> ready()
    Ready: Python, torch, torchvision and course_utils work together here.
    """
    for name in ("torchvision", "matplotlib", "ipywidgets"):
        try:
            importlib.import_module(name)
        except Exception as error:  # torchvision raises RuntimeError when it does not fit torch
            print(
                f"Not ready: importing {name} failed ({error}). Run `pip install {name}`, then restart."
            )
            return
    print("Ready: Python, torch, torchvision and course_utils work together here.")
