"""The records of the file of the clips in flight: 128 bytes each, JSON, so that people can read them.

The first is the head: which run of the machine wrote the file, and whether the program was being stopped. Then comes
one for each clip. A clip stands there as a digest: nothing that a sender wrote is in the file, and its size is bounded.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from connectors.contract import Clip, clip_id_of

log = logging.getLogger(__name__)

RECORD_BYTES, MAX_BYTES = 128, 2**23  # 8 MiB: 65,000 clips, far above any limits.max_clips_in_flight
_VERSION, _KEY_CHARACTERS, _BOOT_CHARACTERS = 1, 32, 36
BLANK = b"".ljust(RECORD_BYTES - 1) + b"\n"


class State(StrEnum):
    """What a clip's record says."""

    HELD = "held"  # it is in flight now
    ADVANCED = "advanced"  # it is too, and something of it became durable since it came into flight
    BESIDE = "beside"  # the program ended while it was one of several
    ALONE = "alone"  # the program ended while nothing else was in flight, or by an error in this clip's own task
    TWICE = "twice"  # that happened again


Ended = Mapping[str, State]
"""The clips that an end of the program counts against, by key."""


@dataclass(frozen=True)
class Content:
    """What a daemon that is gone left: its clips in order, and whether those in flight count."""

    boot: str = ""
    stopping: bool = False
    clips: tuple[tuple[str, State], ...] = ()

    def ended(self, boot: str) -> Ended:
        """Return the clips that an end of the program counts against, and say what it was.

        Those in flight do, unless the program was being stopped or the machine was started again since. A clip that
        gets on from one end to the next comes to its own in time, so it is never called alone.
        """
        held = {key: state for key, state in self.clips if state in (State.HELD, State.ADVANCED)}
        found = {key: state for key, state in self.clips if state not in (State.HELD, State.ADVANCED)}
        if self.stopping or self.boot != boot:
            if held:
                why = "it was being stopped" if self.stopping else "the machine was started again since"
                log.info("The program ended with %d clip(s) in flight, none to blame: %s.", len(held), why)
            return found
        if held:
            log.warning("The program ended unforeseen with %d clip(s) in flight: each runs alone next.", len(held))
        is_alone = [*held.values()] == [State.HELD]
        return merged(found, dict.fromkeys(held, State.ALONE if is_alone else State.BESIDE))


def merged(one: Ended, other: Ended) -> Ended:
    """Return what both say together."""
    return {**one, **{key: both(one.get(key, State.HELD), state) for key, state in other.items()}}


def both(before: State, now: State) -> State:
    """Return what a clip's record says after two ends of the program."""
    order = list(State)
    if min(order.index(before), order.index(now)) >= order.index(State.ALONE):
        return State.TWICE
    return max(before, now, key=order.index)


def key_of(clip: Clip) -> str:
    """Name a clip: 32 hexadecimal digits, whatever its sender called it."""
    return clip_id_of(clip.source, clip.clip_id, clip.media.name)


def head(boot: str, *, stopping: bool = False) -> bytes:
    """Return the first record."""
    return _padded({"version": _VERSION, "boot": boot[:_BOOT_CHARACTERS], "stopping": stopping})


def record(key: str, state: State) -> bytes:
    """Return a clip's record."""
    return _padded({"clip": key, "state": state})


def _padded(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said).encode().ljust(RECORD_BYTES - 1) + b"\n"


def read(data: bytes) -> Content:
    """Return what the bytes of a file say; :class:`ValueError` where they can't be understood."""
    if len(data) > MAX_BYTES:
        raise ValueError("it is too large")
    records = [data[at : at + RECORD_BYTES].strip() for at in range(0, len(data), RECORD_BYTES)]
    if not any(records):
        return Content()
    try:
        first, *others = (json.loads(one) for one in records if one)
        if first["version"] != _VERSION:
            raise ValueError(f"version {first['version']!r:.20} is not known here")
        clips = tuple((str(one["clip"])[:_KEY_CHARACTERS], State(one["state"])) for one in others)
        return Content(str(first["boot"]), bool(first["stopping"]), clips)
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"it is not what captiond writes ({type(error).__name__})") from error
