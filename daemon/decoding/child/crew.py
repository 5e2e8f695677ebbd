"""Threads beside the one that reads a clip's packets: each scales frames, and decodes groups of pictures of its own."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from threading import Semaphore
from typing import Any

from daemon.decoding.child.open_window import Places, fill
from daemon.decoding.child.pixels import Converter
from daemon.decoding.child.stream.decoder import DamageError
from daemon.decoding.child.stream.groups import Group, GroupDecoder


@dataclass(slots=True)
class _Hand:
    """What one thread at a time works with."""

    converter: Converter
    decoder: GroupDecoder | None = None


@dataclass(frozen=True, slots=True)
class _Given:
    """A frame that is being written: ``shown`` is what came of it, None where its group is damaged."""

    places: Places
    shown: Future[int | None]


class Crew:
    """So many threads. ``write(converter, shown, *outs)`` writes a frame and returns its index."""

    def __init__(
        self,
        size: int,
        new_converter: Callable[[], Converter],
        new_decoder: Callable[[], GroupDecoder],
        write: Callable[..., int],
    ) -> None:
        self._new_decoder, self._write = new_decoder, write
        self._hands = [_Hand(new_converter()) for _ in range(size)]
        self._threads = ThreadPoolExecutor(size)
        self._room = Semaphore(2 * size)  # each piece of work holds a frame, or the packets of a group
        self._free = SimpleQueue[_Hand]()
        for hand in self._hands:
            self._free.put(hand)
        self._given: dict[int, _Given] = {}
        self._groups: list[Future[None]] = []
        self.found_damage = False

    @property
    def size(self) -> int:
        """How many threads it has."""
        return len(self._hands)

    @property
    def decoders(self) -> int:
        """How many decoders it has."""
        return sum(hand.decoder is not None for hand in self._hands)

    @property
    def busy(self) -> int:
        """How many groups are being decoded, or wait for it."""
        self._groups = [group for group in self._groups if not group.done()]
        return len(self._groups)

    def has(self, frame_index: int, places: Places) -> bool:
        """Return whether a frame is being written into just these places. Into others it is written once more."""
        given = self._given.get(frame_index)
        if given is None:
            return False
        if list(given.places) == list(places):
            return True
        self.shown_by(frame_index)
        return False

    def shown_by(self, frame_index: int) -> int | None:
        """Wait for a frame; return which one its places show, -1 for none, None where its group is damaged."""
        return self._given.pop(frame_index).shown.result()

    def give_frame(self, frame_index: int, shown: tuple[int, Any] | None, places: Places) -> None:
        """Have a decoded frame written, as soon as there is room."""
        self._room.acquire()
        given = self._given[frame_index] = _Given(places, Future())
        self._submit(partial(self._write_frame, given, shown))

    def give_group(self, read: Callable[[], Group], due: Mapping[int, Places], *, wait: bool) -> bool:
        """Have a group read, and then decoded and its frames written; False without room and a ``wait`` for it."""
        if not self._room.acquire(blocking=wait):
            return False
        try:
            group = read()
            for hand in self._hands:
                hand.decoder = hand.decoder or self._new_decoder()
        except BaseException:
            self._room.release()
            raise
        given = {i: _Given(due[i], Future()) for i in group.frames.values()}
        self._given |= given
        self._groups.append(self._submit(partial(self._write_group, group, given)))
        return True

    def close(self) -> None:
        """Wait for what is being done, drop what is not, and let go of the threads."""
        self._threads.shutdown(cancel_futures=True)

    def _submit(self, work: Callable[[_Hand], None]) -> Future[None]:
        future = self._threads.submit(self._do, work)
        future.add_done_callback(lambda _: self._room.release())
        return future

    def _do(self, work: Callable[[_Hand], None]) -> None:
        hand = self._free.get()
        try:
            work(hand)
        finally:
            self._free.put(hand)

    def _write_frame(self, given: _Given, shown: tuple[int, Any] | None, hand: _Hand) -> None:
        try:
            given.shown.set_result(
                -1 if shown is None else fill(given.places, partial(self._write, hand.converter, shown))
            )
        except BaseException as error:
            given.shown.set_exception(error)

    def _write_group(self, group: Group, given: Mapping[int, _Given], hand: _Hand) -> None:
        try:
            for frame_index, frame in hand.decoder.wanted_in(group) if hand.decoder is not None else ():
                self._write_frame(given[frame_index], (frame_index, frame), hand)
        except DamageError:
            self.found_damage = True
        finally:
            for one in given.values():
                if not one.shown.done():
                    one.shown.set_result(None)
