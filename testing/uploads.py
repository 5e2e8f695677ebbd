"""Uploads into a watched folder, as the tools that people use write them: in pieces, with pauses, under odd names.

``python -m testing.uploads`` runs them in real time. Each upload has a clock of its own, up to ten minutes off. What
counts is that no file is taken before its last byte is there and its tool has let go of it, and that each is taken.
"""

import argparse
import heapq
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from connectors.folder.claims import FolderClaims
from connectors.folder.intake import FolderIntake
from connectors.folder.settings import FolderSourceSettings

CLOCKS_OFF_S = (-600.0, 0.0, 600.0)
LONGEST_PAUSE_S = 30.0
PIECES = 4


@dataclass(frozen=True, slots=True)
class Tool:
    """The names that a tool gives to a file before it is whole; ``{name}`` stands for the clip's own.

    ``beside`` lies there until the end. Where ``placeholder`` is set the clip's name is an empty file meanwhile. A tool
    that writes under the clip's own name and leaves no word pauses for less than ``settle_s``: no one could tell.
    """

    title: str
    growing: str
    beside: str = ""
    placeholder: bool = False

    @property
    def gives_no_word(self) -> bool:
        """Whether nothing but the file's own standing still says that it is whole."""
        return self.growing == "{name}" and not self.beside


TOOLS = (
    Tool("Chrome", "{name}.crdownload"),
    Tool("Firefox", "{name}.part", placeholder=True),
    Tool("Safari", "{name}.download/{name}"),
    Tool("WinSCP", "{name}.filepart"),
    Tool("rsync", ".{name}.a8Xf2z"),
    Tool("aria2", "{name}", beside="{name}.aria2"),
    Tool("qBittorrent", "{name}.!qB"),
    Tool("Syncthing", ".syncthing.{name}.tmp"),
    Tool("rclone", "{name}.partial"),
    Tool("lftp", "{name}", beside="{name}.lftp-pget-status"),
    Tool("cp", "{name}"),
)


class VirtualClock:
    """A clock that stands still until somebody waits for it."""

    def __init__(self) -> None:
        self._now_s = 1000.0

    def __call__(self) -> float:
        return self._now_s

    def wait_until(self, when_s: float) -> None:
        """Be there at once."""
        self._now_s = max(self._now_s, when_s)


class RealClock(VirtualClock):
    """The system's own."""

    def __call__(self) -> float:
        return time.monotonic()

    def wait_until(self, when_s: float) -> None:
        """Sleep."""
        time.sleep(max(when_s - time.monotonic(), 0.0))


@dataclass(slots=True)
class Figures:
    """What became of the uploads."""

    uploads: int = 0
    early: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)  # the tool could not finish: somebody took its file
    waited_s: list[float] = field(default_factory=list)  # from an upload's end to its claim

    @property
    def lost(self) -> int:
        """How many were never taken."""
        return self.uploads - len(set(self.taken))


class Simulation:
    """So many uploads at once into a folder that is watched as the daemon does it."""

    def __init__(self, inbox: Path, clock: VirtualClock, *, uploads: int, seed: int, **settings: object) -> None:
        self._inbox, self._clock, self._random = inbox, clock, random.Random(seed)
        watched = FolderSourceSettings(path=inbox, **settings)  # type: ignore[arg-type]
        self._settle_s, self._claims = watched.settle_s, FolderClaims(inbox)
        self._intake = FolderIntake(watched, self._claims, monotonic_s=clock)
        self._whole: dict[str, bytes] = {}
        self._ended_s: dict[str, float] = {}
        self.figures = Figures(uploads)

    def run(self) -> Figures:
        """Upload everything, look every now and then, and return what became of it."""
        self._claims.open()
        steps: list[tuple[float, int, Callable[[], None]]] = []
        for number in range(self.figures.uploads):
            for at_s, step in self._upload(number):
                heapq.heappush(steps, (at_s, len(steps), step))
        while steps:
            at_s, _, step = heapq.heappop(steps)
            self._look_until(at_s)
            step()
        self._look_until(self._clock() + 3 * self._settle_s + 2)
        self._claims.close()
        return self.figures

    def _upload(self, number: int) -> Iterator[tuple[float, Callable[[], None]]]:
        """Yield the steps of one upload, and when each is due."""
        tool = TOOLS[number % len(TOOLS)]
        name = f"{number:04d} {tool.title}.mp4"
        growing = self._inbox / tool.growing.format(name=name)
        off_s = self._random.choice(CLOCKS_OFF_S)
        pieces = [self._random.randbytes(self._random.randint(1, 5000)) for _ in range(PIECES)]
        self._whole[name] = b"".join(pieces)
        longest_s = self._settle_s * 0.5 if tool.gives_no_word else LONGEST_PAUSE_S
        at_s = self._clock() + self._random.uniform(0, 10)
        yield at_s, lambda: self._begin(tool, name, growing)
        for piece in pieces:
            at_s += self._random.uniform(0, longest_s)
            yield at_s, lambda piece=piece: self._write(name, growing, piece, off_s)  # type: ignore[misc]
        at_s += self._random.uniform(0, longest_s)
        yield at_s, lambda: self._finish(tool, name, growing)

    def _begin(self, tool: Tool, name: str, growing: Path) -> None:
        growing.parent.mkdir(exist_ok=True)
        if tool.beside:
            (self._inbox / tool.beside.format(name=name)).write_bytes(b"state")
        if tool.placeholder:
            (self._inbox / name).touch()
        growing.touch()

    def _write(self, name: str, growing: Path, piece: bytes, off_s: float) -> None:
        try:
            with growing.open("r+b") as file:
                file.seek(0, os.SEEK_END)
                file.write(piece)
        except FileNotFoundError:
            self.figures.broken.append(name)
            return
        os.utime(growing, (time.time() + off_s,) * 2)

    def _finish(self, tool: Tool, name: str, growing: Path) -> None:
        try:
            growing.rename(self._inbox / name)
        except FileNotFoundError:
            self.figures.broken.append(name)
        if growing.parent != self._inbox:
            growing.parent.rmdir()
        if tool.beside:
            (self._inbox / tool.beside.format(name=name)).unlink(missing_ok=True)
        self._ended_s[name] = self._clock()

    def _look_until(self, at_s: float) -> None:
        """Look through the folder about twice a second, as after hints."""
        while (now_s := self._clock()) < at_s:
            for parts, _ in self._intake.take():
                self._judge(parts)
            self._clock.wait_until(min(at_s, now_s + self._random.uniform(0.1, 0.9)))

    def _judge(self, parts: tuple[str, ...]) -> None:
        name = "/".join(parts)
        content = self._inbox.joinpath(*self._claims.place(parts)).read_bytes()
        is_whole = content == self._whole.get(name)
        may_be_taken = name in self._ended_s or TOOLS[int(name[:4]) % len(TOOLS)].gives_no_word
        if not is_whole or not may_be_taken:
            self.figures.early.append(name)
        self.figures.taken.append(name)
        if name in self._ended_s:
            self.figures.waited_s.append(self._clock() - self._ended_s[name])


def main() -> None:
    """Run uploads in real time and print what became of them."""
    parser = argparse.ArgumentParser(description="uploads of common tools into a watched folder, in real time")
    parser.add_argument("--uploads", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="captiond-uploads-"))
    try:
        figures = Simulation(folder, RealClock(), uploads=given.uploads, seed=given.seed).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    waited_s = sorted(figures.waited_s)
    print(f"{figures.uploads} uploads by {len(TOOLS)} tools: {len(figures.early)} early, {figures.lost} lost,")
    print(f"{len(figures.broken)} broken; the longest wait after an upload's end was {waited_s[-1]:.1f} s.")
    raise SystemExit(bool(figures.early or figures.lost or figures.broken))


if __name__ == "__main__":
    main()
