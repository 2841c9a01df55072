"""Share of the target domain among the images that excite a filter most: alpha of conservative filters."""

import torch
from torch import Tensor

from captum_ext.metrics.functional._units import units_of


def target_domain_share(
    activations: Tensor, is_target: Tensor, top_k: int = 100, balance: bool = False
) -> Tensor:
    r"""Share of target images among the ``top_k`` images with the largest response of a filter, alpha.

    An image's response is the maximum of the filter's map over space (and time). Low values mark filters that
    still look for what the source data showed. Where images tie at the last place, those that are tied count
    in proportion, so that a filter that never answers has the share that is expected of chance (of each
    domain the ``top_k`` best are looked at, no more).

    Args:
        activations (Tensor): Maps of the layer for a pool of images of both domains.
        is_target (Tensor): True for images of the target domain (fine-tuning), False for those of the source
            (pre-training), bool.
        top_k (int): Number of top images, at least 1; all images if the pool has fewer.
        balance (bool): Weigh each domain by one over its size in the pool, so that the result does not depend
            on it. Default: False, as in the thesis, whose pool has 50 000 and 55 000.

    Shape:
        - activations: (N, C) or (N, C, *)
        - is_target: (N,)
        - returns: (C,)

    Returns:
        Tensor: Share in 0..1, float64.

    Raises:
        TypeError: If the activations are not floating point or ``is_target`` is not bool.
        ValueError: If shapes do not match, something is empty or not finite, ``top_k`` is below 1, or the
            pool holds one domain only.

    Example:
        >>> activations = torch.tensor([[9.0, 1.0], [8.0, 7.0], [1.0, 6.0], [0.0, 5.0]])
        >>> target_domain_share(activations, torch.tensor([False, False, True, True]), top_k=2)
        tensor([0.0000, 0.5000], dtype=torch.float64)

    References:
        Bargal, Grounding Deep Models of Visual Data, PhD thesis, Boston University, 2019, section 3.4.
    """
    check_top_k(top_k)
    responses = responses_of(activations)
    check_domains(is_target, len(responses))
    chosen = is_target.to(responses.device)
    counts = torch.stack([(~chosen).sum(), chosen.sum()])
    if 0 in counts:
        raise ValueError("the pool must hold images of both domains: is_target is the same for all.")
    top = top_responses(torch.stack([domain_top(responses, ~chosen), domain_top(responses, chosen)]), top_k)
    return share_of_top(top, counts, top_k, balance)


def check_top_k(top_k: int) -> None:
    """Refuse an empty top."""
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}.")


def responses_of(activations: Tensor) -> Tensor:
    """Maximum of every filter's map, (N, C) float64."""
    units_of(activations, "activations")
    return (
        activations.detach().double().flatten(2).amax(2)
        if activations.dim() > 2
        else (activations.detach().double())
    )


def check_domains(is_target: Tensor, n: int) -> None:
    """Refuse anything but one bool per image."""
    if not isinstance(is_target, Tensor) or is_target.dtype != torch.bool:
        what = str(is_target.dtype) if isinstance(is_target, Tensor) else type(is_target).__name__
        raise TypeError(f"is_target must be a bool tensor of shape (N,), got {what}.")
    if is_target.shape != (n,):
        raise ValueError(f"is_target must have shape ({n},), one per image, got {tuple(is_target.shape)}.")


def domain_top(responses: Tensor, chosen: Tensor) -> Tensor:
    """Responses of one domain by filter, the others -inf, (C, N)."""
    return responses.masked_fill(~chosen[:, None], -torch.inf).T


def top_responses(responses: Tensor, top_k: int) -> Tensor:
    """The largest ``top_k`` along the last axis, in falling order, filled up with -inf."""
    missing = top_k - responses.shape[-1]
    if missing > 0:
        responses = torch.cat(
            [responses, responses.new_full((*responses.shape[:-1], missing), -torch.inf)], -1
        )
    return responses.topk(top_k, dim=-1).values


def share_of_top(top: Tensor, counts: Tensor, top_k: int, balance: bool) -> Tensor:
    """Alpha from the top responses of both domains, (2, C, top_k), source first, and their sizes (2,)."""
    pooled = top_responses(torch.cat([top[0], top[1]], -1), top_k)
    size = pooled.isfinite().sum(-1)  # of a small pool all images
    last = pooled.gather(-1, (size - 1).clamp(min=0)[:, None])
    above = (top > last).sum(-1).double()
    tied = ((top == last) & top.isfinite()).sum(-1).double()
    free = size - above.sum(0)  # places for the tied
    inside = above + tied * free / tied.sum(0)
    if balance:
        inside = inside / counts[:, None]
    return inside[1] / inside.sum(0)
