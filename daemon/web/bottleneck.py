"""The bottleneck: which part holds the others up, as a sentence."""

from typing import Any

_FULL = 0.9  # a share from which a part counts as full
_IDLE = 0.5  # a share of the engine's places below which it waits for windows


def bottleneck(snapshot: dict[str, Any], lag: int, rendering: int = 0) -> str:
    """Return which part holds the others up, from a health's snapshot; ``rendering`` windows wait for a renderer."""
    clips, windows, held = snapshot["clips"], snapshot["windows"], snapshot["in_flight_bytes"]
    in_engine, slots, waiting = windows["in_engine"], windows["engine_slots"], windows["waiting"]
    if not clips["in_flight"]:
        return f"{_count(lag, 'clip waits', 'clips wait')} to be taken." if lag else "Idle: no clip waits."
    if in_engine >= _FULL * slots or waiting:
        more = f", and {_count(waiting, 'clip waits', 'clips wait')} for one of them" if waiting else ""
        return f"The engine is full: {in_engine} of its {slots} places are taken{more}."
    if rendering > in_engine * _IDLE and rendering > 1:
        return f"The renderers are behind: {rendering} windows wait for one."
    if held["held"] >= _FULL * held["limit"]:
        return "Memory is full: limits.in_flight_bytes is what holds clips up."
    if in_engine < _IDLE * slots and (lag or clips["waiting"]):
        return f"Decoders are behind: {slots - in_engine} of the engine's {slots} places are free while clips wait."
    return "At work: no part holds another up."


def _count(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"
