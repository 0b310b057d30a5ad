"""`python -m course_utils.training.detect`: what a trained detector finds in the photos of a COCO folder."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from course_utils.data import coco
from course_utils.data.weights import read_card
from course_utils.models.rcnn import FasterRCNN
from course_utils.training.instances import predict
from course_utils.training.recipes import load_checkpoint

DESCRIPTION = """\
Write what a trained detector finds in the photos of a folder as COCO's results file. To compare it with the
ground truth: python -m course_utils.metrics.detection FOLDER/annotations.json RESULTS --type ...
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m course_utils.training.detect", description=DESCRIPTION
    )
    add = parser.add_argument
    add("weights", type=Path, help="NAME.safetensors, as a training wrote it")
    add("--data", type=Path, required=True, metavar="FOLDER", help="a folder in COCO's layout")
    add("--split", help='such as "val2017"; default: images/ and annotations.json')
    add("--type", choices=["bbox", "segm"], default="bbox", help="boxes (the default) or masks")
    add("--to", type=Path, required=True, metavar="RESULTS", help="the JSON file to write")
    options = parser.parse_args(arguments)
    try:
        photos = coco.read(options.data, options.split)
        model, card = load_checkpoint(options.weights), read_card(options.weights)
        if card["class_names"] != list(photos.class_names):
            raise ValueError(
                f"--data: expected the classes of the training, {card['class_names'][1:]}, "
                f"got {photos.class_names[1:]}"
            )
        if not isinstance(model, FasterRCNN):
            raise ValueError(f"weights: expected a detector, got a {card['recipe']['name']}")
        if options.type == "segm" and "masks" not in model.heads:
            raise ValueError(f"--type: expected bbox, {options.weights} makes no masks")
        images = (sample.image for sample in photos)
        found = predict(model, images, card["recipe"]["size"])
        count = coco.write_results(options.to, options.data, found, options.type, options.split)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"{count} detections in {len(photos)} photos: {options.to}")


if __name__ == "__main__":
    main()
