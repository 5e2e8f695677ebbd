"""The targets: what a stranger writes goes the product's own way to its end, and only a rejection may come out."""

import asyncio
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

from connectors.contract import Caption, CaptionStatus, Clip, ClipPosition, Delivery, Progress, WindowSpan
from connectors.errors import ConfigurationError, Poison, Transient
from connectors.folder.settings import FolderSinkSettings, FolderSourceSettings
from connectors.folder.sink import FolderSink
from connectors.folder.source import FolderSource
from connectors.kafka.client.workarounds import HeaderName, headers_with_nulls
from connectors.kafka.decoder import RecordDecoder
from connectors.kafka.encoder import records_of
from connectors.kafka.record import Headers, PendingCommit, SourceRecord
from connectors.kafka.replay import replay_headers
from connectors.kafka.replay_key import ReplayKey
from connectors.kafka.settings import KafkaSinkSettings, SendersMay
from connectors.media.protocols import Media
from connectors.media.reference import open_reference
from connectors.media.spool import Spool
from connectors.media.tar_member import MemberMedia, tar_members
from connectors.prompt_file.media_shelf import MediaShelf
from connectors.prompt_file.records import read_records
from daemon.decoding.clip_plan import windows_from_answers
from daemon.decoding.media import MediaLimits
from daemon.windows import NS_PER_S, FramePolicy, WindowPolicy
from neva.evaluate.records import read_questions
from neva.evaluate.settings import EvaluateSettings, InferenceSettings
from neva.media_settings import ModelSettings
from tests.fuzz.pieces import Pieces

SCRATCH = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
_KEY = ReplayKey(b"k" * 32)
_LIMITS = MediaLimits(max_pixels=2**23, max_duration_s=3600.0)
_WINDOWS = WindowPolicy(NS_PER_S, NS_PER_S, NS_PER_S // 2)
_SINK = KafkaSinkSettings(bootstrap_servers="127.0.0.1:9")


class _Read:
    """A record as the client returns it."""

    topic, partition, offset = "clips", 0, 7

    def __init__(self, key: bytes | None, value: bytes | None, headers: Headers, timestamp: int) -> None:
        self.key, self.value, self.headers, self.timestamp = key, value, list(headers), timestamp


def through_a_batch(key: bytes | None, value: bytes | None, headers: Headers) -> Any:
    """Return the record as the client reads it from a batch in which a producer has written it."""
    batch = MemoryRecordsBuilder(magic=2, compression_type=0, batch_size=2**24)
    batch.append(0, key, value, headers_with_nulls(headers))
    batch.close()
    (read,) = MemoryRecords(batch.buffer()).next_batch()
    return read


def record(data: bytes) -> None:
    """A Kafka record: its key, value and headers, and what is written about it."""
    pieces = Pieces(data)
    may = pieces.byte()
    key, value = pieces.maybe(), pieces.maybe()
    count = pieces.byte() % 32
    headers = [(HeaderName(pieces.piece(), "utf-8", "surrogateescape"), pieces.maybe()) for _ in range(count)]
    sent = through_a_batch(key, value, headers)
    with tempfile.TemporaryDirectory(dir=SCRATCH) as root:
        opener = partial(open_reference, roots=[Path(root)], max_clip_bytes=2**16)
        senders = SendersMay(prompt=bool(may & 1), clip_id=bool(may & 2), replay=bool(may & 4))
        decoder = RecordDecoder("clips", {}, 2**16, opener, senders, _KEY)
        delivery = decoder.decode(_Read(sent.key, sent.value, sent.headers, sent.timestamp), ClipPosition(), 1)
        if isinstance(delivery, PendingCommit):
            return
        _reject(delivery)


def _reject(delivery: Delivery) -> None:
    """Write what is written about a clip that is rejected, and read it again as its replay."""
    fault = _open(delivery.clip.media) or Poison("corrupt", delivery.clip.media.name)
    span = WindowSpan(0, 0, 1)
    clip_id = delivery.clip.clip_id
    caption = Caption("i", clip_id, "clips", span, clip_id, CaptionStatus.SUCCESS, "m", "p", "h", detail=clip_id)
    rejected = Progress.rejected(delivery, fault, next_window=1, plan_hash="h")
    progress = Progress(delivery, [caption], 1, "h", last=True, rejection=rejected.rejection)
    for written in records_of(progress, _SINK):
        letter = through_a_batch(written.key, written.value, written.headers)
        replay = list(replay_headers(letter, _KEY))
        through_a_batch(letter.key, letter.value, replay)
    delivery.clip.media.close()


def _open(media: Media) -> Poison | None:
    try:
        os.close(media.open())
    except Poison as fault:
        return fault
    except Transient as fault:
        return Poison(fault.reason, fault.detail)
    return None


def name(data: bytes) -> None:
    """The name of a clip, with folders, in a watched folder: the clip is taken, refused, captioned and settled."""
    parts = [part for part in data.split(b"/")[:40] if part not in (b"", b".", b"..") and b"\0" not in part]
    with tempfile.TemporaryDirectory(dir=SCRATCH) as root:
        inbox = Path(root, "in")
        inbox.mkdir()
        path = os.path.join(os.fsencode(inbox), *parts)
        with suppress(OSError):  # the system itself takes no such name
            if parts:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                Path(os.fsdecode(path)).write_bytes(b"clip")
        asyncio.run(_empty(inbox, Path(root, "out")))


async def _empty(inbox: Path, out: Path) -> None:
    settings = FolderSourceSettings.model_validate({"kind": "folder", "path": inbox, "settle_s": 0.0})
    source = FolderSource("clips", settings, once=True)
    sink = FolderSink(FolderSinkSettings.model_validate({"kind": "folder", "path": out}))
    async for delivery in source.deliveries():
        await sink.position(delivery.clip)
        fault = _open(delivery.clip.media) or Poison("corrupt", delivery.clip.media.name)
        progress = Progress.rejected(delivery, fault, next_window=0, plan_hash="h")
        records_of(progress, _SINK)
        await sink.write(progress)
        await source.settle(progress)
        delivery.clip.media.close()
    await source.close()


def tar(data: bytes) -> None:
    """A tar archive: its members are listed and copied."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as root:
        path = Path(root, "clips.tar")
        path.write_bytes(data)
        with path.open("rb") as archive:
            try:
                for member in tar_members(archive, max_clip_bytes=2**16, max_members=64):
                    media = MemberMedia(member, Spool(Path(root), 2**20))
                    with suppress(Poison, Transient):
                        asyncio.run(media.fetch())
                        os.close(media.open())
                    delivery = Delivery(Clip("c", "clips", media, 0), handle=SourceRecord("clips", 0, 1, 1))
                    records_of(
                        Progress.rejected(delivery, Poison("corrupt", member.name), next_window=0, plan_hash="h"), _SINK
                    )
                    media.close()
            except Poison:
                return


def prompt_file(data: bytes) -> None:
    """NeVA's prompt file: its records, their questions and the media that they name."""
    pieces = Pieces(data)
    kind = pieces.byte()
    with tempfile.TemporaryDirectory(dir=SCRATCH) as root:
        path = Path(root, "prompts.json" if kind & 1 else "prompts.jsonl")
        path.write_bytes(pieces.rest())
        shelf = MediaShelf(Path(root), 2**16)
        model = ModelSettings(media_type="video" if kind & 2 else "image")
        try:
            asked = read_questions(read_records(path), _evaluation(kind), model)
        except ConfigurationError:
            return
        for one in asked:
            _open(shelf.media(one.question.media))


def _evaluation(kind: int) -> EvaluateSettings:
    place = "left" if kind & 4 else "right"
    return EvaluateSettings.model_construct(
        inference=InferenceSettings.model_construct(insert_media_token=place if kind & 8 else None),
        add_media_sep=bool(kind & 16),
    )


def answer(data: bytes) -> None:
    """What a decoder answers: to a plan request, and to a request for each window."""
    with suppress(Poison, Transient):
        windows_from_answers(data, _LIMITS, _WINDOWS, FramePolicy(num_frames=4))


TARGETS: dict[str, Callable[[bytes], None]] = {
    "record": record,
    "name": name,
    "tar": tar,
    "prompt_file": prompt_file,
    "answer": answer,
}
