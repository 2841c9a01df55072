"""Share of the target domain among the images that excite a filter most: alpha of conservative filters."""

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_ext.metrics.functional._units import units_of


def target_domain_share(
    activations: Tensor, is_target: Tensor, top_k: int = 100, balance: bool = False
) -> Tensor:
    r"""Share of target images among the ``top_k`` images with the largest response of a filter, alpha.

    An image's response is the maximum of the filter's map over space (and time). Low values mark filters that
    still look for what the source data showed. Where images tie at the last place, all that are tied count in
    proportion, so that a filter that never answers has the share that is expected of chance: that of target
    images in the pool.

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
    return share_of_best(best_of_domains(responses, chosen, top_k), counts, balance)


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


def best_of_domains(responses: Tensor, chosen: Tensor, top_k: int) -> Tensor:
    """What of a pool decides about alpha.

    Args:
        responses (Tensor): By image and filter.
        chosen (Tensor): True for images of the target domain.
        top_k (int): Number of top images.

    Shape:
        - responses: (N, C)
        - chosen: (N,)
        - returns: (2, C, top_k + 1), source first

    Returns:
        Tensor: By domain and filter the ``top_k`` largest responses in falling order, filled up with -inf,
        and then the number of images with the last of them, which may be more than are kept.
    """
    domains = torch.stack([~chosen, chosen])[:, :, None]
    masked = responses.masked_fill(~domains, -torch.inf).transpose(1, 2)
    top = _largest(masked, top_k)
    return torch.cat([top, (masked == top[..., -1:]).sum(-1, keepdim=True)], -1)


def best_of_parts(parts: Tensor) -> Tensor:
    """:func:`best_of_domains` of a whole pool from those of its parts, (P, 2, C, top_k + 1)."""
    top = _largest(parts[..., :-1].movedim(0, -2).flatten(-2), parts.shape[-1] - 1)
    return torch.cat([top, _number_of(top[..., -1], parts).sum(0)[..., None]], -1)


def share_of_best(best: Tensor, counts: Tensor, balance: bool) -> Tensor:
    """Alpha from :func:`best_of_domains` and the number of images of both domains, (2,)."""
    top = best[..., :-1]
    pooled = _largest(torch.cat([top[0], top[1]], -1), top.shape[-1])
    size = pooled.isfinite().sum(-1)  # of a small pool all images
    last = pooled.gather(-1, (size - 1).clamp(min=0)[:, None])[:, 0]
    above = (top > last[:, None]).sum(-1).double()
    tied = _number_of(last, best)
    free = size - above.sum(0)  # places for the tied
    inside = above + tied * free / tied.sum(0)
    if balance:
        inside = inside / counts[:, None]
    return inside[1] / inside.sum(0)


def _largest(responses: Tensor, top_k: int) -> Tensor:
    """The largest ``top_k`` along the last axis, in falling order, filled up with -inf."""
    missing = max(0, top_k - responses.shape[-1])
    return F.pad(responses, (0, missing), value=-torch.inf).topk(top_k, dim=-1).values


def _number_of(response: Tensor, best: Tensor) -> Tensor:
    """How many images have a response that is no smaller than the last that is kept."""
    top, ties = best[..., :-1], best[..., -1]
    return torch.where(top[..., -1] == response, ties, (top == response[..., None]).sum(-1))
