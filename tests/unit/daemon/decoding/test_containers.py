"""What is read, what is refused by name, and which stream of a file is captioned."""

import os
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from connectors.errors import Reason
from daemon.decoding.child.containers import ALLOWED, is_encrypted
from daemon.windows import NS_PER_S, WindowPolicy
from tests.corpus.clips import Recipe, make
from tests.corpus.painted import paint
from tests.corpus.sampling import running, sample, wrong_frames
from tests.field.reading import read_all

pytestmark = pytest.mark.slow  # it starts decoders

GUIDE = Path(__file__).parents[4] / "docs" / "operate.md"
NEW = {
    "flv": Recipe("libx264", "flv"),
    "ogg": Recipe("libvpx", "ogv", options={"g": "25", "b": "400k"}),
    "mxf": Recipe("mpeg2video", "mxf", size=(720, 576), options={"g": "12", "bf": "2"}),
    "ivf": Recipe("libvpx", "ivf", options={"g": "25", "b": "400k"}),
    "h264": Recipe("libx264", "h264"),
    "hevc": Recipe("libx265", "hevc", options={"x265-params": "log-level=none:keyint=20"}),
    "mpegvideo": Recipe("mpeg2video", "m2v", options={"g": "12", "bf": "2"}, muxer="mpeg2video"),
}


@pytest.mark.parametrize("name", NEW)
async def test_a_container_is_read_from_any_window_on(name: str, tmp_path: Path) -> None:
    """Windows are asked for from the end to the start too, so that the index and every way of seeking are used."""
    truth = make(tmp_path / "clip", NEW[name])
    policy = WindowPolicy(NS_PER_S, NS_PER_S, NS_PER_S // 2)

    async with running() as sampler:
        for first in (0, 2, 1):
            outcome = await sample(sampler, truth.path, policy, first_window=first)
            assert outcome.fault is None
            assert wrong_frames(outcome, truth) == []


@pytest.mark.parametrize("reason", list(Reason))
def test_the_guide_explains_every_reason(reason: Reason) -> None:
    assert f"`{reason}`" in GUIDE.read_text()


def test_the_guide_lists_what_is_read() -> None:
    assert ALLOWED in " ".join(GUIDE.read_text().split())


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"nut/multimedia container\0", "NUT"),
        (b"YUV4MPEG2 W16", "YUV4MPEG"),
        (b"0&\xb2u\x8ef\xcf\x11\xa6\xd9\0\xaa\0b\xcel", "ASF"),
    ],
)
async def test_a_container_that_is_not_read_is_named(head: bytes, name: str, tmp_path: Path) -> None:
    clip = tmp_path / "clip"
    clip.write_bytes(head + bytes(2000))

    async with running() as sampler:
        outcome = await sample(sampler, clip)

    assert outcome.reason == Reason.UNSUPPORTED_CONTAINER
    assert name in str(outcome.fault)
    assert ALLOWED in str(outcome.fault)


def test_a_scrambled_transport_stream_is_encrypted(tmp_path: Path) -> None:
    clip = make(tmp_path / "clip", Recipe(suffix="ts"))
    data = bytearray(clip.path.read_bytes())
    for at in range(0, len(data), 188):
        if (data[at + 1] & 0x1F) << 8 | data[at + 2] == 256:
            data[at + 3] |= 0x80
    clip.path.write_bytes(data)
    descriptor = os.open(clip.path, os.O_RDONLY)

    assert is_encrypted(descriptor, "mpegts", 256)
    assert not is_encrypted(descriptor, "mpegts", 17)  # another program's stream
    os.close(descriptor)


Stream = tuple[tuple[int, int], int, bool]  # size, number of frames, flagged as default


def two_streams(path: Path, first: Stream, second: Stream) -> Path:
    """Write a file of two video streams."""
    with av.open(str(path), "w") as container:
        streams = []
        for (width, height), count, is_default in (first, second):
            stream = container.add_stream("mjpeg", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
            stream.disposition = av.stream.Disposition.default if is_default else 0
            streams.append((stream, count, width, height))
        for number in range(max(first[1], second[1])):
            for stream, count, width, height in streams:
                if number < count:
                    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(paint(number, width, height)), "rgb24")
                    frame = picture.reformat(format="yuvj420p")
                    frame.pts, frame.time_base = number, Fraction(1, 25)
                    container.mux(stream.encode(frame))
        for stream, *_ in streams:
            container.mux(stream.encode())
    return path


SMALL, LARGE = (64, 48), (256, 144)


@pytest.mark.parametrize(
    ("first", "second", "size"),
    [
        ((SMALL, 1, True), (LARGE, 50, False), LARGE),
        ((LARGE, 1, True), (SMALL, 50, False), SMALL),
        ((LARGE, 3, True), (SMALL, 50, False), SMALL),
        ((SMALL, 50, False), (LARGE, 50, False), LARGE),
        ((LARGE, 50, False), (SMALL, 50, True), SMALL),
        ((SMALL, 50, True), (LARGE, 50, True), LARGE),
        ((SMALL, 1, False), (LARGE, 1, False), LARGE),
    ],
)
async def test_the_stream_is_ffmpegs_and_thumbnails_come_last(
    first: Stream, second: Stream, size: tuple[int, int], tmp_path: Path
) -> None:
    async with running() as sampler:
        found = await read_all(sampler, two_streams(tmp_path / "two.mkv", first, second))

    assert found.outcome.plan is not None
    assert (found.outcome.plan.width, found.outcome.plan.height) == size
    assert found.reason is None


async def test_a_gap_that_sound_plays_through_is_a_pause(tmp_path: Path) -> None:
    ticks = (*range(25), *range(25 + 15 * 25, 50 + 15 * 25))
    with av.open(str(tmp_path / "clip.ts"), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25, options={"g": "5"})
        stream.width, stream.height, stream.pix_fmt = *LARGE, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        sound = container.add_stream("mp2", rate=48_000)
        for start in range(0, 48_000 * 17, 1152):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), "s16", "mono")
            samples.sample_rate, samples.pts = 48_000, start
            container.mux(sound.encode(samples))
        for number, tick in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(paint(number), "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = tick, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())

    async with running() as sampler:
        found = await read_all(sampler, tmp_path / "clip.ts")

    assert found.duration_ms == 17_000
    assert not any(asdict(found.outcome.plan.mended).values())  # type: ignore[union-attr]
