"""What the methods for clips share: declared axes, and no asynchronous form."""

from __future__ import annotations

from numbers import Integral
from typing import Literal, NoReturn

from captum.attr import Attribution
from torch import Tensor, nn

from captum_ext.attr._forward import check_inputs

__all__ = ["Layout", "VideoAttribution", "check_integers", "check_model"]

Layout = Literal["NCTHW", "NTCHW"]


def check_model(model: object) -> None:
    """Raise unless the model is a module, as methods that read layers need."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")


def check_integers(**settings: object) -> None:
    """Raise unless the settings are integers."""
    for name, value in settings.items():
        if not isinstance(value, Integral):
            raise TypeError(f"{name} must be an integer, got {value!r}")


class VideoAttribution(Attribution):
    """Base of methods that explain clips whose axes are declared by ``layout``."""

    layout: Layout

    def set_layout(self, layout: Layout) -> None:
        """Keep the declared order of axes."""
        if layout not in ("NCTHW", "NTCHW"):
            raise ValueError(f"layout must be 'NCTHW' or 'NTCHW', got {layout!r}")
        self.layout = layout

    @property
    def multiplies_by_inputs(self) -> bool:
        """False: a map is not a product with the input's values."""
        return False

    def attribute_future(self) -> NoReturn:
        """Not offered."""
        raise NotImplementedError(f"attribute_future is not implemented for {self.get_name()}")

    def check_clips(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """The one tensor of finite clips, with plausible axes."""
        check_inputs(inputs)
        return self.check_axes(inputs)

    def check_images_or_clips(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """The one tensor of finite images (N, C, H, W) or clips."""
        check_inputs(inputs)
        if len(inputs) == 1 and inputs[0].dim() == 4:
            return inputs[0]
        if len(inputs) == 1 and inputs[0].dim() != 5:
            raise ValueError(
                f"inputs must be images with the axes N, C, H, W or clips with the axes "
                f"{', '.join(self.layout)}, got the shape {tuple(inputs[0].shape)}"
            )
        return self.check_axes(inputs)

    def check_axes(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """The one tensor of clips, with plausible axes."""
        if len(inputs) != 1:
            raise ValueError(
                f"inputs must be one tensor of clips, got {len(inputs)} tensors; pass the others by "
                "additional_forward_args"
            )
        (clips,) = inputs
        if clips.dim() != 5:
            raise ValueError(
                f"inputs must have the 5 axes {', '.join(self.layout)}, got the shape {tuple(clips.shape)}"
            )
        channels, frames = (clips.shape[self.layout.index(axis)] for axis in "CT")
        other = "NTCHW" if self.layout == "NCTHW" else "NCTHW"
        if channels > 4 and frames == 3:
            raise ValueError(
                f"axis C (axis {self.layout.index('C')} of layout {self.layout!r}) has {channels} entries "
                f"and axis T has {frames}: frames and channels look swapped; pass layout={other!r} or permute"
            )
        return clips

    def channel_axis(self, inputs: Tensor) -> int:
        """The axis of the channels of images (N, C, H, W) or clips."""
        return self.layout.index("C") if inputs.dim() == 5 else 1

    def spread(self, maps: Tensor, inputs: Tensor, return_input_shape: bool) -> Tensor:
        """Maps without a channel axis as (N, 1, [T,] H, W), or repeated over the channels of the inputs."""
        if not return_input_shape:
            return maps.unsqueeze(1)
        return maps.unsqueeze(self.channel_axis(inputs)).expand_as(inputs)
