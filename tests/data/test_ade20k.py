"""ADE20K folders: 150 classes, unlabelled pixels are void, and errors name the file."""

import numpy as np
import pytest
import torch
from PIL import Image

from course_utils.core import VOID
from course_utils.data import ade20k

LABELS = [[0, 1, 1, 150], [3, 3, 21, 0]]
HEADINGS = "Idx\tRatio\tTrain\tVal\tName\n"


def write(folder, labels=LABELS, name="ADE_train_00000001", size=(2, 4)):
    for part in ("images/training", "annotations/training"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    photo = np.full((*size, 3), 200, np.uint8)
    Image.fromarray(photo).save(folder / f"images/training/{name}.jpg")
    Image.fromarray(np.array(labels, np.uint8)).save(folder / f"annotations/training/{name}.png")
    return folder


def test_the_names():
    assert len(ade20k.CLASS_NAMES) == len(set(ade20k.CLASS_NAMES)) == 151
    known = {
        0: "background",
        1: "wall",
        13: "person",
        46: "counter",
        76: "swivel chair",
        150: "flag",
    }
    for number, name in known.items():
        assert ade20k.CLASS_NAMES[number] == name


def test_images_and_label_maps_for_training(tmp_path):
    pictures = ade20k.read(write(tmp_path))
    image, labels = pictures[0].image, pictures[0].semantic
    assert len(pictures) == 1 and pictures.names == ("training/ADE_train_00000001",)
    assert image.shape == (3, 2, 4) and image.dtype == torch.float32
    assert labels.tolist() == [[VOID, 1, 1, 150], [3, 3, 21, VOID]]
    loss = torch.nn.functional.cross_entropy(
        torch.randn(1, 151, 2, 4), labels[None], ignore_index=VOID
    )
    assert torch.isfinite(loss)


def test_the_sample_is_all_stuff(tmp_path):
    sample = ade20k.read(write(tmp_path))[0]
    assert sample.masks is None and sample.boxes is None and sample.labels is None
    assert sample.panoptic.tolist() == [[0, 1000, 1000, 150000], [3000, 3000, 21000, 0]]
    assert sample.stuff == tuple(range(1, 151))


def test_names_from_the_folder(tmp_path):
    write(tmp_path, [[0, 1, 1, 2], [2, 2, 2, 0]])
    lines = "1\t0.1\t11\t1\twall\n2 \t0.1\t6046\t612\tbuilding, edifice \n\n"
    (tmp_path / "objectInfo150.txt").write_text(HEADINGS + lines)
    pictures = ade20k.read(tmp_path)
    assert pictures.class_names == ("background", "wall", "building")
    assert pictures.stuff == pictures[0].stuff == (1, 2)
    assert pictures[0].semantic.max() == VOID


@pytest.mark.parametrize(
    "lines", ["", "1\t0.1\t2", "1\t0.1\t1\t1\t\n", "2\t0.1\t1\t1\twall\n", "1\n"]
)
def test_a_broken_list_of_names(tmp_path, lines):
    (write(tmp_path) / "objectInfo150.txt").write_text(HEADINGS + lines)
    with pytest.raises(
        ValueError, match=r"^folder: expected a line for each class in .*objectInfo150.txt"
    ):
        ade20k.read(tmp_path)


def test_missing_files(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"^folder: expected photos such as .*validation/\*.jpg"
    ):
        ade20k.read(write(tmp_path), "validation")
    (tmp_path / "annotations/training/ADE_train_00000001.png").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"^folder: 1 label map is missing, .*ADE_train_00000001.png"
    ):
        ade20k.read(tmp_path)
    with pytest.raises(ValueError, match=r"^folder: expected the name of a file"):
        ade20k.read(tmp_path, "../other")
    with pytest.raises(FileNotFoundError, match=r"^folder: 1 list of classes is missing"):
        ade20k.read_class_names(tmp_path / "nowhere.txt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": (2, 3)}, r"expected 2 x 3 pixels .*.png, as in its image, got 2 x 4"),
        ({"labels": np.full((2, 4), 151)}, r"expected labels 0 to 150 in .*.png, got 151"),
        ({"labels": np.zeros((2, 4, 3))}, r"expected one number per pixel in .*.png, got 3"),
    ],
)
def test_inconsistent_files(tmp_path, changes, message):
    with pytest.raises(ValueError, match=rf"^folder: {message}"):
        ade20k.read(write(tmp_path, **changes))[0]


def test_a_truncated_photo(tmp_path):
    path = write(tmp_path) / "images/training/ADE_train_00000001.jpg"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"^folder: .*.jpg is not a complete image file"):
        ade20k.read(tmp_path)[0]
