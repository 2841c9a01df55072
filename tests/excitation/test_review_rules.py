"""Ways of writing a computation that once changed its map: each has the map of the plain way."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_ext.attr import ExcitationBackprop
from captum_ext.excitation.errors import UnsupportedOperationError

N, D, H, K = 2, 6, 5, 3
MASK = torch.tensor([True, False, False, True, False])
ALL = torch.arange(N)[:, None], torch.arange(H)[None]


class Net(nn.Module):
    """Linear layers, and a function that runs them."""

    def __init__(self, run, *sizes, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.m = nn.ModuleList(nn.Linear(*size) for size in sizes or [(D, H), (D, H), (H, K)])
        self.run = run

    def forward(self, x):
        return self.run(self.m, x)


def eb(run, x, *sizes, seed=0, **settings):
    net = Net(run, *sizes, seed=seed).double().eval()
    return ExcitationBackprop(net, **settings).attribute(x, target=1)


def clip(seed=1):
    return torch.randn(N, D, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def assert_same_map(run, plain, *sizes):
    """For several models and inputs, so that the signs of all paths occur."""
    differences = []
    for seed in range(4):
        x = clip(seed)
        torch.testing.assert_close(eb(run, x, *sizes, seed=seed), eb(plain, x, *sizes, seed=seed))
        differences.append(float(eb(plain, x, *sizes, seed=seed).abs().max()))
    assert max(differences) > 0


# ------------------------------------------------------------------------------------------- sums by index


def hidden(m, x):
    return m[0](x).relu(), m[1](x).relu()


def index_put_in_place(h, g):
    return h.clone().index_put_(ALL, g, accumulate=True)


def index_put_on_a_view(h, g):
    out = h.clone()
    out[:, :3].index_put_((torch.arange(N)[:, None], torch.arange(3)[None]), g[:, :3], True)
    return out


def sum_on_a_view(name):
    def run(h, g):
        out = h.clone()
        *first, index = {"index_add_": (1, torch.arange(2))}.get(name, (1, ALL[1][:, :2].expand(N, 2)))
        getattr(out[:, 1:], name)(*first, index, g[:, :2], *(("sum",) if name == "scatter_reduce_" else ()))
        return out

    return run


SUMS_BY_INDEX = {
    **{
        f"{name} on a view": sum_on_a_view(name) for name in ("index_add_", "scatter_add_", "scatter_reduce_")
    },
    "index_put_": index_put_in_place,
    "index_put_ on a view": index_put_on_a_view,
    "index_put": lambda h, g: h.index_put(ALL, g, accumulate=True),
    "torch.index_put": lambda h, g: torch.index_put(h, ALL, g, True),
    "scatter reduce": lambda h, g: torch.scatter(h, 1, ALL[1].expand(N, H), g, reduce="add"),
    "scatter_add": lambda h, g: h.scatter_add(1, ALL[1].expand(N, H), g),
    "scatter_reduce": lambda h, g: h.scatter_reduce(1, ALL[1].expand(N, H), g, "sum"),
    "index_add": lambda h, g: h.index_add(1, torch.arange(H), g),
}


@pytest.mark.parametrize("name", SUMS_BY_INDEX)
def test_sums_by_index_are_refused(name):
    with pytest.raises(UnsupportedOperationError, match=r"index_put|scatter|index_add"):
        eb(lambda m, x: m[2](SUMS_BY_INDEX[name](*hidden(m, x))), clip())


def test_an_entry_written_twice_is_refused():
    def twice(m, x):
        h, g = hidden(m, x)
        h = h.clone()
        h[:, [0, 0]] = g[:, :2]
        return m[2](h)

    with pytest.raises(UnsupportedOperationError, match="writes to an entry twice"):
        eb(twice, clip())


def test_index_put_without_a_sum_is_an_assignment():
    def assigned(m, x):
        h = m[0](x)
        h[:, [0, 3]] = m[1](x)[:, :2]
        return m[2](h)

    def put(m, x):
        h = m[0](x)
        h.index_put_((torch.arange(N)[:, None], torch.tensor([[0, 3]])), m[1](x)[:, :2])
        return m[2](h)

    assert_same_map(put, assigned)


# ---------------------------------------------------------------------------------------------------- gates

GATES = {
    "divided": lambda w: w / w.sum(1, keepdim=True),
    "divided in place": lambda w: w.clone().div_(w.sum(1, keepdim=True)),
    "masked": lambda w: w.masked_fill(MASK, 0.0),
    "masked in place": lambda w: w.clone().masked_fill_(MASK, 0.0),
    "times a mask": lambda w: w * ~MASK,
    "L1": lambda w: F.normalize(w, p=1, dim=1),
    "clamp": lambda w: w.clamp(0.0, 1.0),
    "relu": lambda w: F.relu(w - 0.1),
    "maximum": lambda w: torch.maximum(w, torch.zeros_like(w)),
    "where": lambda w: torch.where(MASK, torch.zeros((), dtype=w.dtype), w),
    "dropout": lambda w: F.dropout(w, 0.5, training=False),
    "two gates": lambda w: w * w.flip(1),
    "largest": lambda w: w.amax(1, keepdim=True),
    "mean": lambda w: w.mean(1, keepdim=True),
    "joined with ones": lambda w: torch.cat([w[:, :3], torch.ones_like(w[:, 3:])], 1),
    "written into a buffer": lambda w: torch.zeros_like(w).detach().copy_(w),
}


def gated(process):
    def run(m, x):
        return m[2](process(torch.sigmoid(m[0](x))) * F.relu(m[1](x[:, :3])))

    return run


SIZES = (D, H), (3, H), (H, K)


@pytest.mark.parametrize("name", GATES)
def test_a_processed_gate_takes_no_mass(name):
    process = GATES[name]
    x = clip()
    found = eb(gated(process), x, *SIZES)
    with_fixed_gate = eb(gated(lambda w: process(w.detach())), x, *SIZES)
    torch.testing.assert_close(found, with_fixed_gate)
    assert found[:, 3:].abs().max() == 0
    assert found[:, :3].sum() > 0


HARD_SIGMOIDS = {
    "relu6": lambda z: F.relu6(z + 3) / 6,
    "hardtanh": lambda z: F.hardtanh(z / 6 + 0.5, 0.0, 1.0),
    "clamp": lambda z: ((z + 3) / 6).clamp(min=0, max=1),
    "Keras": lambda z: torch.clamp(0.2 * z + 0.5, 0, 1),
    "reflected": lambda z: F.relu6(3 - z) / 6,
}


@pytest.mark.parametrize("name", HARD_SIGMOIDS)
def test_a_hard_sigmoid_by_hand_is_a_gate(name):
    def run(m, x):
        return m[2](HARD_SIGMOIDS[name](m[0](x)) * F.relu(m[1](x[:, :3])))

    found = eb(run, clip(), *SIZES)
    assert found[:, 3:].abs().max() == 0
    assert found.sum() > 0


@pytest.mark.parametrize("clip_to", [F.relu6, lambda z: F.relu6(z + 1), lambda z: (z + 3).clamp(0, 1)])
def test_other_clipped_values_are_no_gates(clip_to):
    found = eb(
        lambda m, x: m[2](clip_to(m[0](x)) * F.relu(m[1](x[:, :3]))), torch.rand(N, D).double(), *SIZES
    )
    assert found[:, 3:].abs().max() > 0


# -------------------------------------------------------------------------------------- gates on one's self

ACT = (D, H), (H, K)
SILU = {
    "plain": lambda h: h * torch.sigmoid(h),
    "clone": lambda h: h.clone() * torch.sigmoid(h),
    "view": lambda h: (h.view(N, H, 1) * torch.sigmoid(h.view(N, H, 1))).view(N, H),
    "new axis": lambda h: (h[:, None] * torch.sigmoid(h)[:, None])[:, 0],
    "cast": lambda h: h * torch.sigmoid(h.to(torch.float64).contiguous().clone()).to(h.dtype),
    "in place": lambda h: h.clone().mul_(torch.sigmoid(h)),
    "gate in another shape": lambda h: h * torch.sigmoid(h.view(-1)).view(N, H),
    "transposed": lambda h: (h.T * torch.sigmoid(h).T).T,
    "in parts": lambda h: torch.cat(
        [h[:, :2] * torch.sigmoid(h)[:, :2], h[:, 2:] * torch.sigmoid(h[:, 2:])], 1
    ),
}


@pytest.mark.parametrize("name", SILU)
def test_silu_by_hand_is_silu(name):
    assert_same_map(lambda m, x: m[1](SILU[name](m[0](x))), lambda m, x: m[1](F.silu(m[0](x))), *ACT)


def test_silu_of_a_cast_gate_is_silu():
    found = eb(lambda m, x: m[1]((lambda h: h * torch.sigmoid(h.float()).double())(m[0](x))), clip(), *ACT)
    torch.testing.assert_close(found, eb(lambda m, x: m[1](F.silu(m[0](x))), clip(), *ACT), atol=1e-6, rtol=0)


def test_hard_swish_by_hand_is_hard_swish():
    assert_same_map(
        lambda m, x: m[1]((lambda h: h * F.relu6(h + 3) / 6)(m[0](x))),
        lambda m, x: m[1](F.hardswish(m[0](x))),
        *ACT,
    )


MIXING = {
    "softmax": lambda u: torch.softmax(u, 1),
    "log-softmax": lambda u: torch.sigmoid(torch.log_softmax(u, 1)),
    "layer norm": lambda u: torch.sigmoid(F.layer_norm(u, (H,))),
    "normalised": lambda u: torch.sigmoid(F.normalize(u)),
    "other order": lambda u: torch.sigmoid(u.flip(1)),
    "transposed": lambda u: torch.sigmoid(u[:, [1, 0, 2, 4, 3]]),
}


@pytest.mark.parametrize("name", MIXING)
def test_a_gate_that_mixes_entries_scales_the_rows_of_the_layer(name):
    """Dense: child i wins (w_k g_k w_ki x_i)^+ from the output unit, path by path."""
    gate, x = MIXING[name], clip()
    run = lambda m, x: (lambda u: m[1](u * gate(u)))(m[0](x))  # noqa: E731
    net = Net(run, *ACT).double()
    found = ExcitationBackprop(net.eval()).attribute(x, target=1)
    with torch.no_grad():
        u, lower, upper = net.m[0](x), net.m[0].weight, net.m[1].weight[1]
        paths = (upper[None, :, None] * gate(u)[:, :, None] * lower * x[:, None]).clamp(min=0).sum(1)
    torch.testing.assert_close(found, paths / paths.sum(1, keepdim=True))


def test_a_gate_from_another_slice_is_no_activation_of_this_one():
    glu = lambda m, x: (lambda h: m[1](h[:, :3] * torch.sigmoid(h[:, 2:])))(m[0](x))  # noqa: E731
    net = Net(glu, (D, H), (3, K)).double()
    x = clip()
    found = ExcitationBackprop(net.eval()).attribute(x, target=1)
    with torch.no_grad():
        h, lower, upper = net.m[0](x), net.m[0].weight[:3], net.m[1].weight[1]
        gate = torch.sigmoid(h[:, 2:])[:, :, None]
        paths = (upper[None, :, None] * gate * lower * x[:, None]).clamp(min=0).sum(1)
    torch.testing.assert_close(found, paths / paths.sum(1, keepdim=True))


# ------------------------------------------------------------------------------------------ in-place writes


def emptied(write):
    def run(m, x):
        h = m[0](x)
        write(h)
        return m[2](h)

    return run


def zero_each(h):
    h[:, 0].zero_()
    h[:, 3].zero_()


def fill_each(h):
    h[:, 0].fill_(0.0)
    h[:, 3].fill_(torch.zeros((), dtype=h.dtype))


def copy_constants(h):
    h[:, 0].copy_(torch.zeros(N, dtype=h.dtype))
    h[:, 3:4].copy_(torch.zeros(1, dtype=h.dtype))


def through_a_transposed_view(h):
    turned = h.T
    turned[0] = 0.0
    turned[3] = 0.0


def put_zeros(h):
    h.index_put_((torch.arange(N)[:, None], torch.tensor([[0, 3]])), torch.zeros((), dtype=h.dtype))


def through_views_of_views(h):
    part = h[:, 1:]
    h.T[0].zero_()
    part[:, 2:][:, 0] = 0.0


EMPTIED = {
    "zero_": zero_each,
    "fill_": fill_each,
    "masked_fill_": lambda h: h.masked_fill_(MASK, 0.0),
    "masked_fill_ on a view": lambda h: h.T.masked_fill_(MASK[:, None], 0.0),
    "constants copied": copy_constants,
    "transposed": through_a_transposed_view,
    "views of views": through_views_of_views,
    "index_put_": put_zeros,
}


@pytest.mark.parametrize("name", EMPTIED)
def test_emptied_entries_do_not_break_the_chain_of_linear_maps(name):
    def assigned(h):
        h[:, [0, 3]] = 0.0

    assert_same_map(emptied(EMPTIED[name]), emptied(assigned))


def test_a_whole_tensor_filled_is_a_constant():
    def filled(m, x):
        return m[2](m[0](x).fill_(2.0) + m[1](x))

    def plain(m, x):
        return m[2](2.0 + m[1](x))

    assert_same_map(filled, plain)


def scaled_through_a_view(m, x):
    h = m[0](x)
    turned = h.T
    turned[0] *= 2.0
    return m[2](h)


def scaled(m, x):
    return m[2](m[0](x) * torch.tensor([2.0, 1, 1, 1, 1]).double())


def stale_flat_view(m, x):
    h = m[0](x)
    flat = h.view(-1)
    h.add_(m[1](x))
    return m[2](flat.view(N, H))


def stale_slice(m, x):
    h = m[0](x)
    part = h[:, :3]
    h.mul_(2.0)
    h[:, 3:] = 0.0
    return m[2](torch.cat([part, h[:, 3:]], 1))


def scaled_and_emptied(m, x):
    h = m[0](x) * 2.0
    return m[2](torch.cat([h[:, :3], torch.zeros_like(h[:, 3:]).detach()], 1))


def stale_view_of_a_buffer(m, x):
    out = torch.zeros(N, H, dtype=x.dtype)
    left, right = out[:, :3], out[:, 3:]
    left.copy_(m[0](x)[:, :3])
    right.copy_(m[1](x)[:, 3:])
    left.mul_(-1.0)
    return m[2](torch.cat([left, right], 1))


def without_a_buffer(m, x):
    return m[2](torch.cat([-m[0](x)[:, :3], m[1](x)[:, 3:]], 1))


VIEWS = {
    "scaled through a view": (scaled_through_a_view, scaled),
    "base changed under a flat view": (stale_flat_view, lambda m, x: m[2](m[0](x) + m[1](x))),
    "base changed under a slice": (stale_slice, scaled_and_emptied),
    "views of a constant buffer": (stale_view_of_a_buffer, without_a_buffer),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_hold_what_their_base_holds(name):
    assert_same_map(*VIEWS[name])


# -------------------------------------------------------------------------------------------- weighted means


def step_in_place(h, n, z):
    h = h.clone()
    h += z * (n - h)
    return h


def all_in_place(h, n, z):
    return (n - h).mul_(z).add_(h)


MEANS = {
    "h + z (n - h)": lambda h, n, z: h + z * (n - h),
    "z (n - h) + h": lambda h, n, z: (n - h) * z + h,
    "n + (1 - z) (h - n)": lambda h, n, z: n + (1 - z) * (h - n),
    "h - z (h - n)": lambda h, n, z: h - z * (h - n),
    "n - (1 - z) (n - h)": lambda h, n, z: n - (1 - z) * (n - h),
    "in place": step_in_place,
    "all in place": all_in_place,
    "addcmul": lambda h, n, z: torch.addcmul(h, z, n - h),
    "lerp": lambda h, n, z: torch.lerp(h, n, z),
    "lerp_": lambda h, n, z: h.clone().lerp_(n, z),
}


def gru(mean, learned=False):
    """A GRU's update over four steps; without ``learned`` its initial state is zero."""

    def run(m, x):
        h = torch.linspace(-1, 1, H, dtype=x.dtype).expand(N, H) if learned else x.new_zeros(N, H)
        for step in range(4):
            joined = torch.cat([x.roll(step, 1), h], 1)
            h = mean(h, torch.tanh(m[0](joined)), torch.sigmoid(m[1](joined)))
        return m[2](h)

    return run


CELL = (D + H, H), (D + H, H), (H, K)


@pytest.mark.parametrize("learned", [False, True], ids=["zero state", "constant state"])
@pytest.mark.parametrize("name", MEANS)
def test_a_step_by_a_gate_is_the_weighted_mean(name, learned):
    assert_same_map(gru(MEANS[name], learned), gru(lambda h, n, z: (1 - z) * h + z * n, learned), *CELL)


@pytest.mark.parametrize("name", MEANS)
def test_a_mean_of_linear_layers_is_one_map_with_them(name):
    def run(mean):
        return lambda m, x: m[3](mean(m[0](x), m[1](x), torch.sigmoid(m[2](x))))

    sizes = (D, H), (D, H), (D, H), (H, K)
    assert_same_map(run(MEANS[name]), run(lambda h, n, z: (1 - z) * h + z * n), *sizes)


def step_from_elsewhere(m, x):
    a, b, c = (torch.tanh(m[k](x)) for k in (0, 1, 3))
    return m[4](c + torch.sigmoid(m[2](x)) * (b - a))


def step_written_apart(m, x):
    a, b, c = (torch.tanh(m[k](x)) for k in (0, 1, 3))
    # The gate reads the difference by its net value; halves and a double keep it from being a step.
    return m[4](c + torch.sigmoid(m[2](x)) * (2 * (b / 2 - a / 2)))


def mean_from_elsewhere(m, x):
    b, c = (torch.tanh(m[k](x)) for k in (1, 3))
    z = torch.sigmoid(m[2](x))
    return m[4]((1 - z) * c + z * b)


def test_a_step_from_elsewhere_is_a_sum():
    """Negative control: what is subtracted is not what is added to."""
    sizes = (D, H), (D, H), (D, H), (D, H), (H, K)
    assert_same_map(step_from_elsewhere, step_written_apart, *sizes)
    found, mean = (eb(run, clip(), *sizes) for run in (step_from_elsewhere, mean_from_elsewhere))
    assert (found - mean).abs().max() > 0.01


def test_a_start_that_was_changed_since_is_an_error():
    def changed(m, x):
        a, b = torch.tanh(m[0](x)), torch.tanh(m[1](x))
        step = torch.sigmoid(m[2](x)) * (b - a)
        a.mul_(-1.0)
        return m[3](a + step)

    with pytest.raises(RuntimeError, match="changed in place after"):
        eb(changed, clip(), (D, H), (D, H), (D, H), (H, K))
