"""One clip explained by every method: the pictures of the docs.

A CNN-LSTM and a small 3-D CNN are trained on generated clips. A held-out clip in which one action interrupts
another is explained for the action in the middle, and every method writes a picture of the same form: frames,
the map over the frames, and the map's sum per frame beside the true span.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.clip_cnn import clip_cnn_of, train_clip_cnn
from benchmarks.demo.training import accuracy, trained_pair
from benchmarks.environment import environment
from captum_ext.attr import (
    LayerExcitationBackprop,
    RecurrentExcitationBackprop,
    RecurrentGradient,
    Rise,
    SaliencyTubes,
    SpatioTemporalExtremalPerturbation,
    VideoGradCam,
)
from captum_ext.data import IMAGENET, ClipTransform, SyntheticActions
from captum_ext.models import load_checkpoint
from captum_ext.perturbation import StepSettings
from captum_ext.visualization import overlay, timeline_strip

__all__ = ["add_arguments", "run"]

_N_FRAMES, _SPAN = 16, (5, 11)
_LAYER = "features"
_AREA = 0.1
_TRANSFORM = ClipTransform(64, *IMAGENET)
_CNN_LSTM, _CLIP_CNN = "CNN-LSTM", "3-D CNN"
# Full colour from this quantile of a map's absolute values on: by the maximum, all but a few points are pale.
_PEAK = 0.995
_QUALITY = 80

_COLUMNS, _CELL, _GAP, _LABEL_WIDTH, _TITLE_HEIGHT = 8, 96, 4, 150, 30
_DIMMED = 0.5  # so that colours stand out on bright objects
_INK, _GREY, _INSIDE = "#1c2430", "#69727f", "#2f9e5b"


@dataclass(frozen=True)
class _Explained:
    """What one method says of the clip.

    Args:
        name (str): the method.
        model (str): the model it explains.
        maps (Tensor): (T, h, w).
        note (str): a remark of the title.
    """

    name: str
    model: str
    maps: Tensor
    note: str = ""

    @property
    def negative(self) -> Literal["hide", "show"]:
        return "show" if bool((self.maps < 0).any()) else "hide"

    @property
    def shown(self) -> Tensor:
        """The map with its highest values cut off."""
        peak = float(self.maps.abs().flatten().quantile(_PEAK))
        return self.maps.clamp(-peak, peak)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--train", type=int, default=100, help="training clips per class")
    parser.add_argument("--test", type=int, default=10, help="held-out clips per class, for the accuracy")
    parser.add_argument("--epochs", type=int, default=6, help="epochs of each model")
    parser.add_argument("--masks", type=int, default=2000, help="masks of RISE")
    parser.add_argument("--iterations", type=int, default=200, help="of STEP and EP-3D")
    parser.add_argument("--clip", type=int, default=0, help="which held-out clip is explained")
    parser.add_argument("--seed", type=int, default=0, help="seed of clips and training")
    parser.add_argument("--checkpoint", type=Path, help="a trained FrameCNNLSTM, such as the demo's")


def run(arguments: argparse.Namespace) -> None:
    """Train, explain one clip by every method, write the pictures."""
    start = time.perf_counter()
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(arguments.seed)
    actions = SyntheticActions(n_frames=_N_FRAMES, seed=arguments.seed)
    x, y = _clips(actions, arguments.train * len(actions.labels))
    clip_cnn = clip_cnn_of(len(actions.labels))
    train_clip_cnn(clip_cnn, x, y, arguments.epochs, arguments.seed)
    cnn_lstm = _cnn_lstm(arguments, x, y)

    held_out = SyntheticActions(n_frames=_N_FRAMES, seed=arguments.seed, split="test")
    test_x, test_y = _clips(held_out, arguments.test * len(actions.labels))
    facts: dict[str, object] = {
        "accuracy": {
            _CNN_LSTM: accuracy(cnn_lstm, test_x, test_y),
            _CLIP_CNN: accuracy(clip_cnn, test_x, test_y),
        },
        **environment(),
    }
    frames, label, before = _interrupted(held_out, arguments.clip)
    target = held_out.labels.index(label)
    settings = StepSettings(n_iter=arguments.iterations)
    clip = _TRANSFORM(frames)[None]
    explained = _explain(clip, target, cnn_lstm, clip_cnn, arguments.masks, settings)
    facts["evidence per frame"] = {
        name: [round(float(s), 5) for s in found.maps.sum((1, 2))] for name, found in explained.items()
    }
    for name, found in explained.items():
        if name not in ("eb_r", "ceb_r", "ep_3d", "step"):
            _save(_strip(frames, found, label), output / f"{name}.webp")
    for pair in (("eb_r", "ceb_r"), ("ep_3d", "step")):
        both = [_strip(frames, explained[name], label) for name in pair]
        _save(_stacked(both), output / f"{'_'.join(pair)}.webp")
    title = f"Evidence for '{label}', which interrupts '{before}' (green)"
    _save(_overview(frames, list(explained.values()), title), output / "methods.webp")
    facts["wall_s"] = round(time.perf_counter() - start, 1)
    (output / "pictures.json").write_text(json.dumps(facts, indent=1) + "\n")
    sys.stdout.write(f"{json.dumps(facts['accuracy'])}: share of held-out clips that are recognised\n")
    sys.stdout.write(f"{len(list(output.glob('*.webp')))} pictures in {output}, {facts['wall_s']} s\n")


# -------------------------------------------------------------------------------------- clips and models


def _clips(actions: SyntheticActions, n: int) -> tuple[Tensor, Tensor]:
    rendered = [actions.render(index) for index in range(n)]
    clips = torch.stack([_TRANSFORM(clip.frames) for clip in rendered])
    return clips, torch.tensor([clip.label_index for clip in rendered])


def _interrupted(actions: SyntheticActions, index: int) -> tuple[Tensor, str, str]:
    """The paper's rand+GT+rand of two clips, with the labels of GT and rand; frames (T, 3, H, W)."""
    truth, partner = actions.render(index), actions.render(index + 3)  # another shape and motion
    start, end = _SPAN
    inside, outside = _sample(truth.frames, end - start), _sample(partner.frames, _N_FRAMES - end + start)
    return torch.cat([outside[:start], inside, outside[start:]]), truth.label, partner.label


def _sample(frames: Tensor, n: int) -> Tensor:
    """Frames spread over the clip."""
    return frames[((torch.arange(n) + 0.5) * len(frames) / n).long()]


def _cnn_lstm(arguments: argparse.Namespace, clips: Tensor, labels: Tensor) -> nn.Module:
    """The demo's model, from the checkpoint or trained as the demo does."""
    if arguments.checkpoint is not None:
        return load_checkpoint(arguments.checkpoint).model
    return trained_pair(clips, labels, arguments.epochs, arguments.seed)[1]


def _explain(
    clip: Tensor,
    k: int,
    cnn_lstm: nn.Module,
    clip_cnn: nn.Module,
    n_masks: int,
    settings: StepSettings,
) -> Mapping[str, _Explained]:
    """Every method by the name of its picture."""
    last = (_N_FRAMES - 1, k)
    eb = LayerExcitationBackprop(clip_cnn, _LAYER)
    eb_r = RecurrentExcitationBackprop(cnn_lstm, _LAYER)
    rise = Rise(cnn_lstm).attribute(
        clip,
        last,
        n_masks=n_masks,
        grid=(4, 7, 7),
        softmax=True,
        perturbations_per_eval=8,
        return_input_shape=False,
    )
    tubes = SaliencyTubes(clip_cnn, _LAYER).attribute(clip, k, return_input_shape=False)
    grad_cam = VideoGradCam(cnn_lstm, _LAYER).attribute(clip, last, relu_attributions=True)
    gradient = RecurrentGradient(cnn_lstm).attribute(clip, last, max_channels=True)
    perturbation = SpatioTemporalExtremalPerturbation(cnn_lstm)
    masks = {
        smoothness: perturbation.attribute(
            clip,
            target=last,
            areas=_AREA,
            smoothness=smoothness,
            settings=settings,
            return_input_shape=False,
        )
        for smoothness in (None, "step")
    }
    found = {
        "eb": _Explained("EB", _CLIP_CNN, eb.attribute(clip, k)),
        "ceb": _Explained("cEB", _CLIP_CNN, eb.attribute(clip, k, contrastive=True)),
        "saliency_tubes": _Explained("Saliency Tubes", _CLIP_CNN, tubes),
        "eb_r": _Explained("EB-R", _CNN_LSTM, eb_r.attribute(clip, last)),
        "ceb_r": _Explained("cEB-R", _CNN_LSTM, eb_r.attribute(clip, last, contrastive=True)),
        "grad_cam": _Explained("Grad-CAM", _CNN_LSTM, grad_cam),
        "recurrent_gradient": _Explained("BP-R", _CNN_LSTM, gradient),
        "rise": _Explained("RISE", _CNN_LSTM, rise - rise.min(), f", {n_masks} masks, above the minimum"),
        "ep_3d": _Explained("EP-3D", _CNN_LSTM, masks[None], f", {100 * _AREA:g} % of the clip"),
        "step": _Explained("STEP", _CNN_LSTM, masks["step"], f", {100 * _AREA:g} % of the clip"),
    }
    return {
        name: _Explained(item.name, item.model, _per_frame(item.maps), item.note)
        for name, item in found.items()
    }


def _per_frame(attribution: Tensor) -> Tensor:
    """The map (T, h, w) of one clip, summed over channels; a shorter layer's is spread over the frames."""
    maps = attribution.sum(1, keepdim=True)
    size = [_N_FRAMES, *maps.shape[3:]]
    frames = F.interpolate(maps, size, mode="trilinear") if maps.shape[2] != _N_FRAMES else maps
    return frames[0, 0] * (maps.shape[2] / _N_FRAMES)  # keeps the sum


# -------------------------------------------------------------------------------------------- pictures


def _strip(frames: Tensor, found: _Explained, label: str) -> Image.Image:
    signed = " (red: for, blue: against)" if found.negative == "show" else ""
    return timeline_strip(
        frames,
        found.shown,
        found.maps.sum((1, 2)),
        span=_SPAN,
        negative=found.negative,
        title=f"{found.name} of a {found.model} for '{label}'{found.note}{signed}",
    )


def _stacked(pictures: list[Image.Image]) -> Image.Image:
    joined = Image.new("RGB", (pictures[0].width, sum(picture.height for picture in pictures)))
    top = 0
    for picture in pictures:
        joined.paste(picture, (0, top))
        top += picture.height
    return joined


def _overview(frames: Tensor, found: list[_Explained], title: str) -> Image.Image:
    """A row of frames for the clip and for each method; frames of the explained action stand on green."""
    large = F.interpolate(frames.float(), (_CELL, _CELL), mode="bilinear").round().clamp(0, 255).byte()
    dark = (large * _DIMMED).byte()
    painted = (overlay(dark, item.shown, negative=item.negative) for item in found)
    rows = [("clip", "", large), *((i.name, i.model, p) for i, p in zip(found, painted, strict=True))]
    step = _CELL + 2 * _GAP
    picture = Image.new("RGB", (_LABEL_WIDTH + _COLUMNS * step, _TITLE_HEIGHT + len(rows) * step), "white")
    draw = ImageDraw.Draw(picture)
    font, small = ImageFont.load_default(size=16), ImageFont.load_default(size=13)
    draw.text((_GAP, _GAP), title, _INK, font)
    for row, (name, model, shown) in enumerate(rows):
        top = _TITLE_HEIGHT + row * step
        draw.text((_GAP, top + _CELL // 2 - 16), name, _INK, font)
        draw.text((_GAP, top + _CELL // 2 + 6), model, _GREY, small)
        for column in range(_COLUMNS):
            t = (2 * column + 1) * len(frames) // (2 * _COLUMNS)
            left = _LABEL_WIDTH + column * step
            if _SPAN[0] <= t < _SPAN[1]:
                draw.rectangle((left, top, left + step - 1, top + step - 1), fill=_INSIDE)
            cell = Image.fromarray(shown[t].permute(1, 2, 0).contiguous().numpy())
            picture.paste(cell, (left + _GAP, top + _GAP))
    return picture


def _save(picture: Image.Image, path: Path) -> None:
    picture.save(path, quality=_QUALITY, method=6)
