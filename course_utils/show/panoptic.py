"""Panoptic maps: each segment in a colour of its own."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from jaxtyping import Float, Int64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from course_utils.core import VOID
from course_utils.data.scenes import CLASS_NAMES, STUFF
from course_utils.show.images import plot_image
from course_utils.show.masks import plot_label_map
from course_utils.show.style import class_color


def segment_name(code: int, class_names: Sequence[str] = CLASS_NAMES) -> str:
    """The class of a segment, and the number of a thing.

    Args:
        code: `1000 * class + number`; stuff has the number 0.
        class_names: by class number.

    >>> segment_name(2001), segment_name(6000)
    ('dog 1', 'grass')
    """
    label, number = divmod(code, 1000)
    return f"{class_names[label]} {number}" if number else class_names[label]


def segment_colors(codes: Sequence[int]) -> dict[int, str]:
    """A colour for each segment of a scene, for the argument `colors` of `plot_grid`.

    >>> segment_colors([2001, 2002])[2001] != segment_colors([2001, 2002])[2002]
    True
    """
    texts = ["background", *map(segment_name, codes)]
    return {code: class_color(place, texts) for place, code in enumerate(codes, 1)}


def plot_panoptic(
    codes: Int64[Tensor, "h w"],
    *,
    ax: Axes | None = None,
    image: Float[Tensor, "3 h w"] | None = None,
    title: str = "",
    names: Mapping[int, str] | None = None,
) -> Axes:
    """Draw a panoptic map; void is hatched.

    Args:
        codes: `1000 * class + number` of each pixel; 0 is void.
        ax: where to draw.
        image: drawn below the map.
        title: above it.
        names: the text of each segment; those that are not listed are drawn as void. The names of a
            scene's segments if left out.

    Returns:
        The axes.

    >>> ax = plot_panoptic(torch.tensor([[2001, 6000]]), title="a dog")
    >>> ax.get_title(loc="left")
    'a dog'
    >>> plt.close(ax.figure)
    """
    if names is None:
        names = {code: segment_name(code) for code in codes.unique().tolist() if code}
    places = torch.full_like(codes, VOID)
    for place, code in enumerate(names, 1):
        places[codes == code] = place
    ax = plot_label_map(places, ["background", *names.values()], ax=ax, image=image, legend=False)
    ax.set_title(title, parse_math=False)
    return ax


def plot_segment_pairs(
    image: Float[Tensor, "3 h w"],
    predicted: Int64[Tensor, "h w"],
    truth: Int64[Tensor, "h w"],
    pairs: Mapping[int, tuple[int, float]],
) -> Figure:
    """Draw a scene, the predicted panoptic map and the true one; things that match share a colour.

    Args:
        image: RGB in 0..1.
        predicted, truth: panoptic maps of a scene.
        pairs: for each matched segment of the prediction the true one, and their IoU.

    Returns:
        The figure; texts on the prediction tell the IoU of each thing, those on the truth what was missed.
    """
    shown, left = predicted.clone(), {}
    for code in predicted[predicted % 1000 > 0].unique().tolist():
        its, iou = pairs.get(code, (code + 500, None))  # its true partner, or a number of its own
        shown[predicted == code] = its
        left[its] = f"{segment_name(code)}: {f'{iou:.2f}' if iou else 'no match'}"
    things = truth[truth % 1000 > 0].unique().tolist()
    right = {code: segment_name(code) + ("" if code in left else ": missed") for code in things}
    every = {code: str(code) for code in sorted(left | right)}  # one colour per pair, in both maps
    stuff = {1000 * label: CLASS_NAMES[label] for label in STUFF}
    fig, axes = plt.subplots(1, 3, figsize=(12, 4.1))
    plot_image(image, ax=axes[0], title="scene")
    plot_panoptic(shown, ax=axes[1], names=every | left | stuff, title="predicted, with IoU")
    plot_panoptic(truth, ax=axes[2], names=every | right | stuff, title="ground truth")
    return fig
