"""The faults that pydantic finds in values from outside, translated once: where each is, and what is wrong.

Each caller makes an error of its own class from a fault.
"""

from dataclasses import dataclass, field

from pydantic import ValidationError


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. ``location`` leads to the value, ``message`` is pydantic's own, and ``given`` is the value."""

    location: tuple[int | str, ...]
    kind: str  # pydantic's name for it
    message: str
    given: object = field(default=None, repr=False)

    @property
    def is_unknown_key(self) -> bool:
        """True where no section has this key."""
        return self.kind == "extra_forbidden"

    @property
    def is_missing_key(self) -> bool:
        """True where the key is needed and not there."""
        return self.kind == "missing"

    def path(self, *above: str) -> str:
        """Return the dotted path of the value, beneath the keys ``above``."""
        return ".".join([*above, *map(str, self.location)])

    def sentence(self, unknown_key: str = "unknown key") -> str:
        """Return what is wrong, for people; ``unknown_key`` says it of a key that nothing has."""
        return unknown_key if self.is_unknown_key else self.message.removeprefix("Value error, ")


def faults_of(error: ValidationError) -> list[Fault]:
    """Return every fault of a value, in pydantic's order; there is at least one."""
    return [
        Fault(found["loc"], found["type"], found["msg"], found.get("input"))
        for found in error.errors(include_url=False)
    ]


def first_fault(error: ValidationError) -> Fault:
    """Return the first fault of a value."""
    return faults_of(error)[0]
