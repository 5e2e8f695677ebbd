"""Processor time: a clip that uses up its own is rejected, and length alone ends no plan."""

import os
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from connectors.errors import Poison, Reason
from daemon.decoding.budgets import DecodeTime, Meter, processor_s
from daemon.windows import FramePolicy, WindowPolicy
from tests.corpus.clips import Recipe, make
from tests.corpus.sampling import clip_of, running, sample


def test_a_clip_has_a_minutes_time_at_least_and_more_by_its_length() -> None:
    time = DecodeTime.of_size(16 * 2**20, 60.0)
    assert time.limit_s == 120.0

    time.used_s = 5.0
    time.grant(30.0, 60.0)
    assert time.limit_s == 65.0
    time.grant(600.0, 60.0)
    assert time.limit_s == 605.0

    time.check(599.0)
    with pytest.raises(Poison, match=r"limits\.decode_s_per_clip_minute") as caught:
        time.check(601.0)
    assert caught.value.reason == Reason.DECODE_DEADLINE


def test_the_kernel_counts() -> None:
    busy = subprocess.Popen(["/bin/sh", "-c", "while :; do :; done"])
    meter = Meter(busy.pid)
    try:
        while processor_s(busy.pid) < 0.3:
            os.sched_yield()
        assert meter.spent_s >= 0.25
    finally:
        busy.kill()
        busy.wait()
    assert processor_s(busy.pid) == 0.0


@pytest.mark.slow
async def test_a_clip_that_uses_up_its_time_is_rejected_and_the_next_is_none_the_worse(tmp_path: Path) -> None:
    truth = make(tmp_path / "long", Recipe(frames=2000, options={"g": "2000", "bf": "0"}))
    async with running(decode_s_per_clip_minute=0.05) as sampler:
        outcome = await sample(sampler, truth.path)
        assert outcome.reason == Reason.DECODE_DEADLINE
    async with running() as sampler:
        assert (await sample(sampler, truth.path)).fault is None


@pytest.mark.slow
async def test_a_clip_of_more_than_an_hour_is_planned(tmp_path: Path) -> None:
    """A sign of life for each 2,000 frames, and no more than 60 of them: clips above 120,000 frames were rejected."""
    path, frames = tmp_path / "hours.mkv", 150_000
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=30)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuvj420p"
        (picture,) = stream.encode(av.VideoFrame.from_ndarray(np.zeros((24, 16), np.uint8), format="yuvj420p"))
        data = bytes(picture)
        for number in range(frames):
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 30), True
            packet.pts = packet.dts = number
            container.mux(packet)
    async with running(deadline_s=30.0) as sampler:
        progress = sampler.pool.progress
        plan = await sampler.plan(clip_of(path), WindowPolicy(), FramePolicy())

        assert len(plan.pts_ns) == frames
        assert len(plan.windows) == 500
        assert sampler.pool.progress > progress + 60
        plan.close()
