"""Whether what was taken for scores goes through further weights on its way to the loss."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_ext.dropout.consumed import weight_above

Y = torch.tensor([0, 2, 1, 2])


def numbered(tensor):
    return tensor.grad_fn._sequence_nr()


def parts():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU()), nn.Linear(8, 3), torch.rand(4, 5)


@pytest.mark.parametrize("autocast", [False, True])
def test_features_meet_the_weights_of_the_head_and_scores_meet_none(autocast):
    below, head, x = parts()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        features = below(x)
        scores = head(features)
    loss = F.cross_entropy(scores.float(), Y)
    assert weight_above(loss, numbered(features)) is head.weight
    assert weight_above(loss, numbered(scores)) is None


def test_weights_beside_the_way_from_the_scores_do_not_count():
    below, head, x = parts()
    other = nn.Linear(5, 3)
    temperature = nn.Parameter(torch.tensor(2.0))
    bias = nn.Parameter(torch.zeros(3))
    scores = head(below(x))
    calibrated = scores / temperature + bias
    loss = F.cross_entropy(calibrated, Y) + 0.1 * F.cross_entropy(other(x), Y)
    loss = loss + head.weight.pow(2).sum() + F.mse_loss(scores, other(x).detach())
    assert weight_above(loss, numbered(scores)) is None


def test_a_convolution_above_is_found():
    body, head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 3, (2, 3))
    maps = body(torch.rand(4, 1, 5, 6))
    loss = F.cross_entropy(head(maps).mean((2, 3)), Y)
    assert weight_above(loss, numbered(maps)) is head.weight


def test_a_loss_that_the_scores_do_not_reach_says_nothing():
    below, head, x = parts()
    scores = head(below(x))
    loss = F.cross_entropy(nn.Linear(5, 3)(x), Y)
    assert weight_above(loss, numbered(scores)) is None


def test_scores_that_also_reach_the_loss_without_weights_are_scores():
    below, head, x = parts()
    critic, second = nn.Linear(3, 2), nn.Linear(8, 3)
    scale, shift = nn.Parameter(torch.ones(1, 1)), nn.Parameter(torch.zeros(1, 3))
    scores = head(below(x))
    number = numbered(scores)
    direct = F.cross_entropy(scores, Y)
    assert weight_above(direct + critic(scores.softmax(1)).mean(), number) is None
    assert weight_above(direct + F.cross_entropy(second(torch.cat([scores, x], 1)), Y), number) is None
    assert weight_above(F.cross_entropy(scores * scale + shift, Y), number) is None
    assert weight_above(critic(scores.softmax(1)).mean(), number) is critic.weight


def test_every_way_through_weights_is_found():
    below, head, x = parts()
    other = nn.Linear(8, 3)
    features = below(x)
    loss = F.cross_entropy(head(features), Y) + F.cross_entropy(other(features.relu()), Y)
    assert weight_above(loss, numbered(features)) is not None
