"""COCO folders: masks and boxes as pycocotools reads them, and errors that name the file."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from course_utils.core import VOID
from course_utils.data import coco
from course_utils.data.scenes import CLASS_NAMES, make_scenes

# pycocotools 2.0 still hands its masks to NumPy in the manner of NumPy 1
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZE = (8, 10)
SQUARE = [1, 1, 5, 1, 5, 5, 1, 5]
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
    assert pictures.sample(0).labels.tolist() == [2, 1]


def test_polygons_run_lengths_and_text_are_the_same(tmp_path):
    expected = torch.zeros(SIZE, dtype=torch.bool)
    expected[1:5, 1:5] = True
    counts = run_lengths(expected.numpy())
    outlines = [[SQUARE], {"size": list(SIZE), "counts": counts}]
    outlines.append({"size": list(SIZE), "counts": _text(counts)})
    outlines.append([[1, 1, 5, 1, 5, 5], [1, 1, 5, 5, 1, 5]])  # two triangles
    objects = [object_(number, outline=outline) for number, outline in enumerate(outlines)]
    for mask in read(write(tmp_path, *objects)).sample(0).masks:
        assert torch.equal(mask, expected)


def _text(counts):
    theirs = pytest.importorskip("pycocotools.mask")
    made = theirs.frPyObjects({"counts": counts, "size": list(SIZE)}, *SIZE)
    return made["counts"].decode()


def test_boxes_are_cocos_own(tmp_path):
    sample = read(write(tmp_path, object_(1, box=(1.25, 0.5, 3.5, 4)))).sample(0)
    assert sample.boxes.tolist() == [[1.25, 0.5, 4.75, 4.5]]


def test_the_label_map_where_objects_meet(tmp_path):
    right = [3, 1, 7, 1, 7, 5, 3, 5]
    same = read(write(tmp_path, object_(1), object_(2, outline=[right])))
    image, labels = same[0]
    assert image.shape == (3, *SIZE) and labels.unique().tolist() == [0, 1]
    assert (labels == 1).sum() == 24
    other = read(write(tmp_path, object_(1), object_(2, 18, outline=[right]), object_(3)))
    row = other[0][1][2].tolist()
    assert row == [0, 1, 1, VOID, VOID, 2, 2, 0, 0, 0]
    assert other.sample(0).panoptic[2, 5:7].tolist() == [2001, 2001]
    assert other.sample(0).panoptic[2, 3:5].tolist() == [0, 0]


def test_a_crowd_is_a_class_and_no_object(tmp_path):
    crowd = {"size": list(SIZE), "counts": [72, 8]}
    sample = read(write(tmp_path, object_(1), object_(2, outline=crowd, crowd=1))).sample(0)
    assert sample.labels.tolist() == [1] and sample.masks.shape == (1, *SIZE)
    assert (sample.semantic[:, 9] == 1).all() and (sample.panoptic[:, 9] == 0).all()


def test_a_photo_without_objects_and_an_object_without_pixels(tmp_path):
    labels = read(write(tmp_path))[0][1]
    assert (labels == 0).all()
    sample = read(tmp_path).sample(0)
    assert sample.masks.shape == (0, *SIZE) and sample.boxes.shape == (0, 4)
    tiny = object_(1, outline=[[1.1, 1.1, 1.2, 1.1, 1.2, 1.2]], box=(1.1, 1.1, 0, 0))
    sample = read(write(tmp_path, tiny)).sample(0)
    assert sample.masks.sum() == 0 and sample.labels.tolist() == [1]


def test_grey_photos(tmp_path):
    write(tmp_path)
    Image.fromarray(np.full(SIZE, 51, np.uint8)).save(tmp_path / "val2017" / "a.jpg")
    assert read(tmp_path)[0][0].unique().tolist() == pytest.approx([0.2])


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
        sample, scene = pictures.sample(number), scenes.sample(number)
        assert torch.equal(sample.masks, scene.masks) and torch.equal(sample.labels, scene.labels)
        assert torch.equal(sample.boxes, scene.boxes)
        assert torch.equal(sample.semantic, torch.where(scene.semantic < 5, scene.semantic, 0))
        assert torch.equal(pictures[number][1], sample.semantic)
        assert torch.equal(pictures[number][0], sample.image)


def test_pycocotools_reads_the_same_folder(annotated, capsys):
    COCO = pytest.importorskip("pycocotools.coco").COCO
    folder, _ = annotated
    pictures = read(folder)
    theirs = COCO(str(folder / "annotations" / "instances_val2017.json"))
    for number, image in enumerate(theirs.getImgIds()):
        found = theirs.loadAnns(theirs.getAnnIds(imgIds=image))
        sample = pictures.sample(number)
        assert [item["category_id"] for item in found] == sample.labels.tolist()
        for item, mask in zip(found, sample.masks, strict=True):
            assert np.array_equal(theirs.annToMask(item), mask.numpy())


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
    ours = coco._decode_segmentation([corners.flatten().tolist()], size).numpy()
    expected = theirs.decode(theirs.frPyObjects([corners.flatten().tolist()], *size))[..., 0] > 0
    ends = np.roll(corners, -1, axis=0)
    rows, columns = np.nonzero(ours != expected)
    for centre in np.stack([columns, rows], axis=1) + 0.5:
        along = ends - corners
        t = ((centre - corners) * along).sum(axis=1) / np.maximum((along**2).sum(axis=1), 1e-9)
        nearest = corners + t.clip(0, 1)[:, None] * along
        assert np.hypot(*(nearest - centre).T).min() < 0.8
    assert (ours & expected).sum() / (ours | expected).sum() > 0.85


def test_batches_for_training(annotated):
    folder, _ = annotated
    pairs = [read(folder)[number] for number in (0, 2)]
    images, labels = (torch.stack(part) for part in zip(*pairs, strict=True))
    logits = torch.nn.Conv2d(3, 5, 1)(images)
    torch.nn.functional.cross_entropy(logits, labels, ignore_index=VOID).backward()


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
        ({"categories": None}, "does not hold COCO's annotations"),
        ({"categories": []}, "expected 1 to 254 categories"),
        ({"categories": CATEGORIES + CATEGORIES[:1]}, "got 3 with 2 ids"),
        ({"categories": [{"id": n, "name": str(n)} for n in range(255)]}, "got 255 with 255 ids"),
        ({"categories": [{"id": 1}]}, "does not hold COCO's annotations .KeyError: 'name'"),
        ({"images": []}, "expected one or more images"),
        ({"images": [IMAGE, IMAGE]}, "got 2 with 1 names"),
        ({"images": [IMAGE | {"file_name": "../a.jpg"}]}, "expected the name of a file"),
        ({"images": [IMAGE | {"file_name": "/etc/passwd"}]}, "expected the name of a file"),
        ({"images": [{"id": 7}]}, "does not hold COCO's annotations .KeyError: 'file_name'"),
        ({"annotations": 3}, "does not hold COCO's annotations"),
        ({"annotations": [[]]}, "does not hold COCO's annotations"),
        (
            {"annotations": [object_(5, category=2)]},
            "annotation 5 .* has category 2, which its cat",
        ),
        ({"annotations": [object_(5, image=8)]}, "annotates image 8, which its images do not list"),
    ],
)
def test_inconsistent_json(as_student, tmp_path, changes, message):
    with pytest.raises(ValueError, match=rf"^folder: .*{message}"):
        read(write(tmp_path, **changes))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (object_(5, outline=[]), "segmentation: expected one or more polygons, got none"),
        (object_(5, outline=[[1, 1, 2, 2]]), "points: expected 3 corners or more, got 2"),
        (object_(5, outline=[[1, 1, 2, 2, 3]]), "segmentation: expected pairs x, y, got 5 numbers"),
        (object_(5, outline=[[1, 1, 2, 2, 3, "x"]]), "TypeError"),
        (object_(5, outline={"counts": [80], "size": [10, 8]}), "expected 8 x 10 as the image"),
        (
            object_(5, outline={"counts": [79], "size": [8, 10]}),
            "counts: expected runs that add up",
        ),
        (object_(5, outline={"size": [8, 10]}), "KeyError: 'counts'"),
        (object_(5, outline={"counts": 3, "size": [8, 10]}), "TypeError"),
        (object_(5, segmentation=3), "TypeError"),
        (object_(5, box=(1, 1, -1, 4)), "bbox: expected x, y, width, height, got"),
        (object_(5, box=(1, 1, float("nan"), 4)), "bbox: expected"),
        (object_(5, box=(1, 1, 4)), "ValueError"),
    ],
)
def test_objects_that_are_none(as_student, tmp_path, entry, message):
    pictures = read(write(tmp_path, entry))
    for ask in (pictures.sample, pictures.__getitem__):
        with pytest.raises(
            ValueError, match=rf"^folder: annotation 5 in .*.json is not a valid object .*{message}"
        ):
            ask(0)


def test_a_photo_of_another_size(tmp_path):
    pictures = read(write(tmp_path, images=[IMAGE | {"width": 11}]))
    with pytest.raises(ValueError, match=r"^folder: expected 8 x 10 pixels .*.json, .* got 8 x 11"):
        pictures[0]
