"""LabelMe files: polygons become masks and a semantic map, and errors name the file and the shape."""

import base64
import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from course_utils.core import VOID, data_path
from course_utils.data import labelme
from course_utils.data.labelme import read_labelme
from course_utils.ops.masks import polygon_mask

OURS = ("astronaut", "camera", "chelsea", "coffee", "coins", "rocket")


def square(label, x1, y1, x2, y2, group=None, **more):
    points = [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]
    return {
        "label": label,
        "points": points,
        "group_id": group,
        "shape_type": "polygon",
        "flags": {},
    } | more


def write(path, *shapes):
    content = {
        "version": "5.4.1",
        "shapes": list(shapes),
        "imageData": None,
        "imageHeight": 4,
        "imageWidth": 6,
    }
    path.write_text(json.dumps(content))
    return path


STUFF = {"flags": {"stuff": True}}


def test_later_shapes_hide_earlier_ones_and_groups_are_joined(tmp_path):
    path = write(
        tmp_path / "a.json",
        square("sea", 0, 0, 6, 3, **STUFF),
        square("boat", 0, 0, 2, 2, group=1),
        square("boat", 4, 0, 6, 2, group=1),
        square("boat", 1, 1, 3, 2),
        square("sea", 0, 0, 1, 1, **STUFF),
    )
    found = read_labelme(path, (4, 6))
    assert found.class_names == ("background", "boat", "sea") and found.stuff == (2,)
    assert found.labels.tolist() == [1, 1]
    assert found.semantic.tolist() == [
        [2, 1, 2, 2, 1, 1],
        [1, 1, 1, 2, 1, 1],
        [2, 2, 2, 2, 2, 2],
        [VOID] * 6,
    ]
    assert found.masks.int().tolist() == [
        [[0, 1, 0, 0, 1, 1], [1, 0, 0, 0, 1, 1], [0] * 6, [0] * 6],
        [[0] * 6, [0, 1, 1, 0, 0, 0], [0] * 6, [0] * 6],
    ]


def test_one_group_number_under_two_labels_is_two_things(tmp_path):
    boat, buoy = square("boat", 0, 0, 2, 2, group=1), square("buoy", 3, 0, 4, 1, group=1)
    path = write(tmp_path / "a.json", boat, buoy)
    assert read_labelme(path).labels.tolist() == [1, 2]


def test_a_file_without_shapes_is_void(tmp_path):
    found = read_labelme(write(tmp_path / "a.json"))
    assert found.masks.shape == (0, 4, 6) and found.labels.shape == (0,)
    assert (found.semantic == VOID).all() and found.class_names == ("background",)


def test_files_without_flags_and_groups_are_read(tmp_path):
    shape = square("boat", 0, 0, 2, 2)
    del shape["flags"], shape["group_id"]
    other = shape | {"points": [[3, 0], [5, 0], [5, 2]], "flags": None}
    assert read_labelme(write(tmp_path / "a.json", shape, other)).labels.tolist() == [1, 1]


def test_missing_file(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"^folder: 1 annotation file is missing, .*nowhere.json"
    ):
        read_labelme(tmp_path / "nowhere.json")


@pytest.mark.parametrize("cut", [0, 1, 40, 200])
def test_truncated_file(tmp_path, cut):
    path = write(tmp_path / "a.json", square("boat", 0, 0, 2, 2))
    path.write_text(path.read_text()[:cut])
    with pytest.raises(ValueError, match=r"^folder: .*a.json is not a complete JSON file"):
        read_labelme(path)


NOT_LABELME = [
    "{}",
    '{"shapes": 3, "imageHeight": 4, "imageWidth": 6}',
    '{"shapes": [3], "imageHeight": 4, "imageWidth": 6}',
    '{"shapes": [], "imageHeight": 0}',
    '{"shapes": [], "imageHeight": 4.5, "imageWidth": 6}',
    '{"shapes": [], "imageHeight": "4", "imageWidth": 6}',
    '{"shapes": [], "imageHeight": 1000000000000000000, "imageWidth": 1000000000000000000}',
    '{"shapes": [], "imageHeight": 1e999, "imageWidth": 6}',
]


@pytest.mark.parametrize("text", NOT_LABELME)
def test_json_of_something_else(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(
        ValueError,
        match=r"^folder: (expected imageHeight .*a.json|.*a.json does not hold LabelMe's shapes)",
    ):
        read_labelme(tmp_path / "a.json")


@pytest.mark.parametrize("text", ["[]", "3", "null"])
def test_json_without_an_object(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"^folder: expected a JSON object in .*a.json"):
        read_labelme(tmp_path / "a.json")


def test_json_that_is_nested_too_deeply(tmp_path):
    (tmp_path / "a.json").write_text('{"shapes": ' + "[" * 200_000)
    with pytest.raises(ValueError, match=r"^folder: .*a.json is not a complete JSON file"):
        read_labelme(tmp_path / "a.json")


def test_wrong_size(tmp_path):
    path = write(tmp_path / "a.json", square("boat", 0, 0, 2, 2))
    with pytest.raises(
        ValueError, match=r"^folder: .*a.json annotates an image of 4 x 6 .*, this one has 6 x 4"
    ):
        read_labelme(path, (6, 4))


def boat(**more):
    return square("boat", 0, 0, 2, 2, **more)


@pytest.mark.parametrize(
    "shapes, message",
    [
        ([boat(shape_type="mask")], "expected polygon, rectangle or circle, got 'mask' for 'boat'"),
        ([boat(shape_type=[])], r"expected polygon, rectangle or circle, got \[\]"),
        ([boat(shape_type="circle")], "expected 2 points for the circle of 'boat', got 4"),
        ([boat(points=[[0, 0], [1, 1]])], "expected 3 corners or more for the polygon of 'boat'"),
        ([boat(points=[[0, 0], [1, 1], [None, 3]])], "TypeError"),
        ([boat(points=[[0, 0], [1, 1], ["x", 3]])], "could not convert"),
        ([boat(points=[[0, 0], [1, 1], [3]])], "points: expected x, y in pixels for 'boat'"),
        ([boat(points=[[0, 0], [1, 1], [3, float("nan")]])], "points: expected x, y in pixels"),
        ([boat(points=[[0, 0], [-1e300, 1e300], [3, -1e300]])], "points: expected x, y in pixels"),
        ([boat(points=[[0, 0], [1, 1], [3, 10**400]])], "OverflowError"),
        ([boat(flags={"stuff": "false"})], "true or false for stuff, got 'false' for 'boat'"),
        ([boat(group=[1])], r"group_id: expected a number or null, got \[1\] for 'boat'"),
        ([square(["boat"], 0, 0, 2, 2)], "label: expected the name of a class"),
        ([square("background", 0, 0, 2, 2)], "label: expected the name of a class"),
        ([{"label": "boat"}], "KeyError: 'points'"),
        ([boat(), square("sea", 0, 0, 6, 4)], "no pixel is visible: boat"),
        ([square("boat", 7, 0, 9, 2)], "no pixel is visible: boat"),
        (
            [square("sea", 0, 0, 6, 4, **STUFF), square("sea", 0, 0, 2, 2)],
            "sea both as a thing and as stuff",
        ),
        ([square(f"boat {k}", k % 6, k // 6, 6, 4) for k in range(255)], "254 classes or fewer"),
    ],
)
def test_malformed_shapes(tmp_path, shapes, message):
    path = write(tmp_path / "a.json", *shapes)
    with pytest.raises(ValueError, match=f"^folder: .*a.json.*{message}|{message}.*a.json"):
        read_labelme(path)


# ---- shapes of other kinds ----


def test_a_rectangle_is_two_opposite_corners(tmp_path):
    corners = [[5, 3], [1, 1]]
    shape = boat(shape_type="rectangle", points=corners)
    found = read_labelme(write(tmp_path / "a.json", shape))
    assert found.semantic.tolist() == [
        [VOID] * 6,
        [VOID, 1, 1, 1, 1, VOID],
        [VOID, 1, 1, 1, 1, VOID],
        [VOID] * 6,
    ]


def test_a_circle_is_its_centre_and_a_point_on_the_rim(tmp_path):
    shape = boat(shape_type="circle", points=[[2, 2], [3.6, 2]])
    found = read_labelme(write(tmp_path / "a.json", shape))
    assert found.masks[0].int().tolist() == [
        [0, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [0, 1, 1, 0, 0, 0],
    ]


def test_ignored_regions_are_void_and_no_class(tmp_path):
    path = write(tmp_path / "a.json", boat(), square("__ignore__", 1, 0, 6, 4))
    found = read_labelme(path)
    assert found.class_names == ("background", "boat") and found.stuff == ()
    assert found.semantic.tolist() == [[1] + [VOID] * 5] * 2 + [[VOID] * 6] * 2
    assert found.masks.sum() == 2


# ---- photos and folders ----

PIXELS = np.random.default_rng(0).integers(0, 255, (4, 6, 3)).astype(np.uint8)


def write_photo(folder, name, *shapes, exif=None, **more):
    """A photo of 4 x 6 pixels and its LabelMe file."""
    folder.mkdir(exist_ok=True)
    path = write(folder / f"{name}.json", *shapes)
    content = json.loads(path.read_text()) | {"imagePath": f"{name}.png"} | more
    path.write_text(json.dumps({key: value for key, value in content.items() if value != "absent"}))
    Image.fromarray(PIXELS).save(folder / f"{name}.png", exif=exif or Image.Exif())
    return path


NO_SIZE = {"imageHeight": "absent", "imageWidth": "absent"}


def test_the_size_comes_from_the_photo_where_the_file_has_none(tmp_path):
    path = write_photo(tmp_path, "a", boat(), **NO_SIZE)
    assert read_labelme(path).semantic.shape == (4, 6)
    assert read_labelme(path, (5, 7)).semantic.shape == (5, 7)
    assert labelme.read(tmp_path)[0].semantic.shape == (4, 6)
    (tmp_path / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"image file is missing, .*a.png"):
        read_labelme(path)


def test_a_folder_is_a_data_set(tmp_path):
    sea = square("sea", 0, 0, 6, 4, **STUFF)
    write_photo(tmp_path, "b", sea, boat())
    write_photo(tmp_path, "a", sea, square("duck", 3, 1, 5, 3), square("duck", 0, 0, 2, 2))
    write_photo(tmp_path, "c")
    pictures = labelme.read(tmp_path)
    assert pictures.names == ("a", "b", "c")
    assert pictures.class_names == ("background", "boat", "duck", "sea") and pictures.stuff == (3,)
    ducks, boats, nothing = (pictures[k] for k in range(3))
    assert ducks.labels.tolist() == [2, 2] and boats.labels.tolist() == [1]
    assert ducks.boxes.tolist() == [[3, 1, 5, 3], [0, 0, 2, 2]]
    assert ducks.panoptic.unique().tolist() == [2001, 2002, 3000]
    assert boats.semantic.unique().tolist() == [1, 3] and boats.iscrowd is None
    assert nothing.boxes.shape == (0, 4) and (nothing.semantic == VOID).all()
    assert torch.equal(ducks.image, torch.from_numpy(PIXELS).permute(2, 0, 1) / 255)
    assert pickle.loads(pickle.dumps(pictures))[1].labels.tolist() == [1]


def test_validation_photos_take_the_numbers_of_the_training_photos(tmp_path):
    write_photo(tmp_path / "train", "a", boat(), square("duck", 3, 1, 5, 3))
    write_photo(tmp_path / "val", "b", square("duck", 3, 1, 5, 3))
    class_names = labelme.read(tmp_path / "train").class_names
    assert labelme.read(tmp_path / "val", class_names)[0].labels.tolist() == [2]
    with pytest.raises(ValueError, match=r"one of class_names in .*b.json, got 'duck'"):
        labelme.read(tmp_path / "val", ("background", "boat"))


def test_a_photo_is_turned_as_labelme_shows_it(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # LabelMe shows the 4 x 6 photo turned right by 90 degrees: 6 x 4
    shape = boat(shape_type="rectangle", points=[[2, 0], [4, 1]])
    write_photo(tmp_path, "a", shape, exif=exif, imageHeight=6, imageWidth=4)
    sample = labelme.read(tmp_path)[0]
    assert torch.equal(
        sample.image, torch.from_numpy(np.rot90(PIXELS, -1) / np.float32(255)).permute(2, 0, 1)
    )
    assert sample.masks[0].nonzero().tolist() == [[0, 2], [0, 3]]


def test_a_photo_inside_the_file_or_in_another_folder(tmp_path):
    write_photo(tmp_path / "photos", "a")
    photo = (tmp_path / "photos" / "a.png").read_bytes()
    embedded = base64.b64encode(photo).decode()
    write_photo(tmp_path / "labels", "a", boat(), imagePath="..\\photos\\a.png")
    write_photo(tmp_path / "labels", "b", boat(), imageData=embedded, imagePath="nowhere.png")
    for name in "ab":
        (tmp_path / "labels" / f"{name}.png").unlink()
    for sample in labelme.read(tmp_path / "labels"):
        assert torch.equal(sample.image, torch.from_numpy(PIXELS).permute(2, 0, 1) / 255)


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"imagePath": "b.png"}, FileNotFoundError, "1 photo is missing, .*b.png"),
        ({"imagePath": None}, ValueError, "the name of a photo in .*a.json, got imagePath None"),
        ({"imageHeight": 5}, ValueError, "expected 4 x 6 pixels .*a.json, .* got 5 x 6"),
        ({"imageData": "AAAA"}, ValueError, "a.json is not a complete image file"),
        ({"imageData": "A"}, ValueError, "expected base64 as imageData in .*a.json"),
        ({"imageData": 3}, ValueError, "expected base64 as imageData in .*a.json"),
    ],
)
def test_a_folder_with_broken_files(tmp_path, more, error, message):
    write_photo(tmp_path, "a", boat(), **more)
    with pytest.raises(error, match=f"^folder: .*{message}"):
        labelme.read(tmp_path)[0]


def test_folders_that_hold_no_data_set(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^folder: expected LabelMe's files .*json, found"):
        labelme.read(tmp_path)
    write_photo(tmp_path, "a", boat())
    write_photo(tmp_path, "b", boat(**STUFF))
    with pytest.raises(
        ValueError, match=r"^folder: boat is a thing in .*a.json and stuff in .*b.json"
    ):
        labelme.read(tmp_path)


# ---- our annotations ----


@pytest.mark.parametrize("name", OURS)
def test_our_files_are_small_and_tidy(name):
    path = data_path("annotations", f"{name}.json")
    content = json.loads(path.read_text())
    assert path.stat().st_size < 60_000
    assert content["imageData"] is None and content["imagePath"].startswith(name)
    height, width = content["imageHeight"], content["imageWidth"]
    for shape in content["shapes"]:
        corners = np.array(shape["points"])
        assert np.array_equal(corners * 2, np.round(corners * 2))
        assert (corners >= 0).all() and (corners <= [width, height]).all()
    first = content["shapes"][0]
    assert first["flags"]["stuff"] and polygon_mask(first["points"], (height, width)).all()
