"""Scenes for detectors: training data, evaluation, and that the recipes run."""

import json
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from course_utils.data.scenes import CLASS_NAMES, STUFF, THINGS, make_scenes
from course_utils.models import panoptic_fpn
from course_utils.ops.masks import masks_to_boxes
from course_utils.training import batches, instances
from course_utils.training.instances import (
    detector_task,
    instance_metrics,
    losses,
    panoptic_task,
    predict_panoptic,
    weighted_loss,
)
from course_utils.training.recipes import (
    MASK_RCNN,
    PANOPTIC_FPN,
    PANOPTIC_UNET,
    fit,
    load_checkpoint,
    ship,
)

TASKS = {"detector": detector_task, "panoptic": panoptic_task}
RECIPES = {recipe.name: recipe for recipe in (MASK_RCNN, PANOPTIC_FPN, PANOPTIC_UNET)}
DETECTOR_METRICS = {"box_ap", "box_ap50", "mask_ap", "mask_ap50"}


@pytest.fixture
def few(monkeypatch):
    """A small stock of scenes, and few to judge by."""
    monkeypatch.setattr(batches, "HELD_OUT", 50)
    monkeypatch.setattr(instances, "SCENES", 128)


def make_task(name="panoptic", size=32):
    return TASKS[name]("scenes", batch_size=6, size=size, seed=0)


def same(one, other):
    """Whether two batches are equal to the last bit."""
    return (
        torch.equal(one.images, other.images)
        and torch.equal(one.sizes, other.sizes)
        and one.objects.keys() == other.objects.keys()
        and all(torch.equal(rows, other.objects[key]) for key, rows in one.objects.items())
        and (one.semantic is other.semantic or torch.equal(one.semantic, other.semantic))
    )


# --- batches


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize(("step", "numbers"), [(0, range(6)), (20, range(120, 126))])
def test_targets_are_the_scenes_own(few, name, step, numbers):
    batch = make_task(name).batches(step)
    scenes = make_scenes(numbers, size=(32, 32))
    assert batch.images.dtype == torch.float32
    assert (batch.images - scenes.images).abs().max() < 0.501 / 255
    assert batch.objects.keys() == {"image", "boxes", "labels", "iscrowd", "masks"}
    assert not batch.objects["iscrowd"].any()
    for k in range(6):
        sample, mine = scenes.sample(k), batch.objects["image"] == k
        for key in ("boxes", "labels", "masks"):
            assert batch.objects[key].dtype == getattr(sample, key).dtype
            assert torch.equal(batch.objects[key][mine], getattr(sample, key)), key
    if name == "panoptic":
        assert torch.equal(batch.semantic, scenes.semantic)
    else:
        assert batch.semantic is None


@pytest.mark.parametrize("name", TASKS)
def test_second_round_is_mirrored(few, name):
    """126, 127, and 0 to 3 mirrored; the boxes move with the masks."""
    batch = make_task(name, size=64).batches(21)
    scenes = make_scenes([126, 127, 0, 1, 2, 3], size=(64, 64))
    assert (batch.images[:2] - scenes.images[:2]).abs().max() < 0.501 / 255
    assert (batch.images[2:] - scenes.images[2:].flip(-1)).abs().max() < 0.501 / 255
    for k in range(6):
        sample, mine = scenes.sample(k), batch.objects["image"] == k
        masks, semantic = (
            part if k < 2 else part.flip(-1) for part in (sample.masks, sample.semantic)
        )
        assert torch.equal(batch.objects["masks"][mine], masks)
        assert torch.equal(batch.objects["labels"][mine], sample.labels)
        assert torch.equal(batch.objects["boxes"][mine], masks_to_boxes(masks))
        if name == "panoptic":
            assert torch.equal(batch.semantic[k], semantic)
    assert (batch.objects["image"] >= 2).any()


def test_third_round_is_the_first_again(few):
    step = TASKS["panoptic"]("scenes", batch_size=64, size=32, seed=0).batches
    assert same(step(4), step(0)) and not same(step(2), step(0))


@pytest.mark.parametrize("name", TASKS)
def test_a_batch_does_not_depend_on_those_before(few, name):
    first, second = make_task(name).batches, make_task(name).batches
    for step in range(22):
        first(step)
    assert same(first(30), second(30))
    assert same(first(3), second(3)) and not same(first(3), first(4))


def test_a_batch_is_not_changed_by_what_is_done_to_the_last_one(few):
    task = make_task()
    batch = task.batches(2)
    for tensor in (batch.images, batch.semantic, *batch.objects.values()):
        tensor.zero_()
    assert same(task.batches(2), make_task().batches(2))


@pytest.mark.parametrize("name", TASKS)
def test_a_task_knows_its_classes(name):
    names = make_task(name).class_names
    assert names == (CLASS_NAMES if name == "panoptic" else CLASS_NAMES[:5])
    assert make_task(name).build == ({"things": 4} if name == "panoptic" else {})


# --- loss


def test_weighted_loss_counts_boxes_and_masks_more():
    names = ("objectness", "proposal_box", "class", "box", "mask", "semantic")
    batch = make_task("detector").batches(0)

    class Losses(torch.nn.Module):
        def forward(self, images, objects, sizes):
            assert images is batch.images and sizes is batch.sizes
            return {name: torch.tensor(10.0**k) for k, name in enumerate(names)}

    weights = {"proposal_box": 3.0, "box": 2.0, "mask": 2.0}
    assert weighted_loss(Losses(), batch, weights) == 1 + 30 + 100 + 2e3 + 2e4 + 1e5
    assert MASK_RCNN.total_loss(Losses(), batch) == 1 + 30 + 100 + 2e3 + 2e4 + 1e5
    assert replace(MASK_RCNN, loss_weights={"mask": 0.5}).total_loss(Losses(), batch) == 106111


def test_crowds_are_no_objects_to_learn_from():
    batch = make_task("detector").batches(0)
    batch.objects["iscrowd"][1::2] = True
    network = MASK_RCNN.build(5)
    torch.manual_seed(0)
    found = losses(network, batch)
    single = {key: rows[::2] for key, rows in batch.objects.items()}
    torch.manual_seed(0)
    assert found == network(batch.images, single, batch.sizes)
    torch.manual_seed(0)
    assert found != network(batch.images, batch.objects, batch.sizes)


# --- metrics


def all_stuff_counts(scenes, number):
    """Whether no piece of stuff is so small that it is left void."""
    areas = scenes.semantic[number].flatten().bincount(minlength=len(CLASS_NAMES))[list(STUFF)]
    return bool(((areas == 0) | (areas >= scenes.semantic[number].numel() / 150)).all())


@pytest.fixture(scope="module")
def some_scenes():
    """Two batches of scenes: with objects of every class, and without a tiny piece of stuff."""
    scenes = make_scenes(range(60), seed=1, size=(64, 64))
    numbers = [k for k in range(60) if all_stuff_counts(scenes, k)][:24]
    scenes = make_scenes(numbers, seed=1, size=(64, 64))
    assert set(scenes.labels.flatten().tolist()) == {0, *THINGS}
    assert len(numbers) == 24
    return [scenes.sample(k) for k in range(24)]


class Oracle(torch.nn.Module):
    """Predicts the ground truth of each sample in turn, or a change of it."""

    semantic_classes = tuple(range(9))
    channel = torch.arange(256)

    def __init__(self, samples, change=dict, with_stuff=True):
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(0))
        self.predictions = [change(truth(sample, with_stuff)) for sample in samples]
        self.images = [sample.image for sample in samples]

    def forward(self, images):
        numbers = [
            next(k for k, known in enumerate(self.images) if torch.equal(known, image))
            for image in images
        ]
        return [self.predictions[k] for k in numbers]


def truth(sample, with_stuff=True):
    found = {key: getattr(sample, key) for key in ("boxes", "labels", "masks")}
    found["scores"] = torch.linspace(1, 0.6, 5)[: len(sample.labels)]
    return found | {"semantic": sample.semantic} if with_stuff else found


def nothing(found):
    return {key: rows if key == "semantic" else rows[:0] for key, rows in found.items()}


def test_the_truth_scores_one(some_scenes):
    metrics = instance_metrics(Oracle(some_scenes), some_scenes, size=64)
    assert set(metrics) == DETECTOR_METRICS | {"pq", "sq", "rq", "mean_iou"}
    assert metrics == pytest.approx(dict.fromkeys(metrics, 1.0))
    assert all(type(value) is float for value in metrics.values())


def test_a_detector_has_no_panoptic_metrics(some_scenes):
    metrics = instance_metrics(Oracle(some_scenes, with_stuff=False), some_scenes, size=64)
    assert metrics == pytest.approx(dict.fromkeys(DETECTOR_METRICS, 1.0))


def test_without_objects_stuff_alone_counts(some_scenes):
    metrics = instance_metrics(Oracle(some_scenes, nothing), some_scenes, size=64)
    seen = torch.stack([sample.semantic for sample in some_scenes]).unique()
    stuff = sum(label in STUFF for label in seen.tolist())
    assert len(seen) == len(THINGS) + stuff
    expected = dict.fromkeys(DETECTOR_METRICS, 0.0) | {"mean_iou": 1.0}
    expected |= dict.fromkeys(("pq", "sq", "rq"), stuff / len(seen))
    assert metrics == pytest.approx(expected)


def test_boxes_and_masks_are_evaluated_apart(some_scenes):
    def half(found):
        masks = found["masks"].clone()
        masks[:, :, 1::2] = False
        masks[:, 1::2] = False  # a quarter of the pixels is left
        return found | {"masks": masks}

    metrics = instance_metrics(Oracle(some_scenes, half), some_scenes, size=64)
    assert metrics["box_ap"] == pytest.approx(1) and metrics["mask_ap50"] < 0.1


def test_objects_of_another_class_are_no_hits(some_scenes):
    def another(found):
        return found | {"labels": found["labels"] % 4 + 1}

    metrics = instance_metrics(Oracle(some_scenes, another), some_scenes, size=64)
    assert metrics["box_ap50"] < 0.1 and metrics["pq"] < 0.7 and metrics["mean_iou"] == 1


def test_mean_iou_is_that_of_all_batches_together(some_scenes):
    """Sky where there is water: both classes lose, by the pixels of all scenes."""
    sky, water = CLASS_NAMES.index("sky"), CLASS_NAMES.index("water")

    def dry(found):
        return found | {"semantic": found["semantic"].masked_fill(found["semantic"] == water, sky)}

    labels = torch.stack([sample.semantic for sample in some_scenes])
    seen = labels.unique().tolist()
    part = float((labels == sky).sum() / ((labels == sky) | (labels == water)).sum())
    assert water in seen
    metrics = instance_metrics(Oracle(some_scenes, dry), some_scenes, size=64)
    assert metrics["mean_iou"] == pytest.approx((len(seen) - 2 + part) / len(seen))


def test_mean_iou_is_over_the_classes_of_the_semantic_head(some_scenes):
    """A network with the class "other": things are one class, whatever their label."""
    network = panoptic_fpn.small(9)
    oracle = Oracle(some_scenes, lambda found: found | {"semantic": found["semantic"] % 9})
    oracle.semantic_classes, oracle.channel = network.semantic_classes, network.channel
    assert instance_metrics(oracle, some_scenes, size=64)["mean_iou"] == 1

    def other(found):
        labels = found["semantic"]
        return found | {"semantic": torch.where(labels < 5, 0, labels)}

    oracle.predictions = Oracle(some_scenes, other).predictions
    assert instance_metrics(oracle, some_scenes, size=64)["mean_iou"] == 1


def test_evaluation_leaves_predictions_as_they_are(some_scenes):
    oracle = Oracle(some_scenes)
    before = [dict(one) for one in oracle.predictions]
    instance_metrics(oracle, some_scenes, size=64)
    for one, other in zip(oracle.predictions, before):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("number", range(4))
def test_predict_panoptic_of_the_truth_is_the_scenes_map(some_scenes, number):
    panoptic, found = some_scenes[number].panoptic, truth(some_scenes[number])
    assert torch.equal(predict_panoptic(found), panoptic)
    bare = predict_panoptic(nothing(found))
    assert torch.equal(bare, torch.where(panoptic % 1000 == 0, panoptic, 0))


def test_predict_panoptic_leaves_out_low_scores_and_small_areas():
    semantic = torch.full((30, 40), STUFF[0])
    semantic[:2, :4] = STUFF[1]  # 8 of 1200 pixels: just enough
    semantic[-1, -7:] = STUFF[2]  # 7: too few
    masks = torch.zeros(2, 30, 40, dtype=torch.bool)
    masks[0, 10:20, 10:20] = masks[1, 10:20, 25:30] = True
    found = {"masks": masks, "labels": torch.tensor([3, 1]), "scores": torch.tensor([0.9, 0.4])}
    panoptic = predict_panoptic(found | {"semantic": semantic})
    expected = 1000 * semantic
    expected[-1, -7:] = 0
    expected[10:20, 10:20] = 3001
    assert torch.equal(panoptic, expected)


def test_evaluation_is_on_held_out_scenes(few):
    shown = []

    class Model(torch.nn.Module):
        nothing = torch.nn.Parameter(torch.zeros(0))

        def parameters(self, recurse=True):
            yield self.nothing

        def forward(self, images):
            shown.append(images)
            empty = torch.zeros(0, *images.shape[2:], dtype=torch.bool)
            found = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long(), "masks": empty}
            return [found | {"scores": torch.zeros(0)} for _ in images]

    metrics = make_task("detector").evaluate(Model())
    assert metrics == dict.fromkeys(("box_ap", "box_ap50", "mask_ap", "mask_ap50"), 0.0)
    expected = make_scenes(range(50), seed=1, size=(32, 32)).images
    assert torch.equal(torch.cat(shown), expected)


# --- recipes


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_recipes_train_ship_and_load(few, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "course_utils.training.recipes.data_path", lambda *parts: tmp_path.joinpath(*parts)
    )
    recipe = replace(recipe, steps=3, size=48, batch_size=4)
    model, history, task = fit(recipe, device="cpu")
    assert len(history.losses) == 3 and set(history.metrics) == {3}
    metrics = ship(
        tmp_path / f"checkpoints/{recipe.name}.safetensors", recipe, model, history, task
    )
    panoptic = recipe.name.startswith("panoptic")
    assert set(metrics) == DETECTOR_METRICS | (
        {"pq", "sq", "rq", "mean_iou"} if panoptic else set()
    )
    assert all(0 <= value <= 1 for value in metrics.values())
    card = json.loads((tmp_path / f"checkpoints/{recipe.name}.json").read_text())
    assert card["command"] == (
        f"python -m course_utils.training --recipe {recipe.name} --steps 3 --batch-size 4 --size 48"
    )
    loaded = load_checkpoint(recipe.name)
    assert not loaded.training and task.evaluate(loaded) == metrics
    images = torch.rand(2, 3, 48, 48)
    for found, expected in zip(loaded(images), model.eval()(images)):
        assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_training_that_was_cut_ends_with_the_same_weights(few, recipe, tmp_path, monkeypatch):
    def stop(record):
        if record.step == 4:
            raise KeyboardInterrupt

    recipe, state = replace(recipe, steps=6, size=48, batch_size=4), tmp_path / "state.safetensors"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("course_utils.training.loop.time.monotonic", iter(range(0, 900, 9)).__next__)
        fit(recipe, device="cpu", checkpoint=state, watch=stop)
    steps = []
    resumed, history, _ = fit(
        recipe,
        device="cpu",
        checkpoint=state,
        resume=True,
        watch=lambda record: steps.append(record.step),
    )
    assert steps == [4, 5, 6]
    uncut, expected, _ = fit(recipe, device="cpu")
    assert history == expected
    for (key, one), other in zip(resumed.state_dict().items(), uncut.state_dict().values()):
        assert torch.equal(one, other), key
