"""Transparent pictures and films over the background of the settings.

What is right was said by Pillow, or by the way an input was painted; each test says which.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from daemon.config.settings import FramesSettings
from daemon.decoding.sampler import Sampler
from daemon.windows import FrameSet
from tests.corpus.painted import paint
from tests.corpus.sampling import sample
from tests.field.shown import INPUTS, RED, WHOLE, ffmpeg, first_of, frames_of, is_close, needs_ffmpeg, over_white

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


# Pillow's alpha_composite over white
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("kind", ["png", "webp", "gif", "avif"])
async def test_what_is_transparent_shows_what_is_behind(sampler: Sampler, tmp_path: Path, mode: str, kind: str) -> None:
    if (mode, kind) not in [(m, "png") for m in ("RGBA", "LA", "P")] + [
        ("RGBA", "webp"),
        ("P", "gif"),
        ("RGBA", "avif"),
    ]:
        pytest.skip("no such files are written")
    picture, path = Image.fromarray(paint(4711, 127, 91)), tmp_path / f"picture.{kind}"
    alpha = np.tile(np.linspace(0, 255, 127).astype(np.uint8), (91, 1))
    if mode == "P":
        picture.quantize(16).save(path, transparency=3)
    else:
        base = picture if mode == "RGBA" else picture.convert("L")
        base.putalpha(Image.fromarray(alpha))
        base.save(path, **({} if kind == "png" else {"quality": 95}))

    shown = await first_of(sampler, path)

    assert np.abs(shown.astype(int) - over_white(path)).mean() < (0.6 if kind in ("png", "gif") else 3)


async def test_hidden_colours_are_not_shown(sampler: Sampler) -> None:
    shown = await first_of(sampler, INPUTS / "c13_alpha.png")

    assert is_close(shown, over_white(INPUTS / "c13_alpha.png"), 1)


@pytest.mark.parametrize(
    ("name", "colour"), [("black", (0, 0, 0)), ("grey", (128, 128, 128)), ("#FF8000", (255, 128, 0))]
)
async def test_the_background_is_a_setting(sampler: Sampler, name: str, colour: tuple[int, int, int]) -> None:
    policy = FramesSettings(background=name, rule="neva", num_frames=1).to_policy()
    outcome = await sample(sampler, INPUTS / "c13_alpha.png", WHOLE, policy)

    (window,) = outcome.windows
    assert isinstance(window, FrameSet)
    assert window.frames[0, 2, 2].tolist() == list(colour)


# painted: the left half transparent with red hidden in it, the right half red
@needs_ffmpeg
@pytest.mark.parametrize(
    ("codec", "pixels", "file"),
    [
        ("libvpx", "yuva420p", "clip.webm"),
        ("libvpx-vp9", "yuva420p", "clip.webm"),
        ("prores_ks", "yuva444p10le", "clip.mov"),
        ("png", "rgba", "clip.mov"),
        ("ffv1", "yuva420p", "clip.mkv"),
        ("apng", "rgba", "clip.apng"),
    ],
)
async def test_films_with_alpha(sampler: Sampler, tmp_path: Path, codec: str, pixels: str, file: str) -> None:
    picture = np.zeros((96, 128, 4), np.uint8)
    picture[..., :3] = RED
    picture[:, 64:, 3] = 255
    source = ["-f", "rawvideo", "-pix_fmt", "rgba", "-s", "128x96", "-r", "10", "-i", "-", "-pix_fmt", pixels]
    ffmpeg(*source, "-c:v", codec, "-auto-alt-ref", "0", tmp_path / file, data=picture.tobytes() * 5)

    frames = await frames_of(sampler, tmp_path / file, num_frames=5)

    assert is_close(frames[:, :, :60], (255, 255, 255), 3)
    assert is_close(frames[:, 8:-8, 72:], RED, 4)
