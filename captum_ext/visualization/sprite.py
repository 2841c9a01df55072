"""A clip as one WebP image of tiles, from which a browser draws any frame exactly."""

import base64
import io
import math
from typing import TypedDict

from PIL import Image
from torch import Tensor
from torch.nn import functional as F

_BLOCK = 16  # WebP codes blocks of 16 x 16 pixels; tiles that fill whole blocks do not bleed into each other
_MAX_SIDE = 16383  # pixels of a WebP image


class SpriteSheet(TypedDict):
    """What the report's script needs to draw frame t: the picture and where its tiles lie, in pixels."""

    src: str
    columns: int
    tileWidth: int
    tileHeight: int


def sprite_sheet(clip: Tensor, quality: int = 75) -> SpriteSheet:
    """Encode a clip, or the map of one, as a single image in a data URI.

    A video element seeks to key frames and rounds times; a tile of a picture is the frame asked for.

    Args:
        clip (Tensor): uint8, RGB or one grey channel.
        quality (int): WebP quality, 0 to 100. Default: 75.

    Shape:
        - clip: (T, 3 or 1, H, W)

    Returns:
        SpriteSheet: The data URI, the number of tile columns and the distance between tiles. Frame t is at
        column ``t % columns``, row ``t // columns``.

    Raises:
        ValueError: If the clip does not fit one image of 16383 x 16383 pixels.

    Example:
        >>> import torch
        >>> sheet = sprite_sheet(torch.zeros(5, 3, 20, 30, dtype=torch.uint8))
        >>> sheet["columns"], sheet["tileWidth"], sheet["tileHeight"]
        (3, 32, 32)
    """
    clip = clip.expand(-1, 3, -1, -1)  # a WebP has no grey images
    T, C, H, W = clip.shape
    columns = math.ceil(math.sqrt(T))
    rows = math.ceil(T / columns)
    right, bottom = -W % _BLOCK, -H % _BLOCK
    tile_width, tile_height = W + right, H + bottom
    if max(columns * tile_width, rows * tile_height) > _MAX_SIDE:
        raise ValueError(
            f"{T} frames of {H} x {W} pixels do not fit one WebP image of {_MAX_SIDE} pixels a side; give "
            "the report fewer or smaller frames."
        )
    # Repeating the border, rather than padding with black, keeps ringing out of the visible part.
    tiles = F.pad(clip.cpu().float(), (0, right, 0, bottom), mode="replicate").to(clip.dtype)
    tiles = F.pad(tiles, (0, 0, 0, 0, 0, 0, 0, rows * columns - T))
    grid = tiles.view(rows, columns, C, tile_height, tile_width).permute(0, 3, 1, 4, 2)
    image = Image.fromarray(grid.reshape(rows * tile_height, columns * tile_width, C).numpy())
    encoded = io.BytesIO()
    image.save(encoded, format="WEBP", quality=quality, method=4)
    uri = "data:image/webp;base64," + base64.b64encode(encoded.getvalue()).decode()
    return SpriteSheet(src=uri, columns=columns, tileWidth=tile_width, tileHeight=tile_height)
