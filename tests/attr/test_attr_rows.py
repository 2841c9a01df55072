"""Rows of a folded layer belong to the examples they are given to, in every precision."""

import pytest
import torch
from torch import nn

from captum_ext.attr import LayerExcitationBackprop, RecurrentExcitationBackprop
from captum_ext.models import FrameCNNLSTM


class Segments(nn.Module):
    """Scores of single frames, averaged; the frames are folded into the batch in either order."""

    def __init__(self, time_first):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc, self.time_first = nn.Conv2d(3, 4, 3), nn.Linear(4, 5), time_first

    def forward(self, x):  # (N, C, T, H, W)
        frames = x.permute(2, 0, 1, 3, 4) if self.time_first else x.transpose(1, 2)
        features = self.conv(frames.flatten(0, 1)).relu().mean((2, 3))
        scores = self.fc(features).view(*frames.shape[:2], -1)
        return scores.mean(0 if self.time_first else 1)


CLIPS = torch.rand(3, 3, 4, 6, 7)


@pytest.mark.parametrize("contrastive", [False, True])
@pytest.mark.parametrize(("time_first", "order"), [(False, "NT"), (True, "TN")])
def test_a_layer_on_frames_has_the_map_of_each_example_alone(time_first, order, contrastive):
    explainer = LayerExcitationBackprop(Segments(time_first).eval(), "conv", frame_order=order)
    together = explainer.attribute(CLIPS, target=[0, 2, 4], contrastive=contrastive)
    alone = [explainer.attribute(CLIPS[i : i + 1], target=2 * i, contrastive=contrastive) for i in range(3)]
    assert together.shape == (3, 4, 4, 4, 5)
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("time_first", "order"), [(False, "TN"), (True, "NT")])
def test_a_wrong_order_of_frames_is_refused(time_first, order):
    explainer = LayerExcitationBackprop(Segments(time_first).eval(), "conv", frame_order=order)
    with pytest.raises(ValueError, match=f"frame_order='{order}'"):
        explainer.attribute(CLIPS, target=1)


def test_many_examples_are_told_apart_in_half_precision():
    torch.manual_seed(0)
    model = FrameCNNLSTM(3, output="steps").eval().bfloat16()
    clips = torch.rand(140, 3, 2, 64, 64).bfloat16()
    found = RecurrentExcitationBackprop(model, "features").attribute(clips, target=(1, 1), sum_channels=True)
    totals = found.float().sum((1, 2, 3, 4))
    torch.testing.assert_close(totals, torch.ones(140), rtol=0.05, atol=0)


@pytest.mark.parametrize(("n", "n_frames"), [(2, 3), (3, 4), (2, 5)])
def test_a_wrong_order_is_also_noticed_where_an_early_step_reaches_few_frames(n, n_frames):
    # The first frames of the examples stand in rows that both orders give to the same example.
    torch.manual_seed(0)
    model, clips = FrameCNNLSTM(3, output="steps").eval(), torch.rand(n, 3, n_frames, 64, 64)
    with pytest.raises(ValueError, match="frame_order='TN'"):
        LayerExcitationBackprop(model, "features", frame_order="TN").attribute(clips, target=(0, 1))
    found = LayerExcitationBackprop(model, "features").attribute(clips, target=(0, 1))
    torch.testing.assert_close(found[:, :, 0].sum((1, 2, 3)), torch.ones(n))
