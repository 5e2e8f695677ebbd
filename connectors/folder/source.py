"""Clips from a watched folder: found by scanning, claimed by rename, ended in ``done/`` or ``failed/``."""

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial

from connectors.contract import Clip, ClipPosition, Delivery, Progress, Reporting, clip_id_of
from connectors.errors import Poison, Transient
from connectors.files.durable import DiskPatience
from connectors.folder.claims import FolderClaims
from connectors.folder.positions import FolderPositions
from connectors.folder.scan import FolderScan, Parts
from connectors.folder.settings import FolderSourceSettings
from connectors.folder.watch import watch_folder
from connectors.media.file import FileMedia

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
        self._scan = FolderScan(settings.path, settings.pattern, settings.settle_s)
        self._patience, self._scan_fault = DiskPatience(), ""
        self._claimed: dict[Parts, _Claim] = {}
        self._blocked: set[Parts] = set()  # an earlier clip of the same name is in work
        self._expected: set[Parts] | None = None  # with once, after the first pass: what is still waited for
        self._settled_by_s = 0.0
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
        """The count of clips taken over from instances that died."""
        return {"taken_over": self._taken_over}

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
                if self._draining or (self._once and not self._scan_fault and not self._still_expects()):
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
                self._waiting = await asyncio.to_thread(self._scan.count)
            await asyncio.sleep(self._settings.scan_s)

    async def _next(self) -> Delivery | None:
        """Return the next delivery of this pass; None at its end. A delivery that a drain overtakes is given back."""
        if self._draining:
            return None
        try:
            delivery = await asyncio.to_thread(self._step)
        except OSError as error:
            reason = error.strerror or str(error)
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
        for parts in self._claims.take_over():
            self._taken_over += 1
            if parts not in self._claimed:  # it is, where the folder went away for a while and our lock with it
                yield from self._deliver(parts)
        self._blocked.clear()
        for parts in self._scan.whole_files():
            if self._expected is not None and parts not in self._expected:
                continue
            if self._claims.is_claimed(parts):
                self._blocked.add(parts)
            elif self._claims.claim(parts):
                self._waiting = max(self._waiting - 1, 0) if self._waiting is not None else None
                yield from self._deliver(parts)

    def _deliver(self, parts: Parts) -> Iterator[Delivery]:
        claim = self._claimed[parts] = _Claim(parts)
        try:
            place = self._claims.place(parts)
            media = FileMedia.received(self._settings.path, place, self._max_clip_bytes, "/".join(parts))
        except (Poison, Transient) as fault:
            del self._claimed[parts]
            log.warning("Not delivered: %s.", fault.detail)  # it went away between its claim and here
            return
        clip_id = clip_id_of(self.name, *parts, str(media.size_bytes), str(media.mtime_ns))
        claim.position = self._positions.load(clip_id)
        clip = Clip(clip_id, self.name, media, time.time_ns())
        yield Delivery(clip, claim.position, claim)

    def _still_expects(self) -> bool:
        """Whether a run that ends by itself waits: for files to stand still once, and for names to become free."""
        unsettled = set(self._scan.unsettled)
        ours = {parts for parts in self._blocked if parts in self._claimed}
        if self._expected is None:
            self._settled_by_s = time.monotonic() + self._settings.settle_s
        elif unsettled and time.monotonic() >= self._settled_by_s:
            for parts in sorted(unsettled):
                log.warning("%s is still being written to: it is left for the next run.", "/".join(parts))
            unsettled = set()
        self._expected = unsettled | ours
        return bool(self._expected)

    async def _pause(self) -> None:
        """Wait for a hint, for a file to have stood still, or for the next full scan."""
        due_s = self._scan.next_due_s
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
            await self._patience.run(partial(self._finish, progress, claim), "Moving a clip", clip_id=clip_id)
            del self._claimed[claim.parts]
            if claim.parts in self._blocked:
                self._wake.set()
            return
        await self._keep(claim, clip_id, claim.position.moved(progress.next_window, progress.plan_hash))

    async def _keep(self, claim: _Claim, clip_id: str, position: ClipPosition) -> None:
        save = partial(self._positions.save, clip_id, position)
        await self._patience.run(save, "Saving a position", clip_id=clip_id)
        claim.position = position

    def _finish(self, progress: Progress, claim: _Claim) -> None:
        clip, rejection, reason = progress.delivery.clip, progress.rejection, None
        if rejection is not None:
            reason = json.dumps(asdict(rejection) | {"next_window": progress.next_window}, indent=2).encode() + b"\n"
        outcome = "done" if rejection is None else "failed"
        if not self._claims.finish(claim.parts, outcome, reason, clip.clip_id):  # 1 and 2
            log.warning(
                "%s is gone and can't be moved to %s.", clip.media.name, outcome, extra={"clip_id": clip.clip_id}
            )
        self._positions.remove(clip.clip_id)  # 3

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
