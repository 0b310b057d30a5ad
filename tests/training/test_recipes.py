"""Recipes, their data, and the command line."""

import json
import os
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from course_utils.core import VOID, data_path
from course_utils.data import voc
from course_utils.data.collate import Batch
from course_utils.data.scenes import CLASS_NAMES, make_scenes
from course_utils.data.weights import load_weights
from course_utils.training import History, batches, instances, semantic
from course_utils.training.__main__ import main
from course_utils.training.recipes import FCN, RECIPES, UNET, fit, load_checkpoint, settings, ship
from course_utils.training.semantic import pixel_loss, semantic_metrics, semantic_task

SMALL = ["--size", "32", "--batch-size", "4", "--device", "cpu"]


@pytest.fixture
def few(monkeypatch):
    """A small stock of scenes, and few to judge by."""
    monkeypatch.setattr(batches, "HELD_OUT", 50)
    for module in (semantic, instances):
        monkeypatch.setattr(module, "SCENES", 128)


def scene_task(batch_size=6):
    return semantic_task("scenes", batch_size=batch_size, size=32, seed=0)


def maps(batch):
    assert batch.objects is None
    return batch.images, batch.semantic


def test_scenes_come_in_order_and_again_mirrored(few):
    of_step = scene_task().batches
    for step, numbers in [(0, range(6)), (20, range(120, 126))]:
        images, labels = maps(of_step(step))
        scenes = make_scenes(numbers, size=(32, 32))
        assert torch.equal(labels, scenes.semantic)
        assert (images - scenes.images).abs().max() < 0.501 / 255
    images, labels = maps(of_step(21))  # 126, 127, and 0 to 3 mirrored
    scenes = make_scenes([126, 127, 0, 1, 2, 3], size=(32, 32))
    assert torch.equal(labels[:2], scenes.semantic[:2])
    assert torch.equal(labels[2:], scenes.semantic[2:].flip(-1))
    assert (images[2:] - scenes.images[2:].flip(-1)).abs().max() < 0.501 / 255


def test_a_batch_does_not_depend_on_those_before(few):
    first, second = scene_task().batches, scene_task().batches
    for step in range(22):
        first(step)
    assert all(torch.equal(a, b) for a, b in zip(maps(first(30)), maps(second(30))))


def test_void_counts_as_zero_and_shares_average_to_the_whole():
    images, labels = torch.rand(4, 3, 8, 8), torch.randint(0, 9, (4, 8, 8))
    labels[0] = VOID
    model = torch.nn.Conv2d(3, 9, 1)
    batch = Batch(images, semantic=labels)
    shares = [pixel_loss(model, batch.part(rows)) for rows in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(sum(shares) / 2, pixel_loss(model, batch))
    assert pixel_loss(model, batch.part(slice(0, 1))) == 0


class ScoreByColour(torch.nn.Module):
    def forward(self, images):
        return torch.nn.functional.one_hot(images[:, 0].long(), 9).movedim(-1, 1)


def test_a_class_that_never_occurs_is_not_averaged():
    labels = torch.tensor([[[1, 1, 1, 2, 2, 2]]])
    images = torch.tensor([0.0, 1.0, 0.0, 2.0, 2.0, 2.0]).expand(1, 3, 1, 6)
    metrics = semantic_metrics(ScoreByColour(), [Batch(images, semantic=labels)], 9)
    assert {name: round(value, 3) for name, value in metrics.items()} == {
        "mean_iou": 0.75,  # the third and the fourth pixel are contour
        "mean_iou_with_contours": 0.667,
        "pixel_accuracy": 0.75,
    }


@pytest.fixture(params=["VOC", "COCO"])
def folder(request, tmp_path):
    """Eight photos to learn from and two to judge by."""
    scenes = {
        "train": make_scenes(range(8), size=(40, 60)),
        "val": make_scenes([8, 9], size=(40, 60)),
    }
    for split, some in scenes.items():
        if request.param == "VOC":
            voc.write_voc(tmp_path, some, split)
        else:
            write_coco(tmp_path, some, split)
    return tmp_path


def write_coco(folder, scenes, split):
    """The scenes' things, each as the polygon of its box."""
    voc.write_voc(folder / "voc", scenes, split)
    (folder / split).mkdir()
    (folder / "annotations").mkdir(exist_ok=True)
    images, annotations = [], []
    for k in range(len(scenes.images)):
        name = f"{split}_{k:06d}.jpg"
        os.replace(folder / "voc/JPEGImages" / name, folder / split / name)
        images.append({"id": k, "file_name": name, "height": 40, "width": 60})
        sample = scenes.sample(k)
        for (x1, y1, x2, y2), label in zip(sample.boxes.tolist(), sample.labels.tolist()):
            entry = {"id": len(annotations) + 1, "image_id": k, "category_id": label, "iscrowd": 0}
            entry |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            annotations.append(entry | {"segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]]})
    categories = [{"id": k, "name": CLASS_NAMES[k]} for k in range(1, 5)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / f"annotations/instances_{split}.json").write_text(json.dumps(content))


def test_photos_come_once_a_round_cropped_by_the_step_alone(folder):
    task, again = (semantic_task(str(folder), batch_size=4, size=32, seed=5) for _ in range(2))
    images, labels = maps(task.batches(7))
    assert images.shape == (4, 3, 32, 32) and labels.shape == (4, 32, 32)
    task.batches(0)
    assert all(torch.equal(a, b) for a, b in zip(maps(task.batches(7)), maps(again.batches(7))))
    other = semantic_task(str(folder), batch_size=4, size=32, seed=6)
    assert not torch.equal(other.batches(7).images, images)
    assert len(labels.unique()) > 1 and set(labels.unique().tolist()) <= {*range(21), VOID}


def test_a_folder_trains_from_the_command_line(folder, tmp_path, capsys):
    main(["fcn", "--data", str(folder), "--steps", "3", "--out", str(tmp_path / "out"), *SMALL])
    card = json.loads((tmp_path / "out/fcn.json").read_text())
    assert len(card["class_names"]) == (5 if (folder / "annotations").exists() else 21)
    assert "step 3/3" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["fcn", "unet", "nuclei"])
def test_every_segmentation_recipe_learns(few, name):
    _, history, _ = fit(replace(RECIPES[name], steps=30, size=32), device="cpu")
    assert history.losses[-1] < 0.75 * history.losses[0]
    metrics = history.metrics[30]
    assert metrics.get("mean_iou", metrics.get("foreground_iou")) > 0.15


@pytest.mark.parametrize("name", ["faster_rcnn", "mask_rcnn", "panoptic_fpn", "panoptic_unet"])
def test_every_detector_recipe_learns(few, name):
    _, history, _ = fit(replace(RECIPES[name], steps=80, size=64), device="cpu")
    assert sum(history.losses[-5:]) / 5 < 0.75 * history.losses[0]
    assert history.metrics[80]["box_ap50"] > 0.1


def test_both_forms_make_the_same_files_and_the_card_tells_all(few, tmp_path):
    for form, out in [(["--recipe", "fcn"], tmp_path / "a"), (["fcn"], tmp_path / "b")]:
        main([*form, "--steps", "4", "--seed", "3", "--out", str(out), *SMALL])
    first, second = (tmp_path / f"{out}/fcn.safetensors" for out in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "fcn.json",
        "fcn.safetensors",
    ]
    card = json.loads(first.with_suffix(".json").read_text())
    assert card["command"] == (
        "python -m course_utils.training --recipe fcn --steps 4 --batch-size 4 --size 32 --seed 3"
    )
    assert card["recipe"]["learning_rate"] == FCN.learning_rate
    model = FCN.build(9)
    load_weights(first, model)
    measured = scene_task().evaluate(model.eval())
    assert {name: round(value, 4) for name, value in measured.items()} == card["metrics"]


def test_the_command_line_resumes_to_the_same_weights(few, tmp_path, monkeypatch, capsys):
    def stop(record):
        if record.step == 3:
            raise KeyboardInterrupt

    command = ["fcn", "--steps", "6", *SMALL, "--out"]
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr("course_utils.training.__main__.print_progress", lambda batch_size: stop)
        patch.setattr("course_utils.training.loop.time.monotonic", iter(range(0, 900, 9)).__next__)
        main([*command, str(tmp_path / "a")])
    assert stopped.value.code == 130 and "--resume" in capsys.readouterr().err
    assert len(load_file(tmp_path / "a/fcn.state.safetensors")["losses"]) == 2
    main([*command, str(tmp_path / "a"), "--resume"])
    assert "resumed after step 2" in capsys.readouterr().out
    main([*command, str(tmp_path / "b")])
    whole, pieces = (load_file(tmp_path / f"{out}/fcn.safetensors") for out in "ab")
    assert all(torch.equal(whole[name], pieces[name]) for name in whole)


def test_an_interrupted_training_is_not_overwritten(few, tmp_path, capsys):
    state = tmp_path / "fcn.state.safetensors"
    fit(replace(FCN, steps=2, size=32), checkpoint=state, device="cpu")
    before, command = state.read_bytes(), ["fcn", "--steps", "2", *SMALL, "--out", str(tmp_path)]
    with pytest.raises(SystemExit):
        main(command)
    assert "--resume continues it, --fresh replaces it" in capsys.readouterr().err
    assert state.read_bytes() == before
    main([*command, "--fresh"])
    assert (tmp_path / "fcn.safetensors").exists() and not state.exists()


def test_a_training_starts_from_the_weights_that_fit(few, tmp_path, capsys):
    main(["faster_rcnn", "--start", "mask_rcnn", "--steps", "1", *SMALL, "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert "start: 77 of 77 tensors come from mask_rcnn\n" in said
    card = json.loads((tmp_path / "faster_rcnn.json").read_text())
    assert "--start mask_rcnn" in card["command"]
    again = load_checkpoint(tmp_path / "faster_rcnn.safetensors")
    shipped = dict(load_checkpoint("mask_rcnn").named_parameters())
    moved = [(tensor - shipped[key]).abs().max() for key, tensor in again.named_parameters()]
    assert 0 < max(moved) < 0.05  # one step of AdamW


def test_resume_refuses_another_recipe(few, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["fcn", "--steps", "4", *SMALL, "--out", str(tmp_path), "--size", "15"])
    fit(replace(FCN, steps=2, size=32), checkpoint=tmp_path / "fcn.state.safetensors", device="cpu")
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["fcn", "--steps", "2", *SMALL, "--out", str(tmp_path), "--resume"])
    assert stopped.value.code == 2
    assert "a training with batch_size 8, this one has 4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of the arguments NAME --recipe is required"),
        (["vgg"], "invalid choice: 'vgg'"),
        (["fcn", "--steps", "0"], "--steps: expected a whole number above 0, got '0'"),
        (["fcn", "--steps", "1.5"], "--steps: expected a whole number above 0, got '1.5'"),
        (
            ["fcn", "--learning-rate", "nan"],
            "--learning-rate: expected a number above 0, got 'nan'",
        ),
        (["fcn", "--seed", "-1"], "seed: expected 0 <= seed"),
        (["fcn", "--device", "abacus"], "this machine has no device 'abacus'"),
        (["fcn", "--data", "nowhere"], 'data: expected "scenes" or a folder, but there is no'),
        (
            ["fcn", "--data", "."],
            "data: expected . to hold images/ and panoptic.json or annotations.json, or ",
        ),
        (["fcn", "--size", "4"], "size: expected a height and width of at least 16 pixels"),
        (["fcn", "--size", "100000"], "--batch-size, --size: expected at most 1e+09 pixels"),
        (["fcn", "--batch-size", "1000000000"], "expected at most 1e+09 pixels in a batch"),
        (["fcn", "--device", "meta"], "--device: expected a device that computes, got 'meta'"),
        (["fcn", "--workers", "-1"], "--workers: expected 0 or more, got -1"),
        (["fcn", "--out", "/dev/null/x"], "--out: expected a folder that can be written"),
        (["fcn", "--start", "vgg", "--steps", "1"], "name: expected one of fcn, unet"),
        (["fcn", "--start", "mask_rcnn", "--fresh", "--resume"], "not allowed with argument"),
    ],
)
def test_bad_arguments_get_one_sentence(
    arguments, message, capsys, tmp_path, monkeypatch, as_student
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and message in error and "Traceback" not in error


def test_help_names_the_recipes_and_torchrun(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0 and "torchrun" in text
    assert all(re.search(rf"^  {name} ", text, re.M) for name in RECIPES)
    assert max(map(len, text.splitlines())) <= 110


def test_load_checkpoint(few, tmp_path, monkeypatch, as_student):
    monkeypatch.setattr(
        "course_utils.training.recipes.data_path", lambda *parts: tmp_path.joinpath(*parts)
    )
    model = UNET.build(9)
    metrics = ship(
        tmp_path / "checkpoints/unet.safetensors",
        UNET,
        model,
        History([3.0, 1.0], {}),
        scene_task(),
    )
    card = json.loads((tmp_path / "checkpoints/unet.json").read_text())
    assert card["losses"] == [3.0, 1.0]
    loaded = load_checkpoint("unet")
    assert not loaded.training and scene_task().evaluate(loaded) == metrics
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters()))
    names = ", ".join(RECIPES)
    with pytest.raises(ValueError, match=f"^name: expected one of {names}, or a file .* 'vgg'$"):
        load_checkpoint("vgg")
    with pytest.raises(FileNotFoundError, match=r"fcn\.json"):
        load_checkpoint("fcn")


@pytest.mark.parametrize(
    ("name", "at_least"),
    [
        ("fcn", {"mean_iou": 0.9}),
        ("unet", {"mean_iou": 0.95}),
        ("nuclei", {"foreground_iou": 0.89}),
        ("mask_rcnn", {"box_ap": 0.68, "mask_ap": 0.56}),
        ("panoptic_fpn", {"box_ap": 0.7, "mask_ap": 0.61, "pq": 0.85}),
        ("panoptic_unet", {"box_ap": 0.75, "mask_ap": 0.72, "pq": 0.89}),
    ],
)
def test_the_shipped_weights_are_as_good_as_their_cards_say(name, at_least):
    card = json.loads(data_path("checkpoints", f"{name}.json").read_text())
    recipe = RECIPES[name]
    assert card["recipe"] == settings(recipe)
    task = recipe.task(
        recipe.data, batch_size=recipe.batch_size, size=recipe.size, seed=recipe.seed
    )
    found = task.evaluate(load_checkpoint(name))
    assert all(found[metric] >= least for metric, least in at_least.items())
    assert found == pytest.approx(card["metrics"], abs=2e-3)
