"""The exercises of 04_semantic_segmentation."""

import math
from collections.abc import Callable, Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from course_utils.core import VOID
from course_utils.data.scenes import Scenes, make_scenes
from course_utils.exercises.checking import Case, Verdict, attempt, check
from course_utils.exercises.predictions import Answer, compare
from course_utils.metrics.semantic import confusion_matrix, mean_iou

LABELS = torch.tensor([[0, 0, 0, 1], [0, 1, 1, 1], [2, 2, 1, 1]])
PREDICTED = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [2, 0, 1, 0]])
WITH_VOID = torch.tensor([[0, VOID, VOID, 1], [0, 1, VOID, 1], [2, 2, 1, VOID]])
Layers = Sequence[tuple[int, int]]


def _class_iou(predicted: Tensor, labels: Tensor, number: int) -> float:
    counts = labels != VOID
    called, true = (predicted == number) & counts, (labels == number) & counts
    union = int((called | true).sum())
    return int((called & true).sum()) / union if union else 0.0


def check_class_iou(student: Callable) -> Verdict:
    """Check `student(predicted [h, w], labels [h, w], number) -> IoU` of one class, void ignored."""
    cases = [
        Case(
            "class 0, no void",
            (PREDICTED, LABELS, 0),
            "Divide the number of pixels that have the class in both maps by the number in at least one.",
        ),
        Case(
            "class 1, no void",
            (PREDICTED, LABELS, 1),
            "Use the argument `number`, not class 0.",
        ),
        Case(
            "class 1, with void",
            (PREDICTED, WITH_VOID, 1),
            "A void pixel counts neither in the intersection nor in the union, whatever was predicted there.",
        ),
        Case(
            "class 2, with void",
            (PREDICTED, WITH_VOID, 2),
            "The union holds the pixels of the class in the prediction and those in the labels.",
        ),
        Case(
            "a class that is never predicted",
            (PREDICTED.where(PREDICTED != 2, 1), LABELS, 2),
            "Its pixels are still in the union: the IoU is 0.",
        ),
        Case(
            "a map in which every pixel is void",
            (PREDICTED, torch.full_like(LABELS, VOID), 0),
            "No pixel counts, so the union is empty and the IoU is defined as 0 here.",
        ),
        Case(
            "a class that occurs in neither map",
            (PREDICTED, LABELS, 7),
            "The union is empty, and the IoU is defined as 0 here: avoid the division by zero.",
        ),
    ]
    return check(student, _class_iou, cases)


def _field_of_stack(layers: Layers) -> int:
    strides = [math.prod(stride for _, stride in layers[:k]) for k in range(len(layers))]
    return 1 + sum((kernel - 1) * before for (kernel, _), before in zip(layers, strides))


def check_field_of_stack(student: Callable) -> Verdict:
    """Check `student(layers: list of (kernel, stride)) -> receptive field` in input pixels."""
    cases = [
        Case(
            "five 3 x 3 layers with stride 1",
            ([(3, 1)] * 5,),
            "With stride 1, L layers of 3 x 3 have a receptive field of 1 + 2L.",
        ),
        Case(
            "a 7 x 7 and a 1 x 1 layer",
            ([(7, 1), (1, 1)],),
            "With stride 1, a layer with kernel size k adds k - 1 pixels, so a 1 x 1 layer adds none.",
        ),
        Case(
            "three 3 x 3 layers with stride 2",
            ([(3, 2)] * 3,),
            "1 + 2 + 4 + 8: each stride of 2 doubles the distance, in input pixels, between neighbours.",
        ),
        Case(
            "two 3 x 3 layers, the second with stride 2",
            ([(3, 1), (3, 2)],),
            "The stride of a layer affects only the layers after it.",
        ),
        Case(
            "the first layers of a ResNet (7 x 7 with stride 2, 3 x 3 pooling with stride 2, two 3 x 3)",
            ([(7, 2), (3, 2), (3, 1), (3, 1)],),
            "A layer adds k - 1, multiplied by the strides of all layers before it.",
        ),
        Case(
            "a 4 x 4 layer with stride 3, a 1 x 1 layer with stride 2, and a 5 x 5 layer",
            ([(4, 3), (1, 2), (5, 1)],),
            "1 + 3 + 0 + 4 * 6: a layer adds (k - 1) times the product of the strides of all earlier layers.",
        ),
        Case(
            "an empty list of layers",
            ([],),
            "Without layers an output pixel is an input pixel: the receptive field is 1.",
        ),
    ]
    return check(student, _field_of_stack, cases)


def _loss_of_picture(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits[None], labels[None], ignore_index=VOID)


def check_loss_of_picture(student: Callable) -> Verdict:
    """Check `student(logits [c, h, w], labels [h, w]) -> loss`: mean cross-entropy, void ignored, by hand."""
    cat = torch.tensor([[0.8, 0.5], [0.9, 0.3]])
    small = torch.stack([cat, 1 - cat]).log()
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4, 3, 5, generator=generator)
    labels = torch.randint(0, 4, (3, 5), generator=generator)
    with_void = labels.clone()
    with_void[0], with_void[2, 1] = VOID, VOID
    cases = [
        Case(
            "four pixels, none of them void",
            (small, torch.tensor([[0, 1], [1, 0]])),
            "The loss of a pixel is minus the logarithm of the probability of its true class; take the mean.",
        ),
        Case(
            "the four pixels of section 4",
            (small, torch.tensor([[0, 1], [1, VOID]])),
            "The void pixel adds nothing, and the mean is over the other three pixels.",
        ),
        Case(
            "four classes, 3 x 5 pixels",
            (logits, labels),
            "The softmax runs over the classes (dim 0).",
        ),
        Case(
            "the same with six void pixels",
            (logits, with_void),
            "Divide by the 9 pixels that are not void.",
        ),
        Case(
            "logits of 1000 and 990",
            (torch.tensor([[[1000.0]], [[990.0]]]), torch.tensor([[1]])),
            "exp(1000) overflows: `logsumexp` and `log_softmax` subtract the largest logit first.",
        ),
        Case(
            "logits of -1000 and -960",
            (torch.tensor([[[-1000.0, 0.0]], [[-960.0, 0.0]]]), torch.tensor([[0, VOID]])),
            "exp(-1000) is 0, and its logarithm minus infinity: use `logsumexp` or `log_softmax`.",
        ),
    ]
    return check(student, _loss_of_picture, cases, forbidden=(F.cross_entropy,))


CAUSES = (
    Answer(
        "the cause of map A",
        3,
        "Lay the map over the truth: shapes and classes are right, but are they in the right place?",
    ),
    Answer(
        "the cause of map B",
        1,
        "Where are the wrong classes: inside the objects, or along the outlines of all of them?",
    ),
    Answer(
        "the cause of map C",
        4,
        "Every region has the right shape. Which class number does each of them have instead of its own?",
    ),
    Answer("the cause of map D", 2, "How large is the smallest detail of this map, in pixels?"),
)


def faulty_maps(semantic: Tensor) -> dict[str, Tensor]:
    """A label map [h, w] as four programs with one error each would return it, by their letters."""
    height, width = semantic.shape
    padded = F.pad(semantic[None].float(), (8, 0, 8, 0), mode="replicate")[0].long()
    small = semantic[None, None, 2::4, 2::4].float()
    resized = F.interpolate(small, size=(height, width), mode="bilinear")[0, 0]
    blocks = semantic[4::8, 4::8].repeat_interleave(8, 0).repeat_interleave(8, 1)
    return {
        "A": padded[:height, :width],
        "B": resized.round().long(),
        "C": (semantic - 1).clamp(min=0),
        "D": blocks[:height, :width],
    }


def check_causes(student: Callable) -> Verdict:
    """Check `student() -> four numbers`: the cause of each of the four label maps of `faulty_maps`."""
    return compare(student, CAUSES, tolerance=0.0)


GOAL = 0.5  # mean IoU; the network of the notebook has 0.43
REACH = 5  # pixels on each side of the middle of a receptive field of 11 x 11


@cache
def _new_scenes() -> Scenes:
    """Scenes that the notebook does not use."""
    return make_scenes(range(20), seed=7, size=(48, 48))


def check_pixel_scores(student: Callable) -> Verdict:
    """Check `student(images [b, 3, 48, 48]) -> scores [b, 9, 48, 48]`: their mean IoU on new scenes.

    What lies outside of a window of 11 x 11 pixels must not change the scores in its middle.
    """
    scenes, classes = _new_scenes(), 9
    elsewhere = scenes.images.flip(0)  # other scenes, but for the window around one pixel
    row, column = 20, 29
    window = (..., slice(row - REACH, row + REACH + 1), slice(column - REACH, column + REACH + 1))
    elsewhere[window] = scenes.images[window]
    both = scenes.images, elsewhere
    hint = "Images [20, 3, 48, 48] come in, with values from 0 to 1, and scores go out."
    with torch.no_grad():
        got = attempt(
            lambda: [torch.as_tensor(student(images.clone())) for images in both], "20 scenes", hint
        )
    if isinstance(got, Verdict):
        return got
    scores, again = got
    expected = [len(scenes.images), classes, 48, 48]
    if list(scores.shape) != expected or not scores.isfinite().all():
        got = f"got shape {list(scores.shape)}"
        hint = "Return one finite score for each class at each pixel, not yet the class numbers."
        return Verdict(False, f"Not yet: expected finite scores {expected}, {got}. Hint: {hint}")
    if not torch.allclose(scores[..., row, column], again[..., row, column], rtol=1e-5, atol=1e-5):
        hint = "Five layers of 3 x 3 see 11 x 11 pixels; more layers, or a mean over the image, see more."
        return Verdict(
            False,
            "Not yet: the scores of a pixel should not depend on what is more than 5 pixels away, but yours "
            f"do. Hint: {hint}",
        )
    value = float(mean_iou(confusion_matrix(scores.argmax(dim=1), scenes.semantic, classes)))
    if not value > GOAL:
        return Verdict(
            False,
            f"Not yet: the mean IoU on 20 new scenes should be above {GOAL}, got {value:.2f}. Hint: train "
            "for longer, or with more channels. Or which of these classes have colours of their own?",
        )
    return Verdict(True, f"Passed: mean IoU {value:.2f} on 20 new scenes; the goal was {GOAL}.")
