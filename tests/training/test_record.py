"""Recorded experiments: every record belongs to an experiment, is whole, and can be made again."""

import json

import pytest
import torch
from safetensors.torch import load_file

from course_utils.core import data_path
from course_utils.data import microscopy
from course_utils.data.scenes import make_scenes
from course_utils.training import record
from course_utils.training.experiments.fcn import (
    fcn_classes,
    fcn_scenes,
    fcn_snapshots,
    fcn_strides,
    free_scores,
)
from course_utils.training.experiments.first_steps import (
    mask_rcnn_steps,
    panoptic_map,
    panoptic_steps,
)
from course_utils.training.experiments.mask_heads import ARMS, mask_heads
from course_utils.training.experiments.roi_crops import CROPS, roi_crops
from course_utils.training.experiments.sliding_window import widths_and_steps
from course_utils.training.experiments.unet import ARMS as ARMS_OF_UNET
from course_utils.training.experiments.unet import unet_masks, unet_nuclei
from course_utils.training.experiments.unpooling import UNPOOLING, Decoder, unpooling
from course_utils.training.recipes import load_checkpoint
from course_utils.training.record import (
    EXPERIMENTS,
    Experiment,
    main,
    read_record,
    record_tensors,
)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_a_whole_record_of_at_least_three_seeds(name):
    found, experiment = read_record(name), EXPERIMENTS[name]
    assert (found.about, found.metric) == (experiment.about, experiment.metric)
    assert len(found.seeds) >= 3 and len(set(found.seeds)) == len(found.seeds)
    for arm, by_steps in found.arms.items():
        assert [len(by_seed) for by_seed in by_steps] == [len(found.seeds)] * len(found.steps)
        most = 3 if arm.startswith("loss: ") else 1
        assert all(0 <= value <= most for by_seed in by_steps for value in by_seed)


def test_there_is_no_record_without_an_experiment():
    assert {path.stem for path in data_path("records").glob("*.json")} == set(EXPERIMENTS)
    with_tensors = {name for name, one in EXPERIMENTS.items() if one.tensors is not None}
    assert {path.stem for path in data_path("records").glob("*.safetensors")} == with_tensors
    assert sum(path.stat().st_size for path in data_path("records").iterdir()) < 150_000


def test_the_command_writes_what_the_experiment_gives(tmp_path, monkeypatch, capsys):
    def tensors(seed):
        return {"seed": torch.tensor(seed)}

    runs = Experiment("About.", "metric", lambda seed: {"a": {1: seed / 10, 5: 0.123456}}, tensors)
    monkeypatch.setitem(record.EXPERIMENTS, "small", runs)
    main(["small", "--seeds", "1", "2", "3", "--to", str(tmp_path)])
    assert "seed 2: {'a': {1: 0.2, 5: 0.123456}}" in capsys.readouterr().out
    assert json.loads((tmp_path / "small.json").read_text()) == {
        "about": "About.",
        "metric": "metric",
        "steps": [1, 5],
        "seeds": [1, 2, 3],
        "arms": {"a": [[0.1, 0.2, 0.3], [0.1235] * 3]},
    }
    assert load_file(tmp_path / "small.safetensors") == {"seed": torch.tensor(1)}


def test_an_unknown_record():
    with pytest.raises(
        ValueError,
        match=r"^name: expected one of mask_heads, .*, got 'masks'$",
    ):
        read_record("masks")


def test_the_mask_heads_start_alike_and_differ_by_their_arm():
    few = {"steps": (3,), "scenes": 16, "held_out": 8}
    first, again, other = (mask_heads(seed, **few) for seed in (0, 0, 1))
    assert first == again != other and first.keys() == ARMS.keys()
    assert len({run[3] for run in first.values()}) == len(ARMS)


def test_the_networks_of_four_strides_start_alike_and_differ_by_their_stride():
    few = {"steps": (2, 4), "scenes": 16, "held_out": 8}
    first, again, other = (fcn_strides(seed, **few) for seed in (0, 0, 1))
    assert first == again != other
    assert list(first) == ["FCN-32s", "FCN-16s", "FCN-8s", "FCN-2s"]
    assert len({value for run in first.values() for value in run.values()}) > 4


def test_the_classes_are_measured_without_a_change_to_the_training():
    few = {"scenes": 16, "held_out": 8}
    often, once = fcn_classes(0, steps=(1, 3, 5), **few), fcn_classes(0, steps=(5,), **few)
    assert list(often) == ["cat", "dog", "car", "person", "sky", "grass", "water", "tree"]
    assert {name: run[5] for name, run in often.items()} == {n: run[5] for n, run in once.items()}


def test_the_recorded_snapshots_are_those_of_the_recorded_classes():
    maps, recorded = record_tensors("fcn_classes"), read_record("fcn_classes")
    assert set(map(int, maps)) == set(recorded.steps)
    truth = make_scenes([7], seed=1, size=(96, 96)).semantic[0]
    right = [(maps[str(step)] == truth).float().mean() for step in recorded.steps]
    assert right[0] < right[3] < right[-1] and right[-1] > 0.9
    few = {"steps": (1, 3), "scenes": 16}
    first, again = fcn_snapshots(0, **few), fcn_snapshots(0, **few)
    assert list(first) == ["1", "3"] and all(torch.equal(first[k], again[k]) for k in first)


def test_a_network_is_measured_on_its_training_scenes_and_on_others():
    few = {"counts": (16, 4), "steps": 2, "held_out": 8}
    first, again = fcn_scenes(0, **few), fcn_scenes(0, **few)
    assert str(first) == str(again)  # few scenes lack a class, and have no mean
    on = ("training", "held-out")
    assert list(first) == [f"{n} scenes: on {name} scenes" for n in (16, 4) for name in on]


def test_optimised_scores_are_better_than_exact_shares():
    found = free_scores(0, strides=(32, 16), scenes=12, steps=40)
    for stride in (32, 16):
        exact, best = (
            found[f"stride {stride}: {name}"][40] for name in ("exact shares", "optimised scores")
        )
        assert best > exact + 0.05


def test_the_three_unets_differ_by_their_arm():
    few = {"steps": 12, "size": 64}
    first, again = unet_nuclei(0, **few), unet_nuclei(0, **few)
    assert first == again and len(first) == 9
    assert len({first[f"{arm}: IoU of the pixels"][12] for arm in ARMS_OF_UNET}) == 3
    masks = unet_masks(0, **few)
    assert all(mask.shape == (128, 128) and mask.any() for mask in masks.values())


def test_more_channels_and_more_steps_are_arms_of_their_own():
    few = {"widths": (2, 4), "steps": (2, 5), "scenes": 8, "held_out": 4}
    first, again, other = (widths_and_steps(seed, **few) for seed in (0, 0, 1))
    assert first == again != other
    assert len(first) == 6 and all(list(by_steps) == [2, 5] for by_steps in first.values())


def test_the_four_crops_differ_and_a_head_of_one_cell_is_a_special_case():
    few = {"strides": (16,), "windows": (1, 3), "steps": (2, 4), "scenes": 8}
    first, again, other = (roi_crops(seed, **few) for seed in (5, 5, 6))
    assert first == again != other
    assert list(first) == [f"stride 16, head {n} x {n}, {crop}" for n in (1, 3) for crop in CROPS]
    assert len({value for run in first.values() for value in run.values()}) > 4


def test_the_first_steps_of_a_detector_and_of_a_panoptic_network():
    few = {"steps": 10, "batches": 2, "held_out": 4}
    first, again, other = (mask_rcnn_steps(seed, **few) for seed in (0, 0, 1))
    assert first == again != other
    assert next(iter(first)) == "positives that are true boxes" and len(first) == 8
    assert first["loss: box"][10] > 0.05 and 0 < first["positives that are true boxes"][10] < 1
    whole = panoptic_steps(0, **few)
    assert [name for name in whole if "loss" not in name] == ["PQ of things", "PQ of stuff"]
    assert whole == panoptic_steps(0, **few) and len(whole) == 8
    (codes,) = panoptic_map(0, steps=2, batches=1).values()
    assert codes.shape == (96, 96) and codes.max() < 9000


def test_the_recorded_map_is_nearly_as_good_as_the_recorded_figures():
    codes = record_tensors("panoptic_steps")["scene 20"].long()
    truth = make_scenes([20], seed=1, size=(96, 96)).semantic[0]
    stuff = truth > 4
    assert (codes // 1000 == truth)[stuff].float().mean() > 0.8


def test_the_two_decoders_differ_only_by_the_positions_of_the_values():
    few = {"steps": 2, "scenes": 16, "held_out": 8}
    first, again = unpooling(0, **few), unpooling(0, **few)
    assert first == again and len({run[2] for run in first.values()}) == 2
    backbone = load_checkpoint("fcn").backbone
    decoders = [Decoder(backbone, unpool, 9) for unpool in UNPOOLING.values()]
    one, other = (
        {name: weight.shape for name, weight in decoder.state_dict().items()}
        for decoder in decoders
    )
    assert one == other and not any("backbone" in name for name in one)


def test_the_recorded_masks_are_those_of_the_recorded_figures():
    masks, record = record_tensors("unet_nuclei"), read_record("unet_nuclei")
    _, held_out = microscopy.nuclei()
    truth = held_out.instances[150:278] > 0
    for name, arm in (("with skips", "weighted"), ("without skips", "weighted, without skips")):
        iou = (masks[name] & truth).sum() / (masks[name] | truth).sum()
        whole = record.arms[f"{arm}: IoU of the pixels"][0][0]
        assert iou == pytest.approx(whole, abs=0.05)  # a quarter of the part that was measured


@pytest.mark.long
def test_the_record_of_the_mask_heads_can_be_made_again():
    found, run = read_record("mask_heads"), mask_heads(1, steps=(120,))
    for arm, by_steps in found.arms.items():
        assert run[arm][120] == pytest.approx(by_steps[0][found.seeds.index(1)], abs=0.03)
