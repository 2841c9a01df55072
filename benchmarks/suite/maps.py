"""Saliency maps on disk, one small file per clip, from which figures can be computed again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import torch
from torch import Tensor

from benchmarks.suite.errors import RunError
from captum_ext.data._atomic import replacing

__all__ = ["MapError", "MapFolder"]


class MapError(RunError):
    """Maps cannot be written, or are not there."""


class MapFolder:
    """Maps of each clip as float16 in ``CLIP.safetensors``, one tensor per method.

    Each map is divided by its largest magnitude, which is kept beside it in float32: the masses of Excitation
    Backprop are too small for float16 as they are. Scores of frames, (T,), are few and stay float32: in
    float16 probabilities close to 1 would be ties, and the first of them the peak.

    Args:
        folder (Path): made when the first clip is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, clip_id: str, maps: Mapping[str, Tensor]) -> None:
        """Add the maps of a clip, whole or not at all; those of other methods stay.

        Raises:
            MapError: if they cannot be written.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file, save_file

        file = self._file(clip_id)
        added: dict[str, Tensor] = {}
        for method, values in maps.items():
            added[method], added[f"{method}/peak"] = _packed(values.detach().float().cpu().contiguous())
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            stored = load_file(file) if file.exists() else {}
            with replacing(file) as temporary:
                save_file(stored | added, temporary)
        except (OSError, SafetensorError) as error:
            raise MapError(
                f"maps cannot be written to {file}: {error}. Earlier results are intact: make room or mend "
                "the permissions, then run the same command with --resume."
            ) from error

    def load(self, clip_id: str, method: str) -> Tensor:
        """A map of a clip, float32.

        Raises:
            MapError: if the clip or the method was not saved, or the file is damaged.
        """
        from safetensors import SafetensorError, safe_open

        file = self._file(clip_id)
        if not file.exists():
            raise MapError(f"there are no maps of clip {clip_id!r} in {self.folder}")
        try:
            with safe_open(file, framework="pt") as stored:
                if method not in stored.keys():  # noqa: SIM118 - it is no mapping
                    raise MapError(f"{file} has no map of {method!r}, only {self._methods(file)}")
                values: Tensor = stored.get_tensor(method).float() * stored.get_tensor(f"{method}/peak")
        except SafetensorError as error:
            raise MapError(f"{file} holds no maps: {error}") from error
        return values

    def methods(self) -> list[str]:
        """All methods that any clip has a map of, in alphabetical order.

        Raises:
            MapError: if there is no clip, or a file is damaged.
        """
        files = sorted(self.folder.glob("*.safetensors"))
        if not files:
            raise MapError(f"there are no saved maps (*.safetensors) in {self.folder}")
        return sorted({name for file in files for name in self._methods(file)})

    def _methods(self, file: Path) -> list[str]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(file, framework="pt") as stored:
                return sorted(name for name in stored.keys() if not name.endswith("/peak"))  # noqa: SIM118
        except SafetensorError as error:
            raise MapError(f"{file} holds no maps: {error}") from error

    def _file(self, clip_id: str) -> Path:
        return self.folder / f"{quote(clip_id, safe='')}.safetensors"


def _packed(values: Tensor) -> tuple[Tensor, Tensor]:
    """What is stored, and what it is multiplied by when it is read."""
    if values.dim() == 1:
        return values, torch.ones(())
    peak = values.abs().amax().clamp(min=torch.finfo(torch.float32).tiny)
    return (values / peak).half(), peak
