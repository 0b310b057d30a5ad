"""The road from a data set to the batch of a step: an order, a view of each image, and a batch.

Nothing but the number of the step decides what a batch holds, so a training that is interrupted and resumed
sees the same batches as one that is not, also with augmentation and with several workers.
"""

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from course_utils.data import ade20k, cityscapes, coco, labelme, voc
from course_utils.data._coco_files import layout
from course_utils.data.collate import Batch, collate
from course_utils.data.pictures import Pictures
from course_utils.data.sample import Sample
from course_utils.data.scene_dataset import SceneDataset
from course_utils.data.scenes import make_scenes
from course_utils.data.transforms import augment, flip_sample

TRAINING_SEED, HELD_OUT_SEED, HELD_OUT = 0, 1, 400


class Task(NamedTuple):
    """Training data and evaluation.

    Attributes:
        class_names: the name of each class number.
        batches: the batch of a training step; the same step always gives the same batch.
        evaluate: metrics of a model on held-out images.
        build: further arguments of a recipe's `build`, besides the number of classes.
    """

    class_names: tuple[str, ...]
    batches: Callable[[int], Batch]
    evaluate: Callable[[nn.Module], dict[str, float]]
    build: Mapping[str, int] = MappingProxyType({})


class Views(Dataset):
    """What a training sees: each image once per epoch, every time in another view.

    Args:
        dataset: samples by their number.
        view: what is shown of a sample in an epoch; it may use PyTorch's random numbers.
        seed: of the order and of these random numbers.
        shuffle: whether each epoch has an order of its own.
        without: fields of the samples that are not needed.
    """

    def __init__(
        self,
        dataset: Dataset,
        view: Callable[[Sample, int], Sample],
        *,
        seed: int = 0,
        shuffle: bool = True,
        without: Iterable[str] = (),
    ):
        self.dataset, self.view, self.seed, self.shuffle = dataset, view, seed, shuffle
        self.without = tuple(without)

    def __getitem__(self, place: int) -> Sample:
        """The image at a place of the training, counted over all epochs."""
        epoch, number = divmod(place, len(self.dataset))
        if self.shuffle:
            number = _order(len(self.dataset), self.seed, epoch)[number]
        sample = self.dataset[number]._replace(**dict.fromkeys(self.without))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed * 2**40 + place)
            return self.view(sample, epoch)


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> list[int]:
    return random.Random(f"{seed}: epoch {epoch}").sample(range(count), count)


def view_scene(sample: Sample, epoch: int) -> Sample:
    """A scene, mirrored in every other epoch."""
    return flip_sample(sample) if epoch % 2 else sample


def view_photo(sample: Sample, epoch: int, size: int) -> Sample:
    """A photograph, augmented in each epoch with other random numbers."""
    return augment(sample, size)


class Batches:
    """The batch of a step, prepared by this process, or ahead of time by workers.

    Args:
        views: the images in the order of the training.
        batch_size: images per step.
        workers: processes that read, augment and collate; 0 for none.
    """

    def __init__(self, views: Views, batch_size: int, workers: int = 0):
        self.views, self.batch_size, self.workers = views, batch_size, workers
        self.next = None  # the step whose batch the workers deliver next

    def __call__(self, step: int) -> Batch:
        if self.workers == 0:
            return collate([self.views[place] for place in self._places(step)])
        if step != self.next:
            loader = DataLoader(
                self.views,
                batch_sampler=map(self._places, itertools.count(step)),
                num_workers=self.workers,
                collate_fn=collate,
                generator=torch.Generator(),  # leaves the random numbers of the training alone
            )
            self.loaded = iter(loader)
        self.next = step + 1
        return next(self.loaded)

    def _places(self, step: int) -> range:
        return range(step * self.batch_size, (step + 1) * self.batch_size)


class Data(NamedTuple):
    """A training set and what a model is evaluated on.

    Attributes:
        class_names, stuff: as in `Sample`.
        views: what a training sees.
        held_out: the samples of the evaluation, from the first one on.
    """

    class_names: tuple[str, ...]
    stuff: tuple[int, ...]
    views: Views
    held_out: Callable[[], Iterator[Sample]]


def open_data(
    data: str, *, fields: Sequence[str], kinds: Sequence[str], scenes: int, size: int, seed: int
) -> Data:
    """Scenes, or a folder of photographs.

    Args:
        data: "scenes"; or a folder in the layout of COCO, VOC, ADE20K or Cityscapes; or a folder of
            photographs with LabelMe's files beside them.
        fields: those of `Sample` that the task needs, besides the image; the data set must have them.
        kinds: which of COCO's annotations to read, the first that the folder has: "instances", "panoptic".
        scenes: how many of them make the training set.
        size: a view of a photograph is at most so many pixels high and wide; height and width of a scene.
        seed: of the order and the augmentation of photographs; scenes have a fixed order.

    Returns:
        The training set, and 400 other scenes or the photographs of the folder's `val` list, the first 400.
        A folder without such a list is evaluated on its training set.
    """
    without = set(Sample._fields) - {"image", "class_names", "stuff", *fields}
    if data == "scenes":
        dataset = SceneDataset(scenes, size=size, seed=TRAINING_SEED)
        views = Views(dataset, view_scene, shuffle=False, without=without)
        return Data(dataset.class_names, dataset.stuff, views, partial(_held_out_scenes, size))
    learn, judge = (open_folder(Path(data), part, kinds) for part in ("train", "val"))
    if (learn.class_names, learn.stuff) != (judge.class_names, judge.stuff):
        raise ValueError(
            f"data: expected the same classes in the training and validation sets of {data}"
        )
    first = learn[0]
    if missing := [name for name in fields if name != "iscrowd" and getattr(first, name) is None]:
        raise ValueError(f"data: expected {' and '.join(missing)} in {data}, which has none")
    views = Views(learn, partial(view_photo, size=size), seed=seed, without=without)
    held_out = partial(itertools.islice, judge, HELD_OUT)
    return Data(learn.class_names, learn.stuff, views, held_out)


def _held_out_scenes(size: int) -> Iterator[Sample]:
    for first in range(0, HELD_OUT, 50):
        scenes = make_scenes(range(first, first + 50), seed=HELD_OUT_SEED, size=(size, size))
        yield from (scenes.sample(k) for k in range(50))


def same_size(images: Iterable[Tensor], most: int = 50) -> Iterator[list[Tensor]]:
    """Images in groups that all have one size, in their order."""
    for _, group in itertools.groupby(images, lambda image: image.shape):
        while part := list(itertools.islice(group, most)):
            yield part


def open_folder(folder: Path, part: str, kinds: Sequence[str]) -> Pictures:
    """The training or the validation set of a folder, whose layout is recognised.

    Args:
        folder: as `open_data` takes it.
        part: "train" or "val".
        kinds: as in `open_data`.

    Returns:
        The photographs; the same for both parts if the folder makes no difference.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f'data: expected "scenes" or a folder, but there is no folder {folder}'
        )
    for kind in kinds:
        read = {"instances": coco.read, "panoptic": coco.read_panoptic}[kind]
        if found := sorted((folder / "annotations").glob(f"{kind}_{part}*.json")):
            return read(folder, found[0].stem.removeprefix(f"{kind}_"))
        if (folder / "images").is_dir() and layout(folder, kind, None)[0].is_file():
            return read(folder, None)
    if (folder / "JPEGImages").is_dir():
        boxes_only = not (folder / "ImageSets/Segmentation").is_dir()
        return voc.read_detection(folder, part) if boxes_only else voc.read(folder, part)
    if (folder / "leftImg8bit").is_dir():
        return cityscapes.read(folder, part)
    if (folder / "images/training").is_dir():
        return ade20k.read(folder, {"train": "training", "val": "validation"}[part])
    if any(folder.glob("*.json")):
        return labelme.read(folder)
    flat = " or ".join(layout(folder, kind, None)[0].name for kind in kinds)
    split = " or ".join(f"annotations/{kind}_{part}*.json" for kind in kinds)
    raise ValueError(
        f"data: expected {folder} to hold images/ and {flat}, or {split}, as COCO does; JPEGImages/, as "
        "VOC does; or LabelMe's files"
    )
