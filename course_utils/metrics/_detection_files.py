"""`python -m course_utils.metrics.detection`: COCO's twelve numbers of two JSON files."""

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from pycocotools import mask as run_lengths
from torch import Tensor

from course_utils.metrics._coco_json import (
    GroundTruth,
    Kind,
    Region,
    read_ground_truth,
    read_results,
)
from course_utils.metrics._coco_matching import Instances, Pairs, match
from course_utils.metrics.detection import (
    IOU_THRESHOLDS,
    PROTOCOL,
    DetectionMetrics,
    summarize,
)

DESCRIPTION = """\
Compare the detections in RESULTS with the objects in GROUND_TRUTH, two JSON files in COCO's format, and print
COCO's twelve numbers. They are the same as those of pycocotools' COCOeval; -1 means that the ground truth has
no object of that kind.
"""

EPILOG = """\
GROUND_TRUTH holds the lists "images", "categories" and "annotations", like COCO's instances_val2017.json;
RESULTS is a list of {"image_id", "category_id", "score", "bbox" or "segmentation"}. Boxes are x, y, width and
height in pixels; masks are polygons or run lengths (RLE). See https://cocodataset.org/#format-results
"""

ROWS = (
    ("AP", "average precision: the mean over the IoU thresholds 0.50, 0.55, ..., 0.95"),
    ("AP50", "average precision at the IoU threshold 0.50"),
    ("AP75", "average precision at the IoU threshold 0.75"),
    ("AP small", "average precision for objects of at most 32 x 32 pixels"),
    ("AP medium", "average precision for objects from 32 x 32 to 96 x 96 pixels"),
    ("AP large", "average precision for objects of at least 96 x 96 pixels"),
    ("AR1", "average recall with the most confident detection per class and image"),
    ("AR10", "average recall with at most 10 detections per class and image"),
    ("AR100", "average recall with at most 100 detections per class and image"),
    ("AR small", "the same for objects of at most 32 x 32 pixels"),
    ("AR medium", "the same for objects from 32 x 32 to 96 x 96 pixels"),
    ("AR large", "the same for objects of at least 96 x 96 pixels"),
)


def evaluate(found: Sequence[Region], truth: GroundTruth) -> DetectionMetrics:
    """COCO's twelve numbers of the detections and the ground truth of two files.

    Masks stay run lengths, which take little memory, and pycocotools computes their IoU.

    Args:
        found: from `read_results`.
        truth: from `read_ground_truth`.

    Returns:
        The metrics; `ap_per_class` by category id.
    """
    metrics = summarize(
        match(
            _instances(found, len(truth.images)),
            torch.tensor([region.score for region in found], dtype=torch.float64),
            _instances(truth.regions, len(truth.images)),
            torch.tensor([region.iscrowd for region in truth.regions], dtype=torch.bool),
            partial(_pairs, found, truth.regions),
            *PROTOCOL,
            never_found=_id_zero(truth),
        )
    )
    ids = list(truth.categories)
    per_class = {ids[label]: value for label, value in metrics.ap_per_class.items()}
    return metrics._replace(ap_per_class=per_class)


def _id_zero(truth: GroundTruth) -> int | None:
    """The object with the id 0: pycocotools takes a match with it for no match."""
    return next((n for n, region in enumerate(truth.regions) if region.id == 0), None)


def _instances(regions: Sequence[Region], images: int) -> Instances:
    """What the matching needs to know of the detections, or of the ground truths, of all images."""
    label = torch.tensor([region.label for region in regions], dtype=torch.int64)
    image = torch.tensor([region.image for region in regions], dtype=torch.int64)
    area = torch.tensor([region.area for region in regions], dtype=torch.float64)
    return Instances(label, image, label * images + image, area)


def _pairs(found: Sequence[Region], truths: Sequence[Region], counted: Bool[Tensor, " n"]) -> Pairs:
    """All pairs of a detection and a ground truth of one image and class that overlap enough for a match."""
    groups = defaultdict(lambda: ([], []))
    for number in counted.nonzero()[:, 0].tolist():
        groups[found[number].image, found[number].label][0].append(number)
    for number, region in enumerate(truths):
        groups[region.image, region.label][1].append(number)
    pairs = [(np.empty(0, int), np.empty(0, int), np.empty(0))]
    for rows, columns in groups.values():
        if rows and columns:
            iou = run_lengths.iou(
                [found[row].shape for row in rows],
                [truths[column].shape for column in columns],
                [truths[column].iscrowd for column in columns],
            )
            row, column = np.nonzero(iou >= float(IOU_THRESHOLDS[0]))
            pairs.append((np.array(rows)[row], np.array(columns)[column], iou[row, column]))
    return Pairs(*(torch.from_numpy(np.concatenate(parts)) for parts in zip(*pairs)))


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, evaluate the files, and print the numbers."""
    parser = argparse.ArgumentParser(
        prog="python -m course_utils.metrics.detection",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("ground_truth", type=Path, metavar="GROUND_TRUTH", help="COCO's annotations, a JSON file")
    add("results", type=Path, metavar="RESULTS", help="the detections, a JSON file")
    add("--type", required=True, choices=("bbox", "segm"), help="compare boxes or masks")
    add("--json", action="store_true", help="print the numbers as a JSON list, in COCO's order")
    options = parser.parse_args(arguments)
    kind: Kind = options.type
    try:
        truth = read_ground_truth(options.ground_truth, kind)
        metrics = evaluate(read_results(options.results, kind, truth), truth)
    except (OSError, ValueError) as error:
        parser.exit(2, f"{error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "interrupted\n")
    if truth.without_mask:
        print(
            f"{truth.path}: {truth.without_mask} objects without a mask are left out",
            file=sys.stderr,
        )
    if _id_zero(truth) is not None:
        print(
            f"{truth.path}: an annotation has the id 0, so that pycocotools never takes it for found, and "
            "these numbers don't either; number the annotations from 1",
            file=sys.stderr,
        )
    numbers = [-1.0 if math.isnan(value) else value for value in metrics[:12]]
    if options.json:
        print(json.dumps(numbers))
    else:
        for (name, meaning), number in zip(ROWS, numbers):
            print(f"{name:<10}{number:6.3f}   {meaning}")
