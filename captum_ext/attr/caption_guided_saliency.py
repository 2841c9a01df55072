"""Caption-guided saliency: how much of a word each place of each frame explains by itself."""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from captum_ext._compat import (
    TargetType,
    TensorOrTupleOfTensorsGeneric,
    expand_target,
    format_additional_forward_args,
    format_output,
    format_tensor_into_tuples,
    is_tuple,
    log_usage,
    select_targets,
)
from captum_ext.attr._base import check_map
from captum_ext.attr._forward import check_inputs, check_output, check_running_statistics
from captum_ext.attr._random_numbers import no_random_numbers
from captum_ext.attr._video import VideoAttribution, check_integers, check_model
from captum_ext.excitation import unwrap
from captum_ext.excitation.numerics import safe_divide

__all__ = ["CaptionGuidedSaliency"]


@runtime_checkable
class _Captioner(Protocol):
    """The parts of :class:`~captum_ext.models.CNNLSTMCaptioner` that the method runs one by one."""

    def frame_maps(self, clips: Tensor) -> Tensor:
        """Maps (N, T, C', h, w) of the frames."""

    def describe(self, maps: Tensor) -> Tensor:
        """Descriptors (N, T, D) of the maps."""

    def decode(self, descriptors: Tensor, captions: Tensor) -> Tensor:
        """Scores (N, L, V) given descriptors (N, D) and captions (N, L)."""


class CaptionGuidedSaliency(VideoAttribution):
    r"""Caption-guided saliency of Ramanishka et al. (2017), for captioners that pool over frames.

    The decoder is run once for every frame and position i, with the descriptor of that place alone in place
    of the pooled one. What of the word w is lost when only i is known, with the word taken as certain, is

    .. math:: Loss(i, w) = \log p(w \mid clip) - \log q_i(w)

    (the Kullback-Leibler divergence of :math:`q_i` from the one-hot :math:`p`, up to a constant). The
    saliency is the loss turned over and stretched to [0, 1] over the clip: 1 where the place explains the
    word best, 0 where least.

    The paper's models read single positions as the decoder reads frames. Here the descriptor of a position is
    that of a frame whose map is 0 at all other positions. The CNN runs once; the decoder
    :math:`T \cdot h \cdot w` times (T times with ``spatial=False``), which is the cost of the method.

    Args:
        model (nn.Module): a :class:`~captum_ext.models.CNNLSTMCaptioner`, or a module with the same
            ``frame_maps``, ``describe`` and ``decode``.

    References:
        Ramanishka et al., Top-down Visual Saliency Guided by Captions, CVPR 2017; Bargal et al., Excitation
        Backprop for RNNs, CVPR 2018, section 6, compares with it.

    Example:
        >>> import torch
        >>> from captum_ext.models import CNNLSTMCaptioner
        >>> model = CNNLSTMCaptioner(vocabulary_size=9).eval()
        >>> captions = torch.tensor([[3, 4, 2], [3, 5, 2]])
        >>> saliency = CaptionGuidedSaliency(model)
        >>> nouns = [(1, 4), (1, 5)]
        >>> saliency.attribute(torch.rand(2, 3, 2, 64, 64), nouns, captions).shape
        torch.Size([2, 1, 2, 16, 16])
    """

    def __init__(self, model: nn.Module) -> None:
        check_model(model)
        captioner = unwrap(model)
        if not isinstance(captioner, _Captioner):
            raise TypeError(
                f"model must have the methods frame_maps, describe and decode of CNNLSTMCaptioner; "
                f"{type(captioner).__name__} does not"
            )
        super().__init__(model)
        self.set_layout("NCTHW")
        self.model = model
        self._captioner: _Captioner = captioner

    @log_usage()  # type: ignore[untyped-decorator]
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object = None,
        *,
        spatial: bool = True,
        stretch: bool = True,
        internal_batch_size: int = 512,
    ) -> TensorOrTupleOfTensorsGeneric:
        """Compute the map.

        Args:
            inputs (Tensor or tuple[Tensor]): the clips.
            target (tuple or list of tuple): the word: its step in the caption and its token id, one for all
                examples or one for each.
            additional_forward_args (Tensor): the captions, token ids.
            spatial (bool, optional): one value for each position; False: one for each frame. Default: True
            stretch (bool, optional): stretch to [0, 1]; False gives the loss times -1, in nats, which
                compares between words. Default: True
            internal_batch_size (int, optional): rows in one decoder pass, which bounds the memory.
                Default: 512

        Shape:
            inputs (N, 3, T, H, W), captions (N, L); the map is (N, 1, T, h, w) with the sides of the model's
            maps, (N, 1, T, 1, 1) with ``spatial=False``.

        Returns:
            *Tensor* (or tuple of one, as the inputs) of **attributions**.

        Raises:
            TypeError: captions that are no tensor of token ids, a batch size that is no integer.
            ValueError: clips or captions of the wrong shape, a batch size below 1, scores that are not
                finite.
        """
        was_tuple = is_tuple(inputs)
        tensors = format_tensor_into_tuples(inputs)
        check_inputs(tensors)
        check_running_statistics(self.model)
        check_integers(internal_batch_size=internal_batch_size)
        if internal_batch_size < 1:
            raise ValueError(f"internal_batch_size must be at least 1, not {internal_batch_size}")
        given = self.check_clips(tensors)
        captions = _only_captions(additional_forward_args, len(given))
        places_at_once = max(1, internal_batch_size // len(given))

        def again() -> object:
            return self.model(given.detach().clone(), captions.clone())

        with torch.inference_mode(False), torch.no_grad(), no_random_numbers(given.device, again):
            clips = given.detach().clone()
            maps = self._captioner.frame_maps(clips)
            descriptors = self._captioner.describe(maps)
            whole = self._log_probability(descriptors.mean(1)[None], captions, target)[0]
            if spatial:
                alone = [self._places(frame, captions, target, places_at_once) for frame in maps.unbind(1)]
            else:
                alone = [
                    self._log_probability(frame[None], captions, target)[0, :, None, None]
                    for frame in descriptors.unbind(1)
                ]
            attribution = torch.stack(alone, dim=1) - whole.view(-1, 1, 1, 1)
            attribution = _stretched(attribution) if stretch else attribution
        formatted = format_output(was_tuple, (check_map(attribution.unsqueeze(1), given.dtype),))
        return cast(TensorOrTupleOfTensorsGeneric, formatted)

    def _places(self, maps: Tensor, captions: Tensor, target: TargetType, at_once: int) -> Tensor:
        """Log-probability of the word given each place of a frame's maps (N, C', h, w) alone, (N, h, w)."""
        h, w = maps.shape[2:]
        places = torch.eye(h * w, dtype=maps.dtype, device=maps.device).view(-1, 1, 1, h, w)
        found = []
        for some in torch.split(places, at_once):
            # Rows (place, example), each a clip of one frame.
            rows = (maps * some).flatten(0, 1).unsqueeze(1)
            descriptors = self._captioner.describe(rows).view(len(some), len(maps), -1)
            found.append(self._log_probability(descriptors, captions, target))
        return torch.cat(found).T.reshape(-1, h, w)

    def _log_probability(self, descriptors: Tensor, captions: Tensor, target: TargetType) -> Tensor:
        """Log-probability of the word (P, N) given each of the descriptors (P, N, D)."""
        n_places, n = descriptors.shape[:2]
        scores = self._captioner.decode(descriptors.flatten(0, 1), captions.repeat(n_places, 1))
        selected: Tensor = select_targets(scores.log_softmax(-1), expand_target(target, n_places))
        check_output(selected, n_places * n, differentiable=False)
        return selected.view(n_places, n)


def _only_captions(additional_forward_args: object, n: int) -> Tensor:
    arguments: tuple[object, ...] = format_additional_forward_args(additional_forward_args) or ()
    captions = arguments[0] if len(arguments) == 1 else None
    if not isinstance(captions, Tensor):
        raise TypeError("additional_forward_args must be the captions, one tensor of token ids (N, L)")
    if captions.dim() != 2 or len(captions) != n:
        raise ValueError(
            f"captions must hold one row of token ids for each of the {n} clips, got the shape "
            f"{tuple(captions.shape)}"
        )
    return captions.detach()


def _stretched(values: Tensor) -> Tensor:
    """Each example's values from its smallest, 0, to its largest, 1; constant ones become 0."""
    low, high = (extreme(values.flatten(1), dim=1).view(-1, 1, 1, 1) for extreme in (torch.amin, torch.amax))
    return safe_divide(values - low, (high - low).expand_as(values))
