"""course_utils.ops.panoptic: loops = plain = panopticapi, and the rules one by one."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from course_utils.data.scenes import STUFF, make_scenes
from course_utils.ops.panoptic import merge_panoptic, merge_panoptic_loops
from tests.ops.objects_to_merge import case, row, strips

law = settings(max_examples=60, deadline=None, derandomize=True, database=None)
both = pytest.mark.parametrize("merge", [merge_panoptic, merge_panoptic_loops])


@law
@given(
    st.integers(0, 10_000),
    st.integers(0, 8),
    st.sampled_from([0.0, 0.25, 0.5, 2 / 3, 1.0]),
    st.sampled_from([0.0, 0.4, 0.5, 1.0]),
    st.sampled_from([0, 1, 9, 20]),
)
def test_loops_and_plain_are_equal(seed, count, overlap, score, area):
    thresholds = dict(score_threshold=score, overlap_threshold=overlap, stuff_area=area)
    inputs = case(seed, count)
    expected = merge_panoptic_loops(*inputs, stuff=[4, 5], **thresholds)
    found = merge_panoptic(*inputs, stuff=[4, 5], **thresholds)
    assert found.dtype == torch.int64 and torch.equal(found, expected)


def test_devices_are_equal(device):
    inputs = case(3)
    found = merge_panoptic(*(part.to(device) for part in inputs), stuff=[4, 5], stuff_area=2)
    assert found.device.type == device
    assert torch.equal(found.cpu(), merge_panoptic_loops(*inputs, stuff=[4, 5], stuff_area=2))


@law
@given(st.integers(0, 10_000))
def test_every_number_says_what_it_should(seed):
    masks, labels, scores, semantic = case(seed, count=8)
    panoptic = merge_panoptic(masks, labels, scores, semantic, stuff=[4, 5], stuff_area=3)
    numbers, areas = panoptic.unique(return_counts=True)
    objects = Counter()
    for number, area in zip(numbers.tolist(), areas.tolist()):
        label, place = divmod(number, 1000)
        inside = panoptic == number
        if label in (4, 5):
            assert place == 0 and area >= 3 and (semantic[inside] == label).all()
        elif number:
            objects[label] += 1  # numbers rise: those of a class are 1, 2, 3, ...
            assert place == objects[label]
            assert (masks[(labels == label) & (scores >= 0.5)] & inside).sum((1, 2)).max() == area


@law
@given(st.integers(0, 10_000))
def test_with_the_first_objects_only_it_is_the_map_as_it_was_then(seed):
    masks, labels, scores, semantic = case(seed, count=5)
    order = scores.argsort(descending=True, stable=True)
    steps = [
        merge_panoptic(
            masks[order[:k]], labels[order[:k]], scores[order[:k]], semantic, stuff=[], stuff_area=0
        )
        for k in range(6)
    ]
    for earlier, later in itertools.pairwise(steps):
        assert torch.equal(earlier, torch.where(earlier > 0, later, 0))
        assert len(later.unique()) - len(earlier.unique()) <= 1


def test_true_objects_and_the_true_label_map_give_the_true_panoptic_map():
    scenes = make_scenes(range(6), size=(64, 80))
    for number in range(6):
        scene = scenes.sample(number)
        scores = torch.linspace(0.9, 0.6, len(scene.labels))
        merged = merge_panoptic(
            scene.masks, scene.labels, scores, scene.semantic, stuff=STUFF, stuff_area=1
        )
        assert torch.equal(merged, scene.panoptic)


# --- the rules, by hand


@both
def test_an_object_stays_when_half_of_it_is_taken_and_goes_when_more_is(merge):
    labels, scores, semantic = torch.tensor([1, 1]), torch.tensor([0.9, 0.8]), row(0, 0, 0, 0, 0, 0)
    half = strips("xx....", ".xx...")
    assert merge(half, labels, scores, semantic, stuff=[]).tolist() == [[1001, 1001, 1002, 0, 0, 0]]
    more = strips("xx....", "xxx...")
    assert merge(more, labels, scores, semantic, stuff=[]).tolist() == [[1001, 1001, 0, 0, 0, 0]]


@both
def test_an_object_that_went_takes_nothing_and_no_number(merge):
    masks = strips("xxxx....", "..xxxx..", "..xxx...", "....xxxx")
    labels, semantic = torch.tensor([1, 2, 1, 1]), row(*[0] * 8)
    scores = torch.tensor([0.9, 0.6, 0.8, 0.7])  # the third goes: two of its three pixels are taken
    assert merge(masks, labels, scores, semantic, stuff=[]).tolist() == [
        [1001, 1001, 1001, 1001, 1002, 1002, 1002, 1002]
    ]


@both
def test_equal_scores_stay_in_order(merge):
    masks, semantic = strips("xx..", ".xx.", "..xx"), row(0, 0, 0, 0)
    labels, scores = torch.tensor([3, 2, 1]), torch.tensor([0.7, 0.7, 0.7])
    assert merge(masks, labels, scores, semantic, stuff=[]).tolist() == [[3001, 3001, 2001, 1001]]


@both
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.9])
def test_a_score_at_the_threshold_is_enough(merge, threshold):
    masks, labels, semantic = strips("x..", ".x."), torch.tensor([1, 1]), row(0, 0, 0)
    scores = torch.tensor([threshold, threshold - 1e-3])
    merged = merge(masks, labels, scores, semantic, stuff=[], score_threshold=threshold)
    assert merged.tolist() == [[1001, 0, 0]]


@both
def test_stuff_needs_its_area_in_free_pixels(merge):
    masks, labels, scores = strips("xx......"), torch.tensor([1]), torch.tensor([0.9])
    semantic = row(4, 4, 4, 4, 4, 5, 5, 255)
    inputs = (masks, labels, scores, semantic)
    first = [1001, 1001]
    for area, rest in [
        (2, [4000, 4000, 4000, 5000, 5000, 0]),
        (3, [4000, 4000, 4000, 0, 0, 0]),
        (4, [0, 0, 0, 0, 0, 0]),
    ]:
        assert merge(*inputs, stuff=[5, 4], stuff_area=area).tolist() == [first + rest]


@both
def test_the_label_maps_things_void_and_background_are_not_used(merge):
    nothing = strips("xxxx")[:0], torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    semantic = row(0, 1, 255, 5)
    assert merge(*nothing, semantic, stuff=[5], stuff_area=0).tolist() == [[0, 0, 0, 5000]]
    assert merge(*nothing, semantic, stuff=[], stuff_area=0).tolist() == [[0, 0, 0, 0]]


@both
def test_an_object_without_pixels_and_one_of_a_single_pixel(merge):
    masks, labels = strips("....", "...x"), torch.tensor([1, 1])
    merged = merge(masks, labels, torch.tensor([0.9, 0.8]), row(0, 0, 0, 0), stuff=[])
    assert merged.tolist() == [[0, 0, 0, 1001]]


def test_the_default_area_is_that_of_photos():
    nothing = torch.zeros(0, 64, 65, dtype=torch.bool), torch.zeros(0).long(), torch.zeros(0)
    semantic = torch.full((64, 65), 255)
    semantic[:, :64] = 5
    assert (merge_panoptic(*nothing, semantic, stuff=[5]) == 5000).sum() == 64 * 64
    semantic[0, 0] = 255
    assert (merge_panoptic(*nothing, semantic, stuff=[5]) == 0).all()


def test_inputs_stay_as_they_are():
    inputs = case(1)
    before = [part.clone() for part in inputs]
    merge_panoptic(*inputs, stuff=[4, 5], stuff_area=1)
    assert all(torch.equal(part, other) for part, other in zip(inputs, before))


def test_more_objects_than_numbers():
    masks = torch.eye(1000, dtype=torch.bool)[:, None]
    labels, scores = torch.ones(1000, dtype=torch.int64), torch.ones(1000)
    semantic = torch.zeros(1, 1000, dtype=torch.int64)
    merged = merge_panoptic(masks[:999], labels[:999], scores[:999], semantic, stuff=[])
    assert merged[0, 998:].tolist() == [1999, 0]
    with pytest.raises(ValueError, match=r"^labels: expected up to 999 objects per class"):
        merge_panoptic(masks, labels, scores, semantic, stuff=[])


# --- the reference tool


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("seed", range(12))
def test_equal_to_panopticapi(tmp_path, seed):
    tool = pytest.importorskip("panopticapi.combine_semantic_and_instance_predictions")
    encode = pytest.importorskip("pycocotools.mask").encode
    overlap, area = [(0.5, 12), (0.2, 5), (0.8, 0)][seed % 3]
    masks, labels, scores, semantic = case(seed, count=12, size=(30, 41))

    def run_lengths(mask):
        return encode(np.asfortranarray(mask.numpy().astype(np.uint8)))

    order = [i for i in scores.argsort(descending=True, stable=True).tolist() if scores[i] >= 0.5]
    objects = [
        {"category_id": int(labels[i]), "segmentation": run_lengths(masks[i])} for i in order
    ]
    regions = [{"category_id": n, "segmentation": run_lengths(semantic == n)} for n in (4, 5)]
    image = {"height": 30, "width": 41, "file_name": "a.jpg"}
    categories = {
        n: {"isthing": int(n < 4), "color": [40 * n, 90, 250 - 40 * n]} for n in range(1, 6)
    }
    (entry,) = tool.combine_to_panoptic_single_core(
        0, [7], {7: image}, {7: objects}, {7: regions}, str(tmp_path), overlap, area, categories
    )
    codes = np.array(Image.open(tmp_path / "a.png")).astype(np.int64) @ [1, 256, 65536]
    expected, seen = torch.zeros(30, 41, dtype=torch.int64), Counter()
    for segment in entry["segments_info"]:
        label = segment["category_id"]
        seen[label] += 1
        number = 1000 * label + (seen[label] if label < 4 else 0)
        expected[torch.from_numpy(codes == segment["id"])] = number
    merged = merge_panoptic(
        masks, labels, scores, semantic, stuff=[4, 5], overlap_threshold=overlap, stuff_area=area
    )
    assert torch.equal(merged, expected)
