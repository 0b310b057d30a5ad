"""From axes to an image in the notebook: small, with a description, and reproducible to the byte."""

import base64
import html
import io
import itertools

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from course_utils.show._axes import TAG
from course_utils.show.publish import publish


def figure(fig_or_ax: Figure | Axes, alt: str) -> None:
    """Finish a figure: display it once with its description, and close it.

    Args:
        fig_or_ax: the figure, or any of its axes.
        alt: a description of the figure in one sentence, for readers who cannot see it.

    >>> figure(plt.figure(), "An empty figure.")
    An empty figure.
    """
    fig, alt = figure_of(fig_or_ax), check_alt(alt)
    try:
        picture = draw(fig)
    finally:
        plt.close(fig)
    display_picture(picture, alt)


def display_picture(picture: Image.Image, alt: str) -> None:
    """Display a picture with its description."""
    kind, content = encode(picture)
    publish(
        {kind: base64.b64encode(content).decode(), "text/plain": alt}, metadata={kind: {"alt": alt}}
    )


def html_image(fig: Figure, alt: str) -> str:
    """The figure as an HTML image that is never wider than its container."""
    kind, content = encode(draw(fig))
    data = base64.b64encode(content).decode()
    return f'<img alt="{html.escape(alt)}" src="data:{kind};base64,{data}" style="max-width: 100%">'


def draw(fig: Figure) -> Image.Image:
    """The pixels of a figure, cut to what is drawn; its tags are moved apart and its layout is frozen."""
    separate_tags(fig)
    rendered = io.BytesIO()
    fig.savefig(rendered, format="png", bbox_inches="tight", pad_inches=0.08)
    return Image.open(rendered).convert("RGB")


def encode(picture: Image.Image) -> tuple[str, bytes]:
    """A picture as a file without date or version, so that the same picture gives the same bytes.

    A PNG file keeps every colour of a plot, a grid or a label map. For photographs it would be several times
    as large as a JPEG file of high quality, so that they become one.

    Returns:
        The MIME type, "image/png" or "image/jpeg", and the content of the file.

    >>> encode(Image.new("RGB", (40, 30)))[0]
    'image/png'
    """
    png, jpeg = io.BytesIO(), io.BytesIO()
    few_colours = picture.quantize(256) if picture.getcolors(256) else picture  # loses none
    few_colours.save(png, format="PNG", optimize=True)
    picture.save(jpeg, format="JPEG", quality=90, subsampling="4:4:4", optimize=True)
    if len(png.getvalue()) > 1.5 * len(jpeg.getvalue()):
        return "image/jpeg", jpeg.getvalue()
    return "image/png", png.getvalue()


def figure_of(fig_or_ax: Figure | Axes) -> Figure:
    """The figure that these axes belong to.

    >>> fig, ax = plt.subplots()
    >>> figure_of(ax) is fig
    True
    >>> plt.close(fig)
    """
    if isinstance(fig_or_ax, Figure):
        return fig_or_ax
    if isinstance(fig_or_ax, Axes):
        return fig_or_ax.figure.canvas.figure
    raise TypeError(
        f"fig_or_ax: expected a matplotlib figure or axes, got {type(fig_or_ax).__name__}"
    )


def check_alt(alt: str) -> str:
    """Raise unless there is a description; returns it.

    >>> check_alt(" ")
    Traceback (most recent call last):
    ...
    ValueError: alt: expected a sentence that describes the figure, got ' '
    """
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"alt: expected a sentence that describes the figure, got {alt!r}")
    return alt


def separate_tags(fig: Figure) -> None:
    """Move tags so that they are inside their axes and overlap as little as possible.

    Each in turn goes to the position with the least overlap that is closest to the original one.
    """
    fig.draw_without_rendering()
    fig.set_layout_engine("none")
    for ax in fig.axes:
        placed: list[Bbox] = []
        for tag in (text for text in ax.texts if text.get_gid() == TAG):
            here = tag.get_bbox_patch().get_window_extent()
            best = min(
                _candidates(here, ax.bbox.frozen()),
                key=lambda box: sum(_overlap(box, other) for other in placed),
            )
            placed.append(best)
            _move(tag, best.x0 - here.x0, best.y0 - here.y0)


def _candidates(here: Bbox, limits: Bbox) -> list[Bbox]:
    """Possible positions of a tag, nearest first."""
    start = _shift_inside(here, limits)
    steps = itertools.product(
        (0, 0.25, -0.25, 0.5, -0.5, 0.75, -0.75, 1, -1), (0, 0.5, -0.5, 1, -1, 2, -2, 3, -3)
    )
    shifts = sorted(
        ((dx * (here.width + 2), dy * (here.height + 2)) for dx, dy in steps),
        key=lambda s: s[0] ** 2 + s[1] ** 2,
    )
    return [_shift_inside(start.translated(dx, dy), limits) for dx, dy in shifts]


def _shift_inside(box: Bbox, limits: Bbox) -> Bbox:
    """The box, moved by the smallest shift that puts it inside the limits."""
    dx = max(limits.x0 - box.x0, min(0, limits.x1 - box.x1))
    dy = min(limits.y1 - box.y1, max(0, limits.y0 - box.y0))
    return box.translated(dx, dy)


def _overlap(first: Bbox, second: Bbox) -> float:
    """The area of the intersection of two boxes."""
    shared = Bbox.intersection(first, second)
    return 0.0 if shared is None else shared.width * shared.height


def _move(text: Text, dx: float, dy: float) -> None:
    """Move a text by this many screen pixels."""
    to_screen = text.axes.transData
    x, y = to_screen.transform(text.get_position())
    text.set_position(to_screen.inverted().transform((x + dx, y + dy)))
