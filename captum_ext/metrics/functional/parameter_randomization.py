"""Parameter randomisation: does a map depend on what the model has learned?"""

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from captum_ext.metrics.functional.clips import check_clips
from captum_ext.metrics.functional.explanations import ExplanationFunction, explain
from captum_ext.metrics.functional.map_correlation import Similarity, check_similarity, map_correlation
from captum_ext.metrics.functional.model_scores import refuse_training_mode
from captum_ext.metrics.functional.random_state import own_random_state
from captum_ext.metrics.functional.targets import Target, target_classes

RandomizationMode = Literal["cascading", "independent"]


@dataclass(frozen=True, eq=False)
class RandomizationCurve:
    """Result of :func:`parameter_randomization`.

    Attributes:
        similarities (Tensor): Similarity of each clip's map to the original once the layer is random,
            -1..1, float64, (N, L).
        layers (tuple of str): The layers in the order in which they became random, L names.
    """

    similarities: Tensor
    layers: tuple[str, ...]


@dataclass(frozen=True)
class _Layer:
    """The parameters that become random together: modules, each with the names of its own."""

    name: str
    parts: tuple[tuple[nn.Module, tuple[str, ...]], ...]


def parameter_randomization(
    model: nn.Module,
    explanation_func: ExplanationFunction,
    clips: Tensor,
    target: Target = None,
    *,
    layers: Sequence[str] | None = None,
    mode: RandomizationMode = "cascading",
    similarity: Similarity = "spearman",
    absolute: bool = False,
    seed: int = 0,
) -> RandomizationCurve:
    """Similarity of maps to the original as the model's layers are made random; low is better.

    A map that stays the same shows the clip and the architecture, not what the model has learned. From the
    top, one layer after another is initialised anew, and stays so (``"cascading"``) or gets its values back
    before the next (``"independent"``).

    A layer is initialised by its own ``reset_parameters``. Parameters that this does not change, or of
    modules that have no such method, are drawn from a normal distribution of mean 0 with the root mean
    square of their values, so that scalars and constants change too; zeros stay zeros. Frozen parameters are
    treated like others. A parameter that several modules share belongs to the topmost of them.

    The model is changed in place, so that ``explanation_func`` needs nothing but the model; afterwards, and
    after any exception, its parameters and buffers are as before, bit for bit. It takes a copy of them in
    memory, and L + 1 explanations per clip. Random numbers come from the seed alone. A graph recorded
    through the model before the call can no longer be differentiated.

    Args:
        model (nn.Module): The model that ``explanation_func`` explains, in evaluation mode.
        explanation_func (Callable): Takes clips and target (N,), returns maps (N, ...).
        clips (Tensor): The model's input.
        target (int, sequence of int or Tensor, optional): The class explained.
        layers (sequence of str, optional): Names of modules, in the order in which to make them random; a
            block counts as one layer. Default: every module with parameters of its own, the last in
            ``model.named_modules()`` first (the model's own name is ``""``).
        mode (str): ``"cascading"`` or ``"independent"``.
        similarity (str): As for :func:`~captum_ext.metrics.functional.map_correlation`.
        absolute (bool): As there.
        seed (int): Draws the parameters.

    Shape:
        - clips: (N, C, T, H, W)
        - result: ``similarities`` of shape (N, L)

    Returns:
        RandomizationCurve: Similarities and the names of the layers. Random maps have 0 in expectation.

    Raises:
        TypeError: If the model is not a module, clips or maps are not floating point, or the target is not
            an integer.
        ValueError: If shapes do not match, something is empty or not finite, an option or a layer is
            unknown, the model has no parameters or is in training mode.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(60, 3)).eval()
        >>> def brightness(clips, target):  # never looks at the model
        ...     return clips.sum(1)
        >>> clips = torch.rand(2, 1, 4, 3, 5, generator=torch.Generator().manual_seed(0))
        >>> curve = parameter_randomization(model, brightness, clips, target=0)
        >>> curve.layers, curve.similarities
        (('1',), tensor([[1.], [1.]], dtype=torch.float64))

    References:
        Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018; Sixt et al., When Explanations Lie,
        ICML 2020, for Excitation Backprop.
    """
    check_randomization_options(mode, similarity)
    stages = _stages(model, layers)
    refuse_training_mode(model)
    check_clips(clips)
    classes = target_classes(target, len(clips), clips.device)
    original = explain(explanation_func, clips, classes)
    similarities = []
    with _restored(model) as restore:
        for index, stage in enumerate(stages):
            if mode == "independent":
                restore()
            _randomize(stage, seed + index)
            maps = explain(explanation_func, clips, classes)
            similarities.append(map_correlation(original, maps, similarity, absolute))
    return RandomizationCurve(torch.stack(similarities, dim=1), tuple(stage.name for stage in stages))


def randomized_layers(model: nn.Module, layers: Sequence[str] | None = None) -> tuple[str, ...]:
    """Names of the layers that :func:`parameter_randomization` makes random, in order.

    Args:
        model (nn.Module): The model.
        layers (sequence of str, optional): As there.

    Returns:
        tuple of str: L names.

    Raises:
        TypeError: If the model is not a module.
        ValueError: If a layer is unknown or has no parameters of its own, or the model has none.

    Example:
        >>> randomized_layers(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)))
        ('2', '0')
    """
    return tuple(stage.name for stage in _stages(model, layers))


def check_randomization_options(mode: str, similarity: str) -> None:
    """Refuse unknown options."""
    if mode not in ("cascading", "independent"):
        raise ValueError(f"mode must be 'cascading' or 'independent', got {mode!r}.")
    check_similarity(similarity)


def _stages(model: nn.Module, layers: Sequence[str] | None) -> list[_Layer]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}.")
    modules = dict(model.named_modules())
    for name in layers or ():
        if name not in modules:
            close = difflib.get_close_matches(name, modules, n=3) or list(modules)[1:4]
            raise ValueError(f"the model has no layer {name!r}; did you mean one of {close}?")
    names = list(reversed(modules)) if layers is None else layers
    taken: set[int] = set()
    stages = []
    for name in names:
        members = [modules[name]] if layers is None else list(reversed(list(modules[name].modules())))
        parts = tuple(part for part in (_part(member, taken) for member in members) if part[1])
        if parts:
            stages.append(_Layer(name, parts))
        elif layers is not None:
            raise ValueError(f"layer {name!r} has no parameters that an earlier layer does not have.")
    if not stages:
        raise ValueError("the model has no floating-point parameters to make random.")
    return stages


def _part(module: nn.Module, taken: set[int]) -> tuple[nn.Module, tuple[str, ...]]:
    """The module's own parameters that no other has taken; taken from now on."""
    own = {
        name: parameter
        for name, parameter in module.named_parameters(recurse=False)
        if id(parameter) not in taken and parameter.is_floating_point() and parameter.numel() > 0
    }
    taken.update(map(id, own.values()))
    return module, tuple(own)


def _randomize(layer: _Layer, seed: int) -> None:
    with torch.inference_mode(False), torch.no_grad(), own_random_state(seed):
        for module, names in layer.parts:
            before = [getattr(module, name).clone() for name in names]
            reset = getattr(module, "reset_parameters", None)
            # Not if it also has parameters that belong to a layer further up.
            if callable(reset) and len(names) == len(list(module.parameters(recurse=False))):
                reset()
            for name, values in zip(names, before, strict=True):
                parameter = getattr(module, name)
                if torch.equal(parameter, values):
                    parameter.normal_(0, float(values.double().square().mean().sqrt()))


@contextmanager
def _restored(model: nn.Module) -> Iterator[Callable[[], None]]:
    """Put parameters and buffers back, whatever happens; yields a function that does so earlier."""
    tensors = [*model.parameters(), *model.buffers()]
    # Nothing can write into a tensor whose elements share memory (a buffer made by expand).
    kept = [(tensor, tensor.detach().clone()) for tensor in tensors if 0 not in tensor.stride()]
    bound = [(module, dict(module._parameters), dict(module._buffers)) for module in model.modules()]

    def restore() -> None:
        for module, parameters, buffers in bound:
            module._parameters.update(parameters)
            module._buffers.update(buffers)
        with torch.inference_mode(False), torch.no_grad():
            for tensor, values in kept:
                tensor.copy_(values)

    try:
        yield restore
    finally:
        restore()
