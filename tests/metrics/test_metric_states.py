"""What nothing around a metric may do to its states unnoticed."""

import matplotlib
import pytest
import torch
from matplotlib import pyplot
from metric_cases import CASES
from torchmetrics import MetricCollection

from captum_ext.metrics import SpatialPointingGame, TemporalLocalizationAccuracy, TemporalPointingGame

matplotlib.use("Agg")


def test_metrics_that_agree_in_the_first_batch_stay_apart_in_a_collection():
    # torchmetrics updates only one of two metrics whose states are equal after the first batch.
    collection = MetricCollection(
        {
            f"at_{percent}": TemporalLocalizationAccuracy(percent / 100, known_length=False)
            for percent in (20, 90)
        }
    )
    spans = torch.tensor([[2, 6]])
    collection.update(spans, spans, n_frames=8)
    collection.update(torch.tensor([[2, 4]]), spans, n_frames=8)
    assert {name: value.item() for name, value in collection.compute().items()} == {
        "at_20": 1.0,
        "at_90": 0.5,
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_model_in_half_precision_does_not_round_the_counts_of_its_metric(dtype):
    model = torch.nn.Module()
    model.metric = TemporalPointingGame()
    model.to(dtype)
    model.half()
    for _ in range(3):
        model.metric.update(torch.eye(5)[[1]].expand(1001, 5), torch.tensor([[1, 2]]).expand(1001, 2))
    summary = model.metric.summary()
    assert (summary.value, summary.n, summary.chance) == (1.0, 3003, pytest.approx(0.2))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows_and_sums_survive_a_change_of_dtype_halfway(case):
    plain, moved = case.build(), case.build()
    for arguments in case.updates:
        plain.update(*arguments)
        moved.update(*arguments)
        moved.to(torch.bfloat16)
        moved.set_dtype(torch.float16)
    assert moved.summary().value == plain.summary().value
    assert moved.summary().n == plain.summary().n


def test_it_plots_into_given_axes():
    metric = SpatialPointingGame()
    metric.update(torch.rand(2, 1, 4, 5), torch.tensor([[[[0.0, 0.0, 2.0, 2.0]]]] * 2), (4, 5))
    figure, axes = pyplot.subplots()
    assert metric.plot(ax=axes) == (None, axes)
    assert axes.lines
    pyplot.close(figure)
