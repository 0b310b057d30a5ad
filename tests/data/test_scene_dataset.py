"""Scenes as a map-style data set: the same scenes, with pixels of one byte."""

import pickle

import pytest
import torch

from course_utils.data.scene_dataset import SceneDataset
from course_utils.data.scenes import make_scene


def test_samples_are_the_scenes_own():
    dataset = SceneDataset(130, size=32, seed=3)
    assert len(dataset) == 130
    for number in (0, 63, 64, 129):
        found, scene = dataset[number], make_scene(number, seed=3, size=(32, 32))
        assert (found.image - scene.image).abs().max() < 0.501 / 255
        for name in ("boxes", "labels", "masks", "semantic"):
            assert torch.equal(getattr(found, name), getattr(scene, name)), name
            assert getattr(found, name).dtype == getattr(scene, name).dtype
        assert found.class_names == scene.class_names and found.stuff == scene.stuff


def test_it_goes_to_workers_and_ends():
    dataset = pickle.loads(pickle.dumps(SceneDataset(3, size=16, seed=0)))
    assert sum(1 for _ in dataset) == 3
    with pytest.raises(IndexError, match=r"^number: expected 0 to 2, got 3$"):
        dataset[3]
