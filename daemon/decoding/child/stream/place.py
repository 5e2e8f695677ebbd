"""A place among the packets of a clip's stream: an open container, and the packet that is read next."""

from collections.abc import Iterator
from typing import Any

from daemon.decoding.child.pyav import packets_of
from daemon.decoding.packet_index import PacketIndex
from daemon.decoding.timeline import NO_TIME

_SEEK_PACKETS = 512  # so many packets are read over (2 to 4 ms) before asking the container's own index
_SEEK_PACKETS_TABLE = 12  # the same where that index lists every packet, and asking it reads nothing


class LostPlaceError(Exception):
    """The packets read are not the ones of the index."""


class PacketPlace:
    """Reads the packets of an index in decoding order, and goes to others of them. It owns the container."""

    def __init__(self, container: Any, stream: Any, index: PacketIndex, *, may_seek: bool) -> None:
        self._container, self._stream, self._index, self._may_seek = container, stream, index, may_seek
        self._packets = packets_of(container, stream)
        self._near = _SEEK_PACKETS_TABLE if container.format.name.startswith("mov") else _SEEK_PACKETS
        self._pushed_back: Any = None
        self._has_sought = False  # then each packet is held to the index
        self.decode_index = 0  # of the next packet to read
        self.packets_read = 0

    def read(self) -> Any:
        """Return the next packet, None at the end; :class:`LostPlaceError` when it is another one."""
        packet, self._pushed_back = self._pushed_back, None
        packet = packet or next(self._packets, None)
        if packet is None or self.decode_index >= len(self._index.pts):
            return None
        if self._index.counted:  # the time is the index's: the decoder hands it on from the packet to its frame
            packet.pts = packet.dts = int(self._index.pts[self.decode_index])
        if self._has_sought and packet.pts is not None and packet.pts != self._index.pts[self.decode_index]:
            raise LostPlaceError
        self.decode_index += 1
        self.packets_read += 1
        return packet

    def go_to(self, decode_index: int) -> None:
        """Go to a packet: by reading on when it is near ahead, else by the container's index."""
        if not 0 <= decode_index - self.decode_index <= self._near:
            if decode_index == 0:
                raise LostPlaceError
            self._seek(decode_index)
        self.read_over(decode_index)

    def go_back(self) -> None:
        """Go to the first packet of a container that was read to its end."""
        self._seek(0)

    def group(self, start: int, last: int) -> Iterator[Any]:
        """Go to a key frame's packet, and yield it and those up to another."""
        if start == 0 < self.decode_index:
            self.go_back()
        self.go_to(start)
        while self.decode_index <= last and (packet := self.read()) is not None:
            yield packet

    def read_over(self, decode_index: int) -> None:
        """Read on until a packet is the next one."""
        while self.decode_index < decode_index and self.read() is not None:
            pass

    def close(self) -> None:
        """Close the container."""
        self._container.close()

    def _seek(self, decode_index: int) -> None:
        """Ask the container for a key frame at or before a packet, and find out by its time stamp where that is."""
        if not self._may_seek:
            raise LostPlaceError
        self._has_sought = True
        dts, pts = int(self._index.dts[decode_index]), int(self._index.pts[decode_index])
        for ticks in (pts, dts) if NO_TIME < dts < pts else (pts,):  # some demuxers take it for a time of decoding
            self._seek_to(ticks)
            if self._pushed_back is not None and self.decode_index <= decode_index:
                return
        raise LostPlaceError

    def _seek_to(self, ticks: int) -> None:
        self._pushed_back = None
        try:
            self._container.seek(ticks, stream=self._stream, backward=True)
        except Exception:
            raise LostPlaceError from None
        self._packets = packets_of(self._container, self._stream)
        for packet in self._packets:
            frame_index = self._index.frame_at(packet.pts) if packet.pts is not None else -1
            if frame_index >= 0:
                self._pushed_back, self.decode_index = packet, int(self._index.order[frame_index])
                return
