"""Toy models shared by the tests of the attribution classes."""

import torch
from torch import Tensor, nn

from captum_ext.models import ReLULSTM

SIZE, N_FEATURES, N_HIDDEN, N_CLASSES = 6, 6, 7, 3


class ToyCNN(nn.Module):
    """conv - relu - max pool - conv - relu - flatten - linear - relu on frames (B, 3, 6, 6)."""

    def __init__(self, size: int = SIZE) -> None:
        super().__init__()
        self.conv1, self.relu1 = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.conv2, self.relu2 = nn.Conv2d(4, 3, 3, padding=1), nn.ReLU()
        self.flatten = nn.Flatten()
        self.fc, self.out = nn.Linear(3 * (size // 2) ** 2, N_FEATURES), nn.ReLU()

    def forward(self, frames: Tensor) -> Tensor:
        maps = self.relu2(self.conv2(self.pool(self.relu1(self.conv1(frames)))))
        return self.out(self.fc(self.flatten(maps)))


class ToyCNNLSTM(nn.Module):
    """A per-frame CNN, one LSTM layer and scores; every way in which people write the same model.

    folding: "NT", "TN" or "frames" (the CNN is called once per frame).
    recurrence: "batch_first", "time_first", "cell", "relu" (ReLULSTM) or "by_hand" (plain torch operations).
    """

    def __init__(
        self,
        recurrence: str = "batch_first",
        folding: str = "NT",
        layout: str = "NCTHW",
        output: str = "steps",
    ) -> None:
        super().__init__()
        self.recurrence, self.folding, self.layout, self.output = recurrence, folding, layout, output
        self.cnn = ToyCNN()
        if recurrence == "cell":
            self.cell = nn.LSTMCell(N_FEATURES, N_HIDDEN)
        elif recurrence == "relu":
            self.lstm = ReLULSTM(N_FEATURES, N_HIDDEN)
        elif recurrence == "by_hand":
            self.lin_x = nn.Linear(N_FEATURES, 4 * N_HIDDEN)
            self.lin_h = nn.Linear(N_HIDDEN, 4 * N_HIDDEN, bias=False)
        else:
            self.lstm = nn.LSTM(N_FEATURES, N_HIDDEN, batch_first=recurrence == "batch_first")
        self.classifier = nn.Linear(N_HIDDEN, N_CLASSES)

    @property
    def activation(self) -> str:
        return "relu" if self.recurrence == "relu" else "tanh"

    def lstm_parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        if self.recurrence == "cell":
            found = self.cell.weight_ih, self.cell.weight_hh, self.cell.bias_ih + self.cell.bias_hh
        elif self.recurrence == "relu":
            found = self.lstm.weight_ih, self.lstm.weight_hh, self.lstm.bias
        elif self.recurrence == "by_hand":
            found = self.lin_x.weight, self.lin_h.weight, self.lin_x.bias
        else:
            found = (
                self.lstm.weight_ih_l0,
                self.lstm.weight_hh_l0,
                self.lstm.bias_ih_l0 + self.lstm.bias_hh_l0,
            )
        return tuple(tensor.detach() for tensor in found)

    def forward(self, clips: Tensor) -> Tensor:
        features = self.features(clips if self.layout == "NTCHW" else clips.transpose(1, 2))
        hidden = getattr(self, f"run_{self.recurrence}")(features)
        scores = self.classifier(hidden)
        return scores if self.output == "steps" else scores.mean(1)

    def features(self, frames: Tensor) -> Tensor:
        """(N, T, D) from frames (N, T, C, H, W)."""
        n, t = frames.shape[:2]
        if self.folding == "NT":
            return self.cnn(frames.flatten(0, 1)).view(n, t, -1)
        if self.folding == "TN":
            return self.cnn(frames.transpose(0, 1).flatten(0, 1)).view(t, n, -1).transpose(0, 1)
        return torch.stack([self.cnn(frame) for frame in frames.unbind(1)], dim=1)

    def run_batch_first(self, features: Tensor) -> Tensor:
        return self.lstm(features)[0]

    def run_time_first(self, features: Tensor) -> Tensor:
        return self.lstm(features.transpose(0, 1))[0].transpose(0, 1)

    run_relu = run_batch_first

    def run_cell(self, features: Tensor) -> Tensor:
        h = c = features.new_zeros(features.shape[0], N_HIDDEN)
        hidden = []
        for x in features.unbind(1):
            h, c = self.cell(x, (h, c))
            hidden.append(h)
        return torch.stack(hidden, dim=1)

    def run_by_hand(self, features: Tensor) -> Tensor:
        h = c = features.new_zeros(features.shape[0], N_HIDDEN)
        hidden = []
        for x in features.unbind(1):
            i, f, g, o = (self.lin_x(x) + self.lin_h(h)).chunk(4, dim=-1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            hidden.append(h)
        return torch.stack(hidden, dim=1)


def toy_cnn_lstm(seed: int = 0, **settings: str) -> ToyCNNLSTM:
    """A toy in float64 with weights wide enough that states take both signs and no unit is all but dead."""
    torch.manual_seed(seed)
    model = ToyCNNLSTM(**settings).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.6)
        model.cnn.fc.weight.mul_(0.3)
        model.cnn.fc.bias.fill_(1.0)
    return model


def toy_clips(n: int = 2, t: int = 4, seed: int = 1, layout: str = "NCTHW") -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    clips = torch.randn(n, 3, t, SIZE, SIZE, generator=generator, dtype=torch.float64)
    return clips if layout == "NCTHW" else clips.transpose(1, 2).contiguous()


def small_cnn(seed: int = 0, n_classes: int = 4) -> nn.Sequential:
    """conv - relu - max pool - conv - relu - flatten - linear on images (N, 3, 8, 8)."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 5, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(5 * 16, n_classes),
    ).eval()


def images(n: int = 2, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed)).to(dtype)
