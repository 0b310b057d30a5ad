"""`python -m course_utils.training`: train a model from a terminal, or reproduce a shipped checkpoint."""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from course_utils.training.loop import Record
from course_utils.training.recipes import RECIPES, Recipe, fit, settings, ship

LARGEST_BATCH = 10**9  # pixels: a thousand photos of a million pixels

DESCRIPTION = """\
Train a model of the course. The weights are written to OUT/NAME.safetensors; their settings and metrics to
OUT/NAME.json. The default of every setting is that of the recipe.
"""

DATA = """\
"scenes" (generated); or a folder: COCO's, with images/ and annotations.json or with
annotations/instances_train*.json; VOC's, ADE20K's or Cityscapes'; or photos with LabelMe's files beside
them"""

EPILOG = """\
recipes:
{recipes}

examples:
  Reproduce the shipped checkpoint (in build/checkpoints):
      python -m course_utils.training --recipe fcn
  Train for about a minute:
      python -m course_utils.training fcn --steps 500
  Continue an interrupted training; the weights are the same as without the interruption:
      python -m course_utils.training fcn --steps 500 --resume
  Train on your own photos, from the weights of a detector that ships with the course:
      python -m course_utils.training mask_rcnn --data FOLDER --start mask_rcnn --steps 2000 --out FOLDER
  Train with two processes (GPUs or CPU cores), each on half of every batch:
      torchrun --nproc-per-node 2 -m course_utils.training unet

The same command gives the same weights on the same machine with the same number of threads
(OMP_NUM_THREADS).

Several processes make the same steps as one, but for random numbers in the model (dropout, sampling) and
batch norm on the CPU: every process normalises its own share of the batch, because PyTorch's SyncBatchNorm,
which is used on GPUs, has no CPU version.
"""


def positive(kind: type) -> Callable[[str], int | float]:
    """A `type` for argparse: positive integers for int, positive numbers for float."""

    def parse(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not 0 < value < float("inf"):
            whole = "whole " if kind is int else ""
            raise argparse.ArgumentTypeError(f"expected a {whole}number above 0, got {text!r}")
        return value

    return parse


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command line, with the recipes in its help text."""
    recipes = "\n".join(
        f"  {name:<13} {recipe.about}; {recipe.steps} steps of {recipe.batch_size}"
        for name, recipe in RECIPES.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m course_utils.training",
        usage="%(prog)s NAME [options], or --recipe NAME",
        description=DESCRIPTION,
        epilog=EPILOG.format(recipes=recipes),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    name = parser.add_mutually_exclusive_group(required=True)
    name.add_argument(
        "name", metavar="NAME", nargs="?", choices=RECIPES, help="a recipe, see below"
    )
    name.add_argument("--recipe", metavar="NAME", choices=RECIPES, help="another way to name it")
    add, out = parser.add_argument, Path("build/checkpoints")
    add("--data", help=DATA)
    add("--start", metavar="NAME", help="begin with the weights of this recipe, or of a file")
    add("--steps", type=positive(int), help="number of training steps")
    add("--batch-size", type=positive(int), help="images per batch, over all processes")
    add("--size", type=positive(int), help="height and width of a training image in pixels")
    add("--learning-rate", type=positive(float), help="the highest, between warm-up and decay")
    add("--seed", type=int, help="for the initial weights and all other random numbers")
    add("--device", help="cpu, cuda, ...; default: the GPU if there is one, else the CPU")
    add("--workers", type=int, default=0, help="processes that read and augment photos; default: 0")
    add("--evaluate-every", type=positive(int), metavar="STEPS", help="default: only at the end")
    add("--out", type=Path, default=out, help="folder for the files; default: %(default)s")
    state = parser.add_mutually_exclusive_group()
    state.add_argument("--resume", action="store_true", help="continue an interrupted training")
    state.add_argument("--fresh", action="store_true", help="replace an interrupted training")
    return parser


def print_progress(batch_size: int) -> Callable[[Record], None]:
    """A `watch` for `train` that prints about twenty lines over the whole training, and all metrics."""
    start = time.monotonic()
    first = 0

    def watch(record: Record) -> None:
        nonlocal first
        first = first or record.step
        if record.step == first > 1:
            print(f"resumed after step {first - 1}")
        if record.metrics or record.step % max(1, record.steps // 20) == 0:
            speed = (record.step - first + 1) * batch_size / (time.monotonic() - start)
            values = [f"step {record.step}/{record.steps}", f"loss {record.loss:.4f}"]
            values += [f"{speed:.0f} images/s"]
            values += [f"{name} {value:.3f}" for name, value in record.metrics.items()]
            print("  ".join(values), flush=True)

    return watch


def check_before(recipe: Recipe, out: Path, state: Path, options: argparse.Namespace) -> None:
    """Raise for what would go wrong later: a folder that cannot be written, a batch beyond all memory."""
    if options.workers < 0:
        raise ValueError(f"--workers: expected 0 or more, got {options.workers}")
    if recipe.batch_size * recipe.size**2 > LARGEST_BATCH:
        raise ValueError(
            f"--batch-size, --size: expected at most {LARGEST_BATCH:.0e} pixels in a batch, "
            f"got {recipe.batch_size} images of {recipe.size} x {recipe.size}"
        )
    if options.device == "meta":
        raise ValueError("--device: expected a device that computes, got 'meta'")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise ValueError(
            f"--out: expected a folder that can be written, but {out}: {error.strerror}"
        ) from error
    if state.exists() and not (options.resume or options.fresh):
        raise ValueError(
            f"--out: {state} holds an interrupted training; --resume continues it, --fresh replaces it"
        )


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, train, and save the weights with their card."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    recipe = RECIPES[options.name or options.recipe]
    given = {name: getattr(options, name, None) for name in settings(recipe) | {"start": None}}
    given = {name: value for name, value in given.items() if value is not None}
    recipe = replace(recipe, **given | {"name": recipe.name})
    path = options.out / f"{recipe.name}.safetensors"
    state = options.out / f"{recipe.name}.state.safetensors"
    try:
        check_before(recipe, options.out, state, options)
        model, history, task = fit(
            recipe,
            device=options.device,
            workers=options.workers,
            evaluate_every=options.evaluate_every,
            watch=print_progress(recipe.batch_size),
            checkpoint=state,
            resume=options.resume,
        )
        if int(os.environ.get("RANK", 0)) == 0:
            metrics = ship(path, recipe, model, history, task)
            state.unlink()
            results = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
            print(f"{path} with its card {path.with_suffix('.json')}: {results}")
    except (ValueError, OSError, FloatingPointError, torch.OutOfMemoryError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, "interrupted; continue with the same command and --resume\n")


if __name__ == "__main__":
    main()
