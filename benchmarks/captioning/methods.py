"""The methods that ground words, each from clips and captions to one map per word."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from captum_ext.attr import (
    CaptionGuidedSaliency,
    RecurrentExcitationBackprop,
    RecurrentGradient,
    VideoGradCam,
)
from captum_ext.excitation.operand import Negative
from captum_ext.models import CNNLSTMCaptioner

__all__ = ["CEB_R", "EB_R", "Ground", "Words", "methods"]

Words = Sequence[Sequence[tuple[int, int]]]
"""For every kind of word, the (step, token id) of each clip's word."""

Ground = Callable[[Tensor, Tensor, Words], list[Tensor]]

CEB_R, EB_R = "cEB-R", "EB-R"


def methods(model: CNNLSTMCaptioner, negative: Negative = "support") -> dict[str, Ground]:
    """Methods by name.

    Each maps clips (N, 3, T, H, W), captions (N, L) and words to one map (N, T, h, w) per kind of word.
    """
    eb_r = RecurrentExcitationBackprop(model, "features", boundary="embedding", negative=negative)
    grad_cam, gradient = VideoGradCam(model, "features"), RecurrentGradient(model)
    guided = CaptionGuidedSaliency(model)

    def excitation(contrastive: bool) -> Ground:
        def ground(clips: Tensor, captions: Tensor, words: Words) -> list[Tensor]:
            targets = [list(of_kind) for of_kind in words]
            maps = eb_r.attribute_targets(
                clips, targets, captions, contrastive=contrastive, sum_channels=True
            )
            return [found.squeeze(1) for found in maps]

        return ground

    def one_by_one(explain: Callable[[Tensor, list[tuple[int, int]], Tensor], Tensor]) -> Ground:
        return lambda clips, captions, words: [
            explain(clips, list(of_kind), captions).squeeze(1) for of_kind in words
        ]

    return {
        CEB_R: excitation(contrastive=True),
        EB_R: excitation(contrastive=False),
        "caption-guided saliency": one_by_one(lambda x, word, c: guided.attribute(x, word, c)),
        "Grad-CAM": one_by_one(lambda x, word, c: grad_cam.attribute(x, word, c, relu_attributions=True)),
        "BP-R": one_by_one(lambda x, word, c: gradient.attribute(x, word, c, max_channels=True)),
    }
