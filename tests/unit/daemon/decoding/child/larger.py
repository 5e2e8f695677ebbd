"""A clip whose packets are larger than they need to be, and how much of it a process reads."""

from pathlib import Path

import av


def larger_copy(source: Path, path: Path) -> Path:
    """Write ``source`` to ``path`` with 40 kB of nothing behind each packet."""
    with av.open(str(source)) as given, av.open(str(path), "w") as container:
        copy = container.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.size:
                larger = av.Packet(bytes(packet) + bytes(40_000))
                larger.stream, larger.pts, larger.dts = copy, packet.pts, packet.dts
                larger.time_base, larger.is_keyframe, larger.duration = packet.time_base, packet.is_keyframe, 512
                container.mux(larger)
    return path


def bytes_read() -> int:
    """Return how much this process has read so far."""
    return int(Path("/proc/self/io").read_text().split()[1])
