"""What the tests of course_utils.ops share: devices, awkward boxes, and messages as a student meets them."""

import pytest
import torch

PAIRS = {
    "none and none": ([], []),
    "none and some": ([], [[0, 0, 4, 4]]),
    "some and none": ([[0, 0, 4, 4], [1, 1, 2, 2]], []),
    "equal": ([[1, 2, 5, 9]], [[1, 2, 5, 9], [1, 2, 5, 9]]),
    "touching": (
        [[2, 2, 4, 4]],
        [[4, 2, 6, 4], [2, 4, 4, 6], [4, 4, 6, 6], [0, 0, 2, 2], [0, 2, 2, 4]],
    ),
    "nested": ([[0, 0, 10, 10], [4, 4, 5, 6]], [[2, 2, 8, 8], [0, 0, 5, 10]]),
    "apart": ([[0, 0, 2, 3]], [[10, 0, 12, 3], [0, 20, 2, 23], [40, 50, 41, 60]]),
    "crossing": ([[0, 4, 12, 6]], [[5, 0, 8, 9]]),
    "wide and tall": ([[0, 0, 100, 1], [7, 0, 8, 90]], [[0, 0, 1, 100], [0, 0, 200, 2]]),
    "negative": ([[-8, -6, -2, -1], [-3, -3, 3, 3]], [[-5, -5, 1, 1], [0, 0, 2, 2]]),
    "no width": ([[3, 1, 3, 7], [3, 2, 3, 9]], [[0, 0, 6, 6], [3, 1, 3, 7], [1, 1, 1, 1]]),
    "no height": ([[1, 3, 7, 3]], [[0, 0, 6, 6], [1, 3, 7, 3], [2, 3, 9, 3], [1, 9, 7, 9]]),
    "points": ([[3, 3, 3, 3], [0, 0, 0, 0]], [[3, 3, 3, 3], [5, 5, 5, 5], [0, 0, 6, 6]]),
    "a million": (
        [[1e6, 1e6, 1e6 + 4, 1e6 + 8], [0, 0, 1e6, 1e6]],
        [[1e6, 1e6, 1e6 + 2, 1e6 + 8], [0, 0, 5e5, 2e6]],
    ),
    "a million billion": (
        [[-1e15, 0, 1e15, 1e15]],
        [[0, 0, 3e15, 1e15], [-1e15, 0, 1e15, 1e15], [5, 5, 6, 6]],
    ),
    "fractions": (
        [[0.5, 0.25, 2.75, 3.5], [0.1, 0.2, 0.3, 0.9]],
        [[0.3, 0.3, 0.4, 0.4], [0.5, 0.25, 2.75, 3.5]],
    ),
}


def _random_boxes(count: int, seed: int, low: int, high: int) -> list[list[int]]:
    corners = torch.randint(low, high, (count, 2, 2), generator=torch.Generator().manual_seed(seed))
    return torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1).tolist()


PAIRS["random"] = (_random_boxes(30, 0, 0, 60), _random_boxes(25, 1, 0, 60))
PAIRS["random, crowded"] = (_random_boxes(20, 2, -3, 4), _random_boxes(20, 3, -3, 4))

# each type with the numbers it can hold: smallest, largest, only whole ones
TYPES = {
    torch.float64: (-1e300, 1e300, False),
    torch.float32: (-1e16, 1e16, False),
    torch.float16: (-2048, 2048, False),
    torch.int32: (-1e9, 1e9, True),
    torch.uint8: (0, 255, True),
}


def _fits(numbers: list[float], dtype: torch.dtype) -> bool:
    low, high, whole = TYPES[dtype]
    return all(low <= number <= high and (number == int(number) or not whole) for number in numbers)


CASES = [
    pytest.param(pair, dtype, id=f"{name}, {str(dtype).removeprefix('torch.')}")
    for name, pair in PAIRS.items()
    for dtype in TYPES
    if _fits([number for boxes in pair for box in boxes for number in box], dtype)
]


@pytest.fixture(params=[param.values for param in CASES], ids=[param.id for param in CASES])
def box_pair(request, device) -> tuple[torch.Tensor, torch.Tensor]:
    """Two sets of boxes of one type: every awkward case in every type that can hold it."""
    pair, dtype = request.param
    return tuple(torch.tensor(boxes, dtype=dtype, device=device).reshape(-1, 4) for boxes in pair)
