"""``captum-ext``: explain a video file from the command line.

Exit codes: 0 done; 1 an error that its one line explains; 2 wrong usage; 130 interrupted. torch is imported
only once there is work to do, so that help and usage errors come at once.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import platform
import shlex
import sys
import tempfile
import traceback
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from captum_ext import __version__

if TYPE_CHECKING:
    import torch

    from captum_ext.data import ClipTransform, VideoClip
    from captum_ext.explanation import Explanation, Method
    from captum_ext.models.loading import LoadedModel

__all__ = ["main"]

_METHODS = ("eb", "ceb", "eb-r", "ceb-r", "step", "ep-3d")
_WITH_MASKS = ("step", "ep-3d")
_NORMALIZATIONS = ("imagenet", "kinetics", "none")

_RANDOM = "the weights are random: the maps show that everything runs, and nothing about the clip"

_EXAMPLES = """\
examples:
  captum-ext explain clip.mp4 --model r3d_18 --weights DEFAULT
  captum-ext explain clip.mp4 --checkpoint actions.pt --method ceb-r --target "disc left-right"
  captum-ext explain clip.mp4 --model resnet50 --weights DEFAULT --method eb,ceb --layer layer4
  captum-ext explain clip.mp4 --model mvit_v2_s --weights DEFAULT --method step --areas 0.05,0.1
  captum-ext explain clip.mp4 --model mypackage.models:build --checkpoint last.ckpt --labels names.txt
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv (sequence of str, optional): arguments without the program's name. Default: those of the process

    Returns:
        int: the exit code.

    Raises:
        SystemExit: with code 2 for wrong usage, with 0 after help and version.

    Example:
        >>> main(["models", "r3d*"])
        r3d_18  clips  KINETICS400_V1
        0
    """
    arguments = _parser().parse_args(argv)
    try:
        if arguments.command == "models":
            _list_models(arguments.pattern)
        else:
            _check_usage(arguments)
            _explain(arguments, list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("captum-ext: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if getattr(arguments, "debug", False):
            traceback.print_exc()
        print(f"captum-ext: error: {_one_line(error)}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="captum-ext", description="Explain video and recurrent PyTorch models: where and when."
    )
    parser.add_argument("--version", action="version", version=f"captum-ext {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    explain = commands.add_parser(
        "explain",
        help="explain a model's answer for a video file",
        description="Explain a model's answer for a video file: overlays, a timeline, a report, the maps.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    explain.add_argument("clip", metavar="CLIP", help="a video file")

    model = explain.add_argument_group("model")
    model.add_argument(
        "--model",
        metavar="NAME",
        help="a torchvision image or video classifier, a reference model (VGGLSTM, FrameCNNLSTM, FrameCNN), "
        "package.module:attr or path/to/file.py:attr; may be left out for files of save_checkpoint",
    )
    source = model.add_mutually_exclusive_group()
    source.add_argument("--weights", metavar="NAME", help="weights by torchvision's name, such as DEFAULT")
    source.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="written by captum_ext.models.save_checkpoint, a state dict, or a Lightning checkpoint",
    )
    model.add_argument("--labels", metavar="FILE", help="names of the classes, one per line, in their order")
    model.add_argument(
        "--input",
        choices=("frames", "clips"),
        help="whether the model takes images (N, C, H, W) or clips (N, C, T, H, W) (default: found out)",
    )
    model.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    model.add_argument("--seed", type=int, default=0, help="of random weights (default: 0)")

    what = explain.add_argument_group("what to explain")
    what.add_argument(
        "--method",
        metavar="METHOD",
        type=_methods,
        action="extend",
        help=f"{', '.join(_METHODS)}; several with commas (default: ceb-r for recurrent models, else ceb)",
    )
    what.add_argument(
        "--target", default="auto", help="a label, a class's number, or auto: the top class (default)"
    )
    what.add_argument(
        "--layer",
        metavar="NAME",
        help="whose map is read; list prints the candidates (default: the last block whose map is about "
        "14 x 14 or finer; failing that, 7 x 7)",
    )
    what.add_argument(
        "--step", type=int, help="time step of a model with scores at each; -1 is the last (default)"
    )
    what.add_argument(
        "--negative",
        choices=("support", "clamp"),
        default="support",
        help="what negative activations do (default: support)",
    )
    what.add_argument(
        "--areas",
        metavar="SHARES",
        type=_areas,
        help="shares of the clip that step and ep-3d keep, with commas (default: 0.05,0.1,0.2)",
    )
    what.add_argument(
        "--iterations", type=_positive, metavar="N", help="of step and ep-3d (default: those of the library)"
    )

    clip = explain.add_argument_group("clip")
    clip.add_argument("--frames", type=_positive, default=16, help="spread over the clip (default: 16)")
    clip.add_argument("--start", type=float, default=0.0, metavar="SECONDS")
    clip.add_argument("--end", type=float, metavar="SECONDS")
    clip.add_argument("--size", type=_positive, help="side of the square the model sees, in pixels")
    clip.add_argument(
        "--normalize",
        choices=_NORMALIZATIONS,
        help="mean and std of the pixels (default: those of the weights, the checkpoint or the architecture)",
    )

    output = explain.add_argument_group("output")
    output.add_argument("--out", metavar="DIR", type=Path, help="default: explained/CLIP")
    output.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")
    output.add_argument("--debug", action="store_true", help="show the traceback of an error")

    models = commands.add_parser(
        "models", help="list the models known by name, what they read, their weights"
    )
    models.add_argument("pattern", nargs="?", default="*", help="such as 'r*' or resnet (default: all)")
    explain.set_defaults(error=explain.error)
    return parser


def _check_usage(arguments: argparse.Namespace) -> None:
    if arguments.model is None and arguments.checkpoint is None:
        arguments.error("give --model, or --checkpoint with a file of save_checkpoint")
    masks = [method in _WITH_MASKS for method in arguments.method or ("the default",)]
    for option in ("areas", "iterations"):
        if getattr(arguments, option) is not None and not any(masks):
            arguments.error(f"--{option} is for --method {' or '.join(_WITH_MASKS)}")
    if arguments.layer not in (None, "list") and all(masks):
        arguments.error(f"--layer is not for --method {' or '.join(_WITH_MASKS)}, which read no layer")


def _methods(text: str) -> list[str]:
    methods = [method.strip().lower() for method in text.split(",")]
    for method in methods:
        if method not in _METHODS:
            raise argparse.ArgumentTypeError(f"{method!r} is none of {', '.join(_METHODS)}")
    return methods


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 up")
    return number


def _areas(text: str) -> list[float]:
    areas = []
    for part in text.split(","):
        try:
            area = float(part)
        except ValueError:
            area = 0.0
        if not 0 < area < 1:
            raise argparse.ArgumentTypeError(f"{part.strip()!r} is no share of the clip between 0 and 1")
        areas.append(area)
    return areas


def _list_models(pattern: str) -> None:
    from captum_ext.models.checkpoint import model_names
    from captum_ext.models.loading import reads_by_name, weight_names

    if not any(character in pattern for character in "*?["):
        pattern = f"*{pattern}*"
    names = [name for name in model_names() if fnmatch.fnmatchcase(name.lower(), pattern.lower())]
    if not names:
        raise ValueError(f"no model's name matches {pattern!r}")
    width = max(map(len, names))
    for name in names:
        print(f"{name:{width}}  {reads_by_name(name):6} {', '.join(weight_names(name))}".rstrip())


def _explain(arguments: argparse.Namespace, command: Sequence[str]) -> None:
    import torch
    from tqdm import tqdm

    from captum_ext.data import read_video
    from captum_ext.explanation import AREAS, explain, layer_shapes, save
    from captum_ext.models.loading import is_recurrent

    device = _device(arguments.device)
    # tqdm's None: only where stderr is a terminal.
    hidden = True if arguments.quiet else None
    with tqdm(total=4, bar_format="{bar:16} {n}/{total} {desc}", disable=hidden, leave=False) as bar:
        bar.set_description_str("reading the video")
        video = read_video(arguments.clip, arguments.frames, arguments.start, arguments.end)
        bar.update()
        bar.set_description_str("loading the model")
        torch.manual_seed(arguments.seed)
        with redirect_stdout(sys.stderr):  # torch.hub announces downloads; our output is for pipes too
            loaded = _load(arguments)
        loaded.model.to(device)
        frames = loaded.transform.crop(video.frames)
        clip = loaded.transform.normalize(frames).to(device)
        bar.update()
        if arguments.layer == "list":
            bar.close()
            _print_layers(layer_shapes(loaded, clip))
            return
        methods: list[Method] = list(
            dict.fromkeys(arguments.method or ["ceb-r" if is_recurrent(loaded.model) else "ceb"])
        )
        out = arguments.out or Path("explained", Path(arguments.clip).stem)
        _make_writable(out)
        bar.set_description_str(f"explaining by {', '.join(methods)}")
        with warnings.catch_warnings(record=True) as caught:
            explanation = explain(
                loaded,
                clip,
                methods,
                target=arguments.target,
                layer=arguments.layer,
                step=arguments.step,
                negative=arguments.negative,
                areas=arguments.areas or AREAS,
                iterations=arguments.iterations,
                show_progress=not arguments.quiet and sys.stderr.isatty(),
            )
        bar.update()
        bar.set_description_str("writing")
        paths = save(out, explanation, video, frames, _facts(arguments, command, loaded, device, methods))
        bar.update()
    for warning in caught:
        print(f"captum-ext: warning: {warning.message}", file=sys.stderr)
    if loaded.weights == "random":
        print(f"captum-ext: warning: {_RANDOM}", file=sys.stderr)
    if not arguments.quiet:
        _print_summary(loaded, video, explanation)
        print("\n" + "\n".join(map(str, paths)))


def _facts(
    arguments: argparse.Namespace,
    command: Sequence[str],
    loaded: LoadedModel,
    device: torch.device,
    methods: Sequence[Method],
) -> dict[str, object]:
    """What was run and how, for explanation.json and the report."""
    return {
        "command": shlex.join(["captum-ext", *command]),
        "versions": _versions(),
        "clip": arguments.clip,
        "model": loaded.name,
        "weights": loaded.weights,
        "reads": loaded.reads,
        "transform": asdict(loaded.transform),
        "negative": arguments.negative,
        "seed": arguments.seed,
        "device": str(device),
        "note": _note(loaded, methods),
    }


def _note(loaded: LoadedModel, methods: Sequence[Method]) -> str:
    notes = []
    if loaded.weights == "random":
        notes.append(f"{_RANDOM[0].upper()}{_RANDOM[1:]}.")
    if loaded.reads == "frames" and any(method not in _WITH_MASKS for method in methods):
        notes.append(
            "The model sees single frames, and the map of each has the same sum: the curve is the "
            "probability of the class in each frame."
        )
    if loaded.reads == "frames" and any(method in _WITH_MASKS for method in methods):
        notes.append("STEP and EP-3D explain the mean of the model's scores over the frames.")
    return " ".join(notes)


def _load(arguments: argparse.Namespace) -> LoadedModel:
    """The model, with the user's preprocessing."""
    from captum_ext.data import IMAGENET, KINETICS, Normalization
    from captum_ext.models.loading import load_model

    labels = Path(arguments.labels).read_text(encoding="utf-8").splitlines() if arguments.labels else []
    loaded = load_model(
        arguments.model,
        weights=arguments.weights,
        checkpoint=arguments.checkpoint,
        labels=[label.strip() for label in labels if label.strip()],
        reads=arguments.input,
    )
    transform: ClipTransform = loaded.transform
    if arguments.size:
        transform = replace(transform, size=arguments.size, resize=None)
    if arguments.normalize:
        unchanged = Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        known = {"imagenet": IMAGENET, "kinetics": KINETICS, "none": unchanged}
        mean, std = known[arguments.normalize]
        transform = replace(transform, mean=mean, std=std)
    return replace(loaded, transform=transform)


def _device(name: str) -> torch.device:
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("torch finds no CUDA device here; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _make_writable(out: Path) -> None:
    """Make the folder and try to write there, so that a bad one is found before the work and not after."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out):
        pass


def _versions() -> dict[str, str]:
    import torch

    packages = ("torchvision", "captum", "av")
    return {
        "captum-ext": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,  # with its build, which metadata leave out
        **{package: metadata.version(package) for package in packages},
    }


def _print_layers(shapes: Mapping[str, tuple[int, ...]]) -> None:
    width = max((len(name) for name in shapes), default=0)
    for name, shape in shapes.items():
        print(f"{name:{width}}  {' x '.join(map(str, shape))}")


def _print_summary(loaded: LoadedModel, video: VideoClip, explanation: Explanation) -> None:
    from captum_ext.explanation import METHODS, window_seconds
    from captum_ext.grounding import peak_frame

    times = video.timestamps.tolist()
    number = f" (class {explanation.target})" if loaded.labels else ""
    step = "" if explanation.step is None else f", read at step {explanation.step}"
    for name, value in {
        "clip": f"{video.path}: {len(times)} frames, {times[0]:.2f} to {times[-1]:.2f} s",
        "model": f"{loaded.name}, weights: {loaded.weights}",
        "layer": explanation.layer or "-",
        "target": f"{explanation.label}{number}, probability {explanation.probability:.3f}{step}",
    }.items():
        print(f"{name:7} {value}")
    rows = [("method", "peak", "window", "in seconds", "mass dropped")]
    for method, result in explanation.results.items():
        peak = int(peak_frame(result.scores[None]))
        window, seconds = "-", "-"
        if result.window is not None:
            start, end = window_seconds(result.window, video)
            window, seconds = f"frames {result.window[0]}-{result.window[1] - 1}", f"{start:.2f}-{end:.2f}"
        peak_at = f"frame {peak} at {times[peak]:.2f} s"
        delta = result.convergence_delta
        dropped = "-" if delta is None else f"{abs(delta):.4f}"
        rows.append((METHODS[method], peak_at, window, seconds, dropped))
    _print_table(rows)
    kept = [
        (
            METHODS[method],
            f"{part.area:g}",
            f"{part.volume:.3f}",
            f"{part.probability:.3f}",
            f"{part.original_probability:.3f}",
        )
        for method, result in explanation.results.items()
        for part in result.kept
    ]
    if kept:
        _print_table([("method", "area", "area kept", "probability kept", "of the whole clip"), *kept])


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print()
    for row in rows:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def _one_line(error: Exception) -> str:
    """The message; with its type where we expect no such error, since then it rarely says enough."""
    text = " ".join(str(error).split())
    expected = isinstance(error, (OSError, ValueError, ImportError, RuntimeError))
    return text if expected and text else f"{type(error).__name__}: {text} (--debug shows where)"
