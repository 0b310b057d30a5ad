"""COCO folders: outlines as pycocotools reads them, panoptic maps; what is wrong is said in a sentence."""

import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from course_utils.core import VOID
from course_utils.data import coco
from course_utils.data.coco import decode_rle
from course_utils.data.scenes import CLASS_NAMES, STUFF, make_scenes

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


# ---- run lengths ----


def run_lengths(mask):
    """The runs of a mask, counted one pixel at a time."""
    counts, now = [0], False
    for pixel in mask.T.flatten().tolist():
        if pixel != now:
            counts.append(0)
            now = pixel
        counts[-1] += 1
    return counts


masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9))


@settings(deadline=None, max_examples=50)
@given(masks)
def test_runs_of_any_mask(mask):
    assert torch.equal(decode_rle(run_lengths(mask), mask.shape), torch.from_numpy(mask))


@settings(deadline=None, max_examples=50)
@given(masks)
def test_text_of_any_mask_equals_pycocotools(mask):
    theirs = pytest.importorskip("pycocotools.mask")
    encoded = theirs.encode(np.asfortranarray(mask.astype(np.uint8)))
    for counts in (encoded["counts"], encoded["counts"].decode()):
        assert torch.equal(decode_rle(counts, mask.shape), torch.from_numpy(mask))
    listed = theirs.frPyObjects(
        {"counts": run_lengths(mask), "size": list(mask.shape)}, *mask.shape
    )
    assert listed["counts"] == encoded["counts"]


def test_text_of_a_large_mask_equals_pycocotools():
    theirs = pytest.importorskip("pycocotools.mask")
    generator = np.random.default_rng(0)
    mask = (
        generator.random((40, 50)).repeat(9, axis=0).repeat(11, axis=1) > 0.5
    )  # runs of many letters
    mask[:, 200:400] = False
    encoded = theirs.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert torch.equal(decode_rle(encoded["counts"], mask.shape), torch.from_numpy(mask))


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([5], "expected runs that add up to 2 x 3 = 6 pixels, got 5"),
        ([], "got 0"),
        ([3, -1, 4], "got a run of -1"),
        ([3, 1.5, 1.5], "got a run of 1.5"),
        ([3, "3"], "got a run of '3'"),
        ("P", "the text ends within one"),
        ("6 ", "expected letters from '0' to 'o', got ' '"),
        ("6é", "expected letters"),
        (b"6\x80", "expected letters"),
        ("o" * 30 + "0", "got "),
        ("O7", "got a run of -1"),
    ],
)
def test_broken_run_lengths(as_student, counts, message):
    with pytest.raises(ValueError, match=f"^counts: .*{re.escape(message)}"):
        decode_rle(counts, (2, 3))


def test_a_size_that_is_none():
    with pytest.raises(ValueError, match=r"^size: expected \(height, width\) above zero"):
        decode_rle([0], (0, 3))


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
    ours = coco._outline_mask([corners.flatten().tolist()], size).numpy()
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
        ValueError, match=r"^folder: .*_val2017.json is not whole JSON .*fetch it again"
    ):
        read(tmp_path)


@pytest.mark.parametrize("text", ["[]", "3", "null", '"a"'])
def test_json_of_another_kind(tmp_path, text):
    (write(tmp_path) / "annotations" / "instances_val2017.json").write_text(text)
    with pytest.raises(
        ValueError, match=r"^folder: expected an object with names in .*_val2017.json"
    ):
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
        (object_(5, outline=[]), "segmentation: expected a polygon or more, got none"),
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
            ValueError, match=rf"^folder: annotation 5 in .*.json is no object .*{message}"
        ):
            ask(0)


def test_a_photo_of_another_size(tmp_path):
    pictures = read(write(tmp_path, images=[IMAGE | {"width": 11}]))
    with pytest.raises(ValueError, match=r"^folder: expected 8 x 10 pixels .*.json, .* got 8 x 11"):
        pictures[0]


# ---- panoptic ----

PANOPTIC_CATEGORIES = [
    {"id": 1, "name": "person", "isthing": 1},
    {"id": 18, "name": "dog", "isthing": 1},
    {"id": 187, "name": "sky", "isthing": 0},
]
IDS = [[0, 70000, 70000, 300], [5, 5, 300, 1], [5, 5, 1, 1]]
SEGMENTS = [
    {"id": 70000, "category_id": 1, "iscrowd": 0},
    {"id": 300, "category_id": 1, "iscrowd": 0},
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
    sample = pictures.sample(0)
    assert sample.semantic.tolist() == [[VOID, 1, 1, 1], [3, 3, 1, 2], [3, 3, 2, 2]]
    assert sample.panoptic.tolist() == [
        [0, 1001, 1001, 1002],
        [3000, 3000, 1002, 0],
        [3000, 3000, 0, 0],
    ]
    assert sample.labels.tolist() == [1, 1] and sample.boxes.tolist() == [
        [1, 0, 3, 1],
        [2, 0, 4, 2],
    ]
    assert sample.masks.sum(dim=(1, 2)).tolist() == [2, 2]
    image, labels = pictures[0]
    assert image.shape == (3, 3, 4) and torch.equal(labels, sample.semantic)


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
        sample, scene = pictures.sample(number), scenes.sample(number)
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
            "expected segments_info to list each segment of .* once",
        ),
        (
            {"segments": segments_but(0, category_id=2)},
            "70000 .* has category 2, which its categories",
        ),
        ({"segments": [{"id": 5}]}, "does not hold COCO's annotations .KeyError: 'category_id'"),
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
        read_panoptic(write_panoptic(tmp_path, **changes)).sample(0)


def test_missing_and_truncated_panoptic_maps(tmp_path):
    path = write_panoptic(tmp_path) / "annotations" / "panoptic_val2017" / "a.png"
    path.write_bytes(path.read_bytes()[:45])
    with pytest.raises(ValueError, match=r"^folder: .*a.png is no whole picture"):
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
        sample, scene = pictures.sample(number), scenes.sample(number)
        assert torch.equal(sample.panoptic, scene.panoptic)
        assert torch.equal(sample.semantic, scene.semantic)
        assert sorted(sample.boxes.tolist()) == sorted(scene.boxes.tolist())
        assert (sample.image - scene.image).abs().mean() < 0.02
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert files == {"val2017", "annotations", "annotations/panoptic_val2017"} | {
        "annotations/panoptic_val2017.json",
        *(f"val2017/{number:012d}.jpg" for number in range(4)),
        *(f"annotations/panoptic_val2017/{number:012d}.png" for number in range(4)),
    }


def test_what_the_written_json_says(tmp_path):
    write_tiny(tmp_path)
    content = json.loads((tmp_path / "annotations" / "panoptic_train2017.json").read_text())
    assert content["images"] == [
        {"id": 0, "file_name": "000000000000.jpg", "height": 3, "width": 4}
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
    sample = coco.read_panoptic(tmp_path).sample(0)
    crowd = TINY == 2000
    assert (sample.semantic[crowd] == 2).all() and (sample.panoptic[crowd] == 0).all()
    kept = torch.where(crowd, 0, TINY)
    assert torch.equal(sample.panoptic, torch.where(kept == 1999, 1003, kept))
    assert sample.labels.tolist() == [1, 1, 1]


def test_images_of_several_sizes_and_a_map_of_void(tmp_path):
    sizes = [(3, 4), (6, 2), (5, 5)]
    images = [torch.rand(3, *size) for size in sizes]
    maps = [TINY, torch.full((6, 2), 254999), torch.zeros(5, 5, dtype=torch.int64)]
    names = ["background", *(f"class {number}" for number in range(1, 255))]
    coco.write_panoptic(tmp_path, images, maps, names, TINY_STUFF)
    pictures = coco.read_panoptic(tmp_path)
    assert [tuple(pictures[n][0].shape[1:]) for n in range(3)] == sizes
    assert (pictures.sample(1).panoptic == 254001).all()
    last = pictures.sample(2)
    assert (last.semantic == VOID).all() and (last.panoptic == 0).all() and len(last.masks) == 0


def test_writing_again_replaces_the_set(tmp_path):
    write_tiny(tmp_path, (TINY, TINY, TINY))
    write_tiny(tmp_path, (TINY.flip(0), TINY.flip(0)))
    pictures = coco.read_panoptic(tmp_path)
    assert len(pictures) == 2 and torch.equal(pictures[0][1], pictures[1][1])
    assert pictures[0][1][2].tolist() == [1, 1, 4, 4]


def test_nothing_is_half_written(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"^maps: "):
        write_tiny(tmp_path, (TINY, TINY + 5000))
    assert not list(tmp_path.iterdir())
    write_tiny(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    with pytest.raises(ValueError, match=r"^maps: "):
        write_tiny(tmp_path, (TINY * 0, TINY + 5000))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before

    def full(source, target):
        raise OSError("no space left on device")

    # What breaks off while the files are moved leaves no JSON file that would list them.
    monkeypatch.setattr(coco.os, "replace", full)
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
        ({"maps": [TINY[:2]]}, ValueError, "maps: expected shape [3, 4], got [2, 4]"),
        ({"maps": [TINY.float()]}, TypeError, "maps: expected torch.int64, got torch.float32"),
        ({"maps": [TINY + 3001]}, ValueError, "maps: expected 1000 * class + k for classes 1 to 4"),
        ({"maps": [TINY - 1000]}, ValueError, "maps: expected 1000 * class + k"),
        ({"maps": [TINY - 1]}, ValueError, "k = 0 for stuff, or 0, got -1"),
        ({"stuff": (1, 4)}, ValueError, "k = 0 for stuff, or 0, got 1001"),
        ({"stuff": (0,)}, ValueError, "stuff: expected classes from 1 to 4, got 0"),
        ({"names": TINY_NAMES[:1]}, ValueError, "class_names: expected 2 to 255, background first"),
        ({"names": ["x"] * 256}, ValueError, "class_names: expected 2 to 255, background first"),
        ({"split": "../a"}, ValueError, "folder: expected the name of a file in"),
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
    with pytest.raises(ValueError, match=r"^images: expected shape \[3, h, w\], got \[3, 4\]$"):
        coco.write_panoptic(tmp_path, [images[0, 0]], [TINY], TINY_NAMES, TINY_STUFF)
    assert not list(tmp_path.iterdir())
