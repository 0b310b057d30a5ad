"""Argument checks whose messages are sentences: the argument, what was expected, what came.

All checks raise TypeError for the wrong kind of object and ValueError for a wrong shape or value. Shapes and
types are always checked. Values (NaN, swapped corners, the range of labels) are checked only for tensors on
the CPU, because reading one value from a GPU makes the program wait until the GPU has finished everything.
"""

import math
from numbers import Real
from types import EllipsisType

import torch
from torch import Tensor


def check_shape(name: str, tensor: Tensor, *shape: int | str | EllipsisType) -> None:
    """Raise unless `tensor` is a tensor of this shape.

    Args:
        name: the argument's name, for the message.
        tensor: what the caller gave.
        shape: a size for each axis; a letter where any size will do; `...` in front for any leading axes.

    >>> check_shape("boxes", torch.zeros(3, 5), "n", 4)
    Traceback (most recent call last):
    ...
    ValueError: boxes: expected shape [n, 4], got [3, 5]
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(tensor).__name__}")
    leading = bool(shape) and shape[0] is ...
    wanted = shape[1:] if leading else shape
    sizes = tensor.shape[max(tensor.ndim - len(wanted), 0) :] if leading else tensor.shape
    fits = len(sizes) == len(wanted) and all(
        isinstance(want, str) or want == size for want, size in zip(wanted, sizes)
    )
    if not fits:
        text = ", ".join("..." if want is ... else str(want) for want in shape)
        raise ValueError(f"{name}: expected shape [{text}], got {list(tensor.shape)}")


def check_boxes(name: str, boxes: Tensor, *shape: int | str | EllipsisType) -> None:
    """Raise unless `boxes` are finite real numbers with x1 <= x2 and y1 <= y2.

    Zero boxes are fine, and so are boxes of zero width or height.

    Args:
        name: the argument's name, for the message.
        boxes: `x1, y1, x2, y2` in pixels.
        shape: as in `check_shape`; `[n, 4]` when left out.

    >>> check_boxes("proposals", torch.tensor([[5.0, 0.0, 2.0, 9.0]]))
    Traceback (most recent call last):
    ...
    ValueError: proposals: expected x1 <= x2 and y1 <= y2, but row 0 is [5.0, 0.0, 2.0, 9.0]
    """
    check_shape(name, boxes, *(shape or ("n", 4)))
    if boxes.is_complex() or boxes.dtype == torch.bool:
        raise TypeError(f"{name}: expected real numbers, got {boxes.dtype}")
    if not on_cpu(boxes):
        return
    ordered = boxes[..., :2] <= boxes[..., 2:]
    if ordered.all() and math.isfinite(boxes.detach().sum()):
        return  # the usual case, in few steps; what follows finds the row to name
    check_rows(name, boxes, boxes.isfinite().all(dim=-1), "finite numbers")
    check_rows(name, boxes, ordered.all(dim=-1), "x1 <= x2 and y1 <= y2")


def check_masks(name: str, masks: Tensor, *shape: int | str | EllipsisType) -> None:
    """Raise unless `masks` is a boolean tensor.

    Args:
        name: the argument's name, for the message.
        masks: what the caller gave.
        shape: as in `check_shape`; `[n, h, w]` when left out.

    >>> check_masks("masks", torch.zeros(2, 4, 4))
    Traceback (most recent call last):
    ...
    TypeError: masks: expected torch.bool, got torch.float32
    """
    check_shape(name, masks, *(shape or ("n", "h", "w")))
    if masks.dtype != torch.bool:
        raise TypeError(f"{name}: expected torch.bool, got {masks.dtype}")


def check_rows(name: str, tensor: Tensor, good: Tensor, expected: str) -> None:
    """Raise unless every row of a tensor on the CPU is good; the message quotes the first bad row only.

    Args:
        name: the argument's name, for the message.
        tensor: what the caller gave.
        good: whether each row is as expected, one boolean for each leading index of `tensor`.
        expected: what a row should be, in words.

    >>> scores = torch.tensor([0.5, float("nan")])
    >>> check_rows("scores", scores, scores.isfinite(), "finite numbers")
    Traceback (most recent call last):
    ...
    ValueError: scores: expected finite numbers, but row 1 is nan
    """
    if on_cpu(good) and not good.all():
        index = (~good).nonzero()[0].tolist()
        row = index[0] if len(index) == 1 else index
        raise ValueError(
            f"{name}: expected {expected}, but row {row} is {tensor[tuple(index)].tolist()}"
        )


def on_cpu(tensor: Tensor) -> bool:
    """Whether the values of a tensor may be checked: it is on the CPU."""
    return tensor.device.type == "cpu"


def check_floating(name: str, tensor: Tensor) -> None:
    """Raise unless `tensor` holds floating-point numbers.

    Args:
        name: the argument's name, for the message.
        tensor: what the caller gave.

    >>> check_floating("image", torch.zeros(3, 8, 8, dtype=torch.uint8))
    Traceback (most recent call last):
    ...
    TypeError: image: expected floating-point numbers, got torch.uint8
    """
    if not tensor.is_floating_point():
        raise TypeError(f"{name}: expected floating-point numbers, got {tensor.dtype}")


def check_labels(name: str, labels: Tensor) -> None:
    """Raise unless `labels` is `[n]` and int64, torch's type for classes and indices.

    Args:
        name: the argument's name, for the message.
        labels: what the caller gave.

    >>> check_labels("labels", torch.tensor([1.0, 0.0]))
    Traceback (most recent call last):
    ...
    TypeError: labels: expected torch.int64, got torch.float32
    """
    check_shape(name, labels, "n")
    if labels.dtype != torch.int64:
        raise TypeError(f"{name}: expected torch.int64, got {labels.dtype}")


def check_same_device(**tensors: Tensor) -> None:
    """Raise unless all tensors live on one device.

    Args:
        tensors: the arguments by name.

    >>> check_same_device(boxes1=torch.zeros(1), boxes2=torch.zeros(1))
    """
    devices = {name: str(tensor.device) for name, tensor in tensors.items()}
    if len(set(devices.values())) > 1:
        found = ", ".join(f"{name} on {device}" for name, device in devices.items())
        raise ValueError(f"{', '.join(devices)}: expected one device, got {found}")


def check_fraction(name: str, value: float) -> None:
    """Raise unless `value` is a number from 0 to 1.

    Args:
        name: the argument's name, for the message.
        value: what the caller gave.

    >>> check_fraction("iou_threshold", 1.5)
    Traceback (most recent call last):
    ...
    ValueError: iou_threshold: expected a number from 0 to 1, got 1.5
    """
    if not isinstance(value, Real):
        raise TypeError(f"{name}: expected a number from 0 to 1, got {value!r}")
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a number from 0 to 1, got {value}")


def check_size(name: str, size: tuple[int, int]) -> None:
    """Raise unless `size` is (height, width), both whole and above zero.

    Args:
        name: the argument's name, for the message.
        size: what the caller gave.

    >>> check_size("output_size", (7, 0))
    Traceback (most recent call last):
    ...
    ValueError: output_size: expected (height, width) above zero, got (7, 0)
    """
    try:
        height, width = size
        positive = int(height) == height > 0 and int(width) == width > 0
    except (TypeError, ValueError, OverflowError):
        positive = False
    if not positive:
        raise ValueError(f"{name}: expected (height, width) above zero, got {size}")


def check_whole(name: str, value: int, least: int = 0) -> None:
    """Raise unless `value` is a whole number of at least `least`.

    Args:
        name: the argument's name, for the message.
        value: what the caller gave.
        least: the smallest value allowed.

    >>> check_whole("stride", 0, least=1)
    Traceback (most recent call last):
    ...
    ValueError: stride: expected a whole number of at least 1, got 0
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}: expected a whole number of at least {least}, got {value!r}")
    if value < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, got {value}")
