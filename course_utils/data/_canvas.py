"""Painting with signed distance functions: n small transparent images at once, one figure on each.

A shape is given by the signed distance of each pixel centre to its edge, negative inside. Its mask is
`distance < 0`, and its anti-aliased coverage is the distance clamped to half a pixel on either side.

Pixels are computed with +, -, *, /, square roots, minima and maxima only. These round identically at every
position in a tensor, so that no mask depends on the batch, the number of threads or the device.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Number = float | Tensor
Point = tuple[Number, Number]


def palette(*colours: str, device: torch.device) -> Float[Tensor, "n 3"]:
    """Colours written as six hexadecimal digits, as RGB in 0..1.

    >>> palette("ff0033", device="cpu").tolist()
    [[1.0, 0.0, 0.20000000298023224]]
    """
    return torch.tensor([list(bytes.fromhex(colour)) for colour in colours], device=device) / 255


def direction(degrees: Number) -> Point:
    """The unit vector at this angle from straight down, outwards: 0 is (0, -1), 90 is (1, 0).

    Computed from a series for tan(angle / 4), because sines of different libraries differ in their last bit.

    >>> x, y = direction(torch.tensor(90.0))
    >>> round(float(x), 3), round(float(y), 3)
    (1.0, 0.0)
    """
    quarter = degrees * (3.14159265 / 720)
    square = quarter * quarter
    tangent = quarter * (1 + square * (1 / 3 + square * (2 / 15 + square * 0.06)))
    sine, cosine = (
        2 * tangent / (1 + tangent * tangent),
        (1 - tangent * tangent) / (1 + tangent * tangent),
    )
    return 2 * sine * cosine, sine * sine - cosine * cosine


def move(point: Point, vector: Point, length: Number) -> Point:
    """The point at this distance along the vector."""
    return point[0] + vector[0] * length, point[1] + vector[1] * length


def _plane(value: Number) -> Number:
    return value[:, None, None] if isinstance(value, Tensor) else value


class Canvas:
    """n transparent images that are painted together; lengths are in figure units, y points up from the foot.

    Args:
        x: the position of each column to the right of the figure's foot (to the left if it is mirrored).
        y: the height of each row above the foot, descending.
        unit: pixels per figure unit.
        thinnest: the smallest radius of a limb, in pixels.
    """

    def __init__(
        self,
        x: Float[Tensor, "n w"],
        y: Float[Tensor, "n h"],
        unit: Float[Tensor, " n"],
        thinnest: float,
    ):
        self.x, self.y, self.unit = x[:, None, :], y[:, :, None], unit[:, None, None]
        self.thinnest = thinnest / self.unit
        pixels = y.shape[1], x.shape[1]
        self.rgba = x.new_zeros(len(x), 4, *pixels)  # premultiplied alpha
        self.distance = x.new_full((len(x), *pixels), 1e4)  # to the nearest shape painted so far

    def above(self, height: float) -> "Canvas":
        """The canvas above this height, to paint a head faster; shapes must end well above it."""
        rows = int((self.y > height).any(dim=0).sum())
        part = Canvas.__new__(Canvas)
        part.x, part.y, part.unit, part.thinnest = (
            self.x,
            self.y[:, :rows],
            self.unit,
            self.thinnest,
        )
        part.rgba, part.distance = self.rgba[:, :, :rows], self.distance[:, :rows]
        return part

    def ellipse(self, centre: Point, rx: Number, ry: Number) -> Float[Tensor, "n h w"]:
        """Distance to an upright ellipse: (q - 1) / |grad q| for q = (x / rx)**2 + (y / ry)**2."""
        fx, fy = 1 / _plane(rx), 1 / _plane(ry)
        x, y = (self.x - _plane(centre[0])) * fx, (self.y - _plane(centre[1])) * fy
        slope_x, slope_y = x * (2 * fx), y * (2 * fy)
        slope = ((slope_x * slope_x + 1e-12) + slope_y * slope_y).sqrt_()
        return ((x * x - 1) + y * y).div_(slope)

    def stroke(
        self, start: Point, end: Point, r_start: Number, r_end: Number
    ) -> Float[Tensor, "n h w"]:
        """Distance to a line with round ends, of radius `r_start` at one end and `r_end` at the other."""
        x, y = self.x - _plane(start[0]), self.y - _plane(start[1])
        run, rise = _plane(end[0] - start[0]), _plane(end[1] - start[1])
        length = run * run + rise * rise + 1e-12
        along = (x * (run / length) + y * (rise / length)).clamp_(0, 1)
        off_x, off_y = x - along * run, y - along * rise
        away = off_x.mul_(off_x).add_(off_y.mul_(off_y)).sqrt_()
        return away.sub_(along.mul_(_plane(r_end - r_start)).add_(_plane(r_start)))

    def limb(
        self, start: Point, end: Point, r_start: Number, r_end: Number
    ) -> Float[Tensor, "n h w"]:
        """A stroke that stays thick enough to be visible in a small image."""
        thinnest = self.thinnest[:, 0, 0]
        return self.stroke(start, end, thinnest.clamp(min=r_start), thinnest.clamp(min=r_end))

    def box(
        self, centre: Point, half_width: Number, half_height: Number, corner: Number
    ) -> Float[Tensor, "n h w"]:
        """Distance to a box with round corners."""
        corner = _plane(corner)
        x = (self.x - _plane(centre[0])).abs() - (_plane(half_width) - corner)
        y = (self.y - _plane(centre[1])).abs() - (_plane(half_height) - corner)
        outer_x, outer_y = x.clamp(min=0), y.clamp(min=0)
        outside = (outer_x * outer_x + outer_y * outer_y).sqrt_()
        return outside.add_(torch.maximum(x, y).clamp_(max=0)).sub_(corner)

    def polygon(self, *corners: Point, grow: float = 0.0) -> Float[Tensor, "n h w"]:
        """Distance to a convex polygon, its corners clockwise as seen, its sides moved out by `grow`."""
        distance = None
        for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
            run, rise = _plane(x2 - x1), _plane(y2 - y1)
            square = run * run + rise * rise
            length = square.sqrt() if isinstance(square, Tensor) else square**0.5
            across, down = -rise / length, run / length
            side = (self.x - _plane(x1)) * across + ((self.y - _plane(y1)) * down - grow)
            distance = side if distance is None else torch.maximum(distance, side)
        return distance

    def shadow(self, centre: Point, rx: Number, ry: Number) -> None:
        """A soft shadow on the ground, below everything painted later and not part of the figure's mask."""
        x, y = (self.x - _plane(centre[0])) / _plane(rx), (self.y - _plane(centre[1])) / _plane(ry)
        self.rgba[:, 3] = (1 - (x * x + y * y)).clamp_(0, 0.6).mul_(0.38)

    def paint(
        self,
        distance: Float[Tensor, "n h w"],
        colour: Float[Tensor, "n 3"],
        *,
        only: Bool[Tensor, " n"] | None = None,
        opacity: float = 1.0,
    ) -> None:
        """Composite a shape over what has been painted.

        Args:
            distance: the shape; `torch.maximum(shape, other)` is the intersection of two shapes.
            colour: one per figure.
            only: the figures that have this shape; None for all.
            opacity: 0 to 1.
        """
        if only is not None:
            distance = torch.where(only[:, None, None], distance, 1e4)
        cover = (0.5 - distance * self.unit).clamp_(0, 1).mul_(opacity)
        solid = torch.cat([colour, torch.ones_like(colour[:, :1])], dim=1)[:, :, None, None]
        self.rgba.add_((solid - self.rgba).mul_(cover[:, None]))
        torch.minimum(self.distance, distance, out=self.distance)

    def finish(self, rim: float) -> None:
        """Light the figures from above and darken a rim of this many pixels, so that they stand out."""
        edge = (self.distance * (self.unit / rim) + 1).clamp_(0, 1).mul_(0.30)
        light = self.y * 0.14 + 0.96
        self.rgba[:, :3].mul_((light - edge)[:, None])
