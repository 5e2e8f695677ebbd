"""An outage is told once with its reason, backed off from, and told to be over."""

import logging

import pytest

from connectors.kafka.client.outage import AWAY_AFTER_S, BACK_OFF_S, Outage

AWAY = "Source clips waits for the broker: nothing listens."
BACK = "Source clips: the broker is back."


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outage(clock: Clock, caplog: pytest.LogCaptureFixture) -> Outage:
    caplog.set_level(logging.INFO)
    return Outage("Source clips", lambda: "nothing listens", clock_s=clock)


def test_a_first_failure_is_told_to_nobody_and_the_second_once(
    outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    assert outage.failed("cut") == BACK_OFF_S[0]
    assert (outage.waiting_for, caplog.messages) == ("", [])

    assert [outage.failed("cut") for _ in range(6)] == [*BACK_OFF_S[1:], BACK_OFF_S[-1], BACK_OFF_S[-1]]
    assert outage.waiting_for == "the broker: nothing listens"
    assert caplog.messages == [AWAY]


def test_the_fault_is_the_reason_where_nobody_finds_another() -> None:
    outage = Outage("The sink", lambda: "")
    outage.failed("first")

    outage.failed("the coordinator does not answer")
    assert outage.reason == "the coordinator does not answer"
    outage.failed("")
    assert outage.reason == "nothing answers"


def test_the_return_is_told_once_and_the_next_outage_again(outage: Outage, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        outage.failed("cut")
        outage.failed("cut")
        outage.reachable()
        outage.reachable()
        outage.succeeded()

    assert caplog.messages == [AWAY, BACK] * 2
    assert outage.waiting_for == ""


def test_back_off_goes_on_while_the_broker_answers_and_no_try_succeeds(outage: Outage) -> None:
    outage.failed("refused")
    outage.reachable()
    assert outage.failed("refused") == BACK_OFF_S[1]
    outage.reachable()

    outage.succeeded()

    assert outage.failed("refused") == BACK_OFF_S[0]


def test_a_moment_without_a_coordinator_is_no_outage(
    outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    outage.unreachable("the coordinator is away")
    clock.now_s += AWAY_AFTER_S
    outage.unreachable("the coordinator is away")
    outage.reachable()
    clock.now_s += AWAY_AFTER_S
    outage.unreachable("the coordinator is away")

    assert (outage.waiting_for, caplog.messages) == ("", [])


def test_a_coordinator_that_stays_away_is_told_at_once_and_once(
    outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    outage.unreachable("the coordinator is away")
    clock.now_s += AWAY_AFTER_S + 0.1
    outage.unreachable("the coordinator is away")
    outage.unreachable("the coordinator is away")

    assert caplog.messages == [AWAY]
    outage.reachable()
    assert caplog.messages == [AWAY, BACK]
