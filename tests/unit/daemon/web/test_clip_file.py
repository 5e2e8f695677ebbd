"""A clip's file over HTTP: which bytes are answered to which range, and that its descriptor is closed."""

import os
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.media.protocols import FileSpan
from daemon.web import clip_file
from daemon.web.clip_file import ClipFile, byte_range


@pytest.mark.parametrize(
    ("header", "span"),
    [
        (None, None),
        ("bytes=0-", (0, 1000)),
        ("bytes=10-19", (10, 20)),
        ("bytes=990-5000", (990, 1000)),
        ("bytes=-10", (990, 1000)),
        ("bytes=-5000", (0, 1000)),
        ("bytes=1000-", (1000, 1000)),
        ("bytes=20-10", (1000, 1000)),
        ("bytes=-0", (1000, 1000)),
        ("bytes=-", None),
        ("bytes=0-1,5-6", None),
        ("bytes=a-b", None),
        ("lines=0-1", None),
        ("bytes=" + "9" * 30 + "-", None),
        ("bytes=\u0661-", None),
    ],
)
def test_ranges(header: str | None, span: tuple[int, int] | None) -> None:
    assert byte_range(header, 1000) == span


def test_a_long_range_is_answered_in_part() -> None:
    assert byte_range("bytes=5-", 10**12) == (5, 5 + 4 * 1024 * 1024)


def client(path: Path, name: str, opened: list[int], span: tuple[int, int] | None = None) -> httpx.AsyncClient:
    async def answer(request: Request) -> Response:
        opened.append(os.open(path, os.O_RDONLY))
        clip = FileSpan.whole(opened[-1]) if span is None else FileSpan(opened[-1], *span)
        return ClipFile(clip, name, request)

    app = Starlette(routes=[Route("/", answer)])
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here")


async def test_a_file_and_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_file, "_CHUNK_BYTES", 7)
    data, opened = bytes(range(256)), list[int]()
    (tmp_path / "clip.mp4").write_bytes(data)
    pages = client(tmp_path / "clip.mp4", "a/clip.MP4", opened)

    whole = await pages.get("/")
    part = await pages.get("/", headers={"Range": "bytes=250-"})
    behind = await pages.get("/", headers={"Range": "bytes=256-"})
    head = await pages.head("/")

    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, data, "video/mp4")
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, data[250:], "bytes 250-255/256")
    assert (behind.status_code, behind.content, behind.headers["content-range"]) == (416, b"", "bytes */256")
    assert (head.content, head.headers["content-length"]) == (b"", "256")
    for descriptor in opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


async def test_a_member_of_an_archive_and_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "shard.tar").write_bytes(b"before" + b"a clip" + b"behind")
    pages = client(tmp_path / "shard.tar", "clip.mp4", [], (6, 6))

    answers = [await pages.get("/", headers=header) for header in ({}, {"Range": "bytes=2-99"}, {"Range": "bytes=-99"})]
    behind = await pages.get("/", headers={"Range": "bytes=6-8"})

    assert [answer.content for answer in answers] == [b"a clip", b"clip", b"a clip"]
    assert (answers[1].headers["content-range"], behind.status_code, behind.content) == ("bytes 2-5/6", 416, b"")


@pytest.mark.parametrize("name", ["clip.html", "clip.svg", "clip", "clip.js", "clip.mp4.xhtml", "clip."])
async def test_what_is_no_video_is_bytes(tmp_path: Path, name: str) -> None:
    (tmp_path / "clip").write_bytes(b"<script>")

    answer = await client(tmp_path / "clip", name, []).get("/")

    assert answer.headers["content-type"] == "application/octet-stream"
