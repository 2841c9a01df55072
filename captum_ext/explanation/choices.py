"""What to explain when the user says little: layer, class and time step."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from torch import Tensor

__all__ = ["choose_layer", "choose_step", "choose_target"]

# Pixels of a map's short side, best first. 13 is what a stride of 16 leaves of 224 pixels without padding
# (AlexNet, SqueezeNet); 7 is the last map of most networks, and coarse.
_ENOUGH = (13, 7)


def choose_layer(model_name: str, layers: Mapping[str, tuple[int, ...]], layer: str | None) -> str:
    """The layer asked for, if it has a map; else the last block whose map is fine enough."""
    if not layers:
        raise ValueError(
            f"no layer of {model_name} below its classifier has a map over the frame: (N, C, h, w), or "
            "(N, C, T, h, w) for clips"
        )
    if layer is not None:
        if layer in layers:
            return layer
        close = difflib.get_close_matches(layer, layers, n=3, cutoff=0.3) or list(layers)[-3:]
        raise ValueError(
            f"{model_name} has no layer {layer!r} with a map over the frame; did you mean "
            f"{', '.join(close)}? (--layer list shows all)"
        )
    sides = {name: min(shape[-2:]) for name, shape in layers.items()}
    enough = next((side for side in _ENOUGH if side <= max(sides.values())), max(sides.values()))
    side = min(side for side in sides.values() if side >= enough)
    names = [name for name in layers if sides[name] == side]
    # Blocks rather than what is inside of them: a branch of a block has only a part of the evidence.
    depth = min(name.count(".") for name in names)
    return [name for name in names if name.count(".") == depth][-1]


def choose_target(target: str, probabilities: Tensor, labels: Sequence[str]) -> int:
    """The class that a label, a number or "auto" means."""
    n_classes = len(probabilities)
    if labels and len(labels) != n_classes:
        raise ValueError(f"there are {len(labels)} labels, but the model has {n_classes} scores")
    if target == "auto":
        return int(probabilities.argmax())
    known = [label.lower() for label in labels]
    matches = [k for k, label in enumerate(known) if label == target.lower()]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ValueError(
            f"{target!r} is the name of the classes {', '.join(map(str, matches))}; give a number"
        )
    try:
        k = int(target)
    except ValueError:
        if not labels:
            raise ValueError(
                f"the classes have no names, so {target!r} cannot be found: give a number from 0 to "
                f"{n_classes - 1}, auto, or --labels"
            ) from None
        close = difflib.get_close_matches(target.lower(), known, n=3)
        hint = ", ".join(labels[known.index(name)] for name in close or known[:5])
        raise ValueError(
            f"there is no class {target!r}; {'did you mean' if close else 'some are'}: {hint}"
        ) from None
    if not 0 <= k < n_classes:
        raise ValueError(f"class {k} is out of range: the model has the classes 0 to {n_classes - 1}")
    return k


def choose_step(step: int | None, n_steps: int | None) -> int | None:
    """The time step to explain, counted from the start; None for a model without steps."""
    if n_steps is None:
        if step is not None:
            raise ValueError("the model gives one score for the whole clip, so it has no time step to choose")
        return None
    step = -1 if step is None else step
    if not -n_steps <= step < n_steps:
        raise ValueError(
            f"step {step} is out of range: the model gives scores at the steps 0 to {n_steps - 1}"
        )
    return step % n_steps
