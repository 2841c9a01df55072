"""Share of the target domain among the top activations of filters, over a pool of images."""

from typing import Any

import torch
from torch import Tensor

from captum_ext.metrics._descriptive import Descriptive
from captum_ext.metrics.functional._units import check_matches
from captum_ext.metrics.functional.target_domain_share import (
    best_of_domains,
    best_of_parts,
    check_domains,
    check_top_k,
    responses_of,
    share_of_best,
)

__all__ = ["TargetDomainShare"]


class TargetDomainShare(Descriptive):
    """Share of target images among those that excite a filter most: alpha of conservative filters.

    :func:`~captum_ext.metrics.functional.target_domain_share` over a pool that comes in parts, in any order
    and on any process. One value per filter, to be given to ``ConservativeFilters``.

    Args:
        num_filters (int): Number of filters (channels) of the layer, C.
        top_k (int): Number of top images, at least 1; all images if the pool has fewer.
        balance (bool): Weigh each domain by one over its size in the pool.
        kwargs (Any): Options of :class:`torchmetrics.Metric`.

    Shape:
        - activations: (N, C) or (N, C, *)
        - is_target: (N,)
        - compute: (C,), float64, in 0..1; NaN before there are images of both domains

    Example:
        >>> metric = TargetDomainShare(num_filters=2, top_k=2)
        >>> metric.update(torch.tensor([[9.0, 1.0], [8.0, 7.0]]), torch.tensor([False, False]))
        >>> metric.update(torch.tensor([[1.0, 6.0], [0.0, 5.0]]), torch.tensor([True, True]))
        >>> metric.compute()
        tensor([0.0000, 0.5000], dtype=torch.float64)

    References:
        Bargal, Grounding Deep Models of Visual Data, PhD thesis, Boston University, 2019, section 3.4.
    """

    plot_upper_bound: float | None = 1.0

    best: Tensor
    counts: Tensor

    def __init__(self, num_filters: int, top_k: int = 100, balance: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_filters < 1:
            raise ValueError(f"num_filters must be at least 1, got {num_filters}.")
        check_top_k(top_k)
        self.num_filters, self.top_k, self.balance = num_filters, top_k, balance
        empty = torch.full((2, num_filters, top_k + 1), -torch.inf, dtype=torch.float64)
        empty[..., -1] = 0
        self.add_state("best", empty, dist_reduce_fx=best_of_parts)
        self.add_state("counts", torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, activations: Tensor, is_target: Tensor) -> None:
        """Look at images.

        Args:
            activations (Tensor): Maps of the layer, (N, C, *).
            is_target (Tensor): True for images of the target domain, bool, (N,).

        Raises:
            TypeError: If the activations are not floating point or ``is_target`` is not bool.
            ValueError: If shapes do not match or something is empty or not finite.
        """
        responses = responses_of(activations).to(self.best.device)
        check_matches(responses.shape[1], self.num_filters, "activations", "filters")
        check_domains(is_target, len(responses))
        chosen = is_target.to(responses.device)
        found = best_of_domains(responses, chosen, self.top_k)
        self.best = best_of_parts(torch.stack([self.best, found]))
        self.counts += torch.stack([(~chosen).sum(), chosen.sum()])
        self.n += len(responses)

    def compute(self) -> Tensor:
        """Share per filter, (C,) float64; NaN before there are images of both domains."""
        share = share_of_best(self.best, self.counts, self.balance)
        return torch.where((self.counts > 0).all(), share, torch.nan)
