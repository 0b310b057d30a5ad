"""README's "Your own pictures": the commands, as they stand there."""

import json
import re
import shlex
from dataclasses import replace

import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from course_utils import predict as drawing
from course_utils.core.paths import data_path
from course_utils.data import coco, export
from course_utils.data.scenes import make_scene
from course_utils.data.weights import read_card
from course_utils.metrics import _detection_files
from course_utils.metrics.detection import detection_metrics
from course_utils.training import __main__ as training
from course_utils.training import detect
from course_utils.training.instances import predict
from course_utils.training.recipes import MASK_RCNN, fit, load_checkpoint

MODULES = {
    "course_utils.data.export": export,
    "course_utils.training": training,
    "course_utils.training.detect": detect,
    "course_utils.metrics.detection": _detection_files,
    "course_utils.predict": drawing,
}
README = (data_path().parent / "README.md").read_text(encoding="utf-8")
SECTION = README.split("### Your own pictures")[1].split("\n## ")[0]
COMMANDS = re.findall(r"\.venv/bin/python -m (\S+) (.*)", SECTION)


def run(module, arguments, steps):
    arguments = re.sub(r"--steps \d+", f"--steps {steps}", arguments)
    MODULES[module].main(shlex.split(arguments))


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A folder of its own with the course's photographs, and the commands of the README but for the first."""
    monkeypatch.chdir(tmp_path)
    labelme, exported, *others = COMMANDS
    assert exported[0] == "course_utils.data.export"
    run(*exported, 0)
    return [labelme, *others]


def test_the_commands_of_the_readme(pictures, capsys, tmp_path):
    for command in pictures:
        run(*command, steps=3)
    out = capsys.readouterr().out
    assert re.search(r"start: \d+ of \d+ tensors come from mask_rcnn; new are box_head.deltas", out)
    assert "average precision at the IoU threshold 0.50" in out
    with Image.open("mine/chelsea.png") as drawn:
        assert drawn.size == (902, 600)  # twice the photograph's


def test_ap_of_the_files_is_that_of_the_tensors_and_of_pycocotools(pictures, capsys):
    run(*pictures[1], steps=30)
    photos = coco.read("pictures", None)
    model = load_checkpoint("mine/mask_rcnn.safetensors")
    found = list(predict(model, (sample.image for sample in photos), 96))
    names = ("boxes", "labels", "masks", "iscrowd", "area")
    targets = [{name: getattr(sample, name) for name in names} for sample in photos]
    card = read_card("mine/mask_rcnn.safetensors")
    for kind, iou_type in (("bbox", "boxes"), ("segm", "masks")):
        run(pictures[2][0], pictures[2][1].replace("segm", kind), steps=0)
        _detection_files.main(
            ["pictures/annotations.json", "mine/found.json", "--type", kind, "--json"]
        )
        twelve = json.loads(capsys.readouterr().out.splitlines()[-1])
        truth = COCO("pictures/annotations.json")
        theirs = COCOeval(truth, truth.loadRes("mine/found.json"), kind)
        theirs.evaluate(), theirs.accumulate(), theirs.summarize()
        capsys.readouterr()
        assert twelve == pytest.approx(list(theirs.stats), abs=1e-9)
        ours = detection_metrics(found, targets, iou_type=iou_type)
        ours = [-1 if value != value else value for value in ours[:12]]
        assert twelve == pytest.approx(ours, abs=1e-9)
        name = {"bbox": "box_ap", "segm": "mask_ap"}[kind]
        assert card["metrics"][name] == pytest.approx(twelve[0], abs=1e-4)


def test_only_detectors_with_masks_write_masks(pictures, tmp_path, capsys):
    for name, sentence in [
        ("faster_rcnn", "--type: expected bbox, mine/faster_rcnn.safetensors makes no masks"),
        ("fcn", "--data: expected the classes of the training"),
    ]:
        run("course_utils.training", f"{name} --data pictures --steps 1 --out mine --size 32", 1)
        weights = f"mine/{name.split()[0]}.safetensors"
        with pytest.raises(SystemExit) as stopped:
            detect.main([weights, "--data", "pictures", "--type", "segm", "--to", "found.json"])
        assert stopped.value.code == 2 and sentence in capsys.readouterr().err
        assert not (tmp_path / "found.json").exists()


def crowded_folder(folder):
    """Scenes as a COCO folder in which every third object stands for a crowd."""
    samples = []
    for number in range(6):
        scene = make_scene(number, size=(64, 96))
        crowd = (torch.arange(len(scene.labels)) + number) % 3 == 0
        samples.append(scene._replace(iscrowd=crowd, panoptic=None))
    coco.write_samples(folder, samples)
    return coco.read(folder, None)


def test_ap_with_crowds_agrees_too(tmp_path, capsys):
    photos = crowded_folder(tmp_path / "set")
    model = load_checkpoint("mask_rcnn")
    found = list(predict(model, (sample.image for sample in photos), 96))
    names = ("boxes", "labels", "masks", "iscrowd", "area")
    targets = [{name: getattr(sample, name) for name in names} for sample in photos]
    assert any(target["iscrowd"].any() for target in targets)
    ground_truth, results = str(tmp_path / "set/annotations.json"), str(tmp_path / "found.json")
    for kind, iou_type in (("bbox", "boxes"), ("segm", "masks")):
        coco.write_results(results, tmp_path / "set", found, kind)
        _detection_files.main([ground_truth, results, "--type", kind, "--json"])
        twelve = json.loads(capsys.readouterr().out.splitlines()[-1])
        truth = COCO(ground_truth)
        theirs = COCOeval(truth, truth.loadRes(results), kind)
        theirs.evaluate(), theirs.accumulate(), theirs.summarize()
        capsys.readouterr()
        ours = detection_metrics(found, targets, iou_type=iou_type)[:12]
        ours = [-1 if value != value else value for value in ours]
        assert twelve[0] > 0.3 and twelve == pytest.approx(list(theirs.stats), abs=1e-9)
        assert twelve == pytest.approx(ours, abs=1e-9)


def test_a_training_on_crowded_photographs_resumes_to_the_same_bits(tmp_path, monkeypatch):
    def stop(record):
        if record.step == 3:
            raise KeyboardInterrupt

    crowded_folder(tmp_path / "set")
    recipe = replace(MASK_RCNN, data=str(tmp_path / "set"), steps=5, size=64, batch_size=2)
    state = tmp_path / "state.safetensors"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("course_utils.training.loop.time.monotonic", iter(range(0, 900, 9)).__next__)
        fit(recipe, device="cpu", checkpoint=state, watch=stop)
    resumed, history, _ = fit(recipe, device="cpu", workers=1, checkpoint=state, resume=True)
    uncut, expected, _ = fit(recipe, device="cpu")
    assert history == expected
    for key, tensor in uncut.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], tensor), key


@pytest.mark.long
@pytest.mark.parametrize("name", ["mask_rcnn", "faster_rcnn", "panoptic_fpn"])
def test_the_loss_on_the_photographs_falls_by_half(pictures, name):
    run("course_utils.training", f"{name} --data pictures --steps 200 --out mine", 200)
    losses = torch.tensor(read_card(f"mine/{name}.safetensors")["losses"])
    assert losses[-5:].mean() < losses[0] / 2
