"""pycocotools' evaluation as a reference for course_utils.metrics, and random images to compare on.

The images are made so that nothing is rare: ties, crowds, areas on the border between two sizes, and IoUs
equal to a threshold.
"""

import contextlib
import io

import numpy as np
import torch
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def annotations(images, known_area):
    """The objects of all images as COCO's files write them."""
    rows = []
    for number, image in enumerate(images):
        for i, label in enumerate(image["labels"].tolist()):
            row = {"id": len(rows) + 1, "image_id": number, "category_id": label, "iscrowd": 0}
            if "boxes" in image:
                x1, y1, x2, y2 = image["boxes"][i].double().tolist()
                row |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            if "masks" in image:
                mask = np.asfortranarray(image["masks"][i].numpy().astype(np.uint8))
                row["segmentation"] = run_lengths.encode(mask)
                if known_area or "boxes" not in image:
                    row["area"] = int(mask.sum())
            if "scores" in image:
                row["score"] = image["scores"][i].item()
            if known_area and "area" in image:
                row["area"] = image["area"][i].item()
            if "iscrowd" in image:
                row["iscrowd"] = int(image["iscrowd"][i])
            rows.append(row)
    return rows


def coco(predictions, targets, iou_type):
    """pycocotools' evaluation of the same dicts."""
    labels = sorted({label for target in targets for label in target["labels"].tolist()})
    dataset = {
        "images": [{"id": number, "height": 0, "width": 0} for number in range(len(targets))],
        "categories": [{"id": label} for label in labels],
    }
    if iou_type == "masks":  # a mask's area, not its box's
        predictions = [{k: v for k, v in each.items() if k != "boxes"} for each in predictions]
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        truth.dataset = dataset | {"annotations": annotations(targets, known_area=True)}
        found.dataset = dataset | {"annotations": annotations(predictions, known_area=False)}
        truth.createIndex()
        found.createIndex()
        evaluation = COCOeval(truth, found, {"boxes": "bbox", "masks": "segm"}[iou_type])
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def random_boxes(count, generator, step):
    """Boxes with corners on a grid, some of them without area."""
    corner = torch.randint(0, 5, (count, 2), generator=generator)
    size = torch.randint(0, 6, (count, 2), generator=generator)
    return torch.cat([corner, corner + size], dim=1).float() * step


def random_images(seed, images=6, most_truths=6, most_found=14, classes=3):
    """Predictions and targets with boxes only; a third of the targets tell their areas."""
    generator = torch.Generator().manual_seed(seed)

    def draw(high, *shape):
        return torch.randint(0, high, shape, generator=generator)

    step = [1.0, 8.0, 32.0, 7.3][seed % 4]
    predictions, targets = [], []
    for _ in range(images):
        truths, found = int(draw(most_truths + 1)), int(draw(most_found + 1))
        target = {
            "boxes": random_boxes(truths, generator, step),
            "labels": draw(classes, truths) + 1,
            "iscrowd": draw(4, truths) == 0,
        }
        if draw(3) == 0:
            target["area"] = torch.tensor([0, 32**2, 5000, 96**2, 1e5])[draw(5, truths)]
        boxes = random_boxes(found, generator, step)
        if truths:
            copies = target["boxes"][draw(truths, found)]
            near = copies + draw(3, found, 1) * step * torch.tensor([0.0, 0.0, 1.0, 0.0]) / 2
            boxes = torch.where(draw(3, found, 1) > 0, near, boxes)
        prediction = {
            "boxes": boxes,
            "labels": draw(classes + 1, found) + 1,
            "scores": draw(6, found) / 5,
        }
        predictions.append(prediction)
        targets.append(target)
    return predictions, targets


def with_masks(images, size=(40, 52)):
    """The same objects as ellipses in their boxes, which may have no pixel or just one."""
    rows, columns = torch.arange(size[0])[:, None] + 0.5, torch.arange(size[1]) + 0.5
    drawn = []
    for image in images:
        x1, y1, x2, y2 = image["boxes"].clamp(0, 60).T[:, :, None, None]
        across = (2 * columns - x1 - x2) / (x2 - x1).clamp(min=1)
        down = (2 * rows - y1 - y2) / (y2 - y1).clamp(min=1)
        drawn.append(image | {"masks": across**2 + down**2 < 1.2})
    return drawn
