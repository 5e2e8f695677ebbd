"""NeVA's prompt file as a source, and its output file as a sink.

A prompt file is a list of records (``.json``) or one record a line (``.jsonl``); each names a video or an image and
asks something about it, and becomes one clip. Answers come in any order and are durable at once, in a journal beside
the output; when the last one is there, the output is written whole, in the order of the prompts.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from connectors.contract import (
    Caption,
    Clip,
    ClipPosition,
    Delivery,
    Progress,
    Quarantine,
    Rejection,
    Reporting,
    clip_id_of,
)
from connectors.errors import ConfigurationError, Poison, Reason, Transient
from connectors.files.durable import DiskPatience, write_whole
from connectors.media.file import FileMedia
from connectors.media.protocols import Media
from connectors.media.refused import RefusedMedia
from connectors.media.tar_member import TarMember, tar_members
from connectors.prompt_file.answer_journal import AnswerJournal

MAX_FILE_BYTES = 256 * 2**20  # of prompts; a million questions of 200 characters have as many
_KEY = "prompt_file"

Record = Mapping[str, Any]
Compose = Callable[[int, Caption | None, Rejection | None], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Question:
    """A record of a prompt file, and what is asked: the ``text`` that goes to the model about ``media``."""

    number: int
    record: Record
    media: str
    text: str


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return a prompt file's records in order; blank lines count for nothing.

    Raises:
        ConfigurationError: it can't be read, or is not what its suffix says.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigurationError(f"{path} has more than {MAX_FILE_BYTES:,} bytes", path=_KEY)
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}", path=_KEY) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8: {error.reason} at byte {error.start}", path=_KEY) from error
    if path.suffix == ".jsonl":
        numbered = [(f"line {at}", line) for at, line in enumerate(text.split("\n"), 1) if line.strip()]
        records = [(where, _parse(line, f"{where} of {path}")) for where, line in numbered]
    elif path.suffix == ".json":
        whole = _parse(text, str(path))
        if not isinstance(whole, list):
            raise ConfigurationError(f"{path} holds no list of records", path=_KEY)
        records = [(f"record {at}", record) for at, record in enumerate(whole, 1)]
    else:
        raise ConfigurationError(f"{path} is neither .jsonl nor .json", path=_KEY)
    for where, record in records:
        if not isinstance(record, dict):
            raise ConfigurationError(f"{where} of {path} is no object", path=_KEY)
    return [record for _, record in records]


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{where} is not JSON: {error}", path=_KEY) from error


@dataclass
class MediaShelf:
    """The media that records name, in a folder or in a tar archive, which is read member by member."""

    base: Path
    max_clip_bytes: int
    key: str = "inference.media_base_path"  # what the user calls it
    _members: dict[str, TarMember] = field(default_factory=dict)
    _open: ExitStack = field(default_factory=ExitStack)

    def open(self) -> None:
        """Look at the folder, or at the archive's names; :class:`ConfigurationError` where there is neither."""
        if self.base.is_dir():
            return
        if not self.base.is_file():
            raise ConfigurationError(f"{self.base} is neither a folder nor a tar", path=self.key)
        archive = self._open.enter_context(self.base.open("rb"))
        try:
            for member in tar_members(archive, max_clip_bytes=self.max_clip_bytes):
                self._members.setdefault(member.name, member)
        except Poison as fault:
            self._open.close()
            raise ConfigurationError(f"{self.base}: {fault.detail}", path=self.key) from fault

    def close(self) -> None:
        """Close the archive."""
        self._open.close()

    def media(self, name: str) -> Media:
        """Return the media of that name; what can't be had says why when it is opened.

        A name never leads out of the folder; links inside it are the folder's owner's, and are followed.
        """
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\0" in name:
            return _refused(name, Poison(Reason.FORBIDDEN_PATH, f"{name!r} leads out of the media's folder"))
        if self._members or not self.base.is_dir():
            member = self._members.get(pure.as_posix())
            return member or _refused(name, Poison(Reason.VANISHED, f"the archive holds no {name}"))
        place = (self.base / pure).resolve()
        try:
            return FileMedia.received(place.parent, (place.name,), self.max_clip_bytes, name)
        except (Poison, Transient) as fault:
            return _refused(name, fault)


def _refused(name: str, fault: Poison | Transient) -> RefusedMedia:
    fault.origin = "source"
    return RefusedMedia(name, fault)


class PromptFileSource(Reporting):
    """A :class:`connectors.contract.Source`: one clip a question, but for those answered.

    Questions about the same media follow each other, so that its frames need not be read again; else they are in order.
    """

    def __init__(self, name: str, questions: Sequence[Question], shelf: MediaShelf, journal: AnswerJournal) -> None:
        self.name = name
        self._questions, self._shelf, self._journal = questions, shelf, journal
        self._draining = False

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """Yield what is not answered yet."""
        for question in self._waiting():
            if self._draining:
                return
            identity = json.dumps([self.name, question.number, question.record], sort_keys=True, default=str)
            clip_id = clip_id_of(identity)
            media = self._shelf.media(question.media)
            clip = Clip(clip_id, self.name, media, time.time_ns(), {"prompt": question.text, "media": question.media})
            quarantine = Quarantine.after(self._journal.deaths[question.number])
            yield Delivery(clip, ClipPosition(quarantine=quarantine), question.number)

    def _waiting(self) -> Iterator[Question]:
        together: dict[str, list[Question]] = {}
        for question in self._questions:
            if question.number not in self._journal.answers:
                together.setdefault(question.media, []).append(question)
        return chain.from_iterable(together.values())

    async def settle(self, progress: Progress) -> None:
        """Nothing is left to do: the journal's entry is the position."""

    async def quarantine(self, delivery: Delivery) -> None:
        """Raise the quarantine, in the journal."""
        await self._journal.engine_died(_number_of(delivery))

    async def drain(self) -> None:
        """Yield nothing more."""
        self._draining = True

    async def close(self) -> None:
        """Close the media's archive."""
        self._shelf.close()


class PromptFileSink(Reporting):
    """A :class:`connectors.contract.Sink`: the journal, then the output file.

    ``compose(number, caption, rejection)`` makes a record's output; a record has a caption, a rejection, or both.
    ``failed`` counts the rejected ones.
    """

    def __init__(self, output: Path, journal: AnswerJournal, count: int, compose: Compose) -> None:
        self._output, self._journal, self._count, self._compose = output, journal, count, compose
        self._captions: dict[int, Caption] = {}
        self._patience, self._turn = DiskPatience(), asyncio.Lock()
        self.failed = 0
        self.is_complete = False

    async def write(self, progress: Progress) -> None:
        """Make a finished record's answer durable, and with the last one the output.

        1. The answer goes into the journal. 2. When every record has one, the output is written whole and renamed into
        place. 3. The journal is removed. A crash between the two last steps writes the same output again.
        """
        number = _number_of(progress.delivery)
        for caption in progress.captions:
            self._captions[number] = caption
        if not progress.last:
            return
        said = self._captions.pop(number, None)
        failed = progress.rejection is not None or (said is not None and said.status == "error")
        self.failed += failed
        record = self._compose(number, said, progress.rejection)
        await self._journal.answer(number, record, keep=not failed)  # 1
        await self.finish()

    async def finish(self) -> None:
        """Write the output where every record has its answer."""
        async with self._turn:
            if self.is_complete or len(self._journal.answers) < self._count:
                return
            records = [self._journal.answers[number] for number in range(self._count)]
            data = render_records(records, as_list=self._output.suffix == ".json")
            await self._patience.run(lambda: _write_output(self._output, data), "Writing the output")  # 2
            self._journal.remove()  # 3
            self.is_complete = True

    async def close(self) -> None:
        """Close the journal; it stays where the job is not done."""
        self._journal.close()


def _number_of(delivery: Delivery) -> int:
    if not isinstance(delivery.handle, int):
        raise TypeError(f"{delivery!r} is not a prompt file's")
    return delivery.handle


def render_records(records: Sequence[Record], *, as_list: bool) -> bytes:
    """Return records as NeVA writes them: a list with an indent of 2, or a record a line."""
    if as_list:
        return json.dumps(records, indent=2, ensure_ascii=False).encode()
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def _write_output(output: Path, data: bytes) -> None:
    folder = os.open(output.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        write_whole(folder, output.name, data)
    finally:
        os.close(folder)
