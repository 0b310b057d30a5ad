"""Argument checks whose messages are sentences: the argument, what was expected, what came."""

import math
from numbers import Real

import torch
from torch import Tensor


def check_shape(name: str, tensor: Tensor, *shape: int | str) -> None:
    """Raise unless `tensor` is a tensor of this shape.

    Args:
        name: the argument's name, for the message.
        tensor: what the caller gave.
        shape: a size for each axis; a letter where any size will do.

    Raises:
        TypeError: not a tensor.
        ValueError: another rank or size.

    >>> check_shape("boxes", torch.zeros(3, 5), "n", 4)
    Traceback (most recent call last):
    ...
    ValueError: boxes: expected shape [n, 4], got [3, 5]
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(tensor).__name__}")
    fits = tensor.ndim == len(shape) and all(
        isinstance(want, str) or want == size
        for want, size in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join(str(want) for want in shape)
        raise ValueError(f"{name}: expected shape [{wanted}], got {list(tensor.shape)}")


def check_boxes(name: str, boxes: Tensor) -> None:
    """Raise unless `boxes` is `[n, 4]`, finite, and has x1 <= x2 and y1 <= y2 in every row.

    Zero boxes are fine, and so are boxes of zero width or height.

    Args:
        name: the argument's name, for the message.
        boxes: `x1, y1, x2, y2` in pixels.

    Raises:
        TypeError: not a tensor, or complex or boolean numbers.
        ValueError: another shape, a NaN or an infinity, or a box whose corners are swapped.

    >>> check_boxes("proposals", torch.tensor([[5.0, 0.0, 2.0, 9.0]]))
    Traceback (most recent call last):
    ...
    ValueError: proposals: expected x1 <= x2 and y1 <= y2, but row 0 is [5.0, 0.0, 2.0, 9.0]
    """
    check_shape(name, boxes, "n", 4)
    if boxes.is_complex() or boxes.dtype == torch.bool:
        raise TypeError(f"{name}: expected real numbers, got {boxes.dtype}")
    if (boxes[:, :2] <= boxes[:, 2:]).all() and math.isfinite(boxes.detach().sum()):
        return  # all is well, in few steps; what follows finds the culprit
    if not torch.isfinite(boxes).all():
        row = int(torch.isfinite(boxes).all(dim=1).int().argmin())
        raise ValueError(f"{name}: expected finite numbers, but row {row} is {boxes[row].tolist()}")
    ordered = boxes[:, :2] <= boxes[:, 2:]
    if not ordered.all():
        row = int(ordered.all(dim=1).int().argmin())
        raise ValueError(
            f"{name}: expected x1 <= x2 and y1 <= y2, but row {row} is {boxes[row].tolist()}"
        )


def check_floating(name: str, tensor: Tensor) -> None:
    """Raise unless `tensor` holds floating-point numbers.

    Args:
        name: the argument's name, for the message.
        tensor: what the caller gave.

    Raises:
        TypeError: whole, complex or boolean numbers.

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

    Raises:
        TypeError: not a tensor, or numbers of another type.
        ValueError: another shape.

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

    Raises:
        ValueError: they do not.

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

    Raises:
        TypeError: not a number.
        ValueError: outside 0..1, or NaN.

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

    Raises:
        ValueError: anything else.

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
