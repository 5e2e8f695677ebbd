"""Windows of a recording: which segments they are put together of, and what is missing of them."""

import os
from pathlib import Path

from connectors.contract import Missing
from connectors.stream.index import Absence, Contents, Segment
from connectors.stream.windows import assembled, parts_of

S = 10**9


def segment(start: float, end: float, *, key: bool = True, name: str = "a.mp4", clock: str = "sender") -> Segment:
    begin = int(start * S)
    file = f"{begin}.m4s"
    return Segment(file, name, begin, int(end * S), clock, 0, begin if key else None, 4, int(end * S) + 7, 25)


def contents(*lines: Segment | Absence) -> Contents:
    found = Contents()
    for line in lines:
        found.add(line)
    return found


def starts(one: Contents, start: float, end: float) -> list[float]:
    return [part.start_ns / S for part in parts_of(one, int(start * S), int(end * S)).segments]


def missing(one: Contents, start: float, end: float) -> list[tuple[float, float, str]]:
    parts = parts_of(one, int(start * S), int(end * S))
    return [(part.start_ns / S, part.exclusive_end_ns / S, part.reason) for part in parts.missing]


def test_a_window_begins_with_the_key_frame_at_or_before_it() -> None:
    recorded = contents(*(segment(at, at + 1) for at in range(10)))

    assert starts(recorded, 3, 5) == [3, 4]
    assert starts(recorded, 3.5, 5) == [3, 4]
    assert missing(recorded, 3, 5) == []


def test_segments_without_a_key_frame_need_those_before_them() -> None:
    recorded = contents(segment(0, 1), segment(1, 2, key=False), segment(2, 3, key=False), segment(3, 4))

    assert starts(recorded, 2, 4) == [0, 1, 2, 3]


def test_what_is_missing_is_said_with_its_reason() -> None:
    recorded = contents(segment(0, 1), Absence(1 * S, 3 * S, "away"), Absence(3 * S, 4 * S, "silent"), segment(4, 5))

    assert missing(recorded, 0, 5) == [(1, 3, "away"), (3, 4, "silent")]
    assert starts(recorded, 0, 5) == [0, 4]
    assert missing(recorded, 1, 3) == [(1, 3, "away")]
    assert starts(recorded, 1, 3) == []


def test_what_nobody_knows_of_was_not_recorded() -> None:
    assert missing(contents(segment(5, 6)), 3, 6) == [(3, 5, "not_recording")]


def test_what_was_thrown_away_is_missing() -> None:
    recorded = contents(*(segment(at, at + 1) for at in range(5)), Absence(0, 2 * S, "discarded"))

    assert missing(recorded, 1, 3) == [(1, 2, "discarded")]
    assert starts(recorded, 1, 3) == [2]


def test_of_two_formats_the_one_counts_that_has_most_of_the_window() -> None:
    recorded = contents(segment(0, 1), segment(1, 2), segment(2, 3, name="b.mp4"), segment(3, 4, name="b.mp4"))

    assert starts(recorded, 0.5, 3) == [0, 1]
    assert missing(recorded, 0.5, 3) == [(2, 3, "format_changed")]
    assert starts(recorded, 1.5, 4) == [2, 3]
    assert missing(recorded, 1.5, 4) == [(1.5, 2, "format_changed")]


def test_the_media_is_the_header_and_the_segments_and_its_span_counts_from_the_first_frame(tmp_path: Path) -> None:
    recorded = contents(segment(0, 1), segment(1, 2, clock="arrival"))
    (tmp_path / "a.mp4").write_bytes(b"head")
    for at in (0, 1):
        (tmp_path / f"{at * S}.m4s").write_bytes(f"seg{at}".encode())

    window = assembled("door", tmp_path, parts_of(recorded, S // 2, 2 * S), S // 2, 2 * S)

    assert window.media is not None
    descriptor = window.media.open()
    assert os.read(descriptor, 99) == b"headseg0seg1"
    os.close(descriptor)
    window.media.close()
    assert window.span_ns == (S // 2, 2 * S)
    assert window.clock == "arrival"
    assert window.arrived_ns == 2 * S + 7
    assert window.missing == ()


def test_a_window_of_which_nothing_was_recorded_has_no_media(tmp_path: Path) -> None:
    window = assembled("door", tmp_path, parts_of(contents(Absence(0, 9 * S, "away")), S, 2 * S), S, 2 * S)

    assert (window.media, window.span_ns) == (None, None)
    assert window.missing == (Missing(S, 2 * S, "away"),)
