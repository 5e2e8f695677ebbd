"""The wall clock of a stream: jumps, wraps and steps back are mended and said, and frames keep their order."""

from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from connectors.stream.child.timeline import SECOND_NS, Mended, Timeline

FRAME_NS = 40_000_000
NOON_NS = 1_800_000_000 * SECOND_NS
WRAP_NS = 2**33 * SECOND_NS // 90_000


@dataclass
class Sent:
    """Frames of a camera, one each 40 ms, some of which have other time stamps than they should."""

    timeline: Timeline = field(init=False)
    mended: list[Mended] = field(default_factory=list)
    floor_ns: int = 0
    in_bursts: bool = False

    def __post_init__(self) -> None:
        self.timeline = Timeline(self.in_bursts, self.floor_ns, self.mended.append)

    def walls(
        self, stamps: list[int], *, sender: int | None = None, late_ns: int = 0, keys: tuple[int, ...] = ()
    ) -> list[int]:
        found = []
        for at, stamp in enumerate(stamps):
            now = self.timeline.mended(stamp, NOON_NS + at * FRAME_NS + late_ns, is_key=at in keys)
            found.append(self.timeline.wall(now, sender))
        return found

    @property
    def kinds(self) -> list[str]:
        return [one.kind for one in self.mended]


def stamps(count: int, first: int = 0) -> list[int]:
    return [first + at * FRAME_NS for at in range(count)]


def assert_even(walls: list[int]) -> None:
    assert {after - before for before, after in pairwise(walls)} == {FRAME_NS}


def test_without_a_senders_clock_frames_are_of_the_time_they_arrived() -> None:
    sent = Sent()

    assert sent.walls(stamps(100)) == [NOON_NS + at for at in stamps(100)]
    assert not sent.timeline.is_senders


def test_the_senders_clock_counts_where_it_is_plausible() -> None:
    sent = Sent()

    assert sent.walls(stamps(3), sender=NOON_NS - SECOND_NS)[0] == NOON_NS - SECOND_NS
    assert sent.timeline.is_senders


@pytest.mark.parametrize("off_ns", [-3600 * SECOND_NS, 3600 * SECOND_NS])
def test_a_sender_whose_clock_is_far_off_is_not_believed_and_that_is_said_once(off_ns: int) -> None:
    sent = Sent()

    assert sent.walls(stamps(3), sender=NOON_NS + off_ns)[0] == NOON_NS
    assert not sent.timeline.is_senders
    assert sent.kinds == ["sender_clock_off"]


@pytest.mark.parametrize("wrap_ns", [WRAP_NS, 2**32 * 10**6], ids=["33 bits", "RTMP"])
def test_a_wrap_is_mended(wrap_ns: int) -> None:
    sent = Sent()
    before = stamps(50, wrap_ns - 50 * FRAME_NS)

    walls = sent.walls([*before, *stamps(50)])

    assert max(abs(after - before - FRAME_NS) for before, after in pairwise(walls)) < 10_000
    assert sent.kinds == ["wrapped"]


@pytest.mark.parametrize(("first", "kind"), [(7200 * SECOND_NS, "jumped"), (-7200 * SECOND_NS, "backwards")])
def test_time_stamps_that_jump_go_on(first: int, kind: str) -> None:
    sent = Sent()

    assert_even(sent.walls([*stamps(50), *stamps(50, first)]))
    assert sent.kinds == [kind]


@pytest.mark.parametrize("back", [2, 5, 25, 50])
def test_a_key_frame_that_would_be_shown_before_the_latest_begins_a_clock_anew(back: int) -> None:
    sent = Sent()

    assert_even(sent.walls([*stamps(50), *stamps(50, (50 - back) * FRAME_NS)], keys=(0, 50)))
    assert sent.kinds == ["backwards"]


def test_frames_out_of_order_are_no_jump() -> None:
    sent = Sent()
    order = [0, 3, 1, 2, 6, 4, 5]

    walls = sent.walls([stamps(7)[at] for at in order])

    assert sorted(walls) == [walls[order.index(at)] for at in range(7)]
    assert sent.kinds == []


def test_a_pause_that_the_wall_clock_saw_too_is_no_jump() -> None:
    sent = Sent()
    first = sent.timeline.wall(sent.timeline.mended(0, NOON_NS), None)
    pause_ns = 30 * SECOND_NS

    later = sent.timeline.wall(sent.timeline.mended(pause_ns, NOON_NS + pause_ns), None)

    assert later - first == pause_ns
    assert sent.kinds == []


def test_a_connection_never_begins_before_what_was_recorded() -> None:
    sent = Sent(floor_ns=NOON_NS + SECOND_NS)

    walls = sent.walls(stamps(2000))

    assert walls[0] == NOON_NS + SECOND_NS
    assert all(after > before for before, after in pairwise(walls))
    assert walls[-1] - walls[0] < stamps(2000)[-1]  # it comes back to the clock, slowly
    assert sent.kinds == ["moved"]


def test_a_clock_that_drifts_is_followed_without_a_jump() -> None:
    sent = Sent()
    slow = [at * 999 // 1000 for at in stamps(10_000)]  # a camera's clock that loses a second in a thousand

    walls = sent.walls(slow)

    assert abs(walls[-1] - (NOON_NS + stamps(10_000)[-1])) < SECOND_NS // 4
    assert max(abs(after - before - FRAME_NS) for before, after in pairwise(walls)) < FRAME_NS // 100


def test_a_machines_clock_that_is_set_ahead_is_followed_at_last_and_said() -> None:
    sent = Sent()
    before = sent.walls(stamps(100))[-1]
    hour_ns = 3600 * SECOND_NS

    walls = []
    for at in range(100, 2000):
        now = sent.timeline.mended(at * FRAME_NS, NOON_NS + at * FRAME_NS + hour_ns)
        walls.append(sent.timeline.wall(now, None))

    assert sent.kinds == ["clock_jumped"]
    assert before < walls[0]
    assert walls[-1] == NOON_NS + 1999 * FRAME_NS + hour_ns
