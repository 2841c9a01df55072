"""Classes that break the contract in one way each, which the suite must reject."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from captum.log import log_usage
from conformance_models import Fault
from torch import Tensor

from captum_ext.attr import ExcitationBackprop


class Control(ExcitationBackprop):
    """Breaks nothing. The classes below override one of its steps."""

    @log_usage()
    def attribute(
        self,
        inputs,
        target=None,
        additional_forward_args=None,
        *,
        contrastive=False,
        return_convergence_delta=False,
    ):
        options = {"contrastive": contrastive, "return_convergence_delta": return_convergence_delta}
        return self.explain(inputs, target, additional_forward_args, options)

    def explain(self, inputs: Any, target: Any, extra: Any, options: dict[str, bool]) -> Any:
        """The whole call."""
        result = self.plain(*self.given(inputs, target, extra), options)
        return self.finished(self.on_maps(self.changed, result, options))

    def plain(self, inputs: Any, target: Any, extra: Any, options: dict[str, bool]) -> Any:
        """What the unbroken class returns."""
        return ExcitationBackprop.attribute.__wrapped__(self, inputs, target, extra, **options)

    def given(self, inputs: Any, target: Any, extra: Any) -> tuple[Any, Any, Any]:
        """The arguments, before the call."""
        return inputs, target, extra

    def changed(self, found: Tensor) -> Tensor:
        """Each map, after the call."""
        return found

    def finished(self, result: Any) -> Any:
        """The result, after the call."""
        return result

    def on_maps(self, function: Callable[[Tensor], Tensor], result: Any, options: dict[str, bool]) -> Any:
        if options["return_convergence_delta"]:
            maps, delta = result
            return self.on_maps(function, maps, {"return_convergence_delta": False}), delta
        return tuple(map(function, result)) if isinstance(result, tuple) else function(result)


def first(inputs: Any) -> Any:
    """The tensor, or the first of a tuple."""
    return inputs[0] if isinstance(inputs, tuple) else inputs


def do_nothing(*_: object) -> None:
    """A hook."""


# The interface


class TakesAnyKeyword(Control):
    @log_usage()
    def attribute(self, inputs, target=None, additional_forward_args=None, **options):
        known = {name: options.get(name, False) for name in ("contrastive", "return_convergence_delta")}
        return self.plain(inputs, target, additional_forward_args, known)


class TakesOptionsByPosition(Control):
    @log_usage()
    def attribute(
        self,
        inputs,
        contrastive=False,
        target=None,
        additional_forward_args=None,
        return_convergence_delta=False,
    ):
        return super().attribute(inputs, target, additional_forward_args)


class EBPlain(Control):
    """Has an acronym for a name."""


class SaysItDoesNotMultiply(Control):
    multiplies_by_inputs = False


class OffersTheFuture(Control):
    def attribute_future(self):
        return None


class HidesItsDelta(Control):
    def has_convergence_delta(self):
        return False


class GivesTheDeltaOfTheBatch(Control):
    def finished(self, result):
        if isinstance(result, tuple) and len(result) == 2 and result[1].dim() == 1:
            return result[0], result[1].mean().expand_as(result[1])
        return result


class IsNotLogged(Control):
    def attribute(
        self,
        inputs,
        target=None,
        additional_forward_args=None,
        *,
        contrastive=False,
        return_convergence_delta=False,
    ):
        return super().attribute(inputs, target, additional_forward_args)


class FoldsTimeIntoTheRows(Control):
    def changed(self, found):
        return found.transpose(1, 2).flatten(0, 1)


class GivesHugeMaps(Control):
    def changed(self, found):
        return found * 1e200


class TransposesInMemory(Control):
    def changed(self, found):
        return found.transpose(-1, -2).contiguous().transpose(-1, -2)


# Targets


class RefusesTensorsAsTargets(Control):
    def given(self, inputs, target, extra):
        if isinstance(target, Tensor):
            raise TypeError("target must be an int")
        return inputs, target, extra


class GivesAllTheFirstTarget(Control):
    def given(self, inputs, target, extra):
        return inputs, target[0] if isinstance(target, list) and target else target, extra


class IgnoresTheStep(Control):
    def given(self, inputs, target, extra):
        return inputs, (0, target[1]) if isinstance(target, tuple) and len(target) == 2 else target, extra


class TakesTheFirstStep(Control):
    def explain(self, inputs, target, extra, options):
        try:
            return self.plain(inputs, target, extra, options)
        except AssertionError:
            return self.plain(inputs, (0, target), extra, options)


class DemandsATarget(Control):
    def given(self, inputs, target, extra):
        if target is None:
            raise AssertionError("Target not provided")
        return inputs, target, extra


class IgnoresTheTarget(Control):
    def given(self, inputs, target, extra):
        return inputs, 0, extra


class ClampsTheTarget(Control):
    def given(self, inputs, target, extra):
        return inputs, min(target, 4) if isinstance(target, int) else target, extra


# Batches


class NormalisesOverTheBatch(Control):
    def changed(self, found):
        return found / found.abs().max()


class WeighsByPosition(Control):
    def changed(self, found):
        return found * torch.arange(1, len(found) + 1).view(-1, *[1] * (found.dim() - 1))


class MixesUpFurtherArguments(Control):
    def given(self, inputs, target, extra):
        return inputs, target, extra.flip(0) if isinstance(extra, Tensor) else extra


class DropsFurtherArguments(Control):
    def given(self, inputs, target, extra):
        return inputs, target, None


# Results


class GivesATensorForATuple(Control):
    def finished(self, result):
        return result[0] if isinstance(result, tuple) and len(result) == 1 else result


class GivesATupleForATensor(Control):
    def finished(self, result):
        return (result,) if isinstance(result, Tensor) else result


class ForgetsTheSecondInput(Control):
    def finished(self, result):
        both = isinstance(result, tuple) and len(result) == 2
        return (result[0], torch.zeros_like(result[1])) if both else result


class SumsChannels(Control):
    def changed(self, found):
        return found.sum(1, keepdim=True)


class KeepsTheGraph(Control):
    def changed(self, found):
        return found * torch.ones((), dtype=found.dtype, requires_grad=True)


class GivesFloat32(Control):
    def changed(self, found):
        return found.float()


class WritesIntoItsLastMap(Control):
    def changed(self, found):
        kept = self.__dict__.setdefault("kept", {}).setdefault((found.shape, found.dtype), found)
        return kept.copy_(found)


class AddsNoise(Control):
    def changed(self, found):
        with torch.random.fork_rng():
            return found + 1e-9 * torch.rand_like(found)


class ReadsMemoryAsItLies(Control):
    def given(self, inputs, target, extra):
        x = first(inputs)
        return (inputs if x.is_contiguous() else x.flip(-1).contiguous()), target, extra


class RunsTheModelOnTheCallersInput(Control):
    def given(self, inputs, target, extra):
        if isinstance(inputs, Tensor) and extra is None:
            with torch.no_grad():
                self.model(inputs)
        return inputs, target, extra


# State


class DoesMischief(Control):
    """Does something to the model or the process before each call."""

    def given(self, inputs, target, extra):
        self.mischief(first(inputs))
        return inputs, target, extra

    def mischief(self, x: Tensor) -> None:
        raise NotImplementedError


class LeavesAHook(DoesMischief):
    def mischief(self, x):
        self.model.features.register_forward_hook(do_nothing)


class LeavesAHookOnAWeight(DoesMischief):
    def mischief(self, x):
        self.model.features[4].weight.register_hook(do_nothing)


class LeavesAnAttribute(DoesMischief):
    def mischief(self, x):
        self.model.features.activations = []


class LeavesTrainingMode(DoesMischief):
    def mischief(self, x):
        self.model.pool.train() if hasattr(self.model, "pool") else self.model.features[3].train()


class FreezesTheModel(DoesMischief):
    def mischief(self, x):
        self.model.requires_grad_(False)


class TouchesAWeight(DoesMischief):
    def mischief(self, x):
        with torch.no_grad():
            self.model.classifier.weight.neg_().neg_()


class UpdatesABuffer(DoesMischief):
    def mischief(self, x):
        self.model.features[1].running_mean.mul_(0.9)


class ClearsGradients(DoesMischief):
    def mischief(self, x):
        self.model.zero_grad()


class WritesGradients(DoesMischief):
    def mischief(self, x):
        with torch.inference_mode(False), torch.enable_grad():
            self.model(x.detach().clone()).sum().backward()


class WritesToTheInput(DoesMischief):
    def mischief(self, x):
        with torch.no_grad():
            x.mul_(0.999)


class RequiresGradOfTheInput(DoesMischief):
    def mischief(self, x):
        x.requires_grad_()


class ClearsTheInputsGradient(DoesMischief):
    def mischief(self, x):
        if x.is_leaf:
            x.grad = None


class SetsTheInputsFlagForAWhile(DoesMischief):
    def mischief(self, x):
        if x.is_leaf and x.is_floating_point():
            before = x.requires_grad
            x.requires_grad_().requires_grad_(before)


class DrawsATorchNumber(DoesMischief):
    def mischief(self, x):
        torch.rand(1)


class DrawsANumpyNumber(DoesMischief):
    def mischief(self, x):
        np.random.rand()  # noqa: NPY002


class DrawsAPythonNumber(DoesMischief):
    def mischief(self, x):
        random.random()


class LeavesGradientsOff(DoesMischief):
    def mischief(self, x):
        torch.set_grad_enabled(False)


class LeavesCudnnOff(DoesMischief):
    def mischief(self, x):
        torch.backends.cudnn.enabled = False


class ResetsCudnnToItsDefault(DoesMischief):
    def mischief(self, x):
        torch.backends.cudnn.enabled = True


class LeavesADefaultDtype(DoesMischief):
    def mischief(self, x):
        torch.set_default_dtype(torch.float64)


class LeavesAMode(DoesMischief):
    def mischief(self, x):
        torch.overrides.BaseTorchFunctionMode().__enter__()


class LeavesAutocastOn(DoesMischief):
    def mischief(self, x):
        torch.set_autocast_enabled("cpu", True)


class TakesAnotherThread(DoesMischief):
    def mischief(self, x):
        torch.set_num_threads(torch.get_num_threads() + 1)


class LeavesALambda(DoesMischief):
    def mischief(self, x):
        self.model.features.register_forward_hook(lambda *_: None)


class CleansUpOnSuccessOnly(Control):
    def explain(self, inputs, target, extra, options):
        handle = self.model.features.register_forward_hook(do_nothing)
        result = self.plain(inputs, target, extra, options)
        handle.remove()
        return result


class CleansUpAfterExceptionsOnly(Control):
    def explain(self, inputs, target, extra, options):
        handle = self.model.features.register_forward_hook(do_nothing)
        try:
            result = self.plain(inputs, target, extra, options)
        except Exception:
            handle.remove()
            raise
        handle.remove()
        return result


class SwallowsInterrupts(Control):
    def explain(self, inputs, target, extra, options):
        try:
            return self.plain(inputs, target, extra, options)
        except KeyboardInterrupt:
            return torch.zeros_like(inputs)


class ComputesInTheCallersMode(Control):
    def changed(self, found):
        return found * 1


class KeepsActivations(Control):
    def explain(self, inputs, target, extra, options):
        fault = next(module for module in self.model.modules() if isinstance(module, Fault))
        handle = fault.register_forward_pre_hook(lambda _, args: setattr(self, "seen", args))
        try:
            return self.plain(inputs, target, extra, options)
        finally:
            handle.remove()


# Errors


class ReplacesNaN(Control):
    def given(self, inputs, target, extra):
        return torch.nan_to_num(inputs) if isinstance(inputs, Tensor) else inputs, target, extra


class GivesNothingForNothing(Control):
    def explain(self, inputs, target, extra, options):
        empty = isinstance(inputs, Tensor) and len(inputs) == 0
        return inputs.clone() if empty else super().explain(inputs, target, extra, options)


class ConvertsIntegers(Control):
    def given(self, inputs, target, extra):
        return inputs.double() if isinstance(inputs, Tensor) else inputs, target, extra


class TakesLists(Control):
    def given(self, inputs, target, extra):
        return tuple(inputs) if isinstance(inputs, list) else inputs, target, extra
