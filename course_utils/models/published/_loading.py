"""What the published networks share: their weights are read from a file that ships with the course."""

from torch import nn

from course_utils.core import data_path
from course_utils.data.weights import load_weights


def load_published(name: str, network: nn.Module) -> nn.Module:
    """Load the shipped weights of a published network into it, ready to use.

    Args:
        name: of the file, for example "nanodet" for `data/checkpoints/nanodet.safetensors`.
        network: its weights are overwritten.

    Returns:
        The network, in evaluation mode and without gradients of its weights.
    """
    load_weights(data_path("checkpoints", f"{name}.safetensors"), network)
    return network.eval().requires_grad_(False)
