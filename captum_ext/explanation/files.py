"""An explanation as files, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captum_ext.data import VideoClip
from captum_ext.data._atomic import replacing
from captum_ext.explanation.explain import METHODS, Explanation, MethodResult
from captum_ext.explanation.extremal import KeptPart
from captum_ext.grounding import peak_frame
from captum_ext.visualization import (
    Report,
    ReportEntry,
    overlay,
    save_animation,
    side_by_side,
    timeline_strip,
)

__all__ = ["FILES", "save", "window_seconds"]

FILES = ("overlay.mp4", "overlay.webp", "timeline.png", "report.html", "map.npz", "explanation.json")
"""What :func:`save` writes; the last one is written last, so where it is, the others are complete."""

# A clip of few frames spread over many seconds would stand still at its true speed.
_SLOWEST_PLAYBACK_FPS = 4.0


def save(
    folder: Path, explanation: Explanation, video: VideoClip, frames: Tensor, facts: Mapping[str, object]
) -> list[Path]:
    """Write the overlays, the timeline, the report, the maps and a description of them all.

    ``overlay.mp4`` and ``overlay.webp`` show the clip and then each method's overlay, side by side. Negative
    evidence is not painted. ``map.npz`` holds ``methods`` (M,), ``scores`` (M, T), ``timestamps`` (T,) in
    seconds, and ``maps`` (M, T', h, w), or where maps differ in size ``maps_METHOD`` (T', h, w) for each
    method; of STEP and EP-3D also ``areas`` (A,) and ``masks_METHOD`` (A, T, H, W). The report shows the clip
    through each of these masks.

    Args:
        folder (Path): exists; files of an earlier run are replaced.
        explanation (Explanation): of :func:`explain`.
        video (VideoClip): the clip as it was read, for its times.
        frames (Tensor): the pixels that the model saw, uint8 (T, 3, H, W).
        facts (mapping): what is to stand in ``explanation.json`` besides, plain values; with ``"model"``,
            ``"weights"`` and ``"reads"``, and optionally ``"note"``, a remark for the report.

    Returns:
        list of Path: the files, in the order of ``FILES``.

    Raises:
        OSError: the folder cannot be written to.
        ImportError: PyAV is not installed.
    """
    paths = [folder / name for name in FILES]
    mp4, webp, timeline, report, arrays, description = paths
    description.unlink(missing_ok=True)  # it must not describe files that are being replaced
    fps = _playback_fps(video)
    results = explanation.results
    painted = side_by_side(frames, *(overlay(frames, result.maps) for result in results.values()))
    for path in (mp4, webp):
        save_animation(path, painted, fps)
    _timeline(explanation, frames, str(facts["reads"])).save(timeline)
    _report(explanation, video, frames, fps, facts).save(report)
    with replacing(arrays) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **_arrays(explanation, video))
    with replacing(description) as temporary:
        text = json.dumps({**facts, **_description(explanation, video)}, indent=2, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8", errors="replace")
    return paths


def _arrays(explanation: Explanation, video: VideoClip) -> dict[str, Any]:
    """What map.npz holds."""
    results = explanation.results
    arrays: dict[str, Any] = {
        "methods": np.array(list(results)),
        "scores": torch.stack([result.scores for result in results.values()]).numpy(),
        "timestamps": video.timestamps.numpy(),
    }
    maps = {method: result.maps for method, result in results.items()}
    if len({tuple(array.shape) for array in maps.values()}) == 1:
        arrays["maps"] = torch.stack(list(maps.values())).numpy()
    else:
        arrays |= {f"maps_{method}": array.numpy() for method, array in maps.items()}
    for method, result in results.items():
        if result.kept:
            arrays["areas"] = np.array([part.area for part in result.kept])
            arrays[f"masks_{method}"] = torch.stack([part.mask for part in result.kept]).numpy()
    return arrays


def window_seconds(window: tuple[int, int], video: VideoClip) -> tuple[float, float]:
    """When a window of sampled frames begins and ends in the file.

    Args:
        window (tuple of int): half-open [start, end) in frames of the sample.
        video (VideoClip): the clip as it was read.

    Returns:
        tuple of float: seconds since the file's first frame; a frame lasts until the next one of the sample.

    Example:
        >>> times = torch.tensor([0.5, 1.5, 2.5, 3.5], dtype=torch.float64)
        >>> video = VideoClip(torch.zeros(4, 3, 8, 8), times, 25.0, "clip.mp4", torch.arange(4))
        >>> window_seconds((1, 3), video), window_seconds((1, 4), video)
        ((1.5, 3.5), (1.5, 4.5))
    """
    start, end = window
    times = video.timestamps.tolist()
    return times[start], times[end] if end < len(times) else times[-1] + 1 / _sample_fps(video)


def _sample_fps(video: VideoClip) -> float:
    """Frames of the sample per second of the file."""
    seconds = float(video.timestamps[-1] - video.timestamps[0])
    return (len(video.timestamps) - 1) / seconds if seconds > 0 else video.fps


def _playback_fps(video: VideoClip) -> float:
    return max(_sample_fps(video), _SLOWEST_PLAYBACK_FPS)


def _description(explanation: Explanation, video: VideoClip) -> dict[str, object]:
    """The part of explanation.json that is about the result."""
    frames = {
        "index_in_file": video.indices.tolist(),
        "seconds": [round(t, 6) for t in video.timestamps.tolist()],
    }
    if explanation.probabilities is not None:
        frames["probability"] = explanation.probabilities.tolist()
    return {
        "layer": explanation.layer,
        "target": {
            "class": explanation.target,
            "label": explanation.label,
            "probability": explanation.probability,
            "step": explanation.step,
        },
        "frames": frames,
        "methods": {
            method: {
                "scores": result.scores.tolist(),
                "map_shape": list(result.maps.shape),
                "peak_frame": int(peak_frame(result.scores[None])),
                "window_frames": result.window,
                "window_seconds": result.window and window_seconds(result.window, video),
                "convergence_delta": result.convergence_delta,
                **_kept(result),
            }
            for method, result in explanation.results.items()
        },
    }


def _kept(result: MethodResult) -> dict[str, object]:
    """What is told of masks."""
    if not result.kept:
        return {}
    return {
        "original_probability": result.kept[0].original_probability,
        "kept": [
            {"area": part.area, "volume": part.volume, "probability": part.probability}
            for part in result.kept
        ],
    }


def _timeline(explanation: Explanation, frames: Tensor, reads: str) -> Image.Image:
    """One strip per method, below each other."""
    curve = "; the curve is its probability in each frame"
    strips = [
        timeline_strip(
            frames,
            result.maps,
            result.scores,
            window=result.window,
            title=f"{METHODS[method]}: {explanation.label}"
            + (curve if reads == "frames" and not result.kept else ""),
        )
        for method, result in explanation.results.items()
    ]
    picture = Image.new("RGB", (strips[0].width, sum(strip.height for strip in strips)), "white")
    for i, strip in enumerate(strips):
        picture.paste(strip, (0, i * strip.height))
    return picture


def _report(
    explanation: Explanation, video: VideoClip, frames: Tensor, fps: float, facts: Mapping[str, object]
) -> Report:
    results = explanation.results
    report = Report(f"Evidence for {explanation.label}", max_side=224)
    report.add_entry(
        ReportEntry(
            title=Path(video.path).stem,
            frames=frames,
            fps=fps,
            maps={METHODS[method]: result.maps for method, result in results.items()},
            scores={METHODS[method]: result.scores for method, result in results.items()},
            windows={METHODS[m]: result.window for m, result in results.items() if result.window},
            metadata={
                "class": explanation.label,
                "probability": explanation.probability,
                "model": facts["model"],
                "weights": facts["weights"],
                **({"layer": explanation.layer} if explanation.layer else {}),
            },
            note=str(facts.get("note", "")),
        )
    )
    for method, result in results.items():
        for part in result.kept:
            report.add_entry(_seen_through(METHODS[method], part, frames, fps))
    return report


def _seen_through(name: str, part: KeptPart, frames: Tensor, fps: float) -> ReportEntry:
    """The clip through the mask of one area."""
    kept, whole = f"{part.probability:.2g}", f"{part.original_probability:.2g}"
    return ReportEntry(
        title=f"{name}, area {part.area:g}: keeps p = {kept} of {whole}",
        frames=frames,
        fps=fps,
        maps={name: part.mask},
        metadata={"area asked for": part.area, "area kept": part.volume, "probability": part.probability},
        see_through=True,
    )
