"""What all tests share."""

import jaxtyping
import pytest
import torch


@pytest.fixture
def as_student():
    """Switch the tests' type hook off: students run without it, and meet the functions' own messages."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(params=["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
def device(request) -> str:
    """The CPU, and CUDA where there is one."""
    return request.param
