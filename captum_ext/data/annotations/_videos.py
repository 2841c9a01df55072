"""Video files in a folder, and which of them is whose."""

from collections.abc import Sequence
from pathlib import Path

_SUFFIXES = frozenset({".avi", ".mkv", ".mov", ".mp4", ".webm"})


def video_files(root: Path) -> list[Path]:
    """All video files below a folder, by their suffix, in order of their paths."""
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    return sorted(file for file in root.rglob("*") if file.suffix.lower() in _SUFFIXES and file.is_file())


class VideoIndex:
    """Finds the file of a video id below a folder.

    The id is a path below the folder without suffix (``Basketball/v_Basketball_g01_c01``), or else the name
    of the file, wherever it lies; also with ``v_`` in front, as ActivityNet's files are named, or without the
    id's own folders, as where UCF101's lie in a folder of their own. It is only compared, never opened as a
    path.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._by_path: dict[str, list[Path]] = {}
        self._by_name: dict[str, list[Path]] = {}
        for file in video_files(root):
            self._by_path.setdefault(file.relative_to(root).with_suffix("").as_posix(), []).append(file)
            self._by_name.setdefault(file.stem, []).append(file)

    def find(self, video_id: str) -> Path:
        """The one file of the video; a ``ValueError`` if there is none or more than one."""
        candidates: Sequence[Path] = (
            self._by_path.get(video_id)
            or self._by_name.get(video_id)
            or self._by_name.get(f"v_{video_id}")
            or self._by_name.get(_last_part(video_id))
            or ()
        )
        if not candidates:
            raise ValueError(f"there is no video of this name below {self._root}")
        if len(candidates) > 1:
            raise ValueError(f"more than one file has this name: {', '.join(map(str, candidates))}")
        return candidates[0]


def _last_part(video_id: str) -> str:
    """The id without its folders; of one that leads out of the folder nothing."""
    *folders, name = video_id.split("/")
    return "" if ".." in folders else name
