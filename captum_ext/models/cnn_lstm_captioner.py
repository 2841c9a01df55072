"""The video captioner of the EB-R paper: CNN, mean over frames, two LSTM layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from captum_ext.models.frame_cnn_lstm import _features
from captum_ext.models.vgg_lstm import Activation, recurrent_layer
from captum_ext.models.vocabulary import BEGIN, END, PADDING

__all__ = ["CNNLSTMCaptioner"]

_GRID = 4  # side of the grid of positions that a frame's descriptor tells apart


class CNNLSTMCaptioner(nn.Module):
    """A CNN on every frame, the mean of the frames' descriptors, two LSTM layers that write a caption.

    The pooled descriptor goes into every step of the decoder, beside the embedding of the word before. A
    descriptor tells a coarse grid of positions apart, so that the mean over frames shows where things moved.

    To ground word ``captions[n, i]``, explain the output unit ``(i, captions[n, i])``: pass the captions as
    ``additional_forward_args``, the frame features as ``layer="features"``, and
    ``boundary="embedding"``, where :class:`~captum_ext.attr.RecurrentExcitationBackprop` normalises over the
    frames.

    Args:
        vocabulary_size (int): V, as ``len(vocabulary)`` of a :class:`~captum_ext.models.Vocabulary`.
        hidden_size (int, optional): units of each LSTM layer. Default: 96
        embedding_size (int, optional): D, size of a frame's descriptor. Default: 128
        word_size (int, optional): size of a word's embedding. Default: 32
        activation (str, optional): ``"tanh"`` or ``"relu"``, as in :class:`~captum_ext.models.VGGLSTM`.
            Default: ``"tanh"``
        features (nn.Module, optional): from frames (B, C, H, W) to maps (B, C', h, w). Default: the three
            convolutions of :class:`~captum_ext.models.FrameCNN`
        feature_channels (int, optional): C'. Default: 48, those of the default features

    Shape:
        clips (N, 3, T, 64, 64) and captions (N, L), token ids; returns scores (N, L, V).

    Example:
        >>> from captum_ext.attr import RecurrentExcitationBackprop
        >>> from captum_ext.models import Vocabulary
        >>> vocabulary = Vocabulary.of(["a disc moves", "a ring moves"])
        >>> model = CNNLSTMCaptioner(len(vocabulary)).eval()
        >>> clips, captions = torch.rand(2, 3, 5, 64, 64), vocabulary.encode(["a disc moves", "a ring moves"])
        >>> model(clips, captions).shape
        torch.Size([2, 4, 7])
        >>> nouns = [(1, int(caption[1])) for caption in captions]
        >>> eb_r = RecurrentExcitationBackprop(model, "features", boundary="embedding")
        >>> eb_r.attribute(clips, target=nouns, additional_forward_args=captions, sum_channels=True).shape
        torch.Size([2, 1, 5, 16, 16])

    References:
        Bargal et al., Excitation Backprop for RNNs, CVPR 2018, section 4.2; Venugopalan et al., Translating
        Videos to Natural Language Using Deep Recurrent Neural Networks, NAACL 2015.
    """

    def __init__(
        self,
        vocabulary_size: int,
        hidden_size: int = 96,
        embedding_size: int = 128,
        word_size: int = 32,
        activation: Activation = "tanh",
        features: nn.Module | None = None,
        feature_channels: int = 48,
    ) -> None:
        super().__init__()
        if vocabulary_size <= END + 1:
            raise ValueError(
                f"vocabulary_size must count padding, begin, end and at least one word, not {vocabulary_size}"
            )
        self.features = _features() if features is None else features
        self.embedding = nn.Sequential(
            nn.AdaptiveMaxPool2d(_GRID),
            nn.Flatten(),
            nn.Linear(feature_channels * _GRID**2, embedding_size),
            nn.ReLU(),
        )
        self.word_embedding = nn.Embedding(vocabulary_size, word_size, padding_idx=PADDING)
        self.decoder = nn.ModuleList(
            [
                recurrent_layer(embedding_size + word_size, hidden_size, activation),
                recurrent_layer(hidden_size, hidden_size, activation),
            ]
        )
        self.classifier = nn.Linear(hidden_size, vocabulary_size)

    def forward(self, clips: Tensor, captions: Tensor) -> Tensor:
        """Scores (logits) of every word, given the clip and the caption before it (teacher forcing).

        Args:
            clips (Tensor): the frames.
            captions (Tensor): token ids; scores at step i are those for ``captions[:, i]`` and depend on the
                tokens before it only.

        Shape:
            clips (N, 3, T, H, W), captions (N, L); returns (N, L, V).

        Returns:
            Tensor: the scores.

        Raises:
            ValueError: captions that are not one row of token ids per clip.
        """
        if captions.dim() != 2 or len(captions) != len(clips):
            raise ValueError(
                f"captions must hold one row of token ids for each of the {len(clips)} clips, got the shape "
                f"{tuple(captions.shape)}"
            )
        return self.decode(self.describe(self.frame_maps(clips)).mean(1), captions)

    def frame_maps(self, clips: Tensor) -> Tensor:
        """What the CNN sees in every frame.

        Args:
            clips (Tensor): the frames.

        Shape:
            clips (N, 3, T, H, W); returns (N, T, C', h, w).

        Returns:
            Tensor: the output of ``features``.
        """
        frames = clips.transpose(1, 2)
        maps: Tensor = self.features(frames.flatten(0, 1))
        return maps.view(*frames.shape[:2], *maps.shape[1:])

    def describe(self, maps: Tensor) -> Tensor:
        """The descriptors of single frames.

        Args:
            maps (Tensor): from :meth:`frame_maps`.

        Shape:
            maps (N, T, C', h, w); returns (N, T, D).

        Returns:
            Tensor: non-negative.
        """
        descriptors: Tensor = self.embedding(maps.flatten(0, 1))
        return descriptors.view(*maps.shape[:2], -1)

    def decode(self, descriptors: Tensor, captions: Tensor) -> Tensor:
        """Scores of every word, given one descriptor for the whole clip.

        Args:
            descriptors (Tensor): usually the mean over frames.
            captions (Tensor): token ids, as for :meth:`forward`.

        Shape:
            descriptors (N, D), captions (N, L); returns (N, L, V).

        Returns:
            Tensor: the scores.
        """
        return self.decode_words(descriptors, self.words_before(captions))

    def words_before(self, captions: Tensor) -> Tensor:
        """The decoder's language input: at each step the embedding of the token before, first that of begin.

        Args:
            captions (Tensor): token ids.

        Shape:
            captions (N, L); returns (N, L, word_size).

        Returns:
            Tensor: the embeddings.
        """
        begin = captions.new_full((len(captions), 1), BEGIN)
        words: Tensor = self.word_embedding(torch.cat([begin, captions[:, :-1]], dim=1))
        return words

    def decode_words(self, descriptors: Tensor, words: Tensor) -> Tensor:
        """Scores of every word from the decoder's two inputs.

        Args:
            descriptors (Tensor): one for each clip.
            words (Tensor): from :meth:`words_before`.

        Shape:
            descriptors (N, D), words (N, L, word_size); returns (N, L, V).

        Returns:
            Tensor: the scores.
        """
        hidden = torch.cat([descriptors[:, None].expand(-1, words.shape[1], -1), words], dim=2)
        for layer in self.decoder:
            hidden, _ = layer(hidden)
        scores: Tensor = self.classifier(hidden)
        return scores

    @torch.no_grad()
    def generate(self, clips: Tensor, max_length: int = 20) -> Tensor:
        """Captions of the most probable word at every step (greedy decoding).

        Args:
            clips (Tensor): the frames.
            max_length (int, optional): at most so many tokens, the end token included. Default: 20

        Shape:
            clips (N, 3, T, H, W); returns (N, L) with L <= max_length, padded behind the end token.

        Returns:
            Tensor: token ids, int64, for :meth:`Vocabulary.decode`, or as captions for :meth:`forward`.

        Raises:
            ValueError: for a length below 1.
        """
        if max_length < 1:
            raise ValueError(f"max_length must be at least 1, not {max_length}")
        descriptors = self.describe(self.frame_maps(clips)).mean(1)
        # The token that is to be found stands in its place as padding, which its own scores do not see.
        captions = torch.full((len(clips), 1), PADDING, device=clips.device)
        ended = torch.zeros(len(clips), dtype=torch.bool, device=clips.device)
        for length in range(1, max_length + 1):
            best = self.decode(descriptors, captions)[:, -1, END:].argmax(1) + END  # no padding, no begin
            captions[:, -1] = best.masked_fill(ended, PADDING)
            ended |= best == END
            if bool(ended.all()) or length == max_length:
                break
            captions = torch.cat([captions, captions.new_full((len(clips), 1), PADDING)], dim=1)
        return captions
