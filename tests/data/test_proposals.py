"""Jittered proposals: inside the image, around their objects, and the same on every machine."""

import pytest
import torch

from course_utils.data.proposals import jittered_proposals

BOXES = torch.tensor([[3.0, 4.0, 30.0, 40.0], [10.0, 10.0, 60.0, 50.0]])


def test_proposals_are_whole_pixels_inside_the_image_and_not_too_small():
    small = torch.tensor([[77.0, 60.0, 79.0, 62.0]])
    proposals = jittered_proposals(torch.cat([BOXES, small]), (70, 80), 50, 100, seed=4)
    assert proposals.shape == (3 * 50 + 100, 4)
    assert torch.equal(proposals, proposals.round())
    assert (proposals >= 0).all() and (proposals <= torch.tensor([80.0, 70.0, 80.0, 70.0])).all()
    assert (proposals[:, 2:] - proposals[:, :2] >= 4).all()


def test_the_first_proposals_are_around_the_first_object():
    proposals = jittered_proposals(BOXES, (70, 80), 50, 0, seed=4)
    limits = (BOXES[:, 2:] - BOXES[:, :2]).repeat(1, 2).repeat_interleave(50, dim=0) / 2 + 0.5
    shifts = (proposals - BOXES.repeat_interleave(50, dim=0)).abs()
    clipped = (proposals == 0) | (proposals == torch.tensor([80.0, 70.0, 80.0, 70.0]))
    small = (proposals[:, 2:] - proposals[:, :2] <= 4).any(dim=1, keepdim=True)
    assert ((shifts <= limits) | clipped | small).all()


def test_the_same_seed_gives_the_same_proposals():
    first = jittered_proposals(BOXES, (70, 80), 2, 1, seed=4)
    assert torch.equal(first, jittered_proposals(BOXES, (70, 80), 2, 1, seed=4))
    assert not torch.equal(first, jittered_proposals(BOXES, (70, 80), 2, 1, seed=5))


def test_no_objects_and_no_proposals():
    assert jittered_proposals(torch.zeros(0, 4), (70, 80), 5, 0).shape == (0, 4)
    assert jittered_proposals(torch.zeros(0, 4), (70, 80), 5, 3).shape == (3, 4)


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((BOXES[0], (70, 80), 1, 1), ValueError, r"^boxes: expected shape \[n, 4\]"),
        ((BOXES, (70, 7), 1, 1), ValueError, "^size: expected a height and width of at least 8"),
        ((BOXES, (70, 80), -1, 1), ValueError, "^per_box: expected a whole number of at least 0"),
        ((BOXES, (70, 80), 1, 0.5), TypeError, "^anywhere: expected a whole number of at least 0"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        jittered_proposals(*arguments)
