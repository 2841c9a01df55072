import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from captum_ext.visualization import Report, ReportEntry
from captum_ext.visualization.overlay import levels
from captum_ext.visualization.sprite import sprite_sheet

EVIL = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "<!--<script>",
    "\"'&{{script}}",
]
T, H, W = 7, 18, 26


def entry(title="jump", **options):
    g = torch.Generator().manual_seed(0)
    frames = torch.randint(256, (T, 3, H, W), dtype=torch.uint8, generator=g)
    options.setdefault("maps", {"cEB-R": torch.randn(T, 3, 4, generator=g), "EB-R": torch.rand(4, 3, 4)})
    return ReportEntry(title, options.pop("frames", frames), fps=options.pop("fps", 10), **options)


def page_of(*entries, title="Title"):
    report = Report(title)
    for one in entries:
        report.add_entry(one)
    return report.render()


class Tags(HTMLParser):
    """Every element's name and attributes, and the JSON of every entry."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.data, self._in_data = [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._in_data = attributes == [("type", "application/json")]

    def handle_data(self, data):
        if self._in_data:
            self.data.append(json.loads(data))
            self._in_data = False


def test_the_file_refers_to_nothing_outside_itself(tmp_path):
    report = Report("Title")
    report.add_entry(entry())
    page = report.save(tmp_path / "report.html").read_text(encoding="utf-8")
    for tag, attributes in Tags(page).tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("data:", "#")), (tag, name, value)
    assert "@import" not in page
    assert "url(" not in page
    without_media = re.sub(r"data:image/webp;base64,[A-Za-z0-9+/=]+", "", page)
    assert set(re.findall(r"https?://[^\"'\s]+", without_media)) == {"http://www.w3.org/2000/svg"}  # a name


def test_its_policy_allows_its_own_script_and_style_and_nothing_else():
    tags = Tags(page_of(entry())).tags
    (policy,) = [a["content"] for tag, a in tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    assert not any(name.startswith("on") or name == "style" for _, a in tags for name in a)


@pytest.mark.parametrize("evil", EVIL)
def test_no_text_of_the_user_becomes_markup(evil):
    def build(text):
        report = Report(text)
        report.add_entry(
            entry(
                text,
                maps={text: torch.rand(T, 2, 2)},
                metadata={text: text},
                note=text,
                windows={text: (1, 2)},
            )
        )
        report.add_table(text, [text], [[text]], caption=text)
        report.add_text(text, title=text)
        return report.render()

    harmless, page = Tags(build("label")), Tags(build(evil))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in harmless.tags]
    assert page.data[0]["methods"][0]["name"] == evil


def test_a_label_with_a_broken_character_does_not_lose_the_report(tmp_path):
    report = Report("caf\udce9")
    report.add_entry(entry("caf\udce9"))
    assert report.save(tmp_path / "report.html").stat().st_size > 0


def test_a_frame_and_its_map_are_found_at_their_tile():
    frames = (30 * torch.arange(T)).to(torch.uint8)[:, None, None, None].repeat(1, 3, H, W)
    (data,) = Tags(page_of(entry(frames=frames))).data
    maps = entry().maps["cEB-R"]
    grey = levels(maps, (T, H, W), negative="hide")
    for sheet, channel in ((data["clip"], frames[:, 1]), (data["methods"][0]["levels"], grey)):
        image = Image.open(io.BytesIO(base64.b64decode(sheet["src"].split(",")[1])))
        for t in range(T):
            left = t % sheet["columns"] * sheet["tileWidth"]
            top = t // sheet["columns"] * sheet["tileHeight"]
            tile = np.asarray(image.crop((left, top, left + W, top + H)))[:, :, 1].astype(int)
            assert np.abs(tile - channel[t].numpy()).mean() < 8


def test_curves_spans_windows_and_boxes_reach_the_page():
    boxes = torch.full((T, 4), float("nan"))
    boxes[2] = torch.tensor([13.0, 0, 26, 9])
    scores = {"cEB-R": torch.linspace(-1, 1, T)}
    (data,) = Tags(
        page_of(entry(scores=scores, spans=[(2, 5)], windows={"cEB-R": (1, 4)}, boxes=boxes, negative="show"))
    ).data
    first, second = data["methods"]
    assert first["scores"] == pytest.approx(scores["cEB-R"].tolist(), abs=1e-5)
    assert len(second["scores"]) == T, "four time steps, interpolated to the frames"
    assert (data["spans"], first["window"], second["window"]) == ([[2, 5]], [1, 4], None)
    assert data["boxes"] == [[], [], [[0.5, 0, 1, 0.5]], [], [], [], []]
    assert data["signed"]


def test_the_default_curve_is_the_maps_sum_over_space():
    one = entry()
    assert one.curve("cEB-R").allclose(one.maps["cEB-R"].sum((1, 2)))


def test_large_clips_are_reduced_and_keep_their_shape():
    report = Report("Title", max_side=20)
    report.add_entry(entry(frames=torch.zeros(T, 3, 30, 60, dtype=torch.uint8)))
    (data,) = Tags(report.render()).data
    assert (data["width"], data["height"]) == (20, 10)


def test_twenty_clips_with_six_methods_stay_below_ten_megabytes():
    """Measured on one textured, moving, noisy clip with five coarse maps and one of noise at full size."""
    g = torch.Generator().manual_seed(0)
    n, side = 32, 112
    texture = torch.nn.functional.interpolate(
        torch.rand(1, 3, 30, 30, generator=g), (side + n, side + n), mode="bicubic"
    )[0]
    frames = torch.stack([texture[:, t : t + side, t : t + side] for t in range(n)])
    frames = (frames * 200 + torch.randn(frames.shape, generator=g) * 4).clamp(0, 255).to(torch.uint8)
    maps = {f"method {i}": torch.rand(n, 7, 7, generator=g) ** 4 for i in range(5)}
    maps["gradient"] = torch.randn(n, side, side, generator=g)
    size = len(page_of(entry(frames=frames, maps=maps)))
    assert 20 * size < 10e6


def test_a_clip_too_long_for_one_image_is_refused():
    with pytest.raises(ValueError, match="400 frames of 1600 x 900"):
        sprite_sheet(torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(400, 3, 1600, 900))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"maps": {}}, "at least one"),
        ({"scores": {"STEP": torch.zeros(T)}}, r"scores names \['STEP'\]"),
        ({"windows": {"STEP": (1, 2)}}, r"windows names \['STEP'\]"),
        ({"scores": {"EB-R": torch.zeros(3)}}, r"scores\['EB-R'\] must hold one number per frame"),
        ({"spans": [(3, T + 1)]}, r"spans must be a half-open"),
        (
            {"maps": {"EB-R": torch.full((T, 2, 2), float("nan"))}},
            r"entry 'jump': maps\['EB-R'\] must be finite",
        ),
        ({"boxes": torch.zeros(2, 4)}, "2 items, 7 frames"),
        ({"fps": 0}, "fps"),
    ],
)
def test_an_entry_that_does_not_fit_is_refused_when_it_is_made(options, text):
    with pytest.raises(ValueError, match=text):
        entry(**options)


def test_table_cells_are_formatted_and_counted():
    report = Report("Title")
    report.add_table("Table", ["method", "AUC"], [["EB-R", 0.123456], ["none", float("nan")], ["none", None]])
    page = report.render()
    assert "<td class=number>0.1235</td>" in page
    assert page.count("<td class=number>\u2013</td>") == 2
    with pytest.raises(ValueError, match=r"'Table': row 0 has 1 cells, but the header has 2"):
        report.add_table("Table", ["a", "b"], [["a"]])


@pytest.mark.parametrize(
    ("suffix", "kind"), [("png", "png"), ("PNG", "png"), ("jpg", "jpeg"), ("webp", "webp")]
)
def test_a_picture_is_stored_in_the_page_with_words_for_those_who_cannot_see_it(tmp_path, suffix, kind):
    file = tmp_path / f"plot.{suffix}"
    Image.new("RGB", (5, 3), (250, 10, 10)).save(file)
    report = Report("plots")
    report.add_picture("A plot", file, "Mass per frame <i> & more")
    html = report.render()
    ((found, data, words),) = re.findall(r'<img src="data:image/(\w+);base64,([^"]+)" alt="([^"]*)">', html)
    assert found == kind
    assert base64.b64decode(data) == file.read_bytes()
    assert words == "Mass per frame &lt;i&gt; &amp; more"
    assert f"<figcaption>{words}</figcaption>" in html
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (5, 3)


def test_a_picture_without_a_caption_is_called_by_its_title(tmp_path):
    Image.new("RGB", (5, 3)).save(tmp_path / "plot.png")
    report = Report("plots")
    report.add_picture('A "plot"', str(tmp_path / "plot.png"))
    html = report.render()
    assert 'alt="A &quot;plot&quot;"' in html
    assert '"></figure>' in html


@pytest.mark.parametrize("name", ["plot.svg", "plot.html", "plot", "png"])
def test_files_that_are_no_pictures_are_refused_and_the_report_stays_as_it_was(tmp_path, name):
    (tmp_path / name).write_text("<svg onload=alert(1)>")
    report = Report("plots")
    before = report.render()
    with pytest.raises(ValueError, match=r"is none of \.png, \.webp, \.jpg, \.jpeg"):
        report.add_picture("A plot", tmp_path / name)
    with pytest.raises(FileNotFoundError):
        report.add_picture("A plot", tmp_path / "none.png")
    assert report.render() == before
