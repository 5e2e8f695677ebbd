"""Sessions and cursors that say how much they decode."""

from typing import Any

import numpy as np

from daemon.decoding.child.cursor import FrameCursor
from daemon.decoding.child.frame_writer import AvWriter
from daemon.decoding.child.session import Session
from daemon.decoding.media import MediaLimits
from daemon.decoding.packet_index import PacketIndex
from daemon.memory_file import make, mapped
from daemon.windows import NS_PER_S, FramePolicy, Window, WindowPolicy, plan_windows
from tests.corpus.painted import HEIGHT, WIDTH

LIMITS = MediaLimits(8_912_896, 86_400.0)
FRAMES = 500


class CountingSession(Session):
    """A session that says how many frames its decoder gave, and can be asked for windows as the parent asks."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.opened, self.frames = 0, dict[int, np.ndarray]()

    def decoded(self) -> int:
        return self._writer._cursor.decoded if self._writer is not None else 0  # type: ignore[attr-defined]

    def take(self, windows: tuple[Window, ...], at: int, together: int = 1) -> tuple[list[int], np.ndarray]:
        """Fill window ``at``; it and the next ones are opened, those that are not yet."""
        for window in windows[at : at + together]:
            if window.index not in self._windows and window.index >= self.opened:
                size_bytes = len(window.frame_indices) * WIDTH * HEIGHT * 3
                memory = make("test", size_bytes)
                self.frames[window.index] = mapped(memory, size_bytes).reshape(-1, HEIGHT, WIDTH, 3)
                self.add(window.index, memory, list(window.frame_indices))
                self.opened = window.index + 1
        self.want([n for w in windows[at : at + 6] for n in w.frame_indices])
        return self.fill(at), self.frames.pop(at)


def windows_of(session: CountingSession, policy: WindowPolicy, count: int = 8) -> tuple[Window, ...]:
    index = session.index_of_clip  # type: ignore[attr-defined]
    return plan_windows(index.pts_ns, index.duration_ns, policy, FramePolicy(num_frames=count))


def asked_of(index: PacketIndex, seconds: float, count: int = 8) -> list[int]:
    policy = WindowPolicy(int(seconds * NS_PER_S), int(seconds * NS_PER_S), 0)
    windows = plan_windows(index.pts_ns, index.duration_ns, policy, FramePolicy(num_frames=count))
    return sorted({number for window in windows for number in window.frame_indices})


def shown_by(writer: AvWriter, asked: list[int], threads: int = 1) -> list[bytes]:
    """Return the frames that are shown, asked for as a session asks."""
    out, shown = np.empty((HEIGHT, WIDTH, 3), np.uint8), []
    writer.want(asked, threads)
    for number in asked:
        shown.append(bytes(str(writer.write(number, out)), "ascii") + out.tobytes())
    return shown


def fewest_packets(index: PacketIndex, asked: list[int]) -> int:
    last: dict[int, int] = {}
    for number in asked:
        start = index.decode_start(number)
        last[start] = max(last.get(start, 0), int(index.order[number]) + 1)
    return sum(end - start for start, end in last.items())


def packets_read(cursor: FrameCursor) -> int:
    return cursor._place.packets_read
