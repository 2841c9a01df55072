"""What the Excitation Backprop classes share: checks, the recorded forward pass, and its restoration."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.utils.parametrizations import _SpectralNorm

from captum_ext._compat import TargetType, format_additional_forward_args, run_forward, select_targets
from captum_ext.attr._arguments import private
from captum_ext.attr._random_numbers import no_random_numbers
from captum_ext.excitation import Recording, capture, record, unwrap
from captum_ext.excitation.operand import Negative, Recurrence
from captum_ext.excitation.weights import WeightCache

__all__ = [
    "NOT_BELOW",
    "Captured",
    "ForwardPass",
    "check_inputs",
    "check_negative",
    "check_output",
    "check_ran",
    "check_running_statistics",
    "check_scores",
    "find_layer",
    "forward_pass",
    "no_running_statistics",
    "private_arguments",
    "run_on_copies",
]

NOT_BELOW = (
    "no evidence can reach the layer from where mass was normalised (the contrast layer, or the boundary of "
    "CNN and recurrent layers): choose a layer below it"
)


@dataclass(frozen=True)
class Captured:
    """A layer whose calls are collected during the forward pass."""

    layer: nn.Module
    of_input: bool = False


@dataclass(frozen=True)
class ForwardPass:
    """One recorded forward pass.

    Args:
        recording (Recording): the graph that propagates mass, from the output unit of the target.
        scores (Tensor): everything the model returned.
        inputs (tuple[Tensor, ...]): the leaves that stand for the explained inputs.
        calls (Mapping[str, list[Tensor]]): the calls of each captured layer, in order.
    """

    recording: Recording
    scores: Tensor
    inputs: tuple[Tensor, ...]
    calls: Mapping[str, list[Tensor]]

    @property
    def contrast_tensors(self) -> list[Tensor]:
        """Where the contrast is taken: the contrast layer's calls, or the inputs of the classifier."""
        return self.calls.get("contrast layer") or self.recording.classifier_inputs

    @property
    def n_examples(self) -> int:
        """N."""
        return self.inputs[0].shape[0]

    def at(self, target: TargetType) -> ForwardPass:
        """The same pass, explained at another output unit."""

        def select() -> Tensor:
            selected: Tensor = select_targets(self.scores, target)
            check_output(selected, self.n_examples)
            return selected.flatten()

        return replace(self, recording=self.recording.at(select))


@contextmanager
def forward_pass(
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    target: TargetType,
    additional_forward_args: object,
    negative: Negative,
    captured: Mapping[str, Captured],
    private_inputs: bool = False,
    recurrence: Recurrence = "value",
    weights: WeightCache | None = None,
) -> Iterator[ForwardPass]:
    """Run the model on detached copies of the inputs with gradients on, whatever the caller's grad mode."""
    check_inputs(inputs)
    model = unwrap(model)
    check_running_statistics(model)
    with torch.inference_mode(False), torch.enable_grad():
        leaves = tuple(x.detach().clone().requires_grad_() for x in inputs)
        run = run_on_copies(model, leaves, additional_forward_args)
        with ExitStack() as recordings:
            with ExitStack() as hooks, no_random_numbers(leaves[0].device, run):
                calls = {
                    name: hooks.enter_context(capture(item.layer, item.of_input))
                    for name, item in captured.items()
                }
                recording = recordings.enter_context(
                    record(model, run, leaves, negative, private_inputs, recurrence, weights)
                )
            selected = ForwardPass(recording, recording.output, leaves, calls).at(target)
            check_ran(calls, captured)
            for call in (call for found in calls.values() for call in found):
                # Mass is read at its place in the graph; its values, of which the model has a copy, can go.
                call.data = call.data.new_empty(1).expand(call.shape)
            yield selected


def run_on_copies(
    model: nn.Module, leaves: tuple[Tensor, ...], additional_forward_args: object
) -> Callable[[], Tensor]:
    """A function that runs the model, which may change what it is given in place, and returns its scores."""
    extra = private_arguments(additional_forward_args)

    def forward(*args: object) -> Tensor:
        return check_scores(model(*args))

    def run() -> Tensor:
        scores: Tensor = run_forward(forward, tuple(x.clone() for x in leaves), None, extra)
        return scores

    return run


def check_negative(negative: str) -> None:
    """Raise for anything but the two treatments of negative children."""
    if negative not in ("support", "clamp"):
        raise ValueError(f"negative must be 'support' or 'clamp', got {negative!r}")


def find_layer(model: nn.Module, layer: nn.Module | str, what: str = "layer") -> nn.Module:
    """The module that ``layer`` is or names."""
    model = unwrap(model)
    modules: dict[str, nn.Module] = dict(model.named_modules())
    if isinstance(layer, str):
        if layer not in modules:
            close = difflib.get_close_matches(layer, modules, n=3) or list(modules)[1:6]
            raise ValueError(
                f"the model has no {what} named {layer!r}; did you mean one of {', '.join(map(repr, close))}?"
            )
        return modules[layer]
    if not isinstance(layer, nn.Module):
        raise TypeError(f"{what} must be a module or its dotted name, got {type(layer).__name__}")
    if all(layer is not module for module in modules.values()):
        raise ValueError(f"the {what} ({type(layer).__name__}) is not part of the model")
    return layer


def check_scores(output: object) -> Tensor:
    """What the model returned, if it is a tensor."""
    if not isinstance(output, Tensor):
        raise TypeError(
            f"the model returned a {type(output).__name__}, not a tensor of scores; wrap it in a module that "
            "returns the scores to explain"
        )
    return output


def check_ran(calls: Mapping[str, list[Tensor]], captured: Mapping[str, Captured]) -> None:
    """Raise if a captured layer was never called."""
    for name, item in captured.items():
        if not calls[name]:
            raise ValueError(
                f"the {name} ({type(item.layer).__name__}) did not run in the model's forward pass; choose "
                "one that does"
            )


def check_inputs(inputs: Sequence[Tensor]) -> None:
    """Raise unless the inputs are finite floating point tensors with one batch axis."""
    for index, x in enumerate(inputs):
        if not isinstance(x, Tensor):
            raise TypeError(f"input {index} is a {type(x).__name__}, not a tensor")
        if not x.is_floating_point():
            raise TypeError(
                f"input {index} has dtype {x.dtype}; evidence needs floating point values (for token ids, "
                "explain the embedding layer's output)"
            )
        if x.dim() == 0 or x.shape[0] == 0:
            raise ValueError(
                f"input {index} of shape {tuple(x.shape)} holds no example (axis 0 is the batch)"
            )
        if x.shape[0] != inputs[0].shape[0]:
            raise ValueError(
                f"input {index} holds {x.shape[0]} examples (axis 0), input 0 holds {inputs[0].shape[0]}"
            )
        if not torch.isfinite(x).all():
            raise ValueError(f"input {index} contains NaN or infinity")


def check_running_statistics(model: nn.Module) -> None:
    """Refuse modules that write to themselves when they run in training mode."""
    for path, module in model.named_modules():
        _check_running_statistics(path, module)


def _check_running_statistics(path: str, module: nn.Module) -> None:
    tracks = isinstance(module, _NormBase) and module.track_running_stats
    if module.training and (tracks or isinstance(module, _SpectralNorm)):
        raise ValueError(
            f"module '{path}' ({type(module).__name__}) is in training mode, where running it changes "
            "the model and couples examples; call model.eval() first"
        )


@contextmanager
def no_running_statistics() -> Iterator[None]:
    """Refuse such modules before they run, for functions that do not show which modules they call."""
    thread = threading.get_ident()

    def check(module: nn.Module, _inputs: object) -> None:
        if threading.get_ident() == thread:
            _check_running_statistics("", module)

    handle = register_module_forward_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()


def check_output(output: Tensor, n: int, differentiable: bool = True) -> None:
    """Raise unless the target selected one finite score per example that the inputs reach."""
    if output.numel() != n:
        # Captum's own type and first words for a missing target.
        raise AssertionError(
            "Target not provided when necessary, cannot take gradient with respect to multiple outputs: the "
            f"target selects an output of shape {tuple(output.shape)} for {n} examples; for scores (N, T, K) "
            "pass target=(t, k)"
        )
    if differentiable and output.grad_fn is None:
        raise ValueError(
            "the model's output does not depend on its inputs in a way torch can follow (a part of it runs "
            "under no_grad, detaches its result, or is scripted), so no evidence can be propagated"
        )
    if not torch.isfinite(output).all():
        raise ValueError("the model's output for the target contains NaN or infinity")


def private_arguments(additional_forward_args: object) -> tuple[object, ...] | None:
    """Further arguments of the model in Captum's form, as copies that the model may write to."""
    values: tuple[object, ...] | None = format_additional_forward_args(additional_forward_args)
    return None if values is None else tuple(private(value) for value in values)
