"""The detection part of `make bench`: COCO's average precision, ours beside pycocotools."""

import contextlib
import io
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from course_utils.metrics.detection import detection_metrics
from course_utils.ops.masks import paste_masks

Images = list[dict[str, Tensor]]


def measure_detection() -> list[str]:
    """Seconds for the twelve numbers of a set of images, on one thread."""
    lines = [
        "## Average precision",
        "",
        "COCO's twelve numbers from the same detections: seconds on one thread, the median of several runs, "
        "ours and pycocotools' in turn. Ours is the whole call with the checks of its input; pycocotools' is "
        "`evaluate` and `accumulate`, after its data set has been built (for masks: run-length encoded).",
        "",
        "| compared | images | detections | classes | ours | pycocotools | times as fast | wanted |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for iou_type, images, classes, size, wanted in (
        ("boxes", 500, 80, (480, 640), "3"),
        ("boxes", 500, 4, (480, 640), "3"),
        ("masks", 500, 80, (96, 96), "1"),
        ("masks", 500, 4, (96, 96), "1"),
        ("masks", 50, 80, (480, 640), "1"),
    ):
        predictions, targets = random_images(images, 100, classes, size, masks=iou_type == "masks")
        ours, theirs = medians(
            partial(detection_metrics, predictions, targets, iou_type=iou_type),
            pycocotools(predictions, targets, iou_type),
        )
        lines.append(
            f"| {iou_type}, {size[0]} x {size[1]} | {images} | {100 * images} | {classes} "
            f"| {ours:.2f} | {theirs:.2f} | {theirs / ours:.1f} | {wanted} |"
        )
        print(lines[-1], flush=True)
    torch.set_num_threads(threads)
    return lines


def medians(*tasks: Callable[[], object], runs: int = 5) -> list[float]:
    """The median seconds of each task, all of them in turn."""
    seconds: list[list[float]] = [[] for _ in tasks]
    for _ in range(runs):
        for task, times in zip(tasks, seconds):
            start = time.perf_counter()
            task()
            times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in seconds]


def random_images(
    images: int, found: int, classes: int, size: tuple[int, int], masks: bool
) -> tuple[Images, Images]:
    """Seven objects an image on average; a third of the detections are near one, the others anywhere."""
    generator = torch.Generator().manual_seed(0)
    height, width = size
    extent = torch.tensor([width, height])

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    def boxes(count: int) -> Tensor:
        """Of 2 % to 40 % of the image's size."""
        half = extent * 0.01 * 20 ** draw(count, 2)
        centre = half + (extent - 2 * half) * draw(count, 2)
        return torch.cat([centre - half, centre + half], dim=1)

    predictions, targets = [], []
    for _ in range(images):
        truths = 1 + int(13 * draw(1))
        target = {"boxes": boxes(truths), "labels": 1 + (classes * draw(truths)).long()}
        target["iscrowd"] = draw(truths) < 0.02
        copied = (truths * draw(found)).long()
        side = (target["boxes"][:, 2:] - target["boxes"][:, :2])[copied].repeat(1, 2)
        shifted = target["boxes"][copied] + 0.3 * side * (draw(found, 4) - 0.5)
        near = draw(found) < 0.35
        label = torch.where(near, target["labels"][copied], 1 + (classes * draw(found)).long())
        prediction = {
            "boxes": torch.where(near[:, None], shifted, boxes(found)),
            "labels": label,
            "scores": draw(found),
        }
        if masks:
            for objects in (prediction, target):
                objects["masks"] = ellipses(objects["boxes"], size)
        predictions.append(prediction)
        targets.append(target)
    return predictions, targets


def ellipses(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """The mask of the ellipse in each box."""
    axis = torch.linspace(-1, 1, 28)
    disc = (axis[:, None] ** 2 + axis**2 < 1).float()
    return paste_masks(disc.expand(len(boxes), -1, -1), boxes, size)


def pycocotools(predictions: Images, targets: Images, iou_type: str) -> Callable[[], None]:
    """A call of pycocotools' evaluation, its data set already built."""
    labels = sorted({label for target in targets for label in target["labels"].tolist()})
    height, width = targets[0]["masks"].shape[1:] if iou_type == "masks" else (0, 0)
    pictures = [{"id": i, "height": height, "width": width} for i in range(len(targets))]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": pictures,
            "categories": [{"id": label} for label in labels],
            "annotations": annotations(targets, iou_type),
        }
        truth.createIndex()
        results = truth.loadRes(annotations(predictions, iou_type))
    evaluation = COCOeval(truth, results, {"boxes": "bbox", "masks": "segm"}[iou_type])

    def evaluate() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.evaluate()
            evaluation.accumulate()

    return evaluate


def annotations(images: Images, iou_type: str) -> list[dict[str, object]]:
    """The objects of all images in the form of COCO's files."""
    rows: list[dict[str, object]] = []
    for number, image in enumerate(images):
        for i, label in enumerate(image["labels"].tolist()):
            row: dict[str, object] = {"id": len(rows) + 1, "image_id": number, "category_id": label}
            if iou_type == "boxes":
                x1, y1, x2, y2 = image["boxes"][i].double().tolist()
                row |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            else:
                mask = np.asfortranarray(image["masks"][i].numpy().astype(np.uint8))
                row |= {"segmentation": run_lengths.encode(mask), "area": int(mask.sum())}
            if "scores" in image:
                row["score"] = image["scores"][i].item()
            else:
                row["iscrowd"] = int(image["iscrowd"][i])
            rows.append(row)
    return rows


if __name__ == "__main__":
    print("\n".join(measure_detection()))
