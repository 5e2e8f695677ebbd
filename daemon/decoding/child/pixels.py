"""The conversion of a decoded frame to what the model gets: upright, square pixels, RGB, scaled once.

Nothing here imports a decoder; a frame is anything with PyAV's attributes.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.windows import MaxFrameSize

# libswscale's numbers, which PyAV passes through.
_BICUBIC, _FULL_CHROMA_INTERPOLATION, _FULL_CHROMA_INPUT, _ACCURATE_ROUNDING = 4, 0x2000, 0x4000, 0x40000
_SCALING = _BICUBIC | _FULL_CHROMA_INTERPOLATION | _FULL_CHROMA_INPUT | _ACCURATE_ROUNDING
_MATRIX_UNSAID, _BT709, _BT601 = 2, 1, 5
_RANGE_UNSAID, _LIMITED, _FULL = 0, 1, 2
_HD_LINES = 720  # the height from which an unnamed matrix is taken for BT.709


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


@dataclass(frozen=True, slots=True)
class Geometry:
    """The size that the frames of a clip get, in pixels, once they are upright, square and scaled down."""

    width: int
    height: int

    @property
    def frame_bytes(self) -> int:
        """Bytes of one RGB frame."""
        return self.width * self.height * 3


def orientation_of(frame: Any) -> Orientation:
    """Return how a decoded frame must be turned."""
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV stumbles over kinds of side data that it does not know, such as a photo's EXIF
        return Orientation.from_degrees(frame.rotation)
    return Orientation.from_display_matrix(bytes(matrix)) if matrix is not None else Orientation()


def scaled_geometry(
    width: int, height: int, sample_aspect: Fraction | None, turned: bool, max_size: MaxFrameSize | None
) -> Geometry:
    """Return the size of a stored frame once its pixels are square, it is upright, and no larger than ``max_size``.

    Pixels that are not square shrink along their shorter side, so no side ever grows.
    """
    shown_width, shown_height = Fraction(width), Fraction(height)
    if sample_aspect and sample_aspect > 0:
        if sample_aspect > 1:
            shown_height /= sample_aspect
        else:
            shown_width *= sample_aspect
    if turned:
        shown_width, shown_height = shown_height, shown_width
    scale = Fraction(1)
    if max_size is not None:
        scale = min(scale, max_size.width / shown_width, max_size.height / shown_height)
    return Geometry(max(1, round(shown_width * scale)), max(1, round(shown_height * scale)))


def write_rgb(frame: Any, out: NDArray[np.uint8], scaler: Any) -> None:
    """Write a decoded frame into ``out``, ``uint8[H, W, 3]``, upright and scaled to its size.

    ``scaler`` is a ``VideoReformatter``, kept from frame to frame: setting one up costs more than a small frame does.

    Range and matrix are the stream's; where it does not say, limited range, and BT.709 from 720 lines up, else BT.601.
    """
    orientation = orientation_of(frame)
    height, width = out.shape[:2]
    if orientation.transpose:
        width, height = height, width
    matrix, value_range = frame.colorspace, frame.color_range
    if not frame.format.is_rgb:
        if matrix in (0, _MATRIX_UNSAID):  # 0 names RGB, which this frame is not
            matrix = _BT709 if frame.height >= _HD_LINES else _BT601
        if value_range == _RANGE_UNSAID:
            value_range = _FULL if frame.format.name.startswith("yuvj") else _LIMITED
    rgb = scaler.reformat(
        frame,
        width,
        height,
        format="rgb24",
        src_colorspace=matrix,
        src_color_range=value_range,
        dst_color_range=_FULL,
        interpolation=_SCALING,
        threads=1,
    )
    plane = rgb.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    np.copyto(out, orientation.apply(rows[:, : width * 3].reshape(height, width, 3)))
