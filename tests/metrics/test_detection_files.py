"""python -m course_utils.metrics.detection: the numbers of pycocotools, and sentences about bad files."""

import contextlib
import copy
import io
import json
import math
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from course_utils.metrics import _detection_files
from course_utils.metrics._coco_json import _decompress, read_ground_truth, read_results
from course_utils.metrics.detection import detection_metrics
from tests.metrics.coco_reference import annotations, random_images, with_masks

KINDS = ("bbox", "segm")

# --- the reference


def pycocotools(truth, found, kind):
    """The twelve numbers of pycocotools for the contents of two files."""
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth, results = COCO(), COCO()
        ground_truth.dataset = copy.deepcopy(truth)
        ground_truth.createIndex()
        if found:
            results = ground_truth.loadRes(copy.deepcopy(found))
        else:  # loadRes looks at the first entry
            results.dataset = truth | {"annotations": []}
            results.createIndex()
        evaluation = COCOeval(ground_truth, results, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def write(folder, truth, found):
    paths = folder / "truth.json", folder / "found.json"
    for path, content in zip(paths, (truth, found)):
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return paths


def run(folder, truth, found, kind, capsys):
    """The numbers that the command prints for these contents, and what it says on stderr."""
    paths = write(folder, truth, found)
    _detection_files.main([*map(str, paths), "--type", kind, "--json"])
    out, err = capsys.readouterr()
    return json.loads(out.splitlines()[-1]), err


def assert_equal_to_coco(folder, truth, found, kind, capsys):
    numbers, _ = run(folder, truth, found, kind, capsys)
    np.testing.assert_allclose(numbers, pycocotools(truth, found, kind), rtol=0, atol=1e-9)
    return numbers


# --- random files

CATEGORIES = (0, 3, 17, 90)


def random_files(seed, kind, images=7, most_truths=6, most_found=15):
    """A ground truth and results in which nothing is rare; results have boxes, masks or both."""
    rng = random.Random(seed)
    ids = rng.sample(range(1000), images)
    sizes = {id: (rng.randint(20, 60), rng.randint(110, 150)) for id in ids}
    step = rng.choice([1, 4, 7.3])
    both = kind == "segm" and rng.random() < 0.3
    truth = {
        "images": [{"id": id, "height": h, "width": w} for id, (h, w) in sizes.items()],
        "categories": [{"id": id, "name": f"class {id}"} for id in rng.sample(CATEGORIES, 4)],
        "annotations": [],
    }
    found = []
    for id, size in sizes.items():
        boxes = []
        for _ in range(rng.randint(0, most_truths)):
            box = [step * rng.randint(0, 5), step * rng.randint(0, 5)]
            box += [step * rng.randint(0, 6), step * rng.randint(0, 6)]
            boxes.append((box, rng.choice(CATEGORIES[:3])))
            entry = {"image_id": id, "category_id": boxes[-1][1], "bbox": box}
            entry["iscrowd"] = int(rng.random() < 0.25)
            entry["area"] = rng.choice([box[2] * box[3], 0, 32**2, 5000, 96**2, 1e5, 2e10])
            if kind == "segm":
                entry["segmentation"] = random_mask(rng, box, size, rng.choice("plu"))
            elif rng.random() < 0.5:
                entry["segmentation"] = []
            truth["annotations"].append(entry)
        for _ in range(rng.randint(0, most_found)):
            box, label = rng.choice(boxes) if boxes else ([1, 2, 30, 20], 3)
            box = [
                box[0],
                box[1],
                *(max(0, side + step / 2 * rng.randint(-1, 2)) for side in box[2:]),
            ]
            label = label if rng.random() < 0.7 else rng.choice(CATEGORIES)
            entry = {"image_id": id, "category_id": label, "score": rng.randint(0, 5) / 5}
            if kind == "bbox" or both:
                entry["bbox"] = box
            if kind == "segm":
                entry["segmentation"] = random_mask(
                    rng, box, size, rng.choice("pl" if both else "l")
                )
            found.append(entry)
    rng.shuffle(truth["annotations"])
    rng.shuffle(found)
    for number, entry in enumerate(truth["annotations"], 1):
        entry["id"] = 3 * number
    return truth, found


def random_mask(rng, box, size, form):
    """One or two polygons near a box, or their mask as compressed ("l") or uncompressed ("u") run lengths."""
    x, y, width, height = box
    polygons = [[x, y, x + width, y, x + width, y + height + 1, x + width / 2, y + height]]
    if rng.random() < 0.4:
        polygons.append(
            [x + 1, y + 9.5, x + 12.25, y + 9, x + 5, y + 15, *[x - 2, y + 12] * rng.randint(0, 1)]
        )
    if form == "p":
        return polygons
    rle = run_lengths.merge(run_lengths.frPyObjects(polygons, *size))
    if form == "l":
        return rle | {"counts": rle["counts"].decode()}
    return {"size": [*size], "counts": _decompress(rle["counts"].decode()).tolist()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(16))
def test_random_files_equal_pycocotools(seed, kind, tmp_path, capsys):
    assert_equal_to_coco(tmp_path, *random_files(seed, kind), kind, capsys)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_random_files_equal_pycocotools(kind, tmp_path, capsys):
    for seed in range(100, 1100):
        assert_equal_to_coco(tmp_path, *random_files(seed, kind), kind, capsys)


@pytest.mark.parametrize("kind", KINDS)
def test_more_than_a_hundred_detections_of_a_class(kind, tmp_path, capsys):
    files = random_files(5, kind, images=3, most_truths=30, most_found=1500)
    numbers = assert_equal_to_coco(tmp_path, *files, kind, capsys)
    assert numbers[6] < numbers[8]


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_images_in_the_files_does_not_matter(kind, tmp_path, capsys):
    """All scores are equal, so that the order of the images decides which detection comes first."""
    truth, found = random_files(3, kind, images=12)
    found = [entry | {"score": 0.5} for entry in found]
    numbers = assert_equal_to_coco(tmp_path, truth, found, kind, capsys)
    # Within an image the order of equal scores counts, and is kept.
    by_image = sorted(found, key=lambda entry: -entry["image_id"])
    turned = truth | {"images": truth["images"][::-1], "categories": truth["categories"][::-1]}
    assert run(tmp_path, turned, by_image, kind, capsys)[0] == numbers


@pytest.mark.parametrize("kind", KINDS)
def test_detection_metrics_and_files_and_pycocotools_agree(kind, tmp_path, capsys):
    """The same objects as tensors and as files: crowds, areas that are not the masks' own, ties."""
    iou_type = {"bbox": "boxes", "segm": "masks"}[kind]
    for seed in range(8):
        predictions, targets = random_images(seed)
        if kind == "segm":
            predictions, targets = with_masks(predictions), with_masks(targets)
        for number, target in enumerate(targets):
            areas = torch.tensor([0.0, 500.0, 32**2, 5000.0, 96**2, 1e5])
            target["area"] = areas[(torch.arange(len(target["labels"])) + number) % 6]
        truth, found = annotations(targets, True), annotations(predictions, False)
        for entry in truth + found:
            if kind == "segm":
                entry["segmentation"]["counts"] = entry["segmentation"]["counts"].decode()
        found = [
            {key: entry[key] for key in entry if kind == "bbox" or key != "bbox"} for entry in found
        ]
        images = [{"id": n, "height": 40, "width": 52} for n in range(len(targets))]
        content = {
            "images": images,
            "categories": [{"id": n} for n in range(1, 5)],
            "annotations": truth,
        }
        numbers = assert_equal_to_coco(tmp_path, content, found, kind, capsys)
        metrics = detection_metrics(predictions, targets, iou_type=iou_type)[:12]
        np.testing.assert_allclose(np.nan_to_num(metrics, nan=-1), numbers, rtol=0, atol=1e-9)


# --- by hand

SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]
OBJECT = {
    "id": 1,
    "image_id": 7,
    "category_id": 3,
    "bbox": [10, 10, 20, 20],
    "area": 400,
    "iscrowd": 0,
    "segmentation": [SQUARE],
}
TRUTH = {
    "images": [{"id": 7, "height": 50, "width": 60}],
    "categories": [{"id": 3, "name": "cat"}],
    "annotations": [OBJECT],
}
FOUND = {
    "image_id": 7,
    "category_id": 3,
    "bbox": [10, 10, 20, 20],
    "score": 0.5,
    "segmentation": [SQUARE],
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_detections_at_all(kind, tmp_path, capsys):
    numbers = assert_equal_to_coco(tmp_path, TRUTH, [], kind, capsys)
    assert numbers == [0, 0, 0, 0, -1, -1, 0, 0, 0, 0, -1, -1]


@pytest.mark.parametrize("kind", KINDS)
def test_no_objects_at_all(kind, tmp_path, capsys):
    truth = TRUTH | {"annotations": []}
    assert assert_equal_to_coco(tmp_path, truth, [FOUND], kind, capsys) == [-1] * 12
    nothing = {"images": [], "categories": [], "annotations": []}
    assert run(tmp_path, nothing, [], kind, capsys) == ([-1] * 12, "")


def test_a_crowd_is_matched_by_several_detections(tmp_path, capsys):
    """Without `iscrowd` the AP was .5."""
    crowd = OBJECT | {
        "id": 2,
        "iscrowd": 1,
        "bbox": [40, 10, 20, 40],
        "segmentation": [[40, 10, 60, 10, 60, 50, 40, 50]],
    }
    truth = TRUTH | {"annotations": [OBJECT, crowd]}
    inside = FOUND | {
        "bbox": [42, 12, 10, 10],
        "segmentation": [[42, 12, 52, 12, 52, 22, 42, 22]],
        "score": 0.9,
    }
    for kind in KINDS:
        found = [inside, inside | {"score": 0.8}, FOUND]
        assert assert_equal_to_coco(tmp_path, truth, found, kind, capsys)[0] == 1
        crowd["iscrowd"] = 0
        assert assert_equal_to_coco(tmp_path, truth, found, kind, capsys)[0] < 0.2
        crowd["iscrowd"] = 1


def test_the_area_in_the_file_decides_the_size_of_an_object(tmp_path, capsys):
    truth = TRUTH | {"annotations": [OBJECT | {"area": 5000}]}
    for kind in KINDS:
        numbers = assert_equal_to_coco(tmp_path, truth, [FOUND], kind, capsys)
        assert numbers[3:6] == [-1, 1, -1]


def test_the_first_detection_decides_whether_areas_are_those_of_boxes(tmp_path, capsys):
    """A wrong detection has a box of medium size and a small mask: does it count for small objects?"""
    wrong = FOUND | {
        "bbox": [0, 0, 40, 40],
        "segmentation": [[40, 40, 45, 40, 45, 45, 40, 45]],
        "score": 0.9,
    }
    rle = [
        entry
        | {
            "segmentation": run_lengths.merge(
                run_lengths.frPyObjects(entry["segmentation"], 50, 60)
            )
        }
        for entry in (wrong, FOUND)
    ]
    for entry in rle:
        entry["segmentation"]["counts"] = entry["segmentation"]["counts"].decode()
    small = assert_equal_to_coco(tmp_path, TRUTH, rle, "segm", capsys)[3]
    for entry in rle:
        del entry["bbox"]
    assert small == 1 and assert_equal_to_coco(tmp_path, TRUTH, rle, "segm", capsys)[3] == 0.5


@pytest.mark.parametrize("empty", [[], [[10, 10, 30, 30]]], ids=["empty", "two points"])
def test_objects_without_a_mask_count_as_boxes_and_are_left_out_of_masks(empty, tmp_path, capsys):
    bare = OBJECT | {"id": 2, "segmentation": empty, "bbox": [40, 10, 10, 10]}
    truth = TRUTH | {"annotations": [OBJECT, bare]}
    assert assert_equal_to_coco(tmp_path, truth, [FOUND], "bbox", capsys)[8] == 0.5
    numbers, said = run(tmp_path, truth, [FOUND], "segm", capsys)
    assert numbers[8] == 1 and "1 objects without a mask are left out" in said


def test_a_detection_without_a_mask_is_wrong(tmp_path, capsys):
    empty = FOUND | {"segmentation": [], "score": 0.9}
    assert run(tmp_path, TRUTH, [empty, FOUND], "segm", capsys)[0][0] == 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_with_the_id_0_is_never_found_and_that_is_said(kind, tmp_path, capsys):
    """pycocotools stores the id of what a detection matches, and 0 for nothing."""
    truth = TRUTH | {
        "annotations": [OBJECT | {"id": 0}, OBJECT | {"id": 1, "bbox": [40, 10, 9, 9], "area": 81}]
    }
    for area in (400, 5000):
        truth["annotations"][0]["area"] = area
        found = [FOUND, FOUND | {"bbox": [40, 10, 9, 9], "score": 0.4}]
        assert assert_equal_to_coco(tmp_path, truth, found, kind, capsys)[0] < 0.6
    assert "an annotation has the id 0" in run(tmp_path, truth, [FOUND], kind, capsys)[1]
    for seed in range(10):
        truth, found = random_files(seed, kind)
        if truth["annotations"]:
            truth["annotations"][seed % len(truth["annotations"])]["id"] = 0
            assert_equal_to_coco(tmp_path, truth, found, kind, capsys)


def test_ap_per_class_goes_by_category_id(tmp_path):
    paths = write(tmp_path, TRUTH, [FOUND])
    truth = read_ground_truth(paths[0], "bbox")
    found = read_results(paths[1], "bbox", truth)
    assert _detection_files.evaluate(found, truth).ap_per_class == {3: 1.0}


# --- the command


def test_the_command_in_a_terminal(tmp_path):
    """Warnings are errors, so that Python does not complain of a module that is imported twice."""
    paths = [str(path) for path in write(tmp_path, TRUTH, [FOUND])]
    start = [sys.executable, "-W", "error::RuntimeWarning", "-m", "course_utils.metrics.detection"]
    table = subprocess.run([*start, *paths, "--type", "bbox"], capture_output=True, text=True)
    assert (table.returncode, table.stderr) == (0, "")
    lines = table.stdout.splitlines()
    assert len(lines) == 12
    assert lines[0].split()[:2] == ["AP", "1.000"] and lines[5].split()[:3] == [
        "AP",
        "large",
        "-1.000",
    ]


# --- bad files


def with_object(**fields):
    return json.dumps(TRUTH | {"annotations": [OBJECT, changed(OBJECT, {"id": 2} | fields)]})


def with_image(**fields):
    return json.dumps(TRUTH | {"images": [changed(TRUTH["images"][0], fields)]})


def with_found(**fields):
    return json.dumps([FOUND, changed(FOUND, fields)])


def changed(entry, fields):
    """An entry with these fields; ... takes one away."""
    return {key: value for key, value in (entry | fields).items() if value is not ...}


def rle(counts, size=(50, 60)):
    return {"size": [*size], "counts": counts}


NESTED = "[" * 200_000 + "]" * 200_000
IN_TRUTH, IN_FOUND = 'truth.json, entry of "annotations" 1: ', "found.json, entry 1: "
BAD_TRUTHS = {
    "empty": ("", "bbox", "truth.json: expected JSON"),
    "text": ("<html>", "bbox", "truth.json: expected JSON"),
    "nested": (NESTED, "bbox", "truth.json: expected JSON"),
    "a list": ("[]", "bbox", 'truth.json: expected a JSON object with the lists "images"'),
    "a number": ("3", "bbox", "truth.json: expected a JSON object with the lists"),
    "no images": ('{"annotations": [], "categories": []}', "bbox", "with the lists"),
    "images null": (json.dumps(TRUTH | {"images": None}), "bbox", "with the lists"),
    "image a string": (
        json.dumps(TRUTH | {"images": ["7"]}),
        "bbox",
        'entry of "images" 0: expected a JSON object',
    ),
    "two equal images": (
        json.dumps(TRUTH | {"images": TRUTH["images"] * 2}),
        "bbox",
        'entry of "images" 1: id: ',
    ),
    "id a string": (with_object(id="2"), "bbox", IN_TRUTH + "id: expected a whole number"),
    "no id": (with_object(id=...), "bbox", IN_TRUTH + 'expected the key "id"'),
    "the same id": (with_object(id=1), "bbox", "that no entry before it has, got 1"),
    "id a list": (with_object(id=[1]), "bbox", IN_TRUTH + "id: "),
    "image unknown": (
        with_object(image_id=8),
        "bbox",
        IN_TRUTH + "image_id: expected an id that the ground truth",
    ),
    "image true": (with_object(image_id=True), "bbox", IN_TRUTH + "image_id"),
    "image a list": (with_object(image_id=[7]), "segm", IN_TRUTH + "image_id"),
    "category unknown": (with_object(category_id=4), "segm", IN_TRUTH + "category_id"),
    "no box": (with_object(bbox=...), "bbox", IN_TRUTH + 'expected the key "bbox"'),
    "box of three": (
        with_object(bbox=[1, 2, 3]),
        "bbox",
        IN_TRUTH + "bbox: expected [x, y, width, height]",
    ),
    "box null": (with_object(bbox=None), "bbox", IN_TRUTH + "bbox"),
    "nan in a box": (with_object(bbox=[1, 2, 3, math.nan]), "bbox", IN_TRUTH + "bbox"),
    "huge box": (with_object(bbox=[1, 2, 1e300, 1e300]), "bbox", IN_TRUTH + "bbox"),
    "negative width": (with_object(bbox=[9, 9, -3, 3]), "bbox", IN_TRUTH + "bbox"),
    "no area": (with_object(area=...), "bbox", IN_TRUTH + 'expected the key "area"'),
    "nan area": (
        with_object(area=math.nan),
        "bbox",
        IN_TRUTH + "area: expected a number of at least 0",
    ),
    "huge area": (with_object(area=10**400), "bbox", IN_TRUTH + "area"),
    "crowd a string": (with_object(iscrowd="0"), "bbox", IN_TRUTH + "iscrowd: expected 0 or 1"),
    "height a string": (with_image(height="50"), "segm", 'entry of "images" 0: height and width'),
    "no height": (with_image(height=...), "segm", 'expected the key "height"'),
    "height 0": (with_image(height=0), "segm", "whole numbers of at least 1"),
    "height 1.5": (with_image(height=1.5), "segm", "whole numbers of at least 1"),
    "huge image": (with_image(height=10**6, width=10**6), "segm", "at most 100,000,000 pixels"),
    "huge height": (with_image(height=10**4000), "segm", "height and width"),
    "no mask": (
        with_object(segmentation=...),
        "segm",
        IN_TRUTH + 'expected the key "segmentation"',
    ),
    "mask null": (
        with_object(segmentation=None),
        "segm",
        IN_TRUTH + "segmentation: expected polygons or run",
    ),
    "flat polygon": (
        with_object(segmentation=SQUARE),
        "segm",
        IN_TRUTH + "segmentation: expected polygons",
    ),
    "odd polygon": (
        with_object(segmentation=[SQUARE[:7]]),
        "segm",
        "expected polygons [x1, y1, x2, y2, ...]",
    ),
    "text in a polygon": (with_object(segmentation=[["a"] * 6]), "segm", "expected polygons"),
    "nan in a polygon": (with_object(segmentation=[[math.nan] * 6]), "segm", "expected polygons"),
    "endless polygon": (
        with_object(segmentation=[[0, 0, 1e7, 5, 3, 4]]),
        "segm",
        "no longer than 2,000,000",
    ),
    "wrong size": (
        with_object(segmentation=rle([3000], (60, 50))),
        "segm",
        "of size [50, 60], as the image's",
    ),
    "no counts": (
        with_object(segmentation={"size": [50, 60]}),
        "segm",
        IN_TRUTH + 'expected the key "counts"',
    ),
    "short": (with_object(segmentation=rle([2999])), "segm", "add up to 50 x 60 pixels, got 2999"),
    "long": (with_object(segmentation=rle([10**30])), "segm", "add up to 50 x 60 pixels, got 1"),
    "negative run": (with_object(segmentation=rle([3001, -1])), "segm", "add up to 50 x 60 pixels"),
    "counts a number": (
        with_object(segmentation=rle(3000)),
        "segm",
        "add up to 50 x 60 pixels, got 3000",
    ),
    "no text": (with_object(segmentation=rle("")), "segm", "COCO's compressed form, got ''"),
    "short text": (
        with_object(segmentation=rle("122O")),
        "segm",
        "add up to 50 x 60 pixels, got 6",
    ),
    "unfinished text": (with_object(segmentation=rle("122o")), "segm", "COCO's compressed form"),
    "other letters": (with_object(segmentation=rle("12é\x00")), "segm", "COCO's compressed form"),
    "endless number": (
        with_object(segmentation=rle("o" * 100 + "1")),
        "segm",
        "COCO's compressed form",
    ),
}
BAD_RESULTS = {
    "empty": ("", "bbox", "found.json: expected JSON"),
    "not utf-8": ('"\udcff"', "bbox", "found.json: expected JSON"),
    "nested": (NESTED, "bbox", "found.json: expected JSON"),
    "an object": ("{}", "bbox", "found.json: expected a JSON list of detections, got {}"),
    "null": ("null", "segm", "found.json: expected a JSON list of detections, got None"),
    "entry a list": (
        json.dumps([FOUND, [7, 3]]),
        "bbox",
        IN_FOUND + "expected a JSON object, got [7, 3]",
    ),
    "first entry a list": (
        json.dumps([[7, 3]]),
        "segm",
        "found.json, entry 0: expected a JSON object",
    ),
    "image unknown": (
        with_found(image_id=8),
        "bbox",
        IN_FOUND + "image_id: expected an id that the ground",
    ),
    "image a string": (with_found(image_id="7"), "segm", IN_FOUND + "image_id"),
    "no image": (with_found(image_id=...), "bbox", IN_FOUND + 'expected the key "image_id"'),
    "category unknown": (with_found(category_id=1), "bbox", IN_FOUND + "category_id"),
    "category an object": (with_found(category_id={}), "bbox", IN_FOUND + "category_id"),
    "no score": (with_found(score=...), "bbox", IN_FOUND + 'expected the key "score"'),
    "nan score": (
        with_found(score=math.nan),
        "bbox",
        IN_FOUND + "score: expected a finite number, got nan",
    ),
    "infinite score": (
        with_found(score=math.inf),
        "segm",
        IN_FOUND + "score: expected a finite number",
    ),
    "score a string": (with_found(score="0.5"), "segm", IN_FOUND + "score"),
    "score true": (with_found(score=True), "segm", IN_FOUND + "score"),
    "no box": (with_found(bbox=...), "bbox", IN_FOUND + 'expected the key "bbox"'),
    "box empty": (with_found(bbox=[]), "bbox", IN_FOUND + "bbox"),
    "no mask": (with_found(segmentation=...), "segm", IN_FOUND + 'expected the key "segmentation"'),
    "mask a string": (with_found(segmentation="122O"), "segm", IN_FOUND + "segmentation"),
    "wrong size": (
        with_found(segmentation=rle([3000], (60, 50))),
        "segm",
        IN_FOUND + "segmentation",
    ),
    "size nested": (
        with_found(segmentation=rle([1], [[50], 60])),
        "segm",
        IN_FOUND + "segmentation",
    ),
}
BAD_FILES = [
    *(
        pytest.param(json_text, "[]", *rest, id=f"truth {what}")
        for what, (json_text, *rest) in BAD_TRUTHS.items()
    ),
    *(
        pytest.param(json.dumps(TRUTH), json_text, *rest, id=f"results {what}")
        for what, (json_text, *rest) in BAD_RESULTS.items()
    ),
]


@pytest.mark.parametrize("truth, found, kind, words", BAD_FILES)
def test_bad_files(truth, found, kind, words, tmp_path, capsys):
    """One sentence that names the file and the entry, and the exit code 2."""
    paths = tmp_path / "truth.json", tmp_path / "found.json"
    for path, text in zip(paths, (truth, found)):
        path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SystemExit) as caught:
        _detection_files.main([*map(str, paths), "--type", kind])
    out, err = capsys.readouterr()
    assert caught.value.code == 2 and out == ""
    assert (
        words in err and err.startswith(str(tmp_path)) and err.count("\n") == 1 and len(err) < 500
    )


@pytest.mark.parametrize("name", ["", "nothing.json"], ids=["a folder", "no file"])
def test_a_file_that_cannot_be_read(name, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        _detection_files.main([str(tmp_path / name), str(tmp_path), "--type", "bbox"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(f"{tmp_path / name}: the file cannot be read (")


VALUES = (
    None,
    True,
    -1,
    0,
    7,
    10**400,
    0.5,
    math.nan,
    -math.inf,
    "",
    "7",
    [],
    [[]],
    [1, 2],
    {},
    {"size": 1},
    "o" * 9,
)


def mutate(content, rng):
    """Replace, remove or add one value somewhere in a JSON content."""
    place = content
    while True:
        keys = [*place] if isinstance(place, dict) else [*range(len(place))]
        key = rng.choice(keys)
        if isinstance(place[key], (dict, list)) and place[key] and rng.random() < 0.8:
            place = place[key]
            continue
        if rng.random() < 0.2:
            del place[key]
        else:
            place[key] = rng.choice(VALUES)
        return


def check_mutated_files(seeds, folder, capsys):
    """Each mutated file gives twelve numbers from 0 to 1, or -1, or a sentence."""
    refused = 0
    for seed in seeds:
        rng = random.Random(seed)
        kind = KINDS[seed % 2]
        files = random_files(seed % 50, kind, images=2)
        mutate(files[0], rng) if seed % 3 or not files[1] else mutate(files[1], rng)
        try:
            numbers, _ = run(folder, *files, kind, capsys)
            assert len(numbers) == 12 and all(n == -1 or 0 <= n <= 1 for n in numbers)
        except SystemExit as error:
            refused += 1
            said = capsys.readouterr().err
            assert error.code == 2 and said.count("\n") == 1 and said.startswith(str(folder))
    return refused


def test_mutated_files(tmp_path, capsys):
    assert check_mutated_files(range(100), tmp_path, capsys) > 20


@pytest.mark.long
def test_two_thousand_mutated_files(tmp_path, capsys):
    check_mutated_files(range(1000, 3000), tmp_path, capsys)


# --- memory


def peak_of_the_process(reset=False):
    """The most memory that this process held, in bytes, since it started or since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak")
def test_masks_are_never_decoded(tmp_path, capsys):
    """Three hundred masks of two million pixels each would take 600 MB."""
    size = (1000, 2000)
    polygons = [[10 + n, 10, 1500, 20 + n, 1400 - n, 900] for n in range(60)]
    truth = {
        "images": [{"id": n, "height": size[0], "width": size[1]} for n in range(3)],
        "categories": [{"id": 1}],
        "annotations": [
            OBJECT
            | {"id": 1 + n, "image_id": n % 3, "category_id": 1, "segmentation": [polygons[n]]}
            for n in range(60)
        ],
    }
    masks = [run_lengths.frPyObjects([polygon], *size)[0] for polygon in polygons]
    found = [
        {"image_id": n % 3, "category_id": 1, "score": n / 300}
        | {"segmentation": {"size": [*size], "counts": masks[n % 60]["counts"].decode()}}
        for n in range(300)
    ]
    arguments = [*map(str, write(tmp_path, truth, found)), "--type", "segm"]
    before = peak_of_the_process(reset=True)
    _detection_files.main(arguments)
    assert peak_of_the_process() - before < 60e6
