"""The order, the views and the batches of a training on photographs."""

import json
from functools import partial

import pytest
import torch
from PIL import Image

from course_utils.data import coco
from course_utils.data.sample import Sample
from course_utils.data.scenes import CLASS_NAMES, make_scene
from course_utils.training.batches import (
    Batches,
    Views,
    open_data,
    open_folder,
    same_size,
    view_photo,
)
from course_utils.training.instances import detector_task
from course_utils.training.semantic import semantic_task


class Numbered(torch.utils.data.Dataset):
    """Photographs whose pixels are their number / 100, each with one object."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        masks = torch.zeros(1, 40, 50, dtype=torch.bool)
        masks[0, 10:30, 5:40] = True
        return Sample(
            image=torch.full((3, 40, 50), number / 100),
            boxes=torch.tensor([[5.0, 10.0, 40.0, 30.0]]),
            labels=torch.tensor([number + 1]),
            masks=masks,
            semantic=masks[0] * (number + 1),
            panoptic=None,
            class_names=("background", *map(str, range(1, self.count + 1))),
            stuff=(),
        )


def as_it_is(sample, epoch):
    return sample


def numbers(batches, steps):
    return [round(float(image[0, 0, 0]) * 100) for step in steps for image in batches(step).images]


def test_each_epoch_has_its_own_order():
    batches = Batches(Views(Numbered(10), as_it_is, seed=0), 5)
    first, second = numbers(batches, (0, 1)), numbers(batches, (2, 3))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second and first != list(range(10))
    assert numbers(Batches(Views(Numbered(10), as_it_is, seed=1), 5), (0, 1)) != first
    kept = Batches(Views(Numbered(10), as_it_is, shuffle=False), 4)
    assert numbers(kept, range(5)) == [*range(10), *range(10)]


def photo_batches(workers=0, seed=0):
    views = Views(Numbered(7), partial(view_photo, size=32), seed=seed)
    return Batches(views, 3, workers)


def same(one, other):
    return (
        torch.equal(one.images, other.images)
        and torch.equal(one.semantic, other.semantic)
        and all(torch.equal(rows, other.objects[key]) for key, rows in one.objects.items())
    )


def test_workers_deliver_the_batches_of_this_process_from_any_step_on():
    alone, helped = photo_batches(), photo_batches(workers=1)
    for step in (0, 1, 2, 7, 8, 3):
        assert same(alone(step), helped(step)), step


def test_every_epoch_shows_another_view_and_the_seed_decides():
    batches = photo_batches()
    assert same(batches(2), photo_batches()(2)) and not same(batches(2), photo_batches(seed=1)(2))
    views = [batches.views[place] for place in range(70)]
    of_one = [view for view in views if view.labels.tolist() == [3]]
    assert len({tuple(view.boxes.flatten().tolist()) for view in of_one}) > 5


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_leave_the_random_numbers_of_the_training_alone(workers):
    batches = photo_batches(workers)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    batches(0), batches(4)
    assert torch.equal(torch.rand(3), expected)


def test_fields_that_are_not_needed_are_left_out():
    views = Views(Numbered(3), as_it_is, without=("boxes", "labels", "masks"))
    batch = Batches(views, 2)(0)
    assert batch.objects is None and batch.semantic is not None


def test_images_of_one_size_are_grouped_in_their_order():
    wide = Numbered(3)[0].image
    groups = list(same_size([wide] * 3 + [wide.mT] * 2 + [wide], most=2))
    assert [len(group) for group in groups] == [2, 1, 2, 1]


def test_a_folder_of_unknown_layout_and_none_at_all(tmp_path):
    with pytest.raises(
        ValueError, match=r"^data: expected .* to hold images/ and annotations.json"
    ):
        open_folder(tmp_path, "train", ["instances"])
    with pytest.raises(ValueError, match=r"images/ and panoptic.json, or annotations/panoptic_val"):
        open_folder(tmp_path, "val", ["panoptic"])
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        open_folder(tmp_path / "nowhere", "train", ["instances"])


def test_different_classes_to_learn_and_to_judge(tmp_path):
    (tmp_path / "annotations").mkdir()
    for split, name in (("train", "cat"), ("val", "dog")):
        (tmp_path / split).mkdir()
        Image.new("RGB", (8, 6)).save(tmp_path / split / "0.png")
        content = {
            "images": [{"id": 0, "file_name": "0.png", "height": 6, "width": 8}],
            "annotations": [],
            "categories": [{"id": 1, "name": name}],
        }
        (tmp_path / f"annotations/instances_{split}.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="same classes in the training and validation sets"):
        open_data(str(tmp_path), fields=(), kinds=["instances"], scenes=1, size=32, seed=0)


def coco_folder(folder, **given):
    """One photograph with one object, as this function's caller gives it."""
    (folder / "images").mkdir()
    Image.new("RGB", (8, 6)).save(folder / "images/0.png")
    entry = {"id": 1, "image_id": 0, "category_id": 1, "iscrowd": 0, "bbox": [1, 1, 4, 4]} | given
    content = {
        "images": [{"id": 0, "file_name": "0.png", "height": 6, "width": 8}],
        "annotations": [entry],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (folder / "annotations.json").write_text(json.dumps(content))
    return str(folder)


@pytest.mark.parametrize(
    ("task", "missing"),
    [(detector_task, "masks"), (semantic_task, "semantic")],
    ids=["detector", "semantic"],
)
def test_a_folder_without_what_the_task_learns_is_refused(tmp_path, task, missing):
    folder = coco_folder(tmp_path, segmentation=[])
    with pytest.raises(ValueError, match=rf"^data: expected {missing} in .*, which has none$"):
        task(folder, batch_size=1, size=32, seed=0)
    boxes = detector_task(folder, batch_size=1, size=32, seed=0, masks=False).batches(0).objects
    assert boxes.keys() == {"image", "boxes", "labels", "iscrowd"}


def test_label_maps_come_from_panoptic_annotations_where_there_are_some(tmp_path):
    coco.write_samples(tmp_path, [make_scene(3, size=(40, 60))])
    names = semantic_task(str(tmp_path), batch_size=1, size=32, seed=0).class_names
    assert names == CLASS_NAMES
    (tmp_path / "panoptic.json").unlink()
    names = semantic_task(str(tmp_path), batch_size=1, size=32, seed=0).class_names
    assert names == CLASS_NAMES[:5]
