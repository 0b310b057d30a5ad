"""LabelMe files: polygons become masks and a semantic map, and errors name the file and the shape."""

import json

import numpy as np
import pytest

from course_utils.core import VOID, data_path
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
    with pytest.raises(FileNotFoundError, match=r"^path: no annotation file .*nowhere.json"):
        read_labelme(tmp_path / "nowhere.json")


@pytest.mark.parametrize("cut", [0, 1, 40, 200])
def test_truncated_file(tmp_path, cut):
    path = write(tmp_path / "a.json", square("boat", 0, 0, 2, 2))
    path.write_text(path.read_text()[:cut])
    with pytest.raises(ValueError, match=r"^path: a.json is not a complete JSON file"):
        read_labelme(path)


NOT_LABELME = [
    "[]",
    "3",
    "{}",
    "null",
    '{"shapes": 3, "imageHeight": 4, "imageWidth": 6}',
    '{"imageHeight": 0}',
]


@pytest.mark.parametrize("text", NOT_LABELME)
def test_json_of_something_else(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"^path: a.json does not hold LabelMe's polygons"):
        read_labelme(tmp_path / "a.json")


def test_wrong_size(tmp_path):
    path = write(tmp_path / "a.json", square("boat", 0, 0, 2, 2))
    with pytest.raises(
        ValueError, match=r"^path: a.json annotates an image of 4 x 6 .*, this one has 6 x 4"
    ):
        read_labelme(path, (6, 4))


@pytest.mark.parametrize(
    "shapes, message",
    [
        (
            [square("boat", 0, 0, 2, 2, shape_type="circle")],
            "shape_type: expected 'polygon', got 'circle'",
        ),
        (
            [square("boat", 0, 0, 2, 2, points=[[0, 0], [1, 1]])],
            "shape 0 .boat.: points: expected 3 corners",
        ),
        ([square("boat", 0, 0, 2, 2, points=[[0, 0], [1, 1], [None, 3]])], "TypeError"),
        ([square("boat", 0, 0, 2, 2), square("sea", 0, 0, 6, 4)], "no pixel is visible: boat"),
        ([square("boat", 0, 0, 2, 2, points=[[0, 0], [1, 1], ["x", 3]])], "could not convert"),
        (
            [square("boat", 0, 0, 2, 2, points=[[0, 0], [1, 1], [3]])],
            "shape 0 .boat.: points: expected two",
        ),
        ([{"label": "boat"}], "KeyError: 'shape_type'"),
        ([square("boat", 7, 0, 9, 2)], "no pixel is visible: boat"),
        (
            [square("sea", 0, 0, 6, 4, **STUFF), square("sea", 0, 0, 2, 2)],
            "sea both as a thing and as stuff",
        ),
    ],
)
def test_malformed_shapes(tmp_path, shapes, message):
    with pytest.raises(ValueError, match=f"^path: .*{message}"):
        read_labelme(write(tmp_path / "a.json", *shapes))


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
