"""The inputs that fuzzing begins with: what is usual of each kind, and what was once a fault."""

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import asdict
from fractions import Fraction
from typing import Any

import numpy as np

from connectors.errors import Reason
from connectors.kafka.record import ERRORS_PREFIX, REPLAY_PREFIX
from daemon.decoding.index_block import to_block
from daemon.decoding.packet_index import KEY, SHOWN, PacketIndex
from daemon.decoding.protocol import Alive, Decoded, Fault, Index, Planned, Poisoned, pack
from daemon.decoding.timeline import Mended
from tests.fuzz.pieces import joined

_REPLAY = ("clip_id", "first_window", "plan_hash", "count", "signature")


def _record(may: int, value: bytes, *headers: tuple[str | bytes, bytes | None]) -> bytes:
    given: list[bytes | int | None] = [may, 1, b"key", 1, value, len(headers)]
    for name, held in headers:
        given += [name if isinstance(name, bytes) else name.encode(), *([0] if held is None else [1, held])]
    return joined(*given)


def _records() -> Iterator[bytes]:
    for may in (0, 7):
        yield _record(may, b"video")
        yield _record(may, b'{"uri": "film.mp4", "clip_id": "film", "prompt": "Who?"}', ("content-type", b"text/json"))
        yield _record(may, b'{"uri": "file:///x/../y"}', ("prompt", b"Who?"), ("traceparent", None))
        yield _record(may, b"video", *((REPLAY_PREFIX + name, b"9") for name in _REPLAY))
        yield _record(may, b"video", *((ERRORS_PREFIX + name, b"9") for name in ("topic", "offset", "clip_id")))
        yield _record(
            may, b"video", ("ce_specversion", b"1.0"), ("ce_id", b"7"), ("ce_source", b"/cam"), ("ce_subject", b"")
        )
        yield _record(may, b"video", (b"\xff\xfe", b"\xff"), (b"", None), ("content-type", None))


def _names() -> Iterator[bytes]:
    for text in (
        "film.mp4",
        "a/b/film.mp4",
        "x.part",
        ".hidden",
        "done/film.mp4",
        "\u202e\u00a0  film\n.mp4",
        "a" * 255,
    ):
        yield text.encode()
    yield b"\xff\xfe/\xe9.mp4"
    yield b"a/" * 39 + b"film.mp4"


def _tars() -> Iterator[bytes]:
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        for name in ("film.mp4", "a/" * 60 + "film.mp4", "../film.mp4", "\u00e9\u202e.mp4"):
            file = io.BytesIO()
            with tarfile.open(fileobj=file, mode="w", format=form) as archive:
                entry = tarfile.TarInfo(name)
                entry.size = 5
                archive.addfile(entry, io.BytesIO(b"video"))
                link = tarfile.TarInfo("link")
                link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(link)
            yield file.getvalue()[:4096]
    yield b"\x1f\x8b\x08\x00"


def _prompt_files() -> Iterator[bytes]:
    asked = {"video": "film.mp4", "image": "still.png", "text": "What is this? <video>", "category": "x"}
    for kind in (0, 2, 12, 31):
        whole = [asked] if kind & 1 else asked
        yield bytes((kind,)) + json.dumps(whole).encode()
    yield b"\x02" + b"\xef\xbb\xbf" + json.dumps({"video": "../x", "text": "<image> <video>"}).encode()
    yield b"\x01" + b"[" * 3000


def _answers() -> Iterator[bytes]:
    facts: dict[str, Any] = {"codec": "h264", "container": "mov", "width": 64, "height": 36, "declared_s": 2.0}
    decoded = [Decoded((0, 6, 12, 18), 1.5), Decoded((25, 31, 37, 43), 1.5)]
    for time_base, truncated in ((Fraction(1, 25), False), (Fraction(1001, 30000), True)):
        ticks = np.arange(50, dtype=np.int64)
        index = to_block(PacketIndex(time_base, ticks, ticks, np.full(50, KEY | SHOWN, np.uint8), 1))
        failure = "cut" if truncated else ""
        mended = Mended(filled=1) if truncated else Mended()
        facts |= {"truncated": truncated, "failure": failure, "media_start_ns": 0, **asdict(mended)}
        planned = Planned(**facts, packets=50, index_bytes=len(index))
        yield b"".join((pack(Alive()), pack(planned, index), *map(pack, decoded)))
        yield b"".join((pack(planned), pack(Index(), index), *map(pack, decoded)))
    yield pack(Poisoned(Reason.CORRUPT, "no frame"))
    yield pack(Fault("KeyError"))


SEEDS = {"record": _records, "name": _names, "tar": _tars, "prompt_file": _prompt_files, "answer": _answers}
