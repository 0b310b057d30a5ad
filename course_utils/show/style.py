"""How every figure of the course looks: colours, line styles, hatches, font sizes."""

from collections.abc import Sequence

import matplotlib
from cycler import cycler
from matplotlib.colors import to_rgb

from course_utils.data.scenes import CLASS_NAMES

# Okabe and Ito's colours first, then colours of Tol's muted set: distinguishable with colour blindness.
# Class 1 has the first colour. The order suits the scenes: four things, then sky, grass, water and tree.
PALETTE = (
    "#E69F00",  # orange
    "#CC79A7",  # pink
    "#D55E00",  # vermilion
    "#F0E442",  # yellow
    "#56B4E9",  # sky blue
    "#009E73",  # bluish green
    "#0072B2",  # blue
    "#2B4A1E",  # dark green
    "#999933",  # olive
    "#882255",  # wine
    "#DDCC77",  # sand
    "#332288",  # indigo
)
SCENE_CLASSES = CLASS_NAMES[1:]
BACKGROUND = "#9A9A9A"
LINE_STYLES = ("-", "--", "-.", ":")
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "---", "ooo", "|||")

_INSTANCE_ORDER = (0, 4, 2, 3, 6, 1, 5, 10, 9, 8, 7, 11)
_LINE_COLORS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#332288",
    "#56B4E9",
    "#882255",
)
_SIZES = {
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.labelsize": 12,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.fontsize": 11,
    "figure.titlesize": 14,
    "lines.linewidth": 2,
    "lines.markersize": 6,
}


def use_course_style() -> None:
    """Set matplotlib's defaults for the course; importing `course_utils.show` calls it.

    It starts from matplotlib's own defaults and not from a user's `matplotlibrc`, so that figures look the
    same on every machine; where they are drawn (the backend) stays as it is.

    Figures have a white background, also in a dark theme, and pixels are drawn as squares. A figure of the
    default size is 700 pixels wide: it fits beside JupyterLab's prompts and on a 1280 x 720 slide.

    >>> use_course_style()
    >>> matplotlib.rcParams["image.interpolation"], matplotlib.rcParams["figure.facecolor"]
    ('nearest', 'white')
    """
    matplotlib.rcdefaults()
    matplotlib.rcParams.update(
        _SIZES
        | {
            "figure.figsize": (7, 4.2),
            "figure.dpi": 100,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "figure.max_open_warning": 0,
            "savefig.dpi": "figure",
            "savefig.facecolor": "white",
            "font.family": ["DejaVu Sans"],  # part of matplotlib: the same on every machine
            "axes.facecolor": "white",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlelocation": "left",
            "axes.prop_cycle": cycler(color=_LINE_COLORS) + cycler(linestyle=LINE_STYLES * 2),
            "image.interpolation": "nearest",
            "image.cmap": "cividis",
            "hatch.linewidth": 1.0,
            "legend.frameon": False,
        }
    )


def present() -> None:
    """Enlarge fonts and line widths, so that figures can be read from the back row of a lecture hall.

    Call it in the first cell of a talk; `use_course_style()` undoes it.

    >>> present()
    >>> matplotlib.rcParams["font.size"]
    18.0
    >>> use_course_style()
    """
    matplotlib.rcParams.update({name: 1.5 * size for name, size in _SIZES.items()})


def class_color(number: int, names: Sequence[str] | None = None) -> str:
    """The colour of a class as "#RRGGBB": grey for background (0), then the colours of the palette in turn.

    With `names`, the eight classes of the scenes have the same colours in every figure: sky is always sky
    blue. Other classes get the remaining colours, in order.

    Args:
        number: a class number, 0 or above.
        names: the name of each class.

    >>> class_color(0), class_color(1), class_color(13)
    ('#9A9A9A', '#E69F00', '#E69F00')
    >>> class_color(2, ["background", "coffee", "sky"]) == class_color(5)
    True
    """
    if number <= 0:
        return BACKGROUND
    if names is None:
        return PALETTE[(number - 1) % len(PALETTE)]
    if names[number] in SCENE_CLASSES:
        return PALETTE[SCENE_CLASSES.index(names[number])]
    taken = {class_color(k) for k, name in enumerate(SCENE_CLASSES, start=1) if name in names}
    free = [color for color in PALETTE if color not in taken]
    others = [name for name in names[1:] if name not in SCENE_CLASSES]
    return free[others.index(names[number]) % len(free)]


def instance_color(index: int) -> str:
    """The colour of object `index` as "#RRGGBB": the palette, ordered so that consecutive colours differ.

    >>> instance_color(0), instance_color(1), instance_color(12)
    ('#E69F00', '#56B4E9', '#E69F00')
    """
    return PALETTE[_INSTANCE_ORDER[index % len(PALETTE)]]


def text_color(background: str | tuple[float, ...]) -> str:
    """Black or white, whichever has more contrast on this colour (by the relative luminance of WCAG).

    Args:
        background: any colour in matplotlib's notation.

    >>> text_color("#F0E442"), text_color("#0072B2")
    ('black', 'white')
    """
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(background)
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "white"
