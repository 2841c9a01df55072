"""STEP and EP-3D on the command line: what they explain, print and write."""

from __future__ import annotations

import base64
import inspect
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from captum_ext.attr import SpatioTemporalExtremalPerturbation
from captum_ext.data import IMAGENET, ClipTransform, read_video
from captum_ext.explanation import FILES, explain
from captum_ext.models import FrameCNNLSTM, load_checkpoint
from captum_ext.models.loading import LoadedModel
from captum_ext.perturbation import StepSettings
from captum_ext.visualization import ReportEntry

FEW = ("--areas", "0.3,0.6", "--iterations", "3")
T, H, W = 5, 20, 28


def loaded(model: nn.Module, reads: str) -> LoadedModel:
    return LoadedModel(model.eval(), "model", reads, ClipTransform(32, *IMAGENET), (), "random")  # type: ignore[arg-type]


def image_model() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9 * 13, 6))


class PerStep(nn.Module):
    """Scores (N, T, K) of an own recurrent model, which the mean over time does not stand for."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.cnn, self.rnn, self.head = image_model(), nn.GRU(6, 7, batch_first=True), nn.Linear(7, 4)

    def forward(self, clips: Tensor) -> Tensor:
        frames = clips.transpose(1, 2)
        return self.head(self.rnn(self.cnn(frames.flatten(0, 1)).view(*frames.shape[:2], -1))[0])


def random_clip() -> Tensor:
    return torch.randn(3, T, H, W, generator=torch.Generator().manual_seed(5))


def by_the_library(model, clip: Tensor, target, smoothness, **options):
    return SpatioTemporalExtremalPerturbation(model).attribute(
        clip[None],
        target=target,
        areas=(0.3, 0.6),
        smoothness=smoothness,
        settings=StepSettings(n_iter=3),
        return_masks=True,
        **options,
    )


def description(folder: Path) -> dict:
    return json.loads((folder / "explanation.json").read_text(encoding="utf-8"))


def entries_of(folder: Path) -> dict[str, dict]:
    """Title of each clip of the report to its data."""
    page = (folder / "report.html").read_text(encoding="utf-8")
    found = re.findall(
        r'class="player" data-title="([^"]*)"><script type="application/json">(.*?)</script>', page
    )
    return {title: json.loads(data) for title, data in found}


def only_warnings(text: str) -> list[str]:
    lines = text.splitlines()
    assert all(line.startswith("captum-ext: warning: ") for line in lines), text
    return lines


def test_masks_and_maps_of_all_methods_are_written_beside_each_other(run, clip, checkpoint, tmp_path):
    ran = run("explain", clip, "--checkpoint", checkpoint, "--method", "step,ceb-r,ep-3d", "--frames", "9",
              "--target", "2", *FEW, "--out", tmp_path)  # fmt: skip
    assert ran.code == 0
    only_warnings(ran.err)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    arrays = np.load(tmp_path / "map.npz")
    assert arrays["methods"].tolist() == ["step", "ceb-r", "ep-3d"]
    assert "maps" not in arrays
    assert arrays["maps_ceb-r"].shape == (9, 16, 16)
    np.testing.assert_array_equal(arrays["areas"], [0.3, 0.6])
    model = load_checkpoint(checkpoint)
    model.model.output = "steps"  # by default the last step is explained
    inputs = model.transform(read_video(clip, 9).frames)
    told = description(tmp_path)["methods"]
    for row, (name, smoothness) in {0: ("step", "step"), 2: ("ep-3d", None)}.items():
        maps, found = by_the_library(model.model, inputs, (8, 2), smoothness)
        torch.testing.assert_close(torch.from_numpy(arrays[f"maps_{name}"]), maps[0, 0])
        torch.testing.assert_close(torch.from_numpy(arrays[f"masks_{name}"]), found.masks[0])
        np.testing.assert_allclose(arrays["scores"][row], arrays[f"maps_{name}"].sum((1, 2)), rtol=1e-5)
        assert [kept["area"] for kept in told[name]["kept"]] == [0.3, 0.6]
        for key, expected in (("probability", found.probabilities), ("volume", found.volumes)):
            assert [kept[key] for kept in told[name]["kept"]] == pytest.approx(expected[0].tolist())
        assert told[name]["original_probability"] == pytest.approx(float(found.original_probabilities))
        assert (told[name]["convergence_delta"], told[name]["window_frames"]) == (None, None)
    assert "kept" not in told["ceb-r"]


def test_masks_alone_need_no_layer_and_keep_one_array_of_maps(run, clip, checkpoint, tmp_path):
    ran = run("explain", clip, "--checkpoint", checkpoint, "--method", "step", "--frames", "6", *FEW,
              "--out", tmp_path)  # fmt: skip
    assert np.load(tmp_path / "map.npz")["maps"].shape == (1, 6, 64, 64)
    told = description(tmp_path)
    assert told["layer"] is None
    assert "layer   -" in ran.out.splitlines()


def test_the_summary_tells_the_kept_probability_of_each_area(run, clip, checkpoint, tmp_path):
    ran = run("explain", clip, "--checkpoint", checkpoint, "--method", "ep-3d", "--frames", "6", *FEW,
              "--out", tmp_path)  # fmt: skip
    told = description(tmp_path)
    method = told["methods"]["ep-3d"]
    model = load_checkpoint(checkpoint)
    model.model.output = "steps"
    with torch.no_grad():
        scores = model.model(model.transform(read_video(clip, 6).frames)[None])
    last = scores.softmax(2)[0, -1, told["target"]["class"]]
    assert method["original_probability"] == pytest.approx(float(last), abs=1e-5)
    rows = [line.split() for line in ran.out.splitlines()]
    peak_row = next(row for row in rows if row[:2] == ["EP-3D", "frame"])
    assert peak_row[-3:] == ["-", "-", "-"]  # no window, no seconds, no mass
    for kept in method["kept"]:
        numbers = [kept["volume"], kept["probability"], method["original_probability"]]
        assert ["EP-3D", f"{kept['area']:g}", *(f"{number:.3f}" for number in numbers)] in rows


def test_the_report_shows_the_clip_through_the_mask_of_each_area(run, clip, checkpoint, tmp_path):
    run("explain", clip, "--checkpoint", checkpoint, "--method", "ceb-r,step", "--frames", "6", *FEW,
        "--out", tmp_path)  # fmt: skip
    first, *masked = entries_of(tmp_path).items()
    assert (first[0], first[1]["seeThrough"]) == (Path(clip).stem, False)
    assert [method["name"] for method in first[1]["methods"]] == ["cEB-R", "STEP"]
    method = description(tmp_path)["methods"]["step"]
    masks = np.load(tmp_path / "map.npz")["masks_step"]
    assert len(masked) == len(masks) == 2
    for (title, data), kept, mask in zip(masked, method["kept"], masks, strict=True):
        assert title == (
            f"STEP, area {kept['area']:g}: keeps p = {kept['probability']:.2g} of "
            f"{method['original_probability']:.2g}"
        )
        assert data["seeThrough"]
        (shown,) = data["methods"]
        np.testing.assert_allclose(shown["scores"], mask.mean((1, 2)), rtol=1e-4)
        sheet = shown["levels"]
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet["src"].partition(",")[2]))))
        for t, levels in enumerate(mask * 255):
            top, left = t // sheet["columns"] * sheet["tileHeight"], t % sheet["columns"] * sheet["tileWidth"]
            tile = picture[top : top + 64, left : left + 64, 1].astype(float)
            assert np.abs(tile - levels).mean() < 4  # as it is, not relative to its peak; WebP is lossy


def test_only_masks_can_be_seen_through():
    frames = torch.zeros(T, 3, H, W, dtype=torch.uint8)
    with pytest.raises(
        ValueError, match=r"maps\['STEP'\] must lie in 0..1 to be seen through.*from 0 to 1.5"
    ):
        ReportEntry("clip", frames, 5, {"STEP": torch.linspace(0, 1.5, T).view(T, 1, 1)}, see_through=True)


def test_an_image_model_is_explained_by_its_mean_probability_over_the_frames():
    # In float64, since Adam takes gradients of any size, also those of rounding, as they come.
    model, x = image_model().eval().double(), random_clip().double()

    def mean_of_frames(clips: Tensor) -> Tensor:
        return torch.stack([model(frame).softmax(1) for frame in clips.unbind(2)]).mean(0)

    for name, smoothness in (("step", "step"), ("ep-3d", None)):
        result = explain(
            loaded(model, "frames"), x, [name], target="4", areas=(0.3, 0.6), iterations=3
        ).results[name]
        maps, found = by_the_library(mean_of_frames, x, 4, smoothness, scores="probabilities")
        torch.testing.assert_close(result.maps, maps[0, 0].float())
        for part, mask in zip(result.kept, found.masks[0], strict=True):
            torch.testing.assert_close(part.mask, mask.float())
        torch.testing.assert_close(result.scores, result.maps.sum((1, 2)))


def test_an_image_models_curves_are_told_apart(run, clip, tmp_path):
    ran = run("explain", clip, "--model", "FrameCNN", "--method", "eb,step", "--frames", "4", *FEW,
              "--out", tmp_path)  # fmt: skip
    assert ran.code == 0
    arrays, told = np.load(tmp_path / "map.npz"), description(tmp_path)
    np.testing.assert_allclose(arrays["scores"][0], told["frames"]["probability"], atol=1e-7)
    np.testing.assert_allclose(arrays["scores"][1], arrays["maps_step"].sum((1, 2)), rtol=1e-5)
    assert "mean of the model's scores over the frames" in told["note"]
    assert "probability of the class in each frame" in told["note"]


def test_the_step_of_an_own_model_with_scores_at_each_is_kept():
    model, x = PerStep(), random_clip()
    result = explain(
        loaded(model, "clips"), x, ["step"], target="1", step=-2, areas=(0.3, 0.6), iterations=3
    ).results["step"]
    maps, _ = by_the_library(model, x, (T - 2, 1), "step")
    torch.testing.assert_close(result.maps, maps[0, 0])
    probability = float(model(x[None])[0, T - 2].softmax(-1)[1].detach())
    assert [part.original_probability for part in result.kept] == pytest.approx([probability] * 2)


def test_models_that_return_probabilities_are_explained_as_such():
    logits, x = image_model().double(), random_clip().double()
    results = [
        explain(loaded(model, "clips"), x, ["ep-3d"], target="0", areas=(0.3, 0.6), iterations=3).results[
            "ep-3d"
        ]
        for model in (OneFrame(logits), nn.Sequential(OneFrame(logits), nn.Softmax(1)))
    ]
    torch.testing.assert_close(results[0].maps, results[1].maps, atol=1e-5, rtol=1e-5)


class OneFrame(nn.Module):
    """A model of clips that looks at the middle frame."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, clips: Tensor) -> Tensor:
        return self.model(clips[:, :, T // 2])


def test_a_model_without_maps_over_the_frame_is_explained():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * T * H * W, 4))
    explanation = explain(loaded(flat, "clips"), random_clip(), ["step"], areas=(0.4,), iterations=2)
    assert explanation.layer is None
    assert explanation.results["step"].maps.shape == (T, H, W)


def test_areas_and_iterations_of_the_library_are_the_default(monkeypatch):
    seen = {}
    parameters = inspect.signature(SpatioTemporalExtremalPerturbation.attribute).parameters

    def attribute(self, inputs, **options):
        seen.update(options)
        raise RuntimeError("enough")

    monkeypatch.setattr(SpatioTemporalExtremalPerturbation, "attribute", attribute)
    with pytest.raises(RuntimeError, match="enough"):
        explain(loaded(image_model(), "frames"), random_clip(), ["step"])
    assert seen["settings"] == StepSettings()
    assert seen["areas"] == parameters["areas"].default


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "step", "--areas", "0.1,1.5"], "'1.5' is no share of the clip between 0 and 1"),
        (["--method", "step", "--areas", "0"], "'0' is no share"),
        (["--method", "step", "--areas", "-0.1"], "'-0.1' is no share"),
        (["--method", "step", "--areas", "nan"], "'nan' is no share"),
        (["--method", "ep-3d", "--areas", "0.1, a tenth"], "'a tenth' is no share"),
        (["--method", "ep-3d", "--areas", "0.1,"], "'' is no share"),
        (["--method", "step", "--iterations", "0"], "'0' is no whole number from 1 up"),
        (["--method", "step", "--iterations", "1e3"], "'1e3' is no whole number"),
        (["--method", "eb,ceb", "--areas", "0.1"], "--areas is for --method step or ep-3d"),
        (["--iterations", "7"], "--iterations is for --method step or ep-3d"),
        (["--method", "step,ep-3d", "--layer", "features"], "--layer is not for --method step or ep-3d"),
    ],
)
def test_options_that_do_not_fit_are_wrong_usage(run, capsys, arguments, message):
    with pytest.raises(SystemExit) as exited:
        run("explain", "clip.mp4", "--model", "FrameCNN", *arguments)
    assert exited.value.code == 2
    assert message in capsys.readouterr().err


def test_an_area_that_masks_cannot_have_is_one_clear_line(run, clip, checkpoint, tmp_path):
    ran = run("explain", clip, "--checkpoint", checkpoint, "--method", "step", "--frames", "6",
              "--areas", "0.2,0.99999", "--iterations", "2", "--out", tmp_path)  # fmt: skip
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("captum-ext: error: an area of 0.99999 is 24576 of 24576 pixels")
    assert len(ran.err.splitlines()) == 1


def test_a_mask_that_missed_its_area_is_a_warning_in_one_line_even_when_quiet(
    run, clip, checkpoint, tmp_path
):
    ran = run("explain", clip, "--checkpoint", checkpoint, "--method", "step", "--frames", "6",
              "--areas", "0.02", "--iterations", "1", "--quiet", "--out", tmp_path)  # fmt: skip
    assert (ran.code, ran.out) == (0, "")
    (line,) = only_warnings(ran.err)
    assert "of the clip instead of 0.02" in line


@pytest.mark.parametrize("quiet", [False, True])
def test_a_terminal_sees_the_kept_probability_unless_quiet(
    run, clip, checkpoint, tmp_path, monkeypatch, quiet
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "150")
    ran = run("explain", clip, "--checkpoint", checkpoint, "--method", "step", "--frames", "6", *FEW,
              "--out", tmp_path, *(["--quiet"] if quiet else []))  # fmt: skip
    assert ran.code == 0
    shown = re.findall(r"area (0\.\d):.*kept probability (\d\.\d{3})", ran.err)
    if quiet:
        assert shown == []
        only_warnings(ran.err)
    else:
        kept = description(tmp_path)["methods"]["step"]["kept"]
        assert {area for area, _ in shown} == {f"{part['area']:g}" for part in kept}


def test_the_model_returns_what_it_did_before():
    model = FrameCNNLSTM(num_classes=3, hidden_size=8, output="steps")
    explain(loaded(model, "clips"), torch.rand(3, 4, 24, 40), ["step"], areas=(0.4,), iterations=2)
    assert model.output == "steps"
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
