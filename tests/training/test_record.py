"""Recorded experiments: every record belongs to an experiment, is whole, and can be made again."""

import json

import pytest

from course_utils.core import data_path
from course_utils.training import record
from course_utils.training.experiments import ARMS, mask_heads
from course_utils.training.record import EXPERIMENTS, Experiment, main, read_record


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_a_whole_record_of_at_least_three_seeds(name):
    found, experiment = read_record(name), EXPERIMENTS[name]
    assert (found.about, found.metric) == (experiment.about, experiment.metric)
    assert len(found.seeds) >= 3 and len(set(found.seeds)) == len(found.seeds)
    for by_steps in found.arms.values():
        assert [len(by_seed) for by_seed in by_steps] == [len(found.seeds)] * len(found.steps)
        assert all(0 <= value <= 1 for by_seed in by_steps for value in by_seed)


def test_there_is_no_record_without_an_experiment():
    assert {path.stem for path in data_path("records").iterdir()} == set(EXPERIMENTS)


def test_the_command_writes_what_the_experiment_gives(tmp_path, monkeypatch, capsys):
    runs = Experiment("About.", "metric", lambda seed: {"a": {1: seed / 10, 5: 0.123456}})
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


def test_an_unknown_record():
    with pytest.raises(ValueError, match=r"^name: expected one of mask_heads, got 'masks'$"):
        read_record("masks")


def test_the_mask_heads_start_alike_and_differ_by_their_arm():
    few = {"steps": (3,), "scenes": 16, "held_out": 8}
    first, again, other = (mask_heads(seed, **few) for seed in (0, 0, 1))
    assert first == again != other and first.keys() == ARMS.keys()
    assert len({run[3] for run in first.values()}) == len(ARMS)


@pytest.mark.long
def test_the_record_of_the_mask_heads_can_be_made_again():
    found, run = read_record("mask_heads"), mask_heads(1, steps=(120,))
    for arm, by_steps in found.arms.items():
        assert run[arm][120] == pytest.approx(by_steps[0][found.seeds.index(1)], abs=0.03)
