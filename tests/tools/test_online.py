"""`make online` without a network, and with networks that see the person or do not."""

import pytest
import torch
from torch import nn

from course_utils.data.photos import photo
from course_utils.models import torchvision_weights
from tools import online


class Answer(nn.Module):
    """A network that always says the same."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, images):
        return self.answer


@pytest.fixture
def networks(monkeypatch):
    """The three networks, which see the person in the astronaut's photo where she is."""
    sample = photo("astronaut").sample
    person = sample.labels == sample.class_names.index("person")
    boxes = {
        "boxes": torch.cat([torch.tensor([[0.0, 0, 9, 9]]), sample.boxes[person]]),
        "labels": torch.tensor([3, 1]),
        "scores": torch.tensor([0.99, 0.97]),
    }
    masks = torch.stack([torch.zeros(512, 512), 0.9 * sample.masks[person][0]])[:, None]
    scores = torch.zeros(1, 21, 512, 512)
    scores[:, 15] = 20 * sample.masks[person][0] - 10
    answers = {
        "faster_rcnn": [boxes],
        "mask_rcnn": [{**boxes, "labels": torch.tensor([3, 1]), "masks": masks}],
        "fcn": scores,
    }
    monkeypatch.setattr(torchvision_weights, "download", lambda name: {})
    for name in answers:
        monkeypatch.setattr(torchvision_weights, name, lambda _, name=name: Answer(answers[name]))
    return answers


def test_networks_that_see_the_person(networks, capsys):
    assert online.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(networks)
    assert lines[0] == "faster_rcnn: a person with score 0.97 and IoU 1.00: as expected"
    assert all(line.endswith("IoU 1.00: as expected") for line in lines)


@pytest.mark.parametrize("name", ["faster_rcnn", "mask_rcnn", "fcn"])
def test_a_network_that_sees_no_person(networks, capsys, name):
    if name == "fcn":
        networks[name].neg_()
    else:
        networks[name][0]["labels"][1] = 2
    assert online.main() == 1
    wrong = [line for line in capsys.readouterr().out.splitlines() if "NOT as expected" in line]
    assert len(wrong) == 1 and wrong[0].startswith(f"{name}:")


def test_without_a_network(monkeypatch, capsys):
    def download(name):
        raise ConnectionError(f"the weights of {name} could not be fetched")

    monkeypatch.setattr(torchvision_weights, "download", download)
    assert online.main() == 1
    out, error = capsys.readouterr()
    assert out == "" and error == "the weights of faster_rcnn could not be fetched\n"
