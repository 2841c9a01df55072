"""What the docs show is true: the Python runs, links and pictures lead somewhere, commands exist."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import torch

from benchmarks.registry import BENCHMARKS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_MAX_PICTURES_BYTES = 900_000


def name(value):
    if isinstance(value, Path):
        return str(value.relative_to(ROOT))
    return str(value) if isinstance(value, int) else value.partition("\n")[0]


def blocks(page):
    """The Python of a page, with the line where it begins, so that an error names it."""
    text = page.read_text()
    return [
        (text.count("\n", 0, found.start(2)), found[2])
        for found in _FENCE.finditer(text)
        if found[1] == "python"
    ]


def links(page):
    """Links without those in code; code in headings stays."""
    return _LINK.findall(_FENCE.sub("", page.read_text()))


def anchor(heading):
    """The name that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def leads_somewhere(page, link):
    path, _, fragment = unquote(link).partition("#")
    target = (page.parent / path) if path else page
    if not target.exists():
        return False
    return not fragment or fragment in {anchor(found) for found in _HEADING.findall(target.read_text())}


EXAMPLES = [(page, line, code) for page in PAGES for line, code in blocks(page)]
RELATIVE = [(page, link) for page in PAGES for link in links(page) if "://" not in link]


@pytest.mark.parametrize(("page", "line", "code"), EXAMPLES, ids=name)
def test_an_example_runs_as_it_stands(page, line, code, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # nothing of the repository is at hand
    torch.manual_seed(0)
    exec(compile("\n" * line + code, str(page), "exec"), {"__name__": "example"})  # noqa: S102
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("page", "link"), RELATIVE, ids=name)
def test_a_link_leads_somewhere(page, link):
    assert leads_somewhere(page, link), f"{name(page)}: {link}"


def test_every_page_of_a_method_has_an_example_and_a_picture():
    methods = [
        "excitation_backprop",
        "recurrent_excitation_backprop",
        "captioning",
        "saliency_tubes",
        "grad_cam",
        "rise",
        "recurrent_gradient",
    ]
    pages = [ROOT / "docs" / f"{method}.md" for method in methods]
    for page in pages:
        assert blocks(page), page
        assert re.search(r"!\[[^]]+\]\([^)]+\.(webp|png)\)", page.read_text()), page


def test_the_index_names_every_page():
    index = set(links(ROOT / "docs" / "README.md"))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"} <= index


def test_every_benchmark_that_a_page_names_exists():
    named = {run for page in PAGES for run in re.findall(r"python -m benchmarks run (\w+)", page.read_text())}
    assert named
    assert named <= set(BENCHMARKS)


def test_pictures_are_small_and_none_is_left_over():
    pictures = {path for path in (ROOT / "docs" / "pictures").iterdir() if path.suffix in (".webp", ".png")}
    shown = {(page.parent / link).resolve() for page, link in RELATIVE}
    assert pictures <= shown
    assert sum(path.stat().st_size for path in pictures) < _MAX_PICTURES_BYTES


def test_dead_links_and_broken_examples_are_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A `b=1` title\n[x](gone.md) [y](#a-b1-title) [z](#gone)\n```python\n1 / 0\n```\n")
    assert [leads_somewhere(page, link) for link in links(page)] == [False, True, False]
    ((line, code),) = blocks(page)
    assert (line, code) == (3, "1 / 0\n")
