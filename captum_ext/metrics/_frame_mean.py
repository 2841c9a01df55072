"""What the metrics in space share: one value per frame, averaged over frames, clips or classes."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from captum_ext.metrics._clusters import ClusteredMean, cluster_sums
from captum_ext.metrics.functional.video_ids import check_labels

__all__ = ["Average", "FrameMean"]

Average = Literal["frames", "clips", "classes"]


class FrameMean(ClusteredMean):
    """Mean of one value per frame, with the frames of a clip taken together in its interval.

    A subclass defines ``update`` and passes values and chances (N, T), NaN for frames that do not count, to
    :meth:`_add_frames`.
    """

    n_frames: Tensor
    n_skipped: Tensor

    def __init__(self, average: Average = "frames", num_classes: int | None = None, **kwargs: Any) -> None:
        if average not in get_args(Average):
            raise ValueError(f'average must be "frames", "clips" or "classes", got {average!r}.')
        if (average == "classes") != (num_classes is not None):
            raise ValueError(
                f'num_classes is needed with average="classes" and only there, got {num_classes} with '
                f"average={average!r}."
            )
        if num_classes is not None and num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}.")
        super().__init__(num_classes or 1, **kwargs)
        self.average = average
        self.num_classes = num_classes
        for name in ("n_frames", "n_skipped"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def per_class(self) -> Tensor:
        """Figure of each class over all processes, float64, (num_classes,); NaN for classes not seen.

        Raises:
            ValueError: If the metric does not average over classes.
        """
        if self.average != "classes":
            raise ValueError(f'per_class needs average="classes", this metric has {self.average!r}.')
        with self._synced():
            return self._clusters().per_class().clone()

    def counts(self) -> dict[str, int]:
        """How much was counted, over all processes.

        Returns:
            dict: ``clips`` with at least one frame that counts, ``frames`` that count, and frames ``skipped``
            since they have no box.
        """
        with self._synced():
            return self._counts()

    def _counts(self) -> dict[str, int]:
        return {
            "clips": int(self._clusters().clusters.sum()),
            "frames": int(self.n_frames),
            "skipped": int(self.n_skipped),
        }

    def _add_frames(self, values: Tensor, chance: Tensor, labels: Tensor | None) -> None:
        """Count clips: values and chances, (N, T), NaN for frames that do not count."""
        if self.average == "classes":
            if labels is None:
                raise ValueError('average="classes" needs labels, the class of each clip, in update.')
            check_labels(labels, len(values), self.num_classes)
            labels = labels.to(self.sums.device)
        else:
            labels = None
        values = values.detach().to(self.sums.device, torch.float64)
        chance = chance.detach().to(self.sums.device, torch.float64)
        counted = ~values.isnan()
        self.n_frames += counted.sum()
        self.n_skipped += (~counted).sum()
        sums = values.nansum(dim=1), counted.sum(dim=1).double(), chance.nansum(dim=1)
        if self.average == "clips":
            n = sums[1].clamp(min=1)  # a clip without such a frame stays at 0 values of sum 0
            sums = sums[0] / n, sums[1] / n, sums[2] / n
        self.sums += cluster_sums(*sums, labels, self.sums.shape[1])
