"""What every metric class promises, whatever it measures."""

import copy
import math
import pickle
from pathlib import Path

import matplotlib
import pytest
import torch
import torch.multiprocessing
from matplotlib import pyplot
from metric_cases import CASES
from torchmetrics import MetricCollection

import captum_ext.metrics
from captum_ext.metrics import Summary

matplotlib.use("Agg")


def filled(case, metric=None):
    metric = metric or case.build()
    for arguments in case.updates:
        metric.update(*arguments)
    return metric


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return torch.allclose(a, b, rtol=1e-12, atol=0, equal_nan=True)


def flat(value):
    return list(value.values()) if isinstance(value, dict) else [value]


def test_every_public_metric_has_a_case():
    public = {
        name
        for name in captum_ext.metrics.__all__
        if isinstance(getattr(captum_ext.metrics, name), type)
        and issubclass(getattr(captum_ext.metrics, name), torch.nn.Module)
    }
    assert public == {type(case.build()).__name__ for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_it_is_nan_before_any_update_and_after_a_reset(case):
    metric = case.build()
    assert all(value.isnan().all() for value in flat(metric.compute()))
    assert math.isnan(metric.summary().value)
    assert metric.summary().n == 0
    filled(case, metric).reset()
    assert all(value.isnan().all() for value in flat(metric.compute()))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_summary_agrees_with_the_value_and_holds_it_in_its_interval(case):
    metric = filled(case)
    summary = metric.summary()
    assert isinstance(summary, Summary)
    value = metric.compute()
    if not isinstance(value, dict) and value.dim() == 0:
        assert summary.value == pytest.approx(float(value), nan_ok=True)
    assert summary.n > 0
    assert math.isnan(summary.low) or summary.low <= summary.value <= summary.high
    assert math.isnan(summary.chance) != case.has_chance


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_order_of_updates_does_not_matter(case):
    backwards = case.build()
    for arguments in reversed(case.updates):
        backwards.update(*arguments)
    assert same(filled(case).compute(), backwards.compute())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_returns_the_value_of_its_batch_and_counts_it(case):
    metric = case.build()
    for arguments in case.updates:
        alone = case.build()
        alone.update(*arguments)
        assert same(metric(*arguments), alone.compute())
    assert same(metric.compute(), filled(case).compute())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_copies_and_pickles_go_on_where_the_metric_stands(case):
    metric = case.build()
    metric.update(*case.updates[0])
    for twin in (copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))):  # noqa: S301
        for arguments in case.updates[1:]:
            twin.update(*arguments)
        assert same(twin.compute(), filled(case).compute())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_says_what_it_is(case):
    metric = case.build()
    assert metric.higher_is_better in ((None,) if case.is_descriptive else (True, False))
    assert metric.is_differentiable is False
    assert "Example" in type(metric).__doc__


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_plots(case):
    metric = filled(case)
    figure, axes = metric.plot()
    assert len(figure.axes) == 1
    assert axes.lines or axes.collections
    pyplot.close(figure)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_works_in_a_collection(case):
    collection = MetricCollection({"a": case.build(), "b": case.build()})
    for arguments in case.updates:
        collection.update(*arguments)
    if not isinstance(filled(case).compute(), dict):
        assert same(collection.compute()["b"], filled(case).compute())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_collection_takes_no_two_metrics_for_one_because_they_agree_on_a_batch(case):
    # Torchmetrics updates only the first of those it takes for one.
    collection = MetricCollection({"a": case.build(), "b": case.build()})
    for arguments in case.updates:
        collection.update(*arguments)
    assert sorted(collection.compute_groups.values()) == [["a"], ["b"]]


def _worker(rank, store, results):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    found = {}
    for case in CASES:
        # Everything to one process, nothing to the other; then shared unevenly.
        for kind, mine in (
            ("one", case.updates if rank == 0 else ()),
            ("other", case.updates if rank == 1 else ()),
            ("shared", case.updates[:1] if rank == 0 else case.updates[1:]),
        ):
            metric = case.build()
            for arguments in mine:
                metric.update(*arguments)
            found[case.name, kind] = (metric.compute(), metric.summary())
    torch.save(found, Path(results) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.start_processes(
        _worker, (str(folder / "store"), str(folder)), nprocs=2, start_method="spawn"
    )
    torch.serialization.add_safe_globals([Summary])
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("kind", ["one", "other", "shared"])
def test_two_processes_find_the_same_even_if_one_saw_nothing(case, kind, two_processes):
    metric = filled(case)
    for found in two_processes:
        value, summary = found[case.name, kind]
        assert same(value, metric.compute())
        ours = metric.summary()
        assert summary.n == ours.n
        for name in ("value", "low", "high", "chance"):
            assert getattr(summary, name) == pytest.approx(getattr(ours, name), nan_ok=True, abs=1e-9)
