"""Right and wrong solutions of the exercises in `course_utils.exercises.overview`."""

import torch

from course_utils.exercises import overview
from course_utils.exercises.overview import _instance_boxes, _merge
from course_utils.ops.masks import masks_to_boxes, masks_to_boxes_loops
from tests.exercises.common import ExerciseTests

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
}


class TestOverviewExercises(ExerciseTests):
    exercises, right, wrong = overview, RIGHT_SOLUTIONS, WRONG_SOLUTIONS
