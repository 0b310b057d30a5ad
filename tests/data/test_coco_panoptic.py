"""COCO's panoptic annotations: read, written, and read again, also by panopticapi."""

import json
import os
import re

import numpy as np
import pytest
import torch
from PIL import Image

from course_utils.core import VOID
from course_utils.data import coco
from course_utils.data.scenes import CLASS_NAMES, STUFF, make_scenes

PANOPTIC_CATEGORIES = [
    {"id": 1, "name": "person", "isthing": 1},
    {"id": 18, "name": "dog", "isthing": 1},
    {"id": 187, "name": "sky", "isthing": 0},
]
IDS = [[0, 70000, 70000, 300], [5, 5, 300, 1], [5, 5, 1, 1]]
SEGMENTS = [
    {"id": 70000, "category_id": 1, "iscrowd": 0},
    {"id": 300, "category_id": 1, "iscrowd": "0", "area": 77},
    {"id": 5, "category_id": 187, "iscrowd": 0},
    {"id": 1, "category_id": 18, "iscrowd": 1},
]


def write_panoptic(folder, segments=SEGMENTS, ids=IDS, **changes):
    for part in ("val2017", "annotations/panoptic_val2017"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(folder / "val2017" / "a.jpg")
    codes = np.array(ids)
    colours = np.stack([codes % 256, codes // 256 % 256, codes // 65536], axis=2).astype(np.uint8)
    Image.fromarray(colours).save(folder / "annotations" / "panoptic_val2017" / "a.png")
    content = {
        "images": [{"id": 7, "file_name": "a.jpg", "height": 3, "width": 4}],
        "categories": PANOPTIC_CATEGORIES,
        "annotations": [{"image_id": 7, "file_name": "a.png", "segments_info": segments}],
    } | changes
    (folder / "annotations" / "panoptic_val2017.json").write_text(json.dumps(content))
    return folder


def read_panoptic(folder):
    return coco.read_panoptic(folder, "val2017")


def test_panoptic_segments(tmp_path):
    pictures = read_panoptic(write_panoptic(tmp_path))
    assert pictures.class_names == ("background", "person", "dog", "sky") and pictures.stuff == (3,)
    sample = pictures[0]
    assert sample.semantic.tolist() == [[VOID, 1, 1, 1], [3, 3, 1, 2], [3, 3, 2, 2]]
    assert sample.panoptic.tolist() == [
        [0, 1001, 1001, 1002],
        [3000, 3000, 1002, 0],
        [3000, 3000, 0, 0],
    ]
    assert sample.labels.tolist() == [1, 1, 2] and sample.iscrowd.tolist() == [False, False, True]
    assert sample.boxes.tolist() == [[1, 0, 3, 1], [2, 0, 4, 2], [2, 1, 4, 3]]
    assert sample.masks.sum(dim=(1, 2)).tolist() == [2, 2, 3]
    assert sample.area.tolist() == [2, 77, 3]  # what the file states, or else the pixels
    assert sample.image.shape == (3, 3, 4)


def test_panoptic_scenes_come_back(tmp_path):
    scenes = make_scenes(range(3), size=(48, 64))
    write_panoptic(tmp_path)
    images, annotations = [], []
    for number in range(3):
        scene = scenes.sample(number)
        pixels = (scene.image * 255).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(tmp_path / "val2017" / f"{number}.png")
        ids = scene.panoptic.numpy()
        colours = np.stack([ids % 256, ids // 256, 0 * ids], axis=2).astype(np.uint8)
        Image.fromarray(colours).save(
            tmp_path / "annotations" / "panoptic_val2017" / f"{number}.png"
        )
        images.append({"id": number, "file_name": f"{number}.png", "height": 48, "width": 64})
        seen = [{"id": int(n), "category_id": int(n) // 1000} for n in np.unique(ids)]
        annotations.append(
            {"image_id": number, "file_name": f"{number}.png", "segments_info": seen}
        )
    categories = [
        {"id": n, "name": CLASS_NAMES[n], "isthing": int(n not in STUFF)} for n in range(1, 9)
    ]
    write_panoptic(tmp_path, images=images, annotations=annotations, categories=categories)
    pictures = read_panoptic(tmp_path)
    assert pictures.class_names == CLASS_NAMES and pictures.stuff == STUFF
    for number in range(3):
        sample, scene = pictures[number], scenes.sample(number)
        assert torch.equal(sample.semantic, scene.semantic)
        assert torch.equal(sample.panoptic, scene.panoptic)
        assert sorted(sample.boxes.tolist()) == sorted(scene.boxes.tolist())


def segments_but(place, **changes):
    return [entry | changes if n == place else entry for n, entry in enumerate(SEGMENTS)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"segments": SEGMENTS[1:]},
            "a.png and its segments_info, but 70000 is in the PNG and not",
        ),
        ({"ids": [[5] * 4] * 3}, "but 1 is in the segments_info and not in the PNG"),
        (
            {"segments": SEGMENTS + SEGMENTS[:1]},
            "expected segments_info to list each segment of a.jpg once",
        ),
        (
            {"segments": segments_but(0, category_id=2)},
            "70000 .* has category 2, which its categories",
        ),
        ({"segments": [{"id": 5}]}, "annotation 5 in .* COCO's format .KeyError: 'category_id'"),
        ({"segments": segments_but(0, id="70000")}, "id: expected a whole number .*, got '70000'"),
        ({"ids": [[5] * 3] * 3}, "expected 3 x 4 pixels .*a.png, as in its image, got 3 x 3"),
        ({"annotations": []}, "expected an annotation for each image in .*.json, none for a.jpg"),
        ({"categories": [{"id": 1, "name": "person"}], "segments": []}, "KeyError: 'isthing'"),
        (
            {"annotations": [{"image_id": 7, "file_name": "../a.png", "segments_info": []}]},
            "expected the name of a file",
        ),
        (
            {"annotations": [{"image_id": 9, "file_name": "a.png", "segments_info": []}]},
            "annotates image 9, which its images do not list",
        ),
    ],
)
def test_inconsistent_panoptic_files(as_student, tmp_path, changes, message):
    with pytest.raises(ValueError, match=rf"^folder: .*{message}"):
        read_panoptic(write_panoptic(tmp_path, **changes))[0]


def test_missing_and_truncated_panoptic_maps(tmp_path):
    path = write_panoptic(tmp_path) / "annotations" / "panoptic_val2017" / "a.png"
    path.write_bytes(path.read_bytes()[:45])
    with pytest.raises(ValueError, match=r"^folder: .*a.png is not a complete image file"):
        read_panoptic(tmp_path)[0]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"^folder: 1 panoptic map is missing, .*a.png"):
        read_panoptic(tmp_path)


# ---- panoptic maps written ----

TINY = torch.tensor(
    [[1001, 1001, 4000, 4000], [1002, 2000, 2000, 0], [1002, 2000, 1999, 0]], dtype=torch.int64
)
TINY_NAMES, TINY_STUFF = ("background", "cat", "dog", "car", "sky"), (4,)


def write_tiny(folder, maps=(TINY,), names=TINY_NAMES, stuff=TINY_STUFF, **options):
    coco.write_panoptic(folder, [torch.zeros(3, 3, 4)] * len(maps), maps, names, stuff, **options)


def test_written_scenes_come_back(tmp_path):
    scenes = make_scenes(range(4), size=(48, 64))
    coco.write_panoptic(
        tmp_path, scenes.images, scenes.panoptic, CLASS_NAMES, STUFF, split="val2017"
    )
    pictures = read_panoptic(tmp_path)
    assert len(pictures) == 4 and pictures.class_names == CLASS_NAMES and pictures.stuff == STUFF
    for number in range(4):
        sample, scene = pictures[number], scenes.sample(number)
        assert torch.equal(sample.panoptic, scene.panoptic)
        assert torch.equal(sample.semantic, scene.semantic)
        assert sorted(sample.boxes.tolist()) == sorted(scene.boxes.tolist())
        assert (sample.image - scene.image).abs().max() <= 0.5 / 255 + 1e-6
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert files == {"val2017", "annotations", "annotations/panoptic_val2017"} | {
        "annotations/panoptic_val2017.json",
        *(f"val2017/{number:012d}.png" for number in range(4)),
        *(f"annotations/panoptic_val2017/{number:012d}.png" for number in range(4)),
    }


def test_what_the_written_json_says(tmp_path):
    write_tiny(tmp_path)
    content = json.loads((tmp_path / "annotations" / "panoptic_train2017.json").read_text())
    assert content["images"] == [
        {"id": 0, "file_name": "000000000000.png", "height": 3, "width": 4}
    ]
    assert content["categories"][2:] == [
        {"id": 3, "name": "car", "isthing": 1},
        {"id": 4, "name": "sky", "isthing": 0},
    ]
    (entry,) = content["annotations"]
    assert entry["image_id"] == 0 and entry["file_name"] == "000000000000.png"
    keys = ("id", "category_id", "area", "bbox", "iscrowd")
    assert [tuple(segment[key] for key in keys) for segment in entry["segments_info"]] == [
        (1001, 1, 2, [0, 0, 2, 1], 0),
        (1002, 1, 2, [0, 1, 1, 2], 0),
        (1999, 1, 1, [2, 2, 1, 1], 0),
        (2000, 2, 3, [1, 1, 2, 2], 1),
        (4000, 4, 2, [2, 0, 2, 1], 0),
    ]
    path = tmp_path / "annotations" / "panoptic_train2017" / entry["file_name"]
    assert np.array_equal(np.array(Image.open(path)).astype(int) @ [1, 256, 65536], TINY)


def test_a_written_crowd_is_read_as_one(tmp_path):
    write_tiny(tmp_path)
    sample = coco.read_panoptic(tmp_path)[0]
    crowd = TINY == 2000
    assert (sample.semantic[crowd] == 2).all() and (sample.panoptic[crowd] == 0).all()
    kept = torch.where(crowd, 0, TINY)
    assert torch.equal(sample.panoptic, torch.where(kept == 1999, 1003, kept))
    assert sample.labels.tolist() == [1, 1, 1, 2]
    assert sample.iscrowd.tolist() == [False, False, False, True]
    assert torch.equal(sample.masks[3], crowd)


def test_images_of_several_sizes_and_a_map_of_void(tmp_path):
    sizes = [(3, 4), (6, 2), (5, 5)]
    images = [torch.rand(3, *size) for size in sizes]
    maps = [TINY, torch.full((6, 2), 254999), torch.zeros(5, 5, dtype=torch.int64)]
    names = ["background", *(f"class {number}" for number in range(1, 255))]
    coco.write_panoptic(tmp_path, images, maps, names, TINY_STUFF)
    pictures = coco.read_panoptic(tmp_path)
    assert [tuple(pictures[n].image.shape[1:]) for n in range(3)] == sizes
    assert (pictures[1].panoptic == 254001).all()
    last = pictures[2]
    assert (last.semantic == VOID).all() and (last.panoptic == 0).all() and len(last.masks) == 0


def test_writing_again_replaces_the_set(tmp_path):
    write_tiny(tmp_path, (TINY, TINY, TINY))
    write_tiny(tmp_path, (TINY.flip(0), TINY.flip(0)))
    pictures = coco.read_panoptic(tmp_path)
    assert len(pictures) == 2 and torch.equal(pictures[0].semantic, pictures[1].semantic)
    assert pictures[0].semantic[2].tolist() == [1, 1, 4, 4]


def test_nothing_is_half_written(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"^panoptic map 1: "):
        write_tiny(tmp_path, (TINY, TINY + 5000))
    assert not list(tmp_path.iterdir())
    write_tiny(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    with pytest.raises(ValueError, match=r"^panoptic map 1: "):
        write_tiny(tmp_path, (TINY * 0, TINY + 5000))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before

    def full(source, target):
        raise OSError("no space left on device")

    # What breaks off while the files are moved leaves no JSON file that would list them.
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        write_tiny(tmp_path)
    assert not list(tmp_path.rglob("*.json")) and not list(tmp_path.glob(".*"))


def test_the_reference_tool_reads_what_is_written(tmp_path):
    tool = pytest.importorskip("panopticapi.evaluation")
    scenes = make_scenes(range(3), size=(48, 64))
    coco.write_panoptic(tmp_path, scenes.images, scenes.panoptic, CLASS_NAMES, STUFF)
    listed = tmp_path / "annotations" / "panoptic_train2017.json"
    content, folder = json.loads(listed.read_text()), str(listed.with_suffix(""))
    categories = {entry["id"]: entry for entry in content["categories"]}
    pairs = [(entry, entry) for entry in content["annotations"]]
    stat = tool.pq_compute_single_core(0, pairs, folder, folder, categories)
    quality, _ = stat.pq_average(categories, None)
    present = {number // 1000 for number in scenes.panoptic.unique().tolist()} - {0}
    assert quality == {"pq": 1, "sq": 1, "rq": 1, "n": len(present)}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"maps": [TINY[:2]]}, ValueError, "panoptic map 0: expected shape [3, 4], got [2, 4]"),
        (
            {"maps": [TINY.float()]},
            TypeError,
            "panoptic map 0: expected torch.int64, got torch.float32",
        ),
        (
            {"maps": [TINY + 3001]},
            ValueError,
            "panoptic map 0: expected 1000 * class + k for classes 1 to 4",
        ),
        ({"maps": [TINY - 1000]}, ValueError, "panoptic map 0: expected 1000 * class + k"),
        ({"maps": [TINY - 1]}, ValueError, "k = 0 for stuff, or 0, got -1"),
        ({"stuff": (1, 4)}, ValueError, "k = 0 for stuff, or 0, got 1001"),
        ({"stuff": (0,)}, ValueError, "stuff: expected classes from 1 to 4, got 0"),
        ({"names": TINY_NAMES[:1]}, ValueError, "class_names: expected 2 to 255, background first"),
        ({"names": ["x"] * 256}, ValueError, "class_names: expected 2 to 255, background first"),
        ({"split": "../a"}, ValueError, "folder: expected the name of a file inside"),
    ],
)
def test_maps_that_cannot_be_written(as_student, tmp_path, changes, error, message):
    with pytest.raises(error, match=re.escape(message)):
        write_tiny(tmp_path / "new", **changes)
    assert not list(tmp_path.rglob("*.*"))


def test_an_image_without_a_map(as_student, tmp_path):
    images = torch.zeros(2, 3, 3, 4)
    with pytest.raises(ValueError, match=r"^maps: expected 2, one for each image, got 1$"):
        coco.write_panoptic(tmp_path, images, TINY[None], TINY_NAMES, TINY_STUFF)
    with pytest.raises(ValueError, match=r"^image 0: expected shape \[3, h, w\], got \[3, 4\]$"):
        coco.write_panoptic(tmp_path, [images[0, 0]], [TINY], TINY_NAMES, TINY_STUFF)
    assert not list(tmp_path.iterdir())
