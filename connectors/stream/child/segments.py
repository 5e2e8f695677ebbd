"""Packets into segments: each is cut at a key frame, or without one where the stream has few of them."""

from dataclasses import dataclass, field

from connectors.stream.child.packet import StreamFormat

_NEARLY = 0.9  # a group of pictures of just the segment's length is one segment, whatever its clock says
_WITHOUT_KEY = 2.0  # after so many lengths without a key frame a segment ends all the same
_MAX_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class TimedPacket:
    """A packet on the wall clock."""

    wall_ns: int
    data: bytes
    is_key: bool
    arrived_ns: int
    format: StreamFormat
    media_ns: int
    is_senders: bool


@dataclass
class OpenSegment:
    """The segment that is being filled."""

    packets: list[TimedPacket] = field(default_factory=list)
    size_bytes: int = 0
    latest_ns: int = 0

    def add(self, packet: TimedPacket) -> None:
        self.packets.append(packet)
        self.size_bytes += len(packet.data)
        self.latest_ns = max(self.latest_ns, packet.wall_ns)

    def ends_before(self, packet: TimedPacket, length_ns: int) -> bool:
        """Whether the segment is whole with what it has, and ``packet`` begins the next."""
        if not self.packets:
            return False
        if packet.is_key and packet.format != self.packets[0].format:
            return True
        length = packet.wall_ns - self.packets[0].wall_ns
        if packet.is_key:
            return length >= _NEARLY * length_ns
        is_long = length >= _WITHOUT_KEY * length_ns or self.size_bytes > _MAX_BYTES
        return is_long and packet.wall_ns > self.latest_ns  # no frame that is shown earlier comes behind it

    @property
    def start_ns(self) -> int:
        return min(packet.wall_ns for packet in self.packets)
