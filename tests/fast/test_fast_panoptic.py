"""course_utils.fast.panoptic = plain."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils.data.scenes import STUFF, make_scenes
from course_utils.fast.panoptic import merge_panoptic
from course_utils.ops import panoptic as plain
from tests.ops.objects_to_merge import case, row, strips

law = settings(max_examples=100, deadline=None, derandomize=True, database=None)


@law
@given(
    st.integers(0, 10_000),
    st.integers(0, 8),
    st.sampled_from([0.0, 0.25, 0.5, 2 / 3, 1.0]),
    st.sampled_from([0.0, 0.4, 0.5, 1.0]),
    st.sampled_from([0, 1, 9, 20]),
)
def test_equal_to_plain(seed, count, overlap, score, area):
    given = dict(score_threshold=score, overlap_threshold=overlap, stuff_area=area, stuff=[5, 4])
    found = merge_panoptic(*case(seed, count), **given)
    assert found.dtype == torch.int64
    assert torch.equal(found, plain.merge_panoptic(*case(seed, count), **given))


def test_equal_to_plain_on_scenes_with_objects_that_repeat():
    scenes = make_scenes(range(4), size=(64, 80))
    for number in range(4):
        scene = scenes.sample(number)
        masks = torch.cat([scene.masks, scene.masks.roll(2, dims=2)])
        labels, scores = scene.labels.repeat(2), torch.linspace(0.9, 0.4, len(masks))
        inputs = masks, labels, scores, scene.semantic
        found = merge_panoptic(*inputs, stuff=STUFF, stuff_area=20)
        assert torch.equal(found, plain.merge_panoptic(*inputs, stuff=STUFF, stuff_area=20))


def test_devices_are_equal(device):
    inputs = case(3)
    found = merge_panoptic(*(part.to(device) for part in inputs), stuff=[4, 5], stuff_area=2)
    assert found.device.type == device
    assert torch.equal(found.cpu(), plain.merge_panoptic(*inputs, stuff=[4, 5], stuff_area=2))


def test_an_object_without_pixels_and_one_of_a_single_pixel():
    masks, labels = strips("....", "...x"), torch.tensor([1, 1])
    merged = merge_panoptic(masks, labels, torch.tensor([0.9, 0.8]), row(0, 0, 0, 0), stuff=[])
    assert merged.tolist() == [[0, 0, 0, 1001]]


def test_no_objects():
    nothing = strips("xxxx")[:0], torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    merged = merge_panoptic(*nothing, row(0, 1, 255, 5), stuff=[5], stuff_area=0)
    assert merged.tolist() == [[0, 0, 0, 5000]]


@pytest.mark.parametrize("layout", ["transposed", "every second mask"])
def test_inputs_of_any_layout_stay_as_they_are(layout):
    masks, *rest = case(1)
    turned = (
        masks.mT.contiguous().mT if layout == "transposed" else masks.repeat_interleave(2, 0)[::2]
    )
    inputs = turned, *rest
    before = [part.clone() for part in inputs]
    found = merge_panoptic(*inputs, stuff=[4, 5], stuff_area=1)
    assert all(torch.equal(part, other) for part, other in zip(inputs, before))
    assert torch.equal(found, plain.merge_panoptic(*before, stuff=[4, 5], stuff_area=1))


def test_more_objects_than_numbers():
    masks = torch.eye(1000, dtype=torch.bool)[:, None]
    labels, scores = torch.ones(1000, dtype=torch.int64), torch.ones(1000)
    semantic = torch.zeros(1, 1000, dtype=torch.int64)
    merged = merge_panoptic(masks[:999], labels[:999], scores[:999], semantic, stuff=[])
    assert merged[0, 998:].tolist() == [1999, 0]
    with pytest.raises(ValueError, match=r"^labels: expected up to 999 objects per class"):
        merge_panoptic(masks, labels, scores, semantic, stuff=[])


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks": torch.ones(6, 9, 12)}, "masks: expected torch.bool"),
        ({"labels": torch.tensor([4, 1, 1, 1, 1, 1])}, "labels: expected things, 1 or above"),
        ({"stuff_area": -1}, "stuff_area: expected a whole number of at least 0, got -1"),
        ({"overlap_threshold": 1.5}, "overlap_threshold: expected a number from 0 to 1, got 1.5"),
    ],
)
def test_messages(change, message):
    names = "masks", "labels", "scores", "semantic"
    inputs = {**dict(zip(names, case(0))), "stuff": [4, 5], **change}
    with pytest.raises((TypeError, ValueError)) as caught:
        merge_panoptic(**inputs)
    assert str(caught.value).startswith(message)
