"""Windows that show nothing new: what counts as a difference, and what is repeated."""

import asyncio
from typing import Any

import numpy as np
import pytest

from connectors.captions import Caption, CaptionStatus, WindowSpan
from daemon.config.settings import WindowsSettings
from daemon.content.spans import UnchangedPolicy
from daemon.content.unchanged import LastDescribed, difference, thumbnails
from daemon.windows import NS_PER_S, FrameSet, Window

SHAPE = (180, 320, 3)
POLICY = UnchangedPolicy(4.0, 60 * NS_PER_S)


def picture(grey: int = 90, *, noise: float = 0.0, seed: int = 0, thing: tuple[int, int] | None = None) -> Any:
    """Return a frame with a soft pattern, grain, and a small thing somewhere."""
    pixels = np.full(SHAPE, float(grey)) + 40 * np.sin(np.arange(320) / 30)[None, :, None]
    pixels += np.random.default_rng(seed).normal(0, noise, SHAPE) if noise else 0
    if thing is not None:
        pixels[thing[1] : thing[1] + 10, thing[0] : thing[0] + 10] = 230
    return pixels.clip(0, 255).astype(np.uint8)


def frames(index: int, *pictures: Any) -> FrameSet:
    times = tuple(index * 10 * NS_PER_S + k for k in range(len(pictures)))
    window = Window(index, index * 10 * NS_PER_S, (index + 1) * 10 * NS_PER_S, times, tuple(range(len(pictures))))
    return FrameSet(window, np.stack(pictures), times)


def caption(status: CaptionStatus) -> Caption:
    return Caption("id", "clip", "source", WindowSpan(0, 0, 1), "A door.", status, "model", "p", "plan")


async def answered(status: CaptionStatus | Exception, when: asyncio.Event | None = None) -> list[Caption]:
    if when is not None:
        await when.wait()
    if isinstance(status, Exception):
        raise status
    return [caption(status)]


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        (picture(), False),
        (picture(noise=8, seed=1), False),  # grain as of a camera at night
        (picture(92), False),  # exposure that breathes
        (picture(thing=(300, 160)), True),  # a small thing in a corner
        (picture(110), True),
    ],
)
def test_a_small_thing_counts_and_noise_does_not(other: Any, differs: bool) -> None:
    apart = difference(thumbnails(frames(0, picture(noise=8))), thumbnails(frames(1, other)))

    assert (apart >= POLICY.threshold) is differs


def test_windows_of_different_length_are_compared_at_the_same_share() -> None:
    long = frames(0, picture(), picture(), picture(thing=(20, 20)), picture(thing=(20, 20)))
    short = frames(1, picture(), picture(thing=(20, 20)))

    assert difference(thumbnails(long), thumbnails(short)) == 0


async def test_each_window_is_compared_with_the_last_that_was_asked_about() -> None:
    last = LastDescribed(POLICY)
    asked = []
    for index in range(8):  # it gets lighter by less than the threshold each time
        if await last.same_as(frames(index, picture(60 + 3 * index))) is None:
            last.asked(asyncio.ensure_future(answered(CaptionStatus.SUCCESS)))
            asked.append(index)
            await asyncio.sleep(0)

    assert asked == [0, 2, 4, 6]


async def test_the_engine_is_asked_after_max_age() -> None:
    last = LastDescribed(POLICY)
    asked = []
    for index in range(14):
        if await last.same_as(frames(index, picture())) is None:
            last.asked(asyncio.ensure_future(answered(CaptionStatus.SUCCESS)))
            asked.append(index)

    assert asked == [0, 6, 12]


@pytest.mark.parametrize(
    "status",
    [
        *(CaptionStatus.EMPTY, CaptionStatus.ERROR, CaptionStatus.INVALID, CaptionStatus.LOOPING),
        *(CaptionStatus.REFUSED, ValueError("it failed")),
    ],
)
async def test_a_caption_that_is_not_good_is_not_repeated(status: CaptionStatus | Exception) -> None:
    last, when = LastDescribed(POLICY), asyncio.Event()
    assert await last.same_as(frames(0, picture())) is None
    last.asked(asyncio.ensure_future(answered(status, when)))

    same = await last.same_as(frames(1, picture()))  # before the answer is there
    when.set()

    assert same is not None
    assert await same.captions() == []
    assert await last.same_as(frames(2, picture())) is None  # after it: the next one is asked, and compared with


async def test_a_good_caption_is_waited_for() -> None:
    last = LastDescribed(POLICY)
    await last.same_as(frames(0, picture()))
    last.asked(asyncio.ensure_future(answered(CaptionStatus.SUCCESS)))
    same = await last.same_as(frames(1, picture()))

    assert same is not None
    assert await same.captions() == [caption(CaptionStatus.SUCCESS)]


async def test_without_the_key_each_window_is_asked_about() -> None:
    last = LastDescribed(WindowsSettings().unchanged)

    assert await last.same_as(frames(0, picture())) is None
    assert await last.same_as(frames(1, picture())) is None


def test_the_key_alone_has_defaults() -> None:
    unchanged = WindowsSettings.model_validate({"unchanged": {}}).unchanged

    assert unchanged is not None
    assert unchanged.to_policy() == UnchangedPolicy(4.0, 300 * NS_PER_S)
