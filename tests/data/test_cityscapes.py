"""Cityscapes folders: labels, objects and groups, and errors name the file."""

import numpy as np
import pytest
import torch
from PIL import Image

from course_utils.core import VOID
from course_utils.data import cityscapes
from course_utils.data.cityscapes import CLASS_NAMES, COLOURS, LABELS, STUFF, train_ids

NAME = "aachen/aachen_000000_000019"
# road, two cars, a group of cars, a trailer (not counted), sky, static (not counted)
LABEL_IDS = [[7, 26, 26, 26, 26, 30], [7, 26, 26, 26, 23, 4]]
INSTANCE_IDS = [[7, 26000, 26000, 26001, 26, 30000], [7, 26000, 26000, 26001, 23, 4]]


def write(folder, name=NAME, labels=LABEL_IDS, instances=INSTANCE_IDS, size=(2, 6)):
    files = {
        f"leftImg8bit/train/{name}_leftImg8bit.png": np.full((*size, 3), 100, np.uint8),
        f"gtFine/train/{name}_gtFine_labelIds.png": np.array(labels, np.uint8),
        f"gtFine/train/{name}_gtFine_instanceIds.png": np.array(instances, np.uint16),
    }
    for path, pixels in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / path)
    return folder


def label_file(folder, kind="labelIds"):
    return folder / f"gtFine/train/{NAME}_gtFine_{kind}.png"


def test_the_table():
    assert [label.number for label in LABELS] == list(range(34))
    assert [label.train_id for label in LABELS if label.train_id != VOID] == list(range(19))
    assert len(CLASS_NAMES) == len(COLOURS) == 20 and len(set(CLASS_NAMES)) == 20
    assert CLASS_NAMES[1] == "road" and CLASS_NAMES[-1] == "bicycle" and CLASS_NAMES[14] == "car"
    assert COLOURS[1] == (128, 64, 128)
    assert [CLASS_NAMES[number] for number in range(1, 20) if number not in STUFF] == [
        LABELS[number].name for number in (24, 25, 26, 27, 28, 31, 32, 33)
    ]


def test_train_ids_are_the_benchmarks():
    counted = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    found = train_ids(torch.arange(34)[None])[0].tolist()
    expected = [counted.index(label) if label in counted else 255 for label in range(34)]
    assert found == expected
    for bad in (-1, 34, 255):
        with pytest.raises(
            ValueError, match=rf"^label_ids: expected 0 to 33, got {bad} in 1 pixels"
        ):
            train_ids(torch.tensor([[0, bad]]))


def test_images_and_label_maps_for_training(tmp_path):
    pictures = cityscapes.read(write(tmp_path))
    assert len(pictures) == 1 and pictures.names == (f"train/{NAME}",)
    image, labels = pictures[0].image, pictures[0].semantic
    assert image.shape == (3, 2, 6) and image.unique().tolist() == pytest.approx([100 / 255])
    assert labels.tolist() == [[1, 14, 14, 14, 14, VOID], [1, 14, 14, 14, 11, VOID]]
    assert torch.equal(
        torch.where(labels == VOID, VOID, labels - 1), train_ids(torch.tensor(LABEL_IDS))
    )
    loss = torch.nn.functional.cross_entropy(
        torch.randn(1, 20, 2, 6), labels[None], ignore_index=VOID
    )
    assert torch.isfinite(loss)


def test_the_sample_has_objects_but_groups_are_none(tmp_path):
    sample = cityscapes.read(write(tmp_path))[0]
    assert sample.labels.tolist() == [14, 14]
    assert sample.boxes.tolist() == [[1, 0, 3, 2], [3, 0, 4, 2]]
    assert sample.masks.int().tolist() == [
        [[0, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0]],
        [[0, 0, 0, 1, 0, 0], [0, 0, 0, 1, 0, 0]],
    ]
    assert sample.panoptic.tolist() == [
        [1000, 14001, 14001, 14002, 0, 0],
        [1000, 14001, 14001, 14002, 11000, 0],
    ]


def test_cities_in_order_and_no_objects_at_all(tmp_path):
    nothing = np.zeros((2, 6))
    for name in ("ulm/ulm_0_1", "aachen/aachen_0_2", "aachen/aachen_0_1"):
        write(tmp_path, name, nothing, nothing)
    pictures = cityscapes.read(tmp_path)
    assert pictures.names == (
        "train/aachen/aachen_0_1",
        "train/aachen/aachen_0_2",
        "train/ulm/ulm_0_1",
    )
    sample = pictures[0]
    assert sample.masks.shape == (0, 2, 6) and (sample.semantic == VOID).all()


def test_no_objects_without_their_file(tmp_path):
    label_file(write(tmp_path), "instanceIds").unlink()
    sample = cityscapes.read(tmp_path)[0]
    assert sample.semantic[0].tolist() == [1, 14, 14, 14, 14, VOID]
    assert sample.boxes is sample.labels is sample.masks is sample.panoptic is None


def test_missing_files(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"^folder: expected photos such as .*/leftImg8bit/val/city/"
    ):
        cityscapes.read(write(tmp_path), "val")
    label_file(tmp_path).unlink()
    with pytest.raises(FileNotFoundError, match=r"^folder: 1 label map is missing, .*labelIds.png"):
        cityscapes.read(tmp_path)
    with pytest.raises(ValueError, match=r"^folder: expected the name of a file"):
        cityscapes.read(tmp_path, "../train")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": (2, 5)}, r"expected 2 x 5 pixels .*labelIds.png, .* got 2 x 6"),
        ({"instances": np.zeros((3, 6))}, r"expected 2 x 6 pixels .*instanceIds.png, .* got 3 x 6"),
        (
            {"labels": np.full((2, 6), 34)},
            r"labelIds.png has an unknown label .* got 34 in 12 pixels",
        ),
        (
            {"labels": np.zeros((2, 6, 3))},
            r"expected one number per pixel in .*labelIds.png, got 3",
        ),
        (
            {"instances": np.full((2, 6), 7)},
            r"instanceIds.png to agree with .*but 10 pixels differ",
        ),
    ],
)
def test_inconsistent_files(tmp_path, changes, message):
    pictures = cityscapes.read(write(tmp_path, **changes))
    with pytest.raises(ValueError, match=rf"^folder: .*{message}"):
        pictures[0]


def test_a_truncated_label_map(tmp_path):
    path = label_file(write(tmp_path))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"labelIds.png is not a complete image file"):
        cityscapes.read(tmp_path)[0]
