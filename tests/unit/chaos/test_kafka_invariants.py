"""The promises of the Kafka rows are seen to be broken when they are."""

from collections.abc import Sequence

import pytest

from connectors.kafka.offset_ledger import ClipPosition, PartitionPosition
from tests.chaos.kafka import invariants as promises
from tests.chaos.kafka.evidence import Commit, Letter, Written
from tests.chaos.kafka.invariants import Durable, Expected

CLIPS = [Expected("t", 0, offset, 2) for offset in (0, 1)]


def captions(*windows: tuple[int, int, int]) -> list[Written]:
    """Return captions of (offset, index, at_ms)."""
    return [Written(f"t/0/{offset}", index, f"{offset}#{index}", at_ms) for offset, index, at_ms in windows]


def commits(*positions: tuple[int, PartitionPosition]) -> list[Commit]:
    return [Commit("t", 0, position, at_ms) for at_ms, position in positions]


ALL = captions((0, 0, 1), (0, 1, 2), (1, 0, 3), (1, 1, 4))


@pytest.mark.parametrize(
    ("written", "letters", "lost", "repeats", "wrong"),
    [
        (ALL, [], 0, 0, 0),
        (ALL[:-1], [], 1, 0, 0),
        ([*ALL, ALL[0]], [], 0, 1, 0),
        (ALL, [Letter("t/0/0", "corrupt", 2)], 0, 0, 1),
        ([*ALL, *captions((0, 2, 9))], [], 0, 0, 1),
        ([*ALL, *captions((7, 0, 9))], [], 0, 0, 1),
    ],
)
def test_loss_repeats_and_strangers_are_counted(
    written: Sequence[Written], letters: Sequence[Letter], lost: int, repeats: int, wrong: int
) -> None:
    found = promises.nothing_is_lost(CLIPS, written, letters)

    assert (found.lost, len(found.repeats), len(found.wrong)) == (lost, repeats, wrong)


@pytest.mark.parametrize("reasons", [[], ["malformed", "malformed"], ["empty"]])
def test_a_rejection_that_is_missing_doubled_or_another_is_wrong(reasons: list[str]) -> None:
    clip = Expected("t", 0, 0, 0, "malformed")

    found = promises.nothing_is_lost([clip], [], [Letter(clip.id, reason, 0) for reason in reasons])

    assert len(found.wrong) == 1
    assert found.lost == (0 if reasons else 1)


def test_a_position_ahead_of_its_output_is_seen() -> None:
    durable = Durable(CLIPS, commits((3, PartitionPosition(1, 1))))

    assert promises.output_comes_before_its_position(captions((0, 0, 1), (0, 1, 2)), durable) == []
    assert len(promises.output_comes_before_its_position(captions((0, 0, 1), (0, 1, 9)), durable)) == 1


def test_a_commit_that_goes_back_and_a_clip_that_is_not_finished_are_seen() -> None:
    going_back = Durable(CLIPS, commits((3, PartitionPosition(2, 2)), (4, PartitionPosition(1, 1))))
    unfinished = Durable(CLIPS, commits((3, PartitionPosition(0, 2, {0: ClipPosition(1, "aa")}))))

    assert len(going_back.wrong) == 1
    assert unfinished.wrong == []
    assert unfinished.unfinished() == ["t/0/0"]


def test_a_repeat_of_what_was_durable_is_seen() -> None:
    durable = Durable(CLIPS, commits((5, PartitionPosition(1, 1))))

    assert promises.repeats_were_not_durable(captions((0, 0, 4), (1, 0, 9)), durable) == []
    assert len(promises.repeats_were_not_durable(captions((0, 0, 6)), durable)) == 1


def test_windows_out_of_order_are_seen() -> None:
    assert promises.windows_are_in_order([*ALL, ALL[0]]) == []
    assert len(promises.windows_are_in_order(captions((0, 1, 1), (0, 0, 2)))) == 1


def test_a_commit_after_a_revoke_is_seen() -> None:
    def event(name: str, pid: int = 1) -> dict[str, object]:
        return {"event": name, "pid": pid, "places": ["t/0"]}

    fine = [event("assign"), event("commit"), event("revoke"), event("assign"), event("commit")]
    late = [event("assign"), event("revoke"), event("assign", 2), event("commit")]

    assert promises.nothing_is_committed_after_a_revoke(fine) == []
    assert len(promises.nothing_is_committed_after_a_revoke(late)) == 1


def test_a_group_that_moves_and_an_oracle_that_differs_are_seen() -> None:
    assert promises.members_stay([3, 3]) == []
    assert len(promises.members_stay([3, 4])) == 1
    assert promises.oracle_agrees(["a", "b"], ["b", "a"]) == []
    assert len(promises.oracle_agrees(["a", "b"], ["a", "a"])) == 1
