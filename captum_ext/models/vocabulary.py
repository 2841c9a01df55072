"""The words of a captioner and their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

__all__ = ["BEGIN", "END", "PADDING", "Vocabulary"]

PADDING, BEGIN, END = 0, 1, 2
"""Token ids that are no words: behind the end of a caption, before its first word, after its last."""


class Vocabulary:
    """Words and token ids, both ways.

    The ids 0, 1 and 2 are padding, begin and end; words follow in the order they are given.

    Args:
        words (Iterable[str]): the words; repeated ones count once.

    Raises:
        ValueError: no word, or one that is empty or holds white space.

    Example:
        >>> vocabulary = Vocabulary.of(["a disc moves", "a ring"])
        >>> len(vocabulary), vocabulary.words
        (7, ('a', 'disc', 'moves', 'ring'))
        >>> tokens = vocabulary.encode(["a ring moves", "a disc"])
        >>> tokens
        tensor([[3, 6, 5, 2],
                [3, 4, 2, 0]])
        >>> vocabulary.decode(tokens[1]), vocabulary.id("disc")
        ('a disc', 4)
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words = tuple(dict.fromkeys(words))
        if not self.words or any(len(word.split()) != 1 or word != word.strip() for word in self.words):
            raise ValueError(f"a vocabulary is made of one or more words without white space, not {words!r}")
        self._ids = {word: index for index, word in enumerate(self.words, start=END + 1)}

    @classmethod
    def of(cls, captions: Iterable[str]) -> Vocabulary:
        """The vocabulary of all words of some captions, in the order they appear.

        Args:
            captions (Iterable[str]): sentences, words separated by white space.

        Returns:
            Vocabulary: their words.

        Raises:
            ValueError: if they hold no word.
        """
        return cls([word for caption in captions for word in caption.split()])

    def __len__(self) -> int:
        """V, the number of token ids, the three that are no words included."""
        return END + 1 + len(self.words)

    def id(self, word: str) -> int:
        """The token id of a word.

        Args:
            word (str): the word.

        Returns:
            int: 3 to V - 1.

        Raises:
            ValueError: if the vocabulary does not have it.
        """
        if word not in self._ids:
            raise ValueError(f"the vocabulary has no word {word!r}; it has {', '.join(self.words)}")
        return self._ids[word]

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Captions as token ids: their words, an end token, padding up to the longest.

        Args:
            captions (Sequence[str]): sentences, words separated by white space.

        Shape:
            returns (N, L), int64, with L one more than the words of the longest caption.

        Returns:
            Tensor: what :class:`~captum_ext.models.CNNLSTMCaptioner` takes as captions.

        Raises:
            ValueError: for a word the vocabulary does not have, and for no captions.
        """
        if isinstance(captions, str) or not captions:
            raise ValueError(f"captions must be a list of one or more sentences, got {captions!r}")
        rows = [[*map(self.id, caption.split()), END] for caption in captions]
        length = max(map(len, rows))
        return torch.tensor([row + [PADDING] * (length - len(row)) for row in rows])

    def decode(self, tokens: Tensor) -> str:
        """The sentence of one row of token ids, up to the end token.

        Args:
            tokens (Tensor): token ids.

        Shape:
            tokens (L,).

        Returns:
            str: the words, separated by spaces.

        Raises:
            ValueError: for another shape, or ids that are no words before the end.

        Example: see the class.
        """
        if tokens.dim() != 1:
            raise ValueError(f"tokens must be one caption of shape (L,), got {tuple(tokens.shape)}")
        ids = tokens.tolist()
        ids = ids[: ids.index(END)] if END in ids else ids
        if any(not END < index < len(self) for index in ids):
            raise ValueError(f"before the end, tokens must be words, {END + 1} to {len(self) - 1}, got {ids}")
        return " ".join(self.words[index - END - 1] for index in ids)
