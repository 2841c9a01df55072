"""From what a user names as the attribution to an object that explains the module at hand."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import captum.attr
from torch import nn

import captum_ext.attr

__all__ = ["AttributionLike", "build", "find_class", "function_of", "name_of"]

AttributionLike: TypeAlias = str | type[Any] | Callable[[nn.Module], Any] | captum.attr.Attribution


def find_class(name: str) -> type[Any]:
    """Find a class of ``captum_ext.attr`` or ``captum.attr``.

    Args:
        name (str): its name.

    Returns:
        type: the class.

    Raises:
        ValueError: neither has one of that name; close ones are named.
    """
    for package in (captum_ext.attr, captum.attr):
        found = getattr(package, name, None)
        if isinstance(found, type) and hasattr(found, "attribute"):
            return found
    names = {*captum_ext.attr.__all__, *captum.attr.__all__}
    close = difflib.get_close_matches(name, sorted(names), n=3) or ["ExcitationBackprop", "VideoGradCam"]
    raise ValueError(
        f"neither captum_ext.attr nor captum.attr has an attribution {name!r}; did you mean one of "
        f"{', '.join(map(repr, close))}?"
    )


def build(attribution: AttributionLike, module: nn.Module, init_kwargs: Mapping[str, Any]) -> Any:
    """Make the object that explains ``module``.

    Args:
        attribution (str, type, callable or Attribution): a class or its name, called with the module and
            ``init_kwargs``; a function of the module; or an object, which must explain this very module.
        module (nn.Module): what is being trained.
        init_kwargs (mapping): for a class; a ``layer`` given to one of Captum's by its dotted name is looked
            up.

    Returns:
        Any: has a method ``attribute``.

    Raises:
        TypeError: the function returns something without such a method, or with one that takes no target;
            or the class is made of another attribution.
        ValueError: the object explains another module.
    """
    if isinstance(attribution, str):
        attribution = find_class(attribution)
    if isinstance(attribution, type):
        if issubclass(attribution, captum.attr.NoiseTunnel):
            raise TypeError(
                f"{attribution.__name__} is made of another attribution; pass a function that does so: "
                f"attribution=lambda module: {attribution.__name__}(Saliency(module))"
            )
        kwargs = dict(init_kwargs)
        of_captum = attribution.__module__.startswith("captum.")
        if of_captum and isinstance(kwargs.get("layer"), str):  # ours look it up themselves
            kwargs["layer"] = module.get_submodule(kwargs["layer"])
        built = attribution(module, **kwargs)
    elif hasattr(attribution, "attribute"):
        _check_same(attribution, module)
        built = attribution
    else:
        built = attribution(module)
    if not callable(getattr(built, "attribute", None)):
        raise TypeError(
            f"attribution must give an object with a method 'attribute', such as "
            f"VideoGradCam(module, 'features'), not a {type(built).__name__}"
        )
    parameters = inspect.signature(built.attribute).parameters.values()
    if not any(p.name == "target" or p.kind is p.VAR_KEYWORD for p in parameters):
        raise TypeError(f"attribute of {type(built).__name__} takes no target, so it explains no class")
    return built


def function_of(attribution: object, module: nn.Module) -> Callable[..., Any]:
    """What an attribution explains: the function that it was made for, else the module.

    Args:
        attribution (Any): one of Captum's or ours, or any object.
        module (nn.Module): what is being trained.

    Returns:
        callable: from inputs to scores.
    """
    function: Callable[..., Any] = getattr(attribution, "forward_func", module)
    return function


def name_of(attribution: AttributionLike) -> str:
    """What to call an attribution in messages.

    Args:
        attribution (str, type, callable or Attribution): as in :func:`build`.

    Returns:
        str: the name of the class or function.
    """
    if isinstance(attribution, str):
        return attribution
    return str(getattr(attribution, "__name__", type(attribution).__name__))


def _check_same(attribution: object, module: nn.Module) -> None:
    function = function_of(attribution, module)
    owner = getattr(function, "__self__", function)
    owner = getattr(owner, "_orig_mod", owner)  # a compiled module stands for the one that was compiled
    if isinstance(owner, nn.Module) and all(owner is not part for part in module.modules()):
        raise ValueError(
            f"this {type(attribution).__name__} explains a {type(owner).__name__} that is no part of the "
            f"module being trained, perhaps a copy of it; pass a function that makes the attribution: "
            f"attribution=lambda module: {type(attribution).__name__}(module, ...)"
        )
