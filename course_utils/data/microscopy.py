"""Cell nuclei under a microscope: one picture, and how to learn from so little.

The habits are those of the U-Net paper: bend the picture another way each time, and weigh the narrow gaps
between nuclei so heavily that the network learns to leave them open.
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
LAST_TRAINING_COLUMN = 384  # of 512: three quarters to learn from, the rest to be judged by

WeightedBatch = tuple[
    Float[Tensor, "b 3 h w"], Int64[Tensor, "b h w"], Float[Tensor, "b h w"]
]  # images, labels, weights


class Micrograph(NamedTuple):
    """A microscope's picture and its nuclei.

    Attributes:
        image: grey, three times the same; the square root of the brightness, so that dim nuclei show.
        instances: 0 for medium, and a number from 1 for each nucleus.
    """

    image: Float[Tensor, "3 h w"]
    instances: Int64[Tensor, "h w"]


def nuclei() -> tuple[Micrograph, Micrograph]:
    """The picture in two parts: the left three quarters to learn from, the rest to be judged by.

    Cells send out photons one by one, so a bright pixel is noisier than a dim one, by the square root of its
    brightness. The square root of the counts has the same noise everywhere.

    Returns:
        The part to learn from, 512 x 384, and the part to be judged by, 512 x 128. Whom to thank for the
        picture stands in `photo("nuclei").credit`.

    Raises:
        ModuleNotFoundError: the package that carries the picture is not installed.

    >>> [(tuple(part.instances.shape), len(part.instances.unique()) - 1) for part in nuclei()]
    [((512, 384), 102), ((512, 128), 30)]
    """
    sample = photo("nuclei").sample
    instances = torch.zeros_like(sample.semantic)
    for number, mask in enumerate(sample.masks, start=1):
        instances[mask] = number
    parts = slice(0, LAST_TRAINING_COLUMN), slice(LAST_TRAINING_COLUMN, None)
    learn, judge = (
        Micrograph(sample.image[..., columns].sqrt(), instances[:, columns]) for columns in parts
    )
    return learn, judge


def elastic_deformation(
    image: Float[Tensor, "c h w"],
    labels: Int64[Tensor, "h w"],
    *,
    seed: int,
    points: int = 3,
    deviation: int | float = 10.0,
) -> tuple[Float[Tensor, "c h w"], Int64[Tensor, "h w"]]:
    """Bend a picture and its labels as a microscope's slide might have bent the tissue.

    Each point of a coarse grid gets a random displacement, and bicubic interpolation makes a smooth field of
    them. Every pixel then looks up what lies at its displaced place: the image between the pixels (bilinear),
    the labels at the nearest one, because there is no class between two classes. Whoever looks beyond the
    border sees the picture mirrored there.

    Args:
        image: of any number of channels.
        labels: a whole number for each pixel.
        seed: which displacement.
        points: the grid has so many points in each direction, 2 or more.
        deviation: standard deviation of the displacements, across and down, in pixels.

    Returns:
        Image and labels, of the same sizes.

    Raises:
        TypeError: the image has no floating-point numbers.
        ValueError: sizes that do not agree, fewer than 2 points, or a deviation below 0.

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
    place = torch.stack([(columns + x) / size[1], (rows[:, None] + y) / size[0]], dim=2)
    options = {"grid": 2 * place[None] - 1, "padding_mode": "reflection", "align_corners": False}
    bent = F.grid_sample(image[None], mode="bilinear", **options)[0]
    same = F.grid_sample(labels[None, None].to(image), mode="nearest", **options)[0, 0]
    return bent, same.round().long()


def displacement_field(
    size: tuple[int, int], *, seed: int, points: int = 3, deviation: int | float = 10.0
) -> Float[Tensor, "2 h w"]:
    """How far each pixel looks away: random at a coarse grid of points, smooth in between.

    Args:
        size: (height, width).
        seed, points, deviation: as in `elastic_deformation`.

    Returns:
        Displacements across and down, in pixels.
    """
    generator = torch.Generator().manual_seed(seed)
    coarse = deviation * torch.randn(1, 2, points, points, generator=generator)
    return bicubic(coarse, size, align_corners=True)[0]


def open_gaps(instances: Int64[Tensor, "h w"]) -> Int64[Tensor, "h w"]:
    """Give up the pixels where two nuclei touch, so that medium runs between them.

    A map of nucleus and medium cannot tell two touching nuclei from one large one. With a gap it can.

    Args:
        instances: 0 for medium, and a number for each nucleus.

    Returns:
        The same with 0 wherever one of a pixel's eight neighbours belongs to another nucleus.

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
    """How much each pixel counts in the loss: a number for its class, and much more in a gap between nuclei.

    w = w_c + w0 exp(-(d1 + d2)^2 / (2 sigma^2)) where d1 and d2 are a pixel's distances to the nearest
    nucleus and to the second nearest. Only in a narrow gap are both small. Nuclei themselves get w_c alone.

    Args:
        instances: 0 for medium, and a number for each nucleus.
        w0: the height of the weights in a gap.
        sigma: how wide a gap may be to be weighted, in pixels.
        class_weights: w_c of medium and of nucleus, to make up for a class that is rare.

    Returns:
        A weight for each pixel.

    Raises:
        ValueError: another shape, `w0` below 0, or `sigma` not above 0.

    Source: Ronneberger et al., "U-Net", 2015, equation 2. Distances beyond 6 sigma count as infinite, which
    changes a weight by less than w0 / 10^7.

    >>> border_weights(torch.tensor([[1, 0, 0, 2]]))
    tensor([[1.0000, 9.3527, 9.3527, 1.0000]])
    """
    check_shape("instances", instances, "h", "w")
    if not (w0 >= 0 and sigma > 0):
        raise ValueError(f"w0, sigma: expected w0 >= 0 and sigma > 0, got {w0} and {sigma}")
    numbers = instances.cpu().numpy()
    nearest, second = np.full((2, *numbers.shape), np.inf)
    reach = int(np.ceil(6 * sigma))
    for number, found in enumerate(ndimage.find_objects(numbers), start=1):
        if found is None:
            continue
        window = tuple(slice(max(0, s.start - reach), s.stop + reach) for s in found)
        distance = ndimage.distance_transform_edt(numbers[window] != number)
        farther = np.maximum(distance, nearest[window])
        nearest[window] = np.minimum(distance, nearest[window])
        second[window] = np.minimum(farther, second[window])
    gap = w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    weights = np.where(numbers > 0, class_weights[1], class_weights[0] + gap)
    return torch.from_numpy(weights).to(instances.device, torch.float32)


def label_components(foreground: Bool[Tensor, "h w"], *, smallest: int = 1) -> Int64[Tensor, "h w"]:
    """Number the islands of a mask: pixels that hang together by their sides are one.

    Args:
        foreground: the mask.
        smallest: islands of fewer pixels are left out.

    Returns:
        0 outside, and 1, 2, ... on the islands, in reading order; the largest number is their count.

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
    """Squares from anywhere in the part to learn from, turned, mirrored, bent, brighter or darker.

    The weights take sigma = 3, because these nuclei are smaller than the paper's cells, and 1.5 for the
    pixels of nuclei, which are rarer than those of medium.

    Args:
        batch_size: squares a step.
        size: height and width of a square, at most 384.
        seed: for all that is drawn.
        w0: of `border_weights`; 0 leaves the gaps alone.

    Returns:
        A function of the step's number. Labels are 0 and 1, with gaps where nuclei touch.

    Raises:
        ValueError: a square that does not fit.
    """
    learn, _ = nuclei()
    if not 0 < size <= LAST_TRAINING_COLUMN:
        raise ValueError(f"size: expected 1 to {LAST_TRAINING_COLUMN}, got {size}")
    instances = open_gaps(learn.instances)
    weights = border_weights(instances, w0=w0, sigma=3.0, class_weights=(1.0, 1.5))
    layers = torch.cat([learn.image, weights[None]])
    labels = (instances > 0).long()

    def square(number: int) -> tuple[Tensor, Tensor, Tensor]:
        draw = random.Random(f"{seed}: square {number}")
        top, left = (draw.randint(0, whole - size) for whole in labels.shape)
        window = slice(top, top + size), slice(left, left + size)
        bent, answer = elastic_deformation(
            layers[:, *window], labels[window], seed=draw.getrandbits(32), deviation=4.0
        )
        turns, mirrored = draw.randrange(4), draw.random() < 0.5
        bent, answer = (torch.rot90(layer, turns, (-2, -1)) for layer in (bent, answer))
        if mirrored:
            bent, answer = bent.flip(-1), answer.flip(-1)
        brightness = draw.uniform(0.9, 1.1)
        return (bent[:3] * brightness).clamp(0, 1), answer, bent[3]

    def batches(step: int) -> WeightedBatch:
        squares = [square(step * batch_size + k) for k in range(batch_size)]
        images, answers, weights = (torch.stack(layer) for layer in zip(*squares, strict=True))
        return images, answers, weights

    return batches
