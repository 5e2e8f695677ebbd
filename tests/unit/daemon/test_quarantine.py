"""A clip that was in flight when the program ended, by its quarantine in its source and by what was beside it."""

import time
from pathlib import Path
from typing import Any

import pytest

from connectors.contract import Clip, ClipPosition, Delivery, Quarantine
from connectors.errors import EngineLost, Poison
from connectors.media.bytes import BytesMedia
from daemon.in_flight_file import InFlightFile
from daemon.quarantine import ClipsInFlight


class Source:
    """A route that keeps a quarantine, and dies where it is told to."""

    def __init__(self, at: Quarantine) -> None:
        self.kept, self.dies = at, False

    async def quarantine(self, delivery: Delivery) -> None:
        if self.dies:
            raise EngineLost("whatever ends the program here")
        self.kept = delivery.position.quarantine.raised()


def delivery(name: str, at: Quarantine) -> Delivery:
    return Delivery(Clip(name, "inbox", BytesMedia(name, b"x"), time.time_ns()), ClipPosition(3, "plan", at))


def ended_with(tmp_path: Path, *deliveries: Delivery, ends: int = 1) -> ClipsInFlight:
    """Return what the next program knows after some that were killed with these in flight."""
    for _ in range(ends):
        file = InFlightFile(tmp_path, 4)
        file.open()
        for one in deliveries:
            file.enter(one.clip)
        file.abandon()
    return ClipsInFlight(InFlightFile(tmp_path, 4))


NONE, ALONE, REJECT = Quarantine
RULES = [
    (NONE, False, 1, ALONE, ALONE),
    (NONE, True, 1, ALONE, ALONE),
    (ALONE, False, 1, ALONE, ALONE),  # it was one of several, so it is not to blame: it runs alone once more
    (ALONE, False, 5, ALONE, ALONE),
    (ALONE, True, 1, ALONE, ALONE),  # once can be anybody's doing
    (ALONE, True, 2, REJECT, ALONE),
    (ALONE, True, 3, REJECT, ALONE),
    (REJECT, True, 1, REJECT, REJECT),
]


@pytest.mark.parametrize(("before", "alone", "ends", "expected", "kept"), RULES)
async def test_whoever_was_alone_twice_is_rejected(
    tmp_path: Path, before: Quarantine, alone: bool, ends: int, expected: Quarantine, kept: Quarantine
) -> None:
    one, route = delivery("one", before), Source(before)
    in_flight = ended_with(tmp_path, one, *([] if alone else [delivery("other", NONE)]), ends=ends)

    with in_flight.recorded():
        recalled = await in_flight.recalled(one, route)  # type: ignore[arg-type]

    assert (recalled.position.quarantine, route.kept) == (expected, kept)
    assert (recalled.position.next_window, recalled.position.plan_hash) == (3, "plan")


async def test_a_rejection_says_what_was_seen_and_is_forgotten_when_it_is_durable(tmp_path: Path) -> None:
    one, route = delivery("one", ALONE), Source(ALONE)
    in_flight: Any = ended_with(tmp_path, one, ends=2)

    for _ in range(2):  # it stays until the rejection is durable, however often the program ends before
        with in_flight.recorded():
            recalled = await in_flight.recalled(one, route)
            with pytest.raises(Poison) as refused:
                in_flight.refuse_killer(recalled)
            assert (refused.value.reason, refused.value.origin) == ("killer", "program")
            assert "twice" in refused.value.detail
    with in_flight.recorded():
        in_flight.ended(one)
    with in_flight.recorded():
        assert (await in_flight.recalled(one, route)).position.quarantine is ALONE


async def test_an_engines_killer_is_called_so_with_and_without_a_file(tmp_path: Path) -> None:
    for in_flight in (ClipsInFlight(), ClipsInFlight(InFlightFile(tmp_path, 4))):
        with in_flight.recorded(), pytest.raises(Poison) as refused:
            in_flight.refuse_killer(delivery("one", REJECT))
        assert refused.value.reason == "engine_killer"


async def test_one_end_never_counts_twice(tmp_path: Path) -> None:
    one, route = delivery("one", NONE), Source(NONE)
    in_flight: Any = ended_with(tmp_path, one, delivery("other", NONE))
    route.dies = True
    with pytest.raises(EngineLost), in_flight.recorded():
        await in_flight.recalled(one, route)

    route.dies = False
    with in_flight.recorded():
        assert (await in_flight.recalled(one, route)).position.quarantine is NONE
