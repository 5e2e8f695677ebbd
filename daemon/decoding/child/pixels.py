"""The conversion of a decoded frame to what the model gets: upright, square pixels, SDR in RGB, opaque, scaled once.

Nothing here imports a decoder; a frame is anything with PyAV's attributes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from connectors.errors import Poison, Reason
from daemon.decoding.child.pictures.transparency import has_alpha, lay_over
from daemon.frame_look import FrameSize, Look

# libswscale's numbers, which PyAV passes through.
_BICUBIC, _FULL_CHROMA_INTERPOLATION, _FULL_CHROMA_INPUT, _ACCURATE_ROUNDING = 4, 0x2000, 0x4000, 0x40000
SCALING = _BICUBIC | _FULL_CHROMA_INTERPOLATION | _FULL_CHROMA_INPUT | _ACCURATE_ROUNDING
_BT709, _BT601, _BT2020, _BT2020_CONSTANT = 1, 5, 9, 10
_KNOWN_MATRICES = (1, 4, 5, 6, 7, 9)  # to libswscale
_NOT_CONVERTED = {8: "YCgCo", 14: "ICtCp", 16: "YCgCo", 17: "YCgCo"}
_RANGE_UNSAID, _LIMITED, _FULL = 0, 1, 2
_PQ, _HLG = 16, 18
_SDR_CURVE, _SDR_PRIMARIES, _WIDE_PRIMARIES = 1, 1, 9  # BT.709 and BT.2020
_KNOWN_PRIMARIES = (1, 9, 11, 12)  # BT.709, BT.2020, and the two P3
_SCALERS_KEPT = 8  # windows of a clip have two sizes, and a clip whose frames change theirs a few more
_SD_WIDTH, _SD_HEIGHT = 1280, 576  # an unnamed matrix is taken for BT.709 from this width on, or above this height


@dataclass(frozen=True, slots=True)
class Orientation:
    """The steps that make stored rows upright: transpose first, then mirror left-right and top-bottom."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @classmethod
    def from_display_matrix(cls, matrix: bytes) -> "Orientation":
        """Read a 3 x 3 display matrix (nine ``int32``); a turn that is no multiple of 90 degrees is rounded to one."""
        if len(matrix) < 36:
            return cls()
        # A stored point (x, y) is shown at (a x + c y, b x + d y).
        a, b, _, c, d = (int(n) for n in np.frombuffer(matrix, np.int32, 9)[:5])
        if max(abs(a), abs(d)) >= max(abs(b), abs(c)):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    @classmethod
    def from_degrees(cls, degrees: int) -> "Orientation":
        """Return a turn against the clock, rounded to a multiple of 90 degrees."""
        quarters = round(degrees / 90) % 4
        return (cls(), cls(True, False, True), cls(False, True, True), cls(True, True, False))[quarters]

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a view of ``uint8[H, W, 3]`` the right way up."""
        if self.transpose:
            pixels = pixels.transpose(1, 0, 2)
        return pixels[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]


def orientation_of(frame: Any) -> Orientation:
    """Return how a decoded frame must be turned."""
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV stumbles over kinds of side data that it does not know, such as a photo's EXIF
        return Orientation.from_degrees(frame.rotation)
    return Orientation.from_display_matrix(bytes(matrix)) if matrix is not None else Orientation()


@lru_cache(maxsize=64)
def shown_size(width: int, height: int, sample_aspect: Fraction | None, turned: bool) -> tuple[Fraction, Fraction]:
    """Return width and height of a stored frame once its pixels are square and it is upright.

    Pixels that are not square shrink along their shorter side, so no side ever grows.
    """
    shown_width, shown_height = Fraction(width), Fraction(height)
    if sample_aspect and sample_aspect > 0:
        if sample_aspect > 1:
            shown_height /= sample_aspect
        else:
            shown_width *= sample_aspect
    return (shown_height, shown_width) if turned else (shown_width, shown_height)


def upright_size(
    width: int, height: int, sample_aspect: Fraction | None, turned: bool, max_pixels: int = 0
) -> FrameSize:
    """Return the size of a stored frame once it is shown: of ``max_pixels`` at most, where that is above 0."""
    shown_width, shown_height = shown_size(width, height, sample_aspect, turned)
    rounded = FrameSize(max(1, round(shown_width)), max(1, round(shown_height)))
    pixels = shown_width * shown_height
    if max_pixels <= 0 or (pixels <= max_pixels and rounded.pixels <= max_pixels):
        return rounded
    scale = Fraction(min(1.0, float(max_pixels / pixels) ** 0.5))
    return FrameSize(max(1, int(shown_width * scale)), max(1, int(shown_height * scale)))


class Converter:
    """Writes the frames of one clip. What libswscale worked out is kept: that costs more than a small frame does.

    ``new_scaler`` makes a ``VideoReformatter``, one for each size that is written. ``own_size`` is that of the clip's
    frames: one of that shape fills whatever it is written into, which may stretch it as a model's processor would.
    """

    def __init__(self, new_scaler: Callable[[], Any], look: Look, own_size: FrameSize | None = None) -> None:
        self._new_scaler, self._look, self._own_size = new_scaler, look, own_size
        self._scalers: dict[tuple[str, int, int], Any] = {}
        self.threads = 1  # that scale a frame

    def _scaler(self, use: str, width: int = 0, height: int = 0) -> Any:
        """Return the scaler of this use and size; the one made first goes where a clip has many sizes."""
        key = (use, width, height)
        if key not in self._scalers:
            if len(self._scalers) >= _SCALERS_KEPT:
                del self._scalers[next(iter(self._scalers))]
            self._scalers[key] = self._new_scaler()
        return self._scalers[key]

    def write(
        self,
        frame: Any,
        out: NDArray[np.uint8],
        sample_aspect: Fraction | None = None,
        orientation: Orientation | None = None,
    ) -> None:
        """Write a frame into ``out``, ``uint8[H, W, 3]``: whole, and in the middle of black where its shape differs."""
        orientation = orientation or orientation_of(frame)
        own = shown_size(frame.width, frame.height, sample_aspect, orientation.transpose)
        place = out[_place(own, FrameSize(out.shape[1], out.shape[0]), self._own_size)]
        if place.shape != out.shape:
            out[...] = 0
        height, width = place.shape[:2]
        if orientation.transpose:
            width, height = height, width
        if has_planes(frame.format) and not self._is_mapped(frame):
            self._write_planes(frame, width, height, place, orientation)
        else:
            np.copyto(place, orientation.apply(self.rgb(frame, width, height)))

    def _is_mapped(self, frame: Any) -> bool:
        is_wide = frame.color_trc in (_PQ, _HLG) or frame.color_primaries == _WIDE_PRIMARIES
        return self._look.tone_map and is_wide

    def _write_planes(
        self, frame: Any, width: int, height: int, place: NDArray[np.uint8], orientation: Orientation
    ) -> None:
        """Write a frame by way of planes, which is the same picture in a third of the time.

        libswscale scales and converts to planes by vector instructions, and to packed RGB with whole chroma without.
        """
        planes = full_range(self._scaler("rgb", width, height), frame, width, height, "gbrp", self.threads).planes
        rows = (np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size) for plane in planes)
        green, blue, red = (plane[:, :width] for plane in rows)
        if orientation == Orientation():
            cv2.merge((red, green, blue), place)
        else:
            np.copyto(place, orientation.apply(np.asarray(cv2.merge((red, green, blue)), np.uint8)))

    def rgb(self, frame: Any, width: int, height: int) -> NDArray[np.uint8]:
        """Return a stored frame as ``uint8[height, width, 3]``, not turned."""
        if has_alpha(frame.format):
            rgba = full_range(self._scaler("rgba"), frame, frame.width, frame.height, "rgba")
            frame = lay_over(frame, rgba, self._look.background)
        if self._is_mapped(frame):
            wide = full_range(self._scaler("rgb", width, height), frame, width, height, "rgb48le")
            rgb = self._sdr(wide, self._scaler("sdr", width, height))
        else:
            rgb = full_range(self._scaler("rgb", width, height), frame, width, height, "rgb24")
        plane = rgb.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        return rows[:, : width * 3].reshape(height, width, 3)

    def _sdr(self, wide: Any, scaler: Any) -> Any:
        """Return a scaled frame of HDR or of BT.2020's colours as SDR in BT.709's.

        libswscale's colorimetric mapping takes 203 cd/m2, BT.2408's reference white, for SDR's, and what is brighter
        for white too; it looks up each pixel in a table, so it comes after the scaling.
        """
        if wide.color_trc not in (_PQ, _HLG):
            wide.color_trc = _SDR_CURVE
        if wide.color_primaries not in _KNOWN_PRIMARIES:
            wide.color_primaries = _WIDE_PRIMARIES
        return scaler.reformat(
            wide,
            format="rgb24",
            src_color_range=_FULL,
            dst_color_range=_FULL,
            dst_color_trc=_SDR_CURVE,
            dst_color_primaries=_SDR_PRIMARIES,
            interpolation=SCALING,
            threads=1,
        )


def has_planes(pixel_format: Any) -> bool:
    """Return whether a format's brightness and its two colours lie apart, in bytes or words of their own."""
    return bool(pixel_format.is_planar and len(pixel_format.components) == 3 and not pixel_format.is_rgb)


def full_range(scaler: Any, frame: Any, width: int, height: int, pixel_format: str, threads: int = 1) -> Any:
    """Return a frame of this size and format in full range, from its own matrix and range."""
    matrix, value_range = matrix_and_range(frame)
    return scaler.reformat(
        frame,
        width,
        height,
        format=pixel_format,
        src_colorspace=matrix,
        src_color_range=value_range,
        dst_color_range=_FULL,
        interpolation=SCALING,
        threads=threads,
    )


def matrix_and_range(frame: Any) -> tuple[int, int]:
    """Return a frame's matrix and range: the stream's, and where it does not say, what players take it for.

    That is limited range, and BT.709 from 1280 columns or above 576 lines, else BT.601; HDR has BT.2020's matrix.
    """
    matrix, value_range = frame.colorspace, frame.color_range
    if not frame.format.is_rgb:
        if matrix in _NOT_CONVERTED:
            raise Poison(Reason.UNSUPPORTED_CODEC, f"its colours are stored as {_NOT_CONVERTED[matrix]}")
        if matrix == _BT2020_CONSTANT:  # libswscale knows the other one alone, which is close
            matrix = _BT2020
        if matrix not in _KNOWN_MATRICES:  # 0 names RGB, which this frame is not
            if frame.color_trc in (_PQ, _HLG):
                matrix = _BT2020
            else:
                matrix = _BT709 if frame.width >= _SD_WIDTH or frame.height > _SD_HEIGHT else _BT601
        if value_range == _RANGE_UNSAID:
            value_range = _FULL if frame.format.name.startswith("yuvj") else _LIMITED
    return matrix, value_range


def write_rgb(frame: Any, out: NDArray[np.uint8], scaler: Any) -> None:
    """Write a decoded frame into ``out``, ``uint8[H, W, 3]``, with a ``VideoReformatter`` and nothing else to say."""
    Converter(lambda: scaler, Look()).write(frame, out)


@lru_cache(maxsize=64)
def _place(shown: tuple[Fraction, Fraction], out: FrameSize, own_size: FrameSize | None) -> tuple[slice, slice]:
    """Return the rows and columns of ``out`` that a frame of this shape fills; all where only rounding keeps it away.

    ``out`` stands for frames of ``own_size``, which are stretched to fill it.
    """
    own = own_size or out
    scale = min(own.width / shown[0], own.height / shown[1])
    fit_width, fit_height = max(1, round(shown[0] * scale)), max(1, round(shown[1] * scale))
    if own.width - fit_width <= 1 and own.height - fit_height <= 1:
        return slice(out.height), slice(out.width)
    fit_width = max(1, round(Fraction(fit_width * out.width, own.width)))
    fit_height = max(1, round(Fraction(fit_height * out.height, own.height)))
    left, top = (out.width - fit_width) // 2, (out.height - fit_height) // 2
    return slice(top, top + fit_height), slice(left, left + fit_width)
