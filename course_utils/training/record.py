"""Recorded experiments: longer than the training that a notebook runs live, and with several seeds.

python -m course_utils.training.record mask_heads     runs the experiment again and writes its record

A record lies in data/records/NAME.json. Notebooks draw it, so that the figure is the same on every machine.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from course_utils.core import data_path
from course_utils.data.weights import write_file
from course_utils.training.experiments.checkerboards import checkerboards
from course_utils.training.experiments.fcn import (
    fcn_classes,
    fcn_scenes,
    fcn_snapshots,
    fcn_strides,
    free_scores,
)
from course_utils.training.experiments.first_steps import (
    mask_rcnn_steps,
    panoptic_map,
    panoptic_steps,
)
from course_utils.training.experiments.mask_heads import mask_heads
from course_utils.training.experiments.roi_crops import roi_crops
from course_utils.training.experiments.sliding_window import widths_and_steps
from course_utils.training.experiments.unet import unet_masks, unet_nuclei
from course_utils.training.experiments.unpooling import unpooling

SEEDS = (0, 1, 2)


class Experiment(NamedTuple):
    """An experiment that can be recorded.

    Attributes:
        about: what is compared, in a sentence.
        metric: what is measured.
        run: from a seed to the metric of each arm after each number of steps.
        tensors: from a seed to tensors that a notebook draws, if there are any.
    """

    about: str
    metric: str
    run: Callable[[int], dict[str, dict[int, float]]]
    tensors: Callable[[int], dict[str, Tensor]] | None = None


class Record(NamedTuple):
    """The results of an experiment.

    Attributes:
        about, metric: as in `Experiment`.
        steps: the numbers of training steps.
        seeds: one run for each.
        arms: for each arm, by its name, the metric as `[len(steps)][len(seeds)]`.
    """

    about: str
    metric: str
    steps: list[int]
    seeds: list[int]
    arms: dict[str, list[list[float]]]


EXPERIMENTS = {
    "mask_heads": Experiment(
        "Mask heads trained on the frozen features of the shipped Mask R-CNN, with true boxes of 400 scenes",
        "mask AP on 100 held-out scenes, in the boxes that the shipped network finds",
        mask_heads,
    ),
    "checkerboards": Experiment(
        "Stacks of two layers that upsample by 2, of five kinds, trained to upsample one photo by 4",
        "standard deviation on a constant image, and root mean squared error on the photo",
        checkerboards,
    ),
    "fcn_strides": Experiment(
        "FCNs of four strides, trained anew for each number of steps with 1000 scenes",
        "mean IoU on 200 held-out scenes",
        fcn_strides,
    ),
    "fcn_classes": Experiment(
        "One FCN-2s in the course of a training of 400 steps with 1000 scenes",
        "IoU of each class on 200 held-out scenes",
        fcn_classes,
        fcn_snapshots,
    ),
    "fcn_scenes": Experiment(
        "FCN-2s trained for 400 steps with many scenes and with few",
        "mean IoU on scenes of the training and on 200 held-out scenes",
        fcn_scenes,
    ),
    "free_scores": Experiment(
        "Label maps enlarged from coarse scores: exact shares, and scores optimised for 50 true label maps",
        "mean IoU on the same 50 label maps",
        free_scores,
    ),
    "widths_and_steps": Experiment(
        "Networks with a receptive field of 11 x 11 pixels, trained with 200 small scenes",
        "on 100 held-out scenes",
        widths_and_steps,
    ),
    "unpooling": Experiment(
        "Two decoders on the frozen encoder of the shipped FCN, trained with 1000 scenes",
        "mean IoU on 200 held-out scenes",
        unpooling,
    ),
    "roi_crops": Experiment(
        "Mask heads on crops of true class shares, trained with 30 scenes; a seed is a set of scenes",
        "mean IoU of the masks on 30 held-out scenes",
        roi_crops,
    ),
    "mask_rcnn_steps": Experiment(
        "The first 150 steps of Mask R-CNN, with 240 scenes, measured every ten steps",
        "mean of ten steps for the losses; the rest on 100 held-out scenes",
        mask_rcnn_steps,
    ),
    "panoptic_steps": Experiment(
        "The first 60 steps of Panoptic FPN, with 160 scenes, measured every ten steps",
        "mean of ten steps for the losses; PQ on 100 held-out scenes",
        panoptic_steps,
        panoptic_map,
    ),
    "unet_nuclei": Experiment(
        "U-Nets with and without border weights and skip connections on a microscope's image",
        "quality on the held-out quarter of the image, with 30 nuclei",
        unet_nuclei,
        unet_masks,
    ),
}


def read_record(name: str) -> Record:
    """The record of an experiment, as it comes with the course.

    >>> read_record("mask_heads").steps
    [120, 800]
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"name: expected one of {', '.join(EXPERIMENTS)}, got {name!r}")
    return Record(**json.loads(data_path("records", f"{name}.json").read_bytes()))


def record_tensors(name: str) -> dict[str, Tensor]:
    """The tensors that belong to a record, of its first seed."""
    return load_file(data_path("records", f"{name}.safetensors"))


def make_record(experiment: Experiment, seeds: Sequence[int]) -> Record:
    """Run an experiment with several seeds; prints each result as it comes."""
    runs = []
    for seed in seeds:
        runs.append(experiment.run(seed))
        print(f"seed {seed}: {runs[-1]}", flush=True)
    arms = {
        arm: [[round(run[arm][steps], 4) for run in runs] for steps in by_steps]
        for arm, by_steps in runs[0].items()
    }
    steps = list(next(iter(runs[0].values())))
    return Record(experiment.about, experiment.metric, steps, list(seeds), arms)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m course_utils.training.record")
    parser.add_argument("name", choices=EXPERIMENTS, help="the experiment")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="one run for each")
    parser.add_argument("--to", type=Path, default=data_path("records"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # another number of threads gives slightly other losses
    experiment = EXPERIMENTS[options.name]
    record = make_record(experiment, options.seeds)
    text = json.dumps(record._asdict(), indent=1) + "\n"
    write_file(options.to / f"{options.name}.json", text.encode())
    if experiment.tensors is not None:
        content = save(experiment.tensors(options.seeds[0]))
        write_file(options.to / f"{options.name}.safetensors", content)


if __name__ == "__main__":
    main()
