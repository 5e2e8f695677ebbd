"""Pictures and colours from the field, through a decoder in its cage.

What is right was said by Pillow, by ffmpeg, by ITU-R BT.2100 and BT.2408, or by the way an input was painted; each test
says which.
"""

import shutil
import subprocess
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray
from PIL import Image, ImageOps

from daemon.config.settings import FramesSettings
from daemon.decoding.sampler import Sampler
from daemon.frame_look import FrameSize, PixelBudget
from daemon.windows import NS_PER_S, FramePolicy, FrameSet, WindowPolicy
from tests.corpus.painted import paint
from tests.corpus.sampling import Outcome, running, sample
from tests.field.dolby_vision import with_messages

INPUTS = Path(__file__).parent / "inputs"
RED, BLUE, BRIGHT = (200, 30, 30), (30, 30, 200), (235, 235, 235)
WHOLE = WindowPolicy(whole=True)
Frames = NDArray[np.uint8]

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sampler() -> AsyncIterator[Sampler]:
    async with running(deadline_s=120.0) as started:
        yield started


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


# painted upright; Pillow's exif_transpose, and the way the others were made, say the same
@pytest.mark.parametrize(
    "name",
    [
        *(f"c01_exif_{orientation}.jpg" for orientation in (1, 2, 3, 5, 6, 8)),
        *("c02_exif_6.png", "c02_exif_6.webp", "c08_grid.heic", "c08_single.heic", "c08_single_irot.heic"),
        *("c09_single.avif", "c10_motion_photo.jpg", "c11_cmyk.jpg", "c11_progressive.jpg", "c11_rgb.jpg"),
        *("c17_tail_text.jpg", "c17_tail_two.jpg", "c17_tail_zeros.jpg"),
    ],
)
async def test_a_picture_is_upright_and_whole(sampler: Sampler, name: str) -> None:
    outcome = await outcome_of(sampler, INPUTS / name, num_frames=1)

    assert outcome.fault is None
    (window,) = outcome.windows
    assert isinstance(window, FrameSet)
    assert window.window.exclusive_end_ns == NS_PER_S // 25
    assert window.frames.shape[1:] == (192, 256, 3)
    assert is_upright(window.frames[0])


# Pillow reads the same file: exif_transpose for the EXIF, libavif for the properties of AVIF
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "avif"])
async def test_all_eight_orientations(sampler: Sampler, tmp_path: Path, kind: str, orientation: int) -> None:
    exif, path = Image.Exif(), tmp_path / f"picture.{kind}"
    exif[0x112] = orientation
    Image.fromarray(paint(4711, 255, 143)).save(path, exif=exif, quality=95)

    shown, right = await first_of(sampler, path), over_white(path)

    assert shown.shape == right.shape
    assert np.abs(shown.astype(int) - right).mean() < 3


# painted as (200, 30, 30), and so says Pillow of the pictures among them
@pytest.mark.parametrize(
    "name",
    [
        *("c03_jpeg_720.jpg", "c03_webp_360.webp", "c03_webp_720.webp", "c07_16385x16.png", "c07_17x3.mkv"),
        *("c07_1x1.png", "c07_2x2.mkv", "c07_3x5.mkv", "c07_3x5.png", "c07_4000x3000.jpg", "c16_scope.mp4"),
    ],
)
async def test_a_painted_colour(sampler: Sampler, name: str) -> None:
    shown = await first_of(sampler, INPUTS / name)

    assert is_close(shown.mean((0, 1)), RED, 2)


# as ffmpeg shows it: libvpx tags what it writes as BT.601
@needs_ffmpeg
async def test_a_vp8_of_720_lines(sampler: Sampler) -> None:
    frames = await frames_of(sampler, INPUTS / "c04_vp8_720.webm", num_frames=5)

    assert is_close(frames[0, 360, 640], ffmpegs(INPUTS / "c04_vp8_720.webm", frames.shape)[0, 360, 640], 3)


# as ffmpeg shows it
@needs_ffmpeg
@pytest.mark.parametrize(
    "name",
    [
        *("c05_gbrp_x264.mp4", "c05_grey.jpg", "c05_grey.png", "c05_grey1.png", "c05_grey16.png", "c05_grey_ffv1.mkv"),
        *("c05_grey_ffv1_12.mkv", "c05_grey_mjpeg.avi", "c05_grey_x264.mp4", "c05_grey_x264_full.mp4"),
        *("c12_anim.gif", "c12_anim.png", "c14_422_10.mp4", "c14_444_12.mkv", "c14_full.mp4", "c14_prores.mov"),
        *("c15_antitranspose.mp4", "c15_flip_h.mp4", "c15_flip_v.mp4", "c15_rot90.mp4", "c15_transpose.mp4"),
    ],
)
async def test_as_ffmpeg_shows_it(sampler: Sampler, name: str) -> None:
    frames = await frames_of(sampler, INPUTS / name)
    right = ffmpegs(INPUTS / name, frames.shape)

    assert np.abs(frames[: len(right)].astype(int) - right).mean((1, 2, 3)).max() < 2
    assert (frames[len(right) :] == frames[len(right) - 1]).all()


# the message stands at the group's only key frame; H.264, D.2.26: it persists until the sequence ends
async def test_a_turn_holds_for_its_group(sampler: Sampler) -> None:
    frames = await frames_of(sampler, INPUTS / "c15_sei_rotate.ts", num_frames=25)
    numbers = [number_in(np.ascontiguousarray(np.rot90(frame, -1))) for frame in frames]

    assert frames.shape[1:] == (128, 96, 3)
    assert numbers == list(range(25))


# ffprobe: 30 frames, each a tenth of a second
@pytest.mark.parametrize("name", ["c12_anim.gif", "c12_anim.png"])
async def test_an_animation_keeps_its_time(sampler: Sampler, name: str) -> None:
    outcome = await outcome_of(sampler, INPUTS / name, num_frames=30)

    assert outcome.plan is not None
    assert outcome.plan.duration_ns == 3 * NS_PER_S
    assert outcome.plan.pts_ns.tolist() == [k * NS_PER_S // 10 for k in range(30)]
    assert [number_in(frame) for window in outcome.windows for frame in window.frames] == list(range(30))  # type: ignore[union-attr]


async def test_an_animated_webp_is_refused_by_name(sampler: Sampler) -> None:
    outcome = await outcome_of(sampler, INPUTS / "c12_anim.webp")

    assert outcome.reason == "unsupported_codec"
    assert outcome.fault is not None
    assert "animated WebP" in outcome.fault.detail


# painted: 160 x 96, then 96 x 160, which is 58 x 96 in the first one's height
async def test_a_phone_turned_midway(sampler: Sampler) -> None:
    frames = await frames_of(sampler, INPUTS / "a21_mkv_joined_sizes.webm", num_frames=100)

    assert frames.shape[1:] == (96, 160, 3)
    assert [number_in(frame) for frame in frames[:50]] == list(range(50))
    assert [number_in(frame[:, 51:109]) for frame in frames[50:]] == list(range(50, 100))
    assert (frames[50:, :, :50] == 0).all()
    assert (frames[50:, :, 110:] == 0).all()
    assert is_close(frames[75, 80, 65], RED, 12)
    assert is_close(frames[75, 80, 95], BLUE, 12)


# ffprobe names each frame's own sample aspect: 1:1 up to frame 24, 4:3 from frame 25 on
@needs_ffmpeg
@pytest.mark.parametrize("codec", ["mpeg2video", "libx264", "libx265"])
async def test_pixels_that_change_their_shape_midway(sampler: Sampler, tmp_path: Path, codec: str) -> None:
    options = ["-x265-params", "log-level=none"] if codec == "libx265" else []
    for name, aspect in (("1", "4/3"), ("2", "16/9")):
        source = ["-f", "lavfi", "-i", "color=red:s=192x144:r=25:d=1", "-vf", f"setdar={aspect}", "-g", "12"]
        ffmpeg(*source, "-c:v", codec, *options, "-bf", "2", tmp_path / f"{name}.ts")
    joined = tmp_path / "joined.ts"
    ffmpeg("-i", f"concat:{tmp_path}/1.ts|{tmp_path}/2.ts", "-c", "copy", joined)

    frames = await frames_of(sampler, joined, num_frames=50)

    filled = [int((frame[:, 96, 0] > 100).sum()) for frame in frames]
    assert filled == [144] * 25 + [108] * 25


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


# painted; Pillow has written them
@pytest.mark.parametrize("kind", ["jpg", "png"])
async def test_a_photo_of_50_megapixels_is_captioned_by_default(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"photo.{kind}"
    Image.fromarray(paint(4711, 8192, 6144)).save(path, quality=80, compress_level=1)

    def to_640(_: int, own: FrameSize, __: PixelBudget) -> FrameSize:
        return FrameSize(640, round(640 * own.height / own.width))

    async with running(to_640, deadline_s=200.0) as sampler:
        shown = await first_of(sampler, path, rule="time")

    assert shown.shape == (480, 640, 3)
    assert is_upright(shown)


async def test_a_larger_photo_is_over_a_limit_that_has_a_name(sampler: Sampler, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.new("1", (9000, 8000)).save(path)

    outcome = await outcome_of(sampler, path)

    assert outcome.reason == "over_budget"
    assert outcome.fault is not None
    assert "limits.max_picture_pixels" in outcome.fault.detail


async def test_frames_of_a_photo_stay_below_the_limit_of_frames(sampler: Sampler) -> None:
    outcome = await outcome_of(sampler, INPUTS / "c07_4000x3000.jpg", num_frames=8)

    assert outcome.plan is not None
    assert 8_800_000 < outcome.plan.width * outcome.plan.height <= 8_912_896


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


# Pillow reads the same file
@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("CMYK", {"quality": 95}),
        ("L", {"quality": 95}),
        ("RGB", {"quality": 95, "subsampling": 0, "progressive": True}),
        ("RGB", {"quality": 95, "dpi": (72, 144)}),
    ],
)
async def test_kinds_of_jpeg(sampler: Sampler, tmp_path: Path, mode: str, options: dict[str, Any]) -> None:
    path = tmp_path / "picture.jpg"
    Image.fromarray(paint(4711, 255, 143)).convert(mode).save(path, **options)

    shown = await first_of(sampler, path)

    assert shown.shape == (143, 255, 3)
    assert np.abs(shown.astype(int) - over_white(path)).mean() < 3


# painted: the first picture is the one that a viewer shows
@pytest.mark.parametrize("tail", ["jpeg", "multi-picture", "film", "half"])
async def test_a_jpeg_is_its_first_picture(sampler: Sampler, tmp_path: Path, tail: str) -> None:
    path, other = tmp_path / "picture.jpg", BytesIO()
    first, second = Image.fromarray(paint(4711)), Image.fromarray(paint(99, 640, 480))
    if tail == "multi-picture":
        first.save(path, format="MPO", save_all=True, append_images=[second], quality=90)
    else:
        first.save(path, quality=90)
        second.save(other, format="JPEG")
        film = (INPUTS / "c15_rot90.mp4").read_bytes()
        tails = {"jpeg": other.getvalue(), "film": film, "half": other.getvalue()[:700]}
        path.write_bytes(path.read_bytes() + tails[tail])

    outcome = await outcome_of(sampler, path, num_frames=1)

    assert outcome.fault is None
    assert outcome.plan is not None
    assert len(outcome.plan.pts_ns) == 1
    (window,) = outcome.windows
    assert isinstance(window, FrameSet)
    assert is_upright(window.frames[0])


async def test_a_heic_cut_short_is_truncated(sampler: Sampler, tmp_path: Path) -> None:
    whole = (INPUTS / "c08_grid.heic").read_bytes()
    for length in (len(whole) - 40, len(whole) // 2, 200):
        path = tmp_path / f"{length}.heic"
        path.write_bytes(whole[:length])

        assert (await outcome_of(sampler, path)).reason == "truncated"


async def test_a_heic_of_another_codec_is_refused_by_its_name(sampler: Sampler, tmp_path: Path) -> None:
    path = tmp_path / "other.heic"
    path.write_bytes((INPUTS / "c08_single.heic").read_bytes().replace(b"hvc1", b"vvc1"))

    outcome = await outcome_of(sampler, path)

    assert outcome.reason == "unsupported_codec"
    assert outcome.fault is not None
    assert "vvc1" in outcome.fault.detail
