"""Samples written as COCO folders: read back equal by our reader, by pycocotools and by LabelMe's reader."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import supervision
import torch

from course_utils.core import VOID
from course_utils.data import coco, export, labelme, photos
from course_utils.data.pictures import Pictures
from course_utils.data.scenes import CLASS_NAMES, STUFF, make_scenes

# pycocotools 2.0 still hands its masks to NumPy in the manner of NumPy 1
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def same(ours, theirs, *fields):
    return all(torch.equal(getattr(ours, field), getattr(theirs, field)) for field in fields)


@pytest.fixture(scope="module")
def scenes():
    made = make_scenes(range(3), size=(48, 64))
    return [made.sample(k) for k in range(3)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """What the command line writes, without a warning."""
    folder = tmp_path_factory.mktemp("export") / "photos"
    command = [sys.executable, "-W", "error", "-m", "course_utils.data.export", "photos"]
    done = subprocess.run([*command, "--to", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert done.stdout.startswith("7 photos in ")
    return folder


@pytest.fixture(scope="module")
def expected():
    """Our photos as they are read from their packages, by name."""
    pictures = photos.read()
    return dict(zip(pictures.names, pictures, strict=True))


@pytest.fixture
def only_the_cat(monkeypatch):
    """Let the export write one photo only."""
    everything = photos.read()
    cat = Pictures(("chelsea",), everything.class_names, everything.stuff, everything._read_sample)
    monkeypatch.setattr(photos, "read", lambda: cat)


# ---- any samples ----


@pytest.mark.parametrize("split", [None, "val2017"])
def test_scenes_come_back(tmp_path, scenes, split):
    coco.write_samples(tmp_path, scenes, split=split)
    objects, segments = coco.read(tmp_path, split), coco.read_panoptic(tmp_path, split)
    assert objects.class_names == CLASS_NAMES[:5]  # the things, which are numbered first
    assert (segments.class_names, segments.stuff) == (CLASS_NAMES, STUFF)
    assert len(objects) == len(segments) == 3
    for scene, found, parts in zip(scenes, objects, segments, strict=True):
        assert same(found, scene, "boxes", "labels", "masks", "keypoints")
        assert same(parts, scene, "semantic", "panoptic")
        assert found.area.tolist() == scene.masks.sum(dim=(1, 2)).tolist()
        assert (found.image - scene.image).abs().max() <= 0.5 / 255 + 1e-6


def test_what_was_read_is_written_the_same(tmp_path, scenes):
    """The second time nothing is rounded: every byte is the same."""
    coco.write_samples(tmp_path / "a", scenes)
    coco.write_samples(
        tmp_path / "b", coco.read(tmp_path / "a", None), [f"{k:012d}" for k in range(3)]
    )
    for name in ("annotations.json", "images/000000000002.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_boxes_and_areas_keep_their_decimals(tmp_path, scenes):
    boxes = scenes[0].boxes + torch.rand(scenes[0].boxes.shape, generator=torch.manual_seed(0)) / 3
    area = torch.rand(len(boxes)) * 100
    coco.write_samples(tmp_path, [scenes[0]._replace(boxes=boxes, area=area)])
    sample = coco.read(tmp_path, None)[0]
    assert torch.equal(sample.boxes, boxes) and torch.equal(sample.area, area)


def test_a_crowd_stays_a_crowd(tmp_path, scenes):
    scene = scenes[0]
    crowd = torch.tensor([True] + [False] * (len(scene.labels) - 1))
    panoptic = torch.where(scene.masks[0], 0, scene.panoptic)
    coco.write_samples(tmp_path, [scene._replace(iscrowd=crowd, panoptic=panoptic)])
    assert torch.equal(coco.read(tmp_path, None)[0].iscrowd, crowd)
    sample = coco.read_panoptic(tmp_path, None)[0]
    assert torch.equal(sample.semantic, scene.semantic)
    assert torch.equal(sample.panoptic == 0, panoptic == 0)
    assert torch.equal(sample.masks[sample.iscrowd], scene.masks[:1])


def test_samples_with_boxes_only_and_names_with_a_folder(tmp_path, scenes):
    bare = [
        scene._replace(masks=None, semantic=None, panoptic=None, keypoints=None) for scene in scenes
    ]
    coco.write_samples(tmp_path, bare, ["a", "b/c", "b/d"])
    assert not (tmp_path / "panoptic.json").exists() and (tmp_path / "images/b/d.png").is_file()
    for found, scene in zip(coco.read(tmp_path, None), scenes, strict=True):
        assert same(found, scene, "boxes", "labels") and found.masks is found.semantic is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: ([], None), "samples: expected one or more, got none"),
        (lambda s: (s, ["a", "b"]), "names: expected 3 different ones, one for each sample"),
        (lambda s: (s, ["a", "a", "b"]), "names: expected 3 different ones"),
        (lambda s: (s, ["a", "b", "../c"]), "expected the name of a file inside"),
        (
            lambda s: ([s[0], s[1]._replace(stuff=())], None),
            "expected the classes of sample 0 in all",
        ),
        (lambda s: ([s[0], s[1]._replace(masks=None)], None), "expected masks in all or in none"),
        (
            lambda s: ([s[0]._replace(labels=s[0].labels + 8)], None),
            "expected the number of a thing, got",
        ),
        (
            lambda s: ([s[0]._replace(masks=s[0].masks[:, 1:])], None),
            "masks of sample 0: expected shape",
        ),
    ],
)
def test_samples_that_cannot_be_written(as_student, tmp_path, scenes, change, message):
    samples, names = change(scenes)
    with pytest.raises(ValueError, match=re.escape(message)):
        coco.write_samples(tmp_path, samples, names)
    assert not list(tmp_path.iterdir())


def test_supervision_reads_the_same_boxes(tmp_path, scenes):
    coco.write_samples(tmp_path, scenes)
    theirs = supervision.DetectionDataset.from_coco(
        str(tmp_path / "images"), str(tmp_path / "annotations.json"), force_masks=True
    )
    assert theirs.classes == list(CLASS_NAMES[1:5])
    for (_, _, found), scene in zip(theirs, scenes, strict=True):
        assert np.array_equal(found.xyxy, scene.boxes.numpy())
        assert np.array_equal(found.class_id + 1, scene.labels.numpy())
        assert np.array_equal(found.mask, scene.masks.numpy())


# ---- our photos ----


def test_our_photos_come_back(exported, expected):
    objects, segments = coco.read(exported, None), coco.read_panoptic(exported, None)
    assert objects.names == segments.names == tuple(f"{name}.png" for name in expected)
    things = objects.class_names
    for name, found, parts in zip(expected, objects, segments, strict=True):
        photo = expected[name]
        assert (parts.class_names, parts.stuff) == (photo.class_names, photo.stuff)
        assert things == photo.class_names[: len(things)] and min(photo.stuff) == len(things)
        assert same(found, photo, "boxes", "labels", "masks")
        assert same(parts, photo, "semantic", "panoptic")
        if name != "nuclei":  # 16-bit counts, the others have 8 bits
            assert same(found, photo, "image") and same(parts, photo, "image")


def test_pycocotools_reads_the_same_photos(exported):
    theirs = pytest.importorskip("pycocotools.coco").COCO(str(exported / "annotations.json"))
    pictures = coco.read(exported, None)
    assert [item["name"] for item in theirs.loadCats(theirs.getCatIds())] == [
        *pictures.class_names[1:]
    ]
    for image_id, sample in zip(theirs.getImgIds(), pictures, strict=True):
        found = theirs.loadAnns(theirs.getAnnIds(imgIds=image_id))
        assert [item["category_id"] for item in found] == sample.labels.tolist()
        assert [item["area"] for item in found] == sample.area.tolist()
        for item, mask in zip(found, sample.masks, strict=True):
            assert np.array_equal(theirs.annToMask(item), mask.numpy())


def test_the_panoptic_tool_finds_its_own_photos_perfect(exported):
    tool = pytest.importorskip("panopticapi.evaluation")
    content, folder = (
        json.loads((exported / "panoptic.json").read_text()),
        str(exported / "panoptic"),
    )
    categories = {entry["id"]: entry for entry in content["categories"]}
    pairs = [(entry, entry) for entry in content["annotations"]]
    stat = tool.pq_compute_single_core(0, pairs, folder, folder, categories)
    quality, _ = stat.pq_average(categories, None)
    assert quality == {"pq": 1, "sq": 1, "rq": 1, "n": len(categories)}


def test_labelme_files_open_the_exported_photos(exported, expected):
    drawn = labelme.read(exported / "labelme")
    assert set(drawn.names) == set(expected) - {"nuclei"}
    for name, sample in zip(drawn.names, drawn, strict=True):
        photo = expected[name]
        assert same(sample, photo, "image", "masks")
        numbers = torch.tensor([photo.class_names.index(label) for label in drawn.class_names])
        known = photo.semantic != VOID
        assert torch.equal(numbers[sample.semantic[known]], photo.semantic[known])


def test_the_credits_name_every_photo(exported, expected):
    lines = (exported / "CREDITS.txt").read_text(encoding="utf-8").splitlines()[2:]
    assert lines == [f"{name}: {photos.credit(name)}" for name in expected]


def test_an_earlier_export_is_replaced(tmp_path, only_the_cat):
    assert export.export_photos(tmp_path) == ("chelsea",)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    (tmp_path / "annotations.json").unlink()  # as after an interrupted export
    export.export_photos(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_another_folder_is_refused(tmp_path, capsys):
    (tmp_path / "annotations.json").write_text("{}")
    (tmp_path / "file").touch()
    for target, message in ((tmp_path, "holds other files"), (tmp_path / "file", "is a file")):
        with pytest.raises(SystemExit):
            export.main(["photos", "--to", str(target)])
        assert message in capsys.readouterr().err.splitlines()[-1]
    assert (tmp_path / "annotations.json").read_text() == "{}" and len(
        list(tmp_path.iterdir())
    ) == 2


def test_a_full_disk_leaves_no_list_of_missing_files(tmp_path, only_the_cat, monkeypatch, capsys):
    export.export_photos(tmp_path)
    move = os.replace

    def full(source, target):
        if target.parent == tmp_path / "panoptic":
            raise OSError(28, "No space left on device", str(target))
        move(source, target)

    with monkeypatch.context() as broken:
        broken.setattr(os, "replace", full)
        with pytest.raises(SystemExit):
            export.main(["photos", "--to", str(tmp_path)])
    assert "No space left on device" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json")) and not list(tmp_path.glob(".*"))
    export.export_photos(tmp_path)  # what is left does not stand in the way
    assert len(coco.read_panoptic(tmp_path, None)) == 1
