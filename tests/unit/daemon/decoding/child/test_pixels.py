"""Sizes, turning, ranges and matrices."""

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from hypothesis import example, given
from hypothesis import strategies as st

from connectors.errors import Poison
from daemon.decoding.child.pixels import Converter, Orientation, full_range, upright_size, write_rgb
from daemon.frame_look import FrameSize, Look


@example(78, 41, Fraction(1, 4), False, 800)  # 19.5 x 41: within the bound, and above it as 20 x 41
@given(
    st.integers(1, 8192),
    st.integers(1, 8192),
    st.fractions(Fraction(1, 4), 4),
    st.booleans(),
    st.integers(0, 4096**2),
)
def test_no_side_ever_grows(width: int, height: int, aspect: Fraction, turned: bool, max_pixels: int) -> None:
    size = upright_size(width, height, aspect, turned, max_pixels)

    stored = (height, width) if turned else (width, height)
    assert 1 <= size.width <= stored[0]
    assert 1 <= size.height <= stored[1]
    if max_pixels > max(stored):
        assert size.pixels <= max_pixels


@pytest.mark.parametrize(
    ("stored", "aspect", "turned", "max_pixels", "expected"),
    [
        ((1920, 1080), None, False, 0, (1920, 1080)),
        ((1920, 1080), None, False, 231_000, (640, 360)),
        ((1920, 1080), None, True, 231_000, (360, 640)),
        ((720, 576), Fraction(16, 15), False, 0, (720, 540)),
        ((720, 480), Fraction(8, 9), False, 0, (640, 480)),
        ((320, 240), None, False, 640 * 640, (320, 240)),
        ((4000, 2), None, False, 100, (447, 1)),
    ],
)
def test_sizes(
    stored: tuple[int, int],
    aspect: Fraction | None,
    turned: bool,
    max_pixels: int,
    expected: tuple[int, int],
) -> None:
    assert upright_size(*stored, aspect, turned, max_pixels) == FrameSize(*expected)


def matrix(a: int, b: int, c: int, d: int) -> bytes:
    return np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], np.int32).tobytes()


@pytest.mark.parametrize(
    ("display", "expected"),
    [
        (matrix(1, 0, 0, 1), [[1, 2], [3, 4]]),
        (matrix(0, 1, -1, 0), [[3, 1], [4, 2]]),  # a quarter turn clockwise
        (matrix(-1, 0, 0, -1), [[4, 3], [2, 1]]),
        (matrix(0, -1, 1, 0), [[2, 4], [1, 3]]),
        (matrix(-1, 0, 0, 1), [[2, 1], [4, 3]]),
        (matrix(0, 1, 1, 0), [[1, 3], [2, 4]]),
        (b"", [[1, 2], [3, 4]]),
    ],
)
def test_display_matrices(display: bytes, expected: list[list[int]]) -> None:
    stored = np.repeat(np.array([[1, 2], [3, 4]], np.uint8)[:, :, None], 3, axis=2)

    upright = Orientation.from_display_matrix(display).apply(stored)

    assert upright[:, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [
        (0, [[1, 2], [3, 4]]),
        (90, [[2, 4], [1, 3]]),
        (180, [[4, 3], [2, 1]]),
        (-90, [[3, 1], [4, 2]]),
        (-180, [[4, 3], [2, 1]]),
    ],
)
def test_turns_against_the_clock(degrees: int, expected: list[list[int]]) -> None:
    stored = np.repeat(np.array([[1, 2], [3, 4]], np.uint8)[:, :, None], 3, axis=2)

    assert Orientation.from_degrees(degrees).apply(stored)[:, :, 0].tolist() == expected


def flat(width: int, height: int, y: int, u: int, v: int, **attributes: int) -> av.VideoFrame:
    """Return a frame of one colour."""
    frame = av.VideoFrame(width, height, "yuv420p")
    for plane, value in zip(frame.planes, (y, u, v), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    for name, value in attributes.items():
        setattr(frame, name, value)
    return frame


def colour(frame: av.VideoFrame) -> list[int]:
    out = np.zeros((frame.height, frame.width, 3), np.uint8)
    write_rgb(frame, out, VideoReformatter())
    return [int(c) for c in out[out.shape[0] // 2, out.shape[1] // 2]]


def expected_rgb(y: int, u: int, v: int, kr: float, kb: float, limited: bool) -> list[int]:
    """Return what the standard says."""
    floor, luma_span, chroma_span = (16, 219, 224) if limited else (0, 255, 255)
    luma, blue, red = (y - floor) / luma_span, (u - 128) / chroma_span, (v - 128) / chroma_span
    r, b = luma + 2 * (1 - kr) * red, luma + 2 * (1 - kb) * blue
    g = (luma - kr * r - kb * b) / (1 - kr - kb)
    return [round(255 * min(max(c, 0), 1)) for c in (r, g, b)]


BT709, BT601 = (0.2126, 0.0722), (0.299, 0.114)


@pytest.mark.parametrize(
    ("height", "attributes", "weights", "limited"),
    [
        (480, {}, BT601, True),
        (576, {}, BT601, True),
        (578, {}, BT709, True),
        (720, {}, BT709, True),
        (1080, {}, BT709, True),
        (1080, {"colorspace": 5}, BT601, True),
        (1080, {"colorspace": 6}, BT601, True),
        (480, {"colorspace": 1}, BT709, True),
        (480, {"color_range": 2}, BT601, False),
        (720, {"color_range": 1}, BT709, True),
        (720, {"colorspace": 1, "color_range": 2}, BT709, False),
    ],
)
@pytest.mark.parametrize("yuv", [(120, 90, 200), (200, 140, 100), (60, 128, 128)])
def test_matrix_and_range_are_the_streams(
    height: int, attributes: dict[str, int], weights: tuple[float, float], limited: bool, yuv: tuple[int, int, int]
) -> None:
    got = colour(flat(64, height, *yuv, **attributes))

    assert np.abs(np.array(got) - expected_rgb(*yuv, *weights, limited)).max() <= 1


@pytest.mark.thorough  # libswscale takes a second to build each of its tables
@pytest.mark.parametrize("number", range(24))
@pytest.mark.parametrize("name", ["colorspace", "color_trc", "color_primaries"])
def test_no_number_of_a_colour_is_a_fault(name: str, number: int) -> None:
    frame = flat(64, 64, 120, 128, 128, **{"color_primaries": 9, "color_trc": 16, name: number})

    if name == "colorspace" and number in (8, 14, 16, 17):
        with pytest.raises(Poison, match=r"YCgCo|ICtCp"):
            colour(frame)
    else:
        red, green, blue = colour(frame)
        assert red == green == blue


def test_a_reserved_matrix_is_an_unnamed_one() -> None:
    named, unnamed = (colour(flat(64, 480, 120, 90, 200, colorspace=number)) for number in (3, 2))

    assert named == unnamed


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_scaling_is_ffmpegs_bicubic(tmp_path: Path) -> None:
    picture = np.random.default_rng(3).integers(0, 255, (90, 160, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv444p", dst_colorspace="itu601")
    out = np.zeros((123, 218, 3), np.uint8)
    write_rgb(frame, out, VideoReformatter())

    raw = frame.to_ndarray().tobytes()
    flags = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
    scale = f"scale=218:123:flags={flags}:in_color_matrix=bt601:in_range=limited:out_range=full,format=rgb24"
    command = ["ffmpeg", "-v", "error", "-f", "rawvideo", "-pix_fmt", "yuv444p", "-s", "640x360", "-i", "-"]
    command += ["-vf", scale, "-f", "rawvideo", "-"]
    theirs = subprocess.run(command, input=raw, capture_output=True, check=True).stdout

    difference = np.abs(out.astype(int) - np.frombuffer(theirs, np.uint8).reshape(out.shape).astype(int))
    assert difference.max() <= 2


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj422p", "yuv444p", "yuv411p", "nv12", "yuv420p10le", "p010le"])
@pytest.mark.parametrize("size", [(256, 144), (100, 70), (31, 17), (384, 384)])
def test_frames_by_way_of_planes_are_those_that_libswscale_packs_itself(
    pixel_format: str, size: tuple[int, int]
) -> None:
    rng = np.random.default_rng(3)
    coarse = np.kron(rng.integers(0, 255, (18, 32, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    frame = av.VideoFrame.from_ndarray(coarse, format="rgb24").reformat(format=pixel_format)
    packed = full_range(VideoReformatter(), frame, *size, "rgb24").to_ndarray()

    for threads in (1, 3):
        converter = Converter(VideoReformatter, Look(), FrameSize(256, 144))
        converter.threads = threads
        out = np.empty((size[1], size[0], 3), np.uint8)
        converter.write(frame, out)
        np.testing.assert_array_equal(out, packed)
