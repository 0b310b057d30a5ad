"""COCO's readers on damaged files: a sample, or one sentence that names the file."""

import json
import math
import random
import warnings

import pytest
import torch

from course_utils.data import coco
from course_utils.data.sample import Sample
from course_utils.data.scenes import make_scenes

SIZE = (24, 32)
VALUES = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    3.5,
    480.0,
    10**18,
    10**400,
    -(10**9),
    1e308,
    math.nan,
    math.inf,
]
VALUES += ["", "0", "1", "cat", "../a.png", "/etc/passwd", "a\0b", "\ud800", "x" * 5000, "o" * 40]
VALUES += [
    [],
    {},
    [[]],
    [1, 2],
    [[1, 1, 2, 2]],
    [[1, 1, 5, 1, 5, 5]],
    {"size": [24, 32]},
    [{}],
    [None],
]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A folder with polygons, run lengths, keypoints and a crowd, and the bytes of its files."""
    folder, scenes = tmp_path_factory.mktemp("coco"), make_scenes([0, 3], size=SIZE)
    samples = [scenes.sample(k) for k in range(2)]
    crowd = torch.tensor([True] + [False] * (len(samples[0].labels) - 1))
    coco.write_samples(folder, [samples[0]._replace(iscrowd=crowd), samples[1]])
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    content["annotations"][-1]["segmentation"] = [
        [2, 2, 20, 2, 20, 20.5, 2, 20],
        [5, 5, 9, 5, 9, 9],
    ]
    path.write_text(json.dumps(content))
    return folder, {path: path.read_bytes() for path in sorted(folder.rglob("*.*"))}


def places(node):
    """All (container, key) pairs of a tree of lists and dicts."""
    keys = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in list(keys):
        yield node, key
        yield from places(node[key])


def damaged_json(content, draw):
    """A JSON file with one to three values replaced, dropped or repeated."""
    tree = json.loads(content)
    for _ in range(draw.randint(1, 3)):
        found = list(places(tree))
        if not found:
            break
        node, key = draw.choice(found)
        kind = draw.random()
        if kind < 0.7:
            node[key] = draw.choice(VALUES)
        elif kind < 0.9:
            del node[key]
        elif isinstance(node, list):
            node.append(node[key])
    return json.dumps(tree).encode()


def damaged_bytes(content, draw):
    """A file that is cut, or has a few other bytes."""
    if draw.random() < 0.3:
        return content[: draw.randrange(len(content))]
    changed = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def check(sample):
    """What the next function may rely on."""
    count, size = len(sample.labels), sample.image.shape[1:]
    assert isinstance(sample, Sample) and sample.image.isfinite().all()
    assert sample.boxes.shape == (count, 4) and sample.boxes.isfinite().all()
    assert (sample.boxes[:, :2] <= sample.boxes[:, 2:]).all()
    assert sample.iscrowd.shape == sample.area.shape == (count,) and sample.area.isfinite().all()
    assert ((sample.labels > 0) & (sample.labels < len(sample.class_names))).all()
    assert sample.masks is None or sample.masks.shape == (count, *size)
    if sample.semantic is not None:
        assert sample.semantic.shape == sample.panoptic.shape == size
        segments = sample.panoptic // 1000
        assert ((sample.panoptic == 0) | (segments == sample.semantic)).all()


def run(original, seeds):
    """Read the folder with one damaged file per seed; returns how many of them still gave samples."""
    (folder, contents), survived = original, 0
    for seed in seeds:
        draw = random.Random(seed)
        path = draw.choice(list(contents))
        if path.suffix == ".json" and draw.random() < 0.8:
            path.write_bytes(damaged_json(contents[path], draw))
        else:
            path.write_bytes(damaged_bytes(contents[path], draw))
        for read in (coco.read, coco.read_panoptic):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # objects that are left out
                    for sample in read(folder, None):
                        check(sample)
                survived += 1
            except (ValueError, FileNotFoundError, TypeError) as error:
                assert str(folder) in str(error), (seed, path.name, read.__name__, str(error)[:300])
                assert len(str(error)) < 11_000, (seed, str(error)[:300])
            except Exception as error:
                raise AssertionError(
                    f"seed {seed}, {path.name}, {read.__name__}: {error!r}"
                ) from error
        path.write_bytes(contents[path])
    return survived


def test_damaged_files(as_student, original):
    assert 100 < run(original, range(150)) < 300


@pytest.mark.long
def test_two_thousand_damaged_files(as_student, original):
    run(original, range(1000, 3000))
