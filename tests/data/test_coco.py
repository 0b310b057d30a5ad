"""COCO folders: masks and boxes as pycocotools reads them, and errors that name the file."""

import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from course_utils.core import VOID, data_path
from course_utils.data import coco
from course_utils.data.scenes import CLASS_NAMES, make_scenes
from course_utils.metrics.detection import detection_metrics
from course_utils.ops.masks import polygon_mask

# pycocotools 2.0 still hands its masks to NumPy in the manner of NumPy 1
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZE = (8, 10)
SQUARE = [1, 1, 5, 1, 5, 5, 1, 5]
ELSEWHERE = [5, 1, 9, 1, 9, 5, 5, 5]
CATEGORIES = [
    {"id": 18, "name": "dog", "supercategory": "animal"},
    {"id": 1, "name": "person", "supercategory": "person"},
]


def object_(number, category=1, outline=(SQUARE,), box=(1, 1, 4, 4), crowd=0, image=7, **more):
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": outline if isinstance(outline, dict) else [list(part) for part in outline],
        "bbox": list(box),
        "area": 16.0,
        "iscrowd": crowd,
    } | more


def write(folder, *objects, **changes):
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "val2017").mkdir(exist_ok=True)
    Image.fromarray(np.full((*SIZE, 3), 50, np.uint8)).save(folder / "val2017" / "a.jpg")
    content = {
        "images": [{"id": 7, "file_name": "a.jpg", "height": SIZE[0], "width": SIZE[1]}],
        "categories": CATEGORIES,
        "annotations": list(objects),
    } | changes
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    return folder


def read(folder):
    return coco.read(folder, "val2017")


def run_lengths(mask):
    """The runs of a mask, counted one pixel at a time."""
    counts, now = [0], False
    for pixel in mask.T.flatten().tolist():
        if pixel != now:
            counts.append(0)
            now = pixel
        counts[-1] += 1
    return counts


# ---- objects ----


def test_categories_are_numbered_in_cocos_order(tmp_path):
    pictures = read(write(tmp_path, object_(1, category=18), object_(2, category=1)))
    assert pictures.class_names == ("background", "person", "dog") and pictures.names == ("a.jpg",)
    assert pictures[0].labels.tolist() == [2, 1]


def test_polygons_run_lengths_and_text_are_the_same(tmp_path):
    expected = torch.zeros(SIZE, dtype=torch.bool)
    expected[1:5, 1:5] = True
    counts = run_lengths(expected.numpy())
    outlines = [[SQUARE], {"size": list(SIZE), "counts": counts}]
    outlines.append({"size": list(SIZE), "counts": _text(counts)})
    outlines.append([[1, 1, 5, 1, 5, 5], [1, 1, 5, 5, 1, 5]])  # two triangles
    objects = [object_(number, outline=outline) for number, outline in enumerate(outlines)]
    for mask in read(write(tmp_path, *objects))[0].masks:
        assert torch.equal(mask, expected)


def _text(counts):
    theirs = pytest.importorskip("pycocotools.mask")
    made = theirs.frPyObjects({"counts": counts, "size": list(SIZE)}, *SIZE)
    return made["counts"].decode()


def test_boxes_are_cocos_own(tmp_path):
    sample = read(write(tmp_path, object_(1, box=(1.25, 0.5, 3.5, 4))))[0]
    assert sample.boxes.tolist() == [[1.25, 0.5, 4.75, 4.5]]


def test_the_label_map_where_objects_meet(tmp_path):
    right = [3, 1, 7, 1, 7, 5, 3, 5]
    same = read(write(tmp_path, object_(1), object_(2, outline=[right])))
    assert same[0].image.shape == (3, *SIZE) and same[0].semantic.unique().tolist() == [0, 1]
    assert (same[0].semantic == 1).sum() == 24
    other = read(write(tmp_path, object_(1), object_(2, 18, outline=[right]), object_(3)))
    assert other[0].semantic[2].tolist() == [0, 1, 1, VOID, VOID, 2, 2, 0, 0, 0]
    assert other[0].panoptic[2, 5:7].tolist() == [2001, 2001]
    assert other[0].panoptic[2, 3:5].tolist() == [0, 0]


def test_a_crowd_is_a_row_with_a_class_and_without_an_id(tmp_path):
    crowd = {"size": list(SIZE), "counts": [72, 8]}
    objects = (
        object_(1),
        object_(2, outline=crowd, crowd=1, area=8),
        object_(3, outline=[ELSEWHERE]),
    )
    sample = read(write(tmp_path, *objects))[0]
    assert sample.labels.tolist() == [1, 1, 1] and sample.masks.shape == (3, *SIZE)
    assert sample.iscrowd.tolist() == [False, True, False]
    assert sample.area.tolist() == [16, 8, 16] and sample.area.dtype == torch.float32
    assert (sample.semantic[:, 9] == 1).all() and (sample.panoptic[:, 9] == 0).all()
    assert sample.panoptic.unique().tolist() == [0, 1001, 1002]


def test_average_precision_with_a_crowd_is_that_of_pycocotools(tmp_path, capsys):
    """The more confident of two detections lies inside a crowd. AP was .5 when the reader left crowds out."""
    COCO = pytest.importorskip("pycocotools.coco").COCO
    from pycocotools.cocoeval import COCOeval

    crowd = {"size": list(SIZE), "counts": [40, 40]}
    objects = object_(1), object_(2, outline=crowd, box=(5, 0, 5, 8), crowd=1, area=40)
    sample = read(write(tmp_path, *objects))[0]
    boxes, scores = torch.tensor([[1.0, 1, 5, 5], [6, 2, 8, 4]]), torch.tensor([0.8, 0.9])
    found = {"boxes": boxes, "scores": scores, "labels": torch.tensor([1, 1])}
    target = {name: getattr(sample, name) for name in ("boxes", "labels", "iscrowd", "area")}
    metrics = detection_metrics([found], [target])

    truth = COCO(str(tmp_path / "annotations" / "instances_val2017.json"))
    rows = [(7, 1, 1, 4, 4, 0.8, 1), (7, 6, 2, 2, 2, 0.9, 1)]  # image, x, y, w, h, score, category
    evaluation = COCOeval(truth, truth.loadRes(np.array(rows)), "bbox")
    for step in (evaluation.evaluate, evaluation.accumulate, evaluation.summarize):
        step()
    assert metrics.ap == pytest.approx(evaluation.stats[0], abs=1e-9) == 1


def test_areas_that_the_file_does_not_state_are_counted(tmp_path):
    objects = [object_(1), object_(2, outline=[], box=(0, 0, 2, 3)), object_(3, area=0)]
    for entry in objects[:2]:
        del entry["area"]
    assert read(write(tmp_path, *objects))[0].area.tolist() == [16, 6, 0]


def test_a_photo_without_objects_and_an_object_without_pixels(tmp_path):
    sample = read(write(tmp_path))[0]
    assert (sample.semantic == 0).all() and sample.iscrowd.shape == sample.area.shape == (0,)
    assert sample.masks.shape == (0, *SIZE) and sample.boxes.shape == (0, 4)
    tiny = object_(1, outline=[[1.1, 1.1, 1.2, 1.1, 1.2, 1.2]], box=(1.1, 1.1, 0, 0))
    sample = read(write(tmp_path, tiny))[0]
    assert sample.masks.sum() == 0 and sample.labels.tolist() == [1]


@pytest.mark.parametrize("outline", [[], None, [[1, 1, 2, 2]], [[1, 1, 2, 2], []], {}])
def test_an_object_without_an_outline_keeps_its_box(tmp_path, outline):
    boxed = object_(2, 18, box=(4, 4, 3, 2)) | {"segmentation": outline}
    sample = read(write(tmp_path, object_(1), boxed))[0]
    assert sample.boxes.tolist() == [[1, 1, 5, 5], [4, 4, 7, 6]] and sample.labels.tolist() == [
        1,
        2,
    ]
    assert sample.masks.sum(dim=(1, 2)).tolist() == [16, 0]
    # which of the pixels in its box are dogs is not known
    assert sample.semantic[4].tolist() == [0, 1, 1, 1, 1, VOID, VOID, 0, 0, 0]


def test_a_file_without_outlines_has_boxes_and_no_masks(tmp_path):
    entry = object_(1)
    del entry["segmentation"]
    sample = read(write(tmp_path, entry, object_(2, outline=[])))[0]
    assert sample.boxes.shape == (2, 4) and sample.area.tolist() == [16, 16]
    assert sample.masks is sample.semantic is sample.panoptic is None


@pytest.mark.parametrize("box", [None, [], [1, 1, -4, 4], [1, float("nan"), 4, 4], [1, 1, 1e30, 4]])
def test_an_object_without_a_box_has_the_box_of_its_outline(tmp_path, box):
    runs = {"size": list(SIZE), "counts": [17, 3, 60]}
    objects = [object_(1) | {"bbox": box}, object_(2, outline=runs) | {"bbox": box}]
    if box is None:
        del objects[0]["bbox"]
    sample = read(write(tmp_path, *objects))[0]
    assert sample.boxes.tolist() == [[1, 1, 5, 5], [2, 1, 3, 4]]


def test_objects_without_box_and_outline_are_left_out_and_counted(tmp_path):
    nothing = [object_(number, outline=[]) | {"bbox": []} for number in (5, 6)]
    write(tmp_path, object_(1), *nothing)
    with pytest.warns(
        UserWarning, match=r"^folder: 2 annotations in .*.json have neither .* is 5$"
    ):
        pictures = read(tmp_path)
    assert len(pictures[0].boxes) == 1
    empty = object_(7, outline={"size": list(SIZE), "counts": [80]}) | {"bbox": []}
    pictures = read(write(tmp_path, object_(1), empty))
    with pytest.warns(UserWarning, match=r"^folder: 1 annotations in .*.json .*, the first is 7$"):
        assert len(pictures[0].boxes) == 1


@pytest.mark.parametrize(
    ("crowd", "expected"), [("0", False), ("1", True), (1.0, True), (True, True)]
)
def test_a_flag_may_be_written_as_text(tmp_path, crowd, expected):
    sample = read(write(tmp_path, object_(1, crowd=crowd)))[0]
    assert sample.iscrowd.tolist() == [expected] and sample.labels.tolist() == [1]


def test_a_size_may_be_written_as_480_0(tmp_path):
    assert len(read(write(tmp_path, object_(1), images=[IMAGE | {"height": 8.0}]))[0].labels) == 1


def test_keypoints_where_the_file_has_them(tmp_path):
    assert read(write(tmp_path, object_(1)))[0].keypoints is None
    numbers = [float(number % 7) for number in range(51)]
    write(tmp_path, object_(1), object_(2, keypoints=numbers))
    instances = tmp_path / "annotations" / "instances_val2017.json"
    instances.rename(instances.with_name("person_keypoints_val2017.json"))
    sample = coco.read_keypoints(tmp_path, "val2017")[0]
    assert sample.keypoints.shape == (2, 17, 3) and sample.keypoints[0].sum() == 0
    assert sample.keypoints[1].flatten().tolist() == numbers


@pytest.mark.parametrize("place", ["val2017/deeper/a.jpg", "deeper/a.jpg"])
def test_file_names_with_a_folder(tmp_path, place):
    write(tmp_path, object_(1), images=[IMAGE | {"file_name": place}])
    (tmp_path / "val2017" / "deeper").mkdir()
    (tmp_path / "val2017" / "a.jpg").rename(tmp_path / "val2017" / "deeper" / "a.jpg")
    pictures = read(tmp_path)
    assert pictures.names == (place,) and pictures[0].image.shape == (3, *SIZE)


def test_a_flat_folder(tmp_path):
    write(tmp_path, object_(1))
    (tmp_path / "annotations" / "instances_val2017.json").rename(tmp_path / "annotations.json")
    (tmp_path / "val2017").rename(tmp_path / "images")
    assert coco.read(tmp_path, None)[0].labels.tolist() == [1]
    (tmp_path / "annotations.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"missing, the first is .*/annotations.json"):
        coco.read(tmp_path, None)


def test_the_1230_categories_of_lvis(tmp_path):
    """A semantic map holds 254 classes. LVIS names photos by their address, and has no crowds."""
    address = "http://images.cocodataset.org/val2017/a.jpg"
    image = {"id": 7, "coco_url": address, "height": 8, "width": 10}
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, 1231)]
    entry = object_(1, category=1230)
    del entry["iscrowd"]
    sample = read(write(tmp_path, entry, images=[image], categories=categories))[0]
    assert sample.labels.tolist() == [1230] and len(sample.class_names) == 1231
    assert sample.masks.sum() == 16 and sample.iscrowd.tolist() == [False]
    assert sample.semantic is None and sample.panoptic is None


def test_workers_get_the_samples(tmp_path):
    pictures = read(write(tmp_path, object_(1)))
    copied = pickle.loads(pickle.dumps(pictures))
    assert len(copied) == 1 and torch.equal(copied[0].masks, pictures[-1].masks)
    for index, error in ((1, IndexError), (-2, IndexError), (0.0, TypeError)):
        with pytest.raises(error):
            pictures[index]
    assert [sample.labels.tolist() for sample in pictures] == [[1]]


def test_grey_photos(tmp_path):
    write(tmp_path)
    Image.fromarray(np.full(SIZE, 51, np.uint8)).save(tmp_path / "val2017" / "a.jpg")
    assert read(tmp_path)[0].image.unique().tolist() == pytest.approx([0.2])


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    """A COCO folder of scenes, with the outlines as polygons, lists and texts in turn."""
    theirs = pytest.importorskip("pycocotools.mask")
    folder, scenes = tmp_path_factory.mktemp("coco"), make_scenes(range(4), size=(64, 80))
    write(folder)
    images, objects = [], []
    for number in range(4):
        scene = scenes.sample(number)
        name = f"{number:012d}.jpg"
        pixels = (scene.image * 255).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / "val2017" / name, quality=95)
        images.append({"id": 100 + number, "file_name": name, "height": 64, "width": 80})
        for label, box, mask in zip(
            scene.labels.tolist(), scene.boxes.tolist(), scene.masks, strict=True
        ):
            counts = run_lengths(mask.numpy())
            if len(objects) % 2:
                packed = theirs.frPyObjects({"counts": counts, "size": [64, 80]}, 64, 80)
                counts = packed["counts"].decode()
            x1, y1, x2, y2 = box
            objects.append(
                object_(
                    len(objects) + 1,
                    label,
                    {"size": [64, 80], "counts": counts},
                    (x1, y1, x2 - x1, y2 - y1),
                    image=100 + number,
                )
            )
    categories = [{"id": number, "name": CLASS_NAMES[number]} for number in (1, 2, 3, 4)]
    write(folder, *objects, images=images, categories=categories)
    return folder, scenes


def test_a_folder_of_scenes_gives_the_scenes_back(annotated):
    folder, scenes = annotated
    pictures = read(folder)
    assert len(pictures) == 4 and pictures.class_names == CLASS_NAMES[:5]
    for number in range(4):
        sample, scene = pictures[number], scenes.sample(number)
        assert torch.equal(sample.masks, scene.masks) and torch.equal(sample.labels, scene.labels)
        assert torch.equal(sample.boxes, scene.boxes)
        assert torch.equal(sample.semantic, torch.where(scene.semantic < 5, scene.semantic, 0))


def test_pycocotools_reads_the_same_folder(annotated, capsys):
    COCO = pytest.importorskip("pycocotools.coco").COCO
    folder, _ = annotated
    pictures = read(folder)
    theirs = COCO(str(folder / "annotations" / "instances_val2017.json"))
    for number, image in enumerate(theirs.getImgIds()):
        found = theirs.loadAnns(theirs.getAnnIds(imgIds=image))
        sample = pictures[number]
        assert [item["category_id"] for item in found] == sample.labels.tolist()
        for item, mask in zip(found, sample.masks, strict=True):
            assert np.array_equal(theirs.annToMask(item), mask.numpy())


def test_polygon_mask_and_pycocotools_differ_along_the_edge_by_what_the_docstring_says():
    from_polygons = pytest.importorskip("pycocotools.mask")
    overlap = []
    for path in sorted(data_path("annotations").glob("*.json")):
        drawing = json.loads(path.read_text())
        size = drawing["imageHeight"], drawing["imageWidth"]
        for shape in drawing["shapes"]:
            corners = [np.ravel(shape["points"]).tolist()]
            theirs = from_polygons.merge(from_polygons.frPyObjects(corners, *size))
            theirs = from_polygons.decode(theirs).astype(bool)
            ours = polygon_mask(shape["points"], size).numpy()
            overlap.append((ours & theirs).sum() / (ours | theirs).sum())
    assert len(overlap) == 74
    assert (round(sum(overlap) / 74, 3), round(min(overlap), 3)) == (0.988, 0.871)


def rounded_shape(seed):
    """A closed outline around (24, 20), as a person might click it."""
    generator = np.random.default_rng(seed)
    angles = np.sort(generator.uniform(0, 2 * np.pi, generator.integers(3, 30)))
    radii = generator.uniform(4, 18, len(angles))
    corners = np.stack([24 + radii * np.cos(angles), 20 + radii * np.sin(angles)], axis=1)
    return corners.round(2)


@pytest.mark.parametrize("seed", range(20))
def test_polygons_equal_pycocotools_but_for_the_edge(seed):
    """Our rule is "the centre is inside"; pycocotools follows the edge on a grid five times as fine."""
    theirs = pytest.importorskip("pycocotools.mask")
    size, corners = (40, 48), rounded_shape(seed)
    ours = coco._decode_outline([corners.flatten().tolist()], size).numpy()
    expected = theirs.decode(theirs.frPyObjects([corners.flatten().tolist()], *size))[..., 0] > 0
    ends = np.roll(corners, -1, axis=0)
    rows, columns = np.nonzero(ours != expected)
    for centre in np.stack([columns, rows], axis=1) + 0.5:
        along = ends - corners
        t = ((centre - corners) * along).sum(axis=1) / np.maximum((along**2).sum(axis=1), 1e-9)
        nearest = corners + t.clip(0, 1)[:, None] * along
        assert np.hypot(*(nearest - centre).T).min() < 0.8
    assert (ours & expected).sum() / (ours | expected).sum() > 0.85


# ---- what is wrong with objects ----


def test_missing_files(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"^folder: 1 annotation file is missing, .*_train2017.json"
    ):
        coco.read(write(tmp_path))
    (tmp_path / "val2017" / "a.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"^folder: 1 photo is missing, .*val2017/a.jpg"):
        read(tmp_path)
    with pytest.raises(ValueError, match=r"^folder: expected the name of a file"):
        coco.read(tmp_path, "/../../val2017")


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_truncated_json(tmp_path, share):
    path = write(tmp_path, object_(1)) / "annotations" / "instances_val2017.json"
    text = path.read_text()
    path.write_text(text[: int(share * len(text))])
    with pytest.raises(
        ValueError,
        match=r"^folder: .*_val2017.json is not a complete JSON file .*download it again",
    ):
        read(tmp_path)


@pytest.mark.parametrize("text", ["[]", "3", "null", '"a"'])
def test_json_of_another_kind(tmp_path, text):
    (write(tmp_path) / "annotations" / "instances_val2017.json").write_text(text)
    with pytest.raises(ValueError, match=r"^folder: expected a JSON object in .*_val2017.json"):
        read(tmp_path)


IMAGE = {"id": 7, "file_name": "a.jpg", "height": 8, "width": 10}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"categories": None}, "is not in COCO's format .TypeError"),
        ({"categories": []}, "expected one or more categories"),
        ({"categories": CATEGORIES + CATEGORIES[:1]}, "got 3 with 2 ids"),
        ({"categories": [{"id": 1}]}, "is not in COCO's format .KeyError: 'name'"),
        ({"categories": [{"id": 1, "name": None}]}, "category 1: expected a name, got None"),
        (
            {"categories": [{"id": 1, "name": "a"}, {"id": "2", "name": "b"}]},
            "not supported between",
        ),
        ({"images": []}, "expected one or more images"),
        ({"images": [IMAGE, IMAGE]}, "got 2 with 1 names"),
        ({"images": [IMAGE | {"file_name": "../a.jpg"}]}, "expected the name of a file"),
        ({"images": [IMAGE | {"file_name": "/etc/passwd"}]}, "expected the name of a file"),
        ({"images": [IMAGE | {"file_name": 3}]}, "expected the name of a file, got 3"),
        ({"images": [{"id": 7}]}, "an entry of images in .* is not in COCO's format .KeyError"),
        (
            {"images": [IMAGE | {"height": "8"}]},
            "height: expected a whole number of at least 1, got '8'",
        ),
        (
            {"images": [IMAGE | {"height": float("nan")}]},
            "an entry of images in .* is not in COCO's",
        ),
        ({"annotations": 3}, "is not in COCO's format"),
        ({"annotations": [[]]}, "is not in COCO's format"),
        (
            {"annotations": [object_(5, category=2)]},
            "annotation 5 .* has category 2, which its cat",
        ),
        ({"annotations": [object_(5, image=8)]}, "annotates image 8, which its images do not list"),
    ],
)
def test_inconsistent_json(as_student, tmp_path, changes, message):
    with pytest.raises(ValueError, match=rf"^folder: .*{message}") as error:
        read(write(tmp_path, **changes))
    assert "instances_val2017.json" in str(error.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (object_(5, outline=[[1, 1, 2, 2, 3]]), "segmentation: expected pairs x, y, got 5 numbers"),
        (object_(5, outline=[[1, 1, 2, 2, 3, "x"]]), "could not convert string to float"),
        (
            object_(5, outline=[[1, 1, 2, 2, 3, float("nan")]]),
            "points: expected finite numbers",
        ),
        (object_(5, outline=[[1, 1, 2, 2, 3, 10**400]]), "OverflowError"),
        (object_(5, segmentation=SQUARE), "TypeError"),
        (object_(5, outline={"counts": [80], "size": [10, 8]}), "expected 8 x 10 as the image"),
        (
            object_(5, outline={"counts": [79], "size": [8, 10]}),
            "counts: expected runs that add up",
        ),
        (object_(5, outline={"size": [8, 10]}), "KeyError: 'counts'"),
        (object_(5, outline={"counts": 3, "size": [8, 10]}), "TypeError"),
        (object_(5, segmentation=3), "TypeError"),
        (object_(5, box=(1, 1, "x", 4)), "could not convert string to float"),
        (object_(5, box=(1, 1, 4)), "bbox: expected x, y, width, height, got"),
        (object_(5, crowd=2), "iscrowd: expected 0 or 1, got 2"),
        (object_(5, crowd=None), "TypeError"),
        (object_(5, area="large"), "could not convert string to float"),
        (
            object_(5, keypoints=[1, 2, 3]),
            "keypoints: expected x, y, visibility of 17 points, got 3",
        ),
    ],
)
def test_objects_that_are_none(as_student, tmp_path, entry, message):
    with pytest.raises(
        ValueError, match=rf"^folder: annotation 5 in .*.json is not in COCO's format .*{message}"
    ):
        read(write(tmp_path, entry))[0]


def test_a_photo_of_another_size(tmp_path):
    pictures = read(write(tmp_path, images=[IMAGE | {"width": 11}]))
    with pytest.raises(ValueError, match=r"^folder: expected 8 x 10 pixels .*.json, .* got 8 x 11"):
        pictures[0]
