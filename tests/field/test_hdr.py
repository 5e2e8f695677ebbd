"""HDR shown as SDR, and Dolby Vision.

What is right was said by ITU-R BT.2100 and BT.2408, and by Dolby's profiles.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.decoding.sampler import Sampler
from daemon.windows import FrameSet
from tests.field.dolby_vision import with_messages
from tests.field.shown import BLUE, INPUTS, RED, ffmpeg, first_of, is_close, needs_ffmpeg, outcome_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


# ITU-R BT.2100's curves; ITU-R BT.1886 and BT.2408's white for what a display of SDR shows
def pq(nits: NDArray[Any]) -> NDArray[Any]:
    power = (nits / 10000) ** (2610 / 16384)
    value: NDArray[Any] = ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    return value


def hlg(nits: NDArray[Any]) -> NDArray[Any]:
    """Return the signal of greys on a display of 1000 cd/m2, whose system gamma is 1.2."""
    light = (nits / 1000) ** (1 / 1.2)
    upper = 0.17883277 * np.log(np.maximum(12 * light - 0.28466892, 1e-9)) + 0.55991073
    value: NDArray[Any] = np.where(light <= 1 / 12, np.sqrt(3 * light), upper)
    return value


def sdr(nits: NDArray[Any]) -> NDArray[Any]:
    value: NDArray[Any] = 255 * np.clip(nits / 203, 0, 1) ** (1 / 2.4)
    return value


NITS = np.array([0, 1, 5, 10, 26, 50, 100, 150, 203, 300, 600, 1000], float)
CURVES = {"smpte2084": pq, "arib-std-b67": hlg}


def hdr_clip(path: Path, light: NDArray[Any], curve: str, pixels: str, *codec: str) -> None:
    """Write a clip whose fields are 32 x 64, of linear light in BT.2020's primaries, in cd/m2."""
    bits = 12 if "12" in pixels else 10
    red, green, blue = CURVES[curve](light).T
    luma = 0.2627 * red + 0.6780 * green + 0.0593 * blue
    scale = 2 ** (bits - 8)
    planes = [219 * luma + 16, 224 * (blue - luma) / 1.8814 + 128, 224 * (red - luma) / 1.4746 + 128]
    rows = [np.tile(np.repeat(np.round(plane * scale), 32), (64, 1)) for plane in planes]
    raw = np.stack(rows).astype("<u2").tobytes() * 3
    tags = ["-color_primaries", "bt2020", "-color_trc", curve, "-colorspace", "bt2020nc", "-color_range", "tv"]
    source = ["-f", "rawvideo", "-pix_fmt", f"yuv444p{bits}le", "-s", f"{32 * len(light)}x64", "-r", "10", *tags]
    ffmpeg(*source, "-i", "-", "-pix_fmt", pixels, *tags, *codec, path, data=raw)


X265 = ("-c:v", "libx265", "-x265-params", "log-level=none:lossless=1")


@needs_ffmpeg
@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize(
    ("pixels", "file", "codec"),
    [
        ("yuv420p10le", "ramp.mp4", X265),
        ("yuv422p12le", "ramp.mkv", X265),
        ("yuv444p10le", "ramp.mkv", ("-c:v", "ffv1")),
        ("yuv422p10le", "ramp.mov", ("-c:v", "prores_ks")),
    ],
)
async def test_grey_in_hdr(
    sampler: Sampler, tmp_path: Path, curve: str, pixels: str, file: str, codec: tuple[str, ...]
) -> None:
    hdr_clip(tmp_path / file, np.repeat(NITS[:, None], 3, 1), curve, pixels, *codec)

    shown = (await first_of(sampler, tmp_path / file))[32, 16::32]

    assert is_close(shown, np.repeat(sdr(NITS)[:, None], 3, 1), 4)


@needs_ffmpeg
async def test_colours_in_hdr(sampler: Sampler, tmp_path: Path) -> None:
    colours = np.array([RED, BLUE, (30, 200, 30), (200, 200, 30), (180, 140, 110), (20, 20, 20)], float)
    to_bt2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # BT.2087
    light = 203 * (colours / 255) ** 2.4
    hdr_clip(tmp_path / "colours.mkv", light @ to_bt2020.T, "smpte2084", "yuv444p10le", "-c:v", "ffv1")

    shown = (await first_of(sampler, tmp_path / "colours.mkv"))[32, 16::32]

    assert is_close(shown, colours, 12)


@needs_ffmpeg
async def test_hdr_as_it_is(sampler: Sampler, tmp_path: Path) -> None:
    hdr_clip(tmp_path / "ramp.mkv", np.repeat(NITS[:, None], 3, 1), "smpte2084", "yuv444p10le", "-c:v", "ffv1")

    shown = (await first_of(sampler, tmp_path / "ramp.mkv", tone_map="none"))[32, 16::32]

    assert is_close(shown, np.repeat(255 * pq(NITS)[:, None], 3, 1), 2)


async def test_white_paper_in_hlg(sampler: Sampler) -> None:
    shown = await first_of(sampler, INPUTS / "c06_hlg.mp4")

    assert is_close(shown.mean((0, 1)), (255, 255, 255), 3)


# Dolby's profiles: 8 has a base layer of HDR10, 5 has none
@needs_ffmpeg
@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("full_range", [False, True])
async def test_dolby_vision(sampler: Sampler, tmp_path: Path, kind: str, full_range: bool) -> None:
    plain, dolby, path = tmp_path / "plain.hevc", tmp_path / "dolby.hevc", tmp_path / f"clip.{kind}"
    hdr_clip(plain, np.full((4, 3), 203.0), "smpte2084", "yuv420p10le", *X265[:3], f"{X265[3]}:aud=1:bframes=0")
    dolby.write_bytes(with_messages(plain.read_bytes(), full_range=full_range))
    ffmpeg("-r", "10", "-i", dolby, "-c", "copy", tmp_path / "clip.mp4")
    if kind != "mp4":
        ffmpeg("-i", tmp_path / "clip.mp4", "-c", "copy", path)

    outcome = await outcome_of(sampler, path, num_frames=1)

    if full_range:
        assert outcome.reason == "unsupported_codec"
        assert outcome.fault is not None
        assert "profile 5" in outcome.fault.detail
    else:
        assert outcome.plan is not None
        assert "Dolby Vision" in outcome.plan.codec
        (window,) = outcome.windows
        assert isinstance(window, FrameSet)
        assert is_close(window.frames[0], (255, 255, 255), 3)
