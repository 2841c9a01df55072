"""Clips as files and as tensors: video reading and writing, synthetic actions, concatenations, a dataset.

Everywhere in this package frames are uint8 RGB tensors (T, 3, H, W); boxes are float
``(x0, y0, x1, y1)`` in pixels, half-open; spans of frames are half-open. Reading and writing files
needs PyAV (``pip install "captum-ext[video]"``); importing the package does not. Annotations of public
data sets are read by :mod:`captum_ext.data.annotations`.
"""

from captum_ext.data.captions import (
    WORD_KINDS,
    CaptionedClip,
    GroundedWord,
    RenderedCaption,
    SyntheticCaptions,
    generate_captions,
    load_captions,
    save_captions,
)
from captum_ext.data.concatenation import PATTERNS, concatenate_actions
from captum_ext.data.dataset import ClipDataset
from captum_ext.data.joining import Piece, join_actions
from captum_ext.data.records import ActionClip, Box, Span, load_manifest, save_manifest
from captum_ext.data.synthetic import (
    DISTRACTORS,
    MOTIONS,
    SHAPES,
    RenderedAction,
    SyntheticActions,
    generate_actions,
)
from captum_ext.data.transforms import IMAGENET, KINETICS, ClipTransform, Normalization
from captum_ext.data.video import (
    VideoClip,
    VideoInfo,
    VideoReadError,
    probe_video,
    read_video,
    write_video,
)

__all__ = [
    "DISTRACTORS",
    "IMAGENET",
    "KINETICS",
    "MOTIONS",
    "PATTERNS",
    "SHAPES",
    "WORD_KINDS",
    "ActionClip",
    "Box",
    "CaptionedClip",
    "ClipDataset",
    "ClipTransform",
    "GroundedWord",
    "Normalization",
    "Piece",
    "RenderedAction",
    "RenderedCaption",
    "Span",
    "SyntheticActions",
    "SyntheticCaptions",
    "VideoClip",
    "VideoInfo",
    "VideoReadError",
    "concatenate_actions",
    "generate_actions",
    "generate_captions",
    "join_actions",
    "load_captions",
    "load_manifest",
    "probe_video",
    "read_video",
    "save_captions",
    "save_manifest",
    "write_video",
]
