"""From samples to a batch: padding, the flat list of objects, and the share of a process."""

import torch

from course_utils.core import VOID
from course_utils.data.collate import collate, flatten_targets
from course_utils.data.scenes import make_scene

SIZES = [(48, 64), (40, 33), (64, 64)]


def samples():
    return [make_scene(k, size=size) for k, size in enumerate(SIZES)]


def test_images_are_padded_on_the_right_and_at_the_bottom():
    batch = collate(samples())
    assert batch.images.shape == (3, 3, 64, 64) and batch.sizes.tolist() == list(map(list, SIZES))
    for image, semantic, sample, (height, width) in zip(
        batch.images, batch.semantic, samples(), SIZES
    ):
        assert torch.equal(image[:, :height, :width], sample.image)
        assert torch.equal(semantic[:height, :width], sample.semantic)
        for grid, empty in ((image.clone(), 0), (semantic.clone(), VOID)):
            grid[..., :height, :width] = empty
            assert (grid == empty).all()


def test_the_padded_size_is_a_multiple_of_the_divisor():
    assert collate(samples()[1:2]).images.shape == (1, 3, 64, 64)
    assert collate(samples()[1:2], 1).images.shape == (1, 3, 40, 33)


def test_objects_know_their_image():
    batch, given = collate(samples()), samples()
    assert batch.objects["image"].tolist() == [k for k, one in enumerate(given) for _ in one.labels]
    for k, ((height, width), one) in enumerate(zip(SIZES, given)):
        mine = batch.objects["image"] == k
        assert torch.equal(batch.objects["boxes"][mine], one.boxes)
        assert torch.equal(batch.objects["labels"][mine], one.labels)
        masks = batch.objects["masks"][mine]
        assert torch.equal(masks[:, :height, :width], one.masks)
        assert masks.sum() == one.masks.sum()
    assert batch.objects["iscrowd"].dtype == torch.bool and not batch.objects["iscrowd"].any()


def test_crowds_are_marked_and_what_a_data_set_lacks_is_left_out():
    one, other = samples()[:2]
    crowd = torch.arange(len(one.labels)) == 0
    one = one._replace(iscrowd=crowd, semantic=None, masks=None)
    other = other._replace(semantic=None, masks=None)
    batch = collate([one, other])
    assert batch.objects["iscrowd"].tolist() == crowd.tolist() + [False] * len(other.labels)
    assert batch.semantic is None and "masks" not in batch.objects
    assert collate([one._replace(boxes=None)]).objects is None


def test_images_without_objects():
    empty = [
        one._replace(boxes=one.boxes[:0], labels=one.labels[:0], masks=one.masks[:0])
        for one in samples()
    ]
    objects = collate(empty).objects
    assert objects["boxes"].shape == (0, 4) and objects["masks"].shape == (0, 64, 64)
    objects = collate([empty[0], samples()[1]]).objects
    assert objects["image"].unique().tolist() == [1]


def test_the_parts_of_a_batch_are_the_batch():
    batch = collate(samples())
    parts = [batch.part(slice(k, k + 1)) for k in range(3)]
    for name in ("images", "sizes", "semantic"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))
    for key in ("boxes", "labels", "masks", "iscrowd"):
        rows = torch.cat([part.objects[key] for part in parts])
        assert torch.equal(rows, batch.objects[key])
    assert all((part.objects["image"] == 0).all() for part in parts)
    both = batch.part(slice(1, 3)).objects["image"]
    assert torch.equal(both, batch.objects["image"][batch.objects["image"] > 0] - 1)


def test_to_a_device_with_nothing_but_images():
    batch = collate(samples()).to("meta")
    assert batch.images.is_meta and batch.objects["masks"].is_meta and batch.semantic.is_meta
    assert not batch.sizes.is_meta
    bare = collate([one._replace(boxes=None, semantic=None) for one in samples()]).to("meta")
    assert bare.objects is None and bare.semantic is None


def test_flat_targets_have_the_rows_of_all_images():
    targets = [{"labels": torch.tensor([3, 1])}, {"labels": torch.tensor([]).long()}]
    assert flatten_targets([*targets, targets[0]])["image"].tolist() == [0, 0, 2, 2]
