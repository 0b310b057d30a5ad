"""The table of recipes: everything that decides what a training makes, under one name.

python -m course_utils.training --recipe fcn        makes a shipped checkpoint again
model = load_checkpoint("fcn")                      loads it
model, history = fit(replace(FCN, steps=200))       a shorter one, with `dataclasses.replace`
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from course_utils.core import data_path, seed_everything
from course_utils.models import fcn, mask_rcnn, panoptic_fpn, unet
from course_utils.training.checkpoints import History, load_weights, round_weights, save_weights
from course_utils.training.distributed import join_processes
from course_utils.training.instances import detector_task, panoptic_task, weighted_loss
from course_utils.training.loop import Record, train
from course_utils.training.microscopy import nuclei_task, nuclei_unet, weighted_pixel_loss
from course_utils.training.semantic import Task, pixel_loss, semantic_task


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is made.

    Attributes:
        name: what the recipe and its checkpoint are called.
        about: the model in a few words.
        build: the untrained model for a number of classes.
        task: the data and the evaluation; see `semantic_task`.
        loss: of a model and a batch.
        data: "scenes", or a folder that `task` can read.
        steps: how many batches to learn from.
        batch_size: pictures a batch.
        size: height and width of a picture.
        learning_rate: the highest, see `cosine_schedule`.
        weight_decay: of AdamW.
        clip: longer gradients are shortened to this.
        seed: for the first weights and all else that is drawn.
    """

    name: str
    about: str
    build: Callable[[int], nn.Module]
    task: Callable[..., Task] = semantic_task
    loss: Callable[[nn.Module, Any], Tensor] = pixel_loss
    data: str = "scenes"
    steps: int = 3000
    batch_size: int = 8
    size: int = 96
    learning_rate: float = 1e-2
    weight_decay: float = 1e-4
    clip: float = 5.0
    seed: int = 0


FCN = Recipe(name="fcn", about="FCN with the small backbone", build=fcn.small, steps=8000)
UNET = Recipe(name="unet", about="U-Net, narrow and four levels deep", build=unet.small, steps=5000)
NUCLEI = Recipe(
    name="nuclei",
    about="U-Net on a microscope's picture, gaps between nuclei weighted",
    build=nuclei_unet,
    task=nuclei_task,
    loss=weighted_pixel_loss,
    data="nuclei",
    steps=600,
    batch_size=4,
    size=128,
    weight_decay=1e-2,
)
MASK_RCNN = Recipe(
    name="mask_rcnn",
    about="Mask R-CNN, thin, regions cropped at stride 2",
    build=mask_rcnn.small,
    task=detector_task,
    loss=weighted_loss,
    steps=12000,
    clip=1.0,
)
PANOPTIC_FPN = replace(
    MASK_RCNN,
    name="panoptic_fpn",
    about="Panoptic FPN on a U-Net of width 16",
    build=partial(panoptic_fpn.on_unet, width=16, channels=48, hidden=192),
    steps=14000,
    learning_rate=6e-3,
    task=panoptic_task,
)
RECIPES = {recipe.name: recipe for recipe in (FCN, UNET, NUCLEI, MASK_RCNN, PANOPTIC_FPN)}


def settings(recipe: Recipe) -> dict[str, Any]:
    """The numbers and names of a recipe, as JSON can hold them.

    Args:
        recipe: the recipe.

    Returns:
        All fields but the functions.

    >>> settings(FCN)["batch_size"]
    8
    """
    return {
        field.name: getattr(recipe, field.name)
        for field in fields(recipe)
        if not callable(getattr(recipe, field.name))
    }


def fit(
    recipe: Recipe,
    *,
    device: str | None = None,
    evaluate_every: int | None = None,
    watch: Callable[[Record], None] | None = None,
    checkpoint: Path | str | None = None,
    resume: bool = False,
) -> tuple[nn.Module, History, Task]:
    """Build a recipe's model and train it.

    Args:
        recipe: what to make.
        device, evaluate_every, watch, checkpoint, resume: as in `train`.

    Returns:
        The trained model, its history, and what it was trained on.

    Raises:
        FileNotFoundError, ValueError, FloatingPointError: see `semantic_task` and `train`.
    """
    _, _, place = join_processes(device)
    task = recipe.task(
        recipe.data, batch_size=recipe.batch_size, size=recipe.size, seed=recipe.seed, device=place
    )
    seed_everything(recipe.seed)
    model = recipe.build(len(task.class_names))
    history = train(
        model,
        task.batches,
        recipe.loss,
        steps=recipe.steps,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        clip=recipe.clip,
        seed=recipe.seed,
        device=device,
        evaluate=task.evaluate,
        evaluate_every=evaluate_every,
        watch=watch,
        checkpoint=checkpoint,
        resume=resume,
        run=settings(recipe),
    )
    return model, history, task


def ship(
    path: Path | str, recipe: Recipe, model: nn.Module, history: History, task: Task
) -> dict[str, float]:
    """Round a trained model to float16, measure it as it will be read, and write it with its card.

    Args:
        path: NAME.safetensors; the card becomes NAME.json beside it.
        recipe: how the model was made.
        model: the model, which stays rounded.
        history: its losses, of which the card gets every fiftieth part's mean.
        task: what measures it.

    Returns:
        The metrics on the card.
    """
    round_weights(model)
    metrics = task.evaluate(model.eval())
    losses = torch.tensor(history.losses)
    usual = settings(RECIPES[recipe.name])
    options = [
        f"--{name.replace('_', '-')} {value}"
        for name, value in settings(recipe).items()
        if value != usual[name]
    ]
    command = " ".join(["python -m course_utils.training --recipe", recipe.name, *options])
    card = {
        "recipe": settings(recipe),
        "class_names": task.class_names,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "metrics": {name: round(value, 4) for name, value in metrics.items()},
        "losses": [
            round(part.mean().item(), 4) for part in losses.tensor_split(min(50, len(losses)))
        ],
        "command": command,
        "torch": torch.__version__,
        "licence": "MIT",
    }
    save_weights(path, model, card)
    return metrics


def load_checkpoint(name: str) -> nn.Module:
    """A recipe's model with the weights that ship with the course, ready to use.

    Args:
        name: a recipe, such as "fcn" or "unet".

    Returns:
        The model on the CPU, in evaluation mode.

    Raises:
        ValueError: there is no such recipe, or the file is not the one its card describes.
        FileNotFoundError: the file does not ship (yet).
    """
    if name not in RECIPES:
        raise ValueError(f"name: expected one of {', '.join(RECIPES)}, got {name!r}")
    path = data_path("checkpoints", f"{name}.safetensors")
    card = json.loads(data_path("checkpoints", f"{name}.json").read_text())
    model = RECIPES[name].build(len(card["class_names"]))
    load_weights(path, model)
    return model.eval()
