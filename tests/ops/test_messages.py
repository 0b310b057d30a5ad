"""Bad input to course_utils.ops: an error of the right kind whose message begins with the argument's name."""

import math

import pytest
import torch

from course_utils.fast import boxes as fast_boxes
from course_utils.fast import nms as fast_nms
from course_utils.ops.anchors import grid_anchors, pyramid_anchors
from course_utils.ops.assignment import (
    balanced_sample,
    class_targets,
    match_boxes,
    match_boxes_one_to_one,
)
from course_utils.ops.box_coding import decode_boxes, encode_boxes
from course_utils.ops.boxes import (
    box_area,
    box_convert,
    box_iou,
    clip_boxes_to_image,
    crop_and_resize,
    generalized_box_iou,
    intersection_and_union,
)
from course_utils.ops.corners import corner_heatmaps
from course_utils.ops.losses import generalized_box_iou_loss
from course_utils.ops.nms import batched_nms, nms
from course_utils.ops.panoptic import merge_panoptic

pytestmark = pytest.mark.usefixtures("as_student")

nan, inf = math.nan, math.inf
good = torch.tensor([[0.0, 0.0, 4.0, 3.0], [1.0, 1.0, 2.0, 2.0]])
image = torch.zeros(3, 8, 8)
scores = torch.tensor([0.9, 0.8])
ones = torch.tensor([1, 1])
iou = torch.tensor([[0.9, 0.1]])
merge_inputs = {
    "masks": torch.ones(2, 3, 4, dtype=torch.bool),
    "labels": ones,
    "scores": scores,
    "semantic": torch.zeros(3, 4, dtype=torch.int64),
    "stuff": [5, 6],
}


def merge(**changes):
    """Two objects and a label map, of which something is changed."""
    return merge_panoptic(**merge_inputs | changes)


class Elsewhere(torch.Tensor):
    """A tensor that says it lives on a GPU, for machines that have none."""

    device = torch.device("cuda", 0)


def elsewhere(tensor):
    return tensor.cuda() if torch.cuda.is_available() else tensor.as_subclass(Elsewhere)


def far(tensor):
    return tensor.to("meta")


# what is wrong with the boxes, the kind of error, and words that the message must have
BAD_BOXES = {
    "a list": ([[0, 0, 1, 1]], TypeError, "expected a torch.Tensor, got list"),
    "one box alone": (good[0], ValueError, "n, 4], got [4]"),
    "a batch": (good[None], ValueError, "expected shape [n, 4], got [1, 2, 4]"),
    "five numbers": (torch.zeros(2, 5), ValueError, "n, 4], got [2, 5]"),
    "a mask": (good > 0, TypeError, "expected real numbers, got torch.bool"),
    "complex": (good.to(torch.complex64), TypeError, "expected real numbers, got torch.complex64"),
    "nan": (
        torch.tensor([[0, 0, 1, 1], [0, nan, 1, 1]]),
        ValueError,
        "expected finite numbers, but row 1 is [0.0, nan",
    ),
    "infinite": (
        torch.tensor([[0, 0, 1, 1], [0, 0, inf, 1]]),
        ValueError,
        "expected finite numbers, but row 1 is",
    ),
    "x2 < x1": (
        torch.tensor([[0, 0, 1, 1], [5, 0, 2, 9]]),
        ValueError,
        "x1 <= x2 and y1 <= y2, but row 1 is [5, 0, 2, 9]",
    ),
    "y2 < y1": (
        torch.tensor([[0.0, 9.0, 2.0, 5.0]]),
        ValueError,
        "but row 0 is [0.0, 9.0, 2.0, 5.0]",
    ),
}

# each place where boxes go in: the argument's name, and a call with the bad boxes there
BOX_ARGUMENTS = {
    "box_area": ("boxes", lambda bad: box_area(bad)),
    "intersection_and_union, first": ("boxes1", lambda bad: intersection_and_union(bad, good)),
    "intersection_and_union, second": ("boxes2", lambda bad: intersection_and_union(good, bad)),
    "box_iou, first": ("boxes1", lambda bad: box_iou(bad, good)),
    "box_iou, second": ("boxes2", lambda bad: box_iou(good, bad)),
    "generalized_box_iou, first": ("boxes1", lambda bad: generalized_box_iou(bad, good)),
    "generalized_box_iou, second": ("boxes2", lambda bad: generalized_box_iou(good, bad)),
    "generalized_box_iou_loss, first": (
        "boxes1",
        lambda bad: generalized_box_iou_loss(bad, good[: len(bad)]),
    ),
    "generalized_box_iou_loss, second": (
        "boxes2",
        lambda bad: generalized_box_iou_loss(good[: len(bad)], bad),
    ),
    "corner_heatmaps": ("boxes", lambda bad: corner_heatmaps(bad, ones[: len(bad)], 1, 4, (8, 8))),
    "clip_boxes_to_image": ("boxes", lambda bad: clip_boxes_to_image(bad, (8, 8))),
    "crop_and_resize": ("boxes", lambda bad: crop_and_resize(image, bad)),
    "encode_boxes, truth": ("reference_boxes", lambda bad: encode_boxes(bad, good)),
    "encode_boxes, proposals": ("proposals", lambda bad: encode_boxes(good, bad)),
    "decode_boxes": ("boxes", lambda bad: decode_boxes(good, bad)),
    "nms": ("boxes", lambda bad: nms(bad, scores, 0.5)),
    "batched_nms": ("boxes", lambda bad: batched_nms(bad, scores, ones, 0.5)),
    "fast box_iou, first": ("boxes1", lambda bad: fast_boxes.box_iou(bad, good)),
    "fast box_iou, second": ("boxes2", lambda bad: fast_boxes.box_iou(good, bad)),
    "fast crop_and_resize": ("boxes", lambda bad: fast_boxes.crop_and_resize(image, bad)),
    "fast nms": ("boxes", lambda bad: fast_nms.nms(bad, scores, 0.5)),
    "fast batched_nms": ("boxes", lambda bad: fast_nms.batched_nms(bad, scores, ones, 0.5)),
}
TAKES_BATCHES = (
    "box_area",
    "box_iou",
    "intersection",
    "generalized_box_iou,",
    "clip_boxes",
    "fast box_iou",
)


def check(call, error, begins, words=""):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert caught.type is error
    message = str(caught.value)
    assert message.startswith(f"{begins}: "), message
    assert words in message


@pytest.mark.parametrize("where", BOX_ARGUMENTS)
@pytest.mark.parametrize("what", BAD_BOXES)
def test_bad_boxes(where, what):
    name, call = BOX_ARGUMENTS[where]
    bad, error, words = BAD_BOXES[what]
    if what == "a batch" and where.startswith(TAKES_BATCHES):
        assert call(bad) is not None
    else:
        check(lambda: call(bad), error, name, words)


def test_the_bad_row_of_a_batch():
    batch = torch.stack([good, good.flip(0)])
    batch[1, 0, 2] = nan
    for call in (
        box_area,
        lambda bad: box_iou(bad, good),
        lambda bad: clip_boxes_to_image(bad, (8, 8)),
    ):
        with pytest.raises(
            ValueError, match=r"finite numbers, but row \[1, 0\] is \[1.0, 1.0, nan"
        ):
            call(batch)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (good[0], ValueError),
        (torch.zeros(2, 5), ValueError),
        ([[0, 0, 1, 1]], TypeError),
        (torch.tensor([[0.0, 0.0, nan, 1.0]]), ValueError),
        (torch.tensor([[0.0, 0.0, -1.0, 1.0]]), ValueError),
    ],
    ids=["one box alone", "five numbers", "a list", "nan", "negative size"],
)
@pytest.mark.parametrize("form", ["xywh", "cxcywh"])
def test_bad_boxes_in_other_forms(form, bad, error):
    for out_fmt in ("xyxy", "xywh", "cxcywh"):
        check(lambda out_fmt=out_fmt: box_convert(bad, form, out_fmt), error, "boxes")


@pytest.mark.parametrize("what", sorted(set(BAD_BOXES) - {"a mask", "complex", "a batch"}))
def test_bad_corners_to_convert(what):
    bad, error, _ = BAD_BOXES[what]
    for out_fmt in ("xyxy", "xywh", "cxcywh"):
        check(lambda out_fmt=out_fmt: box_convert(bad, "xyxy", out_fmt), error, "boxes")


@pytest.mark.parametrize("form", ["xyxx", "XYXY", "", None, 4])
def test_unknown_form(form):
    check(
        lambda: box_convert(good, form, "xyxy"),
        ValueError,
        "in_fmt",
        'expected "xyxy", "xywh" or "cxcywh", got',
    )
    check(lambda: box_convert(good, "xyxy", form), ValueError, "out_fmt", repr(form))
    check(lambda: box_area(good, form), ValueError, "fmt", repr(form))
    check(lambda: box_iou(good, good, form), ValueError, "fmt", repr(form))
    check(lambda: fast_boxes.box_iou(good, good, form), ValueError, "fmt", repr(form))


@pytest.mark.parametrize("form", ["xywh", "cxcywh"])
def test_boxes_of_negative_size_in_other_formats(form):
    bad = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, -1.0, 1.0]])
    words = "expected x1 <= x2 and y1 <= y2, but row 1 is"
    check(lambda: box_area(bad, form), ValueError, "boxes", words)
    check(lambda: box_iou(bad, good, form), ValueError, "boxes1", words)
    check(lambda: fast_boxes.box_iou(good, bad, form), ValueError, "boxes2", words)


@pytest.mark.parametrize(
    "bad", [(0, 8), (8, -1), (8,), (8, 8, 8), 8, None, "88", (8.5, 8), (nan, 8), (8, inf)], ids=str
)
def test_bad_size(bad):
    words = "expected (height, width) above zero, got"
    check(lambda: clip_boxes_to_image(good, bad), ValueError, "size", words)
    check(lambda: crop_and_resize(image, good, bad), ValueError, "output_size", words)
    check(lambda: corner_heatmaps(good, ones, 1, 4, bad), ValueError, "size", words)
    check(lambda: grid_anchors(bad, 8, [8.0]), ValueError, "feature_size", words)
    check(lambda: pyramid_anchors([bad], [8], [[8.0]]), ValueError, "feature_size", words)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ([[[0.0]]], TypeError),
        (image[0], ValueError),
        (image[None], ValueError),
        (image.byte(), TypeError),
        (image > 0, TypeError),
    ],
    ids=["a list", "no channels", "a batch", "whole numbers", "a mask"],
)
def test_bad_image(bad, error):
    check(lambda: crop_and_resize(bad, good), error, "image")


@pytest.mark.parametrize(
    "outside",
    [
        [-5, 0, -1, 3],
        [0, -5, 3, -1],
        [-5, 0, 0, 3],
        [0, -5, 3, 0],
        [8, 0, 9, 3],
        [0, 8, 3, 9],
        [20, 20, 30, 30],
    ],
    ids=str,
)
def test_box_without_a_pixel(outside):
    boxes = torch.tensor([[0, 0, 1, 1], outside]).float()
    words = "expected a pixel inside the 8 x 8 image, but row 1 is ["
    check(lambda: crop_and_resize(image, boxes), ValueError, "boxes", words)
    check(lambda: fast_boxes.crop_and_resize(image, boxes), ValueError, "boxes", words)


@pytest.mark.parametrize("flat", [[1.0, 1.0, 1.0, 5.0], [1.0, 5.0, 4.0, 5.0]])
def test_encode_needs_width_and_height(flat):
    flat = torch.tensor([[0.0, 0.0, 1.0, 1.0], flat])
    check(
        lambda: encode_boxes(flat, good),
        ValueError,
        "reference_boxes",
        "width and height above zero, but row 1 is",
    )
    check(
        lambda: encode_boxes(good, flat),
        ValueError,
        "proposals",
        "width and height above zero, but row 1 is",
    )


@pytest.mark.parametrize("other", [good[:1], good[:0], good.repeat(2, 1)], ids=len)
def test_sets_of_different_length(other):
    check(
        lambda: encode_boxes(other, good),
        ValueError,
        "reference_boxes",
        f"expected shape [2, 4], got [{len(other)}, 4]",
    )
    check(
        lambda: decode_boxes(other, good),
        ValueError,
        "rel_codes",
        f"expected shape [2, 4 C], got [{len(other)}, 4]",
    )
    check(
        lambda: nms(good, torch.zeros(len(other)), 0.5),
        ValueError,
        "scores",
        f"shape [2], got [{len(other)}]",
    )
    check(
        lambda: batched_nms(good, scores, torch.zeros(len(other)), 0.5),
        ValueError,
        "idxs",
        "expected shape [2]",
    )


@pytest.mark.parametrize(
    "bad", [(1.0, 1.0), (10.0,), (1.0, 1.0, 1.0, 0.0), (-1.0, 1.0, 1.0, 1.0), (nan, 1.0, 1.0, 1.0)]
)
def test_bad_weights(bad):
    check(
        lambda: encode_boxes(good, good, bad),
        ValueError,
        "weights",
        "expected four numbers above zero, got (",
    )
    check(
        lambda: decode_boxes(good, good, bad),
        ValueError,
        "weights",
        "expected four numbers above zero, got (",
    )


def test_bad_codes():
    check(lambda: decode_boxes([[0.0] * 4], good), TypeError, "rel_codes", "got list")
    check(
        lambda: decode_boxes(torch.zeros(2, 6), good),
        ValueError,
        "rel_codes",
        "[2, 4 C], got [2, 6]",
    )
    check(
        lambda: decode_boxes(torch.zeros(2, 3, 4), good), ValueError, "rel_codes", "got [2, 3, 4]"
    )
    check(
        lambda: decode_boxes(torch.full((2, 4), nan), good),
        ValueError,
        "rel_codes",
        "row [0, 0] is nan",
    )
    check(
        lambda: decode_boxes(torch.zeros(2, 4).int(), good),
        TypeError,
        "rel_codes",
        "floating-point",
    )


@pytest.mark.parametrize(
    ("bad", "error"),
    [(0, ValueError), (-8, ValueError), (nan, ValueError), (inf, ValueError), ("8", TypeError)],
)
def test_bad_anchor_shapes(bad, error):
    check(lambda: grid_anchors((2, 2), bad, [8.0]), error, "stride")
    check(lambda: grid_anchors((2, 2), 8, [8.0, bad]), error, "sizes")
    check(lambda: grid_anchors((2, 2), 8, [8.0], [bad, 1.0]), error, "aspect_ratios")
    check(lambda: pyramid_anchors([(2, 2)], [bad], [[8.0]]), error, "stride")
    check(lambda: pyramid_anchors([(2, 2)], [8], [[bad]]), error, "sizes")


def test_anchors_need_lists():
    check(lambda: grid_anchors((2, 2), 8, []), ValueError, "sizes", "at least one")
    check(lambda: grid_anchors((2, 2), 8, [8.0], []), ValueError, "aspect_ratios", "at least one")
    check(
        lambda: grid_anchors((2, 2), 8, 8.0),
        TypeError,
        "sizes",
        "expected a list of numbers, got 8.0",
    )
    check(
        lambda: grid_anchors((2, 2), 8, [8.0], 1.0),
        TypeError,
        "aspect_ratios",
        "expected a list of numbers, got 1.0",
    )
    words = "expected one of each per level, got 2, 1 and 1"
    check(
        lambda: pyramid_anchors([(2, 2), (1, 1)], [8], [[8.0]]),
        ValueError,
        "feature_sizes, strides, sizes",
        words,
    )


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (-0.1, ValueError),
        (1.1, ValueError),
        (50, ValueError),
        (nan, ValueError),
        ("0.5", TypeError),
        (None, TypeError),
    ],
)
def test_bad_thresholds_and_shares(bad, error):
    words = "expected a number from 0 to 1, got"
    check(lambda: nms(good, scores, bad), error, "iou_threshold", words)
    check(lambda: batched_nms(good, scores, ones, bad), error, "iou_threshold", words)
    check(lambda: match_boxes(iou, bad, 0.3), error, "high_threshold", words)
    check(lambda: match_boxes(iou, 0.7, bad), error, "low_threshold", words)
    check(lambda: match_boxes_one_to_one(iou, bad), error, "iou_threshold", words)
    check(lambda: balanced_sample(ones, 4, bad), error, "positive_fraction", words)
    check(lambda: merge(score_threshold=bad), error, "score_threshold", words)
    check(lambda: merge(overlap_threshold=bad), error, "overlap_threshold", words)


def test_thresholds_in_the_wrong_order():
    check(
        lambda: match_boxes(iou, 0.3, 0.7),
        ValueError,
        "low_threshold",
        "at most high_threshold = 0.3, got 0.7",
    )


@pytest.mark.parametrize("match", [lambda bad: match_boxes(bad, 0.7, 0.3), match_boxes_one_to_one])
def test_bad_overlaps(match):
    name = "match_quality_matrix"
    check(lambda: match([[0.5]]), TypeError, name, "got list")
    check(lambda: match(iou[0]), ValueError, name, "expected shape [ground truths, boxes], got [2]")
    check(lambda: match(iou[None]), ValueError, name, "got [1, 1, 2]")
    check(lambda: match(torch.tensor([[0.5, nan]])), ValueError, name, "row [0, 1] is nan")
    check(
        lambda: match(iou > 0.5), TypeError, name, "expected floating-point numbers, got torch.bool"
    )


def test_bad_matches_and_labels():
    matches = torch.tensor([0, -1, -2])
    check(lambda: class_targets([0], ones), TypeError, "matches", "got list")
    check(lambda: class_targets(matches, [1]), TypeError, "labels", "got list")
    check(
        lambda: class_targets(matches[None], ones),
        ValueError,
        "matches",
        "expected shape [n], got [1, 3]",
    )
    check(lambda: class_targets(matches, ones[None]), ValueError, "labels", "got [1, 2]")
    check(
        lambda: class_targets(matches.float(), ones),
        TypeError,
        "matches",
        "expected torch.int64, got torch.float32",
    )
    check(lambda: class_targets(matches > 0, ones), TypeError, "matches", "got torch.bool")
    check(lambda: class_targets(matches, ones.float()), TypeError, "labels", "got torch.float32")
    check(
        lambda: class_targets(matches, torch.tensor([3, 0])),
        ValueError,
        "labels",
        "0 is background), but row 1 is 0",
    )
    check(
        lambda: class_targets(matches, torch.tensor([-4, 3])), ValueError, "labels", "row 0 is -4"
    )
    check(
        lambda: class_targets(torch.tensor([0, 2]), ones),
        ValueError,
        "matches",
        "expected -2..1 for 2 labels, but row 1 is 2",
    )
    check(lambda: class_targets(torch.tensor([0, -3]), ones), ValueError, "matches", "row 1 is -3")
    check(lambda: class_targets(matches, ones[:0]), ValueError, "matches", "for 0 labels")


def test_bad_samples():
    check(lambda: balanced_sample([1, 0], 4, 0.5), TypeError, "labels", "got list")
    check(
        lambda: balanced_sample(ones[None], 4, 0.5),
        ValueError,
        "labels",
        "expected shape [n], got [1, 2]",
    )
    check(lambda: balanced_sample(ones.float(), 4, 0.5), TypeError, "labels", "got torch.float32")
    check(
        lambda: balanced_sample(ones, -1, 0.5),
        ValueError,
        "batch_size_per_image",
        "expected a whole number of at least 0, got -1",
    )


def test_bad_scores():
    for call in (
        lambda bad: nms(good, bad, 0.5),
        lambda bad: batched_nms(good, bad, ones, 0.5),
        lambda bad: fast_nms.nms(good, bad, 0.5),
        lambda bad: fast_nms.batched_nms(good, bad, ones, 0.5),
    ):
        check(lambda call=call: call([0.9, 0.8]), TypeError, "scores", "got list")
        check(
            lambda call=call: call(scores[:, None]),
            ValueError,
            "scores",
            "expected shape [2], got [2, 1]",
        )
        check(
            lambda call=call: call(torch.tensor([0.9, nan])),
            ValueError,
            "scores",
            "expected numbers, but row 1 is nan",
        )
    check(lambda: batched_nms(good, scores, [1, 1], 0.5), TypeError, "idxs", "got list")


def test_bad_objects_to_merge():
    for name, bad, error, words in [
        ("masks", [[True]], TypeError, "got list"),
        ("masks", torch.ones(3, 4).bool(), ValueError, "expected shape [n, h, w], got [3, 4]"),
        ("masks", torch.ones(2, 3, 4), TypeError, "expected torch.bool, got torch.float32"),
        ("labels", [1, 1], TypeError, "got list"),
        ("labels", ones[:1], ValueError, "expected shape [2], got [1]"),
        ("labels", ones.float(), TypeError, "expected torch.int64, got torch.float32"),
        ("labels", torch.tensor([1, 0]), ValueError, "none of stuff = [5, 6], but row 1 is 0"),
        ("labels", torch.tensor([6, 1]), ValueError, "expected things, 1 or above"),
        ("scores", [0.9, 0.8], TypeError, "got list"),
        ("scores", scores[:1], ValueError, "expected shape [2], got [1]"),
        ("scores", ones, TypeError, "expected floating-point numbers, got torch.int64"),
        ("scores", torch.tensor([0.9, nan]), ValueError, "expected numbers, but row 1 is nan"),
        ("semantic", [[0]], TypeError, "got list"),
        ("semantic", torch.zeros(4, 3).long(), ValueError, "expected shape [3, 4], got [4, 3]"),
        ("semantic", torch.zeros(3, 4), TypeError, "expected torch.int64, got torch.float32"),
        (
            "semantic",
            torch.full((3, 4), 256),
            ValueError,
            "classes from 0 to 255, but row [0, 0] is 256",
        ),
        (
            "semantic",
            torch.full((3, 4), -1),
            ValueError,
            "classes from 0 to 255, but row [0, 0] is -1",
        ),
        ("stuff", [5, 0], ValueError, "expected classes from 1 to 254, got 0"),
        ("stuff", [255], ValueError, "expected classes from 1 to 254, got 255"),
        ("stuff_area", -1, ValueError, "expected a whole number of at least 0, got -1"),
    ]:
        check(lambda name=name, bad=bad: merge(**{name: bad}), error, name, words)


@pytest.mark.parametrize(
    "call",
    [
        lambda: box_area(far(good)),
        lambda: box_iou(far(good), far(good)),
        lambda: fast_boxes.box_iou(far(good), far(good)),
        lambda: generalized_box_iou(far(good), far(good)),
        lambda: generalized_box_iou_loss(far(good), far(good)),
        lambda: corner_heatmaps(far(good), far(ones), 1, 4, (8, 8)).heatmaps,
        lambda: clip_boxes_to_image(far(good), (8, 8)),
        lambda: box_convert(far(good), "cxcywh", "xywh"),
        lambda: crop_and_resize(far(image), far(good)),
        lambda: encode_boxes(far(good), far(good)),
        lambda: decode_boxes(far(good), far(good)),
        lambda: match_boxes(far(iou), 0.7, 0.3, True),
        lambda: class_targets(far(ones), far(ones)),
    ],
)
def test_values_are_read_on_the_cpu_only(call):
    # a tensor on the device "meta" has a shape and no values: to read one is an error
    assert call().device.type == "meta"


@pytest.mark.parametrize(
    ("begins", "call"),
    [
        ("boxes1, boxes2", lambda: intersection_and_union(good, elsewhere(good))),
        ("boxes1, boxes2", lambda: box_iou(good, elsewhere(good))),
        ("boxes1, boxes2", lambda: generalized_box_iou(elsewhere(good), good)),
        ("boxes1, boxes2", lambda: generalized_box_iou_loss(good, elsewhere(good))),
        ("boxes, labels", lambda: corner_heatmaps(good, elsewhere(ones), 1, 4, (8, 8))),
        ("image, boxes", lambda: crop_and_resize(image, elsewhere(good))),
        ("reference_boxes, proposals", lambda: encode_boxes(good, elsewhere(good))),
        ("rel_codes, boxes", lambda: decode_boxes(good, elsewhere(good))),
        ("matches, labels", lambda: class_targets(ones, elsewhere(ones))),
        ("boxes, scores", lambda: nms(good, elsewhere(scores), 0.5)),
        ("boxes, scores", lambda: batched_nms(good, elsewhere(scores), ones, 0.5)),
        ("boxes, idxs", lambda: batched_nms(good, scores, elsewhere(ones), 0.5)),
        ("boxes1, boxes2", lambda: fast_boxes.box_iou(good, elsewhere(good))),
        ("image, boxes", lambda: fast_boxes.crop_and_resize(image, elsewhere(good))),
        ("boxes, scores", lambda: fast_nms.nms(good, elsewhere(scores), 0.5)),
        (
            "masks, labels, scores, semantic",
            lambda: merge(semantic=elsewhere(merge_inputs["semantic"])),
        ),
        ("masks, labels, scores, semantic", lambda: merge(scores=elsewhere(scores))),
    ],
)
def test_mixed_devices(begins, call):
    check(call, ValueError, begins, "expected one device, got")
    check(call, ValueError, begins, " on cpu")
    check(call, ValueError, begins, " on cuda:0")
