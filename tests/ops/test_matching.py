"""Matching of sets: the cheapest of all assignments, in every shape, with ties and without objects."""

import pytest
import torch

from course_utils.ops.matching import match_greedily, match_sets, match_sets_loops


def total(cost: torch.Tensor, pairs: torch.Tensor) -> float:
    return cost[pairs[:, 0], pairs[:, 1]].sum().item()


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (6, 3), (3, 6), (5, 1), (1, 5), (7, 4)])
def test_the_lowest_total_of_all_assignments(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(sum(shape))
    for _ in range(20):
        cost = torch.randn(shape, generator=generator, dtype=torch.float64)
        assert match_sets(cost).tolist() == match_sets_loops(cost).tolist()


def test_ties_have_the_same_total() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        cost = torch.randint(-1, 2, (5, 4), generator=generator).double()
        pairs = match_sets(cost)
        assert total(cost, pairs) == total(cost, match_sets_loops(cost))
        assert sorted(pairs[:, 1].tolist()) == [0, 1, 2, 3] and len(set(pairs[:, 0].tolist())) == 4


@pytest.mark.parametrize("match", [match_sets, match_sets_loops, match_greedily])
@pytest.mark.parametrize("shape", [(0, 0), (4, 0), (0, 4)])
def test_nothing_to_match(match, shape: tuple[int, int]) -> None:
    pairs = match(torch.zeros(shape))
    assert pairs.shape == (0, 2) and pairs.dtype == torch.int64


def test_greedy_can_lose_and_never_wins() -> None:
    cost = torch.tensor([[0.1, 0.2], [0.15, 0.6]], dtype=torch.float64)
    assert round(total(cost, match_greedily(cost)), 9) == 0.7
    assert round(total(cost, match_sets(cost)), 9) == 0.35
    generator = torch.Generator().manual_seed(1)
    worse = 0
    for _ in range(50):
        cost = torch.rand(6, 4, generator=generator, dtype=torch.float64)
        greedy, best = total(cost, match_greedily(cost)), total(cost, match_sets(cost))
        assert greedy >= best - 1e-12
        worse += greedy > best + 1e-12
    assert worse > 5


def test_greedy_takes_the_lowest_first() -> None:
    cost = torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.0, 0.5]])
    assert match_greedily(cost).tolist() == [[0, 1], [1, 2]]


def test_a_matching_has_no_gradient_and_leaves_the_cost() -> None:
    cost = torch.rand(4, 3, requires_grad=True)
    before = cost.detach().clone()
    assert not match_sets(cost).requires_grad and torch.equal(cost.detach(), before)


@pytest.mark.usefixtures("as_student")
@pytest.mark.parametrize("match", [match_sets, match_greedily])
@pytest.mark.parametrize(
    ("cost", "error"),
    [
        (torch.tensor([[1.0, float("nan")]]), ValueError),
        (torch.tensor([[1.0, float("inf")]]), ValueError),
        (torch.zeros(3), ValueError),
        (torch.zeros(2, 2, dtype=torch.int64), TypeError),
    ],
)
def test_bad_costs_are_named(match, cost: torch.Tensor, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^cost: expected "):
        match(cost)
