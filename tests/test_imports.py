"""Who may import whom (DESIGN section 1), what `import captum_ext` costs, and what the packages promise."""

import ast
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import captum_ext

ROOT = Path(captum_ext.__file__).parent.parent
INDEPENDENT = ("excitation", "perturbation", "grounding", "metrics")


def source_files(package):
    folder = ROOT / package.replace(".", "/")
    return sorted(folder.rglob("*.py")) if folder.is_dir() else sorted(ROOT.glob(f"{package}.py"))


def imported(source, module="", is_package=False):
    """Absolute names of all imports, wherever in the file; ``a.b.c`` for ``from a.b import c``."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, base]).rstrip(".")
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func)
            if called in ("__import__", "importlib.import_module", "import_module"):
                names.add(str(node.args[0].value))
    return names


def reaches(names, *packages):
    return sorted(n for n in names if any(n == p or n.startswith(f"{p}.") for p in packages))


def violations(package, *forbidden, unless=()):
    found = []
    for path in source_files(package):
        relative = path.relative_to(ROOT)
        if str(relative) in unless:
            continue
        module = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
        names = imported(path.read_text("utf-8"), module, path.name == "__init__.py")
        found += [f"{relative}: {name}" for name in reaches(names, *forbidden)]
    return found


@pytest.mark.parametrize("package", INDEPENDENT)
def test_the_lower_packages_know_nothing_of_each_other_or_of_captum(package):
    others = [
        f"captum_ext.{name}" for name in (*INDEPENDENT, "attr", "dropout", "_compat") if name != package
    ]
    assert violations(f"captum_ext.{package}", *others, "captum") == []


def test_only_compat_touches_captums_private_modules():
    # Private is any part of the dotted name that starts with an underscore, or captum.log.
    private = re.compile(r"^captum(\..+)?\._|^captum\.log")
    found = []
    for path in [
        *source_files("captum_ext"),
        *source_files("lightning_callbacks"),
        *source_files("benchmarks"),
    ]:
        if path.name == "_compat.py" and path.parent.name == "captum_ext":
            continue
        found += [f"{path.name}: {n}" for n in imported(path.read_text("utf-8")) if private.match(n)]
    assert found == []


@pytest.mark.parametrize("package", ["captum_ext", "lightning_callbacks"])
def test_nothing_imports_benchmarks_or_tests(package):
    assert violations(package, "benchmarks", "tests") == []


def test_the_library_imports_no_lightning():
    assert violations("captum_ext", "lightning", "pytorch_lightning", "lightning_callbacks") == []


def test_dropout_builds_on_excitation_only():
    layers = ("attr", "perturbation", "grounding", "metrics", "visualization", "data", "models", "_compat")
    assert violations("captum_ext.dropout", *(f"captum_ext.{layer}" for layer in layers), "captum") == []


def test_attr_knows_nothing_of_what_is_done_with_maps():
    layers = ("grounding", "metrics", "visualization", "data", "models", "dropout", "cli")
    assert violations("captum_ext.attr", *(f"captum_ext.{layer}" for layer in layers)) == []


def test_source_files_were_found():
    assert len(source_files("captum_ext.excitation")) > 8
    assert len(source_files("captum_ext.attr")) >= 7


# Negative control: the reader of imports must see all of these.
@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import captum", "captum"),
        ("import captum._utils.common as c", "captum._utils.common"),
        ("from captum import attr", "captum.attr"),
        ("def f():\n    from captum.log import log_usage", "captum.log"),
        ("from captum_ext import attr", "captum_ext.attr"),
        ("if True:\n    import pytorch_lightning.callbacks", "pytorch_lightning.callbacks"),
        ("import importlib\nimportlib.import_module('lightning')", "lightning"),
        ("from ..attr import x", "captum_ext.attr"),
        ("from .. import attr", "captum_ext.attr"),
    ],
)
def test_the_reader_sees(source, name):
    assert name in imported(source, "captum_ext.excitation.maps")
    assert reaches(imported(source, "captum_ext.excitation.maps"), name)


# What the import costs

MEASURE = """
import json, sys, time
import torch, captum, captum.attr
before = set(sys.modules)
start = time.perf_counter()
import captum_ext
plain = time.perf_counter() - start
added = sorted(set(sys.modules) - before)
start = time.perf_counter()
import captum_ext.attr
print(json.dumps([plain, time.perf_counter() - start, added, sorted(set(sys.modules) - before)]))
"""


def fresh(code):
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def measured():
    return [json.loads(fresh(MEASURE).splitlines()[-1]) for _ in range(3)]


HEAVY = re.compile(r"^(pytorch_lightning|lightning|lightning_fabric|benchmarks|torchmetrics|av|tests)(\.|$)")


def test_importing_adds_less_than_a_third_of_a_second(measured):
    assert min(plain for plain, *_ in measured) < 0.3
    assert min(plain + attr for plain, attr, *_ in measured) < 0.3


def test_importing_brings_no_lightning_and_no_pyplot_of_its_own(measured):
    for _, _, plain, with_attr in measured:
        for name in (*plain, *with_attr):
            assert not HEAVY.match(name), name
            assert not name.startswith("matplotlib"), name


def test_every_module_of_the_library_can_be_imported_first():
    # Each in an interpreter of its own is slow; each with the library forgotten is the same question.
    code = """
import importlib, pkgutil, sys, torch, captum.attr
import captum_ext
names = [m.name for m in pkgutil.walk_packages(captum_ext.__path__, "captum_ext.")]
names = [name for name in names if not name.endswith("__main__")]
for name in names:
    for loaded in [m for m in sys.modules if m.split(".")[0] == "captum_ext"]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except ImportError as error:
        missing = (error.name or "").split(".")[0]
        if missing in ("", "captum_ext"):
            raise
print(len(names))
"""
    assert int(fresh(code).splitlines()[-1]) > 20


# What the packages promise


def public():
    found = []
    names = ["captum_ext", *(m.name for m in pkgutil.walk_packages(captum_ext.__path__, "captum_ext."))]
    for name in names:
        if any(part.startswith("_") for part in name.split(".")):
            continue
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        if hasattr(module, "__path__"):
            found += [(name, public_name) for public_name in getattr(module, "__all__", [])]
    return found


PUBLIC = public()


@pytest.mark.parametrize(("package", "name"), PUBLIC, ids=[f"{p}.{n}" for p, n in PUBLIC])
def test_every_public_name_exists_and_says_what_it_takes(package, name):
    thing = getattr(importlib.import_module(package), name)
    if not callable(thing):
        return
    if inspect.ismodule(thing) or not getattr(thing, "__module__", "").startswith("captum_ext"):
        return
    text = inspect.getdoc(thing) or ""
    assert text.strip(), f"{name} has no docstring"
    if isinstance(thing, type) and issubclass(thing, BaseException):
        return
    if isinstance(thing, type):
        parameters = (
            []
            if thing.__init__ is object.__init__
            else list(inspect.signature(thing.__init__).parameters)[1:]
        )
    else:
        parameters = list(inspect.signature(thing).parameters)
    if parameters and not package.startswith("captum_ext.excitation"):
        assert re.search(r"^\s*(Args|Attributes):", text, re.MULTILINE), (
            f"{name} takes {parameters} and has no Args section"
        )
        for parameter in parameters:
            assert re.search(rf"^\s*\*{{0,2}}{parameter}\b", text, re.MULTILINE), f"{name}: {parameter}"


@pytest.mark.parametrize("name", sorted({package for package, _ in PUBLIC}))
def test_all_is_sorted_and_free_of_doubles(name):
    names = importlib.import_module(name).__all__
    assert len(names) == len(set(names))


def test_the_public_attribution_classes_are_these():
    # A change here is a change of the API.
    from captum_ext import attr, models

    wanted = {"ExcitationBackprop", "LayerExcitationBackprop", "RecurrentExcitationBackprop"}
    assert wanted <= set(attr.__all__)
    assert {"VGGLSTM", "FrameCNN", "FrameCNNLSTM", "ReLULSTM"} <= set(models.__all__)
