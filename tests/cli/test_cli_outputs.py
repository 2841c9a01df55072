"""What ``captum-ext explain`` writes, read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captum_ext.attr import LayerExcitationBackprop, RecurrentExcitationBackprop
from captum_ext.data import read_video
from captum_ext.explanation import FILES
from captum_ext.models import load_checkpoint

SHARED_CLIPS = sorted((Path(__file__).parents[3] / "shared/data/clips").glob("*.mp4"))


def description(folder: Path) -> dict:
    return json.loads((folder / "explanation.json").read_text(encoding="utf-8"))


def test_a_recurrent_model_explained_by_all_methods_writes_every_file(run, clip, checkpoint, tmp_path):
    ran = run(
        "explain", clip, "--checkpoint", checkpoint, "--method", "eb,ceb", "--method", "eb-r,ceb-r",
        "--target", "disc up-down", "--out", tmp_path,
    )  # fmt: skip
    assert (ran.code, ran.err) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    assert ran.out.splitlines()[-len(FILES) :] == [str(tmp_path / name) for name in FILES]

    told = description(tmp_path)
    assert told["model"] == "FrameCNNLSTM"
    assert told["weights"] == checkpoint
    assert told["layer"] == "features"
    assert told["target"]["label"] == "disc up-down"
    assert told["target"]["class"] == 1
    assert told["target"]["step"] == 15
    assert list(told["methods"]) == ["eb", "ceb", "eb-r", "ceb-r"]
    assert told["versions"]["torch"] == torch.__version__
    assert told["command"].startswith(f"captum-ext explain {clip} --checkpoint")
    assert len(told["frames"]["seconds"]) == 16

    arrays = np.load(tmp_path / "map.npz")
    assert arrays["methods"].tolist() == ["eb", "ceb", "eb-r", "ceb-r"]
    assert arrays["maps"].shape == (4, 16, 16, 16)
    assert arrays["maps"].dtype == np.float32
    np.testing.assert_allclose(arrays["maps"].sum((2, 3)), arrays["scores"], atol=1e-6)
    np.testing.assert_allclose(arrays["scores"].sum(1), [1, 0, 1, 0], atol=1e-3)
    np.testing.assert_allclose(arrays["timestamps"], told["frames"]["seconds"], atol=1e-6)

    overlay = read_video(tmp_path / "overlay.mp4", n_frames=None).frames
    assert overlay.shape == (16, 3, 64, 5 * 64 + 4 * 4)
    with Image.open(tmp_path / "overlay.webp") as webp:
        assert webp.size == (5 * 64 + 4 * 4, 64)
    with Image.open(tmp_path / "timeline.png") as timeline:
        assert timeline.height > timeline.width / 2
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(text in html for text in ("Evidence for disc up-down", "cEB-R", "FrameCNNLSTM"))


def test_the_maps_are_those_of_the_library(run, clip, checkpoint, tmp_path):
    run(
        "explain", clip, "--checkpoint", checkpoint, "--method", "ceb-r,eb", "--target", "2", "--frames", "5",
        "--step", "3", "--negative", "clamp", "--out", tmp_path,
    )  # fmt: skip
    maps = torch.from_numpy(np.load(tmp_path / "map.npz")["maps"])
    loaded = load_checkpoint(checkpoint)
    inputs = loaded.transform(read_video(clip, 5).frames)[None]
    eb = LayerExcitationBackprop(loaded.model, "features", negative="clamp").attribute(inputs, target=2)
    torch.testing.assert_close(maps[1], eb[0].sum(0))
    loaded.model.output = "steps"
    recurrent = RecurrentExcitationBackprop(loaded.model, "features", negative="clamp")
    ceb_r = recurrent.attribute(inputs, target=(3, 2), contrastive=True)
    torch.testing.assert_close(maps[0], ceb_r[0].sum(0))


def test_the_greedy_window_of_ceb_r_is_told_in_frames_and_seconds(run, clip, checkpoint, tmp_path):
    ran = run("explain", clip, "--checkpoint", checkpoint, "--out", tmp_path, "--frames", "12")
    method = description(tmp_path)["methods"]["ceb-r"]  # the default for a recurrent model
    start, end = method["window_frames"]
    assert all(score >= 0 for score in method["scores"][start:end])
    assert method["window_seconds"] == pytest.approx([start / 6, end / 6])  # every frame, at 6 fps
    assert f"{start / 6:.2f}-{end / 6:.2f}" in ran.out


def test_auto_explains_the_top_class_with_its_probability(run, clip, checkpoint, tmp_path):
    run("explain", clip, "--checkpoint", checkpoint, "--out", tmp_path)
    loaded = load_checkpoint(checkpoint)
    with torch.no_grad():
        probabilities = loaded.model(loaded.transform(read_video(clip).frames)[None]).softmax(1)[0]
    target = description(tmp_path)["target"]
    assert target["class"] == int(probabilities.argmax())
    assert target["probability"] == pytest.approx(float(probabilities.max()), abs=1e-5)


def test_an_image_model_explains_every_frame_on_its_own(run, clip, tmp_path):
    ran = run(
        "explain", clip, "--model", "squeezenet1_1", "--size", "64", "--frames", "9", "--method", "eb,ceb",
        "--target", "7", "--out", tmp_path,
    )  # fmt: skip
    assert ran.code == 0
    assert "warning: the weights are random" in ran.err
    arrays = np.load(tmp_path / "map.npz")
    assert arrays["maps"].shape == (2, 9, 15, 15)
    np.testing.assert_allclose(arrays["maps"][0].sum((1, 2)), np.ones(9), atol=1e-3)
    told = description(tmp_path)
    assert told["methods"]["ceb"]["window_frames"] is None
    np.testing.assert_allclose(arrays["scores"][0], told["frames"]["probability"], atol=1e-7)
    assert "probability of the class in each frame" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_3d_cnn_gets_a_score_for_every_frame_though_its_map_has_fewer_steps(run, clip, tmp_path):
    ran = run(
        "explain", clip, "--model", "r3d_18", "--size", "56", "--frames", "4", "--method", "eb,ceb",
        "--layer", "layer2", "--out", tmp_path,
    )  # fmt: skip
    assert ran.code == 0
    arrays = np.load(tmp_path / "map.npz")
    assert arrays["maps"].shape == (2, 2, 14, 14)
    assert arrays["scores"].shape == (2, 4)
    np.testing.assert_allclose(arrays["scores"].sum(1), arrays["maps"].sum((1, 2, 3)), atol=1e-5)


def test_the_same_seed_gives_the_same_random_model(run, clip, tmp_path):
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        run("explain", clip, "--model", "FrameCNN", "--frames", "2", "--seed", seed, "--target", "0",
            "--out", tmp_path / name)  # fmt: skip
    a, b, c = (np.load(tmp_path / name / "map.npz")["maps"] for name in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_one_frame_is_enough(run, clip, checkpoint, tmp_path):
    ran = run("explain", clip, "--checkpoint", checkpoint, "--frames", "1", "--method", "eb,ceb-r",
              "--out", tmp_path)  # fmt: skip
    assert ran.code == 0
    assert np.load(tmp_path / "map.npz")["maps"].shape == (2, 1, 16, 16)


def test_a_second_run_replaces_the_files_of_the_first(run, clip, checkpoint, tmp_path):
    for target in ("0", "1"):
        assert (
            run(
                "explain",
                clip,
                "--checkpoint",
                checkpoint,
                "--target",
                target,
                "--frames",
                "2",
                "--out",
                tmp_path,
            ).code
            == 0
        )
    assert description(tmp_path)["target"]["class"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)


def test_quiet_prints_nothing(run, clip, checkpoint, tmp_path):
    assert run(
        "explain", clip, "--checkpoint", checkpoint, "--frames", "2", "--out", tmp_path, "--quiet"
    ) == (0, "", "")


def test_the_default_folder_is_named_after_the_clip(run, clip, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("explain", clip, "--checkpoint", checkpoint, "--frames", "2").code == 0
    assert (tmp_path / "explained" / Path(clip).stem / "explanation.json").is_file()


def test_layer_list_prints_the_layers_with_maps_and_their_shapes(
    run, clip, checkpoint, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    ran = run("explain", clip, "--checkpoint", checkpoint, "--frames", "5", "--layer", "list")
    assert ran.code == 0
    assert ["features", "48", "x", "5", "x", "16", "x", "16"] in [
        line.split() for line in ran.out.splitlines()
    ]
    assert "embedding" not in ran.out.replace("embedding.0", "")  # (N, 96) is no map
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not SHARED_CLIPS, reason="the real clips of ../shared/data/clips are not here")
def test_a_real_clip_is_explained(run, checkpoint, tmp_path):
    ran = run("explain", SHARED_CLIPS[0], "--checkpoint", checkpoint, "--frames", "8", "--out", tmp_path)
    assert ran.code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
