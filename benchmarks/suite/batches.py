"""Clips with their truth, in groups that do not depend on how many processes share them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from benchmarks.suite.errors import RunError

__all__ = ["Batch", "ClipSource", "Groups", "Item", "group_loader"]


@dataclass(frozen=True, eq=False)
class Item:
    """A clip with what is true of it.

    Args:
        clip_id (str): unique in its run.
        clip (Tensor): the model's input, (3, T, H, W).
        label (int): the class that is explained.
        boxes (Tensor): x0, y0, x1, y1 in pixels of the input, NaN for none, (T, B, 4).
        spans (Tensor): where the class happens, half-open in frames, (S, 2).
        extra (Mapping[str, Tensor]): whatever else a table needs to know, of one shape for all clips.
    """

    clip_id: str
    clip: Tensor
    label: int
    boxes: Tensor
    spans: Tensor
    extra: Mapping[str, Tensor] = field(default_factory=dict)


class ClipSource(Protocol):
    """Clips by number; their ids are known without decoding anything."""

    @property
    def ids(self) -> Sequence[str]:
        """The ids of all clips in a fixed order."""

    def item(self, index: int) -> Item:
        """Decode a clip."""


@dataclass(frozen=True, eq=False)
class Batch:
    """A group of clips of one size.

    Args:
        number (int): of the group; see :meth:`random_seed`.
        ids (Sequence[str]): the clips that could be read.
        clips (Tensor): (N, 3, T, H, W).
        labels (Tensor): (N,).
        boxes (Tensor): (N, T, B, 4).
        spans (Sequence[Tensor]): of each clip, (S, 2).
        extra (Mapping[str, Tensor]): whatever else a table needs to know, (N, ...).
        broken (Sequence[tuple[str, str]]): clips that could not be read, and why.
    """

    number: int
    ids: Sequence[str]
    clips: Tensor
    labels: Tensor
    boxes: Tensor
    spans: Sequence[Tensor]
    extra: Mapping[str, Tensor]
    broken: Sequence[tuple[str, str]]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The clips and classes on a device; the truth stays where it is scored."""
        return replace(
            self,
            clips=self.clips.to(device, non_blocking=non_blocking),
            labels=self.labels.to(device, non_blocking=non_blocking),
        )

    def random_seed(self, seed: int) -> int:
        """A seed for what is drawn at random for this group in a run of that seed."""
        return int(np.random.SeedSequence([seed, self.number]).generate_state(1)[0])

    @classmethod
    def of(cls, number: int, items: Sequence[Item], broken: Sequence[tuple[str, str]]) -> Batch:
        """Stack clips; frames with fewer boxes than others are padded with NaN."""
        extra = items[0].extra if items else {}
        n_boxes = max((item.boxes.shape[1] for item in items), default=1)
        boxes = [
            F.pad(item.boxes, (0, 0, 0, n_boxes - item.boxes.shape[1]), value=torch.nan) for item in items
        ]
        return cls(
            number=number,
            ids=[item.clip_id for item in items],
            clips=torch.stack([item.clip for item in items]) if items else torch.empty(0),
            labels=torch.tensor([item.label for item in items], dtype=torch.int64),
            boxes=torch.stack(boxes) if items else torch.empty(0),
            spans=[item.spans for item in items],
            extra={name: torch.stack([item.extra[name] for item in items]) for name in extra},
            broken=broken,
        )


class Groups(Dataset[Batch]):
    """Fixed groups of clips, each decoded as a whole.

    What is in a group depends on nothing but the list of clips, so a model that rounds differently in batches
    of another size gives the same figures on one process, on many, and after a resumed run.

    Args:
        source (ClipSource): the clips.
        size (int): clips per group.

    Attributes:
        ids (list of str): of all clips.
        numbers (Sequence[int]): the groups that are wanted; all at first.

    Raises:
        RunError: if there is no clip, or two have one id.
    """

    def __init__(self, source: ClipSource, size: int) -> None:
        self.source = source
        self.size = size
        self.ids = list(source.ids)
        if not self.ids:
            raise RunError("there are no clips")
        twice = [clip_id for clip_id, times in Counter(self.ids).items() if times > 1]
        if twice:
            raise RunError(f"clips are told apart by their ids, but two are called {twice[0]!r}")
        self.numbers: Sequence[int] = range(-(-len(self.ids) // size))

    def __len__(self) -> int:
        return len(self.numbers)

    def ids_of(self, number: int) -> Sequence[str]:
        """The ids of a group's clips."""
        return self.ids[number * self.size : (number + 1) * self.size]

    def __getitem__(self, index: int) -> Batch:
        number = self.numbers[index]
        first = number * self.size
        found = [self._read(first + offset, clip_id) for offset, clip_id in enumerate(self.ids_of(number))]
        items = [item for item in found if isinstance(item, Item)]
        return Batch.of(number, items, [item for item in found if not isinstance(item, Item)])

    def _read(self, index: int, clip_id: str) -> Item | tuple[str, str]:
        """The clip, or its id and why it cannot be read."""
        try:
            return self.source.item(index)
        except (OSError, ValueError, RuntimeError) as error:
            return clip_id, f"{type(error).__name__}: {error}"


def group_loader(groups: Groups, workers: int, order: Iterable[int] | None = None) -> DataLoader[Batch]:
    """Delivers groups, decoded in this process or by workers.

    Args:
        groups (Groups): the groups.
        workers (int): decoding processes; 0 decodes here.
        order (Iterable[int], optional): places among the wanted groups. Default: all of them in their order.
    """
    # A worker forked from a process that has decoded itself can wait for ever for a lock it inherited.
    context = "forkserver" if workers else None
    return DataLoader(
        groups, batch_size=None, sampler=order, num_workers=workers, multiprocessing_context=context
    )
