"""Scenes as a map-style data set for training: drawn once, kept in compact types."""

import torch
from torch import Tensor
from torch.utils.data import Dataset

from course_utils.data.sample import Sample
from course_utils.data.scenes import CLASS_NAMES, STUFF, make_scenes

BLOCK = 64  # scenes are drawn so many at a time, which is faster than one by one


class SceneDataset(Dataset):
    """Scenes 0, 1, 2, ... of a seed with boxes, labels, masks and the semantic map of each.

    Scenes are drawn when they are first needed. 12,288 of 96 x 96 pixels take .6 GB once all are drawn.

    Args:
        count: number of scenes.
        size: height and width in pixels.
        seed: as in `make_scenes`.

    Attributes:
        class_names, stuff: as in `Sample`.

    >>> dataset = SceneDataset(100, size=32, seed=0)
    >>> len(dataset), [CLASS_NAMES[label] for label in dataset[3].labels]
    (100, ['car', 'person'])
    """

    class_names, stuff = CLASS_NAMES, STUFF

    def __init__(self, count: int, *, size: int, seed: int):
        self.count, self.size, self.seed = count, size, seed
        self.blocks: dict[int, dict[str, Tensor]] = {}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Sample:
        if not 0 <= number < self.count:
            raise IndexError(f"number: expected 0 to {self.count - 1}, got {number}")
        block, row = divmod(number, BLOCK)
        if block not in self.blocks:
            self.blocks[block] = _draw(
                range(block * BLOCK, (block + 1) * BLOCK), self.size, self.seed
            )
        fields = {name: rows[row] for name, rows in self.blocks[block].items()}
        objects = fields["labels"].count_nonzero()
        return Sample(
            image=fields["images"] / 255,
            boxes=fields["boxes"][:objects],
            labels=fields["labels"][:objects],
            masks=fields["instances"] == torch.arange(1, int(objects) + 1)[:, None, None],
            semantic=fields["semantic"].long(),
            panoptic=None,
            class_names=CLASS_NAMES,
            stuff=STUFF,
        )


def _draw(numbers: range, size: int, seed: int) -> dict[str, Tensor]:
    """These scenes with bytes for pixels; the masks, which never overlap, in one map of their numbers."""
    scenes = make_scenes(numbers, seed=seed, size=(size, size))
    slot = torch.arange(1, scenes.masks.shape[1] + 1)[:, None, None]
    return {
        "images": (scenes.images * 255).round().byte(),
        "boxes": scenes.boxes,
        "labels": scenes.labels,
        "instances": (scenes.masks * slot).sum(dim=1).byte(),
        "semantic": scenes.semantic.byte(),
    }
