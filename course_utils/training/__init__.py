"""Floor 4: one loop that trains every model of the course, checkpoints that survive a kill, and the recipes.

`python -m course_utils.training --help` is the same from a terminal.
"""

from course_utils.training.checkpoints import History, load_weights, save_weights
from course_utils.training.loop import Record, cosine_schedule, train

__all__ = ["History", "Record", "cosine_schedule", "load_weights", "save_weights", "train"]
