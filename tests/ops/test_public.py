"""Every public function of course_utils.ops: documented, annotated, and in loops where it should be."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import typing

import jaxtyping
import pytest
from torch import Tensor

import course_utils.ops

MODULES = [
    importlib.import_module(f"course_utils.ops.{module.name}")
    for module in pkgutil.iter_modules(course_utils.ops.__path__)
]
PUBLIC = {
    f"{module.__name__.rsplit('.', 1)[1]}.{name}": function
    for module in MODULES
    for name, function in vars(module).items()
    if inspect.isfunction(function)
    and function.__module__ == module.__name__
    and not name.startswith(("_", "check_"))  # checks are shared with course_utils.fast
}
MAIN = [name for name in PUBLIC if not name.endswith("_loops")]
LOOPS = [name for name in PUBLIC if name.endswith("_loops")]
NEEDS_LOOPS = [
    "masks.masks_to_boxes",
    "masks.crop_masks",
    "masks.paste_masks",
    "boxes.box_iou",
    "boxes.generalized_box_iou",
    "boxes.crop_and_resize",
    "box_coding.encode_boxes",
    "box_coding.decode_boxes",
    "anchors.grid_anchors",
    "assignment.match_boxes",
    "assignment.match_boxes_one_to_one",
    "assignment.class_targets",
    "assignment.balanced_sample",
    "nms.nms",
    "nms.batched_nms",
    "roi.bilinear_sample",
    "roi.roi_pool",
    "roi.roi_align",
    "upsample.bed_of_nails",
    "upsample.nearest",
    "upsample.interpolation_matrix",
    "upsample.bilinear",
    "upsample.bicubic",
    "pool.max_pool_with_indices",
    "pool.max_unpool",
    "adaptive_pool.adaptive_average_pool",
    "conv.convolve",
    "conv_transpose.transposed_convolve",
    "losses.cross_entropy",
    "losses.sigmoid_focal_loss",
    "losses.generalized_box_iou_loss",
    "corner_losses.heatmap_focal_loss",
    "corner_losses.pull_push_loss",
    "corner_pool.corner_pool",
    "corners.corner_radius",
    "corners.corner_heatmaps",
    "corners.pair_corners",
    "matching.match_sets",
    "panoptic.merge_panoptic",
]


def leaves(annotation):
    """The types inside an annotation: of `tuple[A, list[B]]`, A and B."""
    inner = [leaf for part in typing.get_args(annotation) for leaf in leaves(part)]
    return inner or [annotation]


@pytest.mark.parametrize("name", MAIN)
def test_docstring_says_what_goes_in_what_comes_out_and_shows_it(name):
    function = PUBLIC[name]
    docstring = inspect.getdoc(function)
    assert docstring, f"{name} has no docstring"
    first, blank, *_ = docstring.splitlines()
    assert first.endswith((".", "?", ":")) and not blank, f"{name}: one line, then an empty one"
    assert "\nReturns:\n" in docstring, f"{name}: what does it return?"
    assert doctest.DocTestParser().get_examples(docstring), f"{name}: show it in a doctest"
    parameters = inspect.signature(function).parameters
    if parameters and "\nArguments as in `" not in docstring:
        arguments = docstring.split("\nArgs:\n")[1].split("\n\n")[0]
        for parameter in parameters:
            assert f"    {parameter}: " in arguments, f"{name}: what is {parameter}?"


@pytest.mark.parametrize("name", PUBLIC)
def test_a_student_reads_each_operator_in_one_look(name):
    """At most 20 lines of code without docstring and signature (loops: 25), and nothing in place."""
    tree = ast.parse(inspect.getsource(PUBLIC[name]))
    (function,) = tree.body
    body = function.body[1:] if ast.get_docstring(function) else function.body
    lines = body[-1].end_lineno - body[0].lineno + 1
    assert lines <= (25 if name.endswith("_loops") else 20), f"{name}: {lines} lines"
    calls = [
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    in_place = [call for call in calls if call.endswith("_") and not call.endswith("__")]
    assert not in_place, f"{name}: {in_place}"
    assert "out" not in [
        word.arg for node in ast.walk(tree) if isinstance(node, ast.Call) for word in node.keywords
    ]


@pytest.mark.parametrize("name", PUBLIC)
def test_annotations_give_the_shape_of_every_tensor(name):
    signature = inspect.signature(PUBLIC[name])
    annotations = {key: parameter.annotation for key, parameter in signature.parameters.items()}
    annotations["return"] = signature.return_annotation
    for argument, annotation in annotations.items():
        assert annotation is not inspect.Signature.empty, f"{name}: {argument} has no annotation"
        for leaf in leaves(annotation):
            assert leaf is not Tensor, f"{name}: {argument} is a bare Tensor; say its shape"


def test_annotations_are_seen_at_all():
    boxes = inspect.signature(PUBLIC["boxes.box_iou"]).parameters["boxes1"].annotation
    assert issubclass(boxes, jaxtyping.AbstractArray)
    assert leaves(tuple[boxes, list[Tensor]]) == [boxes, Tensor]


@pytest.mark.parametrize("name", NEEDS_LOOPS)
def test_there_is_a_version_in_loops(name):
    assert f"{name}_loops" in PUBLIC


@pytest.mark.parametrize("name", LOOPS)
def test_loops_take_what_their_twin_takes_and_name_it(name):
    loops, twin = PUBLIC[name], PUBLIC[name.removesuffix("_loops")]
    assert f"`{twin.__name__}`" in inspect.getdoc(loops)
    ours, theirs = inspect.signature(loops).parameters, inspect.signature(twin).parameters
    assert list(ours) == [key for key in theirs if key not in ("device", "fmt")]
    for key, parameter in ours.items():
        assert (parameter.kind, parameter.default) == (theirs[key].kind, theirs[key].default)
