"""A function that torch or torchvision has too takes the same arguments, in the same order, or says why not.

So a student can swap one for the other in a line. The differences are listed in `DIFFERENCES`, each with its
reason; a difference that is not listed fails, and so does one that is listed and no longer there.
"""

import importlib
import inspect
import pkgutil
from inspect import Parameter

import pytest
from torch.nn import functional
from torchvision import ops as tv
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.roi_heads import paste_masks_in_image

import course_utils.fast

# Where the library has a class, its settings follow what it is called with.
LIBRARY = {
    "adaptive_pool.adaptive_average_pool": (functional.adaptive_avg_pool2d,),
    "anchors.pyramid_anchors": (AnchorGenerator.grid_anchors, AnchorGenerator.__init__),
    "assignment.balanced_sample": (
        BalancedPositiveNegativeSampler.__call__,
        BalancedPositiveNegativeSampler.__init__,
    ),
    "assignment.match_boxes": (Matcher.__call__, Matcher.__init__),
    "box_coding.decode_boxes": (BoxCoder.decode_single, BoxCoder.__init__),
    "box_coding.encode_boxes": (BoxCoder.encode_single, BoxCoder.__init__),
    "boxes.box_area": (tv.box_area,),
    "boxes.box_convert": (tv.box_convert,),
    "boxes.box_iou": (tv.box_iou,),
    "boxes.clip_boxes_to_image": (tv.clip_boxes_to_image,),
    "boxes.generalized_box_iou": (tv.generalized_box_iou,),
    "boxes.intersection_and_union": (tv.boxes._box_inter_union,),
    "conv.convolve": (functional.conv2d,),
    "conv_transpose.transposed_convolve": (functional.conv_transpose2d,),
    "losses.cross_entropy": (functional.cross_entropy,),
    "losses.generalized_box_iou_loss": (tv.generalized_box_iou_loss,),
    "losses.sigmoid_focal_loss": (tv.sigmoid_focal_loss,),
    "masks.masks_to_boxes": (tv.masks_to_boxes,),
    "masks.paste_masks": (paste_masks_in_image,),
    "nms.batched_nms": (tv.batched_nms,),
    "nms.nms": (tv.nms,),
    "pool.max_pool_with_indices": (functional.max_pool2d_with_indices,),
    "pool.max_unpool": (functional.max_unpool2d,),
    "roi.roi_align": (tv.roi_align,),
    "roi.roi_pool": (tv.roi_pool,),
    "upsample.bicubic": (functional.interpolate,),
    "upsample.bilinear": (functional.interpolate,),
    "upsample.nearest": (functional.interpolate,),
}

INTERPOLATE = {
    "no scale_factor": "the output size says the same",
    "no mode": "the function's name says it",
    "no recompute_scale_factor": "it is about scale_factor",
    "no antialias": "as with torch's False; it changes nothing where an image is enlarged",
    "size: no default, not None": "without scale_factor it is needed",
}
ALIGN = {"align_corners: default False, not None": "torch's None means False"}
CORNERS = {"no align_corners": "torch refuses it for mode='nearest' as well"}
CODER = {
    "weights: default (1.0, 1.0, 1.0, 1.0), not no default": "the lecture's targets have no weights",
}

DIFFERENCES = {
    "anchors.pyramid_anchors": {
        "grid_sizes is called feature_sizes": "the sizes of the feature maps; a grid is not defined",
        "sizes: no default, not ((128, 256, 512),)": "the sizes go with the strides, level by level",
        "aspect_ratios: default (0.5, 1.0, 2.0), not ((0.5, 1.0, 2.0),)": "the same on all levels",
        "adds device": "there is no module to move to the device",
    },
    "assignment.balanced_sample": {
        "matched_idxs is called labels": "they are labels, -1, 0 or above 0, and not indices",
        "adds generator": "for draws that repeat whatever else is drawn",
    },
    "box_coding.decode_boxes": CODER,
    "box_coding.encode_boxes": CODER | {"no bbox_xform_clip": "only decoding uses it"},
    "losses.cross_entropy": {
        "no size_average": "deprecated for reduction",
        "no reduce": "deprecated for reduction",
        "ignore_index: default 255, not -100": "the course's VOID",
    },
    "losses.generalized_box_iou_loss": {"no eps": "boxes without area have IoU 0 by definition"},
    "losses.sigmoid_focal_loss": {"gamma: default 2.0, not 2": "the same number, as a float"},
    "masks.paste_masks": {
        "img_shape is called size": "the name in clip_boxes_to_image",
        "no padding": "continuous coordinates need no border of one pixel",
        "adds threshold": "the result is boolean; torchvision leaves this step to the caller",
    },
    "pool.max_pool_with_indices": {"no return_indices": "the function's name says it"},
    "upsample.bicubic": INTERPOLATE
    | ALIGN
    | {"adds a": "the cubic's parameter, which torch fixes"},
    "upsample.bilinear": INTERPOLATE | ALIGN,
    "upsample.nearest": INTERPOLATE | CORNERS,
}


def parameters_of(*functions) -> dict[str, Parameter]:
    """The parameters by name, of several functions one after the other."""
    found = {}
    for function in functions:
        try:
            signature = inspect.signature(function)
        except ValueError:  # a function in C++: the first line of its documentation
            line = function.__doc__.strip().splitlines()[0]
            arguments = line.removeprefix(function.__name__).split("->")[0].strip()
            signature = inspect.signature(eval(f"lambda {arguments[1:-1]}: None"))
        found |= signature.parameters
    return {name: parameter for name, parameter in found.items() if name != "self"}


def differences(ours: dict[str, Parameter], theirs: dict[str, Parameter]) -> set[str]:
    """What differs, in words."""
    found = set()
    renamed = {}  # the same place and the same default, under another name
    for our_name, their_name in zip(ours, theirs):
        same_default = ours[our_name].default == theirs[their_name].default
        if our_name not in theirs and their_name not in ours and same_default:
            renamed[their_name] = our_name
    found |= {f"{theirs_} is called {ours_}" for theirs_, ours_ in renamed.items()}
    names = {renamed.get(name, name): parameter for name, parameter in theirs.items()}
    found |= {f"no {name}" for name in names if name not in ours}
    found |= {f"adds {name}" for name in ours if name not in names}
    order, their_order = [name for name in ours if name in names], [n for n in names if n in ours]
    if order != their_order:
        found.add(f"order {', '.join(order)}, not {', '.join(their_order)}")
    for name in order:
        our_default, their_default = says(ours[name]), says(names[name])
        if our_default != their_default:
            found.add(f"{name}: {our_default}, not {their_default.removeprefix('default ')}")
        if (ours[name].kind, names[name].kind) == (
            Parameter.KEYWORD_ONLY,
            Parameter.POSITIONAL_OR_KEYWORD,
        ):
            found.add(f"{name}: by keyword only")
    return found


def says(parameter: Parameter) -> str:
    return "no default" if parameter.default is Parameter.empty else f"default {parameter.default}"


def find(package: str, name: str):
    module, function = name.split(".")
    return getattr(importlib.import_module(f"course_utils.{package}.{module}"), function)


@pytest.mark.parametrize("name", LIBRARY)
def test_signature_is_the_librarys_but_for_the_listed_differences(name):
    found = differences(parameters_of(find("ops", name)), parameters_of(*LIBRARY[name]))
    assert found == set(DIFFERENCES.get(name, {}))


def test_every_listed_difference_is_of_a_function_that_is_compared():
    assert set(DIFFERENCES) <= set(LIBRARY)


FAST = [
    f"{module.name}.{name}"
    for module in pkgutil.iter_modules(course_utils.fast.__path__)
    if module.name != "roi_triton"  # the GPU kernels that fast.roi calls
    for name, function in vars(importlib.import_module(f"course_utils.fast.{module.name}")).items()
    if inspect.isfunction(function)
    and function.__module__ == f"course_utils.fast.{module.name}"
    and not name.startswith("_")
]


@pytest.mark.parametrize("name", FAST)
def test_fast_function_has_the_signature_of_its_twin_in_ops(name):
    assert str(inspect.signature(find("fast", name))) == str(inspect.signature(find("ops", name)))


def test_differences_are_found():
    def theirs(a, b, c=1, d=2): ...
    def ours(a, x, d=3, c=1, *, e=5): ...

    assert differences(parameters_of(ours), parameters_of(theirs)) == {
        "b is called x",
        "adds e",
        "order a, x, d, c, not a, x, c, d",
        "d: default 3, not 2",
    }
    assert differences(parameters_of(functional.conv2d), parameters_of(functional.conv2d)) == set()
    assert list(parameters_of(functional.conv2d))[:3] == ["input", "weight", "bias"]
