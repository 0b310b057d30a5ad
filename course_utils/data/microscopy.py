"""Cell nuclei under a microscope: how to train a network on a single image.

As in the U-Net paper: elastic deformations as data augmentation, and a loss that gives the narrow gaps
between nuclei so much weight that the network learns to keep touching nuclei separate.
"""

import random
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from scipy import ndimage
from torch import Tensor

from course_utils.core import check_floating, check_shape
from course_utils.data.photos import photo
from course_utils.ops.upsample import bicubic

CLASS_NAMES = ("medium", "nucleus")
LAST_TRAINING_COLUMN = 384  # of 512: three quarters for training, the rest is held out

WeightedBatch = tuple[
    Float[Tensor, "b 3 h w"], Int64[Tensor, "b h w"], Float[Tensor, "b h w"]
]  # images, labels, weights


class Micrograph(NamedTuple):
    """A microscope image and its nuclei.

    Attributes:
        image: the square root of the brightness, so that dim nuclei are visible; three equal channels.
        instances: 0 for medium, and a number from 1 for each nucleus.
    """

    image: Float[Tensor, "3 h w"]
    instances: Int64[Tensor, "h w"]


def nuclei() -> tuple[Micrograph, Micrograph]:
    """The image in two parts: the left three quarters for training, the rest held out for evaluation.

    A microscope counts photons, and the noise of a count grows with the square root of its mean. The square
    root of the counts therefore has the same amount of noise everywhere.

    Returns:
        The part for training, 512 x 384, and the part held out, 512 x 128. `photo("nuclei").credit` names the
        source of the image.

    >>> [(tuple(part.instances.shape), len(part.instances.unique()) - 1) for part in nuclei()]
    [((512, 384), 102), ((512, 128), 30)]
    """
    sample = photo("nuclei").sample
    instances = torch.zeros_like(sample.semantic)
    for number, mask in enumerate(sample.masks, start=1):
        instances[mask] = number
    columns = slice(0, LAST_TRAINING_COLUMN), slice(LAST_TRAINING_COLUMN, None)
    train, held_out = (
        Micrograph(sample.image[..., part].sqrt(), instances[:, part]) for part in columns
    )
    return train, held_out


def elastic_deformation(
    image: Float[Tensor, "c h w"],
    labels: Int64[Tensor, "h w"],
    *,
    seed: int,
    points: int = 3,
    deviation: int | float = 10.0,
) -> tuple[Float[Tensor, "c h w"], Int64[Tensor, "h w"]]:
    """Deform an image and its labels smoothly, as the tissue on a slide might be deformed.

    Each point of a coarse grid gets a random displacement, and bicubic interpolation makes a smooth field of
    them. The result samples the input at the displaced positions: the image bilinearly, the labels at the
    nearest pixel, because there is no class between two classes. Beyond the border, the input is reflected.

    Args:
        image: any number of channels.
        labels: a class or instance number for each pixel.
        seed: of the random displacements.
        points: the grid has this number of points in each direction, 2 or more.
        deviation: the standard deviation of horizontal and vertical displacements, in pixels.

    Returns:
        Image and labels, of the same sizes.

    Source: Ronneberger et al., "U-Net", 2015, section 3.1: 3 x 3 points, 10 pixels.

    >>> image, labels = torch.rand(1, 8, 8), torch.zeros(8, 8, dtype=torch.int64)
    >>> torch.allclose(elastic_deformation(image, labels, seed=0, deviation=0)[0], image, atol=1e-6)
    True
    """
    check_shape("image", image, "c", "h", "w")
    check_floating("image", image)
    check_shape("labels", labels, *image.shape[1:])
    if points < 2:
        raise ValueError(f"points: expected 2 or more, got {points}")
    if not deviation >= 0:
        raise ValueError(f"deviation: expected 0 or more, got {deviation}")
    size = tuple(labels.shape)
    x, y = displacement_field(size, seed=seed, points=points, deviation=deviation).to(image)
    rows, columns = (torch.arange(n, device=image.device) + 0.5 for n in size)
    source = torch.stack([(columns + x) / size[1], (rows[:, None] + y) / size[0]], dim=2)
    options = {"grid": 2 * source[None] - 1, "padding_mode": "reflection", "align_corners": False}
    deformed = F.grid_sample(image[None], mode="bilinear", **options)[0]
    moved = F.grid_sample(labels[None, None].to(image), mode="nearest", **options)[0, 0]
    return deformed, moved.round().long()


def displacement_field(
    size: tuple[int, int], *, seed: int, points: int = 3, deviation: int | float = 10.0
) -> Float[Tensor, "2 h w"]:
    """A smooth random displacement for each pixel: random on a coarse grid, bicubic interpolation in between.

    Args:
        size: (height, width).
        seed, points, deviation: as in `elastic_deformation`.

    Returns:
        Horizontal and vertical displacements, in pixels.
    """
    generator = torch.Generator().manual_seed(seed)
    coarse = deviation * torch.randn(1, 2, points, points, generator=generator)
    return bicubic(coarse, size, align_corners=True)[0]


def open_gaps(instances: Int64[Tensor, "h w"]) -> Int64[Tensor, "h w"]:
    """Set the pixels where two nuclei touch to medium, so that there is a gap between them.

    In a semantic map, two touching nuclei are one connected component. With a gap they are two.

    Args:
        instances: 0 for medium, and a number for each nucleus.

    Returns:
        The instances, with 0 wherever one of a pixel's eight neighbours belongs to another nucleus.

    >>> open_gaps(torch.tensor([[0, 1, 1, 1, 2, 2, 2, 0]]))
    tensor([[0, 1, 1, 0, 0, 2, 2, 0]])
    """
    check_shape("instances", instances, "h", "w")
    numbers = instances.cpu().numpy()
    highest = ndimage.maximum_filter(numbers, 3)
    lowest = ndimage.minimum_filter(np.where(numbers > 0, numbers, numbers.max() + 1), 3)
    touching = torch.from_numpy(highest != lowest).to(instances.device)
    return torch.where(touching, 0, instances)


def border_weights(
    instances: Int64[Tensor, "h w"],
    *,
    w0: int | float = 10.0,
    sigma: int | float = 5.0,
    class_weights: tuple[int | float, int | float] = (1.0, 1.0),
) -> Float[Tensor, "h w"]:
    """The weight of each pixel in the loss: that of its class, and much more in a gap between two nuclei.

    w = w_c + w0 exp(-(d1 + d2)^2 / (2 sigma^2)) where d1 and d2 are a pixel's distances to the nearest
    nucleus and to the second nearest. Both are small only in a narrow gap. Pixels of nuclei get w_c alone.

    Args:
        instances: 0 for medium, and a number for each nucleus.
        w0: the largest weight that a gap can add.
        sigma: the scale of the distances, in pixels; the larger, the wider the gaps that get weight.
        class_weights: w_c of medium and of nucleus, to balance the class frequencies.

    Source: Ronneberger et al., "U-Net", 2015, equation 2. Distances beyond 6 sigma are treated as
    infinite, which changes a weight by less than w0 / 10^7.

    >>> border_weights(torch.tensor([[1, 0, 0, 2]]))
    tensor([[1.0000, 9.3527, 9.3527, 1.0000]])
    """
    check_shape("instances", instances, "h", "w")
    if not (w0 >= 0 and sigma > 0):
        raise ValueError(f"w0, sigma: expected w0 >= 0 and sigma > 0, got {w0} and {sigma}")
    numbers = instances.cpu().numpy()
    nearest, second = np.full((2, *numbers.shape), np.inf)
    reach = int(np.ceil(6 * sigma))
    for number, extent in enumerate(ndimage.find_objects(numbers), start=1):
        if extent is None:
            continue
        window = tuple(slice(max(0, s.start - reach), s.stop + reach) for s in extent)
        distance = ndimage.distance_transform_edt(numbers[window] != number)
        farther = np.maximum(distance, nearest[window])
        nearest[window] = np.minimum(distance, nearest[window])
        second[window] = np.minimum(farther, second[window])
    gap = w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    weights = np.where(numbers > 0, class_weights[1], class_weights[0] + gap)
    return torch.from_numpy(weights).to(instances.device, torch.float32)


def label_components(foreground: Bool[Tensor, "h w"], *, smallest: int = 1) -> Int64[Tensor, "h w"]:
    """Number the connected components of a mask; pixels are connected through their sides.

    Args:
        foreground: the mask.
        smallest: components with fewer pixels are left out.

    Returns:
        0 outside, and 1, 2, ... on the components, from top to bottom; the largest number is their count.

    Source: `scipy.ndimage.label`.

    >>> label_components(torch.tensor([[True, True, False], [False, False, True]]))
    tensor([[1, 1, 0],
            [0, 0, 2]])
    """
    check_shape("foreground", foreground, "h", "w")
    numbers, count = ndimage.label(foreground.cpu().numpy())
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)
    keep = (sizes >= smallest) & (np.arange(count + 1) > 0)
    renumbered = np.where(keep, keep.cumsum(), 0)[numbers]
    return torch.from_numpy(renumbered).to(foreground.device)


def nuclei_batches(
    batch_size: int, size: int, *, seed: int = 0, w0: int | float = 10.0
) -> Callable[[int], WeightedBatch]:
    """Random crops of the part for training, rotated, flipped, deformed, and varied in brightness.

    The loss weights use sigma = 3, because these nuclei are smaller than the paper's cells, and w_c = 1.5 for
    nuclei, which have fewer pixels than the medium.

    Args:
        batch_size: crops per batch.
        size: height and width of a crop, at most 384.
        seed: of all random numbers.
        w0: of `border_weights`; 0 gives the gaps no extra weight.

    Returns:
        A function from the number of a training step to its batch. Labels are 0 and 1, with gaps where nuclei
        touch.
    """
    train, _ = nuclei()
    if not 0 < size <= LAST_TRAINING_COLUMN:
        raise ValueError(f"size: expected 1 to {LAST_TRAINING_COLUMN}, got {size}")
    instances = open_gaps(train.instances)
    weights = border_weights(instances, w0=w0, sigma=3.0, class_weights=(1.0, 1.5))
    image_and_weights = torch.cat([train.image, weights[None]])
    labels = (instances > 0).long()

    def crop(number: int) -> tuple[Tensor, Tensor, Tensor]:
        draw = random.Random(f"{seed}: square {number}")
        top, left = (draw.randint(0, extent - size) for extent in labels.shape)
        window = slice(top, top + size), slice(left, left + size)
        layers, target = elastic_deformation(
            image_and_weights[:, *window], labels[window], seed=draw.getrandbits(32), deviation=4.0
        )
        quarter_turns, flipped = draw.randrange(4), draw.random() < 0.5
        layers, target = (torch.rot90(x, quarter_turns, (-2, -1)) for x in (layers, target))
        if flipped:
            layers, target = layers.flip(-1), target.flip(-1)
        brightness = draw.uniform(0.9, 1.1)
        return (layers[:3] * brightness).clamp(0, 1), target, layers[3]

    def batches(step: int) -> WeightedBatch:
        crops = [crop(step * batch_size + k) for k in range(batch_size)]
        images, targets, weights = (torch.stack(layer) for layer in zip(*crops, strict=True))
        return images, targets, weights

    return batches
