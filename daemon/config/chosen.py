"""The limits that are chosen for the machine where none is written (``auto``), each with the reason for its number."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import ValidatorFunctionWrapHandler, WrapValidator

from daemon.config.machine import core_count, memory_bytes

AUTO: Any = "auto"  # what stands for a number in the configuration
_GIB = 2**30

# a core decodes a ten-second window of 1080p30 in some 1.3 s, and an answer takes up to 20 s: further clips would wait
_CLIPS_A_CORE = 16
_LEAST_CLIPS, _MOST_CLIPS = 64, 1024
_LEAST_DECODERS, _MOST_DECODERS = 2, 64
_LEAST_BYTES, _MOST_BYTES = _GIB, 32 * _GIB  # 32 GiB: 680 windows of 80 frames of 448 x 448


@dataclass(frozen=True, slots=True)
class Machine:
    """What a program may use."""

    cores: int
    memory_bytes: int


@cache
def this_machine() -> Machine:
    """Return what this process may use; read once, for what is chosen from it holds for the life of the program."""
    return Machine(core_count(), memory_bytes())


class Chosen(int):
    """A number that was chosen for the machine, because none was written; ``why`` says by what."""

    why: str

    def __new__(cls, value: int, why: str) -> "Chosen":
        number = super().__new__(cls, value)
        number.why = why
        return number


def choose_decoders(machine: Machine) -> Chosen:
    """Return how many decoding processes may be at work: decoding is three quarters of what a host does for a GPU."""
    by_cores, by_memory = max(_LEAST_DECODERS, machine.cores * 3 // 4), max(1, machine.memory_bytes // _GIB)
    if by_memory < by_cores:
        return Chosen(min(by_memory, _MOST_DECODERS), f"one a GiB of {_size(machine.memory_bytes)} of memory")
    return Chosen(
        min(by_cores, _MOST_DECODERS),
        f"three quarters of {machine.cores} cores, {_LEAST_DECODERS} at least and {_MOST_DECODERS} at most",
    )


def choose_bytes(machine: Machine) -> Chosen:
    """Return what frames and encoded clips may take together."""
    memory = machine.memory_bytes
    if memory // 4 < _LEAST_BYTES:
        return Chosen(max(1, memory // 4), f"a quarter of {_size(memory)} of memory")
    why = f"an eighth of {_size(memory)} of memory, {_size(_LEAST_BYTES)} at least and {_size(_MOST_BYTES)} at most"
    return Chosen(min(max(memory // 8, _LEAST_BYTES), _MOST_BYTES), why)


def choose_clips(machine: Machine) -> Chosen:
    """Return how many clips may be worked on at once; :func:`with_slots` knows the engine too."""
    bounds = f"{_LEAST_CLIPS} at least and {_MOST_CLIPS} at most, or as many as the engine has slots"
    why = f"{_CLIPS_A_CORE} a core of {machine.cores}, {bounds}"
    return Chosen(min(max(machine.cores * _CLIPS_A_CORE, _LEAST_CLIPS), _MOST_CLIPS), why)


def with_slots(clips: int, slots: int) -> int:
    """Return how many clips may be in flight before an engine with ``slots``: a number that was written holds."""
    return min(clips, max(slots, _LEAST_CLIPS)) if isinstance(clips, Chosen) else clips


def chosen_by(choose: Callable[[Machine], Chosen]) -> WrapValidator:
    """Return the validator of a number that may be ``auto``, which is then chosen for this machine."""

    def validate(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        return choose(this_machine()) if value == AUTO or isinstance(value, Chosen) else handler(value)

    return WrapValidator(validate)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / _GIB:.3g} GiB"
