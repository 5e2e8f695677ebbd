"""Clips through the real sampler: what comes out, and how it ends."""

import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from connectors.contract import Clip
from connectors.errors import Poison, Transient
from daemon.config.settings import LimitsSettings, TimeoutsSettings
from daemon.decoding.sampler import ClipPlan, Sampler, UnreadableWindow
from daemon.frame_look import FrameSizer
from daemon.windows import NS_PER_S, FramePolicy, FrameSet, WindowPolicy
from tests.corpus.clips import Truth
from tests.corpus.painted import read

SECONDS = WindowPolicy(NS_PER_S, NS_PER_S, NS_PER_S // 2)
FIVE_SECONDS = WindowPolicy(5 * NS_PER_S, 5 * NS_PER_S, 2 * NS_PER_S)


@dataclass(frozen=True)
class PathMedia:
    """A file, opened by path."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size

    def open(self) -> int:
        return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        pass


@dataclass
class Outcome:
    """A clip's windows as they came, and what ended them."""

    windows: list[FrameSet | UnreadableWindow] = field(default_factory=list)
    fault: Poison | Transient | None = None
    plan: ClipPlan | None = None

    @property
    def reason(self) -> str | None:
        return str(self.fault.reason) if self.fault is not None else None

    def kinds(self) -> str:
        """Return one letter a window: F for frames, U for unreadable."""
        return "".join("F" if isinstance(window, FrameSet) else "U" for window in self.windows)

    def numbers(self) -> list[list[int]]:
        """Return the painted numbers of each readable window."""
        return [[int(read(f)) for f in w.frames] for w in self.windows if isinstance(w, FrameSet)]


def clip_of(path: Path) -> Clip:
    return Clip(path.name, "corpus", PathMedia(path), 0)


def make_sampler(sizer: FrameSizer | None = None, deadline_s: float = 20.0, **limits: Any) -> Sampler:
    settings = LimitsSettings(**{"decoders": 1, "decoder_memory_bytes": 2**31, **limits})
    return Sampler(settings, TimeoutsSettings(decode_deadline_s=deadline_s), sizer)


@asynccontextmanager
async def running(sizer: FrameSizer | None = None, **limits: Any) -> AsyncIterator[Sampler]:
    sampler = make_sampler(sizer, **limits)
    await sampler.start()
    try:
        yield sampler
    finally:
        await sampler.close()
        assert sampler.budget.held_bytes == 0


async def sample(
    sampler: Sampler,
    path: Path,
    windows: WindowPolicy = SECONDS,
    frames: FramePolicy | None = None,
    first_window: int = 0,
    decoder: str = "av",
) -> Outcome:
    """Run a clip through the sampler; every window's bytes are given back."""
    outcome = Outcome()
    try:
        outcome.plan = await sampler.plan(clip_of(path), windows, frames or FramePolicy(), decoder)
        try:
            async with aclosing(sampler.frame_sets(outcome.plan, first_window)) as sets:
                async for window in sets:
                    outcome.windows.append(window)
                    if isinstance(window, FrameSet):
                        sampler.release(window)
        finally:
            outcome.plan.close()
    except (Poison, Transient) as fault:
        outcome.fault = fault
    return outcome


def wrong_frames(outcome: Outcome, truth: Truth) -> list[tuple[int, int, int]]:
    """Return (sample time, number painted, number due) of every frame that is not the one on screen then."""
    return [wrong for window in outcome.windows for wrong in wrong_in(window, truth)]


def wrong_in(window: FrameSet | UnreadableWindow, truth: Truth) -> list[tuple[int, int, int]]:
    """Return the same of one window."""
    assert isinstance(window, FrameSet)
    shown = zip(window.window.sample_ns, window.frames, strict=True)
    compared = [(at, int(read(frame)), truth.number_at(at)) for at, frame in shown]
    return [one for one in compared if one[1] != one[2]]
