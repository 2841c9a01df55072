"""Real clips under ``--data-root``."""

from __future__ import annotations

from pathlib import Path

from captum_ext.data import ActionClip, load_manifest

__all__ = ["trimmed_clips"]


def trimmed_clips(root: Path, split: str) -> list[ActionClip]:
    """The clips of a split, "train" or "test"."""
    return load_manifest(root / f"{split}.json")


def untrimmed_videos(root: Path, labels: tuple[str, ...]) -> list[ActionClip]:
    """The test videos with a span for every action of a known class."""
    return load_manifest(root / "untrimmed.json")
