"""Transparent pixels over a background, as a viewer shows them: a colour that is hidden is never seen."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_BAND_PIXELS = 2**16  # worked on at once, in wider numbers: they stay in the cache, and the picture is held once
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
    top = int(np.iinfo(rgb.dtype).max)
    wider: Any = np.uint16 if top == _OPAQUE else np.uint32  # holds a colour times a weight, and a half more
    behind = np.array(background, wider) * wider(top // _OPAQUE)
    step = max(1, _BAND_PIXELS // rgb.shape[1])
    for first in range(0, rgb.shape[0], step):
        weight = alpha[first : first + step, :, None].astype(wider)
        if weight.min() == top:
            continue
        band = rgb[first : first + step]
        mixed = band.astype(wider)
        if premultiplied:
            np.minimum(mixed, weight, out=mixed)
            mixed *= wider(top)
        else:
            mixed *= weight
        mixed += behind * (wider(top) - weight)
        mixed += wider(top // 2)
        mixed //= wider(top)
        band[...] = mixed


def _pixels(rgba: Any) -> NDArray[np.uint8]:
    plane = rgba.planes[0]
    rows: NDArray[np.uint8] = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : rgba.width * 4].reshape(rgba.height, rgba.width, 4)
