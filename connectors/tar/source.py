"""Clips from a tar archive: its members one by one, each copied into the spool when its turn has come.

Their positions are in a journal of our own. The archive is only read. What is appended to it while it is watched comes
too; an archive that replaces it is another one. A member that is no clip (a link, a name that leads out, a truncated
one) is a clip that refuses to open, and so is the rest of an archive that can't be read further: each ends as every
clip does, with its reason.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from connectors.contract import Clip, ClipPosition, Delivery, Progress, Quarantine, Reporting
from connectors.errors import ConfigurationError, Poison, Reason
from connectors.files.journal import JournalFile
from connectors.folder.patterns import parse_pattern
from connectors.media.spool import Spool
from connectors.media.tar_member import MemberMedia, TarMember, tar_members
from connectors.tar.open_member import member_id
from connectors.tar.settings import TarSourceSettings

log = logging.getLogger(__name__)

_HEAD = {"version": 1, "kind": "tar"}
_SPOOL_BYTES = 2**29  # where the caller gives no spool
_Signature = tuple[int, int, int, int]  # inode, size, mtime_ns, ctime_ns


@dataclass(slots=True)
class _Clip:
    """A member that is in flight."""

    clip_id: str
    name: str
    position: ClipPosition


class TarSource(Reporting):
    """A :class:`connectors.contract.Source` over one archive; its positions are kept in ``state_dir``."""

    def __init__(
        self,
        name: str,
        settings: TarSourceSettings,
        state_dir: Path,
        *,
        spool: Spool | None = None,
        max_clip_bytes: int = 2**31,
        once: bool = False,
    ) -> None:
        self.name = name
        self._spool = spool or Spool(state_dir / "spool", _SPOOL_BYTES)
        self._settings, self._max_clip_bytes, self._once = settings, max_clip_bytes, once
        self._pattern = parse_pattern(settings.pattern)
        self._journal = JournalFile(state_dir / f"{name}.tar.journal", _HEAD, key=f"sources.{name}")
        self._is_open = False
        self._positions: dict[str, ClipPosition] = {}
        self._finished: set[str] = set()
        self._working: dict[str, _Clip] = {}  # by clip_id
        self._archives: list[BinaryIO] = []
        self._read: _Signature | None = None  # the archive as it was when it was read to its end
        self._draining, self._wake = False, asyncio.Event()

    @property
    def waiting_for(self) -> str:
        return self._journal.waiting_for

    @property
    def counters(self) -> dict[str, int]:
        """What was counted since the start: bytes of members copied into the spool."""
        return {"spooled_bytes": self._spool.received_bytes}

    @property
    def held_bytes(self) -> int:
        """Bytes of members in the spool."""
        return self._spool.held_bytes

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """Yield each member once, in the archive's order."""
        if not self._draining:
            await asyncio.to_thread(self._open)
        while not self._draining:
            signature = await self._settled()
            if signature is None and self._once and not self._draining:
                raise ConfigurationError(f"there is no {self._settings.path}", path=f"sources.{self.name}.path")
            members = self._members() if signature is not None and signature != self._read else iter(())
            while not self._draining and (member := await asyncio.to_thread(next, members, None)) is not None:
                delivery = self._delivery(member)
                if delivery is not None and await self._name_is_free(member.name):
                    self._working[delivery.clip.clip_id] = _clip_of(delivery)
                    yield delivery
            if self._once or self._draining:
                return
            self._read = signature or self._read
            await self._pause(self._settings.scan_s)

    def _open(self) -> None:
        """Read the journal; a second opening finds it read."""
        if self._is_open:
            return
        self._journal.path.parent.mkdir(parents=True, exist_ok=True)
        for entry in self._journal.open():
            match entry:
                case {"done": str(clip_id)}:
                    self._finished.add(clip_id)
                    self._positions.pop(clip_id, None)
                case {"clip": str(clip_id), "next_window": int(at), "plan_hash": plan, "suspicion": int(suspicion)}:
                    known = plan if isinstance(plan, str) else None
                    self._positions[clip_id] = ClipPosition(at, known, Quarantine.after(suspicion))
        self._is_open = True

    def _signature(self) -> _Signature | None:
        try:
            status = self._settings.path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    async def _settled(self) -> _Signature | None:
        """Return the archive's state once a standstill was seen; None where it is not there, or a drain comes first."""
        first = before = self._signature()
        if first is None or first == self._read:
            return first
        since_s = time.monotonic()
        while not self._draining and before is not None:
            age_s = time.monotonic() - since_s  # its time stamp is another machine's and says nothing
            if age_s >= self._settings.settle_s:
                return before
            await self._pause(self._settings.settle_s - age_s)
            now = self._signature()
            if now != before:
                before, since_s = now, time.monotonic()
        return None

    def _members(self) -> Iterator[TarMember]:
        """Yield the members that fit the pattern, and the archive's fault as one more where its rest can't be read."""
        try:
            archive = self._settings.path.open("rb")
        except OSError as error:
            raise ConfigurationError(
                f"{self._settings.path} can't be opened: {error.strerror}", path=f"sources.{self.name}.path"
            ) from error
        self._archives.append(archive)
        try:
            for member in tar_members(archive, max_clip_bytes=self._max_clip_bytes):
                if self._pattern.fits(member.name.split("/")):
                    yield member
        except Poison as fault:
            yield self._rest(archive, fault)
        except Exception as error:  # the one boundary around members: what nobody foresaw in them is a refusal
            log.exception("The rest of %s can't be understood.", self._settings.path.name)
            detail = f"the rest of the archive is not understood: {type(error).__name__}"
            yield self._rest(archive, Poison(Reason.MALFORMED, detail, origin="source"))

    def _rest(self, archive: BinaryIO, fault: Poison) -> TarMember:
        """Return what stands for the members that can't be read."""
        status, name = os.fstat(archive.fileno()), self._settings.path.name
        return TarMember(archive, name, status.st_size, -1, self._max_clip_bytes, fault, status.st_mtime)

    def _delivery(self, member: TarMember) -> Delivery | None:
        """Return a member's delivery; None for one that is finished or in flight."""
        clip_id = member_id(self.name, self._settings.path, member)
        if clip_id in self._finished or clip_id in self._working:
            return None
        position = self._positions.get(clip_id, ClipPosition())
        clip = Clip(clip_id, self.name, MemberMedia(member, self._spool), time.time_ns())
        return Delivery(clip, position, _Clip(clip_id, member.name, position))

    async def _name_is_free(self, name: str) -> bool:
        """Wait until no other member of the same name is in flight, for both go to the same files; False at a drain."""
        while not self._draining and any(clip.name == name for clip in self._working.values()):
            await self._pause(None)
        return not self._draining

    async def _pause(self, seconds: float | None) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def settle(self, progress: Progress) -> None:
        """Make the position durable, or with ``last`` that the clip is done."""
        clip = _clip_of(progress.delivery)
        if self._working.get(clip.clip_id) is not clip:
            return  # settled before
        if progress.last:
            await self._journal.write({"done": clip.clip_id}, "Writing a position")
            self._finished.add(clip.clip_id)
            del self._working[clip.clip_id]
            self._wake.set()
            return
        await self._keep(clip, clip.position.moved(progress.next_window, progress.plan_hash))

    async def quarantine(self, delivery: Delivery) -> None:
        """Raise the quarantine, in the journal."""
        clip = _clip_of(delivery)
        await self._keep(clip, clip.position.quarantined())

    async def _keep(self, clip: _Clip, position: ClipPosition) -> None:
        entry = {"clip": clip.clip_id, "next_window": position.next_window, "plan_hash": position.plan_hash}
        await self._journal.write({**entry, "suspicion": position.quarantine}, "Writing a position")
        clip.position = self._positions[clip.clip_id] = position

    async def drain(self) -> None:
        self._draining = True
        self._wake.set()

    async def close(self) -> None:
        """Close the archive and the journal: what is not finished is there for the next daemon."""
        await self.drain()
        self.abandon()

    def abandon(self) -> None:
        """Let go as a killed program does. For tests of recovery."""
        self._draining = True
        self._journal.close()
        while self._archives:
            self._archives.pop().close()


def _clip_of(delivery: Delivery) -> _Clip:
    if not isinstance(delivery.handle, _Clip):
        raise TypeError(f"{delivery!r} is not a tar source's")
    return delivery.handle
