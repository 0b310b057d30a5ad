"""Damaged files: every reader returns a sound sample, or one sentence that names the file."""

import io
import json
import random
import zlib
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from course_utils.core import VOID
from course_utils.data import ade20k, cityscapes, labelme, voc
from course_utils.data.image_files import read_image, read_pixels
from course_utils.data.scenes import make_scenes

# Pillow warns of broken metadata, which no reader uses
pytestmark = pytest.mark.filterwarnings("ignore")

SIZE = (16, 16)
SCENES = make_scenes(range(1), size=SIZE)
PIXELS = np.random.default_rng(0).integers(0, 255, (*SIZE, 3)).astype(np.uint8)
GREY = PIXELS[..., 0]
XML = """<?xml version="1.0"?>
<annotation><filename>a.jpg</filename><!-- a comment -->
  <size><width>16</width><height>16</height><depth>3</depth></size>
  <object><name>cat</name><difficult>1</difficult>
    <bndbox><xmin>1</xmin><ymin>3</ymin><xmax>3</xmax><ymax>3.5</ymax></bndbox></object>
  <object><name><![CDATA[dog]]></name>
    <bndbox><xmax>12</xmax><xmin>11</xmin><ymin>1</ymin><ymax>2</ymax></bndbox></object>
</annotation>"""
SHAPES = [
    ("sky", "polygon", [[0, 0], [16, 0], [16, 6], [0, 6]], {"stuff": True}),
    ("cat", "polygon", [[1, 1], [7.5, 1], [7, 9], [1, 9]], {}),
    ("dog", "rectangle", [[9, 2], [14, 8]], {}),
    ("ball", "circle", [[4, 10], [6, 10]], None),
    ("__ignore__", "rectangle", [[0, 11], [2, 12]], {}),
]
LABELME = {
    "version": "5.4.1",
    "flags": {},
    "shapes": [
        {"label": label, "shape_type": kind, "points": points, "flags": flags, "group_id": None}
        for label, kind, points, flags in SHAPES
    ],
    "imagePath": "a.png",
    "imageData": None,
    "imageHeight": 16,
    "imageWidth": 16,
}
WORDS = [
    b"",
    b"-1",
    b"0",
    b"1e999",
    b"nan",
    b"9" * 400,
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'"x"',
    b"[" * 5000,
]
WORDS += [
    b"<a>",
    b"]]>",
    b"<!--",
    b"<!DOCTYPE a>",
    b"&b;",
    b"../..",
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
]
VALUES = [None, True, "", "false", -1, 0, 1.5, 10**18, 10**400, float("nan"), float("inf"), [], {}]


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def mutate(content: bytes, draw: random.Random) -> bytes:
    """A few changes of a file: a bit, other bytes, a cut, a repeat, or a word that breaks parsers."""
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        first = draw.randrange(len(content) + 1)
        old = content[first : first + draw.choice([1, 1, 4, 40])]
        choices = [old * 2, b"", draw.randbytes(len(old)), draw.choice(WORDS)]
        choices += [bytes([old[0] ^ 1 << draw.randrange(8)]) + old[1:]] * 4 if old else []
        content = content[:first] + draw.choice(choices) + content[first + len(old) :]
    if content.startswith(b"\x89PNG") and draw.random() < 0.5:
        content = repair_png(content)
    return content if draw.random() < 0.95 else content[: draw.randrange(len(content) + 1)]


def repair_png(content: bytes) -> bytes:
    """The same chunks with valid checksums, so that the damage is in what they say."""
    at = 8
    while at + 12 <= len(content):
        end = at + 8 + int.from_bytes(content[at : at + 4])
        checksum = zlib.crc32(content[at + 4 : end]).to_bytes(4)
        content = content[:end] + checksum + content[end + 4 :]
        at = end + 4
    return content


def mutate_json(content: bytes, draw: random.Random) -> bytes:
    """Another value, or none, somewhere in the tree."""
    root = json.loads(content)
    for _ in range(draw.randint(1, 3)):
        at = root
        while isinstance(at, dict | list) and at:
            key = draw.choice(list(at) if isinstance(at, dict) else range(len(at)))
            if draw.random() < 0.3 or not isinstance(at[key], dict | list) or not at[key]:
                if draw.random() < 0.2:
                    del at[key]
                else:
                    at[key] = draw.choice(VALUES)
                break
            at = at[key]
        root = json.loads(json.dumps(root))  # VALUES stay as they are
    return json.dumps(root).encode()


def check(sample):
    """Raise unless a sample is sound in itself."""
    height, width = sample.image.shape[1:]
    assert sample.image.dtype == torch.float32 and sample.image.shape[0] == 3
    assert ((sample.image >= 0) & (sample.image <= 1)).all()
    numbers = range(1, len(sample.class_names))
    if sample.semantic is not None:
        assert sample.semantic.shape == (height, width)
        assert set(sample.semantic.unique().tolist()) <= {0, VOID, *numbers}
    if sample.boxes is not None:
        assert set(sample.labels.tolist()) <= set(numbers) and len(sample.boxes) == len(
            sample.labels
        )
        assert (sample.boxes >= 0).all() and (sample.boxes[:, :2] <= sample.boxes[:, 2:]).all()
        assert (sample.boxes[:, 2:] <= torch.tensor([width, height])).all()
    if sample.masks is not None:
        assert sample.masks.shape == (len(sample.labels), height, width)
        assert (sample.masks.sum(dim=0) <= 1).all() and sample.masks.flatten(1).any(dim=1).all()
    if sample.panoptic is not None:
        assert set((sample.panoptic // 1000).unique().tolist()) <= {0, *numbers}


def voc_file(folder, part):
    voc.write_voc(folder, SCENES)
    save(folder / "JPEGImages/a.jpg", PIXELS)
    for path, text in (("Annotations/a.xml", XML), ("ImageSets/Main/train.txt", "a\n")):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    read = voc.read_detection if part.startswith(("Ann", "ImageSets/Main")) else voc.read
    return folder / part, lambda: list(read(folder))


def labelme_file(folder, part):
    save(folder / "a.png", PIXELS)
    (folder / "a.json").write_text(json.dumps(LABELME))
    return folder / part, lambda: list(labelme.read(folder))


def ade20k_file(folder, part):
    save(folder / "images/training/a.jpg", PIXELS)
    save(folder / "annotations/training/a.png", GREY % 151)
    (folder / "objectInfo150.txt").write_text(
        "Idx\tRatio\tTrain\tVal\tName\n"
        + "".join(f"{k}\t0.1\t1\t1\t{name}\n" for k, name in enumerate(ade20k.CLASS_NAMES[1:], 1))
    )
    return folder / part, lambda: list(ade20k.read(folder))


def cityscapes_file(folder, part):
    objects = np.where(GREY < 90, 26000 + GREY.astype(int) % 3, 7).astype(np.uint16)
    save(folder / "leftImg8bit/train/ulm/a_leftImg8bit.png", PIXELS)
    save(
        folder / "gtFine/train/ulm/a_gtFine_labelIds.png",
        np.where(GREY < 90, 26, 7).astype(np.uint8),
    )
    save(folder / "gtFine/train/ulm/a_gtFine_instanceIds.png", objects)
    return folder / part, lambda: list(cityscapes.read(folder))


FILES = {
    "VOC boxes": (voc_file, "Annotations/a.xml"),
    "VOC list": (voc_file, "ImageSets/Segmentation/train.txt"),
    "VOC list of boxes": (voc_file, "ImageSets/Main/train.txt"),
    "VOC label map": (voc_file, "SegmentationClass/train_000000.png"),
    "VOC objects": (voc_file, "SegmentationObject/train_000000.png"),
    "VOC photo": (voc_file, "JPEGImages/train_000000.jpg"),
    "LabelMe": (labelme_file, "a.json"),
    "ADE20K label map": (ade20k_file, "annotations/training/a.png"),
    "ADE20K names": (ade20k_file, "objectInfo150.txt"),
    "Cityscapes label map": (cityscapes_file, "gtFine/train/ulm/a_gtFine_labelIds.png"),
    "Cityscapes objects": (cityscapes_file, "gtFine/train/ulm/a_gtFine_instanceIds.png"),
}
IMAGES = {
    "JPEG": ("jpg", ["L", "RGB", "CMYK"]),
    "PNG": ("png", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]),
    "TIFF": ("tif", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"]),
    "BMP": ("bmp", ["1", "L", "P", "RGB"]),
    "WEBP": ("webp", ["RGB", "RGBA"]),
    "PPM": ("ppm", ["1", "L", "RGB", "I;16"]),
}


def damage(folder, path, content, read, outcomes):
    """Read a damaged file; anything but a ValueError or an OSError with its path fails the test."""
    path.write_bytes(content)
    try:
        read()
    except (ValueError, OSError) as error:
        assert str(folder) in str(error), repr(error)
        outcomes["refused"] += 1
    else:
        outcomes["read"] += 1


def damage_files(folder, name, number):
    prepare, part = FILES[name]
    path, read = prepare(folder, part)
    assert read()  # undamaged, it is read
    content, draw, outcomes = path.read_bytes(), random.Random(name), Counter()
    for k in range(number):
        change = mutate_json if path.suffix == ".json" and k % 2 else mutate
        damage(
            folder,
            path,
            change(content, draw),
            lambda: [check(sample) for sample in read()],
            outcomes,
        )
    print(f"{name}: {dict(outcomes)}")


def damage_images(folder, kind, number):
    suffix, modes = IMAGES[kind]
    path, draw, outcomes = folder / f"a.{suffix}", random.Random(kind), Counter()
    for k in range(number):
        content = mutate(encode(modes[k % len(modes)], kind), draw)
        for read in (check_photo, read_pixels, check_label_map):
            damage(folder, path, content, lambda: read(path), outcomes)  # noqa: B023
    print(f"{kind}: {dict(outcomes)}")


def encode(mode, kind):
    """A small image file of a mode and a format."""
    grey = {
        "I;16": GREY.astype(np.uint16) * 257,
        "I": GREY.astype(np.int32),
        "F": GREY / np.float32(255),
    }
    content = io.BytesIO()
    picture = Image.fromarray(grey[mode]) if mode in grey else Image.fromarray(PIXELS).convert(mode)
    picture.save(content, kind)
    return content.getvalue()


def check_photo(path):
    image = read_image(path)
    assert image.dtype == torch.float32 and ((image >= 0) & (image <= 1)).all()


def check_label_map(path):
    assert set(voc.read_label_map(path).unique().tolist()) <= {*range(21), VOID}


@pytest.fixture(autouse=True)
def fewer_pixels(monkeypatch):
    """Images of up to a million pixels, for the time that it takes to decode them."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)


@pytest.mark.parametrize("name", FILES)
def test_damaged_files(tmp_path, name):
    damage_files(tmp_path, name, 25)


@pytest.mark.parametrize("kind", IMAGES)
def test_damaged_images(tmp_path, kind):
    damage_images(tmp_path, kind, 20)


@pytest.mark.long
@pytest.mark.parametrize("name", FILES)
def test_two_thousand_damaged_files(tmp_path, name):
    damage_files(tmp_path, name, 2000)


@pytest.mark.long
@pytest.mark.parametrize("kind", IMAGES)
def test_two_thousand_damaged_images(tmp_path, kind):
    damage_images(tmp_path, kind, 2000)
