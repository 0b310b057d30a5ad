"""Recipes: everything that determines how a model is trained, under one name.

python -m course_utils.training --recipe fcn        trains a shipped checkpoint again
model = load_checkpoint("fcn")                      loads it
model, history = fit(replace(FCN, steps=200))       a shorter training, with `dataclasses.replace`
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from course_utils.core import data_path, seed_everything
from course_utils.data.weights import (
    load_tensors,
    load_weights,
    read_card,
    round_weights,
    save_weights,
)
from course_utils.models import (
    detr,
    detr_two_stage,
    faster_rcnn,
    fcn,
    mask_rcnn,
    panoptic_fpn,
    panoptic_unet,
    unet,
)
from course_utils.training.batches import Task
from course_utils.training.checkpoints import History
from course_utils.training.distributed import join_processes
from course_utils.training.instances import detector_task, panoptic_task, weighted_loss
from course_utils.training.loop import Record, train
from course_utils.training.microscopy import nuclei_task, nuclei_unet, weighted_pixel_loss
from course_utils.training.semantic import pixel_loss, semantic_task


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained.

    Attributes:
        name: of the recipe and its checkpoint.
        about: the model in a few words.
        build: the untrained model for a number of classes.
        task: training data and evaluation; see `semantic_task`.
        loss: of a model and a batch; with `loss_weights` it takes them as `weights`.
        loss_weights: of a detector's losses by name; 1 for those that are not listed.
        data: "scenes", or a folder that `task` can read.
        start: a shipped checkpoint whose weights the training starts from, see `start_from`; None for random
            weights.
        steps: number of training steps.
        batch_size: images per step.
        size: height and width of an image.
        learning_rate: the highest one, see `cosine_schedule`.
        weight_decay: of AdamW.
        clip: largest norm of the gradient.
        seed: of the initial weights and all other random numbers.
    """

    name: str
    about: str
    build: Callable[[int], nn.Module]
    task: Callable[..., Task] = semantic_task
    loss: Callable[..., Tensor] = pixel_loss
    loss_weights: Mapping[str, float] | None = None
    data: str = "scenes"
    start: str | None = None
    steps: int = 3000
    batch_size: int = 8
    size: int = 96
    learning_rate: float = 1e-2
    weight_decay: float = 1e-4
    clip: float = 5.0
    seed: int = 0

    def total_loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The loss to minimise, with the weights of this recipe."""
        weights = {"weights": self.loss_weights} if self.loss_weights else {}
        return self.loss(model, batch, **weights)


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
    about="Mask R-CNN, narrow, regions cropped at stride 2",
    build=mask_rcnn.small,
    task=detector_task,
    loss=weighted_loss,
    loss_weights={"proposal_box": 3.0, "box": 2.0, "mask": 2.0},
    steps=12000,
    clip=1.0,
)
FASTER_RCNN = replace(
    MASK_RCNN,
    name="faster_rcnn",
    about="Faster R-CNN, narrow, regions cropped at stride 2",
    build=faster_rcnn.small,
    task=partial(detector_task, masks=False),
)
DETR = Recipe(
    name="detr",
    about="DETR, narrow, tokens at stride 8, 16 queries",
    build=detr.small,
    task=partial(detector_task, masks=False),
    loss=weighted_loss,
    steps=24000,
    batch_size=16,
    learning_rate=1.5e-3,
    clip=1.0,
)
DETR_TWO_STAGE = replace(
    DETR,
    name="detr_two_stage",
    about="DETR whose queries begin at tokens that the encoder chooses, narrow",
    build=detr_two_stage.small,
    steps=8000,
)
PANOPTIC_FPN = replace(
    MASK_RCNN,
    name="panoptic_fpn",
    about="Panoptic FPN, narrow, pyramid levels at strides 2 to 32",
    build=panoptic_fpn.small,
    task=panoptic_task,
    steps=10000,
    learning_rate=6e-3,
)
PANOPTIC_UNET = replace(
    MASK_RCNN,
    name="panoptic_unet",
    about="panoptic network on a U-Net of width 16",
    build=partial(panoptic_unet.small, width=16, channels=48, hidden=192),
    task=panoptic_task,
    steps=14000,
    learning_rate=6e-3,
)
RECIPES = {
    recipe.name: recipe
    for recipe in (
        FCN,
        UNET,
        NUCLEI,
        FASTER_RCNN,
        MASK_RCNN,
        DETR,
        DETR_TWO_STAGE,
        PANOPTIC_FPN,
        PANOPTIC_UNET,
    )
}


def settings(recipe: Recipe) -> dict[str, Any]:
    """The settings of a recipe that JSON can hold.

    Args:
        recipe: the recipe.

    Returns:
        All fields except the functions.

    >>> settings(FCN)["batch_size"]
    8
    """
    values = {field.name: getattr(recipe, field.name) for field in fields(recipe)}
    return {
        key: value for key, value in values.items() if value is not None and not callable(value)
    }


def fit(
    recipe: Recipe,
    *,
    device: str | None = None,
    workers: int = 0,
    evaluate_every: int | None = None,
    watch: Callable[[Record], None] | None = None,
    checkpoint: Path | str | None = None,
    resume: bool = False,
) -> tuple[nn.Module, History, Task]:
    """Build a recipe's model and train it.

    Args:
        recipe: what to make.
        device, evaluate_every, watch, checkpoint, resume: as in `train`.
        workers: as in `Batches`.

    Returns:
        The trained model, its history, and what it was trained on.

    Raises:
        FileNotFoundError, ValueError, FloatingPointError: see `semantic_task` and `train`.
    """
    rank, _, _ = join_processes(device)
    task = recipe.task(
        recipe.data,
        batch_size=recipe.batch_size,
        size=recipe.size,
        seed=recipe.seed,
        workers=workers,
    )
    seed_everything(recipe.seed)
    model = recipe.build(len(task.class_names), **task.build)
    if recipe.start is not None and (sentence := start_from(model, recipe.start)) and rank == 0:
        print(sentence, flush=True)
    history = train(
        model,
        task.batches,
        recipe.total_loss,
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
        if value != usual.get(name)
    ]
    command = " ".join(["python -m course_utils.training --recipe", recipe.name, *options])
    card = {
        "recipe": settings(recipe),
        "class_names": task.class_names,
        "build": dict(task.build),
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


def load_checkpoint(name: Path | str) -> nn.Module:
    """A trained model, ready to use.

    Args:
        name: a recipe, such as "fcn", for the weights that ship with the course; or the path of a file that a
            training wrote, NAME.safetensors.

    Returns:
        The model on the CPU, in evaluation mode.

    Raises:
        ValueError: there is no such recipe, or the file is not the one its card describes.
        FileNotFoundError: there is no such file.
    """
    path = _checkpoint(name)
    card = read_card(path)
    model = RECIPES[card["recipe"]["name"]].build(len(card["class_names"]), **card.get("build", {}))
    load_weights(path, model)
    return model.eval()


def start_from(model: nn.Module, name: Path | str) -> str:
    """Give a new model the weights of a trained one, as far as they fit.

    With other classes the last layers have another shape; these stay as they are.

    Args:
        model: its weights are overwritten.
        name: as in `load_checkpoint`.

    Returns:
        A sentence that says which weights were taken.

    >>> print(start_from(RECIPES["faster_rcnn"].build(3), "mask_rcnn"))
    start: 73 of 77 tensors come from mask_rcnn; new are box_head.deltas, box_head.scores
    """
    tensors = load_tensors(_checkpoint(name))
    state = model.state_dict()
    taken = {
        key: tensor
        for key, tensor in tensors.items()
        if key in state and tensor.shape == state[key].shape
    }
    if not taken:
        raise ValueError(
            f"start: expected a checkpoint of a similar network, none of {name}'s weights fit"
        )
    model.load_state_dict(taken, strict=False)
    new = sorted({key.rpartition(".")[0] for key in state.keys() - taken.keys()})
    what = f"; new are {', '.join(new)}" if new else ""
    return f"start: {len(taken)} of {len(state)} tensors come from {name}{what}"


def _checkpoint(name: Path | str) -> Path:
    if str(name).endswith(".safetensors"):
        return Path(name)
    if name not in RECIPES:
        raise ValueError(
            f"name: expected one of {', '.join(RECIPES)}, or a file NAME.safetensors, got {name!r}"
        )
    return data_path("checkpoints", f"{name}.safetensors")
