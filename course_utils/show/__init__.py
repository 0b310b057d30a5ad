"""Floor 6: what a student sees. Source code, figures, and widgets around them, all in one style."""

from course_utils.show.boxes import plot_boxes, plot_matches
from course_utils.show.curves import live_curve, plot_losses
from course_utils.show.diagrams import plot_diagram, plot_feature_maps
from course_utils.show.figures import figure
from course_utils.show.images import plot_crops, plot_grid, plot_grids, plot_image
from course_utils.show.masks import plot_label_map, plot_masks
from course_utils.show.panoptic import (
    plot_panoptic,
    plot_segment_pairs,
    segment_colors,
    segment_name,
)
from course_utils.show.poses import plot_poses
from course_utils.show.rows import plot_row
from course_utils.show.source import show_source
from course_utils.show.style import (
    HATCHES,
    LINE_STYLES,
    PALETTE,
    class_color,
    instance_color,
    present,
    text_color,
    use_course_style,
)
from course_utils.show.widgets import explore, small_multiples

use_course_style()

__all__ = [
    "HATCHES",
    "LINE_STYLES",
    "PALETTE",
    "class_color",
    "explore",
    "figure",
    "instance_color",
    "live_curve",
    "plot_boxes",
    "plot_crops",
    "plot_diagram",
    "plot_feature_maps",
    "plot_grid",
    "plot_grids",
    "plot_image",
    "plot_label_map",
    "plot_losses",
    "plot_masks",
    "plot_matches",
    "plot_panoptic",
    "plot_poses",
    "plot_row",
    "plot_segment_pairs",
    "present",
    "segment_colors",
    "segment_name",
    "show_source",
    "small_multiples",
    "text_color",
    "use_course_style",
]
