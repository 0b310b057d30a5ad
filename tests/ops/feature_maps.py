"""What the tests of upsampling and pooling share: random images, memory layouts, and gradients."""

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch.testing import assert_close

law = settings(max_examples=60, deadline=None, derandomize=True, database=None)
side = st.integers(1, 9)

SMALL = [[[[1.0, 2.0], [3.0, 4.0]]]]
# kernel size, stride, padding
WINDOWS = {
    "2 by 2": (2, None, 0),
    "3 by 3": (3, None, 1),
    "overlapping": (3, 2, 1),
    "every pixel": (3, 1, 1),
    "with gaps": (2, 3, 0),
    "one pixel": (1, 1, 0),
    "half is padding": (4, 2, 2),
    "the whole height": (6, 2, 0),
}
# and dilation, ceil_mode
ALL_WINDOWS = WINDOWS | {
    "dilated": (2, 1, 0, 3),
    "dilated, padded": (3, 2, 1, 2),
    "rounded up": (2, 4, 0, 1, True),
    "rounded up, padded": (3, 2, 1, 1, True),
    "rounded up, dilated, padded": (2, 3, 1, 2, True),
    "rounded up, but not into the padding": (3, 5, 1, 1, True),
}


def random(*shape, seed=0, dtype=torch.float64, device="cpu"):
    numbers = torch.randn(
        *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    return numbers.to(device, dtype)


def coarse(*shape, device="cpu"):
    """Whole numbers from so few that most windows have ties."""
    numbers = torch.randint(0, 3, shape, generator=torch.Generator().manual_seed(0))
    return numbers.to(device, torch.float64)


def layouts(input):
    """The same numbers, laid out in memory in four ways."""
    wide = torch.stack([input, input + 1], dim=-1)
    return {
        "contiguous": input.contiguous(),
        "channels last": input.contiguous(memory_format=torch.channels_last),
        "turned": input.transpose(2, 3).contiguous().transpose(2, 3),
        "every second": wide[..., 0],
    }


def output_and_gradient(function, input):
    """The output, and the gradient of a weighted sum of it."""
    leaf = input.detach().requires_grad_()
    output = function(leaf)
    weights = random(*output.shape, seed=1, dtype=output.dtype, device=output.device)
    return output, *torch.autograd.grad((output * weights).sum(), leaf)


def assert_same(ours, theirs, input, tolerance):
    """Equal forward and backward."""
    results = (output_and_gradient(function, input) for function in (ours, theirs))
    for mine, other in zip(*results):
        assert mine.dtype == input.dtype
        assert_close(mine, other, rtol=tolerance, atol=tolerance)


images = st.builds(lambda h, w, seed: random(1, 2, h, w, seed=seed), side, side, st.integers(0, 99))
