"""The exercises of 01_rcnn_training_targets."""

from collections.abc import Callable
from math import log

import torch
from torch import Tensor

from course_utils.data.photos import photo
from course_utils.exercises.checking import Case, Verdict, attempt, check
from course_utils.ops.anchors import grid_anchors
from course_utils.ops.assignment import class_targets, match_boxes
from course_utils.ops.box_coding import encode_boxes
from course_utils.ops.boxes import box_iou

LEFT, RIGHT = torch.tensor([0.0, 0.0, 4.0, 4.0]), torch.tensor([2.0, 1.0, 6.0, 5.0])
STRIDE, MOST_SHAPES, ENOUGH_OBJECTS = 16, 9, 12  # the paper's stride, and its number of anchors
WIDE, TALL = torch.tensor([13.0, 7.0, 33.0, 15.0]), torch.tensor([21.0, 4.0, 27.0, 34.0])


def _iou(box1: Tensor, box2: Tensor) -> Tensor:
    return box_iou(box1[None], box2[None])[0, 0]


def check_iou(student: Callable) -> Verdict:
    """Check `student(box1 [4], box2 [4]) -> IoU`: intersection over union of two boxes."""
    apart = torch.tensor([7.0, 6.0, 9.0, 9.0])
    cases = [
        Case("two equal boxes", (LEFT, LEFT), "Intersection and union are the same: the IoU is 1."),
        Case(
            "two overlapping boxes",
            (LEFT, RIGHT),
            "The union counts the intersection once: subtract it from the sum of the two areas.",
        ),
        Case(
            "a box inside another",
            (LEFT, torch.tensor([1.0, 1.0, 2.0, 3.0])),
            "The intersection is the smaller box.",
        ),
        Case(
            "two boxes apart in x",
            (LEFT, torch.tensor([7.0, 1.0, 9.0, 3.0])),
            "The intersection would have a negative width: clamp the width at 0.",
        ),
        Case(
            "two boxes apart in y",
            (LEFT, torch.tensor([1.0, 7.0, 3.0, 9.0])),
            "The intersection would have a negative height: clamp the height at 0.",
        ),
        Case(
            "two boxes apart in x and in y",
            (LEFT, apart),
            "A negative width times a negative height is positive: clamp both at 0 before you multiply.",
        ),
        Case(
            "two boxes that touch",
            (LEFT, torch.tensor([4.0, 0.0, 6.0, 4.0])),
            "Boxes that only touch have no area in common: the IoU is 0.",
        ),
        Case(
            "a wide and a tall box, both away from the origin",
            (WIDE, TALL),
            "Width is x2 - x1 and height is y2 - y1, for both boxes and for their intersection.",
        ),
        Case(
            "the same boxes in the other order",
            (TALL, WIDE),
            "The IoU does not depend on the order of the boxes.",
        ),
    ]
    return check(student, _iou, cases)


def _box_target(proposal: Tensor, truth: Tensor) -> Tensor:
    return encode_boxes(truth[None], proposal[None])[0]


def check_box_target(student: Callable) -> Verdict:
    """Check `student(proposal [4], truth [4]) -> target [4]`: tx, ty, tw, th."""
    cases = [
        Case(
            "a proposal that equals its ground-truth box",
            (LEFT, LEFT),
            "There is nothing to correct, and log 1 = 0: all four numbers are 0.",
        ),
        Case(
            "a shift by half the width",
            (LEFT, LEFT + torch.tensor([2.0, 0.0, 2.0, 0.0])),
            "The shift is measured in widths of the proposal: tx = 0.5.",
        ),
        Case(
            "a ground-truth box that is twice as wide",
            (LEFT, torch.tensor([-2.0, 0.0, 6.0, 4.0])),
            "The centres are the same, so only tw = log 2 = 0.6931 is not 0.",
        ),
        Case(
            "a wide proposal and a tall ground-truth box",
            (torch.tensor([10.0, 10.0, 30.0, 14.0]), torch.tensor([12.0, 4.0, 20.0, 24.0])),
            "Divide the shift in x by the proposal's width and the shift in y by its height, and measure the "
            "shifts between the centres, not between the corners.",
        ),
    ]
    return check(student, _box_target, cases)


def _training_targets(proposals: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    matches = match_boxes(box_iou(boxes, proposals), 0.5, 0.3)
    positive = matches >= 0
    targets = torch.zeros(len(proposals), 4)
    targets[positive] = encode_boxes(boxes[matches[positive]], proposals[positive])
    return class_targets(matches, labels), targets


def check_training_targets(student: Callable) -> Verdict:
    """Check `student(proposals [n, 4], boxes [m, 4], labels [m]) -> (classes [n], box targets [n, 4])`.

    The thresholds are 0.5 and 0.3; neutral proposals get class -1, and only positive ones a box target.
    """
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 40.0, 10.0]])
    labels = torch.tensor([3, 1])
    edges = torch.tensor(
        [[20.0, 0.0, 30.0, 10.0], [20.0, 0.0, 26.0, 10.0], [20.0, 0.0, 24.0, 10.0]]
    )
    good = torch.tensor([[1.0, 0.0, 11.0, 10.0], [22.0, 1.0, 40.0, 11.0]])
    mixed = torch.tensor(
        [[50.0, 50.0, 60.0, 60.0], [20.0, 0.0, 28.0, 10.0], [0.0, 0.0, 10.0, 12.0]]
    )
    crowd = torch.tensor(
        [
            [2.0, 3.0, 22.0, 13.0],
            [6.0, 3.0, 26.0, 13.0],
            [7.0, 6.0, 25.0, 12.0],
            [70.0, 8.0, 80.0, 40.0],
        ]
    )
    crowded = torch.tensor(
        [
            [5.0, 3.0, 25.0, 13.0],
            [3.0, 3.0, 23.0, 13.0],
            [15.0, 3.0, 35.0, 13.0],
            [0.0, 3.0, 11.0, 13.0],
        ]
    )
    cases = [
        Case(
            "two positive proposals",
            (good, boxes, labels),
            "Each proposal gets the class and the box of the object with which it has the largest IoU.",
        ),
        Case(
            "the same proposals with the objects in another order",
            (good, boxes.flip(0), labels.flip(0)),
            "Look up the label with the index of the matched object.",
        ),
        Case(
            "a negative, a neutral and a positive proposal",
            (mixed, boxes, labels),
            "Only the positive proposal has a box target; the other rows are 0.",
        ),
        Case(
            "IoUs of 0.5, 0.3 and 0.2",
            (edges, boxes, labels),
            "Positive means IoU >= 0.5, negative means IoU < 0.3.",
        ),
        Case(
            "proposals that overlap three objects",
            (crowded, crowd, torch.tensor([2, 5, 4, 1])),
            "The largest IoU decides, not the first object and not the sum of the IoUs.",
        ),
        Case(
            "the same with the objects in the opposite order",
            (crowded, crowd.flip(0), torch.tensor([1, 4, 5, 2])),
            "The largest IoU decides, not the first object and not the sum of the IoUs.",
        ),
        Case(
            "an image without objects",
            (good, boxes[:0], labels[:0]),
            "Every proposal is background: class 0, and a box target of zeros.",
        ),
    ]
    return check(student, _training_targets, cases)


def _first_losses(object_classes: int) -> tuple[float, float]:
    return log(2), log(object_classes + 1)


def check_first_losses(student: Callable) -> Verdict:
    """Check `student(object_classes) -> (RPN classification loss, object classification loss)`.

    All scores are zero.
    """
    hints = {
        4: "Each of n equally likely classes has probability 1 / n, and its cross-entropy is log n "
        "(natural logarithm).",
        20: "The second stage has one class more than there are classes of objects: background. The RPN "
        "always has two.",
        1: "Even a detector of faces only has two classes: face and background.",
        80: "COCO has 80 classes of objects.",
    }
    cases = [
        Case(f"{count} {'class' if count == 1 else 'classes'} of objects", (count,), hint)
        for count, hint in hints.items()
    ]
    return check(student, _first_losses, cases)


def _objects_with_an_anchor(pairs: list) -> int:
    """How many objects of the two photos overlap an anchor of one of these shapes with an IoU of 0.7."""
    sizes = [float(size) for size, _ in pairs]
    ratios = [float(ratio) for _, ratio in pairs]
    objects = 0
    for name in ("astronaut", "crowd"):
        sample = photo(name).sample
        cells = tuple(-(-side // STRIDE) for side in sample.image.shape[1:])
        anchors = [
            grid_anchors(cells, STRIDE, [s], [r]) for s, r in zip(sizes, ratios, strict=True)
        ]
        objects += int((box_iou(sample.boxes, torch.cat(anchors)).amax(dim=1) >= 0.7).sum())
    return objects


def check_anchor_shapes(student: Callable) -> Verdict:
    """Check `student(boxes [23, 4]) -> pairs (size, aspect ratio)`: at most nine anchors at stride 16.

    They are measured by the number of objects in the photos of the astronaut and of the lunch table that
    have an anchor with an IoU of at least 0.7. The nine anchors of the notebook reach 7 of 23, and a
    search over 1200 pairs, one pair at a time, reaches 19.
    """
    boxes = torch.cat([photo(name).sample.boxes for name in ("astronaut", "crowd")])
    answer = attempt(lambda: student(boxes.clone()), "23 boxes", "[(128, 0.5), ...]")
    if isinstance(answer, Verdict):
        return answer
    try:
        pairs = list(answer)
        sized = [pair for pair in pairs if len(pair) == 2 and min(map(float, pair)) > 0]
    except (TypeError, ValueError) as error:
        return Verdict(
            False, f"Not yet: expected a list of pairs. {error}. Hint: [(128, 0.5), ...]"
        )
    if not pairs or len(pairs) > MOST_SHAPES or len(sized) < len(pairs):
        return Verdict(
            False,
            f"Not yet: expected 1 to {MOST_SHAPES} pairs (size, aspect ratio), both above zero, got "
            f"{len(pairs)}, {len(sized)} of them above zero. Hint: three sizes and three ratios are nine.",
        )
    reached = _objects_with_an_anchor(pairs)
    if reached < ENOUGH_OBJECTS:
        return Verdict(
            False,
            f"Not yet: {reached} of {len(boxes)} objects have a positive anchor, expected at least "
            f"{ENOUGH_OBJECTS}. Hint: the aspect ratio is height over width; look at the objects' own.",
        )
    return Verdict(True, f"Passed: {reached} of {len(boxes)} objects have a positive anchor.")
