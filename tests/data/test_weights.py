"""Weights in float16 with a card: what was saved comes back, and what is damaged is named."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save
from torch import nn

from course_utils.data.weights import load_weights, round_weights, save_weights


def build(channels: int = 8, seed: int = 0) -> nn.Module:
    """A convolution and a batch norm, with numbers that float16 cannot hold exactly."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, channels, 3), nn.BatchNorm2d(channels))
    nn.init.uniform_(model[1].running_mean)
    return model


@pytest.fixture
def shipped(tmp_path) -> Path:
    model = build()
    save_weights(tmp_path / "small.safetensors", model, {"recipe": "small", "seed": 0})
    return tmp_path / "small.safetensors"


def test_weights_come_back_as_float16_made_them(shipped):
    model, rounded = build(seed=1), build()
    round_weights(rounded)
    card = load_weights(shipped, model)
    for (name, one), two in zip(model.state_dict().items(), rounded.state_dict().values()):
        assert torch.equal(one, two), name
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert card["recipe"] == "small" and card["bytes"] == shipped.stat().st_size
    assert load_file(shipped)["0.weight"].dtype == torch.float16


def test_weights_that_are_not_those_of_the_card(shipped):
    content = shipped.read_bytes()
    shipped.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match=f"^path: {shipped} is not the file its card describes"):
        load_weights(shipped, build())
    shipped.unlink()
    with pytest.raises(FileNotFoundError, match=f"^path: there is no file {shipped}$"):
        load_weights(shipped, build())


def test_weights_without_a_card_or_of_another_model(shipped):
    with pytest.raises(
        ValueError, match=r"belongs to another model: 0\.bias is \[8\] in the file, \[4\] in"
    ):
        load_weights(shipped, build(channels=4))
    shipped.with_suffix(".json").unlink()
    with pytest.raises(FileNotFoundError, match=r"small\.json$"):
        load_weights(shipped, build())


def test_weights_too_large_for_float16(tmp_path):
    model = build()
    nn.init.constant_(model[0].weight, 1e5)
    with pytest.raises(ValueError, match=r"^model: 0\.weight does not fit float16 \(largest 1"):
        save_weights(tmp_path / "large.safetensors", model, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("card", "sentence"),
    [
        ("", "is not a complete card"),
        ("[]", "is not a complete card"),
        ('{"sha256": 3, "bytes": 1}', "expected sha256 and bytes"),
        ("[" * 100_000, "is not a complete card"),
    ],
)
def test_a_damaged_card_is_named(tmp_path, card, sentence):
    path = tmp_path / "a.safetensors"
    save_weights(path, nn.Linear(2, 2), {})
    path.with_suffix(".json").write_text(card)
    with pytest.raises(ValueError, match=rf"a\.json.*{sentence}|{sentence}.*a\.json"):
        load_weights(path, nn.Linear(2, 2))


@pytest.mark.parametrize(
    "wrong", [torch.zeros(2, 2, dtype=torch.int8), torch.full((2, 2), torch.nan)]
)
def test_weights_are_finite_floating_point_numbers(tmp_path, wrong):
    path, content = tmp_path / "a.safetensors", save({"weight": wrong, "bias": torch.zeros(2)})
    path.write_bytes(content)
    card = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(
        ValueError, match=r"^path: expected finite floating-point weights in .*weight"
    ):
        load_weights(path, nn.Linear(2, 2))
