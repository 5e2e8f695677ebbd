"""A standstill is told when it has lasted, once, and what stands still is tried again after a pause that grows."""

import logging

import pytest

from connectors.kafka.consumer.standstills import OVER_AFTER_S, PAUSES_S, TELL_AFTER_S, Standstills

PLACE = ("clips", 3)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(caplog: pytest.LogCaptureFixture) -> Clock:
    caplog.set_level(logging.INFO)
    return Clock()


def test_what_passes_by_itself_is_told_to_nobody(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    standstills = Standstills(clock)
    standstills.note(PLACE, "no broker leads it")
    standstills.over([PLACE])

    assert (standstills.waiting_for, standstills.begun, caplog.messages) == ("", 0, [])


def test_what_lasts_is_told_once_and_once_that_it_is_over(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    standstills = Standstills(clock)
    for _ in range(10):
        standstills.note(PLACE, "offset 7 can't be read")
        clock.now_s += TELL_AFTER_S
    assert standstills.waiting_for == "clips/3 (offset 7 can't be read)"

    standstills.over([PLACE])

    assert (standstills.waiting_for, standstills.begun) == ("", 1)
    assert caplog.messages == ["clips/3 stands still: offset 7 can't be read.", "clips/3 goes on."]


def test_the_pauses_between_tries_grow_to_a_bound(clock: Clock) -> None:
    standstills = Standstills(clock)
    for pause_s in (*PAUSES_S, PAUSES_S[-1], PAUSES_S[-1]):
        standstills.note(PLACE, "damaged")
        assert standstills.must_wait(PLACE)
        clock.now_s += pause_s
        assert not standstills.must_wait(PLACE)


def test_what_was_tried_again_and_is_noted_no_more_is_over(clock: Clock) -> None:
    standstills = Standstills(clock)
    standstills.note(PLACE, "damaged")
    clock.now_s += TELL_AFTER_S
    standstills.note(PLACE, "damaged")
    standstills.note("gone", "it is not there")
    clock.now_s += PAUSES_S[1] + OVER_AFTER_S
    standstills.note("gone", "it is not there")
    assert standstills.waiting_for == "clips/3 (damaged); topic gone (it is not there)"
    clock.now_s += 0.1
    standstills.look()

    assert standstills.waiting_for == "topic gone (it is not there)"


def test_many_are_named_by_the_first(clock: Clock) -> None:
    standstills = Standstills(clock)
    for _ in range(2):
        for number in range(5):
            standstills.note(("clips", number), "damaged")
        clock.now_s += TELL_AFTER_S

    assert standstills.waiting_for == "clips/0 (damaged); clips/1 (damaged); clips/2 (damaged) and 2 more"
