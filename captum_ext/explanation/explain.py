"""Explain one clip by one or more methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from captum_ext.attr import LayerExcitationBackprop, RecurrentExcitationBackprop
from captum_ext.excitation.operand import Negative
from captum_ext.explanation.choices import choose_layer, choose_step, choose_target
from captum_ext.explanation.extremal import AREAS, SMOOTHNESS, KeptPart, kept_parts
from captum_ext.explanation.forward import batches, look, output_of
from captum_ext.grounding import frame_scores, greedy_window
from captum_ext.models import VGGLSTM, FrameCNNLSTM
from captum_ext.models.loading import LoadedModel, is_recurrent

__all__ = ["METHODS", "Explanation", "Method", "MethodResult", "explain"]

Method = Literal["eb", "ceb", "eb-r", "ceb-r", "step", "ep-3d"]

METHODS: Mapping[Method, str] = {
    "eb": "EB",
    "ceb": "cEB",
    "eb-r": "EB-R",
    "ceb-r": "cEB-R",
    "step": "STEP",
    "ep-3d": "EP-3D",
}
"""The methods and how the papers write them."""


@dataclass(frozen=True, eq=False)
class MethodResult:
    """What one method found.

    Attributes:
        maps (Tensor): evidence summed over channels, of STEP and EP-3D the sum of their masks; float32, on
            the CPU.
        scores (Tensor): S_t, one number per frame, float32: the sum of the map over space; for Excitation
            Backprop of a model of single frames, whose maps all have the same sum, the class's probability in
            each frame.
        window (tuple of int or None): the greedy window, half-open [start, end) in frames; None for methods
            without contrast (which have no negative frames to stop it) and for models of single frames.
        convergence_delta (float or None): the mass that units without support dropped; the mean over frames
            for a model of single frames; None for methods that propagate no mass.
        kept (tuple of KeptPart): the masks of STEP and EP-3D, one per area; empty for other methods.

    Shape:
        - maps: (T', h, w) with T' <= T
        - scores: (T,)
    """

    maps: Tensor
    scores: Tensor
    window: tuple[int, int] | None
    convergence_delta: float | None
    kept: tuple[KeptPart, ...] = ()


@dataclass(frozen=True, eq=False)
class Explanation:
    """What :func:`explain` found.

    Attributes:
        layer (str or None): where the maps were read; None if no method reads a layer.
        target (int): the class.
        label (str): its name, or ``"class N"``.
        probability (float): the model's probability of the class for the whole clip.
        probabilities (Tensor or None): the same at each frame, (T,), where the model gives it.
        step (int or None): the time step whose output was explained, for models with one per frame.
        results (dict): per method.
    """

    layer: str | None
    target: int
    label: str
    probability: float
    probabilities: Tensor | None
    step: int | None
    results: Mapping[Method, MethodResult]


def explain(
    loaded: LoadedModel,
    clip: Tensor,
    methods: Sequence[Method],
    *,
    target: str = "auto",
    layer: str | None = None,
    step: int | None = None,
    negative: Negative = "support",
    areas: Sequence[float] = AREAS,
    iterations: int | None = None,
    show_progress: bool = False,
) -> Explanation:
    """Explain one clip by one or more methods.

    Args:
        loaded (LoadedModel): the model, on the clip's device.
        clip (Tensor): the transformed clip.
        methods (sequence of str): of ``"eb"``, ``"ceb"``, ``"eb-r"``, ``"ceb-r"``, ``"step"``, ``"ep-3d"``.
            The last two explain the mean probability of a model of single frames.
        target (str, optional): ``"auto"``, the class with the highest score; a label; or a class's number.
            Default: ``"auto"``
        layer (str, optional): dotted name of the layer whose map is read. Default: of
            :func:`~captum_ext.explanation.layer_shapes`, those with the coarsest map of at least 13 pixels
            on the short side (if there is none, of 7; if there is none, the finest); of these the least
            nested, and of these the last
        step (int, optional): time step to explain, for a model with scores at every step; negative ones
            count from the end. Default: the last
        negative (str, optional): see :class:`~captum_ext.attr.ExcitationBackprop`. Default: ``"support"``
        areas (sequence of float, optional): shares of the clip that STEP and EP-3D keep.
            Default: (0.05, 0.1, 0.2)
        iterations (int, optional): of STEP and EP-3D. Default: those of
            :class:`~captum_ext.perturbation.StepSettings`
        show_progress (bool, optional): a bar on stderr while an image model goes through the frames, or while
            masks are optimised. Default: False

    Shape:
        - clip: (3, T, H, W)

    Returns:
        Explanation: the maps, scores and windows, on the CPU.

    Raises:
        ValueError: an unknown layer or label, a class or step out of range, a recurrent method for a model
            without recurrence, areas that masks cannot have, a model that cannot run on this clip.
        UnsupportedOperationError: evidence flows through an operation that has no rule.

    Example:
        >>> from captum_ext.models.loading import load_model
        >>> clip = torch.rand(3, 5, 64, 64)
        >>> explanation = explain(load_model("FrameCNNLSTM"), clip, ["ceb-r"], target="2")
        >>> explanation.layer, explanation.label, explanation.results["ceb-r"].maps.shape
        ('features', 'class 2', torch.Size([5, 16, 16]))
    """
    for method in methods:
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
        if method.endswith("-r") and not is_recurrent(loaded.model):
            raise ValueError(
                f"{method} follows evidence back through the steps of a recurrent layer, and {loaded.name} "
                f"has none (nn.LSTM, nn.GRU, nn.RNN, their cells, ReLULSTM); use {method.removesuffix('-r')}"
            )
    forward = look(loaded, clip)
    # Masks are found without looking into the model.
    reads_layer = any(method not in SMOOTHNESS for method in methods)
    layer = choose_layer(loaded.name, forward.layers, layer) if reads_layer else ""
    k = choose_target(target, forward.probabilities, loaded.labels)
    step = choose_step(step, forward.n_steps)
    probabilities = None if forward.per_frame is None else forward.per_frame[:, k].cpu()
    results = {}
    for method in methods:
        if method in SMOOTHNESS:
            maps, kept = kept_parts(
                loaded,
                clip,
                method,
                k if step is None else (step, k),
                forward.scores,
                areas,
                iterations,
                show_progress,
            )
            results[method] = MethodResult(maps, frame_scores(maps[None, None])[0], None, None, kept)
            continue
        maps, delta = _maps(loaded, clip, method, layer, (step, k), negative, show_progress)
        if loaded.reads == "clips":
            scores = _one_per_frame(frame_scores(maps[None, None])[0], clip.shape[1])
        else:
            assert probabilities is not None  # noqa: S101  # a model of frames gives one for each
            scores = probabilities
        window = None
        if method.startswith("c") and loaded.reads == "clips":
            start, end = greedy_window(scores[None])[0].tolist()
            window = (start, end)
        results[method] = MethodResult(maps, scores, window, delta)
    return Explanation(
        layer=layer or None,
        target=k,
        label=loaded.labels[k] if loaded.labels else f"class {k}",
        probability=float(forward.probabilities[k]),
        probabilities=probabilities,
        step=step,
        results=results,
    )


def _maps(
    loaded: LoadedModel,
    clip: Tensor,
    method: Method,
    layer: str,
    target: tuple[int | None, int],
    negative: Negative,
    show_progress: bool,
) -> tuple[Tensor, float]:
    """The map (T', h, w), summed over channels, and its convergence delta."""
    model, contrastive = loaded.model, method.startswith("c")
    step, k = target
    if method.endswith("-r"):
        with output_of(model, "steps"):
            maps, delta = RecurrentExcitationBackprop(model, layer, negative=negative).attribute(
                clip[None],
                target=k if step is None else (step, k),
                contrastive=contrastive,
                return_convergence_delta=True,
            )
        return _summed(maps), float(delta)
    explainer = LayerExcitationBackprop(model, layer, negative=negative)
    inputs = batches(loaded.reads, clip)
    parts, deltas = [], []
    with output_of(model, "average"):
        hidden = not show_progress or len(inputs) == 1
        for batch in tqdm(inputs, method, leave=False, disable=hidden):
            maps, delta = explainer.attribute(
                batch,
                target=_unit(model, step, k),
                contrastive=contrastive,
                return_convergence_delta=True,
            )
            # The frames of an image model are examples to it, and time to us.
            parts.append(maps if loaded.reads == "clips" else maps.transpose(0, 1)[None])
            deltas.append(delta)
    return _summed(torch.cat(parts, 2)), float(torch.cat(deltas).mean())


def _unit(model: nn.Module, step: int | None, k: int) -> int | tuple[int, int]:
    """The output to explain, where that of a reference model is averaged over its steps."""
    return k if step is None or isinstance(model, (VGGLSTM, FrameCNNLSTM)) else (step, k)


def _summed(maps: Tensor) -> Tensor:
    """(1, C, T', h, w), or (1, C, h, w) of a clip of one frame, to (T', h, w)."""
    maps = maps if maps.dim() == 5 else maps.unsqueeze(2)
    return maps[0].sum(0).float().cpu()


def _one_per_frame(steps: Tensor, n_frames: int) -> Tensor:
    """Scores of a map with fewer time steps than frames, for every frame; their sum stays what it was."""
    if len(steps) == n_frames:
        return steps
    stretched = F.interpolate(steps[None, None], n_frames, mode="linear", align_corners=False)[0, 0]
    return stretched * (len(steps) / n_frames)
