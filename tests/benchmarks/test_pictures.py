"""The pictures of the docs are made by a command; a tiny run, so what they show means nothing."""

import json

import pytest
import torch
from PIL import Image

from benchmarks import pictures
from benchmarks.__main__ import main
from captum_ext.data import SyntheticActions

NAMES = {
    "eb",
    "ceb",
    "eb_r_ceb_r",
    "ep_3d_step",
    "saliency_tubes",
    "grad_cam",
    "recurrent_gradient",
    "rise",
    "methods",
}


def test_every_method_gets_a_picture_of_the_same_clip(tmp_path, capsys):
    tiny = ["--train", "1", "--test", "1", "--epochs", "1", "--masks", "4", "--iterations", "2"]
    assert main(["run", "pictures", "--output", str(tmp_path), *tiny]) == 0
    assert {path.stem for path in tmp_path.glob("*.webp")} == NAMES
    sizes = {}
    for path in tmp_path.glob("*.webp"):
        with Image.open(path) as picture:
            sizes[path.stem] = picture.size
        assert path.stat().st_size < 150_000
    one = sizes["eb"]
    assert sizes["eb_r_ceb_r"] == (one[0], 2 * one[1])
    facts = json.loads((tmp_path / "pictures.json").read_text())
    assert {len(scores) for scores in facts["evidence per frame"].values()} == {16}
    assert "9 pictures" in capsys.readouterr().out


def test_the_middle_of_the_clip_is_the_explained_action():
    actions = SyntheticActions(split="test")
    frames, label, before = pictures._interrupted(actions, 0)
    truth, partner = actions.render(0), actions.render(3)
    assert (label, before) == (truth.label, partner.label)
    assert frames.shape == truth.frames.shape
    start, end = pictures._SPAN

    def is_of(clip):
        return [bool((clip.frames == frame).flatten(1).all(1).any()) for frame in frames]

    inside = [start <= t < end for t in range(16)]
    assert is_of(truth) == inside
    assert is_of(partner) == [not value for value in inside]


@pytest.mark.parametrize("n_steps", [16, 8])
def test_spreading_a_map_over_the_frames_keeps_its_sum(n_steps):
    attribution = torch.randn(1, 5, n_steps, 3, 4)
    maps = pictures._per_frame(attribution)
    assert maps.shape == (16, 3, 4)
    torch.testing.assert_close(maps.sum(), attribution.sum(), rtol=1e-4, atol=1e-4)


def test_colours_are_full_from_a_high_quantile_on_and_keep_signs():
    maps = torch.linspace(-1, 0.5, 16 * 20 * 20).reshape(16, 20, 20)
    shown = pictures._Explained("m", "model", maps).shown
    assert shown.min() == -shown.abs().max() > -1
    assert torch.equal(shown.sign(), maps.sign())
