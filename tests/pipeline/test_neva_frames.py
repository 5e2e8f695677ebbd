"""NeVA's frame rule through the sampler: PyAV and decord show the same frames."""

import os
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from connectors.contract import Clip
from connectors.media.file import FileMedia
from daemon.config.settings import LimitsSettings, TimeoutsSettings
from daemon.decoding.sampler import Sampler
from daemon.windows import FrameSet, neva_frame_indices
from neva.media_settings import MediaSettings

WIDTH, HEIGHT, RATE = 64, 48, 25
# Grey levels. The two convert YUV to RGB by scalers of their own, which differ at the edges of saturated colours.
MEAN_TOLERANCE, MOST_TOLERANCE = 2.0, 8.0


def write_clip(path: Path, frames: int) -> None:
    """Write a clip whose k-th frame is a flat grey of its own, with a moving bar."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = WIDTH, HEIGHT, "yuv420p", 4_000_000
        for k in range(frames):
            picture = np.full((HEIGHT, WIDTH, 3), 40 + 5 * k % 160, np.uint8)
            picture[:, (2 * k) % WIDTH : (2 * k) % WIDTH + 8] = (200, 60, 60)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


async def shown(path: Path, media: MediaSettings, decoder: str) -> FrameSet:
    sampler = Sampler(LimitsSettings(decoders=1), TimeoutsSettings())
    await sampler.start()
    try:
        clip = Clip(path.name, "test", FileMedia.received(path.parent, (path.name,), 2**30), 0)
        plan = await sampler.plan(clip, *media.to_policies(), decoder)
        try:
            (only,) = [window async for window in sampler.frame_sets(plan)]
            assert isinstance(only, FrameSet)
            sampler.release(only)
            return only
        finally:
            plan.close()
    finally:
        await sampler.close()


@pytest.mark.parametrize(
    ("frames", "settings"),
    [
        (30, {"num_frames": 8}),
        (5, {"num_frames": 8}),
        (29, {"splice_single_frame": "middle"}),
        (29, {"splice_single_frame": "last"}),
    ],
)
async def test_pyav_and_decord_show_the_same_frames(tmp_path: Path, frames: int, settings: dict[str, object]) -> None:
    pytest.importorskip("decord")
    media = MediaSettings.model_validate(settings)
    write_clip(tmp_path / "clip.mp4", frames)

    by_av = await shown(tmp_path / "clip.mp4", media, "av")
    by_decord = await shown(tmp_path / "clip.mp4", media, "decord")

    expected = neva_frame_indices(frames, media.frames_shown, media.splice_single_frame)
    assert by_av.pts_ns == by_decord.pts_ns == tuple(k * 10**9 // RATE for k in expected)
    difference = np.abs(by_av.frames.astype(int) - by_decord.frames.astype(int))
    assert difference.mean() <= MEAN_TOLERANCE
    assert np.percentile(difference, 95) <= MOST_TOLERANCE


async def test_decords_own_reader_agrees_on_length_and_pixels(tmp_path: Path) -> None:
    os.environ.setdefault("DECORD_EOF_RETRY_MAX", "128")
    decord = pytest.importorskip("decord")
    write_clip(tmp_path / "clip.mp4", 30)

    reader = decord.VideoReader(str(tmp_path / "clip.mp4"), num_threads=1)
    numbers = neva_frame_indices(len(reader), 8)
    theirs = np.stack([reader[k].asnumpy() for k in numbers])
    ours = await shown(tmp_path / "clip.mp4", MediaSettings(num_frames=8), "av")

    assert numbers == [0, 4, 8, 12, 16, 20, 24, 29]
    assert np.abs(theirs.astype(int) - ours.frames.astype(int)).mean() <= MEAN_TOLERANCE


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "bmp", "gif"])
async def test_an_image_is_read_whatever_the_decoder(tmp_path: Path, kind: str) -> None:
    picture = tmp_path / f"picture.{kind}"
    Image.fromarray(np.full((48, 64, 3), (200, 40, 90), np.uint8)).save(picture)
    media = MediaSettings.model_validate({"media_type": "image"})

    by_av, by_decord = [await shown(picture, media, decoder) for decoder in ("av", "decord")]

    assert by_decord.frames.shape == (1, 48, 64, 3)
    np.testing.assert_array_equal(by_decord.frames, by_av.frames)


@pytest.mark.parametrize("decoder", ["av", "decord"])
def test_training_reads_clips_and_images_by_either_decoder(tmp_path: Path, decoder: str) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("decord")
    from neva.training.media import read_frames

    write_clip(tmp_path / "clip.mp4", 30)
    Image.new("RGB", (64, 48), "red").save(tmp_path / "picture.jpg")
    video, image = MediaSettings(num_frames=4), MediaSettings.model_validate({"media_type": "image"})

    clip = read_frames(FileMedia.received(tmp_path, ("clip.mp4",), 2**30), video, decoder)
    picture = read_frames(FileMedia.received(tmp_path, ("picture.jpg",), 2**30), image, decoder)

    assert (len(clip), picture.shape) == (4, (1, 48, 64, 3))
    assert clip.std() > 0
