"""Tables of results with intervals, as text, Markdown and rows of a report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_ext.metrics.functional import bootstrap_interval

__all__ = ["Cell", "Table"]


@dataclass(frozen=True)
class Cell:
    """A mean over clips with its 95 % interval, in 0..1; exact values have no interval.

    Args:
        value (float): the mean.
        n (int): clips behind it.
        interval (tuple[float, float], optional): lower and upper end.
    """

    value: float
    n: int
    interval: tuple[float, float] | None = None

    @classmethod
    def of(cls, values: Tensor) -> Cell:
        """The mean of one value per clip, NaN left out, with a seeded bootstrap interval over clips."""
        kept = values[~values.isnan()].double()
        if len(kept) == 0:
            return cls(float("nan"), 0)
        generator = torch.Generator().manual_seed(0)
        return cls(float(kept.mean()), len(kept), bootstrap_interval(kept, generator=generator))

    @classmethod
    def ratio(cls, parts: Tensor, wholes: Tensor, labels: Tensor | None = None) -> Cell:
        """Sum of the parts over sum of the wholes, such as hits over frames, one of each per clip.

        With the clips' labels the mean over classes of that ratio. The bootstrap draws clips, since the
        frames of one clip are not independent; a class that a resample lacks is left out of its mean.
        """
        kept = wholes > 0
        if not bool(kept.any()):
            return cls(float("nan"), 0)
        n = int(kept.sum())
        classes = torch.zeros(n, dtype=torch.int64) if labels is None else labels[kept].long()
        of_class = F.one_hot(classes).double()
        counts = torch.stack([parts[kept], wholes[kept]]).double()

        def mean(times: Tensor) -> Tensor:
            part, whole = (counts * times) @ of_class
            found: Tensor = (part / whole).nanmean()
            return found

        generator = torch.Generator().manual_seed(0)
        # One resample at a time: all at once may not fit into memory.
        draws = (torch.randint(n, (n,), generator=generator) for _ in range(1000))
        resampled = torch.stack([mean(torch.bincount(drawn, minlength=n).double()) for drawn in draws])
        low, high = resampled.quantile(resampled.new_tensor([0.025, 0.975])).tolist()
        return cls(float(mean(torch.ones(n, dtype=torch.float64))), n, (low, high))

    @classmethod
    def exact(cls, values: Tensor) -> Cell:
        """The mean of expected values, which were not sampled."""
        return cls(float(values.double().mean()), len(values))

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "-"
        text = f"{100 * self.value:.1f}"
        if self.interval is None:
            return text
        low, high = (100 * end for end in self.interval)
        return f"{text} [{low:.1f}, {high:.1f}]"


@dataclass
class Table:
    """Methods by measures; a missing cell prints as a dash.

    Args:
        title (str): heading.
        columns (Sequence[str]): names of the measures.
        caption (str): what the numbers are.
    """

    title: str
    columns: Sequence[str]
    caption: str
    rows: dict[str, dict[str, Cell]] = field(default_factory=dict)

    def add(self, row: str, column: str, cell: Cell) -> None:
        """Fill one cell."""
        self.rows.setdefault(row, {})[column] = cell

    def cells(self) -> list[list[str]]:
        """The body as text, row names first."""
        return [
            [name, *(str(cells[column]) if column in cells else "-" for column in self.columns)]
            for name, cells in self.rows.items()
        ]

    def markdown(self) -> str:
        """The table in Markdown."""
        lines = [["method", *self.columns], ["---"] * (len(self.columns) + 1), *self.cells()]
        body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"### {self.title}\n\n{body}\n\n{self.caption}\n"

    def text(self) -> str:
        """The table for a terminal."""
        lines = [["method", *self.columns], *self.cells()]
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        body = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
        ]
        body.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([self.title, *body, self.caption, ""])

    def header(self) -> dict[str, object]:
        """A JSON record of what the table is, to stand before those of its cells."""
        return {"table": self.title, "columns": list(self.columns), "caption": self.caption}

    @classmethod
    def read(cls, records: Sequence[Mapping[str, Any]]) -> list[Table]:
        """The tables that headers and cells were made of."""
        tables: dict[str, Table] = {}
        for record in records:
            title = record["table"]
            if "columns" in record:
                tables[title] = cls(title, record["columns"], record["caption"])
                continue
            interval = (record["low"], record["high"]) if "low" in record else None
            tables[title].add(
                record["method"], record["measure"], Cell(record["value"], record["n"], interval)
            )
        return list(tables.values())

    def records(self) -> list[dict[str, object]]:
        """One JSON record per cell."""
        return [
            {"table": self.title, "method": name, "measure": column, "value": cell.value, "n": cell.n}
            | ({"low": cell.interval[0], "high": cell.interval[1]} if cell.interval else {"exact": True})
            for name, cells in self.rows.items()
            for column, cell in cells.items()
        ]
