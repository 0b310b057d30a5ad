"""What needs a network, tried out: do torchvision's published networks see the person in a photograph?

python tools/online.py           exit status 1 where one of them is missing or does not
"""

import sys

import torch
from torch import Tensor

from course_utils.data.photos import photo
from course_utils.data.sample import Sample
from course_utils.models import torchvision_weights

LEAST_SCORE, LEAST_IOU = 0.8, 0.6
Seen = tuple[float, Tensor]  # a score, and the pixels of the person


def detected(sample: Sample, name: str) -> Seen:
    """The surest person of a detector; of one without masks, the pixels of the box."""
    network = getattr(torchvision_weights, name)(torchvision_weights.download(name))
    (found,) = network([sample.image])
    persons = found["labels"] == class_number(name)
    if not persons.any():
        return 0.0, torch.zeros(sample.image.shape[1:], dtype=torch.bool)
    best = int((found["scores"] * persons).argmax())
    if "masks" in found:
        return float(found["scores"][best]), found["masks"][best, 0] > 0.5
    return float(found["scores"][best]), pixels_of(found["boxes"][best], sample)


def segmented(sample: Sample, name: str) -> Seen:
    """The pixels that a network for semantic segmentation calls a person, and their mean probability."""
    network = getattr(torchvision_weights, name)(torchvision_weights.download(name))
    with torch.no_grad():
        probability, label = network(sample.image[None])[0].softmax(dim=0).max(dim=0)
    person = label == class_number(name)
    return float(probability[person].mean().nan_to_num()), person


def class_number(name: str) -> int:
    """The number of the class "person" among those of a published network."""
    return torchvision_weights.WEIGHTS[name].meta["categories"].index("person")


def pixels_of(box: Tensor, sample: Sample) -> Tensor:
    """The pixels inside a box."""
    pixels = torch.zeros(sample.image.shape[1:], dtype=torch.bool)
    x1, y1, x2, y2 = box.round().long().tolist()
    pixels[y1:y2, x1:x2] = True
    return pixels


def main() -> int:
    """Try each network and print what it saw; returns the exit status."""
    sample, failures = photo("astronaut").sample, 0
    own = sample.labels == sample.class_names.index("person")
    whole = pixels_of(sample.boxes[own][0], sample), sample.masks[own][0]
    for name in torchvision_weights.WEIGHTS:
        try:
            score, seen = (segmented if name == "fcn" else detected)(sample, name)
        except (OSError, ValueError) as error:
            print(error, file=sys.stderr)
            return 1
        truth = whole[name != "faster_rcnn"]
        iou = float((seen & truth).sum() / (seen | truth).sum())
        good = score > LEAST_SCORE and iou > LEAST_IOU
        failures += not good
        verdict = "as expected" if good else "NOT as expected"
        print(f"{name}: a person with score {score:.2f} and IoU {iou:.2f}: {verdict}")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
