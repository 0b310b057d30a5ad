"""`python -m course_utils.training`: train a model from a terminal, or make a shipped checkpoint again."""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from course_utils.training.loop import Record
from course_utils.training.recipes import RECIPES, fit, settings, ship

DESCRIPTION = """\
Train a model of the course. Writes OUT/NAME.safetensors, the weights, and OUT/NAME.json, how they were made
and how good they are. What you leave out comes from the recipe.
"""

EPILOG = """\
recipes:
{recipes}

examples:
  Make the shipped checkpoint again (files in build/checkpoints):
      python -m course_utils.training --recipe fcn
  A minute of training, and what came of it:
      python -m course_utils.training fcn --steps 500
  Cut off? The same command goes on where it was, to the same bits:
      python -m course_utils.training fcn --steps 500 --resume
  Photos of your own, in the layout of VOC or COCO:
      python -m course_utils.training unet --data VOCdevkit/VOC2012 --size 160
  Two processes that share every batch (GPUs, or CPU cores):
      torchrun --nproc-per-node 2 -m course_utils.training unet

The same command gives the same weights on the same machine with the same number of threads
(OMP_NUM_THREADS).
"""


def number_above_zero(kind: type) -> Callable[[str], int | float]:
    """What argparse calls to read a number: a whole one for int, any for float."""

    def read(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not 0 < value < float("inf"):
            whole = "whole " if kind is int else ""
            raise argparse.ArgumentTypeError(f"expected a {whole}number above 0, got {text!r}")
        return value

    return read


def build_parser() -> argparse.ArgumentParser:
    """The options, with the recipes in the help."""
    recipes = "\n".join(
        f"  {name:<6} {recipe.about}; {recipe.steps} steps of {recipe.batch_size}"
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
    name.add_argument("--recipe", metavar="NAME", choices=RECIPES, help="the same")
    whole, any_number = number_above_zero(int), number_above_zero(float)
    add = parser.add_argument
    add("--data", help='"scenes" (drawn as they are needed), or a folder in VOC or COCO layout')
    add("--steps", type=whole, help="how many batches to learn from")
    add("--batch-size", type=whole, help="pictures a batch, over all processes together")
    add("--size", type=whole, help="height and width of a picture in pixels")
    add(
        "--learning-rate", type=any_number, help="the highest; warm-up before, cosine to zero after"
    )
    add("--seed", type=int, help="for the first weights and all else that is drawn")
    add("--device", help="cpu, cuda, ...; left out: the GPU where there is one")
    add("--evaluate-every", type=whole, metavar="STEPS", help="besides the end")
    add(
        "--out",
        type=Path,
        default=Path("build/checkpoints"),
        help="folder for the files (%(default)s)",
    )
    add(
        "--resume",
        action="store_true",
        help="go on with a training that was cut off, if there is one",
    )
    return parser


def print_progress(batch_size: int) -> Callable[[Record], None]:
    """A `watch` that prints a line now and then: twenty over the whole training, and all metrics."""
    began = time.monotonic()
    first = 0

    def watch(record: Record) -> None:
        nonlocal first
        first = first or record.step
        if record.step == first > 1:
            print(f"resumed after step {first - 1}")
        if record.metrics or record.step % max(1, record.steps // 20) == 0:
            speed = (record.step - first + 1) * batch_size / (time.monotonic() - began)
            metrics = "".join(f"  {name} {value:.3f}" for name, value in record.metrics.items())
            print(
                f"step {record.step}/{record.steps}  loss {record.loss:.4f}  {speed:.0f} pictures/s{metrics}",
                flush=True,
            )

    return watch


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, train, write weights and card."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    recipe = RECIPES[options.name or options.recipe]
    given = {key: value for key, value in vars(options).items() if value is not None}
    given |= {"name": recipe.name}
    recipe = replace(recipe, **{key: given[key] for key in settings(recipe) if key in given})
    path = options.out / f"{recipe.name}.safetensors"
    state = options.out / f"{recipe.name}.state.safetensors"
    try:
        model, history, task = fit(
            recipe,
            device=options.device,
            evaluate_every=options.evaluate_every,
            watch=print_progress(recipe.batch_size),
            checkpoint=state,
            resume=options.resume,
        )
        if int(os.environ.get("RANK", 0)) == 0:
            metrics = ship(path, recipe, model, history, task)
            state.unlink()
            found = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
            print(f"{path} with its card {path.with_suffix('.json')}: {found}")
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, "stopped; the same command with --resume goes on from here\n")


if __name__ == "__main__":
    main()
