"""From what a user types to a model that is ready to be explained."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision import models as torchvision_models

from captum_ext.data import IMAGENET, KINETICS, ClipTransform
from captum_ext.models.checkpoint import (
    REFERENCE_MODELS,
    build_model,
    load_weights,
    model_names,
    read_checkpoint,
    read_state_dict,
)
from captum_ext.models.relu_lstm import ReLULSTM

__all__ = ["LoadedModel", "Reads", "is_recurrent", "load_model", "reads_by_name", "weight_names"]

Reads = Literal["frames", "clips"]
"""What a model takes: single frames (N, C, H, W), or clips (N, C, T, H, W)."""

_DEFAULT_CLASSES = 10  # of a reference model without weights and labels


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model with what is needed to feed it and to read its scores.

    Attributes:
        model (nn.Module): in evaluation mode.
        name (str): for people.
        reads (str): ``"frames"`` or ``"clips"``.
        transform (ClipTransform): from a clip's frames to the model's input.
        labels (tuple of str): the classes in the order of the scores; empty if unknown.
        weights (str): where the weights are from: torchvision's name, a file, ``"random"``, or ``"as
            constructed"`` by the user's code.
    """

    model: nn.Module
    name: str
    reads: Reads
    transform: ClipTransform
    labels: tuple[str, ...]
    weights: str


def load_model(
    name: str | None,
    *,
    weights: str | None = None,
    checkpoint: str | None = None,
    labels: Sequence[str] = (),
    reads: Reads | None = None,
) -> LoadedModel:
    """Construct a model, give it weights, and find out how to feed it.

    Args:
        name (str or None): a reference model, torchvision's name of an image or video classifier, or
            ``package.module:attr`` or ``path/to/file.py:attr`` (a module, or something that returns one when
            called without arguments). None for the model that the checkpoint names.
        weights (str, optional): torchvision's name of weights, such as ``"DEFAULT"``. Default: none
        checkpoint (str, optional): a file of :func:`~captum_ext.models.save_checkpoint`, a state dict, or a
            Lightning checkpoint. Default: none
        labels (sequence of str, optional): the classes in the order of the scores. Default: those of the
            weights or the checkpoint
        reads (str, optional): ``"frames"`` or ``"clips"``. Default: ``"clips"`` for torchvision's video
            models and for models with 3-D convolutions or recurrent layers, else ``"frames"``

    Returns:
        LoadedModel: on the CPU, in evaluation mode. Its transform is that of the weights or the checkpoint;
        else that of the architecture's default weights at torchvision; else 64 pixels for the small reference
        models, 224 for VGGLSTM and models of frames (ImageNet's statistics), 112 for models of clips
        (those of Kinetics).

    Raises:
        ValueError: an unknown model or weights, weights that cannot be downloaded, a checkpoint that does
            not fit, code that cannot be imported.
        FileNotFoundError: a checkpoint or source file that does not exist.

    Example:
        >>> loaded = load_model("FrameCNNLSTM", labels=["jump", "run"])
        >>> loaded.reads, loaded.transform.size, loaded.weights
        ('clips', 64, 'random')
    """
    content = {} if checkpoint is None else read_checkpoint(checkpoint)
    state = None if checkpoint is None else read_state_dict(content, checkpoint)
    stored: dict[str, Any] = content if "format" in content else {}
    if name is None and "model" not in stored:
        raise ValueError(
            f"{checkpoint} does not say which model it is for (files of save_checkpoint do): give the model"
        )
    name = _canonical(str(stored["model"]) if name is None else name)
    labels = tuple(labels) or tuple(stored.get("labels", ()))
    if weights is not None:
        model, categories = _with_torchvision_weights(name, weights)
        labels, source = labels or categories, weights
    elif ":" in name:
        model, source = _from_code(name), "as constructed"
    else:
        model, source = build_model(name, **_arguments(name, labels, state, stored)), "random"
    if state is not None:
        load_weights(model, state, str(checkpoint))
        source = str(checkpoint)
    reads = reads or _what_it_reads(name, model)
    transform = stored.get("transform")
    return LoadedModel(
        model=model.eval(),
        name=name,
        reads=reads,
        transform=ClipTransform(**transform) if transform else _default_transform(name, reads, weights),
        labels=labels,
        weights=source,
    )


_RECURRENT = (nn.RNNBase, nn.RNNCellBase, ReLULSTM)


def is_recurrent(model: nn.Module) -> bool:
    """Whether Excitation Backprop for recurrent models finds a recurrent layer in the model.

    Args:
        model (nn.Module): any model.

    Returns:
        bool: True for models with ``nn.LSTM``, ``nn.GRU``, ``nn.RNN``, one of their cells or
        :class:`~captum_ext.models.ReLULSTM`.

    Example:
        >>> is_recurrent(nn.Sequential(nn.Conv3d(3, 4, 3))), is_recurrent(nn.LSTM(3, 4))
        (False, True)
    """
    return any(isinstance(module, _RECURRENT) for module in model.modules())


def reads_by_name(name: str) -> Reads:
    """What a model that is known by name takes.

    Args:
        name (str): one of :func:`~captum_ext.models.checkpoint.model_names`.

    Returns:
        str: ``"frames"`` or ``"clips"``.

    Example:
        >>> reads_by_name("r3d_18"), reads_by_name("resnet18")
        ('clips', 'frames')
    """
    videos = {"VGGLSTM", "FrameCNNLSTM", *torchvision_models.list_models(torchvision_models.video)}
    return "clips" if name in videos else "frames"


def weight_names(name: str) -> list[str]:
    """Torchvision's names of the weights of a model.

    Args:
        name (str): a model's name; reference models have none.

    Returns:
        list of str: without ``"DEFAULT"``, which stands for the best of them.

    Example:
        >>> weight_names("r3d_18")
        ['KINETICS400_V1']
    """
    if name in REFERENCE_MODELS:
        return []
    return [entry.name for entry in torchvision_models.get_model_weights(name)]


def _canonical(name: str) -> str:
    return next((known for known in model_names() if known.lower() == name.lower()), name)


def _arguments(
    name: str, labels: Sequence[str], state: Mapping[str, Tensor] | None, stored: Mapping[str, Any]
) -> dict[str, Any]:
    """What to construct a model by name from."""
    if stored.get("model") == name:
        return dict(stored["arguments"])
    if state is not None:
        # The classifier comes last in all these models, and so does its tensor in a state dict.
        return {"num_classes": len([tensor for tensor in state.values() if tensor.dim()][-1])}
    if labels:
        return {"num_classes": len(labels)}
    return {"num_classes": _DEFAULT_CLASSES} if name in REFERENCE_MODELS else {}


def _with_torchvision_weights(name: str, weights: str) -> tuple[nn.Module, tuple[str, ...]]:
    if name in REFERENCE_MODELS or ":" in name:
        raise ValueError(
            f"weights={weights!r} are named by torchvision, and {name} is none of its models; "
            "give a checkpoint instead"
        )
    if name not in model_names():
        build_model(name)  # raises, and suggests names
    entries = torchvision_models.get_model_weights(name)
    if weights not in entries.__members__:
        raise ValueError(
            f"{name} has no weights named {weights!r}; torchvision offers "
            f"{', '.join(('DEFAULT', *weight_names(name)))}"
        )
    entry = entries[weights]
    try:
        model = torchvision_models.get_model(name, weights=entry)
    except (OSError, RuntimeError) as error:  # no network; a file that was cut off
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise ValueError(
            f"the weights {entry.name} of {name} could not be downloaded from {entry.url} ({error}); "
            f"put the file into {folder} or use a checkpoint"
        ) from error
    return model, tuple(entry.meta["categories"])


def _from_code(name: str) -> nn.Module:
    where, _, attribute = name.rpartition(":")
    module = _import(where)
    if not hasattr(module, attribute):
        public = [key for key in vars(module) if not key.startswith("_")]
        close = difflib.get_close_matches(attribute, public, n=3) or public[:5]
        raise ValueError(f"{where} has no {attribute!r}; it has {', '.join(close) or 'no public names'}")
    value = getattr(module, attribute)
    if callable(value) and not isinstance(value, nn.Module):
        try:
            value = value()
        except Exception as error:
            raise ValueError(
                f"{name}() failed with {type(error).__name__}: {error}; it must be callable without arguments"
            ) from error
    if not isinstance(value, nn.Module):
        raise ValueError(f"{name} is a {type(value).__name__}, not a torch.nn.Module")
    return value


def _import(where: str) -> ModuleType:
    """A module by dotted name or by file; the working directory counts, as it does for ``python -m``."""
    try:
        if not where.endswith(".py"):
            if "" not in sys.path and str(Path.cwd()) not in sys.path:
                sys.path.insert(0, str(Path.cwd()))
            return importlib.import_module(where)
        path = Path(where)
        if not path.is_file():
            raise FileNotFoundError(f"there is no source file at {path}")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None  # noqa: S101  # it is for a path that ends in .py
        assert spec.loader is not None  # noqa: S101
        module = importlib.util.module_from_spec(spec)
        # Before it runs, because dataclasses look their module up.
        sys.modules.setdefault(path.stem, module)
        spec.loader.exec_module(module)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"importing {where} failed with {type(error).__name__}: {error}") from error
    return module


def _what_it_reads(name: str, model: nn.Module) -> Reads:
    if ":" not in name:
        return reads_by_name(name)
    clip_layers = (nn.Conv3d, *_RECURRENT)
    return "clips" if any(isinstance(module, clip_layers) for module in model.modules()) else "frames"


def _default_transform(name: str, reads: Reads, weights: str | None) -> ClipTransform:
    if name in ("FrameCNN", "FrameCNNLSTM"):
        return ClipTransform(64, *IMAGENET)
    if name in model_names() and name not in REFERENCE_MODELS:
        preset = torchvision_models.get_model_weights(name)[weights or "DEFAULT"].transforms()
        h, w = preset.crop_size[0], preset.crop_size[-1]
        # torchvision squeezes clips to 128 x 171 whatever their shape; here the aspect ratio is kept.
        return ClipTransform((h, w), tuple(preset.mean), tuple(preset.std), resize=min(preset.resize_size))
    if reads == "frames" or name == "VGGLSTM":
        return ClipTransform(224, *IMAGENET)
    return ClipTransform(112, *KINETICS)
