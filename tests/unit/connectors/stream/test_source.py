"""The windows of a stream come in their order and without holes, whatever was recorded and whoever was killed."""

import asyncio
from pathlib import Path

import pytest

from connectors.contract import CaptionStatus
from connectors.memory import FailingSink, MemorySink
from connectors.stream.grid import Grid
from connectors.stream.recording import RecordedWindow
from testing.fake_recording import NS
from tests.unit.connectors.stream.windows import FIRST, Stream, described, take, window_of

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    return Stream(tmp_path)


async def test_a_first_start_begins_with_the_next_whole_window(stream: Stream) -> None:
    stream.now_ns += NS
    stream.record(FIRST, FIRST + 1)
    stream.know(2)
    source = stream.source()

    (first,) = await take(source.deliveries(), 1)

    window = window_of(first)
    assert (window.index, window.start_ns, window.exclusive_end_ns) == (FIRST + 1, *stream.grid.span(FIRST + 1))
    assert first.clip.span_ns == (0, 4 * NS)
    await source.close()


async def test_what_was_not_recorded_is_a_gap_with_its_reason(stream: Stream) -> None:
    stream.record(FIRST, FIRST + 2)
    stream.recording.reasons[stream.grid.span(FIRST + 1)[0]] = "discarded"
    stream.know(3)
    source = stream.source()

    found = await take(source.deliveries(), 3)

    assert [window_of(one).index for one in found] == [FIRST, FIRST + 1, FIRST + 2]
    assert [one.clip.unasked and (one.clip.unasked.status, one.clip.unasked.reason) for one in found] == [
        None,
        (CaptionStatus.GAP, "discarded"),
        None,
    ]
    assert [missing.reason for missing in window_of(found[1]).missing] == ["discarded"]
    await source.close()


async def test_a_killed_daemon_goes_on_at_the_first_window_without_a_message(stream: Stream) -> None:
    stream.record(*range(FIRST, FIRST + 4))
    stream.know(4)
    route = stream.route()
    found = await take(route.deliveries(), 3)
    await route.publish(described(found[0]))

    stream.now_ns += 3600 * NS  # the next daemon comes an hour later, and what was recorded is there still
    again = await take(stream.route().deliveries(), 3)

    assert [window_of(one).index for one in again] == [FIRST + 1, FIRST + 2, FIRST + 3]
    assert [one.clip.clip_id for one in again[:2]] == [one.clip.clip_id for one in found[1:]]


async def test_a_start_that_published_nothing_keeps_its_first_window(stream: Stream) -> None:
    await stream.source().open()
    stream.now_ns += 60 * NS

    assert (await stream.source().open()).next_index == FIRST


async def test_messages_stand_in_their_order_whatever_order_they_are_made_in(stream: Stream) -> None:
    stream.record(*range(FIRST, FIRST + 3))
    stream.know(3)
    sink = MemorySink()
    route = stream.route(sink)
    found = await take(route.deliveries(), 3)

    late = [asyncio.create_task(route.publish(described(one))) for one in reversed(found[1:])]
    for _ in range(20):
        await asyncio.sleep(0)
    assert not sink.captions
    await route.publish(described(found[0]))
    await asyncio.gather(*late)

    assert list(sink.captions) == [one.clip.clip_id for one in found]
    assert route.source.position.next_index == FIRST + 3
    assert stream.recording.released_ns == stream.grid.span(FIRST + 3)[0]


async def test_a_sink_that_fails_keeps_the_turn(stream: Stream) -> None:
    stream.record(FIRST, FIRST + 1)
    stream.know(2)
    sink = MemorySink()
    route = stream.route(FailingSink(sink, [OSError("away")]))
    first, second = await take(route.deliveries(), 2)
    waiting = asyncio.create_task(route.publish(described(second)))
    with pytest.raises(OSError, match="away"):
        await route.publish(described(first))
    assert not waiting.done()

    await route.publish(described(first))
    await waiting

    assert list(sink.captions) == [first.clip.clip_id, second.clip.clip_id]


async def test_a_stop_lets_go_of_windows_behind_one_that_was_not_begun(stream: Stream) -> None:
    stream.record(FIRST, FIRST + 1)
    stream.know(2)
    route = stream.route()
    first, second = await take(route.deliveries(), 2)
    waiting = asyncio.create_task(route.publish(described(second)))
    await route.drain()
    first.clip.media.close()

    async with asyncio.timeout(30):
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await route.close()
    assert (await stream.source().open()).next_index == FIRST


async def test_a_drained_source_that_waits_for_a_window_ends(stream: Stream) -> None:
    source = stream.source()
    reading = asyncio.create_task(anext(source.deliveries(), None))
    await asyncio.sleep(0)
    await source.drain()

    async with asyncio.timeout(30):
        assert await reading is None


@pytest.mark.parametrize("stride_s", [1, 3, 10])
async def test_another_stride_begins_behind_what_has_messages(stream: Stream, stride_s: int) -> None:
    stream.record(FIRST)
    stream.know(1)
    route = stream.route()
    (first,) = await take(route.deliveries(), 1)
    await route.publish(described(first))

    stream.grid = Grid(stride_s * NS, stride_s * NS)
    at = await stream.source().open()

    begins_ns = window_of(first).exclusive_end_ns
    assert 0 <= stream.grid.span(at.next_index)[0] - begins_ns < stride_s * NS


async def test_another_length_with_the_same_stride_leaves_nothing_out(stream: Stream) -> None:
    await stream.source().open()
    stream.grid = Grid(8 * NS, 4 * NS)

    assert (await stream.source().open()).next_index == FIRST


async def test_waiting_for_the_engine_skips_nothing_unless_it_is_asked_to(stream: Stream) -> None:
    stream.record(*range(FIRST, FIRST + 100))
    stream.know(100)
    source = stream.source()

    found = await take(source.deliveries(), 100)

    assert all(one.clip.unasked is None and not window_of(one).thinned for one in found)
    assert source.stream.lag_windows == 100
    assert source.stream.lag_ns == 400 * NS
    assert source.lag == {("", ""): 0}


async def test_skip_leaves_out_the_oldest_and_keeps_captions_near_the_present(stream: Stream) -> None:
    stream.on_lag, stream.lag_ns = "skip", 12 * NS
    stream.record(*range(FIRST, FIRST + 20))
    stream.know(10)
    route = stream.route()
    deliveries = route.deliveries()

    async def all_there(count: int) -> list[CaptionStatus]:
        found = []
        for _ in range(count):
            (one,) = await take(deliveries, 1)
            progress = described(one)
            found.append(progress.captions[0].status)
            await route.publish(progress)
        return found

    assert await all_there(10) == [CaptionStatus.SKIPPED] * 6 + [CaptionStatus.SUCCESS] * 4


async def test_skip_hands_out_no_more_while_what_is_in_flight_is_too_old(stream: Stream) -> None:
    stream.on_lag, stream.lag_ns = "skip", 8 * NS
    stream.record(*range(FIRST, FIRST + 20))
    stream.know(1)
    route = stream.route()
    deliveries = route.deliveries()
    (first,) = await take(deliveries, 1)
    stream.know(10)
    following = asyncio.create_task(anext(deliveries))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not following.done()

    await route.publish(described(first))

    async with asyncio.timeout(30):
        unasked = (await following).clip.unasked
    assert unasked is not None
    assert unasked.status is CaptionStatus.SKIPPED


async def test_thin_says_so_in_each_window_until_captions_have_caught_up(stream: Stream) -> None:
    stream.on_lag, stream.lag_ns = "thin", 8 * NS
    stream.record(*range(FIRST, FIRST + 8))
    stream.know(6)
    route = stream.route()
    found = []
    async for one in route.deliveries():
        found.append(window_of(one).thinned)
        await route.publish(described(one))
        if len(found) == 6:
            break

    assert found == [True] * 3 + [False] * 3


async def test_a_stream_that_is_away_says_so_and_stops_nobody(stream: Stream) -> None:
    source = stream.source()
    await source.open()
    stream.recording.away(5, "connection refused", {"reconnects": 2})

    report = source.stream

    assert (report.connected, report.since_ns, report.why) == (False, 5, "connection refused")
    assert source.waiting_for == ""
    assert source.counters == {"reconnects": 2}


async def test_a_window_whose_media_begin_later_is_what_there_is_of_it(stream: Stream) -> None:
    start_ns = stream.grid.span(FIRST)[0]
    stream.record(FIRST)
    stream.recording.spans[start_ns] = (-2 * NS, 2 * NS)
    stream.know(1)

    (one,) = await take(stream.source().deliveries(), 1)

    assert one.clip.span_ns == (0, 2 * NS)


async def test_a_position_that_makes_no_sense_counts_as_none(stream: Stream) -> None:
    await stream.source().open()
    (stream.folder / "streams" / "cam" / "position.json").write_text("{")
    stream.now_ns += 8 * NS

    assert (await stream.source().open()).next_index == FIRST + 2


async def test_windows_in_memory_are_bounded_and_one_is_always_had(stream: Stream) -> None:
    stream.record(*range(FIRST, FIRST + 3))
    stream.know(3)
    source = stream.source()
    source._max_bytes = 1
    deliveries = source.deliveries()
    (first,) = await take(deliveries, 1)
    assert source.held_bytes == first.clip.media.size_bytes > 0
    following = asyncio.create_task(anext(deliveries))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not following.done()

    first.clip.media.close()

    async with asyncio.timeout(30):
        second = await following
    assert window_of(second).index == FIRST + 1
    second.clip.media.close()
    assert source.held_bytes == 0


async def test_a_recording_that_cannot_be_read_is_waited_for(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.stream.source._UNREAD_PAUSE_S", 0.01)
    stream.record(FIRST)
    stream.know(1)
    source = stream.source()
    window, faults = stream.recording.window, iter([OSError(5, "Input/output error")] * 2)
    said = []

    async def failing(start_ns: int, exclusive_end_ns: int) -> RecordedWindow:
        said.append(source.waiting_for)
        if (fault := next(faults, None)) is not None:
            raise fault
        return await window(start_ns, exclusive_end_ns)

    stream.recording.window = failing  # type: ignore[method-assign]
    (first,) = await take(source.deliveries(), 1)

    assert window_of(first).index == FIRST
    assert said == ["", *["the recording: Input/output error"] * 2]
    assert source.waiting_for == ""
