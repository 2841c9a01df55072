"""Tensors that require gradients for other reasons than the explained inputs, and hooks on activations."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_ext.attr import ExcitationBackprop


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(5, 7), nn.Linear(7, 3)
        self.gru = nn.GRU(5, 7, batch_first=True)
        self.double()


def explain(net: nn.Module, x: Tensor) -> Tensor:
    found, delta = ExcitationBackprop(net.eval()).attribute(x, target=1, return_convergence_delta=True)
    torch.testing.assert_close(found.flatten(1).sum(1) + delta, torch.ones(len(x), dtype=x.dtype))
    return found


X = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
CLIPS = torch.randn(2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def test_a_state_kept_from_an_earlier_explanation_is_a_constant() -> None:
    class Remembering(Net):
        memory: Tensor | float = 0.0

        def forward(self, x: Tensor) -> Tensor:
            self.memory = 0.9 * self.memory + 0.1 * x
            return self.second(F.relu(self.first(self.memory)))

    net, before = Remembering(), torch.rand(2, 5, dtype=torch.float64)
    explainer = ExcitationBackprop(net.eval())
    explainer.attribute(before, target=1)
    kept = net.memory.detach()
    found, delta = explainer.attribute(X, target=1, return_convergence_delta=True)
    net.memory = kept
    assert torch.equal(found, ExcitationBackprop(net).attribute(X, target=1))
    assert delta.abs().max() < 1e-9


def test_a_recurrent_state_kept_from_an_earlier_explanation_is_a_constant() -> None:
    class Remembering(Net):
        state: Tensor | None = None

        def forward(self, clips: Tensor) -> Tensor:
            outputs, self.state = self.gru(clips, self.state)
            return self.second(outputs[:, -1])

    net = Remembering()
    explainer = ExcitationBackprop(net.eval())
    explainer.attribute(CLIPS, target=1)
    kept = net.state.detach()
    found = explainer.attribute(CLIPS, target=1)
    net.state = kept
    assert torch.equal(found, ExcitationBackprop(net).attribute(CLIPS, target=1))


def test_a_state_kept_from_an_ordinary_forward_pass_is_refused_or_constant() -> None:
    class Remembering(Net):
        memory: Tensor | float = 0.0

        def forward(self, x: Tensor) -> Tensor:
            self.memory = 0.9 * self.memory + 0.1 * self.first(x)
            return self.second(F.relu(self.memory))

    net = Remembering().eval()
    net(X)
    with pytest.raises(Exception, match="did not run as ordinary Python code"):
        ExcitationBackprop(net).attribute(X, target=1)


def test_plain_tensors_that_require_gradients_are_constants() -> None:
    class Shifted(Net):
        def __init__(self, requires_grad: bool) -> None:
            super().__init__()
            self.position = torch.rand(7, dtype=torch.float64).requires_grad_(requires_grad)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(F.relu(self.first(x)) + self.position)

    free, fixed = Shifted(True), Shifted(False)
    fixed.position = free.position.detach()
    assert torch.equal(explain(free, X), explain(fixed, X))
    assert free.position.grad is None


def test_hooks_on_activations_neither_change_the_mass_nor_see_it() -> None:
    seen: list[Tensor] = []

    class Hooked(Net):
        def __init__(self, hooked: bool) -> None:
            super().__init__()
            self.hooked = hooked
            self.kept: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.first(x))
            if self.hooked:
                handle = y.register_hook(lambda g: seen.append(g) or g * 0.5)
                y.retain_grad()
                self.kept = y
                handle.remove()
                y.register_hook(lambda g: seen.append(g) or g * 0.5)
            return self.second(y)

    hooked = Hooked(True)
    assert torch.equal(explain(hooked, X), explain(Hooked(False), X))
    assert not seen
    assert hooked.kept.grad is None
    hooked(X).sum().backward()  # and they work as ever outside
    assert len(seen) == 1
    assert hooked.kept.grad is not None
