"""HEIC and AVIF pictures, whole: each coded item decoded by FFmpeg, tiles put side by side, then turned and cropped."""

from dataclasses import asdict
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.errors import Poison, Reason
from daemon.decoding.child.pictures.heif import HeifPicture, Layer, crop
from daemon.decoding.child.pictures.items import decode_items
from daemon.decoding.child.pictures.transparency import lay_pixels_over
from daemon.decoding.child.pixels import Converter, full_range, upright_size
from daemon.decoding.child.pyav import new_scaler
from daemon.decoding.media import MediaLimits
from daemon.decoding.packet_index import KEY, SHOWN, PacketIndex
from daemon.decoding.protocol import Planned
from daemon.decoding.timeline import Mended
from daemon.frame_look import FrameSize, Look

_PICTURE_TIME = Fraction(1, 25)
_MATRIX_UNSAID, _BT601, _LIMITED, _FULL = 2, 5, 1, 2


def plan_picture(descriptor: int, picture: HeifPicture, limits: MediaLimits) -> tuple[Planned, PacketIndex]:
    """Put a picture together once, for its true size: one frame, on screen as long as FFmpeg shows other pictures."""
    whole = PictureWriter(descriptor, picture, limits, Look()).whole()
    size = upright_size(whole.width, whole.height, None, False, limits.shown_pixels)
    once = np.zeros(1, np.int64)
    index = PacketIndex(_PICTURE_TIME, once, once, np.array([KEY | SHOWN], np.uint8), 1, counted=True)
    return Planned(picture.codec, "heif", size.width, size.height, 0.0, False, "", 0, **asdict(Mended())), index


class PictureWriter:
    """The one frame of a picture file, put together anew for each window that shows it."""

    def __init__(
        self,
        descriptor: int,
        picture: HeifPicture,
        limits: MediaLimits,
        look: Look,
        own_size: FrameSize | None = None,
    ) -> None:
        self._descriptor, self._picture, self._limits, self._look = descriptor, picture, limits, look
        self._converter = Converter(new_scaler, look, own_size)
        self.on_device = False
        self.cost_bytes = 0  # it holds nothing between two windows

    def want(self, frame_indices: list[int], threads: int = 1) -> None:
        """Name the frames that come next: there is but one."""

    def write(self, frame_index: int, *outs: NDArray[np.uint8]) -> int:
        whole = self.whole()
        for out in outs:
            self._converter.write(whole, out)
        return frame_index

    def close(self) -> None:
        """Let go of the decoder, of which nothing is held."""

    def whole(self) -> Any:
        """Return the picture as one frame, upright; :class:`Poison` where an item of it can't be decoded."""
        colour = self._picture.colour
        for layer in (colour, *([self._picture.alpha] if self._picture.alpha else [])):
            self._limits.check_size(layer.width, layer.height)
        pixels, first = self._assembled(colour, "rgb")
        if self._picture.alpha is not None:
            alpha, _ = self._assembled(self._picture.alpha, "gray")
            if alpha.shape[:2] == pixels.shape[:2]:
                alpha = alpha[:, :, 0].astype(pixels.dtype) * (257 if pixels.dtype == np.uint16 else 1)
                lay_pixels_over(pixels, alpha, self._look.background, premultiplied=self._picture.premultiplied)
        upright = np.ascontiguousarray(self._upright(pixels))
        if upright.dtype == np.uint8:
            frame = type(first).from_numpy_buffer(upright, format="rgb24")
        else:
            frame = type(first).from_ndarray(upright, format="rgb48le")
        frame.color_trc, frame.color_primaries = first.color_trc, first.color_primaries
        return frame

    def _assembled(self, layer: Layer, kind: str) -> tuple[NDArray[Any], Any]:
        """Return a layer's pixels, ``[H, W, 3 or 1]`` of 8 or 16 bits, and its first item's frame for the colours."""
        scaler, canvas, first = new_scaler(), None, None
        for place, frame in decode_items(self._descriptor, layer.items, self._limits):
            _name_colours(frame, layer)
            if canvas is None:
                deep = kind == "rgb" and max(component.bits for component in frame.format.components) > 8
                depth = np.uint16 if deep else np.uint8
                canvas = np.zeros((layer.height, layer.width, 3 if kind == "rgb" else 1), depth)
                first, tile_width, tile_height = frame, frame.width, frame.height
                if layer.columns == 1 and len(layer.items) == 1:  # what its header says of its size is a claim
                    canvas = np.zeros(
                        (min(layer.height, tile_height), min(layer.width, tile_width), canvas.shape[2]), depth
                    )
            if (frame.width, frame.height) != (tile_width, tile_height):
                raise Poison(Reason.CORRUPT, "tiles of different sizes")
            row, column = divmod(place, layer.columns)
            part = canvas[row * tile_height :, column * tile_width :][:tile_height, :tile_width]
            part[...] = _pixels(scaler, frame, kind, canvas.dtype)[: part.shape[0], : part.shape[1]]
        if canvas is None:
            raise Poison(Reason.NO_FRAMES, "not one of its items can be decoded")
        return canvas, first

    def _upright(self, pixels: NDArray[Any]) -> NDArray[Any]:
        for name, numbers in self._picture.steps:
            if name == "clap":
                left, top, width, height = crop(numbers, pixels.shape[1], pixels.shape[0])
                pixels = pixels[top : top + height, left : left + width]
            elif name == "irot":  # against the clock
                pixels = np.rot90(pixels, numbers[0])
            else:  # 0 exchanges top and bottom, 1 left and right
                pixels = pixels[:, ::-1] if numbers[0] else pixels[::-1]
        return pixels


def _name_colours(frame: Any, layer: Layer) -> None:
    """Tag a frame as the file's header says; where nothing says it, as MIAF does: BT.601's matrix, full range."""
    if layer.nclx is not None:
        frame.colorspace, frame.color_range = layer.nclx.matrix, _FULL if layer.nclx.full_range else _LIMITED
        frame.color_trc, frame.color_primaries = layer.nclx.transfer, layer.nclx.primaries
    if frame.colorspace == _MATRIX_UNSAID:
        frame.colorspace = _BT601
    if not frame.color_range:
        frame.color_range = _FULL


def _pixels(scaler: Any, frame: Any, kind: str, depth: Any) -> NDArray[Any]:
    name, channels = ("gray", 1) if kind == "gray" else ("rgb48le" if depth == np.uint16 else "rgb24", 3)
    converted = full_range(scaler, frame, frame.width, frame.height, name)
    plane = converted.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    size = frame.width * channels * np.dtype(depth).itemsize if kind == "rgb" else frame.width
    return (
        np.ascontiguousarray(rows[:, :size])
        .view(depth if kind == "rgb" else np.uint8)
        .reshape(frame.height, frame.width, channels)
    )
