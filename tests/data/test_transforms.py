"""Views of samples: image, boxes, masks and maps move together."""

import pytest
import torch

from course_utils.data.sample import Sample
from course_utils.data.scenes import make_scene
from course_utils.data.transforms import augment, fit_into, flip_sample
from course_utils.ops.masks import masks_to_boxes


@pytest.fixture
def scene():
    return make_scene(12, size=(96, 128))


def plain(sample):
    return all(type(field) is torch.Tensor for field in sample if isinstance(field, torch.Tensor))


def test_a_mirrored_sample_is_the_mirrored_scene(scene):
    found = flip_sample(scene)
    assert plain(found) and torch.equal(found.image, scene.image.flip(-1))
    assert torch.equal(found.masks, scene.masks.flip(-1))
    assert torch.equal(found.semantic, scene.semantic.flip(-1))
    assert torch.equal(found.panoptic, scene.panoptic.flip(-1))
    assert torch.equal(found.boxes, masks_to_boxes(scene.masks.flip(-1)))
    assert torch.equal(found.labels, scene.labels)
    assert found.keypoints is None and found.captions == ()
    again = flip_sample(found)
    assert torch.equal(again.boxes, scene.boxes) and torch.equal(again.image, scene.image)


@pytest.mark.parametrize("seed", range(12))
def test_boxes_of_a_view_surround_its_masks(scene, seed):
    torch.manual_seed(seed)
    view = augment(scene, 80)
    assert plain(view) and max(view.image.shape[1:]) <= 80
    size = view.image.shape[1:]
    assert view.semantic.shape == size and view.masks.shape[1:] == size
    assert view.image.min() >= 0 and view.image.max() <= 1
    assert len(view.boxes) == len(view.labels) == len(view.masks) <= len(scene.labels)
    assert torch.equal(masks_to_boxes(view.masks), view.boxes)
    things = view.semantic[view.semantic < 5].unique()
    assert set(things.tolist()) == set(view.labels.tolist())  # what is seen is listed
    for mask, label in zip(view.masks, view.labels):
        assert (view.semantic[mask] == label).float().mean() > 0.95


def test_views_differ_and_repeat_with_the_seed(scene):
    views = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        views.append(augment(scene, 64))
    assert views[0].image.shape != views[1].image.shape or not torch.equal(
        views[0].image, views[1].image
    )
    assert torch.equal(views[0].image, views[2].image)
    assert torch.equal(views[0].boxes, views[2].boxes)


def test_objects_outside_a_view_are_gone_with_all_their_rows(scene):
    area = scene.masks.sum(dim=(1, 2)).float()
    marked = scene._replace(iscrowd=scene.labels > 2, area=area)
    fewer = 0
    for seed in range(20):
        torch.manual_seed(seed)
        view = augment(marked, 96)
        fewer += len(view.boxes) < len(scene.boxes)
        assert len(view.iscrowd) == len(view.area) == len(view.boxes)
        assert set(view.area.tolist()) <= set(area.tolist())
        assert torch.equal(view.iscrowd, view.labels > 2)
    assert fewer


def test_an_object_without_an_outline_keeps_its_part_of_the_box(scene):
    scene.masks[0] = False
    kept = 0
    for seed in range(10):
        torch.manual_seed(seed)
        view = augment(scene, 96)
        outlined = view.masks.flatten(1).any(dim=1)
        assert torch.equal(view.boxes[outlined], masks_to_boxes(view.masks[outlined]))
        kept += int((~outlined).sum())
        assert (view.boxes[:, 2:] > view.boxes[:, :2]).all()
    assert 0 < kept <= 10


@pytest.mark.parametrize("size", [64, 128, 200])
def test_the_longer_side_fits(scene, size):
    view = fit_into(scene, size)
    assert tuple(view.image.shape[1:]) == (size * 96 // 128, size)
    assert torch.allclose(view.boxes, scene.boxes * size / 128)
    if size == 128:
        assert torch.equal(view.image, scene.image) and torch.equal(view.masks, scene.masks)


def test_samples_without_objects_or_maps(scene):
    bare = Sample(scene.image, *[None] * 5, scene.class_names, scene.stuff)
    assert augment(bare, 64).boxes is None and flip_sample(bare).semantic is None
    empty = scene._replace(boxes=scene.boxes[:0], labels=scene.labels[:0], masks=scene.masks[:0])
    view = augment(empty, 64)
    assert view.boxes.shape == (0, 4) and view.masks.shape == (0, *view.image.shape[1:])
