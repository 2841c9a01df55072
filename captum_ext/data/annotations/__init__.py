"""Annotations of public data sets in one form, and results in the forms that official kits read.

One reader per format; each docstring says from where the file counts, in which order and unit, and whether
ends are inclusive. What comes out is always the same: seconds and frames half-open and from 0, boxes float
``(x0, y0, x1, y1)`` in pixels, half-open. A record that cannot be right raises :class:`AnnotationError` with
file, line or key, and reason, or is left out with a warning by ``on_error="skip"``.
"""

from captum_ext.data.annotations._faults import AnnotationError
from captum_ext.data.annotations.activitynet import (
    read_activitynet,
    read_activitynet_results,
    write_activitynet_results,
)
from captum_ext.data.annotations.clips import clips_of_videos
from captum_ext.data.annotations.detection_inputs import detection_inputs
from captum_ext.data.annotations.epic_kitchens import (
    attach_objects,
    read_epic_kitchens,
    read_epic_kitchens_classes,
    read_epic_kitchens_objects,
)
from captum_ext.data.annotations.flickr30k_entities import (
    EntityCaption,
    EntityImage,
    EntityPhrase,
    read_flickr30k_entities,
)
from captum_ext.data.annotations.frames import frame_spans, padded_boxes
from captum_ext.data.annotations.kinetics import clips_of_class_folders, read_kinetics
from captum_ext.data.annotations.msr_vtt import read_msr_vtt
from captum_ext.data.annotations.records import (
    AnnotatedAction,
    AnnotatedVideo,
    CaptionedVideo,
    Detection,
    ObjectBoxes,
)
from captum_ext.data.annotations.thumos14 import (
    THUMOS14_CLASSES,
    read_thumos14,
    read_thumos14_classes,
    read_thumos14_csv,
    read_thumos14_detections,
    write_thumos14_detections,
)
from captum_ext.data.annotations.ucf101_24 import (
    UCF101_24_CLASSES,
    read_ucf101_24_mat,
    read_ucf101_24_pickle,
    read_ucf101_24_split,
)

__all__ = [
    "THUMOS14_CLASSES",
    "UCF101_24_CLASSES",
    "AnnotatedAction",
    "AnnotatedVideo",
    "AnnotationError",
    "CaptionedVideo",
    "Detection",
    "EntityCaption",
    "EntityImage",
    "EntityPhrase",
    "ObjectBoxes",
    "attach_objects",
    "clips_of_class_folders",
    "clips_of_videos",
    "detection_inputs",
    "frame_spans",
    "padded_boxes",
    "read_activitynet",
    "read_activitynet_results",
    "read_epic_kitchens",
    "read_epic_kitchens_classes",
    "read_epic_kitchens_objects",
    "read_flickr30k_entities",
    "read_kinetics",
    "read_msr_vtt",
    "read_thumos14",
    "read_thumos14_classes",
    "read_thumos14_csv",
    "read_thumos14_detections",
    "read_ucf101_24_mat",
    "read_ucf101_24_pickle",
    "read_ucf101_24_split",
    "write_activitynet_results",
    "write_thumos14_detections",
]
