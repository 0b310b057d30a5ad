"""`python -m course_utils.predict`: what a network finds in your picture, drawn and as COCO's results."""

import argparse
import json
from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from course_utils.core import data_path
from course_utils.data.image_files import read_image
from course_utils.data.rle import encode_rle
from course_utils.data.weights import read_card, write_file
from course_utils.models.published import movenet, nanodet, selfie
from course_utils.models.rcnn import FasterRCNN
from course_utils.show import (
    class_color,
    instance_color,
    plot_boxes,
    plot_image,
    plot_masks,
    plot_poses,
)
from course_utils.show.figures import separate_tags
from course_utils.training.instances import predict
from course_utils.training.recipes import RECIPES, load_checkpoint

DESCRIPTION = """\
Find the objects in a picture of yours, without a network connection, and draw them.

networks:
  persons           boxes of COCO's 80 classes; for each person also a mask and the pose (the default)
  nanodet           boxes of COCO's 80 classes only
  mask_rcnn         the course's own Mask R-CNN, which knows the generated scenes
  NAME.safetensors  a detector that you trained with `python -m course_utils.training`
"""
LARGEST = 1600  # pixels: the longer side of a picture on which the networks work and which is drawn
SMALLEST = 640  # a smaller picture is enlarged before it is drawn, so that labels do not hide it
SURE = 0.3  # a joint's score above which it is drawn
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
COCO_NAMES = FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]  # by COCO's own numbers


class Found(NamedTuple):
    """What a network found; persons come first, and only the first rows may have a mask or a pose."""

    boxes: Float[Tensor, "n 4"]
    labels: Int64[Tensor, " n"]
    scores: Float[Tensor, " n"]
    class_names: Sequence[str]
    masks: Bool[Tensor, "k h w"]
    poses: Float[Tensor, "p 17 3"]

    @property
    def names(self) -> list[str]:
        """The name of each object's class."""
        return [self.class_names[label] for label in self.labels.tolist()]


def find(image: Float[Tensor, "3 h w"], network: str = "persons") -> Found:
    """What a network finds in a picture, in the picture's pixels.

    Args:
        image: RGB in 0..1.
        network: "persons", "nanodet", or a detector as in `load_checkpoint`.
    """
    nothing = {"masks": torch.zeros(0, *image.shape[1:], dtype=torch.bool)}
    nothing |= {"poses": torch.zeros(0, 17, 3)}
    if network not in ("persons", "nanodet"):
        model, card = _load_detector(network)
        (found,) = predict(model, [image], card["recipe"]["size"])
        return Found(**(nothing | found), class_names=card["class_names"])
    found = nanodet.load().detect(image)
    if network == "nanodet":
        return Found(**(nothing | found), class_names=nanodet.CLASSES)
    person = found["labels"] == nanodet.CLASSES.index("person")
    first = (~person).int().argsort(stable=True)
    boxes, labels, scores = (found[name][first] for name in ("boxes", "labels", "scores"))
    persons = boxes[: person.sum()]
    masks = selfie.load().mask(image, persons) > 0.5
    poses = movenet.load().pose(image, persons)
    return Found(boxes, labels, scores, nanodet.CLASSES, masks, poses)


def _load_detector(network: str) -> tuple[FasterRCNN, dict[str, Any]]:
    """A detector of the course or a student's own, and its card."""
    trained = network.endswith(".safetensors")
    if not trained and network not in RECIPES:
        raise ValueError(
            f"--network: expected persons, nanodet, mask_rcnn or a file NAME.safetensors, got {network!r}"
        )
    path = Path(network) if trained else data_path("checkpoints", f"{network}.safetensors")
    model, card = load_checkpoint(path), read_card(path)
    if not isinstance(model, FasterRCNN):
        raise ValueError(f"--network: expected a detector, got a {card['recipe']['name']}")
    return model, card


def describe(found: Found) -> Iterator[str]:
    """One line for each object: its class, its score and where it is."""
    for name, score, box, pose in zip_longest(
        found.names, found.scores.tolist(), found.boxes.tolist(), found.poses
    ):
        x1, y1, x2, y2 = (round(number) for number in box)
        joints = "" if pose is None else f", {int((pose[:, 2] >= SURE).sum())} of 17 joints"
        yield f"{name} {score:.2f}: x {x1} to {x2}, y {y1} to {y2}{joints}"


def draw(image: Float[Tensor, "3 h w"], found: Found, kind: str = "PNG") -> bytes:
    """The picture with everything that was found, as the content of an image file.

    Args:
        image: RGB in 0..1.
        found: in the picture's pixels.
        kind: "PNG" or "JPEG".
    """
    height, width = image.shape[1:]
    enlarge = max(1, -(-SMALLEST // max(height, width)))
    dpi = (
        enlarge * max(height, width) // 9
    )  # so text and lines have the same share of every picture
    size = [
        (enlarge * pixels + 1e-3) / dpi for pixels in (width, height)
    ]  # inches, not rounded down
    figure = Figure(size, dpi=dpi, layout="none")
    ax = plot_image(image, ax=figure.add_axes((0, 0, 1, 1)))
    known = max(len(found.masks), len(found.poses))  # objects of which more than the box is known
    own = [instance_color(k + 4) for k in range(known)]  # the first two are those of the poses
    plot_masks(found.masks, ax=ax, colors=own, alpha=0.35)
    classes = found.labels.unique(return_inverse=True)[
        1
    ].tolist()  # numbered 0, 1, ... as they occur
    others = "white" if known else [class_color(k + 1) for k in classes]
    for rows, colors, linewidth in (
        (slice(known), own, 2),
        (slice(known, None), others, 1 if known else 2),
    ):
        texts = {"labels": found.names[rows], "scores": found.scores[rows]}
        plot_boxes(found.boxes[rows], ax=ax, colors=colors, linewidth=linewidth, **texts)
    plot_poses(found.poses, ax=ax, score_threshold=SURE, linewidth=2)
    separate_tags(figure)
    content = BytesIO()
    figure.savefig(
        content, format=kind, dpi=dpi, pil_kwargs={"quality": 90} if kind == "JPEG" else {}
    )
    return content.getvalue()


def coco_results(found: Found, size: tuple[int, int], image_id: int) -> list[dict[str, Any]]:
    """The objects in COCO's results format, as `COCO.loadRes` of pycocotools reads them.

    Args:
        found: in a picture that may be a smaller copy.
        size: (height, width) of the original picture.
        image_id: of the picture.

    Returns:
        "bbox" is x, y, width, height; "segmentation" a run-length encoding; "keypoints" x, y, v of 17 joints,
        where v is 2 for a score of at least 0.3, and otherwise 1. COCO's classes have COCO's own ids.

    Source: https://cocodataset.org/#format-results.
    """
    results = []
    scale = torch.tensor(size).flip(0) / torch.tensor(found.masks.shape[1:]).flip(0)  # x, y
    boxes = found.boxes * scale.repeat(2)
    for k, (name, (x1, y1, x2, y2)) in enumerate(zip(found.names, boxes.tolist())):
        label = found.labels[k].item()
        entry = {
            "image_id": image_id,
            "category_id": COCO_NAMES.index(name)
            if found.class_names is nanodet.CLASSES
            else label,
            "category_name": name,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": found.scores[k].item(),
        }
        if k < len(found.masks):
            mask = F.interpolate(found.masks[k, None, None].byte(), size, mode="nearest-exact")
            entry["segmentation"] = {"size": list(size), "counts": encode_rle(mask[0, 0].bool())}
        if k < len(found.poses):
            x, y, score = (found.poses[k] * torch.cat([scale, scale.new_ones(1)])).T
            joints = torch.stack([x, y, 1.0 + (score >= SURE)], dim=1)
            entry["keypoints"] = joints.flatten().tolist()
        results.append(entry)
    return results


def read_picture(path: Path) -> tuple[Float[Tensor, "3 h w"], tuple[int, int]]:
    """A picture as you see it, made smaller if it is very large; and its own (height, width)."""
    image = read_image(path, upright=True)
    size = image.shape[1], image.shape[2]
    if max(size) > LARGEST:
        height, width = (max(1, round(n * LARGEST / max(size))) for n in size)
        image = F.interpolate(image[None], (height, width), mode="bilinear", antialias=True)[0]
    return image, size


def check_target(photo: Path, out: Path) -> None:
    """Raise for a drawing that cannot be written, or that would replace the picture."""
    if out.suffix.lower() not in FORMATS:
        raise ValueError(f"--out: expected a name that ends in {', '.join(FORMATS)}, got {out}")
    if out.is_dir():
        raise ValueError(f"--out: expected the name of a file, but {out} is a folder")
    if out.exists() and photo.exists() and out.samefile(photo):
        raise ValueError(f"--out: {out} is the picture itself, which is not overwritten")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m course_utils.predict",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("photo", type=Path, help="an image file: JPEG, PNG, TIFF, BMP, WebP or PPM")
    add("--out", type=Path, required=True, metavar="DRAWN.png", help="the drawing to write")
    add("--network", default="persons", help="see above")
    add("--json", action="store_true", help="also print COCO's results, on the last line, as JSON")
    options = parser.parse_args(arguments)
    try:
        check_target(options.photo, options.out)
        image, size = read_picture(options.photo)
        found = find(image, options.network)
        drawn = draw(image, found, FORMATS[options.out.suffix.lower()])
        write_file(options.out, drawn)
    except (ValueError, OSError) as error:
        parser.error(str(error).removeprefix("folder: "))
    print("\n".join(describe(found)) or "nothing found")
    if options.json:
        number = int(options.photo.stem) if options.photo.stem.isdecimal() else 1
        print(json.dumps(coco_results(found, size, number)))


if __name__ == "__main__":
    main()
