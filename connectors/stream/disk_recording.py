"""A stream's recording on disk, and the recorder that writes it: :class:`Recording` as the source gets it."""

import asyncio
import contextlib
import logging
import os
import time
from pathlib import Path
from typing import Any

from connectors.errors import ConfigurationError
from connectors.stream.index import INDEX, RELEASED
from connectors.stream.index_reader import IndexReader
from connectors.stream.recorder_process import RecorderProcess
from connectors.stream.recording import RecordedWindow, StreamState
from connectors.stream.settings import StreamSourceSettings
from connectors.stream.windows import assembled, parts_of

_LOOK_S = 0.5  # for more in the index, where no recorder of ours says that there is
_MAX_PASSWORD = 4096

log = logging.getLogger(__name__)


class DiskRecording:
    """The recording of the source ``name``, in a folder of its own below ``folder``: its recorder reaches no other.

    With ``for_others`` it is there for its recorder alone, which gives way to a daemon's and ends with this process.
    """

    def __init__(self, name: str, settings: StreamSourceSettings, folder: Path, *, for_others: bool = False) -> None:
        self.name, self._settings, self._folder = name, settings, folder / "recording"
        self._reader = IndexReader(self._folder / INDEX)
        self._changed = asyncio.Condition()
        self._heard = asyncio.Event()
        self._process = RecorderProcess(name, self._request, settings, self._heard.set, gives_way=for_others)
        self._follower: asyncio.Task[None] | None = None
        self._is_closed = False
        self._began_ns = time.time_ns()
        self._lost = 0
        self._connects = 0

    @property
    def first_ns(self) -> int | None:
        """The oldest time that can be read."""
        segments = self._reader.contents.segments
        return segments[0].start_ns if segments else None

    @property
    def latest_ns(self) -> int | None:
        """The time up to which everything is recorded or known to be missing."""
        return self._reader.contents.latest_ns

    @property
    def pid(self) -> int | None:
        """The recorder's process id while it runs."""
        return self._process.pid

    @property
    def is_at_work(self) -> bool:
        """Whether a recorder, its own or another's, was heard of and has not ended since."""
        return self._process.is_at_work

    @property
    def state(self) -> StreamState:
        """Whether the stream is connected, and since when; what was counted."""
        link, contents = self._reader.contents.link, self._reader.contents
        counters = {f"mended_{kind}": count for kind, count in contents.mended.items()}
        counters |= {"connects": self._connects, "recorder_starts": self._process.starts}
        if link is None:
            return StreamState(False, self._began_ns, "connecting", counters)
        return StreamState(link.is_connected, link.at_ns, link.reason, counters)

    async def start(self) -> None:
        """Read what was recorded before, and start the recorder."""
        await asyncio.to_thread(self._prepare)
        self._reader.read()
        await self._process.start()
        self._follower = asyncio.create_task(self._follow(), name=f"follow the recording of {self.name}")

    async def close(self) -> None:
        """End the recorder and wake whoever waits with :class:`asyncio.CancelledError`."""
        await self._process.close()
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.wait([self._follower])
        async with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    async def window(self, start_ns: int, exclusive_end_ns: int) -> RecordedWindow:
        """Wait until everything before the end is known, and return what was recorded of the window."""
        await self._until(exclusive_end_ns)
        for _ in range(3):
            parts = parts_of(self._reader.contents, start_ns, exclusive_end_ns)
            name = f"{self.name}/{start_ns // 10**6}"
            try:
                return await asyncio.to_thread(assembled, name, self._folder, parts, start_ns, exclusive_end_ns)
            except FileNotFoundError:  # thrown away meanwhile: the index says so, or soon will
                await asyncio.sleep(_LOOK_S)
                self._reader.read()
        self._lost += 1
        nothing = parts_of(self._reader.contents.without(parts.segments), start_ns, exclusive_end_ns)
        return assembled(self.name, self._folder, nothing, start_ns, exclusive_end_ns)

    async def release(self, until_ns: int) -> None:
        """Say that what lies before has its messages. The recorder deletes it; what a crash forgets is kept longer."""
        self._reader.forget(until_ns)
        await asyncio.to_thread(self._write_released, until_ns)

    def _write_released(self, until_ns: int) -> None:
        beside = self._folder / f".{RELEASED}"
        with contextlib.suppress(OSError):  # a full disk: the next release says it too
            beside.write_text(str(until_ns))
            beside.replace(self._folder / RELEASED)

    async def _until(self, end_ns: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._is_closed or (self.latest_ns or 0) >= end_ns)
        if self._is_closed:
            raise asyncio.CancelledError

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._heard.wait()
            self._heard.clear()
            before = self._reader.contents.link
            if not self._reader.read():
                continue
            self._say_link(before)
            async with self._changed:
                self._changed.notify_all()

    def _say_link(self, before: Any) -> None:
        link = self._reader.contents.link
        if link is None or link == before:
            return
        about = {"source": self.name}
        if link.is_connected:
            self._connects += 1
            log.info("The stream %s is there.", self.name, extra=about)
        else:
            log.warning("The stream %s is away: %s.", self.name, link.reason.replace("_", " "), extra=about)

    def _prepare(self) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for one in (self._folder, self._folder.parent):
                one.chmod(0o700)
        except OSError as error:
            message = f"{self._folder} can't be made: {error.strerror}"
            raise ConfigurationError(message, path="state_dir") from error
        self._read("ssl_cafile", self._settings.ssl_cafile)
        self._password()

    def _password(self) -> str | None:
        said = self._read("password_file", self._settings.password_file)
        return None if said is None else said[:_MAX_PASSWORD].strip("\r\n")

    def _read(self, key: str, path: Path | None) -> str | None:
        try:
            return None if path is None else path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise ConfigurationError(f"{path} can't be read: {reason}", path=f"sources.{self.name}.{key}") from error

    def _request(self) -> dict[str, Any]:
        settings = self._settings
        return {
            "url": settings.address(self._password()),
            "folder": str(self._folder),
            "transport": settings.transport,
            "ssl_verify": settings.ssl_verify,
            "ssl_cafile": "" if settings.ssl_cafile is None else str(settings.ssl_cafile.absolute()),
            "segment_s": settings.segment_s,
            "silence_s": settings.silence_s,
            "max_bytes": settings.max_disk,
            "parent": os.getpid(),
            "outlives": self._process.outlives,
            "required": True,
        }
