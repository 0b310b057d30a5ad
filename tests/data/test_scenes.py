"""The scenes: the same wherever they are drawn, with a consistent ground truth."""

import pytest
import torch

from course_utils.data._sprites import LEAST_VISIBLE
from course_utils.data.scenes import (
    CLASS_NAMES,
    KEYPOINT_NAMES,
    SKELETON,
    STUFF,
    THINGS,
    Scenes,
    make_scene,
    make_scenes,
)

PINNED = [0, 0, 689, 406, 247, 1189, 1170, 139, 256]  # pixels of each class in scene 1
PINNED_CAPTIONS = (
    "a beige dog partly hidden by a car",
    "a person in a pink shirt behind a dog",
    "a yellow car behind a dog",
    "a beige dog by the water",
)


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return make_scenes(range(200))


def assert_same(one: Scenes, other: Scenes) -> None:
    for name, left, right in zip(Scenes._fields, one, other, strict=True):
        same = left == right if name == "captions" else torch.equal(left, right)
        assert same, f"{name} differ"


def rows(scenes: Scenes, first: int, last: int) -> Scenes:
    return Scenes(*(field[first:last] for field in scenes))


@pytest.mark.parametrize("size", [(64, 64), (50, 77)])
def test_a_scene_is_the_same_alone_and_in_any_batch(size):
    batch = make_scenes(range(12), size=size)
    for number in (0, 5, 11):
        assert_same(make_scenes([number], size=size), rows(batch, number, number + 1))
    backwards = make_scenes(torch.arange(11, -1, -1), size=size)
    assert torch.equal(backwards.images.flip(0), batch.images)
    assert torch.equal(backwards.panoptic.flip(0), batch.panoptic)


def test_groups_do_not_change_scenes(scenes):
    assert_same(make_scenes(range(60, 68)), rows(scenes, 60, 68))


def test_threads_do_not_change_scenes():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = make_scenes(range(16), size=(64, 64))
        torch.set_num_threads(2)
        assert_same(one, make_scenes(range(16), size=(64, 64)))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_scenes():
    here, there = make_scenes(range(32)), make_scenes(range(32), device="cuda")
    for name, left, right in zip(Scenes._fields, here, there, strict=True):
        if name == "captions":
            assert left == right
        else:
            torch.testing.assert_close(
                left, right.cpu(), rtol=0, atol=1e-4, msg=lambda text, n=name: f"{n}: {text}"
            )


def test_seeds_and_numbers_make_different_scenes(scenes):
    other = make_scenes(range(4), seed=1)
    assert all(not torch.equal(other.images[k], scenes.images[k]) for k in range(4))
    assert len({image.numpy().tobytes() for image in scenes.images}) == 200


def test_shapes_types_and_ranges(scenes):
    assert scenes.images.shape == (200, 3, 64, 64) and scenes.images.dtype == torch.float32
    assert scenes.boxes.shape == (200, 5, 4) and scenes.boxes.dtype == torch.float32
    assert scenes.masks.shape == (200, 5, 64, 64) and scenes.masks.dtype == torch.bool
    assert scenes.keypoints.shape == (200, 5, 17, 3) and scenes.keypoints.dtype == torch.float32
    for field in (scenes.labels, scenes.semantic, scenes.panoptic):
        assert field.dtype == torch.int64
    assert scenes.images.min() >= 0 and scenes.images.max() <= 1
    assert scenes.images.std() > 0.1


def test_empty_slots_come_last_and_hold_zeros(scenes):
    empty = scenes.labels == 0
    assert empty.any() and (empty.long().diff(dim=1) >= 0).all()
    for field in (scenes.boxes, scenes.masks, scenes.keypoints):
        assert not field[empty].any()
    assert (~empty).any(dim=1).all(), "every scene has an object"


def test_boxes_are_tight(scenes):
    for label, box, mask in zip(
        scenes.labels.flatten(), scenes.boxes.flatten(0, 1), scenes.masks.flatten(0, 1), strict=True
    ):
        if label:
            y, x = mask.nonzero(as_tuple=True)
            assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]


def test_masks_are_disjoint_and_large_enough(scenes):
    assert scenes.masks.sum(dim=1).max() == 1
    areas = scenes.masks.sum(dim=(2, 3))[scenes.labels > 0]
    assert areas.min() >= LEAST_VISIBLE * 64 * 64


def test_semantic_and_panoptic_maps_agree_with_the_masks(scenes):
    assert torch.equal(scenes.semantic, scenes.panoptic // 1000)
    assert set(scenes.semantic.unique().tolist()) == set(THINGS + STUFF)
    for number in range(200):
        expected, seen = scenes.panoptic[number].clone(), []
        for label, mask in zip(scenes.labels[number].tolist(), scenes.masks[number], strict=True):
            if label:
                seen.append(label)
                assert set(scenes.panoptic[number][mask].tolist()) == {
                    1000 * label + seen.count(label)
                }
                expected[mask] = 0
        stuff = scenes.panoptic[number][~scenes.masks[number].any(dim=0)]
        assert set(stuff.tolist()) <= {1000 * label for label in STUFF}


def test_keypoint_visibility_follows_the_masks(scenes):
    persons = scenes.labels == CLASS_NAMES.index("person")
    assert not scenes.keypoints[~persons].any()
    masks, points = scenes.masks[persons], scenes.keypoints[persons]
    seen = {0: 0, 1: 0, 2: 0}
    for mask, person in zip(masks, points, strict=True):
        for x, y, visibility in person.tolist():
            seen[int(visibility)] += 1
            if visibility == 0:
                assert x == y == 0
            else:
                assert 0 <= x < 64 and 0 <= y < 64
                if visibility == 2:
                    assert mask[int(y), int(x)]
    assert seen[2] > seen[1] > seen[0] > 0


def test_left_is_the_persons_own(scenes):
    points = scenes.keypoints[scenes.labels == CLASS_NAMES.index("person")]
    left, right = KEYPOINT_NAMES.index("left shoulder"), KEYPOINT_NAMES.index("right shoulder")
    both = (points[:, left, 2] > 0) & (points[:, right, 2] > 0)
    assert (points[both, left, 0] > points[both, right, 0]).all(), "they face us"


def test_people_who_are_wholly_in_front_show_most_points(scenes):
    points = scenes.keypoints[scenes.labels == CLASS_NAMES.index("person")]
    assert (points[..., 2] == 2).float().mean() > 0.6


def test_names():
    assert len(CLASS_NAMES) == 9 and [CLASS_NAMES[k] for k in THINGS] == [
        "cat",
        "dog",
        "car",
        "person",
    ]
    assert [CLASS_NAMES[k] for k in STUFF] == ["sky", "grass", "water", "tree"]
    assert len(KEYPOINT_NAMES) == 17 and len(SKELETON) == 19
    assert {k for limb in SKELETON for k in limb} == set(range(17))


def test_classes_are_balanced_and_things_hide_each_other(scenes):
    counts = scenes.labels.flatten().bincount(minlength=5)[1:].float()
    assert (counts / counts.sum() > 0.18).all() and (counts / counts.sum() < 0.32).all()
    boxes_meet = sum(
        " behind " in phrase or "hidden" in phrase for row in scenes.captions for phrase in row
    )
    assert boxes_meet > 100
    share = scenes.semantic.flatten().bincount(minlength=9).float() / scenes.semantic.numel()
    assert (share[1:] > 0.015).all() and share[0] == 0


def test_captions_name_the_class(scenes):
    for labels, captions in zip(scenes.labels, scenes.captions, strict=True):
        assert len(captions) == (labels > 0).sum()
        for label, caption in zip(labels.tolist(), captions, strict=False):
            subject = caption.split(" behind ")[0].split(" partly ")[0].split(" in front ")[0]
            assert CLASS_NAMES[label] in subject.split(), caption
            assert caption.split()[0] == ("an" if caption.split()[1][0] in "aeiou" else "a")
    assert len({phrase for row in scenes.captions for phrase in row}) > 80


@pytest.mark.parametrize("size", [(64, 96), (96, 64), (33, 47), (16, 16), (40, 200)])
def test_any_size(size):
    scenes = make_scenes(range(3), size=size)
    assert scenes.images.shape[2:] == scenes.masks.shape[2:] == scenes.semantic.shape[1:] == size
    assert scenes.semantic.min() >= 1 and scenes.masks.sum(dim=1).max() <= 1
    assert (scenes.boxes[..., 2] <= size[1]).all() and (scenes.boxes[..., 3] <= size[0]).all()


def test_a_scene_keeps_its_content_at_another_size():
    small, large = make_scenes(range(16)), make_scenes(range(16), size=(128, 128))
    same = (small.labels == large.labels).all(dim=1)
    assert same.float().mean() > 0.85, "only objects at the edge of being hidden may differ"
    boxes = (small.boxes[same] * 2 - large.boxes[same]).abs()
    assert boxes.mean() < 1 and boxes.flatten().quantile(0.98) <= 4
    reduced = torch.nn.functional.avg_pool2d(large.images, 2)
    assert (reduced - small.images).abs().mean() < 0.03


def test_one_scene_as_a_sample():
    sample, batch = make_scene(9, size=(64, 80)), make_scenes([9], size=(64, 80))
    n = int((batch.labels > 0).sum())
    assert len(sample.boxes) == len(sample.labels) == len(sample.masks) == len(sample.captions) == n
    assert torch.equal(sample.image, batch.images[0]) and torch.equal(
        sample.masks, batch.masks[0, :n]
    )
    assert sample.class_names == CLASS_NAMES and sample.stuff == STUFF


def test_scenes_have_not_changed_by_accident(scenes):
    assert scenes.semantic[1].flatten().bincount(minlength=9).tolist() == PINNED
    assert scenes.captions[1] == PINNED_CAPTIONS


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            ([-1],),
            ValueError,
            r"^indices: expected numbers from 0 to 2\*\*31 - 1, but row 0 is -1$",
        ),
        (
            ([0, 2**31],),
            ValueError,
            "^indices: expected numbers from 0 .* but row 1 is 2147483648$",
        ),
        (([],), ValueError, r"^indices: expected shape \[b\] with at least one scene, got \[0\]$"),
        (([[1, 2]],), ValueError, r"^indices: expected shape \[b\] .* got \[1, 2\]$"),
        (([0.5],), TypeError, "^indices: expected whole numbers, got torch.float32$"),
        (([True],), TypeError, "^indices: expected whole numbers, got torch.bool$"),
        ((["one"],), TypeError, "^indices: expected whole numbers, got "),
        ((3,), TypeError, "^indices: expected whole numbers, got 3$"),
    ],
)
def test_wrong_indices(arguments, error, message):
    with pytest.raises(error, match=message):
        make_scenes(*arguments)


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"size": (0, 64)},
            ValueError,
            r"^size: expected \(height, width\) above zero, got \(0, 64\)$",
        ),
        ({"size": 64}, ValueError, r"^size: expected \(height, width\) above zero, got 64$"),
        (
            {"size": (8, 64)},
            ValueError,
            r"^size: expected a height and width of at least 16 pixels, got \(8, 64\)$",
        ),
        ({"seed": -1}, ValueError, "^seed: expected a whole number of at least 0, got -1$"),
        ({"seed": 2**31}, ValueError, r"^seed: expected 0 <= seed < 2\*\*31, got 2147483648$"),
        ({"seed": 0.5}, TypeError, "^seed: expected a whole number of at least 0, got 0.5$"),
        ({"device": "cuda:99"}, ValueError, "^device: this machine has no device 'cuda:99'"),
        ({"device": "abacus"}, ValueError, "^device: this machine has no device 'abacus'"),
    ],
)
def test_wrong_options(options, error, message):
    with pytest.raises(error, match=message):
        make_scenes([0], **options)
