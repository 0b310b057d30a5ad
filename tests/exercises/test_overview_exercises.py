"""Right and wrong solutions of the exercises in `course_utils.exercises.overview`."""

import torch
from scipy.ndimage import label

from course_utils.exercises import overview
from course_utils.exercises.overview import _instance_boxes, _merge
from course_utils.ops.masks import masks_to_boxes, masks_to_boxes_loops
from tests.exercises.common import ExerciseTests


def regions(semantic, number):
    return label(semantic == number)[1]


RIGHT_SOLUTIONS = {
    overview.check_instance_boxes: lambda instances: torch.cat(
        [
            torch.zeros(0, 4),
            *(
                masks_to_boxes_loops(instances[None] == n)
                for n in range(1, int(instances.max()) + 1)
            ),
        ]
    ),
    overview.check_merge_instances: lambda masks, labels: (
        (masks * labels[:, None, None]).amax(dim=0)
        if len(masks)
        else torch.zeros(masks.shape[1:], dtype=torch.int64)
    ),
    overview.check_object_counts: lambda semantic, number: (
        int(number in semantic),
        torch.bincount(semantic.flatten(), minlength=256)[number].item(),
    ),
    overview.check_twins: lambda: ([[1, 2, 2, 1, 2]], [[1, 2, 1, 1, 2]]),
}

WRONG_SOLUTIONS = {
    overview.check_instance_boxes: {
        "the last pixel left out": lambda instances: (
            _instance_boxes(instances) - torch.tensor([0.0, 0.0, 1.0, 1.0])
        ),
        "x and y swapped": lambda instances: _instance_boxes(instances)[:, [1, 0, 3, 2]],
        "width and height instead of the second corner": lambda instances: torch.cat(
            [(b := _instance_boxes(instances))[:, :2], b[:, 2:] - b[:, :2]], dim=1
        ),
        "one box for all objects": lambda instances: masks_to_boxes(instances[None] > 0),
        "in the order of y": lambda instances: (b := _instance_boxes(instances))[
            b[:, 1].argsort(stable=True)
        ],
        "the smallest number is background": lambda instances: masks_to_boxes(
            instances == instances.unique()[1:, None, None]
        ),
        "the most frequent number is background": lambda instances: masks_to_boxes(
            instances
            == (n := instances.unique())[n != instances.flatten().mode().values, None, None]
        ),
        "the number of the upper left pixel is background": lambda instances: masks_to_boxes(
            instances == (n := instances.unique())[n != instances[0, 0], None, None]
        ),
        "background counted": lambda instances: masks_to_boxes(
            instances == torch.arange(int(instances.max()) + 1)[:, None, None]
        ),
        "always zero": lambda instances: torch.zeros(int(instances.max()), 4),
    },
    overview.check_merge_instances: {
        "object numbers instead of classes": lambda masks, labels: _merge(
            masks, torch.arange(len(labels)) + 1
        ),
        "union without classes": lambda masks, labels: masks.any(dim=0).long(),
        "the first class for all": lambda masks, labels: _merge(
            masks, labels[:1].expand(len(labels))
        ),
        "classes in the opposite order": lambda masks, labels: _merge(masks, labels.flip(0)),
        "classes sorted": lambda masks, labels: _merge(masks, labels.sort().values),
        "classes off by one": lambda masks, labels: (masks * (labels[:, None, None] + 1)).sum(
            dim=0
        ),
        "always zero": lambda masks, labels: torch.zeros(masks.shape[1:], dtype=torch.int64),
    },
    overview.check_object_counts: {
        "the regions": lambda semantic, number: (
            regions(semantic, number),
            regions(semantic, number),
        ),
        "at least the regions": lambda semantic, number: (
            regions(semantic, number),
            int((semantic == number).sum()),
        ),
        "at most the regions": lambda semantic, number: (
            int(number in semantic),
            regions(semantic, number),
        ),
        "always one": lambda semantic, number: (1, 1),
        "at least one, in any map": lambda semantic, number: (1, int((semantic == number).sum())),
        "perhaps none": lambda semantic, number: (0, int((semantic == number).sum())),
        "all pixels": lambda semantic, number: (int(number in semantic), semantic.numel()),
        "all pixels of all classes": lambda semantic, number: (
            int(number in semantic),
            int((semantic > 0).sum()),
        ),
        "exchanged": lambda semantic, number: (
            int((semantic == number).sum()),
            int(number in semantic),
        ),
        "void counted": lambda semantic, number: (
            int(number in semantic),
            int(((semantic == number) | (semantic == 255)).sum()),
        ),
    },
    overview.check_twins: {
        "the same map twice": lambda: ([[1, 2, 2, 1, 2]], [[1, 2, 2, 1, 2]]),
        "other numbers": lambda: ([[1, 2, 2, 1, 2]], [[2, 1, 1, 2, 1]]),
        "other boxes": lambda: ([[1, 1, 2, 2]], [[1, 2, 2, 2]]),
        "fewer objects": lambda: ([[1, 1, 2, 2]], [[1, 1, 1, 1]]),
        "other pixels": lambda: ([[1, 0, 1, 2]], [[1, 1, 1, 2]]),
        "other shapes": lambda: ([[1, 1, 2]], [[1], [1], [2]]),
        "a number left out": lambda: ([[1, 3, 3, 1, 3]], [[1, 3, 1, 1, 3]]),
        "no objects": lambda: ([[0, 0]], [[0, 0]]),
        "one map": lambda: torch.tensor([1, 2, 2, 1, 2]),
        "nothing": lambda: None,
    },
}


class TestOverviewExercises(ExerciseTests):
    exercises, right, wrong = overview, RIGHT_SOLUTIONS, WRONG_SOLUTIONS


def test_the_open_task_says_how_small_the_map_is():
    verdict = overview.check_twins(RIGHT_SOLUTIONS[overview.check_twins])
    assert "2 objects, on a map of 5 pixels" in verdict.message
