"""The kinds of media: those that can be opened, those that are brought here first, and those that may change."""

from typing import Protocol, runtime_checkable


class Media(Protocol):
    """An encoded video or image that can be opened any number of times."""

    @property
    def name(self) -> str:
        """What messages call it: relative to the source, never a path of the machine."""
        ...

    @property
    def size_bytes(self) -> int:
        """Its size when it was received."""
        ...

    def open(self) -> int:
        """Return a new read-only descriptor at offset 0 that the caller closes; a ``Poison`` error when it is gone."""
        ...

    def close(self) -> None:
        """Let go of what keeps it (a memory file, a spooled copy); opened descriptors stay valid."""
        ...


@runtime_checkable
class DistantMedia(Protocol):
    """Media that lie somewhere else (behind a URL, inside an archive), and are brought here before they are opened."""

    async def fetch(self) -> None:
        """Bring them here, once; ``Poison`` or ``Transient`` where that can't be done."""
        ...


@runtime_checkable
class ChangeableMedia(Protocol):
    """Media that others can change while they are read: files, but not memory."""

    def verify(self) -> None:
        """Raise ``Poison`` (``changed``, ``vanished``) unless it still is what was received."""
        ...
