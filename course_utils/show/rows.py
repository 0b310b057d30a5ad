"""Pictures and label maps side by side."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from course_utils.data.scenes import CLASS_NAMES
from course_utils.show.images import plot_image
from course_utils.show.masks import plot_label_map


def plot_row(
    pictures: Mapping[str, Tensor],
    *,
    width: int | float = 10,
    names: Sequence[str] = CLASS_NAMES,
) -> Figure:
    """Draw pictures of one height side by side, each below its title.

    Args:
        pictures: images, as in `plot_image`; or maps of class numbers, int64 `[h, w]`; by their titles.
        width: of the figure in inches.
        names: the names of the classes, for the maps.

    Returns:
        The figure.

    >>> import torch
    >>> fig = plot_row({"image": torch.rand(3, 4, 8), "map": torch.ones(4, 8, dtype=torch.int64)})
    >>> [ax.get_title(loc="left") for ax in fig.axes]
    ['image', 'map']
    >>> plt.close(fig)
    """
    ratios = [picture.shape[-1] / picture.shape[-2] for picture in pictures.values()]
    size = width, width / sum(ratios) + 0.4
    fig, axes = plt.subplots(1, len(ratios), figsize=size, width_ratios=ratios, squeeze=False)
    for ax, (title, picture) in zip(axes[0], pictures.items(), strict=True):
        if picture.is_floating_point():
            plot_image(picture, ax=ax, title=title)
        else:
            plot_label_map(picture, names, ax=ax, legend=False)
            ax.set_title(title, parse_math=False)
    return fig
