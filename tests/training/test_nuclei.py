"""The task of the nuclei: its loss, its metrics, and a network that learns."""

import pytest
import torch

from course_utils.core import seed_everything
from course_utils.data.microscopy import CLASS_NAMES, nuclei
from course_utils.ops.losses import cross_entropy
from course_utils.training import train
from course_utils.training.microscopy import (
    nuclei_metrics,
    nuclei_task,
    nuclei_unet,
    nucleus_probability,
    weighted_pixel_loss,
)


def test_the_ground_truth_is_perfect_but_for_touching_nuclei():
    _, held_out = nuclei()
    metrics = nuclei_metrics((held_out.instances > 0).float(), held_out.instances)
    assert metrics["foreground_iou"] == 1
    assert metrics["count"] == 27 and 0.85 < metrics["f1"] < 1
    nothing = nuclei_metrics(torch.zeros(512, 128), held_out.instances)
    assert nothing == {"foreground_iou": 0, "count": 0, "f1": 0}


def test_equal_weights_are_the_ordinary_loss():
    model = torch.nn.Conv2d(3, 2, 1)
    images, labels = torch.rand(2, 3, 8, 8), torch.randint(0, 2, (2, 8, 8))
    ordinary = cross_entropy(model(images), labels)
    weighted = weighted_pixel_loss(model, (images, labels, torch.full((2, 8, 8), 3.0)))
    torch.testing.assert_close(weighted, 3 * ordinary)


def test_a_few_steps_lower_the_loss():
    task = nuclei_task("nuclei", batch_size=2, size=64, seed=0)
    assert task.class_names == CLASS_NAMES
    seed_everything(0)
    model = nuclei_unet(2)
    history = train(
        model,
        task.batches,
        weighted_pixel_loss,
        steps=12,
        learning_rate=1e-2,
        device="cpu",
        evaluate=task.evaluate,
    )
    assert history.losses[-1] < 0.8 * history.losses[0]
    assert set(history.metrics[12]) == {"foreground_iou", "count", "f1"}
    probability = nucleus_probability(model, nuclei()[1].image)
    assert probability.shape == (512, 128) and probability.min() >= 0 and probability.max() <= 1


def test_other_data():
    with pytest.raises(ValueError, match="data: expected \"nuclei\", got 'scenes'"):
        nuclei_task("scenes", batch_size=2, size=64, seed=0)
