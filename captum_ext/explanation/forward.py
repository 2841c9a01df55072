"""One look at a model: its scores for a clip, and which of its layers have maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from captum_ext.attr._scores import Scores
from captum_ext.models import VGGLSTM, FrameCNNLSTM
from captum_ext.models.loading import LoadedModel
from captum_ext.models.vgg_lstm import Output

__all__ = ["Forward", "batches", "layer_shapes", "look", "output_of"]

# Bounds the memory of an image model: Excitation Backprop keeps several copies of its activations.
_FRAMES_AT_ONCE = 8


@dataclass(frozen=True, eq=False)
class Forward:
    """What one forward pass shows: probabilities of the clip (K,) and of its frames (T, K), the layers.

    ``scores`` says whether the model returns logits or probabilities.
    """

    probabilities: Tensor
    per_frame: Tensor | None
    n_steps: int | None
    layers: dict[str, tuple[int, ...]]
    scores: Scores


def layer_shapes(loaded: LoadedModel, clip: Tensor) -> dict[str, tuple[int, ...]]:
    """The layers below the classifier whose output is a map over the frame, in the order they finish in.

    Args:
        loaded (LoadedModel): the model, on the clip's device.
        clip (Tensor): the transformed clip, (3, T, H, W).

    Returns:
        dict of str to tuple of int: dotted name to (C, T', h, w), or (C, h, w) for a model of single frames.

    Raises:
        ValueError: a model that cannot run on this clip.

    Example:
        >>> from captum_ext.models.loading import load_model
        >>> shapes = layer_shapes(load_model("FrameCNNLSTM"), torch.rand(3, 5, 64, 64))
        >>> shapes["features.0"], shapes["features"]
        ((16, 5, 32, 32), (48, 5, 16, 16))
    """
    return look(loaded, clip).layers


def look(loaded: LoadedModel, clip: Tensor) -> Forward:
    """Run the model on a clip (3, T, H, W)."""
    first, *others = batches(loaded.reads, clip)
    calls: dict[str, list[tuple[int, ...]]] = {}
    with torch.no_grad(), output_of(loaded.model, "steps"):
        with _watched(loaded.model, calls):
            scores = [_run(loaded.model, first)]
        scores += [_run(loaded.model, batch) for batch in others]
    joined = torch.cat(scores)
    if not torch.isfinite(joined).all():
        raise ValueError("the model's scores for this clip contain NaN or infinity")
    n_frames = len(first) if loaded.reads == "frames" else clip.shape[1]
    size = (n_frames, clip.shape[2], clip.shape[3])
    layers = {}
    for name in _below_classifier(loaded.model, list(calls)):
        shape = _map_shape(calls[name], loaded.reads, size)
        if shape is not None:
            layers[name] = shape
    scores_are: Scores = "probabilities" if _is_softmax(joined) else "logits"
    if loaded.reads == "frames":
        per_frame = _probabilities(joined)
        return Forward(per_frame.mean(0), per_frame, None, layers, scores_are)
    if joined.dim() == 3:
        per_step = _probabilities(joined[0])
        # Scores at fewer steps than frames cannot be laid beside the frames.
        laid = per_step if len(per_step) == n_frames else None
        return Forward(_probabilities(joined.mean(1))[0], laid, len(per_step), layers, scores_are)
    return Forward(_probabilities(joined)[0], None, None, layers, scores_are)


def batches(reads: str, clip: Tensor) -> Sequence[Tensor]:
    """What the model is called with: the clip as a batch of one, or its frames, a few at a time."""
    if reads == "clips":
        return [clip[None]]
    return torch.split(clip.transpose(0, 1).contiguous(), _FRAMES_AT_ONCE)


def _run(model: nn.Module, inputs: Tensor) -> Tensor:
    shape = tuple(inputs.shape)
    try:
        scores = model(inputs)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        raise ValueError(
            f"the model does not run on an input of the shape {shape}: {error} (change the size, the number "
            "of frames, or whether it reads frames or clips)"
        ) from error
    ranks = (2,) if len(shape) == 4 else (2, 3)
    if not isinstance(scores, Tensor) or scores.dim() not in ranks or len(scores) != shape[0]:
        what = tuple(scores.shape) if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
        raise ValueError(
            f"the model returns {what} for {shape}; scores (N, K) or, for clips, (N, T, K) are needed"
        )
    return scores.float()


@contextmanager
def output_of(model: nn.Module, output: Output) -> Iterator[None]:
    """Let a reference model return what the method explains; other models return what they do."""
    if not isinstance(model, (VGGLSTM, FrameCNNLSTM)):
        yield
        return
    before, model.output = model.output, output
    try:
        yield
    finally:
        model.output = before


@contextmanager
def _watched(model: nn.Module, calls: dict[str, list[tuple[int, ...]]]) -> Iterator[None]:
    """Collect the output shapes of every layer's calls, in the order in which the layers finish."""

    def note(name: str, _module: nn.Module, _inputs: object, output: object) -> None:
        shapes = calls.pop(name, [])
        calls[name] = [*shapes, tuple(output.shape) if isinstance(output, Tensor) else ()]

    handles = [
        module.register_forward_hook(partial(note, name)) for name, module in model.named_modules() if name
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _below_classifier(model: nn.Module, finished: list[str]) -> list[str]:
    """The layers that finish before the last one with a weight matrix; contrast is taken at its input."""
    modules = dict(model.named_modules())
    weighted = [
        i
        for i, name in enumerate(finished)
        if any(parameter.dim() > 1 for parameter in modules[name].parameters(recurse=False))
    ]
    return finished[: weighted[-1]] if weighted else finished


def _map_shape(
    calls: Sequence[tuple[int, ...]], reads: str, size: tuple[int, int, int]
) -> tuple[int, ...] | None:
    """(C, T', h, w) or (C, h, w) if a layer's calls make one map over frames of the size (T, H, W)."""
    T, H, W = size
    first = calls[0]
    shape: tuple[int, ...] | None
    if len(set(calls)) > 1 or len(first) not in (4, 5):
        return None
    if reads == "frames":
        shape = first[1:] if len(calls) == 1 and len(first) == 4 and first[0] == T else None
    elif len(first) == 5:
        shape = first[1:] if len(calls) == 1 and first[0] == 1 and first[2] <= T else None
    else:  # a layer that runs on all frames as a batch, or once per frame
        shape = (first[1], T, *first[2:]) if len(calls) * first[0] == T else None
    if shape is None or min(shape[-2:]) < 2:
        return None
    # Transformers put channels last, so that width and channels would pass for height and width.
    h, w = shape[-2:]
    return shape if abs(h - w * H / W) <= 1 and abs(w - h * W / H) <= 1 else None


def _probabilities(scores: Tensor) -> Tensor:
    """Softmax over the last axis, unless the model has already applied it."""
    return scores if _is_softmax(scores) else scores.softmax(-1)


def _is_softmax(scores: Tensor) -> bool:
    sums = scores.sum(-1)
    return bool((scores >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3)
