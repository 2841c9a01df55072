"""All metric classes, each with a few updates of different sizes."""

import cases_faithfulness
import cases_grounding
import torch
from cases_utilization import UTILIZATION_CASES
from metric_case import MetricCase

from captum_ext.metrics import TemporalAUC


def _scores(seed, *shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


CASES = [
    MetricCase(
        "TemporalAUC",
        TemporalAUC,
        (
            (_scores(0, 3, 7), torch.tensor([[0, 2], [1, 6], [0, 7]])),
            (_scores(1, 1, 9), torch.tensor([[4, 6]])),
            (_scores(2, 2, 5), [torch.tensor([[0, 1], [3, 5]]), torch.tensor([[2, 3]])]),
        ),
        has_chance=True,
    ),
    *cases_faithfulness.CASES,
    *cases_grounding.CASES,
    *UTILIZATION_CASES,
]
