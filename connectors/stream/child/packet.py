"""The values that pass between the parts of a recorder."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """Whatever decides how packets are decoded: packets of another format need another header."""

    codec: str
    width: int
    height: int
    extradata: bytes


@dataclass(frozen=True, slots=True)
class StreamPacket:
    """One frame, encoded. Times are nanoseconds: ``media_ns`` as the stream says it, None where it says nothing.

    ``sender_offset_ns`` is what the sender's clock shows at media time 0, None while that is not known. ``arrived_ns``
    is this machine's wall clock.
    """

    data: bytes
    media_ns: int | None
    is_key: bool
    arrived_ns: int
    format: StreamFormat
    sender_offset_ns: int | None = None

    def at(self, media_ns: int) -> "StreamPacket":
        """Return the packet at another time."""
        return replace(self, media_ns=media_ns)


class Away(Exception):
    """The stream is not to be had: ``reason`` is a code, and ``says_so`` whether the server ended it itself."""

    def __init__(self, reason: str, *, says_so: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.says_so = reason, says_so
