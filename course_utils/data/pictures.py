"""What the readers of data sets share: the data set by index, and one sample from its ground truth."""

import operator
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.utils.data import Dataset

from course_utils.core import check_boxes
from course_utils.data.sample import Sample
from course_utils.ops.masks import masks_to_boxes

# numbers 1 to 254: 0 is background and 255 is void
MAX_CLASSES = 254


class Pictures(Dataset[Sample]):
    """A data set of photos with their ground truth, as torch's `DataLoader` takes it: `pictures[k]`.

    Files are opened when a sample is requested, and nothing is cached, so the data set may be of any size.

    Args:
        names: the name of each image in its data set.
        class_names: the name of each class; 0 is "background".
        stuff: the numbers of the stuff classes; all others are things.
        read_sample: reads the sample of a name. The processes of a `DataLoader` receive a copy, so it is a
            function of a module or a `partial` of one, not a function inside a function.
    """

    def __init__(
        self,
        names: Sequence[str],
        class_names: tuple[str, ...],
        stuff: tuple[int, ...],
        read_sample: Callable[[str], Sample],
    ):
        self.names, self.class_names, self.stuff = tuple(names), class_names, stuff
        self._read_sample = read_sample

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        """An image with all ground truth that the data set has; negative numbers count from the end."""
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"index: expected {-len(self)} to {len(self) - 1}, got {index}")
        return self._read_sample(self.names[index])


def make_sample(
    image: Float[Tensor, "3 h w"],
    masks: Bool[Tensor, "n h w"] | None,
    labels: Int64[Tensor, " n"] | None,
    semantic: Int64[Tensor, "h w"] | None,
    class_names: tuple[str, ...],
    stuff: tuple[int, ...],
    boxes: Float[Tensor, "n 4"] | None = None,
    iscrowd: Bool[Tensor, " n"] | None = None,
    area: Float[Tensor, " n"] | None = None,
) -> Sample:
    """A sample whose boxes and panoptic map are derived from the masks and the semantic map.

    In the panoptic map, a pixel of a thing class that belongs to no single object is void: in a crowd, where
    several objects overlap, and in any object after the 999th of its class.

    Args:
        image, masks, labels, semantic, class_names, stuff, iscrowd, area: the fields of `Sample`.
        boxes: `x1, y1, x2, y2` in pixels, if the data set has its own; None for tight boxes.

    Returns:
        All fields but the keypoints and the captions. Without a semantic map there is no panoptic map.

    >>> grid = torch.tensor([[1, 1, 2]])
    >>> sample = make_sample(
    ...     torch.zeros(3, 1, 3), grid[None] == 1, torch.tensor([1]), grid, ("", "cat", "sky"), (2,)
    ... )
    >>> sample.panoptic, sample.boxes
    (tensor([[1001, 1001, 2000]]), tensor([[0., 0., 2., 1.]]))
    """
    if boxes is None and masks is not None:
        boxes = masks_to_boxes(masks)
    if boxes is not None:
        check_boxes("boxes", boxes)
    panoptic = None
    if semantic is not None:
        panoptic = torch.where(torch.isin(semantic, torch.tensor(stuff)), 1000 * semantic, 0)
        if masks is not None:
            _paint_objects(panoptic, masks, labels, iscrowd)
    return Sample(
        image,
        boxes,
        labels,
        masks,
        semantic,
        panoptic,
        class_names,
        stuff,
        iscrowd=iscrowd,
        area=area,
    )


def _paint_objects(
    panoptic: Int64[Tensor, "h w"],
    masks: Bool[Tensor, "n h w"],
    labels: Int64[Tensor, " n"],
    iscrowd: Bool[Tensor, " n"] | None,
) -> None:
    """Give the pixels of each object their id in the panoptic map, in place."""
    crowd = torch.zeros(len(labels), dtype=torch.bool) if iscrowd is None else iscrowd
    once = torch.zeros_like(panoptic, dtype=torch.bool)
    twice = torch.zeros_like(once)
    for k, (mask, label) in enumerate(zip(masks, labels, strict=True)):
        once, twice = once | mask, twice | (once & mask)
        number = 1 + ((labels[:k] == label) & ~crowd[:k]).sum()
        panoptic[mask] = 1000 * label + number if number < 1000 and not crowd[k] else 0
    panoptic[twice] = 0
