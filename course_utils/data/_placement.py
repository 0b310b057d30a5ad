"""Which objects a scene has, and where each of them stands."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from course_utils.data import _figures as figures
from course_utils.data._dice import Dice, fold
from course_utils.data._landscape import Landscape, water_distance

MOST_OBJECTS, MOST_TREES = 5, 5
# What a `Placement` labels its figures with. The first five are classes, in the order of their numbers.
KINDS = ("background", "cat", "dog", "car", "person", "tree", "fir")
# The size of a figure unit in the foreground, in image heights.
UNITS = {"cat": 0.46, "dog": 0.50, "car": 0.72, "person": 0.70}


class Placement(NamedTuple):
    """The figures of b scenes: one row per scene and one column per figure, from the back to the front.

    Attributes:
        label: the index of its kind in `KINDS`; 0 where there is no figure.
        x, y: the point that it stands on, in image heights.
        unit: the size of a figure unit in image heights.
        mirror: -1 for a figure that is mirrored, otherwise 1.
        appearance: a row in the colour table of its kind.
        key: seeds the random numbers of its pose.
    """

    label: Int64[Tensor, "b m"]
    x: Float[Tensor, "b m"]
    y: Float[Tensor, "b m"]
    unit: Float[Tensor, "b m"]
    mirror: Float[Tensor, "b m"]
    appearance: Int64[Tensor, "b m"]
    key: Int64[Tensor, "b m"]


def place_things(keys: Int64[Tensor, " b"], land: Landscape, aspect: float) -> Placement:
    """One to five things, often close together; the nearer, the larger and the lower in the image.

    Eight random positions are drawn for each thing, and it takes the first that is on dry ground.
    """
    dice = Dice(keys, throws=160)
    m, tries = MOST_OBJECTS, 8
    count = dice.uniform(0.0, 1.0)[:, None]
    count = 1 + sum((count > share).long() for share in (0.12, 0.34, 0.62, 0.84))
    label = dice.picks(len(UNITS), m) + 1
    horizon = land.horizon[:, None, None]
    near = dice.uniforms(0.0, 1.0, m * tries).reshape(-1, m, tries)
    y = horizon + 0.10 + (0.89 - horizon) * near
    x = dice.uniforms(0.06, 0.94, m * tries).reshape(-1, m, tries) * aspect
    centre = dice.uniform(0.25, 0.75)[:, None, None] * aspect  # of the group, in scenes with one
    grouped = dice.uniforms(0.0, 1.0, m)[..., None] < 0.55
    x = torch.where(grouped, centre + (x / aspect - 0.5) * 0.75, x)
    dry = water_distance(land, x, y, aspect) > 0.025
    first = torch.where(dry, torch.arange(tries, device=keys.device), tries - 1).amin(
        dim=2, keepdim=True
    )
    x, y = x.gather(2, first)[..., 0], y.gather(2, first)[..., 0]
    units = torch.tensor([UNITS.get(kind, 0.0) for kind in KINDS], device=keys.device)
    depth = (y - land.horizon[:, None]) / (1 - land.horizon[:, None])
    unit = units[label] * (0.46 + 0.54 * depth) * dice.uniforms(0.9, 1.1, m)
    is_person = label == KINDS.index("person")  # keypoints tell a person's left from right
    mirrored = (dice.uniforms(0.0, 1.0, m) < 0.5) & ~is_person
    mirror = torch.where(mirrored, -1.0, 1.0)
    tables = (figures.CATS, figures.DOGS, figures.CARS, figures.SHIRTS)
    choices = torch.tensor([1] + [len(table) for table in tables], device=keys.device)
    appearance = dice.picks(2**20, m) % choices[label]
    used = torch.arange(m, device=keys.device) < count
    label = torch.where(used, label, 0)
    own_keys = fold(keys[:, None], torch.arange(m, device=keys.device) + 1000)
    order = torch.argsort(torch.where(used, y, -1.0), dim=1, stable=True)
    fields = (label, x, y, unit, mirror, appearance, own_keys)
    return Placement(*(field.gather(1, order) for field in fields))


def place_trees(keys: Int64[Tensor, " b"], land: Landscape, aspect: float) -> Placement:
    """Up to five trees near the horizon, on dry ground: broad-leaved trees and firs."""
    dice = Dice(keys, throws=96)
    m = MOST_TREES
    x = dice.uniforms(0.0, 1.0, m) * aspect
    y = land.horizon[:, None] + dice.uniforms(0.01, 0.10, m)
    dry = water_distance(land, x, y, aspect) > 0.02
    used = dry & (dice.uniforms(0.0, 1.0, m) < 0.62)
    firs = dice.uniforms(0.0, 1.0, m) < dice.uniform(-0.2, 1.0)[:, None]
    label = torch.where(used, KINDS.index("tree") + firs.long(), 0)
    unit = dice.uniforms(0.24, 0.40, m) * (0.75 + 3.5 * (y - land.horizon[:, None]))
    mirror = torch.ones_like(x)
    appearance = dice.picks(len(figures.BLOSSOMS), m)
    own_keys = fold(keys[:, None], torch.arange(m, device=keys.device) + 1000)
    order = torch.argsort(y, dim=1, stable=True)
    fields = (label, x, y, unit, mirror, appearance, own_keys)
    return Placement(*(field.gather(1, order) for field in fields))
