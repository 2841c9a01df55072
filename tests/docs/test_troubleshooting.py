"""The troubleshooting page quotes messages that the source raises, and leaves none out.

Messages are read off the source as text, with "…" for every part that is filled in at run time.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"
COMPLETE_FOR = ("attr", "dropout", "excitation", "explanation", "models", "perturbation", "cli.py")
HOLE = "…"
_QUOTED = re.compile(r"`([^`]+)`")


def message(node):
    """The text of an expression, with a hole for each part that is not literal."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(message(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return message(node.left) + message(node.right)
    return HOLE


def sources():
    for name in COMPLETE_FOR:
        path = ROOT / "captum_ext" / name
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]


def raised(tree):
    """Messages of the errors constructed in a module."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name.endswith("Error") and message(node.args[0]) != HOLE:
            yield message(node.args[0])


def literals(tree):
    """Every text in a module: what becomes an error may be built elsewhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp):
            yield message(node)


def quoted(page):
    """The code in the first cell of every row of the page's tables."""
    rows = (line for line in page.splitlines() if line.startswith("| `"))
    return [quote for row in rows for quote in _QUOTED.findall(row.split(" | ")[0])]


TREES = {path: ast.parse(path.read_text()) for path in sources()}
TEXTS = {text for tree in TREES.values() for text in literals(tree)}
QUOTED = quoted(PAGE.read_text())


def begins_with(text, quote):
    """Whether a message begins as quoted; a hole in the quote is a hole in the message."""
    return text.startswith(quote.rstrip())


@pytest.mark.parametrize("quote", QUOTED)
def test_a_quoted_message_is_one_that_the_source_raises(quote):
    assert any(begins_with(text, quote) for text in TEXTS)


@pytest.mark.parametrize("path", TREES, ids=lambda path: str(path.relative_to(ROOT / "captum_ext")))
def test_no_message_is_missing(path):
    missing = [m for m in raised(TREES[path]) if not any(begins_with(m, quote) for quote in QUOTED)]
    assert missing == []


def test_quotes_are_long_enough_to_name_one_error():
    assert QUOTED
    assert [quote for quote in QUOTED if len(quote.replace(HOLE, "").strip()) < 8] == []


def test_a_message_that_the_source_does_not_raise_is_noticed():
    invented = quoted("| `the model is too good` | meaning | what to do |")
    assert invented == ["the model is too good"]
    assert not any(begins_with(text, invented[0]) for text in TEXTS)


def test_holes_stand_for_what_is_filled_in():
    tree = ast.parse("raise ValueError(f'axis {axis} has {n} ' + 'rows; ' + hint)")
    assert list(raised(tree)) == ["axis … has … rows; …"]
