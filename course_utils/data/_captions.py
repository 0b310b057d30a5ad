"""A caption for each object of a scene: what it is, by its colours, and where it is, by what surrounds it."""

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from course_utils.data import _figures as figures
from course_utils.data._landscape import Landscape, water_distance
from course_utils.data._placement import KINDS, Placement
from course_utils.data._sprites import count_pixels


def write_captions(
    labels: Int64[Tensor, "b m"],
    placement: Placement,
    full: Bool[Tensor, "b m h w"],
    visible: Bool[Tensor, "b m h w"],
    land: Landscape,
    aspect: float,
) -> list[tuple[str, ...]]:
    """The captions of b scenes.

    Args:
        labels: the class of each object, from the back to the front; 0 where a slot is unused.
        placement: the objects.
        full: the mask of each whole object, occluded parts included.
        visible: the mask of its visible part.
        land: the landscapes that they stand in.
        aspect: width / height of the images.

    Returns:
        For each scene a phrase per object.
    """
    m = labels.shape[1]
    columns = visible.flatten(2).float().transpose(1, 2)
    shared = full.flatten(2).float() @ columns  # pixels, exact; [b, behind, in front]
    nearer = torch.ones(m, m, device=labels.device).triu(1)
    hidden = (shared / count_pixels(full).clamp(min=1)[..., None] * nearer).tolist()
    shore = water_distance(land, placement.x, placement.y, aspect).tolist()
    rows = zip(
        labels.tolist(),
        placement.appearance.tolist(),
        placement.key.tolist(),
        hidden,
        shore,
        strict=True,
    )
    return [
        tuple(
            f"{_name(label, looks[n])} {_location(n, row, fractions, shores[n], keys[n])}"
            for n, label in enumerate(row)
            if label
        )
        for row, looks, keys, fractions, shores in rows
    ]


def _name(label: int, appearance: int) -> str:
    """What an object is: "an orange tabby cat", "a person in a blue shirt"."""
    table = (figures.CATS, figures.DOGS, figures.CARS, figures.SHIRTS)[label - 1]
    adjective = table[appearance][0]
    if KINDS[label] == "person":
        return f"a person in {_with_article(adjective)} shirt"
    return f"{_with_article(adjective)} {KINDS[label]}"


def _with_article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _location(n: int, labels: list[int], hidden: list[list[float]], shore: float, key: int) -> str:
    """Where object n is: behind the object that hides most of it, in front of one it hides, or on its ground.

    Args:
        n: the object.
        labels: the classes of all objects of its scene.
        hidden: the fraction of each object (row) that each other object (column) hides.
        shore: the object's distance to the water, negative inside.
        key: chooses between phrases of the same meaning.
    """
    front = max(range(len(labels)), key=lambda other: hidden[n][other])
    back = max(range(len(labels)), key=lambda other: hidden[other][n] * (labels[other] > 0))
    ground = "in the water" if shore < 0 else "by the water" if shore < 0.09 else "on the grass"
    choices = [ground]
    if hidden[n][front] > 0.08:
        choices = [
            f"behind a {KINDS[labels[front]]}",
            f"partly hidden by a {KINDS[labels[front]]}",
        ]
    elif labels[back] and hidden[back][n] > 0.08:
        choices = [ground, f"in front of a {KINDS[labels[back]]}"]
    return choices[key % len(choices)]
