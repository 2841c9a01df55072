"""Excitation Backprop the slow way: dense matrices, explicit paths, loops over parents and children.

A network is a tree of modules that say what they are: torch's own layers, and :class:`Fn`, :class:`Join`,
:class:`Gate` and :class:`Product` for everything that torch writes as a function. The engine runs the
network; :class:`Tape` runs the same tree on one example in float64 and knows nothing of the engine.

The rule. Between two non-linear operations everything linear is one map. A parent j in state s_j = +-1 gives
a child i the share

    sum over the paths p from i to j of (s_j a_i w_p)^+     /     the same, summed over all children,

where w_p is the product of the weights along p. Biases are no children. The output unit's state is +1.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_ext.attr import ExcitationBackprop
from captum_ext.models import ReLULSTM

TINY = 1e-13


# ---------------------------------------------------------------------------------------- describing networks


class Fn(nn.Module):
    """A function of one tensor and what it is: linear, affine, move, own, plus, relu, norm, max or sort."""

    def __init__(self, kind: str, fn: Callable[[Tensor], Tensor], gamma: Tensor | None = None) -> None:
        super().__init__()
        self.kind, self.fn, self.gamma = kind, fn, gamma

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(x)


class Join(nn.Module):
    """A linear function of the results of several branches: sums, differences, concatenations."""

    def __init__(self, fn: Callable[..., Tensor], *branches: nn.Module, moves: bool = False) -> None:
        super().__init__()
        self.fn, self.branches, self.moves = fn, nn.ModuleList(branches), moves

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(*[branch(x) for branch in self.branches])


class Gate(nn.Module):
    """A value that is multiplied by something that only modulates it."""

    def __init__(
        self,
        fn: Callable[[Tensor, Tensor], Tensor],
        value: nn.Module,
        gate: nn.Module,
        scales_layers: bool = True,
    ) -> None:
        super().__init__()
        self.fn, self.value, self.gate, self.scales_layers = fn, value, gate, scales_layers

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.value(x), self.gate(x))


class Product(nn.Module):
    """Two values multiplied."""

    def __init__(self, fn: Callable[[Tensor, Tensor], Tensor], a: nn.Module, b: nn.Module) -> None:
        super().__init__()
        self.fn, self.a, self.b = fn, a, b

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.a(x), self.b(x))


WEIGHTED = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
LINEAR = (
    *WEIGHTED,
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    nn.Upsample,
)
WINNER = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)
BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
NORM = (nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d)
OWN_SIGN = (nn.Tanh, nn.GELU, nn.SiLU, nn.LeakyReLU, nn.ELU, nn.Hardswish, nn.Softsign, nn.Mish, nn.Hardtanh)
POSITIVE = (nn.ReLU6, nn.Sigmoid, nn.Softplus, nn.Hardsigmoid, nn.Softmax)
MOVE = (nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout, nn.Dropout2d, nn.PixelShuffle)


def kind_of(module: nn.Module) -> str:
    if isinstance(module, Fn):
        return module.kind
    kinds = {
        "linear": LINEAR,
        "max": WINNER,
        "affine": BATCH_NORM,
        "norm": NORM,
        "relu": nn.ReLU,
        "plus": POSITIVE,
        "own": OWN_SIGN,
        "move": MOVE,
    }
    # nn.ReLU6 is an nn.Hardtanh, so the positive ones come first.
    return next(kind for kind, types in kinds.items() if isinstance(module, types))


# ---------------------------------------------------------------------------------------- slow computation


def linear_part(fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A layer without its bias; any other affine function minus its value at 0."""
    if isinstance(fn, LINEAR) and isinstance(getattr(fn, "bias", None), Tensor):
        fn = copy.deepcopy(fn)
        fn.bias = None
        return fn
    return lambda *xs: fn(*[x.clone() for x in xs]) - fn(*[torch.zeros_like(x) for x in xs])


def dense(fn: Callable[..., Tensor], *operands: Tensor) -> list[Tensor]:
    """The matrix of an affine function for each operand, column by column."""
    fn = linear_part(fn)
    matrices = []
    for position, operand in enumerate(operands):
        columns = []
        for k in range(operand.numel()):
            basis = [a.new_zeros(a.shape) for a in operands]
            basis[position].view(-1)[k] = 1.0
            columns.append(fn(*basis).reshape(-1))
        matrix = torch.stack(columns, dim=1)
        matrices.append(torch.where(matrix.abs() < TINY, 0.0, matrix))
    return matrices


class State:
    """A vector of units that compete as children, with the mass they have won."""

    def __init__(self, value: Tensor, routes: Sequence[tuple[Node, Tensor, list[int]]] = ()) -> None:
        self.value = value.reshape(-1).tolist()
        self.mass = [0.0] * len(self.value)
        self.routes = routes


class Node:
    """A tensor as a linear function of states: weights of positive and of negative paths, (n, n_state)."""

    def __init__(
        self, value: Tensor, paths: dict[State, tuple[Tensor, Tensor]], bare: list[bool] | None = None
    ) -> None:
        self.value, self.paths = value, paths
        # Entries that are a state itself, with no linear map in between: mass passes to them without contest.
        self.bare = bare or [False] * value.numel()
        self.of_layers = False


class Tape:
    """One example's forward pass and the mass that comes back."""

    def __init__(self, negative: str = "support") -> None:
        self.clamp = negative == "clamp"
        self.states: list[State] = []
        self.dropped = 0.0

    # ---- forward

    def state(self, value: Tensor, *routes: tuple[Node, Tensor, list[int]]) -> Node:
        state = State(value, routes)
        self.states.append(state)
        eye = torch.eye(value.numel(), dtype=value.dtype)
        return Node(value, {state: (eye, torch.zeros_like(eye))}, [True] * value.numel())

    def join(self, fn: Callable[..., Tensor], *nodes: Node, moves: bool = False) -> Node:
        value = fn(*[node.value.clone() for node in nodes])
        paths: dict[State, tuple[Tensor, Tensor]] = {}
        weights = dense(fn, *[node.value for node in nodes])
        for node, weight in zip(nodes, weights, strict=True):
            up, down = self.parts(weight)
            for state, (positive, negative) in node.paths.items():
                more = up @ positive + down @ negative, up @ negative + down @ positive
                old = paths.get(state, (0.0, 0.0))
                paths[state] = old[0] + more[0], old[1] + more[1]
        bare = None
        if moves:
            sources = torch.cat(weights, dim=1) != 0
            origin = torch.tensor([entry for node in nodes for entry in node.bare])
            bare = [bool(origin[row].all()) for row in sources]
        joined = self.linear_node(Node(value, paths, bare), nodes)
        joined.of_layers = isinstance(fn, WEIGHTED) or all(node.of_layers for node in nodes)
        return joined

    def linear_node(self, node: Node, behind: Sequence[Node]) -> Node:
        """A hook for wrong rules."""
        return node

    def parts(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return weight.clamp(min=0), (-weight).clamp(min=0)

    def affine(self, fn: Callable[[Tensor], Tensor], node: Node) -> Node:
        """Constants that scale and shift: one map with a linear map behind, else mass passes through."""
        if not all(node.bare):
            return self.join(fn, node)
        value = fn(node.value.clone())
        return self.state(value, (node, (dense(fn, node.value)[0] != 0).double(), [1] * node.value.numel()))

    def activation(self, fn: Callable[[Tensor], Tensor], node: Node, signs: list[int] | None = None) -> Node:
        value = fn(node.value.clone())
        same = torch.eye(value.numel(), dtype=torch.float64)
        return self.state(value, (node, same, signs or self.own_signs(node)))

    def relu(self, fn: Callable[[Tensor], Tensor], node: Node) -> Node:
        """Units that are off pass nothing on; only a norm behind them could send them mass at all."""
        value = fn(node.value.clone())
        on = torch.diag((value.reshape(-1) > 0).double())
        return self.state(value, (node, on, [1] * value.numel()))

    def norm(self, module: nn.Module, node: Node) -> Node:
        """Pass-through; the state is the normalised output, gamma's sign as in batch norm."""
        value = module(node.value)
        gamma = module.gamma if isinstance(module, Fn) else module.weight
        flips = torch.zeros_like(value, dtype=torch.bool)
        if gamma is not None:
            per_channel = not isinstance(module, nn.LayerNorm)
            shape = (-1, *[1] * (value.dim() - 2)) if per_channel else gamma.shape
            flips = (gamma.detach() < 0).reshape(shape).expand_as(value)
        positive = ((value >= 0) ^ flips).reshape(-1).tolist()
        return self.activation(module, node, [1 if p else -1 for p in positive])

    def winner(self, fn: Callable[[Tensor], Tensor], node: Node) -> Node:
        """The first child of the window that has the maximum's value; raising a child shows its windows."""
        value = fn(node.value.clone())
        columns = []
        for k, child in enumerate(node.value.reshape(-1).tolist()):
            raised = node.value.clone(memory_format=torch.contiguous_format)
            raised.view(-1)[k] += 1e6
            columns.append(((fn(raised) > value) & (value == child)).reshape(-1))
        candidates = torch.stack(columns, dim=1).double()
        first = candidates * (candidates.cumsum(1) == 1)
        return self.state(value, (node, first, self.own_signs(node)))

    def sort(self, fn: Callable[[Tensor], Tensor], node: Node) -> Node:
        """Every entry keeps its mass wherever it is put; for entries that are all different."""
        value = fn(node.value.clone())
        same = (value.reshape(-1, 1) == node.value.reshape(1, -1)).double()
        return self.state(value, (node, same, self.own_signs(node)))

    def gated(self, fn: Callable[[Tensor, Tensor], Tensor], value: Node, gate: Node) -> Node:
        output = fn(value.value.clone(), gate.value)
        copies = dense(lambda v: v.expand(output.shape).clone(), value.value)[0]
        return self.state(output, (value, copies, self.own_signs(value)))

    def gated_layer(self, fn: Callable[[Tensor, Tensor], Tensor], value: Node, gate: Node) -> Node:
        """The gate scales what the layers give: one linear map with them."""
        return self.join(lambda v: fn(v, gate.value), value)

    def product(self, fn: Callable[[Tensor, Tensor], Tensor], a: Node, b: Node) -> Node:
        output = fn(a.value.clone(), b.value.clone())
        halves = [dense(lambda v: v.expand(output.shape) / 2, node.value)[0] for node in (a, b)]
        routes = zip((a, b), halves, map(self.own_signs, (a, b)), strict=True)
        return self.state(output, *routes)

    def own_signs(self, node: Node) -> list[int]:
        return [-1 if z < 0 and not self.clamp else 1 for z in node.value.reshape(-1).tolist()]

    # ---- running a tree of modules

    def run(self, module: nn.Module, node: Node) -> Node:
        if isinstance(module, nn.Sequential):
            for layer in module:
                node = self.run(layer, node)
            return node
        if isinstance(module, Join):
            nodes = [self.run(branch, node) for branch in module.branches]
            return self.join(module.fn, *nodes, moves=module.moves)
        if isinstance(module, Gate):
            value, gate = self.run(module.value, node), self.run(module.gate, node)
            rule = self.gated_layer if value.of_layers and module.scales_layers else self.gated
            return rule(module.fn, value, gate)
        if isinstance(module, Product):
            return self.product(module.fn, self.run(module.a, node), self.run(module.b, node))
        kind = kind_of(module)
        if getattr(module, "padding_mode", "zeros") != "zeros":
            return self.padded_convolution(module, node)
        if kind == "plus":
            return self.activation(module, node, [1] * node.value.numel())
        if kind == "relu":
            return self.relu(module, node)
        rules = {
            "linear": self.join,
            "affine": self.affine,
            "own": self.activation,
            "norm": self.norm,
            "max": self.winner,
            "sort": self.sort,
            "move": lambda fn, n: self.join(fn, n, moves=True),
        }
        return rules[kind](module, node)

    def padded_convolution(self, layer: nn.Module, node: Node) -> Node:
        """Copies of the border are children of their own."""
        padding, bare = layer._reversed_padding_repeated_twice, copy.deepcopy(layer)
        node = self.join(lambda x: F.pad(x, padding, layer.padding_mode), node, moves=True)
        bare.padding, bare.padding_mode = (0,) * len(layer.kernel_size), "zeros"
        return self.join(bare, node)

    # ---- backward

    def explain(self, output: Node, index: int) -> list[float]:
        """Hand one unit of mass from an output unit down to the first state, the input."""
        mass = [0.0] * output.value.numel()
        mass[index] = 1.0
        self.hand_down(output, mass, [1] * len(mass))
        for state in reversed(self.states[1:]):
            self.dropped += sum(state.mass)
            for node, routing, signs in state.routes:
                routed = (routing.T @ torch.tensor(state.mass, dtype=torch.float64)).tolist()
                self.dropped -= sum(routed)
                self.hand_down(node, routed, signs)
        return self.states[0].mass

    def hand_down(self, node: Node, mass: list[float], signs: list[int]) -> None:
        """Eq. 1, parent by parent and child by child."""
        paths = [(state, up.tolist(), down.tolist()) for state, (up, down) in node.paths.items()]
        for j, m in enumerate(mass):
            if m == 0.0:
                continue
            shares = []
            for state, up, down in paths:
                for i, a in enumerate(state.value):
                    weights = up[j][i], down[j][i]
                    share = weights[0] if node.bare[j] else self.contribution(a, *weights, signs[j])
                    if share > 0.0:
                        shares.append((state, i, share))
            total = sum(share for _, _, share in shares) + self.also_in_the_denominator(node, j)
            if total <= 0.0:
                self.dropped += m
                continue
            for state, i, share in shares:
                state.mass[i] += m * share / total

    def contribution(self, a: float, up: float, down: float, sign: int) -> float:
        """Sum over the paths of (s a w)^+, given the summed weights of positive and of negative paths."""
        if self.clamp and a < 0:
            return 0.0
        towards, against = (up, down) if sign > 0 else (down, up)
        return max(a, 0.0) * towards + max(-a, 0.0) * against

    def also_in_the_denominator(self, node: Node, j: int) -> float:
        """A hook for wrong rules: nothing but the children competes."""
        return 0.0


def explain(
    net: nn.Module, x: Tensor, target: int, negative: str = "support", tape: type[Tape] = Tape
) -> tuple[Tensor, float]:
    """The map of one example, (1, *), and the mass that was dropped."""
    with torch.no_grad():
        run = tape(negative)
        output = run.run(net, run.state(x))
        mass = run.explain(output, target)
    return torch.tensor(mass, dtype=torch.float64).reshape(x.shape), run.dropped


# ---------------------------------------------------------------------------------------- building test cases


def randomize(module: nn.Module, seed: int = 0) -> nn.Module:
    """Weights, biases and batch statistics of either sign, in float64 and evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.7)
        for layer in module.modules():
            if isinstance(layer, BATCH_NORM):
                layer.running_mean.normal_(generator=generator)
                layer.running_var.uniform_(0.5, 2.0, generator=generator)
            if isinstance(layer, (*BATCH_NORM, *NORM)) and layer.weight is not None:
                layer.weight.view(-1)[::2] = -layer.weight.view(-1)[::2].abs()  # gamma of either sign
                layer.weight.view(-1)[1::2] = layer.weight.view(-1)[1::2].abs()
    return module


def numbers(*shape: int, signed: bool = True, seed: int = 0) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1000 + seed), dtype=torch.float64)
    return x if signed else x.abs()


def classifier_on(body: nn.Module, x: Tensor, n_classes: int = 2, seed: int = 2) -> nn.Sequential:
    """``body`` with a linear classifier on all its units."""
    body = randomize(body, seed)
    with torch.no_grad():
        width = body(x[:1].clone()).numel()
    return nn.Sequential(body, nn.Flatten(), randomize(nn.Linear(width, n_classes), seed + 1))


def assert_engine_follows_the_rule(
    net: nn.Module, x: Tensor, negative: str = "support", target: int = 1
) -> None:
    """The engine's maps and dropped masses equal the slow ones, example by example."""
    maps, delta = ExcitationBackprop(net, negative=negative).attribute(
        x, target=target, return_convergence_delta=True
    )
    for row in range(len(x)):
        expected, dropped = explain(net, x[row : row + 1], target, negative)
        torch.testing.assert_close(maps[row : row + 1], expected, rtol=1e-9, atol=1e-9)
        assert abs(float(delta[row]) - dropped) < 1e-9


def eb(net: nn.Module, x: Tensor, target: int = 1, negative: str = "support") -> Tensor:
    return ExcitationBackprop(net, negative=negative).attribute(x, target=target)


__all__ = [
    "Fn", "Gate", "Join", "Product", "ReLULSTM", "Tape", "assert_engine_follows_the_rule", "classifier_on",
    "dense", "eb", "explain", "numbers", "randomize",
]  # fmt: skip
