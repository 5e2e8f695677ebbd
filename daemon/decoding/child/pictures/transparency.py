"""Transparent pixels over a background, as a viewer shows them: a colour that is hidden is never seen."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_BAND_PIXELS = 2**20  # worked on at once, in wider numbers: a large picture is not held a second time
_OPAQUE = 255

Colour = tuple[int, int, int]


def has_alpha(pixel_format: Any) -> bool:
    """Return whether frames of a ``VideoFormat`` may have transparent pixels."""
    return pixel_format.name == "pal8" or any(component.is_alpha for component in pixel_format.components)


def lay_over(frame: Any, rgba: Any, background: Colour) -> Any:
    """Return a frame laid over a colour; the frame itself where all of it is opaque.

    ``rgba`` is the same frame in that format, with straight alpha, and is written to.
    """
    if bool((_pixels(rgba)[:, :, 3] == _OPAQUE).all()):
        return frame
    rgba.make_writable()  # a decoder may hold it as the picture that the next one is painted over
    pixels = _pixels(rgba)
    lay_pixels_over(pixels[:, :, :3], pixels[:, :, 3], background)
    pixels[:, :, 3] = _OPAQUE
    return rgba


def lay_pixels_over(rgb: NDArray[Any], alpha: NDArray[Any], background: Colour, *, premultiplied: bool = False) -> None:
    """Lay ``rgb[H, W, 3]`` over a colour where ``alpha[H, W]``, of the same type, lets it through."""
    top = np.iinfo(rgb.dtype).max
    behind = np.array(background, np.uint32) * (int(top) // 255)
    step = max(1, _BAND_PIXELS // rgb.shape[1])
    for first in range(0, rgb.shape[0], step):
        band = rgb[first : first + step]
        weight = alpha[first : first + step, :, None].astype(np.uint32)
        colour = band * np.uint32(top) if premultiplied else band * weight
        mixed = (colour + behind * (top - weight) + top // 2) // top
        band[...] = np.minimum(mixed, top)


def _pixels(rgba: Any) -> NDArray[np.uint8]:
    plane = rgba.planes[0]
    rows: NDArray[np.uint8] = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : rgba.width * 4].reshape(rgba.height, rgba.width, 4)
