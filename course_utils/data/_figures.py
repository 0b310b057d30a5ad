"""How each figure is drawn: cats, dogs, cars, persons and two kinds of trees, shape by shape.

Every function paints n figures of its kind at once, from the back to the front. Lengths are in figure units:
1 is about the figure's height, or a car's length. The foot is at (0, 0) and y points up. `dice` draws
the pose; `coat`, `paint`, `shirt` and `leaf` are rows of the tables below, whose names the captions use.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from course_utils.data._canvas import Canvas, direction, move, palette
from course_utils.data._dice import Dice

# name, fur, stripes, chest and paws
CATS = (
    ("orange tabby", "e8913d", "b9601c", "fff1dc"),
    ("grey tabby", "9aa0a8", "5d636e", "e9ebee"),
    ("black", "34343d", "2b2b33", "34343d"),
    ("black-and-white", "34343d", "2b2b33", "f6f4f0"),
    ("orange", "f0a552", "f0a552", "f6c588"),
)
# name, fur, ears and patches, chest and paws
DOGS = (
    ("brown", "8a5a35", "5f3a1f", "a87650"),
    ("beige", "ddb981", "b98a4e", "f0dbb4"),
    ("white", "f4f0e8", "9a683c", "ffffff"),
    ("dark brown", "5b4033", "3c2920", "c68f5a"),
    ("golden", "cf9440", "a86e24", "e6bd78"),
)
CARS = (
    ("red", "d8332f"),
    ("blue", "2f6fd0"),
    ("yellow", "f2c230"),
    ("turquoise", "1fa3a0"),
    ("purple", "8046a8"),
    ("white", "eef0f2"),
)
SHIRTS = (
    ("red", "d14a45"),
    ("blue", "3a6fb5"),
    ("yellow", "efc23f"),
    ("white", "f2f1ec"),
    ("pink", "e58aa8"),
    ("purple", "7d5ba6"),
    ("turquoise", "2fa6a0"),
    ("dark", "3f4450"),
)
SKINS = ("f7d7c0", "eabf9f", "d39f78", "b57d52", "8b5a3a", "5f3d2a")
HAIRS = ("1e1a1c", "3a2619", "6b4326", "c9983f", "a8512a", "8f8b88")
TROUSERS = ("2f3e63", "4b4f57", "6e5640", "27323a", "8a8f98", "38557f")
BRIGHT = ("d43c3c", "2f7fd0", "f0c030", "35a070")
BLOSSOMS = ("4f9a48", "3f8a4c", "6aa83f", "58a06a", "d98a3a", "e9a9bd", "86ad3f")
FIRS = ("2f6f53", "3c7d4f", "2a6460", "4b8558")

# the extent of each figure: to the side, above the foot, below it
REACH = {
    "cat": (0.74, 1.10, 0.10),
    "dog": (0.82, 1.06, 0.10),
    "car": (0.60, 0.56, 0.07),
    "person": (0.50, 1.10, 0.08),
}
REACH |= {"tree": (0.46, 1.04, 0.06), "fir": (0.40, 1.04, 0.06)}


def _colours(table: tuple, column: int, rows: Int64[Tensor, " n"]) -> Float[Tensor, "n 3"]:
    return palette(*(row[column] for row in table), device=rows.device)[rows]


def _one(colour: str, like: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    return palette(colour, device=like.device).expand_as(like)


def draw_cat(canvas: Canvas, dice: Dice, coat: Int64[Tensor, " n"]) -> None:
    """Cats that sit or walk and look at the camera: pointed ears, a long tail, tabbies with stripes."""
    fur, dark, pale = (_colours(CATS, column, coat) for column in (1, 2, 3))
    sits = dice.chance(0.5).float()
    inner, ink = _one("e9a3a0", fur), _one("22201f", fur)
    iris = palette("b9d24a", "e8c33f", "7fc08a", device=fur.device)[dice.pick(3)]
    sway = dice.uniform(-0.04, 0.05)
    step = dice.uniform(-0.06, 0.06)

    def pose(sitting: float, walking: float) -> Tensor:
        return sits * (sitting - walking) + walking

    canvas.shadow((0.0, 0.02), 0.62, 0.09)
    # tail, in three bends
    bends = [
        (pose(0.14, -0.38), pose(0.09, 0.50)),
        (pose(0.42, -0.55) + sway, pose(0.10, 0.60)),
        (pose(0.52, -0.60) + sway, pose(0.30, 0.78)),
        (pose(0.42, -0.50) + sway * 2, pose(0.46, 0.95)),
    ]
    for k in range(3):
        canvas.paint(
            canvas.limb(bends[k], bends[k + 1], 0.058 - 0.004 * k, 0.054 - 0.004 * k),
            fur if k < 2 else dark,
        )
    # legs on the far side, body, legs on the near side
    far = fur * 0.78
    canvas.paint(
        canvas.limb((pose(-0.14, -0.24), 0.25), (pose(-0.19, -0.22) - step, 0.05), 0.06, 0.05), far
    )
    canvas.paint(
        canvas.limb((pose(0.14, 0.16), 0.25), (pose(0.19, 0.14) + step, 0.05), 0.06, 0.05), far
    )
    body = canvas.limb(
        (pose(0.0, -0.30), pose(0.20, 0.42)),
        (pose(0.0, 0.22), pose(0.54, 0.44)),
        pose(0.235, 0.165),
        pose(0.15, 0.155),
    )
    canvas.paint(body, fur)
    for k in range(4):
        left, right = pose(-0.30, -0.34 + 0.15 * k), pose(-0.09 - 0.01 * k, -0.33 + 0.15 * k)
        high = pose(0.16 + 0.10 * k, 0.64)
        stripe = canvas.stroke((left, high), (right, pose(0.15 + 0.10 * k, 0.46)), 0.026, 0.008)
        canvas.paint(torch.maximum(stripe, body), dark)
    chest = canvas.ellipse((pose(0.0, 0.37), pose(0.42, 0.42)), pose(0.085, 0.09), pose(0.15, 0.12))
    canvas.paint(torch.maximum(chest, body), pale)
    legs = (
        (pose(-0.065, -0.34), pose(-0.075, -0.36) + step),
        (pose(0.065, 0.26), pose(0.075, 0.27) - step),
    )
    for hip, paw in legs:
        canvas.paint(canvas.limb((hip, 0.32), (paw, 0.06), 0.07, 0.055), fur * 0.92)
        canvas.paint(canvas.ellipse((paw, 0.035), 0.07, 0.04), pale)
    # head: ears, face
    canvas = canvas.above(0.38)
    x, y = pose(0.0, 0.40) + sway, pose(0.755, 0.68)
    for side in (-1, 1):
        ear = [
            (x + side * 0.20, y + 0.02),
            (x + side * 0.185, y + 0.29),
            (x + side * 0.03, y + 0.13),
        ]
        fold = [
            (x + side * 0.165, y + 0.08),
            (x + side * 0.165, y + 0.225),
            (x + side * 0.075, y + 0.14),
        ]
        canvas.paint(canvas.polygon(*ear[::-side]), fur)
        canvas.paint(canvas.polygon(*fold[::-side]), inner)
    head = canvas.ellipse((x, y), 0.215, 0.175)
    canvas.paint(head, fur)
    for k in (-1, 0, 1):
        stripe = canvas.stroke((x + 0.07 * k, y + 0.17), (x + 0.045 * k, y + 0.09), 0.018, 0.008)
        canvas.paint(torch.maximum(stripe, head), dark)
    canvas.paint(canvas.ellipse((x, y - 0.075), 0.10, 0.065), pale * 0.96 + 0.04)
    for side in (-1, 1):
        canvas.paint(canvas.ellipse((x + side * 0.088, y + 0.012), 0.044, 0.042), iris)
        canvas.paint(canvas.ellipse((x + side * 0.088, y + 0.012), 0.018, 0.038), ink)
    canvas.paint(canvas.ellipse((x, y - 0.045), 0.026, 0.019), inner * 0.85)


def draw_dog(canvas: Canvas, dice: Dice, coat: Int64[Tensor, " n"]) -> None:
    """Dogs that stand or sit, in profile: a snout, floppy ears, a collar; some have patches."""
    fur, dark, pale = (_colours(DOGS, column, coat) for column in (1, 2, 3))
    sits = dice.chance(0.4).float()
    ink = _one("221c1a", fur)
    collar = palette(*BRIGHT, device=fur.device)[dice.pick(len(BRIGHT))]
    wag, step = dice.uniform(-0.08, 0.10), dice.uniform(-0.07, 0.07)
    patched = dice.chance(0.4) | (coat == 2)

    def pose(sitting: float, standing: float) -> Tensor:
        return sits * (sitting - standing) + standing

    canvas.shadow((0.0, 0.02), 0.72, 0.09)
    canvas.paint(
        canvas.limb(
            (pose(-0.24, -0.40), pose(0.12, 0.55)),
            (pose(-0.52, -0.60) - wag, pose(0.20, 0.80) + wag),
            0.06,
            0.032,
        ),
        fur,
    )
    far = fur * 0.76
    canvas.paint(
        canvas.limb((pose(0.10, -0.24), 0.40), (pose(0.10, -0.20) - step, 0.05), 0.075, 0.055), far
    )
    canvas.paint(
        canvas.limb((pose(0.06, 0.14), 0.40), (pose(0.06, 0.12) + step, 0.05), 0.075, 0.055), far
    )
    body = canvas.limb(
        (pose(-0.14, -0.28), pose(0.235, 0.50)),
        (pose(0.10, 0.22), pose(0.56, 0.52)),
        pose(0.22, 0.155),
        pose(0.165, 0.18),
    )
    canvas.paint(body, fur)
    patch = canvas.ellipse((pose(-0.18, -0.14), pose(0.34, 0.60)), 0.17, 0.13)
    canvas.paint(torch.maximum(patch, body), dark, only=patched)
    chest = canvas.ellipse((pose(0.24, 0.34), pose(0.46, 0.44)), 0.10, 0.17)
    canvas.paint(torch.maximum(chest, body), pale)
    legs = (
        (pose(0.17, 0.26), pose(0.48, 0.42), pose(0.20, 0.27) - step, 0.075),
        (pose(-0.13, -0.33), pose(0.20, 0.42), pose(-0.04, -0.36) + step, pose(0.12, 0.09)),
    )
    for hip, high, paw, thick in legs:
        canvas.paint(canvas.limb((hip, high), (paw, 0.06), thick, 0.058), fur * 0.93)
        canvas.paint(canvas.ellipse((paw + 0.025, 0.038), 0.08, 0.042), pale)
    # neck, head, snout, ear
    canvas = canvas.above(0.36)
    x, y = pose(0.24, 0.42), pose(0.85, 0.84)
    neck = canvas.limb((pose(0.12, 0.24), pose(0.60, 0.58)), (x - 0.03, y - 0.04), 0.14, 0.11)
    canvas.paint(neck, fur)
    band = canvas.limb((x - 0.20, y - 0.13), (x + 0.07, y - 0.22), 0.028, 0.028)
    canvas.paint(torch.maximum(band, neck), collar)
    canvas.paint(
        canvas.limb((x + 0.08, y - 0.10), (x + 0.16, y - 0.125), 0.05, 0.035),
        _one("d8676a", fur),
        only=dice.chance(0.5),
    )
    canvas.paint(canvas.ellipse((x, y), 0.155, 0.145), fur)
    canvas.paint(canvas.limb((x + 0.06, y - 0.035), (x + 0.235, y - 0.05), 0.095, 0.068), pale)
    canvas.paint(canvas.ellipse((x + 0.285, y - 0.015), 0.036, 0.033), ink)
    canvas.paint(canvas.ellipse((x + 0.055, y + 0.055), 0.024, 0.028), ink)
    canvas.paint(canvas.limb((x - 0.075, y + 0.08), (x - 0.13, y - 0.13), 0.055, 0.085), dark)


def draw_car(canvas: Canvas, dice: Dice, paint: Int64[Tensor, " n"]) -> None:
    """Cars from the side, saloons and vans: bright paint, windows, two wheels, lamps."""
    colour = _colours(CARS, 1, paint)
    van = dice.chance(0.35).float()
    tall = dice.uniform(-0.012, 0.03)
    glass = palette("bfe0ee", "9fc8dc", device=colour.device)[dice.pick(2)]
    tyre, hub, ink = _one("26282c", colour), _one("c9ced4", colour), _one("2f3238", colour)

    def kind(saloon: float, bus: float) -> Tensor:
        return van * (bus - saloon) + saloon

    canvas.shadow((0.0, 0.02), 0.60, 0.06)
    floor, roof = 0.265, kind(0.435, 0.475) + tall
    rear, rear_top, front_top, front = (
        kind(-0.36, -0.465),
        kind(-0.215, -0.43),
        kind(0.09, 0.20),
        kind(0.27, 0.37),
    )
    cabin = canvas.polygon(
        (rear, floor), (rear_top, roof - 0.02), (front_top, roof - 0.02), (front, floor), grow=0.02
    )
    canvas.paint(cabin, colour * 0.9)
    body = canvas.box((0.0, 0.195), 0.5, 0.10, 0.075)
    canvas.paint(body, colour)
    middle, sill = kind(-0.06, -0.10), floor + 0.01
    low, high = 0.05, roof - 0.035
    canvas.paint(
        canvas.polygon(
            (rear + low, sill),
            (rear_top + 0.015, high),
            (middle - 0.018, high),
            (middle - 0.018, sill),
        ),
        glass,
    )
    canvas.paint(
        canvas.polygon(
            (middle + 0.018, sill),
            (middle + 0.018, high),
            (front_top - 0.01, high),
            (front - 0.05, sill),
        ),
        glass,
    )
    shine = canvas.stroke((middle + 0.05, sill), (middle + 0.12, high), 0.012, 0.012)
    canvas.paint(torch.maximum(shine, cabin + 0.03), _one("ffffff", colour), opacity=0.5)
    canvas.paint(torch.maximum(canvas.box((0.0, 0.115), 0.5, 0.028, 0.0), body), colour * 0.66)
    canvas.paint(canvas.box((middle + 0.06, 0.235), 0.025, 0.008, 0.006), colour * 0.55)
    canvas.paint(canvas.box((middle, 0.21), 0.005, 0.065, 0.0), colour * 0.72)
    canvas.paint(
        torch.maximum(canvas.ellipse((0.465, 0.225), 0.04, 0.032), body), _one("fff4bf", colour)
    )
    canvas.paint(
        torch.maximum(canvas.ellipse((-0.49, 0.23), 0.032, 0.034), body), _one("b3202a", colour)
    )
    for x in (-0.29, 0.29):
        arch = canvas.ellipse((x, 0.10), 0.122, 0.122)
        canvas.paint(torch.maximum(arch, body), ink)
        canvas.paint(canvas.ellipse((x, 0.10), 0.098, 0.098), tyre)
        canvas.paint(canvas.ellipse((x, 0.10), 0.05, 0.05), hub)


def draw_person(
    canvas: Canvas, dice: Dice, shirt: Int64[Tensor, " n"]
) -> tuple[Float[Tensor, "n 17 2"], Bool[Tensor, "n 17"]]:
    """Persons from the front or slightly turned, drawn on a skeleton with bending limbs.

    Returns:
        COCO's 17 keypoints in figure units, and which of them the person's own head or hair occludes.
    """
    cloth = _colours(SHIRTS, 1, shirt)
    device = cloth.device
    skin = palette(*SKINS, device=device)[dice.pick(len(SKINS))]
    hair = palette(*HAIRS, device=device)[dice.pick(len(HAIRS))]
    legwear = palette(*TROUSERS, device=device)[dice.pick(len(TROUSERS))]
    hat = palette(*BRIGHT, device=device)[dice.pick(len(BRIGHT))]
    ink, shoe = (
        _one("231d1c", cloth),
        palette("2b2a2e", "f0efec", "7a3b2e", device=device)[dice.pick(3)],
    )
    style, bottom = dice.pick(4), dice.pick(3)  # short, long, bun, cap; trousers, shorts, skirt
    long_hair, bun, cap = (style == 1), (style == 2), (style == 3)
    bare_arms, bare_shins, skirt = dice.chance(0.6), bottom > 0, bottom == 2
    turn = dice.uniform(-1.0, 1.0)
    lean = dice.uniform(-0.02, 0.02)

    def either(flag: Tensor, yes: Tensor, no: Tensor) -> Tensor:
        return torch.where(flag[:, None], yes, no)

    # the skeleton, the person's left (our right) first; angles in degrees from straight down, outwards
    narrow = 1 - 0.22 * turn * turn
    arm_poses = torch.tensor(
        [
            [12.0, 4.0],
            [24.0, -8.0],
            [52.0, -58.0],
            [80.0, 100.0],
            [118.0, 160.0],
            [150.0, 172.0],
            [30.0, 100.0],
        ],
        device=device,
    )
    legs, arms = [], []
    stride = dice.uniform(2.0, 15.0)
    for side in (1, -1):
        hip = (side * 0.062 * narrow, 0.0)
        thigh = stride + dice.uniform(-4.0, 12.0)
        shin = thigh - dice.uniform(0.0, 22.0)
        knee_to, ankle_to = direction(thigh), direction(shin)
        knee = move(hip, (side * knee_to[0], knee_to[1]), 0.205)
        legs.append((hip, knee, move(knee, (side * ankle_to[0], ankle_to[1]), 0.205)))
    ground = torch.minimum(legs[0][2][1], legs[1][2][1])
    height = 0.045 - ground  # of the hips
    legs = [[(x, y + height) for x, y in leg] for leg in legs]
    for side in (1, -1):
        angles = arm_poses[dice.pick(len(arm_poses))]
        upper, fore = (
            direction(angles[:, 0] + dice.uniform(-8.0, 8.0)),
            direction(angles[:, 1] + dice.uniform(-10.0, 10.0)),
        )
        shoulder = (side * 0.118 * narrow + lean, height + 0.265)
        elbow = move(shoulder, (side * upper[0], upper[1]), 0.15)
        arms.append((shoulder, elbow, move(elbow, (side * fore[0], fore[1]), 0.145)))
    x, y = lean * 2, height + 0.425

    canvas.shadow((0.0, 0.02), 0.34, 0.06)
    canvas.paint(canvas.limb((x, y), (x, y - 0.17), 0.115, 0.10), hair * 0.9, only=long_hair)
    for (hip, knee, ankle), side in zip(legs, (1, -1), strict=True):
        canvas.paint(
            canvas.ellipse((ankle[0] + side * 0.022, ankle[1] - 0.015), 0.056, 0.032), shoe
        )
        canvas.paint(
            canvas.limb(knee, ankle, 0.046, 0.036), either(bare_shins, skin, legwear * 0.94)
        )
        canvas.paint(canvas.limb(hip, knee, 0.062, 0.048), either(skirt, skin, legwear))
    waist, hem = height + 0.05, height - 0.13
    dress = canvas.polygon(
        (-0.15 * narrow, hem),
        (-0.075 * narrow, waist),
        (0.075 * narrow, waist),
        (0.15 * narrow, hem),
    )
    canvas.paint(dress, legwear, only=skirt)
    canvas.paint(
        canvas.limb((x * 0.5, height + 0.25), (x * 0.5, height + 0.36), 0.045, 0.045), skin * 0.93
    )
    canvas.paint(canvas.ellipse((0.0, height), 0.105 * narrow, 0.06), legwear)
    top, hem = height + 0.285, height + 0.005
    broad, slim = 0.135 * narrow, 0.088 * narrow
    chest = canvas.polygon(
        (lean - broad, top), (lean + broad, top), (slim, hem), (-slim, hem), grow=0.012
    )
    canvas.paint(chest, cloth)
    for shoulder, elbow, wrist in arms:
        canvas.paint(canvas.limb(elbow, wrist, 0.034, 0.029), either(bare_arms, skin, cloth * 0.9))
        canvas.paint(canvas.limb(shoulder, elbow, 0.044, 0.037), cloth * 0.9)
        canvas.paint(canvas.ellipse(wrist, 0.036, 0.036), skin)
    # the head: ears, hair behind the face, face
    canvas = canvas.above(0.50)
    for side in (-1, 1):
        canvas.paint(canvas.ellipse((x + side * 0.092, y - 0.005), 0.022, 0.03), skin * 0.93)
    canvas.paint(canvas.ellipse((x - turn * 0.02, y + 0.12), 0.05, 0.045), hair, only=bun)
    canvas.paint(canvas.ellipse((x, y + 0.022), 0.104, 0.108), hair)
    face = canvas.ellipse((x, y), 0.094, 0.112)
    fringe = canvas.ellipse((x + turn * 0.022, y - 0.028), 0.092, 0.105)
    canvas.paint(torch.maximum(face, fringe), skin)
    for side in (-1, 1):
        lock = canvas.limb((x + side * 0.088, y + 0.03), (x + side * 0.092, y - 0.13), 0.03, 0.032)
        canvas.paint(lock, hair, only=long_hair)
    eye_x, eye_y = x + turn * 0.034, y + 0.008
    eyes = [(eye_x + side * 0.036, eye_y) for side in (1, -1)]
    for eye in eyes:
        canvas.paint(canvas.ellipse(eye, 0.012, 0.016), ink)
    nose = (x + turn * 0.046, y - 0.022)
    canvas.paint(canvas.ellipse(nose, 0.012, 0.015), skin * 0.85)
    for side in (-1, 1):
        smile = canvas.stroke((eye_x, y - 0.066), (eye_x + side * 0.030, y - 0.052), 0.008, 0.006)
        canvas.paint(smile, skin * 0.6)
    crown = torch.maximum(
        canvas.ellipse((x, y + 0.03), 0.112, 0.108), (y + 0.035)[:, None, None] - canvas.y
    )
    canvas.paint(crown, hat, only=cap)
    brim = canvas.stroke(
        (x - 0.07 + turn * 0.05, y + 0.04), (x + 0.07 + turn * 0.05, y + 0.04), 0.016, 0.016
    )
    canvas.paint(brim, hat * 0.8, only=cap)

    ears = [(x + side * 0.088, y - 0.005) for side in (1, -1)]
    points = [nose, *eyes, *ears]
    for joint in range(3):
        points += [arm[joint] for arm in arms]
    for joint in range(3):
        points += [leg[joint] for leg in legs]
    keypoints = torch.stack(
        [torch.stack(torch.broadcast_tensors(*point), dim=-1) for point in points], dim=1
    )
    hidden = torch.zeros_like(keypoints[..., 0], dtype=torch.bool)
    hidden[:, 3] = long_hair | (turn > 0.6)
    hidden[:, 4] = long_hair | (turn < -0.6)
    return keypoints, hidden


def draw_tree(canvas: Canvas, dice: Dice, leaf: Int64[Tensor, " n"]) -> None:
    """Broad-leaved trees: a trunk, and a crown of round clumps that are lit from the upper left."""
    green = palette(*BLOSSOMS, device=leaf.device)[leaf]
    bark = palette("7a5638", "6b5343", "8d7a66", device=leaf.device)[dice.pick(3)]
    slim = dice.uniform(0.6, 1.0)
    canvas.shadow((0.0, 0.02), 0.36, 0.05)
    canvas.paint(canvas.limb((0.0, 0.03), (0.01, 0.50), 0.055, 0.035), bark)
    spots = (
        (-0.17, 0.48, 0.17),
        (0.17, 0.50, 0.17),
        (-0.10, 0.68, 0.19),
        (0.12, 0.70, 0.18),
        (0.0, 0.82, 0.17),
        (0.0, 0.55, 0.19),
    )
    clumps = []
    for x, y, radius in spots:
        clump = (
            (x + dice.uniform(-0.04, 0.04)) * slim,
            y + dice.uniform(-0.03, 0.03),
            radius + dice.uniform(-0.03, 0.02),
        )
        clumps.append(clump)
        canvas.paint(canvas.ellipse(clump[:2], clump[2] * slim, clump[2]), green * 0.80)
    for x, y, radius in clumps:
        canvas.paint(
            canvas.ellipse((x - 0.025, y + 0.035), radius * 0.80 * slim, radius * 0.72),
            green * 0.96,
        )
    for x, y, radius in clumps[2:5]:
        canvas.paint(
            canvas.ellipse((x - 0.05, y + 0.075), radius * 0.45 * slim, radius * 0.36),
            green * 0.9 + 0.13,
        )


def draw_fir(canvas: Canvas, dice: Dice, leaf: Int64[Tensor, " n"]) -> None:
    """Firs: a short trunk under four tiers, each lit from the left."""
    green = palette(*FIRS, device=leaf.device)[leaf % len(FIRS)]
    wide = dice.uniform(0.75, 1.1)
    canvas.shadow((0.0, 0.02), 0.32, 0.05)
    canvas.paint(canvas.limb((0.0, 0.03), (0.0, 0.3), 0.04, 0.035), _one("6a4a33", green))
    for k in range(4):
        low, top, half = 0.14 + 0.19 * k, 0.50 + 0.165 * k, (0.29 - 0.055 * k) * wide
        tier = canvas.polygon((-half, low), (0.0, top), (half, low), grow=0.012)
        canvas.paint(tier, green * (0.84 + 0.06 * k))
        canvas.paint(
            torch.maximum(tier, canvas.x + (0.15 * half)[:, None, None]), green * (0.98 + 0.06 * k)
        )
