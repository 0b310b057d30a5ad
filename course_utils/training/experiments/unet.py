"""U-Net on nuclei: what do the skip connections give, and what do the weights of the borders?"""

from jaxtyping import Bool, Float
from torch import Tensor

from course_utils.core import seed_everything
from course_utils.data import microscopy
from course_utils.metrics.semantic import boundary_iou
from course_utils.training.loop import train
from course_utils.training.microscopy import (
    nuclei_metrics,
    nuclei_unet,
    nucleus_probability,
    weighted_pixel_loss,
)

RIM = 0.004  # of the image's diagonal: two pixels
ARMS = {  # skip connections, and w0 of the border weights
    "weighted": (True, 10.0),
    "unweighted": (True, 0.0),
    "weighted, without skips": (False, 10.0),
}


def unet_nuclei(seed: int, *, steps: int = 150, size: int = 128) -> dict[str, dict[int, float]]:
    """The quality of three U-Nets on the held-out part of the microscope's image.

    Args:
        seed: of the initial weights.
        steps: of training.
        size: height and width of the crops in pixels.

    Returns:
        For each U-Net the IoU of its pixels, the IoU of its rims (a border of two pixels), and F1 of its
        nuclei.
    """
    results = {}
    for arm in ARMS:
        probability, held_out = _train(arm, seed, steps, size)
        truth = held_out.instances > 0
        found = nuclei_metrics(probability, held_out.instances)
        rims = boundary_iou((probability > 0.5)[None], truth[None], RIM)
        results[f"{arm}: IoU of the pixels"] = {steps: found["foreground_iou"]}
        results[f"{arm}: IoU of the rims"] = {steps: rims.item()}
        results[f"{arm}: F1 of the nuclei"] = {steps: found["f1"]}
    return results


def unet_masks(seed: int, *, steps: int = 150, size: int = 128) -> dict[str, Bool[Tensor, "h w"]]:
    """The pixels that two of these U-Nets call nucleus, in rows 150 to 277 of the held-out part."""
    masks = {}
    for name, arm in (("with skips", "weighted"), ("without skips", "weighted, without skips")):
        probability, _ = _train(arm, seed, steps, size)
        masks[name] = (probability[150:278] > 0.5).contiguous()
    return masks


def _train(
    arm: str, seed: int, steps: int, size: int
) -> tuple[Float[Tensor, "h w"], microscopy.Micrograph]:
    """The probability of nucleus in the held-out part, and that part."""
    skips, w0 = ARMS[arm]
    batches = microscopy.nuclei_batches(batch_size=4, size=size, w0=w0)
    seed_everything(seed)
    model = nuclei_unet(2, skips=skips)
    options = {"steps": steps, "learning_rate": 1e-2, "weight_decay": 1e-2}
    train(model, batches, weighted_pixel_loss, **options)
    _, held_out = microscopy.nuclei()
    return nucleus_probability(model.eval(), held_out.image), held_out
