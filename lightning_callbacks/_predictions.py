"""What a model's scores for one example say, and which of them is to be explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from torch import Tensor

__all__ = ["Prediction", "Target", "check_target", "predict"]

Target = Literal["predicted", "label"] | int | Callable[[Tensor, Tensor | None], Any]


@dataclass(frozen=True)
class Prediction:
    """What there is to say about an example.

    Args:
        target (Any): the explained unit, in Captum's form.
        caption (str): the true and the predicted class, and the explained one where it is another.
    """

    target: Any
    caption: str


def check_target(target: object) -> None:
    """Raise unless ``target`` is one that :func:`predict` knows."""
    known = target in ("predicted", "label") if isinstance(target, str) else callable(target)
    if not known and (isinstance(target, bool) or not isinstance(target, int) or target < 0):
        raise ValueError(
            f"target must be 'predicted', 'label', a class (an integer from 0), or a function of scores and "
            f"label, not {target!r}"
        )


def predict(
    scores: object,
    label: Tensor | None,
    target: Target,
    class_names: Sequence[str] = (),
    probability_fn: Callable[[Tensor], Tensor] | None = None,
) -> Prediction:
    """Read the scores of one example.

    Of scores per time step the last step counts: it is predicted there, and explained there.

    Args:
        scores (Tensor): what the model returned.
        label (Tensor, optional): the example's label: a class, or K numbers of which the largest counts;
            negative ones are labels to ignore.
        target (str, int or callable): what is explained.
        class_names (sequence of str): names of the classes. Default: their numbers.
        probability_fn (callable, optional): from scores (K,) to probabilities (K,). Default: the softmax,
            unless the scores are probabilities already; of a single score the sigmoid.

    Shape:
        scores (1,), (1, K) or (1, T, K); label () or (K,)

    Returns:
        Prediction: the unit to explain, and the caption.

    Raises:
        TypeError: the scores are no tensor.
        ValueError: they have another shape or are not finite, or the target is not among them.
    """
    if not isinstance(scores, Tensor):
        raise TypeError(
            f"the model returned a {type(scores).__name__}, not a tensor of scores; explain a function that "
            f"returns them, as in attribution=lambda module: Saliency(lambda x: module(x).logits)"
        )
    if scores.dim() not in (1, 2, 3) or len(scores) != 1 or 0 in scores.shape:
        raise ValueError(
            f"the model returned {tuple(scores.shape)} for one example; scores (1, K), or (1, T, K) per time "
            f"step, are needed"
        )
    last = scores.detach().float().cpu().reshape(-1, scores.shape[-1])[-1]
    if not last.isfinite().all():
        raise ValueError("the model's scores contain NaN or infinity")
    probabilities = (probability_fn or _probabilities)(last)
    single = len(last) == 1
    predicted = int(probabilities[0] > 0.5) if single else int(last.argmax())
    true = _classes(label)
    explained = _unit(target, scores, label, true, predicted, single)

    def name(index: int) -> str:
        return class_names[index] if 0 <= index < len(class_names) else str(index)

    def chance(index: int) -> str:
        p = float(probabilities[0] if single else probabilities[index])
        return f"p = {1 - p if single and index == 0 else p:.2f}"

    parts = [] if label is None else [f"true: {' + '.join(map(name, true)) or 'none'}"]
    parts.append(f"predicted: {name(predicted)}, {chance(predicted)}")
    if isinstance(explained, int) and not single:
        if explained != predicted:
            parts.append(f"explained: {name(explained)}, {chance(explained)}")
        if scores.dim() == 3:
            explained = (scores.shape[1] - 1, explained)
    elif callable(target):
        parts.append(f"explained: {explained}")
    return Prediction(explained, "; ".join(parts))


def _unit(
    target: Target, scores: Tensor, label: Tensor | None, true: list[int], predicted: int, single: bool
) -> Any:
    if callable(target):
        return target(scores, label)
    K = scores.shape[-1] if scores.dim() > 1 else 1
    if isinstance(target, int):
        chosen = target
    elif single:
        raise ValueError(
            f"the model gives a single score, so target={target!r} has no unit of its own; target=0 explains "
            f"that score"
        )
    elif target == "predicted":
        chosen = predicted
    elif len(true) != 1:
        raise ValueError(f"target='label' needs a sample with one class as its label, and this has {true}")
    else:
        chosen = true[0]
    if chosen >= K:
        raise ValueError(f"class {chosen} is to be explained, but the model has {K} classes")
    return chosen if scores.dim() > 1 else None


def _classes(label: Tensor | None) -> list[int]:
    """The classes that a label names; none if it is negative, as labels to ignore are, or zero everywhere."""
    if label is None:
        return []
    if label.numel() > 1:
        if label.max() <= 0:
            return []
        return cast(list[int], (label == label.max()).nonzero().flatten().tolist())
    value = label.item()
    return [int(value)] if value >= 0 and value == int(value) else []


def _probabilities(scores: Tensor) -> Tensor:
    if len(scores) == 1:
        return scores.sigmoid()
    are_already = bool((scores >= 0).all()) and abs(float(scores.sum()) - 1) < 1e-3
    return scores if are_already else scores.softmax(0)
