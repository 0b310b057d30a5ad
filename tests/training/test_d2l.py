"""D2L's training loop and ours on the same folder in VOC's layout."""

import re

import d2l.torch as d2l
import matplotlib.pyplot as plt
import pytest
import torch

from course_utils.core import seed_everything
from course_utils.data import voc
from course_utils.data.scenes import make_scenes
from course_utils.models import fcn
from course_utils.ops.losses import cross_entropy
from course_utils.training import train
from course_utils.training.semantic import pixel_loss, semantic_task

SIZE, BATCH, EPOCHS = 48, 2, 6


@pytest.fixture
def folder(tmp_path):
    """Ten scenes for training and two for validation; VOC has cats, dogs, cars and persons too."""
    for split, first, count in (("train", 0, 10), ("val", 10, 2)):
        scenes = make_scenes(range(first, first + count), size=(SIZE, SIZE))
        voc.write_voc(tmp_path, scenes, split)
    return tmp_path


def build() -> torch.nn.Module:
    seed_everything(0)
    return fcn.small(len(voc.CLASS_NAMES))


# D2L converts a loss that still requires a gradient into a number, and torch warns about it
@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad:UserWarning")
def test_both_loops_learn_the_same_folder(folder, capsys, as_student):
    loaders = [
        torch.utils.data.DataLoader(
            d2l.VOCSegDataset(is_train, (SIZE, SIZE), folder), BATCH, shuffle=is_train
        )
        for is_train in (True, False)
    ]
    theirs = build()
    d2l.train_ch13(
        theirs,
        *loaders,
        lambda scores, labels: cross_entropy(scores, labels, reduction="none").mean((1, 2)),
        torch.optim.AdamW(theirs.parameters(), 1e-2),
        EPOCHS,
        devices=[torch.device("cpu")],
    )
    plt.close("all")
    their_loss = float(re.search(r"loss (\d\.\d+), train acc", capsys.readouterr().out)[1])

    task = semantic_task(str(folder), batch_size=BATCH, size=SIZE, seed=0)
    ours = train(
        build(), task.batches, pixel_loss, steps=5 * EPOCHS, learning_rate=1e-2, device="cpu"
    ).losses
    first = ours[0]
    assert first > 1.5  # log(21) at the pixels that are not padding: nothing learnt yet
    assert sum(ours[-5:]) / 5 < first / 2
    assert their_loss < first / 2
