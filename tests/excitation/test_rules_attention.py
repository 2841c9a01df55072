"""Attention against the sum over all paths, and its many spellings against each other."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_ext.attr import ExcitationBackprop
from captum_ext.excitation.errors import UnsupportedOperationError

N, L, E, HEADS = 2, 4, 6, 3


class SelfAttention(nn.Module):
    """Self-attention by nn.MultiheadAttention, scores are all its output entries."""

    def __init__(self, **settings: object) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(E, HEADS, batch_first=True, **settings)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0].flatten(1)


class ByHand(nn.Module):
    """The same written out with one of many spellings of the two products."""

    def __init__(self, twin: SelfAttention, spelling: str) -> None:
        super().__init__()
        self.twin, self.spelling = twin.attention, spelling

    def forward(self, x: Tensor) -> Tensor:
        joint = F.linear(x, self.twin.in_proj_weight, self.twin.in_proj_bias)
        q, k, v = (part.view(len(x), L, HEADS, -1).transpose(1, 2) for part in joint.chunk(3, dim=-1))
        scores = q @ k.transpose(-1, -2) / math.sqrt(E // HEADS)
        weights = F.dropout(scores.softmax(-1), 0.3, training=False)
        match self.spelling:
            case "matmul":
                mixed = weights @ v
            case "bmm":
                mixed = torch.bmm(weights.flatten(0, 1), v.flatten(0, 1)).view_as(v)
            case "einsum":
                mixed = torch.einsum("nhls,nhsd->nhld", weights, v)
            case "values first":
                mixed = (v.transpose(-1, -2) @ weights.transpose(-1, -2)).transpose(-1, -2)
            case "sdpa":
                mixed = F.scaled_dot_product_attention(q, k, v)
            case _:
                raise AssertionError(self.spelling)
        return self.twin.out_proj(mixed.transpose(1, 2).flatten(2)).flatten(1)


def by_paths(model: SelfAttention, x: Tensor, position: int, unit: int) -> Tensor:
    """Winning probabilities of one example's inputs (L, E) by the sum over all paths to one output entry."""
    attention = model.attention
    weights = attention(x[None], x[None], x[None], average_attn_weights=False)[1][0]
    W_v = attention.in_proj_weight[2 * E :]
    evidence = torch.zeros(L, E, dtype=x.dtype)
    for source in range(L):
        for i in range(E):
            for d in range(E):
                path = x[source, i] * W_v[d, i] * weights[d // (E // HEADS), position, source]
                evidence[source, i] += (path * attention.out_proj.weight[unit, d]).clamp(min=0)
    return evidence / evidence.sum()


@pytest.mark.parametrize("settings", [{}, {"bias": False}, {"add_zero_attn": True}], ids=str)
def test_multi_head_attention_is_the_sum_over_its_paths(settings: dict[str, object]) -> None:
    torch.manual_seed(0)
    model = SelfAttention(**settings).double().eval()
    x = torch.randn(N, L, E, dtype=torch.float64)
    for position, unit in ((0, 0), (3, 5), (2, 1)):
        found = ExcitationBackprop(model).attribute(x, target=position * E + unit)
        expected = torch.stack([by_paths(model, example, position, unit) for example in x])
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("spelling", ["matmul", "bmm", "einsum", "values first", "sdpa"])
@pytest.mark.parametrize("negative", ["support", "clamp"])
def test_all_spellings_agree(spelling: str, negative: str) -> None:
    torch.manual_seed(1)
    twin = SelfAttention().double().eval()
    x = torch.randn(N, L, E, dtype=torch.float64)
    expected = ExcitationBackprop(twin, negative).attribute(x, target=[3, 7], contrastive=True)
    found = ExcitationBackprop(ByHand(twin, spelling).eval(), negative).attribute(
        x, target=[3, 7], contrastive=True
    )
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert expected.abs().sum() > 0.1


class Encoder(nn.Module):
    def __init__(self, batch_first: bool, norm_first: bool, masked: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            E, HEADS, 10, activation="gelu", batch_first=batch_first, norm_first=norm_first
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(E, 5)
        self.batch_first, self.masked = batch_first, masked

    def forward(self, x: Tensor) -> Tensor:
        padding = torch.zeros(x.shape[:2], dtype=torch.bool)
        padding[:, -1] = self.masked
        x = x if self.batch_first else x.transpose(0, 1)
        y = self.encoder(x, src_key_padding_mask=padding)
        y = y if self.batch_first else y.transpose(0, 1)
        return self.head(y[:, :-1].mean(1))


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_transformer_encoders_conserve_mass_and_leave_out_masked_keys(
    batch_first: bool, norm_first: bool
) -> None:
    torch.manual_seed(2)
    model = Encoder(batch_first, norm_first, masked=True).double().eval()
    x = torch.randn(N, L, E, dtype=torch.float64)
    eb = ExcitationBackprop(model)
    found, delta = eb.attribute(x, target=2, return_convergence_delta=True)
    torch.testing.assert_close(found.sum((1, 2)), torch.ones(N, dtype=torch.float64))
    assert delta.abs().max() < 1e-9
    assert bool((found >= 0).all())
    assert found[:, -1].abs().max() == 0  # a masked key and no query of its own
    single = torch.cat([eb.attribute(x[i : i + 1], target=2) for i in range(N)])
    torch.testing.assert_close(found, single)


def test_queries_and_keys_receive_nothing() -> None:
    class Cross(SelfAttention):
        def forward(self, x: Tensor, memory: Tensor) -> Tensor:
            return self.attention(x, memory, memory)[0].flatten(1)

    torch.manual_seed(3)
    model = Cross().eval()
    asked, values = ExcitationBackprop(model).attribute(
        (torch.randn(N, L, E), torch.randn(N, 5, E)), target=4
    )
    assert asked.abs().sum() == 0
    torch.testing.assert_close(values.sum((1, 2)), torch.ones(N))


def test_unbatched_attention_and_separate_projections() -> None:
    class Frames(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(E, HEADS, kdim=5, vdim=5)
            self.memory = nn.Linear(E, 5)

        def forward(self, x: Tensor) -> Tensor:
            memory = self.memory(x)
            return torch.stack([self.attention(a, b, b)[0].flatten() for a, b in zip(x, memory, strict=True)])

    torch.manual_seed(4)
    model = Frames().double().eval()
    x = torch.randn(N, L, E, dtype=torch.float64)
    eb = ExcitationBackprop(model)
    found, delta = eb.attribute(x, target=1, return_convergence_delta=True)
    assert delta.abs().max() < 1e-12
    torch.testing.assert_close(eb.attribute(x[1:], target=1), found[1:])


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (lambda x: (x @ x.transpose(1, 2) @ x).flatten(1), "must be a gate"),
        (lambda x: torch.einsum("nle,nme->nlm", x, x).flatten(1), "einsum"),
        (lambda x: torch.einsum("nle,nle,nle->nl", x, x, x), "two operands"),
    ],
)
def test_products_of_values_are_refused(forward: object, words: str) -> None:
    class Product(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return forward(x)  # type: ignore[operator]

    with pytest.raises(UnsupportedOperationError, match=words):
        ExcitationBackprop(Product()).attribute(torch.rand(N, L, E), target=0)


def test_attention_dropout_in_training_mode_is_an_error() -> None:
    model = SelfAttention(dropout=0.5).train()
    with pytest.raises(ValueError, match="dropout of attention weights"):
        ExcitationBackprop(model).attribute(torch.rand(N, L, E), target=0)
