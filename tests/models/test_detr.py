"""DETR: the set loss by hand, sets without order, padding, many objects, and transformers' numbers."""

import pytest
import torch
from torch.testing import assert_close

from course_utils.data.collate import flatten_targets
from course_utils.models import detr, detr_two_stage
from course_utils.ops.matching import match_sets_loops
from tests.models.detector_inputs import only, random_targets

SMALL = {"detr": detr.small, "two-stage": detr_two_stage.small}
small = pytest.mark.parametrize("build", SMALL.values(), ids=SMALL)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def targets(counts, size=(64, 96)) -> dict[str, torch.Tensor]:
    return flatten_targets(only(random_targets(counts, size), "boxes", "labels"))


def test_the_class_loss_by_hand() -> None:
    scores = torch.tensor([[[0.0, 0, 2], [1, 0, 0], [0, 0, 0]]])
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.1, 0.1, 0.1, 0.1], [0.9, 0.9, 0.1, 0.1]]])
    image, labels, truth = torch.tensor([0]), torch.tensor([2]), boxes[0, :1]
    losses = detr.set_loss(scores, boxes, image, labels, truth)
    assert round(losses["class"].item(), 4) == 0.3371
    assert losses["l1"].item() == 0 and abs(losses["giou"].item()) < 1e-6
    plain = torch.nn.functional.cross_entropy(scores[0], torch.tensor([2, 0, 0]))
    assert round(plain.item(), 4) == 0.6299


def test_the_box_losses_by_hand() -> None:
    scores = torch.zeros(1, 2, 3)
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.25, 0.5, 0.5, 1.0]]])
    truth = torch.tensor([[0.5, 0.5, 0.5, 1.0]])  # the second box, moved by half its width
    losses = detr.set_loss(scores, boxes, torch.tensor([0]), torch.tensor([1]), truth)
    assert_close(losses["l1"], torch.tensor(5 * 0.25))
    assert_close(losses["giou"], torch.tensor(2 * (1 - 1 / 3)))


def test_the_matching_is_the_cheapest_of_all() -> None:
    scores, boxes = torch.randn(3, 6, 5), torch.rand(3, 6, 4) * 0.5 + 0.2
    image = torch.tensor([2, 0, 0, 2, 2])  # no object in image 1, and not in order
    labels, truth = torch.tensor([1, 4, 2, 2, 3]), torch.rand(5, 4) * 0.5 + 0.2
    matched = detr.match_objects(scores, boxes, image, labels, truth)
    for number in (0, 2):
        mine = (image == number).nonzero()[:, 0]
        cost = detr.box_cost(boxes[number].expand(len(mine), -1, -1), truth[mine])
        cost = cost - scores[number].softmax(dim=1)[:, labels[mine]].T
        pairs = match_sets_loops(cost.T).tolist()
        assert sorted(zip(matched[mine].tolist(), range(len(mine)))) == [tuple(p) for p in pairs]


@pytest.mark.parametrize("module", [detr, detr_two_stage])
def test_neither_queries_nor_objects_have_an_order(module) -> None:
    classes = 5 if module is detr else 4
    scores, boxes = torch.randn(2, 7, classes), torch.rand(2, 7, 4) * 0.5 + 0.2
    image, labels = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([1, 2, 3, 4, 4])
    truth = torch.rand(5, 4) * 0.5 + 0.2
    losses = module.set_loss(scores, boxes, image, labels, truth)
    queries, objects = torch.randperm(7), torch.tensor([3, 0, 4, 1, 2])
    again = module.set_loss(
        scores[:, queries], boxes[:, queries], image[objects], labels[objects], truth[objects]
    )
    assert_close(again, losses)


@pytest.mark.parametrize("module", [detr, detr_two_stage])
def test_the_loss_of_a_batch_is_the_mean_of_its_images(module) -> None:
    classes = 5 if module is detr else 4
    scores, boxes = torch.randn(3, 4, classes), torch.rand(3, 4, 4) * 0.5 + 0.2
    image = torch.tensor([0, 0, 2, 2, 2, 2, 2, 2])  # the third image has more objects than queries
    labels, truth = torch.randint(1, 5, (8,)), torch.rand(8, 4) * 0.5 + 0.2
    whole = module.set_loss(scores, boxes, image, labels, truth)
    parts = []
    for k in range(3):
        mine = image == k
        own = torch.zeros_like(image[mine]), labels[mine], truth[mine]
        parts.append(module.set_loss(scores[k : k + 1], boxes[k : k + 1], *own))
    assert_close(whole, {name: sum(p[name] for p in parts) / 3 for name in whole})
    assert parts[1]["l1"] == 0 and parts[1]["class"] > 0


@small
def test_a_network_learns_and_detects(build) -> None:
    network = build(5)
    images, truth = torch.rand(3, 3, 64, 96), targets([2, 0, 1])
    losses = network(images, truth)
    assert set(losses) == {"class", "l1", "giou"}
    sum(losses.values()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    found = network.eval()(images)
    assert [set(one) for one in found] == [{"boxes", "labels", "scores"}] * 3
    for one in found:
        assert (
            one["boxes"].shape == (16, 4) and one["labels"].min() >= 1 and one["labels"].max() <= 4
        )
        assert ((one["scores"] >= 0) & (one["scores"] <= 1)).all()


@small
def test_an_empty_batch_of_objects_has_a_finite_loss(build) -> None:
    losses = build(5)(torch.rand(2, 3, 64, 64), targets([0, 0]))
    assert all(loss.isfinite() for loss in losses.values()) and losses["l1"] == 0


@small
def test_boxes_are_relative_to_the_image_and_not_to_its_padding(build) -> None:
    network = build(5).eval()
    sizes = torch.tensor([[64, 96], [32, 48]])
    truth = targets([1, 1], (32, 48))
    relative = detr.relative_boxes(truth, sizes)
    assert_close(detr.absolute_boxes(relative[None], sizes[:1])[0, 0], truth["boxes"][0])
    mask, places = detr.token_places((8, 12), (64, 96), sizes)
    assert mask.sum(dim=1).tolist() == [96, 24] and places[1][mask[1]].max() == 1
    losses = network(torch.rand(2, 3, 64, 96), truth, sizes)
    assert all(loss.isfinite() for loss in losses.values())


def test_two_stages_start_at_tokens_of_the_image() -> None:
    network = detr_two_stage.small(5).eval()
    sizes = torch.tensor([[32, 32]])
    network.predictions(torch.rand(1, 3, 64, 64), sizes)
    scores, _ = network.predictions(torch.rand(1, 3, 64, 64), sizes)[0]
    mask, _ = detr.token_places((8, 8), (64, 64), sizes)
    assert (scores[0][~mask[0]] == detr_two_stage.NEVER).all()
    assert (scores[0][mask[0]] > -100).all()


def test_the_set_loss_is_that_of_transformers() -> None:
    """Pairs and losses of `HungarianMatcher` and `ImageLoss` in transformers 5.23, for the same numbers.

    There "no object" is the last class; the box losses have no weights yet.
    """
    scores, boxes = torch.randn(2, 6, 5), torch.rand(2, 6, 4) * 0.4 + 0.3
    image, labels = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 3, 2, 2])
    truth = torch.cat([torch.rand(2, 4) * 0.4 + 0.3 for _ in range(2)])
    assert detr.match_objects(scores, boxes, image, labels, truth).tolist() == [2, 3, 4, 2]
    losses = detr.set_loss(scores, boxes, image, labels, truth)
    assert_close(losses["class"], torch.tensor(2.1304038))
    assert_close(losses["l1"] / 5, torch.tensor(0.2950693))
    assert_close(losses["giou"] / 2, torch.tensor(0.5227883))


def sure(classes: int, *columns: int) -> torch.Tensor:
    """Scores of one image: query k is sure of the class in its column; [1, queries, classes]."""
    scores = torch.full((1, len(columns), classes), -9.0)
    scores[0, range(len(columns)), columns] = 9.0
    return scores


def test_between_equal_boxes_the_class_decides() -> None:
    boxes = torch.tensor([0.5, 0.5, 0.2, 0.4]).expand(1, 4, 4)
    image, labels, truth = torch.zeros(3, dtype=torch.int64), torch.tensor([2, 4, 1]), boxes[0, :3]
    scores = sure(5, 1, 0, 4, 2)  # class 0 is "no object"
    assert detr.match_objects(scores, boxes, image, labels, truth).tolist() == [3, 2, 0]
    assert detr.set_loss(scores, boxes, image, labels, truth)["class"] < 1e-6
    assert detr.set_loss(sure(5, 1, 3, 4, 2), boxes, image, labels, truth)["class"] > 0.1


def test_two_stages_match_by_class_and_have_no_column_for_no_object() -> None:
    boxes = torch.tensor([0.5, 0.5, 0.2, 0.4]).expand(1, 4, 4)
    image, labels, truth = torch.zeros(3, dtype=torch.int64), torch.tensor([2, 4, 1]), boxes[0, :3]
    scores = sure(4, 0, 2, 3, 1)
    scores[0, 1] = -9.0  # sure of nothing
    assert detr_two_stage.set_loss(scores, boxes, image, labels, truth)["class"] < 1e-6
    wrong = detr_two_stage.set_loss(sure(4, 0, 2, 3, 1), boxes, image, labels, truth)["class"]
    # One class too many: 2 (weight) x .75 x p^2 x -log(1 - p) with a logit of 9, for three objects.
    assert_close(wrong, torch.tensor(2 * 0.75 * 9.0 / 3), rtol=1e-3, atol=0)
