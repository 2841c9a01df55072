"""Conservative filters: those that training left where they were."""

import math

import torch
from torch import Tensor


def filter_change(weight: Tensor, reference: Tensor, relative: bool = False) -> Tensor:
    r"""How far training moved each filter, :math:`\Delta_k = \lVert \hat w_k - w_k \rVert_2`.

    Args:
        weight (Tensor): Weights after training; axis 0 counts the filters (output channels or units).
        reference (Tensor): The same weights before: at initialisation, or of the pre-trained model.
        relative (bool): Divide by :math:`\lVert w_k \rVert_2`, so that layers and networks compare. Not in
            the thesis.

    Shape:
        - weight: (K, *)
        - reference: (K, *)
        - returns: (K,)

    Returns:
        Tensor: float64, at least 0. Relative to a filter of zeros: 0 if it stayed, else infinity.

    Raises:
        TypeError: If a weight is not floating point.
        ValueError: If the shapes differ, have no axis beside the filters, or are empty, or a weight is not
            finite.

    Example:
        >>> filter_change(torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
        tensor([5., 1.], dtype=torch.float64)

    References:
        Bargal, Grounding Deep Models of Visual Data, PhD thesis, Boston University, 2019, sections 3.4 and
        5.2.3. The norm is not stated there; the Euclidean one is taken, without the bias.
        Ma et al., Do Less and Achieve More, Pattern Recognition 68, 2017.
    """
    for name, value in (("weight", weight), ("reference", reference)):
        _check_weight(value, name)
    if weight.shape != reference.shape:
        raise ValueError(
            f"reference must have the shape of weight, {tuple(weight.shape)}, got {tuple(reference.shape)}."
        )
    before = reference.detach().to(weight.device, torch.float64).flatten(1)
    change = (weight.detach().double().flatten(1) - before).norm(dim=1)
    return torch.where(change > 0, change / before.norm(dim=1), 0.0) if relative else change


def conservative_filters(
    weight: Tensor,
    reference: Tensor,
    threshold: float,
    relative: bool = False,
    target_share: Tensor | None = None,
    max_target_share: float = 0.1,
) -> Tensor:
    r"""Which filters are conservative: :math:`\Delta_k < \Delta`.

    This is the form of chapter 5. With ``target_share`` it is that of section 3.4, which also asks that the
    filter's top activations come from the data it was pre-trained on: :math:`\alpha_k < 0.1`.

    The thesis takes another threshold for every data set (0.25 for CIFAR-10, 0.30 for CIFAR-100, 1.25 for
    Caltech-256, 0.15 for UCF101; 0.02 to 0.06 in section 3.4), since :math:`\Delta_k` depends on the width of
    the layer, the learning rate and the number of steps, and since weight decay moves idle filters too:
    compare networks of one shape, trained alike, or take ``relative``.

    Args:
        weight (Tensor): Weights after training; axis 0 counts the filters.
        reference (Tensor): The same weights before.
        threshold (float): The change below which a filter counts, above 0; in units of the weights, or a
            share if ``relative``.
        relative (bool): Compare :math:`\Delta_k / \lVert w_k \rVert_2`.
        target_share (Tensor, optional): :math:`\alpha_k` of every filter, from
            :func:`~captum_ext.metrics.functional.target_domain_share`.
        max_target_share (float): The share below which a filter counts, in (0, 1].

    Shape:
        - weight: (K, *)
        - reference: (K, *)
        - target_share: (K,)
        - returns: (K,)

    Returns:
        Tensor: bool.

    Raises:
        TypeError: If a weight is not floating point.
        ValueError: If shapes differ or are empty, a value is not finite or a threshold outside its range.

    Example:
        >>> weight = torch.tensor([[0.1, 0.0], [1.0, 1.0]])
        >>> conservative_filters(weight, torch.zeros(2, 2), threshold=0.25)
        tensor([ True, False])
        >>> conservative_filters(weight, torch.zeros(2, 2), 0.25, target_share=torch.tensor([0.4, 0.0]))
        tensor([False, False])

    References:
        Bargal, Grounding Deep Models of Visual Data, PhD thesis, Boston University, 2019, sections 3.4 and
        5.2.3.
    """
    check_thresholds(threshold, max_target_share)
    conservative = filter_change(weight, reference, relative) < threshold
    if target_share is None:
        return conservative
    if not isinstance(target_share, Tensor) or target_share.shape != conservative.shape:
        what = tuple(target_share.shape) if isinstance(target_share, Tensor) else type(target_share).__name__
        raise ValueError(f"target_share must be a tensor of shape ({len(conservative)},), got {what}.")
    if not bool(((target_share >= 0) & (target_share <= 1)).all()):
        raise ValueError("target_share must lie in 0..1 and not be NaN.")
    return conservative & (target_share.to(conservative.device) < max_target_share)


def check_thresholds(threshold: float, max_target_share: float) -> None:
    """Refuse thresholds that nothing, or everything, passes."""
    if not 0 < threshold < math.inf:
        raise ValueError(f"threshold must be finite and above 0, got {threshold}.")
    if not 0 < max_target_share <= 1:
        raise ValueError(f"max_target_share must lie in (0, 1], got {max_target_share}.")


def _check_weight(value: Tensor, name: str) -> None:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        what = str(value.dtype) if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{name} must be a floating-point tensor of shape (K, *), got {what}.")
    if value.dim() < 2 or value.numel() == 0:
        raise ValueError(
            f"{name} must have shape (K, *), filters by weights, with no empty axis, got "
            f"{tuple(value.shape)}; biases are not counted."
        )
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name} must be finite; check the training.")
