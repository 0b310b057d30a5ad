"""Floor 5: one training loop for every model of the course, checkpoints to resume from, tasks and recipes.

`python -m course_utils.training --help` shows how to train from a terminal.
"""

from course_utils.training.checkpoints import History
from course_utils.training.loop import Record, cosine_schedule, train, train_step

__all__ = [
    "History",
    "Record",
    "cosine_schedule",
    "train",
    "train_step",
]
