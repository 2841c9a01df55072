"""Small networks in which the dropout layer stands in all kinds of places, as parts below and above it.

``forward(x)`` is ``above(drop(below(x)), x)``, and a hand-written masked network ``above(m * below(x), x)``.
"""

import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    """A dropout layer ``drop`` between a part below and a part above."""

    shape = (5,)  # of an example's input

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(5, 12)
        self.drop = nn.Dropout(0.5)
        self.build()

    def build(self):
        self.fc2, self.fc3 = nn.Linear(12, 9), nn.Linear(9, 4)

    def below(self, x):
        return F.relu(self.fc1(x))

    def above(self, h, x):
        return self.fc3(F.relu(self.fc2(h)))

    def forward(self, x):
        return self.above(self.drop(self.below(x)), x)


class OneLinear(Net):
    """Nothing but the classifier above the layer."""

    def build(self):
        self.fc2 = nn.Linear(12, 4)

    def above(self, h, x):
        return self.fc2(h)


class Residual(Net):
    """A skip connection above the layer."""

    def build(self):
        self.fc2, self.fc3 = nn.Linear(12, 12), nn.Linear(12, 4)

    def above(self, h, x):
        return self.fc3(F.relu(h + self.fc2(h)))


class AroundTheLayer(Net):
    """A skip connection from below the layer to above it."""

    def build(self):
        self.fc2, self.fc3 = nn.Linear(12, 12), nn.Linear(12, 4)

    def below(self, x):
        self.skip = F.relu(self.fc1(x))
        return self.skip * 1.5

    def above(self, h, x):
        return self.fc3(F.relu(self.fc2(h)) + self.skip)


class BatchNorm(Net):
    """Batch norm above the layer, with negative factors among its gammas."""

    def build(self):
        self.fc2, self.fc3, self.bn = nn.Linear(12, 9), nn.Linear(9, 4), nn.BatchNorm1d(9)
        with torch.no_grad():
            self.bn.weight[::2] = -0.7

    def above(self, h, x):
        return self.fc3(F.relu(self.bn(self.fc2(h))))


class UpperDropout(Net):
    """Other dropouts above the layer, as a module and as a function."""

    def build(self):
        super().build()
        self.upper = nn.Dropout(0.3)

    def above(self, h, x):
        return self.fc3(F.dropout(self.upper(F.relu(self.fc2(h))), 0.2, self.training))


class InPlace(Net):
    """In-place operations on the layer's output and above it."""

    def above(self, h, x):
        h *= 2.0
        z = self.fc2(h)
        z[:, 0] = z[:, 1].clone()
        z.relu_()
        out = z.new_zeros(len(z), 9)
        out[:, :5] = z[:, :5]
        out[:, 5:].copy_(z[:, 5:])
        return self.fc3(F.relu(out, inplace=True))


class Branches(Net):
    """Concatenation, splitting, views and an average of two scores."""

    def build(self):
        self.fc2, self.fc3 = nn.Linear(6, 9), nn.Linear(18, 4)

    def above(self, h, x):
        first, second = h.view(-1, 2, 6).unbind(1)
        z = torch.cat([F.relu(self.fc2(first)), F.relu(self.fc2(second))], dim=1)
        return (self.fc3(z) + self.fc3(z.roll(1, 1))) / 2


class WeightNorm(Net):
    """A weight that is computed from parameters above the layer."""

    def build(self):
        self.fc2 = nn.utils.parametrizations.weight_norm(nn.Linear(12, 9))
        self.fc3 = nn.Linear(9, 4)


class InputAgain(Net):
    """The input is read again above the layer, through weights of its own."""

    def build(self):
        super().build()
        self.again = nn.Linear(5, 9)

    def above(self, h, x):
        return self.fc3(F.relu(self.fc2(h)) + F.relu(self.again(x)))


class Convolutional(Net):
    """Maps: convolutions, pools and batch norm above the layer."""

    shape = (2, 6, 7)

    def build(self):
        self.fc1 = nn.Conv2d(2, 3, 3, padding=1)
        self.conv, self.bn, self.fc3 = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Linear(5, 4)

    def above(self, h, x):
        z = F.max_pool2d(F.relu(self.bn(self.conv(h))), 2)
        return self.fc3(z.mean((2, 3)))


class Recurrent(Net):
    """An LSTM with dropout between its layers above the layer."""

    shape = (3, 5)

    def build(self):
        self.lstm = nn.LSTM(12, 6, num_layers=2, dropout=0.4, batch_first=True)
        self.fc3 = nn.Linear(6, 4)

    def above(self, h, x):
        return self.fc3(self.lstm(h)[0][:, -1])


class Attention(Net):
    """Self-attention with dropout of its weights above the layer."""

    shape = (3, 5)

    def build(self):
        self.attention = nn.MultiheadAttention(12, 2, dropout=0.3, batch_first=True)
        self.norm, self.fc3 = nn.LayerNorm(12), nn.Linear(12, 4)

    def above(self, h, x):
        z = h + self.attention(h, h, h, need_weights=False)[0]
        return self.fc3(F.relu(self.norm(z))[:, 0])


NETS = [
    Net, OneLinear, Residual, AroundTheLayer, BatchNorm, UpperDropout, InPlace, Branches, WeightNorm,
    InputAgain, Convolutional, Recurrent, Attention,
]  # fmt: skip


def made(kind, n=6, dtype=torch.float64, seed=0):
    """A network in training mode with a batch and its labels."""
    torch.manual_seed(seed)
    net = kind().to(dtype)
    return net, torch.randn(n, *kind.shape, dtype=dtype), torch.randint(4, (n,))
