"""ADE20K with the 150 classes of its scene parsing benchmark: rooms, streets, landscapes.

    images/training/ADE_train_00000001.jpg           the photo
    annotations/training/ADE_train_00000001.png      the class of each pixel, 1 to 150, or 0 if unlabelled
    objectInfo150.txt                                the names of the classes

The benchmark does not separate the objects of a class, so all its classes are read as stuff, and samples
have no boxes, labels or masks.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from course_utils.core import VOID
from course_utils.data.files import check_files, path_inside
from course_utils.data.image_files import read_image, read_pixels
from course_utils.data.pictures import MAX_CLASSES, Pictures, make_sample
from course_utils.data.sample import Sample

NAMES = """
    wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person, earth,
    door, table, mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea, mirror, rug,
    field, armchair, seat, fence, desk, rock, wardrobe, lamp, bathtub, railing, cushion, base, box, column,
    signboard, chest of drawers, counter, sand, sink, skyscraper, fireplace, refrigerator, grandstand, path,
    stairs, runway, case, pool table, pillow, screen door, stairway, river, bridge, bookcase, blind,
    coffee table, toilet, flower, book, hill, bench, countertop, stove, palm, kitchen island, computer,
    swivel chair, boat, bar, arcade machine, hovel, bus, towel, light, truck, tower, chandelier, awning,
    streetlight, booth, television, airplane, dirt track, apparel, pole, land, bannister, escalator, ottoman,
    bottle, buffet, poster, stage, van, ship, fountain, conveyer belt, canopy, washer, plaything,
    swimming pool, stool, barrel, basket, waterfall, tent, bag, minibike, cradle, oven, ball, food, step,
    tank, trade name, microwave, pot, animal, bicycle, lake, dishwasher, screen, blanket, sculpture, hood,
    sconce, vase, traffic light, tray, ashcan, fan, pier, crt screen, plate, monitor, bulletin board, shower,
    radiator, glass, clock, flag
"""
CLASS_NAMES = ("background", *(" ".join(name.split()) for name in NAMES.split(",")))


def read(folder: Path | str, split: str = "training") -> Pictures:
    """Open a folder in the layout of the scene parsing benchmark.

    Args:
        folder: the folder that holds `images` and `annotations`, for example `ADEChallengeData2016`.
        split: "training" or "validation".

    Returns:
        The photos in the order of their names.

    Source: Zhou et al., Scene Parsing through ADE20K Dataset, CVPR 2017.
    """
    folder = Path(folder)
    root = path_inside(folder, f"images/{split}")
    names = [f"{split}/{photo.stem}" for photo in sorted(root.glob("*.jpg"))]
    if not names:
        raise FileNotFoundError(f"folder: expected photos such as {root}/*.jpg, found none")
    check_files("label map", (_label_map(folder, name) for name in names))
    listed = folder / "objectInfo150.txt"
    class_names = read_class_names(listed) if listed.is_file() else CLASS_NAMES
    stuff = tuple(range(1, len(class_names)))
    return Pictures(names, class_names, stuff, partial(_read_sample, folder, class_names))


def read_class_names(path: Path | str) -> tuple[str, ...]:
    """The class names in `objectInfo150.txt`; of several synonyms the first.

    Args:
        path: a header, then one line per class with five columns separated by tabs: its number first, its
            names last.

    Returns:
        "background", then the names.
    """
    path = Path(path)
    check_files("list of classes", [path])
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[1:]
    rows = [line.split("\t") for line in lines if line.strip()]
    names = [row[-1].split(",")[0].strip() for row in rows if len(row) == 5]
    numbers = [row[0].strip() for row in rows]
    in_order = numbers == [str(number) for number in range(1, len(rows) + 1)]
    if not 0 < len(names) == len(rows) <= MAX_CLASSES or not in_order or "" in names:
        raise ValueError(
            f"folder: expected a line for each class in {path}, numbered from 1, with its name last"
        )
    return ("background", *names)


def _label_map(folder: Path, name: str) -> Path:
    return path_inside(folder, f"annotations/{name}.png")


def _read_sample(folder: Path, class_names: tuple[str, ...], name: str) -> Sample:
    image, path = read_image(path_inside(folder, f"images/{name}.jpg")), _label_map(folder, name)
    numbers = torch.from_numpy(read_pixels(path, size=image.shape[1:]).astype(np.int64))
    unknown = (numbers < 0) | (numbers >= len(class_names))
    if unknown.any():
        raise ValueError(
            f"folder: expected labels 0 to {len(class_names) - 1} in {path}, "
            f"got {int(numbers[unknown][0])}"
        )
    semantic = torch.where(numbers == 0, VOID, numbers)
    return make_sample(image, None, None, semantic, class_names, tuple(range(1, len(class_names))))
