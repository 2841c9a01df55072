"""Recurrent layers neuron by neuron, as Python floats: the rules the slow textbook way.

A child is a pair of what pulls a positively connected parent up and of what pulls it down; so is its mass. A
value (an input, the state of an LSTM or RNN) has one of them. A linear map read by another (the sum that is
the state of a GRU, a projection) can have both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn

Pair = tuple[float, float]


def sigmoid(z: float) -> float:
    return 1.0 / (1.0 + math.exp(-z))


def positive(value: float) -> float:
    return max(value, 0.0)


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(p * q for p, q in zip(a, b, strict=True))


class Cell:
    """One layer in one direction for one example."""

    def __init__(self, weights: Sequence[Tensor], biases: Sequence[Tensor], clamp: bool, phi=math.tanh):
        self.w, self.u, *projection = [weight.tolist() for weight in weights]
        self.projection = projection[0] if projection else None
        self.b_x, self.b_h = [b.tolist() for b in biases] if biases else [[0.0] * len(self.w)] * 2
        self.clamp, self.phi = clamp, phi
        self.size = len(self.u[0])
        self.dropped = 0.0

    def pair(self, value: float) -> Pair:
        return positive(value), 0.0 if self.clamp else positive(-value)

    def sign(self, state: float) -> int:
        return -1 if state < 0 and not self.clamp else 1

    def own(self, mass: float, state: float) -> Pair:
        """Mass that supports a state's own sign."""
        return (mass, 0.0) if self.sign(state) > 0 else (0.0, mass)

    def linear(self, rows: list[list[float]], values: Sequence[float], bias: list[float]) -> list[float]:
        return [b + dot(row, values) for row, b in zip(rows, bias, strict=True)]

    def together(self, x: Sequence[float], h: Sequence[float]) -> list[float]:
        """W x + U h + b."""
        from_x, from_h = self.linear(self.w, x, self.b_x), self.linear(self.u, h, self.b_h)
        return [a + b for a, b in zip(from_x, from_h, strict=True)]

    def split(self, mass: float, children: list[tuple[list[list[float]], int, Pair, float]], s: int) -> None:
        """Eq. 1: a parent of sign ``s``, and its children as (masses, index, pair, weight)."""
        pulls = []
        for masses, k, (up, down), weight in children:
            pulls.append((masses, k, 0, up * positive(s * weight)))
            pulls.append((masses, k, 1, down * positive(-s * weight)))
        total = sum(pull for *_, pull in pulls)
        if total == 0.0:
            self.dropped += mass
            return
        for masses, k, kind, pull in pulls:
            masses[k][kind] += mass * pull / total

    def run(self, xs, x_pairs, initial, initial_competes):
        """Outputs, the pairs as which they compete, and the last states."""
        self.x_pairs, self.steps, self.competes = x_pairs, [], initial_competes
        states = [list(state) for state in initial]
        pairs = [self.pair(v) if initial_competes else (0.0, 0.0) for v in states[0]]
        for t, x in enumerate(xs):
            step = {"h_pairs": pairs, "h": states[0], "first": t == 0}
            states, pairs = self.step(step, x, states)
            step["pairs"] = pairs
            self.steps.append({**step, "out": states[0]})
        return [step["out"] for step in self.steps], [step["pairs"] for step in self.steps], states

    def explain(self, m_out, m_last=None):
        """Masses (pairs) of the inputs and of the initial states; ``m_last`` is that of the last c."""
        m_h = [[0.0, 0.0] for _ in range(self.size)]
        m_c = list(m_last or [0.0] * self.n_cells)
        m_x = [[[0.0, 0.0] for _ in step] for step in self.x_pairs]
        for t in reversed(range(len(self.steps))):
            arriving = [
                [a + b for a, b in zip(p, q, strict=True)] for p, q in zip(m_h, m_out[t], strict=True)
            ]
            m_h = [[0.0, 0.0] for _ in range(self.size)]
            m_c = self.back(self.steps[t], arriving, m_c, m_x[t], m_h, t)
        return m_x, m_h, m_c

    @property
    def n_cells(self) -> int:
        return self.size

    def joint(self, mass, row, s, m_x, m_h, step, t, gate=1.0):
        children = [(m_x, k, pair, self.w[row][k]) for k, pair in enumerate(self.x_pairs[t])]
        children += [(m_h, k, pair, gate * self.u[row][k]) for k, pair in enumerate(step["h_pairs"])]
        self.split(mass, children, s)


class ScalarRNN(Cell):
    def step(self, step, x, states):
        h = [self.phi(v) for v in self.together(x, states[0])]
        return [h], [self.pair(v) for v in h]

    def back(self, step, arriving, m_c, m_x, m_h, t):
        for j, mass in enumerate(arriving):
            if sum(mass):
                self.joint(sum(mass), j, self.sign(step["out"][j]), m_x, m_h, step, t)
        return m_c


class ScalarGRU(Cell):
    def step(self, step, x, states):
        (h,), n = states, self.size
        from_x, from_h = self.linear(self.w, x, self.b_x), self.linear(self.u, h, self.b_h)
        r, z = ([sigmoid(from_x[k * n + j] + from_h[k * n + j]) for j in range(n)] for k in (0, 1))
        new = [math.tanh(from_x[2 * n + j] + r[j] * from_h[2 * n + j]) for j in range(n)]
        a = [(1 - z[j]) * new[j] for j in range(n)]
        b = [z[j] * h[j] for j in range(n)]
        constant = step["first"] and not self.competes
        step.update(r=r, new=new, a=[self.pair(v) for v in a])
        step["b"] = [(0.0, 0.0) if constant else self.pair(v) for v in b]
        pairs = [(p[0] + q[0], p[1] + q[1]) for p, q in zip(step["a"], step["b"], strict=True)]
        return [[p + q for p, q in zip(a, b, strict=True)]], pairs

    def back(self, step, arriving, m_c, m_x, m_h, t):
        n = self.size
        for j in range(n):
            to_new = 0.0
            for kind in (0, 1):
                mass, a, b = arriving[j][kind], step["a"][j][kind], step["b"][j][kind]
                if a + b == 0.0:
                    self.dropped += mass
                    continue
                to_new += mass * a / (a + b)
                for k, part in enumerate(self.own(mass * b / (a + b), step["h"][j])):
                    m_h[j][k] += part
            self.joint(to_new, 2 * n + j, self.sign(step["new"][j]), m_x, m_h, step, t, step["r"][j])
        return m_c


class ScalarLSTM(Cell):
    """With or without a projection."""

    @property
    def n_cells(self) -> int:
        return len(self.w) // 4

    def step(self, step, x, states):
        (h, c), n = states, self.n_cells
        z = self.together(x, h)
        i, f, o = ([sigmoid(z[k * n + j]) for j in range(n)] for k in (0, 1, 3))
        g = [self.phi(z[2 * n + j]) for j in range(n)]
        constant = step["first"] and not self.competes
        new, old = [i[j] * g[j] for j in range(n)], [f[j] * c[j] for j in range(n)]
        c = [p + q for p, q in zip(new, old, strict=True)]
        value = [o[j] * self.phi(c[j]) for j in range(n)]
        step.update(g=g, c=c, new=new, old=[0.0] * n if constant else old, value=value)
        if self.projection is None:
            return [value, c], [self.pair(v) for v in value]
        h = [dot(row, value) for row in self.projection]
        contributions = [
            [(self.pair(v), w) for v, w in zip(value, row, strict=True)] for row in self.projection
        ]
        pairs = [
            tuple(
                sum(up * positive(s * w) + down * positive(-s * w) for (up, down), w in row) for s in (1, -1)
            )
            for row in contributions
        ]
        return [h, c], pairs

    def back(self, step, arriving, m_c, m_x, m_h, t):
        n = self.n_cells
        if self.projection is None:
            m_value = [sum(mass) for mass in arriving]
        else:
            masses = [[0.0, 0.0] for _ in range(n)]
            for p, row in enumerate(self.projection):
                children = [(masses, j, self.pair(step["value"][j]), row[j]) for j in range(n)]
                for kind, s in enumerate((1, -1)):
                    self.split(arriving[p][kind], children, s)
            m_value = [sum(mass) for mass in masses]
        before = [0.0] * n
        for j in range(n):
            mass, s = m_value[j] + m_c[j], self.sign(step["c"][j])
            carried, entered = positive(s * step["old"][j]), positive(s * step["new"][j])
            if carried + entered == 0.0:
                self.dropped += mass
                continue
            before[j] = mass * carried / (carried + entered)
            mass = mass * entered / (carried + entered)
            self.joint(mass, 2 * n + j, self.sign(step["g"][j]), m_x, m_h, step, t)
        return before


def relu(z: float) -> float:
    return max(z, 0.0)


def cells(module: nn.RNNBase, clamp: bool) -> list[list[Cell]]:
    """The layers of a torch.nn module, each a list of directions."""
    kind = {nn.LSTM: ScalarLSTM, nn.GRU: ScalarGRU}.get(type(module), ScalarRNN)
    phi = relu if module.mode == "RNN_RELU" else math.tanh
    layers = []
    for layer in range(module.num_layers):
        directions = []
        for suffix in ("", "_reverse")[: 1 + module.bidirectional]:
            named = [f"{name}_l{layer}{suffix}" for name in ("weight_ih", "weight_hh")]
            if getattr(module, "proj_size", 0):
                named.append(f"weight_hr_l{layer}{suffix}")
            biases = [f"bias_{name}_l{layer}{suffix}" for name in ("ih", "hh")] if module.bias else []
            directions.append(
                kind([getattr(module, n) for n in named], [getattr(module, n) for n in biases], clamp, phi)
            )
        layers.append(directions)
    return layers


class Explained:
    """EB of one sequence x, (T, D), from class ``target`` of a linear head at time ``step``.

    Attributes: the map (T, D), the masses of the initial states, the dropped mass and the outputs (T, K H).
    """

    def __init__(self, module, head, x, step, target, negative, initial=None, competes=False):
        clamp = negative == "clamp"
        layers = cells(module, clamp)
        values = x.tolist()
        names = ("size", "n_cells") if module.mode == "LSTM" else ("size",)
        pairs = [[layers[0][0].pair(v) for v in row] for row in values]
        index = 0
        for directions in layers:
            results = []
            for direction, cell in enumerate(directions):
                states = [[0.0] * getattr(cell, name) for name in names]
                if initial is not None:
                    states = [state[index].tolist() for state in initial]
                index += 1
                flip = slice(None, None, -1) if direction else slice(None)
                y, p, _ = cell.run(values[flip], pairs[flip], states, competes)
                results.append((y[flip], p[flip]))
            values = [list(chain(*(y[t] for y, _ in results))) for t in range(len(values))]
            pairs = [list(chain(*(p[t] for _, p in results))) for t in range(len(values))]
        mass = [[[0.0, 0.0] for _ in row] for row in values]
        top = layers[-1][0]
        weights = head.weight[target].tolist()
        top.split(1.0, [(mass[step], k, pair, weights[k]) for k, pair in enumerate(pairs[step])], 1)
        self.states = {}
        for number, directions in reversed(list(enumerate(layers))):
            below = None
            for direction, cell in enumerate(directions):
                flip = slice(None, None, -1) if direction else slice(None)
                own = [row[direction * cell.size : (direction + 1) * cell.size] for row in mass][flip]
                m_x, m_h, m_c = cell.explain(own)
                self.states[number * len(directions) + direction] = m_h, m_c
                m_x = m_x[flip]
                below = m_x if below is None else [
                    [[a + b for a, b in zip(p, q, strict=True)] for p, q in zip(r, s, strict=True)]
                    for r, s in zip(below, m_x, strict=True)
                ]  # fmt: skip
            mass = below
        self.map = torch.tensor([[sum(pair) for pair in row] for row in mass], dtype=torch.float64)
        self.outputs = torch.tensor(values, dtype=torch.float64)
        self.dropped = sum(cell.dropped for directions in layers for cell in directions)


class Net(nn.Module):
    """A recurrent module under a linear head that is applied at every step; clips are (N, T, D)."""

    def __init__(self, module: nn.RNNBase, initial: tuple[Tensor, ...] | None = None) -> None:
        super().__init__()
        self.module, self.initial = module, initial
        width = (getattr(module, "proj_size", 0) or module.hidden_size) * (1 + module.bidirectional)
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        """``given`` are initial states (N, L * K, H) that are explained as well."""
        states: tuple[Tensor, ...] = tuple(state.transpose(0, 1).contiguous() for state in given)
        if self.initial is not None:
            states = tuple(s[:, None].expand(-1, len(x), -1).contiguous() for s in self.initial)
        if len(states) == 1 and self.module.mode == "LSTM":
            raise ValueError("an LSTM has two states")
        hx = () if not states else (states if len(states) > 1 else states[0],)
        if self.module.batch_first:
            return self.head(self.module(x, *hx)[0])
        return self.head(self.module(x.transpose(0, 1), *hx)[0].transpose(0, 1))
