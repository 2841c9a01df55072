"""What a model returns beside the explained score does not change its explanation."""

import pytest
import torch
from torch import Tensor, nn

from captum_ext.attr import ExcitationBackprop

K = 3


class Branches(nn.Module):
    """Scores of an early layer and of the last one, which reads the early scores through ``phi``."""

    def __init__(self, phi: str, returned: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.third = nn.Linear(5, 7), nn.Linear(7, K), nn.Linear(K, K)
        self.phi, self.returned = getattr(torch, phi), returned
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        early = self.second(torch.relu(self.first(x)))
        late = self.third(self.phi(early))
        match self.returned:
            case "both":
                return torch.cat([early, late], 1)
            case "early":
                return early
            case "sum":
                return early + late
        return late


X = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("contrastive", [False, True])
@pytest.mark.parametrize("negative", ["support", "clamp"])
@pytest.mark.parametrize("phi", ["relu", "tanh"])
@pytest.mark.parametrize(("returned", "offset"), [("early", 0), ("late", K)])
def test_a_score_is_explained_alike_whatever_else_is_returned(phi, returned, offset, negative, contrastive):
    alone, both = (ExcitationBackprop(Branches(phi, what).eval(), negative) for what in (returned, "both"))
    for k in range(K):
        expected = alone.attribute(X, target=k, contrastive=contrastive)
        assert torch.equal(both.attribute(X, target=offset + k, contrastive=contrastive), expected)
        assert expected.abs().sum() > 0


def test_a_classifier_behind_another_has_no_dual():
    explainer = ExcitationBackprop(Branches("tanh", "sum").eval())
    explainer.attribute(X, target=1)
    with pytest.raises(ValueError, match="several times in a row"):
        explainer.attribute(X, target=1, contrastive=True)


def test_a_contrast_layer_that_reads_its_own_output_is_refused():
    class Loop(Branches):
        def forward(self, x: Tensor) -> Tensor:
            y = self.second(torch.relu(self.first(x)))
            for _ in range(2):
                y = torch.tanh(self.third(y))
            return y

    explainer = ExcitationBackprop(Loop("tanh", "late").eval(), contrast_layer="third")
    with pytest.raises(ValueError, match="several times in a row"):
        explainer.attribute(X, target=1, contrastive=True)


class Decoder(nn.Module):
    """A cell that reads its own scores of the step before; returns all steps, or one."""

    def __init__(self, only: int | None) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.cell, self.classifier, self.only = nn.GRUCell(5 + K, 6), nn.Linear(6, K), only
        self.double()

    def forward(self, clips: Tensor) -> Tensor:
        h, y, steps = clips.new_zeros(len(clips), 6), clips.new_zeros(len(clips), K), []
        for x in clips.unbind(1):
            h = self.cell(torch.cat([x, torch.tanh(y)], 1), h)
            y = self.classifier(h)
            steps.append(y)
        return torch.stack(steps, 1) if self.only is None else steps[self.only]


@pytest.mark.parametrize("contrastive", [False, True])
@pytest.mark.parametrize("step", [0, 1, 3])
def test_one_step_of_a_decoder_is_explained_as_if_it_were_all_it_returns(step, contrastive):
    clips = torch.randn(2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = ExcitationBackprop(Decoder(step).eval()).attribute(clips, target=2, contrastive=contrastive)
    found = ExcitationBackprop(Decoder(None).eval()).attribute(
        clips, target=(step, 2), contrastive=contrastive
    )
    assert torch.equal(found, expected)
    assert found[:, step + 1 :].abs().sum() == 0
