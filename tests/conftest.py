"""What all tests share."""

import jaxtyping
import pytest


@pytest.fixture
def as_student():
    """Switch the tests' type hook off: students run without it, and meet the functions' own messages."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
