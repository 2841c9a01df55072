"""A short training run of the captioner, and how many words it gets right."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from benchmarks.fitting import fit
from captum_ext.data import IMAGENET, ClipTransform, SyntheticCaptions
from captum_ext.models import CNNLSTMCaptioner, Vocabulary
from captum_ext.models.vgg_lstm import Activation

__all__ = ["TRANSFORM", "rendered_clips", "train_captioner", "words_right"]

TRANSFORM = ClipTransform(64, *IMAGENET)
_BATCH_SIZE = 16
_DECODER_EPOCHS = 40
_MIRRORINGS: tuple[tuple[int, ...], ...] = ((), (3,), (4,), (3, 4))  # mirroring a clip changes no word


def rendered_clips(synthetic: SyntheticCaptions, n_clips: int) -> tuple[Tensor, list[str]]:
    """The model's inputs (N, 3, T, 64, 64) and the captions of the first clips, drawn in memory."""
    rendered = [synthetic.render(i) for i in tqdm(range(n_clips), desc="drawing clips", file=sys.stderr)]
    return torch.stack([TRANSFORM(clip.frames) for clip in rendered]), [clip.caption for clip in rendered]


def train_captioner(
    vocabulary: Vocabulary,
    clips: Tensor,
    captions: Tensor,
    epochs: int,
    seed: int,
    activation: Activation = "tanh",
    clip_of: Tensor | None = None,
) -> CNNLSTMCaptioner:
    """Train a new captioner from clips and captions alone; returns it in evaluation mode.

    Captions may share clips: ``clip_of`` numbers the clip of every caption. Default: one caption for each.

    As in the paper the CNN is trained before the captioner and then kept: for ``epochs``, on single frames,
    to tell the words of their caption from the maxima of its maps, as a network with global max pooling. The
    rest is trained by teacher forcing on what the CNN sees.

    Shape:
        clips (M, 3, T, 64, 64), captions (N, L), clip_of (N,).
    """
    clip_of = torch.arange(len(clips)) if clip_of is None else clip_of
    torch.manual_seed(seed)
    model = CNNLSTMCaptioner(len(vocabulary), activation=activation).train()
    generator = torch.Generator().manual_seed(seed)
    _train_cnn(model, clips, captions, clip_of, epochs, generator)
    seen = torch.stack([_seen(model, clips.flip(axes) if axes else clips) for axes in _MIRRORINGS])

    def caption_loss(chosen: Tensor) -> Tensor:
        mirrored = int(torch.randint(len(_MIRRORINGS), (), generator=generator))
        descriptors = model.embedding[2:](seen[mirrored, clip_of[chosen]]).mean(1)
        scores = model.decode(descriptors, captions[chosen])
        return F.cross_entropy(scores.flatten(0, 1), captions[chosen].flatten())

    rest = [p for name, p in model.named_parameters() if not name.startswith("features.")]
    with _one_thread():
        fit(rest, caption_loss, len(captions), _DECODER_EPOCHS, generator, "training the decoder")
    return model.eval()


def words_right(model: CNNLSTMCaptioner, clips: Tensor, captions: Tensor) -> Tensor:
    """Which words of the captions the model writes by itself (greedily) in their places, (N, L) bool."""
    length = captions.shape[1]
    written = [model.generate(batch, length) for batch in torch.split(clips, 32)]
    return torch.cat([F.pad(tokens, (0, length - tokens.shape[1])) for tokens in written]) == captions


@contextmanager
def _one_thread() -> Iterator[None]:
    """For matrices so small that several threads only wait for each other."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _train_cnn(
    model: CNNLSTMCaptioner,
    clips: Tensor,
    captions: Tensor,
    clip_of: Tensor,
    epochs: int,
    generator: torch.Generator,
) -> None:
    words = model.classifier.out_features
    present = F.one_hot(captions, words).amax(1).float()
    head = nn.Linear(model.features(clips[:1, :, 0]).shape[1], words)

    def frame_loss(chosen: Tensor) -> Tensor:
        # Every third frame is enough: neighbours look alike.
        batch = clips[clip_of[chosen]][:, :, ::3]
        axes = _MIRRORINGS[int(torch.randint(len(_MIRRORINGS), (), generator=generator))]
        frames = (batch.flip(axes) if axes else batch).transpose(1, 2)
        scores = head(model.features(frames.flatten(0, 1)).amax((2, 3)))
        labels = present[chosen].repeat_interleave(frames.shape[1], 0)
        return F.binary_cross_entropy_with_logits(scores, labels)

    trained = [*model.features.parameters(), *head.parameters()]
    fit(trained, frame_loss, len(captions), epochs, generator, "training the CNN")


@torch.no_grad()
def _seen(model: CNNLSTMCaptioner, clips: Tensor) -> Tensor:
    """The coarse grids (N, T, D) of what the CNN sees in every frame."""
    grid = model.embedding[:2]
    batches = (model.frame_maps(batch) for batch in torch.split(clips, _BATCH_SIZE))
    return torch.cat([grid(maps.flatten(0, 1)).view(*maps.shape[:2], -1) for maps in batches])
