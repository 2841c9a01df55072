"""Running the user's model as it is, and reading the target's score off its output."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from captum_ext.metrics.functional.random_state import own_random_state

ForwardFunction = Callable[[Tensor], Tensor]
Score = Literal["probability", "logit"]


@contextmanager
def evaluation(forward_func: ForwardFunction) -> Iterator[None]:
    """Run a model without gradients; refuse modules in training mode and models that draw random numbers."""
    module = getattr(forward_func, "__self__", forward_func)
    with ExitStack() as stack:
        if isinstance(module, nn.Module):
            refuse_training_mode(module)
        else:
            # A function does not show which modules it calls, so each is looked at before it runs.
            stack.enter_context(_watching_modules())
        drew = stack.enter_context(own_random_state(0))
        stack.enter_context(torch.no_grad())
        yield
        if drew():
            raise ValueError(
                "the model draws random numbers in its forward pass (dropout called as a function?), so its "
                "scores would be random; switch that off."
            )


def refuse_training_mode(model: nn.Module) -> None:
    """Raise if the model or a module in it is in training mode."""
    for path, module in model.named_modules():
        _refuse_training_mode(module, path)


def target_scores(output: Tensor, target: Tensor | None, score: Score, n_clips: int) -> Tensor:
    """The score of the target, (N,) float64, from scores (N, K) or (N,)."""
    if not isinstance(output, Tensor) or not output.is_floating_point():
        what = str(output.dtype) if isinstance(output, Tensor) else type(output).__name__
        raise TypeError(f"forward_func must return a floating-point tensor of scores, got {what}.")
    if output.dim() not in (1, 2) or len(output) != n_clips or output.numel() == 0:
        raise ValueError(
            f"forward_func must return scores (N, K) or (N,) for N = {n_clips} clips, got "
            f"{tuple(output.shape)}; for scores of every time step, select one in a function of your own."
        )
    if not bool(torch.isfinite(output).all()):
        raise ValueError("forward_func returned NaN or infinite scores.")
    if output.dim() == 1:
        return _only_score(output, target, score)
    if target is None:
        raise ValueError(f"target is missing: forward_func returned scores {tuple(output.shape)}, (N, K).")
    n_classes = output.shape[1]
    if int(target.max()) >= n_classes:
        raise ValueError(f"target must lie below K = {n_classes}, got {int(target.max())}.")
    scores = output.double()
    if score == "probability":
        if n_classes == 1:
            raise ValueError(
                f"forward_func returned scores {tuple(output.shape)}: a softmax over one class is always 1; "
                "pass score='logit' to take the score as it comes."
            )
        scores = scores.softmax(dim=1)
    return scores.gather(1, target[:, None])[:, 0]


def check_score(score: str) -> None:
    """Refuse anything but the two kinds of score."""
    if score not in ("probability", "logit"):
        raise ValueError(f"score must be 'probability' or 'logit', got {score!r}.")


def _only_score(output: Tensor, target: Tensor | None, score: Score) -> Tensor:
    if target is not None:
        raise ValueError("forward_func returned one score per clip, (N,): leave target out.")
    if score == "probability":
        raise ValueError(
            "forward_func returned one score per clip, (N,), which no softmax can make a probability: "
            "pass score='logit' to take it as it comes."
        )
    return output.double()


def _refuse_training_mode(module: nn.Module, path: str) -> None:
    if module.training:
        where = f"module {path!r} ({type(module).__name__})" if path else f"a {type(module).__name__}"
        raise ValueError(
            f"{where} is in training mode, where scores may be random and depend on the other clips of the "
            "batch; call eval() on the model first."
        )


@contextmanager
def _watching_modules() -> Iterator[None]:
    thread = threading.get_ident()

    def check(module: nn.Module, _inputs: object) -> None:
        # Other threads may train; and compiled code is not to be compiled anew for the sake of a check.
        if not torch.compiler.is_compiling() and threading.get_ident() == thread:
            _refuse_training_mode(module, "")

    handle = register_module_forward_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()
