"""The ledger never lets a commit pass an unfinished clip, and a commit says everything that a restart needs."""

import base64
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.contract import ClipPosition, Quarantine
from connectors.kafka.offset_ledger import (
    ADMISSION_METADATA_BYTES,
    BROKER_METADATA_BYTES,
    OffsetLedger,
    Outcome,
    PartitionPosition,
    decode_position,
    encode_position,
)

HASH = "0123456789abcdef" * 4

clips = st.builds(
    ClipPosition,
    next_window=st.integers(0, 2**40),
    plan_hash=st.none() | st.sampled_from([HASH, "abc", "ABCD", "plan-ü"]),
    quarantine=st.sampled_from(Quarantine),
)


@st.composite
def positions(draw: st.DrawFn) -> PartitionPosition:
    offset = draw(st.integers(0, 2**60))
    unfinished = {
        offset + delta: clip for delta, clip in draw(st.dictionaries(st.integers(0, 500), clips, max_size=20)).items()
    }
    span = max((at - offset + 1 for at in unfinished), default=0) + draw(st.integers(0, 2**20))
    topic_id = draw(st.sampled_from(["", "RSMs-CEFR3ybkr3cemGhgA", "AAAAAAAAAAAAAAAAAAAAAQ"]))
    plain_before = draw(st.just(0) | st.integers(offset + 1, offset + 2**20))
    return PartitionPosition(offset, offset + span, unfinished, draw(st.integers(0, 2**30)), topic_id, plain_before)


def new_ledger(offset: int = 0) -> OffsetLedger:
    return OffsetLedger(1, PartitionPosition(offset, offset))


def settle(ledger: OffsetLedger, *outcomes: tuple[int, Outcome]) -> PartitionPosition:
    position = ledger.position_after(outcomes)
    ledger.apply(outcomes, position)
    return position


@given(positions())
def test_metadata_comes_back_as_it_was(position: PartitionPosition) -> None:
    text = encode_position(position)

    read = decode_position(position.offset, text)

    assert position == read


@given(st.text(max_size=200) | st.binary(max_size=60).map(lambda raw: base64.b64encode(raw).decode()))
def test_metadata_of_another_program_is_a_value_error_or_a_position(text: str) -> None:
    try:
        read = decode_position(7, text)
    except ValueError:
        return
    assert read.offset == 7


@pytest.mark.parametrize("text", ["AQ==", "Ag==", "AQAAAAAA", "!!", "AQD/////////////", '{"a": 1}'])
def test_metadata_that_cannot_be_parsed_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"metadata|version"):
        decode_position(7, text)


def test_a_commit_without_metadata_sees_everything_from_its_offset_as_new() -> None:
    assert decode_position(9, None) == PartitionPosition(9, 9)


def version_1(*numbers: int) -> str:
    """Return metadata as the version before wrote it: a commit's number, span, no hashes, and clips."""
    return base64.b64encode(bytes([1, 3, *numbers])).decode()


def test_metadata_of_the_version_before_is_read_and_its_clips_keep_their_names() -> None:
    read = decode_position(7, version_1(5, 0, 1, 2, 4, 0))

    assert read == PartitionPosition(7, 12, {9: ClipPosition(4)}, 3, "", 12)
    again = decode_position(7, encode_position(replace(read, topic_id="RSMs-CEFR3ybkr3cemGhgA")))
    ledger = OffsetLedger(1, again)
    assert [ledger.generation(offset, 1_700_000_000_000) for offset in (7, 9, 11, 12)] == [
        *("",) * 3,
        "RSMs-CEFR3ybkr3cemGhgA",
    ]


def test_the_names_of_the_version_before_end_with_its_clips() -> None:
    ledger = OffsetLedger(1, decode_position(7, version_1(1, 0, 1, 0, 4, 0)))
    ledger.start(7)
    ended = settle(ledger, (7, None))

    assert decode_position(ended.offset, encode_position(ended)) == PartitionPosition(8, 8, {}, 4)


@pytest.mark.parametrize(("timestamp_ms", "generation"), [(1_700_000_000_000, "1700000000000"), (0, ""), (-1, "")])
def test_where_brokers_have_no_ids_of_topics_the_time_stamp_tells_records_apart(
    timestamp_ms: int, generation: str
) -> None:
    assert new_ledger().generation(0, timestamp_ms) == generation


@settings(max_examples=200, deadline=None)
@given(
    offsets=st.sets(st.integers(0, 40), min_size=1, max_size=12).map(sorted),
    actions=st.lists(st.tuples(st.integers(0, 11), st.sampled_from(["window", "last", "crash"])), max_size=60),
)
def test_no_commit_ever_passes_an_unfinished_clip(offsets: list[int], actions: list[tuple[int, str]]) -> None:
    """Clips start in the order of their offsets, with gaps, and settle in any order, across crashes."""
    windows = dict.fromkeys(offsets, 0)
    finished: set[int] = set()
    committed = PartitionPosition(0, 0)
    ledger = restart(committed, offsets, finished, windows)
    for index, action in actions:
        if action == "crash" or not ledger.in_flight:
            ledger = restart(committed, offsets, finished, windows)
            continue
        at = sorted(ledger.in_flight)[index % len(ledger.in_flight)]
        windows[at] += 1
        committed = settle(ledger, (at, None if action == "last" else ClipPosition(windows[at], HASH)))
        finished |= {at} if action == "last" else set()

        assert committed.offset <= min((o for o in offsets if o not in finished), default=10**9)
        assert committed.unfinished.keys() == set(offsets) - finished
        assert len(encode_position(committed)) <= BROKER_METADATA_BYTES


def restart(
    committed: PartitionPosition, offsets: list[int], finished: set[int], windows: dict[int, int]
) -> OffsetLedger:
    """Start again from what was committed: only unfinished clips are handed out, each at its next window."""
    ledger = OffsetLedger(1, decode_position(committed.offset, encode_position(committed)))
    for offset in [at for at in offsets if at >= committed.offset]:
        clip = ledger.start(offset)
        assert (clip is None) == (offset in finished)
        assert clip is None or clip.next_window == windows[offset]
    return ledger


def test_metadata_that_the_broker_would_refuse_leaves_out_where_clips_go_on() -> None:
    clips = {offset: ClipPosition(10**9, f"{offset:064x}", Quarantine.ALONE) for offset in range(0, 4000, 10)}

    read = decode_position(0, encode_position(PartitionPosition(0, 4000, clips)))

    assert dict.fromkeys(clips, ClipPosition(quarantine=Quarantine.ALONE)) == read.unfinished


def test_the_committed_offset_is_the_lowest_unfinished_and_the_rest_is_metadata() -> None:
    ledger = new_ledger(4)
    for offset in range(4, 61):
        ledger.start(offset)

    position = settle(ledger, (4, ClipPosition(37, HASH)), *((offset, None) for offset in range(5, 61)))

    assert position == PartitionPosition(4, 61, {4: ClipPosition(37, HASH)}, 1)
    again = OffsetLedger(2, decode_position(4, encode_position(position)))
    assert [again.start(offset) for offset in range(4, 63)] == [
        ClipPosition(37, HASH),
        *[None] * 56,
        ClipPosition(),
        ClipPosition(),
    ]


def test_clips_of_an_earlier_run_stay_in_the_metadata_until_they_come_again() -> None:
    ledger = OffsetLedger(1, PartitionPosition(4, 61, {4: ClipPosition(), 60: ClipPosition(3, HASH)}))
    ledger.start(4)

    position = settle(ledger, (4, None))

    assert (position.offset, dict(position.unfinished)) == (60, {60: ClipPosition(3, HASH)})


def test_a_clip_that_retention_deleted_holds_nothing_up() -> None:
    ledger = OffsetLedger(1, PartitionPosition(4, 61, {4: ClipPosition(), 60: ClipPosition()}))

    assert ledger.pass_over(50) == [4]
    assert ledger.position_after().offset == 60


def test_gaps_at_the_end_are_part_of_the_position() -> None:
    ledger = new_ledger()
    ledger.start(0)
    ledger.pass_over(3)

    assert ledger.position_after().offset == 0
    assert settle(ledger, (0, None)).offset == 3


def test_after_the_fence_nothing_is_committed() -> None:
    ledger = new_ledger()
    ledger.start(0)
    position = ledger.position_after()
    ledger.fence()

    with pytest.raises(ValueError, match="revoke"):
        ledger.position_after([(0, None)])
    with pytest.raises(ValueError, match="revoke"):
        ledger.apply([(0, None)], position)


def test_settling_is_idempotent_and_never_goes_back_within_a_plan() -> None:
    ledger = new_ledger()
    ledger.start(0)
    settle(ledger, (0, ClipPosition(5, HASH)))

    assert settle(ledger, (0, ClipPosition(3, HASH))).unfinished == {0: ClipPosition(5, HASH)}
    assert settle(ledger, (0, ClipPosition(1, "another"))).unfinished == {0: ClipPosition(1, "another")}
    assert settle(ledger, (0, None), (0, ClipPosition(9, HASH))).unfinished == {}


def test_quarantine_only_rises_and_survives_the_next_window() -> None:
    ledger = new_ledger()
    ledger.start(0)
    settle(ledger, (0, Quarantine.ALONE))
    settle(ledger, (0, ClipPosition(2, HASH)), (0, Quarantine.NONE))

    assert settle(ledger, (0, Quarantine.after(7))).unfinished == {0: ClipPosition(2, HASH, Quarantine.REJECT)}


def test_where_a_clip_goes_on_says_nothing_about_its_quarantine() -> None:
    ledger = new_ledger()
    ledger.start(0)
    settle(ledger, (0, Quarantine.ALONE))

    for quarantine in Quarantine:
        position = settle(ledger, (0, ClipPosition(1 + quarantine, HASH, quarantine)))
        assert position.unfinished == {0: ClipPosition(1 + quarantine, HASH, Quarantine.ALONE)}


def test_a_quarantine_leaves_the_clip_where_it_is() -> None:
    """It is raised on the delivery's own position, which may be from before the first window."""
    ledger = new_ledger()
    delivered = ledger.start(0) or ClipPosition()
    settle(ledger, (0, ClipPosition(5, HASH)))

    position = settle(ledger, (0, delivered.quarantine.raised()))

    assert position.unfinished == {0: ClipPosition(5, HASH, Quarantine.ALONE)}


@pytest.mark.parametrize(("plan_hash", "at_least"), [(HASH, 50), (HASH[:16], 120)])
def test_admission_stops_where_the_largest_metadata_still_fits(plan_hash: str, at_least: int) -> None:
    ledger = new_ledger(10**12)
    ledger.start(10**12)
    settle(ledger, (10**12, ClipPosition(1, plan_hash)))
    count = 1
    while ledger.admits():
        ledger.start(10**12 + 1000 * count)
        count += 1
    different = [plan_hash[:-4] + f"{i:04x}" for i in range(count)]
    largest = [(10**12 + 1000 * i, ClipPosition(2_000_000, different[i])) for i in range(count)]

    text = encode_position(ledger.position_after(largest))

    assert count >= at_least
    assert len(text) <= BROKER_METADATA_BYTES
    assert decode_position(10**12, text).unfinished[10**12].next_window == 2_000_000
    assert ADMISSION_METADATA_BYTES < BROKER_METADATA_BYTES


def test_each_commit_has_a_number_of_its_own() -> None:
    ledger = new_ledger()

    assert ledger.position_after().number != ledger.position_after().number
