"""Scenes for detectors: training data, evaluation, and that the recipes run."""

import json
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from course_utils.data.scenes import CLASS_NAMES, STUFF, THINGS, Scenes, make_scenes
from course_utils.models import panoptic_fpn
from course_utils.ops.masks import masks_to_boxes
from course_utils.training import instances
from course_utils.training.instances import (
    detector_task,
    panoptic_task,
    predict_panoptic,
    scene_metrics,
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
    monkeypatch.setattr(instances, "HELD_OUT", 50)
    monkeypatch.setattr(instances, "SCENES", 128)


def make_task(name="panoptic", size=32):
    return TASKS[name]("scenes", batch_size=6, size=size, seed=0, device="cpu")


def same(one, other):
    """Whether two batches are equal to the last bit."""
    (images, targets), (others, their) = one, other
    return torch.equal(images, others) and all(
        mine.keys() == its.keys() and all(torch.equal(mine[key], its[key]) for key in mine)
        for mine, its in zip(targets, their, strict=True)
    )


# --- batches


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize(("step", "numbers"), [(0, range(6)), (20, range(120, 126))])
def test_targets_are_the_scenes_own(few, name, step, numbers):
    images, targets = make_task(name).batches(step)
    scenes = make_scenes(numbers, size=(32, 32))
    assert images.dtype == torch.float32 and (images - scenes.images).abs().max() < 0.501 / 255
    assert len(targets) == 6
    for k, target in enumerate(targets):
        sample = scenes.sample(k)
        keys = {"boxes", "labels", "masks"} | ({"semantic"} if name == "panoptic" else set())
        assert set(target) == keys
        for key in keys:
            assert target[key].dtype == getattr(sample, key).dtype
            assert torch.equal(target[key], getattr(sample, key)), key


@pytest.mark.parametrize("name", TASKS)
def test_second_round_is_mirrored(few, name):
    """126, 127, and 0 to 3 mirrored; the boxes move with the masks."""
    images, targets = make_task(name, size=48).batches(21)
    scenes = make_scenes([126, 127, 0, 1, 2, 3], size=(48, 48))
    assert (images[:2] - scenes.images[:2]).abs().max() < 0.501 / 255
    assert (images[2:] - scenes.images[2:].flip(-1)).abs().max() < 0.501 / 255
    for k, target in enumerate(targets):
        sample = scenes.sample(k)
        masks, semantic = (
            part if k < 2 else part.flip(-1) for part in (sample.masks, sample.semantic)
        )
        assert torch.equal(target["masks"], masks)
        assert torch.equal(target["labels"], sample.labels)
        assert torch.equal(target["boxes"], masks_to_boxes(masks))
        if name == "panoptic":
            assert torch.equal(target["semantic"], semantic)
    assert sum(len(target["labels"]) for target in targets[2:]) > 0


def test_third_round_is_the_first_again(few):
    batches = TASKS["panoptic"]("scenes", batch_size=64, size=32, seed=0, device="cpu").batches
    assert same(batches(4), batches(0)) and not same(batches(2), batches(0))


@pytest.mark.parametrize("name", TASKS)
def test_a_batch_does_not_depend_on_those_before(few, name):
    first, second = make_task(name).batches, make_task(name).batches
    for step in range(22):
        first(step)
    assert same(first(30), second(30))
    assert same(first(3), second(3)) and not same(first(3), first(4))


def test_a_batch_is_not_changed_by_what_is_done_to_the_last_one(few):
    batches = make_task().batches
    images, targets = batches(2)
    images.zero_()
    for target in targets:
        for tensor in target.values():
            tensor.zero_()
    assert same(batches(2), make_task().batches(2))


@pytest.mark.parametrize("name", TASKS)
def test_a_task_knows_its_classes_and_reads_scenes_only(name):
    names = make_task(name).class_names
    assert names == (CLASS_NAMES if name == "panoptic" else CLASS_NAMES[:5])
    with pytest.raises(
        ValueError,
        match=r'^data: expected "scenes", the only training set with masks .* got \'x\'$',
    ):
        TASKS[name]("x", batch_size=2, size=32, seed=0, device="cpu")


# --- loss


def test_weighted_loss_counts_boxes_and_masks_more():
    names = ("objectness", "proposal_box", "class", "box", "mask", "semantic")
    batch = torch.zeros(1, 3, 2, 2), [{"labels": torch.tensor([1])}]

    class Losses(torch.nn.Module):
        def forward(self, images, targets):
            assert images is batch[0] and targets is batch[1]
            return {name: torch.tensor(10.0**k) for k, name in enumerate(names)}

    weights = {"proposal_box": 3.0, "box": 2.0, "mask": 2.0}
    assert weighted_loss(Losses(), batch, weights) == 1 + 30 + 100 + 2e3 + 2e4 + 1e5
    assert MASK_RCNN.total_loss(Losses(), batch) == 1 + 30 + 100 + 2e3 + 2e4 + 1e5
    assert replace(MASK_RCNN, loss_weights={"mask": 0.5}).total_loss(Losses(), batch) == 106111


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
    return [cut(scenes, slice(0, 10)), cut(scenes, slice(10, 24))]


def cut(scenes, rows):
    return Scenes(*(part[rows] for part in scenes))


class Oracle(torch.nn.Module):
    """Predicts the ground truth of each batch, or a change of it."""

    semantic_classes = tuple(range(9))
    channel = torch.arange(256)

    def __init__(self, parts, change=dict, with_stuff=True):
        super().__init__()
        self.predictions = [
            [change(truth(part, k, with_stuff)) for k in range(len(part.images))] for part in parts
        ]
        self.images = [part.images for part in parts]

    def forward(self, images):
        number = next(n for n, known in enumerate(self.images) if known is images)
        return self.predictions[number]


def truth(scenes, number, with_stuff):
    sample = scenes.sample(number)
    found = {key: getattr(sample, key) for key in ("boxes", "labels", "masks")}
    found["scores"] = torch.linspace(1, 0.6, 5)[: len(sample.labels)]
    return found | {"semantic": sample.semantic} if with_stuff else found


def nothing(found):
    return {key: rows if key == "semantic" else rows[:0] for key, rows in found.items()}


def test_the_truth_scores_one(some_scenes):
    metrics = scene_metrics(Oracle(some_scenes), iter(some_scenes))
    assert set(metrics) == DETECTOR_METRICS | {"pq", "sq", "rq", "mean_iou"}
    assert metrics == pytest.approx(dict.fromkeys(metrics, 1.0))
    assert all(type(value) is float for value in metrics.values())


def test_a_detector_has_no_panoptic_metrics(some_scenes):
    metrics = scene_metrics(Oracle(some_scenes, with_stuff=False), iter(some_scenes))
    assert metrics == pytest.approx(dict.fromkeys(DETECTOR_METRICS, 1.0))


def test_without_objects_stuff_alone_counts(some_scenes):
    metrics = scene_metrics(Oracle(some_scenes, nothing), iter(some_scenes))
    seen = torch.cat([part.semantic for part in some_scenes]).unique()
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

    metrics = scene_metrics(Oracle(some_scenes, half), iter(some_scenes))
    assert metrics["box_ap"] == pytest.approx(1) and metrics["mask_ap50"] < 0.1


def test_objects_of_another_class_are_no_hits(some_scenes):
    def another(found):
        return found | {"labels": found["labels"] % 4 + 1}

    metrics = scene_metrics(Oracle(some_scenes, another), iter(some_scenes))
    assert metrics["box_ap50"] < 0.1 and metrics["pq"] < 0.7 and metrics["mean_iou"] == 1


def test_mean_iou_is_that_of_all_batches_together(some_scenes):
    """Sky where there is water: both classes lose, by the pixels of all scenes."""
    sky, water = CLASS_NAMES.index("sky"), CLASS_NAMES.index("water")

    def dry(found):
        return found | {"semantic": found["semantic"].masked_fill(found["semantic"] == water, sky)}

    labels = torch.cat([part.semantic for part in some_scenes])
    seen = labels.unique().tolist()
    part = float((labels == sky).sum() / ((labels == sky) | (labels == water)).sum())
    assert water in seen
    metrics = scene_metrics(Oracle(some_scenes, dry), iter(some_scenes))
    assert metrics["mean_iou"] == pytest.approx((len(seen) - 2 + part) / len(seen))


def test_mean_iou_is_over_the_classes_of_the_semantic_head(some_scenes):
    """A network with the class "other": things are one class, whatever their label."""
    network = panoptic_fpn.small(9)
    oracle = Oracle(some_scenes, lambda found: found | {"semantic": found["semantic"] % 9})
    oracle.semantic_classes, oracle.channel = network.semantic_classes, network.channel
    assert scene_metrics(oracle, some_scenes)["mean_iou"] == 1

    def other(found):
        labels = found["semantic"]
        return found | {"semantic": torch.where(labels < 5, 0, labels)}

    oracle.predictions = Oracle(some_scenes, other).predictions
    assert scene_metrics(oracle, some_scenes)["mean_iou"] == 1


def test_evaluation_leaves_predictions_as_they_are(some_scenes):
    oracle = Oracle(some_scenes)
    before = [[dict(one) for one in part] for part in oracle.predictions]
    scene_metrics(oracle, some_scenes)
    for part, others in zip(oracle.predictions, before):
        for one, other in zip(part, others):
            assert one.keys() == other.keys()
            assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("number", range(4))
def test_predict_panoptic_of_the_truth_is_the_scenes_map(some_scenes, number):
    panoptic = some_scenes[0].panoptic[number]
    found = truth(some_scenes[0], number, True)
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
