"""Pictures and colours from the field, through a decoder in its cage.

What is right was said by Pillow, by ffmpeg, or by the way an input was painted; each test says which.
"""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from daemon.decoding.sampler import Sampler
from daemon.frame_look import FrameSize, PixelBudget
from daemon.windows import NS_PER_S, FrameSet
from tests.corpus.painted import paint
from tests.corpus.sampling import running
from tests.field.shown import (
    BLUE,
    INPUTS,
    RED,
    ffmpeg,
    ffmpegs,
    first_of,
    frames_of,
    is_close,
    is_upright,
    needs_ffmpeg,
    number_in,
    outcome_of,
    over_white,
)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


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
