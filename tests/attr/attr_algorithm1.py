"""Algorithm 1 of Bargal et al. (2018) written out step by step: explicit loops, float64, no autograd.

Everything here works on one clip at a time and on plain Python numbers or dense matrices, so that it shares
nothing with the engine under test but the paper. ``negative`` is the treatment of children below zero.
"""

import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def sigmoid(z: float) -> float:
    return 1.0 / (1.0 + math.exp(-z))


def shares(children: list[float], weights: list[float], state: int, negative: str) -> list[float]:
    """Eq. 1 for one parent: (s a w)^+ / sum (s a w)^+; nothing where no child supports the parent."""
    if negative == "clamp":
        children, state = [max(a, 0.0) for a in children], 1
    pulls = [max(state * a * w, 0.0) for a, w in zip(children, weights, strict=True)]
    total = sum(pulls)
    return [pull / total if total > 0 else 0.0 for pull in pulls]


@dataclass
class LSTMWeights:
    """One LSTM layer, rows in the order i, f, g, o; ``bias`` is the sum of both biases."""

    ih: Tensor
    hh: Tensor
    bias: Tensor
    activation: str  # "tanh" or "relu"

    def phi(self, z: float) -> float:
        return math.tanh(z) if self.activation == "tanh" else max(z, 0.0)


@dataclass
class Unrolled:
    """The states of every time step of one clip."""

    h: list[list[float]]
    c: list[list[float]]
    i: list[list[float]]
    f: list[list[float]]
    g: list[list[float]]


def run_lstm(weights: LSTMWeights, features: Tensor) -> Unrolled:
    n_hidden = weights.hh.shape[1]
    unrolled = Unrolled([], [], [], [], [])
    ih, hh, bias = weights.ih.tolist(), weights.hh.tolist(), weights.bias.tolist()
    h, c = [0.0] * n_hidden, [0.0] * n_hidden
    for x in features.tolist():
        z = [
            sum(w * a for w, a in zip(ih[row], x, strict=True))
            + sum(w * a for w, a in zip(hh[row], h, strict=True))
            + bias[row]
            for row in range(4 * n_hidden)
        ]
        i = [sigmoid(v) for v in z[:n_hidden]]
        f = [sigmoid(v) for v in z[n_hidden : 2 * n_hidden]]
        g = [weights.phi(v) for v in z[2 * n_hidden : 3 * n_hidden]]
        o = [sigmoid(v) for v in z[3 * n_hidden :]]
        c = [f[u] * c[u] + i[u] * g[u] for u in range(n_hidden)]
        h = [o[u] * weights.phi(c[u]) for u in range(n_hidden)]
        for name, value in zip("hcifg", (h, c, i, f, g), strict=True):
            getattr(unrolled, name).append(value)
    return unrolled


def mass_of_features(
    weights: LSTMWeights,
    unrolled: Unrolled,
    features: Tensor,
    mass_of_h: list[list[float]],
    negative: str = "support",
) -> Tensor:
    """Step 2: from the masses of h_t back through time to x_t, along the value path; (T, D)."""
    n_steps, n_hidden, n_in = len(features), len(unrolled.h[0]), features.shape[1]
    g_ih = weights.ih[2 * n_hidden : 3 * n_hidden].tolist()
    g_hh = weights.hh[2 * n_hidden : 3 * n_hidden].tolist()
    mass_of_x = [[0.0] * n_in for _ in range(n_steps)]
    from_future_h, from_future_c = [0.0] * n_hidden, [0.0] * n_hidden
    for t in reversed(range(n_steps)):
        x = features[t].tolist()
        h_before = unrolled.h[t - 1] if t > 0 else [0.0] * n_hidden
        c_before = unrolled.c[t - 1] if t > 0 else [0.0] * n_hidden
        next_h, next_c = [0.0] * n_hidden, [0.0] * n_hidden
        for u in range(n_hidden):
            # h = o * phi(c): the value path hands all to the cell, the output gate gets nothing.
            mass_of_c = mass_of_h[t][u] + from_future_h[u] + from_future_c[u]
            # c_t = f c_{t-1} + i g: two children with weights f and i.
            old, new = shares(
                [c_before[u], unrolled.g[t][u]],
                [unrolled.f[t][u], unrolled.i[t][u]],
                -1 if unrolled.c[t][u] < 0 else 1,
                negative,
            )
            next_c[u] += old * mass_of_c
            # g's pre-activation: one linear map over [x_t, h_{t-1}] jointly.
            joint = shares(x + h_before, g_ih[u] + g_hh[u], -1 if unrolled.g[t][u] < 0 else 1, negative)
            for child, share in enumerate(joint):
                if child < n_in:
                    mass_of_x[t][child] += share * new * mass_of_c
                else:
                    next_h[child - n_in] += share * new * mass_of_c
        from_future_h, from_future_c = next_h, next_c
    return torch.tensor(mass_of_x, dtype=torch.float64)


def mass_of_states(
    classifier: Tensor, unrolled: Unrolled, target: tuple[int, int] | int, negative: str = "support"
) -> list[list[float]]:
    """Step 1: one unit of mass at the target, and from there to the hidden states.

    ``(n, k)`` is class k at step n; an int is the class of the scores averaged over time, which are one
    linear map over all hidden states.
    """
    n_steps, n_hidden = len(unrolled.h), len(unrolled.h[0])
    masses = [[0.0] * n_hidden for _ in range(n_steps)]
    if isinstance(target, tuple):
        n, k = target
        masses[n] = shares(unrolled.h[n], classifier[k].tolist(), 1, negative)
    else:
        everything = [a for h in unrolled.h for a in h]
        flat = shares(everything, classifier[target].tolist() * n_steps, 1, negative)
        masses = [flat[t * n_hidden : (t + 1) * n_hidden] for t in range(n_steps)]
    return masses


def map_at_boundary(
    weights: LSTMWeights,
    classifier: Tensor,
    features: Tensor,
    target: tuple[int, int] | int,
    contrastive: bool,
    negative: str = "support",
) -> Tensor:
    """Steps 1 to 5 for one clip: (T, D)."""
    unrolled = run_lstm(weights, features)

    def normalised(sign: float) -> Tensor:
        states = mass_of_states(sign * classifier, unrolled, target, negative)
        mass = mass_of_features(weights, unrolled, features, states, negative)
        assert mass.sum() > 1e-9, "a dead network tests nothing; choose another seed"
        return mass / mass.sum()  # step 3: over all time steps and neurons

    return normalised(1.0) - normalised(-1.0) if contrastive else normalised(1.0)


def dense_matrix(linear, shape: tuple[int, ...]) -> Tensor:
    """The matrix (n_out, n_in) of a linear function on tensors of ``shape``, from unit vectors."""
    basis = torch.eye(math.prod(shape), dtype=torch.float64).reshape(-1, *shape)
    return torch.stack([linear(unit[None]).flatten() for unit in basis], dim=1)


def through_linear(mass: Tensor, children: Tensor, matrix: Tensor) -> Tensor:
    """Eqs. 8 and 9 for non-negative children and active parents: sum_j P(i | j) mass_j by dense matrices."""
    pulls = (matrix * children).clamp(min=0)  # (parents, children)
    supports = pulls.sum(1, keepdim=True)
    conditional = torch.where(supports > 0, pulls / supports.where(supports > 0, 1.0), 0.0)
    return conditional.T @ mass


def through_max_pool(mass: Tensor, children: Tensor, size: int) -> Tensor:
    """All mass of a pooled unit goes to the child that won; children (C, h, w), mass (C, h', w')."""
    values, masses = children.tolist(), mass.tolist()
    result = torch.zeros_like(children).tolist()
    channels, rows, columns = mass.shape
    for channel, row, column in itertools.product(range(channels), range(rows), range(columns)):
        window = itertools.product(
            range(row * size, (row + 1) * size), range(column * size, (column + 1) * size)
        )
        y, x = max(window, key=lambda at, plane=values[channel]: plane[at[0]][at[1]])
        result[channel][y][x] += masses[channel][row][column]
    return torch.tensor(result, dtype=torch.float64)


@dataclass
class FrameStates:
    """What the toy CNN computes for one frame."""

    relu1: Tensor  # (C1, h, w)
    pooled: Tensor  # (C1, h/2, w/2)
    relu2: Tensor  # (C2, h/2, w/2)
    features: Tensor  # (D,)


def run_cnn(cnn, frame: Tensor) -> FrameStates:
    """The toy CNN of one frame (3, h, w), from its parameters alone."""
    relu1 = F.conv2d(frame[None], cnn.conv1.weight, cnn.conv1.bias, padding=1).clamp(min=0)
    pooled = F.max_pool2d(relu1, 2)
    relu2 = F.conv2d(pooled, cnn.conv2.weight, cnn.conv2.bias, padding=1).clamp(min=0)
    features = (cnn.fc.weight @ relu2.flatten() + cnn.fc.bias).clamp(min=0)
    return FrameStates(relu1[0].detach(), pooled[0].detach(), relu2[0].detach(), features.detach())


def through_cnn(cnn, states: FrameStates, mass: Tensor, layer: str) -> Tensor:
    """Step 6 for one frame: from the features down to ``layer``, by explicit dense matrices."""
    mass = through_linear(mass, states.relu2.flatten(), cnn.fc.weight.detach()).view_as(states.relu2)
    if layer in ("relu2", "conv2"):
        return mass
    matrix = dense_matrix(
        lambda a: F.conv2d(a, cnn.conv2.weight, padding=1).detach(), tuple(states.pooled.shape)
    )
    mass = through_linear(mass.flatten(), states.pooled.flatten(), matrix).view_as(states.pooled)
    if layer == "pool":
        return mass
    return through_max_pool(mass, states.relu1, 2)


def algorithm1(
    model, clip: Tensor, target, layer: str, contrastive: bool, negative: str = "support"
) -> Tensor:
    """All steps for one clip (C, T, H, W): the map (C', T, h, w) at ``layer``."""
    weights = LSTMWeights(*model.lstm_parameters(), model.activation)
    frames = [run_cnn(model.cnn, frame) for frame in clip.unbind(1)]
    features = torch.stack([frame.features for frame in frames])
    at_boundary = map_at_boundary(
        weights, model.classifier.weight.detach(), features, target, contrastive, negative
    )
    return torch.stack(
        [through_cnn(model.cnn, frame, mass, layer) for frame, mass in zip(frames, at_boundary, strict=True)],
        dim=1,
    )
