"""The frames that a decoder in its cage shows of an input, and what painted inputs say of themselves."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from daemon.decoding.sampler import Sampler
from daemon.windows import FramePolicy, FrameSet, WindowPolicy
from tests.corpus.sampling import Outcome, sample

INPUTS = Path(__file__).parent / "inputs"
RED, BLUE = (200, 30, 30), (30, 30, 200)
WHOLE = WindowPolicy(whole=True)
Frames = NDArray[np.uint8]

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


async def outcome_of(sampler: Sampler, path: Path, **policy: Any) -> Outcome:
    return await sample(sampler, path, WHOLE, FramePolicy(**{"rule": "neva", "num_frames": 64, **policy}))


async def frames_of(sampler: Sampler, path: Path, **policy: Any) -> Frames:
    """Return a clip's frames, the last one repeated up to 64."""
    outcome = await outcome_of(sampler, path, **policy)
    assert outcome.fault is None
    (window,) = outcome.windows
    assert isinstance(window, FrameSet)
    assert window.substituted == 0
    return window.frames


async def first_of(sampler: Sampler, path: Path, **policy: Any) -> Frames:
    return (await frames_of(sampler, path, **{"num_frames": 1, **policy}))[0]


def number_in(frame: Frames) -> int:
    """Read the two rows of eight blocks, which take two thirds of the height."""
    height, width = frame.shape[:2]
    number = 0
    for bit in range(16):
        row, column = divmod(bit, 8)
        level = frame[round((2 * row + 1) / 6 * height), round((column + 0.5) / 8 * width)].mean()
        number |= bool(level > 127) << bit
    return number


def strip_of(frame: Frames) -> tuple[Frames, Frames]:
    height, width = frame.shape[:2]
    return frame[round(height * 5 / 6), width // 4], frame[round(height * 5 / 6), 3 * width // 4]


def is_close(found: NDArray[Any], right: Any, by: float = 4) -> bool:
    return bool(np.abs(found.astype(float) - np.asarray(right, float)).max() <= by)


def is_upright(frame: Frames) -> bool:
    left, right = strip_of(frame)
    return number_in(frame) == 4711 and is_close(left, RED, 8) and is_close(right, BLUE, 8)


def over_white(path: Path) -> Frames:
    """Return what Pillow shows of a picture, upright and over white."""
    with Image.open(path) as stored:
        picture = ImageOps.exif_transpose(stored)
    assert picture is not None
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture.convert("RGBA"))
    return np.asarray(white.convert("RGB"))


def ffmpeg(*arguments: object, data: bytes | None = None) -> bytes:
    command = ["ffmpeg", "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def ffmpegs(path: Path, shape: tuple[int, ...]) -> Frames:
    """Return the frames as ffmpeg gives them, which turns them itself."""
    flags = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
    raw = ffmpeg("-i", path, "-vf", f"scale=flags={flags}", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, *shape[1:])
