"""Media that can't be had, which refuse to open: so each ends as every clip does, with a reason."""

from dataclasses import dataclass

from connectors.errors import Poison, Transient


@dataclass(frozen=True, slots=True)
class RefusedMedia:
    """Media whose opening raises the fault that was found when the clip was received."""

    name: str
    fault: Poison | Transient
    size_bytes: int = 0

    def open(self) -> int:
        raise self.fault

    def close(self) -> None:
        return
