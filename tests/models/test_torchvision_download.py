"""torchvision's published weights from a local server: once, whole, or with a sentence that says why not."""

import hashlib
import io
import itertools
import re
from types import SimpleNamespace

import pytest
import torch

from course_utils.data import download as transfer
from course_utils.models import torchvision_weights
from tests.data.file_server import answer, fail, hang_up, run_server


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A server in place of torchvision's, and the bytes of a file with weights."""
    file = io.BytesIO()
    torch.save({"classifier.4.bias": torch.arange(21.0)}, file)
    content = file.getvalue()
    start = hashlib.sha256(content).hexdigest()[:8]
    monkeypatch.setattr(transfer, "RETRY_DELAY", 0)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with run_server() as server:
        server.acts = [answer(body=content)]
        known = {"fcn": SimpleNamespace(url=f"{server.url}/models/fcn_resnet50_coco-{start}.pth")}
        monkeypatch.setattr(torchvision_weights, "WEIGHTS", known)
        path = tmp_path / "hub" / "checkpoints" / f"fcn_resnet50_coco-{start}.pth"
        yield SimpleNamespace(server=server, content=content, path=path)


def test_weights_are_downloaded_once(published):
    for _ in range(2):
        state = torchvision_weights.download("fcn")
        assert torch.equal(state["classifier.4.bias"], torch.arange(21.0))
    assert len(published.server.paths) == 1
    assert [one.name for one in published.path.parent.iterdir()] == [published.path.name]


DAMAGED = (
    r"^the weights of fcn were damaged and are deleted \(sha256 .{8}, expected .{8}\); call again"
)


@pytest.mark.parametrize("length", [1000, 0])
def test_weights_that_arrive_damaged(published, length):
    published.server.acts = [answer(body=b"#" * length), answer(body=published.content)]
    with pytest.raises(ValueError, match=DAMAGED):
        torchvision_weights.download("fcn")
    assert not list(published.path.parent.iterdir())
    torchvision_weights.download("fcn")


def test_weights_that_were_damaged_in_the_cache(published):
    torchvision_weights.download("fcn")
    published.path.write_bytes(published.content[:-1] + b"#")
    with pytest.raises(ValueError, match=DAMAGED):
        torchvision_weights.download("fcn")
    torchvision_weights.download("fcn")
    assert len(published.server.paths) == 2


@pytest.mark.parametrize("act", [fail(404), fail(503), hang_up], ids=["404", "503", "hangs up"])
def test_without_a_network_the_message_says_what_works(published, act):
    published.server.acts = [act]
    with pytest.raises(ConnectionError, match=r"^the weights of fcn could not be fetched") as e:
        torchvision_weights.download("fcn")
    assert "course_utils.models.published work: nanodet, movenet, selfie" in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.usefixtures("as_student")
def test_weights_that_torchvision_does_not_have():
    with pytest.raises(
        ValueError, match=r"^name: expected one of faster_rcnn, mask_rcnn, fcn, got"
    ):
        torchvision_weights.download("yolo")


def test_the_published_files_are_those_of_the_installed_torchvision():
    for name, weights in torchvision_weights.WEIGHTS.items():
        assert name.replace("_", "") in weights.url.replace("_", "")
        assert re.search(r"-[0-9a-f]{8}\.pth$", weights.url)
    detectors = itertools.islice(torchvision_weights.WEIGHTS.values(), 2)
    assert all(weights.meta["categories"][1] == "person" for weights in detectors)
