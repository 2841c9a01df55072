"""Pictures of where and when the evidence is: overlays, timelines, moving pictures, one HTML report."""

from captum_ext.visualization.animation import save_animation, side_by_side
from captum_ext.visualization.boxes import draw_boxes
from captum_ext.visualization.colormap import lookup_table
from captum_ext.visualization.overlay import heat_layer, overlay
from captum_ext.visualization.report import Report
from captum_ext.visualization.report_entry import ReportEntry
from captum_ext.visualization.timeline import timeline_strip

__all__ = [
    "Report",
    "ReportEntry",
    "draw_boxes",
    "heat_layer",
    "lookup_table",
    "overlay",
    "save_animation",
    "side_by_side",
    "timeline_strip",
]
