"""The clips that were chosen by their messages, and the outcome of each."""

from dataclasses import dataclass
from typing import NamedTuple

Parts = tuple[str, ...]


class Place(NamedTuple):
    """A record's place."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"

    @classmethod
    def parse(cls, name: str) -> "Place | None":
        """Return the place that a record's clip is named after; None where the name is none."""
        topic, _, rest = name.partition("/")
        partition, _, offset = rest.partition("/")
        if not topic or not (partition + offset).isascii() or not (partition.isdigit() and offset.isdigit()):
            return None
        return cls(topic, int(partition), int(offset))


@dataclass(frozen=True, slots=True)
class Chosen:
    """A clip whose messages meet the conditions.

    ``lines`` is the file that they stand in, beneath the sink's folder, and empty where they are in topics. ``said_ms``
    is when the last of them was written. ``letter`` is where the clip lies as a dead letter, as far as that is known.
    """

    source: str
    clip_id: str
    name: str
    lines: Parts = ()
    said_ms: int = 0
    letter: Place | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a chosen clip: ``why_left`` says why it does not go through again, and is empty where it does.

    One that an earlier call sent ``is_under_way`` until a message of it comes.
    """

    clip: Chosen
    why_left: str = ""
    is_under_way: bool = False
