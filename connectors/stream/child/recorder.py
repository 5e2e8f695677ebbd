"""A recorder's loop: connect, record until the connection ends, say what is missing, and connect again.

Up to ``latest`` everything is recorded or said to be missing. While there is no connection that is moved on each
second, so that windows of the time without one are not waited for.
"""

import random
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from connectors.stream.addresses import scheme_of
from connectors.stream.child.packet import Away, StreamPacket
from connectors.stream.child.pyav import Connection, fragment
from connectors.stream.child.segments import OpenSegment, TimedPacket
from connectors.stream.child.store import Store
from connectors.stream.child.timeline import SECOND_NS, Mended, Timeline
from connectors.stream.index import Absence, Link, Mend, Segment

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_GOOD_S = 10.0  # a connection that held so long was a good one: the next try comes soon
_TICK_S = 1.0
_HELD_BYTES = 32 * 2**20
_LATE_IN_BURSTS_NS, _LATE_NS = 10 * SECOND_NS, 60 * SECOND_NS


@dataclass(frozen=True, slots=True)
class RecorderRequest:
    """What a recorder is told: once, over a pipe."""

    url: str
    folder: str
    transport: str
    ssl_verify: bool
    ssl_cafile: str  # empty for the system's own
    segment_s: float
    silence_s: float
    max_bytes: int
    parent: int
    outlives: bool
    required: bool


def authorities_of(request: RecorderRequest) -> str | None:
    """Return the file of the certificates that servers are verified by; None where none are."""
    system = ssl.get_default_verify_paths().cafile or ""
    return (request.ssl_cafile or system) if request.ssl_verify else None


class Recorder:
    """Records one stream for good. ``wake`` tells the daemon that the index has more, or only that it lives."""

    def __init__(self, request: RecorderRequest, store: Store, wake: Callable[[], None]) -> None:
        self._request, self._store, self._wake = request, store, wake
        self._length_ns = int(request.segment_s * SECOND_NS)
        # how far the stream is behind this machine's clock: what is later than that may still come
        self._late_ns = _LATE_IN_BURSTS_NS if scheme_of(request.url).in_bursts else 0
        self._pause_s = _FIRST_PAUSE_S
        self._reason = "not_recording"
        self._open = OpenSegment()
        self._is_connected: bool | None = None
        self._said = ""
        self._sent: tuple[int, int | None] | None = None  # the last time stamp, and the sender's clock with it
        self._is_stopped = False

    def run(self) -> None:
        """Record until the process is ended."""
        self._miss_until(time.time_ns() - self._late_ns)
        self._reason = "away"
        while not self._is_stopped:
            began = time.monotonic()
            try:
                self._record()
            except Away as away:
                self._lost(away, time.monotonic() - began)

    def stop(self) -> None:
        """End with the next packet, or the next tick, and keep what has come."""
        self._is_stopped = True

    def _record(self) -> None:
        self._wake()
        asked = self._request
        connection = Connection(asked.url, asked.transport, asked.silence_s, authorities_of(asked))
        try:
            in_bursts = scheme_of(self._request.url).in_bursts
            timeline = Timeline(in_bursts, self._store.contents.latest_ns or 0, self._mended)
            for packet in self._timed(timeline, connection.packets()):
                if not self._is_connected:
                    self._link(True, "")
                    self._miss_until(packet.wall_ns)
                    self._reason = "away"
                self._add(packet, timeline.interval_ns)
                if self._is_stopped:
                    raise Away("stopped")
        finally:
            connection.close()

    def _timed(self, timeline: Timeline, packets: Iterator[StreamPacket]) -> Iterator[TimedPacket]:
        """Yield packets on the wall clock, from the first key frame on; the first wait until their clock is known.

        Those that wait when the connection breaks are of the time of arrival.
        """
        held: list[StreamPacket] = []
        hold_s, is_held, began = scheme_of(self._request.url).hold_s, True, time.monotonic()
        try:
            for packet in begun(self._unseen(packets), timeline):
                held.append(packet)
                is_held = is_held and packet.sender_offset_ns is None and time.monotonic() - began < hold_s
                if is_held and sum(len(one.data) for one in held) < _HELD_BYTES:
                    continue
                yield from placed(held, timeline)
                held.clear()
        except Away:
            yield from placed(held, timeline)
            raise

    def _unseen(self, packets: Iterator[StreamPacket]) -> Iterator[StreamPacket]:
        """Yield packets from the first that no earlier connection brought: HLS begins with what was sent before."""
        is_new = not scheme_of(self._request.url).in_bursts or self._sent is None
        for packet in packets:
            is_new = is_new or self._sent is None or not is_repeated(packet, *self._sent)
            if not is_new:
                continue
            if packet.media_ns is not None:
                self._sent = packet.media_ns, packet.sender_offset_ns
            yield packet

    def _add(self, packet: TimedPacket, interval_ns: int) -> None:
        if self._open.ends_before(packet, self._length_ns):
            hole = packet.wall_ns - self._open.latest_ns > max(2 * SECOND_NS, 2 * interval_ns) + self._silence_ns
            self._write(self._open.latest_ns + interval_ns if hole else packet.wall_ns)
            if hole:
                self._miss_until(packet.wall_ns, "silent")
        self._open.add(packet)

    @property
    def _silence_ns(self) -> int:
        return int(self._request.silence_s * SECOND_NS)

    def _write(self, end_ns: int) -> None:
        """Write the segment that was filled; it ends where the next begins."""
        whole, self._open = self._open, OpenSegment()
        first, last = whole.packets[0], whole.packets[-1]
        packets = [(packet.wall_ns, packet.data, packet.is_key) for packet in whole.packets]
        start_ns = max(whole.start_ns, self._store.contents.latest_ns or 0)
        self._late_ns = min(max(last.arrived_ns - whole.latest_ns, 0), _LATE_NS)
        try:
            header, data, kept = fragment(first.format, packets, end_ns)
        except Away:
            self._store.say(Absence(start_ns, max(end_ns, start_ns), "away"))
            return
        first = whole.packets[kept[0]]
        clock = "sender" if first.is_senders else "arrival"
        segment = Segment(
            f"{whole.start_ns:020d}.m4s", "", start_ns, max(end_ns, start_ns), clock, first.media_ns,
            first.wall_ns if first.is_key else None, len(data), last.arrived_ns, len(kept),
        )  # fmt: skip
        self._store.add(first.format, header, segment, data)
        self._wake()

    def _lost(self, away: Away, lasted_s: float) -> None:
        """Close the segment, say why the connection is gone, and wait before the next try."""
        was_connected = bool(self._is_connected)
        if self._open.packets:
            self._write(self._open.latest_ns + self._usual_interval())
        if self._is_connected is not False or self._said != away.reason:
            self._link(False, away.reason)
        self._reason = "silent" if away.reason == "silent" else "away"
        at_once = was_connected and away.says_so and lasted_s > _FIRST_PAUSE_S
        if at_once or (was_connected and lasted_s > _GOOD_S):
            self._pause_s = _FIRST_PAUSE_S
        pause_s = 0.0 if at_once else self._pause_s * random.uniform(0.5, 1.0)  # noqa: S311
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        deadline = time.monotonic() + pause_s
        self._tick()
        while (left_s := deadline - time.monotonic()) > 0 and not self._is_stopped:
            time.sleep(min(left_s, _TICK_S))
            self._tick()
        self._reason = "away"

    def _usual_interval(self) -> int:
        times = sorted(packet.wall_ns for packet in self._open.packets)
        steps = sorted(after - before for before, after in pairwise(times))
        return steps[len(steps) // 2] if steps else SECOND_NS // 25

    def _tick(self) -> None:
        self._store.tidy()
        self._miss_until(time.time_ns() - self._late_ns)
        self._wake()

    def _miss_until(self, until_ns: int, reason: str | None = None) -> None:
        """Say that nothing is there from the latest on until a time."""
        latest_ns = self._store.contents.latest_ns
        if latest_ns is None:
            self._store.say(Absence(until_ns, until_ns, "not_recording"))
        elif until_ns > latest_ns:
            self._store.say(Absence(latest_ns, until_ns, reason or self._reason))

    def _link(self, is_connected: bool, reason: str) -> None:
        self._is_connected, self._said = is_connected, reason
        self._store.say(Link(time.time_ns(), is_connected, reason))
        self._wake()

    def _mended(self, mended: Mended) -> None:
        self._store.say(Mend(time.time_ns(), mended.kind, mended.by_ns))


def placed(held: list[StreamPacket], timeline: Timeline) -> Iterator[TimedPacket]:
    """Yield packets with their wall time; the sender's clock is what the last of them says."""
    for one in held:
        assert one.media_ns is not None  # noqa: S101 - each has its time by now
        wall_ns = timeline.wall(one.media_ns, held[-1].sender_offset_ns)
        yield TimedPacket(wall_ns, one.data, one.is_key, one.arrived_ns, one.format, one.media_ns, timeline.is_senders)


def is_repeated(packet: StreamPacket, media_ns: int, sender_offset_ns: int | None) -> bool:
    """Whether a packet is one of those before another, by the sender's clock where both have it, else by stamps."""
    if packet.media_ns is None:
        return True
    before_ns = media_ns - packet.media_ns
    if packet.sender_offset_ns is not None and sender_offset_ns is not None:
        before_ns += sender_offset_ns - packet.sender_offset_ns
        return before_ns >= 0
    return 0 <= before_ns < _LATE_NS


def begun(packets: Iterator[StreamPacket], timeline: Timeline) -> Iterator[StreamPacket]:
    """Yield packets from the first key frame on, each with a mended time.

    Those without a time stamp get one before the next that has one, at the distance of that to the one behind it.
    """
    has_key = False
    waiting: list[StreamPacket] = []
    for packet in packets:
        has_key = has_key or packet.is_key
        if not has_key:
            continue
        waiting.append(packet)
        stamped = [at for at, one in enumerate(waiting) if one.media_ns is not None]
        if not stamped or (stamped[0] > 0 and len(stamped) < 2 and len(waiting) < 8):
            continue
        yield from filled(waiting, stamped, timeline)
        waiting = []


def filled(waiting: list[StreamPacket], stamped: list[int], timeline: Timeline) -> Iterator[StreamPacket]:
    """Yield packets with a time each; ``stamped`` are the places of those that have one."""
    times = [one.media_ns for one in waiting]
    first = times[stamped[0]]
    assert first is not None  # noqa: S101 - it is stamped
    second = times[stamped[1]] if len(stamped) > 1 else None
    step = timeline.interval_ns if second is None else max(second - first, 1) // (stamped[1] - stamped[0])
    for at, one in enumerate(waiting):
        media_ns = times[at]
        media_ns = first - (stamped[0] - at) * step if media_ns is None else media_ns
        yield one.at(timeline.mended(media_ns, one.arrived_ns, is_key=one.is_key))
