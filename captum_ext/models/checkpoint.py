"""Trained models as files that say what they hold: architecture, labels, preprocessing and weights."""

from __future__ import annotations

import difflib
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torchvision import models as torchvision_models

from captum_ext.data import ClipTransform
from captum_ext.data._atomic import replacing
from captum_ext.models.cnn_lstm_captioner import CNNLSTMCaptioner
from captum_ext.models.frame_cnn_lstm import FrameCNN, FrameCNNLSTM
from captum_ext.models.vgg_lstm import VGGLSTM

if TYPE_CHECKING:
    import os

__all__ = [
    "REFERENCE_MODELS",
    "Checkpoint",
    "build_model",
    "load_checkpoint",
    "load_weights",
    "model_names",
    "read_checkpoint",
    "read_state_dict",
    "save_checkpoint",
]

REFERENCE_MODELS: Mapping[str, type[nn.Module]] = {
    model.__name__: model for model in (VGGLSTM, FrameCNNLSTM, FrameCNN)
}
"""The papers' classifiers, by class name."""

_CAPTIONERS: Mapping[str, type[nn.Module]] = {"CNNLSTMCaptioner": CNNLSTMCaptioner}

_FORMAT = "captum_ext.checkpoint.v1"

# What Lightning modules call their network, and what DataParallel calls the model it wraps.
_PREFIXES = ("model.", "module.")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What :func:`load_checkpoint` returns.

    Attributes:
        model (nn.Module): with its weights, in evaluation mode, on the CPU.
        name (str): a reference model's class name or torchvision's name.
        labels (tuple of str): the classes in the order of the scores; empty if they were not stored.
        transform (ClipTransform or None): from a clip's frames to the model's input, if it was stored.
    """

    model: nn.Module
    name: str
    labels: tuple[str, ...]
    transform: ClipTransform | None


def save_checkpoint(
    path: str | os.PathLike[str],
    model: nn.Module,
    *,
    arguments: Mapping[str, Any],
    name: str | None = None,
    labels: Sequence[str] = (),
    transform: ClipTransform | None = None,
) -> None:
    """Write a model with everything that is needed to use it, for ``captum-ext explain --checkpoint``.

    The file appears at ``path`` only when it is complete, and holds tensors and plain values only, so that it
    can be read with ``torch.load(weights_only=True)``.

    Args:
        path (str or os.PathLike): an existing file is replaced.
        model (nn.Module): a reference model of this package, or a model that torchvision builds.
        arguments (mapping): the keyword arguments the model was constructed with. ``weights`` is left out:
            the file has the weights.
        name (str, optional): torchvision's name of the architecture, such as ``"r3d_18"``. Default: the
            model's class name, for the reference models.
        labels (sequence of str, optional): the classes in the order of the scores. Default: none
        transform (ClipTransform, optional): from a clip's frames to the model's input. Default: None

    Raises:
        ValueError: an unknown name, or arguments that do not construct this model.
        TypeError: an argument that is no plain value.
        FileNotFoundError: if the folder does not exist.

    Example:
        >>> import tempfile
        >>> from captum_ext.data import IMAGENET
        >>> model = FrameCNN(num_classes=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_checkpoint(
        ...         f"{folder}/shapes.pt",
        ...         model,
        ...         arguments={"num_classes": 2},
        ...         labels=["disc", "square"],
        ...         transform=ClipTransform(64, *IMAGENET),
        ...     )
        ...     checkpoint = load_checkpoint(f"{folder}/shapes.pt")
        >>> checkpoint.name, checkpoint.labels, checkpoint.transform.size
        ('FrameCNN', ('disc', 'square'), 64)
    """
    name = type(model).__name__ if name is None else name
    kept = {key: value for key, value in arguments.items() if key != "weights"}
    for key, value in kept.items():
        if not isinstance(value, (str, int, float, bool, type(None))):
            raise TypeError(
                f"the argument {key}={value!r} is a {type(value).__name__}, which cannot be stored; "
                "arguments must be text, numbers, booleans or None"
            )
    # On the meta device the twin costs neither memory nor random numbers.
    with torch.device("meta"):
        twin = build_model(name, **kept)
    state = model.state_dict()
    difference = _difference(twin.state_dict(), state)
    if difference:
        raise ValueError(f"arguments={kept} do not construct the model that is to be saved: {difference}")
    content = {
        "format": _FORMAT,
        "model": name,
        "arguments": kept,
        "labels": [str(label) for label in labels],
        "transform": None if transform is None else asdict(transform),
        "state_dict": state,
    }
    with replacing(Path(path)) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a file of :func:`save_checkpoint` and construct its model.

    Args:
        path (str or os.PathLike): the file.

    Returns:
        Checkpoint: the model in evaluation mode on the CPU, its name, labels and transform.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file cannot be read safely, is not of this format, or does not fit its model.

    Example: see :func:`save_checkpoint`.
    """
    content = read_checkpoint(path)
    if content.get("format") != _FORMAT:
        raise ValueError(f"{path} was not written by captum_ext.models.save_checkpoint")
    model = build_model(content["model"], **content["arguments"])
    load_weights(model, content["state_dict"], str(path))
    transform = content["transform"]
    return Checkpoint(
        model.eval(),
        content["model"],
        tuple(content["labels"]),
        None if transform is None else ClipTransform(**transform),
    )


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of any checkpoint file, tensors on the CPU, without running code from it.

    Args:
        path (str or os.PathLike): the file.

    Returns:
        dict: a state dict, or a dictionary that has one.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no checkpoint, or holds Python objects that only unsafe loading would read.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no checkpoint at {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is no checkpoint, or holds Python objects besides tensors, which are not loaded because "
            "they could run code; save the state dict alone: torch.save(model.state_dict(), FILE)"
        ) from error
    except (RuntimeError, EOFError, KeyError, IndexError) as error:
        raise ValueError(f"{path} is no checkpoint of torch.save, or it is truncated") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a state dict")
    return content


def read_state_dict(content: Mapping[str, Any], path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The state dict in the content of a checkpoint file.

    Understood are a state dict itself and one under the key ``"state_dict"`` (Lightning's and this package's
    checkpoints). If keys begin with ``"model."`` or ``"module."``, the rest of them is dropped (losses and
    metrics of a Lightning module) and the prefix removed.

    Args:
        content (mapping): from :func:`read_checkpoint`.
        path (str or os.PathLike): the file, for messages.

    Returns:
        dict of str to Tensor: names as in the model.

    Raises:
        ValueError: if there is none.
    """
    state = content.get("state_dict", content)
    tensors = isinstance(state, Mapping) and all(isinstance(value, Tensor) for value in state.values())
    if not tensors or not state:
        keys = ", ".join(map(repr, list(content)[:5]))
        raise ValueError(
            f"{path} holds no state dict: understood are a state dict, and one under the key 'state_dict' "
            f"as Lightning writes it; the file has {keys or 'no keys'}"
        )
    for prefix in _PREFIXES:
        inner = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        state = inner or state
    return dict(state)


def load_weights(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """``model.load_state_dict`` with an error of one line.

    Args:
        model (nn.Module): receives the weights.
        state (mapping of str to Tensor): a complete state dict.
        source (str): where it comes from, for the message.

    Raises:
        ValueError: if names or shapes differ.
    """
    difference = _difference(model.state_dict(), state)
    if difference:
        raise ValueError(f"{source} does not fit {type(model).__name__}: {difference}")
    model.load_state_dict(state)


def build_model(name: str, **arguments: Any) -> nn.Module:
    """Construct a reference model or one of torchvision's classifiers.

    Args:
        name (str): one of :func:`model_names`, or ``"CNNLSTMCaptioner"``, in any case.
        **arguments (Any): of the constructor.

    Returns:
        nn.Module: the model, as constructed.

    Raises:
        ValueError: an unknown name, or arguments that the model does not have.

    Example:
        >>> type(build_model("squeezenet1_1", num_classes=3)).__name__
        'SqueezeNet'
    """
    known = {known.lower(): known for known in [*model_names(), *_CAPTIONERS]}
    if name.lower() not in known:
        if name.lower() in torchvision_models.list_models():
            raise ValueError(
                f"{name} is no classifier: of torchvision, captum-ext knows the image and video classifiers"
            )
        close = difflib.get_close_matches(name.lower(), known, n=3)
        hint = f"did you mean {', '.join(known[key] for key in close)}?" if close else ""
        raise ValueError(
            f"there is no model named {name!r}; {hint or 'captum-ext models lists the names'}"
            + (" (your own models: package.module:attr or path/to/file.py:attr)" if not close else "")
        )
    name = known[name.lower()]
    try:
        own = {**REFERENCE_MODELS, **_CAPTIONERS}
        if name in own:
            return own[name](**arguments)
        return _build_torchvision(name, arguments)
    except TypeError as error:
        raise ValueError(f"{name} cannot be constructed from {arguments}: {error}") from error


def model_names() -> list[str]:
    """The names of the classifiers that :func:`build_model` knows, the reference models first.

    Returns:
        list of str: class names, then torchvision's names.

    Example:
        >>> model_names()[:4]
        ['VGGLSTM', 'FrameCNNLSTM', 'FrameCNN', 'alexnet']
    """
    classifiers = (torchvision_models, torchvision_models.video)
    return [*REFERENCE_MODELS, *(n for module in classifiers for n in torchvision_models.list_models(module))]


def _build_torchvision(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    # These two warn unless they are told that slow initialisation is expected.
    extra = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    model: nn.Module = torchvision_models.get_model(name, **extra, **arguments)
    return model


def _difference(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Which names and shapes differ, in words; empty if none does."""
    parts = []
    for what, names in (
        ("missing", [name for name in expected if name not in found]),
        ("unexpected", [name for name in found if name not in expected]),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            parts.append(f"{what} {', '.join(names[:3])}{more}")
    for name, tensor in expected.items():
        if name in found and tuple(found[name].shape) != tuple(tensor.shape):
            parts.append(f"{name} has the shape {tuple(found[name].shape)}, not {tuple(tensor.shape)}")
            break
    return "; ".join(parts)
