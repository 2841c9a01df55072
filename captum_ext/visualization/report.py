"""One self-contained HTML file: clips playing beside their evidence, their curves, tables and text."""

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from torch import Tensor
from torch.nn import functional as F

from captum_ext.visualization.boxes import boxes_by_frame
from captum_ext.visualization.overlay import levels, palette, shade
from captum_ext.visualization.report_entry import ReportEntry
from captum_ext.visualization.sprite import sprite_sheet

_NUMBER = re.compile(r"[-+\u2013.]*(\d|$)")  # how a cell that is to be aligned as a number begins

_PICTURES = {".png": "image/png", ".webp": "image/webp", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}


class Report:
    """Collects explained clips, tables and text, and saves them as one HTML file.

    The file needs no network and no other file: pictures are data URIs, and its content security policy
    allows nothing else. Text given by the caller is shown literally; it cannot become markup or script.
    Entries are encoded when they are added, so their tensors can be freed.

    Args:
        title (str): The page's heading.
        max_side (int): Longer side of the stored frames in pixels; larger clips are reduced to it to keep the
            file small. Default: 160.

    Example:
        >>> import tempfile, torch
        >>> report = Report("Two methods on a jump")
        >>> frames = torch.zeros(6, 3, 16, 20, dtype=torch.uint8)
        >>> report.add_entry(ReportEntry("jump", frames, fps=10, maps={"EB-R": torch.rand(6, 4, 5)}))
        >>> report.add_table("Pointing game", ["method", "hits"], [["EB-R", 0.75], ["chance", 0.31]])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report.save(f"{folder}/report.html").name
        'report.html'
    """

    def __init__(self, title: str, *, max_side: int = 160) -> None:
        if max_side < 1:
            raise ValueError(f"max_side must be at least one pixel, not {max_side}.")
        self.title = title
        self.max_side = max_side
        self._sections: list[tuple[str, str]] = []  # heading, HTML

    def add_entry(self, entry: ReportEntry) -> None:
        """Add an explained clip.

        Args:
            entry (ReportEntry): The clip, its maps, curves, spans and boxes.
        """
        facts = "".join(
            f"<div><dt>{escape(str(name))}</dt><dd>{escape(_cell(value))}</dd></div>"
            for name, value in entry.metadata.items()
        )
        body = (
            (f"<dl>{facts}</dl>" if facts else "")
            + (f'<p class="note">{escape(entry.note)}</p>' if entry.note else "")
            + f'<div class="player" data-title="{escape(entry.title)}">'
            + f'<script type="application/json">{_json(_player_data(entry, self.max_side))}</script></div>'
        )
        self._sections.append((entry.title, body))

    def add_table(
        self, title: str, header: Sequence[str], rows: Sequence[Sequence[object]], caption: str = ""
    ) -> None:
        """Add a table.

        Args:
            title (str): Its heading.
            header (sequence of str): The columns' names.
            rows (sequence of sequences): Cells; floats are shown with four significant digits, NaN and None
                as a dash.
            caption (str): A remark below it: what the numbers are, how many clips. Default: none.

        Raises:
            ValueError: If a row has more or fewer cells than the header.
        """
        for i, row in enumerate(rows):
            if len(row) != len(header):
                raise ValueError(
                    f"table {title!r}: row {i} has {len(row)} cells, but the header has {len(header)}."
                )
        cells = [[_cell(value) for value in row] for row in rows]
        numeric = [all(_NUMBER.match(row[column]) for row in cells) for column in range(len(header))]
        head = _table_cells('th scope="col"', [str(name) for name in header], numeric)
        body = "".join(f"<tr>{_table_cells('td', texts, numeric)}</tr>" for texts in cells)
        below = f'<p class="note">{escape(caption)}</p>' if caption else ""
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        # Focusable, so that a keyboard can scroll a table wider than the screen.
        region = f'<div class="table" role="region" tabindex="0" aria-label="{escape(title)}">{table}</div>'
        self._sections.append((title, region + below))

    def add_text(self, text: str, title: str = "") -> None:
        """Add plain text.

        Args:
            text (str): Paragraphs, separated by blank lines.
            title (str): A heading. Default: none.
        """
        paragraphs = re.split(r"\n\s*\n", text.strip())
        self._sections.append((title, "".join(f"<p>{escape(p)}</p>" for p in paragraphs)))

    def add_picture(self, title: str, picture: str | Path, caption: str = "") -> None:
        """Add a picture, such as a plot.

        Args:
            title (str): Its heading.
            picture (str or Path): A PNG, WebP or JPEG file; it is stored in the page.
            caption (str): A remark below it, also read to those who cannot see the picture. Default: none.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If its name does not end in .png, .webp, .jpg or .jpeg.
        """
        picture = Path(picture)
        kind = _PICTURES.get(picture.suffix.lower())
        if kind is None:
            raise ValueError(f"{picture} is none of {', '.join(_PICTURES)}.")
        data = base64.b64encode(picture.read_bytes()).decode()
        alternative = escape(caption or title)
        below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
        image = f'<img src="data:{kind};base64,{data}" alt="{alternative}">'
        self._sections.append((title, f'<figure class="picture">{image}{below}</figure>'))

    def render(self) -> str:
        """Return the page as a string of HTML."""
        style = _asset("report.css")
        script = _asset("report.js")
        return _fill(
            _asset("report.html"),
            {
                "title": escape(self.title),
                "style": style,
                "style_hash": _csp_hash(style),
                "script": script,
                "script_hash": _csp_hash(script),
                "palettes": _json(
                    {
                        "hide": palette("hide").flatten().tolist(),
                        "show": palette("show").flatten().tolist(),
                        "mask": shade().flatten().tolist(),
                    }
                ),
                "contents": self._contents(),
                "sections": "\n".join(
                    f'<section id="s{i}">{f"<h2>{escape(title)}</h2>" if title else ""}{body}</section>'
                    for i, (title, body) in enumerate(self._sections)
                ),
            },
        )

    def save(self, path: str | Path) -> Path:
        """Write the page.

        Args:
            path (str or Path): Where to; the folder must exist.

        Returns:
            Path: The file written.
        """
        path = Path(path)
        # A label read from an undecodable file name must not lose the report.
        path.write_text(self.render(), encoding="utf-8", errors="replace")
        return path

    def _contents(self) -> str:
        links = [
            f'<li><a href="#s{i}">{escape(title)}</a></li>'
            for i, (title, _) in enumerate(self._sections)
            if title
        ]
        return f'<nav aria-label="Contents"><ol>{"".join(links)}</ol></nav>' if len(links) > 2 else ""


def _player_data(entry: ReportEntry, max_side: int) -> dict[str, object]:
    """What report.js reads for one entry. Boxes are fractions of the frame, spans are [start, end)."""
    T, _, H, W = entry.frames.shape
    frames = _reduced(entry.frames, max_side)
    height, width = frames.shape[2:]
    peak = 1.0 if entry.see_through else None  # masks are shown as they are, maps relative to their peak
    methods = [
        {
            "name": method,
            "levels": sprite_sheet(
                levels(maps, (T, height, width), negative=entry.negative, peak=peak).unsqueeze(1), quality=60
            ),
            "scores": [float(f"{score:.6g}") for score in entry.curve(method).tolist()],
            "window": entry.windows.get(method),
        }
        for method, maps in entry.maps.items()
    ]
    boxes = [] if entry.boxes is None else boxes_by_frame(entry.boxes, T)
    return {
        "frames": T,
        "width": width,
        "height": height,
        "fps": entry.fps,
        "signed": entry.negative == "show",
        "seeThrough": entry.see_through,
        "clip": sprite_sheet(frames),
        "methods": methods,
        "spans": list(entry.spans),
        "boxes": [[[x0 / W, y0 / H, x1 / W, y1 / H] for x0, y0, x1, y1 in frame] for frame in boxes],
    }


def _reduced(frames: Tensor, max_side: int) -> Tensor:
    H, W = frames.shape[2:]
    if max(H, W) <= max_side:
        return frames
    scale = max_side / max(H, W)
    size = (max(1, round(H * scale)), max(1, round(W * scale)))
    small = F.interpolate(frames.float(), size, mode="bilinear", antialias=True)
    return small.round().clamp(0, 255).to(frames.dtype)


def _json(data: object) -> str:
    """JSON that can stand inside a script element: nothing in it can end the element or open a comment."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "\u2013"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table_cells(tag: str, texts: Sequence[str], numeric: Sequence[bool]) -> str:
    """One row; columns of numbers, also with an interval or unit behind them, are set to the right."""
    return "".join(
        f"<{tag}{' class=number' if is_number else ''}>{escape(text)}</{tag.split()[0]}>"
        for text, is_number in zip(texts, numeric, strict=True)
    )


def _asset(name: str) -> str:
    return files("captum_ext.visualization").joinpath(name).read_text(encoding="utf-8")


def _fill(template: str, values: Mapping[str, str]) -> str:
    """Replace every {{name}} at once, so that a value containing {{name}} stays as it is."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template)


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
