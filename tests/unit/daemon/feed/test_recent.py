"""What is kept of what was published: how much, in which order, and what readers that are slow or come back get."""

import base64
import json

import pytest

from connectors.contract import CaptionStatus
from daemon.feed.recent import MOST_READERS, Feed
from daemon.feed.strips import HEIGHT_PX, MOST_FRAMES, ProcessorBudget, strip_of
from tests.page.showing import captions, clip, frames, rejection
from tests.unit.daemon.running_parts import Clock


def numbers(feed: Feed, after: int = 0) -> list[int]:
    return [entry.number for entry in feed.after(after)]


def test_an_entry_is_the_message_with_its_number() -> None:
    feed = Feed(10, clock=lambda: 12.5)
    feed.saw(clip(), frames(0))
    feed.published(captions(clip(), "A porch."))
    feed.published(rejection(clip()))

    caption, rejected = (json.loads(entry.to_json()) for entry in list(feed.after(0)))

    assert (caption["number"], caption["at_ms"], caption["strip"]) == (1, 12_500, [8, 128])
    assert (caption["message"]["text"], caption["message"]["clip_name"]) == ("A porch.", "porch/0412.mp4")
    assert (rejected["strip"], rejected["message"]["reason"]) == (None, "corrupt")


def test_an_entry_has_its_picture_for_who_may_see_it() -> None:
    feed = Feed(10)
    feed.saw(clip(), frames(0))
    feed.published(captions(clip(), "A porch."))
    (entry,) = feed.after(0)
    assert entry.strip is not None

    seen = json.loads(entry.to_json(with_picture=True))["strip"]

    assert base64.b64decode(seen[2]) == entry.strip.jpeg


def test_the_last_ones_are_kept() -> None:
    feed = Feed(3)
    for index in range(10):
        feed.saw(clip(), frames(index))
        feed.published(captions(clip(), f"{index}", first=index))

    assert numbers(feed) == [8, 9, 10]
    assert feed.entry(7) is None
    assert len(list(feed.of_clip(clip().clip_id))) == 3


def test_pictures_of_windows_that_are_never_published_are_bounded_too() -> None:
    feed = Feed(3)
    for index in range(10):
        feed.saw(clip(), frames(index))

    assert len(feed._seen) <= 3


def test_nothing_is_kept_where_nothing_is_to_be_shown() -> None:
    feed = Feed(0)
    feed.saw(clip(), frames(0))
    feed.published(captions(clip(), "A porch."))

    assert (numbers(feed), len(feed._seen)) == ([], 0)


def test_a_reader_goes_on_where_it_was() -> None:
    feed = Feed(100)
    feed.published(captions(clip(), "0", "1", "2", "3"))
    reader = feed.follow(2)

    assert reader is not None
    assert numbers(feed, reader.number) == [3, 4]


@pytest.mark.parametrize("number", [99, -1])
def test_a_number_that_was_never_given_is_the_beginning(number: int) -> None:
    feed = Feed(100)
    feed.published(captions(clip(), "0", "1"))
    reader = feed.follow(number)

    assert reader is not None
    assert numbers(feed, reader.number) == [1, 2]


def test_readers_are_bounded_and_hold_nothing() -> None:
    feed = Feed(50)
    readers = [feed.follow(0) for _ in range(MOST_READERS)]

    assert feed.follow(0) is None
    for index in range(1000):
        feed.published(captions(clip(), "x", first=index))
    assert len(numbers(feed)) == 50
    assert all(reader is not None and vars(reader).keys() == {"number", "sees", "state", "_news"} for reader in readers)
    assert readers[0] is not None
    feed.leave(readers[0])
    assert feed.follow(0) is not None


def test_what_an_earlier_run_kept_comes_first() -> None:
    earlier, feed = Feed(10), Feed(2)
    earlier.published(captions(clip(), "0", "1", "2"))

    feed.restore(list(earlier.after(0)))
    feed.published(captions(clip(), "3", first=3))

    assert [json.loads(entry.message)["text"] for entry in list(feed.after(0))] == ["2", "3"]


def test_a_status_of_its_own_is_passed_on() -> None:
    feed = Feed(10)
    feed.published(captions(clip(), "", status=CaptionStatus.EMPTY))

    assert json.loads(next(feed.after(0)).message)["status"] == "empty"


@pytest.mark.parametrize(("count", "shown"), [(1, 1), (8, 8), (80, MOST_FRAMES)])
def test_a_strip_shows_frames_from_the_whole_window(count: int, shown: int) -> None:
    strip = strip_of(frames(0, count))

    assert (strip.frames, strip.width_px) == (shown, HEIGHT_PX * 320 // 180)
    assert strip.jpeg.startswith(b"\xff\xd8")


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (2160, 3840)])
def test_a_strip_of_any_shape_is_small(size: tuple[int, int]) -> None:
    strip = strip_of(frames(0, 2, size=size))

    assert strip.width_px * strip.frames <= 2 * 192
    assert len(strip.jpeg) < 40_000


def test_the_budget_is_a_share_of_time() -> None:
    clock = Clock()
    budget = ProcessorBudget(clock)

    assert budget.affords(0.02)
    budget.spend(0.15)
    assert not budget.affords(0.02)
    clock.now_s += 2.0  # gives back 0.04 of the 0.05 that are owed
    assert not budget.affords(0.02)
    clock.now_s += 1.0
    assert budget.affords(0.02)
    clock.now_s += 3600.0
    budget.affords(0.02)
    assert budget.left_s <= 0.1


def test_a_frame_that_cant_be_shown_harms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("daemon.feed.recent.strip_of", fails)
    feed = Feed(10)
    feed.saw(clip(), frames(0))
    feed.published(captions(clip(), "A porch."))

    assert next(feed.after(0)).strip is None
