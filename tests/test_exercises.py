"""Every check passes a right solution, says when nothing was attempted, and rejects each known mistake."""

import importlib
import itertools
import math
import pkgutil

import pytest
import torch

import course_utils.exercises
from course_utils.exercises import (
    checking,
    fcn,
    mask_rcnn,
    overview,
    panoptic,
    rcnn_training_targets,
    roi_align,
    semantic_segmentation,
    transposed_convolution,
    unet,
    upsampling,
)
from course_utils.exercises.checking import Case, check
from course_utils.ops.box_coding import encode_boxes_loops
from course_utils.ops.boxes import box_iou_loops
from course_utils.ops.losses import cross_entropy_loops
from course_utils.ops.masks import masks_to_boxes_loops

MODULES = [
    importlib.import_module(f"course_utils.exercises.{module.name}")
    for module in pkgutil.iter_modules(course_utils.exercises.__path__)
    if module.name != "checking"
]
CHECKS = [check for module in MODULES for check in module.WRONG_SOLUTIONS]


def targets_one_by_one(proposals, boxes, labels):
    classes, targets = (
        torch.zeros(len(proposals), dtype=torch.int64),
        torch.zeros(len(proposals), 4),
    )
    for j, proposal in enumerate(proposals):
        overlaps = [box_iou_loops(box[None], proposal[None]).item() for box in boxes]
        best = max(overlaps, default=0)
        if best >= 0.5:
            classes[j] = labels[overlaps.index(best)]
            targets[j] = encode_boxes_loops(boxes[overlaps.index(best)][None], proposal[None])[0]
        elif best >= 0.3:
            classes[j] = -1
    return classes, targets


def transposed_by_copies(image, kernel, stride, padding):
    (height, width), (tall, broad) = image.shape, kernel.shape
    output = torch.zeros((height - 1) * stride + tall, (width - 1) * stride + broad)
    for i in range(height):
        for j in range(width):
            rows = slice(i * stride, i * stride + tall)
            output[rows, j * stride : j * stride + broad] += image[i, j] * kernel
    return output[padding : len(output) - padding, padding : output.shape[1] - padding]


def linear_rows(inputs, outputs):
    matrix = torch.zeros(outputs, inputs)
    for i in range(outputs):
        position = min(max((i + 0.5) * inputs / outputs - 0.5, 0.0), inputs - 1.0)
        left = min(int(position), inputs - 1)
        matrix[i, left] += 1 - (position - left)
        matrix[i, min(left + 1, inputs - 1)] += position - left
    return matrix


def one_value_at_a_time(values, places, size):
    larger = torch.zeros(size)
    for value, place in zip(values.flatten(), places.flatten().tolist(), strict=True):
        larger[place // size[1], place % size[1]] = value
    return larger


def align_by_points(features, part):
    """RoIAlign of one part by the lecture's formula, point after point."""
    return (gradient_by_points(part, *features.shape) * features).sum()


def gradient_by_points(part, height, width):
    x1, y1, x2, y2 = part.tolist()
    gradient = torch.zeros(height, width)
    for quarter_x, quarter_y in itertools.product((0.25, 0.75), repeat=2):
        x, y = x1 + quarter_x * (x2 - x1) - 0.5, y1 + quarter_y * (y2 - y1) - 0.5
        for i, j in itertools.product(range(height), range(width)):
            gradient[i, j] += max(0, 1 - abs(x - j)) * max(0, 1 - abs(y - i)) / 4
    return gradient


def doubled_by_weights(coarse, finer):
    rows, columns = (linear_rows(size, 2 * size) for size in coarse.shape[1:])
    doubled = rows @ coarse @ columns.T
    return finer + doubled[:, : finer.shape[1], : finer.shape[2]]


def colour_by_colour(picture, colours):
    table = {tuple(colour): number for number, colour in enumerate(colours.tolist())}
    return torch.tensor(
        [[table.get(tuple(colour), 255) for colour in row] for row in picture.tolist()]
    )


def pixel_by_pixel_near_borders(predicted, labels, distance):
    mistakes = []
    for i, j in itertools.product(*map(range, labels.shape)):
        rows = slice(max(0, i - distance), i + distance + 1)
        around = labels[rows, max(0, j - distance) : j + distance + 1]
        if (around != labels[i, j]).any():
            mistakes.append(bool(predicted[i, j] != labels[i, j]))
    return sum(mistakes) / max(1, len(mistakes))


def loss_pixel_by_pixel(logits, labels):
    total, counted = 0.0, 0
    for i, j in itertools.product(*map(range, labels.shape)):
        if labels[i, j] != 255:
            total -= float(logits[:, i, j].double().log_softmax(dim=0)[labels[i, j]])
            counted += 1
    return total / counted


def field_of_zeros_and_ones(layers):
    """The input pixels that the first output depends on, found layer by layer from the top."""
    seen = {0}
    for kernel, step in reversed(layers):
        seen = {step * place + k for place in seen for k in range(kernel)}
    return max(seen) - min(seen) + 1


def count_with_shapes(channels, size):
    def count(height, width):
        x, total = torch.zeros(1, channels[0], height, width), 0
        for inputs, outputs in itertools.pairwise(channels):
            layer = torch.nn.Conv2d(inputs, outputs, 3)
            x = layer(x)
            total += x[0, 0].numel() * layer.weight.numel()
        return total

    border = 2 * len(channels) - 2
    patches = size[0] * size[1] * count(1 + border, 1 + border)
    return patches, count(size[0] + border, size[1] + border)


def iou_pixel_by_pixel(predicted, labels, number):
    pairs = [pair for pair in zip(predicted.flatten(), labels.flatten()) if pair[1] != 255]
    either = sum(number in pair for pair in pairs)
    return sum(a == b == number for a, b in pairs) / either if either else 0


def islands_by_painting(foreground, smallest):
    """Give every pixel its own number; let the larger number of two neighbours win until nothing changes."""
    numbers = foreground * torch.arange(1, foreground.numel() + 1).reshape(foreground.shape)
    before = None
    while before is None or not torch.equal(numbers, before):
        before, wide = numbers, torch.nn.functional.pad(numbers, (1, 1, 1, 1))
        shifted = [wide[1:-1, 2:], wide[1:-1, :-2], wide[2:, 1:-1], wide[:-2, 1:-1], numbers]
        numbers = foreground * torch.stack(shifted).amax(dim=0)
    return sum(bool((numbers == n).sum() >= smallest) for n in numbers[foreground].unique())


def segment_numbers_by_bytes(pixels):
    return torch.tensor(
        [[int.from_bytes(bytes(colour), "little") for colour in row] for row in pixels.tolist()]
    )


def object_added_pixel_by_pixel(panoptic, mask, label, most_taken):
    canvas, pixels = panoptic.tolist(), mask.nonzero().tolist()
    free = [(i, j) for i, j in pixels if canvas[i][j] == 0]
    if pixels and 1 - len(free) / len(pixels) <= most_taken + 1e-9:
        earlier = {code for row in canvas for code in row if code // 1000 == label}
        for i, j in free:
            canvas[i][j] = 1000 * label + len(earlier) + 1
    return torch.tensor(canvas)


def class_counted_by_sets(predicted, truth, label):
    def segments(panoptic):
        places = {}
        for place, code in enumerate(panoptic.flatten().tolist()):
            places.setdefault(code, set()).add(place)
        return places

    mine, its = segments(predicted), segments(truth)
    void = its.pop(0, set())
    mine, its = ([p for c, p in s.items() if c // 1000 == label] for s in (mine, its))
    ious = [len(a & b) / len((a | b) - (void & a)) for a in mine for b in its]
    pairs = [iou for iou in ious if iou > 0.5]
    alone = [a for a in mine if not any(2 * len(a & b) > len((a | b) - (void & a)) for b in its)]
    extra = sum(2 * len(a & void) <= len(a) for a in alone)
    return sum(pairs), len(pairs), extra, len(its) - len(pairs)


def iou_of_pixel_sets(one, other):
    first, second = ({tuple(pixel) for pixel in mask.nonzero().tolist()} for mask in (one, other))
    return len(first & second) / max(len(first | second), 1)


def target_cell_by_cell(mask, box, bins):
    x1, y1, x2, y2 = (int(edge) for edge in box)
    down, along = (y2 - y1) // bins, (x2 - x1) // bins
    target = torch.zeros(bins, bins)
    for i, j in itertools.product(range(bins), repeat=2):
        top, left = y1 + i * down, x1 + j * along
        target[i, j] = mask[top : top + down, left : left + along].float().mean()
    return target


def mask_loss_cell_by_cell(logits, labels, targets):
    total = 0.0
    for maps, label, target in zip(logits.double(), labels.tolist(), targets.double()):
        for logit, share in zip(maps[label - 1].flatten().tolist(), target.flatten().tolist()):
            total += max(logit, 0) - logit * share + math.log1p(math.exp(-abs(logit)))
    return total / max(targets.numel(), 1)


def area_by_lists(scores, correct, ground_truths):
    pairs = sorted(zip(scores.tolist(), correct.tolist()), reverse=True)
    hits = list(itertools.accumulate(int(right) for _, right in pairs))
    points = [(hit * 100, hit / place) for place, hit in enumerate(hits, start=1)]
    heights = [
        max(
            (precision for found, precision in points if found >= percent * ground_truths),
            default=0,
        )
        for percent in range(101)
    ]
    return sum(heights) / 101


RIGHT = {
    overview.check_instance_boxes: lambda instances: torch.cat(
        [masks_to_boxes_loops(instances[None] == n) for n in range(1, int(instances.max()) + 1)]
    ),
    overview.check_merge_instances: lambda masks, labels: (
        (masks * labels[:, None, None]).amax(dim=0)
        if len(masks)
        else torch.zeros(masks.shape[1:], dtype=torch.int64)
    ),
    rcnn_training_targets.check_iou: lambda a, b: box_iou_loops(a[None], b[None]).item(),
    rcnn_training_targets.check_three_way: lambda iou, high, low: torch.tensor(
        [1 if best >= high else 0 if best < low else -1 for best in iou.max(dim=0).values]
    ),
    rcnn_training_targets.check_box_target: lambda proposal, truth: encode_boxes_loops(
        truth[None], proposal[None]
    )[0],
    rcnn_training_targets.check_training_targets: lambda *arguments: targets_one_by_one(*arguments),
    upsampling.check_repeat_pixels: lambda image, factor: torch.kron(
        image, torch.ones(factor, factor)
    ),
    upsampling.check_linear_matrix: linear_rows,
    upsampling.check_place_values: one_value_at_a_time,
    upsampling.check_enlarge_labels: lambda scores, size: (
        linear_rows(scores.shape[1], size[0]) @ scores @ linear_rows(scores.shape[2], size[1]).T
    ).argmax(dim=0),
    transposed_convolution.check_output_size: lambda size, kernel, *rest: (
        len(transposed_by_copies(torch.ones(size, 1), torch.ones(kernel, 1), rest[0], 0))
        - 2 * rest[1]
        + rest[2]
    ),
    transposed_convolution.check_scatter: lambda signal, kernel, stride: transposed_by_copies(
        signal[:, None], kernel[:, None], stride, 0
    )[:, 0],
    transposed_convolution.check_matrix: lambda kernel, size, stride: torch.tensor(
        [
            [0.0] * left + kernel.tolist() + [0.0] * (size - left - len(kernel))
            for left in range(0, size - len(kernel) + 1, stride)
        ]
    ),
    transposed_convolution.check_spread_and_convolve: transposed_by_copies,
    fcn.check_mean_loss: lambda scores, labels: cross_entropy_loops(scores[None], labels[None]),
    fcn.check_add_finer: doubled_by_weights,
    fcn.check_classes_of_colours: colour_by_colour,
    fcn.check_wrong_near_borders: pixel_by_pixel_near_borders,
    semantic_segmentation.check_class_iou: iou_pixel_by_pixel,
    semantic_segmentation.check_field_of_stack: field_of_zeros_and_ones,
    semantic_segmentation.check_count_both_ways: count_with_shapes,
    semantic_segmentation.check_loss_of_picture: loss_pixel_by_pixel,
    roi_align.check_bilinear_weights: lambda x, y: torch.tensor(
        [
            max(0, 1 - abs(x - i)) * max(0, 1 - abs(y - j))
            for j in (math.floor(y), math.floor(y) + 1)
            for i in (math.floor(x), math.floor(x) + 1)
        ]
    ),
    roi_align.check_snapping_offset: lambda box, stride: torch.tensor(
        [
            stride * (math.floor(edge / stride + 0.5) + (place > 1)) - edge
            for place, edge in enumerate(box.tolist())
        ]
    ),
    roi_align.check_align_one_bin: align_by_points,
    roi_align.check_gradient_of_one_bin: gradient_by_points,
    mask_rcnn.check_iou_of_masks: iou_of_pixel_sets,
    mask_rcnn.check_target_of_mask: target_cell_by_cell,
    mask_rcnn.check_loss_of_masks: mask_loss_cell_by_cell,
    mask_rcnn.check_area_under_curve: area_by_lists,
    panoptic.check_segment_numbers: segment_numbers_by_bytes,
    panoptic.check_quality: lambda ious, predicted, true: (
        2 * sum(ious.tolist()) / (predicted + true),
        math.fsum(ious.tolist()) / len(ious) if len(ious) else 0.0,
        2 * len(ious) / (predicted + true),
    ),
    panoptic.check_add_object: object_added_pixel_by_pixel,
    panoptic.check_count_class: class_counted_by_sets,
    unet.check_valid_size: lambda size, depth: size - 2 * (6 * 2**depth - 4) if depth else size - 4,
    unet.check_gap_weight: lambda pixel, one, other: (
        1
        + 10
        * math.exp(
            -(sum(min(math.dist(pixel, p) for p in nucleus) for nucleus in (one, other)) ** 2) / 50
        )
    ),
    unet.check_mirror: lambda image, border: torch.nn.functional.pad(
        image[None, None], [border] * 4, mode="reflect"
    )[0, 0],
    unet.check_count_nuclei: islands_by_painting,
}


def test_every_public_check_has_wrong_solutions():
    for module in MODULES:
        public = {value for name, value in vars(module).items() if name.startswith("check_")}
        assert public == set(module.WRONG_SOLUTIONS)
        assert all(len(wrong) >= 4 for wrong in module.WRONG_SOLUTIONS.values())


@pytest.mark.parametrize("exercise", CHECKS, ids=lambda exercise: exercise.__name__)
def test_a_right_solution_passes(exercise):
    assert exercise(RIGHT[exercise]) == (True, "Passed: right on every input.")


@pytest.mark.parametrize("exercise", CHECKS, ids=lambda exercise: exercise.__name__)
def test_a_stub_is_not_attempted(exercise):
    def stub(*arguments):
        raise NotImplementedError

    verdict = exercise(stub)
    assert verdict.passed is None and repr(verdict).startswith("Not attempted yet")


WRONG = [
    pytest.param(exercise, wrong, id=f"{exercise.__name__}: {name}")
    for module in MODULES
    for exercise, solutions in module.WRONG_SOLUTIONS.items()
    for name, wrong in solutions.items()
]


@pytest.mark.parametrize(("exercise", "wrong"), WRONG)
def test_a_wrong_solution_is_rejected_with_an_explanation(exercise, wrong):
    verdict = exercise(wrong)
    assert verdict.passed is False
    assert "expected" in verdict.message or "should" in verdict.message, verdict.message
    assert "Hint: " in verdict.message and "stopped with" not in verdict.message, verdict.message


def test_an_exception_is_reported_in_a_sentence():
    verdict = check(lambda x: 1 / 0, lambda x: x, [Case("one", (1,), "Think.")])
    assert (
        verdict.message
        == "Not yet: on one, it stopped with ZeroDivisionError: division by zero. Hint: Think."
    )


@pytest.mark.parametrize(
    ("got", "words"),
    [
        ("word", "should be numbers"),
        (torch.zeros(3), r"should have shape [2], got [3]"),
        (torch.tensor([1.0, 3.0]), "expected [1.0, 2.0], got [1.0, 3.0]"),
        (torch.tensor([1.0, float("nan")]), "got [1.0, nan]"),
    ],
)
def test_what_was_expected_and_what_came(got, words):
    verdict = check(lambda: got, lambda: torch.tensor([1.0, 2.0]), [Case("nothing", (), "Think.")])
    assert verdict.passed is False and words in verdict.message


def test_a_student_who_changes_the_input_in_place_harms_nothing():
    def in_place(x):
        return x.mul_(2)

    numbers = torch.tensor([1.0])
    assert check(in_place, lambda x: 2 * x, [Case("one", (numbers,), "")] * 2).passed
    assert numbers.item() == 1


def test_tuples_are_compared_part_by_part():
    assert checking._difference((1, 2), (1, 2)) is None
    assert checking._difference((1, 3), (1, 2)) == "expected 2, got 3"
    assert checking._difference(5, (1, 2)) == "the result should be 2 things, got 5"
