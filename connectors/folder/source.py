"""Clips from a watched folder: found by scanning, claimed by rename, ended in ``done/`` or ``failed/``."""

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial

from connectors.contract import Clip, ClipPosition, Delivery, Progress, Reporting, clip_id_of
from connectors.errors import ConfigurationError, Poison, Reason
from connectors.files.durable import DiskPatience
from connectors.files.faults import can_pass
from connectors.folder.claims import FolderClaims
from connectors.folder.intake import FolderIntake
from connectors.folder.listing import Parts
from connectors.folder.positions import FolderPositions
from connectors.folder.settings import FolderSourceSettings
from connectors.folder.watch import watch_folder
from connectors.media.file import FileMedia
from connectors.media.refused import RefusedMedia

log = logging.getLogger(__name__)

_RETRY_S = 5.0  # after a scan that failed: work goes on within 10 s after the folder is back


@dataclass(eq=False)
class _Claim:
    """A clip that is ours until it is settled or given back."""

    parts: Parts
    position: ClipPosition = field(default_factory=ClipPosition)


class FolderSource(Reporting):
    """A :class:`connectors.contract.Source` over a folder. Clips are claimed one by one, as they are asked for."""

    def __init__(
        self, name: str, settings: FolderSourceSettings, *, max_clip_bytes: int = 2**31, once: bool = False
    ) -> None:
        self.name = name
        self._settings, self._max_clip_bytes, self._once = settings, max_clip_bytes, once
        self._claims, self._positions = FolderClaims(settings.path), FolderPositions(settings.path)
        self._intake = FolderIntake(settings, self._claims)
        self._patience, self._scan_fault = DiskPatience(), ""
        self._claimed: dict[Parts, _Claim] = {}
        self._unmoved: dict[Parts, Progress] = {}  # clips that are finished and can't be moved
        self._step_lock = threading.Lock()  # a step in a thread may outlive the task that asked for it
        self._pass: Iterator[Delivery] | None = None
        self._waiting: int | None = None  # files in the folder, when they were last counted, less what was taken since
        self._draining, self._taken_over = False, 0
        self._wake, self._stop = asyncio.Event(), asyncio.Event()

    @property
    def waiting_for(self) -> str:
        return self._scan_fault or self._patience.waiting_for

    @property
    def counters(self) -> dict[str, int]:
        """Clips taken over from instances that died, and files that were left where they are."""
        return {"taken_over": self._taken_over, "left": self._intake.left.total}

    @property
    def lag(self) -> dict[tuple[str, str], int]:
        """The files that wait in the folder, under the empty topic and partition; they are counted each ``scan_s``."""
        return {} if self._waiting is None else {("", ""): self._waiting}

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """Yield clips as they become whole, those that dead instances left first."""
        if self._draining:
            return
        watcher, counter = self._start_watching(), asyncio.create_task(self._count(), name=f"count {self.name}")
        try:
            while not self._draining:
                self._wake.clear()
                while (delivery := await self._next()) is not None:
                    yield delivery
                if self._draining or (
                    self._once and not self._scan_fault and not self._intake.still_expects(self._in_work())
                ):
                    return
                await self._pause()
        finally:
            counter.cancel()
            self._stop.set()
            if watcher is not None:
                await watcher

    def _start_watching(self) -> "asyncio.Task[None] | None":
        if self._once:
            return None
        watch = watch_folder(self._settings.path, self._wake.set, self._stop, self._settings.scan_s)
        return asyncio.create_task(watch, name=f"watch {self.name}")

    async def _count(self) -> None:
        """Count what waits, apart from the passes: a pass over a full folder takes as long as its clips do."""
        while not self._once:
            with suppress(OSError):  # the pass says so
                self._waiting = await asyncio.to_thread(self._intake.count)
            await asyncio.sleep(self._settings.scan_s)

    async def _next(self) -> Delivery | None:
        """Return the next delivery of this pass; None at its end. A delivery that a drain overtakes is given back."""
        if self._draining:
            return None
        try:
            delivery = await asyncio.to_thread(self._step)
        except OSError as error:
            reason = error.strerror or str(error)
            if self._once and not can_pass(error):
                raise ConfigurationError(f"nothing can be taken: {reason}", path=f"sources.{self.name}.path") from error
            if not self._scan_fault:
                log.warning("Source %s can't be scanned and waits: %s.", self.name, reason)
            self._scan_fault = f"the folder: {reason}"
            return None
        self._scan_fault = ""
        return None if self._draining else delivery

    def _step(self) -> Delivery | None:
        with self._step_lock:
            if self._draining:
                return None
            try:
                if self._pass is None:
                    self._claims.open()
                    self._pass = self._deliver_all()
                delivery = next(self._pass, None)
            except OSError:
                self._pass = None
                raise
            if delivery is None:
                self._pass = None
            return delivery

    def _deliver_all(self) -> Iterator[Delivery]:
        """Claim and yield all that is whole now, in one pass."""
        for parts, status in self._claims.take_over():
            self._taken_over += 1
            if parts not in self._claimed:  # it is, where the folder went away for a while and our lock with it
                yield from self._deliver(parts, status)
        for parts, progress in list(self._unmoved.items()):
            self._end(progress, self._claimed[parts])
        for parts, status in self._intake.take():
            self._waiting = max(self._waiting - 1, 0) if self._waiting is not None else None
            yield from self._deliver(parts, status)

    def _deliver(self, parts: Parts, status: os.stat_result) -> Iterator[Delivery]:
        """Yield a claimed clip. This is the one boundary around an entry: what nobody foresaw in it is a refusal."""
        claim = self._claimed[parts] = _Claim(parts)
        try:
            clip = self._received(parts, status)
            claim.position = self._positions.load(clip.clip_id)
        except (OSError, MemoryError):
            raise
        except Exception as error:
            log.exception("%s can't be understood.", "/".join(parts))
            detail = f"the entry is not understood: {type(error).__name__}"
            refused = RefusedMedia("/".join(parts), Poison(Reason.MALFORMED, detail, origin="source"))
            clip = Clip(clip_id_of(self.name, *parts), self.name, refused, time.time_ns())
        yield Delivery(clip, claim.position, claim)

    def _received(self, parts: Parts, status: os.stat_result) -> Clip:
        place = self._claims.place(parts)
        media = FileMedia.of(status, self._settings.path, place, self._max_clip_bytes, "/".join(parts))
        clip_id = clip_id_of(self.name, *parts, str(media.size_bytes), str(media.mtime_ns))
        return Clip(clip_id, self.name, media, time.time_ns())

    async def _pause(self) -> None:
        """Wait for a hint, for a file to have stood still, or for the next full scan."""
        due_s = self._intake.next_due_s
        limits = [] if due_s is None else [due_s]
        limits += [] if self._once else [self._settings.scan_s]
        limits += [_RETRY_S] if self._scan_fault else []
        try:
            async with asyncio.timeout(min(limits, default=None)):
                await self._wake.wait()
        except TimeoutError:
            return

    async def settle(self, progress: Progress) -> None:
        """Make the position durable: a small file beside the claims, or with ``last`` the clip's end.

        1. With a rejection, the reason file is written. 2. The clip is renamed into ``done/`` or ``failed/``.
        3. The position is removed; where a crash prevents that, it fits no other clip.
        """
        claim = _claim_of(progress.delivery)
        clip_id = progress.delivery.clip.clip_id
        if self._claimed.get(claim.parts) is not claim:
            return  # settled before
        if progress.last:
            await self._patience.run(partial(self._end, progress, claim), "Moving a clip", clip_id=clip_id)
            if self._intake.blocks(claim.parts):
                self._wake.set()
            return
        await self._keep(claim, clip_id, claim.position.moved(progress.next_window, progress.plan_hash))

    async def _keep(self, claim: _Claim, clip_id: str, position: ClipPosition) -> None:
        save = partial(self._positions.save, clip_id, position)
        await self._patience.run(save, "Saving a position", clip_id=clip_id)
        claim.position = position

    def _end(self, progress: Progress, claim: _Claim) -> None:
        """Move a clip to where it ends; one that only a person can let be moved stays claimed, and is tried again."""
        clip = progress.delivery.clip
        try:
            self._move(progress, claim)
        except OSError as error:
            if can_pass(error):
                raise
            if claim.parts not in self._unmoved:
                self._unmoved[claim.parts] = progress
                text = "%s is finished and stays in work, for it can't be moved: %s."
                log.warning(text, clip.media.name, error.strerror, extra={"clip_id": clip.clip_id})
                with suppress(OSError):  # where it is delivered again, nothing is left to do
                    self._positions.save(clip.clip_id, claim.position.moved(progress.next_window, progress.plan_hash))
            return
        self._unmoved.pop(claim.parts, None)
        if self._claimed.get(claim.parts) is claim:
            del self._claimed[claim.parts]

    def _move(self, progress: Progress, claim: _Claim) -> None:
        clip, rejection, reason = progress.delivery.clip, progress.rejection, None
        if rejection is not None:
            reason = json.dumps(asdict(rejection) | {"next_window": progress.next_window}, indent=2).encode() + b"\n"
        outcome = "done" if rejection is None else "failed"
        if not self._claims.finish(claim.parts, outcome, reason, clip.clip_id):  # 1 and 2
            log.warning(
                "%s is gone and can't be moved to %s.", clip.media.name, outcome, extra={"clip_id": clip.clip_id}
            )
        self._positions.remove(clip.clip_id)  # 3

    def _in_work(self) -> set[Parts]:
        """The claims that end by themselves."""
        return self._claimed.keys() - self._unmoved.keys()

    async def quarantine(self, delivery: Delivery) -> None:
        """Raise the quarantine, in the position that the clip keeps through takeovers."""
        claim = _claim_of(delivery)
        await self._keep(claim, delivery.clip.clip_id, claim.position.quarantined())

    async def drain(self) -> None:
        self._draining = True
        self._wake.set()

    async def close(self) -> None:
        """Rename unfinished clips back into the folder, then unlock. What can't be renamed is taken over later."""
        await self.drain()
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._step_lock:
            self._pass = None
            for parts in sorted(self._claimed):
                try:
                    if not self._claims.give_back(parts):
                        log.warning("%s stays in work: another of its name came meanwhile.", "/".join(parts))
                except OSError as error:
                    log.warning("%s stays in work: %s.", "/".join(parts), error.strerror)
            self._claimed.clear()
            self._claims.close()

    def abandon(self) -> None:
        """Let go as a killed program does: claims stay, unlocked. For tests of recovery."""
        self._draining = True
        self._claims.abandon()


def _claim_of(delivery: Delivery) -> _Claim:
    if not isinstance(delivery.handle, _Claim):
        raise TypeError(f"{delivery!r} is not a folder source's")
    return delivery.handle
